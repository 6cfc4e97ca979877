//! The versions of one row.

use crate::types::limits::CLOCK_STEP_MAX;

/// Until when a version is current that nothing took the place of.
pub(crate) const CURRENT: i64 = i64::MAX;

/// What a row was, from when it was recorded until something took its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Version<T> {
    pub(crate) recorded_at: i64,
    /// When it was superseded or deleted; [`CURRENT`] if it was not.
    pub(crate) until: i64,
    pub(crate) row: T,
}

/// All versions of one row, in order of time; no two overlap.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timeline<T> {
    versions: Vec<Version<T>>,
}

/// What a write changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// There was no current row.
    Added,
    /// The current row had other values.
    Replaced,
    /// The current row had these values; since when it is known may have changed.
    Unchanged,
    /// The current row stays, because it was known later: what was known before it changed.
    Backdated,
}

impl<T: Copy> Timeline<T> {
    /// The versions of a row, in any order.
    pub(crate) fn new(versions: impl IntoIterator<Item = Version<T>>) -> Self {
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.sort_by_key(|version| version.recorded_at);
        Self { versions }
    }

    pub(crate) fn versions(&self) -> &[Version<T>] {
        &self.versions
    }

    /// What the row is.
    pub(crate) fn current(&self) -> Option<Version<T>> {
        self.versions.last().copied().filter(|version| version.until == CURRENT)
    }

    /// What was known of the row at a time.
    pub(crate) fn as_of(&self, known_at: i64) -> Option<Version<T>> {
        self.versions.iter().find(|version| version.recorded_at <= known_at && known_at < version.until).copied()
    }

    /// Notes that the row is `row` from `now` on.
    pub(crate) fn write(&mut self, now: i64, row: T, is_same: impl Fn(T) -> bool) -> Noted {
        let before = self.current();
        let same = before.is_some_and(|before| is_same(before.row));
        if same && before.is_some_and(|before| before.recorded_at <= now) {
            return Noted::Unchanged;
        }
        let at = self.settle(now);
        match self.current() {
            // It was recorded by a clock that was a little ahead.
            Some(_) if same => return Noted::Unchanged,
            Some(_) => self.end_current(at),
            None => {}
        }
        self.versions.push(Version { recorded_at: at, until: CURRENT, row });
        match before {
            None => Noted::Added,
            Some(_) if same => Noted::Unchanged,
            Some(_) => Noted::Replaced,
        }
    }

    /// Notes that there is no such row from `now` on. Returns whether there was one. A version that was deleted as soon
    /// as it was recorded, or before, by a clock that was far ahead, stays as a mark of that: what was known earlier does
    /// not come back.
    pub(crate) fn remove(&mut self, now: i64) -> bool {
        let Some(removed) = self.current() else {
            self.settle(now);
            return false;
        };
        let at = self.settle(now);
        match self.versions.last_mut().filter(|last| last.until == CURRENT) {
            Some(last) => last.until = at,
            None => self.versions.push(Version { recorded_at: at, until: at, row: removed.row }),
        }
        true
    }

    /// Notes that the row was known to be `row` since `known_at`, which may be long ago. What was known later stays,
    /// and that it was the same at this time is remembered.
    pub(crate) fn record(&mut self, known_at: i64, row: T, is_same: impl Fn(T) -> bool) -> Noted {
        let at = self.versions.partition_point(|version| version.recorded_at <= known_at);
        let valid = at.checked_sub(1).and_then(|at| self.versions.get_mut(at)).filter(|valid| known_at < valid.until);
        let (mut valid_until, mut is_gone, mut was_same) = (None, false, false);
        if let Some(valid) = valid {
            was_same = is_same(valid.row);
            if was_same && (valid.recorded_at == super::UNRECORDED || valid.recorded_at == known_at) {
                valid.recorded_at = known_at;
                return Noted::Unchanged;
            }
            valid_until = Some(std::mem::replace(&mut valid.until, known_at));
            is_gone = valid.recorded_at == known_at;
        }
        let later = self.versions.get(at);
        let until = match (valid_until, later) {
            (None, Some(later)) => later.recorded_at,
            (valid_until, _) => valid_until.unwrap_or(CURRENT),
        };
        self.versions.insert(at, Version { recorded_at: known_at, until, row });
        if is_gone {
            self.versions.remove(at - 1);
        }
        match (until == CURRENT, valid_until == Some(CURRENT)) {
            _ if was_same => Noted::Unchanged,
            (false, _) => Noted::Backdated,
            (true, true) => Noted::Replaced,
            (true, false) => Noted::Added,
        }
    }

