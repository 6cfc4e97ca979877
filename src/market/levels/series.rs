//! Daily index levels, through the store.

use crate::{
    engine::Batch,
    market::{
        Market,
        calendar::Calendar,
        coverage::{covered::CoveredSeries, ledger::CoverageSpan},
        fetch::policy::FetchPolicy,
        levels::{
            stored,
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
        let key = [b"levels/", series.as_str().as_bytes()].concat();
        Ok(LevelSeries { covered: CoveredSeries::new(self, key, Timeframe::DAY), series })
    }

    /// Returns every series that has levels, or the errors that keep them from being read.
    pub(crate) fn level_series(&self) -> Result<Vec<(Symbol, Result<Levels>)>> {
        self.core.look(stored::all)
    }
}

impl LevelSeries<'_> {
    /// Judges by this calendar which levels there should be, in place of the store's.
    #[must_use]
    pub fn calendar(mut self, calendar: Calendar) -> Self {
        self.covered.set_calendar(calendar);
        self
    }

    /// Asks fetchers in this way, in place of the store's.
    #[must_use]
    pub fn policy(mut self, policy: FetchPolicy) -> Self {
        self.covered.set_policy(policy);
        self
    }

    /// Returns the last level at or before `day`, never a later one; `None` when there is none in the two years before.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn at(&self, day: Day) -> Result<Option<f64>> {
        Ok(self.before(day, 2 * 366)?.at(day))
    }

    /// Returns which share of the last `window` levels up to `day`, from 0 to 1, is not above the last of them:
    /// see [`Levels::percentile`].
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
    fn before(&self, day: Day, days: i32) -> Result<Levels> {
        let first = day.plus_days(-days).unwrap_or_else(|_| Timestamp::from_nanos(i64::MIN).day()).min(day);
        self.range(Interval::new(first, day.next())?)
    }

    /// Returns what is known of every part of `range`, in order.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn coverage(&self, range: Interval<Day>) -> Result<Vec<CoverageSpan>> {
        self.covered.coverage(range.span())
    }

    /// Forgets what is known of `range`, so that it is fetched again. The levels stay.
    ///
    /// # Errors
    /// What a write can fail with.
    pub fn mark_missing(&self, range: Interval<Day>) -> Result<()> {
        self.covered.market.core.commit("mark missing", |batch| self.covered.note_missing(batch, range.span()))
    }

    /// Writes daily levels, in any order, in one durable transaction; a day that has a level gets the new one.
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for a level that is not finite or a day that appears twice; nothing is written
    /// then. Otherwise what a write can fail with.
    pub fn write(&self, rows: &[(Day, f64)]) -> Result<RowChanges> {
        let change = |batch: &Batch| {
            let done = stored::upsert(batch, &self.series, rows)?;
            let mut at: Vec<_> = rows.iter().map(|(day, _)| day.start()).collect();
            at.sort_unstable();
            self.covered.note_write(batch, &at)?;
            Ok(done)
        };
        self.covered.market.core.commit("write levels", change)
    }

    /// Removes the levels of the days in `range`, in one durable transaction, and says how many there were. A stored
    /// calendar year that is damaged goes, uncounted, when all of it lies in the range; that is how to make room for
    /// good levels.
    ///
    /// # Errors
    /// `Corrupt` for a damaged year that lies in the range in part; otherwise what a write can fail with.
    pub fn remove(&self, range: Interval<Day>) -> Result<RowChanges> {
        let change = |batch: &Batch| {
            batch.frees_room();
            let done = stored::remove(batch, &self.series, range)?;
            self.covered.note_missing(batch, range.span())?;
            Ok(done)
        };
        self.covered.market.core.commit("remove levels", change)
    }

    /// Returns the levels of the days in `range`.
    ///
    /// # Errors
    /// `Corrupt` when a stored year is damaged, `Io` when the file cannot be read.
    pub fn range(&self, range: Interval<Day>) -> Result<Levels> {
        self.covered.market.core.look(|snapshot| stored::range(snapshot, &self.series, range))
    }

    /// Returns the runs of sessions of the calendar in `range` that have no level. With [`Calendar::weekdays`] the
    /// holidays of exchanges are among them.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn gaps(&self, range: Interval<Day>) -> Result<Vec<Interval<Day>>> {
        self.gaps_among(range, self.covered.calendar().sessions(range).map(|session| session.day))
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
        values::gaps(&self.range(range)?, sessions.into_iter().filter(|day| range.contains(*day)))
    }

    /// Returns what a model's metadata records of a training that read `range`: series, range, days and hash.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn seen(&self, range: Interval<Day>) -> Result<LevelRange> {
        let levels = self.range(range)?;
        let hash = levels.hash(&self.series);
        Ok(LevelRange { series: self.series.clone(), range, days: levels.len() as u64, hash })
    }
}
