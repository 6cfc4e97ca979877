//! Longer bars out of shorter ones, through the store.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    aggregate::{self, AggregateSources, Buckets},
    decoded, read,
    series::BarSeries,
};
use crate::{
    engine::Snapshot,
    market::{
        bars::{bar::Field, columns::Columns},
        calendar::Calendar,
        timeframe::Timeframe,
    },
    types::{
        error::{Error, Result},
        hash::Digest,
        interval::Interval,
        row_changes::RowChanges,
        time::Timestamp,
    },
};

/// Aggregated bars, and what it took to bring them up to date.
///
/// The bars are to be had by [`whole`](Self::whole), which refuses if some bars are in no aggregate, or by
/// [`accept_outside`](Self::accept_outside).
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "the aggregated bars are in it"]
pub struct Resampled<'a> {
    bars: BarSeries<'a>,
    calendar: Calendar,
    /// What changed among them.
    pub written: RowChanges,
    /// Chunks of the source that were gone through, because they had changed.
    pub chunks_read: u64,
    /// All bars of the source that lie outside of sessions or in a break, and are in no aggregate. Many say that
    /// timestamps are local times, or that the calendar is of another exchange.
    pub outside: u64,
}

impl<'a> Resampled<'a> {
    /// Returns the aggregated bars, which can be read and not written, if every bar is in one of them.
    ///
    /// # Errors
    /// `InvalidInput` when some bars lie outside of sessions; the message says how many, and by which calendar.
    pub fn whole(self) -> Result<BarSeries<'a>> {
        if self.outside == 0 {
            return Ok(self.bars);
        }
        let message = format!(
            "{} bars lie outside of the sessions of {}, and are in no aggregate; accept that with `accept_outside`, or \
             give the series its calendar with `set_calendar`",
            self.outside, self.calendar
        );
        Err(Error::invalid("resample", self.bars.id.to_string(), message))
    }

    /// Returns the aggregated bars, whatever lies outside of sessions: hours before the open, and after the close.
    #[must_use]
    pub fn accept_outside(self) -> BarSeries<'a> {
        self.bars
    }
}

impl<'a> BarSeries<'a> {
    /// Returns these bars aggregated to a longer timeframe, stored, and brought up to date: only chunks that changed
    /// since the last time are gone through, and only aggregates that differ are written.
    ///
    /// Where the calendar has sessions, an hour begins at the open and every hour after it, and anew after a break; a
    /// day is a session, by the day on which it closes; and bars outside of sessions or in breaks do not count. The
    /// last hour before a break or a close may be shorter. Otherwise aggregates follow the clock in UTC, days from
    /// midnight to midnight. Seven days are a week that begins on a Monday. The first and the last aggregate are of the
    /// bars that there are.
    ///
    /// Aggregates are a series of their own, which this call alone leads to: days made of minutes are not the days that
    /// [`Store::bars`](crate::Store::bars) and `load_or_fetch` know. There is one for each timeframe; with another
    /// calendar it is built anew. [`range_as_of`](Self::range_as_of) of it is made of what the source was then, and
    /// [`range_available`](Self::range_available) leaves out an aggregate that goes on. A read-only store returns what
    /// is up to date already.
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
    /// assert_eq!(hours.whole()?.latest()?.unwrap().volume, 120.0);
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
        let judge = self.covered.calendar()?;
        let series = self.aggregated(id, judge.clone());
        let calendar = judge.digest();
        let (snapshot, all) = (self.covered.market.core.snapshot()?, Interval::all_time());
        // Most calls find nothing to do, and need no transaction for it.
        let is_current = |made_of: &AggregateSources, now: &BTreeMap<i64, Digest>| {
            made_of.calendar == calendar && made_of.chunks == *now
        };
        let chunks = chunks(&snapshot, self, all)?;
        if let Some(made_of) = aggregate::read(&snapshot, &series.id)?.filter(|made_of| is_current(made_of, &chunks)) {
            let outside = match made_of.outside {
                Some(outside) => Some(outside.values().sum()),
                // An older release did not count them: counted at each call, until the store can be written.
                None if self.covered.market.core.is_read_only() => Some(self.count_outside(&snapshot, &judge, target)?),
                None => None,
            };
            if let Some(outside) = outside {
                let written = RowChanges::default();
                return Ok(Resampled { bars: series, calendar: judge, written, chunks_read: 0, outside });
            }
        }
        drop(snapshot);
        let (written, chunks_read, outside) = self.commit("resample", |batch| {
            // Writers take turns, so this is what the transaction changes.
            let snapshot = batch.before();
            let chunks = self::chunks(snapshot, self, all)?;
            let before = aggregate::read(batch, &series.id)?.filter(|before| before.calendar == calendar);
            let mut written = RowChanges::default();
            let (stale, mut outside): (BTreeSet<i64>, BTreeMap<i64, u64>) = match before {
                Some(AggregateSources { chunks: before, outside: Some(outside), .. }) => {
                    let differs = |period: &&i64| before.get(*period) != chunks.get(*period);
                    (before.keys().chain(chunks.keys()).filter(differs).copied().collect(), outside)
                }
                _ => {
                    written += series.apply(batch, &Columns::default(), Some(all))?;
                    (chunks.keys().copied().collect(), BTreeMap::new())
                }
            };
            let mut buckets = Buckets::new(&judge, self.timeframe(), target);
            for period in &stale {
                let (start, end) = self.id.period().span(*period);
                let span = Interval::new(start, end)?;
                let (around, replaced) = buckets.around(span);
                let bars = decoded::range(&self.covered.market.memory, snapshot, &self.id, around)?;
                let (rows, left_out) = aggregate::aggregate(&bars, &mut buckets, span);
                outside.insert(*period, left_out);
                // Bars are read as far as a close may reach. Where another session begins with it, what came of its
                // first bar alone is no aggregate.
                let rows = rows.within(replaced);
                written += series.apply(batch, &rows, Some(replaced))?;
            }
            outside.retain(|period, _| chunks.contains_key(period));
            let all_outside = outside.values().sum();
            let made_of = AggregateSources { calendar, chunks, outside: Some(outside) };
            aggregate::write(batch, &series.id, &made_of)?;
            Ok((written, stale.len() as u64, all_outside))
        })?;
        Ok(Resampled { bars: series, calendar: judge, written, chunks_read, outside })
    }

    /// How many bars are in no aggregate.
    fn count_outside(&self, snapshot: &Snapshot, judge: &Calendar, target: Timeframe) -> Result<u64> {
        let (at, _) = read::field(snapshot, &self.id, Interval::all_time(), Field::Volume)?;
        let mut buckets = Buckets::new(judge, self.timeframe(), target);
        Ok(at.iter().filter(|at| buckets.of(**at).is_none()).count() as u64)
    }
}

fn chunks(snapshot: &Snapshot, series: &BarSeries<'_>, interval: Interval<Timestamp>) -> Result<BTreeMap<i64, Digest>> {
    let chunks = decoded::chunks(&series.covered.market.memory, snapshot, &series.id, interval)?;
    Ok(chunks.into_iter().map(|chunk| (chunk.period, chunk.hash)).collect())
}
