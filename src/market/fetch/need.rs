//! What a load of one series asks for, and what an answer says of the series: for loads of one series and of many.

use std::time::Duration;

use super::{
    answer::Answer,
    load::LoadKey,
    plan::{clip_to_closed, judge_result, left_out_spans, to_ask},
    report::{FetchReport, LeftOut},
    requests::FetchError,
};
use crate::{
    engine::{Reader, Snapshot},
    market::{
        bars::{
            bar::BadRows,
            columns::{Bars, Columns},
            series::BarSeries,
            validate::{flaw, prepare},
        },
        coverage::{
            classify::{self, Judge},
            covered::{CoveredSeries, Judged},
            ledger::{self, Coverage, CoverageSpan, Ledger},
            windows::{RowPlace, Window},
        },
        timeframe::Timeframe,
    },
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        invariant::Invariant,
        limits::{CLOCK_STEP_MAX, LOAD_CALLS_MAX},
        time::Timestamp,
    },
};

/// Longer than any market was closed: the longest week of holidays, or the NYSE in September 2001.
const NO_SESSION_MAX: Duration = Duration::from_secs(16 * 24 * 3600);

/// What a load of one series has to do.
pub(super) struct Need {
    pub(super) report: FetchReport,
    pub(super) judged: Judged,
    /// The part of what is wanted that is over: every bar that begins in it has ended.
    pub(super) over: Interval<Timestamp>,
    /// What has to be asked for.
    pub(super) due: Vec<Interval<Timestamp>>,
}

impl Need {
    /// What is missing of `interval`.
    pub(super) fn of(covered: &CoveredSeries<'_>, interval: Interval<Timestamp>, now: Timestamp) -> Result<Self> {
        let judged = covered.judged()?;
        let mut report = FetchReport::default();
        let judge = covered.judge(&judged, now);
        let step = Duration::from_nanos(CLOCK_STEP_MAX.unsigned_abs());
        report.judged_later = Some(judged.record.judged_at).filter(|at| *at > now.after(step));
        let over = clip_to_closed(&judge, interval, &mut report);
        let due = to_ask(&judge, &judged, over);
        Ok(Self { report, judged, over, due })
    }

    /// The calls that bring what is due, and the sessions before it that the policy wants again.
    pub(super) fn first_calls(&self, covered: &CoveredSeries<'_>, now: Timestamp) -> Result<Vec<Interval<Timestamp>>> {
        self.calls_with(covered, &self.due, covered.policy().overlap, now)
    }

    /// The calls that bring the rest of what was asked for.
    pub(super) fn calls(
        &self,
        covered: &CoveredSeries<'_>,
        rest: &[Interval<Timestamp>],
        now: Timestamp,
    ) -> Result<Vec<Interval<Timestamp>>> {
        self.calls_with(covered, rest, 0, now)
    }

    fn calls_with(
        &self,
        covered: &CoveredSeries<'_>,
        due: &[Interval<Timestamp>],
        overlap: u32,
        now: Timestamp,
    ) -> Result<Vec<Interval<Timestamp>>> {
        let max_request_span = max_request_span(covered);
        let judge = covered.judge(&self.judged, now);
        // Holes of one session are one call, and so is what only a night lies between.
        let is_within_session = |between: Interval<Timestamp>| {
            let window = judge.window_at(between.start()).filter(|_| !covered.timeframe().is_daily());
            window.is_some_and(|window| window.whole.contains(between.end()))
        };
        let is_nothing = |between| is_within_session(between) || !judge.can_begin_in(between);
        let mut joined = ledger::join(due, max_request_span, covered.timeframe().duration(), is_nothing);
        // One call shows a change of scale: the last one, which brings what is new.
        if let Some(last) = joined.pop() {
            let mut start = self.sessions_before(&judge, last.start(), overlap);
            // What is missing in there is in it.
            while let Some(within) = joined.pop_if(|before| start < before.end()) {
                start = start.min(within.start());
            }
            joined.push(Interval::between(start, last.end()));
        }
        let count =
            joined.iter().fold(0_u64, |sum, asked| sum.saturating_add(ledger::call_count(*asked, max_request_span)));
        if count > LOAD_CALLS_MAX {
            let span = max_request_span.unwrap_or_default();
            let message = format!("{count} calls of {span:?} each exceed the limit of {LOAD_CALLS_MAX}");
            return Err(Error::new(ErrorKind::LimitExceeded, "load", covered.to_string(), message));
        }
        let split = joined.into_iter().flat_map(|asked| ledger::calls(asked, max_request_span));
        Ok(split.filter(|asked| judge.can_begin_in(*asked)).collect())
    }

