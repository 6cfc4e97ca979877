//! Writing more bars than memory holds: they are checked as they come, packed, and written when all of them are there.
//!
//! The transaction begins after the last bar, so nobody waits while a file is parsed or a vendor answers, and nothing
//! is written when a bar is refused. Meanwhile bars are kept as chunks are in the file, some bytes each. They are
//! unpacked a period at a time: equal timestamps lie in one period, so sorting each period is sorting all of them.

use std::collections::BTreeMap;

use super::{
    chunk::{self, Rows},
    key::SeriesId,
    rescaled,
    series::BarSeries,
    validate::{Checker, Rules},
};
use crate::{
    format::columns::ints::IntCodec,
    market::bars::{
        bar::{BadRows, Bar, Flaws},
        columns::Columns,
    },
    types::{error::Result, row_changes::RowChanges, time::Timestamp},
};

/// Bars that wait unpacked.
const PENDING_ROWS_MAX: usize = 1 << 16;

/// Bars of one series on their way to a transaction, in the order in which they came.
pub(super) struct Spool<'a> {
    checker: Checker<'a>,
    series: &'a SeriesId,
    pending: Columns,
    /// The period of the bars that are pending.
    period: i64,
    /// Whole chunks, in the order of their bars.
    packed: BTreeMap<i64, Vec<Vec<u8>>>,
}

impl<'a> Spool<'a> {
    pub(super) fn new(rules: Rules<'a>, bad_rows: BadRows) -> Self {
        Self {
            checker: Checker::new(rules, bad_rows),
            series: rules.series,
            pending: Columns::default(),
            period: 0,
            packed: BTreeMap::new(),
        }
    }

    /// Takes the next bar, or refuses it.
    pub(super) fn push(&mut self, bar: &Bar) -> Result<()> {
        let flaws = self.checker.check(bar)?;
        self.keep(bar, flaws)
    }

    /// The same, for a row that has a name of its own.
    pub(super) fn push_named(&mut self, bar: &Bar, name: impl Fn() -> String) -> Result<()> {
        let flaws = self.checker.check_named(bar, name)?;
        self.keep(bar, flaws)
    }

    fn keep(&mut self, bar: &Bar, flaws: Option<Flaws>) -> Result<()> {
        let Some(flaws) = flaws else {
            return Ok(());
        };
        let period = self.series.period().index(bar.at);
        if period != self.period || self.pending.len() >= PENDING_ROWS_MAX {
            self.pack()?;
            self.period = period;
        }
        self.pending.push(bar, flaws);
        Ok(())
    }

    fn pack(&mut self) -> Result<()> {
        let bars = std::mem::take(&mut self.pending);
        if bars.len() == 0 {
            return Ok(());
        }
        // Chunks are in order of time, and refuse to be read otherwise; of rows with one timestamp the last one stays
        // last.
        let mut order: Vec<usize> = (0..bars.len()).collect();
        order.sort_by_key(|row| bars.at.get(*row));
        let mut rows = Rows { recorded_at: vec![0; bars.len()], ..Rows::default() };
        order.into_iter().for_each(|row| rows.bars.extend(&bars, row..row + 1));
        self.packed.entry(self.period).or_default().push(chunk::encode(&rows, IntCodec::Packed)?);
        // The next period has about as many.
        self.pending = Columns::with_capacity(bars.len());
        Ok(())
    }

    /// Returns the bars by period, in order of time.
    fn finish(mut self) -> Result<impl Iterator<Item = Result<Columns>>> {
        self.pack()?;
        Ok(self.packed.into_values().map(|chunks| {
            let mut bars = Columns::default();
            chunks.iter().try_for_each(|bytes| chunk::append(bytes, &mut bars))?;
            Ok(in_order(bars))
        }))
    }
}

/// Bars in order of time, each timestamp once: of several the one that came last, and it says so.
fn in_order(bars: Columns) -> Columns {
    if bars.at.is_sorted_by(|a, b| a < b) {
        return bars;
    }
    let mut order: Vec<usize> = (0..bars.len()).collect();
    order.sort_by_key(|row| bars.at.get(*row));
    let mut sorted = Columns::with_capacity(bars.len());
    for same in order.chunk_by(|a, b| bars.at.get(*a) == bars.at.get(*b)) {
        if let Some((bar, row)) = same.last().and_then(|row| Some((bars.bar(*row)?, *row))) {
            let repeated = if same.len() > 1 { Flaws::DUPLICATE } else { Flaws::NONE };
            sorted.push(&bar, bars.flaws_of(row) | repeated);
        }
    }
    sorted
}

