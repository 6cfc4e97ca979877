//! Data from disk, and from a fetcher only what is missing: for bars and for levels.
//!
//! One load per series runs at a time; who waits looks at the ledger again, and finds what the other one brought. Every
//! answer is committed with what it says of its interval as it arrives, so that a load that was interrupted goes on
//! where it stopped.

use std::{fmt, time::Duration};

use super::{
    answer::Answer,
    fetcher::{BarFetcher, LevelFetcher},
    plan::{bar_grid, clip_to_closed, judge_result, left_out_spans, to_ask},
    report::{FetchReport, LeftOut, Loaded},
};
use crate::{
    engine::Batch,
    market::{
        Market,
        bars::{
            bar::BadRows,
            columns::Bars,
            key::SeriesId,
            series::BarSeries,
            validate::{flaw, prepare},
        },
        coverage::{
            classify::{self, Judge},
            covered::{CoveredSeries, Judged},
            ledger::{self, Ledger},
            windows::RowPlace,
        },
        fetch::requests::{self, FetchError, Response},
        levels::{series::LevelSeries, stored, values::Levels},
        timeframe::Timeframe,
    },
    sync::single_flight::{self, Caller, FlightKey},
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        invariant::Invariant,
        key::{Symbol, shown},
        limits::LOAD_CALLS_MAX,
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
    /// Leaves out what was not asked for, what lies in no session, and, if the policy says so, what cannot be right; the
    /// error says which row cannot.
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

/// Brings what is missing of `interval`; the numbers of rows are for the caller to add.
fn fetch_missing<S: SeriesSource>(source: &S, interval: Interval<Timestamp>) -> Result<FetchReport> {
    let covered = source.covered();
    let (market, core) = (covered.market, &covered.market.core);
    let start = core.clock().monotonic();
    let load = source.load();
    let _flight = market.loads.acquire(&load)?;
    let now = core.now();
    let mut judged = covered.judged()?;
    let mut report = FetchReport::default();
    let grid = bar_grid(covered, &judged, now)?;
    let over = clip_to_closed(&covered.judge(&judged, now), interval, grid, &mut report);
    let due = to_ask(&covered.judge(&judged, now), &judged, over, grid);
    let policy = covered.policy();
    let max_request_span = policy.max_request_span.map(|span| span.max(covered.timeframe().duration()));
    let calls_for = |due: &[Interval<Timestamp>], judged: &Judged| {
        let joined = ledger::join(due, max_request_span, covered.timeframe().duration());
        let count =
            joined.iter().fold(0_u64, |sum, asked| sum.saturating_add(ledger::call_count(*asked, max_request_span)));
        if count > LOAD_CALLS_MAX {
            let span = max_request_span.unwrap_or_default();
            let message = format!("{count} calls of {span:?} each exceed the limit of {LOAD_CALLS_MAX}");
            return Err(Error::new(ErrorKind::LimitExceeded, "load", load.to_string(), message));
        }
        let split = joined.into_iter().flat_map(|asked| ledger::calls(asked, max_request_span));
        let judge = covered.judge(judged, now);
        Ok(split.filter(|asked| judge.expects(*asked)).collect::<Vec<_>>())
    };
    let mut calls = calls_for(&due, &judged)?;
    let mut made = 0_u64;
    // An answer may be a page of a longer one: then the rest is asked for.
    while !calls.is_empty() {
        made = made.saturating_add(calls.len() as u64);
        if made > LOAD_CALLS_MAX {
            let message = format!("more than {LOAD_CALLS_MAX} calls, with those for the rest of pages");
            return Err(Error::new(ErrorKind::LimitExceeded, "load", load.to_string(), message));
        }
        // Fail before fetching when the answer could not be stored.
        core.check_writable("load")?;
        let me = Caller::here();
        let mut rest = Vec::new();
        requests::run(
            calls,
            policy,
            &**core.clock(),
            |asked| single_flight::on_behalf_of(&me, || source.fetch(asked)),
            |answer| {
                rest.extend(commit_response(source, answer, &due, &mut report)?);
                Ok(())
            },
        )?;
        judged = covered.judged()?;
        rest.sort_unstable_by_key(Interval::start);
        calls = calls_for(&rest, &judged)?;
    }
    let grid = bar_grid(covered, &judged, now)?;
    report.off_days = judged.record.off_days;
    judge_result(&covered.judge(&judged, now), &judged, over, grid, &mut report);
    report.calls_saved = ledger::call_count(over, max_request_span).saturating_sub(made);
    let saved = u32::try_from(report.calls_saved).unwrap_or(u32::MAX);
    report.time_saved = judged.record.mean_call().saturating_mul(saved);
    report.time = core.clock().monotonic().saturating_sub(start);
    Ok(report)
}

/// Commits one answer, and what it says. Returns what is still to be asked for, if it was a page of a longer one.
fn commit_response<S: SeriesSource>(
    source: &S,
    answer: Response<Answer<S::Response>>,
    due: &[Interval<Timestamp>],
    report: &mut FetchReport,
) -> Result<Option<Interval<Timestamp>>> {
    let Response { asked, result, attempts, time } = answer;
    let covered = source.covered();
    let core = &covered.market.core;
    let now = core.now();
    report.calls += u64::from(attempts);
    let (left_out, off_days) = (report.left_out.len(), report.off_days);
    let (result, pause) = match result {
        Ok(answer) => {
            let judged = covered.judged()?;
            let judge = covered.judge(&judged, now);
            let Answer { rows, more_from, is_final } = answer;
            let rows = source.normalise(rows, asked, &|at| judge.place_of(at), report);
            // At least a bar further, or it would never come to an end.
            let ahead = asked.start().after(covered.timeframe().duration());
            (rows.map(|rows| (rows, more_from.map(|at| at.max(ahead)), is_final)), None)
        }
        Err(error) => {
            let pause = error.pause();
            let message = if attempts == 1 { error.to_string() } else { format!("asked {attempts} times: {error}") };
            (Err(Error::new(ErrorKind::Io, "fetch", source.load().to_string(), message)), pause)
        }
    };
    let change = |batch: &Batch| {
        let mut judged = covered.judged_before(batch)?;
        judged.record.calls += u64::from(attempts);
        judged.record.call_time += time;
        judged.record.off_days = judged.record.off_days.saturating_add(report.off_days - off_days);
        let mut ledger = judged.record.ledger.clone();
        let before = ledger.clone();
        let parts = due.iter().filter_map(|part| overlap(*part, asked));
        let (mut rest, mut written) = (None, RowChanges::default());
        match &result {
            Ok((rows, more_from, is_final)) => {
                written = source.write(batch, rows)?;
                let judge = covered.judge(&judged, now);
                let answered = Answered { asked, times: &S::times(rows), more_from: *more_from, is_final: *is_final };
                let learnt = answered.note(&judge, &mut ledger, parts);
                rest = learnt.rest;
                let left_out = report.left_out.get(left_out..).unwrap_or_default();
                for (span, reason) in left_out_spans(left_out, covered.timeframe().duration()) {
                    let spans: Vec<_> = overlap(span, asked).into_iter().collect();
                    classify::record_failure(&mut ledger, &before, &spans, &reason, None, covered.policy(), now);
                }
                judged.record.learnt_delay = judged.record.learnt_delay.max(learnt.delay);
            }
            Err(error) => {
                let parts: Vec<_> = parts.collect();
                classify::record_failure(&mut ledger, &before, &parts, error.message(), pause, covered.policy(), now);
            }
        }
        ledger.bound();
        judged.record.ledger = ledger;
        covered.write_judged(batch, &judged)?;
        Ok((rest, written))
    };
    let (rest, written) = core.commit("load", change)?;
    report.note_rescaled(&source.load(), &written);
    match &result {
        Ok((rows, ..)) => report.fetched += S::times(rows).len() as u64,
        Err(error) => tracing::warn!(series = %source.load(), %asked, %error, "could not be fetched"),
    }
    Ok(rest)
}

/// What a fetcher answered.
struct Answered<'a> {
    asked: Interval<Timestamp>,
    /// When its rows begin, in order.
    times: &'a [Timestamp],
    more_from: Option<Timestamp>,
    is_final: bool,
}

