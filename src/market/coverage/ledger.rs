//! A ledger of time: what is known of every stretch of a series, so that only what is missing is asked for.

use std::time::Duration;

use crate::types::{interval::Interval, time::Timestamp};

/// What is known of a stretch of time.
///
/// An empty answer is evidence and not proof: it alone never makes a session [`Empty`](Self::Empty).
///
/// | state | what it claims | what ends it |
/// |---|---|---|
/// | `Present` | a call asked for exactly this, or wrote it, and what there is is stored | `remove`, `mark_missing` |
/// | `Provisional` | the same, but it was fetched before its publication delay was over | the next load from `confirm_at` on |
/// | `Due` | a session says that there should be rows; asked for, and not there yet | rows that come; a week after the session, `AssumedEmpty` |
/// | `Empty` | no session in it, or the vendor says so for good | another calendar |
/// | `AssumedEmpty` | whole sessions for which nothing came, long after they were due | asked for again after a day, a week, a month, then monthly |
/// | `Unjudged` | the calendar does not know these days; asked for, and nothing came | rows that come; a week later, `AssumedEmpty` |
/// | `Failed` | the call failed | asked for again from `retry_at` on |
/// | `Missing` | nothing: no call asked for it | a load |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// A call asked for exactly this, or wrote it, and what there is of it is stored. A minute without a trade, inside
    /// a session that has bars, is among it.
    Present,
    /// Stored, and fetched so early that it may still change: asked for once more from `confirm_at` on.
    Provisional {
        /// When to ask again.
        confirm_at: Timestamp,
    },
    /// There is nothing: no session, or the vendor says so for good.
    Empty,
    /// A session says that there should be rows, and they were not there yet.
    Due {
        /// When to ask again.
        retry_at: Timestamp,
        /// In how many loads it was asked for in vain.
        attempts: u32,
        /// When it was first asked for.
        since: Timestamp,
        /// When it was last asked for.
        asked_at: Timestamp,
    },
    /// Sessions for which nothing came, long after they were due.
    AssumedEmpty {
        /// When to ask again.
        retry_at: Timestamp,
        /// In how many loads it was asked for in vain since it was long due.
        attempts: u32,
    },
    /// Days that the calendar does not know, for which nothing came yet.
    Unjudged {
        /// When to ask again.
        retry_at: Timestamp,
        /// In how many loads it was asked for in vain.
        attempts: u32,
        /// When it was first asked for.
        since: Timestamp,
        /// When it was last asked for.
        asked_at: Timestamp,
    },
    /// The call failed, and is made again from `retry_at` on.
    Failed {
        /// When to ask again.
        retry_at: Timestamp,
        /// In how many loads it was asked for in vain.
        attempts: u32,
        /// What came instead of data.
        reason: String,
    },
    /// No call asked for it.
    Missing,
}

impl Coverage {
    /// Returns whether it has to be asked for at the time `now`.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        // Nothing is put off for longer than that: the clock was ahead when it was, and stands right again.
        let is_time = |at: &Timestamp| *at <= now || at.since(now) > PUT_OFF_MAX;
        match self {
            Self::Present | Self::Empty => false,
            Self::Provisional { confirm_at: at }
            | Self::Due { retry_at: at, .. }
            | Self::AssumedEmpty { retry_at: at, .. }
            | Self::Unjudged { retry_at: at, .. }
            | Self::Failed { retry_at: at, .. } => is_time(at),
            Self::Missing => true,
        }
    }

    /// Whether rows are stored, as far as there are any.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self, Self::Present | Self::Provisional { .. })
    }
}

/// The longest time that anything is put off for: twice the longest pause.
pub(crate) const PUT_OFF_MAX: Duration = Duration::from_secs(60 * 24 * 3600);

/// A stretch of time and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoverageSpan {
    /// When.
    pub interval: Interval<Timestamp>,
    /// What is known.
    pub coverage: Coverage,
}

/// Stretches of one ledger: bars that a live feed writes one by one, seconds apart, make one each.
const SPANS_MAX: usize = 20_000;

/// Disjoint stretches in order of time; what is not in it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    stretches: Vec<CoverageSpan>,
}

impl Ledger {
    /// A ledger of stretches in order; `None` when they overlap or are out of order.
    pub(crate) fn new(stretches: Vec<CoverageSpan>) -> Option<Self> {
        let ordered = stretches.windows(2).all(|pair| matches!(pair, [a, b] if a.interval.end() <= b.interval.start()));
        ordered.then_some(Self { stretches })
    }

    pub(crate) fn stretches(&self) -> &[CoverageSpan] {
        &self.stretches
    }

