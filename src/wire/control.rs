//! The messages off the verdict path: HELLO, STATUS, ERROR, and the claims of a reply.
//!
//! They go through bincode 2.0.1, as tuples, since the whole protocol is bincode's format. This
//! is the only file that knows it: docs/protocol.md says why the version is pinned and how to do
//! without. A body that does not end where bincode stopped is refused.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{BorrowDecode, Encode};

use crate::token::{Domain, DomainKey, ForeignAlgorithm, Prefix};

use super::bytes::{push_count, push_frame};
use super::{
    CLAIMS_ROWS_MAX, DIGESTS_MAX, ErrorCode, FOREIGN_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MIN,
    FrameError, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, TOKENS_MAX, reply, request,
};

type Config = Configuration<LittleEndian, Fixint, Limit<FRAME_BYTES_MAX>>;

const CONFIG: Config = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<FRAME_BYTES_MAX>();

/// Who the daemon is and what it takes: the answer to HELLO.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// How this deployment hashes tokens. `None` while the daemon has no generation to learn it
    /// from; the prefix in the frame is empty then.
    pub domain: Option<Domain>,
    /// The epoch of the generation that it serves.
    pub epoch: u64,
    /// Its number. 0 and 0: there is none.
    pub generation: u64,
    /// What it takes in a frame.
    pub limits: Limits,
}

/// What a daemon takes in a frame. None is zero, and the frame is at least [`FRAME_BYTES_MIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body.
    pub frame_bytes_max: u32,
    /// Most digests in a VERIFY.
    pub digests_max: u32,
    /// Most tokens in a VERIFY_TOKENS.
    pub tokens_max: u32,
    /// Most rows of a frame that asks for claims.
    pub claims_rows_max: u32,
}

impl Limits {
    /// Those of this build.
    #[expect(clippy::cast_possible_truncation, reason = "none is above FRAME_BYTES_MAX, a u32")]
    pub const OURS: Limits = Limits {
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        digests_max: DIGESTS_MAX as u32,
        tokens_max: TOKENS_MAX as u32,
        claims_rows_max: CLAIMS_ROWS_MAX as u32,
    };

    fn are_usable(&self) -> bool {
        let counts = [self.digests_max, self.tokens_max, self.claims_rows_max];
        self.frame_bytes_max as usize >= FRAME_BYTES_MIN && !counts.contains(&0)
    }
}

/// What a token may do and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The sort of token.
    pub kind: String,
    /// Who may accept it; empty = nobody was named.
    pub audience: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Who it is for; empty where the daemon has no subjects, or this one was erased.
    pub subject: String,
    /// The label that it was issued with.
    pub meta: String,
}

/// Appends the HELLO of a client to `out`.
pub fn push_hello_request(out: &mut Vec<u8>) {
    push(out, (request::HELLO, PROTOCOL_VERSION));
}

/// Appends a STATUS request to `out`.
pub fn push_status_request(out: &mut Vec<u8>) {
    push(out, (request::STATUS,));
}

/// Appends the daemon's HELLO to `out`.
pub fn push_hello(out: &mut Vec<u8>, hello: &Hello) {
    let domain = hello.domain.as_ref();
    let key = domain.map_or([0; 32], |domain| domain.key.0);
    let prefix = domain.map_or("", |domain| domain.prefix.as_str());
    let foreign: Vec<&str> =
        domain.and_then(|domain| domain.foreign).into_iter().map(ForeignAlgorithm::name).collect();
    let Limits { frame_bytes_max, digests_max, tokens_max, claims_rows_max } = hello.limits;
    let versioned = (reply::HELLO, PROTOCOL_VERSION);
    let served = (hello.epoch, hello.generation);
    let limits = (frame_bytes_max, digests_max, tokens_max, claims_rows_max);
    push(out, (versioned, key, prefix, foreign, served, limits));
}

/// Appends a STATUS reply to `out`. One that is too long for a frame becomes an ERROR.
pub fn push_status(out: &mut Vec<u8>, json: &str) {
    if json.len() > FRAME_BYTES_MAX - 16 {
        return push_error(out, ErrorCode::Internal, "the status is too long for a frame");
    }
    push(out, (reply::STATUS, json));
}

/// Appends an ERROR to `out`. A message above [`MESSAGE_BYTES_MAX`] is cut.
pub fn push_error(out: &mut Vec<u8>, code: ErrorCode, message: &str) {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let message = &message[..end];
    push(out, (reply::ERROR, code as u32, message));
}

/// The end of a VERDICTS body. It is there in every reply, mostly as a count of 0.
pub(super) fn push_claims(out: &mut Vec<u8>, claims: &[Option<Claims>]) {
    if claims.is_empty() {
        // What nearly every reply has: bincode's empty list is a count of 0.
        return push_count(out, 0);
    }
    let list: Vec<_> = claims.iter().map(|claims| claims.as_ref().map(Claims::as_tuple)).collect();
    append(out, list);
}

/// The version in a HELLO request. The first eight bytes of a HELLO are the same in all versions,
/// so one of another version is read no further: the answer to it is a version error.
pub(super) fn decode_hello_request(body: &[u8]) -> Result<u32, FrameError> {
    let (_, version): (u32, u32) = decode_start(body)?.0;
    if version == PROTOCOL_VERSION {
        decode::<(u32, u32)>(body)?;
    }
    Ok(version)
}

