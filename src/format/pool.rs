//! Memory for values of one type that lie together: on few pages, and on huge ones when they are many.
//!
//! What lies apart, each in an allocation of its own, costs a look at the page tables for each, and a processor
//! remembers few of their entries. A pool takes memory in chunks and gives room for one value at a time. What is given
//! back is given out again, the last one first; chunks go back when the pool and all values in it are gone. Values do
//! not move.

#![allow(unsafe_code, reason = "room is handed out, and what is in it has one owner; see `Pooled`")]

use std::{
    fmt,
    ops::Deref,
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::huge_pages;
use crate::types::invariant::Invariant;

/// Bytes of the first chunk. Each further one is four times as large, up to the largest.
const SMALLEST_BYTES: usize = 16 << 10;
/// Bytes of the largest chunk: two huge pages.
const LARGEST_BYTES: usize = 4 << 20;

/// Room for values of one type. Clones are the same pool.
pub(crate) struct Pool<T>(Arc<Mutex<Room<T>>>);

struct Room<T> {
    /// Memory alone: as vectors they are empty.
    chunks: Vec<Vec<T>>,
    /// Room in them that nobody has.
    free: Vec<NonNull<T>>,
}

// SAFETY: it is room without values, and whoever takes it has it alone; it is taken under a lock.
unsafe impl<T: Send> Send for Room<T> {}

impl<T> Pool<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Room { chunks: Vec::new(), free: Vec::new() })))
    }

    /// Room for a value, which nobody else has.
    fn take(&self) -> NonNull<T> {
        let mut room = self.lock();
        if room.free.is_empty() {
            room.grow();
        }
        room.free.pop().always("a chunk has room for one value at least")
    }

    /// The room is the pool's again: there is no value in it, and nobody looks at it any more.
    fn give_back(&self, at: NonNull<T>) {
        self.lock().free.push(at);
    }

    fn lock(&self) -> MutexGuard<'_, Room<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Room<T> {
    fn grow(&mut self) {
        let grown = u32::try_from(self.chunks.len()).ok().and_then(|chunks| SMALLEST_BYTES.checked_shl(2 * chunks));
        let bytes = grown.map_or(LARGEST_BYTES, |bytes| bytes.clamp(SMALLEST_BYTES, LARGEST_BYTES));
        let mut chunk = Vec::<T>::with_capacity((bytes / size_of::<T>().max(1)).max(1));
        let memory = chunk.spare_capacity_mut();
        huge_pages::advise(memory.as_mut_ptr().cast(), size_of_val(memory));
        // Those at the beginning are taken first.
        self.free.extend(memory.iter_mut().rev().map(|at| NonNull::from(at).cast()));
        self.chunks.push(chunk);
    }
}

/// A value in a pool: its only owner, as a box would be.
pub(crate) struct Pooled<T> {
    at: NonNull<T>,
    pool: Pool<T>,
}

// SAFETY: it owns a value and a count of its pool, and any thread may drop either.
unsafe impl<T: Send> Send for Pooled<T> {}
// SAFETY: it hands out shared references to the value only.
unsafe impl<T: Send + Sync> Sync for Pooled<T> {}

impl<T> Pooled<T> {
    pub(crate) fn new(value: T, pool: &Pool<T>) -> Self {
        let at = pool.take();
        // SAFETY: the room is large and aligned enough, lies in a chunk that the pool keeps, and is nobody else's.
        unsafe { at.write(value) };
        Self { at, pool: pool.clone() }
    }

    /// Where the value lies until it is dropped.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.at.as_ptr()
    }
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a value, which only `drop` takes away; the pool, and with it the chunk, is kept.
        unsafe { self.at.as_ref() }
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        // SAFETY: as in `deref`, and this is the one time that it is dropped.
        unsafe { self.at.drop_in_place() };
        self.pool.give_back(self.at);
    }
}

impl<T: fmt::Debug> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_lie_together_have_one_owner_each_and_their_room_is_used_again() {
        let pool = Pool::new();
        let counted = Arc::new(());
        let value = |n: u64| (n, Arc::clone(&counted));
        let mut values: Vec<_> = (0..3000).map(|n| Pooled::new(value(n), &pool)).collect();
        assert!((0..).zip(&values).all(|(n, value)| value.0 == n));
        let room: BTreeSet<_> = values.iter().map(Pooled::as_ptr).collect();
        assert_eq!(room.len(), values.len());
        drop(values.split_off(1000));
        assert_eq!(Arc::strong_count(&counted), 1001, "values are dropped once");
        values.extend((1000..3000).map(|n| Pooled::new(value(n), &pool)));
        assert!(values.iter().all(|value| room.contains(&value.as_ptr())));
        assert!((0..).zip(&values).all(|(n, value)| value.0 == n));
        drop(pool);
        assert_eq!(values.iter().map(|value| value.0).sum::<u64>(), (0..3000).sum::<u64>(), "values keep their pool");
        drop(values);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    #[allow(clippy::large_stack_arrays, reason = "values that are large in themselves")]
    fn values_that_are_larger_than_a_chunk_have_room_too() {
        let pool = Pool::new();
        let large = [Pooled::new([1u8; 2 * SMALLEST_BYTES], &pool), Pooled::new([2u8; 2 * SMALLEST_BYTES], &pool)];
        assert_eq!(large.map(|bytes| bytes[bytes.len() - 1]), [1, 2]);
    }

    #[test]
    fn values_go_to_other_threads_and_are_dropped_there() {
        let pool = Pool::new();
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let value = Pooled::new(thread.to_string(), &pool);
                let pool = &pool;
                scope.spawn(move || {
                    let others: Vec<_> = (0..100).map(|n: u32| Pooled::new(n.to_string(), pool)).collect();
                    drop(value);
                    assert!((0..).zip(&others).all(|(n, other)| **other == n.to_string()));
                });
            }
        });
    }
}
