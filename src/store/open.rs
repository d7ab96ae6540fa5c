//! Opens the tables of a generation: looks at the files, verifies every byte, and checks that each
//! overlay fits what lies beneath it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::generation::find_from_top;
use super::judge::Judged;
use super::lease::Lease;
use super::succession::{Breach, breach};
use super::{FileFault, Generation, Layer, Store, StoreError};
use crate::manifest::{FileHash, TableLine, hex};
use crate::table::{Load, Subjects, Table};

/// What keeps the bytes of a generation as they were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Leases on the files: a writer waits until they were copied.
    Lease,
    /// They are in memory of this process alone.
    Copy,
    /// Only owner and mode of the files.
    Mode {
        /// Why there is no lease.
        reason: String,
    },
}

impl Store {
    /// Opens all that `judged` names, to read it once, and verifies every byte of it.
    pub fn open(&self, judged: &Judged) -> Result<Generation, StoreError> {
        let protection = Protection::Mode { reason: "not asked for".to_owned() };
        self.open_with(judged, Load::Map, &protection, &[])
    }

    /// As [`Store::open`]. Tables that are open and verified already are `kept` as they are.
    pub fn open_again(
        &self,
        judged: &Judged,
        kept: &[Arc<Layer>],
    ) -> Result<Generation, StoreError> {
        let protection = Protection::Mode { reason: "not asked for".to_owned() };
        self.open_with(judged, Load::Map, &protection, kept)
    }

    /// As [`Store::open`], to answer from it: copied, or mapped under leases where they can be had.
    /// Tables that are open and verified already are `kept` as they are.
    pub fn open_to_serve(
        &self,
        judged: &Judged,
        load: Load,
        kept: &[Arc<Layer>],
    ) -> Result<Generation, StoreError> {
        let protection = match load {
            Load::Map | Load::Lazy => Protection::Lease,
            Load::Copy => Protection::Copy,
        };
        self.open_with(judged, load, &protection, kept)
    }

    /// Opens one table with its subjects to build upon it: their bytes are those that the manifest
    /// names, and no more is checked.
    pub fn open_to_build(&self, line: &TableLine) -> Result<Layer, StoreError> {
        let protection = Protection::Mode { reason: "not asked for".to_owned() };
        self.open_layer(line, Load::Map, Holding { protection, leases: Vec::new() }, false)
    }

    fn open_with(
        &self,
        judged: &Judged,
        load: Load,
        protection: &Protection,
        kept: &[Arc<Layer>],
    ) -> Result<Generation, StoreError> {
        let mut layers: Vec<Arc<Layer>> = Vec::new();
        let mut all_kept = true;
        for (number, line) in judged.manifest.tables.iter().enumerate() {
            let held = kept.get(number).filter(|layer| all_kept && layer.line == *line);
            if let Some(layer) = held {
                layers.push(Arc::clone(layer));
                continue;
            }
            // What lies above was checked against another table than this.
            all_kept = false;
            let holding = Holding { protection: protection.clone(), leases: Vec::new() };
            let layer = Arc::new(self.open_layer(line, load, holding, true)?);
            self.check_overlay(&layers, &layer)?;
            layers.push(layer);
        }
        self.check_ranges(judged)?;
        Ok(Generation::new(judged.manifest.clone(), judged.hash, layers))
    }

    fn open_layer(
        &self,
        line: &TableLine,
        load: Load,
        mut holding: Holding,
        verify: bool,
    ) -> Result<Layer, StoreError> {
        Ok(Layer {
            table: self.open_table(line, load, &mut holding, verify)?,
            subjects: self.open_subjects(line, load, &mut holding, verify)?,
            line: line.clone(),
            protection: holding.protection,
            leases: holding.leases,
        })
    }

    /// Each table begins where the one beneath it ends, and the last ends with the ledger.
    fn check_ranges(&self, judged: &Judged) -> Result<(), StoreError> {
        let manifest = &judged.manifest;
        let mut end = 0;
        for (number, line) in manifest.tables.iter().enumerate() {
            if line.range.0 != end || line.range.1 < end {
                return Err(StoreError::Gap { table: number, from: line.range.0, expected: end });
            }
            end = line.range.1;
        }
        if end != manifest.ledger.0 {
            let table = manifest.tables.len();
            return Err(StoreError::Gap { table, from: manifest.ledger.0, expected: end });
        }
        Ok(())
    }

    /// What an overlay says of a token beneath may only shrink its trust.
    fn check_overlay(&self, beneath: &[Arc<Layer>], overlay: &Layer) -> Result<(), StoreError> {
        if beneath.is_empty() {
            return Ok(());
        }
        for (rank, record) in (0..).zip(overlay.table.records()) {
            let Some(before) = find_from_top(beneath, 0, &record.digest) else { continue };
            let below = &beneath[usize::from(before.layer)];
            if let Some(breach) = breach((below, before.rank), (overlay, rank)) {
                return Err(self.overlay_refused(&overlay.line, before.record.id, breach));
            }
        }
        Ok(())
    }

