//! A model, a workload, and what a store says of itself.

use std::{fmt::Write as _, path::Path, sync::Arc};

use modelkeep::{
    Error, Interval, Model, ModelKey, NewModel, Options, Schema, Store, Timestamp, Version,
    admin::Maintenance,
    clock::ManualClock,
    market::{Bar, Bars, Timeframe},
    training::{Samples, TrainingSet},
};

use crate::disk::LoggedDisk;

#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Weights {
    pub weights: Vec<f64>,
}

impl Model for Weights {
    const SCHEMA: Schema = Schema::new("crash.weights", 1);
}

/// A model of so many numbers, which all say which one it is, and an artifact that says the same.
pub fn model(first: u32, numbers: usize) -> NewModel<Weights> {
    let weights = (0..numbers).map(|i| f64::from(first) + (i % 7) as f64 / 16.0).collect();
    let artifact = vec![first as u8; 40 + numbers % 5000];
    NewModel::new(Weights { weights }).artifact("a", artifact).tag("first", first.to_string())
}

pub fn samples(symbol: &str, rows: usize, value: f64) -> TrainingSet {
    let mut samples = Samples::new(symbol, &["x"]).unwrap();
    (0..rows).for_each(|row| samples.push(Timestamp::from_nanos(row as i64), &[value], value).unwrap());
    let mut set = TrainingSet::new();
    set.insert(samples).unwrap();
    set
}

pub fn bars(day: i64, count: i64) -> Bars {
    let nanos = 1_545_652_800_000_000_000 + day * 86_400_000_000_000;
    let bar = |i: i64| {
        let price = 100.0 + (i % 11) as f64;
        let at = Timestamp::from_nanos(nanos + i * 60_000_000_000);
        Bar { at, open: price, high: price + 1.0, low: price - 1.0, close: price, volume: 10.0 }
    };
    (0..count).map(bar).collect()
}

pub fn key(name: &str) -> ModelKey {
    ModelKey::new(name, &0).unwrap()
}

pub fn options() -> Options {
    let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(1_545_652_800_000_000_000)));
    // What is done in the background is done here when a step asks for it.
    Store::options().clock(clock).check_held(true).retention(3).maintenance(Maintenance::OnRequest)
}

pub fn open(path: &Path, disk: &Arc<LoggedDisk>) -> Result<Store, Error> {
    options().disk(Arc::clone(disk) as _).open(path)
}

pub const NAMES: [&str; 5] = ["small", "page", "large", "huge", "other"];

/// Everything that a store says of what is in it, in words; damage too.
pub fn summary(store: &Store) -> String {
    let mut out = String::new();
    for name in NAMES {
        let key = key(name);
        let versions = store.versions(&key).unwrap_or_else(|err| panic!("{name}: {err:?}"));
        for entry in &versions {
            let held = store.get_version::<Weights>(&key, entry.version).unwrap().expect("a version that is listed");
            let first = held.weights[0].to_native() as u32;
            let whole =
                held.weights.iter().enumerate().all(|(i, w)| w.to_native() == f64::from(first) + (i % 7) as f64 / 16.0);
            assert!(whole, "{name} {}: torn", entry.version);
            assert_eq!(entry.metadata.tags["first"], first.to_string(), "{name}");
            let artifact = store.artifact(&key, entry.version, "a").unwrap().expect("an artifact");
            assert!(artifact.iter().all(|&byte| byte == first as u8), "{name}");
            write!(out, "{name} {} {first} {} {} ", entry.version, held.weights.len(), artifact.len()).unwrap();
        }
        let head = store.metadata(&key).unwrap().and_then(|metadata| metadata.version);
        let held = store.get::<Weights>(&key).unwrap();
        assert_eq!(held.as_ref().and_then(modelkeep::ModelRef::version), head, "{name}: get and metadata differ");
        let current = versions.iter().find(|entry| entry.current).map(|entry| entry.version);
        assert_eq!(current, head, "{name}: versions and metadata differ");
        let data = store.training_data(&key).unwrap().map_or(0, |data| data.len());
        writeln!(out, "current {head:?} {data}").unwrap();
    }
    let bars = store.bars("SPY", Timeframe::MINUTE).unwrap().range(Interval::all_time()).unwrap();
    writeln!(out, "bars {} {:?}", bars.len(), bars.close().iter().sum::<f64>()).unwrap();
    out
}

/// One call of a workload.
pub type Step = fn(&Store) -> Result<(), Error>;

/// Calls that change a store in all the ways there are: small and large, one beside the other, back and forth.
pub const WORKLOAD: &[Step] = &[
    |store| store.publish(&key("small"), model(1, 3)).map(drop),
    |store| store.publish(&key("huge"), model(2, 500_000)).map(drop),
    |store| store.publish(&key("large"), model(3, 20_000)).map(drop),
    |store| store.publish(&key("page"), model(4, 490)).map(drop),
    |store| store.publish(&key("large"), model(5, 20_001).training_data(samples("KO", 300, 1.0))).map(drop),
    |store| store.bars("SPY", Timeframe::MINUTE)?.write(&bars(0, 390)).map(drop),
    |store| store.publish(&key("large"), model(6, 20_002)).map(drop),
    |store| store.rollback(&key("large")).map(drop),
    |store| store.run_maintenance().map(drop),
    |store| store.publish(&key("page"), model(7, 520)).map(drop),
    |store| store.pin(&key("large"), Version::new(2).unwrap()),
    |store| store.bars("SPY", Timeframe::MINUTE)?.write(&bars(1, 390)).map(drop),
    |store| store.publish(&key("large"), model(8, 20_003)).map(drop),
    |store| store.compact().map(drop),
    |store| store.publish(&key("large"), model(9, 20_004)).map(drop),
    |store| store.run_maintenance().map(drop),
    |store| store.prune(&key("large"), 1).run().map(drop),
    |store| store.publish(&key("huge"), model(10, 500_001)).map(drop),
    |store| store.publish(&key("large"), model(15, 20_005)).map(drop),
    |store| store.publish(&key("large"), model(16, 20_006)).map(drop),
    |store| store.run_maintenance().map(drop),
    |store| store.remove(&key("page")).run().map(drop),
    |store| store.publish(&key("other"), model(11, 9_000)).map(drop),
    |store| store.rollback_to(&key("large"), Version::new(2).unwrap()),
    |store| store.publish(&key("page"), model(12, 505)).map(drop),
    |store| store.compact().map(drop),
    |store| store.publish(&key("small"), model(13, 4)).map(drop),
    |store| {
        let names = ["small", "page", "large", "other"];
        store.publish_many(names.map(|name| (key(name), model(14, 700)))).map(drop)
    },
];
