//! What a token is stored and asked about as: `BLAKE3 keyed_hash(domain key, token bytes)`.
//!
//! The domain key stands in every table and is given to every local caller. It separates
//! deployments (the same text is another digest elsewhere) and is **not a secret**: the secret is
//! the token's own 178 bits.
//!
//! A *foreign* token was made by another system, which stored, say, its SHA-256. Its digest is
//! `keyed_hash(domain key, algorithm name || 0x00 || stored bytes)`, so that a column of such
//! hashes is imported as it is, and nobody's token changes.

use std::fmt;

use sha2::Digest as _;

use super::lanes::{LANES_MIN, Lanes};
use super::{BODY_CHARS, KIND_BYTES_MAX, Parts, Prefix, TEXT_BYTES_MAX, TokenError, strip_scheme};

/// What stands for a token everywhere but in its owner's hands.
pub type Digest = [u8; 32];

/// 32 random bytes made once for a deployment. Public, and frozen: another key is other digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DomainKey(pub [u8; 32]);

impl DomainKey {
    /// The digest of one of our own tokens.
    pub fn digest(&self, token: &[u8]) -> Digest {
        *blake3::keyed_hash(&self.0, token).as_bytes()
    }

    /// The digest of a foreign token of which `stored` was kept.
    pub fn foreign_digest(&self, algorithm: ForeignAlgorithm, stored: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(algorithm.name().as_bytes());
        hasher.update(&[0]);
        hasher.update(stored);
        *hasher.finalize().as_bytes()
    }
}

impl fmt::Debug for DomainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How another system hashed the tokens that were imported from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForeignAlgorithm {
    /// SHA-256 of the token's bytes, without salt (FIPS 180-4).
    Sha256,
}

impl ForeignAlgorithm {
    /// The name in table headers, frames and digests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<ForeignAlgorithm> {
        (name == "sha256").then_some(Self::Sha256)
    }

    fn of_text(self, text: &[u8]) -> [u8; 32] {
        match self {
            Self::Sha256 => sha2::Sha256::digest(text).into(),
        }
    }
}

/// A presented text that is no nonsense.
enum Presented<'a> {
    /// A token of this deployment, well-formed and without a scheme.
    Ours(&'a [u8]),
    /// The digest of a text that may be a foreign token.
    Foreign(Digest),
}

/// All that is needed to turn a token into the digest that this deployment knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The key of every digest.
    pub key: DomainKey,
    /// What our own tokens begin with.
    pub prefix: Prefix,
    /// The algorithm of imported tokens, if any were. The formats have room for several; a
    /// second one makes [`Domain::digest`] return candidates.
    pub foreign: Option<ForeignAlgorithm>,
}

impl Domain {
    /// The digest to ask about for a presented text, which may carry the scheme of RFC 8959.
    ///
    /// Text that begins like ours and has our length is ours, and then it must be well-formed.
    /// Anything else is foreign, and malformed where nothing foreign was imported.
    pub fn digest(&self, text: &[u8]) -> Result<Digest, TokenError> {
        self.read(text).map(|presented| match presented {
            Presented::Ours(text) => self.key.digest(text),
            Presented::Foreign(digest) => digest,
        })
    }

    /// As [`Domain::digest`] for each of `texts`, appended to `digests`. The place there of each
    /// that is malformed is appended to `malformed`. Several are hashed at once, where the
    /// processor has vectors for it.
    pub fn digest_many<'a>(
        &self,
        texts: impl ExactSizeIterator<Item = &'a [u8]>,
        digests: &mut Vec<Digest>,
        malformed: &mut Vec<usize>,
    ) {
        let mut lanes = (texts.len() >= LANES_MIN).then(|| Lanes::new(&self.key));
        for text in texts {
            let place = digests.len();
            digests.push(Digest::default());
            match (self.read(text), &mut lanes) {
                (Ok(Presented::Ours(text)), Some(lanes)) => lanes.push(text, place, digests),
                (Ok(Presented::Ours(text)), None) => digests[place] = self.key.digest(text),
                (Ok(Presented::Foreign(digest)), _) => digests[place] = digest,
                (Err(_), _) => malformed.push(place),
            }
        }
        if let Some(lanes) = lanes {
            lanes.finish(digests);
        }
    }

    fn read<'a>(&self, text: &'a [u8]) -> Result<Presented<'a>, TokenError> {
        let text = strip_scheme(text);
        if self.is_ours(text) {
            Parts::parse(text)?;
            return Ok(Presented::Ours(text));
        }
        let Some(algorithm) = self.foreign else {
            // Says more than `Foreign` when the text is nearly one of ours.
            return Err(Parts::parse(text).err().unwrap_or(TokenError::Foreign));
        };
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Length { found: text.len() });
        }
        let digest = self.key.foreign_digest(algorithm, &algorithm.of_text(text));
        Ok(Presented::Foreign(digest))
    }

    fn is_ours(&self, text: &[u8]) -> bool {
        let prefix = self.prefix.as_bytes();
        let shortest = prefix.len() + 1 + 1 + 1 + BODY_CHARS;
        let lengths = shortest..shortest + KIND_BYTES_MAX;
        lengths.contains(&text.len()) && text.starts_with(prefix) && text[prefix.len()] == b'_'
    }
}
