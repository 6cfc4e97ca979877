//! The model that the benches keep: weight matrices, price columns and a forest, in the proportions of a real one.

use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
use rkyv::{Archive, Serialize};

/// A node of 20 bytes, as gradient-boosting libraries store them.
#[derive(Archive, Serialize, Clone, Copy)]
pub struct Split {
    threshold: [u8; 8],
    feature: u32,
    left: u32,
    right: u32,
}

#[derive(Archive, Serialize)]
pub struct Mixed {
    pub weights: Vec<f64>,
    pub prices: Vec<f64>,
    pub nodes: Vec<Split>,
}

impl Model for Mixed {
    const SCHEMA: Schema = Schema::new("bench.mixed", 1);
}

/// A model of about `bytes` bytes: half weights, a quarter prices, a quarter nodes. The same for the same arguments.
pub fn mixed(bytes: usize, seed: u64) -> Mixed {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let uniform = |n: u64| n as f64 / f64::from(1u32 << 31) - 0.5;
    let weights = (0..bytes / 16).map(|_| uniform(random())).collect();
    let mut price = 10_000.0;
    let prices = (0..bytes / 32)
        .map(|_| {
            price += (random() % 11) as f64 - 5.0;
            price / 100.0
        })
        .collect();
    let count = bytes / 80;
    let nodes = (0..count)
        .map(|i| Split {
            threshold: uniform(random()).to_le_bytes(),
            feature: (random() % 64) as u32,
            left: (i + 1).min(count) as u32,
            right: (i + 2).min(count) as u32,
        })
        .collect();
    Mixed { weights, prices, nodes }
}

/// What a first prediction touches: a number from each part.
pub fn first_prediction(model: &ArchivedMixed) -> f64 {
    let sum: f64 = model.weights.iter().take(64).map(|weight| weight.to_native()).sum();
    let price = model.prices.last().map_or(0.0, |price| price.to_native());
    let node = model.nodes.first().map_or(0, |node| node.feature.to_native());
    sum + price + f64::from(node)
}

pub fn key(name: &str) -> ModelKey {
    ModelKey::new(name, &"bench").expect("a bench names its models well")
}

pub fn publish(store: &Store, name: &str, bytes: usize, seed: u64) {
    store.publish(&key(name), NewModel::new(mixed(bytes, seed))).expect("the bench's store takes its models");
}
