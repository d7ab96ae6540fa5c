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

use super::{At, Generation, Layer, Stack};
use crate::table::Personal;
use crate::table::format::{FLAGS_KNOWN, FOREIGN, REVOKED, Record};
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

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("is missing before 30 days after its expiry"),
            Self::Changed { field } => write!(f, "has another {field}"),
            Self::Restored => f.write_str("was revoked and is trusted again, or for longer"),
            Self::IdReused => f.write_str("has lost its id to another token"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.foreign {
            f.write_str("foreign:")?;
        }
        match &self.id {
            Some(id) => write!(f, "{id} {}", self.breach),
            None => write!(f, "a token without an id {}", self.breach),
        }
    }
}

impl Succession {
    /// Compares two generations that were both verified. Where they share their base, only what
    /// the overlays say is compared: the rest is the same file.
    pub fn between(before: &Generation, after: &Generation) -> Succession {
        let mut walk = Walk {
            reference: TableTime::end(after.manifest.issued).unwrap_or_default(),
            found: Succession::default(),
            new_ids: Vec::new(),
        };
        if before.base().line.hash == after.base().line.hash {
            walk.overlays(before, after);
        } else {
            walk.all(before, after);
        }
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

struct Walk {
    /// Records that expired 30 days before this may leave.
    reference: TableTime,
    found: Succession,
    /// Ids of records that are only in the one after, until they were looked for.
    new_ids: Vec<[u8; ID_BYTES]>,
}

impl Walk {
    fn all(&mut self, before: &Generation, after: &Generation) {
        let (mut old, mut new) = (stack(before), stack(after));
        while let Some(order) = next(old.peek(), new.peek()) {
            let was = (order != Ordering::Greater).then(|| old.next()).flatten();
            let is = (order != Ordering::Less).then(|| new.next()).flatten();
            self.compare(place(&old, was), place(&new, is));
            if self.new_ids.len() == IDS_HELD {
                self.look_for_new_ids(before);
            }
        }
        self.look_for_new_ids(before);
    }

    /// Both have one base: a token that no overlay names is the same in both.
    fn overlays(&mut self, before: &Generation, after: &Generation) {
        let both = before.layers().iter().zip(after.layers());
        let same = both.take_while(|(old, new)| old.line.hash == new.line.hash).count();
        let layers = before.layers()[same..].iter().chain(&after.layers()[same..]);
        for at in Stack::new(layers.map(|layer| &**layer).collect()) {
            let find = |generation: &'_ Generation| {
                let found = generation.get(&at.digest)?;
                Some((found.layer, found.rank))
            };
            let (was, is) = (find(before), find(after));
            self.compare(
                was.map(|(layer, rank)| (&*before.layers()[usize::from(layer)], rank)),
                is.map(|(layer, rank)| (&*after.layers()[usize::from(layer)], rank)),
            );
        }
        // Ids of new tokens are not looked for in the base: that would read all of it at each
        // issue. The ledger and its audit keep that law; a new base is compared whole.
        self.new_ids.clear();
    }

    fn compare(&mut self, was: Option<Place<'_>>, is: Option<Place<'_>>) {
        match (was, is) {
            (Some(was), Some(is)) => {
                match breach(was, is) {
                    Some(breach) => self.found.violation(record(was), breach),
                    None if doom(record(is)) < doom(record(was)) => self.found.revoked += 1,
                    None => {}
                };
            }
            (Some(was), None) => self.missing(record(was)),
            (None, Some(is)) => {
                self.found.added += 1;
                self.new_ids.push(record(is).id);
            }
            (None, None) => {}
        }
    }

    fn missing(&mut self, before: &Record) {
        let expires = before.expires.get();
        if expires != 0 && expires.saturating_add(STAYS_S) <= self.reference.0 {
            self.found.left += 1;
        } else {
            self.found.violation(before, Breach::Gone);
        }
    }

    fn look_for_new_ids(&mut self, before: &Generation) {
        self.new_ids.sort_unstable();
        if self.new_ids.is_empty() {
            return;
        }
        for at in stack(before) {
            let old = &before.layers()[at.layer].table.records()[at.rank as usize];
            if self.new_ids.binary_search(&old.id).is_ok() {
                self.found.violation(old, Breach::IdReused);
            }
        }
        self.new_ids.clear();
    }
}

/// A record, by its table and rank.
type Place<'a> = (&'a Layer, u32);

fn stack(generation: &Generation) -> Stack<'_> {
    Stack::new(generation.layers().iter().map(|layer| &**layer).collect())
}

fn place<'a>(stack: &Stack<'a>, at: Option<At>) -> Option<Place<'a>> {
    at.map(|at| (stack.layers()[at.layer], at.rank))
}

fn record<'a>((layer, rank): Place<'a>) -> &'a Record {
    &layer.table.records()[rank as usize]
}

/// Which of two records comes first; `None` when there is neither.
fn next(before: Option<At>, after: Option<At>) -> Option<Ordering> {
    match (before, after) {
        (Some(before), Some(after)) => Some(before.digest.cmp(&after.digest)),
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

/// How a law is broken between two records of one token.
pub(super) fn breach(was: Place<'_>, is: Place<'_>) -> Option<Breach> {
    let (before, after) = (record(was), record(is));
    let same_grant =
        was.0.table.grant_bytes(before.grant.get()) == is.0.table.grant_bytes(after.grant.get());
    let personal = (was.0.personal(was.1), is.0.personal(is.1));
    if let Some(field) = changed_field(before, after, same_grant, personal) {
        return Some(Breach::Changed { field });
    }
    (doom(after) > doom(before)).then_some(Breach::Restored)
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
