//! The bytes of stored values: slices in, slices out.
//!
//! Every value in the file except one fixed row is *sealed*: an [`envelope`] in front of a payload. What is in the
//! payload is said by the envelope's kind, schema and [`codec`]; that it is what was written is said by its hashes
//! ([`digest`]). Nothing here touches a file.

pub(crate) mod buffer;
pub(crate) mod codec;
#[cfg(feature = "market")]
pub(crate) mod columns;
pub(crate) mod digest;
pub(crate) mod envelope;
pub(crate) mod huge_pages;
pub(crate) mod parallel;
pub(crate) mod pool;
pub(crate) mod prefetch;
pub(crate) mod record;
pub(crate) mod schema;
