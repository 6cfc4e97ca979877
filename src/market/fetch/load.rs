//! Data from disk, and from a fetcher only what is missing: for bars and for levels.
//!
//! One load per series runs at a time; who waits looks at the ledger again, and finds what the other one brought. Every
//! answer is committed with what it says of its interval as it arrives, so that a load that was interrupted goes on
//! where it stopped.

use std::fmt;

use super::{
    answer::Answer,
    fetcher::{BarFetcher, LevelFetcher},
    need::{Content, Need, Noted, check_calls, normalise_bars},
    report::{FetchReport, LeftOut, Loaded},
};
use crate::{
    engine::Batch,
    market::{
        Market,
        bars::{bar::BadRows, columns::Bars, key::SeriesId, series::BarSeries},
        coverage::{covered::CoveredSeries, windows::RowPlace},
        fetch::requests::{self, FetchError, Response},
        levels::{series::LevelSeries, stored, values::Levels},
        timeframe::Timeframe,
    },
    sync::single_flight::{self, Caller, FlightKey},
    types::{
        error::Result,
        interval::Interval,
        key::{Symbol, shown},
        row_changes::RowChanges,
        time::{Day, Timestamp},
    },
};

/// What is being fetched or computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LoadKey {
    Bars(SeriesId),
    Levels(Symbol),
    Features(Symbol, crate::types::hash::Digest),
}

impl fmt::Display for LoadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bars(series) => series.fmt(f),
            Self::Levels(series) => series.fmt(f),
            Self::Features(symbol, fingerprint) => write!(f, "{} {}", shown(symbol.as_str()), fingerprint.short()),
        }
    }
}

impl FlightKey for LoadKey {
    const OPERATION: &'static str = "load";
    const CYCLE: &'static str = "what brings it asks for it, and would wait for itself for ever";
}

/// What can be loaded.
trait SeriesSource: Sync {
    /// The rows of an answer.
    type Response: Send;
    /// Rows that were looked at: in order, each time once.
    type Rows;

    fn covered(&self) -> &CoveredSeries<'_>;
    fn load(&self) -> LoadKey;
    fn fetch(&self, asked: Interval<Timestamp>) -> std::result::Result<Answer<Self::Response>, FetchError>;
    /// Leaves out what was not asked for, what lies in no session, and, if the policy says so, what cannot be right;
    /// the error says which row cannot.
    fn normalise(
        &self,
        answer: Self::Response,
        asked: Interval<Timestamp>,
        place_of: &dyn Fn(Timestamp) -> RowPlace,
        report: &mut FetchReport,
    ) -> Result<Self::Rows>;
    fn times(rows: &Self::Rows) -> Vec<Timestamp>;
    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<RowChanges>;
}

/// Brings what is missing of `interval`; the numbers of rows are for the caller to add. Returns also the part of it
/// that is over, beyond which nothing is handed out.
fn fetch_missing<S: SeriesSource>(
    source: &S,
    interval: Interval<Timestamp>,
) -> Result<(FetchReport, Interval<Timestamp>)> {
    let covered = source.covered();
    let core = &covered.market.core;
    let start = core.clock().monotonic();
    let load = source.load();
    let _flight = covered.market.loads.acquire(&load)?;
    let now = core.now();
    let mut need = Need::of(covered, interval, now)?;
    let mut calls = need.first_calls(covered, now)?;
    let mut made = 0_u64;
    // An answer may be a page of a longer one: then the rest is asked for.
    while !calls.is_empty() {
        made = made.saturating_add(calls.len() as u64);
        check_calls(made, &load)?;
        // Fail before fetching when the answer could not be stored.
        core.check_writable("load")?;
        let me = Caller::here();
        let mut rest = Vec::new();
        let generation = need.judged.record.generation;
        requests::run(
            calls,
            covered.policy(),
            &**core.clock(),
            |asked| single_flight::on_behalf_of(&me, || source.fetch(asked)),
            |answer| {
                rest.extend(commit_response(source, answer, (&need.due, generation), &mut need.report)?);
                Ok(())
            },
        )?;
        need.judged = covered.judged()?;
        rest.sort_unstable_by_key(Interval::start);
        calls = need.calls(covered, &rest, now)?;
    }
    let over = need.over;
    let report = need.finish(covered, now, made, core.clock().monotonic().saturating_sub(start));
    Ok((report, over))
}