    /// Says what is known of `interval` from now on.
    pub(crate) fn mark(&mut self, interval: Interval<Timestamp>, coverage: Coverage) {
        if interval.is_empty() {
            return;
        }
        let (start, end) = (interval.start(), interval.end());
        let from = self.stretches.partition_point(|stretch| stretch.interval.end() < start);
        let to = self.stretches.partition_point(|stretch| stretch.interval.start() <= end);
        let touched: Vec<CoverageSpan> = self.stretches.drain(from..to.max(from)).collect();
        let mut pieces = Vec::with_capacity(3);
        let outside = |stretch: &CoverageSpan, start: Timestamp, end: Timestamp| {
            (start < end)
                .then(|| CoverageSpan { interval: Interval::between(start, end), coverage: stretch.coverage.clone() })
        };
        for stretch in &touched {
            pieces.extend(outside(stretch, stretch.interval.start(), stretch.interval.end().min(start)));
        }
        if coverage != Coverage::Missing {
            pieces.push(CoverageSpan { interval, coverage });
        }
        for stretch in &touched {
            pieces.extend(outside(stretch, stretch.interval.start().max(end), stretch.interval.end()));
        }
        let mut merged: Vec<CoverageSpan> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match merged.last_mut() {
                Some(last) if last.coverage == piece.coverage && last.interval.end() == piece.interval.start() => {
                    last.interval = Interval::between(last.interval.start(), piece.interval.end());
                }
                _ => merged.push(piece),
            }
        }
        self.stretches.splice(from..from, merged);
    }

    /// What is known of every part of `interval`, in order, without gaps.
    pub(crate) fn within(&self, interval: Interval<Timestamp>) -> Vec<CoverageSpan> {
        let mut found = Vec::new();
        let mut at = interval.start();
        let first = self.stretches.partition_point(|stretch| stretch.interval.end() <= at);
        for stretch in self.stretches.iter().skip(first) {
            let (start, end) = (stretch.interval.start().max(at), stretch.interval.end().min(interval.end()));
            if start >= end {
                break;
            }
            if at < start {
                found.push(CoverageSpan { interval: Interval::between(at, start), coverage: Coverage::Missing });
            }
            found.push(CoverageSpan { interval: Interval::between(start, end), coverage: stretch.coverage.clone() });
            at = end;
        }
        if at < interval.end() {
            found.push(CoverageSpan { interval: Interval::between(at, interval.end()), coverage: Coverage::Missing });
        }
        found
    }

    /// Forgets the shortest stretches, if there are too many: what is forgotten is fetched again.
    pub(crate) fn bound(&mut self) {
        let excess = self.stretches.len().saturating_sub(SPANS_MAX);
        if excess == 0 {
            return;
        }
        // Half of them, so that the next one does not begin anew.
        let length = |span: &CoverageSpan| span.interval.end().since(span.interval.start());
        let mut by_length: Vec<usize> = (0..self.stretches.len()).collect();
        by_length.sort_by_key(|at| self.stretches.get(*at).map(length));
        by_length.truncate(excess + SPANS_MAX / 2);
        by_length.sort_unstable();
        let mut at = 0;
        self.stretches.retain(|_| {
            at += 1;
            by_length.binary_search(&(at - 1)).is_err()
        });
    }

    /// Keeps of what is stored only the parts that `parts` cuts out of it.
    pub(crate) fn keep_within(&mut self, parts: impl Fn(Interval<Timestamp>) -> Vec<Interval<Timestamp>>) {
        let before = std::mem::take(&mut self.stretches);
        for CoverageSpan { interval, coverage } in before {
            if coverage.is_stored() {
                parts(interval).into_iter().for_each(|part| self.mark(part, coverage.clone()));
            } else {
                self.mark(interval, coverage);
            }
        }
    }

    /// Forgets everything but failures.
    pub(crate) fn keep_failures(&mut self) {
        self.stretches.retain(|stretch| matches!(stretch.coverage, Coverage::Failed { .. }));
    }

    /// Forgets what a calendar said, and keeps what is stored and what failed.
    pub(crate) fn judge_anew(&mut self) {
        self.stretches
            .retain(|stretch| stretch.coverage.is_stored() || matches!(stretch.coverage, Coverage::Failed { .. }));
    }
}

/// Splits `interval` into calls of at most `max_request_span` each, from its start on.
pub(crate) fn calls(
    interval: Interval<Timestamp>,
    max_request_span: Option<Duration>,
) -> impl Iterator<Item = Interval<Timestamp>> {
    let mut start = interval.start();
    std::iter::from_fn(move || {
        if start >= interval.end() {
            return None;
        }
        // A span of nothing would never come to an end.
        let end = max_request_span.map_or(interval.end(), |span| start.after(span.max(Duration::from_nanos(1))));
        let call = Interval::between(start, end.min(interval.end()));
        start = call.end();
        Some(call)
    })
}

/// How many calls that takes.
pub(crate) fn call_count(interval: Interval<Timestamp>, max_request_span: Option<Duration>) -> u64 {
    let nanos = interval.end().since(interval.start()).as_nanos();
    let span = max_request_span.map_or(u128::MAX, |span| span.as_nanos().max(1));
    u64::try_from(nanos.div_ceil(span)).unwrap_or(u64::MAX)
}

/// Rows that a call may bring again where that saves another call.
pub(crate) const ROWS_BETWEEN_MAX: u32 = 10;

