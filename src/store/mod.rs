//! The folder that travels: a manifest, and the tables that it names.
//!
//! ```text
//! store/
//!   manifest               signed note; the only name that changes, by rename
//!   manifests/<blake3>     every manifest that was ever current
//!   tables/<blake3>.tbl    immutable, named by content; <blake3>.sub beside it
//! ```
//!
//! A [`Store`] reads; a [`Home`] also issues and publishes. What a reader can rely on: whatever
//! `manifest` names is complete and durable, because it took its name last.
//!
//! A file is mapped only after it was looked at: a regular file with one name, of an owner that
//! may be trusted, that nobody else may write. What is then verified is the bytes in that map.

mod error;
mod home;
mod judge;
mod lease;
mod marks;
mod publish;
mod succession;

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::manifest::{FileHash, Manifest, TableLine, hex};
use crate::note::NOTE_BYTES_MAX;
use crate::table::{Load, Subjects, Table};

use lease::Lease;

pub use error::{FileFault, StoreError};
pub use home::{Home, load_policy, now_unix_s};
pub use judge::{Judged, Refusal, judge, judge_again, judge_previous};
pub use marks::{Mark, Marks};
pub use publish::{NewTables, Previous, Published};
pub(crate) use succession::changed_field;
pub use succession::{Breach, NAMED_MAX, STAYS_S, Succession, Violation};

/// A store that is read.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// A generation that is open and verified.
#[derive(Debug)]
pub struct Generation {
    /// The manifest.
    pub manifest: Manifest,
    /// Its identity.
    pub hash: FileHash,
    /// All tokens.
    pub base: Table,
    /// Who they are for.
    pub subjects: Subjects,
    /// What keeps its bytes as they were verified.
    pub protection: Protection,
    leases: Vec<Lease>,
}

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

impl Generation {
    /// Whether somebody waits to write to one of the files. They are whole until the generation is
    /// dropped, or until the kernel's patience ends: 45 s by default.
    pub fn is_contested(&self) -> bool {
        self.leases.iter().any(Lease::is_contested)
    }

    /// The same generation in memory of this process alone.
    pub fn to_private(&self) -> std::io::Result<Generation> {
        Ok(Generation {
            manifest: self.manifest.clone(),
            hash: self.hash,
            base: self.base.to_private()?,
            subjects: self.subjects.to_private()?,
            protection: Protection::Copy,
            leases: Vec::new(),
        })
    }
}

impl Store {
    /// The store in the folder `root`.
    pub fn at(root: impl Into<PathBuf>) -> Store {
        Store { root: root.into() }
    }

    /// The store that a manifest file is of: the folder it is in, or for one of `manifests/` the
    /// folder above.
    pub fn of_manifest(file: &Path) -> Store {
        let folder = file.parent().unwrap_or(Path::new("."));
        let inside = folder.file_name().is_some_and(|name| name == "manifests");
        let root = if inside { folder.parent().unwrap_or(Path::new("..")) } else { folder };
        Store::at(if root.as_os_str().is_empty() { Path::new(".") } else { root })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the tables.
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// The folder of all manifests.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// The manifest that is current.
    pub fn manifest_path(&self) -> PathBuf {
        self.root.join("manifest")
    }

    /// The bytes of the current manifest; `None` when there is none.
    pub fn read_manifest(&self) -> Result<Option<Vec<u8>>, StoreError> {
        read_note(&self.manifest_path())
    }

    /// The bytes of a manifest that was current once.
    pub fn read_manifest_of(&self, hash: &FileHash) -> Result<Option<Vec<u8>>, StoreError> {
        read_note(&self.manifests().join(hex(hash)))
    }

    /// Opens all that `judged` names, to read it once, and verifies every byte of it.
    pub fn open(&self, judged: &Judged) -> Result<Generation, StoreError> {
        let protection = Protection::Mode { reason: "not asked for".to_owned() };
        self.open_with(judged, Load::Map, Holding { protection, leases: Vec::new() })
    }

    /// As [`Store::open`], to answer from it: copied, or mapped under leases where they can be had.
    pub fn open_to_serve(&self, judged: &Judged, load: Load) -> Result<Generation, StoreError> {
        let protection = match load {
            Load::Map | Load::Lazy => Protection::Lease,
            Load::Copy => Protection::Copy,
        };
        self.open_with(judged, load, Holding { protection, leases: Vec::new() })
    }

    fn open_with(
        &self,
        judged: &Judged,
        load: Load,
        mut holding: Holding,
    ) -> Result<Generation, StoreError> {
        let [line] = &judged.manifest.tables[..] else {
            return Err(StoreError::Overlays { found: judged.manifest.tables.len() - 1 });
        };
        Ok(Generation {
            base: self.open_table(line, load, &mut holding)?,
            subjects: self.open_subjects(line, load, &mut holding)?,
            manifest: judged.manifest.clone(),
            hash: judged.hash,
            protection: holding.protection,
            leases: holding.leases,
        })
    }

    fn open_table(
        &self,
        line: &TableLine,
        load: Load,
        holding: &mut Holding,
    ) -> Result<Table, StoreError> {
        let path = self.tables().join(format!("{}.tbl", hex(&line.hash)));
        let file = self.open_file(&path)?;
        let failed = |source| StoreError::Table { path: path.clone(), source };
        holding.hold(&file, &path)?;
        let table = Table::load(&file, load).map_err(failed)?;
        check_identity(&path, table.bytes(), &line.hash, line.bytes)?;
        table.verify().map_err(failed)?;
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
    ) -> Result<Subjects, StoreError> {
        let path = self.tables().join(format!("{}.sub", hex(&line.subjects_hash)));
        let file = self.open_file(&path)?;
        let failed = |source| StoreError::Table { path: path.clone(), source };
        holding.hold(&file, &path)?;
        let subjects = Subjects::load(&file, load).map_err(failed)?;
        check_identity(&path, subjects.bytes(), &line.subjects_hash, line.subjects_bytes)?;
        subjects.verify().map_err(failed)?;
        if subjects.len() as u64 != line.records {
            return Err(StoreError::File { path, fault: FileFault::NotAsInManifest });
        }
        Ok(subjects)
    }

    /// Opens a file that is to be mapped, if nobody else can cut or overwrite it.
    fn open_file(&self, path: &Path) -> Result<File, StoreError> {
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

/// The bytes of the note in a file; `None` when there is no file. Longer ones than a note may be
/// are cut where that shows.
pub fn read_note(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let io = |source| StoreError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io)?,
    };
    let mut bytes = Vec::new();
    // One more than is allowed, so that a larger note is seen to be larger.
    file.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(Some(bytes))
}