/// Commits one answer, and what it says. Returns what is still to be asked for, if it was a page of a longer one.
fn commit_response<S: SeriesSource>(
    source: &S,
    response: Response<Answer<S::Response>>,
    (due, generation): (&[Interval<Timestamp>], u64),
    report: &mut FetchReport,
) -> Result<Option<Interval<Timestamp>>> {
    let Response { asked, result, attempts, asked_at, time } = response;
    let covered = source.covered();
    // What a vendor says is of when it was asked; how long it is left alone counts from when it failed.
    let now = if result.is_ok() { asked_at } else { covered.market.core.now() };
    let (left_out, off_days) = (report.left_out.len(), report.off_days);
    report.calls += u64::from(attempts);
    let content = match result {
        Ok(answer) => {
            let judged = covered.judged()?;
            let judge = covered.judge(&judged, now);
            let normalise = |rows| source.normalise(rows, asked, &|at| judge.place_of(at), report);
            Content::of(answer, asked, covered.timeframe(), normalise)
        }
        Err(error) => Content::failed(&error, attempts),
    };
    let times = content.rows.as_ref().map(S::times);
    let noted = Noted {
        asked,
        due,
        times: times.as_deref().map_err(|error| error.as_str()),
        more_from: content.more_from,
        is_final: content.is_final,
        pause: content.pause,
        attempts,
        time,
        left_out: report.left_out.get(left_out..).unwrap_or_default(),
        off_days: report.off_days - off_days,
        now,
        generation,
    };
    let (rest, written) = covered.market.core.commit("load", |batch| {
        let mut written = RowChanges::default();
        if let Ok(rows) = &content.rows {
            written = source.write(batch, rows)?;
        }
        let (judged, rest) = noted.judge(covered, batch, batch.before())?;
        covered.write_judged(batch, &judged)?;
        Ok((rest, written))
    })?;
    report.note_rescaled(&source.load(), &written);
    match &content.rows {
        Ok(rows) => report.fetched += S::times(rows).len() as u64,
        Err(error) => tracing::warn!(series = %source.load(), %asked, error, "could not be fetched"),
    }
    Ok(rest)
}

struct BarSource<'a, F> {
    series: &'a BarSeries<'a>,
    fetcher: &'a F,
}

impl<F: BarFetcher> SeriesSource for BarSource<'_, F> {
    type Response = Bars;
    type Rows = crate::market::bars::columns::Columns;

    fn covered(&self) -> &CoveredSeries<'_> {
        &self.series.covered
    }

    fn load(&self) -> LoadKey {
        LoadKey::Bars(self.series.id.clone())
    }

    fn fetch(&self, asked: Interval<Timestamp>) -> std::result::Result<Answer<Bars>, FetchError> {
        self.fetcher.fetch(self.series.symbol(), self.series.timeframe(), asked)
    }

    fn normalise(
        &self,
        answer: Bars,
        asked: Interval<Timestamp>,
        place_of: &dyn Fn(Timestamp) -> RowPlace,
        report: &mut FetchReport,
    ) -> Result<Self::Rows> {
        normalise_bars(self.series, &answer, asked, place_of, report)
    }

    fn times(rows: &Self::Rows) -> Vec<Timestamp> {
        rows.at.clone()
    }

    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<RowChanges> {
        self.series.apply(batch, rows, None)
    }
}

impl BarSeries<'_> {
    /// Returns the bars of `interval` that have ended by now, by the store's clock: from disk, and from the fetcher
    /// what is missing. A stretch that was asked for in vain is not asked for again before its time
    /// ([`Coverage`](crate::market::Coverage) has a table); concurrent calls for one series fetch once.
    ///
    /// What cannot be fetched is not an error: the report names the gaps, and [`Loaded::complete`] insists on none.
    /// Bars that are not over yet are not asked for. Answers are committed as they arrive. An answer that may be a page
    /// of a longer one is followed by a call for the rest.
    ///
    /// Bars that the vendor restates on another scale are reported ([`FetchReport::rescaled`]): after a split the
    /// newest bar may come back divided, while those before it were not asked for again. Then
    /// [`mark_missing`](Self::mark_missing)`(Interval::all_time())`, and load again.
    ///
    /// Blocks until the last answer is stored. The fetcher always runs on threads of its own, never on this one, and
    /// answers are stored on this one: a fetcher finds no thread-local state of the caller, such as an async runtime's.
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, Symbol, Timestamp, market::{Bar, Bars, FetchError, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let spy = store.bars("SPY", Timeframe::DAY)?;
    /// let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
    ///     let sessions = modelkeep::market::Calendar::nyse().sessions(asked.days()).collect::<Vec<_>>();
    ///     let bar = |at| Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 };
    ///     Ok::<Bars, FetchError>(sessions.into_iter().map(|session| bar(session.day.start())).collect())
    /// };
    /// let december = Interval::<Day>::parse("2018-12-01", "2019-01-01")?.span();
    /// let cold = spy.load_or_fetch(december, &vendor)?;
    /// assert_eq!((cold.data.len(), cold.report.calls), (19, 1));
    /// let warm = spy.load_or_fetch(december, &vendor)?;
    /// assert_eq!((warm.report.from_disk, warm.report.calls), (19, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for bars of more than a day: resample daily ones. `LimitExceeded` for more than 100,000 calls.
    /// `Corrupt` when what is stored is damaged, or what a write can fail with. A fetcher that asks for these very bars
    /// is refused with `InvalidInput`; one that has another thread ask waits for ever.
    pub fn load_or_fetch(&self, interval: Interval<Timestamp>, fetcher: &impl BarFetcher) -> Result<Loaded<Bars>> {
        self.check_given("load")?;
        self.check_sessions("load")?;
        let (mut report, over) = fetch_missing(&BarSource { series: self, fetcher }, interval)?;
        let data = self.range(over)?;
        report.from_disk = (data.len() as u64).saturating_sub(report.fetched);
        Ok(Loaded { subject: self.id.to_string(), data, report })
    }
}

