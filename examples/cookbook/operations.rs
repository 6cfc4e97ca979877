//! Care of a store: verify, prune with a dry run, compact, copy to another store, back up.
//!
//!     cargo run --example cookbook_operations

#![allow(clippy::print_stdout, reason = "an example prints")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::{error::Error, fs};

use modelkeep::{
    Interval, Model, ModelKey, NewModel, Schema, Store,
    market::{BadRows, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Closes(Vec<f64>);

impl Model for Closes {
    const SCHEMA: Schema = Schema::new("cookbook.closes", 1);
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("models.redb");
    let store = Store::options().keep_all_versions().open(&path)?;
    let series = store.bars("IBM", Timeframe::DAY)?;
    series.import_csv(IBM, BadRows::Refuse, |_| {})?;
    let bars = series.range(Interval::all_time())?;
    let key = ModelKey::new("closes", "IBM")?;
    for known in 1..=12 {
        let closes = bars.slice(0..known * 60).close().to_vec();
        store.publish(&key, NewModel::new(Closes(closes)))?;
    }
    store.pin(&key, "v3".parse()?)?;

    // What would go is said first; the pinned version stays in any case.
    let removal = store.prune(&key, 3);
    let would_go = removal.dry_run()?;
    assert_eq!(store.versions(&key)?.len(), 12, "a dry run removes nothing");
    assert_eq!(removal.run()?, would_go);
    let left: Vec<u64> = store.versions(&key)?.iter().map(|entry| entry.version.get()).collect();
    assert_eq!(left, [3, 10, 11, 12]);

    // Room is given back by a compaction. Readers go on meanwhile, writers wait.
    let compacted = store.compact()?;
    println!("{} bytes became {}", compacted.bytes_before, compacted.bytes_after);
    assert!(compacted.bytes_after <= compacted.bytes_before);
    let found = store.verify()?;
    assert!(found.is_whole(), "{:?}", found.damage);

    // To production: one version, checked in full on the way, with its age and its hash.
    let production = Store::open(folder.path().join("production.redb"))?;
    production.publish(&key, NewModel::new(Closes(vec![1.0])))?; // production numbers its versions itself
    let there = store.copy_to::<Closes>(&key, None, &production)?.get();
    assert_eq!(there, 2);
    let known = |store: &Store| store.metadata(&key).map(|known| known.map(|known| (known.model_hash, known.created)));
    assert_eq!(known(&store)?, known(&production)?);
    println!("version 12 is version {there} in production");
    store.close()?;

    // A backup: a read-only store keeps writers away while the file is copied.
    let reading = Store::options().read_only(true).open(&path)?;
    let backup = folder.path().join("backup.redb");
    fs::copy(&path, &backup)?;
    drop(reading);
    let backup = Store::options().read_only(true).open(&backup)?;
    assert!(backup.verify()?.is_whole());
    let model = backup.get::<Closes>(&key)?.ok_or("the backup lacks the model")?;
    assert_eq!(model.0.len(), 720);
    Ok(())
}
