//! The table: one sorted, immutable file of all tokens of a deployment.
//!
//! [`Table::open`] is cheap: it maps the file and checks its header. [`Table::verify`] reads all
//! of it and makes sure that every byte is what a writer would have written. A table that was
//! opened and not verified may answer wrong, if its file is damaged; it never reads out of bounds
//! and never panics.
//!
//! Read `format.rs` for the bytes, `directory.rs` and `lookup.rs` for how a record is found,
//! `writer.rs` and `sort.rs` for how a table comes to be, `subjects.rs` for the file beside it.

mod directory;
mod entry;
mod error;
mod filter;
pub mod format;
mod guard;
mod lookup;
mod map;
mod section;
mod sort;
mod spool;
mod subjects;
mod verify;
mod writer;

use std::fs::File;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use crate::claims::GrantView;
use crate::token::{Domain, DomainKey, ForeignAlgorithm, Prefix};

pub use entry::{Entry, Personal};
pub use error::TableError;
pub use filter::Filter;
pub use guard::{install as guard_maps, poisoned_maps};
pub use lookup::Found;
pub use map::{Load, Map};
pub use sort::Sorter;
pub use subjects::{Subjects, SubjectsWriter};
pub use writer::{TableSpec, TableWriter, Written};

use format::{Cold, Header, Line, Record};

/// An open table. Shared between threads, never changed.
#[derive(Debug)]
pub struct Table {
    map: Map,
    domain: Domain,
    places: Places,
}

/// Where everything is, from a header that was checked against the length of the file.
#[derive(Clone, Copy, Debug)]
struct Places {
    buckets: u64,
    grants: usize,
    from: u64,
    to: u64,
    /// First byte and byte after the last, of each section.
    sections: [(usize, usize); format::SECTIONS],
}

impl Table {
    /// Maps a table and checks its header. Reads no more of it.
    pub fn open(file: &File) -> Result<Table, TableError> {
        Table::load(file, Load::Map)
    }

    /// As [`Table::open`], mapped or copied.
    pub fn load(file: &File, load: Load) -> Result<Table, TableError> {
        let map = Map::of(file, load)?;
        let (header, _) = Header::ref_from_prefix(&map).map_err(|_| TableError::NotATable)?;
        let domain = check_header(header)?;
        let places = check_places(header, map.len())?;
        Ok(Table { domain, places, map })
    }

    /// The same table in memory of this process alone.
    pub fn to_private(&self) -> std::io::Result<Table> {
        let (domain, places) = (self.domain.clone(), self.places);
        Ok(Table { map: self.map.to_private()?, domain, places })
    }

    /// The deployment that the table is of.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// All records, strictly ascending by digest.
    pub fn records(&self) -> &[Record] {
        <[Record]>::ref_from_bytes(self.section(format::RECORDS)).expect("checked by open")
    }

    /// The cold row of the record of that rank.
    pub fn cold(&self, rank: u32) -> Option<&Cold> {
        self.cold_rows().get(usize::try_from(rank).ok()?)
    }

    /// Number of grants.
    pub fn grant_count(&self) -> usize {
        self.places.grants
    }

    /// The canonical bytes of the grant of that number.
    pub fn grant_bytes(&self, number: u32) -> Option<&[u8]> {
        let (offsets, bytes) = self.grant_columns();
        let at = usize::try_from(number).ok()?;
        let [from, to] = offsets.get(at..at + 2)? else { return None };
        bytes.get(usize::try_from(from.get()).ok()?..usize::try_from(to.get()).ok()?)
    }

    /// The grant of that number.
    pub fn grant(&self, number: u32) -> Option<GrantView<'_>> {
        self.grant_bytes(number).and_then(GrantView::new)
    }

    /// Ledger range of the table, from the first index to the one after the last; 0 0 for a
    /// list-built table.
    pub fn range(&self) -> (u64, u64) {
        (self.places.from, self.places.to)
    }

    /// Whether bytes of its file are gone while it is mapped: no answer may come from it any more.
    pub fn is_poisoned(&self) -> bool {
        self.map.is_poisoned()
    }

    /// Bytes of the file in 2 MiB pages.
    pub fn huge_bytes(&self) -> u64 {
        self.map.huge_bytes()
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn parts(&self) -> lookup::Parts<'_> {
        lookup::Parts { buckets: self.places.buckets, lines: self.lines(), records: self.records() }
    }

    fn lines(&self) -> &[Line] {
        <[Line]>::ref_from_bytes(self.section(format::DIRECTORY)).expect("checked by open")
    }

    fn cold_rows(&self) -> &[Cold] {
        <[Cold]>::ref_from_bytes(self.section(format::COLD)).expect("checked by open")
    }

    fn grant_columns(&self) -> (&[U32], &[u8]) {
        <[U32]>::ref_from_prefix_with_elems(self.section(format::GRANTS), self.places.grants + 1)
            .expect("checked by open")
    }

    fn section(&self, section: usize) -> &[u8] {
        let (from, to) = self.places.sections[section];
        &self.map[from..to]
    }
}

