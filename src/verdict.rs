//! The one decision: standing + clock + requirement -> verdict. Pure.
//!
//! A verdict is monotone in trust: for one token and one instant, a later generation can only
//! answer the same or worse, since its standing can only shrink.

use std::fmt;

use crate::claims::Mismatch;
use crate::time::TableTime;

/// The answer about one token. The order is the order in which the causes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// There is no generation that may be answered from. Neither yes nor no.
    Unavailable = 0,
    /// The text is not a token.
    Malformed = 1,
    /// No such token was issued.
    Unknown = 2,
    /// The caller may not ask about this token.
    CallerNotAllowed = 3,
    /// It was revoked, for ever.
    Revoked = 4,
    /// Its not-before lies ahead.
    NotYetValid = 5,
    /// Its expiry has come.
    Expired = 6,
    /// It is trusted, but of another kind than asked for.
    WrongKind = 7,
    /// It is trusted, but for another audience than asked for.
    WrongAudience = 8,
    /// It is trusted, but lacks a scope that was asked for.
    InsufficientScope = 9,
    /// It is trusted and has all that was asked for.
    Valid = 10,
}

impl Verdict {
    /// All verdicts, by number.
    pub const ALL: [Verdict; 11] = [
        Verdict::Unavailable,
        Verdict::Malformed,
        Verdict::Unknown,
        Verdict::CallerNotAllowed,
        Verdict::Revoked,
        Verdict::NotYetValid,
        Verdict::Expired,
        Verdict::WrongKind,
        Verdict::WrongAudience,
        Verdict::InsufficientScope,
        Verdict::Valid,
    ];

    /// The verdict of that number.
    pub fn from_number(number: u32) -> Option<Verdict> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name in commands, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::CallerNotAllowed => "caller_not_allowed",
            Self::Revoked => "revoked",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::WrongKind => "wrong_kind",
            Self::WrongAudience => "wrong_audience",
            Self::InsufficientScope => "insufficient_scope",
            Self::Valid => "valid",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a record says about trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Revoked now and for ever, whatever the clock says.
    pub revoked: bool,
    /// Valid from this second on.
    pub not_before: TableTime,
    /// Dead from this second on.
    pub expires: TableTime,
    /// Revoked from this second on.
    pub revoked_at: TableTime,
}

impl Standing {
    /// The same with trust that ends at `at`, if it did not end before.
    pub fn ending_at(mut self, at: TableTime) -> Standing {
        if !self.revoked_at.is_some() || at < self.revoked_at {
            self.revoked_at = at;
        }
        self
    }

    /// Whether the token is revoked at `now`.
    pub fn is_revoked(&self, now: TableTime) -> bool {
        self.revoked || reached(self.revoked_at, now)
    }

    /// Whether the token's life has ended at `now`.
    pub fn is_expired(&self, now: TableTime) -> bool {
        reached(self.expires, now)
    }
}

fn reached(end: TableTime, now: TableTime) -> bool {
    end.is_some() && now >= end
}

/// The verdict on a token that was found. `admits` is asked last, and only about a trusted token.
pub fn judge(
    standing: &Standing,
    now: TableTime,
    admits: impl FnOnce() -> Result<(), Mismatch>,
) -> Verdict {
    if standing.is_revoked(now) {
        return Verdict::Revoked;
    }
    if now < standing.not_before {
        return Verdict::NotYetValid;
    }
    if standing.is_expired(now) {
        return Verdict::Expired;
    }
    match admits() {
        Ok(()) => Verdict::Valid,
        Err(Mismatch::Kind) => Verdict::WrongKind,
        Err(Mismatch::Audience) => Verdict::WrongAudience,
        Err(Mismatch::Scope) => Verdict::InsufficientScope,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TRUSTED: Standing = Standing {
        revoked: false,
        not_before: TableTime(100),
        expires: TableTime(200),
        revoked_at: TableTime::NONE,
    };

    fn at(standing: Standing, now: u32) -> Verdict {
        judge(&standing, TableTime(now), || Ok(()))
    }

    #[test]
    fn a_token_is_valid_from_its_start_to_the_second_before_its_end() {
        assert_eq!(at(TRUSTED, 99), Verdict::NotYetValid);
        assert_eq!(at(TRUSTED, 100), Verdict::Valid);
        assert_eq!(at(TRUSTED, 199), Verdict::Valid);
        assert_eq!(at(TRUSTED, 200), Verdict::Expired);
    }

    #[test]
    fn revoked_goes_before_all_else_and_needs_no_clock() {
        let flagged = Standing { revoked: true, ..TRUSTED };
        let scheduled = Standing { revoked_at: TableTime(150), ..TRUSTED };
        for now in [1, 99, 150, 300] {
            assert_eq!(at(flagged, now), Verdict::Revoked);
        }
        assert_eq!(at(scheduled, 149), Verdict::Valid);
        assert_eq!(at(scheduled, 150), Verdict::Revoked);
        assert_eq!(at(scheduled, 300), Verdict::Revoked);
    }

    #[test]
    fn without_times_a_token_is_always_valid() {
        let plain = Standing { not_before: TableTime::NONE, expires: TableTime::NONE, ..TRUSTED };
        assert_eq!(at(plain, 1), Verdict::Valid);
        assert_eq!(at(plain, u32::MAX), Verdict::Valid);
    }

    #[test]
    fn the_requirement_is_asked_last() {
        let wrong = |mismatch| judge(&TRUSTED, TableTime(150), || Err(mismatch));
        assert_eq!(wrong(Mismatch::Kind), Verdict::WrongKind);
        assert_eq!(wrong(Mismatch::Audience), Verdict::WrongAudience);
        assert_eq!(wrong(Mismatch::Scope), Verdict::InsufficientScope);
        let dead = judge(&TRUSTED, TableTime(200), || unreachable!("not asked about a dead token"));
        assert_eq!(dead, Verdict::Expired);
    }

    #[test]
    fn numbers_and_names_are_unique_and_follow_the_order() {
        for (number, verdict) in (0..).zip(Verdict::ALL) {
            assert_eq!(Verdict::from_number(number), Some(verdict));
            assert_eq!(verdict as u32, number);
        }
        assert_eq!(Verdict::from_number(11), None);
    }

    #[test]
    fn an_end_from_outside_only_comes_earlier() {
        let scheduled = Standing { revoked_at: TableTime(150), ..TRUSTED };
        let ending = |standing: Standing, at| standing.ending_at(TableTime(at)).revoked_at;
        assert_eq!(ending(TRUSTED, 170), TableTime(170));
        assert_eq!(ending(scheduled, 149), TableTime(149));
        assert_eq!(ending(scheduled, 150), TableTime(150));
        assert_eq!(ending(scheduled, 151), TableTime(150));
        assert_eq!(
            TRUSTED.ending_at(TableTime(170)),
            Standing { revoked_at: TableTime(170), ..TRUSTED }
        );
    }

    /// They are in commands, logs and metrics, where people search for them.
    #[test]
    fn the_names_are_those_of_the_documentation() {
        let names: Vec<String> = Verdict::ALL.iter().map(Verdict::to_string).collect();
        assert_eq!(
            names,
            [
                "unavailable",
                "malformed",
                "unknown",
                "caller_not_allowed",
                "revoked",
                "not_yet_valid",
                "expired",
                "wrong_kind",
                "wrong_audience",
                "insufficient_scope",
                "valid",
            ]
        );
    }
}