    /// The time that a change at `now` counts from: not before what is recorded, unless that was by a clock that was
    /// far ahead. Then nothing that it recorded is left.
    fn settle(&mut self, now: i64) -> i64 {
        let ends = self.versions.iter().map(|version| match version.until {
            CURRENT => version.recorded_at,
            until => until,
        });
        let Some(last) = ends.max().filter(|last| *last > now) else {
            return now;
        };
        if last.saturating_sub(now) <= CLOCK_STEP_MAX {
            return last;
        }
        self.versions.retain_mut(|version| {
            if version.until > now && version.until != CURRENT {
                version.until = now;
            }
            version.recorded_at < now
        });
        now
    }

    fn end_current(&mut self, at: i64) {
        let Some(last) = self.versions.last_mut().filter(|last| last.until == CURRENT) else { return };
        last.until = at;
        if last.recorded_at >= at {
            // Another one takes its place in the same moment.
            self.versions.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was known at each of a hundred times, and of which version it was.
    struct Oracle {
        known: Vec<(u32, Option<u8>)>,
        versions: u32,
    }

    impl Oracle {
        fn fill(&mut self, times: std::ops::Range<usize>, row: Option<u8>) {
            self.versions += 1;
            for time in times {
                self.known[time] = (self.versions, row);
            }
        }

        fn record(&mut self, at: usize, row: u8) {
            let (version, _) = self.known[at];
            let end = (at..100).find(|time| self.known[*time].0 != version).unwrap_or(100);
            self.fill(at..end, Some(row));
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Write(u8),
        Remove,
        Record(usize, u8),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0u8..3).prop_map(Change::Write),
            Just(Change::Remove),
            (0usize..100, 0u8..3).prop_map(|(at, row)| Change::Record(at, row)),
        ]
    }

    proptest! {
        /// Against a list of what was known at each time.
        #[test]
        fn a_timeline_is_what_a_list_of_times_would_be(changes in prop::collection::vec((0usize..4, change()), 0..24)) {
            let mut timeline = Timeline::new([]);
            let mut oracle = Oracle { known: vec![(0, None); 100], versions: 0 };
            let mut now = 0;
            for (step, change) in changes {
                now += step;
                let (time, before) = (i64::try_from(now).unwrap(), timeline.current().map(|version| version.row));
                match change {
                    Change::Write(row) => {
                        let noted = timeline.write(time, row, |other| other == row);
                        prop_assert_eq!(noted, match before {
                            None => Noted::Added,
                            Some(same) if same == row => Noted::Unchanged,
                            Some(_) => Noted::Replaced,
                        });
                        if before != Some(row) {
                            oracle.fill(now..100, Some(row));
                        }
                    }
                    Change::Remove => {
                        prop_assert_eq!(timeline.remove(time), before.is_some());
                        if before.is_some() {
                            oracle.fill(now..100, None);
                        }
                    }
                    Change::Record(at, row) => {
                        let at = at.min(now);
                        let noted = timeline.record(i64::try_from(at).unwrap(), row, |other| other == row);
                        oracle.record(at, row);
                        let changed = timeline.current().map(|version| version.row) != before;
                        prop_assert_eq!(changed, matches!(noted, Noted::Added | Noted::Replaced));
                    }
                }
                for (time, (_, row)) in oracle.known.iter().enumerate() {
                    let found = timeline.as_of(i64::try_from(time).unwrap()).map(|version| version.row);
                    prop_assert_eq!(found, *row, "at {}", time);
                }
                let disjoint = timeline.versions().windows(2).all(|pair| pair[0].until <= pair[1].recorded_at);
                prop_assert!(disjoint, "{:?}", timeline);
            }
        }
    }

    #[test]
    fn a_clock_that_was_far_ahead_leaves_nothing() {
        const FAR: i64 = CLOCK_STEP_MAX * 1000;
        let mut timeline = Timeline::new([]);
        timeline.write(50, 'a', |other| other == 'a');
        timeline.write(FAR, 'b', |other| other == 'b');
        assert_eq!(timeline.as_of(200).unwrap().row, 'a');
        timeline.write(200, 'c', |other| other == 'c');
        let known = |timeline: &Timeline<char>, at| timeline.as_of(at).map(|version| version.row);
        assert_eq!(
            [49, 50, 199, 200, FAR].map(|at| known(&timeline, at)),
            [None, Some('a'), Some('a'), Some('c'), Some('c')]
        );
        // Deleted under such a clock, and written again under a good one.
        timeline.remove(FAR);
        timeline.write(300, 'd', |other| other == 'd');
        assert_eq!([299, 300, FAR].map(|at| known(&timeline, at)), [Some('c'), Some('d'), Some('d')]);
    }

    #[test]
    fn a_clock_that_steps_back_a_little_takes_nothing_back() {
        let mut timeline = Timeline::new([]);
        timeline.write(100, 'a', |other| other == 'a');
        assert_eq!(timeline.write(90, 'b', |other| other == 'b'), Noted::Replaced);
        assert_eq!(timeline.as_of(99), None);
        assert_eq!(timeline.as_of(100).unwrap().row, 'b');
    }
}
