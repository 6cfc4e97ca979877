//! What holding costs those who write: a commit of bars while many models are held in place, and giving a held model
//! memory of its own when it leaves the file.
//!
//! `MODELKEEP_LEASES=100000` holds as many beside the default counts: 7 GB on the disk, and some minutes to publish
//! them.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a bench has no public API, stops when it cannot go on, and uses what it needs of the common module"
)]

mod common;

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{Mixed, key, mixed};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modelkeep::{
    NewModel, Store, Tier, Timestamp,
    disk::{Access, Disk, Fault},
    market::{Bar, Bars, Timeframe},
};

/// Just large enough to be read in place.
const LENT_BYTES: usize = 66 << 10;

fn day(n: i64) -> Bars {
    let start = 1_545_652_800_000_000_000 + n * 86_400_000_000_000;
    let bar = |i: i64| {
        let price = 100.0 + (i % 11) as f64;
        let at = Timestamp::from_nanos(start + i * 60_000_000_000);
        Bar { at, open: price, high: price + 1.0, low: price - 1.0, close: price, volume: 10.0 }
    };
    (0..390).map(bar).collect()
}

fn commits(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::options().hot_bytes(0).open(folder.path().join("m.redb")).expect("a new store");
    let bars = store.bars("SPY", Timeframe::MINUTE).expect("a series");
    let mut group = c.benchmark_group("commit_of_a_day_of_minutes");
    group.sample_size(30).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_millis(500));
    let more = std::env::var("MODELKEEP_LEASES").ok().and_then(|count| count.parse().ok());
    let (mut held, mut n) = (Vec::new(), 0);
    for count in [0, 1_000, 10_000].into_iter().chain(more) {
        for i in held.len()..count {
            let key = key(&format!("m{i}"));
            store.publish(&key, NewModel::new(mixed(LENT_BYTES, i as u64))).expect("it is published");
            held.push(store.get::<Mixed>(&key).expect("it is read").expect("it is there"));
        }
        assert!(held.iter().all(|held| held.tier() == Tier::Disk));
        group.bench_function(BenchmarkId::new("models_held_in_place", count), |b| {
            b.iter(|| {
                n += 1;
                bars.write(&day(n % 20)).expect("they are written")
            });
        });
    }
    group.finish();
}

/// How long each copy took.
#[derive(Debug, Default)]
struct Watch(Mutex<(Option<Instant>, Vec<Duration>)>);

impl Disk for Watch {
    fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
        if matches!(access, Access::Detach { .. }) {
            self.0.lock().expect("nobody panicked").0 = Some(Instant::now());
        }
        Ok(())
    }

    fn after(&self, access: &Access<'_>) {
        if matches!(access, Access::Detach { .. }) {
            let mut watch = self.0.lock().expect("nobody panicked");
            let began = watch.0.take().expect("it began");
            watch.1.push(began.elapsed());
        }
    }
}

fn detach(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("detach");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for (name, bytes) in [("128_KB", 128 << 10), ("1_MB", 1 << 20), ("50_MB", 50 << 20)] {
        let watch = Arc::new(Watch::default());
        let options = Store::options().retention(1).compress_superseded(false).hot_bytes(0);
        let store = options.disk(Arc::clone(&watch) as _).open(folder.path().join(name)).expect("a new store");
        let (key, model) = (key("m"), mixed(bytes, 1));
        let publish = || {
            let Mixed { weights, prices, nodes } = &model;
            let model = Mixed { weights: weights.clone(), prices: prices.clone(), nodes: nodes.clone() };
            store.publish(&key, NewModel::new(model)).expect("it is published")
        };
        publish();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("held", name), |b| {
            b.iter_custom(|times| {
                let mut sum = Duration::ZERO;
                for _ in 0..times {
                    let held = store.get::<Mixed>(&key).expect("it is read").expect("it is there");
                    publish();
                    // It is done on a thread in the background.
                    let took = loop {
                        if let Some(took) = watch.0.lock().expect("nobody panicked").1.pop() {
                            break took;
                        }
                        thread::sleep(Duration::from_millis(1));
                    };
                    sum += took;
                    drop(held);
                }
                sum
            });
        });
    }
    group.finish();
}

criterion_group!(benches, commits, detach);
criterion_main!(benches);
