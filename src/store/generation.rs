//! A generation: a base and the overlays above it, open and verified, looked up as one.
//!
//! Of the tables that know a token the topmost counts. An overlay's record may only shrink the
//! trust of what lies beneath it, which is checked when the overlay is opened; so "the first table
//! from the top that knows the token" is exact.
//!
//! Overlays cost a look-up one bit of a filter: only a digest that one of them may hold is looked
//! for in them.

use std::sync::Arc;

use super::Protection;
use super::lease::Lease;
use crate::manifest::{FileHash, Manifest, TableLine};
use crate::table::format::Record;
use crate::table::{Entry, Filter, Found, Personal, Subjects, Table};
use crate::token::{Digest, ForeignAlgorithm};

/// A table and who its tokens are for. Shared by the generations that name it.
#[derive(Debug)]
pub struct Layer {
    /// As the manifest names it.
    pub line: TableLine,
    /// The table.
    pub table: Table,
    /// Who the tokens are for.
    pub subjects: Subjects,
    /// What keeps its bytes as they were verified.
    pub protection: Protection,
    pub(super) leases: Vec<Lease>,
}

impl Layer {
    /// All that is known about the token of that rank, which the table has.
    pub fn entry(&self, rank: u32) -> Entry<'_> {
        Entry {
            record: self.table.records()[rank as usize],
            cold: *self.table.cold(rank).expect("one row a record"),
            personal: self.personal(rank),
            line: 0,
        }
    }

    /// Who the token of that rank is for.
    pub fn personal(&self, rank: u32) -> Personal<'_> {
        // A file that was cut under the map has zeros in the place of values.
        self.subjects.get(rank).unwrap_or(Personal::Erased)
    }

    /// Whether bytes of one of the files are gone while it is mapped.
    pub fn is_poisoned(&self) -> bool {
        self.table.is_poisoned() || self.subjects.is_poisoned()
    }

    /// Whether somebody waits to write to one of the files.
    pub fn is_contested(&self) -> bool {
        self.leases.iter().any(Lease::is_contested)
    }

    fn to_private(&self) -> std::io::Result<Layer> {
        Ok(Layer {
            line: self.line.clone(),
            table: self.table.to_private()?,
            subjects: self.subjects.to_private()?,
            protection: Protection::Copy,
            leases: Vec::new(),
        })
    }
}

/// A generation that is open and verified.
#[derive(Debug)]
pub struct Generation {
    /// The manifest.
    pub manifest: Manifest,
    /// Its identity.
    pub hash: FileHash,
    /// Base first.
    layers: Vec<Arc<Layer>>,
    filter: Option<Filter>,
}

/// A token that was found.
#[derive(Clone, Copy)]
pub struct Located<'a> {
    /// Number of the table: 0 = base, then the overlays upwards.
    pub layer: u8,
    /// The record.
    pub record: &'a Record,
    /// Its rank in that table.
    pub rank: u32,
}

impl Generation {
    pub(super) fn new(manifest: Manifest, hash: FileHash, layers: Vec<Arc<Layer>>) -> Generation {
        let filter = (layers.len() > 1).then(|| filter_of(&layers[1..]));
        Generation { manifest, hash, layers, filter }
    }

    /// Its tables, base first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The lowest table.
    pub fn base(&self) -> &Arc<Layer> {
        &self.layers[0]
    }

    /// Whether both have the same base: the same table, and the same people in it.
    pub fn shares_base_with(&self, other: &Generation) -> bool {
        self.base().line == other.base().line
    }

    /// The table of that number.
    pub fn layer(&self, number: u8) -> Option<&Layer> {
        self.layers.get(usize::from(number)).map(Arc::as_ref)
    }

    /// The algorithm of imported tokens, if there are any.
    pub fn foreign(&self) -> Option<ForeignAlgorithm> {
        self.layers.iter().find_map(|layer| layer.table.domain().foreign)
    }

