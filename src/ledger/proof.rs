//! A proof that stands alone: C2SP `tlog-proof`.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of the entry>
//! index 1206
//! <base64 of a hash, from the leaf's sibling up, one a line>
//!
//! <the checkpoint, with its signatures>
//! ```
//!
//! The entry travels in the `extra` line. Nothing vouches for that line, and nothing needs to: the
//! entry's own hash is what the rest proves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::event::{Event, EventError};
use super::tiles::Tiles;
use super::tree::{Hash, inclusion_proof, leaf_hash, verify_inclusion};
use super::{ENTRY_BYTES_MAX, LedgerError};
use crate::signers::VerifierKey;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// The longest proof file: entry and checkpoint, and a hash for each of 64 levels.
pub const PROOF_BYTES_MAX: usize = 4 * ENTRY_BYTES_MAX;
/// A tree of 2^64 leaves has no more levels.
const HASHES_MAX: usize = 64;

/// An entry, where it is, and the checkpoint that covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The entry.
    pub entry: Vec<u8>,
    /// Its index.
    pub index: u64,
    /// From its sibling up.
    pub hashes: Vec<Hash>,
    /// The checkpoint's note.
    pub checkpoint: Vec<u8>,
}

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The event.
    pub event: Event,
    /// Its index.
    pub index: u64,
    /// The tree that has it.
    pub checkpoint: Checkpoint,
}

impl Proof {
    /// Proves entry `index` of `tiles`, which `checkpoint` covers.
    pub fn of(index: u64, tiles: &mut Tiles, checkpoint: Vec<u8>) -> Result<Proof, LedgerError> {
        let size = tiles.size();
        let hashes = inclusion_proof(index, size, tiles)?;
        Ok(Proof { entry: tiles.entry(index)?, index, hashes, checkpoint })
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text =
            format!("{FIRST_LINE}\nextra {}\nindex {}\n", BASE64.encode(&self.entry), self.index);
        for hash in &self.hashes {
            text.push_str(&BASE64.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Result<Proof, ProofError> {
        let wrong = |line| ProofError::Line { line };
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(wrong("of this length"));
        }
        let at = bytes.windows(2).position(|two| two == b"\n\n").ok_or(wrong("that is empty"))?;
        let head = std::str::from_utf8(&bytes[..at]).map_err(|_| wrong("of text"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(wrong(FIRST_LINE));
        }
        let entry = lines.next().and_then(|line| BASE64.decode(line.strip_prefix("extra ")?).ok());
        let index = lines.next().and_then(|line| line.strip_prefix("index ")?.parse::<u64>().ok());
        let hashes = lines.map(|line| BASE64.decode(line).ok()?.try_into().ok());
        let hashes: Option<Vec<Hash>> = hashes.collect();
        let proof = Proof {
            entry: entry.ok_or(wrong("extra"))?,
            index: index.ok_or(wrong("index"))?,
            hashes: hashes.filter(|h| h.len() <= HASHES_MAX).ok_or(wrong("of a hash"))?,
            checkpoint: bytes[at + 2..].to_vec(),
        };
        // Padding, signs, leading zeros: one proof, one text.
        if proof.to_bytes() == bytes { Ok(proof) } else { Err(wrong("as this build writes it")) }
    }

    /// Checks it against the signers that are trusted with checkpoints.
    pub fn verify<'k>(
        &self,
        trusted: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Proven, ProofError> {
        self.shows(Checkpoint::open(&self.checkpoint, trusted)?)
    }

    /// Checks that it holds together, whoever signed.
    pub fn verify_unpinned(&self) -> Result<Proven, ProofError> {
        self.shows(Checkpoint::open_unverified(&self.checkpoint)?)
    }

    fn shows(&self, checkpoint: Checkpoint) -> Result<Proven, ProofError> {
        let leaf = leaf_hash(&self.entry);
        let Checkpoint { size, root, .. } = &checkpoint;
        if !verify_inclusion(&leaf, self.index, *size, &self.hashes, root) {
            return Err(ProofError::NotIncluded { index: self.index, size: *size });
        }
        Ok(Proven { event: Event::parse(&self.entry)?, index: self.index, checkpoint })
    }
}

/// Why a proof shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not a proof file.
    #[error("not a proof: there is no line {line}, or another one in its place")]
    Line {
        /// The line.
        line: &'static str,
    },
    /// The checkpoint is refused.
    #[error("its checkpoint is refused")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead to the root.
    #[error("the entry is not number {index} of the {size} that the checkpoint covers")]
    NotIncluded {
        /// The index it claims.
        index: u64,
        /// The tree.
        size: u64,
    },
    /// The entry is no event.
    #[error("its entry is no event")]
    Event(#[from] EventError),
}
