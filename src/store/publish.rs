//! Makes a generation current, in the order that a power cut at any step leaves whole: tables,
//! subjects, and only then the name `manifest`. The manifest's name under its hash follows, so that
//! there is none under which nothing was ever published.
//!
//! Publishing compares and swaps: it succeeds only on top of the manifest that the build began
//! with, so that two builds at once cannot lose each other's revocations.

use std::fs::File;
use std::path::PathBuf;

use super::home::{LOCK_PATIENCE, now_unix_s};
use super::judge::Judged;
use super::revoking::Current;
use super::{Home, Mark, Marks, Store, StoreError};
use crate::durable::{self, Lock, Named, NewFile};
use crate::ledger::tree::{EMPTY_ROOT, Hash};
use crate::manifest::{FileHash, Manifest, TableLine, hex};
use crate::note;
use crate::policy::{Policy, Role};
use crate::signers::VerifierKey;
use crate::table::Written;

/// What a build compares with.
#[derive(Clone, Debug)]
pub struct Previous {
    /// Its manifest.
    pub judged: Judged,
    /// Where its tables are.
    pub store: Store,
}

/// The files of a generation, written and not yet named.
pub struct NewTables {
    /// The table.
    pub table: NewFile,
    /// What was written of it.
    pub table_written: Written,
    /// The subjects file.
    pub subjects: NewFile,
    /// What was written of it.
    pub subjects_written: Written,
    /// Ledger range; 0 0 for a list.
    pub range: (u64, u64),
}

/// A table of the next generation.
pub enum Part {
    /// One that the generation before has.
    Kept(TableLine),
    /// The same table, with another subjects file.
    Subjects {
        /// The table.
        line: TableLine,
        /// The file.
        subjects: NewFile,
        /// What was written of it.
        written: Written,
    },
    /// A new one.
    New(NewTables),
}

/// What the next generation consists of.
pub struct Next {
    /// Its tables, base first.
    pub parts: Vec<Part>,
    /// Size and root of the ledger that they were built from.
    pub ledger: (u64, Hash),
}

impl Next {
    /// A base that was built from a list.
    pub fn of_list(tables: NewTables) -> Next {
        Next { parts: vec![Part::New(tables)], ledger: (0, EMPTY_ROOT) }
    }

    fn lines(&self) -> Vec<TableLine> {
        let line = |part: &Part| match part {
            Part::Kept(line) => line.clone(),
            Part::Subjects { line, written, .. } => TableLine {
                subjects_hash: written.hash,
                subjects_bytes: written.bytes,
                ..line.clone()
            },
            Part::New(tables) => TableLine {
                hash: tables.table_written.hash,
                bytes: tables.table_written.bytes,
                records: tables.table_written.records,
                range: tables.range,
                subjects_hash: tables.subjects_written.hash,
                subjects_bytes: tables.subjects_written.bytes,
            },
        };
        self.parts.iter().map(line).collect()
    }
}

/// Held by the one who publishes.
pub struct Publishing {
    _lock: Lock,
}

/// What was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// The manifest.
    pub manifest: Manifest,
    /// Its identity.
    pub hash: FileHash,
}

impl Home {
    /// Waits until nobody else publishes.
    pub fn lock_publishing(&self) -> Result<Publishing, StoreError> {
        let _lock = Lock::take_within(&self.state().join("publish.lock"), LOCK_PATIENCE)?;
        Ok(Publishing { _lock })
    }

    /// Waits until nobody else moves records down.
    pub fn lock_settling(&self) -> Result<Lock, StoreError> {
        Ok(Lock::take(&self.state().join("settle.lock"))?)
    }

