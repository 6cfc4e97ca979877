//! What an answer says about a stretch of time, judged by a calendar.

use std::time::Duration;

use crate::{
    calendar::Calendar,
    fetch::FetchPolicy,
    interval::Interval,
    ledger::{Coverage, Ledger},
    time::Timestamp,
    timeframe::Timeframe,
};

/// What a failure is left alone for at most.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Takes note of bars that somebody wrote: the sessions that they lie in, and the time between them where no session is
/// without bars, need not be fetched.
pub(super) fn given(ledger: &mut Ledger, calendar: &Calendar, timeframe: Timeframe, at: &[Timestamp]) {
    let (Some(first), Some(last)) = (at.first(), at.last()) else {
        return;
    };
    let all = span(*first, last.after(timeframe.duration()));
    let mut start = all.start();
    for (empty, is_empty) in windows(calendar, timeframe, all, at) {
        if is_empty {
            ledger.mark(span(start, empty.start().max(start)), Coverage::Present);
            start = empty.end();
        }
    }
    ledger.mark(span(start, all.end().max(start)), Coverage::Present);
}

/// Takes note of an answer to `asked` that brought rows `at` these times, which are in order and lie within.
pub(super) fn answered(
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
    let mut empty: Option<Interval<Timestamp>> = None;
    for (window, is_empty) in windows(calendar, timeframe, asked, at) {
        if is_empty {
            // Sessions that follow each other make one stretch: between them nothing is expected.
            empty = Some(empty.map_or(window, |run| span(run.start(), window.end())));
        } else if let Some(run) = empty.take() {
            mark_empty(ledger, &before, run, policy, now);
        }
    }
    if let Some(run) = empty {
        mark_empty(ledger, &before, run, policy, now);
    }
    still_open(ledger, calendar, timeframe, asked, at, now);
}

/// Sessions that should have bars and came back without: asked for again, unless that was often enough.
fn mark_empty(ledger: &mut Ledger, before: &Ledger, run: Interval<Timestamp>, policy: &FetchPolicy, now: Timestamp) {
    let attempts = before.attempts(run) + 1;
    let coverage = if attempts >= policy.empty_attempts {
        Coverage::KnownEmpty
    } else {
        Coverage::Failed {
            retry_at: now.after(pause(policy, attempts)),
            attempts,
            reason: "sessions in it, and no data came".into(),
        }
    };
    ledger.mark(run, coverage);
}

/// Where a session is still going on, what lies behind its last bar may be on its way.
fn still_open(
    ledger: &mut Ledger,
    calendar: &Calendar,
    timeframe: Timeframe,
    asked: Interval<Timestamp>,
    at: &[Timestamp],
    now: Timestamp,
) {
    let Some(last) = at.last() else { return };
    let day = asked.end().day();
    let around = [day.plus_days(-1).unwrap_or(day), day];
    for session in around.into_iter().filter_map(|day| calendar.session(day)).filter(|session| session.close > now) {
        let window = session.window(timeframe);
        let start = last.after(timeframe.duration()).max(window.start()).max(asked.start());
        let end = window.end().min(asked.end());
        if start < end {
            let retry_at = now.after(timeframe.duration());
            let reason = "the session goes on, and the last bars are not there yet".into();
            ledger.mark(span(start, end), Coverage::Failed { retry_at, attempts: 1, reason });
        }
    }
}

/// Takes note that `parts` could not be fetched.
pub(super) fn failed(
    ledger: &mut Ledger,
    parts: &[Interval<Timestamp>],
    reason: &str,
    asked_for: Option<Duration>,
    policy: &FetchPolicy,
    now: Timestamp,
) {
    for part in parts {
        let attempts = ledger.attempts(*part) + 1;
        let retry_at = now.after(asked_for.unwrap_or_else(|| pause(policy, attempts)));
        ledger.mark(*part, Coverage::Failed { retry_at, attempts, reason: reason.to_owned() });
    }
}

/// Twice as long after each failure.
fn pause(policy: &FetchPolicy, attempts: u32) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
    policy.failed_pause.saturating_mul(factor).min(FAILED_PAUSE_MAX.max(policy.failed_pause))
}

