//! Guards and retirement: by threads that run, and by all orders in which they could.

use super::*;
use crate::{
    cache::{Weight, tests::key},
    format::pool::Pool,
    types::time::Timestamp,
};

/// Something to look at. Whoever keeps it too can see whether its slot was freed.
#[derive(Debug)]
pub(super) struct Thing;

/// What a hit needs of the values of these tests.
macro_rules! nothing_for_a_hit {
    () => {
        type HitData = ();
        type Kind = ();

        fn hit_data(&self) -> ((), ()) {
            ((), ())
        }

        fn read_next(&self) -> (usize, usize) {
            (0, 0)
        }
    };
}

impl CacheValue for Thing {
    nothing_for_a_hit!();
}

/// Protects what is in a source of a test.
#[allow(unsafe_code, reason = "what these tests retire was taken out of its source before")]
fn protect<V: CacheValue>(thread: ThreadSlot, source: &AtomicPtr<Slot<V>>) -> Result<Guard<V>, Unprotected> {
    let seen = source.load(Ordering::Acquire);
    // SAFETY: as the reason says.
    unsafe { Guard::protect(thread, source, seen) }.map(|(guard, _)| guard)
}

/// Retires what was taken out of its source.
fn retire<V: CacheValue>(retired_list: &RetiredList<V>, slots: Vec<Pooled<Slot<V>>>) {
    retired_list.retire(slots.into_iter().map(Unlinked::vouched).collect());
}

fn slot_of<V: CacheValue>(value: &Arc<V>, retired_list: &Arc<RetiredList<V>>, pool: &Pool<Slot<V>>) -> Pooled<Slot<V>> {
    Slot::new(&key(0), Arc::clone(value), Weight::default(), Timestamp::from_nanos(0), retired_list, pool)
}

/// A thing, a slot with it, and a source that names the slot, with a tag as the index has one.
fn thing(retired_list: &Arc<RetiredList<Thing>>) -> (Arc<Thing>, Pooled<Slot<Thing>>, AtomicPtr<Slot<Thing>>) {
    let kept = Arc::new(Thing);
    let slot = slot_of(&kept, retired_list, &Pool::new());
    let source = AtomicPtr::new(slot.as_ptr().map_addr(|at| at | 5));
    (kept, slot, source)
}

/// What was freed has dropped its value: how it is seen that a reader looks at such a slot, without looking at it.
fn is_freed(thing: &Arc<Thing>, kept: usize) -> bool {
    Arc::strong_count(thing) <= kept
}

#[cfg(not(any(loom, shuttle)))]
mod running {
    use std::{
        cell::Cell,
        sync::{
            Barrier,
            atomic::{AtomicBool, AtomicU64},
        },
        thread,
        time::Duration,
    };

    use super::*;
    use crate::sync::thread_slot;

    /// Where the guard of the test below and the thread that retires its slot meet.
    static MISSED: Barrier = Barrier::new(2);

    thread_local! {
        static LATE: Cell<Option<&'static Barrier>> = const { Cell::new(None) };
    }

    /// Where a guard that missed the mark is about to clear its hazard.
    pub(in super::super) fn before_it_is_cleared() {
        if let Some(barrier) = LATE.take() {
            barrier.wait();
            sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn nothing_is_freed_while_it_is_looked_at_and_the_last_guard_frees_it() {
        prepare();
        let retired_list = Arc::new(RetiredList::new());
        let (kept, slot, source) = thing(&retired_list);
        let thread = thread_slot::current().unwrap();
        let guards: Vec<_> = (0..SLOTS).map(|_| protect(thread, &source).unwrap()).collect();
        assert!(matches!(protect(thread, &source), Err(Unprotected::NoRoom)));
        source.store(ptr::null_mut(), Ordering::SeqCst);
        retire(&retired_list, vec![slot]);
        for guard in guards {
            assert!(!is_freed(&kept, 1), "it is looked at");
            assert!(Arc::ptr_eq(guard.value(), &kept));
            // Guards may be dropped anywhere.
            thread::spawn(move || drop(guard)).join().unwrap();
        }
        assert!(is_freed(&kept, 1), "the last guard frees it");
        assert!(matches!(protect(thread, &source), Err(Unprotected::Empty)));
    }

    /// The slot and the list own each other: without anybody who frees it, both would stay, with the file and its
    /// lock.
    #[test]
    fn a_guard_that_is_dropped_while_its_slot_is_retired_does_not_leave_it_behind() {
        prepare();
        let retired_list = Arc::new(RetiredList::new());
        let (kept, slot, source) = thing(&retired_list);
        let (guard, other) = thread::spawn({
            let source = AtomicPtr::new(source.load(Ordering::SeqCst));
            move || {
                let thread = thread_slot::current().unwrap();
                (protect(thread, &source).unwrap(), protect(thread, &source).unwrap())
            }
        })
        .join()
        .unwrap();
        source.store(ptr::null_mut(), Ordering::SeqCst);
        let dropping = thread::spawn(move || {
            LATE.set(Some(&MISSED));
            drop(guard);
        });
        MISSED.wait();
        retire(&retired_list, vec![slot]);
        // Neither does another guard rely on it.
        drop(other);
        dropping.join().unwrap();
        assert!(is_freed(&kept, 1), "nobody freed it");
    }

    /// Freed slots say so before their memory goes to others, so that a reader that looks at one fails.
    #[test]
    fn what_readers_find_while_it_is_replaced_is_alive() {
        struct Canary(AtomicU64);
        impl CacheValue for Canary {
            nothing_for_a_hit!();
        }
        impl Drop for Canary {
            fn drop(&mut self) {
                self.0.store(u64::MAX, Ordering::Relaxed);
            }
        }
        prepare();
        let retired_list = Arc::new(RetiredList::new());
        let pool = Pool::new();
        let slot = |n| slot_of(&Arc::new(Canary(AtomicU64::new(n))), &retired_list, &pool);
        let mut owned = slot(1);
        let source = AtomicPtr::new(owned.as_ptr());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let thread = thread_slot::current().unwrap();
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let guard = protect(thread, &source).unwrap();
                        let now = guard.value().0.load(Ordering::Relaxed);
                        assert!(now >= last && now != u64::MAX, "{last} {now}");
                        last = now;
                    }
                });
            }
            for n in 2..20_000 {
                let next = slot(n);
                source.store(next.as_ptr(), Ordering::SeqCst);
                retire(&retired_list, vec![std::mem::replace(&mut owned, next)]);
            }
            done.store(true, Ordering::Relaxed);
        });
        source.store(ptr::null_mut(), Ordering::SeqCst);
        retire(&retired_list, vec![owned]);
        assert_eq!(Arc::strong_count(&retired_list), 1, "everything was freed");
    }
}

