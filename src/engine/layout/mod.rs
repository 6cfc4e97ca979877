//! The layout of redb's file, read without redb.
//!
//! redb reads a value into a buffer of its own and checks none of its checksums. Reads of a store therefore do not go
//! through redb: the header names the trees of a commit ([`header`]), and they are walked page by page ([`tables`],
//! [`tree`], [`cursor`], [`difference`], [`page`]). Pages come from a [`Source`]: the file in place, or copies of its
//! pages. Nothing here panics, loops for ever, or reads outside the source, whatever the source holds.
//!
//! (redb 4.5, `docs/design.md`; file format 3.)

mod branches;
mod bytes;
mod cursor;
mod difference;
pub(super) mod header;
mod page;
mod tables;
mod tree;

use std::{io, ops::Range};

pub(super) use branches::Branches;
pub(super) use cursor::{Bounds, Cursor, LeafRows, Pair};
pub(super) use header::{HEADER_BYTES, Header};
pub(super) use page::{Leaf, Root};
pub(super) use tables::{Tables, check_system};
pub(super) use tree::{Keys, Lookup, Tree};

use crate::types::error::{Error, ErrorKind};

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// Why a page cannot be used.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Its bytes are not what redb writes.
    Broken(Broken),
    /// It lies behind the end of the file.
    Missing,
    /// The operating system failed.
    Io(io::Error),
}

impl From<Broken> for Unreadable {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Broken {
    /// The error for it, in words of the operation and the table.
    pub(super) fn error(self, operation: &'static str, subject: &str) -> Error {
        Error::corrupt(operation, subject, format!("the file's own structure is broken: {}", self.0))
    }
}

impl Unreadable {
    /// The error for it, in words of the operation and the table.
    pub(super) fn error(self, operation: &'static str, subject: &str) -> Error {
        match self {
            Self::Broken(broken) => broken.error(operation, subject),
            Self::Missing => Broken("a page lies behind the end of the file").error(operation, subject),
            Self::Io(err) => Error::new(ErrorKind::Io, operation, subject, "a page cannot be read").with_source(err),
        }
    }
}

/// Where pages come from.
pub(super) trait Source {
    /// Whether bytes are read where they lie: then all of a page costs no more than its front.
    fn is_in_place(&self) -> bool;

    /// Bytes that there are.
    fn bytes(&self) -> u64;

    /// Says that bytes of `range` are going to be read soon.
    fn will_read(&self, range: &Range<u64>);

    /// Branches that were verified before, if they are kept.
    fn branches(&self) -> Option<&Branches> {
        None
    }

    /// Returns the bytes of `range`, all of them.
    fn get(&self, range: Range<u64>) -> Result<PageBytes<'_>, Unreadable>;
}

/// Bytes of a page: where they lie, or a copy.
pub(super) enum PageBytes<'a> {
    InPlace(&'a [u8]),
    Copied(Box<[u8]>),
}

impl std::ops::Deref for PageBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests;
