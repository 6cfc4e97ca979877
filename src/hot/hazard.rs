//! Looking at a shared thing without counting references: hazard pointers.
//!
//! A reader writes the address of what it looks at into a slot of its own lane, and looks again whether it is still
//! there. Who takes a thing away looks into all slots before it is freed. (Michael: "Hazard Pointers: Safe Memory
//! Reclamation for Lock-Free Objects", IEEE TPDS 15(6), 2004.)
//!
//! Between the reader's write and its second look a store must become visible before a load, which costs a full fence
//! on every machine. Readers are many and writers few, so the writer pays: `membarrier(2)` makes every thread of the
//! process pass a fence at its next instruction, and the reader needs to hold back the compiler only. Where the kernel has no
//! `membarrier`, readers pay.

#![allow(unsafe_code, reason = "reading what another thread may want to free is what this file is for; see `Guard`")]

use std::{
    marker::PhantomData,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicPtr, Ordering, compiler_fence, fence},
    },
    thread,
};

use crossbeam_utils::CachePadded;

use super::slot::{Keep, Slot};
use crate::lane::LANES;

/// Things that a thread looks at this way at the same time. They fill a cache line.
const SLOTS: usize = 8;

/// How often a thing that is looked at is looked for again at once, before it waits for its last reader.
const SCANS: usize = 3;

static HAZARDS: [CachePadded<[AtomicPtr<()>; SLOTS]>; LANES] =
    [const { CachePadded::new([const { AtomicPtr::new(ptr::null_mut()) }; SLOTS]) }; LANES];

/// Whether readers may leave the fence to the writers.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Prepares the process: call it before anything is protected or retired.
pub(super) fn prepare() {
    if register() {
        ASYMMETRIC.store(true, Ordering::Release);
    }
}

#[cfg(target_os = "linux")]
fn register() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn register() -> bool {
    false
}

/// The reader's half of the fence.
#[inline]
fn light() {
    if ASYMMETRIC.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The writer's half. Returns whether it worked; nothing may be freed if not.
fn heavy() -> bool {
    fence(Ordering::SeqCst);
    if !ASYMMETRIC.load(Ordering::Relaxed) {
        return true;
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        if let Err(error) = membarrier(MembarrierCommand::PrivateExpedited) {
            tracing::error!(%error, "no barrier: models that left the hot tier stay in memory");
            return false;
        }
    }
    true
}

/// Everything that is being looked at.
fn looked_at() -> impl Iterator<Item = *mut ()> {
    HAZARDS.iter().flat_map(|lane| lane.iter()).map(|hazard| hazard.load(Ordering::Acquire)).filter(|at| !at.is_null())
}

/// A thing that is not freed while this lives: the one that the hazard names.
pub(crate) struct Guard<V: Keep> {
    hazard: &'static AtomicPtr<()>,
    of: PhantomData<Arc<Slot<V>>>,
}

// SAFETY: a guard is a shared reference to a slot, and an atomic that any thread may clear.
unsafe impl<V: Keep + Send + Sync> Send for Guard<V> where V::Facts: Send + Sync {}
// SAFETY: as above; the guard itself hands out shared references only.
unsafe impl<V: Keep + Send + Sync> Sync for Guard<V> where V::Facts: Send + Sync {}

/// Why nothing is protected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unprotected {
    /// There is nothing.
    Empty,
    /// The thread looks at too many things already.
    NoRoom,
}

impl<V: Keep> Guard<V> {
    /// Protects what `source` points to. The caller makes sure that a pointer is retired only after it was taken out
    /// of every source that it is in.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn protect(lane: usize, source: &AtomicPtr<Slot<V>>) -> Result<Self, Unprotected> {
        let hazards = HAZARDS.get(lane).ok_or(Unprotected::NoRoom)?;
        // Acquire, and release below: a guard that was dropped on another thread has done its reading.
        let free = hazards.iter().find(|hazard| hazard.load(Ordering::Acquire).is_null());
        let hazard = free.ok_or(Unprotected::NoRoom)?;
        let mut at = source.load(Ordering::Acquire);
        loop {
            if at.is_null() {
                hazard.store(ptr::null_mut(), Ordering::Release);
                return Err(Unprotected::Empty);
            }
            hazard.store(at.cast(), Ordering::Release);
            light();
            let now = source.load(Ordering::Acquire);
            if now == at {
                return Ok(Self { hazard, of: PhantomData });
            }
            at = now;
        }
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot<V> {
        let at: *const Slot<V> = self.hazard.load(Ordering::Relaxed).cast();
        // SAFETY: it was in its source after the hazard named it, so it is retired later than that; and who retires it
        // passes a barrier, finds the hazard, and keeps it until the hazard is cleared, which only this guard's drop does.
        unsafe { &*at }
    }

    /// What a hit needs of it.
    #[inline]
    pub(crate) fn facts(&self) -> V::Facts {
        self.slot().facts
    }

    /// What is protected.
    #[inline]
    pub(crate) fn value(&self) -> &Arc<V> {
        &self.slot().value
    }
}

