//! The checkpoint: a signed note of origin, size and root (C2SP `tlog-checkpoint`).
//!
//! ```text
//! acme/adamant/ledger
//! 1207
//! <base64 of the root>
//!
//! — acme/adamant/ledger <base64 of key id and Ed25519 signature>
//! ```
//!
//! Witnesses add their cosignatures as further lines (C2SP `tlog-cosignature`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::tree::Hash;
use crate::note::{Note, NoteError, sign};
use crate::signers::{Signer, VerifierKey};

/// What follows the deployment's origin in the first line.
pub const SUFFIX: &str = "/ledger";

/// Size and root of a ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// First line: the deployment's origin and `/ledger`.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of their tree.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// Signs it.
    pub fn sign(&self, signers: &[&Signer]) -> String {
        sign(&self.to_text(), signers)
    }

    /// Reads the text of a checkpoint, and nothing but the three lines of one.
    pub fn parse(text: &str) -> Option<Checkpoint> {
        let mut lines = text.lines();
        let origin = lines.next()?.to_owned();
        let size = lines.next()?.parse().ok()?;
        let root = BASE64.decode(lines.next()?).ok()?.try_into().ok()?;
        let checkpoint = Checkpoint { origin, size, root };
        // Leading zeros, a plus sign, more lines: another spelling is another checkpoint.
        (checkpoint.to_text() == text).then_some(checkpoint)
    }

    /// Reads a note that one of `trusted` signed.
    pub fn open<'k>(
        note: &[u8],
        trusted: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Checkpoint, CheckpointError> {
        let note = Note::parse(note)?;
        let (text, _) = note.verify(trusted)?;
        Checkpoint::parse(text).ok_or(CheckpointError::Text)
    }

    /// Reads a note, whoever signed it.
    pub fn open_unverified(note: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let note = Note::parse(note)?;
        Checkpoint::parse(note.unverified_text()).ok_or(CheckpointError::Text)
    }
}

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not a note, forged, or signed by nobody who is trusted.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A note of another kind.
    #[error("not a checkpoint: origin, size and root, a line each")]
    Text,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::tree::EMPTY_ROOT;

    #[test]
    fn the_text_is_that_of_the_specification() {
        let checkpoint =
            Checkpoint { origin: "acme/adamant/ledger".to_owned(), size: 0, root: EMPTY_ROOT };
        let text = "acme/adamant/ledger\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert_eq!(checkpoint.to_text(), text);
        assert_eq!(Checkpoint::parse(text), Some(checkpoint));
        for (from, to) in [("\n0\n", "\n00\n"), ("\n0\n", "\n+0\n"), ("U=\n", "U=\nmore\n")] {
            assert_eq!(Checkpoint::parse(&text.replacen(from, to, 1)), None, "{from:?} {to:?}");
        }
    }

    #[test]
    fn only_a_trusted_signature_opens_it() {
        let (ours, theirs) =
            (Signer::generate("a/ledger").unwrap(), Signer::generate("b").unwrap());
        let checkpoint = Checkpoint { origin: "a/ledger".to_owned(), size: 3, root: [7; 32] };
        let note = checkpoint.sign(&[&ours]);
        let opened = Checkpoint::open(note.as_bytes(), [&ours.verifier_key()]);
        assert_eq!(opened, Ok(checkpoint));
        assert!(Checkpoint::open(note.as_bytes(), [&theirs.verifier_key()]).is_err());
    }
}
