//! From what a look-up found to a verdict: the caller's rights, the revocations beside the tables,
//! the requirement. What both surfaces of the daemon answer with.

use super::callers::Caller;
use crate::claims::{Grant, GrantView, Mismatch, Requirement};
use crate::revocations::Revocations;
use crate::store::{Generation, Located};
use crate::table::{Personal, format};
use crate::time::TableTime;
use crate::token::{Digest, TokenId};
use crate::verdict::{Verdict, judge};
use crate::wire::{Claims, Record, RequirementParts, Row};

/// The requirement of one frame, with what it came to for the grants that were seen last.
#[derive(Default)]
pub(super) struct Question<'a> {
    /// First digest that is not of this frame.
    pub(super) end: usize,
    /// As it stood in the frame; empty where nothing is asked for.
    requirement: &'a [u8],
    /// Set for a caller from whom some tokens are kept.
    limited: Option<&'a Caller>,
    memo: [Option<((u8, u32), Admission)>; MEMO],
    /// Most frames ask for nothing, and then there is nothing in it to forget.
    memo_in_use: bool,
}

/// Verified tables have no record without an id; there would be nothing to vouch for.
const NAMELESS: Row = Row::without_record(Verdict::Unknown);

/// What a grant is to a question.
#[derive(Clone, Copy)]
struct Admission {
    /// Whether the caller may ask about its tokens.
    askable: bool,
    admits: Result<(), Mismatch>,
}

/// Most tokens of a frame share a few grants.
const MEMO: usize = 8;

impl<'a> Question<'a> {
    /// Goes on to the next frame.
    pub(super) fn turn_to(
        &mut self,
        end: usize,
        requirement: &'a [u8],
        limited: Option<&'a Caller>,
    ) {
        (self.end, self.requirement, self.limited) = (end, requirement, limited);
        if std::mem::take(&mut self.memo_in_use) {
            self.memo = [None; MEMO];
        }
    }

    /// The verdict on what was found, and the record that it comes from.
    #[inline]
    pub(super) fn judge<'g>(
        &mut self,
        generation: &Generation,
        revoked: Option<&Revocations>,
        found: Option<Located<'g>>,
        now: TableTime,
    ) -> (Verdict, Option<Located<'g>>) {
        let Some(found) = found else { return (Verdict::Unknown, None) };
        let (table, grant) = (found.layer, found.record.grant.get());
        if self.limited.is_some() && !self.admission(generation, table, grant).askable {
            return (Verdict::CallerNotAllowed, None);
        }
        let verdict = judge_record(found.record, revoked, now, || {
            if self.requirement.is_empty() {
                return Ok(());
            }
            self.admission(generation, table, grant).admits
        });
        (verdict, Some(found))
    }

    fn admission(&mut self, generation: &Generation, table: u8, grant: u32) -> Admission {
        self.memo_in_use = true;
        let slot = &mut self.memo[grant as usize % MEMO];
        if let Some((seen, admission)) = slot
            && *seen == (table, grant)
        {
            return *admission;
        }
        let admission = match generation.layer(table).and_then(|layer| layer.table.grant(grant)) {
            Some(view) => Admission {
                askable: self.limited.is_none_or(|caller| caller.may_ask_about(&view)),
                admits: admits(&view, self.requirement),
            },
            // Verified tables have no such grant; it admits nothing, and nobody.
            None => Admission { askable: false, admits: Err(Mismatch::Kind) },
        };
        *slot = Some(((table, grant), admission));
        admission
    }
}

fn admits(grant: &GrantView<'_>, requirement: &[u8]) -> Result<(), Mismatch> {
    if requirement.is_empty() {
        return Ok(());
    }
    let asked = RequirementParts::again(requirement);
    grant.admits(asked.kind, asked.audience, asked.scopes())
}

/// Answers about one token alone, with what was found of it.
pub(super) fn judge_one<'g>(
    generation: &'g Generation,
    revoked: Option<&Revocations>,
    digest: &Digest,
    caller: &Caller,
    asked: &Requirement,
    now: TableTime,
) -> (Verdict, Option<Located<'g>>) {
    let Some(found) = generation.get(digest) else { return (Verdict::Unknown, None) };
    let grant =
        generation.layer(found.layer).and_then(|layer| layer.table.grant(found.record.grant.get()));
    // Verified tables have no record without a grant; it admits nothing, and nobody.
    let Some(grant) = grant.filter(|grant| caller.may_ask_about(grant)) else {
        return (Verdict::CallerNotAllowed, None);
    };
    if TokenId::from_bytes(found.record.id).is_none() {
        return (NAMELESS.verdict, None);
    }
    let verdict = judge_record(found.record, revoked, now, || {
        let (kind, audience) = (asked.kind.as_deref(), asked.audience.as_deref());
        let scopes = asked.scopes.iter().map(String::as_bytes);
        grant.admits(kind.map(str::as_bytes), audience.map(str::as_bytes), scopes)
    });
    (verdict, Some(found))
}

#[inline]
fn judge_record(
    record: &format::Record,
    revoked: Option<&Revocations>,
    now: TableTime,
    admits: impl FnOnce() -> Result<(), Mismatch>,
) -> Verdict {
    let mut standing = record.standing();
    if let Some(at) = revoked.and_then(|list| list.get(&record.digest)) {
        standing = standing.ending_at(at);
    }
    judge(&standing, now, admits)
}

/// The row of a verdict and its record.
#[inline]
pub(super) fn row_of(verdict: Verdict, found: Option<Located<'_>>) -> Row {
    let Some(Located { record, layer: table, .. }) = found else {
        return Row::without_record(verdict);
    };
    let Some(id) = TokenId::from_bytes(record.id) else { return NAMELESS };
    let expires = TableTime(record.expires.get());
    Row { verdict, record: Some(Record { id, table, expires, grant: record.grant.get() }) }
}

/// The claims of a record.
pub(super) fn claims_of(generation: &Generation, record: Record, rank: u32) -> Option<Claims> {
    let layer = generation.layer(record.table)?;
    let grant = Grant::decode(layer.table.grant_bytes(record.grant)?).ok()?;
    let (subject, meta) = match layer.subjects.get(rank)? {
        Personal::Known { subject, meta } => (subject, meta),
        Personal::Erased => ("", ""),
    };
    Some(Claims {
        kind: grant.kind.to_string(),
        audience: grant.audience,
        scopes: grant.scopes,
        subject: subject.to_owned(),
        meta: meta.to_owned(),
    })
}
