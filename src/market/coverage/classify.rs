//! What an answer says about a stretch of time, judged by a calendar.

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

/// What a failure is left alone for at most.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Takes note of bars that somebody wrote: the sessions that they lie in, and the time between them where no session is
/// without bars, need not be fetched. Days that the calendar does not know about are noted bar by bar.
pub(crate) fn record_write(ledger: &mut Ledger, calendar: &Calendar, timeframe: Timeframe, at: &[Timestamp]) {
    let known = calendar.known();
    let is_known = |at: &Timestamp| known.contains(at.day()) && !timeframe.is_longer_than_a_day();
    for run in at.chunk_by(|a, b| is_known(a) && is_known(b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let start = if is_known(first) { connected(ledger, calendar, timeframe, *first) } else { *first };
        let all = Interval::between(start, last.after(timeframe.duration()));
        let mut start = all.start();
        for Window { span: empty, is_empty, .. } in
            windows(calendar, timeframe, Interval::between(*first, all.end()), run)
        {
            if is_empty {
                ledger.mark(Interval::between(start, empty.start().max(start)), Coverage::Present);
                start = empty.end();
            }
        }
        ledger.mark(Interval::between(start, all.end().max(start)), Coverage::Present);
    }
}

/// Where what is present before `first` ends, if no whole session lies between: bars that come one by one are one
/// stretch.
fn connected(ledger: &Ledger, calendar: &Calendar, timeframe: Timeframe, first: Timestamp) -> Timestamp {
    const FAR: Duration = Duration::from_secs(10 * 86_400);
    let before = ledger.within(Interval::between(first.before(FAR), first));
    let Some(end) = before.iter().rev().find(|stretch| stretch.coverage == Coverage::Present) else {
        return first;
    };
    let end = end.interval.end();
    let between = |window: Interval<Timestamp>| end <= window.start() && window.end() <= first;
    let skipped =
        calendar.expected(Interval::between(end, first), timeframe).any(|session| between(session.window(timeframe)));
    if skipped { first } else { end }
}

/// Takes note of an answer to `asked` that brought rows `at` these times, which are in order and lie within.
pub(crate) fn record_response(
    ledger: &mut Ledger,
    calendar: &Calendar,
    timeframe: Timeframe,
    asked: Interval<Timestamp>,
    at: &[Timestamp],
    policy: &FetchPolicy,
    now: Timestamp,
) {
    let before = ledger.clone();
    ledger.mark(asked, if at.is_empty() { Coverage::KnownEmpty } else { Coverage::Present });
    // Sessions that follow each other make one stretch, for between them nothing is expected; but each counts how often
    // it was asked for.
    let mut run: Option<(Interval<Timestamp>, u32)> = None;
    for Window { session, span: window, is_empty } in windows(calendar, timeframe, asked, at) {
        let is_open = session.close.after(policy.publication_delay) > now;
        let attempts = if is_empty && !is_open { Some(before.attempts(window) + 1) } else { None };
        match (&mut run, attempts) {
            (Some((all, so_far)), Some(attempts)) if *so_far == attempts => {
                *all = Interval::between(all.start(), window.end());
            }
            (_, attempts) => {
                if let Some((all, attempts)) = run.take() {
                    mark_empty(ledger, all, attempts, policy, now);
                }
                run = attempts.map(|attempts| (window, attempts));
            }
        }
        if is_open {
            not_there_yet(ledger, timeframe, window, at, policy, now);
        }
    }
    if let Some((all, attempts)) = run {
        mark_empty(ledger, all, attempts, policy, now);
    }
}

/// Sessions that should have bars and came back without: asked for again, unless that was often enough.
fn mark_empty(ledger: &mut Ledger, run: Interval<Timestamp>, attempts: u32, policy: &FetchPolicy, now: Timestamp) {
    let coverage = if attempts >= policy.empty_attempts {
        Coverage::KnownEmpty
    } else {
        let retry_at = now.after(pause(policy, attempts));
        Coverage::Failed { retry_at, attempts, reason: "sessions in it, and no data came".into() }
    };
    ledger.mark(run, coverage);
}

/// Where a session is going on, or was until a moment ago, what lies behind its last bar may be on its way.
fn not_there_yet(
    ledger: &mut Ledger,
    timeframe: Timeframe,
    window: Interval<Timestamp>,
    at: &[Timestamp],
    policy: &FetchPolicy,
    now: Timestamp,
) {
    let last = at.partition_point(|at| *at < window.end()).checked_sub(1).and_then(|last| at.get(last));
    let start = last.map_or(window.start(), |last| last.after(timeframe.duration()).max(window.start()));
    if start < window.end() {
        let retry_at = now.after(timeframe.duration().min(policy.retry_failed_after));
        let reason = "the session goes on, or has just ended, and the last bars are not there yet".into();
        ledger.mark(Interval::between(start, window.end()), Coverage::Failed { retry_at, attempts: 0, reason });
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
            ledger.mark(interval, Coverage::Failed { retry_at, attempts, reason: reason.clone() });
        }
    }
}

