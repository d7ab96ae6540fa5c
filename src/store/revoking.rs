//! Reads, judges and writes the revocations note of a store.

use std::fs::File;
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

/// Name of a list of revocations in `tables/`.
fn list_name(hash: &FileHash) -> String {
    format!("{}.rev", hex(hash))
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

    /// The list of revocations of that name, if it is there and is what its name says.
    pub fn read_revocations_of(&self, hash: &FileHash) -> Option<Revocations> {
        let file = File::open(self.tables().join(list_name(hash))).ok()?;
        let mut bytes = Vec::new();
        file.take(LIST_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Revocations::parse(&bytes).filter(|_| blake3::hash(&bytes).as_bytes() == hash)
    }

    fn open_revocations(&self, note: &RevocationsNote) -> Result<Revocations, StoreError> {
        let path = self.tables().join(list_name(&note.hash));
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
        durable::write_new(&store.tables(), &list_name(&note.hash), &bytes, 0o440)?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::policy::{Stale, TrustedSigner};
    use crate::signers::Signer;
    use crate::table::format::Reason;
    use crate::time::TableTime;
    use crate::token::{Domain, DomainKey};

    /// A store with nothing but a note of sequence 7 about two tokens, and who is trusted with it.
    struct Setting {
        folder: TempDir,
        signer: Signer,
        policy: Policy,
    }

    impl Setting {
        fn new() -> Setting {
            let signer = Signer::generate("a").unwrap();
            let trusted = TrustedSigner {
                key: signer.verifier_key(),
                roles: vec![Role::Revoke],
                valid_from: None,
                valid_until: None,
            };
            let policy = Policy {
                origin: "acme/adamant".to_owned(),
                domain: Domain {
                    key: DomainKey([0xAB; 32]),
                    prefix: "acme".parse().unwrap(),
                    foreign: None,
                },
                epoch: 1,
                generation_floor: 0,
                stale: Stale::Refuse,
                lifetime_s_max: 86_400,
                witnesses_min: 0,
                signers: vec![trusted],
            };
            let setting = Setting { folder: tempfile::tempdir().unwrap(), signer, policy };
            fs::create_dir(setting.store().tables()).unwrap();
            setting.place(|_| ());
            setting
        }

        fn store(&self) -> Store {
            Store::at(self.folder.path())
        }

        fn list(&self) -> Revocations {
            let revocation = |byte| Revocation {
                digest: [byte; 32],
                at: TableTime(9),
                reason: Reason::Compromised,
            };
            Revocations::of(vec![revocation(1), revocation(2)])
        }

        /// Places the list, and a note about it that differs by `change` from a good one.
        fn place(&self, change: impl FnOnce(&mut RevocationsNote)) {
            let bytes = self.list().to_bytes();
            let mut note = RevocationsNote {
                origin: "acme/adamant".to_owned(),
                sequence: 7,
                hash: *blake3::hash(&bytes).as_bytes(),
                bytes: bytes.len() as u64,
                records: 2,
            };
            change(&mut note);
            self.place_list(&note.hash, &bytes);
            let text = note::sign(&note.to_text(), &[&self.signer]);
            fs::write(self.store().revocations_path(), text).unwrap();
        }

        fn place_list(&self, hash: &FileHash, bytes: &[u8]) {
            let path = self.store().tables().join(list_name(hash));
            // It may be there, and read-only.
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        }

        fn read(&self, marks: &Marks) -> Result<Option<Revoking>, StoreError> {
            self.store().read_revocations(&self.policy, marks)
        }

        /// The mark of a note that was accepted before.
        fn marked(&self, key: &VerifierKey, generation: u64, hash: FileHash) -> Marks {
            let mark = Mark { epoch: 0, generation, hash };
            let state = tempfile::tempdir().unwrap();
            Marks::record(state.path(), &[(key.clone(), mark)]).unwrap()
        }
    }

    fn refusal(read: Result<Option<Revoking>, StoreError>) -> Refusal {
        match read {
            Err(StoreError::Refused { source, .. }) => source,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn fault(read: Result<Option<Revoking>, StoreError>) -> FileFault {
        match read {
            Err(StoreError::File { fault, .. }) => fault,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_note_and_its_list_are_read_with_what_is_to_be_marked() {
        let setting = Setting::new();
        let read = setting.read(&Marks::default()).unwrap().unwrap();
        let bytes = fs::read(setting.store().revocations_path()).unwrap();
        let hash = *blake3::hash(&bytes).as_bytes();
        assert_eq!((read.hash, read.note.sequence, read.list.len()), (hash, 7, 2));
        let mark = Mark { epoch: 0, generation: 7, hash };
        assert_eq!(read.marks(), [(setting.signer.verifier_key(), mark)]);

        fs::remove_file(setting.store().revocations_path()).unwrap();
        assert!(setting.read(&Marks::default()).unwrap().is_none());
    }

    #[test]
    fn a_note_is_not_older_than_its_mark_and_of_its_number_the_one_that_was_accepted() {
        let setting = Setting::new();
        let key = setting.signer.verifier_key();
        let hash = setting.read(&Marks::default()).unwrap().unwrap().hash;
        for marks in [
            setting.marked(&key, 6, [7; 32]),
            setting.marked(&key, 7, hash),
            // Of nobody who is trusted now.
            setting.marked(&Signer::generate("b").unwrap().verifier_key(), 8, [7; 32]),
        ] {
            assert!(setting.read(&marks).unwrap().is_some(), "{marks:?}");
        }
        let refused = refusal(setting.read(&setting.marked(&key, 8, hash)));
        assert_eq!(refused, Refusal::Rollback { found: 7, mark: 8 });
        let refused = refusal(setting.read(&setting.marked(&key, 7, [7; 32])));
        let accepted = "07".repeat(32);
        assert_eq!(refused, Refusal::Replaced { generation: 7, accepted });
    }

    #[test]
    fn a_note_is_of_this_deployment_and_of_a_signer_of_that_role() {
        let mut setting = Setting::new();
        setting.place(|note| note.origin = "other/adamant".to_owned());
        assert_eq!(refusal(setting.read(&Marks::default())), Refusal::NotRevocations);
        setting.place(|_| ());
        setting.policy.signers[0].roles = vec![Role::Build, Role::Ledger];
        let refused = refusal(setting.read(&Marks::default()));
        assert!(matches!(refused, Refusal::Note(NoteError::UnknownSigners { .. })), "{refused}");
    }

    #[test]
    fn a_list_that_is_not_that_of_the_note_is_refused() {
        let setting = Setting::new();
        let read = |change: fn(&mut RevocationsNote)| {
            setting.place(change);
            setting.read(&Marks::default())
        };
        let actual = setting.list().to_bytes().len() as u64;
        let longer = |expected| FileFault::Length { expected, actual };
        assert_eq!(fault(read(|note| note.bytes += 1)), longer(actual + 1));
        assert_eq!(fault(read(|note| note.bytes = u64::MAX)), longer(u64::MAX));
        // No more is read than it takes to see that there is more.
        let shorter = FileFault::Length { expected: actual - 5, actual: actual - 4 };
        assert_eq!(fault(read(|note| note.bytes -= 5)), shorter);
        assert_eq!(fault(read(|note| note.hash = [7; 32])), FileFault::Hash);
        assert_eq!(fault(read(|note| note.records = 1)), FileFault::NotAsInManifest);
        assert_eq!(fault(read(|note| note.records = 3)), FileFault::NotAsInManifest);

        // With the hash that the note says, and not a list.
        let none = vec![0; setting.list().to_bytes().len()];
        let hash = *blake3::hash(&none).as_bytes();
        setting.place(|note| note.hash = hash);
        setting.place_list(&hash, &none);
        assert_eq!(fault(setting.read(&Marks::default())), FileFault::NotAsInManifest);
    }

    #[test]
    fn the_longest_list_is_that_of_the_most_records() {
        assert_eq!(LIST_BYTES_MAX, 400_000_032);
    }
}
