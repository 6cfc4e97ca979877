//! What a write or an answer says about a stretch of time, judged by a calendar.
//!
//! Nothing here claims more than was seen. Time that a call did not ask for, and a write did not cover, stays missing;
//! a session that came back empty is due, and later assumed to be empty, but never known to be.

use std::time::Duration;

use super::ledger::{Coverage, CoverageSpan, Ledger};
use crate::{
    market::{
        calendar::{Calendar, Session},
        fetch::policy::FetchPolicy,
        timeframe::Timeframe,
    },
    types::{interval::Interval, invariant::Invariant, limits::REASON_BYTES_MAX, time::Timestamp},
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
    pub(crate) now: Timestamp,
}

/// A session, or a day that the calendar does not know, as far as it was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// `None` for a day that the calendar does not know.
    pub(crate) session: Option<Session>,
    /// All of it: where its rows begin.
    pub(crate) whole: Interval<Timestamp>,
    /// The part that was looked at.
    pub(crate) span: Interval<Timestamp>,
    closed_at: Timestamp,
}

impl Judge<'_> {
    /// How long after the close of a session its last rows may be on their way.
    fn delay(&self) -> Duration {
        self.policy.delay_of(self.timeframe).max(self.learnt_delay)
    }

    /// The sessions in `within`, and the days that the calendar does not know, as far as they lie in it, in order.
    pub(crate) fn windows(&self, within: Interval<Timestamp>) -> impl Iterator<Item = Window> {
        let (judge, known) = (*self, self.calendar.known());
        let days = within.days();
        let before = Interval::between(days.start(), days.end().min(known.start()).max(days.start()));
        let after = Interval::between(days.start().max(known.end()).min(days.end()), days.end());
        let unjudged = move |days: Interval<crate::types::time::Day>| {
            let all = std::iter::successors(Some(days.start()), |day| Some(day.next()));
            all.take_while(move |day| days.contains(*day)).map(|day| {
                let whole = Interval::between(day.start(), day.next().start());
                Window { session: None, whole, span: whole, closed_at: whole.end() }
            })
        };
        let sessions = self.calendar.expected(self.widened(within), self.timeframe);
        let stretches = sessions.flat_map(move |session| judge.stretches(session));
        let all = unjudged(before).chain(stretches).chain(unjudged(after));
        all.filter_map(move |window| {
            let (start, end) = (window.whole.start().max(within.start()), window.whole.end().min(within.end()));
            // Bars of a day begin with it: who asked from noon on did not ask for today.
            let is_asked = start < end && (!judge.timeframe.is_daily() || start == window.whole.start());
            is_asked.then(|| Window { span: Interval::between(start, end), ..window })
        })
    }

    /// Extended hours reach beyond the session that they belong to.
    fn widened(&self, within: Interval<Timestamp>) -> Interval<Timestamp> {
        if self.policy.extended_hours && !self.timeframe.is_daily() {
            Interval::between(within.start().before(DAY), within.end().after(DAY))
        } else {
            within
        }
    }

    /// The stretches in which the rows of a session begin: its trading, without breaks; with extended hours all of its
    /// day, local time; and for bars of a day the day that they are labelled by.
    fn stretches(&self, session: Session) -> impl Iterator<Item = Window> + use<> {
        let is_daily = self.timeframe.is_daily();
        let extended = (self.policy.extended_hours && !is_daily).then(|| {
            let (window, day) = (session.window(self.timeframe), self.calendar.local_day(session.day));
            // A session that opens in the evening before has no hours before it.
            if window.start() < day.start() {
                window
            } else {
                Interval::between(day.start(), window.end().max(day.end()))
            }
        });
        let plain = extended.is_none().then(|| session.windows(self.timeframe));
        extended.into_iter().chain(plain.into_iter().flatten()).map(move |whole| {
            let closed_at = if is_daily { session.close } else { whole.end() };
            Window { session: Some(session), whole, span: whole, closed_at }
        })
    }

    /// Whether rows can begin in `part`: there is a session in it, or the calendar does not know.
    pub(crate) fn expects(&self, part: Interval<Timestamp>) -> bool {
        self.windows(part).next().is_some()
    }

    /// Whether a row that begins at `at` belongs to the series: to a session of it, or to a day that nobody judges. A
    /// row that begins at the close, as the closing auction's does, belongs to the session.
    pub(crate) fn belongs(&self, at: Timestamp) -> bool {
        if !self.calendar.known().contains(at.day()) {
            return true;
        }
        if self.timeframe.is_daily() {
            return self.calendar.session(at.day()).is_some();
        }
        let around = Interval::between(at.before(MINUTE), at.after(MINUTE));
        let mut sessions = self.calendar.expected(self.widened(around), self.timeframe);
        let is_within = sessions.any(|session| self.stretches(session).any(|part| part.whole.contains(at)));
        is_within || self.calendar.session_of_bar(at).is_some_and(|session| session.close == at)
    }

    /// Takes note of an answer to `asked` that brought rows `at` these times, which are in order and lie within. Returns
    /// the publication delay that it shows, if it is longer than what was known.
    pub(crate) fn record_response(
        &self,
        ledger: &mut Ledger,
        asked: Interval<Timestamp>,
        at: &[Timestamp],
    ) -> Option<Duration> {
        let before = ledger.clone();
        // The rows of this very answer may show that others are still on their way.
        let shown = self.delay_shown(&before, asked, at);
        let judge = Self { learnt_delay: self.learnt_delay.max(shown.unwrap_or_default()), ..*self };
        let mut spans: Vec<CoverageSpan> = Vec::new();
        let mut judged_to = asked.start();
        for window in judge.windows(asked) {
            let rows = rows_in(at, window.span);
            let first = spans.len();
            judge.judge(&before, &window, rows, &mut spans);
            // Between sessions nothing is expected: it goes with what lies before it, so that years are one stretch.
            let neighbour = first.checked_sub(1).or(Some(first)).and_then(|at| spans.get(at));
            let between = match neighbour.map(|span| &span.coverage) {
                Some(same @ (Coverage::Present | Coverage::AssumedEmpty { .. })) => same.clone(),
                _ => Coverage::Empty,
            };
            if judged_to < window.span.start() {
                let interval = Interval::between(judged_to, window.span.start());
                spans.insert(first, CoverageSpan { interval, coverage: between });
            }
            judged_to = window.span.end().max(judged_to);
        }
        let rest = match spans.last().map(|span| &span.coverage) {
            Some(same @ (Coverage::Present | Coverage::AssumedEmpty { .. })) => same.clone(),
            _ => Coverage::Empty,
        };
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
            let coverage = match (rows.is_empty(), is_settled) {
                (true, _) => self.absent(before, window, window.span),
                (false, true) => Coverage::Present,
                (false, false) => Coverage::Provisional { confirm_at: settled_at },
            };
            return push(start, end, coverage);
        }
        let stored_in = |part: Interval<Timestamp>| before.within(part).iter().any(|span| span.coverage.is_stored());
        if rows.is_empty() && !stored_in(window.whole) {
            return push(start, end, self.absent(before, window, window.span));
        }
        // The time behind the last row that is known of: rows may still come there.
        let is_last = end >= window.whole.end() || !stored_in(Interval::between(end, window.whole.end()));
        let tail = if is_last {
            rows.last().map_or(start, |last| last.after(self.timeframe.duration())).min(end)
        } else {
            end
        };
        if is_settled {
            push(start, tail, Coverage::Present);
            let part = Interval::between(tail, end);
            let coverage = if self.is_long_over(window) {
                Coverage::Present
            } else if brings_new(before, window.span, rows) {
                // While rows come, more may follow: from here on it counts as asked for in vain.
                self.absent(&Ledger::default(), window, part)
            } else if self.has_ended(before, window, part) {
                Coverage::Present
            } else {
                self.absent(before, window, part)
            };
            return push(tail, end, coverage);
        }
        // Minutes without a trade are told from late ones when the session has ended.
        let mut known_to = start;
        for row in rows {
            push(
                known_to,
                (*row).max(known_to),
                self.due(before, window, Interval::between(known_to, (*row).max(known_to)), settled_at),
            );
            let row_end = row.after(self.timeframe.duration()).min(end);
            push((*row).max(known_to), row_end, Coverage::Present);
            known_to = row_end.max(known_to);
        }
        let retry_at = if is_last { self.next_look(window) } else { settled_at };
        push(known_to, end, self.due(before, window, Interval::between(known_to, end), retry_at));
    }

    /// Whether a session was over so long ago that one answer says where its rows end.
    fn is_long_over(&self, window: &Window) -> bool {
        window.closed_at.after(self.policy.assume_empty_after.max(self.delay())) <= self.now
    }

    /// Whether the rows of a session that has ended end before `tail`. It takes another answer, so much later that rows which are only late would have begun to come: by some bars, by as long
    /// as the first was made after the close, and by the publication delay, which is the least that it can be.
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
        closed_at.after(2 * delay) < self.now && before.within(tail).iter().all(in_vain_for_long)
    }

    /// What is said of a stretch that was asked for in vain: due, and long after it was due assumed to be empty.
    fn absent(&self, before: &Ledger, window: &Window, part: Interval<Timestamp>) -> Coverage {
        if window.closed_at.after(self.policy.assume_empty_after.max(self.delay())) > self.now {
            return self.due(before, window, part, self.next_look(window));
        }
        let assumed = |span: &CoverageSpan| match span.coverage {
            Coverage::AssumedEmpty { attempts, .. } => attempts,
            _ => 0,
        };
        let attempts = most(before, part, assumed) + 1;
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
        let (attempts, asked_at) = (most(before, part, asked) + 1, self.now);
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
            let row_end = if self.timeframe.is_daily() {
                self.calendar.session(first.day()).map_or(first.after(DAY), |session| session.close)
            } else {
                first.after(self.timeframe.duration())
            };
            Some(asked_at.since(row_end)).filter(|delay| *delay <= self.policy.assume_empty_after)
        });
        shown.max().filter(|delay| *delay > self.delay())
    }

    /// Takes note that an answer was a page that ends within a session: its rest counts as asked for from now on.
    pub(crate) fn record_page_end(&self, ledger: &mut Ledger, end: Timestamp) {
        let here = Interval::between(end, end.after(Duration::from_nanos(1)));
        if let Some(window) =
            self.windows(here).next().filter(|window| !self.timeframe.is_daily() && window.whole.start() < end)
        {
            let rest = Interval::between(end, window.whole.end());
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
        let end = last.after(self.timeframe.duration());
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

    /// Takes note of rows that were written: of the time that they cover, and of the time between two of them in which
    /// nothing is expected.
    pub(crate) fn record_write(&self, ledger: &mut Ledger, at: &[Timestamp]) {
        const FAR: Duration = Duration::from_secs(10 * 24 * 3600);
        let Some(first) = at.first() else { return };
        // Rows that come one by one make one stretch.
        let stored = ledger.within(Interval::between(first.before(FAR), *first));
        let stored =
            stored.iter().rev().find(|span| span.coverage == Coverage::Present).map(|span| span.interval.end());
        let mut run: Option<Interval<Timestamp>> = stored.map(|end| Interval::between(end, end));
        for row in at {
            let end = row.after(self.timeframe.duration());
            run = Some(match run {
                Some(run) if *row <= run.end() || !self.expects(Interval::between(run.end(), *row)) => {
                    Interval::between(run.start(), end.max(run.end()))
                }
                run => {
                    if let Some(run) = run {
                        ledger.mark(run, Coverage::Present);
                    }
                    Interval::between(*row, end)
                }
            });
        }
        if let Some(run) = run {
            ledger.mark(run, Coverage::Present);
        }
    }

    /// The end of the rows that can be over: no row that begins before it goes on. Where bars of this length begin is
    /// known from the `grid` of those that are stored.
    pub(crate) fn complete_until(&self, grid: Option<BarGrid>) -> Timestamp {
        let now = self.now;
        if self.timeframe.is_daily() {
            let today = now.day();
            let days = [today.plus_days(-1).unwrap_or(today), today, today.next()];
            let open =
                days.into_iter().filter_map(|day| self.calendar.session(day)).find(|session| session.close > now);
            let is_known = self.calendar.known().contains(today);
            let over = if is_known { today.next().start() } else { today.start() };
            return open.map_or(over, |session| session.day.start());
        }
        if let Some(grid) = self.timeframe.grid() {
            return Timestamp::from_nanos(now.as_nanos().div_euclid(grid).saturating_mul(grid));
        }
        let around = Interval::between(now, now.after(Duration::from_nanos(1)));
        let Some(window) = self.windows(around).next() else {
            // The last bar of a session ends with it.
            return now;
        };
        let Some(grid) = grid else {
            return now.before(self.timeframe.duration()).after(Duration::from_nanos(1));
        };
        let (open, length) = (window.whole.start(), self.timeframe.duration());
        let first = open.after(grid.phase);
        if now < first {
            return open;
        }
        let steps = u32::try_from(now.since(first).as_nanos() / length.as_nanos()).unwrap_or(u32::MAX);
        first.after(length.saturating_mul(steps))
    }

    /// Whether a bar can begin in `part`, as far as is known where bars of this length begin.
    pub(crate) fn can_begin_in(&self, part: Interval<Timestamp>, grid: Option<BarGrid>) -> bool {
        self.windows(part).any(|window| {
            if self.timeframe.is_daily() || window.session.is_none() {
                return true;
            }
            let (start, end) = (window.span.start(), window.span.end());
            if let Some(grid) = self.timeframe.grid() {
                let next = start.as_nanos().saturating_add(grid - 1).div_euclid(grid).saturating_mul(grid);
                return next < end.as_nanos();
            }
            let Some(grid) = grid else { return true };
            let (open, length) = (window.whole.start(), self.timeframe.duration());
            if start <= open {
                return true;
            }
            let first = open.after(grid.phase);
            let steps = start.since(first).as_nanos().div_ceil(length.as_nanos());
            let next = first.after(length.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX)));
            next < end
        })
    }

    /// Where bars of this length begin, by the last ones that are stored.
    pub(crate) fn grid_of(&self, stored: &[Timestamp]) -> Option<BarGrid> {
        let last = *stored.last()?;
        let phase = stored.iter().rev().find_map(|at| {
            let here = Interval::between(*at, at.after(Duration::from_nanos(1)));
            let window = self.windows(here).next()?;
            // The first bar of a session may be a short one.
            let since_open = at.since(window.whole.start());
            (!since_open.is_zero()).then(|| {
                let nanos = since_open.as_nanos() % self.timeframe.duration().as_nanos();
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
            })
        });
        Some(BarGrid { phase: phase.unwrap_or_default(), last })
    }
}

