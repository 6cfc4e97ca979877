//! What was known of levels, and when: as a store knew them at a time, and as far as their sessions had closed.

use std::collections::BTreeMap;

use super::{series::LevelSeries, stored, values::Levels};
use crate::{
    market::{calendar::Calendar, history::KnownAt, timeframe::Timeframe},
    types::{
        error::Result,
        interval::Interval,
        row_changes::RowChanges,
        time::{Day, Timestamp},
    },
};

/// How far back a level may lie that is still the last one.
const LAST_DAYS_MAX: i32 = 2 * 366;

impl LevelSeries<'_> {
    /// Returns from when on the level of `day` is available: the close of its session by the calendar of the series,
    /// and [`available_after`](Self::available_after) that.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// assert_eq!(vix.available_at("2018-12-21".parse()?)?.to_string(), "2018-12-21T21:00:00Z");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the calendar of the series is damaged, `Io` when the file cannot be read.
    pub fn available_at(&self, day: Day) -> Result<Timestamp> {
        Ok(self.available_by(&self.covered.calendar()?, day))
    }

    /// Returns the last level that is available at `at`, never that of a later day: at 10:00 that is yesterday's close.
    /// `None` when there is none in the two years before.
    ///
    /// The level is the one that is stored now, also where it was restated since. What was known at a time, ask
    /// [`range_as_of`](Self::range_as_of), or [`MatrixPlan::as_of`](crate::market::MatrixPlan::as_of) for a table.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// vix.write(&[("2018-12-20".parse()?, 28.38), ("2018-12-21".parse()?, 30.11)])?;
    /// assert_eq!(vix.latest_at("2018-12-21T15:00:00Z".parse()?)?, Some(28.38));
    /// assert_eq!(vix.latest_at("2018-12-21T21:00:00Z".parse()?)?, Some(30.11));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn latest_at(&self, at: Timestamp) -> Result<Option<f64>> {
        Ok(self.join(&[at])?.into_iter().next().flatten())
    }

    /// Returns, for each of `times`, the last level that is available then, as [`latest_at`](Self::latest_at) does,
    /// with the values that are stored now, `[n]`. To join levels with bars, ask for the times at which the bars are available:
    /// [`BarSeries::available_at`](crate::market::BarSeries::available_at).
    ///
    /// ```
    /// # use modelkeep::{Store, Timestamp};
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// vix.write(&[("2018-12-20".parse()?, 28.38), ("2018-12-21".parse()?, 30.11)])?;
    /// let times: [Timestamp; 2] = ["2018-12-21T20:59:00Z".parse()?, "2018-12-21T21:00:00Z".parse()?];
    /// assert_eq!(vix.join(&times)?, [Some(28.38), Some(30.11)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn join(&self, times: &[Timestamp]) -> Result<Vec<Option<f64>>> {
        self.join_known(times, None)
    }

    /// The same, with the levels that were known at a time.
    pub(crate) fn join_known(&self, times: &[Timestamp], known_at: Option<Timestamp>) -> Result<Vec<Option<f64>>> {
        let Some((first, last)) = times.iter().min().zip(times.iter().max()) else {
            return Ok(Vec::new());
        };
        let calendar = self.covered.calendar()?;
        let first = first.day().plus_days(-LAST_DAYS_MAX).unwrap_or_else(|_| Timestamp::from_nanos(i64::MIN).day());
        let range = Interval::new(first, last.day().next().next())?;
        let levels = match known_at {
            None => self.range(range)?,
            Some(known_at) => self.range_as_of(range, known_at)?,
        };
        // Most times are of the same day as the one before.
        let mut known: Option<(Interval<Timestamp>, Option<f64>)> = None;
        let level_at = |at: &Timestamp| {
            if let Some((_, level)) = known.filter(|(stretch, _)| stretch.contains(*at)) {
                return level;
            }
            let day = self.last_day(&calendar, *at);
            let level = levels.at(day);
            let stretch = Interval::between(*at, self.available_by(&calendar, day.next()).max(*at));
            known = Some((stretch, level));
            level
        };
        Ok(times.iter().map(level_at).collect())
    }

    /// Returns the last day whose level is available at `at`, whether there is one or not: what
    /// [`percentile`](Self::percentile) and [`regime`](Self::regime) are to be asked for by who decides at that time.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// assert_eq!(vix.last_day_at("2018-12-21T15:00:00Z".parse()?)?.to_string(), "2018-12-20");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`available_at`](Self::available_at).
    pub fn last_day_at(&self, at: Timestamp) -> Result<Day> {
        Ok(self.last_day(&self.covered.calendar()?, at))
    }

    /// Returns the levels of the days in `range` as this store knew them at `known_at`: nothing that was stored later,
    /// and what was changed or removed later as it was.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use modelkeep::{Interval, Store, clock::ManualClock};
    /// let clock = Arc::new(ManualClock::at("2018-12-24T19:00:00Z".parse()?));
    /// let store = Store::options().clock(Arc::clone(&clock)).in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// vix.write(&[("2018-12-24".parse()?, 36.0)])?;
    /// clock.set("2018-12-26T19:00:00Z".parse()?);
    /// vix.write(&[("2018-12-24".parse()?, 36.07)])?; // corrected
    /// let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// assert_eq!(vix.range_as_of(december, "2018-12-25T00:00:00Z".parse()?)?.levels, [36.0]);
    /// assert_eq!(vix.range(december)?.levels, [36.07]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when something that was known then is not kept any more
    /// ([`Options::bar_history`](crate::Options::bar_history)), or when a release wrote it that did not keep when it
    /// was stored. Otherwise as for [`range`](Self::range).
    pub fn range_as_of(&self, range: Interval<Day>, known_at: Timestamp) -> Result<Levels> {
        self.covered.market.core.look(|snapshot| stored::as_of(snapshot, &self.series, range, known_at))
    }

    /// Writes levels that were known since `known_at`, in one durable transaction, as
    /// [`BarSeries::write_known_at`](crate::market::BarSeries::write_known_at) does for bars.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use modelkeep::{Interval, Store, market::KnownAt};
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// let history = [("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)];
    /// vix.write_known_at(&history, KnownAt::Ended { delay: Duration::from_secs(15 * 60) })?;
    /// let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// assert_eq!(vix.range_as_of(december, "2018-12-24T15:00:00Z".parse()?)?.levels, [30.11]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for a time before the level is [available](Self::available_at), or after what
    /// the store's clock says; nothing is written then. Otherwise as for [`write`](Self::write).
    pub fn write_known_at(&self, rows: &[(Day, f64)], known_at: impl Into<KnownAt>) -> Result<RowChanges> {
        const OPERATION: &str = "write levels known at a time";
        stored::check(&self.series, rows)?;
        let (calendar, now) = (self.covered.calendar()?, self.covered.market.core.now());
        let at: Vec<_> = rows.iter().map(|(day, _)| day.start()).collect();
        let end_of = |at: Timestamp| self.available_by(&calendar, at.day());
        let known = known_at.into().of_rows(&at, end_of, now, (OPERATION, &self.series))?;
        let known: BTreeMap<Day, i64> = rows.iter().map(|(day, _)| *day).zip(known).collect();
        self.covered.market.core.commit(OPERATION, |batch| {
            let done = self.upsert(batch, rows, Some(&known))?;
            // What was known at a time may not be what there is now: it was deleted, or corrected, since.
            let (Some(first), Some(last)) = (known.keys().next(), known.keys().next_back()) else {
                return Ok(done);
            };
            let stored = stored::recorded(batch, &self.series, Interval::between(*first, last.next()))?;
            let is_current = |(day, _): &&(Day, f64)| stored.contains_key(day) && stored.get(day) == known.get(day);
            self.note_write(batch, &rows.iter().filter(is_current).copied().collect::<Vec<_>>())?;
            Ok(done)
        })
    }

    pub(super) fn available_by(&self, calendar: &Calendar, day: Day) -> Timestamp {
        calendar.bar_end(day.start(), Timeframe::DAY).after(self.available_after)
    }

    fn last_day(&self, calendar: &Calendar, at: Timestamp) -> Day {
        // A session of the next day may have closed already, where days are dated by the west.
        let mut day = at.day().next();
        while self.available_by(calendar, day) > at {
            match day.plus_days(-1) {
                Ok(before) => day = before,
                Err(_) => break,
            }
        }
        day
    }

    /// Those of `levels` that are available at `until`.
    pub(crate) fn ended_by(&self, mut levels: Levels, until: Timestamp) -> Result<Levels> {
        let calendar = self.covered.calendar()?;
        let goes_on = |day: &&Day| self.available_by(&calendar, **day) > until;
        let kept = levels.days.len() - levels.days.iter().rev().take_while(goes_on).count();
        levels.days.truncate(kept);
        levels.levels.truncate(kept);
        Ok(levels)
    }
}
