//! What a durable publish costs, by size; and what writing a plain file durably costs beside it.

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

use std::{fs::File, io::Write, path::Path, time::Duration};

use common::{key, mixed};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modelkeep::{NewModel, Store};

fn durable_file(folder: &Path, bytes: &[u8]) {
    let (temporary, name) = (folder.join("temporary"), folder.join("plain"));
    let mut file = File::create(&temporary).expect("a file");
    file.write_all(bytes).expect("room for it");
    file.sync_all().expect("a disk");
    std::fs::rename(&temporary, &name).expect("a rename");
    File::open(folder).expect("the folder").sync_all().expect("a disk");
}

fn publish(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("publish");
    group.sample_size(15).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_millis(500));
    for (name, bytes) in [("1_KB", 1 << 10), ("1_MB", 1 << 20), ("50_MB", 50 << 20)] {
        group.throughput(Throughput::Bytes(bytes as u64));
        for compress in [false, true] {
            let path = folder.path().join(format!("{bytes}_{compress}.redb"));
            let store = Store::options().retention(2).compress_superseded(compress).open(path).expect("a new store");
            let id = if compress { "compressing_the_superseded" } else { "superseded_left_raw" };
            let (mut seed, key) = (0, key("m"));
            group.bench_function(BenchmarkId::new(id, name), |b| {
                b.iter_batched(
                    || {
                        seed += 1;
                        NewModel::new(mixed(bytes, seed))
                    },
                    |trained| store.publish(&key, trained).expect("it is published"),
                    BatchSize::PerIteration,
                );
            });
        }
        let plain = vec![7u8; bytes];
        group.bench_function(BenchmarkId::new("plain_file_fsync_rename", name), |b| {
            b.iter(|| durable_file(folder.path(), &plain));
        });
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
