//! What a client asks. VERIFY and VERIFY_TOKENS are read and written here, byte by byte, since
//! they are the verdict path; the other two go through `control.rs`.

use crate::claims::{AUDIENCE_BYTES_MAX, Requirement, SCOPE_BYTES_MAX, SCOPES_MAX};
use crate::token::{Digest, KIND_BYTES_MAX, TEXT_BYTES_MAX};

use super::bytes::{Reader, push_bytes, push_count, push_frame, push_optional};
use super::{
    CLAIMS_ROWS_MAX, COUNT_BYTES, DIGESTS_MAX, FRAME_BYTES_MAX, FrameError, TOKENS_MAX, control,
};

/// Numbers of the requests.
pub(super) const HELLO: u32 = 0;
const VERIFY: u32 = 1;
const VERIFY_TOKENS: u32 = 2;
pub(super) const STATUS: u32 = 3;

/// The client wants the claims of the tokens that are known.
const CLAIMS_WANTED: u32 = 1;

/// A requirement that asks for nothing, as nearly every frame has it: no kind, no audience, a count
/// of 0 scopes.
const NOTHING: [u8; 1 + 1 + COUNT_BYTES] = [0; 1 + 1 + COUNT_BYTES];

/// One request, where it stands in the receive buffer.
#[derive(Clone, Copy)]
pub enum Request<'a> {
    /// The first frame of a connection.
    Hello {
        /// What the client speaks. Not checked here: the daemon answers with a version error.
        version: u32,
    },
    /// Asks about digests.
    Verify(Verify<'a>),
    /// Asks about tokens, for callers that cannot hash.
    VerifyTokens(VerifyTokens<'a>),
    /// Asks how the daemon is.
    Status,
}

impl<'a> Request<'a> {
    /// Reads a body, all of it.
    pub fn decode(body: &'a [u8]) -> Result<Request<'a>, FrameError> {
        let mut reader = Reader::new(body);
        match reader.u32()? {
            HELLO => Ok(Request::Hello { version: control::decode_hello_request(body)? }),
            VERIFY => Verify::decode(reader).map(Request::Verify),
            VERIFY_TOKENS => VerifyTokens::decode(reader).map(Request::VerifyTokens),
            STATUS => reader.finish().map(|()| Request::Status),
            found => Err(FrameError::Tag { found }),
        }
    }
}

/// A question about digests.
#[derive(Clone, Copy)]
pub struct Verify<'a> {
    /// Whether the reply should carry claims. Then there are at most [`CLAIMS_ROWS_MAX`] digests.
    pub claims_wanted: bool,
    /// What the tokens must have.
    pub requirement: RequirementRef<'a>,
    /// At most [`DIGESTS_MAX`].
    pub digests: &'a [Digest],
}

impl<'a> Verify<'a> {
    #[inline]
    fn decode(mut reader: Reader<'a>) -> Result<Verify<'a>, FrameError> {
        let claims_wanted = read_flags(&mut reader)?;
        let requirement = RequirementRef::decode(&mut reader)?;
        let digests = reader.items()?;
        reader.finish()?;
        check_rows("digests", digests.len(), DIGESTS_MAX, claims_wanted)?;
        Ok(Verify { claims_wanted, requirement, digests })
    }
}

/// A question about tokens.
#[derive(Clone, Copy)]
pub struct VerifyTokens<'a> {
    /// Whether the reply should carry claims. Then there are at most [`CLAIMS_ROWS_MAX`] tokens.
    pub claims_wanted: bool,
    /// What the tokens must have.
    pub requirement: RequirementRef<'a>,
    /// At most [`TOKENS_MAX`].
    pub tokens: Tokens<'a>,
}

impl<'a> VerifyTokens<'a> {
    fn decode(mut reader: Reader<'a>) -> Result<VerifyTokens<'a>, FrameError> {
        let claims_wanted = read_flags(&mut reader)?;
        let requirement = RequirementRef::decode(&mut reader)?;
        let found = reader.u64()?;
        let count = count_of(found, &reader)?;
        check_rows("tokens", count, TOKENS_MAX, claims_wanted)?;
        let tokens = Tokens { left: reader, count };
        for _ in 0..count {
            reader.short("token", TEXT_BYTES_MAX)?;
        }
        reader.finish()?;
        Ok(VerifyTokens { claims_wanted, requirement, tokens })
    }
}

/// The tokens of a VERIFY_TOKENS, in order. All lengths were checked when it was decoded.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    left: Reader<'a>,
    count: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.count = self.count.checked_sub(1)?;
        Some(self.left.short("token", TEXT_BYTES_MAX).expect("checked when it was decoded"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Tokens<'_> {}

/// A requirement where it stands in a frame: UTF-8, and nothing longer than claims may be.
#[derive(Clone, Copy)]
pub struct RequirementRef<'a> {
    bytes: &'a [u8],
}

/// What a requirement asks for.
#[derive(Clone, Copy)]
pub struct RequirementParts<'a> {
    /// The kind that a token must be of.
    pub kind: Option<&'a [u8]>,
    /// The audience that it must be for.
    pub audience: Option<&'a [u8]>,
    scopes: Reader<'a>,
    scope_count: usize,
}

impl<'a> RequirementRef<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<RequirementRef<'a>, FrameError> {
        let whole = reader.left();
        let left = match whole.strip_prefix(&NOTHING) {
            Some(left) => left,
            None => RequirementParts::decode(whole)?.1,
        };
        *reader = Reader::new(left);
        Ok(RequirementRef { bytes: &whole[..whole.len() - left.len()] })
    }

    /// What is asked for.
    pub fn parts(&self) -> RequirementParts<'a> {
        RequirementParts::again(self.bytes)
    }

    /// Whether nothing is asked for.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.bytes == NOTHING
    }

    /// The requirement as it stands in the frame. Two with the same bytes ask for the same.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> RequirementParts<'a> {
    /// Reads a requirement from the front of `bytes`, and gives what is behind it.
    fn decode(bytes: &'a [u8]) -> Result<(RequirementParts<'a>, &'a [u8]), FrameError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.optional_text("kind", KIND_BYTES_MAX)?;
        let audience = reader.optional_text("audience", AUDIENCE_BYTES_MAX)?;
        let found = reader.u64()?;
        let scope_count = count_of(found, &reader)?;
        if scope_count > SCOPES_MAX {
            return Err(FrameError::TooMany { field: "scopes", found, count_max: SCOPES_MAX });
        }
        let scopes = reader;
        for _ in 0..scope_count {
            reader.text("scope", SCOPE_BYTES_MAX)?;
        }
        Ok((RequirementParts { kind, audience, scopes, scope_count }, reader.left()))
    }

    /// Reads [`RequirementRef::bytes`] again, which may have been copied out of their frame.
    pub fn again(bytes: &'a [u8]) -> RequirementParts<'a> {
        RequirementParts::decode(bytes).expect("checked when the frame was decoded").0
    }

    /// The scopes that a token must have, all of them.
    pub fn scopes(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut left = self.scopes;
        (0..self.scope_count)
            .map(move |_| left.text("scope", SCOPE_BYTES_MAX).expect("checked when it was decoded"))
    }
}

