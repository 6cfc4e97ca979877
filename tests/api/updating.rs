//! `update`: incremental training.

use modelkeep::{
    ErrorKind, Interval, ModelRef, Reason, Tier, TrainError,
    training::{Samples, TrainingSet},
};

use crate::support::{HOUR, Weights, both, first_weight, key, samples, weights};

#[test]
fn new_data_is_merged_and_the_prior_is_handed_over() {
    both(|store, clock| {
        let key = key("m");
        let range = Interval::parse("2018-01-01", "2019-01-01").unwrap();
        let seen = store.levels("VIX").unwrap().seen(range).unwrap();
        let first = weights(1.0)
            .training_data(samples("AAPL", &[(1, 1.0), (2, 2.0), (3, 3.0)]))
            .artifact("kept", "as it was")
            .artifact("replaced", "old")
            .tag("desk", "equities")
            .levels(seen.clone());
        store.publish(&key, first).unwrap();
        clock.advance(HOUR);
        let mut new = samples("AAPL", &[(2, 2.0), (3, 3.5), (4, 4.0)]);
        new.insert(samples("KO", &[(9, 9.0)]).get("KO").unwrap().clone()).unwrap();
        let update = store
            .update(&key, &new, |merged, prior: Option<&ModelRef<Weights>>| {
                assert_eq!(first_weight(prior.unwrap()), 1.0);
                let mut expected = samples("AAPL", &[(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.0)]);
                expected.insert(samples("KO", &[(9, 9.0)]).get("KO").unwrap().clone()).unwrap();
                assert_eq!(merged, &expected);
                Ok::<_, String>(weights(2.0).artifact("replaced", "new"))
            })
            .unwrap();
        assert!(update.trained);
        let merge = &update.merge;
        assert_eq!((merge.rows.added, merge.rows.replaced, merge.rows.unchanged), (2, 1, 1));
        assert_eq!(merge.new_symbols.iter().map(ToString::to_string).collect::<Vec<_>>(), ["KO"]);
        let held = &update.model;
        assert_eq!((held.tier(), first_weight(held)), (Tier::Trained, 2.0));
        assert_eq!(held.decision().reasons(), [Reason::NewData]);
        let metadata = held.metadata();
        assert_eq!((metadata.sample_count, metadata.symbols.len()), (5, 2));
        assert_eq!(metadata.parent.unwrap().get(), 1);
        assert_eq!(metadata.last_updated.since(metadata.created), HOUR, "the lineage keeps its birth");
        assert_eq!((&metadata.tags["desk"], &metadata.levels), (&"equities".to_owned(), &vec![seen]));
        let version = held.version().unwrap();
        assert_eq!(store.artifact(&key, version, "kept").unwrap().unwrap(), b"as it was");
        assert_eq!(store.artifact(&key, version, "replaced").unwrap().unwrap(), b"new");
        assert_eq!(store.training_data(&key).unwrap().unwrap().len(), 5);
        // The carried artifact outlives the version that it came from.
        store.prune(&key, 1).run().unwrap();
        assert_eq!(store.artifact(&key, version, "kept").unwrap().unwrap(), b"as it was");
        let found = store.verify().unwrap();
        assert!(found.is_whole() && found.unreferenced.is_empty(), "{found:?}");
    });
}

#[test]
fn when_nothing_changed_nothing_is_trained() {
    both(|store, _| {
        let key = key("m");
        let data = samples("AAPL", &[(1, 1.0), (2, 2.0)]);
        store.publish(&key, weights(1.0).training_data(data.clone())).unwrap();
        let part = samples("AAPL", &[(2, 2.0)]);
        for new in [&data, &part, &TrainingSet::new()] {
            let update = store.update(&key, new, |_, _: Option<&ModelRef<Weights>>| -> Result<_, String> {
                panic!("nothing was to be trained")
            });
            let update = update.unwrap();
            assert!(!update.trained && !update.merge.rows.changed());
            assert_eq!(update.model.decision().reasons(), [Reason::Unchanged]);
            assert_eq!(first_weight(&update.model), 1.0);
        }
        assert_eq!(store.versions(&key).unwrap().len(), 1);
    });
}

#[test]
fn after_a_rollback_the_next_update_trains_even_if_the_data_did_not_change() {
    both(|store, _| {
        let key = key("m");
        let (good, more) = (samples("AAPL", &[(1, 1.0)]), samples("AAPL", &[(1, 1.0), (2, 2.0)]));
        store.publish(&key, weights(1.0).training_data(good)).unwrap();
        store.update(&key, &more, |_, _| Ok::<_, String>(weights(2.0))).unwrap();
        store.rollback(&key).unwrap();
        let update = store.update(&key, &more, |all, prior: Option<&ModelRef<Weights>>| {
            assert_eq!((all.len(), first_weight(prior.unwrap())), (2, 1.0));
            Ok::<_, String>(weights(3.0))
        });
        let update = update.unwrap();
        assert!(update.trained && !update.merge.rows.changed());
        assert!(!store.update(&key, &more, |_, _| Ok::<_, String>(weights(4.0))).unwrap().trained);
    });
}