    fn overlay_refused(
        &self,
        line: &TableLine,
        id: [u8; crate::token::ID_BYTES],
        breach: Breach,
    ) -> StoreError {
        let path = self.tables().join(format!("{}.tbl", hex(&line.hash)));
        StoreError::Overlay { path, id: crate::token::TokenId::from_bytes(id), breach }
    }

    fn open_table(
        &self,
        line: &TableLine,
        load: Load,
        holding: &mut Holding,
        verify: bool,
    ) -> Result<Table, StoreError> {
        let path = self.tables().join(format!("{}.tbl", hex(&line.hash)));
        let file = self.open_file(&path)?;
        let failed = |source| StoreError::Table { path: path.clone(), source };
        holding.hold(&file, &path)?;
        let table = Table::load(&file, load).map_err(failed)?;
        check_identity(&path, table.bytes(), &line.hash, line.bytes)?;
        if verify {
            table.verify().map_err(failed)?;
        }
        let found = (table.records().len() as u64, table.range());
        if found != (line.records, line.range) {
            return Err(StoreError::File { path, fault: FileFault::NotAsInManifest });
        }
        Ok(table)
    }

    fn open_subjects(
        &self,
        line: &TableLine,
        load: Load,
        holding: &mut Holding,
        verify: bool,
    ) -> Result<Subjects, StoreError> {
        let path = self.tables().join(format!("{}.sub", hex(&line.subjects_hash)));
        let file = self.open_file(&path)?;
        let failed = |source| StoreError::Table { path: path.clone(), source };
        holding.hold(&file, &path)?;
        let subjects = Subjects::load(&file, load).map_err(failed)?;
        check_identity(&path, subjects.bytes(), &line.subjects_hash, line.subjects_bytes)?;
        if verify {
            subjects.verify().map_err(failed)?;
        }
        if subjects.len() as u64 != line.records {
            return Err(StoreError::File { path, fault: FileFault::NotAsInManifest });
        }
        Ok(subjects)
    }

    /// Opens a file that is to be mapped, if nobody else can cut or overwrite it.
    pub(super) fn open_file(&self, path: &Path) -> Result<File, StoreError> {
        let io = |source| StoreError::Io { action: "open", path: path.to_owned(), source };
        let refused = |fault| StoreError::File { path: path.to_owned(), fault };
        let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(no_follow.bits()).expect("flags of open(2)"))
            .open(path)
            .map_err(io)?;
        let facts = file.metadata().map_err(io)?;
        if !facts.is_file() {
            return Err(refused(FileFault::NotRegular));
        }
        if facts.mode() & 0o022 != 0 {
            return Err(refused(FileFault::Writable { mode: facts.mode() & 0o7777 }));
        }
        if facts.nlink() != 1 {
            return Err(refused(FileFault::Links { count: facts.nlink() }));
        }
        let folder_owner = fs::metadata(&self.root).map_err(io)?.uid();
        let own = rustix::process::geteuid().as_raw();
        if ![0, own, folder_owner].contains(&facts.uid()) {
            return Err(refused(FileFault::Owner { uid: facts.uid() }));
        }
        Ok(file)
    }
}

/// What is held while the files of a generation are opened.
struct Holding {
    /// As wanted, and then as it could be had.
    protection: Protection,
    leases: Vec<Lease>,
}

impl Holding {
    /// Takes a lease on `file`, if leases are wanted, before any byte of it is looked at.
    fn hold(&mut self, file: &File, path: &Path) -> Result<(), StoreError> {
        if self.protection != Protection::Lease {
            return Ok(());
        }
        match file.try_clone().and_then(Lease::take) {
            Ok(lease) => self.leases.push(lease),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(StoreError::File {
                    path: path.to_owned(),
                    fault: FileFault::BeingWritten,
                });
            }
            Err(err) => {
                let reason = format!("no lease on {}: {err}", path.display());
                self.protection = Protection::Mode { reason };
            }
        }
        Ok(())
    }
}

fn check_identity(
    path: &Path,
    bytes: &[u8],
    hash: &FileHash,
    expected: u64,
) -> Result<(), StoreError> {
    let fault = if bytes.len() as u64 != expected {
        FileFault::Length { expected, actual: bytes.len() as u64 }
    } else if blake3::hash(bytes).as_bytes() != hash {
        FileFault::Hash
    } else {
        return Ok(());
    };
    Err(StoreError::File { path: path.to_owned(), fault })
}
