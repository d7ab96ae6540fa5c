//! The ledger: a transparency log of every issue, revoke and rotation.
//!
//! It is C2SP `tlog-tiles` on disk, with a signed checkpoint, so that verifiers and witnesses that
//! exist work on it. What a reader can rely on:
//!
//! - An entry never changes and never goes: the root in a checkpoint covers all entries, and a
//!   later checkpoint is proven to continue an earlier one.
//! - A checkpoint is durable before anybody is told of the events that it covers.
//! - Reading needs no key and no lock: files are replaced by name, and a size says how far to look.
//!
//! Read `event.rs` for what an entry says, `tree.rs` for the proofs, `tiles.rs` for the files,
//! `append.rs` for the writing, `index.rs` for how a token's events are found, `openings.rs` for
//! what stays at home, `proof.rs` for proofs that travel, `audit.rs` for the laws.

mod append;
mod audit;
mod checkpoint;
mod event;
mod index;
mod leaf;
mod openings;
mod proof;
mod tiles;
pub mod tree;

use std::io;
use std::path::{Path, PathBuf};

use crate::durable::DurableError;
use crate::note::NOTE_BYTES_MAX;

pub use append::{Recovered, Writer, remove_partials};
pub use audit::{Finding, check_tree};
pub use checkpoint::{Checkpoint, CheckpointError, SUFFIX};
pub use event::{Event, EventError, Issued, LABEL_BYTES_MAX, Origin, What, commitment};
pub use index::{Index, Key};
pub use openings::{Opening, Openings, SEGMENT_EVENTS, segment_of};
pub use proof::{PROOF_BYTES_MAX, Proof, ProofError, Proven};
pub use tiles::{
    Bundle, ENTRY_BYTES_MAX, Kind, TILE_WIDTH, Tile, Tiles, complete_root, hashes_at, tiles_between,
};

/// Name of the checkpoint in the ledger's folder.
pub const CHECKPOINT: &str = "checkpoint";

/// The bytes of the checkpoint in a ledger's folder; `None` when there is no ledger.
pub fn read_checkpoint(folder: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    let path = folder.join(CHECKPOINT);
    match tiles::read_file(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(LedgerError::io("read", &path, err)),
        Ok(bytes) if bytes.len() > NOTE_BYTES_MAX => {
            Err(LedgerError::damaged(&path, "as short as a checkpoint is"))
        }
        Ok(bytes) => Ok(Some(bytes)),
    }
}

/// The event of one entry of `tiles`.
pub fn read_event(tiles: &Tiles, index: u64) -> Result<Event, LedgerError> {
    if index >= tiles.size() {
        return Err(LedgerError::Event { index, source: EventError::Field { name: "previous" } });
    }
    let bundle = tiles.bundle_of(index)?;
    let entry = bundle.entry(index).expect("the bundle that holds it");
    Event::parse(entry).map_err(|source| LedgerError::Event { index, source })
}

/// Why a ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something could not be written durably.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A file is not what it should be.
    #[error("{}: not {what}: fetch the ledger again, or restore it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The checkpoint is refused.
    #[error("{}: checkpoint refused", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CheckpointError,
    },
    /// Entries and checkpoint do not belong together.
    #[error(
        "{}: the tree of its {size} entries has another root than the checkpoint says", path.display()
    )]
    Root {
        /// The ledger's folder.
        path: PathBuf,
        /// How many entries the checkpoint names.
        size: u64,
    },
    /// Something here has seen more of this ledger than there is.
    #[error(
        "{}: {size} entries, but {seen_by} has seen {seen}: this is a restored backup, or another ledger; nothing is appended", path.display()
    )]
    Shorter {
        /// The ledger's folder.
        path: PathBuf,
        /// Its entries.
        size: u64,
        /// Who has seen more.
        seen_by: &'static str,
        /// How many.
        seen: u64,
    },
    /// Something here has seen another ledger.
    #[error(
        "{}: {seen_by} has seen {seen} entries with another root: this is another ledger, or it was rewritten; nothing is appended", path.display()
    )]
    Forked {
        /// The ledger's folder.
        path: PathBuf,
        /// Who has seen another.
        seen_by: &'static str,
        /// How many entries.
        seen: u64,
    },
    /// An entry is no event.
    #[error("entry {index} of the ledger")]
    Event {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        source: EventError,
    },
    /// The index says what the ledger does not.
    #[error("the index names entry {index} for a token that it is not about: remove {} and run the command again", path.display())]
    Index {
        /// The entry.
        index: u64,
        /// The folder of the index.
        path: PathBuf,
    },
}

impl LedgerError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> LedgerError {
        LedgerError::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, what: &'static str) -> LedgerError {
        LedgerError::Damaged { path: path.to_owned(), what }
    }
}
