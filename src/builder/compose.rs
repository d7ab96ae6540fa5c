//! Lays events over tables: one pass over both, by digest.
//!
//! The tables are a stack, lowest first; of the records that know a token the topmost counts. The
//! events of a token are folded onto that record in their order: an issue begins it, a revoke can
//! only shrink its trust, an erase takes the subject. What comes out depends on the events alone,
//! whichever tables some of them were folded into before.

use std::io;
use std::path::Path;

use super::{BuildError, grants_in};
use crate::durable::NewFile;
use crate::store::{Layer, NewTables, STAYS_S, Stack};
use crate::table::format::{Cold, FOREIGN, REVOKED, Record};
use crate::table::{Entry, Personal, Sorter, SubjectsWriter, TableSpec, TableWriter, Written};
use crate::time::TableTime;
use crate::token::{Digest, Domain, ForeignAlgorithm};

/// Sorted by: digest, then index of the event, big-endian.
const KEY_BYTES: usize = size_of::<Digest>() + size_of::<u64>();

/// What an event does to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Trust ends.
    Revoke {
        /// When.
        at: TableTime,
        /// It has ended already.
        now: bool,
        /// Number of the reason.
        reason: u8,
    },
    /// The subject is forgotten.
    Erase,
}

/// Events on their way into a table, sorted as they come in.
pub(super) struct Delta {
    sorter: Sorter,
    /// Canonical bytes of each grant, by the number that the events' records bear.
    pub(super) grants: Vec<Vec<u8>>,
    item: Vec<u8>,
}

impl Delta {
    pub(super) fn new(memory_bytes: usize, folder: &Path) -> Delta {
        let sorter = Sorter::new(KEY_BYTES, memory_bytes, folder);
        Delta { sorter, grants: Vec::new(), item: Vec::new() }
    }

    /// A token begins.
    pub(super) fn issue(&mut self, index: u64, entry: &Entry<'_>) -> io::Result<()> {
        let mut encoded = std::mem::take(&mut self.item);
        encoded.clear();
        entry.encode(&mut encoded);
        let pushed = self.push(&entry.record.digest, index, 0, &encoded);
        self.item = encoded;
        pushed
    }

    /// Something is done to a token.
    pub(super) fn act(&mut self, index: u64, digest: &Digest, act: Act) -> io::Result<()> {
        match act {
            Act::Revoke { at, now, reason } => {
                let [a, b, c, d] = at.0.to_le_bytes();
                self.push(digest, index, 1, &[a, b, c, d, u8::from(now), reason])
            }
            Act::Erase => self.push(digest, index, 2, &[]),
        }
    }

    fn push(&mut self, digest: &Digest, index: u64, tag: u8, rest: &[u8]) -> io::Result<()> {
        let mut head = [tag; KEY_BYTES + 1];
        head[..digest.len()].copy_from_slice(digest);
        head[digest.len()..KEY_BYTES].copy_from_slice(&index.to_be_bytes());
        self.sorter.push_parts(&[&head, rest])
    }
}

/// An event of a token, taken apart again.
enum Item<'a> {
    Issue(Entry<'a>),
    Act(Act),
}

fn decode(item: &[u8]) -> (Digest, Item<'_>) {
    const WRITTEN: &str = "as Delta wrote it";
    let (digest, rest) = item.split_first_chunk().expect(WRITTEN);
    let (_, rest) = rest.split_first_chunk::<8>().expect(WRITTEN);
    let (&tag, rest) = rest.split_first().expect(WRITTEN);
    if tag == 0 {
        return (*digest, Item::Issue(Entry::decode(rest)));
    }
    let act = if tag == 2 {
        Act::Erase
    } else {
        let (at, rest) = rest.split_first_chunk().expect(WRITTEN);
        let at = TableTime(u32::from_le_bytes(*at));
        Act::Revoke { at, now: rest[0] != 0, reason: rest[1] }
    };
    (*digest, Item::Act(act))
}

/// One token, its events folded. Kept from token to token, so that its texts are not allocated
/// anew for each.
#[derive(Default)]
pub(super) struct Folded {
    record: Option<(Record, Cold)>,
    subject: String,
    meta: String,
    erased: bool,
}

impl Folded {
    pub(super) fn set(&mut self, entry: &Entry<'_>) {
        self.record = Some((entry.record, entry.cold));
        self.subject.clear();
        self.meta.clear();
        self.erased = entry.personal == Personal::Erased;
        if let Personal::Known { subject, meta } = entry.personal {
            self.subject.push_str(subject);
            self.meta.push_str(meta);
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        let Some((record, cold)) = &mut self.record else { return };
        match act {
            Act::Erase => self.erased = true,
            Act::Revoke { at, now, reason } => {
                let earlier = match (record.flags & REVOKED != 0, record.revoked_at.get()) {
                    (true, _) => false,
                    (false, 0) => true,
                    (false, was) => now || at.0 < was,
                };
                // The ledger has none that is not earlier; one that had changes nothing.
                if earlier {
                    record.revoked_at.set(at.0);
                    record.flags |= if now { REVOKED } else { 0 };
                    cold.reason = reason;
                }
            }
        }
    }

    fn entry(&self) -> Option<Entry<'_>> {
        let (record, cold) = self.record?;
        let personal = if self.erased {
            Personal::Erased
        } else {
            Personal::Known { subject: &self.subject, meta: &self.meta }
        };
        Some(Entry { record, cold, personal, line: 0 })
    }
}

