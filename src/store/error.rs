//! Why a store cannot be read or written.

use std::io;
use std::path::PathBuf;

use super::judge::Refusal;
use crate::durable::DurableError;
use crate::policy::PolicyError;
use crate::signers::SignerError;
use crate::table::TableError;

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
    /// There is no private key that the policy trusts now to sign manifests.
    #[error(
        "no private key in {} is trusted with role `build` now: the policy names the public halves", path.display()
    )]
    NoSigner {
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
    /// Written by a later version.
    #[error("the manifest names {found} overlays, which this build does not read: upgrade")]
    Overlays {
        /// How many.
        found: usize,
    },
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