    /// Looks one digest up.
    pub fn get(&self, digest: &Digest) -> Option<Located<'_>> {
        find_from_top(&self.layers, 0, digest)
    }

    /// Looks all of `digests` up and gives each result, with its index, to `each`, in order.
    pub fn get_many<'a>(
        &'a self,
        digests: &[Digest],
        mut each: impl FnMut(usize, Option<Located<'a>>),
    ) {
        let base = &self.layers[0].table;
        let located =
            |found: Found<'a>| Located { layer: 0, record: found.record, rank: found.rank };
        let Some(filter) = &self.filter else {
            base.get_many(digests, |index, found| each(index, found.map(located)));
            return;
        };
        base.get_many(digests, |index, found| {
            let digest = &digests[index];
            let above = match filter.may_hold(digest) {
                true => find_from_top(&self.layers, 1, digest),
                false => None,
            };
            each(index, above.or_else(|| found.map(located)));
        });
    }

    /// What keeps the bytes of all tables: the weakest.
    pub fn protection(&self) -> &Protection {
        let mode =
            self.layers.iter().find(|layer| matches!(layer.protection, Protection::Mode { .. }));
        &mode.unwrap_or(&self.layers[0]).protection
    }

    /// Bytes of the tables in 2 MiB pages.
    pub fn huge_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.table.huge_bytes()).sum()
    }

    /// Whether bytes of a file are gone while it is mapped: no answer may come from it any more.
    pub fn is_poisoned(&self) -> bool {
        self.layers.iter().any(|layer| layer.is_poisoned())
    }

    /// Whether somebody waits to write to one of the files. They are whole until the generation is
    /// dropped, or until the kernel's patience ends: 45 s by default.
    pub fn is_contested(&self) -> bool {
        self.layers.iter().any(|layer| layer.is_contested())
    }

    /// The same generation, with what is contested in memory of this process alone.
    pub fn to_private(&self) -> std::io::Result<Generation> {
        let private = |layer: &Arc<Layer>| match layer.is_contested() {
            true => layer.to_private().map(Arc::new),
            false => Ok(Arc::clone(layer)),
        };
        let layers = self.layers.iter().map(private).collect::<Result<_, _>>()?;
        Ok(Generation::new(self.manifest.clone(), self.hash, layers))
    }
}

fn filter_of(overlays: &[Arc<Layer>]) -> Filter {
    let records = overlays.iter().flat_map(|layer| layer.table.records());
    let count = overlays.iter().map(|layer| layer.table.records().len()).sum();
    Filter::of(count, records.map(|record| &record.digest))
}

/// The topmost of the tables from `lowest` on that knows a digest.
pub(super) fn find_from_top<'a>(
    layers: &'a [Arc<Layer>],
    lowest: usize,
    digest: &Digest,
) -> Option<Located<'a>> {
    (lowest..layers.len()).rev().find_map(|number| {
        let found = layers[number].table.get(digest)?;
        let layer = u8::try_from(number).expect("at most three tables");
        Some(Located { layer, record: found.record, rank: found.rank })
    })
}

/// The records of several tables in the order of their digests, the topmost of each.
pub struct Stack<'a> {
    layers: Vec<&'a Layer>,
    at: Vec<usize>,
}

/// Where a record is.
#[derive(Clone, Copy)]
pub struct At {
    /// The digest.
    pub digest: Digest,
    /// Which of the tables.
    pub layer: usize,
    /// Its rank there.
    pub rank: u32,
}

impl<'a> Stack<'a> {
    /// Tables, lowest first.
    pub fn new(layers: Vec<&'a Layer>) -> Stack<'a> {
        Stack { at: vec![0; layers.len()], layers }
    }

    /// The tables.
    pub fn layers(&self) -> &[&'a Layer] {
        &self.layers
    }

    /// The next record, which stays.
    pub fn peek(&self) -> Option<At> {
        let mut next: Option<At> = None;
        for (layer, table) in self.layers.iter().enumerate() {
            let Some(record) = table.table.records().get(self.at[layer]) else { continue };
            // Of equal ones the last, which is the topmost.
            if next.is_none_or(|next| record.digest <= next.digest) {
                let rank = u32::try_from(self.at[layer]).expect("at most 2^32 records");
                next = Some(At { digest: record.digest, layer, rank });
            }
        }
        next
    }
}

impl Iterator for Stack<'_> {
    type Item = At;

    fn next(&mut self) -> Option<At> {
        let next = self.peek()?;
        for (layer, table) in self.layers.iter().enumerate() {
            let record = table.table.records().get(self.at[layer]);
            self.at[layer] +=
                usize::from(record.is_some_and(|record| record.digest == next.digest));
        }
        Some(next)
    }
}
