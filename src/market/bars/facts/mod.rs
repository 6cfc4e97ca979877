//! Facts of a series of bars: how many there are, from when to when, the last close, and which rows changed when.
//!
//! One sealed row per series, written in the transaction that changes its bars, so that a list of series decodes no
//! bars. The row under [`record::HEAD`] counts the changes of all series and says which writers made them.
//!
//! Facts never say more than the chunks: a series without a row (of an older file), with a damaged one, or with one
//! that a write could not make good, is computed from its chunks when it is asked about, and so are all series of a
//! file that lost rows to damage.

pub(crate) mod changes;
pub(crate) mod filter;
pub(crate) mod list;
mod log;
pub(crate) mod record;
pub(crate) mod update;
