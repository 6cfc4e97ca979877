//! Daily index levels, through the store.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    engine::Batch,
    market::{
        Market,
        calendar::Calendar,
        coverage::{
            covered::{CoveredId, CoveredSeries},
            ledger::CoverageSpan,
        },
        fetch::policy::FetchPolicy,
        levels::{
            stored::{self, LevelOptions},
            values::{self, Levels},
        },
        timeframe::Timeframe,
    },
    types::{
        error::Result,
        interval::Interval,
        key::Symbol,
        level_range::LevelRange,
        row_changes::RowChanges,
        time::{Day, Timestamp},
    },
};

/// The daily levels of one index series: `VIX`, or any other.
///
/// ```
/// use modelkeep::{Interval, Store};
///
/// let store = Store::in_memory()?;
/// let vix = store.levels("VIX")?;
/// vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
///
/// let december = Interval::parse("2018-12-01", "2019-01-01")?;
/// let levels = vix.range(december)?;
/// assert_eq!(levels.at("2018-12-23".parse()?), Some(30.11));
/// assert_eq!(vix.gaps(december)?[0].to_string(), "[2018-12-03, 2018-12-21)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LevelSeries<'a> {
    pub(crate) covered: CoveredSeries<'a>,
    pub(crate) series: Symbol,
    /// How long after its session a level is available.
    pub(super) available_after: Duration,
}

/// How high an index of volatility is, by [`Options::regimes`](crate::Options::regimes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regime {
    /// Below the first threshold.
    Calm,
    /// From the first threshold on.
    Normal,
    /// From the second threshold on.
    Elevated,
    /// From the third threshold on.
    Stressed,
}

impl Market {
    /// Returns the series of this name, which need not have levels yet.
    pub(crate) fn levels(&self, series: &str) -> Result<LevelSeries<'_>> {
        let series = Symbol::new(series)?;
        let covered = CoveredSeries::new(self, CoveredId::Levels(series.clone()), Timeframe::DAY);
        Ok(LevelSeries { covered, series, available_after: Duration::ZERO })
    }

    /// Returns every series that has levels, or the errors that keep them from being read.
    pub(crate) fn level_series(&self) -> Result<Vec<(Symbol, Result<Levels>)>> {
        self.core.look(stored::all)
    }
}

