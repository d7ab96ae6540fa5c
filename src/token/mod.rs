//! The token: mint, parse, redact, digest.
//!
//! ```text
//! acme_live_1 3vK9Qz0aTnB7xW Yh2...30...8dR 0mLq17        (spaces for reading only)
//! prefix _ kind _ version '1' + id 14 + secret 30 + check 6, base62 0-9A-Za-z
//! ```
//!
//! - *prefix* names the deployment (2 to 10 of `[a-z][a-z0-9]*`), *kind* the sort of token (1 to 8
//!   of `[a-z0-9]`).
//! - *id* is public: 83 bits, the name of the token in every log.
//! - *secret* is 178 bits from the operating system.
//! - *check* is the CRC-32 (ISO-HDLC) of all bytes before it, base62, most significant digit
//!   first. A typing error is found without a look-up, and a scanner needs no key.
//! - `secret-token:` before it (RFC 8959) is accepted and taken off.
//!
//! [`Token`] cannot be printed by accident: `Debug` shows the redacted form, `Display` does not
//! exist, and the memory is wiped on drop. What leaves a process is the [`Digest`].
//!
//! Read next: `digest.rs` for what the daemon is asked about, [`crate::claims`] for what a token
//! may do.

mod base62;
mod digest;
mod lanes;
#[cfg(feature = "store")]
mod mint;
mod names;

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroize;

pub use digest::{Digest, Domain, DomainKey, ForeignAlgorithm};
pub use names::{KIND_BYTES_MAX, Kind, NameError, PREFIX_BYTES_MAX, Prefix};

/// The only token version that this build mints and reads.
pub const VERSION: u8 = b'1';
/// Characters of an id.
pub const ID_CHARS: usize = 14;
/// Bytes of an id in binary: 62^14 is below 2^84.
pub const ID_BYTES: usize = 11;
/// Characters of a secret.
pub const SECRET_CHARS: usize = 30;
/// Characters of a check: 62^6 is above 2^32.
pub const CHECK_CHARS: usize = 6;
/// Characters after the second underscore.
pub const BODY_CHARS: usize = 1 + ID_CHARS + SECRET_CHARS + CHECK_CHARS;
/// The longest token.
pub const TOKEN_BYTES_MAX: usize = PREFIX_BYTES_MAX + 1 + KIND_BYTES_MAX + 1 + BODY_CHARS;
/// The longest text that is looked at as a token, foreign ones included. Far above any token in
/// use, and small enough to hash at once.
pub const TEXT_BYTES_MAX: usize = 4096;
/// The scheme of RFC 8959, with its colon.
pub const URI_SCHEME: &[u8] = b"secret-token:";

const _: () = {
    assert!(BODY_CHARS == 51);
    assert!(TOKEN_BYTES_MAX == 71);
    assert!(base62::ID_LIMIT < 1 << (8 * ID_BYTES));
    assert!(CHECK_CHARS == 6 && 62_u64.pow(6) > u32::MAX as u64);
};

/// A whole, well-formed token. Wiped on drop, and never printed.
pub struct Token {
    bytes: [u8; TOKEN_BYTES_MAX],
    len: u8,
    body_at: u8,
}

impl Token {
    /// Reads a token, with or without `secret-token:` before it.
    pub fn parse(text: &[u8]) -> Result<Token, TokenError> {
        let parts = Parts::parse(strip_scheme(text))?;
        Ok(Token::from_parts(&parts))
    }

    fn from_parts(parts: &Parts<'_>) -> Token {
        let text = parts.text;
        let mut bytes = [0; TOKEN_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        let narrow = |n: usize| u8::try_from(n).expect("a token has at most 71 bytes");
        Token { bytes, len: narrow(text.len()), body_at: narrow(text.len() - BODY_CHARS) }
    }

    /// The token itself. Hand it to its owner and to nobody else.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a parsed token is ASCII")
    }

    /// The public name of the token.
    pub fn id(&self) -> TokenId {
        let at = usize::from(self.body_at) + 1;
        TokenId::from_chars(&self.bytes[at..at + ID_CHARS]).expect("a parsed token has an id")
    }

    /// What is asked about and stored in place of the token.
    pub fn digest(&self, key: &DomainKey) -> Digest {
        key.digest(self.as_bytes())
    }

