//! Chunks of features.

use std::sync::Arc;

use super::plan::Segment;
use crate::{
    engine::{Batch, Reader, Table, sealed},
    format::{
        columns::{
            Bytes, floats,
            frame::{Frame, FrameWriter},
            ints::{self, IntCodec},
        },
        schema::Schema,
    },
    market::memory::Memory,
    types::{
        error::{Error, Result},
        hash::Digest,
        key::{Symbol, row::RowKey},
        time::Timestamp,
    },
};

const SCHEMA: Schema = Schema::new("modelkeep.features", 1);

const HEAD: u8 = 0;
const TIME: u8 = 1;
const VALUES: u8 = 2;

/// Features of one period.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    /// The hash of the bars of the period, when this was written.
    pub(crate) bars: Option<Digest>,
    /// The hash of the bars before it that it depends on.
    pub(crate) before: Option<Digest>,
    /// The segments that are there, in order; their rows are counted from the first row of the chunk.
    pub(crate) segments: Vec<Segment>,
    pub(crate) at: Vec<Timestamp>,
    /// `[d][n]`.
    pub(crate) columns: Vec<Vec<f64>>,
}

/// The key of the row of one period.
pub(crate) fn row_key(symbol: &Symbol, fingerprint: Digest, period: i64) -> Vec<u8> {
    fields(symbol, fingerprint).i64(period).into_bytes()
}

fn prefix(symbol: &Symbol, fingerprint: Digest) -> Vec<u8> {
    fields(symbol, fingerprint).into_bytes()
}

fn fields(symbol: &Symbol, fingerprint: Digest) -> RowKey {
    RowKey::new().text(symbol.as_str()).hash(fingerprint.as_bytes())
}

/// Reads the chunk under `row`, of `width` columns.
pub(crate) fn read(memory: &Memory, reader: &impl Reader, row: &[u8], width: usize) -> Result<Option<Arc<Chunk>>> {
    let Some((value, _)) = reader.get(Table::Features, row)? else {
        return Ok(None);
    };
    // Which columns there are is part of the row's key.
    if let Some(chunk) = memory.get::<Chunk>(Table::Features, row, &value) {
        return Ok(Some(chunk));
    }
    let bytes = sealed::open_columns(Table::Features, row, &value, &SCHEMA)?;
    let chunk = Arc::new(decode(bytes, width).map_err(|err| err.about(Table::Features.describe(row)))?);
    memory.admit(Table::Features, row, &value, chunk.bytes(), &chunk);
    Ok(Some(chunk))
}

impl Chunk {
    /// Bytes that it takes up in memory.
    fn bytes(&self) -> u64 {
        let values: usize = self.columns.iter().map(|column| column.capacity() * size_of::<f64>()).sum();
        let segments = self.segments.capacity() * size_of::<Segment>();
        (size_of::<Self>() + self.at.capacity() * size_of::<Timestamp>() + values + segments) as u64
    }
}

/// Writes a chunk.
pub(crate) fn write(batch: &Batch, row: &[u8], chunk: &Chunk) -> Result<()> {
    batch.put_columns(Table::Features, row, &SCHEMA, &encode(chunk)?)
}

/// Removes all chunks of these features; returns the bytes of keys and values.
pub(crate) fn remove(batch: &Batch, symbol: &Symbol, fingerprint: Digest) -> Result<u64> {
    let rows = batch.keys(Table::Features, &prefix(symbol, fingerprint))?;
    rows.iter().map(|row| batch.remove(Table::Features, row)).sum()
}

fn encode(chunk: &Chunk) -> Result<Vec<u8>> {
    let mut frame = FrameWriter::new(chunk.at.len())?;
    let mut head = Vec::new();
    for hash in [chunk.bars, chunk.before] {
        head.extend_from_slice(hash.unwrap_or(Digest::from_bytes([0; 32])).as_bytes());
    }
    for segment in &chunk.segments {
        head.extend_from_slice(&segment.index.to_le_bytes());
        head.extend_from_slice(&(segment.rows.len() as u64).to_le_bytes());
        head.extend_from_slice(segment.depends_on.as_bytes());
    }
    frame.column(HEAD, head);
    // Differences, because steps between bars repeat.
    let mut before = 0;
    let steps: Vec<i64> = chunk
        .at
        .iter()
        .map(|at| {
            let step = at.as_nanos().wrapping_sub(before);
            before = at.as_nanos();
            step
        })
        .collect();
    let mut time = Vec::new();
    ints::encode(&steps, IntCodec::Pco, &mut time)?;
    frame.column(TIME, time);
    let mut values = Vec::new();
    for column in &chunk.columns {
        let mut bytes = Vec::new();
        floats::encode(column, &mut bytes);
        values.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        values.extend_from_slice(&bytes);
    }
    frame.column(VALUES, values);
    frame.finish()
}

fn decode(bytes: &[u8], width: usize) -> Result<Chunk> {
    let broken = |message: &str| Error::corrupt("decode features", "chunk", message);
    let frame = Frame::parse(bytes)?;
    let mut head = Bytes(frame.column(HEAD)?);
    let mut chunk = Chunk {
        bars: Some(Digest::from_bytes(head.take()?)),
        before: Some(Digest::from_bytes(head.take()?)),
        ..Chunk::default()
    };
    let mut row = 0;
    while !head.0.is_empty() {
        let index = head.i64()?;
        let rows = usize::try_from(head.u64()?).ok().filter(|rows| *rows <= frame.rows - row);
        let end = row + rows.ok_or_else(|| broken("its segments do not add up"))?;
        chunk.segments.push(Segment { index, rows: row..end, depends_on: Digest::from_bytes(head.take()?) });
        row = end;
    }
    if row != frame.rows {
        return Err(broken("its segments do not add up"));
    }
    let mut at = 0_i64;
    chunk.at = ints::decode(frame.column(TIME)?, frame.rows)?
        .into_iter()
        .map(|step| {
            at = at.wrapping_add(step);
            Timestamp::from_nanos(at)
        })
        .collect();
    let mut values = Bytes(frame.column(VALUES)?);
    for _ in 0..width {
        let len = usize::try_from(values.u64()?).unwrap_or(usize::MAX);
        let mut column = Vec::with_capacity(frame.rows);
        floats::decode(values.slice(len)?, frame.rows, &mut column)?;
        chunk.columns.push(column);
    }
    if values.0.is_empty() { Ok(chunk) } else { Err(broken("bytes follow the last column")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_survives_its_bytes() {
        let hash = |n: u8| Digest::from_bytes([n; 32]);
        let chunk = Chunk {
            bars: Some(hash(1)),
            before: Some(hash(2)),
            segments: vec![
                Segment { index: 7, rows: 0..2, depends_on: hash(3) },
                Segment { index: 9, rows: 2..3, depends_on: hash(4) },
            ],
            at: [5, 9, 30].map(Timestamp::from_nanos).to_vec(),
            columns: vec![vec![f64::NAN, 1.0, -0.0], vec![1.0 / 3.0, 2.5, 1e-300]],
        };
        let bytes = encode(&chunk).unwrap();
        let back = decode(&bytes, 2).unwrap();
        assert_eq!(
            (back.bars, back.before, &back.segments, &back.at),
            (chunk.bars, chunk.before, &chunk.segments, &chunk.at)
        );
        let bits = |columns: &[Vec<f64>]| columns.iter().flatten().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.columns), bits(&chunk.columns));
        assert!(decode(&bytes, 1).is_err());
        assert!(decode(&bytes, 3).is_err());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 2).is_err(), "cut at {cut}");
        }
    }
}