/// Appends a VERIFY to `out`, or says what in it no daemon would take and leaves `out` as it is.
pub fn push_verify(
    out: &mut Vec<u8>,
    claims_wanted: bool,
    requirement: &Requirement,
    digests: &[Digest],
) -> Result<(), FrameError> {
    check_requirement(requirement)?;
    check_rows("digests", digests.len(), DIGESTS_MAX, claims_wanted)?;
    push_frame(out, |out| {
        push_question(out, VERIFY, claims_wanted, requirement);
        push_count(out, digests.len());
        out.extend_from_slice(digests.as_flattened());
    });
    Ok(())
}

/// Appends a VERIFY_TOKENS to `out`, or says what in it no daemon would take and leaves `out` as
/// it is.
pub fn push_verify_tokens(
    out: &mut Vec<u8>,
    claims_wanted: bool,
    requirement: &Requirement,
    tokens: &[&[u8]],
) -> Result<(), FrameError> {
    check_requirement(requirement)?;
    check_rows("tokens", tokens.len(), TOKENS_MAX, claims_wanted)?;
    for token in tokens {
        check_len("token", token, TEXT_BYTES_MAX)?;
    }
    let question = 4 + 4 + requirement_bytes(requirement) + COUNT_BYTES;
    let found = tokens.iter().fold(question, |sum, token| sum + COUNT_BYTES + token.len());
    if found > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { found: found as u64 });
    }
    push_frame(out, |out| {
        push_question(out, VERIFY_TOKENS, claims_wanted, requirement);
        push_count(out, tokens.len());
        tokens.iter().for_each(|token| push_bytes(out, token));
    });
    Ok(())
}

