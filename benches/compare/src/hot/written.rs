//! Gets while another thread publishes a version a hundred times a second.
//!
//! Ours makes each durable and writes down what it was made of; the maps only take it.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use modelkeep::{ModelKey, Store};

use super::{
    Arguments, room,
    rounds::{self, Rounds},
};
use crate::{
    maps::{self, Peer},
    model,
    report::{Report, Wanted::AtMost},
};

/// From one version to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// Measures the peers that can be written to, and adds a table.
pub fn run(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<()> {
    let bytes = arguments.model_bytes as usize;
    let keys = (0..arguments.keys as usize).map(model::numbered_key).collect::<Result<Vec<_>>>()?;
    let path = folder.join("hot_written.redb");
    rounds::publish(&Store::options().hot_bytes(0).open(&path)?, &keys, bytes)?;
    let store = Store::options().hot_bytes(room(keys.len(), bytes)).open(&path)?;
    rounds::load(&store, &keys)?;
    let models = rounds::residents(&keys, bytes)?;
    let mut peers = maps::peers(&models);
    peers.push(maps::ours(store.clone()));
    peers.retain(|peer| peer.put.is_some());
    // What is touched depends on what was written by then.
    peers.iter_mut().for_each(|peer| peer.by_key = false);

    let rounds = Rounds::new(&keys, arguments.gets as usize, arguments.samples)?;
    let versions = AtomicU64::new(0);
    let times = rounds.run(&peers, |peer, sample| beside_a_writer(peer, rounds.order(), &versions, sample))?;
    report.table(&rounds::HEADER);
    report.set("written_versions", versions.load(Ordering::Relaxed));
    report.set("written_pause_ms", PAUSE.as_millis() as u64);
    rounds::add(report, "written_", &peers, &times);
    for (threads, most) in [(1, 0.5), (2, 0.25)] {
        let [over, under] = ["get", "quick_cache"].map(|peer| format!("written_{peer}_{threads}t_ns"));
        report.ratio(&format!("ratio_written_get_quick_cache_{threads}t"), &over, &under, AtMost(most));
    }
    Ok(())
}

/// Runs a sample while versions are put in, of keys in the order of the readers. The first one is in before it begins.
fn beside_a_writer(
    peer: &Peer,
    order: &[&ModelKey],
    versions: &AtomicU64,
    sample: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let put = peer.put.as_ref().context("it can be written to")?;
    let put_next = || -> Result<()> {
        let version = versions.fetch_add(1, Ordering::Relaxed);
        let key = order.get(version as usize % order.len()).context("there is a key")?;
        put(key, version)
    };
    put_next()?;
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<()> {
            let mut next = Instant::now() + PAUSE;
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                next += PAUSE;
                put_next()?;
            }
            Ok(())
        });
        let sampled = sample();
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow!("{} panicked", peer.name))?.and(sampled)
    })
}
