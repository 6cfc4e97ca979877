//! An archive that is in use where it lies.

#![allow(unsafe_code, reason = "a lease vouches for its bytes with the pins of the eras; see `Lease::bytes`")]

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{eras::Eras, map::Map, view::MappedValue};
use crate::{engine::pin::Pin, limits::POPULATE_BYTES};

/// The right to read the pages of one archive for as long as it lives.
///
/// While the archive is in the file, the [`Eras`] keep a pin for all leases together. When it is about to leave the file
/// or to be written anew, the lease gets a pin of its own.
pub(crate) struct Lease {
    cover: Arc<Cover>,
    map: Arc<Map>,
    eras: Arc<Eras>,
}

/// What is leased, and by what it is covered. Shared with the eras.
#[derive(Debug)]
pub(super) struct Cover {
    pub(super) id: u64,
    /// Where in the file the leased bytes lie.
    pub(super) range: Range<u64>,
    own_pin: Mutex<Option<Arc<Pin>>>,
    /// The archive left the file, or was written anew elsewhere: when the last lease of it ends, nobody reads its pages.
    departed: AtomicBool,
}

impl Cover {
    /// Keeps `pin` until the lease ends or [`join`](Self::join)s the others.
    pub(super) fn keep(&self, pin: &Arc<Pin>) {
        // A pin that is there already is the older one, and covers what a later one would.
        self.own_pin.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Arc::clone(pin));
    }

    /// Gives up the lease's own pin, for the pin of all covers it from now on; returns it, to be dropped.
    pub(super) fn join(&self) -> Option<Arc<Pin>> {
        self.own_pin.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn depart(&self) {
        self.departed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_departed(&self) -> bool {
        self.departed.load(Ordering::Relaxed)
    }

    pub(super) fn has_own_pin(&self) -> bool {
        self.own_pin.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether the leased bytes are a part of the archive that lies at `archive`.
    pub(super) fn is_in(&self, archive: &Range<u64>) -> bool {
        archive.start <= self.range.start && self.range.end <= archive.end
    }
}

impl Lease {
    /// Takes a lease of a part of an archive, given as a range in it.
    pub(crate) fn take(eras: &Arc<Eras>, id: u64, value: &MappedValue, part: &Range<usize>) -> Self {
        let end = value.range.start.saturating_add(part.end as u64).min(value.range.end);
        let start = value.range.start.saturating_add(part.start as u64).min(end);
        let cover =
            Arc::new(Cover { id, range: start..end, own_pin: Mutex::new(None), departed: AtomicBool::new(false) });
        eras.enter(&cover, value);
        Self { cover, map: Arc::clone(value.view.map()), eras: Arc::clone(eras) }
    }

    /// The bytes, always the same ones.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range lay within the file in the commit at which the lease was taken, and since then either the
        // eras' pin or the lease's own is of a commit that reaches these pages, or of an earlier one.
        let bytes = unsafe { self.map.get(&self.cover.range) };
        bytes.unwrap_or(&[])
    }

    /// Whether the bytes are in memory already; if so, the kernel is told that they are read in order, too.
    pub(crate) fn is_resident(&self) -> bool {
        let resident = self.map.is_resident(&self.cover.range);
        if resident {
            self.map.expect_order();
        }
        resident
    }

    /// Brings some bytes from the offset `from` on into memory, in one large read. Returns where to go on.
    pub(crate) fn populate(&self, from: usize) -> Option<usize> {
        let start = self.cover.range.start + from as u64;
        let end = start.saturating_add(POPULATE_BYTES as u64).min(self.cover.range.end);
        self.map.populate(&(start..end));
        (end < self.cover.range.end).then_some(from + POPULATE_BYTES)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The cover's own pin, which is dropped after this, keeps redb from reusing what is given back here.
        if self.eras.leave(&self.cover) {
            self.map.give_back(&self.cover.range);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease(archive {}, {:?})", self.cover.id, self.cover.range)
    }
}