fn push_question(out: &mut Vec<u8>, tag: u32, claims_wanted: bool, requirement: &Requirement) {
    let flags = if claims_wanted { CLAIMS_WANTED } else { 0 };
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    push_optional(out, requirement.kind.as_ref().map(String::as_bytes));
    push_optional(out, requirement.audience.as_ref().map(String::as_bytes));
    push_count(out, requirement.scopes.len());
    requirement.scopes.iter().for_each(|scope| push_bytes(out, scope.as_bytes()));
}

fn requirement_bytes(requirement: &Requirement) -> usize {
    let optional = |text: &Option<String>| 1 + text.as_ref().map_or(0, |t| COUNT_BYTES + t.len());
    let scopes: usize = requirement.scopes.iter().map(|scope| COUNT_BYTES + scope.len()).sum();
    optional(&requirement.kind) + optional(&requirement.audience) + COUNT_BYTES + scopes
}

fn read_flags(reader: &mut Reader<'_>) -> Result<bool, FrameError> {
    match reader.u32()? {
        0 => Ok(false),
        CLAIMS_WANTED => Ok(true),
        found => Err(FrameError::Flags { found }),
    }
}

/// `found` items with a length each: a number that cannot fit what is left is refused at once.
fn count_of(found: u64, reader: &Reader<'_>) -> Result<usize, FrameError> {
    match usize::try_from(found) {
        Ok(count) if count <= reader.left().len() / COUNT_BYTES => Ok(count),
        _ => Err(FrameError::Truncated),
    }
}

fn check_rows(
    field: &'static str,
    count: usize,
    count_max: usize,
    claims_wanted: bool,
) -> Result<(), FrameError> {
    let count_max = if claims_wanted { CLAIMS_ROWS_MAX } else { count_max };
    if count > count_max {
        return Err(FrameError::TooMany { field, found: count as u64, count_max });
    }
    Ok(())
}

fn check_requirement(requirement: &Requirement) -> Result<(), FrameError> {
    if let Some(kind) = &requirement.kind {
        check_len("kind", kind.as_bytes(), KIND_BYTES_MAX)?;
    }
    if let Some(audience) = &requirement.audience {
        check_len("audience", audience.as_bytes(), AUDIENCE_BYTES_MAX)?;
    }
    let found = requirement.scopes.len();
    if found > SCOPES_MAX {
        let found = found as u64;
        return Err(FrameError::TooMany { field: "scopes", found, count_max: SCOPES_MAX });
    }
    requirement
        .scopes
        .iter()
        .try_for_each(|scope| check_len("scope", scope.as_bytes(), SCOPE_BYTES_MAX))
}

fn check_len(field: &'static str, bytes: &[u8], bytes_max: usize) -> Result<(), FrameError> {
    if bytes.len() > bytes_max {
        return Err(FrameError::TooLong { field, found: bytes.len() as u64, bytes_max });
    }
    Ok(())
}
