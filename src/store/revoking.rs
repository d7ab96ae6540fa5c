//! Reads, judges and writes the revocations note of a store.

use std::io::Read as _;
use std::path::PathBuf;

use super::home::now_unix_s;
use super::judge::Refusal;
use super::{FileFault, Home, Mark, Marks, Store, StoreError, read_note};
use crate::durable;
use crate::manifest::{FileHash, hex};
use crate::note::{self, Note, NoteError};
use crate::policy::{Policy, Role};
use crate::revocations::{RECORDS_MAX, Revocation, Revocations, RevocationsNote};
use crate::signers::VerifierKey;

/// Name of the note in a store.
pub const REVOCATIONS: &str = "revocations";
/// A longer list is none.
const LIST_BYTES_MAX: u64 = 32 + 40 * RECORDS_MAX;

/// A revocations note that the policy accepts, and its list.
#[derive(Clone, Debug)]
pub struct Revoking {
    /// What it says.
    pub note: RevocationsNote,
    /// Identity of the note.
    pub hash: FileHash,
    /// Those of its signers that are trusted.
    pub signers: Vec<VerifierKey>,
    /// The list.
    pub list: Revocations,
}

impl Revoking {
    /// The marks to store when it is accepted.
    pub fn marks(&self) -> Vec<(VerifierKey, Mark)> {
        let mark = Mark { epoch: 0, generation: self.note.sequence, hash: self.hash };
        self.signers.iter().map(|key| (key.clone(), mark)).collect()
    }
}

/// What a home's own store says is revoked beside its tables.
#[derive(Clone, Debug)]
pub enum Current {
    /// A note that the policy accepts.
    Note(Revoking),
    /// There is no note.
    None,
    /// A note by signers of whom the policy trusts none any more.
    Withdrawn,
}

impl Store {
    /// Where the note is.
    pub fn revocations_path(&self) -> PathBuf {
        self.root().join(REVOCATIONS)
    }

    /// The note and its list, if there is a note and the policy accepts it.
    pub fn read_revocations(
        &self,
        policy: &Policy,
        marks: &Marks,
    ) -> Result<Option<Revoking>, StoreError> {
        let path = self.revocations_path();
        let Some(bytes) = read_note(&path)? else { return Ok(None) };
        let refused = |source| StoreError::Refused { path: path.clone(), source };
        let hash = *blake3::hash(&bytes).as_bytes();
        let (note, signers) = judge_revocations(&bytes, policy).map_err(refused)?;
        let trusted: Vec<&VerifierKey> = policy.trusted(Role::Revoke, now_unix_s()).collect();
        if let Some(mark) = marks.highest(trusted.into_iter()) {
            let (found, generation) = (note.sequence, mark.generation);
            if found < generation {
                return Err(refused(Refusal::Rollback { found, mark: generation }));
            }
            if found == generation && hash != mark.hash {
                return Err(refused(Refusal::Replaced { generation, accepted: hex(&mark.hash) }));
            }
        }
        let list = self.open_revocations(&note)?;
        Ok(Some(Revoking { note, hash, signers, list }))
    }

    fn open_revocations(&self, note: &RevocationsNote) -> Result<Revocations, StoreError> {
        let path = self.tables().join(format!("{}.rev", hex(&note.hash)));
        let file = self.open_file(&path)?;
        let mut bytes = Vec::new();
        let io = |source| StoreError::Io { action: "read", path: path.clone(), source };
        file.take(LIST_BYTES_MAX.min(note.bytes) + 1).read_to_end(&mut bytes).map_err(io)?;
        let fault = |fault| StoreError::File { path: path.clone(), fault };
        if bytes.len() as u64 != note.bytes {
            let (expected, actual) = (note.bytes, bytes.len() as u64);
            return Err(fault(FileFault::Length { expected, actual }));
        }
        if *blake3::hash(&bytes).as_bytes() != note.hash {
            return Err(fault(FileFault::Hash));
        }
        let list = Revocations::parse(&bytes);
        list.filter(|list| list.len() as u64 == note.records)
            .ok_or_else(|| fault(FileFault::NotAsInManifest))
    }
}

/// The note in `bytes`, if a signer that is trusted with it now has signed it.
pub fn judge_revocations(
    bytes: &[u8],
    policy: &Policy,
) -> Result<(RevocationsNote, Vec<VerifierKey>), Refusal> {
    let note = Note::parse(bytes)?;
    let (text, signers) = note.verify(policy.trusted(Role::Revoke, now_unix_s()))?;
    let signers = signers.into_iter().cloned().collect();
    let note = RevocationsNote::parse(text, &policy.origin).ok_or(Refusal::NotRevocations)?;
    Ok((note, signers))
}

impl Home {
    /// The note of the home's own store.
    pub fn revocations(&self) -> Result<Current, StoreError> {
        let marks = Marks::load(&self.state())?;
        match self.store().read_revocations(self.policy(), &marks) {
            Ok(Some(revoking)) => Ok(Current::Note(revoking)),
            Ok(None) => Ok(Current::None),
            Err(StoreError::Refused {
                source: Refusal::Note(NoteError::UnknownSigners { .. }),
                ..
            }) => Ok(Current::Withdrawn),
            Err(err) => Err(err),
        }
    }

    /// Revokes by the note alone: what is left to a home that cannot sign manifests. Gives the
    /// note's sequence.
    pub fn revoke_by_note(&self, more: Vec<Revocation>) -> Result<u64, StoreError> {
        let signers = self.signers(Role::Revoke)?;
        let _lock = self.lock_publishing()?;
        let store = self.store();
        let before = match self.revocations()? {
            Current::Note(revoking) => Some(revoking),
            Current::None | Current::Withdrawn => None,
        };
        let held = before.iter().flat_map(|before| before.list.iter()).collect::<Vec<_>>();
        // Above what any manifest has asked for, also where the one before was withdrawn.
        let asked = self.current()?.map_or(0, |current| current.judged.manifest.revocations);
        let list = Revocations::of([held, more].concat());
        let bytes = list.to_bytes();
        let note = RevocationsNote {
            origin: self.policy().origin.clone(),
            sequence: before.map_or(asked, |before| before.note.sequence.max(asked)) + 1,
            hash: *blake3::hash(&bytes).as_bytes(),
            bytes: bytes.len() as u64,
            records: list.len() as u64,
        };
        let name = format!("{}.rev", hex(&note.hash));
        durable::write_new(&store.tables(), &name, &bytes, 0o440)?;
        let signers: Vec<_> = signers.iter().collect();
        let signed = note::sign(&note.to_text(), &signers);
        // As every host will judge it.
        let path = store.revocations_path();
        let judged = judge_revocations(signed.as_bytes(), self.policy());
        judged.map_err(|source| StoreError::Refused { path, source })?;
        durable::write(store.root(), REVOCATIONS, signed.as_bytes(), 0o444)?;
        Ok(note.sequence)
    }
}