/// Twice as long after each failure.
fn pause(policy: &FetchPolicy, attempts: u32) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
    policy.retry_failed_after.saturating_mul(factor).min(FAILED_PAUSE_MAX.max(policy.retry_failed_after))
}

/// A session, as far as it was looked at, and whether it has no bars.
pub(crate) struct Window {
    pub(crate) session: Session,
    pub(crate) span: Interval<Timestamp>,
    pub(crate) is_empty: bool,
}

/// The sessions in `within`, as far as they lie in it, and whether none of `at` is in them.
pub(crate) fn windows(
    calendar: &Calendar,
    timeframe: Timeframe,
    within: Interval<Timestamp>,
    at: &[Timestamp],
) -> impl Iterator<Item = Window> {
    calendar.expected(within, timeframe).filter_map(move |session| {
        let window = session.window(timeframe);
        let (start, end) = (window.start().max(within.start()), window.end().min(within.end()));
        // Bars of a day begin with it: who asked from noon on did not ask for today.
        let is_asked = if timeframe.is_daily() { start == window.start() } else { start < end };
        is_asked.then(|| {
            // A long bar may begin before the session that it is of.
            let is_before = |at: &Timestamp| {
                if timeframe.is_daily() { *at < start } else { at.after(timeframe.duration()) <= start }
            };
            let next = at.get(at.partition_point(is_before));
            Window { session, span: Interval::between(start, end), is_empty: next.is_none_or(|at| *at >= end) }
        })
    })
}

