//! What a load has to ask for, and what is missing after it.

use std::time::Duration;

use super::report::{FetchReport, LeftOut, UnknownDays};
use crate::{
    market::coverage::{
        classify::Judge,
        covered::{CoveredSeries, Judged},
        grid::BarGrid,
        ledger::{self, Coverage},
    },
    types::{error::Result, interval::Interval, time::Timestamp},
};

/// Where bars that follow no fixed grid begin, by those that are stored.
pub(super) fn bar_grid(covered: &CoveredSeries<'_>, judged: &Judged, now: Timestamp) -> Result<Option<BarGrid>> {
    const RECENT: Duration = Duration::from_secs(10 * 24 * 3600);
    if covered.timeframe().is_daily() || covered.timeframe().grid().is_some() {
        return Ok(None);
    }
    let stored = covered.stored_times(Interval::between(now.before(RECENT), now))?;
    Ok(covered.judge(judged, now).grid_of(&stored))
}

/// The part of `interval` that is over.
pub(super) fn clip_to_closed(
    judge: &Judge<'_>,
    interval: Interval<Timestamp>,
    grid: Option<BarGrid>,
    report: &mut FetchReport,
) -> Interval<Timestamp> {
    let until = judge.complete_until(grid);
    if interval.end() <= until {
        return interval;
    }
    let end = until.max(interval.start());
    report.not_yet = Some(Interval::between(end, interval.end()));
    Interval::between(interval.start(), end)
}

/// What has to be asked for: not where an exchange is known to be closed.
pub(super) fn to_ask(
    judge: &Judge<'_>,
    judged: &Judged,
    over: Interval<Timestamp>,
    grid: Option<BarGrid>,
) -> Vec<Interval<Timestamp>> {
    let mut due = judged.record.ledger.due(over, judge.now);
    due.retain(|part| judge.expects(*part) && grid.is_none_or(|grid| !grid.covers(*part, judge)));
    due
}

/// Says what is still not there, and what nobody can say.
pub(super) fn judge_result(
    judge: &Judge<'_>,
    judged: &Judged,
    over: Interval<Timestamp>,
    grid: Option<BarGrid>,
    report: &mut FetchReport,
) {
    for span in judged.record.ledger.within(over) {
        match span.coverage {
            Coverage::AssumedEmpty { .. } if judge.windows(span.interval).any(|window| window.session.is_some()) => {
                report.assumed_empty.push(span);
            }
            Coverage::Present
            | Coverage::Provisional { .. }
            | Coverage::Empty
            | Coverage::AssumedEmpty { .. }
            | Coverage::Unjudged { .. } => {}
            Coverage::Due { .. } | Coverage::Failed { .. } | Coverage::Missing => {
                if judge.can_begin_in(span.interval, grid) {
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

/// Where rows were left out, and why: those that lie close together make one stretch.
pub(super) fn left_out_spans(rows: &[LeftOut], row: Duration) -> Vec<(Interval<Timestamp>, String)> {
    let mut rows: Vec<&LeftOut> = rows.iter().collect();
    rows.sort_by_key(|row| row.at);
    let near = |a: &&LeftOut, b: &&LeftOut| b.at.since(a.at) <= row.saturating_mul(ledger::ROWS_BETWEEN_MAX);
    let stretches = rows.chunk_by(near).filter_map(|rows| {
        let (first, last) = (rows.first()?, rows.last()?);
        let others = rows.len() - 1;
        let reason = if others == 0 { first.reason.clone() } else { format!("{}, and {others} more", first.reason) };
        Some((Interval::between(first.at, last.at.after(row)), reason))
    });
    stretches.collect()
}
