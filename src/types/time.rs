//! Points in time: [`Timestamp`] (nanoseconds, UTC) and [`Day`] (a calendar date).
//!
//! Both are plain integers, so that what is stored does not depend on a calendar crate; chrono appears at the edges.

use std::{fmt, time::Duration};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

use crate::types::invariant::Invariant;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use modelkeep::Timestamp;
///
/// let close = Timestamp::from_nanos(1_514_581_200_000_000_000);
/// assert_eq!(close.to_string(), "2017-12-29T21:00:00Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the timestamp that is `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`, zero when `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(if nanos < 0 { 0 } else { u64::MAX }))
    }

    /// Returns `self` moved back by `duration`, at most to the earliest timestamp there is.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// Returns `self` moved forward by `duration`, at most to the latest timestamp there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the calendar day that the instant falls on, in UTC.
    #[must_use]
    pub fn day(self) -> Day {
        // 64 bits of nanoseconds reach from 1677 to 2262, which are days.
        let days = i32::try_from(self.0.div_euclid(NANOS_PER_DAY));
        Day(days.always("nanoseconds in 64 bits reach 107,000 days"))
    }

    /// Returns the same instant as a chrono value.
    #[must_use]
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.0)
    }
}

impl TryFrom<DateTime<Utc>> for Timestamp {
    type Error = OutOfRange;

    /// Converts, or fails outside 1677-09-21 .. 2262-04-11, which is what 64 bits of nanoseconds reach.
    fn try_from(at: DateTime<Utc>) -> Result<Self, OutOfRange> {
        at.timestamp_nanos_opt().map(Self).ok_or(OutOfRange)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = OutOfRange;

    /// Parses RFC 3339 (`2018-12-24T14:30:00Z`, `2018-12-24T09:30:00-05:00`), or a date and a time without an offset,
    /// which is UTC then (`2018-12-24 14:30:00`).
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return at.to_utc().try_into();
        }
        local_time(text).ok_or(OutOfRange)?.and_utc().try_into()
    }
}

/// Reads a date and a time without an offset.
pub(crate) fn local_time(text: &str) -> Option<NaiveDateTime> {
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_datetime().to_rfc3339_opts(SecondsFormat::AutoSi, true);
        f.pad(&text)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A calendar date: days since 1970-01-01.
///
/// ```
/// use modelkeep::Day;
///
/// let day: Day = "2018-12-24".parse()?;
/// assert_eq!(day.next().to_string(), "2018-12-25");
/// assert!(!day.is_weekend());
/// # Ok::<(), modelkeep::error::OutOfRange>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// Returns the day that is `days` days after 1970-01-01.
    ///
    /// # Errors
    /// [`OutOfRange`] when the year would not fit four digits (0000 .. 9999).
    pub fn from_epoch_days(days: i32) -> Result<Self, OutOfRange> {
        NaiveDate::from_epoch_days(days)
            .filter(|date| (0..=9999).contains(&date.year()))
            .map(|_| Self(days))
            .ok_or(OutOfRange)
    }

    /// Returns the days since 1970-01-01.
    #[must_use]
    pub const fn epoch_days(self) -> i32 {
        self.0
    }

    /// Returns the same date as a chrono value.
    #[must_use]
    pub fn to_date(self) -> NaiveDate {
        NaiveDate::from_epoch_days(self.0).unwrap_or(NaiveDate::MAX)
    }

    /// Returns the calendar year.
    #[must_use]
    pub fn year(self) -> u16 {
        u16::try_from(self.to_date().year()).unwrap_or(u16::MAX)
    }

    /// The last day: 9999-12-31.
    pub const MAX: Self = Self(2_932_896);

    /// Returns the following day; the last day is followed by itself.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 < Self::MAX.0 { Self(self.0 + 1) } else { self }
    }

    /// Returns the day `days` days later, or earlier when it is negative.
    ///
    /// # Errors
    /// [`OutOfRange`] when the year would not fit four digits.
    pub fn plus_days(self, days: i32) -> Result<Self, OutOfRange> {
        self.0.checked_add(days).ok_or(OutOfRange).and_then(Self::from_epoch_days)
    }

    /// Returns whether the day is a Saturday or a Sunday.
    #[must_use]
    pub const fn is_weekend(self) -> bool {
        // 1970-01-01 was a Thursday, so Saturday and Sunday are days 2 and 3 of the week that starts with it.
        matches!(self.0.rem_euclid(7), 2 | 3)
    }

    /// Returns midnight UTC at the start of the day.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp((self.0 as i64).saturating_mul(NANOS_PER_DAY))
    }
}

