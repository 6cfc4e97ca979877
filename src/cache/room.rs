//! Admission without eviction: for what is loaded in advance, which is not to push out what is in use.

use std::{mem, sync::atomic::Ordering};

use super::{Admission, Cache, CacheValue, Inner, slot::Slot};
use crate::types::key::ModelKey;

/// What became of an entry that was to be admitted beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// It is in memory, or another one of its key was already.
    Admitted,
    /// Something was changed since it was loaded, or is being changed.
    Changed,
    /// It does not fit.
    NoRoom,
}

/// Room that is kept for an entry while it is loaded; given back when it is dropped.
#[must_use = "dropped, it keeps no room"]
pub(crate) struct Reservation<'a, V: CacheValue> {
    tier: &'a Cache<V>,
    bytes: u64,
}

impl<V: CacheValue> Reservation<'_, V> {
    /// Whether it is enough for an entry of so many bytes.
    pub(crate) fn is_enough_for(&self, bytes: u64) -> bool {
        self.bytes >= bytes
    }
}

impl<V: CacheValue> Drop for Reservation<'_, V> {
    fn drop(&mut self) {
        // What was admitted has taken it already, under the lock.
        if self.bytes > 0 {
            self.tier.lock().reserved_bytes -= self.bytes;
        }
    }
}

impl<V: CacheValue> Cache<V> {
    /// Keeps room for an entry of so many bytes, if it fits beside the others that are there now and those for which
    /// room is kept. Entries that are admitted otherwise may take it all the same.
    pub(crate) fn reserve(&self, key: &ModelKey, bytes: u64) -> Option<Reservation<'_, V>> {
        let mut inner = self.lock();
        if !inner.has_room(self, key, bytes) {
            return None;
        }
        inner.reserved_bytes += bytes;
        Some(Reservation { tier: self, bytes })
    }

    /// Admits what was loaded from disk since `generation`, unless anything changed meanwhile or is changing, and only
    /// if nothing has to go for it.
    pub(crate) fn admit_beside(
        &self,
        key: &ModelKey,
        admission: Admission<V>,
        generation: u64,
        mut reservation: Reservation<'_, V>,
    ) -> Beside {
        let mut inner = self.lock();
        inner.reserved_bytes -= mem::take(&mut reservation.bytes);
        if inner.generation != generation || !generation.is_multiple_of(2) {
            return Beside::Changed;
        }
        let is_old = |slot: &Slot<V>| self.max_age.is_some_and(|max| admission.now.since(slot.admitted) > max);
        if let Some((slot, _)) = inner.slots.get(key).filter(|(slot, _)| !is_old(slot)) {
            // Somebody else loaded it meanwhile, and since nothing changed it is the same.
            slot.visited.store(true, Ordering::Relaxed);
            return Beside::Admitted;
        }
        if !inner.has_room(self, key, admission.weight.bytes()) {
            return Beside::NoRoom;
        }
        self.admit(inner, key, admission);
        Beside::Admitted
    }
}

impl<V: CacheValue> Inner<V> {
    fn has_room(&self, tier: &Cache<V>, key: &ModelKey, bytes: u64) -> bool {
        let replaced = self.slots.get(key).map_or(0, |(slot, _)| slot.weight.bytes());
        let others = self.weight.bytes() - replaced + self.reserved_bytes;
        others.saturating_add(bytes) <= tier.capacity_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{
        super::tests::{admission, admit, generation, holds, key},
        *,
    };
    use crate::types::time::Timestamp;

    #[test]
    fn what_is_loaded_in_advance_takes_free_room_and_no_other() {
        let tier = Cache::new(100, None);
        admit(&tier, 1, 60);
        let now = generation(&tier);
        let beside = |i, bytes, generation| tier.admit_beside(&key(i), admission(i, bytes), generation, nothing(&tier));
        let has_room = |i, bytes| tier.reserve(&key(i), bytes).is_some();
        assert!(has_room(2, 40) && !has_room(2, 41) && !has_room(2, u64::MAX));
        assert!(has_room(1, 100) && !has_room(1, 101), "its own room is free for it");
        assert_eq!(beside(2, 41, now), Beside::NoRoom);
        assert_eq!(beside(2, 40, now), Beside::Admitted);
        assert_eq!(beside(3, 1, now), Beside::NoRoom);
        assert!(holds(&tier, 1) && holds(&tier, 2) && !holds(&tier, 3));
        // What is there already needs no room.
        assert_eq!(beside(2, 40, now), Beside::Admitted);
        assert_eq!(tier.occupancy().weight.bytes(), 100);
    }

    #[test]
    fn room_is_kept_for_those_who_asked_first() {
        let tier = Cache::new(100, None);
        let now = generation(&tier);
        let first = tier.reserve(&key(1), 70).unwrap();
        assert!(tier.reserve(&key(2), 31).is_none());
        let second = tier.reserve(&key(2), 30).unwrap();
        assert_eq!(tier.admit_beside(&key(3), admission(3, 1), now, nothing(&tier)), Beside::NoRoom);
        drop(second);
        assert_eq!(tier.admit_beside(&key(3), admission(3, 30), now, nothing(&tier)), Beside::Admitted);
        assert_eq!(tier.admit_beside(&key(1), admission(1, 70), now, first), Beside::Admitted);
        assert_eq!((tier.occupancy().weight.bytes(), tier.lock().reserved_bytes), (100, 0));
    }

    /// Of one who has no room.
    fn nothing(tier: &Cache<u32>) -> Reservation<'_, u32> {
        Reservation { tier, bytes: 0 }
    }

    #[test]
    fn what_is_too_old_is_replaced() {
        let tier = Cache::new(100, Some(Duration::from_nanos(10)));
        admit(&tier, 1, 80);
        let now = generation(&tier);
        let later = |nanos| Admission { now: Timestamp::from_nanos(nanos), ..admission(1, 90) };
        let first = Arc::clone(&tier.entries()[0].1);
        assert_eq!(tier.admit_beside(&key(1), later(10), now, nothing(&tier)), Beside::Admitted);
        assert!(Arc::ptr_eq(&tier.entries()[0].1, &first), "it is what was there");
        assert_eq!(tier.admit_beside(&key(1), later(11), now, nothing(&tier)), Beside::Admitted);
        assert!(!Arc::ptr_eq(&tier.entries()[0].1, &first));
        assert_eq!(tier.occupancy().weight.bytes(), 90);
    }

    #[test]
    fn what_was_loaded_before_a_change_or_during_one_is_not_admitted() {
        let tier = Cache::new(100, None);
        let beside = |generation| tier.admit_beside(&key(1), admission(1, 10), generation, nothing(&tier));
        let before = generation(&tier);
        let update = tier.update();
        assert_eq!((beside(before), beside(generation(&tier))), (Beside::Changed, Beside::Changed));
        drop(update);
        assert_eq!(beside(before), Beside::Changed);
        assert_eq!(beside(generation(&tier)), Beside::Admitted);
    }
}
