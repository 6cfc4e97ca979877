//! In which form a chunk is written: packed while it grows, and at rest in the form that suits its content.
//!
//! A chunk that holds the newest bars of its series is written anew whenever bars are appended, so it is packed, which
//! takes a fraction of pco's time. It comes to rest when the next period begins, or when one write brings most of it,
//! as an import does. Chunks of older periods change rarely and are at rest whatever is changed.

use super::{
    SCHEMA,
    chunk::{self, Rows},
    key::SeriesId,
    plan::Plan,
    read,
    write::{self, WriteOptions},
};
use crate::{
    engine::{Reader, Table},
    format::columns::ints::IntCodec,
    types::{
        error::{Result, unless_corrupt},
        time::Timestamp,
    },
};

/// Below a day, a chunk at rest takes pco if it would be larger packed by more than this: pco reads at a third of the
/// speed. Dense minutes of liquid stocks would gain 15 to 30 percent and stay packed; minutes with gaps gain half.
const PACKED_PER_PCO_MAX: Ratio = Ratio { of: 4, to: 3 };
/// What a sample has to promise before pco is tried on all of a chunk. Less, because pco describes each column anew.
const SAMPLE_PER_PCO_MIN: Ratio = Ratio { of: 6, to: 5 };
/// Rows of a sample, from the middle of a chunk; a chunk of fewer than twice as many is its own sample.
const SAMPLE_ROWS: usize = 1024;

/// One number of bytes over another.
#[derive(Clone, Copy)]
struct Ratio {
    of: usize,
    to: usize,
}

impl Ratio {
    /// Whether `bytes` are more than this times `other`.
    fn is_exceeded(self, bytes: usize, other: usize) -> bool {
        bytes * self.to > other * self.of
    }
}

/// Which columns of a chunk take which codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkCodec {
    /// The same for all of them, always.
    Fixed(IntCodec),
    /// Packed while the chunk grows. At rest each column in its shorter form; below a day only if the whole chunk is
    /// shorter by enough.
    Auto { is_daily: bool },
}

/// What a write does to a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Rows that were stored before.
    pub(super) stored_rows: usize,
    /// Rows that the write brings.
    pub(super) incoming_rows: usize,
}

/// Returns the bytes of a chunk that is written to the row of period `index`.
pub(super) fn encode(
    plan: &Plan<'_, impl Reader>,
    series: &SeriesId,
    index: i64,
    rows: &Rows,
    growth: Growth,
    codec: ChunkCodec,
) -> Result<Vec<u8>> {
    let is_daily = match codec {
        ChunkCodec::Fixed(codec) => return chunk::encode(rows, codec),
        ChunkCodec::Auto { is_daily } => is_daily,
    };
    let is_part = growth.stored_rows > growth.incoming_rows;
    if is_part && !has_from(plan, series, index.saturating_add(1))? {
        return chunk::encode(rows, IntCodec::Packed);
    }
    at_rest(rows, is_daily)
}

/// Brings the chunk that was the newest one to rest, if this write began a later period with its last bar.
pub(super) fn settle(
    plan: &Plan<'_, impl Reader>,
    series: &SeriesId,
    last: Timestamp,
    options: WriteOptions,
) -> Result<()> {
    let ChunkCodec::Auto { is_daily } = options.codec else {
        return Ok(());
    };
    // Nearly every write ends here: it goes on with a period that there is.
    if has_from(plan, series, series.period().index(last))? {
        return Ok(());
    }
    // A chunk that cannot be read stays as it is: what is written now does not depend on it.
    let Some(newest) = unless_corrupt(read::last_period(plan.before(), series))?.flatten() else {
        return Ok(());
    };
    let row = series.row(newest);
    let Some(rows) = unless_corrupt(write::read(plan, Table::Bars, &row))?.flatten() else {
        return Ok(());
    };
    let bytes = at_rest(&rows, is_daily)?;
    if bytes.len() < chunk::encode(&rows, IntCodec::Packed)?.len() {
        plan.note_chunk(series, newest, &rows.bars, &rows.bars);
        plan.put_columns(Table::Bars, &row, &SCHEMA, &bytes)?;
    }
    Ok(())
}

/// Whether the series had a chunk of the period `index`, or of a later one, before this transaction. Where a page is
/// damaged it counts as there.
fn has_from(plan: &Plan<'_, impl Reader>, series: &SeriesId, index: i64) -> Result<bool> {
    let mut rows = plan.before().scan_between(Table::Bars, &series.row(index), Some(series.row(i64::MAX)));
    let found = unless_corrupt(rows.next_sealed(|_, _| ()).transpose())?;
    Ok(found.is_none_or(|row| row.is_some()))
}

fn at_rest(rows: &Rows, is_daily: bool) -> Result<Vec<u8>> {
    if is_daily {
        return chunk::encode(rows, IntCodec::Shorter);
    }
    if let Some(sample) = sample(rows) {
        let packed_bytes = chunk::encode(&sample, IntCodec::Packed)?.len();
        let other_bytes = chunk::encode(&sample, IntCodec::Shorter)?.len();
        if !SAMPLE_PER_PCO_MIN.is_exceeded(packed_bytes, other_bytes) {
            return chunk::encode(rows, IntCodec::Packed);
        }
    }
    let packed = chunk::encode(rows, IntCodec::Packed)?;
    let other = chunk::encode(rows, IntCodec::Shorter)?;
    Ok(if PACKED_PER_PCO_MAX.is_exceeded(packed.len(), other.len()) { other } else { packed })
}

/// Rows from the middle of a chunk, unless it has so few that all of them may as well be tried.
fn sample(rows: &Rows) -> Option<Rows> {
    let len = rows.bars.len();
    let start = len.checked_sub(2 * SAMPLE_ROWS)? / 2 + SAMPLE_ROWS / 2;
    let mut sample = Rows::default();
    sample.take(rows, start..start + SAMPLE_ROWS);
    Some(sample)
}
