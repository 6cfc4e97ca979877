//! Where a key's slot is: an open hash table that is read without a lock.
//!
//! One writer at a time changes it, under the tier's lock; any number of readers probe it meanwhile. Entries are moved
//! when another is removed (so that no tombstones pile up), and a reader may then miss one that is there: who misses
//! asks again under the lock, before going to disk, where a lock costs nothing. What a reader *finds* is right: it is
//! protected, and its own key says so.
//!
//! Linear probing, at most half full. A table that has become too small is emptied and kept, because a reader may still
//! be in it; all of them together are smaller than the one in use.

#![allow(unsafe_code, reason = "a reader protects what it finds; see `find`")]

use std::{array, ptr, sync::OnceLock};

use super::{
    hazard::{Guard, Unprotected},
    slot::{CacheValue, Slot},
};
use crate::{
    sync::{
        Arc,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
        thread_slot::ThreadSlot,
    },
    types::{invariant::Invariant, key::ModelKey},
};

/// Buckets of the smallest table, as a power of two.
const SMALLEST_LOG2: usize = 6;
/// Tables from 64 buckets to 2^37.
const CLASSES: usize = 32;

/// A slot that readers cannot find any more: it was in the index, and was taken out, or replaced. Nothing else can be
/// retired.
pub(super) struct Unlinked<V: CacheValue>(Arc<Slot<V>>);

impl<V: CacheValue> Unlinked<V> {
    pub(super) fn into_slot(self) -> Arc<Slot<V>> {
        self.0
    }

    /// A slot of a test, which sees to it itself that nobody finds it.
    #[cfg(test)]
    pub(super) fn vouched(slot: Arc<Slot<V>>) -> Self {
        Self(slot)
    }
}

pub(super) struct Index<V: CacheValue> {
    tables: [OnceLock<Table<V>>; CLASSES],
    class: AtomicUsize,
}

struct Table<V: CacheValue> {
    buckets: Box<[Bucket<V>]>,
}

struct Bucket<V: CacheValue> {
    /// The hash of the key in the slot; 0 in an empty bucket.
    hash: AtomicU64,
    slot: AtomicPtr<Slot<V>>,
}

/// What a reader found.
pub(super) enum Found<V: CacheValue> {
    Slot(Guard<V>),
    /// Nothing, as far as one can see without the lock.
    Nothing,
}

impl<V: CacheValue> Index<V> {
    pub(super) fn new() -> Self {
        let index = Self { tables: array::from_fn(|_| OnceLock::new()), class: AtomicUsize::new(0) };
        index.table(0);
        index
    }

    fn table(&self, class: usize) -> Option<&Table<V>> {
        self.tables.get(class).map(|table| table.get_or_init(|| Table::new(1 << (SMALLEST_LOG2 + class))))
    }

    #[inline]
    fn current(&self) -> Option<&Table<V>> {
        self.tables.get(self.class.load(Ordering::Acquire))?.get()
    }

    /// Looks for `key` and protects what is found.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn find(&self, thread: ThreadSlot, key: &ModelKey) -> Found<V> {
        let Some(table) = self.current() else {
            return Found::Nothing;
        };
        let hash = key.cached_hash();
        let (mut at, mask) = (table.home(hash), table.buckets.len() - 1);
        for _ in 0..=mask {
            let Some(bucket) = table.buckets.get(at & mask) else {
                break;
            };
            let found = bucket.hash.load(Ordering::Acquire);
            if found == hash {
                // SAFETY: buckets hold slots that are retired as `Unlinked` alone, which are in no bucket any more.
                match unsafe { Guard::protect(thread, &bucket.slot) } {
                    Ok(guard) if guard.slot().key == *key => return Found::Slot(guard),
                    Ok(_) | Err(Unprotected::Empty) => {}
                    Err(Unprotected::NoRoom) => break,
                }
            }
            if found == 0 {
                break;
            }
            at += 1;
        }
        Found::Nothing
    }

    /// Puts a slot in, over the one that it replaces if there is one. `slots` are all others that are in the table, for
    /// one that has to grow. What was replaced is to be retired.
    ///
    /// # Safety
    /// 1. The caller keeps the slot until it has been taken out again, as [`Unlinked`], and retired.
    /// 2. `slots` are all that are in the index, `slot` and `replaced` excepted.
    pub(super) unsafe fn insert<'a>(
        &self,
        slot: &'a Arc<Slot<V>>,
        replaced: Option<Arc<Slot<V>>>,
        slots: impl ExactSizeIterator<Item = &'a Arc<Slot<V>>>,
    ) -> Option<Unlinked<V>> {
        let class = self.class.load(Ordering::Relaxed);
        let table = self.current().always("there is a table from the beginning");
        if 2 * (slots.len() + 1) <= table.buckets.len() {
            table.put(slot, replaced.as_ref());
            return replaced.map(Unlinked);
        }
        let larger = self.table(class + 1).always("there are no more models than addresses");
        slots.chain([slot]).for_each(|slot| larger.put(slot, None));
        self.class.store(class + 1, Ordering::Release);
        // Readers that are still in it find nothing, and nothing that is retired later.
        table.clear();
        replaced.map(Unlinked)
    }

    /// Takes a slot out, which is to be retired.
    pub(super) fn remove(&self, slot: Arc<Slot<V>>) -> Unlinked<V> {
        if let Some(table) = self.current() {
            table.take(&slot);
        }
        Unlinked(slot)
    }

    /// Takes everything out; `slots` are all that are in it, and are to be retired.
    pub(super) fn clear(&self, slots: impl Iterator<Item = Arc<Slot<V>>>) -> Vec<Unlinked<V>> {
        if let Some(table) = self.current() {
            table.clear();
        }
        slots.map(Unlinked).collect()
    }
}

