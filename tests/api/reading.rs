//! Reading: tiers, schemas, ages, and models that outlive what happens to the store.

use std::{sync::Arc, time::Duration};

use modelkeep::{ErrorKind, Store, Tier, Version};

use crate::support::{Folder, HOUR, Weights, WeightsTwo, both, clock, error, first_weight, key, large, weights};

#[test]
fn a_model_comes_from_the_hot_tier_and_after_a_reopen_from_disk() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), weights(1.0)).unwrap();
    assert_eq!(store.get::<Weights>(&key("m")).unwrap().unwrap().tier(), Tier::Hot);
    drop(store);
    let store = folder.open();
    for tier in [Tier::Disk, Tier::Hot] {
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert_eq!((held.tier(), held.decision().is_fresh()), (tier, true));
    }
    store.evict_all();
    assert_eq!(store.get::<Weights>(&key("m")).unwrap().unwrap().tier(), Tier::Disk);
    assert!(store.get::<Weights>(&key("other")).unwrap().is_none());
}

#[test]
fn another_schema_is_an_error_that_names_both() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    let store = folder.open();
    let check = || {
        let err = error(store.get::<WeightsTwo>(&key("m")));
        assert_eq!(err.kind(), ErrorKind::SchemaMismatch);
        assert!(err.message().contains("test.weights v1") && err.message().contains("test.weights v2"), "{err}");
    };
    check();
    store.get::<Weights>(&key("m")).unwrap().unwrap();
    // From the hot tier, too.
    check();
    assert!(store.quarantined().unwrap().is_empty(), "it is not damaged");
}

#[test]
fn a_held_model_outlives_eviction_removal_and_the_store() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), large(7.0)).unwrap();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    store.evict_all();
    store.publish(&key("m"), large(8.0)).unwrap();
    store.remove(&key("m")).run().unwrap();
    drop(store);
    std::fs::remove_file(folder.path()).unwrap();
    assert_eq!(first_weight(&held), 7.0);
    assert_eq!(held.weights.len(), 40_000);
}

#[test]
fn the_age_follows_the_clock_and_never_goes_below_zero() {
    both(|store, clock| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert_eq!(held.age(), Duration::ZERO);
        clock.advance(2 * HOUR);
        assert_eq!(held.age(), 2 * HOUR);
        clock.set(clock_start_less(HOUR));
        assert_eq!(held.age(), Duration::ZERO);
        clock.set(crate::support::noon());
    });
}

fn clock_start_less(duration: Duration) -> modelkeep::Timestamp {
    crate::support::noon().before(duration)
}

#[test]
fn the_hot_tier_is_bounded_by_bytes() {
    let store = Store::options().hot_bytes(1 << 20).in_memory().unwrap();
    for i in 0..10u32 {
        store.publish(&key(&format!("m{i}")), large(f64::from(i))).unwrap();
    }
    let stats = store.stats();
    assert!(stats.hot_bytes <= 1 << 20 && stats.hot_entries == 3, "{stats:?}");
    assert_eq!(stats.evictions, 7);
    for i in 0..10u32 {
        assert_eq!(first_weight(&store.get(&key(&format!("m{i}"))).unwrap().unwrap()), f64::from(i));
    }
}

#[test]
fn a_hot_tier_of_no_bytes_reads_from_disk_every_time() {
    let store = Store::options().hot_bytes(0).in_memory().unwrap();
    store.publish(&key("m"), weights(1.0)).unwrap();
    for _ in 0..2 {
        assert_eq!(store.get::<Weights>(&key("m")).unwrap().unwrap().tier(), Tier::Disk);
    }
}

#[test]
fn hot_entries_expire_when_they_are_read() {
    let clock = clock();
    let store = Store::options().hot_max_age(HOUR).clock(Arc::clone(&clock)).in_memory().unwrap();
    store.publish(&key("m"), weights(1.0)).unwrap();
    clock.advance(HOUR);
    assert_eq!(store.get::<Weights>(&key("m")).unwrap().unwrap().tier(), Tier::Hot);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(store.get::<Weights>(&key("m")).unwrap().unwrap().tier(), Tier::Disk);
    assert_eq!(store.get::<Weights>(&key("m")).unwrap().unwrap().tier(), Tier::Hot);
    assert_eq!(store.stats().expirations, 1);
}

#[test]
fn a_version_that_is_not_there_is_none() {
    both(|store, _| {
        let two = Version::FIRST.next();
        store.publish(&key("m"), weights(1.0)).unwrap();
        assert!(store.get_version::<Weights>(&key("m"), two).unwrap().is_none());
        assert!(store.metadata_of(&key("m"), two).unwrap().is_none());
        assert!(store.archive_bytes(&key("m"), two).unwrap().is_none());
        assert!(store.metadata(&key("n")).unwrap().is_none());
        assert!(store.training_data(&key("m")).unwrap().is_none());
        assert!(store.versions(&key("n")).unwrap().is_empty());
    });
}

#[test]
fn readers_see_whole_versions_while_a_writer_publishes() {
    let store = Store::in_memory().unwrap();
    let key = key("m");
    let model = |i: u32| modelkeep::NewModel::new(Weights { weights: vec![f64::from(i); 300] });
    store.publish(&key, model(0)).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let (store, key) = (&store, &key);
                scope.spawn(move || {
                    let mut last = 0.0;
                    while last < 200.0 {
                        if reader % 2 == 0 {
                            store.evict_all();
                        }
                        let held = store.get::<Weights>(key).unwrap().unwrap();
                        let first = first_weight(&held);
                        assert!(held.weights.iter().all(|w| w.to_native() == first), "a torn model");
                        assert!(first >= last, "a reader went back from {last} to {first}");
                        last = first;
                    }
                })
            })
            .collect();
        for i in 1..=200 {
            store.publish(&key, model(i)).unwrap();
            assert_eq!(first_weight(&store.get(&key).unwrap().unwrap()), f64::from(i), "after its own publish");
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
