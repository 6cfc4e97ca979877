//! Changing bars: new rows take the place of old ones, and the old ones go to the history.
//!
//! Each row knows when it was stored, and a row that is superseded or deleted also knows until when it was current. So
//! what was known at a time can be read again: appending costs nothing for it, and a restatement costs the rows that it
//! changed.

use std::time::Duration;

use super::{
    SCHEMA,
    chunk::{self, Rows},
    key::SeriesId,
};
use crate::{
    engine::{Batch, Reader, Table, sealed},
    format::columns::ints::IntCodec,
    market::bars::columns::Columns,
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        invariant::Invariant,
        limits::HISTORY_ROWS_MAX,
        row_changes::RowChanges,
        time::Timestamp,
    },
};

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    /// What time it is.
    pub(crate) now: Timestamp,
    /// How long superseded bars can be read; `None` for ever.
    pub(crate) retention: Option<Duration>,
    pub(crate) codec: IntCodec,
}

/// Removes the bars that lie in `remove`, but for those that `rows` has, and writes `rows`, which are in order, each
/// timestamp once.
pub(crate) fn apply(
    batch: &Batch,
    series: &SeriesId,
    rows: &Columns,
    remove: Option<Interval<Timestamp>>,
    options: WriteOptions,
) -> Result<RowChanges> {
    let period = series.period();
    let mut written = RowChanges::default();
    let mut touched: Vec<i64> = match remove {
        Some(remove) => periods_in(batch, series, remove)?,
        None => Vec::new(),
    };
    let mut start = 0;
    let mut cuts = Vec::new();
    while let Some(at) = rows.at.get(start) {
        let index = period.index(*at);
        let (_, end) = period.span(index);
        let next =
            start + rows.at.get(start..).always("rows lie in the columns").partition_point(|at| *at < end).max(1);
        cuts.push((index, start..next));
        touched.push(index);
        start = next;
    }
    touched.sort_unstable();
    touched.dedup();
    let mut cuts = cuts.into_iter().peekable();
    for index in touched {
        let part = cuts.next_if(|(cut, _)| *cut == index).map_or(0..0, |(_, part)| part);
        let mut incoming = Columns::with_capacity(part.len());
        incoming.extend(rows, part);
        written += apply_to_chunk(batch, series, index, &incoming, remove, options)?;
    }
    Ok(written)
}

/// The periods that have bars in `interval`.
fn periods_in(batch: &Batch, series: &SeriesId, interval: Interval<Timestamp>) -> Result<Vec<i64>> {
    let periods = series.period().indices(interval);
    let rows = batch.keys(Table::Bars, &series.prefix())?;
    let found = rows.iter().map(|row| Ok(SeriesId::of_row(row)?.1)).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().filter(|index| periods.contains(index)).collect())
}

fn apply_to_chunk(
    batch: &Batch,
    series: &SeriesId,
    index: i64,
    incoming: &Columns,
    remove: Option<Interval<Timestamp>>,
    options: WriteOptions,
) -> Result<RowChanges> {
    let row = series.row(index);
    let stored = match read(batch, Table::Bars, &row) {
        Ok(stored) => stored.unwrap_or_default(),
        // What cannot be read goes if all of it was to go: that is how to make room for good bars.
        Err(error)
            if error.kind() == ErrorKind::Corrupt && remove.is_some_and(|remove| holds(remove, series, index)) =>
        {
            tracing::error!(%series, %error, "bars that could not be read are removed");
            batch.remove(Table::Bars, &row)?;
            Rows::default()
        }
        Err(error) => return Err(error),
    };
    // Knowledge does not go back in time, whatever the clock does.
    let known = [stored.recorded_at.iter().copied().max(), last_change(batch, &row)?, Some(options.now.as_nanos())];
    let known = known.into_iter().flatten().max().unwrap_or_default();
    let merged = merge(&stored, incoming, remove, known);
    if merged.written.added + merged.written.replaced + merged.written.removed == 0 {
        return Ok(merged.written);
    }
    if !merged.superseded.bars.at.is_empty() {
        supersede(batch, &row, merged.superseded, known, options)?;
    }
    if merged.current.bars.at.is_empty() {
        batch.remove(Table::Bars, &row)?;
    } else {
        batch.put_columns(Table::Bars, &row, &SCHEMA, &chunk::encode(&merged.current, options.codec)?)?;
    }
    Ok(merged.written)
}

/// Whether all of a period lies in `interval`.
fn holds(interval: Interval<Timestamp>, series: &SeriesId, index: i64) -> bool {
    let (start, end) = series.period().span(index);
    interval.start() <= start && end <= interval.end()
}

pub(super) fn read(reader: &impl Reader, table: Table, row: &[u8]) -> Result<Option<Rows>> {
    let Some((value, _)) = reader.get(table, row)? else {
        return Ok(None);
    };
    let columns = sealed::open_columns(table, row, &value, &SCHEMA)?;
    Ok(Some(chunk::decode(columns).map_err(|err| err.about(Table::Bars.describe(row)))?))
}

struct Merged {
    current: Rows,
    superseded: Rows,
    written: RowChanges,
}

