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
        if before.shares_base_with(after) {
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
        let same = both.take_while(|(old, new)| old.line == new.line).count();
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use zerocopy::FromZeros as _;

    use super::*;
    use crate::claims::Grant;
    use crate::durable::NewFile;
    use crate::ledger::tree::EMPTY_ROOT;
    use crate::manifest::{Manifest, TableLine};
    use crate::store::Protection;
    use crate::table::format::{Cold, Reason};
    use crate::table::{Entry, Subjects, SubjectsWriter, Table, TableSpec, TableWriter};
    use crate::token::{Domain, DomainKey};

    /// 2020-01-01, where [`TableTime`] begins, Unix seconds.
    const BEGINS: i64 = 1_577_836_800;
    /// When the one after was issued, unless a test says otherwise.
    const NOW: u32 = 100_000_000;

    /// A token for ever, with the first grant. Its digest and its id are made of `byte`.
    fn token(byte: u8) -> Entry<'static> {
        let mut record = Record::new_zeroed();
        record.digest = [byte; 32];
        record.id[ID_BYTES - 1] = byte;
        Entry { record, cold: Cold::new_zeroed(), personal: Personal::NOTHING, line: 0 }
    }

    fn with(byte: u8, change: impl FnOnce(&mut Record)) -> Entry<'static> {
        let mut entry = token(byte);
        change(&mut entry.record);
        if doom(&entry.record) < u64::MAX {
            entry.cold.reason = Reason::Other as u8;
        }
        entry
    }

    fn flagged(byte: u8) -> Entry<'static> {
        with(byte, |record| record.flags = REVOKED)
    }

    fn ending(byte: u8, at: u32) -> Entry<'static> {
        with(byte, |record| record.revoked_at.set(at))
    }

    fn expiring(byte: u8, at: u32) -> Entry<'static> {
        with(byte, |record| record.expires.set(at))
    }

    fn layer(entries: &[Entry<'_>]) -> Arc<Layer> {
        let folder = tempfile::tempdir().unwrap();
        let new = || NewFile::create(folder.path()).unwrap();
        let (table, subjects) = (new(), new());
        let grant = |scope: &str| {
            let mut bytes = Vec::new();
            let scopes = vec![scope.to_owned()];
            Grant::new("live".parse().unwrap(), "api", scopes).unwrap().encode(&mut bytes);
            bytes
        };
        let domain =
            Domain { key: DomainKey([0xD0; 32]), prefix: "acme".parse().unwrap(), foreign: None };
        let spec = TableSpec { domain, grants: vec![grant("a"), grant("b")], range: (0, 0) };
        let mut writer = TableWriter::new(&table, spec, folder.path()).unwrap();
        let mut personal = SubjectsWriter::new(&subjects, folder.path()).unwrap();
        for entry in entries {
            writer.push(entry).unwrap();
            personal.push(&entry.personal).unwrap();
        }
        let (written, subjects_written) = (writer.finish().unwrap(), personal.finish().unwrap());
        Arc::new(Layer {
            line: TableLine {
                hash: written.hash,
                bytes: written.bytes,
                records: written.records,
                range: (0, 0),
                subjects_hash: subjects_written.hash,
                subjects_bytes: subjects_written.bytes,
            },
            table: Table::open(table.file()).unwrap(),
            subjects: Subjects::open(subjects.file()).unwrap(),
            protection: Protection::Copy,
            leases: Vec::new(),
        })
    }

    fn generation(layers: &[&Arc<Layer>], issued: u32) -> Generation {
        let manifest = Manifest {
            origin: "acme/adamant".to_owned(),
            epoch: 1,
            generation: 1,
            tables: layers.iter().map(|layer| layer.line.clone()).collect(),
            issued: BEGINS + i64::from(issued),
            expires: BEGINS + i64::from(issued) + 1,
            ledger: (0, EMPTY_ROOT),
            previous: None,
            revocations: 0,
        };
        Generation::new(manifest, [0; 32], layers.iter().map(|layer| Arc::clone(layer)).collect())
    }

    fn between(before: &[&Arc<Layer>], after: &[&Arc<Layer>]) -> Succession {
        Succession::between(&generation(before, NOW), &generation(after, NOW))
    }

    /// What is said when `before` becomes `after` in another base, beside a token that stays.
    fn breach_of(before: Entry<'_>, after: Entry<'_>) -> Option<Breach> {
        let found = between(&[&layer(&[before, token(9)])], &[&layer(&[after, token(9)])]);
        assert_eq!(found.violations, found.first.len() as u64);
        found.first.first().map(|violation| violation.breach)
    }

    #[test]
    fn what_came_left_and_was_revoked_is_counted() {
        let long_ago = NOW - STAYS_S;
        let before = [token(1), token(2), token(3), expiring(4, long_ago), ending(5, NOW)];
        let after = [token(1), flagged(2), ending(3, NOW), ending(5, NOW), token(6), token(7)];
        let found = between(&[&layer(&before)], &[&layer(&after)]);
        let expected = Succession { added: 2, left: 1, revoked: 2, ..Succession::default() };
        assert_eq!(found, expected);
    }

    /// From both ends of either table, so that no order of the walk misses one.
    #[test]
    fn a_token_that_is_gone_is_named_wherever_it_was() {
        let all = [token(1), token(2), token(3)];
        for gone in 0..3_usize {
            let mut less = all.to_vec();
            less.remove(gone);
            let found = between(&[&layer(&all)], &[&layer(&less)]);
            let id = TokenId::from_bytes(all[gone].record.id);
            assert!(id.is_some());
            let named = Violation { id, foreign: false, breach: Breach::Gone };
            assert_eq!((found.violations, &found.first[..]), (1, &[named][..]));
            assert_eq!((found.added, found.left), (0, 0));
        }
    }

    #[test]
    fn a_record_stays_for_thirty_days_after_its_expiry() {
        let kept = layer(&[token(1)]);
        let gone = |expires: u32, issued: u32| {
            let before = layer(&[token(1), expiring(2, expires)]);
            let (before, after) = (generation(&[&before], issued), generation(&[&kept], issued));
            let found = Succession::between(&before, &after);
            assert_eq!(found.left + found.violations, 1);
            found.violations == 1
        };
        assert!(!gone(1000, 1000 + STAYS_S));
        assert!(gone(1000, 1000 + STAYS_S - 1));
        assert!(gone(1000, 1000));
        // Never, and so late that no time is 30 days after it.
        assert!(gone(0, NOW));
        assert!(gone(u32::MAX - 1, NOW));
    }

    #[test]
    fn what_is_frozen_is_named() {
        let changed = |change: fn(&mut Record)| breach_of(token(1), with(1, change));
        let field = |field| Some(Breach::Changed { field });
        assert_eq!(breach_of(token(1), token(1)), None);
        assert_eq!(changed(|record| record.id[0] = 1), field("id"));
        assert_eq!(changed(|record| record.grant.set(1)), field("kind, audience or scopes"));
        assert_eq!(changed(|record| record.not_before.set(1)), field("not_before"));
        assert_eq!(changed(|record| record.expires.set(1)), field("expires"));
        assert_eq!(changed(|record| record.flags = FOREIGN), field("origin"));
        assert_eq!(changed(|record| record.flags = FOREIGN | REVOKED), field("origin"));
        let foreign = with(1, |record| record.flags = FOREIGN);
        assert_eq!(breach_of(foreign, token(1)), field("origin"));
        assert_eq!(breach_of(foreign, foreign), None);
        assert_eq!(breach_of(foreign, with(1, |record| record.flags = FOREIGN | REVOKED)), None);
    }

    #[test]
    fn who_a_token_is_for_is_frozen_until_it_is_erased() {
        let of = |subject, meta| Entry { personal: Personal::Known { subject, meta }, ..token(1) };
        let erased = Entry { personal: Personal::Erased, ..token(1) };
        let field = Some(Breach::Changed { field: "subject or meta" });
        assert_eq!(breach_of(of("x", "y"), of("x", "y")), None);
        assert_eq!(breach_of(of("x", "y"), of("z", "y")), field);
        assert_eq!(breach_of(of("x", "y"), of("x", "")), field);
        assert_eq!(breach_of(of("x", "y"), erased), None);
        assert_eq!(breach_of(erased, of("x", "y")), None);
        assert_eq!(breach_of(erased, erased), None);
    }

    /// Found by a mutation run. The same table with another subjects file used to be taken for the
    /// same, so that whoever had the build key could say of a token that it is somebody else's.
    #[test]
    fn another_subjects_file_beside_the_same_table_is_compared() {
        let of = |subject| {
            let personal = Personal::Known { subject, meta: "" };
            layer(&[Entry { personal, ..token(1) }, token(2)])
        };
        let (mine, yours, base) = (of("x"), of("y"), layer(&[token(3)]));
        assert_eq!(mine.line.hash, yours.line.hash);
        let field = Breach::Changed { field: "subject or meta" };
        for (before, after) in [
            (vec![&mine], vec![&yours]),
            (vec![&mine, &base], vec![&yours, &base]),
            (vec![&base, &mine], vec![&base, &yours]),
        ] {
            let found = between(&before, &after);
            assert_eq!((found.violations, found.first[0].breach), (1, field));
        }
    }

    /// Never, later, earlier, at once: trust may go that way, and no step of it back.
    #[test]
    fn trust_only_shrinks() {
        let both = with(1, |record| {
            record.flags = REVOKED;
            record.revoked_at.set(NOW);
        });
        let shrinking = [token(1), ending(1, NOW + 1), ending(1, NOW), ending(1, 1), flagged(1)];
        for (early, before) in shrinking.iter().enumerate() {
            for (late, after) in shrinking.iter().enumerate() {
                let restored = (late < early).then_some(Breach::Restored);
                assert_eq!(breach_of(*before, *after), restored, "{early} to {late}");
            }
        }
        assert_eq!(breach_of(ending(1, 1), both), None);
        assert_eq!(breach_of(both, flagged(1)), None);
        assert_eq!(breach_of(both, ending(1, NOW)), Some(Breach::Restored));
    }

    #[test]
    fn an_id_that_was_there_is_not_given_again() {
        let reused = with(3, |record| record.id = token(2).record.id);
        let found = between(
            &[&layer(&[token(1), token(2)])],
            &[&layer(&[token(1), token(2), reused, token(4)])],
        );
        let id = TokenId::from_bytes(token(2).record.id);
        let named = Violation { id, foreign: false, breach: Breach::IdReused };
        assert_eq!((found.added, found.violations, &found.first[..]), (2, 1, &[named][..]));
    }

    #[test]
    fn ten_are_named_and_all_are_counted() {
        let stays = token(0xFF);
        let many: Vec<_> = (1..=12).map(token).chain([stays]).collect();
        let found = between(&[&layer(&many)], &[&layer(&[stays])]);
        assert_eq!((found.violations, found.first.len()), (12, NAMED_MAX));
    }

    #[test]
    fn a_violation_says_whose_and_how() {
        let before = with(1, |record| record.flags = FOREIGN);
        let found = between(&[&layer(&[before, token(2)])], &[&layer(&[token(3)])]);
        let said: Vec<String> = found.first.iter().map(Violation::to_string).collect();
        let id = |byte| TokenId::from_bytes(token(byte).record.id).unwrap();
        let gone = "is missing before 30 days after its expiry";
        assert_eq!(said, [format!("foreign:{} {gone}", id(1)), format!("{} {gone}", id(2))]);
    }

    /// On one base only what the overlays say is looked at, and what an overlay said stays said.
    #[test]
    fn overlays_on_one_base_are_held_to_the_same_laws() {
        let base = layer(&[token(1), token(2), ending(3, NOW)]);
        let (first, second) = (layer(&[flagged(1)]), layer(&[flagged(2), token(4)]));
        let found = between(&[&base, &first], &[&base, &first, &second]);
        let expected = Succession { added: 1, revoked: 1, ..Succession::default() };
        assert_eq!(found, expected);

        // Merged into one, they say the same.
        let merged = layer(&[flagged(1), flagged(2), token(4)]);
        let found = between(&[&base, &first, &second], &[&base, &merged]);
        assert_eq!(found, Succession::default());

        let restored = |found: Succession| {
            let breaches: Vec<Breach> = found.first.iter().map(|found| found.breach).collect();
            (found.violations, breaches)
        };
        let found = between(&[&base, &first], &[&base]);
        assert_eq!(restored(found), (1, vec![Breach::Restored]));
        let found = between(&[&base, &first, &second], &[&base, &first]);
        assert_eq!(restored(found), (2, vec![Breach::Restored, Breach::Gone]));
        let found = between(&[&base], &[&base, &layer(&[token(3)])]);
        assert_eq!(restored(found), (1, vec![Breach::Restored]));
    }
}
