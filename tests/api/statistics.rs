//! Statistics: every call is counted once, and time saved is what it says.

use std::{sync::Arc, time::Duration};

use modelkeep::{
    Freshness, ModelRef, Store,
    admin::TierStats,
    clock::{Clock, ManualClock},
};

use crate::support::{Folder, Weights, clock, key, weights};

fn tier(tier: TierStats) -> (u64, u64) {
    (tier.hits, tier.misses)
}

/// Trains for a second, by the store's clock.
fn slow(
    clock: &Arc<ManualClock>,
) -> impl Fn(Option<&ModelRef<Weights>>) -> Result<modelkeep::NewModel<Weights>, String> {
    let clock = Arc::clone(clock);
    move |_| {
        clock.advance(Duration::from_secs(1));
        Ok(weights(1.0))
    }
}

#[test]
fn hits_misses_and_trainings_add_up() {
    let clock = clock();
    let store = Store::options().clock(Arc::clone(&clock)).in_memory().unwrap();
    assert_eq!(store.stats().hot.hit_rate(), None);
    assert!(store.get::<Weights>(&key("m")).unwrap().is_none());
    store.get_or_train(&key("m"), &Freshness::any_age(), slow(&clock)).unwrap();
    for _ in 0..3 {
        store.get_or_train(&key("m"), &Freshness::any_age(), slow(&clock)).unwrap();
    }
    store.evict_all();
    store.get::<Weights>(&key("m")).unwrap().unwrap();
    store.get_or_train(&key("m"), &Freshness::forced(), slow(&clock)).unwrap();
    let stats = store.stats();
    // Misses: the first get, the first training, the get after the clear, the forced refresh.
    assert_eq!((tier(stats.hot), tier(stats.disk)), ((3, 4), (1, 3)));
    assert_eq!(stats.hot.hit_rate(), Some(3.0 / 7.0));
    assert_eq!((stats.loads, stats.trainings, stats.training_time), (1, 2, Duration::from_secs(2)));
    // Four hits on a model that took a second to train; this clock makes loads take no time.
    assert_eq!(stats.time_saved, Duration::from_secs(4));
    assert_eq!((stats.hot_entries, stats.evictions, stats.expirations), (1, 0, 0));
    assert!(stats.hot_bytes > 24 && stats.hot_bytes < 4096, "{}", stats.hot_bytes);
}

#[test]
fn a_load_costs_time_and_is_taken_off_what_was_saved() {
    /// A clock that moves on by a millisecond whenever it is asked.
    #[derive(Debug)]
    struct Ticking(ManualClock);
    impl Clock for Ticking {
        fn now(&self) -> modelkeep::Timestamp {
            self.0.now()
        }
        fn monotonic(&self) -> Duration {
            self.0.advance(Duration::from_millis(1));
            self.0.monotonic()
        }
    }
    let folder = Folder::new();
    let open = || {
        let ticking = Ticking(ManualClock::at(crate::support::noon()));
        Store::options().clock(ticking).open(folder.path()).unwrap()
    };
    open().publish(&key("m"), weights(1.0).took(Duration::from_millis(10))).unwrap();
    let store = open();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    assert_eq!(held.load_time(), Duration::from_millis(1));
    store.get::<Weights>(&key("m")).unwrap().unwrap();
    let stats = store.stats();
    assert_eq!((stats.loads, stats.load_time), (1, Duration::from_millis(1)));
    assert_eq!(stats.time_saved, Duration::from_millis(19), "two hits of 10 ms, less one load of 1 ms");
}
