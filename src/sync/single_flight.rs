//! One piece of work per key at a time: callers that want the same model, or the same bars, wait for the one at work.
//!
//! Waiting callers look again when the one at work is done, and usually find its result. A training closure that asks
//! for a model whose training is, directly or through the trainings of other threads, waiting for that closure would
//! wait for ever; that is found before the wait begins and refused. What cannot be found is a closure that waits for a
//! thread of its own which asks for the same model: nothing says that the one thread waits for the other.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt::Display,
    hash::Hash,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use crate::types::{
    error::{Error, Result},
    key::ModelKey,
};

thread_local! {
    /// Whose work this thread does, when it is that of other threads.
    static ACTING_FOR: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// A thread, and all those that wait for it, because it does their work: what one of them holds, none of them may wait
/// for.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<[ThreadId]>);

impl Caller {
    /// Returns this thread, with those whose work it does.
    pub(crate) fn here() -> Self {
        let others = ACTING_FOR.with_borrow(Clone::clone);
        let others = others.iter().flat_map(|caller| caller.0.iter().copied());
        Self(std::iter::once(thread::current().id()).chain(others).collect())
    }
}

/// Does work of another thread, which waits for it: what that thread holds must not be waited for here.
pub(crate) fn on_behalf_of<T>(caller: &Caller, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Caller>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTING_FOR.set(self.0.take());
        }
    }
    let _restore = Restore(ACTING_FOR.replace(Some(caller.clone())));
    work()
}

/// What work is done for.
pub(crate) trait FlightKey: Clone + Eq + Hash + Display {
    /// What is being done, as a verb.
    const OPERATION: &'static str;
    /// What is wrong when it waits for itself.
    const CYCLE: &'static str;
}

impl FlightKey for ModelKey {
    const OPERATION: &'static str = "train";
    const CYCLE: &'static str = "its training asks for this same model, and would wait for itself for ever";
}

/// The keys that work is being done for.
#[derive(Debug)]
pub(crate) struct SingleFlight<K> {
    state: Mutex<State<K>>,
    released: Condvar,
}

impl<K> Default for SingleFlight<K> {
    fn default() -> Self {
        Self { state: Mutex::new(State { owners: HashMap::new(), waiting: HashMap::new() }), released: Condvar::new() }
    }
}

#[derive(Debug)]
struct State<K> {
    owners: HashMap<K, ThreadId>,
    /// What each thread waits for; several things, when threads that do its work wait for one each.
    waiting: HashMap<ThreadId, Vec<K>>,
}

/// The right to work for one key; given back when dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Flight<'a, K: FlightKey> {
    flights: &'a SingleFlight<K>,
    key: &'a K,
}

