//! What a load has to ask for, and what is missing after it.

use std::time::Duration;

use super::report::{FetchReport, LeftOut, UnknownDays};
use crate::{
    market::coverage::{
        classify::Judge,
        covered::Judged,
        ledger::{Coverage, CoverageSpan},
    },
    types::{interval::Interval, time::Timestamp},
};

/// The part of `interval` that is over.
pub(super) fn clip_to_closed(
    judge: &Judge<'_>,
    interval: Interval<Timestamp>,
    report: &mut FetchReport,
) -> Interval<Timestamp> {
    let until = judge.complete_until();
    if interval.end() <= until {
        return interval;
    }
    let end = until.max(interval.start());
    report.not_yet = Some(Interval::between(end, interval.end()));
    Interval::between(interval.start(), end)
}

/// How long a bar at the close is asked for that nobody has asked for yet, in a series that has had none.
const CLOSES_ASKED_FOR: Duration = Duration::from_secs(10 * 24 * 3600);

/// What has to be asked for: not where an exchange is known to be closed, nor where no bar can begin.
///
/// Sessions that are assumed to be empty go along with others of them that are due beside them, so that years of a
/// symbol that is dead are one call and not one for each session; and with what is due of their own session, so that
/// one answer is about all of it.
pub(super) fn to_ask(judge: &Judge<'_>, judged: &Judged, over: Interval<Timestamp>) -> Vec<Interval<Timestamp>> {
    let is_assumed = |span: &CoverageSpan| matches!(span.coverage, Coverage::AssumedEmpty { .. });
    // A bar at the close of a series that has had none, behind which a writer went on: after some days it is a call for
    // each session, for nothing.
    let is_past = |span: &CoverageSpan| {
        let is_old = span.interval.end().after(CLOSES_ASKED_FOR) < judge.now;
        span.coverage == Coverage::Missing && is_old && !judge.expects_row(span.interval)
    };
    let is_due =
        |span: &CoverageSpan| span.coverage.is_due(judge.now) && judge.can_begin_in(span.interval) && !is_past(span);
    let spans = judged.record.ledger.within(over);
    let mut asked: Vec<bool> = spans.iter().map(is_due).collect();
    // A limit on a call makes more calls of a longer stretch.
    if judge.policy.max_request_span.is_none() {
        // Nights and weekends between them were said to be empty before they were assumed to be.
        let is_run = |span: &CoverageSpan| {
            is_assumed(span) || span.coverage == Coverage::Empty && !judge.can_begin_in(span.interval)
        };
        let mut start = 0;
        for run in spans.chunk_by(|a, b| is_run(a) && is_run(b)) {
            let end = start + run.len();
            let of_run = asked.get_mut(start..end).unwrap_or_default();
            if run.iter().all(is_run) && of_run.contains(&true) {
                of_run.fill(true);
            }
            start = end;
        }
    }
    for (n, span) in spans.iter().enumerate().filter(|(_, span)| is_assumed(span)) {
        let beside = [n.checked_sub(1), Some(n + 1)].into_iter().flatten();
        let shares_session = |other: &CoverageSpan| {
            let (first, second) =
                if other.interval.start() < span.interval.start() { (other, span) } else { (span, other) };
            let border = first.interval.end();
            second.interval.start() == border
                && judge.window_at(border).is_some_and(|window| window.whole.start() < border)
        };
        let goes_along = beside
            .filter(|other| asked.get(*other) == Some(&true))
            .filter_map(|other| spans.get(other))
            .any(|other| !is_assumed(other) && shares_session(other));
        if let Some(slot) = asked.get_mut(n) {
            *slot |= goes_along;
        }
    }
    let mut due: Vec<Interval<Timestamp>> = Vec::new();
    for (span, _) in spans.iter().zip(asked).filter(|(_, asked)| *asked) {
        match due.last_mut() {
            Some(last) if last.end() == span.interval.start() => {
                *last = Interval::between(last.start(), span.interval.end());
            }
            _ => due.push(span.interval),
        }
    }
    due
}

/// Says what is still not there, and what nobody can say.
pub(super) fn judge_result(judge: &Judge<'_>, judged: &Judged, over: Interval<Timestamp>, report: &mut FetchReport) {
    // What failed may have been a bar at the close, too.
    let misses = |span: &CoverageSpan| match span.coverage {
        Coverage::Failed { .. } => judge.can_begin_in(span.interval),
        _ => judge.expects_row(span.interval),
    };
    for span in judged.record.ledger.within(over) {
        match span.coverage {
            Coverage::AssumedEmpty { .. }
                if judge.expects_row(span.interval)
                    && judge.windows(span.interval).any(|window| window.session.is_some()) =>
            {
                report.assumed_empty.push(span);
            }
            Coverage::Present
            | Coverage::Provisional { .. }
            | Coverage::Empty
            | Coverage::AssumedEmpty { .. }
            | Coverage::Unjudged { .. } => {}
            Coverage::Due { .. } | Coverage::Failed { .. } | Coverage::Missing => {
                if misses(&span) {
                    report.gaps.push(span);
                }
            }
        }
    }
    report.calendar = judge.calendar.to_string();
    let (known, days) = (judge.calendar.known(), over.days());
    if !over.is_empty() && (days.start() < known.start() || known.end() < days.end()) {
        report.unjudged = Some(UnknownDays { interval: over, calendar: judge.calendar.to_string(), known });
    }
}

/// Rows between two that were left out, up to which they make one stretch.
const LEFT_OUT_BETWEEN_MAX: u32 = 10;

/// Where rows were left out, and why: those that lie close together make one stretch.
pub(super) fn left_out_spans(rows: &[LeftOut], row: Duration) -> Vec<(Interval<Timestamp>, String)> {
    let mut rows: Vec<&LeftOut> = rows.iter().collect();
    rows.sort_by_key(|row| row.at);
    let near = |a: &&LeftOut, b: &&LeftOut| b.at.since(a.at) <= row.saturating_mul(LEFT_OUT_BETWEEN_MAX);
    let stretches = rows.chunk_by(near).filter_map(|rows| {
        let (first, last) = (rows.first()?, rows.last()?);
        let others = rows.len() - 1;
        let reason = if others == 0 { first.reason.clone() } else { format!("{}, and {others} more", first.reason) };
        Some((Interval::between(first.at, last.at.after(row)), reason))
    });
    stretches.collect()
}
