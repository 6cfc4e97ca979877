//! Bars, through the store.

use std::time::Duration;

use super::{
    decoded, facts,
    key::SeriesId,
    many,
    plan::{Plan, Planned},
    read, rescaled, rest,
    validate::{Rules, prepare},
    write::{self, Incoming},
};
use crate::{
    engine::{Batch, Reader, Table},
    market::{
        Market,
        bars::{
            bar::{BadRows, Bar, Field},
            columns::{Bars, Columns},
        },
        calendar::Calendar,
        coverage::covered::{CoveredId, CoveredSeries},
        fetch::policy::FetchPolicy,
        timeframe::Timeframe,
    },
    types::{
        error::{Error, Result},
        interval::Interval,
        key::Symbol,
        row_changes::RowChanges,
        time::Timestamp,
    },
};

/// The bars of one symbol and timeframe.
///
/// ```
/// use modelkeep::{Day, Interval, Store, market::{Bar, Bars, Timeframe}};
///
/// let store = Store::in_memory()?;
/// let daily = store.bars("SPY", Timeframe::DAY)?;
/// let day = |text: &str, close| {
///     let at = text.parse::<Day>()?.start();
///     Ok::<_, modelkeep::error::OutOfRange>(Bar { at, open: 240.0, high: 250.0, low: 239.5, close, volume: 1e6 })
/// };
/// let bars: Bars = [day("2018-12-28", 244.9)?, day("2018-12-31", 245.3)?].into_iter().collect();
/// assert_eq!(daily.write(&bars)?.added, 2);
///
/// let december = Interval::<Day>::parse("2018-12-01", "2019-01-01")?.span();
/// assert_eq!(daily.range(december)?.close(), [244.9, 245.3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Looking ahead
///
/// [`range`](Self::range) returns bars by their label, as they are known now. Two things in it can be from the future
/// of who asks, and each has a call of its own:
///
/// * A bar may not have ended: a daily bar is labelled by midnight, and its close is known at the close. A bar is
///   *available* when it has ended, which is what [`range_available`](Self::range_available) goes by.
/// * A bar may have been corrected: [`range_as_of`](Self::range_as_of) returns what this store knew at a time. **A bar
///   that was stored later is never in it**, and a bar that was corrected or deleted later is in it as it was.
///
/// When a bar was stored is what the store's [`Clock`](crate::clock::Clock) said in the transaction that wrote it, and
/// every row has a time of its own. A history that is imported today was not known yesterday, unless who imports it
/// says so: [`write_known_at`](Self::write_known_at). Where a clock went back, the row that is written by the earlier
/// time takes the place of the one from the later time, which is forgotten: it was written by a clock that was wrong.
/// Features, aggregates and levels answer both questions, too, and
/// [`Store::audit_look_ahead`](crate::Store::audit_look_ahead) finds what a pipeline gets from the future all the same.
#[derive(Clone, Debug)]
pub struct BarSeries<'a> {
    pub(crate) covered: CoveredSeries<'a>,
    pub(crate) id: SeriesId,
    negative_prices: bool,
}

/// One column of values, and when they are from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FieldColumn {
    /// When each bar begins, `[n]`.
    pub timestamps: Vec<Timestamp>,
    /// The values, `[n]`.
    pub values: Vec<f64>,
}

impl Market {
    /// Returns the bars of `symbol` with this timeframe.
    pub(crate) fn bars(&self, symbol: &str, timeframe: Timeframe) -> Result<BarSeries<'_>> {
        let id = SeriesId { symbol: Symbol::new(symbol)?, timeframe, source: None };
        Ok(BarSeries {
            covered: CoveredSeries::new(self, CoveredId::Bars(id.clone()), timeframe),
            id,
            negative_prices: false,
        })
    }
}

