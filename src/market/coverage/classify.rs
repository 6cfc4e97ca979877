//! What a write or an answer says about a stretch of time, judged by a calendar.
//!
//! Nothing here claims more than was seen. Time that a call did not ask for, and a write did not cover, stays missing;
//! a session that came back empty is due, and later assumed to be empty, but never known to be.

use std::time::Duration;

use super::{
    grid::BarGrid,
    ledger::{Coverage, CoverageSpan, Ledger},
    windows::Window,
};
use crate::{
    market::{calendar::Calendar, fetch::policy::FetchPolicy, timeframe::Timeframe},
    types::{
        interval::Interval,
        invariant::Invariant,
        limits::{REASON_BYTES_MAX, shortened},
        time::Timestamp,
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// What a failure is left alone for at most.
const FAILED_PAUSE_MAX: Duration = DAY;
/// What a session that is due is left alone for: this share of the time since its close, so that what is published is
/// found within some 3 % of how late it was.
const DUE_SHARE: u32 = 32;
const DUE_PAUSE_MIN: Duration = MINUTE;
const DUE_PAUSE_MAX: Duration = DAY;
/// What a session that is assumed to be empty is left alone for, after each time that it was asked for in vain.
const ASSUMED_PAUSES: [Duration; 3] = [DAY, Duration::from_secs(7 * 24 * 3600), Duration::from_secs(30 * 24 * 3600)];
/// Bars between two answers that say together where the bars of a session end.
const BARS_BETWEEN_ANSWERS: u32 = 4;
/// Bars between two that are stored, of which one answer says that they were without a trade.
const SHORT_GAP_BARS: u32 = 10;
/// Rows from which an answer may be a page of a longer one.
const PAGE_ROWS_MIN: usize = 50;
/// Rows from which an answer that ends within a session may be a page.
const PAGE_ROWS_WITHIN_SESSION: usize = 500;

/// What judges one series at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) calendar: &'a Calendar,
    pub(crate) timeframe: Timeframe,
    pub(crate) policy: &'a FetchPolicy,
    /// The longest publication delay that was seen.
    pub(crate) learnt_delay: Duration,
    /// Where bars begin.
    pub(crate) grid: &'a BarGrid,
    /// Whether the series has had bars that begin at the close of a session.
    pub(crate) closing_seen: bool,
    pub(crate) now: Timestamp,
}

impl Judge<'_> {
    /// How long after the close of a session its last rows may be on their way.
    pub(super) fn delay(&self) -> Duration {
        self.policy.delay_of(self.timeframe).max(self.learnt_delay)
    }

    /// Takes note of an answer to `asked` that brought rows `at` these times, which are in order and lie within.
    /// Returns the publication delay that it shows, if it is longer than what was known.
    pub(crate) fn record_response(
        &self,
        ledger: &mut Ledger,
        asked: Interval<Timestamp>,
        at: &[Timestamp],
    ) -> Option<Duration> {
        let before = ledger.clone();
        // The rows of this very answer may show that others are still on their way.
        let shown = self.delay_shown(&before, asked, at);
        let grid = self.grid_after(at);
        let judge = Judge {
            learnt_delay: self.learnt_delay.max(shown.unwrap_or_default()),
            grid: &grid,
            closing_seen: self.closing_seen || self.has_closing(at),
            ..*self
        };
        let mut spans: Vec<CoverageSpan> = Vec::new();
        let mut judged_to = asked.start();
        for window in judge.windows(asked) {
            let rows = rows_in(at, window.span);
            let first = spans.len();
            judge.judge(&before, &window, rows, &mut spans);
            // Between sessions nothing is expected: it goes with what lies before it, so that years are one stretch.
            let neighbour = first.checked_sub(1).or(Some(first)).and_then(|at| spans.get(at));
            let between = beside_sessions(neighbour);
            if judged_to < window.span.start() {
                let interval = Interval::between(judged_to, window.span.start());
                spans.insert(first, CoverageSpan { interval, coverage: between });
            }
            judged_to = window.span.end().max(judged_to);
        }
        let rest = beside_sessions(spans.last());
        for CoverageSpan { interval, coverage } in spans {
            ledger.mark(interval, coverage);
        }
        if judged_to < asked.end() {
            ledger.mark(Interval::between(judged_to, asked.end()), rest);
        }
        shown
    }

    /// What an answer says of one session.
    fn judge(&self, before: &Ledger, window: &Window, rows: &[Timestamp], out: &mut Vec<CoverageSpan>) {
        let mut push = |start: Timestamp, end: Timestamp, coverage: Coverage| {
            if start < end {
                out.push(CoverageSpan { interval: Interval::between(start, end), coverage });
            }
        };
        let (start, end) = (window.span.start(), window.span.end());
        let settled_at = window.closed_at.after(self.delay());
        let is_settled = settled_at <= self.now;
        if self.timeframe.is_daily() {
            match (rows.is_empty(), is_settled) {
                (true, _) => {
                    let absent = |part| self.absent(before, window, part);
                    out.extend(self.unanswered(before, window, window.span, absent));
                }
                (false, true) => push(start, end, Coverage::Present),
                (false, false) => push(start, end, Coverage::Provisional { confirm_at: settled_at }),
            }
            return;
        }
        let stored_in = |part: Interval<Timestamp>| before.within(part).iter().any(|span| span.coverage.is_stored());
        if rows.is_empty() && !stored_in(window.whole) {
            return push(start, end, self.absent(before, window, window.span));
        }
        // The time behind the last row that is known of: rows may still come there. An empty answer says nothing about
        // what lies before rows that are stored already, unless others lie in front of it.
        // What is known of the close itself is no row.
        let regular_end = window.closing.unwrap_or(window.whole.end());
        let stored_behind = stored_in(Interval::between(end, regular_end.max(end)));
        // A long hole may be that of a feed and of its vendor both.
        let is_short = end.since(start) <= self.timeframe.duration().saturating_mul(SHORT_GAP_BARS);
        let is_within =
            is_short && stored_behind && stored_in(Interval::between(window.whole.start().min(start), start));
        let is_last = if rows.is_empty() { !is_within } else { end >= window.whole.end() || !stored_behind };
        let tail = if is_last { rows.last().map_or(start, |last| self.row_until(*last)).min(end) } else { end };
        if is_settled {
            push(start, tail, Coverage::Present);
            out.extend(self.unanswered(before, window, Interval::between(tail, end), |part| {
                self.behind_last(before, window, rows, part)
            }));
        } else {
            // Minutes without a trade are told from late ones when the session has ended.
            let mut known_to = start;
            for row in rows {
                let gap = Interval::between(known_to, (*row).max(known_to));
                out.extend(self.unanswered(before, window, gap, |part| self.due(before, window, part, settled_at)));
                known_to = self.row_until(*row).min(end).max(known_to);
                out.push(CoverageSpan {
                    interval: Interval::between((*row).max(gap.start()), known_to),
                    coverage: Coverage::Present,
                });
            }
            let retry_at = if is_last { self.next_look(window) } else { settled_at };
            // Where no bar has begun at the close so far, it is worth one look, when all has been published.
            let closing =
                window.closing.filter(|_| !self.closing_seen).map_or(end, |closing| closing.clamp(known_to, end));
            for (part, retry_at) in
                [(Interval::between(known_to, closing), retry_at), (Interval::between(closing, end), settled_at)]
            {
                out.extend(self.unanswered(before, window, part, |part| self.due(before, window, part, retry_at)));
            }
        }
        self.confirm(window, rows, settled_at, out);
    }

    /// What is said of the time behind the last row of a session that has settled.
    fn behind_last(&self, before: &Ledger, window: &Window, rows: &[Timestamp], part: Interval<Timestamp>) -> Coverage {
        let is_closing = window.closing.is_some_and(|closing| part.start() >= closing);
        if self.is_long_over(window) && !rows.is_empty() {
            Coverage::Present
        } else if is_closing && !self.closing_seen {
            // One look more: who publishes late may have brought the last bar before it, or not even that, and not this
            // one yet.
            let before_close = Interval::between(part.start().before(Duration::from_nanos(1)), part.start());
            let is_behind_all = before.within(before_close).iter().all(|span| span.coverage.is_stored());
            if brings_new(before, window.span, rows) {
                self.absent(&Ledger::default(), window, part)
            } else if is_behind_all {
                Coverage::Present
            } else {
                self.absent(before, window, part)
            }
        } else if brings_new(before, window.span, rows) {
            // While rows come, more may follow: from here on it counts as asked for in vain.
            self.absent(&Ledger::default(), window, part)
        } else if self.has_ended(before, window, part) {
            Coverage::Present
        } else {
            self.absent(before, window, part)
        }
    }

    /// What is said of a stretch that an answer has no row for: what is stored there stays, and is asked for once more;
    /// `missing` says what the rest is.
    fn unanswered(
        &self,
        before: &Ledger,
        window: &Window,
        part: Interval<Timestamp>,
        missing: impl Fn(Interval<Timestamp>) -> Coverage,
    ) -> Vec<CoverageSpan> {
        if part.is_empty() {
            return Vec::new();
        }
        let mut spans: Vec<CoverageSpan> = Vec::new();
        for CoverageSpan { interval, coverage } in before.within(part) {
            let stored = match coverage {
                Coverage::Present => Some(Coverage::Present),
                Coverage::Provisional { .. } if self.is_long_over(window) => Some(Coverage::Present),
                Coverage::Provisional { .. } => Some(Coverage::Provisional { confirm_at: self.next_look(window) }),
                _ => None,
            };
            match (stored, spans.last_mut()) {
                (Some(coverage), _) => spans.push(CoverageSpan { interval, coverage }),
                // Neighbours that are missing are judged as one.
                (None, Some(last)) if last.coverage == Coverage::Missing => {
                    last.interval = Interval::between(last.interval.start(), interval.end());
                }
                (None, _) => spans.push(CoverageSpan { interval, coverage: Coverage::Missing }),
            }
        }
        for span in spans.iter_mut().filter(|span| span.coverage == Coverage::Missing) {
            span.coverage = missing(span.interval);
        }
        spans
    }

    /// Rows that came sooner after their end than they are final are asked for once more.
    fn confirm(&self, window: &Window, rows: &[Timestamp], settled_at: Timestamp, out: &mut Vec<CoverageSpan>) {
        let final_at = |row: Timestamp| self.row_end(row).after(self.delay());
        let first = rows.partition_point(|row| final_at(*row) <= self.now);
        let Some((first, last)) = rows.get(first).zip(rows.last()) else { return };
        let part = Interval::between(*first, self.row_until(*last).min(window.span.end()));
        let confirm_at = settled_at.max(final_at(*last));
        let before = std::mem::take(out);
        for CoverageSpan { interval, coverage } in before {
            let is_early =
                coverage == Coverage::Present && interval.start() < part.end() && part.start() < interval.end();
            if !is_early {
                out.push(CoverageSpan { interval, coverage });
                continue;
            }
            let (start, end) = (interval.start().max(part.start()), interval.end().min(part.end()));
            let pieces = [
                (interval.start(), start, Coverage::Present),
                (start, end, Coverage::Provisional { confirm_at }),
                (end, interval.end(), Coverage::Present),
            ];
            for (start, end, coverage) in pieces.into_iter().filter(|(start, end, _)| start < end) {
                out.push(CoverageSpan { interval: Interval::between(start, end), coverage });
            }
        }
    }

    /// Whether a session was over so long ago that one answer says where its rows end.
    fn is_long_over(&self, window: &Window) -> bool {
        window.closed_at.after(self.policy.assume_empty_after.max(self.delay())) <= self.now
    }

    /// Whether the rows of a session that has ended end before `tail`. It takes another answer, so much later that rows
    /// which are only late would have begun to come: by some bars, by as long as the first was made after the close,
    /// and by the publication delay, which is the least that it can be.
    fn has_ended(&self, before: &Ledger, window: &Window, tail: Interval<Timestamp>) -> bool {
        let (closed_at, delay) = (window.closed_at, self.delay());
        let in_vain_for_long = |span: &CoverageSpan| match span.coverage {
            Coverage::Due { since, .. } | Coverage::Unjudged { since, .. } => {
                let since = since.max(closed_at);
                let bars = self.timeframe.duration().saturating_mul(BARS_BETWEEN_ANSWERS);
                since.after(bars.max(since.since(closed_at))) <= self.now
            }
            Coverage::Present | Coverage::AssumedEmpty { .. } => true,
            _ => false,
        };
        closed_at.after(delay.saturating_mul(2)) < self.now && before.within(tail).iter().all(in_vain_for_long)
    }

    /// What is said of a stretch that was asked for in vain: due, and long after it was due assumed to be empty.
    fn absent(&self, before: &Ledger, window: &Window, part: Interval<Timestamp>) -> Coverage {
        if !self.is_long_over(window) {
            return self.due(before, window, part, self.next_look(window));
        }
        let assumed = |span: &CoverageSpan| match span.coverage {
            Coverage::AssumedEmpty { attempts, .. } => attempts,
            _ => 0,
        };
        let attempts = most(before, part, assumed).saturating_add(1);
        let last = ASSUMED_PAUSES.len() - 1;
        let at = usize::try_from(attempts - 1).map_or(last, |n| n.min(last));
        let pause = ASSUMED_PAUSES.get(at).copied().always("the index is bounded by the length");
        Coverage::AssumedEmpty { retry_at: self.now.after(pause), attempts }
    }

    fn due(&self, before: &Ledger, window: &Window, part: Interval<Timestamp>, retry_at: Timestamp) -> Coverage {
        let asked = |span: &CoverageSpan| match span.coverage {
            Coverage::Due { attempts, .. } | Coverage::Unjudged { attempts, .. } => attempts,
            _ => 0,
        };
        let first = |span: &CoverageSpan| match span.coverage {
            Coverage::Due { since, .. } | Coverage::Unjudged { since, .. } => Some(since),
            _ => None,
        };
        let since = before.within(part).iter().filter_map(first).min().unwrap_or(self.now);
        let (attempts, asked_at) = (most(before, part, asked).saturating_add(1), self.now);
        match window.session {
            Some(_) => Coverage::Due { retry_at, attempts, since, asked_at },
            None => Coverage::Unjudged { retry_at, attempts, since, asked_at },
        }
    }

    /// When to ask again for what a session should have: soon while it goes on, and less and less often after it.
    fn next_look(&self, window: &Window) -> Timestamp {
        if self.now < window.closed_at {
            return self.now.after(self.timeframe.duration().min(self.policy.retry_failed_after));
        }
        let late = self.now.since(window.closed_at);
        self.now.after((late / DUE_SHARE).clamp(DUE_PAUSE_MIN, DUE_PAUSE_MAX))
    }

    /// The publication delay that rows show which came where an earlier call had found none.
    fn delay_shown(&self, before: &Ledger, asked: Interval<Timestamp>, at: &[Timestamp]) -> Option<Duration> {
        let shown = before.within(asked).into_iter().filter_map(|span| {
            let (Coverage::Due { asked_at, .. } | Coverage::Unjudged { asked_at, .. }) = span.coverage else {
                return None;
            };
            let first = *rows_in(at, span.interval).first()?;
            Some(asked_at.since(self.row_end(first))).filter(|delay| *delay <= self.policy.assume_empty_after)
        });
        shown.max().filter(|delay| *delay > self.delay())
    }

    /// Takes note that an answer was a page that ends within a session: its rest, as far as it was asked for, counts as
    /// asked for from now on.
    pub(crate) fn record_page_end(&self, ledger: &mut Ledger, end: Timestamp, asked: Interval<Timestamp>) {
        if let Some(window) =
            self.window_at(end).filter(|window| !self.timeframe.is_daily() && window.whole.start() < end)
        {
            let rest = Interval::between(end, window.whole.end().min(asked.end()).max(end));
            let is_open =
                |span: &CoverageSpan| matches!(span.coverage, Coverage::Due { .. } | Coverage::Unjudged { .. });
            for span in ledger.within(rest).into_iter().filter(is_open) {
                let coverage = self.due(&Ledger::default(), &window, span.interval, self.now);
                ledger.mark(span.interval, coverage);
            }
        }
    }

    /// Where to go on with an answer that may be a page of a longer one: behind its last row, if sessions that are over
    /// follow there, or a good part of the last one's.
    pub(crate) fn page_end(&self, asked: Interval<Timestamp>, at: &[Timestamp]) -> Option<Timestamp> {
        let last = at.last().filter(|_| at.len() >= PAGE_ROWS_MIN)?;
        let end = self.row_until(*last);
        if end >= asked.end() {
            return None;
        }
        let is_over = |window: &Window| window.closed_at.after(self.delay()) <= self.now;
        let mut rest = self.windows(Interval::between(end, asked.end())).filter(is_over);
        let goes_on = rest.any(|window| {
            let is_whole = window.span.start() == window.whole.start();
            is_whole || at.len() >= PAGE_ROWS_WITHIN_SESSION
        });
        goes_on.then_some(end)
    }

    /// When a row that begins at `at` has ended.
    pub(super) fn row_end(&self, at: Timestamp) -> Timestamp {
        self.calendar.bar_end(at, self.timeframe)
    }
}

