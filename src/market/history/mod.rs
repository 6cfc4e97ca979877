//! What was known of a row, and when.
//!
//! A row has versions: each was current from when it was recorded until another one took its place, or it was deleted.
//! Versions of one row never overlap, so that whatever time one asks for has one answer. Which rows there are is no
//! concern of this room: bars and levels both keep their history by it.

mod knowledge;
mod timeline;

pub use knowledge::KnownAt;
pub(crate) use knowledge::UNRECORDED;
pub(crate) use timeline::{CURRENT, Noted, Timeline, Version};
