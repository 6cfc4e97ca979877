//! Who uses a store without having one: the file is closed by whoever drops the last [`Store`](super::Store), on that
//! thread and before the drop returns, and not by a thread that happened to be at work in it.
//!
//! That thread may run code of others, which may drop the last store itself: then it does not wait for itself, and the
//! file is closed when its work is done.

use std::{
    cell::Cell,
    ptr,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Shut when the last store is dropped, after all who went through it are out.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    stores: AtomicUsize,
    is_shut: AtomicBool,
    /// Shared by those who are inside.
    inside: RwLock<()>,
}

thread_local! {
    /// The gate that this thread is inside of.
    static INSIDE: Cell<*const Gate> = const { Cell::new(ptr::null()) };
}

impl Gate {
    /// Calls `work` with what `weak` leads to, which is not dropped by this thread as the last one, unless `work` drops
    /// the last store. `None` when the last store is gone. Not to be called within itself.
    pub(crate) fn with<T, R>(&self, weak: &Weak<T>, work: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        struct Leave(*const Gate);
        impl Drop for Leave {
            fn drop(&mut self) {
                INSIDE.set(self.0);
            }
        }
        let _inside = self.inside.read().unwrap_or_else(PoisonError::into_inner);
        if self.is_shut.load(Ordering::Acquire) {
            return None;
        }
        let _leave = Leave(INSIDE.replace(self));
        // Dropped before the gate is left.
        weak.upgrade().map(|inner| work(&inner))
    }

    /// Whether the last store is being dropped: who is inside is waited for.
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Acquire)
    }

    /// Lets nobody in any more, and waits for those who are inside, but not for this very thread.
    fn shut(&self) {
        self.is_shut.store(true, Ordering::Release);
        if !ptr::eq(INSIDE.get(), self) {
            drop(self.inside.write().unwrap_or_else(PoisonError::into_inner));
        }
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
            self.0.shut();
        }
    }
}
