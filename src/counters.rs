//! Event counters that cost a hit next to nothing.
//!
//! Every thread adds to a stripe of its own, each stripe on cache lines of its own, so that counting on one core does
//! not take a line away from another. Reading sums the stripes; a sum is exact once the counted threads are still.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// What is counted. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    HotHits,
    HotMisses,
    DiskHits,
    DiskMisses,
    Evictions,
    Expirations,
    Loads,
    LoadNanos,
    Trainings,
    TrainingNanos,
    HitTrainingNanos,
    HitLoadNanos,
}

const COUNTERS: usize = Counter::HitLoadNanos as usize + 1;

/// More stripes than cores of most machines that this runs on; a power of two.
const STRIPES: usize = 32;

type Stripe = CachePadded<[AtomicU64; COUNTERS]>;

/// The counters of one store.
#[derive(Debug)]
pub(crate) struct Counters {
    stripes: Box<[Stripe; STRIPES]>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let stripe = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { stripes: Box::new(std::array::from_fn(|_| stripe())) }
    }

    /// Adds `n` to a counter.
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        if let Some(counter) = self.stripe().get(counter as usize) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Returns the sum of a counter over all threads.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        let values = self.stripes.iter().filter_map(|stripe| stripe.get(counter as usize));
        values.fold(0, |sum, value| sum.wrapping_add(value.load(Ordering::Relaxed)))
    }

    fn stripe(&self) -> &Stripe {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
        }
        let [first, ..] = &*self.stripes;
        MINE.try_with(|&mine| self.stripes.get(mine)).ok().flatten().unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_many_threads_add_up() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| counters.add(Counter::HotHits, 2)));
            }
        });
        assert_eq!(counters.sum(Counter::HotHits), 8000);
        assert_eq!(counters.sum(Counter::LoadNanos), 0);
    }
}
