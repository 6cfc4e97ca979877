//! What the store should say, kept in maps.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use modelkeep::ModelKey;

pub type Removed = Vec<(u8, u64)>;

/// A version: its numbers, when it was made, and the rows it was trained on if it was given any.
struct Written {
    value: Vec<u32>,
    at: u64,
    rows: Option<BTreeMap<(u8, i64), u8>>,
}

#[derive(Default)]
struct Entry {
    versions: BTreeMap<u64, Written>,
    current: Option<u64>,
    previous: Option<u64>,
    last: u64,
    pins: BTreeSet<u64>,
    rows: BTreeMap<(u8, i64), u8>,
}

/// The models by key index. Interior mutability lets a removal be run through a shared reference, as on the store.
pub struct Oracle {
    retention: usize,
    entries: RefCell<BTreeMap<u8, Entry>>,
}

impl Entry {
    fn forget(&mut self, version: u64) {
        self.versions.remove(&version);
        self.pins.remove(&version);
        self.current.take_if(|current| *current == version);
        self.previous.take_if(|previous| *previous == version);
        if self.versions.is_empty() {
            self.rows.clear();
        }
    }

    fn advance(&mut self, version: u64) {
        if self.current != Some(version) {
            self.previous = self.current;
        }
        self.current = Some(version);
    }

    fn beyond(&self, keep: usize) -> Vec<u64> {
        let newest_first = self.versions.keys().rev().skip(keep);
        let spared = |v: &u64| keep >= 2 && self.previous == Some(*v);
        newest_first.copied().filter(|v| self.current != Some(*v) && !self.pins.contains(v) && !spared(v)).collect()
    }
}

impl Oracle {
    pub fn new(retention: usize) -> Self {
        Self { retention, entries: RefCell::default() }
    }

    fn with<T>(&self, key: u8, read: impl FnOnce(&mut Entry) -> T) -> T {
        read(self.entries.borrow_mut().entry(key).or_default())
    }

    /// `expect` is zero for "no version"; `updated` says that the stored rows were what it was trained on. Returns the
    /// new version, or `None` for a conflict.
    pub fn publish(&self, key: u8, expect: Option<u64>, value: Vec<u32>, now: u64, updated: bool) -> Option<u64> {
        self.with(key, |entry| {
            if expect.is_some_and(|expect| (expect > 0).then_some(expect) != entry.current) {
                return None;
            }
            entry.last += 1;
            let rows = updated.then(|| entry.rows.clone());
            entry.versions.insert(entry.last, Written { value, at: now, rows });
            entry.advance(entry.last);
            for version in entry.beyond(self.retention) {
                entry.forget(version);
            }
            Some(entry.last)
        })
    }

    pub fn current(&self, key: u8) -> Option<Vec<u32>> {
        let current = self.with(key, |entry| entry.current)?;
        self.version(key, current)
    }

    pub fn version(&self, key: u8, version: u64) -> Option<Vec<u32>> {
        self.with(key, |entry| entry.versions.get(&version).map(|trained| trained.value.clone()))
    }

    pub fn versions(&self, key: u8) -> Vec<u64> {
        self.with(key, |entry| entry.versions.keys().copied().collect())
    }

    pub fn rows(&self, key: u8) -> Vec<(u8, i64, u8)> {
        self.with(key, |entry| entry.rows.iter().map(|(&(symbol, at), &value)| (symbol, at, value)).collect())
    }

    pub fn age(&self, key: u8, now: u64) -> Option<u64> {
        self.with(key, |entry| Some(now - entry.versions.get(&entry.current?)?.at))
    }

    /// Merges rows and returns whether that changed anything. Of rows with the same symbol and time the smallest value
    /// counts, because the caller removes duplicates that way.
    pub fn merge(&self, key: u8, rows: &[(u8, i64, u8)]) -> bool {
        self.with(key, |entry| {
            let before = entry.rows.clone();
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows.dedup_by_key(|row| (row.0, row.1));
            entry.rows.extend(rows.into_iter().map(|(symbol, at, value)| ((symbol, at), value)));
            entry.rows != before
        })
    }

    /// Whether the current version was trained on just the rows that are stored.
    pub fn trained_on_what_is_stored(&self, key: u8) -> bool {
        self.with(key, |entry| match entry.current.and_then(|current| entry.versions.get(&current)) {
            Some(Written { rows: Some(rows), .. }) => *rows == entry.rows,
            Some(Written { rows: None, .. }) => entry.rows.is_empty(),
            None => false,
        })
    }

    pub fn rollback(&self, key: u8) -> Option<u64> {
        self.with(key, |entry| {
            let previous = entry.previous?;
            entry.advance(previous);
            Some(previous)
        })
    }

    pub fn rollback_to(&self, key: u8, version: u64) -> bool {
        self.with(key, |entry| {
            let known = entry.versions.contains_key(&version);
            if known {
                entry.advance(version);
            }
            known
        })
    }

    pub fn pin(&self, key: u8, version: u64, pinned: bool) -> bool {
        self.with(key, |entry| {
            let known = entry.versions.contains_key(&version);
            if known && pinned {
                entry.pins.insert(version);
            } else if known {
                entry.pins.remove(&version);
            }
            known
        })
    }

    pub fn prune(&self, (key, keep): (u8, usize)) -> Option<Removed> {
        self.with(key, |entry| {
            let gone = entry.beyond(keep);
            gone.iter().for_each(|&version| entry.forget(version));
            Some(gone.into_iter().map(|version| (key, version)).collect())
        })
    }

    /// `None` when a pin stands in the way.
    pub fn remove(&self, keys: &[u8]) -> Option<Removed> {
        if keys.iter().any(|&key| self.with(key, |entry| !entry.pins.is_empty())) {
            return None;
        }
        let mut removed = Vec::new();
        for &key in keys {
            for version in self.versions(key) {
                self.with(key, |entry| entry.forget(version));
                removed.push((key, version));
            }
        }
        Some(removed)
    }

    pub fn clear(&self, hours: u64, now: u64) -> Removed {
        let mut removed = Vec::new();
        for (&key, entry) in self.entries.borrow_mut().iter_mut() {
            let old = entry
                .versions
                .iter()
                .filter(|(version, trained)| now - trained.at > hours && !entry.pins.contains(version));
            for version in old.map(|(version, _)| *version).collect::<Vec<_>>() {
                entry.forget(version);
                removed.push((key, version));
            }
        }
        removed
    }

    /// Keys that have a current version, in the order of the store.
    pub fn list(&self, key: impl Fn(u8) -> ModelKey) -> Vec<(ModelKey, u64)> {
        let entries = self.entries.borrow();
        let mut listed: Vec<_> = entries.iter().filter_map(|(&k, entry)| Some((key(k), entry.current?))).collect();
        listed.sort();
        listed
    }
}
