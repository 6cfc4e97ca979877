//! Publishing: one transaction with everything in it, or nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use modelkeep::{
    ErrorKind, Interval, ModelKey, NewModel, Store, Tier, Timestamp, Version,
    admin::Maintenance,
    disk::{Access, Disk, Fault},
};

use crate::support::{Folder, Weights, both, error, first_weight, key, large, noon, samples, weights};

#[test]
fn everything_that_was_published_can_be_read_back() {
    both(|store, _| {
        let key = ModelKey::new("m", &("cfg", 2.50)).unwrap();
        let vix = store.levels("VIX").unwrap();
        vix.write(&[("2018-12-21".parse().unwrap(), 30.11)]).unwrap();
        let range = Interval::parse("2018-01-01", "2019-01-01").unwrap();
        let data = samples("AAPL", &[(1, 0.5), (9, 0.25)]);
        let trained = weights(1.0)
            .training_data(data.clone())
            .artifact("scaler.json", "{}")
            .artifact("empty", Vec::new())
            .levels(vix.seen(range).unwrap())
            .metric("auc", 0.61)
            .tag("desk", "equities")
            .took(Duration::from_millis(7));
        let version = store.publish(&key, trained).unwrap();
        assert_eq!(version, Version::FIRST);
        let metadata = store.metadata(&key).unwrap().unwrap();
        assert_eq!(metadata.model.as_str(), "m");
        assert_eq!(metadata.version, Some(version));
        assert_eq!(metadata.config, r#"["cfg",2.5]"#);
        assert_eq!(metadata.config_hash, key.config_hash());
        let archive = store.archive_bytes(&key, version).unwrap().unwrap();
        assert_eq!(metadata.model_hash.as_bytes(), blake3::hash(&archive).as_bytes());
        assert!(metadata.training_hash.is_some());
        assert_eq!((metadata.created, metadata.last_updated), (noon(), noon()));
        assert_eq!(metadata.trained_through, Some(Timestamp::from_nanos(9)));
        assert_eq!(metadata.sample_count, 2);
        assert_eq!(metadata.symbols.iter().map(ToString::to_string).collect::<Vec<_>>(), ["AAPL"]);
        assert_eq!(metadata.metrics["auc"], 0.61);
        assert_eq!(metadata.schema.to_string(), "test.weights v1");
        assert_eq!(metadata.archive_bytes, archive.len() as u64);
        assert!(metadata.stored_bytes > metadata.archive_bytes);
        assert_eq!(metadata.parent, None);
        assert_eq!(metadata.training_duration, Duration::from_millis(7));
        assert_eq!(metadata.tags["desk"], "equities");
        assert_eq!(metadata.levels[0], vix.seen(range).unwrap());
        assert_eq!(metadata.levels[0].days, 1);
        assert_eq!(store.training_data(&key).unwrap(), Some(data));
        assert_eq!(store.artifact(&key, version, "scaler.json").unwrap(), Some(b"{}".to_vec()));
        assert_eq!(store.artifact(&key, version, "empty").unwrap(), Some(Vec::new()));
        assert_eq!(store.artifact(&key, version, "other").unwrap(), None);
        assert!(store.verify().unwrap().is_whole());
    });
}

#[test]
fn versions_count_up_and_the_old_ones_stay_readable() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 1..=3 {
        assert_eq!(store.publish(&key("m"), large(f64::from(i))).unwrap().get(), u64::try_from(i).unwrap());
    }
    store.close().unwrap();
    // Superseded versions were compressed, which nobody notices but the disk.
    let store = folder.open();
    for i in 1..=3u32 {
        let held = store.get_version::<Weights>(&key("m"), Version::new(i.into()).unwrap()).unwrap().unwrap();
        assert_eq!(first_weight(&held), f64::from(i));
    }
    let archives = store.usage().unwrap().tables.into_iter().find(|table| table.table == "archives").unwrap();
    let one = store.metadata(&key("m")).unwrap().unwrap().stored_bytes;
    assert!(archives.stored_bytes < 2 * one, "three versions take {} bytes, one {one}", archives.stored_bytes);
}