/// Tag and version, domain key, prefix, foreign algorithms, epoch and generation, limits.
type HelloTuple<'a> =
    ((u32, u32), [u8; 32], &'a str, Vec<&'a str>, (u64, u64), (u32, u32, u32, u32));

pub(super) fn decode_hello(body: &[u8]) -> Result<Hello, FrameError> {
    let (_, found): (u32, u32) = decode_start(body)?.0;
    if found != PROTOCOL_VERSION {
        return Err(FrameError::Version { found });
    }
    let (_, key, prefix, foreign, served, limits): HelloTuple<'_> = decode(body)?;
    let (epoch, generation) = served;
    let (frame_bytes_max, digests_max, tokens_max, claims_rows_max) = limits;
    let limits = Limits { frame_bytes_max, digests_max, tokens_max, claims_rows_max };
    if !limits.are_usable() {
        return Err(FrameError::Limits);
    }
    Ok(Hello { domain: read_domain(key, prefix, &foreign)?, epoch, generation, limits })
}

/// An empty prefix stands for a domain that is not known yet; then nothing else of it may be
/// there.
fn read_domain(
    key: [u8; 32],
    prefix: &str,
    foreign: &[&str],
) -> Result<Option<Domain>, FrameError> {
    if prefix.is_empty() {
        let nothing = key == [0; 32] && foreign.is_empty();
        return if nothing { Ok(None) } else { Err(FrameError::Domain) };
    }
    if foreign.len() > FOREIGN_MAX {
        let found = foreign.len() as u64;
        return Err(FrameError::TooMany { field: "algorithms", found, count_max: FOREIGN_MAX });
    }
    let prefix = Prefix::new(prefix.as_bytes()).map_err(|_| FrameError::Domain)?;
    // Any algorithm that this build lacks makes it call an imported token unknown, so a client
    // that cannot hash them all may not ask about any.
    let foreign = match foreign {
        [] => None,
        [name] => Some(ForeignAlgorithm::from_name(name).ok_or(FrameError::Domain)?),
        _ => return Err(FrameError::Domain),
    };
    Ok(Some(Domain { key: DomainKey(key), prefix, foreign }))
}

pub(super) fn decode_status(body: &[u8]) -> Result<&str, FrameError> {
    let (_, json): (u32, &str) = decode(body)?;
    Ok(json)
}

pub(super) fn decode_error(body: &[u8]) -> Result<(ErrorCode, &str), FrameError> {
    let (_, found, message): (u32, u32, &str) = decode(body)?;
    if message.len() > MESSAGE_BYTES_MAX {
        let found = message.len() as u64;
        return Err(FrameError::TooLong { field: "message", found, bytes_max: MESSAGE_BYTES_MAX });
    }
    let code = ErrorCode::from_number(found).ok_or(FrameError::ErrorCode { found })?;
    Ok((code, message))
}

/// The end of a VERDICTS body, all of it.
pub(super) fn decode_claims(bytes: &[u8]) -> Result<Vec<Option<Claims>>, FrameError> {
    let list: Vec<Option<ClaimsTuple<'_>>> = decode(bytes)?;
    let found = list.len() as u64;
    if list.len() > CLAIMS_ROWS_MAX {
        return Err(FrameError::TooMany { field: "claims", found, count_max: CLAIMS_ROWS_MAX });
    }
    Ok(list.into_iter().map(|claims| claims.map(Claims::from_tuple)).collect())
}

/// Kind, audience, scopes, subject, meta.
type ClaimsTuple<'a> = (&'a str, &'a str, Vec<&'a str>, &'a str, &'a str);

impl Claims {
    fn as_tuple(&self) -> ClaimsTuple<'_> {
        let scopes = self.scopes.iter().map(String::as_str).collect();
        (&self.kind, &self.audience, scopes, &self.subject, &self.meta)
    }

    fn from_tuple((kind, audience, scopes, subject, meta): ClaimsTuple<'_>) -> Claims {
        Claims {
            kind: kind.to_owned(),
            audience: audience.to_owned(),
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            subject: subject.to_owned(),
            meta: meta.to_owned(),
        }
    }
}

fn push(out: &mut Vec<u8>, message: impl Encode) {
    push_frame(out, |out| append(out, message));
}

fn append(out: &mut Vec<u8>, message: impl Encode) {
    bincode::encode_into_std_write(message, out, CONFIG).expect("memory takes all that is written");
}

fn decode<'a, T: BorrowDecode<'a, ()>>(body: &'a [u8]) -> Result<T, FrameError> {
    let (message, consumed) = decode_start(body)?;
    match body.len() - consumed {
        0 => Ok(message),
        bytes => Err(FrameError::Trailing { bytes }),
    }
}

/// A message at the start of `body`, and how many bytes it took.
fn decode_start<'a, T: BorrowDecode<'a, ()>>(body: &'a [u8]) -> Result<(T, usize), FrameError> {
    bincode::borrow_decode_from_slice(body, CONFIG).map_err(|_| FrameError::Control)
}
