//! `get_or_train`: which tier, why, and that no trained model is lost.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use modelkeep::{ErrorKind, Freshness, ModelRef, NewModel, Reason, Store, Tier, TrainError};

use crate::support::{Folder, HOUR, Weights, WeightsTwo, both, error, first_weight, key, large, weights};

fn never(_: Option<&ModelRef<Weights>>) -> Result<NewModel<Weights>, String> {
    panic!("nothing was to be trained")
}

fn gives(first: f64) -> impl Fn(Option<&ModelRef<Weights>>) -> Result<NewModel<Weights>, String> {
    move |_| Ok(weights(first))
}

#[test]
fn a_missing_model_is_trained_once_and_then_served() {
    let folder = Folder::new();
    let store = folder.open();
    let held = store.get_or_train(&key("m"), &Freshness::any_age(), gives(1.0)).unwrap();
    assert_eq!((held.tier(), held.decision().reasons()), (Tier::Trained, &[Reason::Missing][..]));
    assert_eq!(held.version().unwrap().get(), 1);
    let held = store.get_or_train(&key("m"), &Freshness::any_age(), never).unwrap();
    assert_eq!((held.tier(), held.decision().is_fresh()), (Tier::Hot, true));
    drop(store);
    let held = folder.open().get_or_train(&key("m"), &Freshness::any_age(), never).unwrap();
    assert_eq!((held.tier(), held.decision().is_fresh()), (Tier::Disk, true));
}

#[test]
fn an_old_model_expires_and_is_the_prior_of_the_next() {
    both(|store, clock| {
        let fresh = Freshness::max_age(HOUR);
        store.get_or_train(&key("m"), &fresh, gives(1.0)).unwrap();
        clock.advance(HOUR);
        store.get_or_train(&key("m"), &fresh, never).unwrap();
        clock.advance(Duration::from_secs(1));
        let held = store
            .get_or_train(&key("m"), &fresh, |prior| {
                let prior = prior.unwrap();
                Ok::<_, String>(weights(first_weight(prior) + 1.0))
            })
            .unwrap();
        let (age, max_age) = (HOUR + Duration::from_secs(1), HOUR);
        assert_eq!(held.decision().reasons(), [Reason::Expired { age, max_age }]);
        assert_eq!(first_weight(&held), 2.0);
        assert_eq!(held.metadata().parent.unwrap().get(), 1);
        store.get_or_train(&key("m"), &fresh, never).unwrap();
    });
}

#[test]
fn a_forced_refresh_trains_and_publishes() {
    both(|store, _| {
        for version in 1..=2 {
            let held = store.get_or_train(&key("m"), &Freshness::forced(), gives(1.0)).unwrap();
            let reasons = if version == 1 { vec![Reason::Forced, Reason::Missing] } else { vec![Reason::Forced] };
            assert_eq!((held.tier(), held.decision().reasons()), (Tier::Trained, &reasons[..]));
            assert_eq!(held.version().unwrap().get(), version);
        }
    });
}

#[test]
fn a_bypass_neither_reads_nor_writes() {
    both(|store, _| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let before = (store.stats().hot, store.stats().disk);
        let held = store
            .get_or_train(&key("m"), &Freshness::bypass(), |prior| {
                assert!(prior.is_none());
                Ok::<_, String>(weights(9.0))
            })
            .unwrap();
        assert_eq!((held.tier(), held.version()), (Tier::Trained, None));
        assert_eq!(held.decision().reasons(), [Reason::Bypassed]);
        assert!(held.publish_error().is_none());
        assert_eq!((store.stats().hot, store.stats().disk), before);
        assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 1.0);
        assert_eq!(store.versions(&key("m")).unwrap().len(), 1);
    });
}

#[test]
fn a_changed_schema_is_trained_anew() {
    both(|store, _| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let held = store
            .get_or_train(&key("m"), &Freshness::any_age(), |prior: Option<&ModelRef<WeightsTwo>>| {
                assert!(prior.is_none());
                Ok::<_, String>(NewModel::new(WeightsTwo { weights: vec![5.0] }))
            })
            .unwrap();
        match held.decision().reasons() {
            [Reason::SchemaChanged { stored, requested }] => {
                assert_eq!((stored.version(), requested.version()), (1, 2));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(held.version().unwrap().get(), 2);
    });
}

#[test]
fn the_callers_error_comes_back_as_it_was_and_the_old_model_stays() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        NoConvergence { iterations: u32 },
    }
    impl std::fmt::Display for Mine {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no convergence")
        }
    }
    both(|store, _| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let result = store.get_or_train::<Weights, _, _>(&key("m"), &Freshness::forced(), |_| {
            Err(Mine::NoConvergence { iterations: 500 })
        });
        match result {
            Err(TrainError::Train(err)) => assert_eq!(err, Mine::NoConvergence { iterations: 500 }),
            other => panic!("{other:?}"),
        }
        assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 1.0);
    });
}