/// The end of the bars that can be over at `now`: no bar that begins before it goes on.
pub(crate) fn complete_until(calendar: &Calendar, timeframe: Timeframe, now: Timestamp) -> Timestamp {
    if timeframe.is_daily() {
        let today = now.day();
        let days = [today.plus_days(-1).unwrap_or(today), today, today.next()];
        let open = days.into_iter().filter_map(|day| calendar.session(day)).find(|session| session.close > now);
        let is_known = calendar.known().contains(today);
        let over = if is_known { today.next().start() } else { today.start() };
        return open.map_or(over, |session| session.day.start());
    }
    if let Some(grid) = timeframe.grid() {
        return Timestamp::from_nanos(now.as_nanos().div_euclid(grid).saturating_mul(grid));
    }
    now.before(timeframe.duration()).after(Duration::from_nanos(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::Day;

    fn day(text: &str) -> Timestamp {
        text.parse::<Day>().unwrap().start()
    }

    fn december() -> Interval<Timestamp> {
        Interval::between(day("2018-12-01"), day("2019-01-01"))
    }

    fn shown(ledger: &Ledger) -> Vec<String> {
        let show = |stretch: &CoverageSpan| {
            let coverage = match &stretch.coverage {
                Coverage::Failed { attempts, .. } => format!("failed {attempts}"),
                other => format!("{other:?}"),
            };
            format!("{} {} {coverage}", stretch.interval.start().day(), stretch.interval.end().day())
        };
        ledger.stretches().iter().map(show).collect()
    }

    #[test]
    fn an_empty_answer_is_empty_or_failed_by_what_the_calendar_expects() {
        let policy = FetchPolicy::default();
        let nyse = Calendar::nyse();
        let mut ledger = Ledger::default();
        let holiday = Interval::between(day("2018-12-25"), day("2018-12-26"));
        record_response(&mut ledger, &nyse, Timeframe::DAY, holiday, &[], &policy, day("2019-06-01"));
        assert_eq!(shown(&ledger), ["2018-12-25 2018-12-26 KnownEmpty"]);

        let mut ledger = Ledger::default();
        for attempt in 1..=3 {
            record_response(&mut ledger, &nyse, Timeframe::DAY, december(), &[], &policy, day("2019-06-01"));
            let expected = if attempt < 3 { format!("failed {attempt}") } else { "KnownEmpty".into() };
            assert!(shown(&ledger).iter().any(|line| line.ends_with(&expected)), "{:?}", shown(&ledger));
        }
        assert_eq!(shown(&ledger), ["2018-12-01 2019-01-01 KnownEmpty"]);
    }

    #[test]
    fn sessions_without_bars_are_cut_out_of_an_answer() {
        let mut ledger = Ledger::default();
        // Without the 12th and 13th, and nothing after the 21st.
        let at: Vec<Timestamp> = Calendar::nyse()
            .sessions(december().days())
            .map(|session| session.day.start())
            .filter(|at| {
                !["2018-12-12", "2018-12-13"].contains(&at.day().to_string().as_str()) && *at < day("2018-12-22")
            })
            .collect();
        record_response(
            &mut ledger,
            &Calendar::nyse(),
            Timeframe::DAY,
            december(),
            &at,
            &FetchPolicy::default(),
            day("2019-06-01"),
        );
        assert_eq!(
            shown(&ledger),
            [
                "2018-12-01 2018-12-12 Present",
                "2018-12-12 2018-12-14 failed 1",
                "2018-12-14 2018-12-24 Present",
                "2018-12-24 2019-01-01 failed 1",
            ]
        );
        let mut ledger = Ledger::default();
        record_write(&mut ledger, &Calendar::nyse(), Timeframe::DAY, &at);
        assert_eq!(shown(&ledger), ["2018-12-03 2018-12-12 Present", "2018-12-14 2018-12-22 Present"]);
    }

    #[test]
    fn what_is_not_over_is_not_asked_for() {
        let nyse = Calendar::nyse();
        let noon = day("2018-12-24").after(Duration::from_secs(16 * 3600 + 605));
        assert_eq!(complete_until(&nyse, Timeframe::DAY, noon), day("2018-12-24"));
        assert_eq!(complete_until(&nyse, Timeframe::MINUTE, noon).to_string(), "2018-12-24T16:10:00Z");
        assert_eq!(complete_until(&nyse, Timeframe::HOUR, noon).to_string(), "2018-12-24T15:10:05.000000001Z");
        let twenty = Timeframe::minutes(20).unwrap();
        assert_eq!(complete_until(&nyse, twenty, noon).to_string(), "2018-12-24T15:50:05.000000001Z");
        let later = day("2031-06-03").after(Duration::from_secs(17 * 3600));
        assert_eq!(complete_until(&nyse, Timeframe::DAY, later), day("2031-06-03"));
        let evening = day("2018-12-24").after(Duration::from_secs(18 * 3600));
        assert_eq!(complete_until(&nyse, Timeframe::DAY, evening), day("2018-12-25"));
        assert_eq!(complete_until(&Calendar::always_open(), Timeframe::DAY, evening), day("2018-12-24"));
    }

    #[test]
    fn half_a_day_says_nothing_about_its_bar() {
        let mut ledger = Ledger::default();
        let (noon, next) = (day("2018-12-20").after(Duration::from_secs(12 * 3600)), day("2018-12-21"));
        let asked = Interval::between(noon, day("2018-12-22"));
        record_response(
            &mut ledger,
            &Calendar::nyse(),
            Timeframe::DAY,
            asked,
            &[next],
            &FetchPolicy::default(),
            day("2019-06-01"),
        );
        assert_eq!(shown(&ledger), ["2018-12-20 2018-12-22 Present"]);
    }
}
