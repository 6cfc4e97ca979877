//! What is stored: all of it a function of one number.

use modelkeep::{
    Model, ModelKey, ModelRef, NewModel, Schema, Timestamp,
    market::{Bar, Bars},
    training::{Samples, TrainingSet},
};

use super::Report;

/// A model that says which one it is.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub(super) struct Numbered {
    number: u64,
    key: u32,
    values: Vec<f64>,
}

impl Model for Numbered {
    const SCHEMA: Schema = Schema::new("torture.numbered", 1);
}

/// The next of a sequence without a pattern (splitmix64).
pub(super) fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How many bytes: mostly few, up to 20 MB, often none; and lengths around those that pages are cut by.
fn size(draw: u64) -> usize {
    let at = |limit: u64| (mix(draw) % limit) as usize;
    match draw % 256 {
        0..32 => 0,
        32..64 => 64 * at(256) + 4,
        64..80 => (4096 << at(5)) - 160 + at(200),
        80..200 => at(4 << 10),
        200..240 => at(256 << 10),
        240..254 => at(2 << 20),
        _ => at(20 << 20),
    }
}

/// The value at `i`: of every second number one that does not repeat, of the others one that compresses.
fn value(number: u64, i: usize) -> f64 {
    if number.is_multiple_of(2) {
        (number as f64).mul_add(0.5, (i % 13) as f64)
    } else {
        (number.wrapping_mul(0x9e37_79b9).wrapping_add(i as u64 * 0x85eb_ca6b) >> 11) as f64
    }
}

pub(super) fn key(n: u32) -> ModelKey {
    ModelKey::new(&format!("key{n}"), &n).unwrap()
}

fn values(number: u64) -> usize {
    size(mix(number ^ 1)) / 8
}

/// Nothing, or the number and what follows from it.
pub(super) fn artifact(number: u64) -> Vec<u8> {
    let rest = (8..size(mix(number ^ 2))).map(|i| (number as usize + i / 7) as u8);
    let front = number.to_le_bytes().into_iter().chain(rest).collect();
    if number.is_multiple_of(5) { Vec::new() } else { front }
}

pub(super) fn check_artifact(bytes: &[u8]) {
    if let Some(number) = bytes.first_chunk() {
        let number = u64::from_le_bytes(*number);
        assert!(bytes == artifact(number), "the artifact of number {number} is another");
    }
}

pub(super) fn samples(number: u64, rows: usize) -> TrainingSet {
    let at = (0..rows).map(|row| Timestamp::from_nanos(row as i64)).collect();
    let features = (0..rows).map(|row| value(number, row)).collect();
    let samples = Samples::from_columns(&format!("S{number}"), &["x"], at, features, vec![number as f64; rows]);
    TrainingSet::from_samples([samples.unwrap()]).unwrap()
}

/// The model of this number, with an artifact and training data.
pub(super) fn trained(key: u32, number: u64) -> NewModel<Numbered> {
    let model = Numbered { number, key, values: (0..values(number)).map(|i| value(number, i)).collect() };
    let trained = NewModel::new(model).tag("number", number.to_string());
    let trained = match number % 3 {
        0 => trained,
        _ => trained.artifact("a", artifact(number)),
    };
    match size(mix(number ^ 3)) / 24 {
        0 => trained,
        rows => trained.training_data(samples(number, rows)),
    }
}

/// Compares all of a model with what it was made of, and returns its number.
pub(super) fn check(held: &ModelRef<Numbered>, key: u32, report: &Report) -> u64 {
    let number = held.number.to_native();
    assert_eq!(held.key.to_native(), key, "the model of another key; it says that it is number {number}");
    assert_eq!(held.values.len(), values(number), "number {number} of key {key} has another length");
    let wrong = held.values.iter().enumerate().position(|(i, found)| found.to_native() != value(number, i));
    assert_eq!(wrong, None, "number {number} of key {key} has changed there");
    Report::count(&report.checks, 1);
    Report::count(&report.bytes_checked, held.archive_bytes().len() as u64);
    number
}

/// Compares stored samples with what they were made of.
pub(super) fn check_samples(set: &TrainingSet) {
    for samples in set.iter() {
        let number: u64 = samples.symbol().as_str()[1..].parse().unwrap();
        for (row, (at, features, target)) in samples.rows().enumerate() {
            let expected = (Timestamp::from_nanos(row as i64), value(number, row), number as f64);
            assert_eq!((at, features[0], target), expected, "row {row} of samples {number}");
        }
    }
}

/// Some minutes of a day.
pub(super) fn bars(day: i64, number: u64) -> Bars {
    let start = 1_545_652_800_000_000_000 + day * 86_400_000_000_000;
    let price = 1.0 + (number % 1000) as f64;
    let bar = |i: i64| Bar {
        at: Timestamp::from_nanos(start + i * 60_000_000_000),
        open: price,
        high: price + 1.0,
        low: price - 0.5,
        close: price,
        volume: number as f64,
    };
    (0..390).map(bar).collect()
}
