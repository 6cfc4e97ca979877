//! A model in the hot tier, with what a hit needs to know of it.

use std::{
    mem::offset_of,
    ops::{AddAssign, SubAssign},
};

use super::hazard::RetiredList;
use crate::{
    format::{
        pool::{Pool, Pooled},
        prefetch,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    types::{
        key::{ConfigHash, ModelKey, ModelName},
        time::Timestamp,
    },
};

/// Bytes of a cache line.
pub(super) const LINE: usize = prefetch::LINE_BYTES;

/// Bytes that an entry takes: in memory of its own, and in the map of a file, which the operating system can take back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) heap_bytes: u64,
    pub(crate) mapped_bytes: u64,
}

impl Weight {
    /// All bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.heap_bytes + self.mapped_bytes
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        self.heap_bytes += other.heap_bytes;
        self.mapped_bytes += other.mapped_bytes;
    }
}

impl SubAssign for Weight {
    fn sub_assign(&mut self, other: Self) {
        self.heap_bytes -= other.heap_bytes;
        self.mapped_bytes -= other.mapped_bytes;
    }
}

/// What can be kept in the tier.
pub(crate) trait CacheValue {
    /// What a hit needs of it, so that it need not touch the rest.
    type HitData: Copy;
    /// What it is; with it, what a hit reads fills one cache line.
    type Kind: Copy;

    /// Returns both, always the same.
    fn hit_data(&self) -> (Self::HitData, Self::Kind);

    /// The first address, and the last, of what is read right after a hit, as far as one can know. Addresses only.
    fn read_next(&self) -> (usize, usize);
}

/// One entry of the tier. What a hit reads is its first cache line.
#[repr(C, align(64))]
pub(super) struct Slot<V: CacheValue> {
    config: ConfigHash,
    /// Where the text of the name is: clones of one key have it at one address.
    name_at: usize,
    pub(super) hit_data: V::HitData,
    pub(super) kind: V::Kind,
    /// Set by a hit, cleared by the hand of SIEVE.
    pub(super) visited: AtomicBool,
    /// Not to be found any more: the last guard sees to it that it is freed.
    pub(super) retired: AtomicBool,
    // From here on: not for a hit whose key is a clone of this one's.
    name: ModelName,
    hash: u64,
    pub(super) value: Arc<V>,
    pub(super) admitted: Timestamp,
    pub(super) weight: Weight,
    pub(super) retired_list: Arc<RetiredList<V>>,
}

impl<V: CacheValue> Slot<V> {
    pub(super) fn new(
        key: &ModelKey,
        value: Arc<V>,
        weight: Weight,
        admitted: Timestamp,
        retired_list: &Arc<RetiredList<V>>,
        pool: &Pool<Self>,
    ) -> Pooled<Self> {
        const {
            assert!(
                cfg!(any(loom, shuttle)) || offset_of!(Self, retired) < LINE,
                "a hit reads one cache line of a slot"
            );
        };
        let (hit_data, kind) = value.hit_data();
        let slot = Self {
            config: key.config_hash(),
            name_at: key.name().address(),
            hit_data,
            kind,
            visited: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            name: key.name().clone(),
            hash: key.cached_hash(),
            value,
            admitted,
            weight,
            retired_list: Arc::clone(retired_list),
        };
        Pooled::new(slot, pool)
    }

    /// Whether it is the slot of this key.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn is_of(&self, key: &ModelKey) -> bool {
        key.has_config(&self.config) && (self.name_at == key.name().address() || self.has_name(key.name()))
    }

    #[cold]
    #[inline(never)]
    fn has_name(&self, name: &ModelName) -> bool {
        self.name == *name
    }

    /// Its key, without the configuration that the hash was made of.
    pub(super) fn key(&self) -> ModelKey {
        ModelKey::from_hash(self.name.clone(), self.config)
    }

    /// The cached hash of its key.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Notes a hit. Written only when it changes anything: a hot entry's line stays shared among the cores.
    #[inline]
    pub(super) fn visit(&self) {
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::key;

    fn slot_of(key: &ModelKey) -> Pooled<Slot<u32>> {
        let retired_list = Arc::new(RetiredList::new());
        Slot::new(key, Arc::new(7), Weight::default(), Timestamp::from_nanos(0), &retired_list, &Pool::new())
    }

    #[test]
    fn a_slot_is_of_keys_with_its_name_and_configuration_wherever_their_text_lies() {
        let slot = slot_of(&key(1));
        assert!(slot.is_of(&key(1)), "made again, so that its name lies elsewhere");
        assert!(slot.is_of(&slot.key()), "a clone's name lies where this one's does");
        assert!(!slot.is_of(&key(2)), "another configuration");
        assert!(!slot.is_of(&ModelKey::new("other", &1).unwrap()), "another name");
        let clone = ModelKey::from_hash(slot.key().name().clone(), key(2).config_hash());
        assert!(!slot.is_of(&clone), "another configuration under the very same name");
        assert_eq!(slot.hash(), key(1).cached_hash());
    }
}
