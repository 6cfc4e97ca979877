//! Rollbacks, pins, and deletions with a dry run.

use std::{sync::Barrier, thread};

use modelkeep::{
    ErrorKind, ModelKey, Store, Tier, Version,
    admin::{Removal, Removed},
};

use crate::support::{Folder, HOUR, Weights, both, error, first_weight, key, large, samples, weights};

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

fn numbers(store: &Store, key: &ModelKey) -> Vec<u64> {
    store.versions(key).unwrap().iter().map(|entry| entry.version.get()).collect()
}

/// Runs a removal after its dry run and checks that the two agree.
fn run(removal: &Removal<'_>) -> Removed {
    let (planned, again) = (removal.dry_run().unwrap(), removal.dry_run().unwrap());
    assert_eq!(planned, again, "a dry run changes nothing");
    let removed = removal.run().unwrap();
    assert_eq!(planned, removed);
    assert_eq!(removal.run().unwrap(), Removed::default(), "what is gone cannot go again");
    removed
}

#[test]
fn a_rollback_goes_to_the_previous_version_and_back() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 1..=3u32 {
        store.publish(&key("m"), large(f64::from(i))).unwrap();
    }
    assert_eq!(store.rollback(&key("m")).unwrap(), version(2));
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 2.0);
    assert_eq!(store.rollback(&key("m")).unwrap(), version(3));
    store.rollback_to(&key("m"), version(1)).unwrap();
    drop(store);
    let store = folder.open();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    assert_eq!((first_weight(&held), held.version()), (1.0, Some(version(1))));
    // The next publish does not reuse a number.
    assert_eq!(store.publish(&key("m"), large(4.0)).unwrap(), version(4));
    assert_eq!(store.rollback(&key("m")).unwrap(), version(1));
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn a_rollback_to_nowhere_is_an_error() {
    both(|store, _| {
        assert_eq!(error(store.rollback(&key("m"))).kind(), ErrorKind::NotFound);
        store.publish(&key("m"), weights(1.0)).unwrap();
        assert_eq!(error(store.rollback(&key("m"))).kind(), ErrorKind::NotFound);
        assert_eq!(error(store.rollback_to(&key("m"), version(7))).kind(), ErrorKind::NotFound);
        assert_eq!(error(store.pin(&key("m"), version(7))).kind(), ErrorKind::NotFound);
        assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 1.0);
    });
}

