//! What finding models costs: one metadata row, and a list of 10,000 models with and without a filter.

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

use std::{hint::black_box, time::Duration};

use common::{key, mixed};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelkeep::{NewModel, Store, admin::Filter};

const MODELS: usize = 10_000;

fn metadata(c: &mut Criterion) {
    let store = Store::in_memory().expect("a store in memory");
    for i in 0..MODELS {
        let desk = if i % 100 == 0 { "rates" } else { "equities" };
        let trained = NewModel::new(mixed(512, 1)).tag("desk", desk).metric("auc", 0.5).metric("brier", 0.25);
        store.publish(&key(&format!("m{i}")), trained).expect("it is published");
    }
    let mut group = c.benchmark_group("metadata");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    let one = key("m77");
    group.bench_function("one", |b| b.iter(|| black_box(store.metadata(&one))));
    group.throughput(Throughput::Elements(MODELS as u64));
    group.bench_function("list_10000", |b| {
        b.iter(|| store.list(Filter::all()).expect("a list").filter(Result::is_ok).count());
    });
    group.bench_function("list_100_of_10000_by_tag", |b| {
        b.iter(|| {
            let filter = Filter::all().tag("desk", "rates").expect("a tag");
            assert_eq!(store.list(filter).expect("a list").filter(Result::is_ok).count(), MODELS / 100);
        });
    });
    group.finish();
}

criterion_group!(benches, metadata);
criterion_main!(benches);
