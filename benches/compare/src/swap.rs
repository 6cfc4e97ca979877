//! Swap: what does a prediction cost while versions are published under it, and is every model seen a whole one?
//!
//! Readers predict without a pause; a writer publishes one version after the other. Every model carries its number in
//! several places, and its weights add up to it: a model made of two versions would give itself away.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use modelkeep::{Model, ModelKey, NewModel, Schema, Store};

use crate::{
    folder,
    live::{self, Reader},
    report::Report,
    stats::{Histogram, median},
};

/// Features of one prediction.
const FEATURES: usize = 64;

#[derive(clap::Args)]
pub struct Arguments {
    /// Versions to publish
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    versions: u32,
    /// Threads that predict
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    readers: u32,
    /// Weights of the model, 8 bytes each
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1 << 24))]
    weights: u32,
    /// Milliseconds of predicting without a writer
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    quiet_ms: u64,
    /// Where the store is to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// What `hot --swap` runs.
    pub fn with_defaults(dir: Option<PathBuf>, json: bool) -> Self {
        Self { versions: 1000, readers: 8, weights: 4096, quiet_ms: 1000, dir, json }
    }
}

/// A model that says which version it is at its beginning, in its middle, at its end, and in every weight.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Stamped {
    first: u64,
    weights: Vec<f64>,
    middle: u64,
    bias: Vec<f64>,
    last: u64,
}

impl Model for Stamped {
    const SCHEMA: Schema = Schema::new("bench.stamped", 1);
}

impl Stamped {
    fn new(number: u64, weights: usize) -> Self {
        let same = |n| vec![number as f64; n];
        Self { first: number, weights: same(weights), middle: number, bias: same(1), last: number }
    }
}

impl ArchivedStamped {
    fn predict(&self, features: &[f64; FEATURES]) -> f64 {
        let dot: f64 = self.weights.iter().zip(features).map(|(w, x)| w.to_native() * x).sum();
        dot + self.bias.first().map_or(0.0, |bias| bias.to_native())
    }

    /// The number at the beginning, in the middle and at the end; `None` when they differ.
    fn glance(&self) -> Option<u64> {
        let number = self.first.to_native();
        (self.middle.to_native() == number && self.last.to_native() == number).then_some(number)
    }

    /// The number that all of the model agrees on; `None` when it does not.
    fn number(&self) -> Option<u64> {
        let number = self.glance()?;
        let same = |weight: &rkyv::rend::f64_le| weight.to_native().to_bits() == (number as f64).to_bits();
        (self.weights.iter().all(same) && self.bias.iter().all(same)).then_some(number)
    }
}

/// What the readers of one phase saw.
#[derive(Default)]
struct Seen {
    latencies: Histogram,
    torn: u64,
    missing: u64,
    /// A version that is older than one that the same thread had seen.
    backwards: u64,
    newest: u64,
}

