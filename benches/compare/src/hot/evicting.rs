//! A tier with room for half of the models, and the caches that have such a bound.
//!
//! What a cache does not have is read from a file, checked, and put into it: by ours as a part of the get, by its peers
//! from a store of the same models that keeps none in memory, copied, with its structure checked.

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};
use modelkeep::{ModelKey, Store};

use super::{
    Arguments, room,
    rounds::{self, Rounds},
};
use crate::{
    maps::{self, Peer, each},
    model::{self, Mixed, Resident, touch},
    report::{Report, Wanted::AtMost},
};

/// Measures, and adds a table of times and one of hits.
pub fn run(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<()> {
    let bytes = arguments.model_bytes as usize;
    let keys = (0..arguments.keys as usize).map(model::numbered_key).collect::<Result<Vec<_>>>()?;
    let (path, others) = (folder.join("hot_evicting.redb"), folder.join("hot_evicting_others.redb"));
    rounds::publish(&Store::options().hot_bytes(0).open(&path)?, &keys, bytes)?;
    std::fs::copy(&path, &others)?;
    // Half of what all of them take.
    let all = Store::options().hot_bytes(room(keys.len(), bytes)).open(&path)?;
    rounds::load(&all, &keys)?;
    let half = all.stats().hot_bytes / 2;
    drop(all);
    let store = Store::options().hot_bytes(half).open(&path)?;
    let source = Store::options().hot_bytes(0).open(&others)?;
    let loads = || (store.stats().loads, source.stats().loads);

    let room = keys.len().div_ceil(2);
    let peers = [quick_cache(room, source.clone()), moka(room, source.clone()), maps::ours(store.clone())];
    let rounds = Rounds::new(&keys, arguments.gets as usize, arguments.samples)?;
    let times = rounds.run(&peers, |_, sample| sample())?;
    report.table(&rounds::HEADER);
    report.set("evicting_hot_bytes", half);
    rounds::add(report, "evicting_", &peers, &times);
    report.ratio("ratio_evicting_get_quick_cache_1t", "evicting_get_1t_ns", "evicting_quick_cache_1t_ns", AtMost(1.0));

    report.table(&["hits of the first thread's order", "share"]);
    let order = rounds.order();
    for peer in &peers {
        let before = loads();
        ensure!((peer.sweep)(order).missing == 0, "{} did not have a model", peer.name);
        let after = loads();
        let missed = (after.0 - before.0) + (after.1 - before.1);
        let hits = 1.0 - missed as f64 / order.len() as f64;
        report.figure(format!("evicting_{}_hits", peer.name), hits);
        report.row(vec![peer.name.to_owned(), format!("{:.2} %", hits * 100.0)]);
    }
    Ok(())
}

/// Reads a model from the store that keeps none.
fn read(source: &Store, key: &ModelKey) -> Option<Arc<Resident>> {
    let model = source.get::<Mixed>(key).ok()??;
    Resident::new(model::copy(model.archive_bytes())).ok().map(Arc::new)
}

fn quick_cache(room: usize, source: Store) -> Peer {
    let cache = Arc::new(maps::quick_cache_of(room));
    let into = Arc::clone(&cache);
    reading("quick_cache", source, move |key| cache.get(key), move |key, model| into.insert(key, model))
}

fn moka(room: usize, source: Store) -> Peer {
    let cache = maps::moka_of(room);
    let into = cache.clone();
    reading("moka", source, move |key| cache.get(key), move |key, model| into.insert(key, model))
}

/// A cache that is given what it does not have.
fn reading(
    name: &'static str,
    source: Store,
    get: impl Fn(&ModelKey) -> Option<Arc<Resident>> + Send + Sync + 'static,
    insert: impl Fn(ModelKey, Arc<Resident>) + Send + Sync + 'static,
) -> Peer {
    let sweep = move |order: &[&ModelKey]| {
        each(order, |key| {
            if let Some(model) = get(key) {
                return Some(touch(model.get()));
            }
            let model = read(&source, key)?;
            let touched = touch(model.get());
            insert(key.clone(), model);
            Some(touched)
        })
    };
    Peer::read(name, Box::new(sweep))
}
