//! Event counters that cost a hit next to nothing.
//!
//! Every thread adds in its own slot, each on cache lines of its own, with a plain load and store: no other thread
//! writes there. Threads without a slot share one and add atomically. Reading sums the slots; a sum is exact once the
//! counted threads are still.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::thread_slot::{self, THREAD_SLOTS, ThreadSlot};

/// What is counted. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    HotHits,
    HitTrainingNanos,
    HotMisses,
    DiskHits,
    DiskMisses,
    SharedHits,
    SharedMisses,
    Evictions,
    Expirations,
    Loads,
    LoadNanos,
    Trainings,
    TrainingNanos,
    HitLoadNanos,
    Warnings,
}

const COUNTERS: usize = Counter::Warnings as usize + 1;

type Stripe = CachePadded<[AtomicU64; COUNTERS]>;

/// The counters of one store.
#[derive(Debug)]
pub(crate) struct Counters {
    threads: Box<[Stripe]>,
    shared: Stripe,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let stripe = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { threads: (0..THREAD_SLOTS).map(|_| stripe()).collect(), shared: stripe() }
    }

    /// Adds `n` to a counter.
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        self.add_in(thread_slot::current(), counter, n);
    }

    /// Adds `n` to a counter, in the slot of this thread.
    #[inline]
    pub(crate) fn add_in(&self, thread: Option<ThreadSlot>, counter: Counter, n: u64) {
        match thread.and_then(|thread| self.threads.get(thread.index())) {
            Some(stripe) => {
                if let Some(counter) = stripe.get(counter as usize) {
                    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
                }
            }
            None => {
                if let Some(counter) = self.shared.get(counter as usize) {
                    counter.fetch_add(n, Ordering::Relaxed);
                }
            }
        }
    }

    /// Returns the sum of a counter over all threads.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        let stripes = self.threads.iter().chain([&self.shared]);
        let values = stripes.filter_map(|stripe| stripe.get(counter as usize));
        values.fold(0, |sum, value| sum.wrapping_add(value.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_many_threads_add_up() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..3 * THREAD_SLOTS {
                scope.spawn(|| (0..100).for_each(|_| counters.add(Counter::HotHits, 2)));
            }
        });
        assert_eq!(counters.sum(Counter::HotHits), 3 * THREAD_SLOTS as u64 * 200);
        assert_eq!(counters.sum(Counter::LoadNanos), 0);
    }
}
