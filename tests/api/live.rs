//! Handles that follow the current version.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use modelkeep::{ErrorKind, NewModel, Store};

use crate::support::{Folder, Weights, WeightsTwo, both, damage, error, flip_first_bit, key, large, weights};

fn first(live: &modelkeep::Live<Weights>) -> Option<f64> {
    live.load().map(|model| model.weights[0].to_native())
}

#[test]
fn a_handle_follows_publishes_rollbacks_and_removals() {
    both(|store, _| {
        let live = store.live::<Weights>(&key("m")).unwrap();
        assert!(live.load().is_none());
        for v in 1..4 {
            store.publish(&key("m"), weights(f64::from(v))).unwrap();
            assert_eq!(first(&live), Some(f64::from(v)));
            let model = live.load().unwrap();
            assert_eq!(model.version().unwrap().get(), u64::try_from(v).unwrap());
            assert_eq!(model.metadata().version, model.version());
        }
        store.rollback(&key("m")).unwrap();
        assert_eq!(first(&live), Some(2.0));
        let second = live.clone();
        store.evict_all();
        assert_eq!((first(&live), first(&second)), (Some(2.0), Some(2.0)));
        let held = live.load().unwrap().to_model_ref();
        store.remove(&key("m")).run().unwrap();
        assert!(live.load().is_none() && second.load().is_none());
        assert_eq!(held.weights[0].to_native(), 2.0, "what is held stays");
        store.publish(&key("m"), weights(9.0)).unwrap();
        assert_eq!((first(&live), first(&second)), (Some(9.0), Some(9.0)));
        store.invalidate("m").unwrap().run().unwrap();
        assert!(live.load().is_none());
    });
}

#[test]
fn another_model_changes_nothing_and_another_schema_is_no_model() {
    let store = Store::in_memory().unwrap();
    store.publish(&key("m"), weights(1.0)).unwrap();
    let live = store.live::<Weights>(&key("m")).unwrap();
    assert_eq!(first(&live), Some(1.0));
    store.publish(&key("n"), weights(2.0)).unwrap();
    store.remove(&key("n")).run().unwrap();
    assert_eq!(first(&live), Some(1.0));
    store.publish(&key("m"), NewModel::new(WeightsTwo { weights: vec![3.0] })).unwrap();
    assert!(live.load().is_none());
    assert_eq!(error(store.live::<Weights>(&key("m")).map(drop)).kind(), ErrorKind::SchemaMismatch);
    assert_eq!(store.live::<WeightsTwo>(&key("m")).unwrap().load().unwrap().weights[0].to_native(), 3.0);
    store.publish(&key("m"), weights(4.0)).unwrap();
    assert_eq!(first(&live), Some(4.0));
}

#[test]
fn one_prediction_sees_one_model() {
    let store = Store::in_memory().unwrap();
    store.publish(&key("m"), weights(1.0)).unwrap();
    let live = store.live::<Weights>(&key("m")).unwrap();
    let model = live.load().unwrap();
    store.publish(&key("m"), weights(2.0)).unwrap();
    assert_eq!((first(&live), model.weights[0].to_native()), (Some(1.0), 1.0), "while the first is in use");
    drop(model);
    assert_eq!(first(&live), Some(2.0));
}

#[test]
fn a_followed_model_that_is_found_damaged_is_not_served() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), large(1234.5)).unwrap();
    damage(&folder.path(), &1234.5f64.to_le_bytes(), flip_first_bit);
    let store = folder.options().verify(modelkeep::Verify::Background).open(folder.path()).unwrap();
    let live = store.live::<Weights>(&key("m")).unwrap();
    for _ in 0..1000 {
        if live.load().is_none() {
            assert_eq!(store.quarantined().unwrap().len(), 1);
            store.publish(&key("m"), weights(2.0)).unwrap();
            assert_eq!(first(&live), Some(2.0));
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("ten seconds did not show the damage");
}

#[test]
fn a_handle_outlives_its_store() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), weights(1.0)).unwrap();
    let live = store.live::<Weights>(&key("m")).unwrap();
    drop(store);
    assert_eq!(first(&live), Some(1.0));
    drop(live);
    assert_eq!(first(&folder.open().live(&key("m")).unwrap()), Some(1.0));
}

