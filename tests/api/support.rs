//! Models, keys, clocks and files that the tests share.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use modelkeep::{
    Invalid, Model, ModelKey, ModelRef, NewModel, Options, Schema, Store, Timestamp,
    clock::ManualClock,
    training::{Samples, TrainingSet},
};
use rkyv::{Archive, Serialize};

/// A model with weights, of any size.
#[derive(Archive, Serialize, Clone, Debug)]
pub struct Weights {
    pub weights: Vec<f64>,
}

impl Model for Weights {
    const SCHEMA: Schema = Schema::new("test.weights", 1);

    fn validate(archived: &ArchivedWeights) -> Result<(), Invalid> {
        match archived.weights.iter().position(|w| !w.to_native().is_finite()) {
            Some(at) => Err(Invalid::new(format!("weight {at} is not finite"))),
            None => Ok(()),
        }
    }
}

/// The same bytes under another schema.
#[derive(Archive, Serialize, Clone, Debug)]
pub struct WeightsTwo {
    pub weights: Vec<f64>,
}

impl Model for WeightsTwo {
    const SCHEMA: Schema = Schema::new("test.weights", 2);
}

pub fn weights(first: f64) -> NewModel<Weights> {
    NewModel::new(Weights { weights: vec![first, 2.0, 3.0] })
}

/// A model of some hundred kilobytes that zstd can do something with.
pub fn large(first: f64) -> NewModel<Weights> {
    let noise = (1..40_000).map(|i| f64::from(i % 977) / 7.0);
    NewModel::new(Weights { weights: std::iter::once(first).chain(noise).collect() })
}

/// The id of a small archive, by the number that was drawn for it.
pub fn small(number: u64) -> u64 {
    number | 1 << 63
}

pub fn first_weight(held: &ModelRef<Weights>) -> f64 {
    held.weights[0].to_native()
}

pub fn key(name: &str) -> ModelKey {
    ModelKey::new(name, &0).unwrap()
}

pub fn noon() -> Timestamp {
    Timestamp::from_nanos(1_545_652_800_000_000_000)
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(noon()))
}

pub const HOUR: Duration = Duration::from_secs(3600);

/// Whether this run of the tests is about files that are not mapped: with `MODELKEEP_TESTS=copied` in the environment.
pub fn is_copied() -> bool {
    std::env::var("MODELKEEP_TESTS").is_ok_and(|how| how == "copied")
}

/// A folder with a store in it, which can be closed and opened again.
pub struct Folder {
    folder: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
}

impl Folder {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: clock() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("models.redb")
    }

    pub fn options(&self) -> Options {
        Store::options().clock(Arc::clone(&self.clock)).mapped(!is_copied()).check_held(true)
    }

    pub fn open(&self) -> Store {
        self.options().open(self.path()).unwrap()
    }

    pub fn open_read_only(&self) -> Store {
        self.options().read_only(true).open(self.path()).unwrap()
    }
}

/// Stores on a file and in memory: what holds for one holds for the other.
pub fn both(test: impl Fn(&Store, &ManualClock)) {
    let folder = Folder::new();
    test(&folder.open(), &folder.clock);
    let clock = clock();
    test(&Store::options().clock(Arc::clone(&clock)).in_memory().unwrap(), &clock);
}

pub fn samples(symbol: &str, rows: &[(i64, f64)]) -> TrainingSet {
    let mut samples = Samples::new(symbol, &["x", "y"]).unwrap();
    for &(at, value) in rows {
        samples.push(Timestamp::from_nanos(at), &[value, -value], value).unwrap();
    }
    let mut set = TrainingSet::new();
    set.insert(samples).unwrap();
    set
}

/// Changes the one place in a file where `needle` stands.
pub fn damage(path: &Path, needle: &[u8], flip: impl Fn(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    let found: Vec<usize> =
        bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(i, _)| i).collect();
    assert!(!found.is_empty(), "the bytes to damage are not in the file");
    for at in found {
        flip(&mut bytes[at..at + needle.len()]);
    }
    std::fs::write(path, bytes).unwrap();
}

pub fn flip_first_bit(bytes: &mut [u8]) {
    bytes[0] ^= 1;
}

/// The error of a call that must fail; `ModelRef` and `Store` print too much for `unwrap_err`.
pub fn error<T, E>(result: Result<T, E>) -> E {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(err) => err,
    }
}

/// Changes one bit in a row of a table, as far as redb is concerned by writing it.
pub fn damage_row(folder: &Folder, table: &str, key_starts: &[u8]) {
    let db = redb::Database::create(folder.path()).unwrap();
    let transaction = db.begin_write().unwrap();
    {
        let definition: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(table);
        let mut table = transaction.open_table(definition).unwrap();
        let (row, mut value) = {
            let mut rows = redb::ReadableTable::range(&table, key_starts..).unwrap();
            let (row, value) = rows.next().unwrap().unwrap();
            (row.value().to_vec(), value.value().to_vec())
        };
        assert!(row.starts_with(key_starts));
        *value.last_mut().unwrap() ^= 1;
        table.insert(row.as_slice(), value.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}