impl Market {
    /// Returns the bars of `symbol`.
    pub(crate) fn load_or_fetch(
        &self,
        symbol: &str,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
        fetcher: &impl BarFetcher,
    ) -> Result<Loaded<Bars>> {
        self.bars(symbol, timeframe)?.load_or_fetch(interval, fetcher)
    }
}

struct LevelSource<'a, F> {
    series: &'a LevelSeries<'a>,
    fetcher: &'a F,
}

impl<F: LevelFetcher> SeriesSource for LevelSource<'_, F> {
    type Response = Vec<(Day, f64)>;
    type Rows = Vec<(Day, f64)>;

    fn covered(&self) -> &CoveredSeries<'_> {
        &self.series.covered
    }

    fn load(&self) -> LoadKey {
        LoadKey::Levels(self.series.series.clone())
    }

    fn fetch(&self, asked: Interval<Timestamp>) -> std::result::Result<Answer<Vec<(Day, f64)>>, FetchError> {
        self.fetcher.fetch(&self.series.series, asked.days())
    }

    fn normalise(
        &self,
        answer: Self::Response,
        asked: Interval<Timestamp>,
        place_of: &dyn Fn(Timestamp) -> RowPlace,
        report: &mut FetchReport,
    ) -> Result<Self::Rows> {
        let days = asked.days();
        let all = answer.len();
        let mut inside: Vec<_> = answer.into_iter().filter(|(day, _)| days.contains(*day)).collect();
        report.outside += (all - inside.len()) as u64;
        inside.retain(|(day, _)| report.counts_in(place_of(day.start())));
        if self.series.covered.policy().bad_rows == BadRows::LeaveOut {
            inside.retain(|(day, level)| {
                if !level.is_finite() {
                    report.left_out.push(LeftOut { at: day.start(), reason: format!("the level of {day} is {level}") });
                }
                level.is_finite()
            });
        }
        let rows: std::collections::BTreeMap<Day, f64> = inside.iter().copied().collect();
        report.duplicates += (inside.len() - rows.len()) as u64;
        let rows: Vec<_> = rows.into_iter().collect();
        stored::check(&self.series.series, &rows)?;
        Ok(rows)
    }

    fn times(rows: &Self::Rows) -> Vec<Timestamp> {
        rows.iter().map(|(day, _)| day.start()).collect()
    }

    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<RowChanges> {
        self.series.upsert(batch, rows, None)
    }
}

impl LevelSeries<'_> {
    /// Returns the levels of the days in `range`: from disk, and from the fetcher what is missing. As
    /// [`BarSeries::load_or_fetch`] does for bars; today's level counts as known when the session has closed.
    ///
    /// # Errors
    /// As for [`BarSeries::load_or_fetch`].
    pub fn load_or_fetch(&self, range: Interval<Day>, fetcher: &impl LevelFetcher) -> Result<Loaded<Levels>> {
        let (mut report, over) = fetch_missing(&LevelSource { series: self, fetcher }, range.span())?;
        let data = self.range(over.days())?;
        report.from_disk = (data.len() as u64).saturating_sub(report.fetched);
        Ok(Loaded { subject: self.series.to_string(), data, report })
    }
}
