//! What a token may do: kind, audience, scopes.
//!
//! The three together are a *grant*. Many tokens share one, so a table keeps each grant once, as
//! canonical bytes, and records name it by number:
//!
//! | bytes | field |
//! |------:|-------|
//! | 1 | length of the kind, 1 to 8 |
//! | .. | kind, `[a-z0-9]` |
//! | 2 | length of the audience, 0 to 255, little-endian; 0 = none |
//! | .. | audience, visible ASCII |
//! | 2 | number of scopes, 0 to 64, little-endian |
//! | 2 + .. each | length of the scope, 1 to 128, little-endian, then the scope |
//!
//! Scopes are strictly ascending by their bytes, so one set of claims has one encoding. Their
//! characters are those of RFC 6749, 3.3 (`scope-token`).
//!
//! A [`Requirement`] is what a service asks for. What is not asked for is not checked; what is
//! asked for must be there: a token without an audience fails a check that names one.

use std::fmt;

use crate::token::{KIND_BYTES_MAX, Kind};

/// The longest audience.
pub const AUDIENCE_BYTES_MAX: usize = 255;
/// The longest scope.
pub const SCOPE_BYTES_MAX: usize = 128;
/// Most scopes of one token, and of one requirement.
pub const SCOPES_MAX: usize = 64;
/// The longest subject (who the token is for). Long enough for a URL or a distinguished name.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// The longest meta text. It is a label, not a place to store a document.
pub const META_BYTES_MAX: usize = 1024;
/// The longest grant, in canonical bytes.
pub const GRANT_BYTES_MAX: usize =
    1 + KIND_BYTES_MAX + 2 + AUDIENCE_BYTES_MAX + 2 + SCOPES_MAX * (2 + SCOPE_BYTES_MAX);

/// Kind, audience and scopes of a token, checked and in canonical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The sort of token.
    pub kind: Kind,
    /// Who may accept it; empty = nobody was named.
    pub audience: String,
    /// What it may do, strictly ascending.
    pub scopes: Vec<String>,
}

impl Grant {
    /// Checks the parts and puts the scopes in order. The same scope twice is one scope.
    pub fn new(kind: Kind, audience: &str, scopes: Vec<String>) -> Result<Grant, ClaimsError> {
        check_audience(audience.as_bytes())?;
        scopes.iter().try_for_each(|scope| check_scope(scope.as_bytes()))?;
        let mut scopes = scopes;
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.len() > SCOPES_MAX {
            return Err(ClaimsError::ScopeCount { found: scopes.len() });
        }
        Ok(Grant { kind, audience: audience.to_owned(), scopes })
    }

    /// Appends the canonical bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = self.kind.as_str().as_bytes();
        out.push(u8::try_from(kind.len()).expect("a kind has at most 8 bytes"));
        out.extend_from_slice(kind);
        push_short(out, self.audience.as_bytes());
        out.extend_from_slice(&short_len(self.scopes.len()));
        self.scopes.iter().for_each(|scope| push_short(out, scope.as_bytes()));
    }

    /// Reads canonical bytes, all of them, and refuses any other encoding.
    pub fn decode(bytes: &[u8]) -> Result<Grant, ClaimsError> {
        let view = GrantView::new(bytes).ok_or(ClaimsError::NotCanonical)?;
        let text = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| ClaimsError::NotCanonical)?;
            Ok(text.to_owned())
        };
        let kind = Kind::new(view.kind).map_err(|_| ClaimsError::NotCanonical)?;
        let scopes: Vec<String> = view.scopes().map(text).collect::<Result<_, _>>()?;
        let grant = Grant::new(kind, &text(view.audience)?, scopes)?;
        let mut again = Vec::with_capacity(bytes.len());
        grant.encode(&mut again);
        if again == bytes { Ok(grant) } else { Err(ClaimsError::NotCanonical) }
    }
}

/// A grant where it stands in a table: read without a copy, on the verdict path.
#[derive(Clone, Copy)]
pub struct GrantView<'a> {
    kind: &'a [u8],
    audience: &'a [u8],
    scopes: &'a [u8],
}

impl<'a> GrantView<'a> {
    /// Cuts canonical bytes. `None` when the lengths in them do not fit them.
    pub fn new(bytes: &'a [u8]) -> Option<GrantView<'a>> {
        let (&kind_len, rest) = bytes.split_first()?;
        let (kind, rest) = rest.split_at_checked(usize::from(kind_len))?;
        let (audience, rest) = take_short(rest)?;
        let (count, scopes) = rest.split_first_chunk()?;
        let mut left = scopes;
        for _ in 0..u16::from_le_bytes(*count) {
            left = take_short(left)?.1;
        }
        left.is_empty().then_some(GrantView { kind, audience, scopes })
    }

    /// The kind, as bytes.
    pub fn kind(&self) -> &'a [u8] {
        self.kind
    }