/// What follows from an answer.
#[derive(Default)]
struct Learnt {
    /// What is still to be asked for, if it was a page of a longer one.
    rest: Option<Interval<Timestamp>>,
    /// The publication delay that it shows.
    delay: Duration,
}

impl Answered<'_> {
    /// Takes note of it for the `parts` of what was asked for that were due: what lies between, and was asked for to
    /// save a call, is what it was.
    fn note(&self, judge: &Judge<'_>, ledger: &mut Ledger, parts: impl Iterator<Item = Interval<Timestamp>>) -> Learnt {
        let Self { asked, times, more_from, is_final } = *self;
        let page_end = more_from.or_else(|| if is_final { None } else { judge.page_end(asked, times) });
        let page_end = page_end.filter(|end| *end < asked.end());
        let page = Interval::between(asked.start(), page_end.unwrap_or(asked.end()));
        let mut learnt = Learnt { rest: page_end.map(|end| Interval::between(end, asked.end())), ..Learnt::default() };
        for part in parts.filter_map(|part| overlap(part, page)) {
            let first = times.partition_point(|at| *at < part.start());
            let end = times.partition_point(|at| *at < part.end());
            let times = times.get(first..end).always("times ascend");
            let shown = judge.record_response(ledger, part, times);
            learnt.delay = learnt.delay.max(shown.unwrap_or_default());
            if is_final {
                classify::record_final(ledger, part);
            }
        }
        if let Some(end) = page_end {
            judge.record_page_end(ledger, end);
        }
        learnt
    }
}

