//! Data from disk, and from a fetcher only what is missing: for bars and for levels.
//!
//! One load per series runs at a time; who waits looks at the ledger again, and finds what the other one brought. Every
//! answer is committed with what it says of its interval as it arrives, so that a load that was interrupted goes on
//! where it stopped.

use std::fmt;

use super::fetcher::{BarFetcher, FetchReport, LevelFetcher, Loaded};
use crate::{
    engine::Batch,
    market::{
        Market,
        bars::{columns::Bars, key::SeriesId, series::BarSeries, validate::prepare},
        coverage::{
            CoverageRecord, classify,
            covered::CoveredSeries,
            ledger::{self, Coverage, CoverageSpan},
        },
        fetch::requests::{self, FetchError, Response},
        levels::{series::LevelSeries, stored, values::Levels},
        timeframe::Timeframe,
    },
    sync::single_flight::{self, FlightKey},
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        invariant::Invariant,
        key::Symbol,
        limits::LOAD_CALLS_MAX,
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
            Self::Features(symbol, fingerprint) => write!(f, "{symbol} {}", fingerprint.short()),
        }
    }
}

impl FlightKey for LoadKey {
    const OPERATION: &'static str = "load";
    const CYCLE: &'static str = "what brings it asks for it, and would wait for itself for ever";
}

/// What can be loaded.
trait SeriesSource: Sync {
    /// What an answer holds.
    type Response: Send;
    /// Rows that were looked at: in order, each time once.
    type Rows;

    fn covered(&self) -> &CoveredSeries<'_>;
    fn load(&self) -> LoadKey;
    fn fetch(&self, asked: Interval<Timestamp>) -> std::result::Result<Self::Response, FetchError>;
    /// Leaves out what was not asked for; the error says which row cannot be right.
    fn normalise(
        &self,
        answer: Self::Response,
        asked: Interval<Timestamp>,
        report: &mut FetchReport,
    ) -> Result<Self::Rows>;
    fn times(rows: &Self::Rows) -> Vec<Timestamp>;
    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<()>;
}

/// Brings what is missing of `interval`; the numbers of rows are for the caller to add.
fn fetch_missing<S: SeriesSource>(source: &S, interval: Interval<Timestamp>) -> Result<FetchReport> {
    let covered = source.covered();
    let (market, core) = (covered.market, &covered.market.core);
    let start = core.clock().monotonic();
    let load = source.load();
    let _flight = market.loads.acquire(&load)?;
    let now = core.now();
    let mut record = covered.record_to_go_on_with()?;
    let mut report = FetchReport::default();
    let over = clip_to_closed(source, interval, now, &mut report);
    let due = missing(source, &record, over, now);
    let policy = source.covered().policy();
    let max_request_span = policy.max_request_span.map(|span| span.max(source.covered().timeframe().duration()));
    let joined = ledger::join(&due, max_request_span);
    let count =
        joined.iter().fold(0_u64, |sum, asked| sum.saturating_add(ledger::call_count(*asked, max_request_span)));
    if count > LOAD_CALLS_MAX {
        let message = format!(
            "{count} calls of {:?} each exceed the limit of {LOAD_CALLS_MAX}",
            max_request_span.unwrap_or_default()
        );
        return Err(Error::new(ErrorKind::LimitExceeded, "load", load.to_string(), message));
    }
    let split = joined.into_iter().flat_map(|asked| ledger::calls(asked, max_request_span));
    let calls: Vec<_> = split.filter(|asked| is_expected(source, *asked)).collect();
    report.calls_saved = ledger::call_count(over, max_request_span).saturating_sub(calls.len() as u64);
    if !calls.is_empty() {
        // A call that nobody can write down would be made again and again.
        core.check_writable("load")?;
        let me = std::thread::current().id();
        requests::run(
            calls,
            policy,
            &**core.clock(),
            |asked| single_flight::on_behalf_of(me, || source.fetch(asked)),
            |answer| commit_response(source, answer, &due, &mut report),
        )?;
        record = covered.record()?;
    }
    report.gaps = gaps(source, &record, over);
    let saved = u32::try_from(report.calls_saved).unwrap_or(u32::MAX);
    report.time_saved = record.mean_call().saturating_mul(saved);
    report.time = core.clock().monotonic().saturating_sub(start);
    Ok(report)
}

