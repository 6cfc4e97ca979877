//! Which segments depend on which bars.

use std::ops::Range;

use super::spec::Lookback;
use crate::{
    market::{
        bars::{bar::Field, columns::Bars},
        timeframe::Period,
    },
    types::{hash::Digest, invariant::Invariant},
};

/// Bars of one month, or of what is shorter, and the hash of all the bars that their features depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) index: i64,
    pub(crate) rows: Range<usize>,
    pub(crate) depends_on: Digest,
}

/// Divides bars, which begin with the first bar that any of them depends on.
///
/// `from_start` says that they begin with the first bar of all. Segments in front, whose own lookback reaches further
/// than these bars, come out with a hash that no complete one has.
pub(crate) fn segments(bars: &Bars, period: Period, lookback: Lookback, from_start: bool) -> Vec<Segment> {
    let at = bars.timestamps();
    let mut cut: Vec<(i64, Range<usize>, Digest)> = Vec::new();
    let mut start = 0;
    while let Some(first) = at.get(start) {
        let index = period.index(*first);
        let (_, end) = period.span(index);
        let next = start + at.get(start..).always("rows lie in the columns").partition_point(|at| *at < end).max(1);
        cut.push((index, start..next, hash(&bars.slice(start..next))));
        start = next;
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(cut.len());
    for (n, (index, rows, own)) in cut.iter().enumerate() {
        let mut all = own.as_bytes().to_vec();
        match (lookback, segments.last()) {
            (Lookback::All, Some(before)) => all.extend_from_slice(before.depends_on.as_bytes()),
            (Lookback::All, None) => all.push(u8::from(from_start)),
            (Lookback::Bars(bars), _) => {
                let mut before = cut.iter().take(n).rev();
                let mut reached = 0;
                while reached < bars {
                    let Some((_, rows, hash)) = before.next() else {
                        all.push(u8::from(from_start));
                        break;
                    };
                    all.extend_from_slice(hash.as_bytes());
                    reached += rows.len();
                }
            }
        }
        segments.push(Segment { index: *index, rows: rows.clone(), depends_on: Digest::of(&all) });
    }
    segments
}

/// The hash of bars, bit by bit.
fn hash(bars: &Bars) -> Digest {
    let mut bytes = Vec::with_capacity(48 * bars.len());
    for at in bars.timestamps() {
        bytes.extend_from_slice(&at.as_nanos().to_le_bytes());
    }
    for field in Field::ALL {
        for value in bars.column(field) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    if bars.flawed() > 0 {
        bytes.extend((0..bars.len()).map(|row| bars.flaws(row).bits()));
    }
    Digest::of(&bytes)
}

/// The hash of the chunks of bars in front of a chunk, as far as its lookback reaches; the newest first. `from_start`
/// says that there are none before the last of them.
pub(crate) fn before(chunks: impl Iterator<Item = (usize, Digest)>, lookback: Lookback, from_start: bool) -> Digest {
    let mut all = Vec::new();
    let mut reached = 0;
    for (rows, hash) in chunks {
        if matches!(lookback, Lookback::Bars(bars) if reached >= bars) {
            return Digest::of(&all);
        }
        all.extend_from_slice(hash.as_bytes());
        reached += rows;
    }
    if !matches!(lookback, Lookback::Bars(bars) if reached >= bars) {
        all.push(u8::from(from_start));
    }
    Digest::of(&all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{market::bars::bar::Bar, types::time::Day};

    fn days(n: i32, changed: Option<i32>) -> Bars {
        let first: Day = "2018-01-01".parse().unwrap();
        let bar = |n: i32| {
            let close = if changed == Some(n) { 2.0 } else { 1.0 };
            Bar { at: first.plus_days(n).unwrap().start(), open: 1.0, high: 2.0, low: 1.0, close, volume: 5.0 }
        };
        (0..n).map(bar).collect()
    }

    fn stale(lookback: Lookback, changed: i32) -> Vec<usize> {
        let cut = |changed| segments(&days(360, changed), Period::Month, lookback, true);
        let (old, new) = (cut(None), cut(Some(changed)));
        (0..12).filter(|n| old[*n] != new[*n]).collect()
    }

    #[test]
    fn a_change_reaches_as_far_as_the_lookback() {
        // January has 31 days and February 28.
        assert_eq!(stale(Lookback::Bars(0), 3), [0]);
        assert_eq!(stale(Lookback::Bars(1), 3), [0, 1]);
        assert_eq!(stale(Lookback::Bars(28), 3), [0, 1]);
        assert_eq!(stale(Lookback::Bars(29), 3), [0, 1, 2]);
        assert_eq!(stale(Lookback::All, 200), [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn where_the_bars_begin_counts_only_for_those_that_look_further() {
        let whole = segments(&days(360, None), Period::Month, Lookback::Bars(40), true);
        let cut = segments(&days(360, None).slice(31..360), Period::Month, Lookback::Bars(40), false);
        let equal: Vec<bool> = whole[1..].iter().zip(&cut).map(|(a, b)| a.depends_on == b.depends_on).collect();
        assert_eq!(equal[..3], [false, false, true]);
    }
}
