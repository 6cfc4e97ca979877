//! Archives that are held where they lie in the file.
//!
//! The file is mapped ([`map`]), an archive that is in use has a [`Lease`], and the registry ([`pins`]) sees to it that
//! the bytes under a lease never change: every place is covered by a pin, the newest that will do, or has memory of its
//! own.

mod lease;
mod map;
#[cfg_attr(not(unix), path = "memory_elsewhere.rs")]
mod memory;
pub(super) mod pins;

pub(crate) use lease::Lease;
pub(super) use map::{Map, MappedRange};
pub(super) use pins::{Commit, Location, PinRegistry, Seen};

#[cfg(test)]
mod tests;