/// Checks all fields that need no more than the header, and takes the domain out of it.
fn check_header(header: &Header) -> Result<Domain, TableError> {
    if header.magic != format::MAGIC {
        return Err(TableError::NotATable);
    }
    // The version before the check: a later version may keep its check elsewhere.
    let version = header.version.get();
    if version != format::VERSION {
        return Err(TableError::Version { found: version });
    }
    let bytes = zerocopy::IntoBytes::as_bytes(header);
    let (checked, _) = bytes.split_at(format::HEADER_BYTES - size_of::<u64>());
    if xxh3_64(checked) != header.check.get() {
        return Err(TableError::Damaged { part: "header" });
    }
    let field = |name| TableError::Field { name };
    if header.flags.get() != 0 {
        return Err(field("flags"));
    }
    if header.algorithm != format::padded(format::ALGORITHM) {
        return Err(field("algorithm"));
    }
    if header.reserved.get() != 0 || header.rest.iter().any(|&byte| byte != 0) {
        return Err(field("reserved"));
    }
    if header.from.get() > header.to.get() {
        return Err(field("from"));
    }
    let prefix = format::unpadded(&header.prefix).and_then(|text| text.parse::<Prefix>().ok());
    Ok(Domain {
        key: DomainKey(header.key),
        prefix: prefix.ok_or(field("prefix"))?,
        foreign: check_foreign(&header.foreign)?,
    })
}

fn check_foreign(
    names: &[[u8; format::NAME_BYTES]; format::FOREIGN_MAX],
) -> Result<Option<ForeignAlgorithm>, TableError> {
    let [first, rest @ ..] = names;
    if rest.iter().flatten().any(|&byte| byte != 0) {
        return Err(TableError::Field { name: "foreign" });
    }
    match format::unpadded(first) {
        Some("") => Ok(None),
        Some(name) => match ForeignAlgorithm::from_name(name) {
            Some(algorithm) => Ok(Some(algorithm)),
            None => Err(TableError::Field { name: "foreign" }),
        },
        None => Err(TableError::Field { name: "foreign" }),
    }
}

/// Checks that the sections stand where the counts put them and fill the file.
fn check_places(header: &Header, file_bytes: usize) -> Result<Places, TableError> {
    let field = |name| TableError::Field { name };
    let records = header.records.get();
    if records > format::RECORDS_MAX {
        return Err(field("records"));
    }
    if header.buckets.get() != format::buckets_for(records) {
        return Err(field("buckets"));
    }
    let grants = usize::try_from(header.grants.get()).unwrap_or(usize::MAX);
    let offsets_bytes = grants.saturating_add(1).saturating_mul(size_of::<U32>()) as u64;
    let grants_bytes = header.sections[format::GRANTS].bytes.get();
    if grants > format::GRANTS_MAX || grants_bytes < offsets_bytes {
        return Err(field("grants"));
    }
    let sizes = format::section_sizes(records, grants_bytes);
    let (offsets, end) = format::place(sizes).ok_or(field("sections"))?;
    for (section, (offset, bytes)) in header.sections.iter().zip(offsets.into_iter().zip(sizes)) {
        let found = (section.offset.get(), section.bytes.get(), section.reserved.get());
        if found != (offset, bytes, 0) {
            return Err(field("sections"));
        }
    }
    if end != file_bytes as u64 {
        return Err(TableError::Length { expected: end, actual: file_bytes as u64 });
    }
    // No offset is past the end of a file that is mapped, so all fit `usize`.
    let narrow = |n: u64| usize::try_from(n).expect("within the mapped file");
    let sections = std::array::from_fn(|i| (narrow(offsets[i]), narrow(offsets[i] + sizes[i])));
    let (from, to) = (header.from.get(), header.to.get());
    Ok(Places { buckets: header.buckets.get(), grants, from, to, sections })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
