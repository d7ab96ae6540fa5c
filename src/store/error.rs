//! Why a store cannot be read or written.

use std::io;
use std::path::PathBuf;

use super::judge::Refusal;
use super::succession::Breach;
use crate::durable::DurableError;
use crate::ledger::LedgerError;
use crate::policy::{PolicyError, Role};
use crate::signers::SignerError;
use crate::table::TableError;
use crate::token::TokenId;

/// Each variant is one thing for an operator to do, and names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
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
    /// A table or subjects file is not what it should be.
    #[error("{}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TableError,
    },
    /// A file may not be mapped.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// The manifest is refused.
    #[error("{}: manifest refused", path.display())]
    Refused {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: Refusal,
    },
    /// The policy file is refused.
    #[error("{}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
    /// A signer's file is refused.
    #[error("{}", path.display())]
    Signer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignerError,
    },
    /// There is no private key that the policy trusts now in a role.
    #[error(
        "no private key in {} is trusted with role `{role}` now: the policy names the public halves", path.display()
    )]
    NoSigner {
        /// The role.
        role: Role,
        /// The folder of private keys.
        path: PathBuf,
    },
    /// The folder is not a home.
    #[error("{} is not a home: it has no policy.toml (make one with `adamant init`)", path.display())]
    NoHome {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is a home already.
    #[error("{} is a home already", path.display())]
    HomeExists {
        /// The folder.
        path: PathBuf,
    },
    /// The store has no manifest.
    #[error("{} has no manifest: nothing was published to it, or it is not a store", path.display())]
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// Tables do not cover the ledger without a gap.
    #[error(
        "table {table} of the manifest begins at event {from} of the ledger, should at {expected}"
    )]
    Gap {
        /// Its place in the manifest, from 0; past the last, the ledger's end is meant.
        table: usize,
        /// Where it begins.
        from: u64,
        /// Where it should.
        expected: u64,
    },
    /// An overlay gives a token beneath it other claims, or more trust.
    #[error("{}: token {} {breach}", path.display(), id.map_or_else(|| "without an id".to_owned(), |id| id.to_string()))]
    Overlay {
        /// The overlay.
        path: PathBuf,
        /// The token.
        id: Option<TokenId>,
        /// What was done to it.
        breach: Breach,
    },
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The marks are not readable.
    #[error("{}: line {line} is no mark; if the file cannot be restored, remove it to accept any generation of the policy's epoch", path.display())]
    Marks {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// Somebody else published meanwhile.
    #[error("lost a race: another generation was published meanwhile; run the same command again")]
    LostRace,
    /// The name of a file that is about to be published belongs to other bytes.
    #[error("{} has not the bytes that its name says: remove it and build again", path.display())]
    DamagedInPlace {
        /// The file.
        path: PathBuf,
    },
}

/// Why a file may not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// A link, a device, a folder.
    #[error("not a regular file")]
    NotRegular,
    /// Its group or others may write it.
    #[error("mode {mode:04o} lets others write it: make it 0440")]
    Writable {
        /// The mode found.
        mode: u32,
    },
    /// Somebody has it open for writing.
    #[error("somebody has it open for writing: copy files to another name, and rename them")]
    BeingWritten,
    /// It has another name, under which it may be written.
    #[error("it has {count} names: copy the store instead of hard-linking it")]
    Links {
        /// How many.
        count: u64,
    },
    /// Its owner is neither root, nor this process, nor the owner of the store.
    #[error("owned by uid {uid}, who is neither root, nor this user, nor the owner of the store")]
    Owner {
        /// The owner.
        uid: u32,
    },
    /// It was cut or added to.
    #[error("should be {expected} bytes, is {actual}: fetch it again")]
    Length {
        /// As the manifest says.
        expected: u64,
        /// As found.
        actual: u64,
    },
    /// Its bytes are not those that the manifest names.
    #[error("its BLAKE3 is not the one that the manifest names: fetch it again")]
    Hash,
    /// Counts in the file and in the manifest differ.
    #[error("records or range are not those that the manifest says")]
    NotAsInManifest,
}
