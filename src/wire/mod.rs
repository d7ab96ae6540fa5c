//! The frames between a service and the daemon, version 1. No I/O.
//!
//! docs/protocol.md gives every byte and is the specification; its worked examples are tests
//! here. A frame is a `u32` length and a body, and a body is what bincode 2 writes with fixed
//! little-endian integers.
//!
//! What a reader can rely on:
//!
//! - Decoding takes any bytes, never panics, and allocates nothing that a count in a frame asks
//!   for before the bytes behind that count were seen.
//! - One message has one encoding. What decodes is, encoded again, the same bytes.
//! - Requests are borrowed from the frame, so that a batch is answered without a copy.
//!
//! Read next: `request.rs` and `reply.rs` for the frames of the verdict path, decoded by hand;
//! `control.rs` for all others, the only file that knows bincode.

mod bytes;
mod control;
mod error;
mod reply;
mod request;

use crate::claims::{
    AUDIENCE_BYTES_MAX, META_BYTES_MAX, SCOPE_BYTES_MAX, SCOPES_MAX, SUBJECT_BYTES_MAX,
};
use crate::token::{KIND_BYTES_MAX, TEXT_BYTES_MAX};

pub use control::{
    Claims, Hello, Limits, push_error, push_hello, push_hello_request, push_status,
    push_status_request,
};
pub use error::{ErrorCode, FrameError};
pub use reply::{
    EncodedRow, Record, Reply, Row, Rows, Verdicts, VerdictsHead, push_verdicts, verdict_number,
};
pub use request::{
    Request, RequirementParts, RequirementRef, Tokens, Verify, VerifyTokens, push_verify,
    push_verify_tokens,
};

/// The only version of the protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// Bytes before a body: its length.
pub const PREFIX_BYTES: usize = 4;
/// The longest body, in both directions. Room for the largest batch, and little enough that a
/// daemon can hold one for each connection.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// A daemon that takes less than this in a body is not version 1. One token with the longest
/// requirement fits, so a client never has to say that a question is too long for this daemon.
pub const FRAME_BYTES_MIN: usize = 1 << 16;
/// Most digests in one VERIFY. A batch of this size keeps the core about half a millisecond, so
/// that other connections are not kept waiting for longer.
pub const DIGESTS_MAX: usize = 16_384;
/// Most tokens in one VERIFY_TOKENS. Fewer than digests, since the daemon hashes them.
pub const TOKENS_MAX: usize = 4_096;
/// Most rows of a frame that asks for claims: with the longest claims that a token may have, the
/// reply still fits a frame.
pub const CLAIMS_ROWS_MAX: usize = 64;
/// Bytes of one row of a VERDICTS reply.
pub const ROW_BYTES: usize = 24;
/// The longest message of an ERROR. It is one line for a person.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Most foreign algorithms that a HELLO may name, as in a table's header.
pub const FOREIGN_MAX: usize = 4;

/// Bytes of a count or a length inside a body.
pub const COUNT_BYTES: usize = 8;
/// Bytes of a VERDICTS body before its first row.
const VERDICTS_HEAD_BYTES: usize = 4 + 4 + 4 * 8 + COUNT_BYTES;
/// The longest list of scopes, in a requirement and in claims.
const SCOPES_BYTES_MAX: usize = COUNT_BYTES + SCOPES_MAX * (COUNT_BYTES + SCOPE_BYTES_MAX);
/// The longest requirement.
const REQUIREMENT_BYTES_MAX: usize =
    (1 + COUNT_BYTES + KIND_BYTES_MAX) + (1 + COUNT_BYTES + AUDIENCE_BYTES_MAX) + SCOPES_BYTES_MAX;
/// The longest claims of one row.
pub const CLAIMS_BYTES_MAX: usize = 1
    + (COUNT_BYTES + KIND_BYTES_MAX)
    + (COUNT_BYTES + AUDIENCE_BYTES_MAX)
    + SCOPES_BYTES_MAX
    + (COUNT_BYTES + SUBJECT_BYTES_MAX)
    + (COUNT_BYTES + META_BYTES_MAX);
/// A VERIFY or VERIFY_TOKENS body without its digests or tokens, at most.
pub const QUESTION_BYTES_MAX: usize = 4 + 4 + REQUIREMENT_BYTES_MAX + COUNT_BYTES;

// Whatever a client may ask fits a frame, and so does whatever the daemon then has to answer.
const _: () = {
    assert!(FRAME_BYTES_MAX <= u32::MAX as usize);
    assert!(QUESTION_BYTES_MAX + DIGESTS_MAX * 32 <= FRAME_BYTES_MAX);
    assert!(VERDICTS_HEAD_BYTES + DIGESTS_MAX * ROW_BYTES + COUNT_BYTES <= FRAME_BYTES_MAX);
    assert!(
        VERDICTS_HEAD_BYTES + CLAIMS_ROWS_MAX * (ROW_BYTES + CLAIMS_BYTES_MAX) + COUNT_BYTES
            <= FRAME_BYTES_MAX
    );
    assert!(QUESTION_BYTES_MAX + COUNT_BYTES + TEXT_BYTES_MAX <= FRAME_BYTES_MIN);
    assert!(FRAME_BYTES_MIN <= FRAME_BYTES_MAX);
    assert!(TOKENS_MAX <= DIGESTS_MAX);
    assert!(CLAIMS_ROWS_MAX <= TOKENS_MAX);
};

/// Cuts the first frame off `buffer`: its body, and how many bytes of `buffer` it took.
///
/// `None` means that more bytes are needed. A length that no frame may have is refused as soon as
/// its four bytes are there, so that nobody waits for, or makes room for, what will not be read.
pub fn cut_frame(buffer: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let found = u32::from_le_bytes(*prefix);
    if found == 0 {
        return Err(FrameError::Empty);
    }
    match usize::try_from(found) {
        Ok(len) if len <= FRAME_BYTES_MAX => {
            Ok(rest.get(..len).map(|body| (body, PREFIX_BYTES + len)))
        }
        _ => Err(FrameError::TooLarge { found: u64::from(found) }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests;
