//! Bars of many symbols in one transaction.
//!
//! Each series is planned by itself: its chunks are read, merged, encoded and sealed, and its ledger is judged, on the
//! threads of the machine. What they came to goes into the transaction in the order of keys.

use std::collections::BTreeMap;

use super::{
    columns::{Bars, Columns},
    plan::{PLANNED_MAX, Plan, Planned},
    rescaled,
    series::BarSeries,
    validate::prepare,
    write::Incoming,
};
use crate::{
    engine::{Batch, Snapshot},
    format::parallel,
    market::{Market, bars::bar::BadRows, coverage::covered::Judged, timeframe::Timeframe},
    types::{
        error::{Error, Result},
        interval::Interval,
        key::Symbol,
        row_changes::RowChanges,
        time::Timestamp,
    },
};

/// Rows that are checked, of one series.
struct Prepared<'a> {
    series: BarSeries<'a>,
    rows: Columns,
}

/// A series that is ready to be written.
struct Ready {
    changes: RowChanges,
    planned: Planned,
    judged: Option<Judged>,
}

impl Market {
    /// Writes bars of many symbols; `covering` says that they are all there is in an interval.
    pub(crate) fn write_many(
        &self,
        timeframe: Timeframe,
        rows: &[(Symbol, Bars)],
        covering: Option<Interval<Timestamp>>,
    ) -> Result<Vec<RowChanges>> {
        let threads = parallel::threads_for(usize::MAX).min(rows.len());
        check_distinct(timeframe, rows)?;
        let prepared = parallel::map(rows.iter(), threads, |(symbol, bars)| {
            let series = self.bars(symbol.as_str(), timeframe)?;
            let rows = prepare(series.rules(), bars, BadRows::Refuse)?;
            check_covering(&series, &rows, covering)?;
            Ok(Prepared { series, rows })
        });
        let prepared: Vec<Prepared<'_>> = prepared.into_iter().collect::<Result<_>>()?;
        let written = self.core.commit("write bars", |batch| {
            let mut order: Vec<usize> = (0..prepared.len()).collect();
            order.sort_by(|a, b| rows.get(*a).map(|(symbol, _)| symbol).cmp(&rows.get(*b).map(|(symbol, _)| symbol)));
            let mut written = vec![RowChanges::default(); prepared.len()];
            for block in order.chunks(PLANNED_MAX) {
                let of_block = block.iter().filter_map(|n| prepared.get(*n));
                let snapshot = batch.before();
                let ready = parallel::map(of_block.clone(), threads, |one| one.plan(snapshot, covering));
                for ((one, ready), n) in of_block.zip(ready).zip(block) {
                    if let Some(slot) = written.get_mut(*n) {
                        *slot = one.write(batch, ready?)?;
                    }
                }
            }
            Ok(written)
        })?;
        prepared.iter().zip(&written).for_each(|(one, written)| rescaled::warn(&one.series.id, written));
        Ok(written)
    }
}

/// One transaction says one thing of a series.
fn check_distinct(timeframe: Timeframe, rows: &[(Symbol, Bars)]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (n, (symbol, _)) in rows.iter().enumerate() {
        if let Some(first) = seen.insert(symbol, n) {
            let message = format!("the symbol is there twice, at {first} and at {n}");
            return Err(Error::invalid("write bars", format!("{symbol} {timeframe}"), message));
        }
    }
    Ok(())
}

/// Refuses rows outside of what they are said to be all of.
pub(super) fn check_covering(
    series: &BarSeries<'_>,
    rows: &Columns,
    covering: Option<Interval<Timestamp>>,
) -> Result<()> {
    let Some(interval) = covering else { return Ok(()) };
    match rows.at.iter().find(|at| !interval.contains(**at)) {
        None => Ok(()),
        Some(at) => {
            let message = format!("the bar at {at} lies outside of {interval}");
            Err(Error::invalid("write bars", series.id.to_string(), message))
        }
    }
}

impl Prepared<'_> {
    /// Reads and judges everything in the state before the transaction, which nothing else of it is about.
    fn plan(&self, snapshot: &Snapshot, covering: Option<Interval<Timestamp>>) -> Result<Ready> {
        let plan = Plan::new(snapshot, snapshot);
        let changes = self.series.plan(&plan, Incoming { rows: &self.rows, known_at: None }, None)?;
        let judged = self.series.covered.after_write(snapshot, snapshot, &self.rows.at, covering)?;
        Ok(Ready { changes, planned: plan.finish(), judged })
    }

    fn write(&self, batch: &Batch, ready: Ready) -> Result<RowChanges> {
        let Ready { changes, mut planned, judged } = ready;
        self.series.write_planned(batch, &mut planned)?;
        if let Some(judged) = judged {
            self.series.covered.write_judged(batch, &judged)?;
        }
        Ok(changes)
    }
}