/// Merges what is stored with what is new, both in order.
fn merge(stored: &Rows, new: &Columns, remove: Option<Interval<Timestamp>>, known: i64) -> Merged {
    let mut merged = Merged { current: Rows::default(), superseded: Rows::default(), written: RowChanges::default() };
    merged.current.bars = Columns::with_capacity(stored.bars.len() + new.len());
    let Merged { current, superseded, written } = &mut merged;
    let (mut old, mut next) = (0, 0);
    // Most writes append: what lies before the first new row and is not removed stays as it is.
    let first = [new.at.first().copied(), remove.map(|remove| remove.start())].into_iter().flatten().min();
    let untouched = first.map_or(stored.bars.len(), |first| stored.bars.at.partition_point(|at| *at < first));
    current.take(stored, old..untouched);
    old += untouched;
    loop {
        let order = match (stored.bars.at.get(old), new.at.get(next)) {
            (None, None) => return merged,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        };
        if order.is_lt() {
            let gone = stored.bars.at.get(old).is_some_and(|at| remove.is_some_and(|remove| remove.contains(*at)));
            if gone {
                superseded.take(stored, old..old + 1);
                written.removed += 1;
            } else {
                current.take(stored, old..old + 1);
            }
            old += 1;
            continue;
        }
        written.flawed += u64::from(!new.flaws_of(next).is_empty());
        if order.is_eq() && new.same(next, &stored.bars, old) {
            current.take(stored, old..old + 1);
            written.unchanged += 1;
        } else {
            if order.is_eq() {
                superseded.take(stored, old..old + 1);
                written.replaced += 1;
            } else {
                written.added += 1;
            }
            current.bars.extend(new, next..next + 1);
            current.recorded_at.push(known);
        }
        old += usize::from(order.is_eq());
        next += 1;
    }
}

impl Rows {
    /// Appends rows of `other`.
    pub(super) fn take(&mut self, other: &Self, rows: std::ops::Range<usize>) {
        self.bars.extend(&other.bars, rows.clone());
        self.recorded_at.extend_from_slice(other.recorded_at.get(rows.clone()).always("rows lie in the columns"));
        self.superseded_at.extend_from_slice(other.superseded_at.get(rows).unwrap_or_default());
    }
}

/// Moves rows to the history, and lets go of what is older than the retention, or too much.
fn supersede(batch: &Batch, row: &[u8], mut rows: Rows, until: i64, options: WriteOptions) -> Result<()> {
    rows.superseded_at = vec![until; rows.bars.len()];
    let old = read_history(batch, row)?.unwrap_or_default();
    let parts = [&old.rows, &rows];
    // In order of time, and of rows with the same timestamp in order of when they were current.
    let mut order: Vec<(Timestamp, i64, usize, usize)> = Vec::new();
    for (part, rows) in parts.iter().enumerate() {
        order.extend(
            rows.bars.at.iter().zip(&rows.superseded_at).enumerate().map(|(n, (at, until))| (*at, *until, part, n)),
        );
    }
    order.sort_unstable();
    let mut ends: Vec<i64> = order.iter().map(|(_, until, ..)| *until).collect();
    ends.sort_unstable();
    let too_much = ends.len().checked_sub(HISTORY_ROWS_MAX + 1).and_then(|last| ends.get(last)).copied();
    let too_old = options.retention.map(|age| Timestamp::from_nanos(until).before(age).as_nanos());
    let forget = too_much.max(too_old);
    let mut kept = History { forgotten_until: old.forgotten_until, rows: Rows::default() };
    for (_, until, part, n) in order {
        if forget.is_some_and(|forget| until <= forget) {
            kept.forgotten_until = kept.forgotten_until.max(until);
        } else if let Some(rows) = parts.get(part) {
            kept.rows.take(rows, n..n + 1);
        }
    }
    let mut value = kept.forgotten_until.to_le_bytes().to_vec();
    value.extend_from_slice(&until.to_le_bytes());
    value.extend_from_slice(&chunk::encode(&kept.rows, options.codec)?);
    batch.put_columns(Table::BarHistory, row, &super::HISTORY_SCHEMA, &value)
}

/// Rows that were superseded, and the time before which some are forgotten.
pub(super) struct History {
    pub(super) forgotten_until: i64,
    pub(super) rows: Rows,
}

impl Default for History {
    fn default() -> Self {
        Self { forgotten_until: i64::MIN, rows: Rows::default() }
    }
}

pub(super) fn read_history(reader: &impl Reader, row: &[u8]) -> Result<Option<History>> {
    let Some((value, _)) = reader.get(Table::BarHistory, row)? else {
        return Ok(None);
    };
    open_history(row, &value).map(Some)
}

/// When a row of a chunk was last superseded.
fn last_change(reader: &impl Reader, row: &[u8]) -> Result<Option<i64>> {
    let Some((value, _)) = reader.get(Table::BarHistory, row)? else {
        return Ok(None);
    };
    Ok(Some(history_parts(row, &value)?.1))
}

/// Before when some rows are forgotten, when the last was superseded, and the chunk.
fn history_parts<'a>(row: &[u8], value: &'a [u8]) -> Result<(i64, i64, &'a [u8])> {
    let columns = sealed::open_columns(Table::BarHistory, row, value, &super::HISTORY_SCHEMA)?;
    let broken = || Error::corrupt("read bars", Table::Bars.describe(row), "the history is cut short");
    let (forgotten, columns) = columns.split_first_chunk().ok_or_else(broken)?;
    let (last, columns) = columns.split_first_chunk().ok_or_else(broken)?;
    Ok((i64::from_le_bytes(*forgotten), i64::from_le_bytes(*last), columns))
}

pub(super) fn open_history(row: &[u8], value: &[u8]) -> Result<History> {
    let (forgotten_until, _, columns) = history_parts(row, value)?;
    let rows = chunk::decode(columns).map_err(|err| err.about(Table::Bars.describe(row)))?;
    Ok(History { forgotten_until, rows })
}
