//! More models than the processor's caches hold, all of them in memory.

use std::path::Path;

use anyhow::{Result, ensure};
use modelkeep::Store;

use super::{
    Arguments, room,
    rounds::{self, Rounds},
};
use crate::{
    maps, model,
    report::{Report, Wanted::AtMost},
};

/// Measures `keys` models as [`super::run`] does its own, and adds a table.
pub fn run(arguments: &Arguments, keys: usize, folder: &Path, report: &mut Report) -> Result<()> {
    let bytes = arguments.model_bytes as usize;
    let keys = (0..keys).map(model::numbered_key).collect::<Result<Vec<_>>>()?;
    let path = folder.join(format!("hot_{}.redb", keys.len()));
    rounds::publish(&Store::options().hot_bytes(0).open(&path)?, &keys, bytes)?;
    let store = Store::options().hot_bytes(room(keys.len(), bytes)).open(&path)?;
    rounds::load(&store, &keys)?;
    let missed_before = store.stats().hot.misses;
    let models = rounds::residents(&keys, bytes)?;
    let mut peers = maps::peers(&models);
    peers.push(maps::ours(store.clone()));
    let times = Rounds::new(&keys, arguments.gets as usize, arguments.samples)?.run(&peers, |_, sample| sample())?;
    let missed = store.stats().hot.misses - missed_before;
    ensure!(missed == 0, "{missed} gets were not served by the hot tier");
    report.table(&rounds::HEADER);
    let prefix = format!("keys_{}_", keys.len());
    rounds::add(report, &prefix, &peers, &times);
    for (threads, most) in [(1, 0.5), (2, 0.25)] {
        let [over, under] = ["get", "quick_cache"].map(|peer| format!("{prefix}{peer}_{threads}t_ns"));
        report.ratio(&format!("ratio_{prefix}get_quick_cache_{threads}t"), &over, &under, AtMost(most));
    }
    Ok(())
}