    /// The only form that logs and errors may show: `acme_live_1<id>...`.
    pub fn redacted(&self) -> String {
        let shown = usize::from(self.body_at) + 1 + ID_CHARS;
        format!("{}...", &self.expose()[..shown])
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// A well-formed token where it stands, cut into its parts. Borrowed, so that a batch of tokens
/// is looked at without a copy.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    text: &'a [u8],
    prefix: &'a [u8],
    kind: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Cuts `text`, which is a token and nothing else (no scheme, no white space).
    pub fn parse(text: &'a [u8]) -> Result<Parts<'a>, TokenError> {
        let mut fields = text.splitn(3, |&byte| byte == b'_');
        let (Some(prefix), Some(kind), Some(body)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(TokenError::Shape);
        };
        if !Prefix::is(prefix) || !Kind::is(kind) {
            return Err(TokenError::Shape);
        }
        if body.len() != BODY_CHARS {
            return Err(TokenError::Length { found: text.len() });
        }
        if body[0] != VERSION {
            return Err(TokenError::Version);
        }
        if !base62::are_digits(body) {
            return Err(TokenError::Shape);
        }
        let (checked, check) = text.split_last_chunk().expect("a body is longer than its check");
        if base62::decode_check(check) != u64::from(crc32fast::hash(checked)) {
            return Err(TokenError::Check);
        }
        Ok(Parts { text, prefix, kind })
    }

    /// The deployment that the token says it is of.
    pub fn prefix(&self) -> Prefix {
        Prefix::new(self.prefix).expect("checked when it was cut")
    }

    /// The kind that the token says it is of.
    pub fn kind(&self) -> Kind {
        Kind::new(self.kind).expect("checked when it was cut")
    }

    /// The public name of the token.
    pub fn id(&self) -> TokenId {
        let at = self.text.len() - BODY_CHARS + 1;
        TokenId::from_chars(&self.text[at..at + ID_CHARS]).expect("all are base62 digits")
    }
}

/// `text` without the scheme of RFC 8959. Schemes are compared without case (RFC 3986, 3.1).
pub fn strip_scheme(text: &[u8]) -> &[u8] {
    match text.split_at_checked(URI_SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(URI_SCHEME) => rest,
        _ => text,
    }
}

/// The public name of a token: 14 base62 digits, kept as the number that they write, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TokenId([u8; ID_BYTES]);

impl TokenId {
    /// The id as it stands in records and frames. `None` when no 14 digits write that number.
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Option<TokenId> {
        (base62::number(&bytes) < base62::ID_LIMIT).then_some(TokenId(bytes))
    }

    /// The id that a foreign token gets: its digest as a big-endian number, mod 62^14.
    pub fn of_foreign(digest: &Digest) -> TokenId {
        TokenId(base62::id_bytes(base62::remainder(digest)))
    }

    /// The id as it is written: 14 base62 digits.
    pub fn chars(&self) -> [u8; ID_CHARS] {
        base62::encode_id(&self.0)
    }

    /// Reads 14 base62 digits.
    pub fn from_chars(chars: &[u8]) -> Option<TokenId> {
        let chars: &[u8; ID_CHARS] = chars.try_into().ok()?;
        base62::decode_id(chars).map(TokenId)
    }

    /// The id as it stands in records and frames.
    pub fn bytes(&self) -> [u8; ID_BYTES] {
        self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.chars()).expect("base62 digits are ASCII"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<TokenId, TokenError> {
        TokenId::from_chars(text.as_bytes()).ok_or(TokenError::Shape)
    }
}

/// Why a text is not a token. No variant holds any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not of the form `prefix_kind_1...`.
    Shape,
    /// It has the wrong number of characters, so some were lost or added.
    Length {
        /// Bytes found.
        found: usize,
    },
    /// A token of a later version: upgrade.
    Version,
    /// The check is not that of the text: a character was mistyped.
    Check,
    /// It is neither a token of this deployment nor of a kind that was imported.
    Foreign,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("not of the form prefix_kind_1 and 50 base62 characters"),
            Self::Length { found } => write!(f, "{found} bytes, which is no token's length"),
            Self::Version => write!(f, "not a version {} token", char::from(VERSION)),
            Self::Check => f.write_str("the check does not match, so a character is wrong"),
            Self::Foreign => f.write_str("not a token of this deployment"),
        }
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
