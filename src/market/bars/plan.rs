//! What a write makes of one series, before it is in the transaction: sealed rows, and what became of each chunk.
//!
//! A plan reads one state and writes nothing, so that several threads can plan the series of one transaction.

use std::{cell::RefCell, collections::BTreeMap};

use super::{columns::Columns, key::SeriesId};
use crate::{
    engine::{Batch, Reader, Snapshot, Table, sealed},
    format::{record::PageChecksum, schema::Schema},
    types::{error::Result, interval::Interval, time::Timestamp},
};

/// Series that are planned before any of them is written: what they came to is in memory at a time.
pub(crate) const PLANNED_MAX: usize = 512;

/// Rows that a write puts or removes, in order, and what it knows of the chunks that it touched.
pub(crate) struct Plan<'a, R> {
    reader: &'a R,
    before: &'a Snapshot,
    rows: RefCell<Vec<PlannedRow>>,
    chunks: RefCell<BTreeMap<i64, ChunkChange>>,
}

/// A row of the table of bars or of their history: its sealed value, or `None` to remove it.
type PlannedRow = (Table, Vec<u8>, Option<Vec<u8>>);

/// The first or the last bar of a chunk, as far as facts name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) at: Timestamp,
    pub(crate) close: f64,
    pub(crate) volume: f64,
}

impl PartialEq for Edge {
    /// By bits: a NaN that was kept equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |edge: &Self| (edge.at, edge.close.to_bits(), edge.volume.to_bits());
        bits(self) == bits(other)
    }
}

/// What became of one chunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChunkChange {
    /// Bars before and after.
    pub(crate) bars: (u64, u64),
    /// Bytes of the row before and after, its key and seal included; 0 where there is none.
    pub(crate) bytes: (u64, u64),
    /// The first and the last bar after the write; `None` when no bar is left.
    pub(crate) edges: Option<(Edge, Edge)>,
    /// From the first row that changed to the end of the last one; `None` when none did.
    pub(crate) changed: Option<Interval<Timestamp>>,
    /// Whether the first and the last row of the chunk are among those that changed.
    pub(crate) reaches: (bool, bool),
    /// It could not be read, so that nobody can say what it held.
    pub(crate) was_damaged: bool,
}

/// What a plan came to.
#[derive(Debug)]
pub(crate) struct Planned {
    rows: Vec<PlannedRow>,
    /// By period, those alone that changed, or were encoded anew.
    pub(crate) chunks: BTreeMap<i64, ChunkChange>,
}

impl<'a, R: Reader> Plan<'a, R> {
    /// A plan for what `reader` reads, in a transaction that began with the state `before`.
    pub(crate) fn new(reader: &'a R, before: &'a Snapshot) -> Self {
        Self { reader, before, rows: RefCell::default(), chunks: RefCell::default() }
    }

    /// The state that the transaction began with.
    pub(crate) fn before(&self) -> &Snapshot {
        self.before
    }

    /// Puts sealed columns.
    pub(crate) fn put_columns(&self, table: Table, key: &[u8], schema: &Schema, columns: &[u8]) -> Result<()> {
        let value = sealed::seal_columns(table, key, schema, columns);
        self.note_bytes(table, key, |chunk, bytes| chunk.bytes.1 = bytes, Some(&value))?;
        self.rows.borrow_mut().push((table, key.to_vec(), Some(value)));
        Ok(())
    }

    /// Removes a row.
    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<()> {
        self.note_bytes(table, key, |chunk, bytes| chunk.bytes.1 = bytes, None)?;
        self.rows.borrow_mut().push((table, key.to_vec(), None));
        Ok(())
    }

    /// Says that the chunk of a period could not be read and goes as a whole.
    pub(crate) fn note_damaged(&self, series: &SeriesId, period: i64) {
        let (start, end) = series.period().span(period);
        let mut chunks = self.chunks.borrow_mut();
        let chunk = chunks.entry(period).or_default();
        chunk.was_damaged = true;
        chunk.changed = Some(Interval::between(start, end));
        chunk.reaches = (true, true);
    }

    /// Says what the chunk of a period held, and what it will hold.
    pub(crate) fn note_chunk(&self, series: &SeriesId, period: i64, before: &Columns, after: &Columns) {
        let mut chunks = self.chunks.borrow_mut();
        let chunk = chunks.entry(period).or_default();
        // A chunk that is changed, and brought to rest in the same transaction, held what it held before the first of
        // both.
        let held = if chunk.edges.is_some() { chunk.bars.0 } else { before.len() as u64 };
        chunk.bars = (held, after.len() as u64);
        let edge = |row: Option<usize>| {
            let bar = after.bar(row?)?;
            Some(Edge { at: bar.at, close: bar.close, volume: bar.volume })
        };
        chunk.edges = edge(Some(0)).zip(edge(after.len().checked_sub(1)));
        if chunk.was_damaged {
            return;
        }
        if let Some((changed, reaches)) = difference(before, after) {
            let (start, last) = changed;
            chunk.changed = Some(Interval::between(start, last.after(series.timeframe.duration())));
            chunk.reaches = reaches;
        }
    }