    /// The audience, as bytes; empty = nobody was named.
    pub fn audience(&self) -> &'a [u8] {
        self.audience
    }

    /// Whether the grant has all that is asked for; if not, the first thing that it lacks, in the
    /// order of the verdicts.
    pub fn admits<'b>(
        &self,
        kind: Option<&[u8]>,
        audience: Option<&[u8]>,
        scopes: impl Iterator<Item = &'b [u8]>,
    ) -> Result<(), Mismatch> {
        if kind.is_some_and(|kind| kind != self.kind) {
            return Err(Mismatch::Kind);
        }
        if audience.is_some_and(|audience| audience != self.audience || audience.is_empty()) {
            return Err(Mismatch::Audience);
        }
        let mut scopes = scopes;
        if scopes.all(|wanted| self.scopes().any(|scope| scope == wanted)) {
            Ok(())
        } else {
            Err(Mismatch::Scope)
        }
    }

    /// The scopes, as bytes, ascending.
    pub fn scopes(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut left = self.scopes;
        std::iter::from_fn(move || {
            let (scope, rest) = take_short(left)?;
            left = rest;
            Some(scope)
        })
    }
}

/// What a grant lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is of another kind.
    Kind,
    /// It is for another audience, or for none.
    Audience,
    /// A scope that was asked for is missing.
    Scope,
}

/// What a service asks of a token, beyond being trusted now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The kind it must be of.
    pub kind: Option<String>,
    /// The audience it must be for.
    pub audience: Option<String>,
    /// The scopes it must have, all of them.
    pub scopes: Vec<String>,
}

impl Requirement {
    /// Any token that is trusted now.
    pub fn any() -> Requirement {
        Requirement::default()
    }

    /// Asks for `kind`.
    pub fn kind(mut self, kind: impl Into<String>) -> Requirement {
        self.kind = Some(kind.into());
        self
    }

    /// Asks for `audience`.
    pub fn audience(mut self, audience: impl Into<String>) -> Requirement {
        self.audience = Some(audience.into());
        self
    }

    /// Asks for `scope` too.
    pub fn scope(mut self, scope: impl Into<String>) -> Requirement {
        self.scopes.push(scope.into());
        self
    }

    /// Whether nothing is asked for.
    pub fn is_any(&self) -> bool {
        self.kind.is_none() && self.audience.is_none() && self.scopes.is_empty()
    }
}

/// Checks a subject: up to 255 bytes, no control characters.
pub fn check_subject(text: &str) -> Result<(), ClaimsError> {
    check_text("subject", text, SUBJECT_BYTES_MAX)
}

/// Checks a meta text: up to 1,024 bytes, no control characters.
pub fn check_meta(text: &str) -> Result<(), ClaimsError> {
    check_text("meta", text, META_BYTES_MAX)
}

fn check_text(field: &'static str, text: &str, bytes_max: usize) -> Result<(), ClaimsError> {
    if text.len() > bytes_max {
        return Err(ClaimsError::TooLong { field, found: text.len(), bytes_max });
    }
    if text.chars().any(char::is_control) {
        return Err(ClaimsError::Characters { field });
    }
    Ok(())
}

fn check_audience(bytes: &[u8]) -> Result<(), ClaimsError> {
    let field = "audience";
    if bytes.len() > AUDIENCE_BYTES_MAX {
        let (found, bytes_max) = (bytes.len(), AUDIENCE_BYTES_MAX);
        return Err(ClaimsError::TooLong { field, found, bytes_max });
    }
    if bytes.iter().all(u8::is_ascii_graphic) {
        Ok(())
    } else {
        Err(ClaimsError::Characters { field })
    }
}

fn check_scope(bytes: &[u8]) -> Result<(), ClaimsError> {
    let field = "scope";
    if bytes.len() > SCOPE_BYTES_MAX {
        let (found, bytes_max) = (bytes.len(), SCOPE_BYTES_MAX);
        return Err(ClaimsError::TooLong { field, found, bytes_max });
    }
    let allowed = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    if bytes.is_empty() || !bytes.iter().all(allowed) {
        return Err(ClaimsError::Characters { field });
    }
    Ok(())
}

fn short_len(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("every part of a grant is bounded").to_le_bytes()
}

fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&short_len(bytes.len()));
    out.extend_from_slice(bytes);
}

fn take_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

/// Why claims are refused. Each names the field, and none of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimsError {
    /// Longer than a token may carry.
    TooLong {
        /// The field.
        field: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Characters that the field may not hold.
    Characters {
        /// The field.
        field: &'static str,
    },
    /// More scopes than a token may carry.
    ScopeCount {
        /// Scopes found.
        found: usize,
    },
    /// The bytes are not what this crate would write for any grant.
    NotCanonical,
}

