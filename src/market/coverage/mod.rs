//! What is known of which stretch of a series: the ledger, what an answer says about it, and both in the file.

pub(crate) mod classify;
pub(crate) mod covered;
pub(crate) mod grid;
pub(crate) mod ledger;
pub(crate) mod stored;
pub(crate) mod windows;

pub(crate) use stored::{CalendarId, CoverageRecord, calendar_of, read, write};
