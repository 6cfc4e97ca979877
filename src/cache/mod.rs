//! Models in memory, bounded by bytes: the hot tier.
//!
//! A hit takes no lock, counts no references and writes to no cache line that another core reads: it probes an
//! [`index`] that others may be changing, protects what it found by a hazard pointer ([`hazard`]), and sets a "visited"
//! bit if that is not set yet. What is handed out stays valid after an eviction, until it is dropped. Admission,
//! eviction ([`sieve`]) and removal happen under a lock. Age is checked when an entry is read, if there is a bound on
//! it.
//!
//! The tier carries a generation number: even while nothing changes, odd from before a commit until the tier shows it.
//! What a reader loaded from disk is admitted only if the generation is even and was the same when the load began.
//! Otherwise a slow reader could put an old version over a newer one, and a model would go back in time.

mod hazard;
mod index;
mod room;
mod sieve;
mod slot;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

pub(crate) use hazard::Guard;
pub(crate) use index::Hit;
pub(crate) use room::{Beside, Reservation};
pub(crate) use slot::{CacheValue, Weight};

use crate::{
    format::pool::{Pool, Pooled},
    sync::thread_slot::ThreadSlot,
    types::{clock::Clock, key::ModelKey, time::Timestamp},
};
use hazard::RetiredList;
use index::{Index, Unlinked};
use sieve::{Node, Sieve};
use slot::Slot;

/// Models in memory.
pub(crate) struct Cache<V: CacheValue> {
    index: Index<V>,
    inner: Mutex<Inner<V>>,
    retired_list: Arc<RetiredList<V>>,
    pool: Pool<Slot<V>>,
    capacity_bytes: u64,
    max_age: Option<Duration>,
}

struct Inner<V: CacheValue> {
    /// What is in the index, and owns it.
    slots: HashMap<ModelKey, (Pooled<Slot<V>>, Node)>,
    queue: Sieve<ModelKey>,
    weight: Weight,
    /// Bytes that are kept for entries which are being loaded: see [`Reservation`].
    reserved_bytes: u64,
    generation: u64,
}

/// What a lookup under the lock found. A miss comes with the generation, to be passed to
/// [`admit_loaded`](Cache::admit_loaded) with what is loaded for it.
pub(crate) enum Lookup<V> {
    Hit(Arc<V>),
    Miss(u64),
    /// There was an entry, and it was older than the tier allows; it is gone now.
    Expired(u64),
}

/// A model to be admitted.
pub(crate) struct Admission<V> {
    pub(crate) value: Arc<V>,
    pub(crate) weight: Weight,
    pub(crate) now: Timestamp,
}

/// How full the tier is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occupancy {
    pub(crate) entries: u64,
    pub(crate) weight: Weight,
}

impl<V: CacheValue> Cache<V> {
    /// Returns an empty tier that holds at most `capacity_bytes`, each entry for at most `max_age`.
    pub(crate) fn new(capacity_bytes: u64, max_age: Option<Duration>) -> Self {
        hazard::prepare();
        let inner = Inner {
            slots: HashMap::new(),
            queue: Sieve::new(),
            weight: Weight::default(),
            reserved_bytes: 0,
            generation: 0,
        };
        let (inner, retired_list) = (Mutex::new(inner), Arc::new(RetiredList::new()));
        Self { index: Index::new(), inner, retired_list, pool: Pool::new(), capacity_bytes, max_age }
    }

