//! Hot: what does a get cost when the model is in memory, on one thread and on two?
//!
//! Peers take turns, round by round. Every round is a sweep over the same keys in the same order; threads are pinned to
//! cores of their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Barrier},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use modelkeep::{ModelKey, NewModel, Store};

use crate::{
    affinity, folder, live,
    maps::{self, Peer, Residents, Sweep},
    model::{self, Mixed, Resident},
    report::{Report, Wanted::AtMost},
    stats::{median, quantile},
    zipf,
};

#[derive(clap::Args)]
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

/// Nanoseconds of one get, by peer and number of threads.
type Times = BTreeMap<(&'static str, usize), Vec<f64>>;

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.swap {
        return crate::swap::run(&crate::swap::Arguments::with_defaults(arguments.dir.clone(), arguments.json));
    }
    let (one, two) = affinity::one_and_two()?;
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let keys = (0..arguments.keys as usize).map(model::numbered_key).collect::<Result<Vec<_>>>()?;
    let store = filled(&folder.path().join("hot.redb"), &keys, arguments.model_bytes as usize)?;
    let missed_before = store.stats().hot.misses;
    let models = residents(&keys, arguments.model_bytes as usize)?;
    let first = keys.first().context("there is a key")?;

    let mut peers = maps::peers(&models);
    peers.push(maps::ours(store.clone()));
    let live = live::peers(&store, first, models.get(first).context("it is there")?)?;
    let live_from = peers.len();
    peers.extend(live);

    let orders: Vec<Vec<&ModelKey>> = (0..two.len())
        .map(|thread| {
            let draws = zipf::draws(keys.len(), arguments.gets as usize, thread as u64);
            draws.into_iter().filter_map(|index| keys.get(index)).collect()
        })
        .collect();
    let mut times = Times::new();
    for round in 0..=arguments.samples {
        let mut touched = None;
        for turn in 0..peers.len() {
            let at = (turn + round as usize) % peers.len();
            let (name, sweep) = peers.get(at).context("a peer")?;
            for cores in [&one[..], &two[..]] {
                let (nanos, found) = measure(name, sweep, cores, &orders)?;
                if at < live_from && cores.len() == 1 {
                    ensure!(*touched.get_or_insert(found) == found, "{name} found other models than its peers");
                }
                // The first round only warms caches.
                if round > 0 {
                    times.entry((name, cores.len())).or_default().push(nanos);
                }
            }
        }
    }
    let missed = store.stats().hot.misses - missed_before;
    ensure!(missed == 0, "{missed} gets were not served by the hot tier");
    report(arguments, folder.path(), &peers, &times);
    Ok(())
}

/// A store with all models in its hot tier, loaded from the file as an engine would after a start.
fn filled(path: &Path, keys: &[ModelKey], bytes: usize) -> Result<Store> {
    let store = Store::options().hot_bytes(0).open(path)?;
    for (index, key) in keys.iter().enumerate() {
        store.publish(key, NewModel::new(model::mixed(bytes, index as u64)))?;
        if index % 1000 == 999 {
            eprintln!("published {} of {}", index + 1, keys.len());
        }
    }
    drop(store);
    let store = Store::options().hot_bytes(16 << 30).open(path)?;
    for key in keys {
        store.get::<Mixed>(key)?.with_context(|| format!("{key} is not in the store"))?;
    }
    Ok(store)
}

fn residents(keys: &[ModelKey], bytes: usize) -> Result<Residents> {
    let resident = |(index, key): (usize, &ModelKey)| {
        let archive = model::serialise(&model::mixed(bytes, index as u64))?;
        Ok((key.clone(), Arc::new(Resident::new(archive)?)))
    };
    keys.iter().enumerate().map(resident).collect()
}

/// Runs a sweep on every core at once; returns the mean time of a get, and what the first thread touched.
fn measure(name: &str, sweep: &Sweep, cores: &[usize], orders: &[Vec<&ModelKey>]) -> Result<(f64, u64)> {
    let barrier = Barrier::new(cores.len());
    let work = |core: usize, order: &[&ModelKey]| {
        let pinned = affinity::pin(core);
        barrier.wait();
        pinned?;
        let started = Instant::now();
        let swept = std::hint::black_box(sweep(order));
        let nanos = started.elapsed().as_nanos() as f64 / order.len() as f64;
        ensure!(swept.missing == 0, "{name} did not have {} of {} models", swept.missing, order.len());
        Ok((nanos, swept.touched))
    };
    let results: Vec<Result<(f64, u64)>> = thread::scope(|scope| {
        let threads: Vec<_> =
            cores.iter().zip(orders).map(|(&core, order)| scope.spawn(move || work(core, order))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("{name} panicked"))).collect()
    });
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    let mean = results.iter().map(|(nanos, _)| nanos).sum::<f64>() / results.len() as f64;
    Ok((mean, results.first().map_or(0, |(_, touched)| *touched)))
}

fn report(arguments: &Arguments, folder: &Path, peers: &[Peer], times: &Times) {
    let header = ["ns per get", "1 thread", "lowest", "p90", "2 threads", "lowest", "p90"];
    let mut report = Report::new("hot", folder, &header);
    report.set("keys", arguments.keys);
    report.set("model_bytes", arguments.model_bytes);
    report.set("gets", arguments.gets);
    report.set("samples", arguments.samples);
    report.set("hasher", "every map peer: the 64-bit number that a key computes when it is made");
    for (name, _) in peers {
        let mut row = vec![(*name).to_owned()];
        for threads in [1, 2] {
            let samples = times.get(&(*name, threads)).map(Vec::as_slice).unwrap_or_default();
            report.figure(format!("{name}_{threads}t_ns"), median(samples));
            row.extend([median(samples), quantile(samples, 0.0), quantile(samples, 0.9)].map(|ns| format!("{ns:.2}")));
        }
        report.row(row);
    }
    report.ratio("ratio_get_quick_cache_1t", "get_1t_ns", "quick_cache_1t_ns", AtMost(0.5));
    report.ratio("ratio_get_quick_cache_2t", "get_2t_ns", "quick_cache_2t_ns", AtMost(0.25));
    report.ratio("ratio_get_2t_1t", "get_2t_ns", "get_1t_ns", AtMost(1.25));
    report.bound("live_1t_ns", AtMost(2.0));
    report.ratio("ratio_live_quick_cache_1t", "live_1t_ns", "quick_cache_1t_ns", AtMost(0.1));
    report.print(arguments.json);
}
