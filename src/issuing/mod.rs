//! Issue, revoke, rotate, import, erase: requests become events, if the laws allow it.
//!
//! A [`Registrar`] holds the ledger's lock. Requests are staged one by one, each checked against
//! all that the ledger and the stage have; [`Registrar::commit`] then makes all of them durable
//! with one signature: openings, entries, tiles, checkpoint, and only then does anybody hear of
//! them. A refusal names the earlier event and leaves no trace.
//!
//! Read `history.rs` for what the events of a token add up to.

mod error;
mod history;

use std::path::PathBuf;

use rayon::prelude::*;

use crate::builder;
use crate::claims::{Grant, check_meta, check_subject};
use crate::ledger::{
    Checkpoint, ENTRY_BYTES_MAX, Event, Index, Issued, Key, LABEL_BYTES_MAX, Opening, Openings,
    Origin, Tiles, What, Writer, commitment, read_event,
};
use crate::manifest::{FileHash, Manifest};
use crate::note::Note;
use crate::revocations::Revocations;
use crate::store::{Home, Published, now_unix_s};
use crate::table::format::Reason;
use crate::time::TableTime;
use crate::token::{Digest, ForeignAlgorithm, Token, TokenId};

pub use error::IssuingError;
pub use history::{History, State};

/// Events from which on several threads encode.
const TOGETHER_MIN: usize = 1024;

/// What a new token shall be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Kind, audience and scopes.
    pub grant: Grant,
    /// Who it is for.
    pub subject: String,
    /// What its issuer notes.
    pub meta: String,
    /// Valid from, Unix seconds.
    pub not_before: Option<i64>,
    /// Dead from, Unix seconds.
    pub expires: Option<i64>,
}

/// Which token begins.
struct New {
    id: TokenId,
    digest: Digest,
    algorithm: Option<ForeignAlgorithm>,
    predecessor: Option<TokenId>,
}

/// What became of a wish to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is an event now.
    Staged,
    /// An earlier event had done that, or more.
    Already {
        /// That event.
        event: u64,
    },
}

/// What is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The event that issued the token.
    pub issue: u64,
    /// The token's digest.
    pub digest: Digest,
    /// The event that had said so before.
    pub before: Option<u64>,
}

/// Forgets who a token is for: the opening, and the subject in every file of the store. Done again
/// it does nothing more, so an interrupted one is repeated.
pub fn forget(home: &Home, erasure: &Erasure) -> Result<Published, IssuingError> {
    home.openings().erase(erasure.issue)?;
    builder::publish(home, &mut |_| {})?;
    Ok(builder::forget(home, &erasure.digest)?)
}

/// The home's ledger, open for events.
pub struct Registrar<'h> {
    home: &'h Home,
    writer: Writer,
    tiles: Tiles,
    index: Index,
    openings: Openings,
    /// Not before the last event.
    now: i64,
    staged: Vec<Event>,
    staged_openings: Vec<Opening>,
    /// The generation that is current, until it was looked whether the ledger has it.
    unrecorded: Option<(Manifest, FileHash)>,
    /// Files of an append that had come to nothing, which were cut.
    pub recovered_files: u64,
}

