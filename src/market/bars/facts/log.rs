//! Which rows of a series changed, and in which change: bounded, and never less than what changed.

use crate::types::{interval::Interval, time::Timestamp};

/// Entries of one log: 24 bytes each, rewritten with every change of the series.
const ENTRIES_MAX: usize = 32;

/// That rows of an interval were added, replaced or removed in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) change: u64,
    pub(crate) rows: Interval<Timestamp>,
}

/// The changes of one series, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeLog(Vec<Entry>);

impl ChangeLog {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Notes that rows of these intervals changed. What has no room joins the entry after it: an interval may grow, and
    /// a change may seem newer than it was, so that more is reported and never less.
    pub(crate) fn add(&mut self, change: u64, changed: impl IntoIterator<Item = Interval<Timestamp>>) {
        for rows in changed {
            self.0.retain(|old| !(rows.start() <= old.rows.start() && old.rows.end() <= rows.end()));
            self.0.push(Entry { change, rows });
        }
        while self.0.len() > ENTRIES_MAX {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                let (start, end) = (oldest.rows.start().min(next.rows.start()), oldest.rows.end().max(next.rows.end()));
                let change = oldest.change.max(next.change);
                *next = Entry { change, rows: Interval::between(start, end) };
            }
        }
    }

    /// The intervals whose rows changed after `change`, in order, without overlaps.
    pub(crate) fn since(&self, change: u64) -> Vec<Interval<Timestamp>> {
        let mut found: Vec<_> = self.0.iter().filter(|entry| entry.change > change).map(|entry| entry.rows).collect();
        found.sort_unstable_by_key(|rows| (rows.start(), rows.end()));
        let mut joined: Vec<Interval<Timestamp>> = Vec::with_capacity(found.len());
        for rows in found {
            match joined.last_mut() {
                Some(last) if rows.start() <= last.end() => {
                    *last = Interval::between(last.start(), last.end().max(rows.end()));
                }
                _ => joined.push(rows),
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between(start: i64, end: i64) -> Interval<Timestamp> {
        Interval::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)).unwrap()
    }

    #[test]
    fn a_change_of_the_same_rows_takes_the_place_of_an_older_one() {
        let mut log = ChangeLog::default();
        log.add(1, [between(0, 10)]);
        log.add(2, [between(20, 30)]);
        log.add(3, [between(0, 12)]);
        assert_eq!(log.entries().len(), 2);
        assert_eq!(log.since(0), [between(0, 12), between(20, 30)]);
        assert_eq!((log.since(2), log.since(3)), (vec![between(0, 12)], vec![]));
    }

    proptest! {
        /// Against a list of all points of time.
        #[test]
        fn no_change_is_ever_left_out(changes in prop::collection::vec((0i64..200, 1i64..20), 0..120)) {
            let mut log = ChangeLog::default();
            let mut changed_in = vec![0; 256];
            for (n, (start, len)) in changes.iter().enumerate() {
                let change = n as u64 + 1;
                log.add(change, [between(*start, start + len)]);
                (*start..start + len).for_each(|at| changed_in[at.unsigned_abs() as usize] = change);
            }
            prop_assert!(log.entries().len() <= ENTRIES_MAX);
            for since in 0..=changes.len() as u64 {
                let reported = log.since(since);
                let is_in = |at: usize| reported.iter().any(|rows| rows.contains(Timestamp::from_nanos(at.cast_signed() as i64)));
                let missed = (0..256).find(|at| changed_in[*at] > since && !is_in(*at));
                prop_assert_eq!(missed, None, "since {}", since);
                prop_assert!(reported.windows(2).all(|pair| pair[0].end() < pair[1].start()));
            }
        }
    }
}