#[test]
fn an_update_without_any_rows_trains_nothing() {
    both(|store, _| {
        let result = store
            .update(&key("m"), &TrainingSet::new(), |_, _: Option<&ModelRef<Weights>>| Ok::<_, String>(weights(1.0)));
        match result {
            Err(TrainError::Store(err)) => assert_eq!(err.kind(), ErrorKind::InvalidInput),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_first_update_trains_on_what_it_brings() {
    both(|store, _| {
        let data = samples("AAPL", &[(1, 1.0)]);
        let update = store
            .update(&key("m"), &data, |merged, prior: Option<&ModelRef<Weights>>| {
                assert!(prior.is_none() && merged == &data);
                Ok::<_, String>(weights(1.0))
            })
            .unwrap();
        assert!(update.trained && update.model.version().unwrap().get() == 1);
    });
}

#[test]
fn other_features_and_failed_trainings_leave_everything_as_it_was() {
    both(|store, _| {
        let key = key("m");
        let data = samples("AAPL", &[(1, 1.0)]);
        store.publish(&key, weights(1.0).training_data(data.clone())).unwrap();
        let mut other = TrainingSet::new();
        other.insert(Samples::new("KO", &["z"]).unwrap()).unwrap();
        match store.update(&key, &other, |_, _| Ok::<_, String>(weights(9.0))) {
            Err(TrainError::Store(err)) => {
                assert_eq!((err.kind(), err.subject()), (ErrorKind::InvalidInput, "KO"));
            }
            other => panic!("{other:?}"),
        }
        let failed = store.update::<Weights, _, _>(&key, &samples("KO", &[(1, 1.0)]), |_, _| Err("no luck".to_owned()));
        assert!(matches!(&failed, Err(TrainError::Train(text)) if text == "no luck"), "{failed:?}");
        assert_eq!(store.training_data(&key).unwrap().unwrap(), data);
        assert_eq!(store.versions(&key).unwrap().len(), 1);
    });
}

#[test]
fn an_update_that_was_overtaken_keeps_its_model_and_says_so() {
    both(|store, _| {
        let key = key("m");
        store.publish(&key, weights(1.0)).unwrap();
        let update = store
            .update(&key, &samples("KO", &[(1, 1.0)]), |_, _: Option<&ModelRef<Weights>>| {
                store.publish(&key, weights(5.0)).unwrap();
                Ok::<_, String>(weights(2.0))
            })
            .unwrap();
        assert_eq!(first_weight(&update.model), 2.0);
        let err = update.model.publish_error().unwrap();
        assert!(matches!(err.kind(), ErrorKind::Conflict { .. }), "{err}");
        assert_eq!(first_weight(&store.get(&key).unwrap().unwrap()), 5.0, "the winner is served");
    });
}

#[test]
fn an_update_after_one_that_could_not_be_written_inherits_what_is_stored() {
    let folder = crate::support::Folder::new();
    let store = folder.options().file_bytes_max(2 << 20).open(folder.path()).unwrap();
    let key = key("m");
    store.publish(&key, weights(1.0).artifact("report", "kept").tag("desk", "fx")).unwrap();
    let huge = |_: &TrainingSet, _: Option<&ModelRef<Weights>>| {
        Ok::<_, String>(modelkeep::NewModel::new(Weights { weights: vec![0.5; 500_000] }))
    };
    let unwritten = store.update(&key, &samples("KO", &[(1, 1.0)]), huge).unwrap();
    assert_eq!(
        (unwritten.model.version(), unwritten.model.publish_error().unwrap().kind()),
        (None, ErrorKind::StorageFull)
    );
    let update = store.update(&key, &samples("KO", &[(1, 1.0)]), |_, _| Ok::<_, String>(weights(2.0))).unwrap();
    let (version, metadata) = (update.model.version().unwrap(), update.model.metadata());
    assert_eq!((version.get(), metadata.parent.unwrap().get(), metadata.tags["desk"].as_str()), (2, 1, "fx"));
    assert_eq!(metadata.artifacts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["report"]);
    assert_eq!(store.artifact(&key, version, "report").unwrap().unwrap(), b"kept");
}

#[test]
fn one_new_symbol_does_not_rewrite_the_others() {
    both(|store, _| {
        let key = key("m");
        let mut data = samples("A0", &[(1, 1.0)]);
        for i in 1..20 {
            let symbol = format!("A{i}");
            data.insert(samples(&symbol, &[(1, 1.0)]).get(&symbol).unwrap().clone()).unwrap();
        }
        store.publish(&key, weights(1.0).training_data(data)).unwrap();
        let before = store.training_summary(&key).unwrap();
        store.update(&key, &samples("KO", &[(1, 1.0)]), |_, _| Ok::<_, String>(weights(2.0))).unwrap();
        let after = store.training_summary(&key).unwrap();
        assert_eq!((before.len(), after.len()), (20, 21));
        assert!(before.iter().zip(&after).all(|(a, b)| a == b));
        let found = store.verify().unwrap();
        assert!(found.is_whole() && found.unreferenced.is_empty());
    });
}