fn overlap(a: Interval<Timestamp>, b: Interval<Timestamp>) -> Option<Interval<Timestamp>> {
    let (start, end) = (a.start().max(b.start()), a.end().min(b.end()));
    (start < end).then(|| Interval::between(start, end))
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
        let mut rows: Vec<_> = answer.iter().filter(|bar| asked.contains(bar.at)).collect();
        report.outside += (answer.len() - rows.len()) as u64;
        rows.retain(|bar| report.counts_in(place_of(bar.at)));
        // Vendors sort as they like; what repeats a timestamp comes later because it is newer.
        rows.sort_by_key(|bar| bar.at);
        let before = rows.len();
        rows.reverse();
        rows.dedup_by_key(|bar| bar.at);
        rows.reverse();
        report.duplicates += (before - rows.len()) as u64;
        let bad_rows = self.series.covered.policy().bad_rows;
        if bad_rows == BadRows::LeaveOut {
            rows.retain(|bar| match flaw(self.series.rules(), bar) {
                None => true,
                Some(reason) => {
                    report.left_out.push(LeftOut { at: bar.at, reason });
                    false
                }
            });
        }
        prepare(self.series.rules(), &rows.into_iter().collect(), bad_rows)
    }

    fn times(rows: &Self::Rows) -> Vec<Timestamp> {
        rows.at.clone()
    }

    fn write(&self, batch: &Batch, rows: &Self::Rows) -> Result<RowChanges> {
        self.series.apply(batch, rows, None)
    }
}

impl BarSeries<'_> {
    /// Returns the bars of `interval` that have ended by now, by the store's clock: from disk, and from the fetcher what is
    /// missing. A stretch that was asked for in vain is not asked for again before its time ([`Coverage`](crate::market::Coverage) has a table); concurrent calls
    /// for one series fetch once.
    ///
    /// What cannot be fetched is not an error: the report names the gaps, and [`Loaded::complete`] insists on none.
    /// Bars that are not over yet are not asked for. Answers are committed as they arrive. An answer that may be a page
    /// of a longer one is followed by a call for the rest.
    ///
    /// Bars that the vendor restates on another scale are reported ([`FetchReport::rescaled`]): after a split the newest
    /// bar may come back divided, while those before it were not asked for again. Then
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
        let mut report = fetch_missing(&BarSource { series: self, fetcher }, interval)?;
        let data = self.ended_by(self.range(interval)?, self.covered.market.core.now())?;
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
        let mut report = fetch_missing(&LevelSource { series: self, fetcher }, range.span())?;
        let data = self.ended_by(self.range(range)?, self.covered.market.core.now())?;
        report.from_disk = (data.len() as u64).saturating_sub(report.fetched);
        Ok(Loaded { subject: self.series.to_string(), data, report })
    }
}
