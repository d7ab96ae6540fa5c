//! Why a request comes to nothing.

use crate::builder::BuildError;
use crate::claims::ClaimsError;
use crate::ledger::LedgerError;
use crate::store::StoreError;
use crate::token::TokenId;

/// Each variant is one thing for the asker to do. None holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuingError {
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The home cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The home is built in another way.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Claims that no token can carry.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// No such token was issued.
    #[error("no token {id} was issued here")]
    Unknown {
        /// The id.
        id: TokenId,
    },
    /// Law 2.
    #[error("id {id} was issued before, by event {event}: one id, one value, for ever")]
    IdTaken {
        /// The id.
        id: TokenId,
        /// The event.
        event: u64,
    },
    /// Law 2.
    #[error("this token was issued before, by event {event}")]
    DigestTaken {
        /// The event.
        event: u64,
    },
    /// A dead token has no successor.
    #[error("token {id} was revoked by event {event}: issue another instead of rotating it")]
    Dead {
        /// The id.
        id: TokenId,
        /// The event.
        event: u64,
    },
    /// A token that another system made has no successor here.
    #[error("token foreign:{id} was made by another system: issue one here, and revoke it")]
    Foreign {
        /// The id.
        id: TokenId,
    },
    /// Out of the range of the formats.
    #[error("a time after the year 2156, which the format cannot say")]
    Time,
    /// Actor, on-behalf-of, request id or ticket is too long.
    #[error(
        "a request id, ticket or name is empty, has more than 255 bytes, or a control character"
    )]
    Label,
    /// The operating system has none to give.
    #[error("the operating system has no randomness to give")]
    Randomness(#[source] getrandom::Error),
}