#[test]
fn models_that_are_published_together_are_there_together() {
    both(|store, _| {
        let keys: Vec<ModelKey> = (0..300).map(|i| ModelKey::new("m", &i).unwrap()).collect();
        store.publish(&keys[7], weights(-1.0)).unwrap();
        let all = |first: f64| keys.iter().map(move |key| (key.clone(), weights(first).artifact("a", "x")));
        let versions = store.publish_many(all(1.0)).unwrap();
        let expected: Vec<u64> = (0..300).map(|i| if i == 7 { 2 } else { 1 }).collect();
        assert_eq!(versions.iter().map(|version| version.get()).collect::<Vec<_>>(), expected);
        for (key, version) in keys.iter().zip(&versions) {
            let held = store.get::<Weights>(key).unwrap().unwrap();
            assert_eq!((first_weight(&held), held.version(), held.tier()), (1.0, Some(*version), Tier::Hot));
        }
        // One that cannot be published keeps the others from it; so does one that is there twice.
        let refused = |extra: (ModelKey, NewModel<Weights>)| error(store.publish_many(all(2.0).chain([extra])));
        assert_eq!(refused((key("other"), weights(f64::NAN))).kind(), ErrorKind::InvalidInput);
        let twice = refused((keys[3].clone(), weights(2.0)));
        assert!(twice.kind() == ErrorKind::InvalidInput && twice.message().contains("twice"), "{twice}");
        assert!(keys.iter().all(|key| first_weight(&store.get::<Weights>(key).unwrap().unwrap()) == 1.0));
        assert_eq!(store.publish_many(Vec::<(ModelKey, NewModel<Weights>)>::new()).unwrap(), []);
        assert!(store.verify().unwrap().is_whole());
    });
}

#[test]
fn many_configurations_of_one_model_live_side_by_side() {
    both(|store, _| {
        let keys: Vec<ModelKey> = (0..5).map(|i| ModelKey::new("m", &i).unwrap()).collect();
        for (i, key) in keys.iter().enumerate() {
            store.publish(key, weights(i as f64)).unwrap();
        }
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(first_weight(&store.get(key).unwrap().unwrap()), i as f64);
        }
    });
}

#[test]
fn a_publish_that_expects_another_version_conflicts() {
    both(|store, _| {
        let key = key("m");
        let one = store.publish_if(&key, None, weights(1.0)).unwrap();
        let err = error(store.publish_if(&key, None, weights(9.0)));
        assert_eq!(err.kind(), ErrorKind::Conflict { expected: None, current: Some(one) });
        assert!(err.message().contains("expected no version to be current, and v1 is"), "{err}");
        let two = store.publish_if(&key, Some(one), weights(2.0)).unwrap();
        let err = error(store.publish_if(&key, Some(one), weights(9.0)));
        assert_eq!(err.kind(), ErrorKind::Conflict { expected: Some(one), current: Some(two) });
        assert_eq!(first_weight(&store.get(&key).unwrap().unwrap()), 2.0);
        assert_eq!(store.versions(&key).unwrap().len(), 2);
    });
}

#[test]
fn of_many_that_expect_the_same_version_one_wins() {
    let store = Store::in_memory().unwrap();
    let key = key("m");
    for round in 0..10u64 {
        let expected = Version::new(round);
        let won = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|i| {
                    scope.spawn({
                        let (store, key) = (&store, &key);
                        move || store.publish_if(key, expected, weights(f64::from(i))).is_ok()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| u32::from(thread.join().unwrap())).sum::<u32>()
        });
        assert_eq!(won, 1, "round {round}");
    }
}

#[test]
fn what_cannot_be_published_changes_nothing() {
    both(|store, _| {
        let key = key("m");
        store.publish(&key, weights(1.0)).unwrap();
        let bad = [
            weights(f64::NAN),
            weights(2.0).tag("no spaces", "x"),
            weights(2.0).artifact("../etc/passwd", "x"),
            weights(2.0).metric("", 1.0),
        ];
        for trained in bad {
            assert_eq!(error(store.publish(&key, trained)).kind(), ErrorKind::InvalidInput);
        }
        let long = weights(2.0).tag("note", "x".repeat(2000));
        assert_eq!(error(store.publish(&key, long)).kind(), ErrorKind::LimitExceeded);
        assert_eq!(store.versions(&key).unwrap().len(), 1);
        assert!(store.verify().unwrap().is_whole());
    });
}