/// Every number of a model is its version, so that a torn one would show.
fn uniform(version: u64) -> NewModel<Weights> {
    NewModel::new(Weights { weights: vec![version as f64; 64] })
}

#[test]
fn eight_readers_see_whole_models_and_never_an_older_one_while_a_thousand_versions_are_published() {
    const VERSIONS: u64 = 1000;
    let folder = Folder::new();
    let store = folder.options().retention(2).compress_superseded(false).open(folder.path()).unwrap();
    store.publish(&key("m"), uniform(1)).unwrap();
    let (done, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let check = |weights: &[f64], last: &mut u64| {
        let version = (1..=VERSIONS).find(|&version| version as f64 == weights[0]).expect("a version");
        assert!(weights.iter().all(|&w| w == weights[0]), "a torn model");
        assert!(version >= *last, "a reader went back from {last} to {version}");
        *last = version;
        seen.fetch_max(version, Ordering::Relaxed);
    };
    let read = |model: &<Weights as rkyv::Archive>::Archived| -> Vec<f64> {
        model.weights.iter().map(|weight| weight.to_native()).collect()
    };
    thread::scope(|scope| {
        for i in 0..8 {
            let store = &store;
            let (done, check, read) = (&done, &check, &read);
            scope.spawn(move || {
                let live = store.live::<Weights>(&key("m")).unwrap();
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    if i % 2 == 0 {
                        check(&read(&live.load().expect("a missing model")), &mut last);
                    } else {
                        check(&read(&store.get::<Weights>(&key("m")).unwrap().expect("a missing model")), &mut last);
                    }
                }
            });
        }
        for version in 2..=VERSIONS {
            store.publish(&key("m"), uniform(version)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.load(Ordering::Relaxed) > VERSIONS / 2, "readers fell behind");
}

/// Followers look again on their own threads while the last store is dropped: the drop closes the file all the same,
/// before it returns.
#[test]
fn who_drops_the_last_store_closes_the_file_whoever_follows_a_model() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(0.0)).unwrap();
    for round in 0..150u32 {
        let store = folder.options().retention(1).open(folder.path());
        let store = store.unwrap_or_else(|err| panic!("round {round}: the file is still open: {err:?}"));
        let (live, done) = (store.live::<Weights>(&key("m")).unwrap(), Arc::new(AtomicBool::new(false)));
        assert_eq!(first(&live), Some(f64::from(round)));
        let follower = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                while !done.load(Ordering::Relaxed) {
                    std::hint::black_box(live.load().map(|current| current.version()));
                }
            }
        });
        store.publish(&key("m"), weights(f64::from(round) + 1.0)).unwrap();
        (0..round * 7 % 400).for_each(|_| std::hint::spin_loop());
        drop(store);
        let again = folder.options().read_only(true).open(folder.path()).map(drop);
        done.store(true, Ordering::Relaxed);
        follower.join().unwrap();
        again.unwrap_or_else(|err| panic!("round {round}: {err:?}"));
    }
}

/// What a handle had before is given back, though the store that would do that in the background is gone: else the file
/// would stay open and locked as long as anybody follows the model.
#[test]
fn after_the_store_is_gone_a_handle_keeps_what_it_shows_and_nothing_else() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), large(1.0)).unwrap();
    let store = folder.options().compress_superseded(false).hot_bytes(0).open(folder.path()).unwrap();
    let live = store.live::<Weights>(&key("m")).unwrap();
    assert_eq!(first(&live), Some(1.0));
    store.publish(&key("m"), large(2.0)).unwrap();
    drop(store);
    assert_eq!(first(&live), Some(2.0));
    folder.open().publish(&key("m"), large(3.0)).unwrap();
}