impl LevelSeries<'_> {
    /// Says which calendar the series has, as [`BarSeries::calendar`](crate::market::BarSeries::calendar) does.
    ///
    /// ```
    /// # use modelkeep::{Store, market::Calendar};
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?.calendar(Calendar::nyse());
    /// # assert!(vix.at("2018-12-24".parse()?)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn calendar(mut self, calendar: Calendar) -> Self {
        self.covered.give_calendar(calendar);
        self
    }

    /// Gives the series another calendar, as [`BarSeries::set_calendar`](crate::market::BarSeries::set_calendar) does.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// use modelkeep::market::Calendar;
    ///
    /// vix.set_calendar(Calendar::always_open())?;
    /// assert_eq!(vix.gaps(Interval::parse("2018-12-21", "2018-12-25")?)?[0].to_string(), "[2018-12-22, 2018-12-24)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What a write can fail with.
    pub fn set_calendar(&self, calendar: Calendar) -> Result<()> {
        self.covered.market.core.commit("set calendar", |batch| self.covered.set_calendar(batch, calendar))
    }

    /// Asks fetchers in this way, in place of the store's.
    ///
    /// ```
    /// # use modelkeep::{Store, market::FetchPolicy};
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?.policy(FetchPolicy::default().retries(0));
    /// # assert!(vix.at("2018-12-24".parse()?)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn policy(mut self, policy: FetchPolicy) -> Self {
        self.covered.set_policy(policy);
        self
    }

    /// How long after the close of its session the level of a day is available, for calls that go by that. Default:
    /// zero. The VIX is computed for a quarter of an hour after the close of the NYSE, until 16:15 in New York
    /// ([Cboe](https://www.cboe.com/tradable_products/vix/vix_specifications)).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?.available_after(Duration::from_secs(15 * 60));
    /// assert_eq!(vix.available_at("2018-12-24".parse()?)?.to_string(), "2018-12-24T18:15:00Z"); // an early close
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn available_after(mut self, delay: Duration) -> Self {
        self.available_after = delay;
        self
    }

    /// Returns the last level at or before `day`, never a later one; `None` when there is none in the two years before.
    /// That is by the label: the level of a day is not known before its close, see [`latest_at`](Self::latest_at).
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// assert_eq!(vix.at("2018-12-23".parse()?)?, Some(30.11));
    /// assert_eq!(vix.at("2018-12-20".parse()?)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn at(&self, day: Day) -> Result<Option<f64>> {
        Ok(self.before(day, 2 * 366)?.at(day))
    }

    /// Returns which share of the last `window` levels up to `day`, from 0 to 1, is not above the last of them:
    /// see [`Levels::percentile`].
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// assert_eq!(vix.percentile("2018-12-24".parse()?, 252)?, Some(1.0)); // the highest of them
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn percentile(&self, day: Day, window: usize) -> Result<Option<f64>> {
        // Five sessions a week and some holidays; further back where levels are rarer, as far as there are any.
        let mut days = i32::try_from(window).unwrap_or(i32::MAX).saturating_mul(2).saturating_add(2 * 366);
        loop {
            let levels = self.before(day, days)?;
            if levels.len() >= window || days > 400 * 366 {
                return Ok(levels.percentile(day, window));
            }
            days = days.saturating_mul(4);
        }
    }

    /// Returns how high the last level at or before `day` is, by [`Options::regimes`](crate::Options::regimes).
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// use modelkeep::market::Regime;
    /// assert_eq!(vix.regime("2018-12-24".parse()?)?, Some(Regime::Stressed)); // 30 and more, by default
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn regime(&self, day: Day) -> Result<Option<Regime>> {
        let [normal, elevated, stressed] = self.covered.market.settings.regimes;
        Ok(self.at(day)?.map(|level| match level {
            level if level >= stressed => Regime::Stressed,
            level if level >= elevated => Regime::Elevated,
            level if level >= normal => Regime::Normal,
            _ => Regime::Calm,
        }))
    }

    /// The levels of the `days` days up to `day`.
    pub(super) fn before(&self, day: Day, days: i32) -> Result<Levels> {
        let first = day.plus_days(-days).unwrap_or_else(|_| Timestamp::from_nanos(i64::MIN).day()).min(day);
        self.range(Interval::new(first, day.next())?)
    }

    /// Returns what is known of every part of `range`, in order.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// for span in vix.coverage(december)? {
    ///     println!("{}: {:?}", span.interval, span.coverage);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn coverage(&self, range: Interval<Day>) -> Result<Vec<CoverageSpan>> {
        self.covered.coverage(range.span())
    }

    /// Forgets what is known of `range`, so that it is fetched again. The levels stay.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// vix.mark_missing(december)?;
    /// assert_eq!(vix.range(december)?.len(), 2); // the levels stay until they are fetched again
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What a write can fail with.
    pub fn mark_missing(&self, range: Interval<Day>) -> Result<()> {
        self.covered.market.core.commit("mark missing", |batch| self.covered.note_missing(batch, range.span()))
    }

    /// Writes daily levels, in any order, in one durable transaction; a day that has a level gets the new one, and what
    /// it had before can be read [as of](Self::range_as_of) the time when it was known.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// assert_eq!(vix.write(&[("2018-12-24".parse()?, 36.0)])?.added, 1);
    /// assert_eq!(vix.write(&[("2018-12-24".parse()?, 36.07)])?.replaced, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for a level that is not finite or a day that appears twice; nothing is written
    /// then. Otherwise what a write can fail with.
    pub fn write(&self, rows: &[(Day, f64)]) -> Result<RowChanges> {
        let change = |batch: &Batch| {
            let done = self.upsert(batch, rows, None)?;
            self.note_write(batch, rows)?;
            Ok(done)
        };
        self.covered.market.core.commit("write levels", change)
    }

    /// Writes levels in a transaction, known since now, or since `known_at`.
    pub(crate) fn upsert(
        &self,
        batch: &Batch,
        rows: &[(Day, f64)],
        known_at: Option<&BTreeMap<Day, i64>>,
    ) -> Result<RowChanges> {
        stored::upsert(batch, &self.series, rows, known_at, self.options())
    }

    pub(super) fn note_write(&self, batch: &Batch, rows: &[(Day, f64)]) -> Result<()> {
        let mut at: Vec<_> = rows.iter().map(|(day, _)| day.start()).collect();
        at.sort_unstable();
        self.covered.note_write(batch, &at, None)
    }

    fn options(&self) -> LevelOptions {
        let market = self.covered.market;
        LevelOptions { now: market.core.now().as_nanos(), retention: market.settings.history }
    }

    /// Removes the levels of the days in `range`, in one durable transaction, and says how many there were. A stored
    /// calendar year that is damaged goes, uncounted, when all of it lies in the range; that is how to make room for
    /// good levels.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// assert_eq!(vix.remove(december)?.removed, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` for a damaged year that lies in the range in part; otherwise what a write can fail with.
    pub fn remove(&self, range: Interval<Day>) -> Result<RowChanges> {
        let change = |batch: &Batch| {
            batch.frees_room();
            let done = stored::remove(batch, &self.series, range, self.options())?;
            self.covered.note_missing(batch, range.span())?;
            Ok(done)
        };
        self.covered.market.core.commit("remove levels", change)
    }

    /// Returns the levels of the days in `range`.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// assert_eq!(vix.range(december)?.levels, [30.11, 36.07]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when a stored year is damaged, `Io` when the file cannot be read.
    pub fn range(&self, range: Interval<Day>) -> Result<Levels> {
        self.covered.market.core.look(|snapshot| stored::range(snapshot, &self.series, range))
    }

    /// Returns the runs of sessions of the calendar in `range` that have no level. With [`Calendar::weekdays`] the
    /// holidays of exchanges are among them.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// let gaps = vix.gaps(december)?;
    /// assert_eq!(gaps[1].to_string(), "[2018-12-26, 2019-01-01)"); // the 25th is no session
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn gaps(&self, range: Interval<Day>) -> Result<Vec<Interval<Day>>> {
        self.gaps_among(range, self.covered.calendar()?.sessions(range).map(|session| session.day))
    }

    /// Returns the runs of the given session days, in ascending order, that lie in `range` and have no level.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// let days = ["2018-12-21".parse()?, "2018-12-26".parse()?];
    /// assert_eq!(vix.gaps_among(december, days)?[0].to_string(), "[2018-12-26, 2018-12-27)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn gaps_among(
        &self,
        range: Interval<Day>,
        sessions: impl IntoIterator<Item = Day>,
    ) -> Result<Vec<Interval<Day>>> {
        values::gaps(&self.range(range)?, sessions.into_iter().filter(|day| range.contains(*day)))
    }

    /// Returns what a model's metadata records of a training that read `range`: series, range, days and hash.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let store = Store::in_memory()?;
    /// # let vix = store.levels("VIX")?;
    /// # vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// # let december = Interval::parse("2018-12-01", "2019-01-01")?;
    /// let seen = vix.seen(december)?;
    /// assert_eq!((seen.series.as_str(), seen.days), ("VIX", 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn seen(&self, range: Interval<Day>) -> Result<LevelRange> {
        let levels = self.range(range)?;
        let hash = levels.hash(&self.series);
        Ok(LevelRange { series: self.series.clone(), range, days: levels.len() as u64, hash })
    }
}
