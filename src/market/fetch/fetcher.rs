//! Who brings data from elsewhere.

use super::answer::Answer;
use crate::{
    market::{bars::columns::Bars, fetch::requests::FetchError, timeframe::Timeframe},
    types::{
        interval::Interval,
        key::Symbol,
        time::{Day, Timestamp},
    },
};

/// Brings bars from elsewhere: a vendor, a broker, a folder. Closures that return [`Bars`] are fetchers, too.
///
/// Called on threads of the load, never on the one that asks for it: on as many at a time as
/// [`FetchPolicy::concurrency`](crate::market::FetchPolicy::concurrency) says.
pub trait BarFetcher: Sync {
    /// Returns the bars of `symbol` that begin in `interval`, in any order. Bars outside of it are left out, of bars
    /// with the same timestamp the last is taken; none at all is an answer, too. An answer that is cut off says so by
    /// [`Answer::more_from`]: otherwise it is known for a page only if it begins with the oldest bar and has 50 rows or
    /// more, and whole sessions follow, or 500 rows within a session. Bars of a day and longer have midnight UTC of
    /// their day for a timestamp, whenever the session opens.
    ///
    /// # Errors
    /// Whether it is worth asking again is for the fetcher to say: see [`FetchError`].
    fn fetch(
        &self,
        symbol: &Symbol,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> Result<Answer<Bars>, FetchError>;
}

impl<F> BarFetcher for F
where
    F: Fn(&Symbol, Timeframe, Interval<Timestamp>) -> Result<Bars, FetchError> + Sync,
{
    fn fetch(
        &self,
        symbol: &Symbol,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> Result<Answer<Bars>, FetchError> {
        self(symbol, timeframe, interval).map(Answer::new)
    }
}

/// Brings daily levels of an index from elsewhere. Closures that return days and levels are fetchers, too.
pub trait LevelFetcher: Sync {
    /// Returns the levels of `series` on the days in `days`, in any order. Days outside are left out, of levels of the
    /// same day the last is taken.
    ///
    /// # Errors
    /// As for [`BarFetcher::fetch`].
    fn fetch(&self, series: &Symbol, days: Interval<Day>) -> Result<Answer<Vec<(Day, f64)>>, FetchError>;
}

impl<F> LevelFetcher for F
where
    F: Fn(&Symbol, Interval<Day>) -> Result<Vec<(Day, f64)>, FetchError> + Sync,
{
    fn fetch(&self, series: &Symbol, days: Interval<Day>) -> Result<Answer<Vec<(Day, f64)>>, FetchError> {
        self(series, days).map(Answer::new)
    }
}