impl fmt::Display for ClaimsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { field, found, bytes_max } => {
                write!(f, "{field} has {found} bytes, at most {bytes_max} are allowed")
            }
            Self::Characters { field: "scope" } => {
                f.write_str("a scope is visible ASCII without space, quote and backslash")
            }
            Self::Characters { field: "audience" } => {
                f.write_str("an audience is visible ASCII without spaces")
            }
            Self::Characters { field } => write!(f, "{field} holds a control character"),
            Self::ScopeCount { found } => {
                write!(f, "{found} scopes, at most {SCOPES_MAX} are allowed")
            }
            Self::NotCanonical => f.write_str("not the canonical bytes of a grant"),
        }
    }
}

impl std::error::Error for ClaimsError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn grant(audience: &str, scopes: &[&str]) -> Grant {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Grant::new("live".parse().unwrap(), audience, scopes).unwrap()
    }

    fn bytes(grant: &Grant) -> Vec<u8> {
        let mut out = Vec::new();
        grant.encode(&mut out);
        out
    }

    #[test]
    fn canonical_bytes_are_those_of_the_table() {
        let written = bytes(&grant("api", &["b:write", "a"]));
        assert_eq!(written, b"\x04live\x03\x00api\x02\x00\x01\x00a\x07\x00b:write");
        assert_eq!(Grant::decode(&written), Ok(grant("api", &["a", "b:write", "a"])));
    }

    #[test]
    fn every_other_encoding_is_refused() {
        let whole = bytes(&grant("api", &["a", "b"]));
        for len in 0..whole.len() {
            assert!(Grant::decode(&whole[..len]).is_err(), "cut to {len} bytes");
        }
        for wrong in [
            &b"\x04live\x00\x00\x02\x00\x01\x00b\x01\x00a"[..],
            b"\x04live\x00\x00\x02\x00\x01\x00a\x01\x00a",
            b"\x04live\x00\x00\x01\x00\x00\x00",
            b"\x04liVe\x00\x00\x00\x00",
            b"\x00\x00\x00\x00\x00",
            b"\x04live\x01\x00 \x00\x00",
            b"\x04live\x00\x00\x00\x00\x00",
        ] {
            assert!(Grant::decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_first_thing_lacking_is_named() {
        let bytes = bytes(&grant("api", &["read", "write"]));
        let view = GrantView::new(&bytes).unwrap();
        let ask = |kind: Option<&str>, audience: Option<&str>, scopes: &[&str]| {
            let scopes = scopes.iter().map(|scope| scope.as_bytes());
            view.admits(kind.map(str::as_bytes), audience.map(str::as_bytes), scopes)
        };
        assert_eq!(ask(None, None, &[]), Ok(()));
        assert_eq!(ask(Some("live"), Some("api"), &["write", "read"]), Ok(()));
        assert_eq!(ask(Some("test"), Some("x"), &["x"]), Err(Mismatch::Kind));
        assert_eq!(ask(Some("live"), Some("x"), &["x"]), Err(Mismatch::Audience));
        assert_eq!(ask(None, None, &["read", "reads"]), Err(Mismatch::Scope));
    }

    /// A service that names an audience must not be satisfied by a token that names none.
    #[test]
    fn no_audience_never_satisfies_a_requirement() {
        let bytes = bytes(&grant("", &[]));
        let view = GrantView::new(&bytes).unwrap();
        assert_eq!(view.admits(None, Some(b"api"), [].into_iter()), Err(Mismatch::Audience));
        assert_eq!(view.admits(None, Some(b""), [].into_iter()), Err(Mismatch::Audience));
        assert_eq!(view.admits(None, None, [].into_iter()), Ok(()));
    }

    #[test]
    fn parts_that_are_too_long_or_of_other_characters_are_named() {
        let make = |audience: &str, scopes: Vec<String>| {
            Grant::new("live".parse().unwrap(), audience, scopes).unwrap_err().to_string()
        };
        assert_eq!(
            make(&"a".repeat(256), vec![]),
            "audience has 256 bytes, at most 255 are allowed"
        );
        assert_eq!(make("a b", vec![]), "an audience is visible ASCII without spaces");
        assert_eq!(make("", vec!["s".repeat(129)]), "scope has 129 bytes, at most 128 are allowed");
        let many = (0..65).map(|i| i.to_string()).collect();
        assert_eq!(make("", many), "65 scopes, at most 64 are allowed");
        for scope in ["", "a b", "a\"b", "a\\b", "é"] {
            assert!(make("", vec![scope.to_owned()]).contains("a scope is visible ASCII"));
        }
        assert!(check_subject("a\nb").is_err());
        assert!(check_subject(&"é".repeat(128)).is_err());
        assert!(check_meta(&"m".repeat(1024)).is_ok());
    }
}
