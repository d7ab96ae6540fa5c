//! Lays a list over the generation before it, by the laws:
//!
//! - a token that is missing stays, revoked (`absent`), until 30 days after its expiry;
//! - a token that was revoked and is listed as live stays revoked, and is reported;
//! - a scheduled revocation may only move earlier;
//! - what is frozen at issue must be as it was: id, grant, not-before, expiry, subject, meta.

use std::cmp::Ordering;

use super::OnChange;
use super::read::Reject;
use crate::store::{NAMED_MAX, STAYS_S, changed_field};
use crate::table::format::{REVOKED, Reason, Record};
use crate::table::{Entry, Subjects, Table};
use crate::time::TableTime;
use crate::token::{Digest, TokenId};

/// What became of the generation before, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the list and not in the generation before.
    pub added: u64,
    /// Live before, and now revoked or scheduled to be.
    pub died: u64,
    /// Of those, how many were missing from the list.
    pub absent: u64,
    /// Live in the generation before.
    pub live_before: u64,
    /// Listed as live, or as revoked later, though revoked (earlier) before: kept as they were.
    pub kept_revoked: u64,
    /// The first of those.
    pub kept_revoked_ids: Vec<TokenId>,
    /// Revoked since a frozen field changed.
    pub changed: u64,
    /// Left, 30 days after their expiry.
    pub left: u64,
}

/// The generation before, walked in step with the list.
pub(super) struct Merge<'a> {
    table: Option<(&'a Table, &'a Subjects)>,
    /// The new number of each grant of that table.
    grants: Vec<u32>,
    rank: u32,
    /// Records that expired 30 days before this leave.
    reference: TableTime,
    now: TableTime,
    on_change: OnChange,
    pub(super) changes: Changes,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        table: Option<(&'a Table, &'a Subjects)>,
        grants: Vec<u32>,
        reference: TableTime,
        on_change: OnChange,
    ) -> Merge<'a> {
        let now = TableTime::wall_clock();
        Merge { table, grants, rank: 0, reference, now, on_change, changes: Changes::default() }
    }

    /// The entries of the generation before that come before `digest` and are not in the list; all
    /// that remain for `None`.
    pub(super) fn absent_before(&mut self, digest: Option<&Digest>) -> Option<Entry<'a>> {
        loop {
            let before = self.peek()?;
            if digest.is_some_and(|digest| before.record.digest >= *digest) {
                return None;
            }
            self.rank += 1;
            if self.has_left(&before.record) {
                self.changes.left += 1;
                continue;
            }
            return Some(self.absent(before));
        }
    }

    /// The entry to write for one of the list. `Err` when it breaks law 1.
    pub(super) fn listed<'e>(&mut self, listed: Entry<'e>) -> Result<Entry<'e>, Reject>
    where
        'a: 'e,
    {
        let Some(before) = self.peek().filter(|before| same(before, &listed)) else {
            self.changes.added += 1;
            return Ok(listed);
        };
        self.rank += 1;
        let same_grant = before.record.grant == listed.record.grant;
        let personal = (before.personal, listed.personal);
        if let Some(field) = changed_field(&before.record, &listed.record, same_grant, personal) {
            return self.changed(before, &listed, field);
        }
        let mut merged = listed;
        self.keep_revocation(&before, &mut merged);
        self.count_live(&before, &merged);
        Ok(merged)
    }

    fn peek(&self) -> Option<Entry<'a>> {
        let (table, subjects) = self.table?;
        let record = table.records().get(usize::try_from(self.rank).ok()?)?;
        let mut record = *record;
        record.grant.set(self.grants[record.grant.get() as usize]);
        let cold = *table.cold(self.rank).expect("verified: one row a record");
        let personal = subjects.get(self.rank).expect("verified: one value a record");
        Some(Entry { record, cold, personal, line: 0 })
    }

    fn has_left(&self, record: &Record) -> bool {
        let expires = record.expires.get();
        expires != 0 && expires.saturating_add(STAYS_S) <= self.reference.0
    }

    fn absent(&mut self, before: Entry<'a>) -> Entry<'a> {
        let after = revoked(before, Reason::Absent);
        if self.count_live(&before, &after) {
            self.changes.absent += 1;
        }
        after
    }

    fn changed<'e>(
        &mut self,
        before: Entry<'a>,
        listed: &Entry<'e>,
        field: &'static str,
    ) -> Result<Entry<'e>, Reject>
    where
        'a: 'e,
    {
        if self.on_change == OnChange::Fail {
            let id = name_of(&before.record);
            let reason = format!(
                "{field} of token {id} is not what it was: a token never changes \
                 (issue another, or revoke this one with --on-change revoke)"
            );
            return Err(Reject { line: listed.line, reason });
        }
        self.changes.changed += 1;
        let after = revoked(before, Reason::Policy);
        self.count_live(&before, &after);
        Ok(after)
    }

    /// Trust only shrinks: of two revocations the stricter holds.
    fn keep_revocation(&mut self, before: &Entry<'_>, merged: &mut Entry<'_>) {
        let (old, new) = (before.record.revoked_at.get(), merged.record.revoked_at.get());
        let was_flagged = before.record.flags & REVOKED != 0;
        let keeps_old_time = old != 0 && (new == 0 || old < new);
        if keeps_old_time {
            merged.record.revoked_at.set(old);
        }
        if was_flagged {
            merged.record.flags |= REVOKED;
        }
        if was_flagged || keeps_old_time {
            merged.cold.reason = before.cold.reason;
        }
        // Listed as revoked since a time that has come is no surprise.
        let listed_dead = new != 0 && new <= self.now.0;
        if keeps_old_time || (was_flagged && !listed_dead) {
            self.changes.kept_revoked += 1;
            if self.changes.kept_revoked_ids.len() < NAMED_MAX {
                self.changes.kept_revoked_ids.extend(TokenId::from_bytes(before.record.id));
            }
        }
    }

    /// Counts a token that was live. Says whether it died.
    fn count_live(&mut self, before: &Entry<'_>, after: &Entry<'_>) -> bool {
        if is_doomed(&before.record) || before.record.standing().is_expired(self.now) {
            return false;
        }
        self.changes.live_before += 1;
        let died = is_doomed(&after.record);
        self.changes.died += u64::from(died);
        died
    }
}

/// Revoked now, or at some time.
fn is_doomed(record: &Record) -> bool {
    record.flags & REVOKED != 0 || record.revoked_at.get() != 0
}

/// `before`, revoked now. A revocation that it had keeps its reason.
fn revoked(mut before: Entry<'_>, reason: Reason) -> Entry<'_> {
    if !is_doomed(&before.record) {
        before.cold.reason = reason as u8;
    }
    before.record.flags |= REVOKED;
    before
}

fn same(before: &Entry<'_>, listed: &Entry<'_>) -> bool {
    before.record.digest.cmp(&listed.record.digest) == Ordering::Equal
}

pub(super) fn name_of(record: &Record) -> String {
    match TokenId::from_bytes(record.id) {
        Some(id) if record.flags & crate::table::format::FOREIGN != 0 => format!("foreign:{id}"),
        Some(id) => id.to_string(),
        None => "without an id".to_owned(),
    }
}