#[test]
fn pruning_keeps_the_newest_the_current_and_the_pinned() {
    both(|store, _| {
        let key = key("m");
        for i in 1..=6u32 {
            store.publish(&key, weights(f64::from(i)).artifact("a", vec![1; 100])).unwrap();
        }
        store.pin(&key, version(1)).unwrap();
        store.rollback_to(&key, version(3)).unwrap();
        let removed = run(&store.prune(&key, 2));
        assert_eq!(removed.versions.iter().map(|gone| gone.version.get()).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(store.rollback(&key).unwrap(), version(6), "the way back is kept");
        store.rollback(&key).unwrap();
        assert_eq!(removed.bytes, removed.versions.iter().map(|gone| gone.bytes).sum::<u64>());
        assert_eq!(numbers(store, &key), [1, 3, 5, 6]);
        store.unpin(&key, version(1)).unwrap();
        run(&store.prune_all(0));
        assert_eq!(numbers(store, &key), [3]);
        assert_eq!(first_weight(&store.get(&key).unwrap().unwrap()), 3.0);
    });
}

#[test]
fn removing_a_model_removes_all_of_it_and_nothing_else() {
    both(|store, _| {
        // Names that begin with one another.
        for name in ["a", "ab", "a.b", "a-b"] {
            let trained = weights(1.0).training_data(samples("KO", &[(1, 1.0)])).artifact("x", "y");
            store.publish(&key(name), trained).unwrap();
        }
        let removed = run(&store.remove(&key("a")));
        assert_eq!(removed.versions.len(), 1);
        assert!(removed.bytes > removed.versions[0].bytes, "the training data counts, too");
        assert!(store.get::<Weights>(&key("a")).unwrap().is_none());
        assert!(store.training_data(&key("a")).unwrap().is_none());
        for name in ["ab", "a.b", "a-b"] {
            assert!(store.get::<Weights>(&key(name)).unwrap().is_some(), "{name}");
            assert!(store.training_data(&key(name)).unwrap().is_some(), "{name}");
        }
        let found = store.verify().unwrap();
        assert!(found.is_whole() && found.unreferenced.is_empty(), "{found:?}");
        // A version number is never used twice, so that nobody's memory of v1 can come true again.
        assert_eq!(store.publish(&key("a"), weights(2.0)).unwrap(), version(2));
        assert!(matches!(
            error(store.publish_if(&key("a"), Some(version(1)), weights(3.0))).kind(),
            ErrorKind::Conflict { .. }
        ));
    });
}

#[test]
fn invalidating_a_name_takes_all_configurations_in_all_tiers() {
    both(|store, _| {
        let keys: Vec<ModelKey> = (0..3).map(|i| ModelKey::new("m", &i).unwrap()).collect();
        for key in &keys {
            store.publish(key, weights(1.0)).unwrap();
            store.publish(key, weights(2.0)).unwrap();
        }
        store.publish(&key("mm"), weights(1.0)).unwrap();
        assert_eq!(run(&store.invalidate("m").unwrap()).versions.len(), 6);
        assert!(keys.iter().all(|key| store.get::<Weights>(key).unwrap().is_none()));
        assert_eq!(store.get::<Weights>(&key("mm")).unwrap().unwrap().tier(), Tier::Hot);
        assert_eq!(error(store.invalidate("no such name!").map(drop)).kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_pin_stands_in_the_way_of_a_removal() {
    both(|store, _| {
        let keys: Vec<ModelKey> = (0..2).map(|i| ModelKey::new("m", &i).unwrap()).collect();
        for key in &keys {
            store.publish(key, weights(1.0)).unwrap();
        }
        store.pin(&keys[1], version(1)).unwrap();
        for removal in [store.remove(&keys[1]), store.invalidate("m").unwrap()] {
            let err = error(removal.run());
            assert_eq!(err.kind(), ErrorKind::Pinned);
            assert!(err.message().contains("v1 pinned"), "{err}");
        }
        assert!(keys.iter().all(|key| store.get::<Weights>(key).unwrap().is_some()), "all or nothing");
        store.unpin(&keys[1], version(1)).unwrap();
        run(&store.invalidate("m").unwrap());
    });
}

#[test]
fn clearing_goes_by_age_and_promotes_nothing() {
    both(|store, clock| {
        store.publish(&key("old"), weights(1.0)).unwrap();
        store.publish(&key("pinned"), weights(1.0)).unwrap();
        store.pin(&key("pinned"), version(1)).unwrap();
        store.publish(&key("both"), weights(1.0)).unwrap();
        clock.advance(10 * HOUR);
        store.publish(&key("both"), weights(2.0)).unwrap();
        store.publish(&key("back"), weights(1.0)).unwrap();
        clock.advance(10 * HOUR);
        let removed = run(&store.prune_older_than(15 * HOUR));
        let gone: Vec<String> =
            removed.versions.iter().map(|gone| format!("{} {}", gone.key.name(), gone.version)).collect();
        assert_eq!(gone, ["both v1", "old v1"]);
        assert!(store.get::<Weights>(&key("old")).unwrap().is_none());
        assert_eq!(first_weight(&store.get(&key("both")).unwrap().unwrap()), 2.0);
        // Rolled back to an old version, which goes: the newer one, which was left on purpose, does not come back.
        store.publish(&key("back"), weights(2.0)).unwrap();
        store.rollback(&key("back")).unwrap();
        run(&store.prune_older_than(5 * HOUR));
        assert!(store.get::<Weights>(&key("back")).unwrap().is_none());
        assert_eq!(numbers(store, &key("back")), [2]);
        store.rollback_to(&key("back"), version(2)).unwrap();
        assert_eq!(first_weight(&store.get(&key("back")).unwrap().unwrap()), 2.0);
    });
}

#[test]
fn a_compaction_gives_space_back_and_loses_nothing() {
    let folder = Folder::new();
    let store = folder.options().compress_superseded(false).open(folder.path()).unwrap();
    for i in 0..20u32 {
        store.publish(&key(&format!("m{i}")), large(f64::from(i))).unwrap();
    }
    for i in 0..19u32 {
        store.remove(&key(&format!("m{i}"))).run().unwrap();
    }
    let before = store.usage().unwrap().file_bytes;
    let compacted = store.compact().unwrap();
    assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    let after = store.usage().unwrap();
    assert!(after.file_bytes < before / 4, "{before} bytes became {}", after.file_bytes);
    assert_eq!(first_weight(&store.get(&key("m19")).unwrap().unwrap()), 19.0);
    assert!(store.verify().unwrap().is_whole());
}

/// Two that change what is current at the same moment: one is the first, and the other one builds on that.
#[test]
fn rollbacks_at_the_same_moment_come_one_after_the_other() {
    for round in 0..200 {
        let store = Store::in_memory().unwrap();
        let key = key("m");
        for first in 1..=2 {
            store.publish(&key, weights(f64::from(first))).unwrap();
        }
        let together = Barrier::new(2);
        let (own, other) = thread::scope(|scope| {
            let other = scope.spawn(|| {
                together.wait();
                let rolls_back = round % 2 == 0;
                if rolls_back { store.rollback(&key) } else { store.publish(&key, weights(3.0)) }.unwrap()
            });
            together.wait();
            (store.rollback(&key).unwrap().get(), other.join().unwrap().get())
        });
        let current = store.metadata(&key).unwrap().unwrap().version.unwrap().get();
        let serial: &[_] = if round % 2 == 0 { &[(1, 2, 2), (2, 1, 2)] } else { &[(1, 3, 3), (2, 3, 2)] };
        assert!(serial.contains(&(own, other, current)), "{own}, {other}, then {current} is current");
    }
}

/// A removal writes before it frees: in a store that is full under a bound of its own it may use more for a while, and
/// a publish may not. Removals, and a compaction, once failed there, so that nothing could be got rid of.
#[test]
fn a_store_that_is_full_can_be_emptied() {
    const BYTES_MAX: u64 = 2 << 20;
    for (numbers, in_memory) in [(10, false), (600, true), (9_000, false)] {
        let folder = Folder::new();
        let options = folder.options().file_bytes_max(BYTES_MAX).keep_all_versions().compress_superseded(false);
        let store = if in_memory { options.in_memory() } else { options.open(folder.path()) }.unwrap();
        let names = ["a", "b", "c", "d"];
        let model = |n: usize| {
            let trained = modelkeep::NewModel::new(Weights { weights: vec![n as f64; numbers] });
            if numbers > 10 { trained } else { trained.artifact("x", vec![1; 3000]) }
        };
        let failed = (0..).find_map(|n| store.publish(&key(names[n % 4]), model(n)).err()).unwrap();
        assert_eq!(failed.kind(), ErrorKind::StorageFull, "{numbers} numbers");
        let pruned = store.prune(&key("b"), 1).run().unwrap_or_else(|err| panic!("{numbers}, {in_memory}: {err:?}"));
        assert!(!pruned.versions.is_empty());
        let removed = store.remove(&key("a")).run().unwrap_or_else(|err| panic!("{numbers}, {in_memory}: {err:?}"));
        assert!(!removed.versions.is_empty());
        store.compact().unwrap_or_else(|err| panic!("{numbers}, {in_memory}: {err:?}"));
        store.publish(&key("a"), model(1)).unwrap();
        let failed = (0..).find_map(|n| store.publish(&key(names[n % 4]), model(n)).err()).unwrap();
        assert_eq!(failed.kind(), ErrorKind::StorageFull, "{numbers} numbers, again");
        assert!(in_memory || std::fs::metadata(folder.path()).unwrap().len() <= BYTES_MAX, "{numbers} numbers");
        store.prune_all(1).run().unwrap();
        assert!(store.verify().unwrap().is_whole());
        store.close().unwrap();
    }
}