    /// Where the last `count` sessions before `start` begin, as far as rows of them are there.
    fn sessions_before(&self, judge: &Judge<'_>, start: Timestamp, count: u32) -> Timestamp {
        let mut first = start;
        let session_of = |window: Window| Some((window.session?, window.whole.start()));
        // Trading before it on the same day is no session before it.
        let mut of = judge.window_at(start).and_then(session_of).map(|(session, _)| session);
        for _ in 0..count {
            let windows = judge.windows(Interval::between(first.before(NO_SESSION_MAX), first)).filter_map(session_of);
            let windows: Vec<_> = windows.filter(|(session, _)| of != Some(*session)).collect();
            let Some((session, _)) = windows.last() else { break };
            // A session with breaks begins with the first of its stretches.
            let begins = windows.iter().find(|(other, _)| other == session).map_or(first, |(_, begins)| *begins);
            of = Some(*session);
            let session = Interval::between(begins, first);
            let is_there =
                |span: &CoverageSpan| matches!(span.coverage, Coverage::Present | Coverage::Provisional { .. });
            if !self.judged.record.ledger.within(session).iter().any(is_there) {
                break;
            }
            first = session.start();
        }
        first
    }

    /// Says what is still missing, after so many calls.
    pub(super) fn finish(self, covered: &CoveredSeries<'_>, now: Timestamp, made: u64, time: Duration) -> FetchReport {
        let Self { mut report, judged, over, .. } = self;
        report.off_days = judged.record.off_days;
        judge_result(&covered.judge(&judged, now), &judged, over, &mut report);
        report.calls_saved = ledger::call_count(over, max_request_span(covered)).saturating_sub(made);
        let saved = u32::try_from(report.calls_saved).unwrap_or(u32::MAX);
        report.time_saved = judged.record.mean_call().saturating_mul(saved);
        report.time = time;
        report
    }
}

fn max_request_span(covered: &CoveredSeries<'_>) -> Option<Duration> {
    covered.policy().max_request_span.map(|span| span.max(covered.timeframe().duration()))
}

/// Refuses more calls than a load may make.
pub(super) fn check_calls(made: u64, load: &LoadKey) -> Result<()> {
    if made <= LOAD_CALLS_MAX {
        return Ok(());
    }
    let message = format!("more than {LOAD_CALLS_MAX} calls, with those for the rest of pages");
    Err(Error::new(ErrorKind::LimitExceeded, "load", load.to_string(), message))
}

/// What a response brought for one series.
pub(super) struct Content<R> {
    /// Rows that were looked at, or why there are none.
    pub(super) rows: std::result::Result<R, String>,
    pub(super) more_from: Option<Timestamp>,
    pub(super) is_final: bool,
    /// How long the fetcher asks to be left alone.
    pub(super) pause: Option<Duration>,
}

impl<R> Content<R> {
    pub(super) fn of<T>(
        answer: Answer<T>,
        asked: Interval<Timestamp>,
        timeframe: Timeframe,
        normalise: impl FnOnce(T) -> Result<R>,
    ) -> Self {
        let Answer { rows, more_from, is_final } = answer;
        // At least a bar further, or it would never come to an end.
        let ahead = asked.start().after(timeframe.duration());
        let rows = normalise(rows).map_err(|err| err.message().to_owned());
        Self { rows, more_from: more_from.map(|at| at.max(ahead)), is_final, pause: None }
    }

    pub(super) fn failed(error: &FetchError, attempts: u32) -> Self {
        let message = if attempts == 1 { error.to_string() } else { format!("asked {attempts} times: {error}") };
        Self { rows: Err(message), more_from: None, is_final: false, pause: error.pause() }
    }
}

