//! Reading bars: of an interval, one column of them, as they were known at a time, the last one.

use super::{
    SCHEMA,
    chunk::{self, Rows},
    history::{self, History},
    key::SeriesId,
};
use crate::{
    engine::{self, Snapshot, Table, sealed},
    market::bars::{
        bar::{Bar, Field},
        columns::{Bars, Columns},
    },
    types::{
        error::{Error, ErrorKind, Result},
        hash::Digest,
        interval::Interval,
        limits::CHUNK_ROWS_MAX,
        time::Timestamp,
    },
};

/// The rows of a table that belong to the periods which `interval` touches.
pub(super) fn scan(
    snapshot: &Snapshot,
    table: Table,
    series: &SeriesId,
    interval: Interval<Timestamp>,
) -> engine::Rows {
    let periods = series.period().indices(interval);
    snapshot.scan_between(table, &series.row(periods.start), Some(series.row(periods.end)))
}

/// Calls `visit` with every chunk of the periods that `interval` touches, checked, in order.
pub(crate) fn for_each_chunk(
    snapshot: &Snapshot,
    series: &SeriesId,
    interval: Interval<Timestamp>,
    mut visit: impl FnMut(i64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut rows = scan(snapshot, Table::Bars, series, interval);
    while let Some(done) = rows.next_with(|row, value, page| {
        let (_, period) = SeriesId::of_row(row)?;
        let columns = sealed::open_columns_of(snapshot.trusted(page), Table::Bars, row, value, &SCHEMA)?;
        visit(period, columns).map_err(|err| about(err, row))
    }) {
        done??;
    }
    Ok(())
}

pub(super) fn about(err: Error, row: &[u8]) -> Error {
    if err.subject() == "chunk" || err.subject() == "column" { err.about(Table::Bars.describe(row)) } else { err }
}

/// How many bars the chunks of `interval` hold, as far as they say so: for reserving memory.
fn count(snapshot: &Snapshot, series: &SeriesId, interval: Interval<Timestamp>) -> Result<usize> {
    let mut rows = scan(snapshot, Table::Bars, series, interval);
    let mut total = 0;
    while let Some(found) = rows.next_sealed(|_, value| {
        // Not verified yet, so not believed beyond the limit.
        sealed::unverified_columns(value).and_then(|columns| chunk::summary(columns).ok()).map_or(0, |chunk| chunk.rows)
    }) {
        total += found?.min(CHUNK_ROWS_MAX);
    }
    Ok(total)
}

/// The rows of `bars`, which are in order, that lie in `interval`; nothing is copied.
pub(crate) fn cut(bars: Bars, interval: Interval<Timestamp>) -> Bars {
    let at = bars.timestamps();
    let start = at.partition_point(|at| *at < interval.start());
    let end = at.partition_point(|at| *at < interval.end());
    if (start, end) == (0, at.len()) { bars } else { bars.slice(start..end) }
}

/// One column of values with its timestamps.
pub(crate) type FieldColumn = (Vec<Timestamp>, Vec<f64>);

/// Returns one column of the bars of `interval`, and decodes only what it needs.
pub(crate) fn field(
    snapshot: &Snapshot,
    series: &SeriesId,
    interval: Interval<Timestamp>,
    field: Field,
) -> Result<FieldColumn> {
    let total = count(snapshot, series, interval)?;
    let (mut at, mut values) = (Vec::with_capacity(total), Vec::with_capacity(total));
    for_each_chunk(snapshot, series, interval, |_, bytes| chunk::append_field(bytes, field, &mut at, &mut values))?;
    let start = at.partition_point(|at| *at < interval.start());
    let end = at.partition_point(|at| *at < interval.end());
    at.truncate(end);
    values.truncate(end);
    at.drain(..start);
    values.drain(..start);
    Ok((at, values))
}

/// Returns the bars of `interval` as they were known at `known_at`: nothing that was stored later.
pub(crate) fn as_of(
    snapshot: &Snapshot,
    series: &SeriesId,
    interval: Interval<Timestamp>,
    known_at: Timestamp,
) -> Result<Bars> {
    let known_at = known_at.as_nanos();
    let mut current: Vec<(i64, Rows)> = Vec::new();
    for_each_chunk(snapshot, series, interval, |period, bytes| {
        current.push((period, chunk::decode(bytes)?));
        Ok(())
    })?;
    let mut history: Vec<(i64, History)> = Vec::new();
    let mut rows = scan(snapshot, Table::BarHistory, series, interval);
    while let Some(row) = rows.next_sealed(|row, value| Ok((SeriesId::of_row(row)?.1, history::open(row, value)?))) {
        history.push(row??);
    }
    let mut all = Columns::default();
    let (mut current, mut history) = (current.into_iter().peekable(), history.into_iter().peekable());
    loop {
        let next = match (current.peek(), history.peek()) {
            (None, None) => break,
            (Some((a, _)), Some((b, _))) => *a.min(b),
            (Some((a, _)), None) => *a,
            (None, Some((b, _))) => *b,
        };
        let rows = current.next_if(|(period, _)| *period == next).map(|(_, rows)| rows).unwrap_or_default();
        let old = history.next_if(|(period, _)| *period == next).map(|(_, old)| old).unwrap_or_default();
        if known_at < old.forgotten_until {
            let forgotten = Timestamp::from_nanos(old.forgotten_until);
            let message = format!("what was known before {forgotten} is not kept any more");
            return Err(Error::new(ErrorKind::NotFound, "read bars as of", series.to_string(), message));
        }
        known_then(&rows, &old.rows, known_at, &mut all);
    }
    Ok(cut(all.into(), interval))
}

/// Appends what was known at a time, in order: what is current since then, and what was current then.
fn known_then(current: &Rows, history: &Rows, known_at: i64, out: &mut Columns) {
    let still =
        current.recorded_at.iter().enumerate().filter(|(_, known)| **known <= known_at).map(|(row, _)| (current, row));
    let past = history.recorded_at.iter().zip(&history.superseded_at).enumerate();
    let past =
        past.filter(|(_, (known, until))| **known <= known_at && known_at < **until).map(|(row, _)| (history, row));
    let mut rows: Vec<(Timestamp, &Rows, usize)> =
        still.chain(past).filter_map(|(rows, row)| Some((*rows.bars.at.get(row)?, rows, row))).collect();
    rows.sort_by_key(|(at, _, _)| *at);
    for (_, rows, row) in rows {
        out.extend(&rows.bars, row..row + 1);
    }
}

/// Returns the last bar there is.
pub(crate) fn latest(snapshot: &Snapshot, series: &SeriesId) -> Result<Option<Bar>> {
    let Some(period) = last_period(snapshot, series)? else {
        return Ok(None);
    };
    let (start, end) = series.period().span(period);
    let mut columns = Columns::default();
    let interval = Interval::new(start, end)?;
    for_each_chunk(snapshot, series, interval, |_, bytes| chunk::append(bytes, &mut columns))?;
    Ok(columns.len().checked_sub(1).and_then(|row| columns.bar(row)))
}

/// A chunk of a series: which period, how many bars, and the hash of what they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkEntry {
    pub(crate) period: i64,
    pub(crate) rows: usize,
    pub(crate) hash: Digest,
}

