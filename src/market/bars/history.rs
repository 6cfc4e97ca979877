//! Bars that were superseded or deleted, beside the chunk that they were in.
//!
//! A row of history is the time before which some of it is forgotten, the time of its newest row (which releases before
//! read), and a chunk whose rows also say until when they were current. They are in order of time, and rows with the
//! same timestamp in order of when they were current.

use super::{
    chunk::{self, Rows},
    plan::Plan,
    write::WriteOptions,
};
use crate::{
    engine::{Reader, Table, sealed},
    types::{
        error::{Error, Result},
        limits::HISTORY_ROWS_MAX,
    },
};

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

impl History {
    /// The rows with one timestamp.
    pub(super) fn versions_of(&self, at: crate::types::time::Timestamp) -> std::ops::Range<usize> {
        let all = &self.rows.bars.at;
        all.partition_point(|other| *other < at)..all.partition_point(|other| *other <= at)
    }

    /// Lets go of what is older than the retention, and of the oldest where it is too much.
    fn forget(&mut self, options: WriteOptions) {
        let mut ends = self.rows.superseded_at.clone();
        ends.sort_unstable();
        let too_much = ends.len().checked_sub(HISTORY_ROWS_MAX + 1).and_then(|last| ends.get(last)).copied();
        let too_old = options.retention.map(|age| options.now.before(age).as_nanos());
        let Some(forget) = too_much.max(too_old) else { return };
        let mut kept = Rows::default();
        for (row, until) in self.rows.superseded_at.iter().enumerate() {
            if *until <= forget {
                self.forgotten_until = self.forgotten_until.max(*until);
            } else {
                kept.take(&self.rows, row..row + 1);
            }
        }
        self.rows = kept;
    }
}

pub(super) fn read(reader: &impl Reader, row: &[u8]) -> Result<Option<History>> {
    let Some((value, _)) = reader.get(Table::BarHistory, row)? else {
        return Ok(None);
    };
    open(row, &value).map(Some)
}

pub(super) fn open(row: &[u8], value: &[u8]) -> Result<History> {
    let columns = sealed::open_columns(Table::BarHistory, row, value, &super::HISTORY_SCHEMA)?;
    let broken = || Error::corrupt("read bars", Table::Bars.describe(row), "the history is cut short");
    let (forgotten, columns) = columns.split_first_chunk().ok_or_else(broken)?;
    let (_newest, columns) = columns.split_first_chunk::<8>().ok_or_else(broken)?;
    let rows = chunk::decode(columns).map_err(|err| err.about(Table::Bars.describe(row)))?;
    Ok(History { forgotten_until: i64::from_le_bytes(*forgotten), rows })
}

/// Writes the history of a chunk, as far as it is kept.
pub(super) fn write(
    plan: &Plan<'_, impl Reader>,
    row: &[u8],
    mut history: History,
    options: WriteOptions,
) -> Result<()> {
    history.forget(options);
    if history.rows.bars.at.is_empty() && history.forgotten_until == i64::MIN {
        return plan.remove(Table::BarHistory, row);
    }
    let newest = history.rows.superseded_at.iter().copied().max().unwrap_or(history.forgotten_until);
    let mut value = history.forgotten_until.to_le_bytes().to_vec();
    value.extend_from_slice(&newest.to_le_bytes());
    value.extend_from_slice(&chunk::encode(&history.rows, options.history_codec)?);
    plan.put_columns(Table::BarHistory, row, &super::HISTORY_SCHEMA, &value)
}