impl<V: Keep> Drop for Guard<V> {
    #[inline]
    fn drop(&mut self) {
        if self.slot().retired.load(Ordering::Relaxed) {
            clear_and_sweep(self.hazard, Arc::clone(&self.slot().limbo));
        } else {
            self.hazard.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// By value, so that a guard need not have an address.
#[cold]
#[inline(never)]
#[allow(clippy::needless_pass_by_value, reason = "what clears the hazard must own the limbo: the slot may be freed")]
fn clear_and_sweep<V: Keep>(hazard: &'static AtomicPtr<()>, limbo: Arc<Limbo<V>>) {
    hazard.store(ptr::null_mut(), Ordering::Release);
    limbo.sweep();
}

/// Where retired things wait for their last reader.
pub(super) struct Limbo<V: Keep> {
    waiting: Mutex<Vec<Arc<Slot<V>>>>,
}

impl<V: Keep> Limbo<V> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    /// Frees `slots` when nobody looks at them any more: now, or when the last guard is dropped. They must be out of
    /// every place where a reader could find them.
    pub(super) fn retire(&self, slots: Vec<Arc<Slot<V>>>) {
        if slots.is_empty() {
            return;
        }
        slots.iter().for_each(|slot| slot.retired.store(true, Ordering::Relaxed));
        self.lock().extend(slots);
        // A guard that is being dropped right now may have missed the mark: it is gone in an instant.
        for _ in 0..SCANS {
            if self.sweep() {
                return;
            }
            thread::yield_now();
        }
    }

    /// Frees what nobody looks at. Returns whether nothing waits any more.
    pub(super) fn sweep(&self) -> bool {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return true;
        }
        if !heavy() {
            return false;
        }
        let looked_at: Vec<_> = looked_at().collect();
        let is_looked_at = |slot: &mut Arc<Slot<V>>| !looked_at.contains(&Arc::as_ptr(slot).cast_mut().cast());
        let free: Vec<_> = waiting.extract_if(.., is_looked_at).collect();
        let empty = waiting.is_empty();
        drop(waiting);
        // Outside the lock: what is freed may close a file.
        drop(free);
        empty
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Slot<V>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{
        hot::{Weight, tests::key},
        lane,
        time::Timestamp,
    };

    static LIVE: AtomicUsize = AtomicUsize::new(0);

    /// Says in memory of its own whether it was freed.
    struct Canary(u64);

    impl Keep for Canary {
        type Facts = ();

        fn facts(&self) {}
    }

    impl Canary {
        fn new(n: u64) -> Self {
            LIVE.fetch_add(1, Ordering::SeqCst);
            Self(n)
        }
    }

    impl Drop for Canary {
        fn drop(&mut self) {
            self.0 = u64::MAX;
            LIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn slot(limbo: &Arc<Limbo<Canary>>, n: u64) -> Arc<Slot<Canary>> {
        Slot::new(key(0), Arc::new(Canary::new(n)), Weight::default(), Timestamp::from_nanos(0), limbo)
    }

    /// One test, because it counts what lives.
    #[test]
    fn nothing_is_freed_while_it_is_looked_at_and_everything_afterwards() {
        prepare();
        let limbo = Arc::new(Limbo::new());
        let first = slot(&limbo, 0);
        let source = AtomicPtr::new(Arc::as_ptr(&first).cast_mut());
        let lane = lane::current().unwrap();
        let guards: Vec<_> = (0..SLOTS).map(|_| Guard::protect(lane, &source).unwrap()).collect();
        assert!(matches!(Guard::protect(lane, &source), Err(Unprotected::NoRoom)));
        source.store(ptr::null_mut(), Ordering::SeqCst);
        limbo.retire(vec![first]);
        assert_eq!(LIVE.load(Ordering::SeqCst), 1, "it is looked at");
        for guard in guards {
            assert_eq!((LIVE.load(Ordering::SeqCst), guard.value().0), (1, 0));
            // Guards may be dropped anywhere.
            thread::spawn(move || drop(guard)).join().unwrap();
        }
        assert_eq!(LIVE.load(Ordering::SeqCst), 0, "the last guard freed it");
        assert!(matches!(Guard::protect(lane, &source), Err(Unprotected::Empty)));

        let mut owned = slot(&limbo, 1);
        source.store(Arc::as_ptr(&owned).cast_mut(), Ordering::SeqCst);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let lane = lane::current().unwrap();
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let guard = Guard::protect(lane, &source).unwrap();
                        let now = guard.value().0;
                        assert!(now >= last && now != u64::MAX, "{last} {now}");
                        last = now;
                    }
                });
            }
            for n in 2..20_000 {
                let next = slot(&limbo, n);
                source.store(Arc::as_ptr(&next).cast_mut(), Ordering::SeqCst);
                limbo.retire(vec![std::mem::replace(&mut owned, next)]);
            }
            done.store(true, Ordering::Relaxed);
        });
        source.store(ptr::null_mut(), Ordering::SeqCst);
        limbo.retire(vec![owned]);
        assert!(limbo.sweep());
        assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    }
}