    /// Looks `key` up without a lock; `None` when the answer needs one: [`get`](Self::get) has it.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(crate) fn peek(&self, thread: ThreadSlot, key: &ModelKey, clock: &Arc<dyn Clock>) -> Option<Hit<V>> {
        self.index.find(thread, key, |slot| {
            let is_fresh = !self.is_expired(slot, clock);
            if is_fresh {
                slot.visit();
            }
            is_fresh
        })
    }

    /// Looks `key` up under the lock: for one whom [`peek`](Self::peek) gave no answer.
    pub(crate) fn get(&self, key: &ModelKey, clock: &Arc<dyn Clock>) -> Lookup<V> {
        let mut inner = self.lock();
        let Some((slot, _)) = inner.slots.get(key) else {
            return Lookup::Miss(inner.generation);
        };
        if !self.is_expired(slot, clock) {
            slot.visit();
            return Lookup::Hit(Arc::clone(&slot.value));
        }
        let gone = inner.remove(key, &self.index);
        let generation = inner.generation;
        drop(inner);
        self.retired_list.retire(gone.into_iter().collect());
        Lookup::Expired(generation)
    }

    #[inline]
    fn is_expired(&self, slot: &Slot<V>, clock: &Arc<dyn Clock>) -> bool {
        self.max_age.is_some_and(|max| clock.now().since(slot.admitted) > max)
    }

    /// Admits what was loaded from disk since `generation`, unless anything changed meanwhile or is changing. Returns
    /// how many entries were evicted for it.
    pub(crate) fn admit_loaded(&self, key: &ModelKey, admission: Admission<V>, generation: u64) -> u64 {
        let inner = self.lock();
        if inner.generation != generation || !generation.is_multiple_of(2) {
            return 0;
        }
        self.admit(inner, key, admission)
    }

    fn admit(&self, mut inner: MutexGuard<'_, Inner<V>>, key: &ModelKey, admission: Admission<V>) -> u64 {
        let mut gone = Vec::new();
        let replaced = inner.admit(key, admission, self, &mut gone);
        drop(inner);
        let evicted: Vec<_> = gone.iter().map(|gone| (gone.slot().key(), gone.slot().weight.bytes())).collect();
        gone.extend(replaced);
        self.retired_list.retire(gone);
        // Now, since it may panic: what is unlinked is retired by then.
        for (key, bytes) in &evicted {
            tracing::debug!(%key, bytes, "evicted from the hot tier");
        }
        evicted.len() as u64
    }

    /// Begins a change: call it before a commit that moves heads, one at a time.
    pub(crate) fn update(&self) -> UpdateGuard<'_, V> {
        self.lock().generation += 1;
        UpdateGuard { tier: self }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        // Loads that are under way began before this; the parity belongs to a change.
        inner.generation += 2;
        let gone = inner.slots.drain().map(|(_, (slot, _))| slot);
        let gone = self.index.clear(gone);
        inner.queue = Sieve::new();
        inner.weight = Weight::default();
        drop(inner);
        self.retired_list.retire(gone);
    }

    /// All that it holds.
    pub(crate) fn entries(&self) -> Vec<(ModelKey, Arc<V>)> {
        self.lock().slots.iter().map(|(key, (slot, _))| (key.clone(), Arc::clone(&slot.value))).collect()
    }

    /// How full the tier is.
    pub(crate) fn occupancy(&self) -> Occupancy {
        let inner = self.lock();
        Occupancy { entries: inner.slots.len() as u64, weight: inner.weight }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: CacheValue> Drop for Cache<V> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A change of the tier that goes with a commit. Ends when dropped.
pub(crate) struct UpdateGuard<'a, V: CacheValue> {
    tier: &'a Cache<V>,
}

impl<V: CacheValue> UpdateGuard<'_, V> {
    /// Admits the version that is current from now on. Returns how many entries were evicted for it.
    pub(crate) fn replace(&self, key: &ModelKey, admission: Admission<V>) -> u64 {
        self.tier.admit(self.tier.lock(), key, admission)
    }

    /// Forgets `key`.
    pub(crate) fn remove(&self, key: &ModelKey) {
        let gone = self.tier.lock().remove(key, &self.tier.index);
        self.tier.retired_list.retire(gone.into_iter().collect());
    }

    /// Forgets every model that `unwanted` says.
    pub(crate) fn remove_if(&self, unwanted: impl Fn(&ModelKey, &V) -> bool) {
        let mut inner = self.tier.lock();
        let unwanted = |(key, (slot, _)): &(&ModelKey, &(Pooled<Slot<V>>, Node))| unwanted(key, &slot.value);
        let keys: Vec<ModelKey> = inner.slots.iter().filter(unwanted).map(|(key, _)| key.clone()).collect();
        let gone = keys.iter().filter_map(|key| inner.remove(key, &self.tier.index)).collect();
        drop(inner);
        self.tier.retired_list.retire(gone);
    }
}

