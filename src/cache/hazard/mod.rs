//! Looking at a shared thing without counting references: hazard pointers.
//!
//! A reader writes the address of what it looks at into a slot of its own, and looks again whether it is still
//! there. Who takes a thing away looks into all slots before it is freed. (Michael: "Hazard Pointers: Safe Memory
//! Reclamation for Lock-Free Objects", IEEE TPDS 15(6), 2004.) Between a write and the look after it a fence is needed,
//! of which the writer takes the cost: see [`barrier`].
//!
//! Who frees a thing that is looked at when it is taken away? Its last guard, which finds it marked as retired. A guard
//! that is on its way, between its write and its look, may or may not become one, and one that is being dropped may or
//! may not have seen the mark. Both say so by the lowest bit of what they write. They are that for some instructions
//! only, so whoever retires a thing, or is its last guard, waits until they are not. Then either it is free, or a guard
//! is there that will see the mark, and do the same.

#![allow(unsafe_code, reason = "reading what another thread may want to free is what this file is for; see `Guard`")]

mod barrier;

use std::{hint, marker::PhantomData, ptr, thread::sleep, time::Duration};

use crossbeam_utils::CachePadded;

use super::{
    index::Unlinked,
    slot::{CacheValue, LINE, Slot},
};
use crate::{
    format::pool::Pooled,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicPtr, Ordering},
        thread,
        thread_slot::{THREAD_SLOTS, ThreadSlot},
    },
};
use barrier::{heavy, light};

pub(super) use barrier::prepare;

/// Things that a thread looks at this way at the same time. They fill a cache line.
const SLOTS: usize = if cfg!(loom) { 2 } else { 8 };

/// The lowest bit of a hazard: its thread is about to have a guard, or not to have it any more.
const ON_THE_WAY: usize = 1;

/// The threads' hazards that are looked into. A model of a few threads has as many.
const THREADS_IN_USE: usize = if cfg!(loom) { 2 } else { THREAD_SLOTS };

type Hazards = [CachePadded<[AtomicPtr<()>; SLOTS]>; THREADS_IN_USE];

#[cfg(not(all(test, loom)))]
static HAZARDS: Hazards =
    [const { CachePadded::new([const { AtomicPtr::new(ptr::null_mut()) }; SLOTS]) }; THREADS_IN_USE];

#[cfg(all(test, loom))]
loom::lazy_static! {
    static ref HAZARDS: Hazards = std::array::from_fn(|_| CachePadded::new(std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()))));
}

fn is_on_the_way(hazard: *mut ()) -> bool {
    hazard.addr() & ON_THE_WAY != 0
}

/// The address that a hazard names.
fn named<T>(hazard: *mut ()) -> *mut T {
    hazard.map_addr(|at| at & !ON_THE_WAY).cast()
}

fn on_the_way<T>(at: *mut T) -> *mut () {
    at.cast::<()>().map_addr(|at| at | ON_THE_WAY)
}

/// The lowest bits of what a source has: they are no part of the address of a slot, which begins a cache line.
pub(super) const TAG: usize = LINE - 1;

/// The slot that a source names.
fn untagged<V: CacheValue>(named: *mut Slot<V>) -> *mut Slot<V> {
    named.map_addr(|at| at & !TAG)
}

/// Everything that is being looked at, or may be in an instant.
fn protected_now() -> impl Iterator<Item = *mut ()> {
    let hazards = HAZARDS.iter().flat_map(|thread| thread.iter());
    hazards.map(|hazard| hazard.load(Ordering::Acquire)).filter(|hazard| !hazard.is_null())
}

/// One that names nothing. A thread that holds nothing else needs no search.
#[cold]
#[inline(never)]
fn free_of(hazards: &'static [AtomicPtr<()>]) -> Option<&'static AtomicPtr<()>> {
    hazards.iter().find(|hazard| hazard.load(Ordering::Acquire).is_null())
}

/// Goes after a source that changes, until it names what the hazard names, on the way; clears the hazard when it names
/// nothing any more.
#[cold]
#[inline(never)]
fn follow<V: CacheValue>(
    hazard: &AtomicPtr<()>,
    source: &AtomicPtr<Slot<V>>,
    mut seen: *mut Slot<V>,
) -> Option<*mut Slot<V>> {
    loop {
        if seen.is_null() {
            hazard.store(ptr::null_mut(), Ordering::Release);
            return None;
        }
        let at = untagged(seen);
        hazard.store(on_the_way(at), Ordering::Release);
        light();
        let now = source.load(Ordering::Acquire);
        if now == seen {
            return Some(at);
        }
        seen = now;
    }
}

/// A thing that is not freed while this lives: the one that the hazard names.
pub(crate) struct Guard<V: CacheValue> {
    hazard: &'static AtomicPtr<()>,
    of: PhantomData<Arc<Slot<V>>>,
}

// SAFETY: a guard is a shared reference to a slot, and an atomic that any thread may clear.
unsafe impl<V: CacheValue<HitData: Send + Sync, Kind: Send + Sync> + Send + Sync> Send for Guard<V> {}
// SAFETY: as above; the guard itself hands out shared references only.
unsafe impl<V: CacheValue<HitData: Send + Sync, Kind: Send + Sync> + Send + Sync> Sync for Guard<V> {}

/// Why nothing is protected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unprotected {
    /// There is nothing.
    Empty,
    /// The thread looks at too many things already.
    NoRoom,
}

