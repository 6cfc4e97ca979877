//! Where a key's slot is: an open hash table that is read without a lock.
//!
//! One writer at a time changes it, under the tier's lock; any number of readers probe it meanwhile. Entries are moved
//! when another is removed (so that no tombstones pile up), and a reader may then miss one that is there: who misses
//! asks again under the lock, before going to disk, where a lock costs nothing. What a reader *finds* is right: it is
//! protected, and the slot says whose it is.
//!
//! Linear probing, at most half full. A table that has become too small is emptied and kept, because a reader may still
//! be in it; all of them together are smaller than the one in use.
//!
//! A hit with 10,000 models waits for memory and for little else, and most of all where it must read one place to know
//! the next. So a bucket is one word that matters, the slot's address with some bits of the hash in the lowest of its
//! own, and one of advice: where the archive lies that will be read next. The processor is told of it at once, and
//! fetches it while the slot is looked at. Nothing depends on that word.

#![allow(unsafe_code, reason = "a reader protects what it finds; see `find`")]

use std::{
    array,
    mem::{ManuallyDrop, MaybeUninit},
    ptr,
    sync::OnceLock,
};

use super::{
    hazard::{Guard, TAG, Unprotected},
    slot::{CacheValue, LINE, Slot},
};
use crate::{
    format::{huge_pages, pool::Pooled, prefetch},
    sync::{
        atomic::{AtomicPtr, AtomicUsize, Ordering},
        thread_slot::ThreadSlot,
    },
    types::{invariant::Invariant, key::ModelKey},
};

/// Buckets of the smallest table, as a power of two.
const SMALLEST_LOG2: usize = 6;
/// Tables from 64 buckets to 2^37.
const CLASSES: usize = 32;

/// A slot that readers cannot find any more: it was in the index, and was taken out, or replaced. Nothing else can be
/// retired. One that is dropped instead, because something unwinds, is never freed: a reader may have it still.
pub(super) struct Unlinked<V: CacheValue>(ManuallyDrop<Pooled<Slot<V>>>);

impl<V: CacheValue> Unlinked<V> {
    pub(super) fn into_slot(self) -> Pooled<Slot<V>> {
        ManuallyDrop::into_inner(self.0)
    }

    fn new(slot: Pooled<Slot<V>>) -> Self {
        Self(ManuallyDrop::new(slot))
    }

    pub(super) fn slot(&self) -> &Slot<V> {
        &self.0
    }

    /// A slot of a test, which sees to it itself that nobody finds it.
    #[cfg(test)]
    pub(super) fn vouched(slot: Pooled<Slot<V>>) -> Self {
        Self::new(slot)
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
    /// The slot, with a part of its key's hash in the lowest bits; null in an empty bucket.
    slot: AtomicPtr<Slot<V>>,
    /// Lines of memory that are read after a hit; see [`read_ahead`].
    ahead: AtomicUsize,
}

/// What a reader found, and has protected.
pub(crate) struct Hit<V: CacheValue> {
    guard: Guard<V>,
    /// Of the slot that the guard protects.
    data: V::HitData,
    kind: V::Kind,
}

impl<V: CacheValue> Hit<V> {
    /// What keeps the value, and what a hit needs of it.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(crate) fn into_parts(self) -> (Guard<V>, V::HitData, V::Kind) {
        (self.guard, self.data, self.kind)
    }
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

