//! Chunks as the memory tier keeps them: verified, and decoded where somebody wanted the bars.

use std::sync::Arc;

use super::{
    SCHEMA,
    chunk::{self, Summary},
    key::SeriesId,
    read::{self, ChunkEntry, FieldColumn},
};
use crate::{
    engine::{Snapshot, Table, sealed},
    format::{parallel, record::PageChecksum},
    market::{
        bars::{
            bar::Field,
            columns::{Bars, Columns},
        },
        memory::Memory,
    },
    types::{
        error::Result,
        interval::Interval,
        limits::{CHUNK_ROWS_MAX, PARALLEL_ROWS_MIN},
    },
};

/// A chunk that was verified.
#[derive(Debug)]
struct Verified {
    summary: Summary,
    /// Its bars, if they were decoded.
    columns: Option<Arc<Columns>>,
}

impl Verified {
    fn bytes(&self) -> u64 {
        let columns = self.columns.as_ref().map_or(0, |columns| columns.bytes());
        (size_of::<Self>() + columns) as u64
    }
}

/// A chunk on its way: in memory, or as it lies in the file.
enum Part {
    Kept(Arc<Columns>),
    Stored { row: Vec<u8>, value: Vec<u8>, page: PageChecksum, rows: usize },
}

/// Returns the bars of `interval`. Bars of one chunk are a part of what memory keeps; those of several are put
/// together.
pub(crate) fn range(
    memory: &Memory,
    snapshot: &Snapshot,
    series: &SeriesId,
    interval: Interval<crate::types::time::Timestamp>,
) -> Result<Bars> {
    let mut parts = Vec::new();
    let mut rows = read::scan(snapshot, Table::Bars, series, interval);
    while let Some(part) = rows.next_with(|row, value, page| part_of(memory, row, value, snapshot.trusted(page))) {
        parts.push(part?);
    }
    let missing: usize = parts.iter().map(|part| if let Part::Stored { rows, .. } = part { *rows } else { 0 }).sum();
    let threads = if missing < PARALLEL_ROWS_MIN { 1 } else { parallel::threads_for(usize::MAX) };
    let is_new = parts.len() > 1 && is_read_first(memory, &parts);
    let decoded = match parts.len() {
        0 => return Ok(Bars::default()),
        _ if is_new && threads == 1 => return Ok(read::cut(at_once(&parts, missing)?.into(), interval)),
        _ => {
            let decode =
                |part| if is_new { decoded_of(part).map(|(_, columns)| columns) } else { columns_of(memory, part) };
            parallel::map(parts.iter(), threads, decode).into_iter().collect::<Result<Vec<_>>>()?
        }
    };
    if let [one] = decoded.as_slice() {
        return Ok(read::cut(Arc::clone(one).into(), interval));
    }
    let cut = |columns: &Columns| {
        let start = columns.at.partition_point(|at| *at < interval.start());
        start..columns.at.partition_point(|at| *at < interval.end()).max(start)
    };
    let mut all = Columns::with_capacity(decoded.iter().map(|columns| cut(columns).len()).sum());
    decoded.iter().for_each(|columns| all.extend(columns, cut(columns)));
    Ok(all.into())
}

/// Whether none of these chunks is in memory, and none was looked for before.
fn is_read_first(memory: &Memory, parts: &[Part]) -> bool {
    // Each of them is remembered.
    let known = parts.iter().filter(|part| match part {
        Part::Kept(_) => true,
        Part::Stored { row, value, .. } => memory.was_missed(row, value),
    });
    known.count() == 0
}

/// Decodes chunks one behind the other, and keeps nothing: that would be another copy.
fn at_once(parts: &[Part], rows: usize) -> Result<Columns> {
    let mut all = Columns::with_capacity(rows.min(parts.len().saturating_mul(CHUNK_ROWS_MAX)));
    for part in parts {
        if let Part::Stored { row, value, page, .. } = part {
            let bytes = sealed::open_columns_of(*page, Table::Bars, row, value, &SCHEMA)?;
            chunk::append(bytes, &mut all).map_err(|err| read::about(err, row))?;
        }
    }
    Ok(all)
}

