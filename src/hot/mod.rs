//! The hot tier: models in memory, bounded by bytes.
//!
//! A hit takes a read lock, clones an `Arc` and sets a "visited" bit if it is not set yet. What is handed out stays
//! valid after an eviction, because it is shared. Age is checked when an entry is read.
//!
//! The tier carries a generation number: even while nothing changes, odd from before a commit until the tier shows it.
//! What a reader loaded from disk is admitted only if the generation is even and was the same when the load began.
//! Otherwise a slow reader could put an old version over a newer one, and a model would go back in time.

mod sieve;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{clock::Clock, key::ModelKey, time::Timestamp};
use sieve::{Node, Sieve};

/// Models in memory.
pub(crate) struct HotTier<V> {
    inner: RwLock<Inner<V>>,
    capacity_bytes: u64,
    max_age: Option<Duration>,
}

struct Inner<V> {
    slots: HashMap<ModelKey, Slot<V>>,
    queue: Sieve<ModelKey>,
    bytes: u64,
    generation: u64,
}

struct Slot<V> {
    value: Arc<V>,
    visited: AtomicBool,
    weight_bytes: u64,
    admitted: Timestamp,
    node: Node,
}

/// What a lookup found.
pub(crate) enum Lookup<V> {
    Hit(Arc<V>),
    Miss,
    /// There was an entry, and it was older than the tier allows; it is gone now.
    Expired,
}

/// How full the tier is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occupancy {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl<V> HotTier<V> {
    /// Returns an empty tier that holds at most `capacity_bytes`, each entry for at most `max_age`.
    pub(crate) fn new(capacity_bytes: u64, max_age: Option<Duration>) -> Self {
        let inner = Inner { slots: HashMap::new(), queue: Sieve::new(), bytes: 0, generation: 0 };
        Self { inner: RwLock::new(inner), capacity_bytes, max_age }
    }

    /// Looks `key` up.
    pub(crate) fn get(&self, key: &ModelKey, clock: &dyn Clock) -> Lookup<V> {
        let inner = self.read();
        let Some(slot) = inner.slots.get(key) else {
            return Lookup::Miss;
        };
        let expired = |admitted: Timestamp| self.max_age.is_some_and(|max| clock.now().since(admitted) > max);
        if !expired(slot.admitted) {
            // Written only when it changes anything: a hot entry's line stays shared among the cores.
            if !slot.visited.load(Ordering::Relaxed) {
                slot.visited.store(true, Ordering::Relaxed);
            }
            return Lookup::Hit(Arc::clone(&slot.value));
        }
        let admitted = slot.admitted;
        drop(inner);
        let mut inner = self.write();
        // Another thread may have put a fresh entry here in between.
        if inner.slots.get(key).is_some_and(|slot| slot.admitted == admitted) {
            inner.remove(key);
        }
        Lookup::Expired
    }

    /// The generation: pass it to [`admit_loaded`](Self::admit_loaded) when a load begins.
    pub(crate) fn generation(&self) -> u64 {
        self.read().generation
    }

    /// Admits what was loaded from disk since `generation`, unless anything changed meanwhile or is changing. Returns
    /// how many entries were evicted for it.
    pub(crate) fn admit_loaded(
        &self,
        key: &ModelKey,
        value: Arc<V>,
        weight: u64,
        now: Timestamp,
        generation: u64,
    ) -> u64 {
        let mut inner = self.write();
        if inner.generation != generation || !generation.is_multiple_of(2) {
            return 0;
        }
        inner.admit(key, value, weight, now, self.capacity_bytes)
    }

    /// Begins a change: call it before a commit that moves heads, one at a time.
    pub(crate) fn change(&self) -> Change<'_, V> {
        self.write().generation += 1;
        Change { tier: self }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut inner = self.write();
        // Loads that are under way began before this; the parity belongs to a change.
        inner.generation += 2;
        inner.slots.clear();
        inner.queue = Sieve::new();
        inner.bytes = 0;
    }

    /// How full the tier is.
    pub(crate) fn occupancy(&self) -> Occupancy {
        let inner = self.read();
        Occupancy { entries: inner.slots.len() as u64, bytes: inner.bytes }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<V>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<V>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of the tier that goes with a commit. Ends when dropped.
pub(crate) struct Change<'a, V> {
    tier: &'a HotTier<V>,
}

impl<V> Change<'_, V> {
    /// Admits the version that is current from now on. Returns how many entries were evicted for it.
    pub(crate) fn replace(&self, key: &ModelKey, value: Arc<V>, weight: u64, now: Timestamp) -> u64 {
        self.tier.write().admit(key, value, weight, now, self.tier.capacity_bytes)
    }

    /// Forgets `key`.
    pub(crate) fn remove(&self, key: &ModelKey) {
        self.tier.write().remove(key);
    }

    /// Forgets every key that `unwanted` says.
    pub(crate) fn remove_if(&self, unwanted: impl Fn(&ModelKey) -> bool) {
        let mut inner = self.tier.write();
        let keys: Vec<ModelKey> = inner.slots.keys().filter(|key| unwanted(key)).cloned().collect();
        keys.iter().for_each(|key| inner.remove(key));
    }
}

