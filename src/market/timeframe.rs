//! How long a bar is, and how many of them are stored together.

use std::{fmt, time::Duration};

use chrono::{Datelike, NaiveDate};

use crate::types::{
    error::{Error, Result},
    interval::Interval,
    time::{Timestamp, span_text},
};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The time that one bar covers: from 100 milliseconds to 366 days.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::market::Timeframe;
///
/// assert_eq!(Timeframe::minutes(5)?.to_string(), "5m");
/// assert_eq!("1d".parse::<Timeframe>()?, Timeframe::DAY);
/// assert_eq!(Timeframe::custom(Duration::from_secs(90))?.to_string(), "90s");
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeframe(u64);

impl Timeframe {
    /// One second.
    pub const SECOND: Self = Self(SECOND);
    /// One minute.
    pub const MINUTE: Self = Self(MINUTE);
    /// One hour.
    pub const HOUR: Self = Self(HOUR);
    /// One day: a session of an exchange, or 24 hours where trading never ends. Bars of a day and longer have midnight
    /// UTC of their (first) day for a timestamp.
    pub const DAY: Self = Self(DAY);

    /// Returns the timeframe of `count` seconds.
    ///
    /// # Errors
    /// As for [`custom`](Self::custom).
    pub fn seconds(count: u32) -> Result<Self> {
        Self::from_nanos(u64::from(count) * SECOND)
    }

    /// Returns the timeframe of `count` minutes.
    ///
    /// # Errors
    /// As for [`custom`](Self::custom).
    pub fn minutes(count: u32) -> Result<Self> {
        Self::from_nanos(u64::from(count) * MINUTE)
    }

    /// Returns the timeframe of `count` hours.
    ///
    /// # Errors
    /// As for [`custom`](Self::custom).
    pub fn hours(count: u32) -> Result<Self> {
        Self::from_nanos(u64::from(count) * HOUR)
    }

    /// Returns the timeframe of `count` days.
    ///
    /// # Errors
    /// As for [`custom`](Self::custom).
    pub fn days(count: u32) -> Result<Self> {
        Self::from_nanos(u64::from(count) * DAY)
    }

    /// Returns the timeframe of any duration.
    ///
    /// # Errors
    /// `InvalidInput` below 100 milliseconds or above 366 days.
    pub fn custom(duration: Duration) -> Result<Self> {
        Self::from_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Returns the timeframe of `nanos` nanoseconds.
    pub(crate) fn from_nanos(nanos: u64) -> Result<Self> {
        if (100 * MILLISECOND..=366 * DAY).contains(&nanos) {
            return Ok(Self(nanos));
        }
        let subject = format!("{:?}", Duration::from_nanos(nanos));
        Err(Error::invalid("read timeframe", subject, "a timeframe is from 100 milliseconds to 366 days"))
    }

    /// Returns the nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Returns whether a bar covers a day or more, and is labelled by its day.
    #[must_use]
    pub const fn is_daily(self) -> bool {
        self.0 >= DAY
    }

    /// Whether a bar covers more than one day.
    pub(crate) const fn is_longer_than_a_day(self) -> bool {
        self.0 > DAY
    }

    /// Nanoseconds that bars of this length begin at multiples of: days begin at midnight UTC, and what half an hour is
    /// a multiple of begins at multiples of itself, for sessions open on the half hour.
    pub(crate) fn grid(self) -> Option<i64> {
        let grid = if self.0.is_multiple_of(DAY) {
            DAY
        } else if (30 * MINUTE).is_multiple_of(self.0) {
            self.0
        } else {
            return None;
        };
        i64::try_from(grid).ok()
    }

    /// Whether a bar of this length can begin at `at`: see [`Flaws::OFF_GRID`](crate::market::Flaws::OFF_GRID).
    pub(crate) fn can_begin(self, at: Timestamp) -> bool {
        self.grid().is_none_or(|grid| at.as_nanos() % grid == 0)
    }

    /// How bars of this length are put together.
    pub(crate) const fn period(self) -> Period {
        match self.0 {
            0..SECOND => Period::Hour,
            SECOND..MINUTE => Period::Day,
            MINUTE..FIFTEEN_MINUTES => Period::Month,
            FIFTEEN_MINUTES..DAY => Period::Year,
            _ => Period::TwentyYears,
        }
    }
}

const FIFTEEN_MINUTES: u64 = 15 * MINUTE;

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&span_text(self.0))
    }
}

impl fmt::Debug for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Timeframe {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for Timeframe {
    type Err = Error;

    /// Parses a number and a unit: `30s`, `1m`, `4h`, `1d`, `250ms`.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::invalid("read timeframe", text, "expected a number and one of ms, s, m, h, d");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, unit) = text.split_at(digits);
        let unit = match unit {
            "ns" => 1,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return Err(refuse()),
        };
        let count: u64 = count.parse().map_err(|_| refuse())?;
        Self::from_nanos(count.checked_mul(unit).ok_or_else(refuse)?)
    }
}

/// A stretch of the calendar (UTC) whose bars lie in one chunk: some thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    Hour,
    Day,
    Month,
    Year,
    TwentyYears,
}