/// The part of `interval` that is over.
fn clip_to_closed<S: SeriesSource>(
    source: &S,
    interval: Interval<Timestamp>,
    now: Timestamp,
    report: &mut FetchReport,
) -> Interval<Timestamp> {
    let until = classify::complete_until(source.covered().calendar(), source.covered().timeframe(), now);
    if interval.end() <= until {
        return interval;
    }
    let end = until.max(interval.start());
    report.not_yet = Interval::new(end, interval.end()).ok();
    Interval::new(interval.start(), end).unwrap_or(interval)
}

/// What has to be asked for: not where an exchange is known to be closed.
fn missing<S: SeriesSource>(
    source: &S,
    record: &CoverageRecord,
    over: Interval<Timestamp>,
    now: Timestamp,
) -> Vec<Interval<Timestamp>> {
    let mut due = record.ledger.due(over, now);
    due.retain(|part| is_expected(source, *part));
    due
}

/// Whether there can be data in `part`: there is a session in it, or the calendar does not know.
fn is_expected<S: SeriesSource>(source: &S, part: Interval<Timestamp>) -> bool {
    let (known, days) = (source.covered().calendar().known(), part.days());
    let is_known = known.start() <= days.start() && days.end() <= known.end();
    !is_known || source.covered().calendar().expected(part, source.covered().timeframe()).next().is_some()
}

fn gaps<S: SeriesSource>(source: &S, record: &CoverageRecord, over: Interval<Timestamp>) -> Vec<CoverageSpan> {
    let is_gap = |stretch: &CoverageSpan| match stretch.coverage {
        Coverage::Present | Coverage::KnownEmpty => false,
        Coverage::Failed { .. } | Coverage::Missing => is_expected(source, stretch.interval),
    };
    record.ledger.within(over).into_iter().filter(is_gap).collect()
}

/// Commits one answer, and what it says.
fn commit_response<S: SeriesSource>(
    source: &S,
    answer: Response<S::Response>,
    due: &[Interval<Timestamp>],
    report: &mut FetchReport,
) -> Result<()> {
    let Response { asked, result, attempts, time } = answer;
    report.calls += u64::from(attempts);
    let (result, pause) = match result {
        Ok(answer) => (source.normalise(answer, asked, report), None),
        Err(error) => {
            let pause = error.pause();
            let message = if attempts == 1 { error.to_string() } else { format!("asked {attempts} times: {error}") };
            (Err(Error::new(ErrorKind::Io, "fetch", source.load().to_string(), message)), pause)
        }
    };
    let covered = source.covered();
    let core = &covered.market.core;
    let now = core.now();
    let (calendar, policy) = (covered.calendar(), covered.policy());
    let change = |batch: &Batch| {
        let mut record = covered.record_before(batch)?;
        record.calls += u64::from(attempts);
        record.call_time += time;
        match &result {
            Ok(rows) => {
                source.write(batch, rows)?;
                let times = S::times(rows);
                // What lies between, and was asked for to save a call, is what it was.
                for part in due.iter().filter_map(|part| overlap(*part, asked)) {
                    let first = times.partition_point(|at| *at < part.start());
                    let end = times.partition_point(|at| *at < part.end());
                    let times = times.get(first..end).always("times ascend");
                    classify::record_response(
                        &mut record.ledger,
                        calendar,
                        covered.timeframe(),
                        part,
                        times,
                        policy,
                        now,
                    );
                }
            }
            Err(error) => {
                let parts: Vec<_> = due.iter().filter_map(|part| overlap(*part, asked)).collect();
                classify::record_failure(&mut record.ledger, &parts, error.message(), pause, policy, now);
            }
        }
        covered.write_record(batch, &record)
    };
    core.commit("load", change)?;
    match &result {
        Ok(rows) => report.fetched += S::times(rows).len() as u64,
        Err(error) => tracing::warn!(series = %source.load(), %asked, %error, "could not be fetched"),
    }
    Ok(())
}

