//! A small number for each running thread, which no other running thread has.
//!
//! What a thread counts and protects lies in a slot of its own, so that it needs neither locks nor atomic additions and
//! takes no cache line away from another core. A slot is given back when its thread ends. Threads beyond
//! [`THREAD_SLOTS`] at a time have none; callers have another way for them.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

/// Threads that can have a slot at the same time.
pub(crate) const THREAD_SLOTS: usize = 64;

/// One bit for each slot that is taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The slot of this thread: who has it runs on that thread, since it cannot be sent to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadSlot {
    index: usize,
    of_this_thread: PhantomData<*const ()>,
}

impl ThreadSlot {
    /// Below [`THREAD_SLOTS`].
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The slot of a thread of a model, which has no others.
    #[cfg(all(test, any(loom, shuttle)))]
    pub(crate) fn modelled(index: usize) -> Self {
        Self { index, of_this_thread: PhantomData }
    }
}

/// Taken by the first question of a thread, given back when it ends.
struct Taken(Option<usize>);

impl Taken {
    fn take() -> Self {
        let mut taken = TAKEN.load(Ordering::Relaxed);
        loop {
            let slot = taken.trailing_ones();
            if slot == u64::BITS {
                return Self(None);
            }
            // Acquire: what the thread that had the slot before did in it has happened.
            match TAKEN.compare_exchange_weak(taken, taken | 1 << slot, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Self(Some(slot as usize)),
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            TAKEN.fetch_and(!(1 << slot), Ordering::Release);
        }
    }
}

/// Returns this thread's slot; `None` when there are too many threads, or this one is ending.
#[inline]
pub(crate) fn current() -> Option<ThreadSlot> {
    thread_local! {
        static TAKEN_HERE: Taken = Taken::take();
    }
    let index = TAKEN_HERE.try_with(|taken| taken.0).ok().flatten()?;
    Some(ThreadSlot { index, of_this_thread: PhantomData })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Barrier, thread};

    use super::*;

    #[test]
    fn no_two_running_threads_share_a_slot_and_slots_come_back() {
        let threads = 2 * THREAD_SLOTS;
        for _ in 0..3 {
            let together = Barrier::new(threads);
            let slots: Vec<_> = thread::scope(|scope| {
                let work = || {
                    let slot = current().map(ThreadSlot::index);
                    together.wait();
                    assert_eq!(slot, current().map(ThreadSlot::index));
                    slot
                };
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                running.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let taken: Vec<usize> = slots.into_iter().flatten().collect();
            assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len());
            assert!(taken.iter().all(|&slot| slot < THREAD_SLOTS));
            // Other tests run at the same time and have slots, too; but there are some left.
            assert!(taken.len() > THREAD_SLOTS / 4, "{}", taken.len());
        }
    }
}