impl Seen {
    fn merge(mut self, other: &Self) -> Self {
        self.latencies.merge(&other.latencies);
        self.torn += other.torn;
        self.missing += other.missing;
        self.backwards += other.backwards;
        self.newest = self.newest.max(other.newest);
        self
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let store = Store::open(folder.path().join("swap.redb"))?;
    let key = ModelKey::new("swap", &"bench")?;
    let counter = AtomicU64::new(0);
    let publish = || {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        store.publish(&key, NewModel::new(Stamped::new(number, arguments.weights as usize)))
    };
    publish()?;
    let header = ["one prediction, ns", "p50", "p99", "p99.9", "max", "predictions", "torn", "missing", "backwards"];
    let mut report = Report::new("swap", folder.path(), &header);
    report.set("readers", arguments.readers);
    report.set("versions", arguments.versions);
    report.set("weights", arguments.weights);

    let get = |_| -> Reader<Stamped> {
        let (store, key) = (store.clone(), key.clone());
        Box::new(move |read| matches!(store.get::<Stamped>(&key), Ok(Some(model)) if { read(&model); true }))
    };
    let get = || (0..arguments.readers).map(get).collect();
    let quiet = || {
        thread::sleep(Duration::from_millis(arguments.quiet_ms));
        Ok(())
    };
    let swap = || -> Result<()> {
        for _ in 0..arguments.versions {
            publish()?;
        }
        Ok(())
    };
    report.figure("clock_ns", clock_ns());
    add(&mut report, "quiet", &phase(get(), quiet)?);
    let started = Instant::now();
    let seen = phase(get(), swap)?;
    report.figure("publish_ms", started.elapsed().as_secs_f64() * 1e3 / f64::from(arguments.versions));
    add(&mut report, "swap", &seen);
    for (name, count) in [("torn", seen.torn), ("missing", seen.missing), ("backwards", seen.backwards)] {
        report.set(name, count);
    }
    let live = live::readers::<Stamped>(&store, &key, arguments.readers)?;
    if !live.is_empty() {
        add(&mut report, "live_quiet", &phase(live, quiet)?);
        let live = live::readers::<Stamped>(&store, &key, arguments.readers)?;
        let seen = phase(live, swap)?;
        for (name, count) in [("torn", seen.torn), ("missing", seen.missing), ("backwards", seen.backwards)] {
            report.set(format!("live_{name}"), count);
        }
        add(&mut report, "live_swap", &seen);
    }
    report.print(arguments.json);
    Ok(())
}

/// Lets the readers predict, each on a thread, until `work` is done.
fn phase(readers: Vec<Reader<Stamped>>, work: impl FnOnce() -> Result<()>) -> Result<Seen> {
    let stop = &AtomicBool::new(false);
    let (worked, seen) = thread::scope(|scope| {
        let threads: Vec<_> = readers.into_iter().map(|reader| scope.spawn(move || read_until(stop, reader))).collect();
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        let seen: Option<Vec<Seen>> = threads.into_iter().map(|thread| thread.join().ok()).collect();
        (worked, seen)
    });
    worked?;
    let seen = seen.ok_or_else(|| anyhow!("a reader panicked"))?;
    seen.into_iter().reduce(|all, one| all.merge(&one)).context("there are readers")
}

fn read_until(stop: &AtomicBool, mut reader: Reader<Stamped>) -> Seen {
    let features: [f64; FEATURES] = std::array::from_fn(|i| i as f64 / 64.0);
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let mut took = Duration::ZERO;
        let mut number = None;
        let found = reader(&mut |model| {
            std::hint::black_box(model.predict(&features));
            took = started.elapsed();
            // Whether it is whole is not part of the prediction; all of it is looked at now and then.
            number = if seen.latencies.total().is_multiple_of(16) { model.number() } else { model.glance() };
        });
        if !found {
            seen.missing += 1;
            continue;
        }
        seen.latencies.add(took.as_nanos() as u64);
        match number {
            None => seen.torn += 1,
            Some(number) => {
                seen.backwards += u64::from(number < seen.newest);
                seen.newest = seen.newest.max(number);
            }
        }
    }
    seen
}

/// What looking at the clock twice adds to every latency; nothing is subtracted.
fn clock_ns() -> f64 {
    let looks: Vec<f64> = (0..1001).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    median(&looks)
}

fn add(report: &mut Report, name: &str, seen: &Seen) {
    let latencies = &seen.latencies;
    let figures = [
        ("p50", latencies.quantile(0.5)),
        ("p99", latencies.quantile(0.99)),
        ("p999", latencies.quantile(0.999)),
        ("max", latencies.max()),
    ];
    let mut row = vec![name.to_owned()];
    for (quantile, ns) in figures {
        report.set(format!("{name}_{quantile}_ns"), ns);
        row.push(ns.to_string());
    }
    report.set(format!("{name}_predictions"), latencies.total());
    row.extend([latencies.total(), seen.torn, seen.missing, seen.backwards].map(|count| count.to_string()));
    report.row(row);
}
