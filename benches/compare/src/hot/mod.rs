//! Hot: what does a get cost when the model is in memory, on one thread and on two?
//!
//! Peers take turns, round by round ([`rounds`]). What more is measured with `--all` has a file each: [`larger`] sets
//! of models, a tier that has room for half of them ([`evicting`]), and a writer beside the readers ([`written`]).

mod evicting;
mod larger;
mod rounds;
mod written;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use modelkeep::Store;

use crate::{
    folder, live, maps,
    model::{self, MB},
    report::{Report, Wanted::AtMost},
};
use rounds::Rounds;

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Arguments {
    /// Models in memory
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Bytes of each model, about
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(160..=1 << 20))]
    model_bytes: u32,
    /// Gets of one thread in one round
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1..))]
    gets: u32,
    /// Rounds of every peer
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Measure this, too: sets of as many models
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    larger: Vec<u32>,
    /// And this: a tier with room for half of the models
    #[arg(long)]
    evicting: bool,
    /// And this: versions that are published a hundred times a second meanwhile
    #[arg(long)]
    written: bool,
    /// All of these, the sets of 100,000 and 1,000,000 models
    #[arg(long)]
    all: bool,
    /// Measure predictions while versions are published, instead: the same as the subcommand `swap`
    #[arg(long)]
    swap: bool,
    /// Where the store is to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.swap {
        return crate::swap::run(&crate::swap::Arguments::with_defaults(arguments.dir.clone(), arguments.json));
    }
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let mut report = Report::new("hot", folder.path(), &rounds::HEADER);
    report.set("keys", arguments.keys);
    report.set("model_bytes", arguments.model_bytes);
    report.set("gets", arguments.gets);
    report.set("samples", arguments.samples);
    report.set("hasher", "every map peer: the 64-bit number that a key computes when it is made");
    all_in_memory(arguments, folder.path(), &mut report)?;
    let sizes = if arguments.all && arguments.larger.is_empty() { &[100_000, 1_000_000] } else { &*arguments.larger };
    for &keys in sizes {
        larger::run(arguments, keys as usize, folder.path(), &mut report)?;
    }
    if arguments.evicting || arguments.all {
        evicting::run(arguments, folder.path(), &mut report)?;
    }
    if arguments.written || arguments.all {
        written::run(arguments, folder.path(), &mut report)?;
    }
    report.print(arguments.json);
    Ok(())
}

/// All models in memory, beside every peer, and `Live`.
fn all_in_memory(arguments: &Arguments, folder: &std::path::Path, report: &mut Report) -> Result<()> {
    let (keys, bytes) = (arguments.keys as usize, arguments.model_bytes as usize);
    let keys = (0..keys).map(model::numbered_key).collect::<Result<Vec<_>>>()?;
    let path = folder.join("hot.redb");
    rounds::publish(&Store::options().hot_bytes(0).open(&path)?, &keys, bytes)?;
    // From the file, as an engine has its models after a start.
    let store = Store::options().hot_bytes(room(keys.len(), bytes)).open(&path)?;
    rounds::load(&store, &keys)?;
    let missed_before = store.stats().hot.misses;
    let models = rounds::residents(&keys, bytes)?;
    let first = keys.first().context("there is a key")?;
    let mut peers = maps::peers(&models);
    peers.push(maps::ours(store.clone()));
    peers.extend(live::peers(&store, first, models.get(first).context("it is there")?)?);
    let times = Rounds::new(&keys, arguments.gets as usize, arguments.samples)?.run(&peers, |_, sample| sample())?;
    let missed = store.stats().hot.misses - missed_before;
    ensure!(missed == 0, "{missed} gets were not served by the hot tier");
    rounds::add(report, "", &peers, &times);
    report.ratio("ratio_get_quick_cache_1t", "get_1t_ns", "quick_cache_1t_ns", AtMost(0.5));
    report.ratio("ratio_get_quick_cache_2t", "get_2t_ns", "quick_cache_2t_ns", AtMost(0.25));
    report.ratio("ratio_get_2t_1t", "get_2t_ns", "get_1t_ns", AtMost(1.25));
    report.bound("live_1t_ns", AtMost(2.0));
    report.ratio("ratio_live_quick_cache_1t", "live_1t_ns", "quick_cache_1t_ns", AtMost(0.1));
    Ok(())
}

/// Bytes of a tier that has room for all of these models, and for what is known of each.
fn room(keys: usize, bytes: usize) -> u64 {
    (keys * (2 * bytes + 4096) + MB) as u64
}
