//! The maps and caches that a hot get is compared with.
//!
//! Every one holds the same `Arc`s of the same archives under the same keys, with the same hasher. A sweep looks each
//! key of an order up and touches one field of the model, and that is all that its loop does.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{Arc, RwLock},
};

use arc_swap::ArcSwap;
use modelkeep::{ModelKey, Store};

use crate::{
    hasher::FastHash,
    model::{Mixed, Resident, touch},
};

/// Looks every key of the order up; returns what was touched, and how many keys were not there.
pub type Sweep = Box<dyn Fn(&[&ModelKey]) -> Swept + Sync>;

/// A name and how it looks models up.
pub type Peer = (&'static str, Sweep);

/// The models, as every map holds them.
pub type Residents = HashMap<ModelKey, Arc<Resident>, FastHash>;

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swept {
    pub touched: u64,
    pub missing: u64,
}

/// Runs `get` for every key of the order. The same loop for all.
#[inline]
pub fn each(order: &[&ModelKey], mut get: impl FnMut(&ModelKey) -> Option<u64>) -> Swept {
    let mut swept = Swept::default();
    for key in order {
        match get(black_box(key)) {
            Some(touched) => swept.touched ^= touched,
            None => swept.missing += 1,
        }
    }
    swept
}

/// Our own hot tier.
pub fn ours(store: Store) -> Peer {
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(&*store.get::<Mixed>(key).ok()??)));
    ("get", Box::new(sweep))
}

/// All peers, filled with the same models.
pub fn peers(models: &Residents) -> Vec<Peer> {
    vec![
        hash_map(models),
        papaya(models),
        papaya_long_guard(models),
        arc_swap(models),
        quick_cache(models),
        moka(models),
        dashmap(models),
        rw_lock(models),
    ]
}

fn pairs(models: &Residents) -> impl Iterator<Item = (ModelKey, Arc<Resident>)> + '_ {
    models.iter().map(|(key, model)| (key.clone(), Arc::clone(model)))
}

/// The floor: a map that nobody can change.
fn hash_map(models: &Residents) -> Peer {
    let map = models.clone();
    ("hashmap", Box::new(move |order| each(order, |key| Some(touch(map.get(key)?.get())))))
}

fn papaya_map(models: &Residents) -> papaya::HashMap<ModelKey, Arc<Resident>, FastHash> {
    let map = papaya::HashMap::with_hasher(FastHash::default());
    for (key, model) in pairs(models) {
        map.pin().insert(key, model);
    }
    map
}

fn papaya(models: &Residents) -> Peer {
    let map = papaya_map(models);
    ("papaya", Box::new(move |order| each(order, |key| Some(touch(map.pin().get(key)?.get())))))
}

/// One guard for all gets of a sweep: nothing that is removed meanwhile can be freed.
fn papaya_long_guard(models: &Residents) -> Peer {
    let map = papaya_map(models);
    let sweep = move |order: &[&ModelKey]| {
        let map = map.pin();
        each(order, |key| Some(touch(map.get(key)?.get())))
    };
    ("papaya_long_guard", Box::new(sweep))
}

/// A map that nobody can change, of cells whose models can be replaced.
fn arc_swap(models: &Residents) -> Peer {
    let map: HashMap<_, _, FastHash> = pairs(models).map(|(key, model)| (key, ArcSwap::new(model))).collect();
    ("arcswap", Box::new(move |order| each(order, |key| Some(touch(map.get(key)?.load().get())))))
}

fn quick_cache(models: &Residents) -> Peer {
    // Room to spare in every shard, so that nothing is evicted.
    let capacity = models.len() * 4;
    let map = quick_cache::sync::Cache::with(
        capacity,
        capacity as u64,
        quick_cache::UnitWeighter,
        FastHash::default(),
        quick_cache::sync::DefaultLifecycle::default(),
    );
    for (key, model) in pairs(models) {
        map.insert(key, model);
    }
    ("quick_cache", Box::new(move |order| each(order, |key| Some(touch(map.get(key)?.get())))))
}

fn moka(models: &Residents) -> Peer {
    let map = moka::sync::Cache::builder().max_capacity(models.len() as u64 * 4).build_with_hasher(FastHash::default());
    for (key, model) in pairs(models) {
        map.insert(key, model);
    }
    map.run_pending_tasks();
    ("moka", Box::new(move |order| each(order, |key| Some(touch(map.get(key)?.get())))))
}

fn dashmap(models: &Residents) -> Peer {
    let map: dashmap::DashMap<_, _, FastHash> = pairs(models).collect();
    ("dashmap", Box::new(move |order| each(order, |key| Some(touch(map.get(key)?.get())))))
}

fn rw_lock(models: &Residents) -> Peer {
    let map = RwLock::new(models.clone());
    ("rwlock", Box::new(move |order| each(order, |key| Some(touch(map.read().ok()?.get(key)?.get())))))
}
