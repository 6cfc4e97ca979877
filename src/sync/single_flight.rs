//! One piece of work per key at a time: callers that want the same model, or the same bars, wait for the one at work.
//!
//! Waiting callers look again when the one at work is done, and usually find its result. A training closure that asks
//! for a model whose training is, directly or through the trainings of other threads, waiting for that closure would
//! wait for ever; that is found before the wait begins and refused. What cannot be found is a closure that waits for a
//! thread of its own which asks for the same model: nothing says that the one thread waits for the other.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use crate::types::{
    error::{Error, Result},
    key::ModelKey,
};

thread_local! {
    /// Whose work this thread does, when it is another thread's.
    static ACTING_FOR: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// Does work of another thread, which waits for it: what that thread holds must not be waited for here.
pub(crate) fn on_behalf_of<T>(owner: ThreadId, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<ThreadId>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTING_FOR.set(self.0);
        }
    }
    let _restore = Restore(ACTING_FOR.replace((thread::current().id() != owner).then_some(owner)));
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
    waiting: HashMap<ThreadId, K>,
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
        let me = thread::current().id();
        let mut state = self.lock();
        while state.owners.contains_key(key) {
            let owner = ACTING_FOR.get().unwrap_or(me);
            if state.would_wait_for(key, me) || state.would_wait_for(key, owner) {
                return Err(Error::invalid(K::OPERATION, key.to_string(), K::CYCLE));
            }
            state.waiting.insert(me, key.clone());
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting.remove(&me);
        }
        state.owners.insert(key.clone(), me);
        Ok(Flight { flights: self, key })
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: FlightKey> State<K> {
    /// Whether waiting for `key` would wait for `me`: follows who owns a key and what that thread waits for.
    fn would_wait_for(&self, key: &K, me: ThreadId) -> bool {
        let mut key = key;
        // Each thread waits for one key at most, so the chain is no longer than the threads that wait.
        for _ in 0..=self.waiting.len() {
            match self.owners.get(key) {
                None => return false,
                Some(&owner) if owner == me => return true,
                Some(owner) => match self.waiting.get(owner) {
                    None => return false,
                    Some(next) => key = next,
                },
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

    #[test]
    fn two_threads_that_wait_for_each_other_are_refused() {
        let flights = SingleFlight::default();
        let (a, b) = (key("a"), key("b"));
        let both_hold = Barrier::new(2);
        let cross = |mine: &ModelKey, other: &ModelKey| {
            let _flight = flights.acquire(mine).unwrap();
            both_hold.wait();
            flights.acquire(other).is_err()
        };
        let refused = thread::scope(|scope| {
            let one = scope.spawn(|| cross(&a, &b));
            let two = scope.spawn(|| cross(&b, &a));
            [one.join().unwrap(), two.join().unwrap()]
        });
        // The one that came second sees the cycle; the first one goes on when it has given up.
        assert_eq!(refused.iter().filter(|&&refused| refused).count(), 1);
    }
}
