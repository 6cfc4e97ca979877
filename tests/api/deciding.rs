//! What a call decides about a model, and why: all reasons, the last good model, waiting, and explanations.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use modelkeep::{
    ErrorKind, Freshness, ModelKey, ModelRef, NewModel, Reason, Store, Tier, Timestamp, TrainError, Verdict,
};

use crate::support::{Folder, HOUR, Weights, WeightsTwo, both, damage, first_weight, key, large, weights};

type Trained = Result<NewModel<Weights>, String>;

fn fails(_: Option<&ModelRef<Weights>>) -> Trained {
    Err("no convergence".into())
}

fn gives(first: f64) -> impl Fn(Option<&ModelRef<Weights>>) -> Trained {
    move |_| Ok(weights(first))
}

#[test]
fn every_reason_is_named_with_its_figures() {
    both(|store, clock| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let made = store.metadata(&key("m")).unwrap().unwrap().last_updated;
        clock.advance(HOUR * 3);
        let since = Timestamp::from_nanos(made.as_nanos() + 1);
        let freshness = Freshness { force_refresh: true, made_since: Some(since), ..Freshness::max_age(HOUR) };
        let expected =
            [Reason::Forced, Reason::Expired { age: HOUR * 3, max_age: HOUR }, Reason::MadeBefore { made, since }];
        assert_eq!(store.explain(&key("m"), &freshness).unwrap().decision().reasons(), expected);
        let held = store.get_or_train(&key("m"), &freshness, gives(2.0)).unwrap();
        assert_eq!((held.decision().verdict(), held.decision().reasons()), (Verdict::Retrain, &expected[..]));
    });
}

/// A model expires when the session opens, and not at an age.
#[test]
fn a_model_of_before_a_moment_is_not_good_enough() {
    both(|store, clock| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let made = store.metadata(&key("m")).unwrap().unwrap().last_updated;
        let get = |since| store.get_or_train(&key("m"), &Freshness::made_since(since), gives(2.0)).unwrap();
        clock.advance(HOUR);
        assert!(get(made).decision().is_fresh(), "made at that very moment");
        let held = get(Timestamp::from_nanos(made.as_nanos() + 1));
        assert_eq!((held.tier(), first_weight(&held)), (Tier::Trained, 2.0));
    });
}

#[test]
fn the_last_good_model_is_served_with_a_warning_when_a_training_fails() {
    both(|store, clock| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        clock.advance(HOUR * 2);
        let (daily, hits) = (Freshness::max_age(HOUR), store.stats().hot.hits);
        let held = store.get_or_train(&key("m"), &daily, fails).unwrap();
        let expected = [
            Reason::Expired { age: HOUR * 2, max_age: HOUR },
            Reason::TrainingFailed { error: "no convergence".into() },
        ];
        assert_eq!(held.decision().verdict(), Verdict::ReuseWithWarning);
        assert_eq!(held.decision().reasons(), expected);
        assert_eq!((first_weight(&held), held.version().unwrap().get()), (1.0, 1));
        assert_eq!((store.stats().warnings, store.stats().hot.hits), (1, hits), "it is no hit");
        // And who wants an error gets the caller's own, as does who wants a new model.
        for freshness in [Freshness { refuse_expired: true, ..daily }, Freshness::forced()] {
            match store.get_or_train(&key("m"), &freshness, fails) {
                Err(TrainError::Train(err)) => assert_eq!(err, "no convergence"),
                other => panic!("{other:?}"),
            }
        }
        assert!(store.get_or_train(&key("other"), &daily, fails).is_err(), "there is nothing to be served");
        assert_eq!(first_weight(&store.get_or_train(&key("m"), &daily, gives(3.0)).unwrap()), 3.0);
    });
}

