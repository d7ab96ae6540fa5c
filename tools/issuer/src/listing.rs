//! The tokens of a subject, page by page, out of the generation that is current.

use std::sync::{Arc, Mutex, PoisonError};

use adamant::claims::Grant;
use adamant::manifest::{hex, parse_hash};
use adamant::store::{Current, Generation, Home, Stack, now_unix_s};
use adamant::table::format::Reason;
use adamant::table::{Entry, Personal};
use adamant::time::{TableTime, to_rfc3339};
use adamant::token::{Digest, TokenId};
use adamant::verdict::{Verdict, judge};
use anyhow::Context;
use serde_json::{Value, json};

use crate::rights::{CallerRights, Right};

/// Most tokens of a page.
pub(crate) const PAGE_MAX: usize = 1000;

/// What is listed.
pub(crate) struct Wanted {
    pub(crate) subject: String,
    pub(crate) limit: usize,
    /// The last token of the page before.
    pub(crate) after: Option<Digest>,
}

/// The generation that was read last, kept so that only what is new is verified again.
pub(crate) struct Lister {
    home: Arc<Home>,
    held: Mutex<Option<Arc<Generation>>>,
}

impl Lister {
    pub(crate) fn new(home: Arc<Home>) -> Lister {
        Lister { home, held: Mutex::default() }
    }

    /// One page. Pages are in the order of the digests, which never changes; what is issued
    /// meanwhile may lie on a page that was given already.
    pub(crate) fn page(&self, wanted: &Wanted, rights: &CallerRights) -> anyhow::Result<Value> {
        let generation = self.current()?;
        let revoked = match self.home.revocations()? {
            Current::Note(revoking) => Some(revoking.list),
            Current::None | Current::Withdrawn => None,
        };
        let now = TableTime::end(now_unix_s()).unwrap_or_default();
        let layers: Vec<_> = generation.layers().iter().map(|layer| &**layer).collect();
        let mut tokens: Vec<(Digest, Value)> = Vec::new();
        for at in Stack::new(layers.clone()) {
            let layer = layers[at.layer];
            let is_wanted = matches!(layer.personal(at.rank),
                Personal::Known { subject, .. } if subject == wanted.subject);
            if !is_wanted || wanted.after.is_some_and(|after| at.digest <= after) {
                continue;
            }
            let entry = layer.entry(at.rank);
            let grant = layer.table.grant_bytes(entry.record.grant.get());
            let grant = Grant::decode(grant.context("a record without a grant")?)?;
            if !rights.allow(Right::Read, &grant) {
                continue;
            }
            if tokens.len() == wanted.limit {
                let next = tokens.last().map(|(digest, _)| hex(digest));
                return Ok(page(tokens, next));
            }
            let noted = revoked.as_ref().and_then(|list| list.get(&at.digest));
            tokens.push((at.digest, token(&entry, &grant, noted, now)?));
        }
        Ok(page(tokens, None))
    }

    fn current(&self) -> anyhow::Result<Arc<Generation>> {
        let current = self.home.current()?.context("nothing was published yet")?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(generation) = &*held
            && generation.hash == current.judged.hash
        {
            return Ok(Arc::clone(generation));
        }
        let kept = held.as_ref().map_or(&[][..], |generation| generation.layers());
        let generation = Arc::new(current.store.open_again(&current.judged, kept)?);
        *held = Some(Arc::clone(&generation));
        Ok(generation)
    }
}

fn page(tokens: Vec<(Digest, Value)>, next: Option<String>) -> Value {
    let tokens: Vec<Value> = tokens.into_iter().map(|(_, token)| token).collect();
    json!({ "tokens": tokens, "next": next })
}

/// A token as its record has it: what came before it and after it stands in its history.
fn token(
    entry: &Entry<'_>,
    grant: &Grant,
    noted: Option<TableTime>,
    now: TableTime,
) -> anyhow::Result<Value> {
    let standing = entry.record.standing();
    let standing = noted.map_or(standing, |noted| standing.ending_at(noted));
    let state = match judge(&standing, now, || Ok(())) {
        Verdict::Revoked => "revoked",
        Verdict::Expired => "expired",
        Verdict::NotYetValid => "not_yet_valid",
        _ => "valid",
    };
    let (subject, meta) = match entry.personal {
        Personal::Known { subject, meta } => (subject, meta),
        Personal::Erased => ("", ""),
    };
    let id = TokenId::from_bytes(entry.record.id).context("a record without an id")?;
    let time = |at: TableTime| at.unix_s().map(to_rfc3339);
    Ok(json!({
        "id": id.to_string(), "state": state, "kind": grant.kind.as_str(),
        "audience": grant.audience, "scopes": grant.scopes, "subject": subject, "meta": meta,
        "issued": time(TableTime(entry.cold.issued_at.get())),
        "not_before": time(standing.not_before), "expires": time(standing.expires),
        "revoked_at": time(standing.revoked_at),
        "reason": Reason::from_number(entry.cold.reason).map(Reason::name),
        "event": entry.cold.event(),
    }))
}

/// Where the page after that one begins.
pub(crate) fn parse_cursor(text: &str) -> Option<Digest> {
    parse_hash(text)
}
