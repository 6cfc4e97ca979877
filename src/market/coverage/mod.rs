//! What is known of which stretch of a series: the ledger, what an answer says about it, and both in the file.

pub(crate) mod classify;
pub(crate) mod covered;
pub(crate) mod grid;
pub(crate) mod ledger;
pub(crate) mod stored;
pub(crate) mod windows;
mod written;

pub(crate) use stored::{CalendarId, CoverageRecord, calendar_of, read, write};

use crate::{
    engine::Reader,
    types::{error::Result, time::Timestamp},
};

/// The end of the last stretch that the ledger under `key` knows to be stored.
pub(crate) fn covered_until(reader: &impl Reader, key: &[u8]) -> Result<Option<Timestamp>> {
    let record = read(reader, key)?;
    let stored = record.ledger.stretches().iter().rev().find(|span| span.coverage.is_stored());
    Ok(stored.map(|span| span.interval.end()))
}
