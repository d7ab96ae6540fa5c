//! From what a look-up found to a verdict: the caller's rights, the revocations beside the tables,
//! the requirement. What both surfaces of the daemon answer with.

use super::callers::Caller;
use crate::claims::{Grant, Mismatch, Requirement};
use crate::revocations::Revocations;
use crate::store::{Generation, Located};
use crate::table::{Personal, format};
use crate::time::TableTime;
use crate::token::{Digest, TokenId};
use crate::verdict::{Verdict, judge};
use crate::wire::{Claims, Record, RequirementRef, Row};

/// The requirement of one frame, with what it came to for the grants that were seen last.
#[derive(Default)]
pub(super) struct Question<'a> {
    /// First digest that is not of this frame.
    pub(super) end: usize,
    requirement: Option<RequirementRef<'a>>,
    /// Set for a caller from whom some tokens are kept.
    limited: Option<&'a Caller>,
    memo: [Option<((u8, u32), Admission)>; MEMO],
}

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
    /// `requirement` is empty where nothing is asked for.
    pub(super) fn new(
        end: usize,
        requirement: &'a [u8],
        limited: Option<&'a Caller>,
    ) -> Question<'a> {
        let asks = !requirement.is_empty();
        let requirement = asks.then(|| RequirementRef::again(requirement));
        Question { end, requirement, limited, memo: [None; MEMO] }
    }

    /// The row of what was found.
    pub(super) fn row(
        &mut self,
        generation: &Generation,
        revoked: Option<&Revocations>,
        found: Option<Located<'_>>,
        now: TableTime,
    ) -> Row {
        let Some(Located { layer: table, record, .. }) = found else {
            return Row::without_record(Verdict::Unknown);
        };
        let grant = record.grant.get();
        if self.limited.is_some() && !self.admission(generation, table, grant).askable {
            return Row::without_record(Verdict::CallerNotAllowed);
        }
        judge_record(record, table, revoked, now, || match self.requirement {
            Some(_) => self.admission(generation, table, grant).admits,
            None => Ok(()),
        })
    }

    fn admission(&mut self, generation: &Generation, table: u8, grant: u32) -> Admission {
        let slot = &mut self.memo[grant as usize % MEMO];
        if let Some((seen, admission)) = slot
            && *seen == (table, grant)
        {
            return *admission;
        }
        let admission = match generation.layer(table).and_then(|layer| layer.table.grant(grant)) {
            Some(view) => Admission {
                askable: self.limited.is_none_or(|caller| caller.may_ask_about(&view)),
                admits: self.requirement.as_ref().map_or(Ok(()), |requirement| {
                    view.admits(requirement.kind, requirement.audience, requirement.scopes())
                }),
            },
            // Verified tables have no such grant; it admits nothing, and nobody.
            None => Admission { askable: false, admits: Err(Mismatch::Kind) },
        };
        *slot = Some(((table, grant), admission));
        admission
    }
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
    let row = judge_record(found.record, found.layer, revoked, now, || {
        let (kind, audience) = (asked.kind.as_deref(), asked.audience.as_deref());
        let scopes = asked.scopes.iter().map(String::as_bytes);
        grant.admits(kind.map(str::as_bytes), audience.map(str::as_bytes), scopes)
    });
    (row.verdict, row.record.and(Some(found)))
}

fn judge_record(
    record: &format::Record,
    table: u8,
    revoked: Option<&Revocations>,
    now: TableTime,
    admits: impl FnOnce() -> Result<(), Mismatch>,
) -> Row {
    let mut standing = record.standing();
    if let Some(at) = revoked.and_then(|list| list.get(&record.digest)) {
        standing = standing.ending_at(at);
    }
    let verdict = judge(&standing, now, admits);
    let Some(id) = TokenId::from_bytes(record.id) else {
        // Verified tables have no such record; without an id there is nothing to vouch for.
        return Row::without_record(Verdict::Unknown);
    };
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
