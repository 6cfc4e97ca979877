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
    sync::Arc,
    time::{Duration, Instant},
};
#[cfg(not(all(test, shuttle)))]
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

#[cfg(all(test, shuttle))]
use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
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

/// What came of waiting for the right to work for a key.
#[derive(Debug)]
pub(crate) enum Acquired<'a, K: FlightKey> {
    Flight {
        flight: Flight<'a, K>,
        /// Whether another thread was at work before.
        waited: bool,
    },
    /// Another thread is still at work.
    TimedOut { waited: Duration },
}

/// A wait is as long as the machine says, whatever clock a store has.
#[allow(clippy::disallowed_methods, reason = "who waits for another thread waits by the machine's time")]
fn now() -> Instant {
    Instant::now()
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
        match self.acquire_within(key, None)? {
            Acquired::Flight { flight, .. } => Ok(flight),
            Acquired::TimedOut { .. } => unreachable!("it waits as long as it takes"),
        }
    }

    /// The same, waiting no longer than `patience`.
    pub(crate) fn acquire_within<'a>(&'a self, key: &'a K, patience: Option<Duration>) -> Result<Acquired<'a, K>> {
        let me = Caller::here();
        let mut state = self.lock();
        let mut begun = None;
        while state.owners.contains_key(key) {
            if state.would_wait_for(key, &me) {
                return Err(Error::invalid(K::OPERATION, key.to_string(), K::CYCLE));
            }
            let begun = *begun.get_or_insert_with(now);
            let left = match patience.map(|patience| patience.checked_sub(begun.elapsed())) {
                None => None,
                Some(Some(left)) if !left.is_zero() => Some(left),
                Some(_) => return Ok(Acquired::TimedOut { waited: begun.elapsed() }),
            };
            state.begin_waiting(&me, key);
            state = self.wait(state, left);
            state.end_waiting(&me, key);
        }
        state.owners.insert(key.clone(), thread::current().id());
        Ok(Acquired::Flight { flight: Flight { flights: self, key }, waited: begun.is_some() })
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<K>>, at_most: Option<Duration>) -> MutexGuard<'a, State<K>> {
        match at_most {
            None => self.released.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.released.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        }
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
#[cfg(not(shuttle))]
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
    fn who_waits_long_enough_gives_up_and_leaves_no_trace() {
        let flights = SingleFlight::default();
        let key = key("a");
        let _flight = flights.acquire(&key).unwrap();
        thread::scope(|scope| {
            let gives_up = || flights.acquire_within(&key, Some(Duration::from_millis(5)));
            let waited = scope.spawn(move || match gives_up() {
                Ok(Acquired::TimedOut { waited }) => waited,
                other => panic!("{other:?}"),
            });
            assert!(waited.join().unwrap() >= Duration::from_millis(5));
        });
        assert!(flights.lock().waiting.is_empty());
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

/// Threads whose order a checker chooses, at random: ten thousand of them.
#[cfg(all(test, shuttle))]
mod scheduled {
    use super::*;
    use crate::sync::run_scheduled as run;

    fn key(name: &str) -> ModelKey {
        ModelKey::new(name, &()).unwrap()
    }

    /// Four callers of one model, of which the first one at work fails: one after the other until there is a model, and
    /// nobody waits for ever.
    #[test]
    fn one_at_a_time_is_at_work_until_one_succeeds() {
        run(|| {
            let flights = Arc::new(SingleFlight::default());
            let made = Arc::new(Mutex::new((0, false)));
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    let (flights, made) = (Arc::clone(&flights), Arc::clone(&made));
                    thread::spawn(move || {
                        let key = key("a");
                        let _flight = flights.acquire(&key).unwrap();
                        let (tries, is_there) = *made.lock().unwrap();
                        if is_there {
                            return;
                        }
                        thread::yield_now();
                        let mut made = made.lock().unwrap();
                        assert_eq!(*made, (tries, false), "two at work");
                        *made = (tries + 1, tries > 0);
                    })
                })
                .collect();
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            assert_eq!(*made.lock().unwrap(), (2, true));
            assert!(flights.lock().owners.is_empty() && flights.lock().waiting.is_empty());
        });
    }

    /// Three threads hold a model each and ask for that of the next: at least one is refused, and none waits for ever.
    #[test]
    fn a_circle_of_trainings_is_refused_somewhere() {
        run(|| {
            let flights = Arc::new(SingleFlight::default());
            let callers: Vec<_> = (0..3)
                .map(|i| {
                    let flights = Arc::clone(&flights);
                    thread::spawn(move || {
                        let (mine, next) = (key(&format!("m{i}")), key(&format!("m{}", (i + 1) % 3)));
                        let _flight = flights.acquire(&mine);
                        flights.acquire(&next).is_err()
                    })
                })
                .collect();
            callers.into_iter().for_each(|caller| {
                caller.join().unwrap();
            });
            assert!(flights.lock().owners.is_empty() && flights.lock().waiting.is_empty());
        });
    }
}
