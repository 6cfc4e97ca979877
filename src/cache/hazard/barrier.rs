//! A fence whose cost is all on one side.
//!
//! Readers write something and then look; a writer changes what they look at and then looks at what they wrote. One of
//! the two must see the other, so each needs a full fence between its write and its look. Readers are many and writers
//! few, so the writer pays for both: `membarrier(2)` makes every thread of the process pass a fence at its next
//! instruction, and a reader needs to hold back the compiler only. Where the kernel has no `membarrier`, readers pay.

use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

use crate::sync::atomic::fence;

/// Whether readers may leave the fence to the writers.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Prepares the process: call it before either half.
pub(in crate::cache) fn prepare() {
    if register() {
        ASYMMETRIC.store(true, Ordering::Release);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn register() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn register() -> bool {
    false
}

/// The reader's half.
#[inline]
pub(super) fn light() {
    if ASYMMETRIC.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The writer's half. Returns whether it worked; nothing may be freed if not.
pub(super) fn heavy() -> bool {
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

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use std::{
        hint,
        sync::{
            Barrier,
            atomic::{AtomicU64, AtomicUsize},
        },
        thread,
    };

    use crossbeam_utils::CachePadded;

    use super::*;

    const ROUNDS: usize = 200_000;

    /// Two threads write a word each and look at the other's, over and over. A machine that is free to put the look
    /// before the write lets both miss the other's within some thousand rounds: x86 does, without the writer's half.
    #[test]
    fn one_of_the_two_sees_the_other() {
        prepare();
        let (reader, writer) = (CachePadded::new(AtomicUsize::new(0)), CachePadded::new(AtomicUsize::new(0)));
        let (read, wrote) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (begin, end) = (Barrier::new(2), Barrier::new(2));
        let (turn, missed) = (AtomicU64::new(0), AtomicU64::new(0));
        // Both begin a round at the same moment: as near as two cores can come to it.
        let meet = |round: usize| {
            turn.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0_u32;
            while turn.load(Ordering::Acquire) < 2 * round as u64 {
                spins += 1;
                // The other one may have no core to run on.
                if spins.is_multiple_of(1000) {
                    thread::yield_now();
                } else {
                    hint::spin_loop();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                for round in 1..=ROUNDS {
                    meet(2 * round - 1);
                    reader.store(round, Ordering::Relaxed);
                    light();
                    read.store(writer.load(Ordering::Relaxed), Ordering::Relaxed);
                    meet(2 * round);
                }
                end.wait();
            });
            begin.wait();
            for round in 1..=ROUNDS {
                meet(2 * round - 1);
                writer.store(round, Ordering::Relaxed);
                let works = heavy();
                missed.fetch_add(u64::from(!works), Ordering::Relaxed);
                wrote.store(reader.load(Ordering::Relaxed), Ordering::Relaxed);
                meet(2 * round);
                let both_missed = read.load(Ordering::Relaxed) < round && wrote.load(Ordering::Relaxed) < round;
                missed.fetch_add(u64::from(both_missed), Ordering::Relaxed);
            }
            end.wait();
        });
        assert_eq!(missed.into_inner(), 0, "neither saw the other");
    }
}