/// Joins neighbours of `due` where one call for both, and for what lies between them, takes fewer calls than two; also
/// without a limit on a call, where so little lies between them that asking for it again costs less than a call, or
/// nothing at all.
pub(crate) fn join(
    due: &[Interval<Timestamp>],
    max_request_span: Option<Duration>,
    row: Duration,
    is_nothing: impl Fn(Interval<Timestamp>) -> bool,
) -> Vec<Interval<Timestamp>> {
    let little = row.saturating_mul(ROWS_BETWEEN_MAX);
    let mut joined: Vec<Interval<Timestamp>> = Vec::new();
    for &next in due {
        match joined.last_mut() {
            Some(last) => {
                let both = Interval::between(last.start(), next.end());
                let count = |interval| call_count(interval, max_request_span);
                // Without a limit on a call everything between would be asked for again, however much that is.
                let is_limited = max_request_span.is_some();
                let is_little = next.start().since(last.end()) <= little;
                let is_near = is_limited || is_little || is_nothing(Interval::between(last.end(), next.start()));
                if is_near && count(both) < count(*last).saturating_add(count(next)) {
                    *last = both;
                } else {
                    joined.push(next);
                }
            }
            None => joined.push(next),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(n: i64) -> Timestamp {
        Timestamp::from_nanos(n)
    }

    fn between(start: i64, end: i64) -> Interval<Timestamp> {
        Interval::between(at(start), at(end))
    }

    fn failed(retry: i64) -> Coverage {
        Coverage::Failed { retry_at: at(retry), attempts: 1, reason: "no route".into() }
    }

    #[test]
    fn what_failed_is_due_when_its_time_has_come_or_cannot_have_been_meant() {
        let hour = 3_600_000_000_000;
        let due = |retry: i64, now: i64| failed(retry * hour).is_due(at(now * hour));
        assert_eq!([due(100, 99), due(100, 100), due(100, 101)], [false, true, true]);
        assert_eq!([due(60 * 24, 0), due(60 * 24 + 1, 0)], [false, true]);
        assert!(Coverage::Missing.is_due(at(0)) && !Coverage::Present.is_due(at(0)) && !Coverage::Empty.is_due(at(0)));
    }

    #[test]
    fn neighbours_of_the_same_kind_are_one_stretch() {
        let mut ledger = Ledger::default();
        for start in [10, 30, 20] {
            ledger.mark(between(start, start + 10), Coverage::Present);
        }
        assert_eq!(ledger.stretches().len(), 1);
        ledger.mark(between(15, 16), Coverage::Missing);
        assert_eq!(ledger.stretches().len(), 2);
    }

    #[test]
    fn calls_are_joined_where_that_saves_one() {
        let max = Some(Duration::from_nanos(10));
        let joined = |due: &[Interval<Timestamp>], max| join(due, max, Duration::from_nanos(1), |_| false);
        assert_eq!(joined(&[between(0, 3), between(5, 9)], max), [between(0, 9)]);
        assert_eq!(joined(&[between(0, 3), between(15, 19)], max), [between(0, 3), between(15, 19)]);
        assert_eq!(joined(&[between(0, 3), between(5, 9), between(19, 20)], None), [between(0, 20)]);
        assert_eq!(joined(&[between(0, 3), between(5, 9), between(20, 21)], None).len(), 2);
        let split: Vec<_> = calls(between(0, 25), max).collect();
        assert_eq!(split, [between(0, 10), between(10, 20), between(20, 25)]);
        assert_eq!(calls(between(0, 25), None).collect::<Vec<_>>(), [between(0, 25)]);
        for (start, end, count) in [(0, 25, 3), (0, 20, 2), (5, 5, 0), (0, 1, 1)] {
            assert_eq!(
                (call_count(between(start, end), max), calls(between(start, end), max).count() as u64),
                (count, count)
            );
        }
        let all = between(i64::MIN, i64::MAX);
        assert_eq!(call_count(all, Some(Duration::ZERO)), u64::MAX);
    }

    proptest! {
        /// Against an array of points.
        #[test]
        fn a_ledger_is_what_a_list_of_points_would_be(
            marks in prop::collection::vec((0i64..40, 0i64..15, 0u8..4), 0..30),
        ) {
            let mut ledger = Ledger::default();
            let mut points = vec![Coverage::Missing; 60];
            for (start, len, kind) in marks {
                let coverage = match kind {
                    0 => Coverage::Present,
                    1 => Coverage::Empty,
                    2 => failed(7),
                    _ => Coverage::Missing,
                };
                points.iter_mut().skip(start.unsigned_abs() as usize).take(len.unsigned_abs() as usize).for_each(|point| *point = coverage.clone());
                ledger.mark(between(start, start + len), coverage);
                prop_assert!(Ledger::new(ledger.stretches().to_vec()).is_some());
            }
            let found = ledger.within(between(0, 60));
            let flat: Vec<Coverage> = found
                .iter()
                .flat_map(|stretch| (stretch.interval.start().as_nanos()..stretch.interval.end().as_nanos()).map(|_| stretch.coverage.clone()))
                .collect();
            prop_assert_eq!(flat, points);
        }
    }
}
