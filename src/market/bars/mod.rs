//! Bars in the file: chunks of columns per series and period, and beside them what they were before.

pub(crate) mod aggregate;
pub(crate) mod bar;
pub(crate) mod chunk;
pub(crate) mod columns;
pub(crate) mod csv;
pub(crate) mod decoded;
pub(crate) mod facts;
pub(crate) mod gaps;
mod history;
pub(crate) mod key;
pub(crate) mod known;
pub(crate) mod many;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod resample;
pub(crate) mod rescaled;
pub(crate) mod rest;
pub(crate) mod scan;
pub(crate) mod series;
pub(crate) mod stream;
pub(crate) mod validate;
pub(crate) mod write;

use crate::format::schema::Schema;

/// A chunk of bars: what [`chunk`] describes.
const SCHEMA: Schema = Schema::new("modelkeep.bars", 1);

/// A chunk of superseded bars: eight bytes that say before when some are forgotten, eight that say when the last was
/// superseded, and a chunk.
const HISTORY_SCHEMA: Schema = Schema::new("modelkeep.bar_history", 1);
