//! A small number for each running thread, which no other running thread has.
//!
//! What a thread counts and protects lies in a lane of its own, so that it needs neither locks nor atomic additions and
//! takes no cache line away from another core. A lane is given back when its thread ends. Threads beyond [`THREAD_SLOTS`] at a
//! time have none; whoever asks has another way for them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Threads that can have a lane at the same time.
pub(crate) const THREAD_SLOTS: usize = 64;

/// One bit for each lane that is taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

struct Lane(Option<usize>);

impl Lane {
    fn take() -> Self {
        let mut taken = TAKEN.load(Ordering::Relaxed);
        loop {
            let lane = taken.trailing_ones();
            if lane == u64::BITS {
                return Self(None);
            }
            // Acquire: what the thread that had the lane before did in it has happened.
            match TAKEN.compare_exchange_weak(taken, taken | 1 << lane, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Self(Some(lane as usize)),
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(lane) = self.0 {
            TAKEN.fetch_and(!(1 << lane), Ordering::Release);
        }
    }
}

/// Returns this thread's lane, below [`THREAD_SLOTS`]; `None` when there are too many threads, or this one is ending.
#[inline]
pub(crate) fn current() -> Option<usize> {
    thread_local! {
        static LANE: Lane = Lane::take();
    }
    LANE.try_with(|lane| lane.0).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Barrier, thread};

    use super::*;

    #[test]
    fn no_two_running_threads_share_a_lane_and_lanes_come_back() {
        let threads = 2 * THREAD_SLOTS;
        for _ in 0..3 {
            let together = Barrier::new(threads);
            let lanes: Vec<_> = thread::scope(|scope| {
                let work = || {
                    let lane = current();
                    together.wait();
                    assert_eq!(lane, current());
                    lane
                };
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                running.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let taken: Vec<usize> = lanes.into_iter().flatten().collect();
            assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len());
            assert!(taken.iter().all(|&lane| lane < THREAD_SLOTS));
            // Other tests run at the same time and have lanes, too; but there are some left.
            assert!(taken.len() > THREAD_SLOTS / 4, "{}", taken.len());
        }
    }
}
