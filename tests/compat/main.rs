//! Files of released formats open, and say what they said when they were written.
//!
//! The files `tests/golden/format*.redb.zst` were written by `writes_the_golden_file` below, by releases of their time;
//! a new format gets a file of its own, and the old ones stay.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on fails, and exact numbers are what it is about"
)]

mod market;

use std::{path::Path, sync::Arc, time::Duration};

use modelkeep::{
    Interval, Model, ModelKey, NewModel, Schema, Store, Timestamp, Version,
    admin::Filter,
    clock::ManualClock,
    training::{Samples, TrainingSet},
};
use modelkeep_estimators::{DecisionTree, LogisticRegression, Node, StandardScaler};

const GOLDEN: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format1.redb.zst"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format2.redb.zst"),
];
/// Set it to a path to have the golden file written there.
const WRITE: &str = "MODELKEEP_WRITE_GOLDEN";

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Golden {
    weights: Vec<f64>,
    name: String,
    level: Option<i32>,
}

impl Model for Golden {
    const SCHEMA: Schema = Schema::new("golden", 1);
}

fn golden(first: f64, n: usize) -> Golden {
    Golden {
        weights: std::iter::once(first).chain((1..n).map(|i| (i % 100) as f64)).collect(),
        name: "größe".into(),
        level: Some(-7),
    }
}

fn samples() -> TrainingSet {
    let mut set = TrainingSet::new();
    for symbol in ["BRK.B", "^SPX"] {
        let mut samples = Samples::new(symbol, &["x", "y"]).unwrap();
        for i in 0..100 {
            samples.push(Timestamp::from_nanos(i * 1_000), &[f64::NAN, i as f64 / 3.0], -0.0).unwrap();
        }
        set.insert(samples).unwrap();
    }
    set
}

fn vix() -> [(modelkeep::Day, f64); 2] {
    [("2017-12-29".parse().unwrap(), 11.04), ("2018-02-05".parse().unwrap(), 37.32)]
}

fn range() -> Interval<modelkeep::Day> {
    Interval::parse("2017-01-01", "2019-01-01").unwrap()
}

fn key() -> ModelKey {
    ModelKey::new("golden", &("config", 0.1, [1, 2])).unwrap()
}

fn write(path: &Path) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(1_545_652_800_000_000_000)));
    let store = Store::options().clock(Arc::clone(&clock)).open(path).unwrap();
    store.levels("VIX").unwrap().write(&vix()).unwrap();
    for i in 1..=3 {
        let trained = NewModel::new(golden(f64::from(i), 3000))
            .training_data(samples())
            .artifact("report.txt", format!("report {i}"))
            .levels(store.levels("VIX").unwrap().seen(range()).unwrap())
            .metric("auc", 0.5 + f64::from(i) / 100.0)
            .tag("desk", "equities")
            .took(Duration::from_millis(1234));
        store.publish(&key(), trained).unwrap();
        clock.advance(Duration::from_secs(3600));
    }
    store.pin(&key(), Version::FIRST).unwrap();
    store.rollback(&key()).unwrap();
    let estimators = |name: &str| ModelKey::new(name, &()).unwrap();
    store.publish(&estimators("scaler"), NewModel::new(StandardScaler::new(vec![1.0, 2.0], vec![0.5, 0.25]))).unwrap();
    let logistic = LogisticRegression::new(vec![2.0, -1.0], 0.5).with_classes(-1, 1).with_threshold(0.6);
    store.publish(&estimators("logistic"), NewModel::new(logistic)).unwrap();
    let tree = DecisionTree::new(1, vec![3, 4], vec![Node::split(0, 0.5, 2), Node::leaf(0), Node::leaf(1)]);
    store.publish(&estimators("tree"), NewModel::new(tree)).unwrap();
}

/// What is written now says the same as the golden file. With the environment variable it becomes one.
#[test]
fn a_file_that_is_written_now_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.redb");
    write(&plain);
    check(&Store::options().read_only(true).open(&plain).unwrap());
    if let Some(path) = std::env::var_os(WRITE) {
        let packed = zstd::bulk::compress(&std::fs::read(&plain).unwrap(), 19).unwrap();
        std::fs::write(path, packed).unwrap();
    }
}

#[test]
fn a_file_of_each_format_says_what_it_said() {
    for golden_file in GOLDEN {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("golden.redb");
        let packed = std::fs::read(golden_file).unwrap();
        std::fs::write(&path, zstd::bulk::decompress(&packed, 64 << 20).unwrap()).unwrap();
        for read_only in [true, false] {
            let store = Store::options().read_only(read_only).open(&path).unwrap();
            check(&store);
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.publish(&key(), NewModel::new(golden(4.0, 10))).unwrap(), Version::new(4).unwrap());
        store.compact().unwrap();
        assert!(store.verify().unwrap().is_whole());
    }
}

fn check(store: &Store) {
    let found = store.verify().unwrap();
    assert!(found.is_whole() && found.unreferenced.is_empty(), "{found:?}");
    let held = store.get::<Golden>(&key()).unwrap().unwrap();
    assert_eq!((held.version().unwrap().get(), held.weights.len()), (2, 3000));
    assert_eq!((held.weights[0].to_native(), held.weights[2999].to_native()), (2.0, 99.0));
    assert_eq!((held.name.as_str(), held.level.as_ref().unwrap().to_native()), ("größe", -7));
    let versions = store.versions(&key()).unwrap();
    let marks: Vec<_> = versions.iter().map(|entry| (entry.version.get(), entry.current, entry.pinned)).collect();
    assert_eq!(marks, [(1, false, true), (2, true, false), (3, false, false)]);
    let old = store.get_version::<Golden>(&key(), Version::FIRST).unwrap().unwrap();
    assert_eq!(old.weights[0].to_native(), 1.0);
    let metadata = store.metadata(&key()).unwrap().unwrap();
    assert_eq!(metadata.config, r#"["config",0.1,[1,2]]"#);
    assert_eq!((metadata.metrics["auc"], metadata.tags["desk"].as_str()), (0.52, "equities"));
    assert_eq!(metadata.created.to_string(), "2018-12-24T13:00:00Z");
    assert_eq!((metadata.training_duration, metadata.sample_count), (Duration::from_millis(1234), 200));
    assert_eq!((metadata.levels[0].days, metadata.levels[0].range), (2, range()));
    assert_eq!(store.artifact(&key(), Version::new(2).unwrap(), "report.txt").unwrap().unwrap(), b"report 2");
    // NaN does not equal itself, so the sets are compared as text.
    assert_eq!(format!("{:?}", store.training_data(&key()).unwrap().unwrap()), format!("{:?}", samples()));
    assert_eq!(store.levels("VIX").unwrap().range(range()).unwrap().iter().collect::<Vec<_>>(), vix());
    let names: Vec<String> =
        store.list(Filter::all()).unwrap().map(|listed| listed.unwrap().name().to_string()).collect();
    assert_eq!(names, ["golden", "logistic", "scaler", "tree"]);
    let at = |name: &str| ModelKey::new(name, &()).unwrap();
    assert_eq!(store.get::<StandardScaler>(&at("scaler")).unwrap().unwrap().transform(&[3.0, 4.0]), [1.0, 0.5]);
    let logistic = store.get::<LogisticRegression>(&at("logistic")).unwrap().unwrap();
    assert_eq!((logistic.class(&[0.0, 0.5]), logistic.class(&[1.0, 0.5])), (-1, 1));
    assert_eq!(store.get::<DecisionTree>(&at("tree")).unwrap().unwrap().class(&[0.5]), 4);
}
