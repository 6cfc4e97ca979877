//! Features of bars as they were known at a time.

use std::time::Duration;

use super::{compute::FeatureSet, spec::Lookback, table::Features};
use crate::{
    market::bars::columns::Bars,
    types::{error::Result, interval::Interval, time::Timestamp},
};

/// How far one looks back step by step; what lies before that is read at once.
const REACH_MAX: Duration = Duration::from_secs(20 * 366 * 24 * 3600);

impl FeatureSet<'_> {
    /// Returns the features of the bars that begin in `interval`, had ended at `known_at` and were known then, with the
    /// values that they had then. Nothing of it is stored: all of it is computed, in one call.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use modelkeep::{Day, Interval, Store, Timestamp, clock::ManualClock, market::{Bar, Bars, FeatureSpec, Lookback, Timeframe}};
    ///
    /// let clock = Arc::new(ManualClock::at("2018-12-28T22:00:00Z".parse()?));
    /// let store = Store::options().clock(Arc::clone(&clock)).in_memory()?;
    /// let daily = store.bars("SPY", Timeframe::DAY)?;
    /// let at = "2018-12-28".parse::<Day>()?.start();
    /// let bar = |close| Bar { at, open: 240.0, high: 250.0, low: 239.5, close, volume: 1e6 };
    /// daily.write(&Bars::from_iter([bar(244.9)]))?;
    /// clock.set("2018-12-31T22:00:00Z".parse()?);
    /// daily.write(&Bars::from_iter([bar(245.0)]))?; // restated
    ///
    /// let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// let close = |bars: &Bars| vec![bars.close().to_vec()];
    /// let features = store.features("SPY", &spec)?;
    /// let then = features.compute_as_of(Interval::all_time(), "2018-12-29T00:00:00Z".parse()?, close)?;
    /// assert_eq!(then.column("close"), Some(&[244.9][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_compute`](Self::get_or_compute), and as for
    /// [`BarSeries::range_as_of`](crate::market::BarSeries::range_as_of).
    pub fn compute_as_of(
        &self,
        interval: Interval<Timestamp>,
        known_at: Timestamp,
        mut compute: impl FnMut(&Bars) -> Vec<Vec<f64>>,
    ) -> Result<Features> {
        let bars = self.with_lookback(interval, known_at)?;
        let columns = self.columns_of(&bars, &mut compute)?;
        let mut features = Features::empty(&self.spec);
        features.rows_computed = features.take(bars.timestamps(), &columns, interval);
        Ok(features)
    }

    /// The bars of `interval` as they were known, with those in front that they look back at.
    fn with_lookback(&self, interval: Interval<Timestamp>, known_at: Timestamp) -> Result<Bars> {
        let all_time = Interval::<Timestamp>::all_time().start();
        let from = |start: Timestamp| {
            let bars = self.bars.range_as_of(Interval::between(start, interval.end()), known_at)?;
            self.bars.ended_by(bars, known_at)
        };
        let Lookback::Bars(lookback) = self.spec.lookback() else {
            return from(all_time);
        };
        // Nights, weekends and holidays lie between bars; how many is not known before one looks.
        let mut reach = self.bars.timeframe().duration().saturating_mul(u32::try_from(lookback).unwrap_or(u32::MAX));
        loop {
            let start = if reach > REACH_MAX { all_time } else { interval.start().before(reach) };
            let bars = from(start)?;
            let before = bars.timestamps().partition_point(|at| *at < interval.start());
            if before >= lookback || start == all_time {
                return Ok(bars.slice(before.saturating_sub(lookback)..bars.len()));
            }
            reach = reach.saturating_mul(4).max(Duration::from_secs(7 * 24 * 3600));
        }
    }
}
