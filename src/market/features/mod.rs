//! Features in the file: columns that were computed from bars, and what they were computed from.
//!
//! Features are stored in the same periods as the bars that they belong to, in segments: months, or what is shorter.
//! Each segment knows a hash of all the bars that it depends on, its own and those that its lookback reaches. A segment
//! whose hash is what it was is not computed again.

mod as_of;
pub(crate) mod compute;
pub(crate) mod plan;
pub(crate) mod spec;
pub(crate) mod stored;
pub(crate) mod table;