#[cfg(not(any(loom, shuttle)))]
pub(super) use running::before_it_is_cleared;

#[cfg(loom)]
pub(super) use modelled::wait;

/// Every order of events and every value that a load may see, with up to three switches of threads that nothing calls
/// for.
#[cfg(loom)]
mod modelled {
    use super::*;

    /// Orders in which some thread never runs are of no interest: after some turns whoever has waited least comes next.
    pub(in super::super) fn wait(turns: u32) {
        if turns > 2 {
            loom::skip_branch();
        }
        thread::yield_now();
    }

    /// A thing that threads know of, in a source.
    fn model(
        threads: impl Fn(&Arc<RetiredList<Thing>>, &Arc<Thing>, Pooled<Slot<Thing>>, &Arc<AtomicPtr<Slot<Thing>>>)
        + Send
        + Sync
        + 'static,
    ) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let retired_list = Arc::new(RetiredList::new());
            let (kept, slot, source) = thing(&retired_list);
            threads(&retired_list, &kept, slot, &Arc::new(source));
            assert!(is_freed(&kept, 1), "nobody freed it");
        });
    }

    /// Looks at what is in `source`, in a thread's slot.
    fn look(thread: ThreadSlot, kept: &Arc<Thing>, source: &AtomicPtr<Slot<Thing>>) {
        match protect(thread, source) {
            Ok(guard) => {
                // The owner here, the one that reads, and the slot.
                assert!(!is_freed(kept, 2), "it is looked at");
                drop(guard);
            }
            Err(why) => assert_eq!(why, Unprotected::Empty),
        }
    }

    #[test]
    fn one_reader_and_one_who_retires() {
        model(|retired_list, kept, slot, source| {
            let reader = thread::spawn({
                let (kept, source) = (Arc::clone(kept), Arc::clone(source));
                move || look(ThreadSlot::modelled(0), &kept, &source)
            });
            source.store(ptr::null_mut(), Ordering::Release);
            retire(retired_list, vec![slot]);
            reader.join().unwrap();
        });
    }

    #[test]
    fn two_guards_are_dropped_while_it_is_retired() {
        model(|retired_list, _, slot, source| {
            let (one, other) =
                (protect(ThreadSlot::modelled(0), source).unwrap(), protect(ThreadSlot::modelled(1), source).unwrap());
            let threads = [one, other].map(|guard| thread::spawn(move || drop(guard)));
            source.store(ptr::null_mut(), Ordering::Release);
            retire(retired_list, vec![slot]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn a_guard_is_dropped_while_another_reader_looks() {
        model(|retired_list, kept, slot, source| {
            let guard = protect(ThreadSlot::modelled(0), source).unwrap();
            let dropping = thread::spawn(move || drop(guard));
            let reader = thread::spawn({
                let (kept, source) = (Arc::clone(kept), Arc::clone(source));
                move || look(ThreadSlot::modelled(1), &kept, &source)
            });
            source.store(ptr::null_mut(), Ordering::Release);
            retire(retired_list, vec![slot]);
            dropping.join().unwrap();
            reader.join().unwrap();
        });
    }
}