    /// What it came to.
    pub(crate) fn finish(self) -> Planned {
        let mut chunks = self.chunks.into_inner();
        chunks.retain(|_, chunk| chunk.changed.is_some() || chunk.bytes.0 != chunk.bytes.1);
        Planned { rows: self.rows.into_inner(), chunks }
    }

    fn note_bytes(
        &self,
        table: Table,
        key: &[u8],
        note: impl FnOnce(&mut ChunkChange, u64),
        value: Option<&Vec<u8>>,
    ) -> Result<()> {
        if table == Table::Bars {
            let (_, period) = SeriesId::of_row(key)?;
            let bytes = value.map_or(0, |value| (key.len() + value.len()) as u64);
            note(self.chunks.borrow_mut().entry(period).or_default(), bytes);
        }
        Ok(())
    }
}

impl<R: Reader> Reader for Plan<'_, R> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, PageChecksum)>> {
        // What the plan put there already counts.
        let rows = self.rows.borrow();
        if let Some((_, _, planned)) = rows.iter().rev().find(|(of, row, _)| *of == table && row == key) {
            return Ok(planned.clone().map(|value| (value, PageChecksum::Unverified)));
        }
        drop(rows);
        let found = self.reader.get(table, key)?;
        self.note_bytes(
            table,
            key,
            |chunk, bytes| chunk.bytes = (bytes, bytes),
            found.as_ref().map(|(value, _)| value),
        )?;
        Ok(found)
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.reader.prefix(table, prefix)
    }

    fn keys(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.reader.keys(table, prefix)
    }
}

impl Planned {
    /// Whether anything is to be written.
    pub(crate) fn changes(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Writes the rows into a transaction.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<()> {
        for (table, key, value) in self.rows.drain(..) {
            match value {
                Some(value) => batch.put(table, &key, &value)?,
                None => drop(batch.remove(table, &key)?),
            }
        }
        Ok(())
    }
}

/// When the first and the last row begin that are in one of the two and not, bit for bit, in the other; and whether
/// they are the first and the last of all. `None` when the two are the same.
#[allow(clippy::type_complexity, reason = "two pairs that are taken apart where it is called")]
fn difference(before: &Columns, after: &Columns) -> Option<((Timestamp, Timestamp), (bool, bool))> {
    let same = |a: usize, b: usize| before.at.get(a) == after.at.get(b) && before.same(a, after, b);
    let shorter = before.len().min(after.len());
    let front = (0..shorter).take_while(|row| same(*row, *row)).count();
    if front == before.len() && front == after.len() {
        return None;
    }
    let (ends_before, ends_after) = (before.len() - front, after.len() - front);
    let back = (1..=ends_before.min(ends_after)).take_while(|row| same(before.len() - row, after.len() - row)).count();
    let first = [before.at.get(front..before.len() - back), after.at.get(front..after.len() - back)];
    let (mut start, mut last): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    for rows in first.into_iter().flatten() {
        start = [start, rows.first().copied()].into_iter().flatten().min();
        last = last.max(rows.last().copied());
    }
    Some(((start?, last?), (front == 0, back == 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bars::{bar::Bar, bar::Flaws};

    fn columns(rows: &[(i64, f64)]) -> Columns {
        let mut columns = Columns::default();
        for (at, close) in rows {
            let at = Timestamp::from_nanos(*at);
            columns.push(&Bar { at, open: 1.0, high: 3.0, low: 0.5, close: *close, volume: 7.0 }, Flaws::NONE);
        }
        columns
    }

    #[test]
    fn the_difference_is_from_the_first_to_the_last_row_that_differs() {
        let found = |before: &[(i64, f64)], after: &[(i64, f64)]| {
            difference(&columns(before), &columns(after)).map(|((a, b), reaches)| (a.as_nanos(), b.as_nanos(), reaches))
        };
        let three = [(1, 1.0), (2, 1.0), (3, 1.0)];
        assert_eq!(found(&three, &three), None);
        assert_eq!(found(&[], &three), Some((1, 3, (true, true))));
        assert_eq!(found(&three, &[]), Some((1, 3, (true, true))));
        assert_eq!(found(&three, &[(1, 1.0), (2, 2.0), (3, 1.0)]), Some((2, 2, (false, false))));
        assert_eq!(found(&three, &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]), Some((4, 4, (false, true))));
        assert_eq!(found(&three, &[(1, 1.0), (3, 1.0)]), Some((2, 2, (false, false))));
        assert_eq!(found(&[(2, 1.0), (3, 1.0)], &[(1, 1.0), (2, 1.0), (4, 1.0)]), Some((1, 4, (true, true))));
    }
}
