//! A model in the hot tier, with what a hit needs to know of it.

use std::ops::{AddAssign, SubAssign};

use super::hazard::RetiredList;
use crate::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    types::{key::ModelKey, time::Timestamp},
};

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

    /// Returns it, always the same.
    fn hit_data(&self) -> Self::HitData;
}

/// One entry of the tier. What a hit reads fills two cache lines that are fetched together.
#[repr(C, align(128))]
pub(super) struct Slot<V: CacheValue> {
    pub(super) key: ModelKey,
    pub(super) hit_data: V::HitData,
    /// Set by a hit, cleared by the hand of SIEVE.
    pub(super) visited: AtomicBool,
    /// Not to be found any more: the last guard sees to it that it is freed.
    pub(super) retired: AtomicBool,
    pub(super) value: Arc<V>,
    pub(super) admitted: Timestamp,
    pub(super) weight: Weight,
    pub(super) retired_list: Arc<RetiredList<V>>,
}

impl<V: CacheValue> Slot<V> {
    pub(super) fn new(
        key: ModelKey,
        value: Arc<V>,
        weight: Weight,
        admitted: Timestamp,
        retired_list: &Arc<RetiredList<V>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            hit_data: value.hit_data(),
            visited: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            value,
            admitted,
            weight,
            retired_list: Arc::clone(retired_list),
        })
    }

    /// Notes a hit. Written only when it changes anything: a hot entry's line stays shared among the cores.
    #[inline]
    pub(super) fn visit(&self) {
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }
}