#[test]
fn a_model_that_refuses_itself_is_an_error_of_the_store() {
    let store = Store::in_memory().unwrap();
    match store.get_or_train(&key("m"), &Freshness::any_age(), gives(f64::INFINITY)) {
        Err(TrainError::Store(err)) => assert_eq!(err.kind(), ErrorKind::InvalidInput),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_that_cannot_be_written_still_returns_the_model_and_keeps_it_hot() {
    let folder = Folder::new();
    drop(folder.open());
    let store = folder.open_read_only();
    let held = store.get_or_train(&key("m"), &Freshness::any_age(), gives(1.0)).unwrap();
    assert_eq!((held.tier(), held.version()), (Tier::Trained, None));
    assert_eq!(held.publish_error().unwrap().kind(), ErrorKind::ReadOnly);
    let held = store.get_or_train(&key("m"), &Freshness::any_age(), never).unwrap();
    assert_eq!((held.tier(), held.version()), (Tier::Hot, None));
    assert_eq!(held.publish_error().unwrap().kind(), ErrorKind::ReadOnly);
}

#[test]
fn a_full_store_still_returns_the_model_and_serves_what_it_has() {
    let folder = Folder::new();
    let store = folder.options().file_bytes_max(2 << 20).keep_all_versions().open(folder.path()).unwrap();
    store.publish(&key("kept"), weights(7.0)).unwrap();
    let mut full = None;
    for i in 0..40u32 {
        let held = store.get_or_train(&key(&format!("m{i}")), &Freshness::any_age(), |_| {
            // Noise that zstd cannot make smaller.
            let mut state = u64::from(i) + 1;
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64
            });
            Ok::<_, String>(NewModel::new(Weights { weights: noise.take(30_000).collect() }))
        });
        let held = held.unwrap();
        assert_eq!(held.weights.len(), 30_000);
        if let Some(err) = held.publish_error() {
            assert_eq!(err.kind(), ErrorKind::StorageFull, "{err}");
            full = Some(i);
            break;
        }
    }
    let full = full.expect("2 MiB do not hold 40 models of 240 KB");
    store.evict_all();
    assert_eq!(first_weight(&store.get(&key("kept")).unwrap().unwrap()), 7.0, "reads go on after a failed write");
    assert!(store.get::<Weights>(&key(&format!("m{full}"))).unwrap().is_none());
    // Room is made by removing, and the next publish fits.
    for i in 0..full {
        store.remove(&key(&format!("m{i}"))).run().unwrap();
    }
    store.publish(&key("after"), large(1.0)).unwrap();
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn a_mistake_in_a_tag_does_not_cost_the_model() {
    both(|store, _| {
        let train = |_: Option<&ModelRef<Weights>>| Ok::<_, String>(weights(1.0).tag("no spaces, please", "x"));
        let held = store.get_or_train(&key("m"), &Freshness::any_age(), train).unwrap();
        assert_eq!((first_weight(&held), held.version()), (1.0, None));
        assert_eq!(held.publish_error().unwrap().kind(), ErrorKind::InvalidInput);
        assert!(store.get::<Weights>(&key("m")).unwrap().is_none(), "the caller is at fault, and it is not kept");
    });
}

#[test]
fn a_model_that_was_never_stored_does_not_hide_a_newer_one_that_was() {
    let folder = Folder::new();
    let store = folder.options().file_bytes_max(2 << 20).open(folder.path()).unwrap();
    store.publish(&key("m"), weights(1.0)).unwrap();
    let held = store.get_or_train(&key("m"), &Freshness::forced(), |_| {
        // Somebody else publishes while this training is at work on a model that is too large for the file.
        store.publish(&key("m"), weights(2.0)).unwrap();
        Ok::<_, String>(NewModel::new(Weights { weights: vec![3.0; 500_000] }))
    });
    let held = held.unwrap();
    assert_eq!((first_weight(&held), held.publish_error().unwrap().kind()), (3.0, ErrorKind::StorageFull));
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 2.0);
}

#[test]
fn callers_of_one_key_wait_for_one_training() {
    let store = Store::in_memory().unwrap();
    let (trainings, start) = (AtomicU32::new(0), Barrier::new(8));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let held = store.get_or_train(&key("m"), &Freshness::any_age(), |_| {
                    trainings.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(30));
                    Ok::<_, String>(weights(4.0))
                });
                assert_eq!(first_weight(&held.unwrap()), 4.0);
            });
        }
    });
    assert_eq!(trainings.into_inner(), 1);
    assert_eq!(store.stats().trainings, 1);
}

#[test]
fn when_the_one_at_work_fails_the_next_one_tries() {
    let store = Store::in_memory().unwrap();
    let (tries, start) = (AtomicU32::new(0), Barrier::new(4));
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let result = store.get_or_train(&key("m"), &Freshness::any_age(), |_| {
                        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                            Err("the first one fails")
                        } else {
                            Ok(weights(1.0))
                        }
                    });
                    result.is_err()
                })
            })
            .collect();
        threads.into_iter().filter(|_| true).map(|thread| u32::from(thread.join().unwrap())).sum::<u32>()
    });
    assert_eq!((failed, tries.into_inner()), (1, 2));
}

#[test]
fn a_training_that_asks_for_itself_is_refused_instead_of_waiting_for_ever() {
    let store = Store::in_memory().unwrap();
    let result = store.get_or_train(&key("m"), &Freshness::any_age(), |_| {
        // Another model may be asked for; this one may not.
        store.get_or_train(&key("other"), &Freshness::any_age(), gives(1.0)).map_err(|err| err.to_string())?;
        match store.get_or_train(&key("m"), &Freshness::any_age(), gives(1.0)) {
            Err(TrainError::Store(err)) => Err(err.to_string()),
            _ => Ok(weights(0.0)),
        }
    });
    match result {
        Err(TrainError::Train(text)) => assert!(text.contains("wait for itself"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_in_training_leaves_the_store_usable() {
    let store = Store::in_memory().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.get_or_train(&key("m"), &Freshness::any_age(), |_: Option<&ModelRef<Weights>>| -> Result<_, String> {
            panic!("index out of bounds, somewhere in the features")
        })
    }));
    assert!(panicked.is_err());
    store.get_or_train(&key("m"), &Freshness::any_age(), gives(1.0)).unwrap();
    assert!(error(store.get::<WeightsTwo>(&key("m"))).kind() == ErrorKind::SchemaMismatch);
}
