//! Who brings data from elsewhere, and what a load says about it.

use std::time::Duration;

use crate::{
    market::{
        bars::columns::Bars,
        coverage::ledger::{Coverage, CoverageSpan},
        fetch::requests::FetchError,
        timeframe::Timeframe,
    },
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        key::Symbol,
        time::{Day, Timestamp},
    },
};

/// Brings bars from elsewhere: a vendor, a broker, a folder. Closures are fetchers, too.
///
/// Called from several threads at a time, as many as [`FetchPolicy::concurrency`](crate::market::FetchPolicy::concurrency)
/// says.
pub trait BarFetcher: Sync {
    /// Returns the bars of `symbol` that begin in `interval`, in any order. Bars outside of it are left out, of bars
    /// with the same timestamp the last is taken; none at all is an answer, too. Bars of a day and longer have midnight
    /// UTC of their day for a timestamp, whenever the session opens.
    ///
    /// # Errors
    /// Whether it is worth asking again is for the fetcher to say: see [`FetchError`].
    fn fetch(
        &self,
        symbol: &Symbol,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> std::result::Result<Bars, FetchError>;
}

impl<F> BarFetcher for F
where
    F: Fn(&Symbol, Timeframe, Interval<Timestamp>) -> std::result::Result<Bars, FetchError> + Sync,
{
    fn fetch(
        &self,
        symbol: &Symbol,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> std::result::Result<Bars, FetchError> {
        self(symbol, timeframe, interval)
    }
}

/// Brings daily levels of an index from elsewhere. Closures are fetchers, too.
pub trait LevelFetcher: Sync {
    /// Returns the levels of `series` on the days in `days`, in any order. Days outside are left out, of levels of the
    /// same day the last is taken.
    ///
    /// # Errors
    /// As for [`BarFetcher::fetch`].
    fn fetch(&self, series: &Symbol, days: Interval<Day>) -> std::result::Result<Vec<(Day, f64)>, FetchError>;
}

impl<F> LevelFetcher for F
where
    F: Fn(&Symbol, Interval<Day>) -> std::result::Result<Vec<(Day, f64)>, FetchError> + Sync,
{
    fn fetch(&self, series: &Symbol, days: Interval<Day>) -> std::result::Result<Vec<(Day, f64)>, FetchError> {
        self(series, days)
    }
}

/// What a load did. Rows are bars, or levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchReport {
    /// Rows that were on disk.
    pub from_disk: u64,
    /// Rows that were fetched.
    pub fetched: u64,
    /// Calls that were made, those that were made again included.
    pub calls: u64,
    /// Calls that loading all of the interval would have taken, less those that were made.
    pub calls_saved: u64,
    /// How long the load took.
    pub time: Duration,
    /// What the saved calls would have taken, by the mean of all calls for this series so far.
    pub time_saved: Duration,
    /// Fetched rows that lay outside of what was asked for, and were left out.
    pub outside: u64,
    /// Fetched rows that another one with the same timestamp took the place of.
    pub duplicates: u64,
    /// What is missing still, though the calendar expects data, and why.
    pub gaps: Vec<CoverageSpan>,
    /// The end of the interval, as far as it is not over yet and was not asked for.
    pub not_yet: Option<Interval<Timestamp>>,
}

/// Data, and what it took to have it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Loaded<T> {
    /// What was loaded, for messages.
    pub(crate) subject: String,
    /// All there is now.
    pub data: T,
    /// What it took.
    pub report: FetchReport,
}

impl<T> Loaded<T> {
    /// Returns whether nothing is missing that the calendar expects: sessions, as a whole. A session that has a bar
    /// counts as there; what is missing inside of it, [`BarSeries::intraday_gaps`](crate::market::BarSeries::intraday_gaps)
    /// finds. About days that the calendar does not know it expects nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.report.gaps.is_empty()
    }

    /// Returns the data if nothing is missing.
    ///
    /// # Errors
    /// `NotFound`, naming the first gap and why it is there.
    pub fn complete(self) -> Result<T> {
        let Some(gap) = self.report.gaps.first() else {
            return Ok(self.data);
        };
        let why = match &gap.coverage {
            Coverage::Failed { retry_at, reason, .. } => format!("{reason}; to be asked for again from {retry_at} on"),
            _ => "nobody asked for it".to_owned(),
        };
        let count = self.report.gaps.len();
        let gaps = if count == 1 { "a gap".to_owned() } else { format!("{count} gaps, the first") };
        let message = format!("{gaps} at {}: {why}", gap.interval);
        Err(Error::new(ErrorKind::NotFound, "load", self.subject, message))
    }
}
