//! Files with market data in them, opened by a store that may have been built without it: models are served, every row
//! is verified, and nothing is lost when the file is written and compacted.
//!
//! Runs with the feature `market` and without it; CI does both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(missing_docs, reason = "tests have no public API")]

use std::{collections::BTreeMap, fs, path::Path};

use modelkeep::{Model, ModelKey, NewModel, Schema, Store, admin::Filter};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Weights {
    weights: Vec<f64>,
}

impl Model for Weights {
    const SCHEMA: Schema = Schema::new("weights", 1);
}

/// Rows of each table.
fn rows(store: &Store) -> BTreeMap<&'static str, u64> {
    let found = store.verify().unwrap();
    assert!(found.is_whole(), "{found:?}");
    store.usage().unwrap().tables.iter().map(|table| (table.table, table.rows)).collect()
}

#[test]
fn a_file_with_market_data_opens_verifies_and_is_written() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut bars = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "zst") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.redb");
        fs::write(&file, zstd::decode_all(&fs::read(&path).unwrap()[..]).unwrap()).unwrap();

        let read_only = Store::options().read_only(true).open(&file).unwrap();
        let before = rows(&read_only);
        bars += before.get("bars").copied().unwrap_or_default();
        let models = read_only.list(Filter::all()).unwrap().filter(Result::is_ok).count();
        drop(read_only);

        let store = Store::open(&file).unwrap();
        let key = ModelKey::new("new", &()).unwrap();
        store.publish(&key, NewModel::new(Weights { weights: vec![0.5; 100_000] })).unwrap();
        store.compact().unwrap();
        let after = rows(&store);
        for table in ["bars", "bar_history", "coverage", "calendars", "aggregates", "features", "vix"] {
            let rows = |rows: &BTreeMap<&str, u64>| rows.get(table).copied().unwrap_or_default();
            assert_eq!(rows(&before), rows(&after), "{table} of {}", path.display());
        }
        assert_eq!(store.list(Filter::all()).unwrap().count(), models + 1);
        assert_eq!(store.get::<Weights>(&key).unwrap().unwrap().weights.len(), 100_000);
    }
    assert!(bars > 0, "the files have bars in them");
}
