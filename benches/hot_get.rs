//! What a model costs that is in memory: `get` of one key and of 10,000 keys by Zipf, and the prediction alone.
//!
//! Beside it, the same lookup in a plain `HashMap`: the floor.

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

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use common::{Mixed, first_prediction, key, publish};
use criterion::{Criterion, criterion_group, criterion_main};
use modelkeep::{ModelKey, Store};

const KEYS: usize = 10_000;
const PICKS: usize = 1 << 14;

/// Indices of keys, small ones more often: Zipf with exponent 1, by the inverse of its distribution.
fn zipf() -> Vec<usize> {
    let harmonic: Vec<f64> = (1..=KEYS)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let total = harmonic[KEYS - 1];
    let mut state = 7u64;
    let pick = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 11) as f64 / (1u64 << 53) as f64 * total;
        harmonic.partition_point(|&sum| sum < at)
    });
    pick.take(PICKS).collect()
}

fn hot_get(c: &mut Criterion) {
    let store = Store::options().hot_bytes(1 << 30).in_memory().expect("a store in memory");
    let names: Vec<String> = (0..KEYS).map(|i| format!("m{i}")).collect();
    let keys: Vec<ModelKey> = names.iter().map(|name| key(name)).collect();
    for name in &names {
        publish(&store, name, 2048, 1);
    }
    let picks = zipf();
    let mut group = c.benchmark_group("hot_get");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));

    group.bench_function("one_key", |b| b.iter(|| black_box(store.get::<Mixed>(black_box(&keys[0])))));
    let mut at = 0;
    group.bench_function("10000_keys_zipf", |b| {
        b.iter(|| {
            at = (at + 1) % PICKS;
            black_box(store.get::<Mixed>(&keys[picks[at]]))
        });
    });
    let map: HashMap<ModelKey, Arc<u64>> = keys.iter().cloned().zip((0..).map(Arc::new)).collect();
    group.bench_function("10000_keys_zipf_plain_hash_map", |b| {
        b.iter(|| {
            at = (at + 1) % PICKS;
            black_box(map.get(&keys[picks[at]]))
        });
    });
    let held = store.get::<Mixed>(&keys[0]).expect("it can be read").expect("it was published");
    group.bench_function("held_prediction_of_66_numbers", |b| b.iter(|| black_box(first_prediction(black_box(&held)))));
    group.finish();
}

criterion_group!(benches, hot_get);
criterion_main!(benches);
