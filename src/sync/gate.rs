//! Who uses a store without having one: the file is closed by whoever drops the last [`Store`](super::Store), on that
//! thread and before the drop returns, and not by a thread that happened to be at work in it.

use std::sync::{
    Arc, PoisonError, RwLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

/// Shut when the last store is dropped, after all who went through it are out.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    stores: AtomicUsize,
    is_shut: RwLock<bool>,
}

impl Gate {
    /// Calls `work` with what `weak` leads to, which is not dropped by this thread as the last one. `None` when the
    /// last store is gone. Must not drop a store, and not be called within itself.
    pub(crate) fn with<T, R>(&self, weak: &Weak<T>, work: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        let is_shut = self.is_shut.read().unwrap_or_else(PoisonError::into_inner);
        if *is_shut {
            return None;
        }
        // Dropped before the gate is left.
        weak.upgrade().map(|inner| work(&inner))
    }
}

/// One of the handles that keep a store open.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Gate>);

impl Opened {
    pub(crate) fn new(gate: &Arc<Gate>) -> Self {
        gate.stores.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gate))
    }
}

impl Opened {
    /// How many there are, this one included.
    pub(crate) fn count(&self) -> usize {
        self.0.stores.load(Ordering::Acquire)
    }
}

impl Clone for Opened {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.0.stores.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.0.is_shut.write().unwrap_or_else(PoisonError::into_inner) = true;
        }
    }
}
