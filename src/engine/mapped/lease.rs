//! The right to read one archive where it lies, for as long as it lives.

use std::{fmt, sync::Arc};

use super::pins::{PinRegistry, Place};
use crate::{engine::view::View, types::invariant::Invariant};

/// An archive that is held. Its bytes neither move nor change, whatever happens to the file and to the store.
pub(crate) struct Lease {
    place: Arc<Place<View>>,
    pins: Arc<PinRegistry<View>>,
    /// Where in the archive the bytes begin that are wanted.
    from: usize,
}

impl Lease {
    /// Takes over one lease of `place`.
    pub(in crate::engine) fn new(place: Arc<Place<View>>, pins: &Arc<PinRegistry<View>>) -> Self {
        Self { place, pins: Arc::clone(pins), from: 0 }
    }

    /// The same without the bytes in front.
    pub(in crate::engine) fn skip(mut self, bytes: usize) -> Self {
        self.from = self.from.saturating_add(bytes);
        self
    }

    /// The bytes, always the same ones.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.place.held.bytes().get(self.from..).always("what is skipped lies in the lease")
    }

    /// Says that all of it is going to be read, in order.
    pub(in crate::engine) fn expect_order(&self) {
        self.place.held.expect_order();
    }

    /// Whether the bytes are in memory already; if so, the kernel is told that they are read in order, too.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.place.held.is_at_hand()
    }

    /// Brings some bytes from the offset `from` on into memory, in one large read. Returns where to go on.
    pub(crate) fn populate(&self, from: usize) -> Option<usize> {
        self.place.held.populate(from)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pins.release(&self.place);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.place)
    }
}
