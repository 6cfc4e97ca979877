//! A ledger of time: what is known of every stretch of a series, so that only what is missing is asked for.

use std::time::Duration;

use crate::types::{interval::Interval, time::Timestamp};

/// What is known of a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// It was asked for, or written, and what there is of it is stored.
    Present,
    /// It was asked for, and there is nothing: a holiday, a halt, the time before a listing.
    KnownEmpty,
    /// It was asked for in vain, and is asked for again from `retry_at` on.
    Failed {
        /// When to ask again.
        retry_at: Timestamp,
        /// In how many loads it was asked for in vain.
        attempts: u32,
        /// What came instead of data.
        reason: String,
    },
    /// Nobody asked for it.
    Missing,
}

impl Coverage {
    /// Returns whether it has to be asked for at the time `now`.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self {
            Self::Present | Self::KnownEmpty => false,
            Self::Failed { retry_at, .. } => *retry_at <= now,
            Self::Missing => true,
        }
    }
}

/// A stretch of time and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoverageSpan {
    /// When.
    pub interval: Interval<Timestamp>,
    /// What is known.
    pub coverage: Coverage,
}

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

    /// The parts of `interval` that have to be asked for at the time `now`, neighbours joined.
    pub(crate) fn due(&self, interval: Interval<Timestamp>, now: Timestamp) -> Vec<Interval<Timestamp>> {
        let mut due: Vec<Interval<Timestamp>> = Vec::new();
        for stretch in self.within(interval).into_iter().filter(|stretch| stretch.coverage.is_due(now)) {
            match due.last_mut() {
                Some(last) if last.end() == stretch.interval.start() => {
                    *last = Interval::between(last.start(), stretch.interval.end());
                }
                _ => due.push(stretch.interval),
            }
        }
        due
    }

    /// How often `interval` was asked for in vain: the most of any part of it.
    pub(crate) fn attempts(&self, interval: Interval<Timestamp>) -> u32 {
        let attempts = |stretch: &CoverageSpan| match stretch.coverage {
            Coverage::Failed { attempts, .. } => attempts,
            _ => 0,
        };
        self.within(interval).iter().map(attempts).max().unwrap_or(0)
    }

    /// Forgets what was found to be empty.
    pub(crate) fn doubt_empty(&mut self) {
        self.stretches.retain(|stretch| stretch.coverage != Coverage::KnownEmpty);
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

/// Joins neighbours of `due` where one call for both, and for what lies between them, takes fewer calls than two.
pub(crate) fn join(due: &[Interval<Timestamp>], max_request_span: Option<Duration>) -> Vec<Interval<Timestamp>> {
    let mut joined: Vec<Interval<Timestamp>> = Vec::new();
    for &next in due {
        match joined.last_mut() {
            Some(last) => {
                let both = Interval::between(last.start(), next.end());
                let count = |interval| call_count(interval, max_request_span);
                // Without a limit on a call everything between would be asked for again, however much that is.
                if max_request_span.is_some() && count(both) < count(*last).saturating_add(count(next)) {
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
    fn only_what_is_due_is_asked_for() {
        let mut ledger = Ledger::default();
        ledger.mark(between(10, 20), Coverage::Present);
        ledger.mark(between(20, 30), Coverage::KnownEmpty);
        ledger.mark(between(30, 40), failed(100));
        let due = |now| ledger.due(between(0, 50), at(now));
        assert_eq!(due(99), [between(0, 10), between(40, 50)]);
        assert_eq!(due(100), [between(0, 10), between(30, 50)]);
        assert_eq!(ledger.attempts(between(0, 50)), 1);
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
        assert_eq!(join(&[between(0, 3), between(5, 9)], max), [between(0, 9)]);
        assert_eq!(join(&[between(0, 3), between(15, 19)], max), [between(0, 3), between(15, 19)]);
        assert_eq!(join(&[between(0, 3), between(5, 9)], None).len(), 2);
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
                    1 => Coverage::KnownEmpty,
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
