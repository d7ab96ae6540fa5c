//! Why there is no answer.

use std::time::Duration;
use std::{error, fmt, io};

use crate::wire::{ErrorCode, FrameError};

use super::Generation;

/// The question was not answered. It says nothing about the token.
///
/// Each variant is one thing to do. The socket's path is not in here: the caller knows it and
/// says it once.
#[derive(Debug)]
#[non_exhaustive]
pub enum CouldNotAsk {
    /// Nobody could be reached at the socket.
    Connect(io::Error),
    /// The answer did not come in time. The next call connects anew.
    Timeout {
        /// The timeout of the call.
        after: Duration,
    },
    /// The connection failed, and opening it anew did not help.
    Io(io::Error),
    /// The daemon has no generation that it may answer from. Its log and `adamant status` say
    /// why.
    Unavailable,
    /// The daemon does not answer this.
    Refused {
        /// Why.
        code: ErrorCode,
        /// Why, in the daemon's words.
        message: String,
    },
    /// What was asked exceeds what a frame or a token may hold: ask otherwise.
    Question(FrameError),
    /// The daemon's reply is not one of this protocol, or of another version of it.
    Protocol(FrameError),
    /// The daemon answered from an earlier generation than before. Someone put back an old state,
    /// or two daemons take turns at the socket.
    WentBack {
        /// What it answered from.
        found: Generation,
        /// What this client has seen before.
        seen: Generation,
    },
}

impl fmt::Display for CouldNotAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(err) => match err.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    f.write_str("no daemon listens at the socket: is adamantd running")
                }
                io::ErrorKind::PermissionDenied => f.write_str(
                    "no permission to connect to the socket: join the group adamant-clients",
                ),
                _ => f.write_str("cannot connect to the daemon"),
            },
            Self::Timeout { after } => write!(f, "the daemon did not answer within {after:?}"),
            Self::Io(_) => f.write_str("the connection to the daemon failed"),
            Self::Unavailable => {
                f.write_str("the daemon has no generation to answer from: see adamant status")
            }
            Self::Refused { code, message } => {
                write!(f, "the daemon does not answer this ({code}): {message}")
            }
            Self::Question(_) => f.write_str("no daemon takes this question"),
            Self::Protocol(_) => f.write_str("the daemon's reply cannot be read"),
            Self::WentBack { found, seen } => {
                write!(f, "the daemon answers from {found}, after {seen}")
            }
        }
    }
}

impl error::Error for CouldNotAsk {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Connect(err) | Self::Io(err) => Some(err),
            Self::Question(err) | Self::Protocol(err) => Some(err),
            _ => None,
        }
    }
}

/// How one attempt of a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other side is gone. A new connection may help.
    Broken(io::Error),
    /// The HELLO of this connection is too old to say that a text is no token.
    OldHello,
    /// A new connection would not help.
    Told(CouldNotAsk),
}

impl Failure {
    /// Whether the connection can serve the next call, given that no reply is outstanding.
    pub(super) fn leaves_link_usable(&self) -> bool {
        match self {
            Self::Told(CouldNotAsk::Unavailable | CouldNotAsk::Question(_)) => true,
            Self::Told(CouldNotAsk::Refused { code, .. }) => !code.closes(),
            _ => false,
        }
    }

    /// Sorts an error of reading or writing.
    pub(super) fn of_io(err: io::Error, after: Duration) -> Failure {
        match err.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::Told(CouldNotAsk::Timeout { after })
            }
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Failure::Broken(err),
            _ => Failure::Told(CouldNotAsk::Io(err)),
        }
    }
}

impl From<FrameError> for Failure {
    fn from(err: FrameError) -> Failure {
        Failure::Told(CouldNotAsk::Protocol(err))
    }
}

impl From<CouldNotAsk> for Failure {
    fn from(err: CouldNotAsk) -> Failure {
        Failure::Told(err)
    }
}

impl From<Failure> for CouldNotAsk {
    fn from(failure: Failure) -> CouldNotAsk {
        match failure {
            Failure::Broken(err) => CouldNotAsk::Io(err),
            Failure::OldHello => unreachable!("a HELLO of the same call is never too old"),
            Failure::Told(err) => err,
        }
    }
}