/// What a table is composed of.
pub(super) struct Plan<'a> {
    pub(super) domain: Domain,
    /// The tables beneath the events that the new one takes the place of, lowest first.
    pub(super) sources: &'a [&'a Layer],
    /// Ledger range of the new table.
    pub(super) range: (u64, u64),
    /// Records whose time to leave has come at that second are left out: of a base, at the last
    /// event of its range; of an overlay none, since it would show what lies beneath.
    pub(super) reference: Option<TableTime>,
}

/// Writes table and subjects of `plan` with the events of `delta`.
pub(super) fn compose(
    folder: &Path,
    plan: &Plan<'_>,
    delta: Delta,
    progress: &mut dyn FnMut(u64),
) -> Result<NewTables, BuildError> {
    let old: Vec<Vec<Vec<u8>>> = plan.sources.iter().map(|layer| grants_in(&layer.table)).collect();
    let mut grants: Vec<Vec<u8>> = old.iter().flatten().chain(&delta.grants).cloned().collect();
    grants.sort_unstable();
    grants.dedup();
    let numbers = |of: &[Vec<u8>]| of.iter().map(|grant| number(&grants, grant)).collect();
    let (old_numbers, new_numbers) =
        (old.iter().map(|of| numbers(of)).collect::<Vec<Vec<u32>>>(), numbers(&delta.grants));

    let (table, subjects) = (NewFile::create(folder)?, NewFile::create(folder)?);
    let spec = TableSpec { domain: plan.domain.clone(), grants, range: plan.range };
    let mut output = Output {
        table: TableWriter::new(&table, spec, folder)?,
        subjects: SubjectsWriter::new(&subjects, folder)?,
        stack: Stack::new(plan.sources.to_vec()),
        numbers: old_numbers,
        reference: plan.reference,
        foreign: None,
        written: 0,
        progress,
    };
    let mut folded = Folded::default();
    let mut current: Option<Digest> = None;
    delta.sorter.drain::<BuildError>(&mut |item| {
        let (digest, item) = decode(item);
        if current != Some(digest) {
            output.push_folded(&folded)?;
            folded.record = None;
            current = Some(digest);
            output.take_beneath(&digest, &mut folded)?;
        }
        match item {
            Item::Issue(mut entry) => {
                let grant = entry.record.grant.get() as usize;
                entry.record.grant.set(new_numbers[grant]);
                folded.set(&entry);
            }
            Item::Act(act) => folded.act(act),
        }
        Ok(())
    })?;
    output.push_folded(&folded)?;
    output.take_rest()?;
    let (table_written, subjects_written) = output.finish()?;
    Ok(NewTables { table, table_written, subjects, subjects_written, range: plan.range })
}

fn number(grants: &[Vec<u8>], grant: &Vec<u8>) -> u32 {
    let at = grants.binary_search(grant).expect("all grants are in it");
    u32::try_from(at).expect("at most 2^22")
}

struct Output<'a> {
    table: TableWriter<'a>,
    subjects: SubjectsWriter<'a>,
    stack: Stack<'a>,
    /// By source, the new number of each of its grants.
    numbers: Vec<Vec<u32>>,
    reference: Option<TableTime>,
    foreign: Option<ForeignAlgorithm>,
    written: u64,
    progress: &'a mut dyn FnMut(u64),
}

const PROGRESS_STEP: u64 = 1 << 16;

impl Output<'_> {
    /// Writes what lies beneath and comes before `digest`, and begins with what lies beneath it.
    fn take_beneath(&mut self, digest: &Digest, folded: &mut Folded) -> Result<(), BuildError> {
        while let Some(at) = self.stack.peek() {
            if at.digest > *digest {
                return Ok(());
            }
            let entry = self.entry(at.layer, at.rank);
            self.stack.next();
            if at.digest == *digest {
                folded.set(&entry);
                return Ok(());
            }
            self.push(&entry)?;
        }
        Ok(())
    }

    fn take_rest(&mut self) -> Result<(), BuildError> {
        while let Some(at) = self.stack.next() {
            let entry = self.entry(at.layer, at.rank);
            self.push(&entry)?;
        }
        Ok(())
    }

    fn push_folded(&mut self, folded: &Folded) -> Result<(), BuildError> {
        match folded.entry() {
            Some(entry) => self.push(&entry),
            None => Ok(()),
        }
    }

    fn push(&mut self, entry: &Entry<'_>) -> Result<(), BuildError> {
        let expires = entry.record.expires.get();
        let has_left =
            |reference: TableTime| expires != 0 && expires.saturating_add(STAYS_S) <= reference.0;
        if self.reference.is_some_and(has_left) {
            return Ok(());
        }
        if entry.record.flags & FOREIGN != 0 {
            self.foreign = Some(ForeignAlgorithm::Sha256);
        }
        self.table.push(entry)?;
        self.subjects.push(&entry.personal)?;
        self.written += 1;
        if self.written.is_multiple_of(PROGRESS_STEP) {
            (self.progress)(self.written);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Written, Written), BuildError> {
        self.table.set_foreign(self.foreign);
        Ok((self.table.finish()?, self.subjects.finish()?))
    }
}

impl<'a> Output<'a> {
    fn entry(&self, layer: usize, rank: u32) -> Entry<'a> {
        let mut entry = self.stack.layers()[layer].entry(rank);
        let grant = entry.record.grant.get() as usize;
        entry.record.grant.set(self.numbers[layer][grant]);
        entry
    }
}
