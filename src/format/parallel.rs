//! One way to share work among threads: pieces taken in turn, results in order.

use std::{
    cell::Cell,
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

thread_local! {
    /// How many threads share the machine with this one, for the same work.
    static SHARING: Cell<usize> = const { Cell::new(1) };
}

/// Runs `work` on every item with at most `threads` threads, this one included, and returns the results in order.
///
/// Threads are scoped and short-lived: starting one costs some tens of microseconds, so callers pass 1 for little
/// work.
pub(crate) fn map<T: Send, R: Send>(
    items: impl Iterator<Item = T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    map_with(items, threads, || (), |(), item| work(item))
}

/// The same, with something that each thread makes once and uses for all of its items.
pub(crate) fn map_with<S, T: Send, R: Send>(
    items: impl Iterator<Item = T>,
    threads: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> R + Sync,
) -> Vec<R> {
    if threads < 2 {
        let mut state = begin();
        return items.map(|item| work(&mut state, item)).collect();
    }
    let items: Vec<Mutex<Option<T>>> = items.map(|item| Mutex::new(Some(item))).collect();
    let threads = threads.min(items.len());
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = begin();
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Each index is taken once, so the item is there and its lock is free.
            let Some(item) = items.get(index).and_then(|item| item.lock().ok()?.take()) else {
                return done;
            };
            done.push((index, work(&mut state, item)));
        }
    };
    let mut results = thread::scope(|scope| {
        let shared = || sharing(threads, run);
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(shared)).collect();
        let mut results = shared();
        for other in others {
            match other.join() {
                Ok(done) => results.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|&(index, _)| index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Does `work` as one of so many threads.
fn sharing<R>(threads: usize, work: impl FnOnce() -> R) -> R {
    /// Puts back what was there, also when the work panics.
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            SHARING.set(self.0);
        }
    }
    let _before = Before(SHARING.get());
    SHARING.set(SHARING.get().saturating_mul(threads));
    work()
}

/// The threads that are worth using for `bytes` bytes of hashing or decoding: on a thread of a [`map`], its share of
/// them.
pub(crate) fn threads_for(bytes: usize) -> usize {
    if bytes < crate::types::limits::PARALLEL_BYTES_MIN {
        return 1;
    }
    (thread::available_parallelism().map_or(1, NonZeroUsize::get) / SHARING.get()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_on_any_number_of_threads() {
        for threads in 1..5 {
            for items in [0, 1, 2, 100] {
                let doubled = map(0..items, threads, |i| 2 * i);
                assert_eq!(doubled, (0..items).map(|i| 2 * i).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn each_thread_makes_what_it_uses_once() {
        let made = AtomicUsize::new(0);
        for threads in [1, 3] {
            made.store(0, Ordering::Relaxed);
            let begin = || made.fetch_add(1, Ordering::Relaxed);
            assert_eq!(map_with(0..100, threads, begin, |_, i| i).len(), 100);
            assert_eq!(made.load(Ordering::Relaxed), threads);
        }
    }

    #[test]
    fn what_runs_on_all_cores_already_starts_no_more_threads() {
        let cores = threads_for(usize::MAX);
        let within = map(0..4, 2 * cores, |_| threads_for(usize::MAX));
        assert_eq!((within, threads_for(usize::MAX)), (vec![1; 4], cores));
    }
}
