//! A model in the hot tier, with what a hit needs to know of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::hazard::Limbo;
use crate::{key::ModelKey, time::Timestamp};

/// One entry of the tier.
pub(super) struct Slot<V> {
    pub(super) key: ModelKey,
    pub(super) value: Arc<V>,
    /// Set by a hit, cleared by the hand of SIEVE.
    pub(super) visited: AtomicBool,
    /// Not to be found any more: the last guard sees to it that it is freed.
    pub(super) retired: AtomicBool,
    pub(super) admitted: Timestamp,
    pub(super) weight_bytes: u64,
    pub(super) limbo: Arc<Limbo<V>>,
}

impl<V> Slot<V> {
    /// Notes a hit. Written only when it changes anything: a hot entry's line stays shared among the cores.
    #[inline]
    pub(super) fn visit(&self) {
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }
}
