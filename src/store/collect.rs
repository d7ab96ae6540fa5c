//! Removes what no host needs any more: old manifests, tables that no remaining manifest names, and
//! what publishers that were killed have left behind. Readers that have a file mapped keep it.
//!
//! A host that fetches slowly must still find the generation that it has begun to fetch, so one
//! stays for a day, and while fewer than eight are newer. One that differs from a newer one only in
//! its overlays stays an hour: with an issue a second, a day of them would fill a disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Home, Publishing, Store, StoreError};
use crate::durable;
use crate::manifest::{FileHash, Manifest, hex};
use crate::note::Note;

const KEPT_NEWER: u64 = 8;
const KEPT_AGE: Duration = Duration::from_secs(24 * 3600);
const KEPT_AGE_SAME_BASE: Duration = Duration::from_secs(3600);
/// Generations between two collections of a ledger-built home, each of which reads all manifests
/// that are kept.
const EVERY: u64 = 64;

impl Home {
    /// Collects, if that is due after `current` was published. What is to go is looked for without
    /// a lock, so that no publisher waits for it.
    pub fn collect(&self, current: &Manifest) -> Result<(), StoreError> {
        if current.ledger.0 > 0 && !current.generation.is_multiple_of(EVERY) {
            return Ok(());
        }
        let store = self.store();
        durable::sweep(&store.tables())?;
        durable::sweep(&store.manifests())?;
        durable::sweep(store.root())?;
        let (doomed, named) = plan(&store, current)?;
        let lock = self.lock_publishing()?;
        self.remove_planned(&lock, current, doomed, named)
    }

    /// What was published meanwhile may name an old table again.
    fn remove_planned(
        &self,
        _lock: &Publishing,
        planned: &Manifest,
        doomed: Vec<PathBuf>,
        mut named: HashSet<String>,
    ) -> Result<(), StoreError> {
        let mut next = self.store().read_manifest()?;
        while let Some(manifest) = next.as_deref().and_then(|note| read(note, &planned.origin)) {
            if manifest.generation <= planned.generation {
                break;
            }
            named.extend(files_of(&manifest));
            next = match manifest.previous {
                Some(hash) => self.store().read_manifest_of(&hash)?,
                None => None,
            };
        }
        for path in doomed {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !named.contains(&name) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes every subjects file that the current generation does not name: what it forgot is in
    /// them. Earlier generations stay, without their subjects.
    pub fn forget_old_subjects(
        &self,
        _publishing: &Publishing,
        current: &Manifest,
    ) -> Result<(), StoreError> {
        let tables = self.store().tables();
        let named: HashSet<String> = files_of(current).collect();
        for path in listed(&tables)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".sub") && !named.contains(&name) {
                remove(&path)?;
            }
        }
        Ok(durable::sync_folder(&tables)?)
    }
}

/// The files that may go, and the names of those that stay.
fn plan(store: &Store, current: &Manifest) -> Result<(Vec<PathBuf>, HashSet<String>), StoreError> {
    let base = |manifest: &Manifest| -> FileHash { manifest.tables[0].hash };
    let mut named: HashSet<String> = files_of(current).collect();
    let mut doomed = Vec::new();
    for path in listed(&store.manifests())? {
        // What cannot be read may name any table: then nothing goes.
        let Some(note) = super::read_note(&path)? else { continue };
        let Some(manifest) = read(&note, &current.origin) else { continue };
        let newer = current.generation.saturating_sub(manifest.generation);
        let is_same = base(&manifest) == base(current);
        let kept_age = if is_same { KEPT_AGE_SAME_BASE } else { KEPT_AGE };
        if newer >= KEPT_NEWER && is_older_than(&path, kept_age) {
            doomed.push(path);
        } else {
            named.extend(files_of(&manifest));
        }
    }
    for path in listed(&store.tables())? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_table = name.ends_with(".tbl") || name.ends_with(".sub");
        if is_table && !named.contains(&name) && is_older_than(&path, KEPT_AGE_SAME_BASE) {
            doomed.push(path);
        }
    }
    Ok((doomed, named))
}

fn files_of(manifest: &Manifest) -> impl Iterator<Item = String> {
    manifest.tables.iter().flat_map(|table| {
        [format!("{}.tbl", hex(&table.hash)), format!("{}.sub", hex(&table.subjects_hash))]
    })
}

/// A manifest of the home's own store: it was signed here, and nothing but its names is used.
fn read(note: &[u8], origin: &str) -> Option<Manifest> {
    Manifest::parse(Note::parse(note).ok()?.unverified_text(), origin).ok()
}

fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|facts| facts.modified());
    let found = modified.ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    found.is_some_and(|found| found >= age)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = |source| StoreError::Io { action: "list", path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(io)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(io)).collect()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Io { action: "remove", path: path.to_owned(), source: err })
        }
        _ => Ok(()),
    }
}
