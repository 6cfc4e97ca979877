//! How long from nothing to the first prediction: open the store, get the model, predict. The OS cache is warm.
//!
//! Sizes 1, 5, 20 and 50 MB; read-only and read-write; all bytes verified, or the structure alone. Beside it, reading
//! and hashing a plain file of the same size: what verifying costs anybody.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench has no public API, stops when it cannot go on, and uses what it needs of the common module"
)]

mod common;

use std::{hint::black_box, path::Path, time::Duration};

use common::{Mixed, first_prediction, key, publish};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modelkeep::{Store, Verify};

const SIZES_MB: [usize; 4] = [1, 5, 20, 50];

fn open_and_predict(path: &Path, read_only: bool, verify: Verify) -> f64 {
    let store = Store::options().read_only(read_only).verify(verify).open(path).expect("the store opens");
    let held = store.get::<Mixed>(&key("m")).expect("it can be read").expect("it was published");
    first_prediction(&held)
}

fn cold_load(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("cold_load");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for megabytes in SIZES_MB {
        let (bytes, path) = (megabytes << 20, folder.path().join(format!("{megabytes}.redb")));
        publish(&Store::open(&path).expect("a new store"), "m", bytes, 1);
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, read_only, verify) in [
            ("read_only_full", true, Verify::Full),
            ("read_only_structure", true, Verify::Structure),
            ("read_write_full", false, Verify::Full),
        ] {
            group.bench_with_input(BenchmarkId::new(name, megabytes), &path, |b, path| {
                b.iter(|| black_box(open_and_predict(path, read_only, verify)));
            });
        }
        let plain = folder.path().join("plain");
        std::fs::write(&plain, vec![7u8; bytes]).expect("a plain file");
        group.bench_with_input(BenchmarkId::new("plain_file_read_and_hashed", megabytes), &plain, |b, plain| {
            b.iter(|| black_box(blake3::hash(&std::fs::read(plain).expect("a plain file"))));
        });
    }
    group.finish();
}

criterion_group!(benches, cold_load);
criterion_main!(benches);
