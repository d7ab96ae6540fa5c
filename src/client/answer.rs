//! What a daemon answered, in the words of a service.

use std::fmt;
use std::time::Duration;

use crate::token::TokenId;
use crate::verdict::Verdict;
use crate::wire::{Claims, Row, VerdictsHead};

/// The answer about one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The token is trusted now and has all that was asked for.
    Valid(Access),
    /// It is not, or has not.
    Denied(Denial),
}

impl Answer {
    /// Whether the token is valid.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid(_))
    }

    /// The verdict; never [`Verdict::Unavailable`].
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Valid(_) => Verdict::Valid,
            Self::Denied(denial) => denial.verdict,
        }
    }

    /// The answer about a text that is no token, for which nobody has to be asked.
    pub(super) fn malformed() -> Answer {
        Answer::Denied(Denial { verdict: Verdict::Malformed, id: None, evidence: None })
    }

    pub(super) fn of_row(evidence: Evidence, row: &Row, claims: Option<Claims>) -> Answer {
        match (row.verdict, row.record) {
            (Verdict::Valid, Some(record)) => Answer::Valid(Access {
                id: record.id,
                expires_unix_s: record.expires.unix_s(),
                evidence,
                claims,
            }),
            (verdict, record) => Answer::Denied(Denial {
                verdict,
                id: record.map(|record| record.id),
                evidence: Some(evidence),
            }),
        }
    }
}

/// A valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its public name: what logs and rate limits should call it by.
    pub id: TokenId,
    /// When it expires, Unix seconds; `None` = never. It may be revoked before.
    pub expires_unix_s: Option<i64>,
    /// What the answer comes from.
    pub evidence: Evidence,
    /// What it may do and whose it is, if that was asked for.
    pub claims: Option<Claims>,
}

/// A token that is not valid, or not for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why; neither `valid` nor `unavailable`.
    pub verdict: Verdict,
    /// Its public name, if there is such a token and this caller may know of it.
    pub id: Option<TokenId>,
    /// What the answer comes from. `None` for a text that is no token: nobody was asked.
    pub evidence: Option<Evidence>,
}

/// What an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The generation that was asked.
    pub generation: Generation,
    /// How long before the answer its manifest was issued.
    pub age: Duration,
    /// The manifest has expired, and the daemon's policy says to serve it nevertheless.
    pub stale: bool,
}

impl From<&VerdictsHead> for Evidence {
    fn from(head: &VerdictsHead) -> Evidence {
        Evidence {
            generation: Generation {
                epoch: head.epoch,
                number: head.generation,
                revocations: head.revocations,
            },
            age: Duration::from_secs(head.age_s),
            stale: head.stale,
        }
    }
}

/// A state of the token set. Later ones are greater: the fields are in the order that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The epoch, which an operator raises after a stolen signer.
    pub epoch: u64,
    /// The number of the manifest.
    pub number: u64,
    /// The sequence of the revocations note; 0 = none.
    pub revocations: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Generation { epoch, number, revocations } = self;
        write!(f, "generation {epoch}.{number}, revocations {revocations}")
    }
}

/// The rows about many digests or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What the earliest of the rows comes from; later rows may be of a later generation. `None`
    /// when nothing was asked.
    pub evidence: Option<Evidence>,
    /// One for each digest or token, in order. None is `unavailable`.
    pub rows: Vec<Row>,
}

impl Batch {
    pub(super) fn with_capacity(rows: usize) -> Batch {
        Batch { evidence: None, rows: Vec::with_capacity(rows) }
    }

    pub(super) fn push(&mut self, evidence: Evidence, row: Row) {
        self.evidence.get_or_insert(evidence);
        self.rows.push(row);
    }
}
