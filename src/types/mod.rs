//! The vocabulary of every layer: no I/O, no redb, no rkyv.

pub(crate) mod clock;
pub(crate) mod error;
pub(crate) mod field_change;
pub(crate) mod hash;
pub(crate) mod interval;
pub(crate) mod invariant;
pub(crate) mod key;
pub(crate) mod level_range;
pub(crate) mod limits;
pub(crate) mod rescaled;
pub(crate) mod row_changes;
pub(crate) mod time;
pub(crate) mod version;
