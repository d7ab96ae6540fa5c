//! Seconds since 2020-01-01T00:00:00Z, the only clock of the formats.
//!
//! A [`TableTime`] fits four bytes until the year 2156, and 0 means "no such time". An instant
//! before 2020 that *ends* something therefore becomes 1: it has ended, which 0 would deny.

/// Unix time of [`TableTime`]'s zero, 2020-01-01T00:00:00Z.
pub const EPOCH_UNIX_S: i64 = 1_577_836_800;

/// Seconds since 2020-01-01T00:00:00Z; 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableTime(pub u32);

impl TableTime {
    /// No such time: never expires, was always valid, is not revoked by schedule.
    pub const NONE: TableTime = TableTime(0);

    /// The second at which something ends (expiry, revocation), rounded down: never later than
    /// asked. `None` past the year 2156.
    pub fn end(unix_s: i64) -> Option<TableTime> {
        let seconds = unix_s.saturating_sub(EPOCH_UNIX_S).max(1);
        u32::try_from(seconds).ok().map(TableTime)
    }

    /// The second from which something holds, rounded up from `unix_s` and `nanoseconds`: never
    /// earlier than asked. `None` past the year 2156. At or before 2020 it is [`Self::NONE`].
    pub fn start(unix_s: i64, nanoseconds: u32) -> Option<TableTime> {
        let seconds = unix_s.saturating_sub(EPOCH_UNIX_S);
        let seconds = seconds.saturating_add(i64::from(nanoseconds > 0)).max(0);
        u32::try_from(seconds).ok().map(TableTime)
    }

    /// The wall clock of this host. A clock before 2020 reads as 1, one past 2156 as the end.
    pub fn wall_clock() -> TableTime {
        let since_unix =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let unix_s = i64::try_from(since_unix.as_secs()).unwrap_or(i64::MAX);
        TableTime::end(unix_s).unwrap_or(TableTime(u32::MAX))
    }

    /// Whether there is such a time.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// Unix seconds, or `None` for [`Self::NONE`].
    pub fn unix_s(self) -> Option<i64> {
        self.is_some().then(|| EPOCH_UNIX_S + i64::from(self.0))
    }
}

/// Unix seconds as RFC 3339 in UTC, `2026-11-25T05:00:00Z`.
#[cfg(feature = "store")]
pub fn to_rfc3339(unix_s: i64) -> String {
    match jiff::Timestamp::from_second(unix_s) {
        Ok(instant) => instant.to_string(),
        Err(_) => format!("second {unix_s}"),
    }
}

/// Unix seconds and nanoseconds of an RFC 3339 time with its offset.
#[cfg(feature = "store")]
pub fn from_rfc3339(text: &str) -> Option<(i64, u32)> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    // Before 1970 both parts are negative: normalise to a second and what follows it.
    let nanoseconds = instant.subsec_nanosecond();
    let before = i64::from(nanoseconds < 0);
    let rest = u32::try_from(i64::from(nanoseconds) + before * 1_000_000_000).ok()?;
    Some((instant.as_second() - before, rest))
}

/// A whole number of days, hours, minutes or seconds, such as `90d`, in seconds.
pub fn parse_span(text: &str) -> Option<i64> {
    let unit_s = match text.as_bytes().last()? {
        b'd' => 86_400,
        b'h' => 3600,
        b'm' => 60,
        b's' => 1,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(i64::from(number) * unit_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_round_down_and_never_become_none() {
        assert_eq!(TableTime::end(EPOCH_UNIX_S + 5), Some(TableTime(5)));
        assert_eq!(TableTime::end(EPOCH_UNIX_S), Some(TableTime(1)));
        assert_eq!(TableTime::end(i64::MIN), Some(TableTime(1)));
    }

    #[test]
    fn starts_round_up_and_before_2020_are_no_limit() {
        assert_eq!(TableTime::start(EPOCH_UNIX_S + 5, 0), Some(TableTime(5)));
        assert_eq!(TableTime::start(EPOCH_UNIX_S + 5, 1), Some(TableTime(6)));
        assert_eq!(TableTime::start(0, 0), Some(TableTime::NONE));
    }

    #[test]
    fn times_past_2156_are_out_of_range() {
        let last = EPOCH_UNIX_S + i64::from(u32::MAX);
        assert_eq!(TableTime::end(last), Some(TableTime(u32::MAX)));
        assert_eq!(TableTime::end(last + 1), None);
        assert_eq!(TableTime::start(last, 1), None);
        assert_eq!(TableTime::end(i64::MAX), None);
    }
}