impl BarSeries<'_> {
    /// Writes bars as they come, in one durable transaction that begins after the last of them: for more bars than
    /// memory should hold. 10 million took 74 MB on their way, where [`Bars`](crate::market::Bars) of them would be 480
    /// MB, and writing them takes three times as much. Otherwise as [`write`](Self::write): all or nothing, and the
    /// first bar that cannot be right is an error.
    ///
    /// `bars` may read this store, and write to it: nothing is locked while they are made.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let minute = |n: i64| Timestamp::from_nanos(n * 60_000_000_000);
    /// let bar = |n| Bar { at: minute(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: 100.0 };
    /// let series = store.bars("BTC-USD", Timeframe::MINUTE)?;
    /// assert_eq!(series.write_iter((0..100_000).map(bar))?.added, 100_000);
    ///
    /// let wrong = Bar { high: 0.0, ..bar(100_001) };
    /// assert!(series.write_iter([bar(100_000), wrong]).is_err());
    /// assert_eq!(series.range(Interval::all_time())?.len(), 100_000); // nothing of it was written
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_iter(&self, bars: impl IntoIterator<Item = Bar>) -> Result<RowChanges> {
        self.check_given("write bars")?;
        let mut spool = Spool::new(self.rules(), BadRows::Refuse);
        bars.into_iter().try_for_each(|bar| spool.push(&bar))?;
        self.write_spooled(spool)
    }

    /// Writes what was spooled, in one durable transaction.
    pub(super) fn write_spooled(&self, spool: Spool<'_>) -> Result<RowChanges> {
        let periods = spool.finish()?;
        let written = self.commit("write bars", |batch| {
            let mut written = RowChanges::default();
            let mut last: Option<Timestamp> = None;
            let mut has_closing = false;
            self.covered.note_rows(batch, |judge, ledger| {
                for rows in periods {
                    let rows = rows?;
                    written += self.apply(batch, &rows, None)?;
                    // With the bar before them, so that the ledger knows them for neighbours.
                    let at: Vec<Timestamp> = last.into_iter().chain(rows.at).collect();
                    judge.record_write(ledger, &at);
                    has_closing |= judge.has_closing(&at);
                    last = at.last().copied();
                }
                Ok(has_closing)
            })?;
            Ok(written)
        })?;
        rescaled::warn(&self.id, &written);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        market::{
            bars::{columns::Bars, validate::prepare},
            timeframe::Timeframe,
        },
        types::key::Symbol,
    };

    fn spooled(series: &SeriesId, bars: &Bars, bad_rows: BadRows) -> Result<Columns> {
        let mut spool = Spool::new(Rules { series, negative_prices: false }, bad_rows);
        bars.iter().try_for_each(|bar| spool.push(&bar))?;
        let mut all = Columns::default();
        for rows in spool.finish()? {
            let rows = rows?;
            all.extend(&rows, 0..rows.len());
        }
        Ok(all)
    }

    proptest! {
        /// Hours in a jumble over three periods of a year, some of them twice, some off the grid or wrong.
        #[test]
        fn what_is_spooled_is_what_a_write_would_take(
            rows in prop::collection::vec((0i64..60, 0u8..12, any::<bool>()), 0..60),
            sorted in any::<bool>(),
            bad_rows in prop::sample::select(vec![BadRows::Refuse, BadRows::LeaveOut, BadRows::Keep]),
        ) {
            let series = SeriesId { symbol: Symbol::new("A").unwrap(), timeframe: Timeframe::HOUR, source: None };
            let mut bars: Vec<Bar> = rows.iter().enumerate().map(|(row, (hour, wrong, _))| Bar {
                at: Timestamp::from_nanos(hour * 400 * 3_600_000_000_000 + i64::from(*wrong == 1)),
                open: 2.0,
                high: if *wrong == 2 { f64::NAN } else { 3.0 },
                low: 1.0,
                close: if *wrong == 3 { 9.0 } else { 2.5 },
                volume: row as f64,
            }).collect();
            if sorted {
                bars.sort_by_key(|bar| bar.at);
            }
            let bars: Bars = bars.into_iter().collect();
            match (prepare(Rules { series: &series, negative_prices: false }, &bars, bad_rows), spooled(&series, &bars, bad_rows)) {
                (Ok(expected), Ok(found)) => {
                    prop_assert_eq!(&found.at, &expected.at);
                    for row in 0..found.len() {
                        prop_assert!(found.same(row, &expected, row));
                    }
                }
                (Err(expected), Err(found)) => prop_assert_eq!(found.to_string(), expected.to_string()),
                (expected, found) => prop_assert!(false, "{expected:?} {found:?}"),
            }
        }
    }
}