/// One call trains, and another does not wait for it longer than it wants to.
#[test]
fn who_does_not_wait_gets_the_old_model_or_an_error() {
    both(|store, clock| {
        store.publish(&key("old"), weights(1.0)).unwrap();
        store.publish(&key("young"), weights(5.0)).unwrap();
        clock.advance(HOUR * 2);
        let patience = Some(Duration::from_millis(20));
        for (name, has_old) in [("old", true), ("new", false)] {
            let (begun, done) = (Barrier::new(2), Barrier::new(2));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let train = |_: Option<&ModelRef<Weights>>| -> Trained {
                        begun.wait();
                        done.wait();
                        Ok(weights(2.0))
                    };
                    store.get_or_train(&key(name), &Freshness::max_age(HOUR), train).unwrap();
                });
                begun.wait();
                let freshness = Freshness { wait_at_most: patience, ..Freshness::max_age(HOUR) };
                let get = |freshness: &Freshness| store.get_or_train(&key(name), freshness, gives(9.0));
                match get(&freshness) {
                    Ok(held) => {
                        assert!(has_old && first_weight(&held) == 1.0);
                        assert_eq!(held.decision().verdict(), Verdict::ReuseWithWarning);
                        let reasons = held.decision().reasons();
                        assert!(
                            matches!(reasons, [Reason::Expired { .. }, Reason::TrainingUnderWay { .. }]),
                            "{reasons:?}"
                        );
                    }
                    Err(TrainError::Store(err)) => assert!(!has_old && err.kind() == ErrorKind::TimedOut, "{err:?}"),
                    Err(TrainError::Train(err)) => panic!("{err}"),
                }
                match get(&Freshness { refuse_expired: true, ..freshness }) {
                    Err(TrainError::Store(err)) => assert_eq!(err.kind(), ErrorKind::TimedOut),
                    other => panic!("{other:?}"),
                }
                done.wait();
            });
            let held = store.get_or_train(&key(name), &Freshness::max_age(HOUR), gives(9.0)).unwrap();
            assert_eq!((held.decision().is_fresh(), first_weight(&held)), (true, 2.0));
        }
    });
}

/// A training that asks another thread for the model that it is training ends, too.
#[test]
fn a_closure_that_waits_for_a_thread_that_asks_for_the_same_model_ends() {
    let store = Store::in_memory().unwrap();
    let freshness = Freshness { wait_at_most: Some(Duration::from_millis(20)), ..Freshness::any_age() };
    let train = |_: Option<&ModelRef<Weights>>| -> Trained {
        let asked = thread::scope(|scope| scope.spawn(|| store.get_or_train(&key("m"), &freshness, gives(1.0))).join());
        match asked.unwrap() {
            Err(TrainError::Store(err)) if err.kind() == ErrorKind::TimedOut => Err(err.to_string()),
            other => panic!("{other:?}"),
        }
    };
    match store.get_or_train(&key("m"), &freshness, train) {
        Err(TrainError::Train(text)) => assert!(text.contains("did not end within"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// Whoever wants a new model, and waited for one to be trained, has got it.
#[test]
fn concurrent_forced_refreshes_train_once_or_twice_and_not_each() {
    let store = Store::in_memory().unwrap();
    store.publish(&key("m"), weights(0.0)).unwrap();
    let (trainings, start) = (AtomicU32::new(0), Barrier::new(16));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                let held = store.get_or_train(&key("m"), &Freshness::forced(), |_| -> Trained {
                    let n = trainings.fetch_add(1, Ordering::SeqCst) + 1;
                    thread::sleep(Duration::from_millis(100));
                    Ok(weights(f64::from(n)))
                });
                assert!(first_weight(&held.unwrap()) >= 1.0, "the old one");
            });
        }
    });
    // One that was slow to begin may find nobody at work any more.
    assert!(trainings.into_inner() <= 3);
}

fn configured(threshold: f64, days: u32) -> ModelKey {
    let config: BTreeMap<&str, f64> = [("z_threshold", threshold), ("days", f64::from(days))].into();
    ModelKey::new("bounce", &config).unwrap()
}

#[test]
fn an_explanation_names_the_nearest_relatives_first() {
    both(|store, _| {
        for (threshold, days) in [(-1.5, 250), (-1.5, 100), (-1.2, 100)] {
            store.publish(&configured(threshold, days), weights(1.0).metric("auc", 0.61)).unwrap();
        }
        store.publish(&key("bouncer"), weights(1.0)).unwrap();
        let explained = store.explain(&configured(-1.2, 250), &Freshness::any_age()).unwrap();
        assert_eq!(explained.decision().reasons(), [Reason::Missing]);
        assert!(explained.current().is_none());
        let differences: Vec<usize> = explained.relatives().iter().map(|relative| relative.differences.len()).collect();
        assert_eq!(differences, [1, 1, 2]);
        let text = explained.to_string();
        assert!(text.contains("retrain\n  because missing\n"), "{text}");
        assert!(text.contains("1 field differs, config.z_threshold -1.2 -> -1.5"), "{text}");
        let known = store.explain(&configured(-1.5, 250), &Freshness::any_age()).unwrap();
        assert!(known.decision().is_fresh() && known.current().is_some() && known.relatives().len() == 2);
        assert!(known.to_string().contains("stored is v1"), "{known}");
    });
}