#[test]
fn a_key_made_from_a_hash_publishes_only_where_its_configuration_is_known() {
    both(|store, _| {
        let full = key("m");
        let bare = ModelKey::from_hash(full.name().clone(), full.config_hash());
        assert_eq!(error(store.publish(&bare, weights(1.0))).kind(), ErrorKind::InvalidInput);
        store.publish(&full, weights(1.0)).unwrap();
        store.publish(&bare, weights(2.0)).unwrap();
        assert_eq!(store.metadata(&bare).unwrap().unwrap().config, "0");
    });
}

#[test]
fn retention_keeps_the_newest_and_the_pinned() {
    let store = Store::options().retention(2).in_memory().unwrap();
    let key = key("m");
    let first = store.publish(&key, weights(1.0).artifact("a", "x")).unwrap();
    store.pin(&key, first).unwrap();
    for i in 2..=5 {
        store.publish(&key, weights(f64::from(i)).artifact("a", "x")).unwrap();
    }
    let left: Vec<u64> = store.versions(&key).unwrap().iter().map(|entry| entry.version.get()).collect();
    assert_eq!(left, [1, 4, 5]);
    let found = store.verify().unwrap();
    assert!(found.is_whole() && found.unreferenced.is_empty(), "{found:?}");
}

#[test]
fn a_model_of_no_bytes_and_one_of_many_megabytes_are_both_kept() {
    #[derive(rkyv::Archive, rkyv::Serialize)]
    struct Nothing;
    impl modelkeep::Model for Nothing {
        const SCHEMA: modelkeep::Schema = modelkeep::Schema::new("test.nothing", 1);
    }
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("nothing"), NewModel::new(Nothing)).unwrap();
    let huge: Vec<f64> = (0..1_500_000).map(f64::from).collect();
    store.publish(&key("huge"), NewModel::new(Weights { weights: huge })).unwrap();
    drop(store);
    let store = folder.open();
    assert!(store.get::<Nothing>(&key("nothing")).unwrap().is_some());
    let held = store.get::<Weights>(&key("huge")).unwrap().unwrap();
    assert_eq!(held.weights.last().unwrap().to_native(), 1_499_999.0);
    assert_eq!(held.archive_bytes().as_ptr().addr() % 64, 0);
}

/// What redb reads of the file: reads of the store itself go through the map.
#[derive(Debug, Default)]
struct Reads(Mutex<Vec<(u64, u64)>>);

impl Disk for Reads {
    fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
        if let Access::Read { offset, bytes, .. } = access {
            self.0.lock().unwrap().push((*offset, *bytes));
        }
        Ok(())
    }
}

/// The page of an archive begins with its leaf's head, and the archive's own header 16 bytes on.
fn is_of_an_archive(page: &[u8]) -> bool {
    page.get(16..20) == Some(b"mkp\x1a") && u32::from_le_bytes(page[4..8].try_into().unwrap()) > 20_000
}

#[test]
fn a_publish_reads_no_archive_and_a_removal_the_front_of_it() {
    let folder = Folder::new();
    let reads = Arc::<Reads>::default();
    let options = folder.options().mapped(true).compress_superseded(false).retention(2).cache_bytes(64 << 10);
    let options = options.maintenance(Maintenance::OnRequest).disk(Arc::<Reads>::clone(&reads));
    let store = options.open(folder.path()).unwrap();
    let during = |call: &dyn Fn()| {
        reads.0.lock().unwrap().clear();
        call();
        let file = std::fs::read(folder.path()).unwrap();
        let page = |&(offset, bytes): &(u64, u64)| (offset as usize, bytes as usize);
        let reads = reads.0.lock().unwrap();
        let of_archives = reads.iter().map(page).filter(|(offset, _)| {
            file.get(*offset..).is_some_and(|page| page.len() > 4096 && page[0] == 1 && is_of_an_archive(page))
        });
        of_archives.map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    for round in 1..=2 {
        store.publish(&key("m"), large(f64::from(round))).unwrap();
    }
    assert_eq!(during(&|| drop(store.publish(&key("m"), large(3.0)).map(drop))), [0; 0], "none that lies beside it");
    assert_eq!(
        during(&|| assert_eq!(store.run_maintenance().unwrap().removed, 1)),
        [4096],
        "where it ends, and under which key"
    );
    assert_eq!(store.versions(&key("m")).unwrap().len(), 2);
    assert!(store.verify().unwrap().is_whole());
}