impl<V: CacheValue> Drop for UpdateGuard<'_, V> {
    fn drop(&mut self) {
        self.tier.lock().generation += 1;
    }
}

impl<V: CacheValue> Inner<V> {
    /// Admits `admission`, and returns what it replaces; what had to go for it is added to `evicted`.
    fn admit(
        &mut self,
        key: &ModelKey,
        admission: Admission<V>,
        tier: &Cache<V>,
        evicted: &mut Vec<Unlinked<V>>,
    ) -> Option<Unlinked<V>> {
        let Admission { value, weight, now } = admission;
        let weight_bytes = weight.bytes();
        let capacity = tier.capacity_bytes;
        if weight_bytes > capacity {
            tracing::debug!(%key, weight_bytes, capacity, "too large for the hot tier");
            return self.remove(key, &tier.index);
        }
        // Before anything is forgotten: from there on nothing may unwind until what is forgotten is out of the index.
        let slot = Slot::new(key, value, weight, now, &tier.retired_list, &tier.pool);
        // Replaced in one step: a reader finds the old one or the new one, and never neither.
        let replaced = self.forget(key);
        while self.weight.bytes() + weight_bytes > capacity {
            let slots = &self.slots;
            let visited =
                |key: &ModelKey| slots.get(key).is_some_and(|(slot, _)| slot.visited.swap(false, Ordering::Relaxed));
            let Some(victim) = self.queue.evict(visited) else {
                break;
            };
            if let Some((slot, _)) = self.slots.remove(&victim) {
                self.weight -= slot.weight;
                evicted.push(tier.index.remove(slot));
            }
        }
        let others = self.slots.values().map(|(slot, _)| slot);
        // SAFETY: `slots` keeps what is in the index, and gives it up as `Unlinked` alone.
        #[allow(unsafe_code, reason = "the cache owns what its index names")]
        let replaced = unsafe { tier.index.insert(&slot, replaced, others) };
        self.weight += weight;
        let node = self.queue.push(key.clone());
        self.slots.insert(key.clone(), (slot, node));
        replaced
    }

    /// Takes `key` out of everything but the index.
    fn forget(&mut self, key: &ModelKey) -> Option<Pooled<Slot<V>>> {
        let (slot, node) = self.slots.remove(key)?;
        self.queue.remove(node);
        self.weight -= slot.weight;
        Some(slot)
    }

    fn remove(&mut self, key: &ModelKey, index: &Index<V>) -> Option<Unlinked<V>> {
        self.forget(key).map(|slot| index.remove(slot))
    }
}