/// The sessions in `within`, as far as they lie in it, and whether none of `at` is in them.
fn windows(
    calendar: &Calendar,
    timeframe: Timeframe,
    within: Interval<Timestamp>,
    at: &[Timestamp],
) -> impl Iterator<Item = (Interval<Timestamp>, bool)> {
    calendar.expected(within, timeframe).filter_map(move |session| {
        let window = session.window(timeframe);
        let (start, end) = (window.start().max(within.start()), window.end().min(within.end()));
        // Bars of a day begin with it: who asked from noon on did not ask for today.
        let is_asked = if timeframe.is_daily() { start == window.start() } else { start < end };
        is_asked.then(|| {
            let next = at.partition_point(|at| *at < start);
            (span(start, end), at.get(next).is_none_or(|at| *at >= end))
        })
    })
}

/// Nanoseconds.
const HALF_HOUR: u64 = 1_800_000_000_000;

/// The end of the bars that can be complete at `now`.
pub(super) fn complete_until(calendar: &Calendar, timeframe: Timeframe, now: Timestamp) -> Timestamp {
    if timeframe.is_daily() {
        let today = now.day();
        let days = [today.plus_days(-1).unwrap_or(today), today, today.next()];
        let open = days.into_iter().filter_map(|day| calendar.session(day)).find(|session| session.close > now);
        return open.map_or_else(|| today.next().start(), |session| session.day.start());
    }
    // Bars begin on the half hour, if not more often: a session begins at half past nine.
    let length = timeframe.as_nanos();
    let grid = if length > HALF_HOUR && length.is_multiple_of(HALF_HOUR) { HALF_HOUR } else { length };
    let grid = i64::try_from(grid).unwrap_or(i64::MAX);
    let started = now.as_nanos().div_euclid(grid).saturating_mul(grid);
    Timestamp::from_nanos(started).before(timeframe.duration()).after(Duration::from_nanos(grid.unsigned_abs()))
}

fn span(start: Timestamp, end: Timestamp) -> Interval<Timestamp> {
    Interval::new(start, end).unwrap_or_else(|_| unreachable!("{start} is not after {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Day;

    fn day(text: &str) -> Timestamp {
        text.parse::<Day>().unwrap().start()
    }

    fn december() -> Interval<Timestamp> {
        span(day("2018-12-01"), day("2019-01-01"))
    }

    fn shown(ledger: &Ledger) -> Vec<String> {
        let show = |stretch: &crate::ledger::Stretch| {
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
        let holiday = span(day("2018-12-25"), day("2018-12-26"));
        answered(&mut ledger, &nyse, Timeframe::DAY, holiday, &[], &policy, day("2019-06-01"));
        assert_eq!(shown(&ledger), ["2018-12-25 2018-12-26 KnownEmpty"]);

        let mut ledger = Ledger::default();
        for attempt in 1..=3 {
            answered(&mut ledger, &nyse, Timeframe::DAY, december(), &[], &policy, day("2019-06-01"));
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
        answered(
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
        given(&mut ledger, &Calendar::nyse(), Timeframe::DAY, &at);
        assert_eq!(shown(&ledger), ["2018-12-03 2018-12-12 Present", "2018-12-14 2018-12-22 Present"]);
    }

    #[test]
    fn what_is_not_over_is_not_asked_for() {
        let nyse = Calendar::nyse();
        let noon = day("2018-12-24").after(Duration::from_secs(16 * 3600 + 605));
        assert_eq!(complete_until(&nyse, Timeframe::DAY, noon), day("2018-12-24"));
        assert_eq!(complete_until(&nyse, Timeframe::MINUTE, noon).to_string(), "2018-12-24T16:10:00Z");
        assert_eq!(complete_until(&nyse, Timeframe::HOUR, noon).to_string(), "2018-12-24T15:30:00Z");
        let evening = day("2018-12-24").after(Duration::from_secs(18 * 3600));
        assert_eq!(complete_until(&nyse, Timeframe::DAY, evening), day("2018-12-25"));
        assert_eq!(complete_until(&Calendar::always_open(), Timeframe::DAY, evening), day("2018-12-24"));
    }

    #[test]
    fn half_a_day_says_nothing_about_its_bar() {
        let mut ledger = Ledger::default();
        let (noon, next) = (day("2018-12-20").after(Duration::from_secs(12 * 3600)), day("2018-12-21"));
        let asked = span(noon, day("2018-12-22"));
        answered(
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
