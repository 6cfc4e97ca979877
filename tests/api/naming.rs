//! What is said of a version after it was published: aliases, tags and metrics; copies in other stores; and why there
//! is no model.

use modelkeep::{
    Absence, ErrorKind, Freshness, Lookup, ModelKey, NewModel, Store, Tier, TrainResult, Version,
    admin::{Annotation, Filter},
    clock::Clock,
};

use crate::support::{Folder, HOUR, Weights, WeightsTwo, both, error, first_weight, key, large, samples, weights};

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

fn numbers(store: &Store, key: &ModelKey) -> Vec<u64> {
    store.versions(key).unwrap().iter().map(|entry| entry.version.get()).collect()
}

#[test]
fn an_alias_moves_in_one_step_and_remembers_where_it_was() {
    let folder = Folder::new();
    let store = folder.open();
    let key = key("m");
    for i in 1..=3u32 {
        store.publish(&key, large(f64::from(i))).unwrap();
    }
    assert_eq!(store.set_alias(&key, "champion", version(1)).unwrap(), None);
    folder.clock.advance(HOUR);
    assert_eq!(store.set_alias(&key, "champion", version(2)).unwrap(), Some(version(1)));
    // The same again is no move.
    assert_eq!(store.set_alias(&key, "champion", version(2)).unwrap(), Some(version(2)));
    store.set_alias(&key, "challenger", version(3)).unwrap();
    assert_eq!(store.remove_alias(&key, "challenger").unwrap(), Some(version(3)));
    assert_eq!(store.remove_alias(&key, "nobody").unwrap(), None);
    drop(store);

    let store = folder.open_read_only();
    assert_eq!(store.alias(&key, "champion").unwrap(), Some(version(2)));
    assert_eq!(store.alias(&key, "challenger").unwrap(), None);
    let champion = store.get_alias::<Weights>(&key, "champion").unwrap().unwrap();
    assert_eq!((champion.version(), first_weight(&champion)), (Some(version(2)), 2.0));
    assert!(store.get_alias::<Weights>(&key, "challenger").unwrap().is_none());
    let aliases = store.aliases(&key).unwrap();
    let seen: Vec<_> = aliases.iter().map(|alias| (alias.name.as_str(), alias.version, alias.history.len())).collect();
    assert_eq!(seen, [("challenger", None, 2), ("champion", Some(version(2)), 2)]);
    assert_eq!(aliases[1].history[1].at, folder.clock.now());
    assert_eq!(aliases[1].history[1].at.since(aliases[1].history[0].at), HOUR);
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn an_alias_to_the_current_version_is_served_from_memory() {
    both(|store, _| {
        let version = store.publish(&key("m"), weights(1.0)).unwrap();
        store.set_alias(&key("m"), "champion", version).unwrap();
        let held = store.get_alias::<Weights>(&key("m"), "champion").unwrap().unwrap();
        assert_eq!(held.tier(), Tier::Hot);
    });
}

#[test]
fn what_an_alias_leads_to_is_not_deleted() {
    let folder = Folder::new();
    let store = folder.options().retention(1).open(folder.path()).unwrap();
    let key = key("m");
    store.publish(&key, large(1.0)).unwrap();
    store.set_alias(&key, "champion", version(1)).unwrap();
    for i in 2..=4u32 {
        store.publish(&key, large(f64::from(i))).unwrap();
    }
    assert_eq!(numbers(&store, &key), [1, 4], "retention spares the champion");
    folder.clock.advance(2 * HOUR);
    store.prune(&key, 0).run().unwrap();
    store.prune_all(0).run().unwrap();
    store.prune_older_than(HOUR).run().unwrap();
    assert_eq!(numbers(&store, &key), [1], "the current one went by age, the champion stays");
    for removal in [store.remove(&key), store.invalidate("m").unwrap(), store.remove_version(&key, version(1))] {
        let refused = error(removal.run());
        assert_eq!(refused.kind(), ErrorKind::Pinned);
        assert!(refused.message().contains("champion"), "{refused}");
    }
    store.remove_alias(&key, "champion").unwrap();
    store.remove(&key).run().unwrap();
    assert_eq!(store.aliases(&key).unwrap(), [], "the history goes with the model");
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn an_alias_leads_only_to_what_can_be_served() {
    both(|store, _| {
        assert_eq!(error(store.set_alias(&key("m"), "champion", version(1))).kind(), ErrorKind::NotFound);
        store.publish(&key("m"), weights(1.0)).unwrap();
        assert_eq!(error(store.set_alias(&key("m"), "champion", version(2))).kind(), ErrorKind::NotFound);
        assert_eq!(error(store.set_alias(&key("m"), "", version(1))).kind(), ErrorKind::InvalidInput);
        assert_eq!(store.aliases(&key("m")).unwrap(), []);
    });
}

#[test]
fn tags_and_metrics_can_be_set_later_and_everybody_sees_them() {
    let folder = Folder::new();
    let store = folder.open();
    let key = key("m");
    store.publish(&key, large(1.0).metric("auc", 0.5).tag("candidate", "yes")).unwrap();
    store.publish(&key, large(2.0)).unwrap();
    let live = store.live::<Weights>(&key).unwrap();
    let held = store.get::<Weights>(&key).unwrap().unwrap();
    let before = held.metadata().clone();

    let judged = Annotation::new().metric("live_auc", 0.57).tag("desk", "equities");
    store.annotate(&key, version(2), &judged).unwrap();
    assert_eq!(held.metadata(), &before, "what is held shows what it showed");
    let current = store.get::<Weights>(&key).unwrap().unwrap();
    for metadata in [current.metadata(), live.load().unwrap().metadata(), &store.metadata(&key).unwrap().unwrap()] {
        assert_eq!((metadata.metrics["live_auc"], metadata.tags["desk"].as_str()), (0.57, "equities"));
        assert_eq!((metadata.model_hash, metadata.last_updated), (before.model_hash, before.last_updated));
    }
    assert_eq!(store.list(Filter::all().tag("desk", "equities").unwrap()).unwrap().count(), 1);

    // A superseded version, and things that are taken away.
    let revised = Annotation::new().without_tag("candidate").without_metric("auc").without_metric("nothing");
    store.annotate(&key, version(1), &revised.metric("brier", 0.25)).unwrap();
    drop((current, live, store));
    let store = folder.open();
    let metadata = store.metadata_of(&key, version(1)).unwrap().unwrap();
    assert!(metadata.tags.is_empty());
    assert_eq!(
        metadata.metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>(),
        [("brier", 0.25)]
    );
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn an_annotation_that_breaks_a_rule_changes_nothing() {
    both(|store, _| {
        store.publish(&key("m"), weights(1.0)).unwrap();
        let before = store.metadata(&key("m")).unwrap();
        let many = (0..300).fold(Annotation::new(), |all, i| all.metric(format!("m{i}"), 0.0));
        let cases = [
            (Annotation::new().tag("", "x"), ErrorKind::InvalidInput),
            (Annotation::new().metric("ok", 1.0).metric("a\0b", 1.0), ErrorKind::InvalidInput),
            (Annotation::new().tag("long", "x".repeat(2000)), ErrorKind::LimitExceeded),
            (many, ErrorKind::LimitExceeded),
        ];
        for (annotation, kind) in cases {
            assert_eq!(error(store.annotate(&key("m"), version(1), &annotation)).kind(), kind);
        }
        let nothing = error(store.annotate(&key("m"), version(9), &Annotation::new()));
        assert_eq!(nothing.kind(), ErrorKind::NotFound);
        assert_eq!(store.metadata(&key("m")).unwrap(), before);
    });
}

#[test]
fn one_version_can_be_removed_but_not_the_current_one() {
    both(|store, _| {
        let key = key("m");
        for i in 1..=3u32 {
            store.publish(&key, large(f64::from(i)).artifact("report", vec![7; 900])).unwrap();
        }
        // Nothing becomes smaller between a plan and its run.
        store.run_maintenance().unwrap();
        assert_eq!(error(store.remove_version(&key, version(3)).run()).kind(), ErrorKind::Pinned);
        assert_eq!(error(store.remove_version(&key, version(7)).run()).kind(), ErrorKind::NotFound);
        store.pin(&key, version(1)).unwrap();
        assert_eq!(error(store.remove_version(&key, version(1)).run()).kind(), ErrorKind::Pinned);
        let planned = store.remove_version(&key, version(2)).dry_run().unwrap();
        assert_eq!(store.remove_version(&key, version(2)).run().unwrap(), planned);
        assert_eq!((numbers(store, &key), planned.versions.len()), (vec![1, 3], 1));
        // What was the previous version is gone: there is nowhere to roll back to.
        assert_eq!(error(store.rollback(&key)).kind(), ErrorKind::NotFound);
        assert_eq!(store.artifact(&key, version(3), "report").unwrap(), Some(vec![7; 900]));
    });
}

#[test]
fn a_copy_has_everything_but_its_number() {
    let (from, to) = (Folder::new(), Folder::new());
    let (store, other) = (from.open(), to.open());
    let key = ModelKey::new("m", &[("days", 5)]).unwrap();
    let rich = |first| {
        let data = samples("AAPL", &[(1, 0.5), (2, 0.25)]);
        large(first).training_data(data).metric("auc", 0.6).tag("desk", "fx").artifact("report", vec![3; 5000])
    };
    store.publish(&key, rich(1.0)).unwrap();
    store.publish(&key, rich(2.0)).unwrap();
    from.clock.advance(HOUR);
    to.clock.advance(3 * HOUR);
    other.publish(&key, weights(9.0)).unwrap();

    // By the hash alone: the configuration comes along.
    let bare = store.find_key("m").unwrap();
    assert_eq!(store.copy_to::<Weights>(&bare, None, &other).unwrap(), version(2));
    assert_eq!(store.copy_to::<Weights>(&key, version(1), &other).unwrap(), version(3));
    drop(store);
    drop(other);
    let (store, other) = (from.open_read_only(), to.open_read_only());
    let (here, there) =
        (store.metadata_of(&key, version(2)).unwrap().unwrap(), other.metadata_of(&key, version(2)).unwrap().unwrap());
    assert_eq!(
        (&here.metrics, &here.tags, &here.artifacts, here.model_hash, here.training_hash, &here.config),
        (&there.metrics, &there.tags, &there.artifacts, there.model_hash, there.training_hash, &there.config)
    );
    let held = other.get_version::<Weights>(&key, version(2)).unwrap().unwrap();
    assert_eq!((first_weight(&held), held.age()), (2.0, 3 * HOUR), "as old as it is");
    assert_eq!(other.artifact(&key, version(2), "report").unwrap(), Some(vec![3; 5000]));
    assert_eq!(other.training_data(&key).unwrap(), store.training_data(&key).unwrap());
    assert!(other.verify().unwrap().is_whole());
}

#[test]
fn what_cannot_be_copied_is_an_error_and_leaves_the_other_store_as_it_is() {
    let folder = Folder::new();
    let (store, other) = (folder.open(), Store::in_memory().unwrap());
    assert_eq!(error(store.copy_to::<Weights>(&key("m"), None, &other)).kind(), ErrorKind::NotFound);
    store.publish(&key("m"), weights(1.0)).unwrap();
    assert_eq!(error(store.copy_to::<Weights>(&key("m"), version(2), &other)).kind(), ErrorKind::NotFound);
    assert_eq!(error(store.copy_to::<WeightsTwo>(&key("m"), None, &other)).kind(), ErrorKind::SchemaMismatch);
    assert!(other.metadata(&key("m")).unwrap().is_none());
    assert_eq!(error(store.copy_to::<Weights>(&key("m"), None, &store)).kind(), ErrorKind::InvalidInput);
    assert_eq!(numbers(&store, &key("m")), [1]);
    let elsewhere = Folder::new();
    drop(elsewhere.open());
    let read_only = elsewhere.open_read_only();
    assert_eq!(error(store.copy_to::<Weights>(&key("m"), None, &read_only)).kind(), ErrorKind::ReadOnly);
}

#[test]
fn a_lookup_says_why_there_is_no_model() {
    both(|store, _| {
        let days = |days: u32| ModelKey::new("m", &[("days", days)]).unwrap();
        let absence = |key: &ModelKey| match store.lookup::<Weights>(key).unwrap() {
            Lookup::Found(held) => panic!("found {held:?}"),
            Lookup::Absent(why) => why,
        };
        assert_eq!(absence(&days(5)), Absence::NeverPublished { others: Vec::new() });
        store.publish(&days(5), weights(1.0)).unwrap();
        assert!(matches!(store.lookup::<Weights>(&days(5)).unwrap(), Lookup::Found(_)));
        let Absence::NeverPublished { others } = absence(&days(20)) else { panic!("never published") };
        assert_eq!(others, [days(5)]);
        assert!(!days(20).diff(&others[0]).is_empty());
        store.publish(&days(5), weights(2.0)).unwrap();
        store.remove(&days(5)).run().unwrap();
        assert_eq!(absence(&days(5)), Absence::Removed { last: version(2) });
    });
}

#[test]
fn a_closure_need_not_name_its_types() {
    let store = Store::in_memory().unwrap();
    let file = |exists: bool| if exists { Ok(1.5) } else { Err(std::io::Error::other("no such file")) };
    let train = |exists| {
        store.get_or_train(&key("m"), &Freshness::forced(), |prior| -> TrainResult<Weights> {
            let first: f64 = "2.5".parse()?;
            let before = prior.map_or(0.0, |prior| prior.weights[0].to_native());
            Ok(NewModel::new(Weights { weights: vec![first + file(exists)? + before] }))
        })
    };
    assert_eq!(first_weight(&train(true).unwrap()), 4.0);
    assert_eq!(first_weight(&train(true).unwrap()), 8.0);
    assert_eq!(train(false).unwrap_err().to_string(), "no such file");
}

#[test]
fn an_alias_leads_to_its_version_whatever_is_current() {
    let folder = Folder::new();
    let store = folder.options().hot_bytes(0).open(folder.path()).unwrap();
    let key = key("m");
    store.publish(&key, weights(1.0)).unwrap();
    store.set_alias(&key, "champion", version(1)).unwrap();
    store.publish(&key, NewModel::new(WeightsTwo { weights: vec![2.0] })).unwrap();
    let champion = store.get_alias::<Weights>(&key, "champion").unwrap().unwrap();
    assert_eq!((champion.version(), first_weight(&champion)), (Some(version(1)), 1.0));
}