impl<'h> Registrar<'h> {
    /// Waits for the ledger to be free, and opens it.
    pub fn open(
        home: &'h Home,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Registrar<'h>, IssuingError> {
        let writer = home.write_ledger()?;
        let current = current_manifest(home)?;
        if let Some((manifest, _)) = &current {
            builder::check_ledger_built(manifest)?;
        }
        let mut tiles = writer.tiles();
        let index = Index::open(&home.index(), &mut tiles, progress)?;
        let last = match writer.size() {
            0 => 0,
            size => read_event(&tiles, size - 1)?.time,
        };
        Ok(Registrar {
            home,
            recovered_files: writer.recovered.files,
            writer,
            tiles,
            index,
            openings: home.openings(),
            now: now_unix_s().max(last),
            staged: Vec::new(),
            staged_openings: Vec::new(),
            unrecorded: current,
        })
    }

    /// The time that events staged now bear, Unix seconds.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Mints a token and stages its issue.
    pub fn issue(
        &mut self,
        wanted: &Wanted,
        origin: &Origin,
    ) -> Result<(Token, u64), IssuingError> {
        let prefix = self.home.policy().domain.prefix;
        let token = Token::mint(prefix, wanted.grant.kind).map_err(IssuingError::Randomness)?;
        let digest = token.digest(&self.home.policy().domain.key);
        let new = New { id: token.id(), digest, algorithm: None, predecessor: None };
        let event = self.add(new, wanted, origin)?;
        Ok((token, event))
    }

    /// As [`Registrar::issue`], many at once, on all cores.
    pub fn issue_many(
        &mut self,
        wanted: &Wanted,
        count: u64,
        origin: &Origin,
    ) -> Result<Vec<Token>, IssuingError> {
        check_wanted(wanted)?;
        let domain = &self.home.policy().domain;
        let mint = |_| {
            let token = Token::mint(domain.prefix, wanted.grant.kind);
            let token = token.map_err(IssuingError::Randomness)?;
            let (id, digest) = (token.id(), token.digest(&domain.key));
            self.check_new(&id, &digest)?;
            Ok((token, id, digest))
        };
        let minted: Vec<_> =
            (0..count).into_par_iter().map(mint).collect::<Result<_, IssuingError>>()?;
        let mut tokens = Vec::with_capacity(minted.len());
        for (token, id, digest) in minted {
            // Against those before it in this very lot.
            let taken = self.index.get_latest(&Key::id(&id));
            if let Some(event) = taken.or(self.index.get_latest(&Key::digest(&digest))) {
                return Err(IssuingError::IdTaken { id, event });
            }
            let new = New { id, digest, algorithm: None, predecessor: None };
            self.add_new(new, wanted, origin)?;
            tokens.push(token);
        }
        Ok(tokens)
    }

    /// Stages a token that another system made, by its digest here.
    pub fn import(
        &mut self,
        algorithm: ForeignAlgorithm,
        digest: &Digest,
        wanted: &Wanted,
        origin: &Origin,
    ) -> Result<(TokenId, u64), IssuingError> {
        let id = TokenId::of_foreign(digest);
        let new = New { id, digest: *digest, algorithm: Some(algorithm), predecessor: None };
        let event = self.add(new, wanted, origin)?;
        Ok((id, event))
    }

    /// Stages that trust in a token ends at that Unix second; at or before now: at once.
    pub fn revoke(
        &mut self,
        id: &TokenId,
        at: i64,
        reason: Reason,
        origin: &Origin,
    ) -> Result<Revoked, IssuingError> {
        self.end_trust(id, at, reason, None, origin)
    }

    /// Stages what the revocations note says and no event does yet. Says how many.
    pub fn absorb(&mut self, list: &Revocations) -> Result<usize, IssuingError> {
        let mut absorbed = 0;
        let origin = Origin { actor: actor(), ..Origin::default() };
        for revocation in list.iter() {
            let Some(event) = self.index.get(&Key::digest(&revocation.digest)) else { continue };
            let Some(id) = self.event(event)?.token() else { continue };
            let at = revocation.at.unix_s().unwrap_or(0);
            // The earliest of all times means at once, whatever a clock says.
            let at = if revocation.at.0 == 1 { self.now } else { at };
            let revoked = self.revoke(&id, at, revocation.reason, &origin)?;
            absorbed += usize::from(revoked == Revoked::Staged);
        }
        Ok(absorbed)
    }

    /// Stages a new token with the claims of `id`, and that trust in `id` ends `overlap_s` seconds
    /// from now. The new one lives as long as the old one was to, from its issue on.
    pub fn rotate(
        &mut self,
        id: &TokenId,
        overlap_s: i64,
        expires: Option<i64>,
        origin: &Origin,
    ) -> Result<(Token, u64), IssuingError> {
        let history = self.history(id)?;
        let state = history.state();
        if let Some(event) = state.revoked_by.filter(|_| state.is_dead(self.now)) {
            return Err(IssuingError::Dead { id: *id, event });
        }
        if state.issued.algorithm.is_some() {
            return Err(IssuingError::Foreign { id: *id });
        }
        let opening = self.opening(history.first())?;
        let life = state.issued.expires.map(|expires| expires - history.issued_at());
        let wanted = Wanted {
            grant: state.issued.grant.clone(),
            subject: opening.as_ref().map_or_else(String::new, |opening| opening.subject.clone()),
            meta: opening.map_or_else(String::new, |opening| opening.meta),
            not_before: None,
            expires: expires.or(life.map(|life| self.now + life)),
        };
        let prefix = self.home.policy().domain.prefix;
        let token = Token::mint(prefix, wanted.grant.kind).map_err(IssuingError::Randomness)?;
        let digest = token.digest(&self.home.policy().domain.key);
        let new = New { id: token.id(), digest, algorithm: None, predecessor: Some(*id) };
        let event = self.add(new, &wanted, origin)?;
        let at = self.now + overlap_s;
        let at = state.doom.map_or(at, |doom| at.min(doom - 1).max(self.now));
        self.end_trust(id, at, Reason::Superseded, Some(token.id()), origin)?;
        Ok((token, event))
    }

    /// Stages that who a token is for is forgotten, if no event said so before. To be followed by
    /// [`Registrar::commit`] and [`forget`].
    pub fn erase(&mut self, id: &TokenId, origin: &Origin) -> Result<Erasure, IssuingError> {
        let history = self.history(id)?;
        let digest = history.state().issued.digest;
        let erasure = Erasure { issue: history.first(), digest, before: history.state().erased_by };
        if erasure.before.is_some() {
            return Ok(erasure);
        }
        self.stage(What::Erase { id: *id, digest, previous: history.last() }, origin)?;
        Ok(erasure)
    }

    /// Stages an event about a signer.
    pub fn signer(&mut self, what: What, origin: &Origin) -> Result<(), IssuingError> {
        assert!(matches!(what, What::SignerAdded { .. } | What::SignerRetired { .. }));
        self.stage(what, origin).map(drop)
    }

    /// The first event of a request that was made before. It is durable.
    pub fn request(&self, request: &str) -> Result<Option<u64>, IssuingError> {
        let Some(event) = self.index.get(&Key::request(request)) else { return Ok(None) };
        if self.event(event)?.origin.request.as_deref() != Some(request) {
            return Ok(None);
        }
        self.writer.confirm()?;
        Ok(Some(event))
    }

    /// All events about a token.
    pub fn history(&self, id: &TokenId) -> Result<History, IssuingError> {
        let last = self.index.get(&Key::id(id)).ok_or(IssuingError::Unknown { id: *id })?;
        History::of(id, last, |index| self.event(index))
    }

    /// The event of that index, staged ones included.
    pub fn event(&self, index: u64) -> Result<Event, IssuingError> {
        match index.checked_sub(self.writer.size()) {
            Some(staged) => {
                let staged = usize::try_from(staged).ok().and_then(|at| self.staged.get(at));
                staged.cloned().ok_or_else(|| self.wrong_index(index))
            }
            None => Ok(read_event(&self.tiles, index)?),
        }
    }

    /// Who the token of an event is for; `None` when nothing was said, or it was erased.
    pub fn opening(&self, event: u64) -> Result<Option<Opening>, IssuingError> {
        if event >= self.writer.size() {
            return Ok(self.staged_openings.iter().find(|o| o.index == event).cloned());
        }
        Ok(self.openings.get(event)?)
    }

    /// How many events are staged.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Number of events that are durable.
    pub fn size(&self) -> u64 {
        self.writer.size()
    }

    /// Makes all that was staged durable, in the order openings, entries, tiles, checkpoint. With
    /// nothing staged, what was done before: it is about to be acknowledged once more.
    pub fn commit(&mut self) -> Result<&Checkpoint, IssuingError> {
        if self.staged.is_empty() {
            self.writer.confirm()?;
            return Ok(self.writer.checkpoint());
        }
        let first = self.writer.size();
        let openings = self.openings.append(first, &self.staged_openings)?;
        let encode = |event: &Event| {
            let mut entry = Vec::with_capacity(512);
            event.encode(&mut entry);
            entry
        };
        // Waking threads costs more than encoding a little.
        let entries: Vec<Vec<u8>> = if self.staged.len() < TOGETHER_MIN {
            self.staged.iter().map(encode).collect()
        } else {
            self.staged.par_iter().with_min_len(256).map(encode).collect()
        };
        self.writer.append(&entries, openings)?;
        self.tiles = self.writer.tiles();
        self.index.write(&mut self.tiles)?;
        self.staged.clear();
        self.staged_openings.clear();
        Ok(self.writer.checkpoint())
    }

    fn add(&mut self, new: New, wanted: &Wanted, origin: &Origin) -> Result<u64, IssuingError> {
        check_wanted(wanted)?;
        self.check_new(&new.id, &new.digest)?;
        self.add_new(new, wanted, origin)
    }

    fn add_new(&mut self, new: New, wanted: &Wanted, origin: &Origin) -> Result<u64, IssuingError> {
        // First, since the commitment's opening names the event.
        self.record_publication()?;
        let commitment = self.commit_to(self.next(), wanted)?;
        let New { id, digest, algorithm, predecessor } = new;
        let issued = Issued {
            id,
            digest,
            algorithm,
            grant: wanted.grant.clone(),
            not_before: wanted.not_before,
            expires: wanted.expires,
            commitment,
            predecessor,
        };
        self.stage(What::Issue(issued), origin)
    }

    /// Law 2: neither id nor digest was issued before.
    fn check_new(&self, id: &TokenId, digest: &Digest) -> Result<(), IssuingError> {
        if let Some(event) = self.index.get(&Key::digest(digest))
            && self.event(event)?.digest() == Some(*digest)
        {
            return Err(IssuingError::DigestTaken { event });
        }
        if let Some(event) = self.index.get(&Key::id(id))
            && self.event(event)?.token() == Some(*id)
        {
            return Err(IssuingError::IdTaken { id: *id, event });
        }
        Ok(())
    }

    fn commit_to(&mut self, index: u64, wanted: &Wanted) -> Result<Option<[u8; 32]>, IssuingError> {
        let Wanted { subject, meta, .. } = wanted;
        if subject.is_empty() && meta.is_empty() {
            return Ok(None);
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(IssuingError::Randomness)?;
        let opening = Opening { index, salt, subject: subject.clone(), meta: meta.clone() };
        self.staged_openings.push(opening);
        Ok(Some(commitment(&salt, subject, meta)))
    }

    fn end_trust(
        &mut self,
        id: &TokenId,
        at: i64,
        reason: Reason,
        successor: Option<TokenId>,
        origin: &Origin,
    ) -> Result<Revoked, IssuingError> {
        let history = self.history(id)?;
        let state = history.state();
        // Law 3: a revocation may only move earlier. One that has come is the earliest.
        let at = at.max(0);
        let is_earlier = match state.doom {
            None => true,
            Some(_) if state.is_dead_by_event() => false,
            Some(doom) => at < doom,
        };
        if !is_earlier {
            let event = state.revoked_by.expect("what has an end has the event of it");
            return Ok(Revoked::Already { event });
        }
        if TableTime::end(at).is_none() {
            return Err(IssuingError::Time);
        }
        let (digest, previous) = (state.issued.digest, history.last());
        let what = What::Revoke { id: *id, digest, at, reason, successor, previous };
        self.stage(what, origin)?;
        Ok(Revoked::Staged)
    }

    fn stage(&mut self, what: What, origin: &Origin) -> Result<u64, IssuingError> {
        self.record_publication()?;
        let Origin { actor, on_behalf_of, request, ticket } = origin;
        for label in [on_behalf_of, request, ticket].into_iter().flatten().chain([actor]) {
            let is_long = label.len() > LABEL_BYTES_MAX;
            if label.is_empty() || is_long || label.chars().any(char::is_control) {
                return Err(IssuingError::Label);
            }
        }
        Ok(self.push(Event { time: self.now, origin: origin.clone(), what }))
    }

    fn push(&mut self, event: Event) -> u64 {
        let index = self.next();
        self.index.push(index, &event);
        self.staged.push(event);
        index
    }

    /// The generation that is current becomes an event before the next one does, and so do those
    /// before it that have none yet: renewed, or moved down, with no event in between.
    fn record_publication(&mut self) -> Result<(), IssuingError> {
        let mut next = self.unrecorded.take();
        let mut unrecorded = Vec::new();
        while let Some((manifest, hash)) = next {
            if self.index.get(&Key::manifest(&hash)).is_some() {
                break;
            }
            let previous = manifest.previous;
            let Manifest { epoch, generation, .. } = manifest;
            unrecorded.push(What::Publish { epoch, generation, manifest: hash });
            next = match previous {
                Some(hash) => archived_manifest(self.home, &hash)?,
                None => None,
            };
        }
        let origin = Origin { actor: actor(), ..Origin::default() };
        for what in unrecorded.into_iter().rev() {
            self.push(Event { time: self.now, origin: origin.clone(), what });
        }
        Ok(())
    }

    fn next(&self) -> u64 {
        self.writer.size() + self.staged.len() as u64
    }

    fn wrong_index(&self, index: u64) -> IssuingError {
        let path: PathBuf = self.index.folder().to_owned();
        crate::ledger::LedgerError::Index { index, path }.into()
    }
}

/// Who this process is to the kernel.
pub fn actor() -> String {
    format!("uid:{}", rustix::process::getuid().as_raw())
}

fn check_wanted(wanted: &Wanted) -> Result<(), IssuingError> {
    check_subject(&wanted.subject)?;
    check_meta(&wanted.meta)?;
    let fits = wanted.not_before.is_none_or(|at| TableTime::start(at, 0).is_some())
        && wanted.expires.is_none_or(|at| TableTime::end(at).is_some());
    if fits { Ok(()) } else { Err(IssuingError::Time) }
}

fn current_manifest(home: &Home) -> Result<Option<(Manifest, FileHash)>, IssuingError> {
    let bytes = home.store().read_manifest()?;
    Ok(bytes.and_then(|bytes| read_manifest(home, &bytes)))
}

fn archived_manifest(
    home: &Home,
    hash: &FileHash,
) -> Result<Option<(Manifest, FileHash)>, IssuingError> {
    let bytes = home.store().read_manifest_of(hash)?;
    Ok(bytes.and_then(|bytes| read_manifest(home, &bytes)))
}

/// A manifest of the home's own store: it was signed here, and no trust rests on it.
fn read_manifest(home: &Home, bytes: &[u8]) -> Option<(Manifest, FileHash)> {
    let note = Note::parse(bytes).ok()?;
    let manifest = Manifest::parse(note.unverified_text(), &home.policy().origin).ok()?;
    Some((manifest, *blake3::hash(bytes).as_bytes()))
}

// An event of the longest fields fits an entry: scopes, twice each for escapes that never happen,
// labels in which every byte is escaped, and a kilobyte for the rest.
const _: () =
    assert!(2 * crate::claims::GRANT_BYTES_MAX + 4 * 6 * LABEL_BYTES_MAX + 1024 < ENTRY_BYTES_MAX);