    /// Looks for `key` and protects what is found, if it is good enough. `None`: there is nothing, as far as one can
    /// see without the lock.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn find(
        &self,
        thread: ThreadSlot,
        key: &ModelKey,
        is_good: impl FnOnce(&Slot<V>) -> bool,
    ) -> Option<Hit<V>> {
        let table = self.current()?;
        let hash = key.cached_hash();
        let (mut at, mask, tag) = (table.home(hash), table.buckets.len() - 1, tag_of(hash));
        for _ in 0..table.buckets.len() {
            let bucket = table.buckets.get(at & mask)?;
            let seen = bucket.slot.load(Ordering::Acquire);
            if seen.addr() & TAG == tag {
                read_ahead(bucket.ahead.load(Ordering::Relaxed));
                // SAFETY: buckets name slots that are retired as `Unlinked` alone, which are in no bucket any more.
                match unsafe { Guard::protect(thread, &bucket.slot, seen) } {
                    Ok((guard, slot)) => {
                        // SAFETY: the guard protects it, and lives longer than this reference.
                        let slot = unsafe { &*slot };
                        if slot.is_of(key) {
                            let hit = Hit { data: slot.hit_data, kind: slot.kind, guard };
                            return is_good(slot).then_some(hit);
                        }
                        give_up(guard);
                    }
                    Err(Unprotected::Empty) => {}
                    Err(Unprotected::NoRoom) => return None,
                }
            } else if seen.is_null() {
                return None;
            }
            at += 1;
        }
        None
    }

    /// Puts a slot in, over the one that it replaces if there is one. `slots` are all others that are in the table, for
    /// one that has to grow. What was replaced is to be retired.
    ///
    /// # Safety
    /// 1. The caller keeps the slot until it has been taken out again, as [`Unlinked`], and retired.
    /// 2. `slots` are all that are in the index, `slot` and `replaced` excepted.
    pub(super) unsafe fn insert<'a>(
        &self,
        slot: &'a Pooled<Slot<V>>,
        replaced: Option<Pooled<Slot<V>>>,
        slots: impl ExactSizeIterator<Item = &'a Pooled<Slot<V>>>,
    ) -> Option<Unlinked<V>> {
        let replaced = replaced.map(Unlinked::new);
        let class = self.class.load(Ordering::Relaxed);
        let table = self.current().always("there is a table from the beginning");
        if 2 * (slots.len() + 1) <= table.buckets.len() {
            table.put(slot, replaced.as_ref().map(|replaced| &*replaced.0));
            return replaced;
        }
        let larger = self.table(class + 1).always("there are no more models than addresses");
        slots.chain([slot]).for_each(|slot| larger.put(slot, None));
        self.class.store(class + 1, Ordering::Release);
        // Readers that are still in it find nothing, and nothing that is retired later.
        table.clear();
        replaced
    }

    /// Takes a slot out, which is to be retired.
    pub(super) fn remove(&self, slot: Pooled<Slot<V>>) -> Unlinked<V> {
        if let Some(table) = self.current() {
            table.take(&slot);
        }
        Unlinked::new(slot)
    }

    /// Takes everything out; `slots` are all that are in it, and are to be retired.
    pub(super) fn clear(&self, slots: impl Iterator<Item = Pooled<Slot<V>>>) -> Vec<Unlinked<V>> {
        if let Some(table) = self.current() {
            table.clear();
        }
        slots.map(Unlinked::new).collect()
    }
}

/// Out of the way of a hit: few keys share a tag.
#[cold]
#[inline(never)]
fn give_up<V: CacheValue>(guard: Guard<V>) {
    drop(guard);
}

/// The bits of a hash that a bucket has beside an address. One is always set, so that no empty bucket has them.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are what is wanted")]
fn tag_of(hash: u64) -> usize {
    (hash as usize & TAG) | 1
}

/// The last line that is read after a hit, by its address, and in its lowest bits how many lines before it the first
/// one is; none, if that is too far.
fn lines_ahead((first, last): (usize, usize)) -> usize {
    let line = |at: usize| at & !TAG;
    let lines = line(last).wrapping_sub(line(first)) / LINE;
    line(last) | if lines <= TAG { lines } else { 0 }
}

/// Has these lines fetched while others are waited for.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the hot path")]
fn read_ahead(lines: usize) {
    let last = lines & !TAG;
    let first = last.wrapping_sub((lines & TAG) * LINE);
    prefetch::line(last);
    prefetch::line(first);
}

