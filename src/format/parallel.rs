//! One way to share work among threads: pieces taken in turn, results in order.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Runs `work` on every item with at most `threads` threads, this one included, and returns the results in order.
///
/// Threads are scoped and short-lived: starting one costs some tens of microseconds, so callers pass 1 for little
/// work.
pub(crate) fn map<T: Send, R: Send>(
    items: impl Iterator<Item = T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if threads < 2 {
        return items.map(work).collect();
    }
    let items: Vec<Mutex<Option<T>>> = items.map(|item| Mutex::new(Some(item))).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Each index is taken once, so the item is there and its lock is free.
            let Some(item) = items.get(index).and_then(|item| item.lock().ok()?.take()) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut results = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(run)).collect();
        let mut results = run();
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

/// The threads that are worth using for `bytes` bytes of hashing or decoding.
pub(crate) fn threads_for(bytes: usize) -> usize {
    if bytes < crate::types::limits::PARALLEL_BYTES_MIN {
        return 1;
    }
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
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
}