impl<V: CacheValue> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.occupancy().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::clock::ManualClock;

    impl CacheValue for u32 {
        type HitData = ();
        type Kind = ();

        fn hit_data(&self) -> ((), ()) {
            ((), ())
        }

        fn read_next(&self) -> (usize, usize) {
            (0, 0)
        }
    }

    pub(super) fn key(i: u32) -> ModelKey {
        ModelKey::new("m", &i).unwrap()
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::at(Timestamp::from_nanos(0)))
    }

    pub(super) fn admission(value: u32, weight_bytes: u64) -> Admission<u32> {
        Admission {
            value: Arc::new(value),
            weight: Weight { heap_bytes: weight_bytes, mapped_bytes: 0 },
            now: Timestamp::from_nanos(0),
        }
    }

    pub(super) fn admit(tier: &Cache<u32>, i: u32, weight: u64) -> u64 {
        tier.update().replace(&key(i), admission(i, weight))
    }

    pub(super) fn holds(tier: &Cache<u32>, i: u32) -> bool {
        let seen = crate::sync::thread_slot::current().and_then(|slot| tier.peek(slot, &key(i), &clock()));
        let seen = seen.map(|hit| **hit.into_parts().0.value());
        match tier.get(&key(i), &clock()) {
            Lookup::Hit(value) => *value == i && seen.is_none_or(|seen| seen == i),
            Lookup::Miss(_) | Lookup::Expired(_) => {
                assert!(seen.is_none(), "what is not there is not seen");
                false
            }
        }
    }

    pub(super) fn generation(tier: &Cache<u32>) -> u64 {
        match tier.get(&key(u32::MAX), &clock()) {
            Lookup::Miss(generation) => generation,
            _ => unreachable!("nothing has this key"),
        }
    }

    #[test]
    fn bytes_are_bounded_and_visited_entries_stay() {
        let tier = Cache::new(100, None);
        for i in 0..4 {
            assert_eq!(admit(&tier, i, 25), 0);
        }
        assert!(holds(&tier, 0));
        assert_eq!(admit(&tier, 4, 50), 2);
        assert!(holds(&tier, 0), "it was visited");
        assert!(!holds(&tier, 1) && !holds(&tier, 2), "they were the oldest that nobody visited");
        assert!(holds(&tier, 3) && holds(&tier, 4));
        assert_eq!(tier.occupancy().weight.bytes(), 100);
    }

    #[test]
    fn what_is_larger_than_the_tier_is_not_admitted_and_does_not_leave_the_old_one() {
        let tier = Cache::new(100, None);
        admit(&tier, 1, 50);
        admit(&tier, 1, 101);
        assert!(!holds(&tier, 1));
        assert_eq!(tier.occupancy().weight.bytes(), 0);
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used() {
        let tier = Cache::new(100, None);
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
        let tier = Cache::new(100, Some(Duration::from_secs(60)));
        let manual = Arc::new(ManualClock::at(Timestamp::from_nanos(0)));
        let clock: Arc<dyn Clock> = Arc::clone(&manual) as _;
        admit(&tier, 1, 10);
        manual.advance(Duration::from_secs(60));
        assert!(matches!(tier.get(&key(1), &clock), Lookup::Hit(_)));
        manual.advance(Duration::from_nanos(1));
        assert!(matches!(tier.get(&key(1), &clock), Lookup::Expired(_)));
        assert!(matches!(tier.get(&key(1), &clock), Lookup::Miss(_)));
        assert_eq!(tier.occupancy().entries, 0);
    }

    #[test]
    fn a_load_that_began_before_a_change_or_during_one_is_not_admitted() {
        let tier = Cache::new(100, None);
        let load = |value: u32, since| tier.admit_loaded(&key(1), admission(value, 10), since);
        let before = generation(&tier);
        admit(&tier, 1, 10);
        load(99, before);
        assert!(holds(&tier, 1), "the newer version stays");
        let update = tier.update();
        update.remove(&key(1));
        load(1, generation(&tier));
        assert!(!holds(&tier, 1), "the commit may or may not have happened yet");
        drop(update);
        let before = generation(&tier);
        tier.clear();
        load(1, before);
        assert!(!holds(&tier, 1));
        load(1, generation(&tier));
        assert!(holds(&tier, 1));
    }

    /// Something that logs may do what it likes, and what left the tier is freed by its last reader all the same.
    #[test]
    fn what_was_evicted_lives_as_long_as_it_is_looked_at_whatever_its_log_does() {
        struct Panics;

        impl tracing::Subscriber for Panics {
            fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
                true
            }

            fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
                tracing::span::Id::from_u64(1)
            }

            fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

            fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

            fn event(&self, _: &tracing::Event<'_>) {
                panic!("a log that is full");
            }

            fn enter(&self, _: &tracing::span::Id) {}

            fn exit(&self, _: &tracing::span::Id) {}
        }

        let tier = Cache::new(100, None);
        let old = Arc::new(1);
        let admission = Admission { value: Arc::clone(&old), ..admission(1, 60) };
        tier.update().replace(&key(1), admission);
        let thread = crate::sync::thread_slot::current().unwrap();
        let guard = tier.peek(thread, &key(1), &clock()).unwrap().into_parts().0;
        let evicting = std::panic::AssertUnwindSafe(|| admit(&tier, 2, 60));
        let panicked = tracing::subscriber::with_default(Panics, || std::panic::catch_unwind(evicting));
        assert!(panicked.is_err(), "the log was told");
        assert!(Arc::ptr_eq(guard.value(), &old) && Arc::strong_count(&old) == 2, "it is looked at");
        drop(guard);
        assert_eq!(Arc::strong_count(&old), 1, "its last guard frees it");
        assert!(!holds(&tier, 1) && holds(&tier, 2));
    }
}