impl<K: FlightKey> SingleFlight<K> {
    /// Waits until no other thread holds `key` and takes it.
    pub(crate) fn acquire<'a>(&'a self, key: &'a K) -> Result<Flight<'a, K>> {
        let me = Caller::here();
        let mut state = self.lock();
        while state.owners.contains_key(key) {
            if state.would_wait_for(key, &me) {
                return Err(Error::invalid(K::OPERATION, key.to_string(), K::CYCLE));
            }
            state.begin_waiting(&me, key);
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.end_waiting(&me, key);
        }
        state.owners.insert(key.clone(), thread::current().id());
        Ok(Flight { flights: self, key })
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: FlightKey> State<K> {
    fn begin_waiting(&mut self, me: &Caller, key: &K) {
        for thread in &*me.0 {
            self.waiting.entry(*thread).or_default().push(key.clone());
        }
    }

    fn end_waiting(&mut self, me: &Caller, key: &K) {
        for thread in &*me.0 {
            if let Some(keys) = self.waiting.get_mut(thread) {
                if let Some(at) = keys.iter().position(|waiting| waiting == key) {
                    keys.swap_remove(at);
                }
                if keys.is_empty() {
                    self.waiting.remove(thread);
                }
            }
        }
    }

    /// Whether waiting for `key` would wait for `me`: follows who owns a key and what that thread waits for.
    fn would_wait_for(&self, key: &K, me: &Caller) -> bool {
        let (mut to_follow, mut followed) = (vec![key], HashSet::new());
        while let Some(key) = to_follow.pop() {
            let Some(owner) = self.owners.get(key) else { continue };
            if me.0.contains(owner) {
                return true;
            }
            if followed.insert(owner) {
                to_follow.extend(self.waiting.get(owner).into_iter().flatten());
            }
        }
        false
    }
}

impl<K: FlightKey> Drop for Flight<'_, K> {
    fn drop(&mut self) {
        self.flights.lock().owners.remove(self.key);
        self.flights.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn key(name: &str) -> ModelKey {
        ModelKey::new(name, &()).unwrap()
    }

    #[test]
    fn one_thread_at_a_time_holds_a_key() {
        let flights = SingleFlight::default();
        let (key, at_work, most) = (key("a"), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _flight = flights.acquire(&key).unwrap();
                    most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn a_key_is_given_back_by_a_panic() {
        let flights = SingleFlight::default();
        let key = key("a");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _flight = flights.acquire(&key).unwrap();
            panic!("training failed badly");
        }));
        assert!(panicked.is_err());
        assert!(flights.acquire(&key).is_ok());
    }

    #[test]
    fn waiting_for_oneself_is_refused() {
        let flights = SingleFlight::default();
        let key = key("a");
        let _flight = flights.acquire(&key).unwrap();
        assert!(flights.acquire(&key).is_err());
    }

    /// Has two threads hold a key each, and ask for that of the other by `is_refused`; returns how many are refused.
    fn refused_of_two(
        flights: &SingleFlight<ModelKey>,
        is_refused: impl Fn(&SingleFlight<ModelKey>, &ModelKey) -> bool + Sync,
    ) -> usize {
        let (a, b) = (key("a"), key("b"));
        let both_hold = Barrier::new(2);
        let cross = |mine: &ModelKey, other: &ModelKey| {
            let _flight = flights.acquire(mine).unwrap();
            both_hold.wait();
            is_refused(flights, other)
        };
        let refused = thread::scope(|scope| {
            let one = scope.spawn(|| cross(&a, &b));
            let two = scope.spawn(|| cross(&b, &a));
            [one.join().unwrap(), two.join().unwrap()]
        });
        refused.iter().filter(|&&refused| refused).count()
    }

    #[test]
    fn two_threads_that_wait_for_each_other_are_refused() {
        // The one that came second sees the cycle; the first one goes on when it has given up.
        let flights = SingleFlight::default();
        assert_eq!(refused_of_two(&flights, |flights, other| flights.acquire(other).is_err()), 1);
    }

    #[test]
    fn work_for_others_does_not_wait_for_them_however_many_lie_between() {
        let flights = SingleFlight::default();
        let (a, b) = (key("a"), key("b"));
        let _flight = flights.acquire(&a).unwrap();
        let me = Caller::here();
        let elsewhere = |caller: &Caller, work: &(dyn Fn() -> bool + Sync)| {
            thread::scope(|scope| scope.spawn(|| on_behalf_of(caller, work)).join().unwrap())
        };
        assert!(elsewhere(&me, &|| flights.acquire(&a).is_err()));
        assert!(elsewhere(&me, &|| {
            let _flight = flights.acquire(&b).unwrap();
            elsewhere(&Caller::here(), &|| flights.acquire(&a).is_err() && flights.acquire(&b).is_err())
        }));
        assert!(flights.acquire(&b).is_ok());
    }

    #[test]
    fn two_threads_whose_helpers_wait_for_each_other_are_refused() {
        let flights = SingleFlight::default();
        let by_helper = |flights: &SingleFlight<ModelKey>, other: &ModelKey| {
            let me = Caller::here();
            thread::scope(|scope| {
                let helper = scope.spawn(|| on_behalf_of(&me, || flights.acquire(other).is_err()));
                helper.join().unwrap()
            })
        };
        assert_eq!(refused_of_two(&flights, by_helper), 1);
        assert!(flights.lock().waiting.is_empty());
    }
}