impl<V: CacheValue> Guard<V> {
    /// Protects what `source` names, in a hazard of this thread; `seen` is what it named a moment ago. Returns the
    /// slot, too, which is alive as long as the guard is.
    ///
    /// # Safety
    /// 1. Whatever `source` names, at any time, is a slot that is alive, with a tag in its lowest bits, or null.
    /// 2. A slot is freed by a [`RetiredList`] alone, and retired only after it was taken out of every source.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) unsafe fn protect(
        thread: ThreadSlot,
        source: &AtomicPtr<Slot<V>>,
        seen: *mut Slot<V>,
    ) -> Result<(Self, *const Slot<V>), Unprotected> {
        if seen.is_null() {
            return Err(Unprotected::Empty);
        }
        let hazards = HAZARDS.get(thread.index()).ok_or(Unprotected::NoRoom)?;
        let [first, others @ ..] = &**hazards;
        // Acquire, and release below: a guard that was dropped on another thread has done its reading.
        let is_free = first.load(Ordering::Acquire).is_null();
        let hazard = if is_free { first } else { free_of(others).ok_or(Unprotected::NoRoom)? };
        let at = untagged(seen);
        hazard.store(on_the_way(at), Ordering::Release);
        light();
        let now = source.load(Ordering::Acquire);
        let at = if now == seen { at } else { follow(hazard, source, now).ok_or(Unprotected::Empty)? };
        hazard.store(at.cast(), Ordering::Release);
        Ok((Self { hazard, of: PhantomData }, at))
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot<V> {
        let at: *const Slot<V> = self.hazard.load(Ordering::Relaxed).cast();
        // SAFETY: it was in its source after the hazard named it, so it is retired later than that; and who retires it
        // passes a barrier, finds the hazard, and keeps it until the hazard is cleared, which only this guard's drop
        // does.
        unsafe { &*at }
    }

    /// What is protected.
    #[inline]
    pub(crate) fn value(&self) -> &Arc<V> {
        &self.slot().value
    }
}

impl<V: CacheValue> Drop for Guard<V> {
    #[inline]
    fn drop(&mut self) {
        let slot: *mut Slot<V> = self.hazard.load(Ordering::Relaxed).cast();
        // First this, then the look at the mark: who marks it first, and then looks here, either is seen or sees this.
        self.hazard.store(on_the_way(slot), Ordering::Release);
        light();
        // SAFETY: as in `slot`: the hazard still names it.
        let slot = unsafe { &*slot };
        if slot.retired.load(Ordering::Relaxed) {
            clear_and_free(self.hazard, Arc::clone(&slot.retired_list));
        } else {
            #[cfg(all(test, not(loom), not(shuttle)))]
            tests::before_it_is_cleared();
            self.hazard.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// By value, so that a guard need not have an address.
#[cold]
#[inline(never)]
#[allow(clippy::needless_pass_by_value, reason = "what clears the hazard must own the list: the slot may be freed")]
fn clear_and_free<V: CacheValue>(hazard: &'static AtomicPtr<()>, retired_list: Arc<RetiredList<V>>) {
    hazard.store(ptr::null_mut(), Ordering::Release);
    retired_list.free();
}

/// Where retired things wait for their last guard.
pub(super) struct RetiredList<V: CacheValue> {
    waiting: Mutex<Vec<Pooled<Slot<V>>>>,
}

impl<V: CacheValue> RetiredList<V> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    /// Frees `slots` when nobody looks at them any more: now, or when the last guard is dropped.
    pub(super) fn retire(&self, slots: Vec<Unlinked<V>>) {
        if slots.is_empty() {
            return;
        }
        let slots: Vec<_> = slots.into_iter().map(Unlinked::into_slot).collect();
        slots.iter().for_each(|slot| slot.retired.store(true, Ordering::Relaxed));
        self.lock().extend(slots);
        self.free();
    }

    /// Frees what nobody looks at. What is left has a guard that is going to do this again.
    fn free(&self) {
        let mut pause = Pause::default();
        while !self.sweep() {
            pause.wait();
        }
    }

    /// Frees what nobody looks at. Returns whether what is left has guards, and nobody on the way.
    fn sweep(&self) -> bool {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return true;
        }
        if !heavy() {
            // As if it had a guard that is never dropped: the kernel has taken back what it had granted.
            return true;
        }
        let protected_now: Vec<_> = protected_now().collect();
        let hazards = |slot: &Pooled<Slot<V>>| {
            let at = slot.as_ptr();
            protected_now.iter().copied().filter(move |&hazard| named(hazard) == at)
        };
        let free: Vec<_> = waiting.extract_if(.., |slot| hazards(slot).next().is_none()).collect();
        let settled = waiting.iter().all(|slot| !hazards(slot).any(is_on_the_way));
        drop(waiting);
        // Outside the lock: what is freed may close a file.
        drop(free);
        settled
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pooled<Slot<V>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits longer and longer. A thread that is on the way is so for some instructions, unless it is not running.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn wait(&mut self) {
        self.0 = self.0.saturating_add(1);
        #[cfg(all(test, loom))]
        return tests::wait(self.0);
        #[cfg(not(all(test, loom)))]
        match self.0 {
            0..64 => hint::spin_loop(),
            64..80 => thread::yield_now(),
            // It may have a lower priority, and this core.
            _ => sleep(Duration::from_micros(50)),
        }
    }
}

#[cfg(test)]
mod tests;