const DAY_NANOS: i64 = 86_400_000_000_000;
const HOUR_NANOS: i64 = DAY_NANOS / 24;

impl Period {
    /// The period that `at` falls into. Periods are numbered in order, without gaps.
    pub(crate) fn index(self, at: Timestamp) -> i64 {
        let nanos = at.as_nanos();
        match self {
            Self::Hour => return nanos.div_euclid(HOUR_NANOS),
            Self::Day => return nanos.div_euclid(DAY_NANOS),
            Self::Month | Self::Year | Self::TwentyYears => {}
        }
        let date = at.day().to_date();
        let year = i64::from(date.year());
        match self {
            Self::Month => 12 * year + i64::from(date.month0()),
            Self::Year => year,
            _ => year.div_euclid(20),
        }
    }

    /// When the period `index` begins; the ends of time for what 64 bits of nanoseconds do not reach.
    pub(crate) fn start(self, index: i64) -> Timestamp {
        let month = |months: i64| {
            let year = i32::try_from(months.div_euclid(12)).ok()?;
            let month = u32::try_from(months.rem_euclid(12)).ok()? + 1;
            let days = i64::from(NaiveDate::from_ymd_opt(year, month, 1)?.to_epoch_days());
            days.checked_mul(DAY_NANOS)
        };
        let nanos = match self {
            Self::Hour => index.checked_mul(HOUR_NANOS),
            Self::Day => index.checked_mul(DAY_NANOS),
            Self::Month => month(index),
            Self::Year => index.checked_mul(12).and_then(month),
            Self::TwentyYears => index.checked_mul(240).and_then(month),
        };
        Timestamp::from_nanos(nanos.unwrap_or(if index < 0 || self.before_epoch(index) { i64::MIN } else { i64::MAX }))
    }

    fn before_epoch(self, index: i64) -> bool {
        match self {
            Self::Hour | Self::Day => index < 0,
            Self::Month => index < 12 * 1970,
            Self::Year => index < 1970,
            Self::TwentyYears => index < 98,
        }
    }

    /// The time that the period `index` covers.
    pub(crate) fn span(self, index: i64) -> (Timestamp, Timestamp) {
        (self.start(index), self.start(index.saturating_add(1)))
    }

    /// The periods that a half-open interval touches.
    pub(crate) fn indices(self, interval: Interval<Timestamp>) -> std::ops::Range<i64> {
        if interval.is_empty() {
            return 0..0;
        }
        let last = Timestamp::from_nanos(interval.end().as_nanos().saturating_sub(1));
        self.index(interval.start())..self.index(last) + 1
    }

    /// What a period of bars is divided into when features are computed again: months, where it is longer than that.
    pub(crate) fn segment(self) -> Self {
        match self {
            Self::Hour => Self::Hour,
            Self::Day => Self::Day,
            Self::Month | Self::Year | Self::TwentyYears => Self::Month,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::Day;

    #[test]
    fn timeframes_print_and_parse() {
        for text in ["1s", "30s", "1m", "90m", "4h", "1d", "7d", "250ms"] {
            assert_eq!(text.parse::<Timeframe>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse::<Timeframe>().unwrap(), Timeframe::MINUTE);
        for text in ["", "m", "0m", "1x", "99ms", "367d", "1.5h", "-1m", "99999999999999999999d"] {
            assert!(text.parse::<Timeframe>().is_err(), "{text}");
        }
    }

    #[test]
    fn periods_cover_time_without_gaps() {
        let day: Day = "2018-12-31".parse().unwrap();
        let at = Timestamp::from_nanos(day.next().start().as_nanos() - 1);
        for period in [Period::Hour, Period::Day, Period::Month, Period::Year, Period::TwentyYears] {
            let index = period.index(at);
            let (start, end) = period.span(index);
            assert!(start <= at && at < end, "{period:?}: {start} {end}");
            assert_eq!(period.index(start), index);
            assert_eq!(period.index(end), index + 1);
            assert_eq!(period.index(Timestamp::from_nanos(start.as_nanos() - 1)), index - 1);
        }
        assert_eq!(Period::Year.start(2018).day().to_string(), "2018-01-01");
        assert_eq!(Period::TwentyYears.start(100).day().to_string(), "2000-01-01");
        assert_eq!(Period::Year.start(3000), Timestamp::from_nanos(i64::MAX));
        assert_eq!(Period::Year.start(1500), Timestamp::from_nanos(i64::MIN));
        assert_eq!(Period::Month.start(12 * 2300), Timestamp::from_nanos(i64::MAX));
    }

    #[test]
    fn an_interval_touches_the_periods_that_it_has_a_part_of() {
        let year = Interval::<Day>::parse("2018-01-01", "2019-01-01").unwrap().span();
        assert_eq!(Period::Year.indices(year), 2018..2019);
        assert_eq!(Period::Month.indices(year).count(), 12);
        assert_eq!(year.days(), Interval::<Day>::parse("2018-01-01", "2019-01-01").unwrap());
    }
}
