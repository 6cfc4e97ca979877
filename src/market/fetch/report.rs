//! What a load says about itself.

use std::time::Duration;

use crate::{
    market::{
        bars::{columns::Bars, rescaled},
        coverage::{
            ledger::{Coverage, CoverageSpan},
            windows::RowPlace,
        },
    },
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        key::Symbol,
        rescaled::Rescaled,
        row_changes::RowChanges,
        time::{Day, Timestamp},
    },
};

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
    /// Fetched rows that lay outside of sessions, and were left out:
    /// [`FetchPolicy::extended_hours`](crate::market::FetchPolicy::extended_hours) keeps them on days with a session.
    pub outside_sessions: u64,
    /// Rows that were fetched so far, by this load and those before it, on days without a session of the calendar, and
    /// were left out: the series may have another one, see
    /// [`BarSeries::set_calendar`](crate::market::BarSeries::set_calendar).
    pub off_days: u64,
    /// The calendar that judged the series.
    pub calendar: String,
    /// Fetched rows that cannot be right, and were left out.
    pub left_out: Vec<LeftOut>,
    /// Fetched rows that another one with the same timestamp took the place of.
    pub duplicates: u64,
    /// That fetched bars came back on another scale than those that they replaced: the vendor restated history, for a
    /// split or otherwise, and what was not asked for again is on the scale before. If on several, the one that most
    /// rows show.
    pub rescaled: Option<Rescaled>,
    /// What is missing still, though the calendar expects data, and why.
    pub gaps: Vec<CoverageSpan>,
    /// Sessions that are assumed to be empty, because nothing came long after they were due.
    pub assumed_empty: Vec<CoverageSpan>,
    /// That the interval holds days which the calendar does not know.
    pub unjudged: Option<UnknownDays>,
    /// When the series was judged last, if that was by a clock that was more than a day ahead of this one: a replay, or
    /// a clock that was wrong. What was missing by that clock may be known as empty, until
    /// [`BarSeries::mark_missing`](crate::market::BarSeries::mark_missing).
    pub judged_later: Option<Timestamp>,
    /// The end of the interval, as far as it is not over yet and was not asked for.
    pub not_yet: Option<Interval<Timestamp>>,
}

impl FetchReport {
    /// Takes note of what an answer did to stored rows.
    pub(crate) fn note_rescaled(&mut self, series: &impl std::fmt::Display, written: &RowChanges) {
        rescaled::warn(series, written);
        self.rescaled = Rescaled::join(self.rescaled, written.rescaled);
    }

    /// Counts a fetched row that is to be left out; says whether it is kept.
    pub(crate) fn counts_in(&mut self, place: RowPlace) -> bool {
        self.outside_sessions += u64::from(place != RowPlace::Session);
        self.off_days += u64::from(place == RowPlace::OffDay);
        place == RowPlace::Session
    }
}

/// A fetched row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// When it begins.
    pub at: Timestamp,
    /// What is wrong with it, with its values.
    pub reason: String,
}

