//! The child process of a measurement before the bell: brings all models into memory in one way, and says how long that
//! took and what they predict.
//!
//! Keys and expected hashes are made before the clock starts, threads after it.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use modelkeep::{Digest, Store, Verify};

use crate::{
    many::{self, Files},
    model::{self, Mixed, first_prediction},
    peers::heed::Heed,
};

/// One way to bring many models into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Variant {
    /// opened read-only, `preload`, every byte verified
    Ours,
    /// opened for writing, `preload`, every byte verified
    OursRw,
    /// opened read-only, `preload`, structure checked
    OursStructure,
    /// LMDB, read in its map, every value hashed and checked
    Heed,
    /// a folder of files, each read, hashed and checked
    Files,
}

#[derive(clap::Args)]
pub struct ChildArguments {
    variant: Variant,
    folder: PathBuf,
    models: usize,
}

/// What a child found.
pub struct Sample {
    /// Nanoseconds from the closed file until everything was in memory.
    pub nanos: u64,
    /// The bits of all predictions, added up: the same for every variant.
    pub predictions: u64,
}

impl Sample {
    /// Reads what a child printed.
    pub fn parse(line: &str) -> Result<Self> {
        let fields: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        match fields[..] {
            [nanos, predictions] => Ok(Self { nanos, predictions }),
            _ => anyhow::bail!("a child printed {line:?}"),
        }
    }
}

/// Measures one variant and prints what [`Sample::parse`] reads.
pub fn run_child(arguments: &ChildArguments) -> Result<()> {
    let files = Files { folder: arguments.folder.clone(), models: arguments.models };
    let Sample { nanos, predictions } = match arguments.variant {
        Variant::Ours => ours(&files, true, Verify::Full),
        Variant::OursRw => ours(&files, false, Verify::Full),
        Variant::OursStructure => ours(&files, true, Verify::Structure),
        Variant::Heed => heed(&files),
        Variant::Files => folder_of_files(&files),
    }?;
    println!("{nanos} {predictions}");
    Ok(())
}

/// More than all models take.
const ROOM: u64 = 1 << 40;

fn ours(files: &Files, read_only: bool, verify: Verify) -> Result<Sample> {
    let keys = many::keys(files.models)?;
    let options = Store::options().create(false).read_only(read_only).verify(verify).hot_bytes(ROOM);
    let started = Instant::now();
    let store = options.open(files.ours())?;
    let report = store.preload::<Mixed>(&keys);
    let nanos = started.elapsed().as_nanos() as u64;
    ensure!(report.loaded() == keys.len(), "not all were loaded: {} of {}", report.loaded(), keys.len());
    let mut predictions = 0_u64;
    for key in &keys {
        let held = store.get::<Mixed>(key)?.context("it was loaded")?;
        predictions = predictions.wrapping_add(first_prediction(&held).to_bits());
    }
    ensure!(store.stats().loads == keys.len() as u64, "a model was loaded twice");
    Ok(Sample { nanos, predictions })
}

/// Models that a thread takes at a time.
const TAKEN: usize = 16;

/// Has all cores call `load` for every model, and keeps what it returns.
fn on_all_cores<T: Send>(
    models: usize,
    load: impl Fn(std::ops::Range<usize>, &mut Vec<T>) -> Result<()> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<T>> {
        let mut loaded = Vec::new();
        loop {
            let from = next.fetch_add(TAKEN, Ordering::Relaxed);
            if from >= models {
                return Ok(loaded);
            }
            load(from..(from + TAKEN).min(models), &mut loaded)?;
        }
    };
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mut loaded: Vec<T> = work()?;
        for other in others {
            match other.join() {
                Ok(more) => loaded.extend(more?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(loaded)
    })
}

/// An archive in LMDB's map, by its address: the environment outlives it, and nobody writes.
struct InMap(usize, usize);

fn heed(files: &Files) -> Result<Sample> {
    let hashes = many::hashes(files)?;
    let keys = (0..files.models).map(many::key_bytes).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let heed = Heed::open_read_only(&files.heed())?;
    let loaded = on_all_cores(files.models, |some, loaded| {
        let some = keys.get(some.clone()).into_iter().flatten().zip(hashes.get(some).into_iter().flatten());
        heed.with_each(some, |bytes, hash: &Digest| {
            many::verify(bytes, hash)?;
            loaded.push(InMap(bytes.as_ptr().addr(), bytes.len()));
            Ok(())
        })
    })?;
    let nanos = started.elapsed().as_nanos() as u64;
    ensure!(
        loaded.iter().all(|InMap(at, len)| *at > 0 && *len > 0) && loaded.len() == files.models,
        "not all were loaded"
    );
    let mut predictions = 0_u64;
    for key in &keys {
        let prediction = heed.with(key, |bytes| Ok::<_, anyhow::Error>(first_prediction(model::access(bytes)?)))??;
        predictions = predictions.wrapping_add(prediction.to_bits());
    }
    Ok(Sample { nanos, predictions })
}

fn folder_of_files(files: &Files) -> Result<Sample> {
    let hashes = many::hashes(files)?;
    let paths: Vec<PathBuf> = (0..files.models).map(|index| files.one(index)).collect();
    let started = Instant::now();
    let loaded = on_all_cores(files.models, |some, loaded| {
        let some = paths.get(some.clone()).into_iter().flatten().zip(hashes.get(some).into_iter().flatten());
        for (path, hash) in some {
            let bytes = std::fs::read(path)?;
            many::verify(&model::Aligned::of(&bytes), hash)?;
            loaded.push(bytes);
        }
        Ok(())
    })?;
    let nanos = started.elapsed().as_nanos() as u64;
    let mut predictions = 0_u64;
    for bytes in &loaded {
        predictions = predictions.wrapping_add(first_prediction(model::access(&model::Aligned::of(bytes))?).to_bits());
    }
    ensure!(loaded.len() == files.models, "not all were loaded");
    Ok(Sample { nanos, predictions })
}