impl<V: CacheValue> Table<V> {
    fn new(buckets: usize) -> Self {
        let mut table = Vec::with_capacity(buckets);
        let memory: &mut [MaybeUninit<_>] = table.spare_capacity_mut();
        huge_pages::advise(memory.as_mut_ptr().cast(), size_of_val(memory));
        table.resize_with(buckets, || Bucket { slot: AtomicPtr::new(ptr::null_mut()), ahead: AtomicUsize::new(0) });
        Self { buckets: table.into() }
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
    fn put(&self, slot: &Pooled<Slot<V>>, replaced: Option<&Pooled<Slot<V>>>) {
        for bucket in self.probe(slot.hash()) {
            let free = match replaced {
                Some(replaced) => bucket.names(replaced),
                None => bucket.slot.load(Ordering::Relaxed).is_null(),
            };
            if free {
                bucket.ahead.store(lines_ahead(slot.value.read_next()), Ordering::Relaxed);
                bucket.slot.store(tagged(slot), Ordering::Release);
                return;
            }
        }
    }

    fn take(&self, slot: &Pooled<Slot<V>>) {
        let mask = self.buckets.len() - 1;
        let start = self.home(slot.hash());
        let mut hole = None;
        for at in (0..=mask).map(|step| (start + step) & mask) {
            let Some(bucket) = self.buckets.get(at) else {
                break;
            };
            let Some(hash) = bucket.hash() else {
                break;
            };
            let Some(free) = hole else {
                hole = bucket.names(slot).then_some(at);
                continue;
            };
            // What lies behind the hole and belongs at it or before it moves up.
            let away_from_home = at.wrapping_sub(self.home(hash)) & mask;
            if away_from_home >= (at.wrapping_sub(free) & mask)
                && let Some(target) = self.buckets.get(free)
            {
                target.ahead.store(bucket.ahead.load(Ordering::Relaxed), Ordering::Relaxed);
                target.slot.store(bucket.slot.load(Ordering::Relaxed), Ordering::Release);
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

/// What a bucket has of a slot.
fn tagged<V: CacheValue>(slot: &Pooled<Slot<V>>) -> *mut Slot<V> {
    slot.as_ptr().map_addr(|at| at | tag_of(slot.hash()))
}

impl<V: CacheValue> Bucket<V> {
    fn names(&self, slot: &Pooled<Slot<V>>) -> bool {
        self.slot.load(Ordering::Relaxed) == tagged(slot)
    }

    /// The hash of the key in the slot; `None` in an empty bucket. Called under the lock.
    fn hash(&self) -> Option<u64> {
        let slot = self.slot.load(Ordering::Relaxed).map_addr(|at| at & !TAG);
        // SAFETY: under the lock, every slot in a bucket is kept by who put it in, until it is taken out.
        unsafe { slot.as_ref() }.map(Slot::hash)
    }

    fn clear(&self) {
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
        format::pool::Pool,
        sync::{Arc, thread_slot},
        types::time::Timestamp,
    };

    #[test]
    fn lines_ahead_are_the_first_and_the_last_unless_they_are_far_apart() {
        let ahead = |first, last| {
            let lines = lines_ahead((first, last));
            (lines & !TAG, lines & TAG)
        };
        assert_eq!(ahead(0x1_0000, 0x1_0000 + 1000), (0x1_0000 + 960, 15));
        assert_eq!(ahead(0x1_0010, 0x1_0020), (0x1_0000, 0), "both in one line");
        assert_eq!(ahead(0x1_0000, 0x1_0000 + 63 * LINE), (0x1_0000 + 63 * LINE, 63));
        assert_eq!(ahead(0x1_0000, 0x1_0000 + 64 * LINE), (0x1_0000 + 64 * LINE, 0), "too far apart");
        assert_eq!(ahead(0x1_0040, 0x1_0000), (0x1_0000, 0), "the wrong way round");
    }

    #[test]
    fn what_is_unlinked_and_not_retired_is_never_freed() {
        let (index, pool, retired_list) = (Index::new(), Pool::new(), Arc::new(RetiredList::new()));
        let value = Arc::new(1);
        let slot =
            Slot::new(&key(1), Arc::clone(&value), Weight::default(), Timestamp::from_nanos(0), &retired_list, &pool);
        // SAFETY: it is taken out below.
        let replaced = unsafe { index.insert(&slot, None, std::iter::empty()) };
        assert!(replaced.is_none());
        {
            let _unlinked = index.remove(slot);
        }
        assert_eq!(Arc::strong_count(&value), 2, "as when something unwinds before it is retired");
    }

    fn found(index: &Index<u32>, i: u32) -> Option<u32> {
        let hit = index.find(thread_slot::current().unwrap(), &key(i), |_| true)?;
        Some(**hit.into_parts().0.value())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_finds_what_a_map_would(ops in prop::collection::vec((0u32..300, any::<bool>()), 0..600)) {
            prepare();
            let retired_list = Arc::new(RetiredList::new());
            let index = Index::new();
            let pool = Pool::new();
            let slot = |i, value| {
                Slot::new(&key(i), Arc::new(value), Weight::default(), Timestamp::from_nanos(0), &retired_list, &pool)
            };
            let mut expected: BTreeMap<u32, Pooled<Slot<u32>>> = BTreeMap::new();
            for (value, (i, put)) in (0..).zip(ops) {
                if put {
                    let new = slot(i, value);
                    let old = expected.remove(&i);
                    // SAFETY: `expected` keeps what is in it.
                    let old = unsafe { index.insert(&new, old, expected.values()) };
                    expected.insert(i, new);
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