/// The first period that has bars.
pub(crate) fn first_period(snapshot: &Snapshot, series: &SeriesId) -> Result<Option<i64>> {
    let mut rows = snapshot.scan(Table::Bars, &series.prefix());
    let first = rows.next_sealed(|row, _| SeriesId::of_row(row));
    Ok(first.transpose()?.transpose()?.map(|(_, period)| period))
}

/// The last period that has bars.
pub(crate) fn last_period(snapshot: &Snapshot, series: &SeriesId) -> Result<Option<i64>> {
    let mut keys = snapshot.scan(Table::Bars, &series.prefix());
    let mut last = None;
    while let Some(row) = keys.next_sealed(|row, _| SeriesId::of_row(row)) {
        last = Some(row??.1);
    }
    Ok(last)
}

/// What is stored of one series.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BarSummary {
    /// The symbol.
    pub symbol: crate::types::key::Symbol,
    /// How long a bar is.
    pub timeframe: crate::market::timeframe::Timeframe,
    /// The timeframe of the bars that these were aggregated from; `None` for bars as they were given.
    pub resampled_from: Option<crate::market::timeframe::Timeframe>,
    /// Bars.
    pub bars: u64,
    /// When the first and the last bar begin.
    pub span: (Timestamp, Timestamp),
    /// Chunks that they lie in.
    pub chunks: u64,
    /// Bytes of the chunks in the file, seals included.
    pub stored_bytes: u64,
}
