//! Why a frame is refused, and how the daemon says so.

use std::fmt;

use super::{FRAME_BYTES_MAX, PROTOCOL_VERSION};

/// What an ERROR reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The frame is not one of this protocol. The daemon closes.
    Malformed = 1,
    /// The length before the body is above the limit. The daemon closes.
    FrameTooLarge = 2,
    /// The client speaks another version. The daemon closes.
    Version = 3,
    /// The first frame of the connection was not HELLO. The daemon closes.
    HelloFirst = 4,
    /// This caller may not ask that.
    NotPermitted = 5,
    /// The daemon has too much to do; ask again later.
    Busy = 6,
    /// More rows, or scopes, than a frame may ask about.
    TooMany = 7,
    /// The daemon could not do what it should have.
    Internal = 8,
}

impl ErrorCode {
    /// All codes, in order.
    pub const ALL: [ErrorCode; 8] = [
        ErrorCode::Malformed,
        ErrorCode::FrameTooLarge,
        ErrorCode::Version,
        ErrorCode::HelloFirst,
        ErrorCode::NotPermitted,
        ErrorCode::Busy,
        ErrorCode::TooMany,
        ErrorCode::Internal,
    ];

    /// The code of that number.
    pub fn from_number(number: u32) -> Option<ErrorCode> {
        Self::ALL.into_iter().find(|&code| code as u32 == number)
    }

    /// Whether the daemon closes the connection after it. It does where it can no longer tell
    /// where the next frame begins, or what the client means by one.
    pub fn closes(self) -> bool {
        matches!(self, Self::Malformed | Self::FrameTooLarge | Self::Version | Self::HelloFirst)
    }

    /// The name in messages and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed frame",
            Self::FrameTooLarge => "frame too large",
            Self::Version => "version",
            Self::HelloFirst => "hello first",
            Self::NotPermitted => "not permitted",
            Self::Busy => "busy",
            Self::TooMany => "too many",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a frame is refused. None holds any byte of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame without a body.
    Empty,
    /// A body above [`FRAME_BYTES_MAX`].
    TooLarge {
        /// Its length.
        found: u64,
    },
    /// The body ends inside a field, or a count is larger than what follows it.
    Truncated,
    /// The body goes on after its last field.
    Trailing {
        /// Bytes too many.
        bytes: usize,
    },
    /// No message of that number.
    Tag {
        /// The number.
        found: u32,
    },
    /// A flag that version 1 does not have.
    Flags {
        /// All flags of the frame.
        found: u32,
    },
    /// The byte before an optional field is neither 0 nor 1.
    OptionTag {
        /// The byte.
        found: u8,
    },
    /// A text is not UTF-8.
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A field longer than it may be.
    TooLong {
        /// The field.
        field: &'static str,
        /// Bytes found.
        found: u64,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// More items than a frame may have.
    TooMany {
        /// What there is too much of.
        field: &'static str,
        /// Items found.
        found: u64,
        /// Items allowed.
        count_max: usize,
    },
    /// No verdict of that number.
    Verdict {
        /// The number.
        found: u32,
    },
    /// A row that contradicts itself: valid without a record, a record of a token that is not
    /// known, or an id that no token has.
    Row,
    /// A reply has another number of rows or claims than was asked for.
    RowCount {
        /// Rows asked for.
        expected: usize,
        /// Rows, or claims, found.
        found: usize,
    },
    /// The daemon speaks another version: upgrade the older of the two.
    Version {
        /// The daemon's version.
        found: u32,
    },
    /// The HELLO holds no usable domain: its prefix is none, or it has an algorithm for imported
    /// tokens that this build does not know. In the latter case upgrade this client.
    Domain,
    /// The HELLO holds a limit below what version 1 asks for.
    Limits,
    /// No error of that number.
    ErrorCode {
        /// The number.
        found: u32,
    },
    /// A control message that bincode refuses.
    Control,
    /// A reply of another sort than the question, or one that nobody asked for.
    Unasked,
}

impl FrameError {
    /// The code to answer a client with whose frame was refused.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::TooMany { .. } => ErrorCode::TooMany,
            Self::Version { .. } => ErrorCode::Version,
            _ => ErrorCode::Malformed,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a frame without a body"),
            Self::TooLarge { found } => {
                write!(f, "a body of {found} bytes, at most {FRAME_BYTES_MAX} are allowed")
            }
            Self::Truncated => f.write_str("the body ends inside a field"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes after the last field"),
            Self::Tag { found } => write!(f, "no message has the number {found}"),
            Self::Flags { found } => write!(f, "unknown flags {found:#x}"),
            Self::OptionTag { found } => write!(f, "{found} where only 0 or 1 may stand"),
            Self::NotUtf8 { field } => write!(f, "the {field} is not UTF-8"),
            Self::TooLong { field, found, bytes_max } => {
                write!(f, "the {field} has {found} bytes, at most {bytes_max} are allowed")
            }
            Self::TooMany { field, found, count_max } => {
                write!(f, "{found} {field} in one frame, at most {count_max} are allowed")
            }
            Self::Verdict { found } => write!(f, "no verdict has the number {found}"),
            Self::Row => f.write_str("a row contradicts itself"),
            Self::RowCount { expected, found } => {
                write!(f, "{found} rows in answer to {expected}")
            }
            Self::Version { found } => write!(
                f,
                "the daemon speaks version {found} of the protocol, this client {PROTOCOL_VERSION}: upgrade the older"
            ),
            Self::Domain => f.write_str(
                "the daemon's prefix or import algorithms are not known to this client: upgrade it",
            ),
            Self::Limits => f.write_str("the daemon's limits are below those of version 1"),
            Self::ErrorCode { found } => write!(f, "no error has the number {found}"),
            Self::Control => f.write_str("not a message of this protocol"),
            Self::Unasked => f.write_str("a reply to something that was not asked"),
        }
    }
}

impl std::error::Error for FrameError {}
