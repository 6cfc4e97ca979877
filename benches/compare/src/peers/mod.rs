//! The peers that keep bytes in files: each can be made, written durably, and read.
//!
//! Every file holds the same few calls, so that a measurement can treat its peers alike. None knows what it stores.

pub mod fjall;
pub mod heed;
pub mod mapped;
pub mod ours;
pub mod redb;

/// The key of the one value in a file of a cold or publish measurement.
pub const KEY: &str = "bench";
