//! Half-open intervals `[start, end)`.

use std::fmt;

use super::{
    error::{Error, Result},
    time::{Day, Timestamp},
};

use crate::types::invariant::Invariant;

/// A half-open interval: `start` belongs to it, `end` does not. Empty when the two are equal.
///
/// ```
/// use modelkeep::{Day, Interval};
///
/// let q4 = Interval::<Day>::parse("2018-10-01", "2019-01-01")?;
/// assert!(q4.contains("2018-12-31".parse()?));
/// assert!(!q4.contains("2019-01-01".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval<T> {
    start: T,
    end: T,
}

impl<T: Copy + Ord + fmt::Display> Interval<T> {
    /// Returns the interval from `start` up to, but not including, `end`.
    ///
    /// ```
    /// # use modelkeep::{Interval, Timestamp};
    /// let second = Interval::new(Timestamp::from_nanos(0), Timestamp::from_nanos(1_000_000_000))?;
    /// assert!(Interval::new(second.end(), second.start()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when `end` lies before `start`.
    pub fn new(start: T, end: T) -> Result<Self> {
        if end < start {
            let subject = format!("[{start}, {end})");
            return Err(Error::invalid("read interval", subject, "it ends before it starts"));
        }
        Ok(Self { start, end })
    }

    /// The interval between two points that the caller knows to be in order.
    pub(crate) fn between(start: T, end: T) -> Self {
        Self::new(start, end).always("the caller knows their order")
    }

    /// Returns the first point of the interval.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// assert_eq!(Interval::parse("2018-10-01", "2019-01-01")?.start().to_string(), "2018-10-01");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn start(&self) -> T {
        self.start
    }

    /// Returns the first point after the interval.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// assert_eq!(Interval::parse("2018-10-01", "2019-01-01")?.end().to_string(), "2019-01-01");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn end(&self) -> T {
        self.end
    }

    /// Returns whether `point` lies in the interval.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// let year = Interval::parse("2018-01-01", "2019-01-01")?;
    /// assert!(year.contains(year.start()) && !year.contains(year.end()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains(&self, point: T) -> bool {
        self.start <= point && point < self.end
    }

    /// Returns whether no point lies in the interval.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// assert!(Interval::parse("2018-01-01", "2018-01-01")?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Interval<Day> {
    /// Returns the interval between two dates in the form `YYYY-MM-DD`, the second one not included.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// assert_eq!(Interval::parse("2018-01-01", "2019-01-01")?.to_string(), "[2018-01-01, 2019-01-01)");
    /// assert!(Interval::parse("2018-02-30", "2019-01-01").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when a date does not exist or the second lies before the first.
    pub fn parse(start: &str, end: &str) -> Result<Self> {
        let day = |text: &str| {
            text.parse().map_err(|err: crate::types::time::OutOfRange| {
                Error::invalid("read interval", text, "expected a date YYYY-MM-DD").with_source(err)
            })
        };
        Self::new(day(start)?, day(end)?)
    }
}

impl<T: fmt::Display> fmt::Display for Interval<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

impl<T: fmt::Display> fmt::Debug for Interval<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Interval<Timestamp> {
    /// Returns all of time that 64 bits of nanoseconds reach: from 1677 to 2262.
    ///
    /// ```
    /// # use modelkeep::{Interval, Timestamp};
    /// assert!(Interval::all_time().contains(Timestamp::from_nanos(0)));
    /// ```
    #[must_use]
    pub fn all_time() -> Self {
        Self::between(Timestamp::from_nanos(i64::MIN), Timestamp::from_nanos(i64::MAX))
    }

    /// Returns the days that the interval touches, in UTC.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// let hours = Interval::new("2018-12-24T14:30:00Z".parse()?, "2018-12-26T18:00:00Z".parse()?)?;
    /// assert_eq!(hours.days().to_string(), "[2018-12-24, 2018-12-27)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn days(&self) -> Interval<Day> {
        let (start, end) = (self.start().day(), self.end().day());
        let end = if self.end() > end.start() { end.next() } else { end };
        Interval::between(start, end.max(start))
    }
}

impl Interval<Day> {
    /// Returns the same interval in time: from midnight UTC of the first day to midnight of the day after the last.
    ///
    /// ```
    /// # use modelkeep::Interval;
    /// let day = Interval::parse("2018-12-24", "2018-12-25")?.span();
    /// assert_eq!(day.to_string(), "[2018-12-24T00:00:00Z, 2018-12-25T00:00:00Z)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn span(&self) -> Interval<Timestamp> {
        Interval::between(self.start().start(), self.end().start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::Timestamp;

    #[test]
    fn an_interval_that_ends_before_it_starts_is_refused_and_named() {
        let err = Interval::<Day>::parse("2018-02-01", "2018-01-01").unwrap_err();
        assert!(err.to_string().contains("[2018-02-01, 2018-01-01)"), "{err}");
    }

    #[test]
    fn an_empty_interval_contains_nothing() {
        let at = Timestamp::from_nanos(7);
        let empty = Interval::new(at, at).unwrap();
        assert!(empty.is_empty());
        assert!(!empty.contains(at));
    }
}