impl<V> Drop for Change<'_, V> {
    fn drop(&mut self) {
        self.tier.write().generation += 1;
    }
}

impl<V> Inner<V> {
    fn admit(&mut self, key: &ModelKey, value: Arc<V>, weight_bytes: u64, now: Timestamp, capacity: u64) -> u64 {
        self.remove(key);
        if weight_bytes > capacity {
            tracing::debug!(%key, weight_bytes, capacity, "too large for the hot tier");
            return 0;
        }
        let mut evicted = 0;
        while self.bytes + weight_bytes > capacity {
            let slots = &self.slots;
            let visited =
                |key: &ModelKey| slots.get(key).is_some_and(|slot| slot.visited.swap(false, Ordering::Relaxed));
            let Some(victim) = self.queue.evict(visited) else {
                break;
            };
            if let Some(slot) = self.slots.remove(&victim) {
                self.bytes -= slot.weight_bytes;
                tracing::debug!(key = %victim, bytes = slot.weight_bytes, "evicted from the hot tier");
            }
            evicted += 1;
        }
        let node = self.queue.push(key.clone());
        let slot = Slot { value, visited: AtomicBool::new(false), weight_bytes, admitted: now, node };
        self.bytes += weight_bytes;
        self.slots.insert(key.clone(), slot);
        evicted
    }

    fn remove(&mut self, key: &ModelKey) {
        if let Some(slot) = self.slots.remove(key) {
            self.queue.remove(slot.node);
            self.bytes -= slot.weight_bytes;
        }
    }
}

impl<V> fmt::Debug for HotTier<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.occupancy().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn key(i: u32) -> ModelKey {
        ModelKey::new("m", &i).unwrap()
    }

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp::from_nanos(0))
    }

    fn admit(tier: &HotTier<u32>, i: u32, weight: u64) -> u64 {
        tier.change().replace(&key(i), Arc::new(i), weight, Timestamp::from_nanos(0))
    }

    fn holds(tier: &HotTier<u32>, i: u32) -> bool {
        matches!(tier.get(&key(i), &clock()), Lookup::Hit(value) if *value == i)
    }

    #[test]
    fn bytes_are_bounded_and_visited_entries_stay() {
        let tier = HotTier::new(100, None);
        for i in 0..4 {
            assert_eq!(admit(&tier, i, 25), 0);
        }
        assert!(holds(&tier, 0));
        assert_eq!(admit(&tier, 4, 50), 2);
        assert!(holds(&tier, 0), "it was visited");
        assert!(!holds(&tier, 1) && !holds(&tier, 2), "they were the oldest that nobody visited");
        assert!(holds(&tier, 3) && holds(&tier, 4));
        assert_eq!(tier.occupancy().bytes, 100);
    }

    #[test]
    fn what_is_larger_than_the_tier_is_not_admitted_and_does_not_leave_the_old_one() {
        let tier = HotTier::new(100, None);
        admit(&tier, 1, 50);
        admit(&tier, 1, 101);
        assert!(!holds(&tier, 1));
        assert_eq!(tier.occupancy().bytes, 0);
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used() {
        let tier = HotTier::new(100, None);
        for i in 0..5 {
            admit(&tier, i, 10);
        }
        for i in 0..1000 {
            (0..5).for_each(|hot| assert!(holds(&tier, hot), "at {i}"));
            admit(&tier, 100 + i, 10);
        }
    }

    #[test]
    fn old_entries_expire_when_they_are_read() {
        let tier = HotTier::new(100, Some(Duration::from_secs(60)));
        let clock = clock();
        admit(&tier, 1, 10);
        clock.advance(Duration::from_secs(60));
        assert!(matches!(tier.get(&key(1), &clock), Lookup::Hit(_)));
        clock.advance(Duration::from_nanos(1));
        assert!(matches!(tier.get(&key(1), &clock), Lookup::Expired));
        assert!(matches!(tier.get(&key(1), &clock), Lookup::Miss));
        assert_eq!(tier.occupancy().entries, 0);
    }

    #[test]
    fn a_load_that_began_before_a_change_or_during_one_is_not_admitted() {
        let tier = HotTier::new(100, None);
        let load = |value: u32, since| tier.admit_loaded(&key(1), Arc::new(value), 10, Timestamp::from_nanos(0), since);
        let before = tier.generation();
        admit(&tier, 1, 10);
        load(99, before);
        assert!(holds(&tier, 1), "the newer version stays");
        let change = tier.change();
        change.remove(&key(1));
        load(1, tier.generation());
        assert!(!holds(&tier, 1), "the commit may or may not have happened yet");
        drop(change);
        let before = tier.generation();
        tier.clear();
        load(1, before);
        assert!(!holds(&tier, 1));
        load(1, tier.generation());
        assert!(holds(&tier, 1));
    }
}