fn part_of(memory: &Memory, row: &[u8], value: &[u8], page: PageChecksum) -> Part {
    let kept = memory.get_as(Table::Bars, row, value, |verified: &Arc<Verified>| verified.columns.clone());
    kept.map_or_else(
        || {
            // Not verified yet: it decides on nothing but the number of threads.
            let summary = sealed::unverified_columns(value).and_then(|columns| chunk::summary(columns).ok());
            Part::Stored { row: row.to_vec(), value: value.to_vec(), page, rows: summary.map_or(0, |chunk| chunk.rows) }
        },
        Part::Kept,
    )
}

/// The bars of a chunk; memory keeps them.
fn columns_of(memory: &Memory, part: &Part) -> Result<Arc<Columns>> {
    let (summary, columns) = decoded_of(part)?;
    if let (Part::Stored { row, value, .. }, Some(summary)) = (part, summary) {
        let verified = Arc::new(Verified { summary, columns: Some(Arc::clone(&columns)) });
        memory.admit(Table::Bars, row, value, verified.bytes(), &verified);
    }
    Ok(columns)
}

/// The bars of a chunk, with its summary if it had to be decoded.
fn decoded_of(part: &Part) -> Result<(Option<Summary>, Arc<Columns>)> {
    let (row, value, page) = match part {
        Part::Kept(columns) => return Ok((None, Arc::clone(columns))),
        Part::Stored { row, value, page, .. } => (row, value, *page),
    };
    let bytes = sealed::open_columns_of(page, Table::Bars, row, value, &SCHEMA)?;
    let summary = chunk::summary(bytes).map_err(|err| read::about(err, row))?;
    let mut columns = Columns::with_capacity(summary.rows);
    chunk::append(bytes, &mut columns).map_err(|err| read::about(err, row))?;
    Ok((Some(summary), Arc::new(columns)))
}

/// Returns one column of the bars of `interval`: from memory, or decoding only what it needs.
pub(crate) fn field(
    memory: &Memory,
    snapshot: &Snapshot,
    series: &SeriesId,
    interval: Interval<crate::types::time::Timestamp>,
    field: Field,
) -> Result<FieldColumn> {
    let mut parts = Vec::new();
    let mut rows = read::scan(snapshot, Table::Bars, series, interval);
    while let Some(part) = rows.next_sealed(|row, value| {
        memory.get_as(Table::Bars, row, value, |verified: &Arc<Verified>| verified.columns.clone())
    }) {
        match part? {
            Some(columns) => parts.push(Bars::from(columns)),
            None => return read::field(snapshot, series, interval, field),
        }
    }
    let (mut at, mut values) = (Vec::new(), Vec::new());
    for part in parts {
        let part = read::cut(part, interval);
        at.extend_from_slice(part.timestamps());
        values.extend_from_slice(part.column(field));
    }
    Ok((at, values))
}

/// The chunks of the periods that `interval` touches.
pub(crate) fn chunks(
    memory: &Memory,
    snapshot: &Snapshot,
    series: &SeriesId,
    interval: Interval<crate::types::time::Timestamp>,
) -> Result<Vec<ChunkEntry>> {
    let mut chunks = Vec::new();
    let mut rows = read::scan(snapshot, Table::Bars, series, interval);
    while let Some(found) = rows.next_with(|row, value, page| {
        let (_, period) = SeriesId::of_row(row)?;
        let kept = memory.get::<Verified>(Table::Bars, row, value);
        let summary = match kept {
            Some(verified) => verified.summary,
            None => {
                let bytes = sealed::open_columns_of(snapshot.trusted(page), Table::Bars, row, value, &SCHEMA)?;
                let summary = chunk::summary(bytes).map_err(|err| read::about(err, row))?;
                let verified = Arc::new(Verified { summary, columns: None });
                memory.admit(Table::Bars, row, value, verified.bytes(), &verified);
                summary
            }
        };
        Ok(ChunkEntry { period, rows: summary.rows, hash: summary.hash })
    }) {
        chunks.push(found??);
    }
    Ok(chunks)
}
