//! Longer bars out of shorter ones, through the store.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    aggregate::{self, AggregateSources, Buckets},
    read,
    series::BarSeries,
};
use crate::{
    market::{bars::columns::Columns, timeframe::Timeframe},
    types::{error::Result, hash::Digest, interval::Interval, row_changes::RowChanges, time::Timestamp},
};

/// Aggregated bars, and what it took to bring them up to date.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resampled<'a> {
    /// The aggregated bars: to be read; they cannot be written.
    pub bars: BarSeries<'a>,
    /// What changed among them.
    pub written: RowChanges,
    /// Chunks of the source that were gone through, because they had changed.
    pub chunks_read: u64,
    /// Bars, of those gone through, that lie outside of sessions or in a break, and are in no aggregate. Many say that
    /// timestamps are local times, or that the calendar is of another exchange.
    pub outside: u64,
}

impl<'a> BarSeries<'a> {
    /// Returns these bars aggregated to a longer timeframe, stored, and brought up to date: only chunks that changed
    /// since the last time are gone through, and only aggregates that differ are written.
    ///
    /// Where the calendar has sessions, an hour begins at the open and every hour after it, and anew after a break; a day
    /// is a session, by the day on which it closes; and bars outside of sessions or in breaks do not count. The last
    /// hour before a break or a close may be shorter. Otherwise aggregates follow the clock in UTC, days from midnight to
    /// midnight. Seven days are a week that begins on a Monday. The first and the last aggregate are of the bars that
    /// there are.
    ///
    /// Aggregates are a series of their own, which this call alone leads to: days made of minutes are not the days that
    /// [`Store::bars`](crate::Store::bars) and `load_or_fetch` know. There is one for each timeframe; with another
    /// calendar it is built anew. It is known from when it was built, so [`range_as_of`](Self::range_as_of) of it sees
    /// nothing from before. A read-only store returns what is up to date already.
    ///
    /// ```
    /// use modelkeep::{Store, Timestamp, market::{Bar, Bars, Calendar, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let minutes = store.bars("BTC-USD", Timeframe::MINUTE)?.calendar(Calendar::always_open());
    /// let bar = |n: i64| {
    ///     let price = 100.0 + n as f64;
    ///     let at = Timestamp::from_nanos(n * 60_000_000_000);
    ///     Bar { at, open: price, high: price + 1.0, low: price - 1.0, close: price + 0.5, volume: 2.0 }
    /// };
    /// minutes.write(&(0..120).map(bar).collect::<Bars>())?;
    ///
    /// let hours = minutes.resample(Timeframe::HOUR)?;
    /// assert_eq!(hours.written.added, 2);
    /// assert_eq!(hours.bars.latest()?.unwrap().volume, 120.0);
    /// assert_eq!(minutes.resample(Timeframe::HOUR)?.chunks_read, 0); // nothing has changed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` unless the timeframe is a multiple of this one, for one of more than a day that is no number of
    /// days (36 hours), and when these bars are aggregates themselves.
    /// `Corrupt` when a chunk is damaged, or [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn resample(&self, target: Timeframe) -> Result<Resampled<'a>> {
        let id = aggregate::check(&self.id, target)?;
        let series = self.aggregated(id);
        let judge = self.covered.calendar()?;
        let calendar = judge.digest();
        let (snapshot, all) = (self.covered.market.core.snapshot()?, Interval::all_time());
        // Most calls find nothing to do, and need no transaction for it.
        let is_current = |made_of: &AggregateSources, now: &BTreeMap<i64, Digest>| {
            made_of.calendar == calendar && made_of.chunks == *now
        };
        let chunks = chunks(&snapshot, self, all)?;
        if aggregate::read(&snapshot, &series.id)?.is_some_and(|made_of| is_current(&made_of, &chunks)) {
            return Ok(Resampled { bars: series, written: RowChanges::default(), chunks_read: 0, outside: 0 });
        }
        drop(snapshot);
        let (written, chunks_read, outside) = self.commit("resample", |batch| {
            // Writers take turns, so this is what the transaction changes.
            let snapshot = batch.before();
            let chunks = self::chunks(snapshot, self, all)?;
            let before = aggregate::read(batch, &series.id)?;
            let (mut written, mut outside) = (RowChanges::default(), 0);
            let stale: BTreeSet<i64> = match before.filter(|before| before.calendar == calendar) {
                Some(AggregateSources { chunks: before, .. }) => {
                    let differs = |period: &&i64| before.get(*period) != chunks.get(*period);
                    before.keys().chain(chunks.keys()).filter(differs).copied().collect()
                }
                None => {
                    written += series.apply(batch, &Columns::default(), Some(all))?;
                    chunks.keys().copied().collect()
                }
            };
            let mut buckets = Buckets::new(&judge, self.timeframe(), target);
            for period in &stale {
                let (start, end) = self.id.period().span(*period);
                let span = Interval::new(start, end)?;
                let (around, replaced) = buckets.around(span);
                let bars = read::range(snapshot, &self.id, around)?;
                let (rows, left_out) = aggregate::aggregate(&bars, &mut buckets, span);
                outside += left_out;
                written += series.apply(batch, &rows, Some(replaced))?;
            }
            aggregate::write(batch, &series.id, &AggregateSources { calendar, chunks })?;
            Ok((written, stale.len() as u64, outside))
        })?;
        Ok(Resampled { bars: series, written, chunks_read, outside })
    }
}

fn chunks(
    snapshot: &crate::engine::Snapshot,
    series: &BarSeries<'_>,
    interval: Interval<Timestamp>,
) -> Result<BTreeMap<i64, Digest>> {
    Ok(read::chunks(snapshot, &series.id, interval)?.into_iter().map(|chunk| (chunk.period, chunk.hash)).collect())
}