impl TryFrom<NaiveDate> for Day {
    type Error = OutOfRange;

    fn try_from(date: NaiveDate) -> Result<Self, OutOfRange> {
        Self::from_epoch_days(date.to_epoch_days())
    }
}

impl std::str::FromStr for Day {
    type Err = OutOfRange;

    /// Parses `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| OutOfRange).and_then(Self::try_from)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_date().format("%Y-%m-%d").to_string())
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A date or time that this crate cannot represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date YYYY-MM-DD, or a time YYYY-MM-DDTHH:MM:SSZ, that can be represented")]
pub struct OutOfRange;

/// A length of time as people say it, in the largest unit that it is a whole number of: `1d`, `4h`, `90s`, `250ms`.
pub(crate) fn span_text(nanos: u64) -> String {
    let units = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
    ];
    let whole = units.iter().find(|(unit, _)| nanos.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or(&(1, "ns"));
    format!("{}{name}", nanos / unit)
}

/// A duration for people: in hours and minutes, minutes and seconds, or, below a minute, to the millisecond.
pub(crate) fn duration_text(duration: Duration) -> String {
    let two = |large: u64, large_name, small: u64, small_name| match small {
        0 => format!("{large}{large_name}"),
        small => format!("{large}{large_name} {small}{small_name}"),
    };
    match duration.as_secs() {
        0..60 => format!("{:?}", Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))),
        seconds @ 60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        seconds => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        let text = |millis| duration_text(Duration::from_millis(millis));
        assert_eq!([text(0), text(20), text(2_000), text(59_999)], ["0ns", "20ms", "2s", "59.999s"]);
        assert_eq!([text(60_000), text(125_000), text(7_200_000), text(90_000_000)], ["1m", "2m 5s", "2h", "25h"]);
        assert_eq!(text(515_084_238), "143h 4m");
    }

    #[test]
    fn weekends_are_where_the_calendar_has_them() {
        for (text, weekend) in [
            ("1970-01-01", false),
            ("1970-01-03", true),
            ("1969-12-28", true),
            ("2018-12-21", false),
            ("2018-12-22", true),
            ("2018-12-23", true),
            ("2018-12-24", false),
        ] {
            assert_eq!(text.parse::<Day>().unwrap().is_weekend(), weekend, "{text}");
        }
    }

    #[test]
    fn ages_never_go_below_zero() {
        let earlier = Timestamp::from_nanos(5);
        let later = Timestamp::from_nanos(9);
        assert_eq!(later.since(earlier), Duration::from_nanos(4));
        assert_eq!(earlier.since(later), Duration::ZERO);
        let span = Timestamp::from_nanos(i64::MAX).since(Timestamp::from_nanos(i64::MIN));
        assert_eq!(span, Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn timestamps_are_read_with_and_without_an_offset() {
        for text in
            ["2018-12-24T14:30:00Z", "2018-12-24T09:30:00-05:00", "2018-12-24 14:30:00", "2018-12-24T14:30:00.000"]
        {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), "2018-12-24T14:30:00Z");
        }
        for text in ["", "2018-12-24", "14:30", "2018-13-24T14:30:00Z", "9999-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>(), Err(OutOfRange), "{text}");
        }
    }

    #[test]
    fn days_outside_four_digit_years_are_refused() {
        assert_eq!("10000-01-01".parse::<Day>(), Err(OutOfRange));
        assert_eq!(Day::from_epoch_days(i32::MAX), Err(OutOfRange));
        assert_eq!("2018-02-30".parse::<Day>(), Err(OutOfRange));
        assert_eq!("9999-12-31".parse(), Ok(Day::MAX));
        assert_eq!(Day::MAX.next(), Day::MAX);
        assert_eq!(Day::MAX.plus_days(1), Err(OutOfRange));
    }

    #[test]
    fn a_timestamp_falls_on_the_day_that_it_starts_after() {
        let day: Day = "1969-12-31".parse().unwrap();
        assert_eq!(day.start().day(), day);
        assert_eq!(Timestamp::from_nanos(-1).day(), day);
        assert_eq!(Timestamp::from_nanos(0).day(), day.plus_days(1).unwrap());
        assert_eq!(format!("{:?} {:?}", day, Timestamp::from_nanos(0)), "1969-12-31 1970-01-01T00:00:00Z");
    }
}
