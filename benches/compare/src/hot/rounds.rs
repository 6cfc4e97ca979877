//! Rounds: every peer sweeps over the same keys in the same order, on one thread and on two that are pinned to cores of
//! their own, and peers take turns to go first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Barrier},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use modelkeep::{ModelKey, NewModel, Store};

use crate::{
    affinity,
    maps::{Peer, Residents},
    model::{self, Mixed, Resident},
    report::Report,
    stats::{median, quantile},
    zipf,
};

/// Models that are published in one transaction.
const GROUP: usize = 10_000;

/// Nanoseconds of one get, by peer and number of threads.
pub type Times = BTreeMap<(&'static str, usize), Vec<f64>>;

/// The heads of a table of [`Rounds::report`].
pub const HEADER: [&str; 7] = ["ns per get", "1 thread", "lowest", "p90", "2 threads", "lowest", "p90"];

/// What is asked for, on which cores, and how often.
pub struct Rounds<'a> {
    one: [usize; 1],
    two: [usize; 2],
    orders: Vec<Vec<&'a ModelKey>>,
    samples: u32,
}

impl<'a> Rounds<'a> {
    /// Each thread asks for `gets` of these keys, drawn by Zipf's law.
    pub fn new(keys: &'a [ModelKey], gets: usize, samples: u32) -> Result<Self> {
        let (one, two) = affinity::one_and_two()?;
        let order = |thread: usize| -> Vec<&ModelKey> {
            let draws = zipf::draws(keys.len(), gets, thread as u64);
            draws.into_iter().filter_map(|index| keys.get(index)).collect()
        };
        Ok(Self { one, two, orders: (0..two.len()).map(order).collect(), samples })
    }

    /// The order of the first thread.
    pub fn order(&self) -> &[&'a ModelKey] {
        self.orders.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// Measures all peers in turn. `around` runs each sample, and may do something beside it.
    pub fn run(
        &self,
        peers: &[Peer],
        around: impl Fn(&Peer, &mut dyn FnMut() -> Result<()>) -> Result<()>,
    ) -> Result<Times> {
        let mut times = Times::new();
        for round in 0..=self.samples {
            let mut touched = None;
            for turn in 0..peers.len() {
                let peer = peers.get((turn + round as usize) % peers.len()).context("a peer")?;
                for cores in [&self.one[..], &self.two[..]] {
                    let mut sampled = None;
                    around(peer, &mut || {
                        sampled = Some(self.sample(peer, cores)?);
                        Ok(())
                    })?;
                    let (nanos, found) = sampled.context("it was measured")?;
                    if peer.by_key && cores.len() == 1 {
                        let name = peer.name;
                        ensure!(*touched.get_or_insert(found) == found, "{name} found other models than its peers");
                    }
                    // The first round only warms caches.
                    if round > 0 {
                        times.entry((peer.name, cores.len())).or_default().push(nanos);
                    }
                }
            }
        }
        Ok(times)
    }

    /// Runs a sweep on every core at once; returns the mean time of a get, and what the first thread touched.
    fn sample(&self, peer: &Peer, cores: &[usize]) -> Result<(f64, u64)> {
        let name = peer.name;
        let barrier = Barrier::new(cores.len());
        let work = |core: usize, order: &[&ModelKey]| {
            let pinned = affinity::pin(core);
            barrier.wait();
            pinned?;
            let started = Instant::now();
            let swept = std::hint::black_box((peer.sweep)(order));
            let nanos = started.elapsed().as_nanos() as f64 / order.len() as f64;
            ensure!(swept.missing == 0, "{name} did not have {} of {} models", swept.missing, order.len());
            Ok((nanos, swept.touched))
        };
        let results: Vec<Result<(f64, u64)>> = thread::scope(|scope| {
            let threads: Vec<_> =
                cores.iter().zip(&self.orders).map(|(&core, order)| scope.spawn(move || work(core, order))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("{name} panicked"))).collect()
        });
        let results = results.into_iter().collect::<Result<Vec<_>>>()?;
        let mean = results.iter().map(|(nanos, _)| nanos).sum::<f64>() / results.len() as f64;
        Ok((mean, results.first().map_or(0, |(_, touched)| *touched)))
    }
}

/// Adds a row for every peer, whose figures have names that begin with `prefix`.
pub fn add(report: &mut Report, prefix: &str, peers: &[Peer], times: &Times) {
    for peer in peers {
        let name = format!("{prefix}{}", peer.name);
        let mut row = vec![name.clone()];
        for threads in [1, 2] {
            let samples = times.get(&(peer.name, threads)).map(Vec::as_slice).unwrap_or_default();
            report.figure(format!("{name}_{threads}t_ns"), median(samples));
            row.extend([median(samples), quantile(samples, 0.0), quantile(samples, 0.9)].map(|ns| format!("{ns:.2}")));
        }
        report.row(row);
    }
}

/// Publishes a model under every key.
pub fn publish(store: &Store, keys: &[ModelKey], bytes: usize) -> Result<()> {
    for (group, keys) in keys.chunks(GROUP).enumerate() {
        let models = keys.iter().zip(group * GROUP..);
        store
            .publish_many(models.map(|(key, index)| (key.clone(), NewModel::new(model::mixed(bytes, index as u64)))))?;
        eprintln!("published {}", group * GROUP + keys.len());
    }
    Ok(())
}

/// Asks for every model once.
pub fn load(store: &Store, keys: &[ModelKey]) -> Result<()> {
    for key in keys {
        store.get::<Mixed>(key)?.with_context(|| format!("{key} is not in the store"))?;
    }
    Ok(())
}

/// The same models for the peers.
pub fn residents(keys: &[ModelKey], bytes: usize) -> Result<Residents> {
    let resident = |(index, key): (usize, &ModelKey)| Ok((key.clone(), Arc::new(Resident::made(bytes, index as u64)?)));
    keys.iter().enumerate().map(resident).collect()
}
