//! What a ledger may say, event after event.

use std::collections::HashMap;

use crate::ledger::{Event, Finding, What};
use crate::manifest::FileHash;
use crate::revocations::Revocations;
use crate::signers::VerifierKey;
use crate::token::{Digest, TokenId};

const ROLES: [&str; 4] = ["build", "revoke", "ledger", "witness"];

/// What is known of a token while its events go by.
struct Known {
    digest: Digest,
    last: u64,
    doom: Option<i64>,
    is_dead: bool,
    erased: bool,
}

/// All that the events so far have said.
#[derive(Default)]
pub(super) struct Laws {
    tokens: HashMap<TokenId, Known>,
    digests: HashMap<[u8; 16], u64>,
    published: HashMap<FileHash, u64>,
    counts: HashMap<&'static str, u64>,
    time: i64,
    generation: (u64, u64),
    /// A token that was issued in the place of another, which the next event must say too.
    rotating: Option<(u64, TokenId, TokenId)>,
}

impl Laws {
    pub(super) fn take(&mut self, index: u64, entry: &[u8], found: &mut dyn FnMut(Finding)) {
        let event = match Event::parse(entry) {
            Ok(event) => event,
            Err(err) => return found(format!("entry {index} is no event: {err}")),
        };
        *self.counts.entry(event.type_name()).or_default() += 1;
        if event.time < self.time {
            found(format!("event {index} is earlier than the one before it"));
        }
        self.time = self.time.max(event.time);
        self.pair(index, &event, found);
        match &event.what {
            What::Issue(issued) => {
                let digest = *issued.digest.first_chunk().expect("16 of 32 bytes");
                if let Some(first) = self.digests.insert(digest, index) {
                    found(format!("event {index} issues a digest that event {first} had issued"));
                }
                let known = Known {
                    digest: issued.digest,
                    last: index,
                    doom: None,
                    is_dead: false,
                    erased: false,
                };
                if let Some(first) = self.tokens.insert(issued.id, known) {
                    let (id, first) = (issued.id, first.last);
                    found(format!("event {index} issues id {id}, about which event {first} was"));
                }
                self.rotating = issued.predecessor.map(|old| (index, old, issued.id));
            }
            What::Revoke { id, at, .. } => {
                let Some(known) = self.follow(index, &event, *id, found) else { return };
                if known.is_dead || known.doom.is_some_and(|doom| *at >= doom) {
                    found(format!(
                        "event {index} gives token {id} back trust that had ended earlier"
                    ));
                }
                known.doom = Some(known.doom.map_or(*at, |doom| doom.min(*at)));
                known.is_dead |= *at <= event.time;
            }
            What::Erase { id, .. } => {
                let Some(known) = self.follow(index, &event, *id, found) else { return };
                if known.erased {
                    found(format!("event {index} erases the subject of token {id} a second time"));
                }
                known.erased = true;
            }
            What::Publish { epoch, generation, manifest } => {
                if (*epoch, *generation) <= self.generation {
                    found(format!(
                        "event {index} publishes generation {generation} after a later one"
                    ));
                }
                self.generation = self.generation.max((*epoch, *generation));
                self.published.insert(*manifest, index);
            }
            What::SignerAdded { key, roles } => {
                let known = |role: &String| ROLES.contains(&role.as_str());
                if key.parse::<VerifierKey>().is_err()
                    || roles.is_empty()
                    || !roles.iter().all(known)
                {
                    found(format!(
                        "event {index} adds a signer that is no key, or for no known role"
                    ));
                }
            }
            What::SignerRetired { key, .. } => {
                if key.parse::<VerifierKey>().is_err() {
                    found(format!("event {index} retires a signer that is no key"));
                }
            }
        }
    }

    /// Rotation is issue + revoke: the two follow each other and name each other.
    fn pair(&mut self, index: u64, event: &Event, found: &mut dyn FnMut(Finding)) {
        let successor = match &event.what {
            What::Revoke { id, successor: Some(new), .. } => Some((*id, *new)),
            _ => None,
        };
        match (self.rotating.take(), successor) {
            (Some((_, old, new)), Some((id, successor))) if (old, new) == (id, successor) => {}
            (Some((issue, old, _)), _) => {
                found(format!(
                    "event {issue} takes the place of token {old}, and no event after it ends {old}"
                ));
            }
            (None, Some((id, _))) => {
                found(format!(
                    "event {index} ends token {id} for a successor that the event before did not issue"
                ));
            }
            (None, None) => {}
        }
    }

    /// The token of an event that follows another one.
    fn follow(
        &mut self,
        index: u64,
        event: &Event,
        id: TokenId,
        found: &mut dyn FnMut(Finding),
    ) -> Option<&mut Known> {
        let Some(known) = self.tokens.get_mut(&id) else {
            found(format!("event {index} is about token {id}, which was never issued"));
            return None;
        };
        if event.previous() != Some(known.last) {
            found(format!(
                "event {index} does not follow event {}, the one before about token {id}",
                known.last
            ));
        }
        if event.digest() != Some(known.digest) {
            found(format!("event {index} names another digest than token {id} has"));
        }
        known.last = index;
        Some(known)
    }

    pub(super) fn finish(&mut self, found: &mut dyn FnMut(Finding)) {
        if let Some((issue, old, _)) = self.rotating.take() {
            found(format!(
                "event {issue} takes the place of token {old}, and no event after it ends {old}"
            ));
        }
    }

    pub(super) fn events(&self) -> Vec<(&'static str, u64)> {
        let mut counts: Vec<_> = self.counts.iter().map(|(name, count)| (*name, *count)).collect();
        counts.sort_unstable();
        counts
    }

    /// How many of these digests belong to tokens that no event has revoked by then.
    pub(super) fn pending(&self, revocations: &Revocations) -> usize {
        let is_pending = |known: &&Known| {
            let at = revocations.get(&known.digest).and_then(|at| at.unix_s());
            at.is_some() && known.doom.is_none()
        };
        self.tokens.values().filter(is_pending).count()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens.len() as u64
    }

    pub(super) fn has_published(&self, hash: &FileHash) -> bool {
        self.published.contains_key(hash)
    }

    /// Epoch and number of the latest generation that an event has published.
    pub(super) fn last_published(&self) -> (u64, u64) {
        self.generation
    }

    pub(super) fn published(&self) -> impl Iterator<Item = &FileHash> {
        self.published.keys()
    }
}