impl<'a> BarSeries<'a> {
    /// Returns the symbol.
    ///
    /// ```
    /// # use modelkeep::{Store, market::Timeframe};
    /// # let store = Store::in_memory()?;
    /// let series = store.bars("SPY", Timeframe::DAY)?;
    /// assert_eq!(series.symbol().as_str(), "SPY");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn symbol(&self) -> &Symbol {
        &self.id.symbol
    }

    /// Returns how long a bar is.
    ///
    /// ```
    /// # use modelkeep::{Store, market::Timeframe};
    /// # let store = Store::in_memory()?;
    /// let series = store.bars("SPY", Timeframe::DAY)?;
    /// assert_eq!(series.timeframe(), Timeframe::DAY);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timeframe(&self) -> Timeframe {
        self.id.timeframe
    }

    /// Says which calendar the series has: what judges what should be there. The first write or load stores it; from
    /// then on every call goes by the stored one, and one that judges or writes and brings a calendar of another name is
    /// an error. `load_or_fetch_many` and `write_many` take no calendar: series of another exchange than New York's get
    /// theirs by [`set_calendar`](Self::set_calendar) before. Another
    /// version of the same calendar takes its place.
    ///
    /// ```
    /// # use modelkeep::{Day, Interval, Store, market::{Calendar, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let coins = store.bars("BTC-USD", Timeframe::DAY)?.calendar(Calendar::always_open());
    /// let weekend = Interval::<Day>::parse("2018-12-29", "2018-12-31")?.span();
    /// assert_eq!(coins.gaps(weekend)?.len(), 2); // both days are sessions
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn calendar(mut self, calendar: Calendar) -> Self {
        self.covered.give_calendar(calendar);
        self
    }

    /// Gives the series another calendar, in one durable transaction: what the one before judged is judged anew. What
    /// is stored stays.
    ///
    /// # Errors
    /// [What a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn set_calendar(&self, calendar: Calendar) -> Result<()> {
        self.check_given("set calendar")?;
        self.commit("set calendar", |batch| self.covered.set_calendar(batch, calendar))
    }

    /// Asks fetchers in this way, in place of the store's.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{FetchPolicy, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let series = store.bars("SPY", Timeframe::DAY)?.policy(FetchPolicy::default().concurrency(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn policy(mut self, policy: FetchPolicy) -> Self {
        self.covered.set_policy(policy);
        self
    }

    /// Takes prices below zero for what they are, in what this handle writes, loads and imports: crude oil closed at
    /// -37.63 on 2020-04-20. Without it they are a [flaw](crate::market::Flaws::NEGATIVE). A price of zero is none
    /// either way, and a volume below zero always is one.
    ///
    /// ```
    /// # use modelkeep::{Day, Store, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let at = "2020-04-20".parse::<Day>()?.start();
    /// let bar = Bar { at, open: 17.73, high: 17.85, low: -40.32, close: -37.63, volume: 247_947.0 };
    /// let oil = store.bars("CL=F", Timeframe::DAY)?;
    /// assert!(oil.write(&Bars::from_iter([bar])).is_err());
    /// let oil = oil.allow_negative_prices();
    /// assert_eq!(oil.write(&Bars::from_iter([bar]))?.added, 1);
    /// assert_eq!(oil.latest()?, Some(bar));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn allow_negative_prices(mut self) -> Self {
        self.negative_prices = true;
        self
    }

    /// What rows have to be.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { series: &self.id, negative_prices: self.negative_prices }
    }

    /// The same series, of bars that were aggregated by `calendar`.
    pub(crate) fn aggregated(&self, id: SeriesId, calendar: Calendar) -> BarSeries<'a> {
        let mut covered = self.covered.sibling(CoveredId::Bars(id.clone()), id.timeframe);
        covered.give_calendar(calendar);
        BarSeries { covered, id, negative_prices: self.negative_prices }
    }

    /// Aggregates are made, not written.
    pub(crate) fn check_given(&self, operation: &'static str) -> Result<()> {
        match self.id.source {
            None => Ok(()),
            Some(source) => {
                let message = format!("these are made of bars of {source}: change those, and resample them");
                Err(Error::invalid(operation, self.id.to_string(), message))
            }
        }
    }

    /// Writes bars, in one durable transaction. A bar that is there already gets the new values, and what it had before
    /// can be read as it was known (see [Looking ahead](#looking-ahead)). Bars that come back on another scale, as
    /// after a split, are reported: see [`RowChanges::rescaled`]. The ledger learns of the time that these bars cover,
    /// and of no other: a writer who knows that they are all there is says so with
    /// [`write_covering`](Self::write_covering).
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// assert_eq!(series.write(&three)?.added, 3);
    /// assert_eq!(series.write(&three)?.unchanged, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for bars that are not in order, that repeat a timestamp, or have
    /// [`Flaws`](crate::market::Flaws): nothing is written then. `LimitExceeded` for more than 1,048,576 bars in one
    /// chunk. Otherwise what a write can fail with.
    pub fn write(&self, bars: &Bars) -> Result<RowChanges> {
        self.write_with(bars, BadRows::Refuse)
    }

    /// The same, and says what to do with rows that cannot be right.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// let wrong = Bars::from_iter([Bar { high: 0.0, ..bar(1) }]);
    /// assert!(series.write(&wrong).is_err());
    /// assert_eq!(series.write_with(&wrong, modelkeep::market::BadRows::Keep)?.flawed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_with(&self, bars: &Bars, bad_rows: BadRows) -> Result<RowChanges> {
        self.check_given("write bars")?;
        let rows = prepare(self.rules(), bars, bad_rows)?;
        self.write_rows("write bars", Incoming { rows: &rows, known_at: None }, None)
    }

    /// Writes rows that were looked at; they are all there is in `covered`, if the writer says so.
    pub(super) fn write_rows(
        &self,
        operation: &'static str,
        rows: Incoming<'_>,
        covered: Option<Interval<Timestamp>>,
    ) -> Result<RowChanges> {
        let written = self.commit(operation, |batch| {
            let written = self.apply_known(batch, rows, None)?;
            match rows.known_at {
                None => self.covered.note_write(batch, &rows.rows.at, covered)?,
                // What was known at a time may not be what there is now: it was deleted, or corrected, since.
                Some(known) => {
                    self.covered.note_write(batch, &self.those_current(batch, rows.rows, known)?, covered)?;
                }
            }
            Ok(written)
        })?;
        rescaled::warn(&self.id, &written);
        Ok(written)
    }

    /// When those of `rows` begin that are current: what is stored is what was `known` since then.
    fn those_current(&self, batch: &Batch, rows: &Columns, known: &[i64]) -> Result<Vec<Timestamp>> {
        let period = self.id.period();
        let mut stored = Vec::new();
        for chunk in rows.at.chunk_by(|a, b| period.index(*a) == period.index(*b)) {
            let Some(first) = chunk.first() else { continue };
            let Some(found) = write::read(batch, Table::Bars, &self.id.row(period.index(*first)))? else { continue };
            for at in chunk {
                if let (Ok(row), Ok(there)) = (rows.at.binary_search(at), found.bars.at.binary_search(at))
                    && known.get(row) == found.recorded_at.get(there)
                {
                    stored.push(*at);
                }
            }
        }
        Ok(stored)
    }

    /// Writes bars that are all there is in `interval`, in one durable transaction: none of it is fetched from then on.
    ///
    /// # Errors
    /// `InvalidInput` for a bar that lies outside of `interval`; otherwise as for [`write`](Self::write).
    pub fn write_covering(&self, bars: &Bars, interval: Interval<Timestamp>) -> Result<RowChanges> {
        self.check_given("write bars")?;
        let rows = prepare(self.rules(), bars, BadRows::Refuse)?;
        many::check_covering(self, &rows, Some(interval))?;
        self.write_rows("write bars", Incoming { rows: &rows, known_at: None }, Some(interval))
    }

    /// Deletes the bars of `interval`, in one durable transaction, and forgets that they need not be fetched. What they
    /// were can be read as it was known. A damaged chunk goes, uncounted, when all of it lies in the interval.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// series.write(&three)?;
    /// assert_eq!(series.remove(Interval::new(at(1), at(3))?)?.removed, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` for a damaged chunk that lies in the interval in part; otherwise
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn remove(&self, interval: Interval<Timestamp>) -> Result<RowChanges> {
        self.check_given("remove bars")?;
        self.commit("remove bars", |batch| {
            batch.frees_room();
            let written = self.apply(batch, &Columns::default(), Some(interval))?;
            self.covered.note_missing(batch, interval)?;
            Ok(written)
        })
    }

    /// Forgets what is known of `interval`, so that it is fetched again. The bars stay.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// series.write(&three)?;
    /// series.mark_missing(Interval::all_time())?;
    /// assert_eq!(series.range(Interval::all_time())?.len(), 3); // the bars stay until they are fetched again
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [What a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn mark_missing(&self, interval: Interval<Timestamp>) -> Result<()> {
        self.check_given("mark missing")?;
        self.commit("mark missing", |batch| self.covered.note_missing(batch, interval))
    }

    pub(crate) fn commit<T>(&self, operation: &'static str, change: impl FnOnce(&Batch) -> Result<T>) -> Result<T> {
        self.covered.market.core.commit(operation, change)
    }

    /// Changes bars in a transaction.
    pub(crate) fn apply(
        &self,
        batch: &Batch,
        rows: &Columns,
        remove: Option<Interval<Timestamp>>,
    ) -> Result<RowChanges> {
        self.apply_known(batch, Incoming { rows, known_at: None }, remove)
    }

    /// The same, for rows that may have been known for longer.
    pub(crate) fn apply_known(
        &self,
        batch: &Batch,
        rows: Incoming<'_>,
        remove: Option<Interval<Timestamp>>,
    ) -> Result<RowChanges> {
        let plan = Plan::new(batch, batch.before());
        let written = self.plan(&plan, rows, remove)?;
        self.write_planned(batch, &mut plan.finish())?;
        Ok(written)
    }

    /// Plans a change of bars.
    pub(crate) fn plan(
        &self,
        plan: &Plan<'_, impl Reader>,
        rows: Incoming<'_>,
        remove: Option<Interval<Timestamp>>,
    ) -> Result<RowChanges> {
        let market = self.covered.market;
        let mut options = market.settings.options(self.timeframe(), market.core.now());
        if self.id.source.is_some() {
            // What aggregates were is made of what their source was.
            options.retention = Some(Duration::ZERO);
        }
        let last = rows.rows.at.last().copied();
        let written = write::apply(plan, &self.id, rows, remove, options)?;
        if let Some(last) = last {
            rest::settle(plan, &self.id, last, options)?;
        }
        Ok(written)
    }

    /// Writes what was planned, and the facts that go with it.
    pub(crate) fn write_planned(&self, batch: &Batch, planned: &mut Planned) -> Result<()> {
        if !planned.changes() {
            return Ok(());
        }
        planned.write(batch)?;
        facts::update::record(batch, &self.id, planned, self.covered.market.change(batch)?)
    }

    /// Returns the bars that begin in `interval`, in order. A chunk is verified and decoded, and kept in memory as
    /// long as there is room ([`Options::market_memory`](crate::Options::market_memory)); then a range of one chunk,
    /// such as twenty years of days or a month of minutes, is a part of it without copying. Long ranges are decoded on
    /// several threads.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// series.write(&three)?;
    /// assert_eq!(series.range(Interval::new(at(1), at(3))?)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when a chunk is damaged, `Io` when the file cannot be read.
    pub fn range(&self, interval: Interval<Timestamp>) -> Result<Bars> {
        let market = self.covered.market;
        market.core.look(|snapshot| decoded::range(&market.memory, snapshot, &self.id, interval))
    }

    /// Returns one column of the bars that begin in `interval`. A close needs no other column, an open the closes, a
    /// high or a low all prices; the volume stands alone.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// series.write(&three)?;
    /// assert_eq!(series.column(modelkeep::market::Field::Volume, Interval::new(at(1), at(3))?)?.values, [1.0, 2.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn column(&self, field: Field, interval: Interval<Timestamp>) -> Result<FieldColumn> {
        let market = self.covered.market;
        let (timestamps, values) =
            market.core.look(|snapshot| decoded::field(&market.memory, snapshot, &self.id, interval, field))?;
        Ok(FieldColumn { timestamps, values })
    }

    /// Returns the last bar; `None` when there is none.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// series.write(&three)?;
    /// assert_eq!(series.latest()?, Some(bar(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn latest(&self) -> Result<Option<Bar>> {
        self.covered.market.core.look(|snapshot| read::latest(snapshot, &self.id))
    }
}
