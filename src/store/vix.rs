//! Daily index levels, through the store.

use super::Store;
use crate::{
    engine::Batch,
    error::Result,
    interval::Interval,
    key::Symbol,
    registry::metadata::VixRange,
    time::Day,
    vix::{self, Levels, Upserted},
};

/// The daily levels of one index series: `VIX`, or any other.
///
/// ```
/// use modelkeep::{Interval, Store};
///
/// let store = Store::in_memory()?;
/// let vix = store.vix("VIX")?;
/// vix.upsert(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
///
/// let december = Interval::parse("2018-12-01", "2019-01-01")?;
/// let levels = vix.range(december)?;
/// assert_eq!(levels.at("2018-12-23".parse()?), Some(30.11));
/// assert_eq!(vix.gaps(december)?[0].to_string(), "[2018-12-03, 2018-12-21)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct VixSeries<'a> {
    store: &'a Store,
    series: Symbol,
}

impl Store {
    /// Returns the series of this name, which need not have levels yet.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`Symbol`].
    pub fn vix(&self, series: &str) -> Result<VixSeries<'_>> {
        Ok(VixSeries { store: self, series: Symbol::new(series)? })
    }

    /// Returns every series that has levels, in order of the names, with all of its levels, or with the error that keeps
    /// them from being read.
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all.
    pub fn vix_series(&self) -> Result<Vec<(Symbol, Result<Levels>)>> {
        vix::series(&self.snapshot()?)
    }
}

impl VixSeries<'_> {
    /// Writes daily levels, in any order, in one durable transaction; a day that has a level gets the new one.
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for a level that is not finite or a day that appears twice; nothing is written
    /// then. Otherwise what a write can fail with.
    pub fn upsert(&self, rows: &[(Day, f64)]) -> Result<Upserted> {
        let change = |batch: &Batch| vix::upsert(batch, &self.series, rows);
        self.store.inner.commit("write levels", change, |_, _| ())
    }

    /// Removes the levels of the days in `range`, in one durable transaction, and returns how many there were. A stored
    /// calendar year that is damaged goes, uncounted, when all of it lies in the range; that is how to make room for
    /// good levels.
    ///
    /// # Errors
    /// `Corrupt` for a damaged year that lies in the range in part; otherwise what a write can fail with.
    pub fn remove(&self, range: Interval<Day>) -> Result<u64> {
        let change = |batch: &Batch| vix::remove(batch, &self.series, range);
        self.store.inner.commit("remove levels", change, |_, _| ())
    }

    /// Returns the levels of the days in `range`.
    ///
    /// # Errors
    /// `Corrupt` when a stored year is damaged, `Io` when the file cannot be read.
    pub fn range(&self, range: Interval<Day>) -> Result<Levels> {
        vix::range(&self.store.snapshot()?, &self.series, range)
    }

    /// Returns the runs of weekdays in `range` that have no level. Exchange holidays are among them; to judge by a
    /// calendar, use [`gaps_among`](Self::gaps_among).
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn gaps(&self, range: Interval<Day>) -> Result<Vec<Interval<Day>>> {
        let days = std::iter::successors(Some(range.start()), |day| Some(day.next()));
        self.gaps_among(range, days.take_while(|day| range.contains(*day)).filter(|day| !day.is_weekend()))
    }

    /// Returns the runs of the given session days, in ascending order, that lie in `range` and have no level.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn gaps_among(
        &self,
        range: Interval<Day>,
        sessions: impl IntoIterator<Item = Day>,
    ) -> Result<Vec<Interval<Day>>> {
        vix::gaps(&self.range(range)?, sessions.into_iter().filter(|day| range.contains(*day)))
    }

    /// Returns what a model's metadata records of a training that read `range`: series, range, days and hash.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn seen(&self, range: Interval<Day>) -> Result<VixRange> {
        let levels = self.range(range)?;
        let hash = levels.hash(&self.series);
        Ok(VixRange { series: self.series.clone(), range, days: levels.len() as u64, hash })
    }
}