/// Days that the calendar of a series does not know: nobody can say whether all of them is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownDays {
    /// The interval that was loaded.
    pub interval: Interval<Timestamp>,
    /// The calendar.
    pub calendar: String,
    /// The days that it knows.
    pub known: Interval<Day>,
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
    /// Returns whether nothing is missing, as far as can be said: no gap, no session that is only assumed to be empty,
    /// no day that the calendar does not know, and no fetched row on a day without a session. Inside a session that has
    /// bars, a stretch without one counts as there once the publication delay after it is over; behind its last bar,
    /// once a later answer brought nothing more; [`BarSeries::intraday_gaps`](crate::market::BarSeries::intraday_gaps)
    /// lists them.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let FetchReport { gaps, assumed_empty, unjudged, off_days, .. } = &self.report;
        gaps.is_empty() && assumed_empty.is_empty() && unjudged.is_none() && *off_days == 0
    }

    /// Accepts that sessions are assumed to be empty.
    #[must_use]
    pub fn accept_assumed_empty(mut self) -> Self {
        self.report.assumed_empty.clear();
        self
    }

    /// Accepts days that the calendar does not know.
    #[must_use]
    pub fn accept_unjudged(mut self) -> Self {
        self.report.unjudged = None;
        self
    }

    /// Accepts that fetched rows on days without a session were left out.
    #[must_use]
    pub fn accept_off_days(mut self) -> Self {
        self.report.off_days = 0;
        self
    }

    /// Returns the data if nothing is missing: see [`is_complete`](Self::is_complete).
    ///
    /// # Errors
    /// `NotFound`, naming the first gap and why it is there, the first sessions that are only assumed to be empty, or
    /// the calendar and the days that it knows.
    pub fn complete(self) -> Result<T> {
        let Some(message) = self.why_incomplete() else {
            return Ok(self.data);
        };
        Err(Error::new(ErrorKind::NotFound, "load", self.subject, message))
    }

    fn why_incomplete(&self) -> Option<String> {
        let FetchReport { gaps, assumed_empty, unjudged, off_days, calendar, .. } = &self.report;
        if *off_days > 0 {
            return Some(format!(
                "{off_days} fetched rows lie on days without a session of {calendar}, and were left out: give the series \
                 its calendar with `set_calendar`, or accept that with `accept_off_days`"
            ));
        }
        let of = |spans: &[CoverageSpan], one: &str, many: &str| {
            if spans.len() == 1 { one.to_owned() } else { format!("{} {many}, the first", spans.len()) }
        };
        if let Some(gap) = gaps.first() {
            let why = match &gap.coverage {
                Coverage::Failed { retry_at, reason, .. } => {
                    format!("{reason}; to be asked for again from {retry_at} on, or at once after `mark_missing`")
                }
                Coverage::Due { retry_at, attempts, .. } => {
                    format!("not there yet, asked for {attempts} times; to be asked for again from {retry_at} on")
                }
                _ => "nobody asked for it".to_owned(),
            };
            return Some(format!("{} at {}: {why}", of(gaps, "a gap", "gaps"), gap.interval));
        }
        if let Some(unjudged) = unjudged {
            let UnknownDays { interval, calendar, known } = unjudged;
            return Some(format!(
                "the calendar {calendar} knows {known} and not all of {interval}: nobody can say what is missing; accept \
                 that with `accept_unjudged`, or use a calendar that knows these days"
            ));
        }
        assumed_empty.first().map(|assumed| {
            let (what, interval) = (of(assumed_empty, "sessions", "stretches of sessions"), assumed.interval);
            format!(
                "{what} at {interval}: no answer brought anything, so that they are assumed to be empty; accept that \
                 with `accept_assumed_empty`, or `mark_missing` to ask again"
            )
        })
    }
}

/// What a load of many symbols did in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManyReport {
    /// Rows that were on disk.
    pub from_disk: u64,
    /// Rows that were fetched.
    pub fetched: u64,
    /// Calls that were made, those that were made again included. The report of a symbol counts the calls that asked
    /// for it, so that one call is in many reports.
    pub calls: u64,
    /// Transactions that what came was committed in.
    pub commits: u64,
    /// Answers for symbols that nobody had asked for, which were left out.
    pub unasked: u64,
    /// How long the load took, by the store's clock: zero under one that stands still.
    pub time: Duration,
}

/// Data of many symbols, and what it took to have it.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadedMany {
    /// Each symbol, in the order in which they were asked for, with its bars and its own report, or with what keeps its
    /// series from being read or written.
    pub symbols: Vec<(Symbol, Result<Loaded<Bars>>)>,
    /// What it took in all.
    pub report: ManyReport,
}

impl LoadedMany {
    /// Returns whether nothing is missing of any symbol: see [`Loaded::is_complete`].
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.symbols.iter().all(|(_, loaded)| loaded.as_ref().is_ok_and(Loaded::is_complete))
    }

    /// Returns the symbols of which something is missing, or which could not be read, each with what it is: the
    /// messages that [`Loaded::complete`] fails with.
    #[must_use]
    pub fn incomplete(&self) -> Vec<(&Symbol, String)> {
        let why = |(symbol, loaded): &'_ (Symbol, Result<Loaded<Bars>>)| match loaded {
            Ok(loaded) => loaded.why_incomplete(),
            Err(err) => Some(format!("{symbol}: {err}")),
        };
        self.symbols.iter().filter_map(|of| Some((&of.0, why(of)?))).collect()
    }

    /// Accepts that sessions are assumed to be empty, for every symbol: see [`Loaded::accept_assumed_empty`].
    #[must_use]
    pub fn accept_assumed_empty(self) -> Self {
        let accept =
            |(symbol, loaded): (Symbol, Result<Loaded<Bars>>)| (symbol, loaded.map(Loaded::accept_assumed_empty));
        Self { symbols: self.symbols.into_iter().map(accept).collect(), ..self }
    }

    /// Returns the bars of all symbols if nothing is missing of any of them. Where a universe has symbols that are not
    /// traded any more, ask [`incomplete`](Self::incomplete) which ones it is about.
    ///
    /// # Errors
    /// What keeps a series from being read; `NotFound`, as of [`Loaded::complete`], for the first symbol of which
    /// something is missing.
    pub fn complete(self) -> Result<Vec<(Symbol, Bars)>> {
        self.symbols.into_iter().map(|(symbol, loaded)| Ok((symbol, loaded?.complete()?))).collect()
    }
}
