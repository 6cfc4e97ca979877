//! What a model remembers of the index levels that its training saw.

use super::{hash::Digest, interval::Interval, key::Symbol, time::Day};

/// A range of daily index levels as a training saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelRange {
    /// The series: `VIX`, or any other index.
    pub series: Symbol,
    /// The range that was read.
    pub range: Interval<Day>,
    /// How many days in it had a level.
    pub days: u64,
    /// BLAKE3 of the series' name, its days and its levels.
    pub hash: Digest,
}