/// The rows that begin in `part`.
fn rows_in(at: &[Timestamp], part: Interval<Timestamp>) -> &[Timestamp] {
    let first = at.partition_point(|at| *at < part.start());
    let end = at.partition_point(|at| *at < part.end());
    at.get(first..end.max(first)).always("rows ascend")
}

/// What is said of time in which no session is, beside a session.
fn beside_sessions(session: Option<&CoverageSpan>) -> Coverage {
    match session.map(|span| &span.coverage) {
        Some(same @ (Coverage::Present | Coverage::AssumedEmpty { .. })) => same.clone(),
        _ => Coverage::Empty,
    }
}

/// Whether there are rows where none were stored.
fn brings_new(before: &Ledger, part: Interval<Timestamp>, rows: &[Timestamp]) -> bool {
    let is_new = |span: &CoverageSpan| !span.coverage.is_stored() && !rows_in(rows, span.interval).is_empty();
    before.within(part).iter().any(is_new)
}

fn most(ledger: &Ledger, part: Interval<Timestamp>, count: impl Fn(&CoverageSpan) -> u32) -> u32 {
    ledger.within(part).iter().map(count).max().unwrap_or(0)
}

/// Takes note that what came of `part` is all that there will ever be.
pub(crate) fn record_final(ledger: &mut Ledger, part: Interval<Timestamp>) {
    for CoverageSpan { interval, .. } in ledger.within(part).into_iter().filter(|span| !span.coverage.is_stored()) {
        ledger.mark(interval, Coverage::Empty);
    }
}

