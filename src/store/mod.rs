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

mod collect;
mod error;
mod generation;
mod home;
mod judge;
mod lease;
mod marks;
mod open;
mod publish;
mod revoking;
mod succession;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::manifest::{FileHash, hex};
use crate::note::NOTE_BYTES_MAX;

pub use error::{FileFault, StoreError};
pub use generation::{At, Generation, Layer, Located, Stack};
pub use home::{Home, load_policy, now_unix_s};
pub use judge::{Judged, Refusal, judge, judge_again, judge_previous};
pub use marks::{Mark, Marks};
pub use open::Protection;
pub use publish::{NewTables, Next, Part, Previous, Published, Publishing};
pub use revoking::{Current, REVOCATIONS, Revoking, judge_revocations};
pub(crate) use succession::changed_field;
pub use succession::{Breach, NAMED_MAX, STAYS_S, Succession, Violation};

/// A store that is read.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
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

    /// The folder of the ledger.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The manifest that is current.
    pub fn manifest_path(&self) -> PathBuf {
        self.root.join("manifest")
    }

    /// The bytes of the current manifest; `None` when there is none.
    pub fn read_manifest(&self) -> Result<Option<Vec<u8>>, StoreError> {
        read_note(&self.manifest_path())
    }

    /// The bytes of a manifest that was current once. A file that has other bytes than its name says
    /// is not that manifest: whoever follows manifests from one to the one before it would go round
    /// in circles.
    pub fn read_manifest_of(&self, hash: &FileHash) -> Result<Option<Vec<u8>>, StoreError> {
        let note = read_note(&self.manifests().join(hex(hash)))?;
        Ok(note.filter(|note| blake3::hash(note).as_bytes() == hash))
    }
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
