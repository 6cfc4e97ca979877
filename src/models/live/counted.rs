//! A value that seldom changes, with the number of times that it did.
//!
//! Whoever looks at it remembers the number: as long as that is the same, there is nothing else to look at.

use crossbeam_utils::CachePadded;

use crate::sync::{
    Arc, ArcSwapOption,
    atomic::{AtomicU64, Ordering},
};

/// A number that no value has: who remembers it has seen none.
pub(in super::super) const UNSEEN: u64 = u64::MAX;

pub(in super::super) struct Counted<T> {
    count: CachePadded<AtomicU64>,
    value: ArcSwapOption<T>,
}

impl<T> Counted<T> {
    pub(in super::super) fn empty() -> Self {
        Self { count: CachePadded::new(AtomicU64::new(0)), value: ArcSwapOption::empty() }
    }

    /// How often it was set.
    #[inline]
    pub(in super::super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Sets it, and returns what it was. One at a time.
    pub(in super::super) fn set(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let last = self.value.swap(value);
        // Release: who sees the count sees the value, or a later one.
        self.count.fetch_add(1, Ordering::Release);
        last
    }

    /// The value, and a count: whenever the count is the same, the value is.
    pub(in super::super) fn load(&self) -> (u64, Option<Arc<T>>) {
        // First the count, then the value: one that is set in between is seen again by the next look.
        let count = self.count();
        (count, self.value.load_full())
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;

    /// A reader never goes back, and is never left behind with an old value under a new count.
    #[test]
    fn who_has_seen_the_count_has_seen_the_value() {
        loom::model(|| {
            let cell = Arc::new(Counted::empty());
            let reader = loom::thread::spawn({
                let cell = Arc::clone(&cell);
                move || {
                    let mut last = (UNSEEN, None);
                    for _ in 0..2 {
                        if cell.count() != last.0 {
                            let now = cell.load();
                            assert!(now.1 >= last.1, "{last:?} {now:?}");
                            last = now;
                        }
                    }
                    last
                }
            });
            drop(cell.set(Some(Arc::new(1))));
            drop(cell.set(Some(Arc::new(2))));
            let (seen, value) = reader.join().unwrap();
            assert!(seen != cell.count() || value.as_deref() == Some(&2), "{seen} {value:?}");
            assert!(seen == UNSEEN || value.map_or(0, |value| *value) >= seen, "{seen}");
        });
    }
}
