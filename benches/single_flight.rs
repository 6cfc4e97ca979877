//! What it costs many callers of one model to wait for one training: 64 threads and a training of 200 ms, as a ratio of
//! one caller with the same training.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench has no public API, prints, measures, and stops when it cannot go on"
)]

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use modelkeep::{Freshness, Model, ModelKey, ModelRef, NewModel, Schema, Store};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Weights {
    weights: Vec<f64>,
}

impl Model for Weights {
    const SCHEMA: Schema = Schema::new("bench.weights", 1);
}

const ROUNDS: usize = 9;
const CALLERS: usize = 64;
const TRAINING: Duration = Duration::from_millis(200);

/// How long it takes until so many callers have the model, and the trainings that it took.
fn time(callers: usize) -> (Duration, u64) {
    let store = Store::in_memory().expect("a store in memory");
    let key = ModelKey::new("bench", &()).expect("a key");
    let start = Barrier::new(callers + 1);
    let took = thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let train = |_: Option<&ModelRef<Weights>>| {
                        thread::sleep(TRAINING);
                        Ok::<_, std::io::Error>(NewModel::new(Weights { weights: vec![0.5; 1000] }))
                    };
                    store.get_or_train(&key, &Freshness::any_age(), train).expect("a model").weights.len()
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        assert!(threads.into_iter().all(|thread| thread.join().expect("a caller") == 1000));
        begun.elapsed()
    });
    (took, store.stats().trainings)
}

fn main() {
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let ((one, _), (many, trainings)) = (time(1), time(CALLERS));
        assert_eq!(trainings, 1);
        ratios.push(many.as_secs_f64() / one.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "{CALLERS} callers, one training: {:.3} of one caller (median of {ROUNDS}; {:.3} to {:.3})",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1]
    );
}
