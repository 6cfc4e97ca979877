//! The maps and caches that a hot get is compared with.
//!
//! Every one holds the same `Arc`s of the same archives under the same keys, with the same hasher. A sweep looks each
//! key of an order up and touches one field of the model, and that is all that its loop does.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::Result;
use arc_swap::ArcSwap;
use modelkeep::{ModelKey, NewModel, Store};

use crate::{
    hasher::FastHash,
    model::{self, Mixed, Resident, touch},
};

/// Looks every key of the order up; returns what was touched, and how many keys were not there.
pub type Sweep = Box<dyn Fn(&[&ModelKey]) -> Swept + Sync>;

/// Puts another version of a model in, made from this seed.
pub type Put = Box<dyn Fn(&ModelKey, u64) -> Result<()> + Sync>;

/// One way to keep models.
pub struct Peer {
    pub name: &'static str,
    /// How it looks models up.
    pub sweep: Sweep,
    /// How it replaces one; `None`, where nobody can while others read.
    pub put: Option<Put>,
    /// Whether it finds by key, so that it touches what its peers do.
    pub by_key: bool,
}

impl Peer {
    /// One that is only read.
    pub fn read(name: &'static str, sweep: Sweep) -> Self {
        Self { name, sweep, put: None, by_key: true }
    }

    /// One that can be written to while it is read.
    fn written(name: &'static str, sweep: Sweep, put: impl Fn(ModelKey, Arc<Resident>) + Sync + 'static) -> Self {
        let put = move |key: &ModelKey, seed: u64| {
            put(key.clone(), Arc::new(Resident::made(PUT_BYTES, seed)?));
            Ok(())
        };
        Self { put: Some(Box::new(put)), ..Self::read(name, sweep) }
    }
}

/// Bytes of a model that replaces another, about.
const PUT_BYTES: usize = 1024;

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
    let writer = store.clone();
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(&*store.get::<Mixed>(key).ok()??)));
    let put = move |key: &ModelKey, seed| {
        writer.publish(key, NewModel::new(model::mixed(PUT_BYTES, seed)))?;
        Ok(())
    };
    Peer { put: Some(Box::new(put)), ..Peer::read("get", Box::new(sweep)) }
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
    Peer::read("hashmap", Box::new(move |order| each(order, |key| Some(touch(map.get(key)?.get())))))
}

fn papaya_map(models: &Residents) -> papaya::HashMap<ModelKey, Arc<Resident>, FastHash> {
    let map = papaya::HashMap::with_hasher(FastHash::default());
    for (key, model) in pairs(models) {
        map.pin().insert(key, model);
    }
    map
}

fn papaya(models: &Residents) -> Peer {
    let map = Arc::new(papaya_map(models));
    let written = Arc::clone(&map);
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(map.pin().get(key)?.get())));
    Peer::written("papaya", Box::new(sweep), move |key, model| drop(written.pin().insert(key, model).cloned()))
}

/// One guard for all gets of a sweep: nothing that is removed meanwhile can be freed.
fn papaya_long_guard(models: &Residents) -> Peer {
    let map = papaya_map(models);
    let sweep = move |order: &[&ModelKey]| {
        let map = map.pin();
        each(order, |key| Some(touch(map.get(key)?.get())))
    };
    Peer::read("papaya_long_guard", Box::new(sweep))
}

/// A map that nobody can change, of cells whose models can be replaced.
fn arc_swap(models: &Residents) -> Peer {
    let cells: HashMap<_, _, FastHash> = pairs(models).map(|(key, model)| (key, ArcSwap::new(model))).collect();
    let map = Arc::new(cells);
    let written = Arc::clone(&map);
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(map.get(key)?.load().get())));
    Peer::written("arcswap", Box::new(sweep), move |key, model| {
        written.get(&key).into_iter().for_each(|cell| cell.store(Arc::clone(&model)));
    })
}

/// A cache of `quick_cache` with room for so many models.
pub type QuickCache = quick_cache::sync::Cache<ModelKey, Arc<Resident>, quick_cache::UnitWeighter, FastHash>;

pub fn quick_cache_of(capacity: usize) -> QuickCache {
    QuickCache::with(
        capacity,
        capacity as u64,
        quick_cache::UnitWeighter,
        FastHash::default(),
        quick_cache::sync::DefaultLifecycle::default(),
    )
}

/// A cache of `moka` with room for so many models.
pub type Moka = moka::sync::Cache<ModelKey, Arc<Resident>, FastHash>;

pub fn moka_of(capacity: usize) -> Moka {
    moka::sync::Cache::builder().max_capacity(capacity as u64).build_with_hasher(FastHash::default())
}

fn quick_cache(models: &Residents) -> Peer {
    // Room to spare in every shard, so that nothing is evicted.
    let capacity = models.len() * 4;
    let map = Arc::new(quick_cache_of(capacity));
    for (key, model) in pairs(models) {
        map.insert(key, model);
    }
    let written = Arc::clone(&map);
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(map.get(key)?.get())));
    Peer::written("quick_cache", Box::new(sweep), move |key, model| written.insert(key, model))
}

fn moka(models: &Residents) -> Peer {
    let map = moka_of(models.len() * 4);
    for (key, model) in pairs(models) {
        map.insert(key, model);
    }
    map.run_pending_tasks();
    let written = map.clone();
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(map.get(key)?.get())));
    Peer::written("moka", Box::new(sweep), move |key, model| written.insert(key, model))
}

fn dashmap(models: &Residents) -> Peer {
    let map: Arc<dashmap::DashMap<_, _, FastHash>> = Arc::new(pairs(models).collect());
    let written = Arc::clone(&map);
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(map.get(key)?.get())));
    Peer::written("dashmap", Box::new(sweep), move |key, model| drop(written.insert(key, model)))
}

fn rw_lock(models: &Residents) -> Peer {
    let map = Arc::new(RwLock::new(models.clone()));
    let written = Arc::clone(&map);
    let sweep = move |order: &[&ModelKey]| each(order, |key| Some(touch(map.read().ok()?.get(key)?.get())));
    Peer::written("rwlock", Box::new(sweep), move |key, model| {
        drop(written.write().unwrap_or_else(PoisonError::into_inner).insert(key, model));
    })
}
