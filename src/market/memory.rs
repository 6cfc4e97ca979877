//! The memory tier of market data: chunks that were decoded, kept as long as there is room.
//!
//! What is kept is found by its place in the file, and is good as long as the header of the value there is the same:
//! the header has the hash of the content. So nothing has to be invalidated. A write, another process, a state that was
//! given up after a fault change what the file has, and the file is looked at each time; only verifying and decoding
//! are saved.

use std::{
    any::Any,
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use crate::{engine::Table, format::envelope::HEADER_BYTES};

/// Bytes of a chunk by which the number of entries is guessed.
const BYTES_PER_ENTRY: u64 = 32 << 10;
/// Bytes that a part of the cache, which has a lock of its own, has at least: nothing larger than a part is kept.
const SHARD_BYTES_MIN: u64 = 32 << 20;
const SHARDS_MAX: u64 = 16;
/// Of so many values it is remembered that they were missed.
const MISSED_SLOTS: usize = 16_384;

/// Decoded chunks.
#[derive(Debug)]
pub(crate) struct Memory {
    /// `None` when nothing is to be kept.
    kept: Option<Cache<Key, Kept, Weights, DefaultHashBuilder, Evicted>>,
    capacity_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
    /// What was looked for in vain, by its hash: as much as there is room for.
    missed: Box<[AtomicU64]>,
    hasher: DefaultHashBuilder,
}

/// What the memory tier of market data has, and what it saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Chunks that were served from memory.
    pub hits: u64,
    /// Chunks that had to be verified and decoded.
    pub misses: u64,
    /// Chunks that were pushed out to make room.
    pub evictions: u64,
    /// Chunks in memory.
    pub entries: u64,
    /// Bytes of them, decoded.
    pub bytes: u64,
    /// What [`Options::market_memory`](crate::Options::market_memory) bounds them to.
    pub capacity_bytes: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    table: Table,
    row: Box<[u8]>,
}

/// The same, borrowed.
struct KeyRef<'a> {
    table: Table,
    row: &'a [u8],
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.hash(state);
        self.row.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.table == key.table && self.row == &*key.row
    }
}

/// The header of a stored value, which says what its content is.
type Front = [u8; HEADER_BYTES];

#[derive(Clone, Debug)]
struct Kept {
    front: Box<Front>,
    bytes: u64,
    value: Arc<dyn Any + Send + Sync>,
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Key, Kept> for Weights {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        kept.bytes + (key.row.len() + size_of::<Key>() + size_of::<Kept>() + HEADER_BYTES) as u64
    }
}

#[derive(Clone, Debug)]
struct Evicted(Arc<AtomicU64>);

impl Lifecycle<Key, Kept> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut Self::RequestState, _: Key, _: Kept) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Memory {
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let entries = usize::try_from(capacity_bytes / BYTES_PER_ENTRY).unwrap_or(usize::MAX).max(1);
        let shards = usize::try_from((capacity_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX)).unwrap_or(1);
        let options = OptionsBuilder::new()
            .weight_capacity(capacity_bytes)
            .estimated_items_capacity(entries)
            .shards(shards)
            .build();
        let kept = options.ok().filter(|_| capacity_bytes > 0).map(|options| {
            Cache::with_options(options, Weights, DefaultHashBuilder::default(), Evicted(Arc::clone(&evictions)))
        });
        let slots = if kept.is_some() { MISSED_SLOTS } else { 0 };
        Self {
            kept,
            capacity_bytes,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions,
            missed: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Whether the same value was said to be missed before; from now on it is. What is read once, as a long history is,
    /// need not be kept; what is read again should be. It may forget.
    pub(crate) fn was_missed(&self, row: &[u8], value: &[u8]) -> bool {
        let front = value.get(..HEADER_BYTES).unwrap_or(value);
        let hash = self.hasher.hash_one((row, front)) | 1;
        let slot = usize::try_from(hash >> 32).unwrap_or(0) % self.missed.len().max(1);
        self.missed.get(slot).is_some_and(|slot| slot.swap(hash, Ordering::Relaxed) == hash)
    }

    /// What was decoded of the row whose stored value is `value`; `None` when it has to be decoded.
    pub(crate) fn get<T: Any + Send + Sync>(&self, table: Table, row: &[u8], value: &[u8]) -> Option<Arc<T>> {
        self.get_as(table, row, value, |found: &Arc<T>| Some(Arc::clone(found)))
    }

    /// The same, for who can use no more than a part of it.
    pub(crate) fn get_as<T: Any + Send + Sync, U>(
        &self,
        table: Table,
        row: &[u8],
        value: &[u8],
        part: impl FnOnce(&Arc<T>) -> Option<U>,
    ) -> Option<U> {
        let kept = self.kept.as_ref()?.get(&KeyRef { table, row });
        let found: Option<Arc<T>> =
            kept.filter(|kept| value.starts_with(&kept.front[..])).and_then(|kept| kept.value.downcast().ok());
        let found = found.as_ref().and_then(part);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps what was decoded of a row, of so many bytes.
    pub(crate) fn admit<T: Any + Send + Sync>(
        &self,
        table: Table,
        row: &[u8],
        value: &[u8],
        bytes: u64,
        decoded: &Arc<T>,
    ) {
        let (Some(cache), Some(front)) = (&self.kept, value.first_chunk()) else {
            return;
        };
        let (key, value) = (Key { table, row: row.into() }, Arc::clone(decoded) as Arc<dyn Any + Send + Sync>);
        cache.insert(key, Kept { front: Box::new(*front), bytes, value });
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let (entries, bytes) = self.kept.as_ref().map_or((0, 0), |cache| (cache.len() as u64, cache.weight()));
        MemoryStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            entries,
            bytes,
            capacity_bytes: self.capacity_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(content: u8) -> Vec<u8> {
        vec![content; HEADER_BYTES + 9]
    }

    #[test]
    fn what_is_kept_is_good_while_the_header_is_the_same() {
        let memory = Memory::new(1 << 20);
        let decoded = Arc::new(vec![1.0, 2.0]);
        let get = |row: &[u8], content| memory.get::<Vec<f64>>(Table::Bars, row, &value(content));
        assert_eq!(get(b"a", 7), None);
        memory.admit(Table::Bars, b"a", &value(7), 16, &decoded);
        assert!(get(b"a", 7).is_some_and(|found| Arc::ptr_eq(&found, &decoded)));
        assert_eq!((get(b"a", 8), get(b"b", 7)), (None, None));
        assert_eq!(memory.get::<Vec<f64>>(Table::Features, b"a", &value(7)), None);
        assert_eq!(memory.get::<Vec<f64>>(Table::Bars, b"a", &value(7)[..HEADER_BYTES - 1]), None);
        let stats = memory.stats();
        assert_eq!((stats.hits, stats.misses, stats.entries), (1, 5, 1));
    }

    #[test]
    fn it_takes_no_more_bytes_than_it_may() {
        let memory = Memory::new(100_000);
        for row in 0..200_u8 {
            memory.admit(Table::Bars, &[row], &value(0), 4_000, &Arc::new(0_u8));
        }
        let stats = memory.stats();
        assert!(stats.bytes <= 100_000 && stats.entries > 10 && stats.evictions > 100, "{stats:?}");
        let none = Memory::new(0);
        none.admit(Table::Bars, b"a", &value(0), 1, &Arc::new(0_u8));
        assert_eq!(none.get::<u8>(Table::Bars, b"a", &value(0)), None);
    }
}
