//! That rows came back on another scale: what a split, or another adjustment of history, does to prices.

use std::fmt;

use crate::types::time::Timestamp;

/// Replaced bars whose open, high, low and close are all one factor times what was stored, within rounding to the tick.
///
/// The vendor restates history on another scale: a split, a large dividend, another currency or unit. What was not
/// asked for again is still on the scale before, so that the series has a jump in it which no market made. The way out
/// is to fetch all of it again: `mark_missing(Interval::all_time())` of the series, and another load.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rescaled {
    /// New prices over stored ones: 0.25 after a split of four for one.
    pub factor: f64,
    /// When the first of these bars begins.
    pub first: Timestamp,
    /// When the last one begins.
    pub last: Timestamp,
    /// How many there are. Even one says that the others may have changed.
    pub rows: u64,
    /// Between what the factor lies, as far as rounded prices tell.
    bounds: (f64, f64),
}

impl Rescaled {
    /// Returns the bar that begins at `at`, whose factor lies within `bounds`.
    pub(crate) fn one(at: Timestamp, bounds: (f64, f64)) -> Self {
        Self { factor: f64::midpoint(bounds.0, bounds.1), first: at, last: at, rows: 1, bounds }
    }

    /// Returns both as one, if one factor explains them.
    pub(crate) fn meet(self, other: Self) -> Option<Self> {
        let bounds = (self.bounds.0.max(other.bounds.0), self.bounds.1.min(other.bounds.1));
        (bounds.0 <= bounds.1).then(|| Self {
            factor: f64::midpoint(bounds.0, bounds.1),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            rows: self.rows + other.rows,
            bounds,
        })
    }

    /// Whether rounding and small corrections cannot explain it: the factor is more than 1 % away from 1.
    pub(crate) fn is_change(&self) -> bool {
        self.bounds.1 < 0.99 || 1.01 < self.bounds.0
    }

    /// Returns what two writes found as one thing, or the one that more rows show.
    pub(crate) fn join(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => {
                Some(one.meet(other).unwrap_or(if one.rows > other.rows { one } else { other }))
            }
            (one, other) => one.or(other),
        }
    }

    fn parts(&self) -> (u64, Timestamp, Timestamp, u64) {
        (self.factor.to_bits(), self.first, self.last, self.rows)
    }
}

/// Equality is of bits.
impl PartialEq for Rescaled {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Rescaled {}

impl fmt::Display for Rescaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { factor, first, last, rows, .. } = self;
        let bars = if *rows == 1 { "bar" } else { "bars" };
        write!(f, "{rows} {bars} from {first} to {last} changed by the factor {factor:.6}")
    }
}