/// A response, as the ledger of one series takes note of it.
pub(super) struct Noted<'a> {
    pub(super) asked: Interval<Timestamp>,
    /// What the load has to ask for; what lies between was asked for to save a call.
    pub(super) due: &'a [Interval<Timestamp>],
    /// When its rows begin, in order, or why there are none.
    pub(super) times: std::result::Result<&'a [Timestamp], &'a str>,
    pub(super) more_from: Option<Timestamp>,
    pub(super) is_final: bool,
    pub(super) pause: Option<Duration>,
    pub(super) attempts: u32,
    pub(super) time: Duration,
    /// Rows of it that were left out.
    pub(super) left_out: &'a [LeftOut],
    /// Rows of it on days without a session.
    pub(super) off_days: u64,
    /// What it is judged by: when the call began that brought it, or when it had failed.
    pub(super) now: Timestamp,
    /// What the ledger's generation was when the load looked at it.
    pub(super) generation: u64,
}

impl Noted<'_> {
    /// What is known of the series after it, and what is still to be asked for, if it was a page of a longer one.
    pub(super) fn judge(
        &self,
        covered: &CoveredSeries<'_>,
        reader: &impl Reader,
        rows: &Snapshot,
    ) -> Result<(Judged, Option<Interval<Timestamp>>)> {
        let Self { asked, now, .. } = *self;
        let mut judged = covered.judged_in(reader, rows)?;
        judged.record.calls += u64::from(self.attempts);
        judged.record.call_time += self.time;
        judged.record.off_days = judged.record.off_days.saturating_add(self.off_days);
        if judged.record.generation != self.generation {
            // Somebody forgot what was known while the answer was under way: it may be of before.
            return Ok((judged, None));
        }
        let mut ledger = judged.record.ledger.clone();
        let before = ledger.clone();
        let parts = self.due.iter().filter_map(|part| overlap(*part, asked));
        let mut rest = None;
        match self.times {
            Ok(times) => {
                let judge = covered.judge(&judged, now);
                let answered = Answered { asked, times, more_from: self.more_from, is_final: self.is_final };
                let learnt = answered.note(&judge, &mut ledger, parts);
                rest = learnt.rest;
                for (span, reason) in left_out_spans(self.left_out, covered.timeframe().duration()) {
                    let spans: Vec<_> = overlap(span, asked).into_iter().collect();
                    classify::record_failure(&mut ledger, &before, &spans, &reason, None, covered.policy(), now);
                }
                judged.record.closing_seen |= judge.has_closing(times);
                judged.record.learnt_delay = judged.record.learnt_delay.max(learnt.delay);
            }
            Err(message) => {
                let parts: Vec<_> = parts.collect();
                classify::record_failure(&mut ledger, &before, &parts, message, self.pause, covered.policy(), now);
            }
        }
        ledger.bound();
        judged.record.ledger = ledger;
        Ok((judged, rest))
    }
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
            judge.record_page_end(ledger, end, asked);
        }
        learnt
    }
}

fn overlap(a: Interval<Timestamp>, b: Interval<Timestamp>) -> Option<Interval<Timestamp>> {
    let (start, end) = (a.start().max(b.start()), a.end().min(b.end()));
    (start < end).then(|| Interval::between(start, end))
}

/// The bars of an answer that count: see [`SeriesSource::normalise`](super::load).
pub(super) fn normalise_bars(
    series: &BarSeries<'_>,
    answer: &Bars,
    asked: Interval<Timestamp>,
    place_of: &dyn Fn(Timestamp) -> RowPlace,
    report: &mut FetchReport,
) -> Result<Columns> {
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
    let bad_rows = series.covered.policy().bad_rows;
    if bad_rows == BadRows::LeaveOut {
        rows.retain(|bar| match flaw(series.rules(), bar) {
            None => true,
            Some(reason) => {
                report.left_out.push(LeftOut { at: bar.at, reason });
                false
            }
        });
    }
    prepare(series.rules(), &rows.into_iter().collect(), bad_rows)
}