/// Takes note that `parts` could not be fetched; `before` says how often that was so already.
pub(crate) fn record_failure(
    ledger: &mut Ledger,
    before: &Ledger,
    parts: &[Interval<Timestamp>],
    reason: &str,
    asked_for: Option<Duration>,
    policy: &FetchPolicy,
    now: Timestamp,
) {
    let reason = shortened(reason, REASON_BYTES_MAX);
    for part in parts {
        // Each stretch counts how often it was asked for.
        for CoverageSpan { interval, coverage } in before.within(*part) {
            let attempts =
                if let Coverage::Failed { attempts, .. } = coverage { attempts.saturating_add(1) } else { 1 };
            let pause = asked_for
                .unwrap_or_else(|| pause(policy, attempts))
                .min(FAILED_PAUSE_MAX.max(policy.retry_failed_after));
            let retry_at = now.after(pause);
            // Rows that wait to be confirmed are stored all the same.
            let coverage = match coverage {
                Coverage::Provisional { .. } => Coverage::Provisional { confirm_at: retry_at },
                _ => Coverage::Failed { retry_at, attempts, reason: reason.clone() },
            };
            ledger.mark(interval, coverage);
        }
    }
}

/// Twice as long after each failure.
fn pause(policy: &FetchPolicy, attempts: u32) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
    policy.retry_failed_after.saturating_mul(factor).min(FAILED_PAUSE_MAX.max(policy.retry_failed_after))
}