fn overlap(a: Interval<Timestamp>, b: Interval<Timestamp>) -> Option<Interval<Timestamp>> {
    let (start, end) = (a.start().max(b.start()), a.end().min(b.end()));
    if start < end { Interval::new(start, end).ok() } else { None }
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

    fn fetch(&self, asked: Interval<Timestamp>) -> std::result::Result<Bars, FetchError> {
        self.fetcher.fetch(self.series.symbol(), self.series.timeframe(), asked)
    }

    fn normalise(&self, answer: Bars, asked: Interval<Timestamp>, report: &mut FetchReport) -> Result<Self::Rows> {
        let mut rows: Vec<_> = answer.iter().filter(|bar| asked.contains(bar.at)).collect();
        report.outside += (answer.len() - rows.len()) as u64;
        // Vendors sort as they like; what repeats a timestamp comes later because it is newer.
        rows.sort_by_key(|bar| bar.at);
        let before = rows.len();
        rows.reverse();
        rows.dedup_by_key(|bar| bar.at);
        rows.reverse();
        report.duplicates += (before - rows.len()) as u64;
        prepare(&self.series.id, &rows.into_iter().collect(), self.series.covered.policy().bad_rows)
    }

    fn times(rows: &Self::Rows) -> Vec<Timestamp> {
        rows.at.clone()
    }

    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<()> {
        self.series.apply(batch, rows, None).map(drop)
    }
}

impl BarSeries<'_> {
    /// Returns the bars of `interval`: from disk, and from the fetcher what is missing. What was asked for in vain is
    /// not asked for again before its time, by whoever; callers that want the same at once make one of them fetch.
    ///
    /// What cannot be fetched is not an error: the report names the gaps, and [`Loaded::complete`] insists on none.
    /// Bars that are not over yet are not asked for. Answers are committed as they arrive.
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
        let mut report = fetch_missing(&BarSource { series: self, fetcher }, interval)?;
        let data = self.range(interval)?;
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

    fn fetch(&self, asked: Interval<Timestamp>) -> std::result::Result<Vec<(Day, f64)>, FetchError> {
        self.fetcher.fetch(&self.series.series, asked.days())
    }

    fn normalise(
        &self,
        answer: Self::Response,
        asked: Interval<Timestamp>,
        report: &mut FetchReport,
    ) -> Result<Self::Rows> {
        let days = asked.days();
        let all = answer.len();
        let inside: Vec<_> = answer.into_iter().filter(|(day, _)| days.contains(*day)).collect();
        report.outside += (all - inside.len()) as u64;
        let rows: std::collections::BTreeMap<Day, f64> = inside.iter().copied().collect();
        report.duplicates += (inside.len() - rows.len()) as u64;
        let rows: Vec<_> = rows.into_iter().collect();
        stored::check(&self.series.series, &rows)?;
        Ok(rows)
    }

    fn times(rows: &Self::Rows) -> Vec<Timestamp> {
        rows.iter().map(|(day, _)| day.start()).collect()
    }

    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<()> {
        stored::upsert(batch, &self.series.series, rows).map(drop)
    }
}

impl LevelSeries<'_> {
    /// Returns the levels of the days in `range`: from disk, and from the fetcher what is missing. As
    /// [`BarSeries::load_or_fetch`] does for bars; today's level counts as known when the session has closed.
    ///
    /// # Errors
    /// As for [`BarSeries::load_or_fetch`].
    pub fn load_or_fetch(&self, range: Interval<Day>, fetcher: &impl LevelFetcher) -> Result<Loaded<Levels>> {
        let mut report = fetch_missing(&LevelSource { series: self, fetcher }, range.span())?;
        let data = self.range(range)?;
        report.from_disk = (data.len() as u64).saturating_sub(report.fetched);
        Ok(Loaded { subject: self.series.to_string(), data, report })
    }
}
