//! Locks, counted references and atomics, by the names that a model checker replaces.
//!
//! Code whose interleavings are checked takes them from here: locks by `shuttle`, at random, and what has no lock by
//! `loom`, one by one and under the rules of weak memory. In the library itself they are those of the standard library.

pub(crate) mod counters;
pub(crate) mod gate;
pub(crate) mod in_order;
pub(crate) mod panics;
pub(crate) mod single_flight;
pub(crate) mod thread_slot;
pub(crate) mod worker;

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak, atomic},
    thread,
};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak, atomic},
    thread,
};

#[cfg(all(test, loom))]
pub(crate) use loom::{
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, atomic},
    thread,
};
#[cfg(all(test, loom))]
pub(crate) use std::sync::{Arc, PoisonError, Weak};

#[cfg(not(all(test, loom)))]
pub(crate) use arc_swap::ArcSwapOption;

/// The same under a lock: what is a step of its own for the checker.
#[cfg(all(test, loom))]
pub(crate) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

#[cfg(all(test, loom))]
impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *self.0.lock().unwrap(), value)
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap().clone()
    }
}

/// Runs `work` with ten thousand orders of its threads' steps: half of them at random everywhere, half with few switches
/// at random places.
#[cfg(all(test, shuttle))]
pub(crate) fn run_scheduled(work: impl Fn() + Send + Sync + Copy + 'static) {
    const SCHEDULES: usize = 10_000;
    shuttle::check_random(work, SCHEDULES / 2);
    shuttle::check_pct(work, SCHEDULES / 2, 3);
}