    /// Publishes `next` as the generation after `previous`, if that is still the last one.
    pub fn publish(
        &self,
        _publishing: &Publishing,
        previous: Option<&Previous>,
        next: Next,
    ) -> Result<Published, StoreError> {
        let signers = self.signers(Role::Build)?;
        let store = self.store();
        let expected = previous.map(|previous| previous.judged.hash);
        let replaced = store.read_manifest()?;
        let found = replaced.as_ref().map(|note| *blake3::hash(note).as_bytes());
        // A store that has nothing yet may be built upon what `--previous` names elsewhere.
        let elsewhere = previous.is_some_and(|p| p.store.root() != store.root());
        if found != expected && !(elsewhere && found.is_none()) {
            return Err(StoreError::LostRace);
        }
        let revocations = self.least_revocations(previous)?;
        let manifest = next_manifest(self.policy(), previous, &next, revocations);
        let signers: Vec<_> = signers.iter().collect();
        let note = note::sign(&manifest.to_text(), &signers);
        // As every host will judge it: what they would refuse is not published.
        let judged = self.judge(note.as_bytes(), &store.manifest_path())?;
        let hash = judged.hash;
        // Not in the root: daemons watch it, and would look at every step.
        let manifest = durable::filled(&store.manifests(), note.as_bytes())?;
        name_tables(&store, next.parts, &manifest)?;
        if let Some((replaced, hash)) = replaced.zip(found) {
            archive(&store, &replaced, &hash)?;
        }
        let archived = store.manifests().join(hex(&hash));
        manifest.replace_and_link(&store.manifest_path(), &archived)?;
        let mark = judged.mark();
        let mut marks: Vec<_> = judged.signers.iter().map(|key| (key.clone(), mark)).collect();
        marks.extend(self.ledger_mark(judged.manifest.ledger));
        Marks::record(&self.state(), &marks)?;
        Ok(Published { manifest: judged.manifest, hash })
    }

    /// The sequence of the note that goes with the next manifest. A note whose signer was withdrawn
    /// is asked for by nobody: its entries lapse.
    fn least_revocations(&self, previous: Option<&Previous>) -> Result<u64, StoreError> {
        let before = previous.map_or(0, |previous| previous.judged.manifest.revocations);
        Ok(match self.revocations()? {
            Current::Note(revoking) => before.max(revoking.note.sequence),
            Current::None => before,
            Current::Withdrawn => 0,
        })
    }

    /// That this host has seen so much of the ledger.
    fn ledger_mark(&self, (size, root): (u64, Hash)) -> Option<(VerifierKey, Mark)> {
        let key = self.policy().trusted(Role::Ledger, now_unix_s()).next()?;
        (size > 0).then(|| (key.clone(), Mark { epoch: 0, generation: size, hash: root }))
    }
}

fn next_manifest(
    policy: &Policy,
    previous: Option<&Previous>,
    next: &Next,
    revocations: u64,
) -> Manifest {
    let before = previous.map(|previous| &previous.judged.manifest);
    // Times never decrease, even where this host's clock does.
    let issued = now_unix_s().max(before.map_or(0, |before| before.issued));
    let number = before.map_or(1, |before| before.generation + 1);
    Manifest {
        origin: policy.origin.clone(),
        epoch: policy.epoch,
        generation: number.max(policy.generation_floor),
        tables: next.lines(),
        issued,
        expires: issued + policy.lifetime_s_max,
        ledger: next.ledger,
        previous: previous.map(|previous| previous.judged.hash),
        revocations,
    }
}

/// Names files after their bytes. A file of that name is the same file, and stays; that it really
/// has those bytes is checked, since a damaged one would be published again. The `manifest` that
/// will name them reaches the medium with them.
fn name_tables(store: &Store, parts: Vec<Part>, manifest: &NewFile) -> Result<(), StoreError> {
    let (mut files, mut hashes) = (Vec::new(), Vec::new());
    for part in parts {
        let (subjects, written) = match part {
            Part::Kept(_) => continue,
            Part::Subjects { subjects, written, .. } => (subjects, written),
            Part::New(NewTables { table, table_written, subjects, subjects_written, .. }) => {
                files.push((table, format!("{}.tbl", hex(&table_written.hash))));
                hashes.push(table_written.hash);
                (subjects, subjects_written)
            }
        };
        files.push((subjects, format!("{}.sub", hex(&written.hash))));
        hashes.push(written.hash);
    }
    let names: Vec<String> = files.iter().map(|(_, name)| name.clone()).collect();
    let named = durable::name_all(files, 0o440, (manifest, 0o444))?;
    for ((name, named), hash) in names.into_iter().zip(named).zip(hashes) {
        if named == Named::Taken {
            check_bytes(store.tables().join(name), &hash)?;
        }
    }
    Ok(())
}

/// Keeps a manifest under its hash. It is there, unless whoever published it was stopped first. (A
/// name for one that never became current would be a generation that no event accounts for.)
fn archive(store: &Store, note: &[u8], hash: &FileHash) -> Result<(), StoreError> {
    let name = hex(hash);
    if !store.manifests().join(&name).exists() {
        durable::write_new(&store.manifests(), &name, note, 0o444)?;
    }
    Ok(())
}

fn check_bytes(path: PathBuf, hash: &FileHash) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { action: "read", path: path.clone(), source };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(&path).map_err(io)?).map_err(io)?;
    if hasher.finalize().as_bytes() == hash {
        Ok(())
    } else {
        Err(StoreError::DamagedInPlace { path })
    }
}
