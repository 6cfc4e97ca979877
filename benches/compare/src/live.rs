//! One model whose current version is read again and again: our `Live` beside arc-swap.
//!
//! The only file that knows the API of `Live`.

use std::sync::Arc;

use anyhow::Result;
use arc_swap::{ArcSwap, Cache};
use modelkeep::{Model, ModelKey, Store};
use rkyv::Archive;

use crate::{
    maps::{Peer, Sweep, each},
    model::{Resident, touch},
};

/// All ways to read the current version of the one model `key`.
pub fn peers(store: &Store, key: &ModelKey, model: &Arc<Resident>) -> Result<Vec<Peer>> {
    let mut peers = vec![cache(model), load(model)];
    peers.extend(ours(store, key)?);
    Ok(peers)
}

/// One that reads its one model, whatever it is asked for.
fn one(name: &'static str, sweep: Sweep) -> Peer {
    Peer { by_key: false, ..Peer::read(name, sweep) }
}

/// A cell that remembers, per thread, what it last loaded.
fn cache(model: &Arc<Resident>) -> Peer {
    let cell = ArcSwap::new(Arc::clone(model));
    let sweep = move |order: &[&ModelKey]| {
        let mut cache = Cache::new(&cell);
        each(order, |_| Some(touch(cache.load().get())))
    };
    one("arcswap_cache", Box::new(sweep))
}

fn load(model: &Arc<Resident>) -> Peer {
    let cell = ArcSwap::new(Arc::clone(model));
    one("arcswap_load", Box::new(move |order| each(order, |_| Some(touch(cell.load().get())))))
}

fn ours(store: &Store, key: &ModelKey) -> Result<Option<Peer>> {
    /// A handle that a thread may send to another, and not share: each sweep makes a clone of its own.
    struct Handle(std::sync::Mutex<modelkeep::Live<crate::model::Mixed>>);

    let handle = Handle(std::sync::Mutex::new(store.live(key)?));
    let sweep = move |order: &[&ModelKey]| {
        let live = handle.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        each(order, |_| Some(touch(&*live.load()?)))
    };
    Ok(Some(one("live", Box::new(sweep))))
}

/// How a thread reads one model again and again: calls back with it, and returns whether there was one.
pub type Reader<M> = Box<dyn FnMut(&mut dyn FnMut(&<M as Archive>::Archived)) -> bool + Send>;

/// Readers by `Live`, one for each thread.
pub fn readers<M: Model>(store: &Store, key: &ModelKey, count: u32) -> Result<Vec<Reader<M>>> {
    let live = store.live::<M>(key)?;
    let reader = |_| -> Reader<M> {
        let live = live.clone();
        Box::new(move |read| live.load().map(|model| read(&model)).is_some())
    };
    Ok((0..count).map(reader).collect())
}
