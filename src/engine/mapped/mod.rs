//! The store's file read in place: a map of it, and a walk through redb's documented format.
//!
//! redb reads a value into a buffer of its own; for a large archive that costs milliseconds where a map costs
//! microseconds. So reads do not go through redb: a [`View`] is one commit, found by reading the header
//! ([`header`]), walked page by page ([`tree`], [`page`]) in the map ([`map`]). Nothing here panics, loops for ever or
//! reads outside the file, whatever the file holds.
//!
//! What makes it sound is the pin: while redb's read transaction lives, no page that its commit or a later one reaches
//! is written to. A view holds one. An archive that is in use holds a [`Lease`], and the [`Eras`] see to it that every
//! lease is covered by a pin, the newest that will do. A file that is opened for reading only needs no pin: it is
//! locked, and nobody writes.

mod bytes;
mod eras;
pub(super) mod header;
mod lease;
mod map;
mod page;
mod tables;
mod tree;
mod view;

pub(crate) use eras::Eras;
pub(super) use header::{HEADER_BYTES, Header};
pub(crate) use lease::Lease;
pub(crate) use view::{Alive, MappedScan, MappedValue, View};

use crate::error::Error;

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

impl Broken {
    /// The error for it, in words of the operation and the table.
    pub(super) fn error(self, operation: &'static str, subject: &str) -> Error {
        Error::corrupt(operation, subject, format!("the file's own structure is broken: {}", self.0))
    }
}

#[cfg(test)]
mod tests;
