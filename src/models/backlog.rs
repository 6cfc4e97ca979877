//! What waits for maintenance, as memory has it: how much, whether somebody is about to see to it, and who is at it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32},
    },
};

use crate::types::key::ModelKey;

/// Bytes of archives that wait; beyond it publishes leave nothing.
const BACKLOG_BYTES_MAX: u64 = 512 << 20;

/// The models for which something is left, with the bytes that are concerned.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    /// The thread in the background is about to see to it.
    pub(super) is_due: AtomicBool,
    /// How often it has failed since it last went well.
    pub(super) failures: AtomicU32,
    /// One at a time.
    pub(super) running: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: HashMap<ModelKey, u64>,
    bytes_in_all: u64,
}

impl Backlog {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more may be left.
    pub(super) fn has_room(&self) -> bool {
        self.waiting().bytes_in_all < BACKLOG_BYTES_MAX
    }

    /// How many models wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().bytes.len()
    }

    pub(super) fn set(&self, key: &ModelKey, bytes: u64) {
        let mut waiting = self.waiting();
        let before = waiting.bytes.insert(key.clone(), bytes).unwrap_or(0);
        waiting.bytes_in_all = waiting.bytes_in_all - before + bytes;
    }

    pub(super) fn keep_only(&self, keys: &HashSet<ModelKey>) {
        let mut waiting = self.waiting();
        waiting.bytes.retain(|key, _| keys.contains(key));
        waiting.bytes_in_all = waiting.bytes.values().sum();
    }

    pub(super) fn remove(&self, key: &ModelKey) {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes.remove(key).unwrap_or(0);
        waiting.bytes_in_all -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_bound_to_what_may_wait() {
        let (backlog, key) = (Backlog::default(), |i: u64| ModelKey::new("m", &i).unwrap());
        (0..4).for_each(|i| backlog.set(&key(i), BACKLOG_BYTES_MAX / 4 - 1));
        assert!(backlog.has_room());
        // A model counts once, however often it is published.
        (1..=5).for_each(|more| backlog.set(&key(0), BACKLOG_BYTES_MAX / 4 + more));
        assert!(!backlog.has_room() && backlog.len() == 4);
        backlog.remove(&key(0));
        assert!(backlog.has_room() && backlog.len() == 3);
        backlog.keep_only(&[key(1), key(7)].into());
        assert_eq!((backlog.len(), backlog.waiting().bytes_in_all), (1, BACKLOG_BYTES_MAX / 4 - 1));
        (0..4).for_each(|i| backlog.remove(&key(i)));
        assert_eq!((backlog.len(), backlog.waiting().bytes_in_all), (0, 0));
    }
}
