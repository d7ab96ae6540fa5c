//! Whether one generation may follow another: law 3, and what it rests on.
//!
//! Two sorted tables are walked side by side, once. A record of the one before must be in the one
//! after, unchanged in what is frozen and with no more trust; only 30 days after its expiry it may
//! be missing. A record that is new must not take the id of one that was there.
//!
//! The signature on a manifest says who made it. This says that they kept the laws, which a stolen
//! key or a builder with a fault would not.

use std::cmp::Ordering;
use std::fmt;

use super::Generation;
use crate::table::format::{FLAGS_KNOWN, FOREIGN, REVOKED, Record};
use crate::table::{Personal, Subjects, Table};
use crate::time::TableTime;
use crate::token::{ID_BYTES, TokenId};

/// How long a record stays after its token expired.
pub const STAYS_S: u32 = 30 * 86_400;
/// Most violations that are named.
pub const NAMED_MAX: usize = 10;
/// New ids that are held at once to look for them among the old: 44 MiB.
const IDS_HELD: usize = 4 << 20;

/// What lies between two generations, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Succession {
    /// Only in the one after.
    pub added: u64,
    /// Missing from the one after, 30 days and more after their expiry.
    pub left: u64,
    /// Revoked, or scheduled to be, earlier than before.
    pub revoked: u64,
    /// What breaks a law.
    pub violations: u64,
    /// The first [`NAMED_MAX`] of them.
    pub first: Vec<Violation>,
}

/// A token about which the one after breaks a law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its id in the one before; `None` for a record without a valid one.
    pub id: Option<TokenId>,
    /// Whether it was made by another system.
    pub foreign: bool,
    /// What was done to it.
    pub breach: Breach,
}

/// How a law is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// Its record is missing before it may be.
    Gone,
    /// What is frozen at issue is not what it was.
    Changed {
        /// The field.
        field: &'static str,
    },
    /// It was revoked, and is trusted again, or for longer.
    Restored,
    /// Its id was given to another token.
    IdReused,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.foreign {
            f.write_str("foreign:")?;
        }
        match &self.id {
            Some(id) => write!(f, "{id} ")?,
            None => f.write_str("a token without an id ")?,
        }
        match self.breach {
            Breach::Gone => f.write_str("is missing before 30 days after its expiry"),
            Breach::Changed { field } => write!(f, "has another {field}"),
            Breach::Restored => f.write_str("was revoked and is trusted again, or for longer"),
            Breach::IdReused => f.write_str("has lost its id to another token"),
        }
    }
}

impl Succession {
    /// Compares two generations that were both verified.
    pub fn between(before: &Generation, after: &Generation) -> Succession {
        let mut walk = Walk {
            before: (&before.base, &before.subjects),
            after: (&after.base, &after.subjects),
            grants: same_grants(&before.base, &after.base),
            reference: TableTime::end(after.manifest.issued).unwrap_or_default(),
            found: Succession::default(),
            new_ids: Vec::new(),
        };
        walk.run();
        walk.found
    }

    fn violation(&mut self, before: &Record, breach: Breach) {
        self.violations += 1;
        if self.first.len() < NAMED_MAX {
            let foreign = before.flags & FOREIGN != 0;
            self.first.push(Violation { id: TokenId::from_bytes(before.id), foreign, breach });
        }
    }
}

struct Walk<'a> {
    before: (&'a Table, &'a Subjects),
    after: (&'a Table, &'a Subjects),
    /// The number that each grant of the one before has in the one after.
    grants: Vec<Option<u32>>,
    /// Records that expired 30 days before this may leave.
    reference: TableTime,
    found: Succession,
    /// Ids of records that are only in the one after, until they were looked for.
    new_ids: Vec<[u8; ID_BYTES]>,
}

