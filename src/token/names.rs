//! The two short names in a token: its prefix and its kind.

use std::fmt;

/// The longest prefix.
pub const PREFIX_BYTES_MAX: usize = 10;
/// The shortest prefix.
const PREFIX_BYTES_MIN: usize = 2;
/// The longest kind.
pub const KIND_BYTES_MAX: usize = 8;

/// The deployment's name, first in each of its tokens: 2 to 10 of `[a-z][a-z0-9]*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prefix(Short<PREFIX_BYTES_MAX>);

/// The sort of a token (`live`, `test`): 1 to 8 of `[a-z0-9]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(Short<KIND_BYTES_MAX>);

impl Prefix {
    /// Takes `text` if it is a prefix.
    pub fn new(text: &[u8]) -> Result<Prefix, NameError> {
        if Prefix::is(text) { Ok(Prefix(Short::of(text))) } else { Err(NameError::Prefix) }
    }

    pub(super) fn is(text: &[u8]) -> bool {
        let begins_well = text.first().is_some_and(u8::is_ascii_lowercase);
        let lengths = PREFIX_BYTES_MIN..=PREFIX_BYTES_MAX;
        begins_well && lengths.contains(&text.len()) && are_plain(text)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Kind {
    /// Takes `text` if it is a kind.
    pub fn new(text: &[u8]) -> Result<Kind, NameError> {
        if Kind::is(text) { Ok(Kind(Short::of(text))) } else { Err(NameError::Kind) }
    }

    pub(super) fn is(text: &[u8]) -> bool {
        (1..=KIND_BYTES_MAX).contains(&text.len()) && are_plain(text)
    }

    /// The kind as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Up to `N` of `[a-z0-9]`, kept in place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

fn are_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
}

impl<const N: usize> Short<N> {
    /// Of a text that was checked.
    fn of(text: &[u8]) -> Short<N> {
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text);
        Short { bytes, len: u8::try_from(text.len()).expect("at most N bytes") }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("checked to be ASCII")
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<$name, NameError> {
                $name::new(text.as_bytes())
            }
        }
    )*};
}

shown_as_text!(Prefix, Kind);

/// A text that is no prefix, or no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Not a prefix.
    Prefix,
    /// Not a kind.
    Kind,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => f.write_str(
                "a prefix is 2 to 10 characters, a lower-case letter and then lower-case letters and digits",
            ),
            Self::Kind => f.write_str("a kind is 1 to 8 lower-case letters and digits"),
        }
    }
}

impl std::error::Error for NameError {}