/// Where bars that follow no fixed grid begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BarGrid {
    /// After the open of their session, less whole bars.
    phase: Duration,
    /// The last bar.
    last: Timestamp,
}

impl BarGrid {
    /// Whether `part` lies within the last bar, so that no other begins there. The first bar of a session may be short,
    /// and says nothing about what lies behind it.
    pub(crate) fn covers(&self, part: Interval<Timestamp>, judge: &Judge<'_>) -> bool {
        let here = Interval::between(self.last, self.last.after(Duration::from_nanos(1)));
        let is_first = judge.windows(here).next().is_none_or(|window| window.whole.start() == self.last);
        !is_first && self.last <= part.start() && part.end() <= self.last.after(judge.timeframe.duration())
    }
}

/// The rows that begin in `part`.
fn rows_in(at: &[Timestamp], part: Interval<Timestamp>) -> &[Timestamp] {
    let first = at.partition_point(|at| *at < part.start());
    let end = at.partition_point(|at| *at < part.end());
    at.get(first..end.max(first)).always("rows ascend")
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

/// Takes note that `parts` could not be fetched.
pub(crate) fn record_failure(
    ledger: &mut Ledger,
    parts: &[Interval<Timestamp>],
    reason: &str,
    asked_for: Option<Duration>,
    policy: &FetchPolicy,
    now: Timestamp,
) {
    let reason: String = match reason.char_indices().find(|(at, c)| at + c.len_utf8() > REASON_BYTES_MAX) {
        Some((end, _)) => format!("{} ...", reason.get(..end).always("it is the start of a character")),
        None => reason.to_owned(),
    };
    for part in parts {
        // Each stretch counts how often it was asked for.
        for CoverageSpan { interval, coverage } in ledger.within(*part) {
            let attempts = if let Coverage::Failed { attempts, .. } = coverage { attempts + 1 } else { 1 };
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