impl Walk<'_> {
    fn run(&mut self) {
        let (before, after) = (self.before.0.records(), self.after.0.records());
        let (mut old, mut new) = (0, 0);
        while let Some(order) = next(before.get(old), after.get(new)) {
            match order {
                Ordering::Less => self.missing(&before[old]),
                Ordering::Greater => self.added(&after[new]),
                Ordering::Equal => self.both(old, new),
            }
            old += usize::from(order != Ordering::Greater);
            new += usize::from(order != Ordering::Less);
        }
        self.look_for_new_ids();
    }

    fn missing(&mut self, before: &Record) {
        let expires = before.expires.get();
        if expires != 0 && expires.saturating_add(STAYS_S) <= self.reference.0 {
            self.found.left += 1;
        } else {
            self.found.violation(before, Breach::Gone);
        }
    }

    fn added(&mut self, after: &Record) {
        self.found.added += 1;
        self.new_ids.push(after.id);
        if self.new_ids.len() == IDS_HELD {
            self.look_for_new_ids();
        }
    }

    fn both(&mut self, old: usize, new: usize) {
        let (before, after) = (&self.before.0.records()[old], &self.after.0.records()[new]);
        let same_grant = self.grants[before.grant.get() as usize] == Some(after.grant.get());
        let personal = (personal(self.before.1, old), personal(self.after.1, new));
        if let Some(field) = changed_field(before, after, same_grant, personal) {
            self.found.violation(before, Breach::Changed { field });
        }
        match doom(after).cmp(&doom(before)) {
            Ordering::Less => self.found.revoked += 1,
            Ordering::Equal => {}
            Ordering::Greater => self.found.violation(before, Breach::Restored),
        }
    }

    fn look_for_new_ids(&mut self) {
        self.new_ids.sort_unstable();
        if self.new_ids.is_empty() {
            return;
        }
        for before in self.before.0.records() {
            if self.new_ids.binary_search(&before.id).is_ok() {
                self.found.violation(before, Breach::IdReused);
            }
        }
        self.new_ids.clear();
    }
}

/// Which of two records comes first; `None` when there is neither.
fn next(before: Option<&Record>, after: Option<&Record>) -> Option<Ordering> {
    match (before, after) {
        (Some(before), Some(after)) => Some(before.digest.cmp(&after.digest)),
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

/// When trust ends by revocation, earliest first. A scheduled time that has come is not the flag:
/// the flag holds whatever the clock says, and is earlier than any time.
fn doom(record: &Record) -> u64 {
    match (record.flags & REVOKED != 0, record.revoked_at.get()) {
        (true, _) => 0,
        (false, 0) => u64::MAX,
        (false, at) => u64::from(at),
    }
}

/// Both lists of grants are sorted by their bytes, so one walk matches them.
fn same_grants(before: &Table, after: &Table) -> Vec<Option<u32>> {
    let mut new = 0;
    let numbers = 0..u32::try_from(before.grant_count()).expect("at most 2^20 grants");
    let number_after = |old| {
        let bytes = before.grant_bytes(old)?;
        while after.grant_bytes(new).is_some_and(|candidate| candidate < bytes) {
            new += 1;
        }
        (after.grant_bytes(new) == Some(bytes)).then_some(new)
    };
    numbers.map(number_after).collect()
}

fn personal(subjects: &Subjects, rank: usize) -> Personal<'_> {
    let rank = u32::try_from(rank).expect("at most 2^32 records");
    subjects.get(rank).expect("verified: one value a record")
}

/// The first frozen field in which two records of one token differ, and `personal`, what is known
/// of each. Grants are numbered by table, so the caller compares them.
pub(crate) fn changed_field(
    before: &Record,
    after: &Record,
    same_grant: bool,
    personal: (Personal<'_>, Personal<'_>),
) -> Option<&'static str> {
    if before.id != after.id {
        return Some("id");
    }
    if !same_grant {
        return Some("kind, audience or scopes");
    }
    if before.not_before != after.not_before {
        return Some("not_before");
    }
    if before.expires != after.expires {
        return Some("expires");
    }
    if (before.flags ^ after.flags) & FLAGS_KNOWN & !REVOKED != 0 {
        return Some("origin");
    }
    // An erased subject has nothing to be compared with.
    let known = personal.0 != Personal::Erased && personal.1 != Personal::Erased;
    (known && personal.0 != personal.1).then_some("subject or meta")
}