#[test]
fn an_explanation_neither_loads_nor_trains_and_says_what_would_happen() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), large(1.0)).unwrap();
    drop(store);
    let store = folder.open();
    assert!(store.explain(&key("m"), &Freshness::any_age()).unwrap().decision().is_fresh());
    assert_eq!((store.stats().loads, store.stats().trainings, store.stats().hot_entries), (0, 0, 0));
    let bypassed = store.explain(&key("m"), &Freshness::bypass()).unwrap();
    assert_eq!(store.explain(&key("none"), &Freshness::forced()).unwrap().decision().reasons().len(), 2);
    assert_eq!(bypassed.decision().reasons(), [Reason::Bypassed]);
    let other = store.explain_as::<WeightsTwo>(&key("m"), &Freshness::any_age()).unwrap();
    assert!(matches!(other.decision().reasons(), [Reason::SchemaChanged { .. }]));
    drop(store);
    // What is quarantined is not served, and the explanation says so.
    let bytes = fs::read(folder.path()).unwrap();
    damage(&folder.path(), &1.0_f64.to_le_bytes(), |bytes| bytes[0] ^= 1);
    assert_ne!(fs::read(folder.path()).unwrap(), bytes);
    let store = folder.open();
    store.get::<Weights>(&key("m")).unwrap_err();
    let explained = store.explain(&key("m"), &Freshness::any_age()).unwrap();
    assert!(matches!(explained.decision().reasons(), [Reason::Corrupt { .. }]), "{explained}");
    let held = store.get_or_train(&key("m"), &Freshness::any_age(), gives(2.0)).unwrap();
    assert_eq!(held.decision(), explained.decision(), "and that is what happens");
}

/// Every decision that is no plain hit, with what a person wants to know of it.
#[test]
fn decisions_are_noted_and_survive_a_restart() {
    let folder = Folder::new();
    let (store, clock) = (folder.open(), &folder.clock);
    let daily = Freshness::max_age(HOUR);
    store.get_or_train(&key("m"), &daily, gives(1.0)).unwrap();
    store.get_or_train(&key("m"), &daily, gives(1.0)).unwrap();
    clock.advance(HOUR * 2);
    store.get_or_train(&key("m"), &daily, fails).unwrap();
    store
        .get_or_train(&key("m"), &Freshness { refuse_expired: true, ..daily }, |_| -> Trained {
            Err("x".repeat(1 << 20))
        })
        .unwrap_err();
    store.get_or_train(&key("m"), &Freshness::bypass(), gives(1.0)).unwrap();
    store.get_or_train(&key("m"), &daily, gives(2.0)).unwrap();
    let noted = store.decisions().unwrap();
    let all: Vec<_> = noted.iter().map(|entry| (entry.verdict, entry.version.map(modelkeep::Version::get))).collect();
    let (warned, trained) = (Verdict::ReuseWithWarning, Verdict::Retrain);
    assert_eq!(all, [(trained, Some(1)), (warned, Some(1)), (Verdict::Failed, None), (trained, Some(2))]);
    assert!(noted[0].to_string().contains("retrain v1 in 0ns: missing"), "{}", noted[0]);
    assert_eq!(noted[1].reasons, ["expired: 2h old, at most 1h allowed", "training failed: no convergence"]);
    assert!(noted[2].reasons[1].len() <= 1024 + 4, "cut");
    assert!(noted.is_sorted_by_key(|entry| entry.at) && noted.iter().all(|entry| entry.key == key("m")));
    drop(store);
    for open in [Folder::open_read_only, Folder::open] {
        let store = open(&folder);
        assert_eq!(store.decisions().unwrap(), noted);
        assert!(store.verify().unwrap().is_whole());
    }
}

/// Decisions in the file.
fn rows(store: &Store) -> u64 {
    let tables = store.usage().unwrap().tables;
    tables.iter().find(|usage| usage.table == "decisions").map_or(0, |usage| usage.rows)
}

/// Nobody closes the store, and the thread in the background writes.
#[test]
fn decisions_are_written_without_a_close() {
    let folder = Folder::new();
    let store = folder.open();
    store.get_or_train(&key("m"), &Freshness::any_age(), gives(1.0)).unwrap();
    assert_eq!(rows(&store), 0, "no call waits for it");
    while rows(&store) == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(store.decisions().unwrap().len(), 1);
}

#[test]
fn the_newest_ten_thousand_decisions_are_kept() {
    let folder = Folder::new();
    for round in 1..=3 {
        let store = folder.open();
        for i in 0..4_000 {
            let failed = store.get_or_train(&key(&format!("r{round}-{i}")), &Freshness::any_age(), fails);
            assert!(failed.is_err());
        }
        store.close().unwrap();
    }
    let store = folder.open();
    let noted = store.decisions().unwrap();
    assert_eq!((noted.len(), rows(&store)), (10_000, 10_000));
    assert_eq!((&noted[0].key, &noted[9_999].key), (&key("r1-2000"), &key("r3-3999")));
}
