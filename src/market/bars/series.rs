//! Bars, through the store.

use std::time::Duration;

use super::{
    key::SeriesId,
    read::{self, BarSummary},
    validate::prepare,
    write,
};
use crate::{
    engine::Batch,
    market::{
        Market,
        bars::{
            bar::{BadRows, Bar, Field},
            columns::{Bars, Columns},
        },
        calendar::Calendar,
        coverage::{
            classify,
            covered::CoveredSeries,
            ledger::{Coverage, CoverageSpan},
        },
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
/// [`range`](Self::range) returns what is known now. A vendor that corrects a bar next week changes what `range` says
/// of last week, and a backtest over it sees what nobody could see. [`range_as_of`](Self::range_as_of) returns what
/// this store knew at a time: **a bar that was stored later is never in it**, and a bar that was corrected or deleted
/// later is in it as it was. When a bar was stored is what this store's [`Clock`](crate::clock::Clock) said in the transaction
/// that wrote it, so a history that was imported today was not known yesterday. To replay a history as if it had come
/// day by day, write it day by day under a [`ManualClock`](crate::clock::ManualClock).
///
/// This is about bars. Features, aggregates and levels are of what is known now: a backtest over restated bars computes
/// its features from `range_as_of` itself.
#[derive(Clone, Debug)]
pub struct BarSeries<'a> {
    pub(crate) covered: CoveredSeries<'a>,
    pub(crate) id: SeriesId,
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

/// Where the ledger of a series of bars lies.
fn coverage_key(id: &SeriesId) -> Vec<u8> {
    [b"bars/", id.prefix().as_slice()].concat()
}

impl Market {
    /// Returns the bars of `symbol` with this timeframe.
    pub(crate) fn bars(&self, symbol: &str, timeframe: Timeframe) -> Result<BarSeries<'_>> {
        let id = SeriesId { symbol: Symbol::new(symbol)?, timeframe, source: None };
        Ok(BarSeries { covered: CoveredSeries::new(self, coverage_key(&id), timeframe), id })
    }

    /// Returns what is stored of every series of bars, in order of symbol and timeframe, or the error that keeps a
    /// series from being read, under its name.
    pub(crate) fn bar_series(&self) -> Result<Vec<(String, Result<BarSummary>)>> {
        self.core.look(read::summaries)
    }

    /// Returns the symbols that have bars of this timeframe, in order.
    pub(crate) fn bar_symbols(&self, timeframe: Timeframe) -> Result<Vec<Symbol>> {
        self.core.look(|snapshot| read::symbols(snapshot, timeframe))
    }
}

impl<'a> BarSeries<'a> {
    /// Returns the symbol.
    #[must_use]
    pub fn symbol(&self) -> &Symbol {
        &self.id.symbol
    }

    /// Returns how long a bar is.
    #[must_use]
    pub fn timeframe(&self) -> Timeframe {
        self.id.timeframe
    }

    /// Judges by this calendar what should be there, in place of the store's.
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

    /// The same series, of bars that were aggregated.
    pub(crate) fn aggregated(&self, id: SeriesId) -> BarSeries<'a> {
        BarSeries { covered: self.covered.sibling(coverage_key(&id), id.timeframe), id }
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
    /// can be read as it was known (see [Looking ahead](#looking-ahead)). The ledger learns that the sessions of these
    /// bars, from the first bar to the last, need not be fetched; one bar is enough for a session.
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for bars that are not in order, that repeat a timestamp, or have
    /// [`Flaws`](crate::market::Flaws): nothing is written then. `LimitExceeded` for more than 1,048,576 bars in one chunk.
    /// Otherwise what a write can fail with.
    pub fn write(&self, bars: &Bars) -> Result<RowChanges> {
        self.write_with(bars, BadRows::Refuse)
    }

    /// The same, and says what to do with rows that cannot be right.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_with(&self, bars: &Bars, bad_rows: BadRows) -> Result<RowChanges> {
        self.check_given("write bars")?;
        let rows = prepare(&self.id, bars, bad_rows)?;
        self.commit("write bars", |batch| {
            let written = self.apply(batch, &rows, None)?;
            self.covered.note_write(batch, &rows.at)?;
            Ok(written)
        })
    }

    /// Deletes the bars of `interval`, in one durable transaction, and forgets that they need not be fetched. What they
    /// were can be read as it was known. A damaged chunk goes, uncounted, when all of it lies in the interval.
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
        let market = self.covered.market;
        let options = market.settings.options(self.timeframe(), market.core.now());
        write::apply(batch, &self.id, rows, remove, options)
    }

    /// Returns the bars that begin in `interval`, in order. Chunks are read in place and decoded once; the parts of a
    /// chunk that lie outside are cut off without copying. Long ranges are decoded on several threads.
    ///
    /// # Errors
    /// `Corrupt` when a chunk is damaged, `Io` when the file cannot be read.
    pub fn range(&self, interval: Interval<Timestamp>) -> Result<Bars> {
        self.covered.market.core.look(|snapshot| read::range(snapshot, &self.id, interval))
    }

    /// Returns one column of the bars that begin in `interval`. A close needs no other column, an open the closes, a
    /// high or a low all prices; the volume stands alone.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn column(&self, field: Field, interval: Interval<Timestamp>) -> Result<FieldColumn> {
        let (timestamps, values) =
            self.covered.market.core.look(|snapshot| read::field(snapshot, &self.id, interval, field))?;
        Ok(FieldColumn { timestamps, values })
    }

    /// Returns the bars that begin in `interval` as this store knew them at `known_at`: nothing that was stored later,
    /// and what was changed or deleted later as it was.
    ///
    /// # Errors
    /// `NotFound` when something that was known then is not kept any more
    /// ([`Options::bar_history`](crate::Options::bar_history)); otherwise as for [`range`](Self::range).
    pub fn range_as_of(&self, interval: Interval<Timestamp>, known_at: Timestamp) -> Result<Bars> {
        self.covered.market.core.look(|snapshot| read::as_of(snapshot, &self.id, interval, known_at))
    }

    /// Returns the last bar; `None` when there is none.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn latest(&self) -> Result<Option<Bar>> {
        self.covered.market.core.look(|snapshot| read::latest(snapshot, &self.id))
    }

    /// Returns what is known of every part of `interval`, in order.
    ///
    /// # Errors
    /// `Corrupt` when the ledger is damaged, `Io` when the file cannot be read.
    pub fn coverage(&self, interval: Interval<Timestamp>) -> Result<Vec<CoverageSpan>> {
        self.covered.coverage(interval)
    }

    /// Returns the calendar that judged what is known, as it was then; `None` when nothing is known.
    ///
    /// # Errors
    /// `Corrupt` when the ledger or the calendar is damaged, `Io` when the file cannot be read.
    pub fn stored_calendar(&self) -> Result<Option<Calendar>> {
        self.covered.stored_calendar()
    }

    /// Returns the sessions of `interval` that the calendar expects bars in, that have none at all, and that are not
    /// known to be empty; those that are over. For what is missing within sessions see
    /// [`intraday_gaps`](Self::intraday_gaps).
    ///
    /// # Errors
    /// As for [`range`](Self::range); `InvalidInput` for bars of more than a day.
    pub fn gaps(&self, interval: Interval<Timestamp>) -> Result<Vec<crate::market::calendar::Session>> {
        self.check_sessions("look for gaps")?;
        let snapshot = self.covered.market.core.snapshot()?;
        let ledger = self.covered.record_in(&snapshot)?.ledger;
        let until = classify::complete_until(self.covered.calendar(), self.timeframe(), self.covered.market.core.now());
        let over = Interval::new(interval.start(), interval.end().min(until).max(interval.start()))?;
        let (at, _) = read::field(&snapshot, &self.id, over, Field::Volume)?;
        let is_known = |span| ledger.within(span).iter().all(|stretch| stretch.coverage == Coverage::KnownEmpty);
        let windows = classify::windows(self.covered.calendar(), self.timeframe(), over, &at);
        Ok(windows.filter(|window| window.is_empty && !is_known(window.span)).map(|window| window.session).collect())
    }

    /// Sessions judge bars of a session and shorter.
    pub(crate) fn check_sessions(&self, operation: &'static str) -> Result<()> {
        if self.timeframe().is_longer_than_a_day() {
            let message = "bars of more than a day are no matter of sessions: load daily ones, and resample them";
            return Err(Error::invalid(operation, self.id.to_string(), message));
        }
        Ok(())
    }

    /// Returns the stretches within sessions, as far as they lie in `interval`, of at least `shortest` that no bar
    /// covers. A load takes a session with a bar for complete, because a thinly traded symbol has minutes without one;
    /// this finds what a vendor cut off. [`mark_missing`](Self::mark_missing) such a stretch to have it fetched again.
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn intraday_gaps(&self, interval: Interval<Timestamp>, shortest: Duration) -> Result<Vec<Interval<Timestamp>>> {
        let (at, _) =
            self.covered.market.core.look(|snapshot| read::field(snapshot, &self.id, interval, Field::Volume))?;
        let mut intraday_gaps = Vec::new();
        for session in self.covered.calendar().expected(interval, self.timeframe()) {
            let window = session.window(self.timeframe());
            let (start, end) = (window.start().max(interval.start()), window.end().min(interval.end()));
            let from = at.partition_point(|at| *at < start);
            let bars = at.iter().skip(from).take_while(|at| **at < end).copied();
            let mut covered = start;
            for next in bars.chain([end]) {
                if next > covered && next.since(covered) >= shortest {
                    intraday_gaps.push(Interval::new(covered, next)?);
                }
                covered = next.after(self.timeframe().duration()).max(covered);
            }
        }
        Ok(intraday_gaps)
    }
}