impl<V: CacheValue> Table<V> {
    fn new(buckets: usize) -> Self {
        let bucket = |_| Bucket { hash: AtomicU64::new(0), slot: AtomicPtr::new(ptr::null_mut()) };
        Self { buckets: (0..buckets).map(bucket).collect() }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "as many high bits are left as a bucket's number has")]
    fn home(&self, hash: u64) -> usize {
        // The high bits of a product depend on all bits of the hash.
        let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> (u64::BITS - self.buckets.len().trailing_zeros())) as usize
    }

    /// The buckets in the order in which a key of this hash is looked for.
    fn probe(&self, hash: u64) -> impl Iterator<Item = &Bucket<V>> {
        let (before, from) = self.buckets.split_at(self.home(hash));
        from.iter().chain(before)
    }

    /// Called under the lock, as all that follow.
    fn put(&self, slot: &Arc<Slot<V>>, replaced: Option<&Arc<Slot<V>>>) {
        let hash = slot.key.cached_hash();
        for bucket in self.probe(hash) {
            let free = match replaced {
                Some(replaced) => bucket.holds(replaced),
                None => bucket.hash.load(Ordering::Relaxed) == 0,
            };
            if free {
                bucket.slot.store(Arc::as_ptr(slot).cast_mut(), Ordering::Release);
                bucket.hash.store(hash, Ordering::Release);
                return;
            }
        }
    }

    fn take(&self, slot: &Arc<Slot<V>>) {
        let mask = self.buckets.len() - 1;
        let start = self.home(slot.key.cached_hash());
        let mut hole = None;
        for at in (0..=mask).map(|step| (start + step) & mask) {
            let Some(bucket) = self.buckets.get(at) else {
                break;
            };
            let hash = bucket.hash.load(Ordering::Relaxed);
            let Some(free) = hole else {
                if hash == 0 {
                    return;
                }
                hole = bucket.holds(slot).then_some(at);
                continue;
            };
            if hash == 0 {
                break;
            }
            // What lies behind the hole and belongs at it or before it moves up.
            let away_from_home = at.wrapping_sub(self.home(hash)) & mask;
            if away_from_home >= (at.wrapping_sub(free) & mask)
                && let Some(target) = self.buckets.get(free)
            {
                target.slot.store(bucket.slot.load(Ordering::Relaxed), Ordering::Release);
                target.hash.store(hash, Ordering::Release);
                hole = Some(at);
            }
        }
        if let Some(bucket) = hole.and_then(|at| self.buckets.get(at)) {
            bucket.clear();
        }
    }

    fn clear(&self) {
        self.buckets.iter().for_each(Bucket::clear);
    }
}

impl<V: CacheValue> Bucket<V> {
    fn holds(&self, slot: &Arc<Slot<V>>) -> bool {
        ptr::eq(self.slot.load(Ordering::Relaxed), Arc::as_ptr(slot))
    }

    fn clear(&self) {
        self.hash.store(0, Ordering::Release);
        self.slot.store(ptr::null_mut(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        cache::{
            Weight,
            hazard::{RetiredList, prepare},
            tests::key,
        },
        sync::thread_slot,
        types::time::Timestamp,
    };

    fn slot(retired_list: &Arc<RetiredList<u32>>, i: u32, value: u32) -> Arc<Slot<u32>> {
        Slot::new(key(i), Arc::new(value), Weight::default(), Timestamp::from_nanos(0), retired_list)
    }

    fn found(index: &Index<u32>, i: u32) -> Option<u32> {
        match index.find(thread_slot::current().unwrap(), &key(i)) {
            Found::Slot(guard) => Some(**guard.value()),
            Found::Nothing => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_finds_what_a_map_would(ops in prop::collection::vec((0u32..300, any::<bool>()), 0..600)) {
            prepare();
            let retired_list = Arc::new(RetiredList::new());
            let index = Index::new();
            let mut expected: BTreeMap<u32, Arc<Slot<u32>>> = BTreeMap::new();
            for (value, (i, put)) in (0..).zip(ops) {
                if put {
                    let new = slot(&retired_list, i, value);
                    let old = expected.remove(&i);
                    // SAFETY: `expected` keeps what is in it.
                    let old = unsafe { index.insert(&new, old, expected.values()) };
                    expected.insert(i, Arc::clone(&new));
                    retired_list.retire(old.into_iter().collect());
                } else if let Some(old) = expected.remove(&i) {
                    retired_list.retire(vec![index.remove(old)]);
                }
                prop_assert_eq!(found(&index, i), expected.get(&i).map(|slot| *slot.value));
            }
            for i in 0..300 {
                prop_assert_eq!(found(&index, i), expected.get(&i).map(|slot| *slot.value));
            }
            retired_list.retire(index.clear(expected.into_values()));
            prop_assert!((0..300).all(|i| found(&index, i).is_none()));
        }
    }
}
