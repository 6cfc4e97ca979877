//! Cold, of an open store: what does the first get of a model cost, up to its first prediction?
//!
//! The store is open and has many models, none of them in memory; each is asked for once, in an order drawn at random.
//! Each sample is a process of its own that goes through all of them, variants take turns, and a figure is the median
//! of the samples' medians.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use modelkeep::{Store, Verify};
use rand::{SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    folder,
    many::{self, Files},
    model::{Mixed, access, first_prediction},
    peers::heed::Heed,
    report::{Report, Wanted::AtMost, human_us},
    stats::{median, quantile},
    subprocess::{self, Named},
};

/// One way to get a model from an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Variant {
    /// read-only, structure checked
    Structure,
    /// read-only, every byte verified
    Full,
    /// open for writing, structure checked
    RwStructure,
    /// open for writing, every byte verified
    RwFull,
    /// LMDB, structure checked
    Heed,
    /// LMDB, every byte hashed, structure checked
    HeedHash,
}

/// Measures the models of an open store, and prints what was found.
pub fn run(samples: u32, models: usize, bytes: usize, dir: Option<&std::path::Path>, json: bool) -> Result<()> {
    let folder = folder::temporary(dir)?;
    let files = Files::prepare(folder.path(), models, bytes, false)?;
    let mut times: BTreeMap<Variant, Vec<Sample>> = BTreeMap::new();
    let mut expected = None;
    for round in 0..=samples {
        let variants = Variant::value_variants();
        let turn = round as usize % variants.len();
        for &variant in variants.iter().cycle().skip(turn).take(variants.len()) {
            let sample = spawn(variant, &files)?;
            let first = *expected.get_or_insert(sample.predictions);
            ensure!(sample.predictions == first, "{} predicted something else than the first", variant.name());
            // The first round only warms the OS cache.
            if round > 0 {
                times.entry(variant).or_default().push(sample);
            }
        }
        eprintln!("round {} of {}", round + 1, samples + 1);
    }
    let mut report = Report::new("open", folder.path(), &["a get of an open store", "median", "lowest", "p90"]);
    report.set("models", models);
    report.set("archive_bytes", bytes);
    report.set("samples", samples);
    for (variant, samples) in &times {
        let of = |figure: fn(&Sample) -> f64| -> Vec<f64> { samples.iter().map(figure).collect() };
        let medians = of(|sample| sample.median_us);
        report.figure(format!("open_{}_us", variant.name()), median(&medians));
        report.row(vec![
            format!("{}: {}", variant.name(), variant.explained()),
            human_us(median(&medians)),
            human_us(quantile(&medians, 0.0)),
            human_us(median(&of(|sample| sample.p90_us))),
        ]);
    }
    report.bound("open_structure_us", AtMost(5.0));
    report.ratio("ratio_open_full_heed", "open_full_us", "open_heed_hash_us", AtMost(1.0));
    report.ratio("ratio_open_structure_heed", "open_structure_us", "open_heed_us", AtMost(1.0));
    report.print(json);
    Ok(())
}

fn spawn(variant: Variant, files: &Files) -> Result<Sample> {
    let (name, models) = (variant.name(), files.models.to_string());
    let arguments = [OsStr::new("open-child"), name.as_ref(), files.folder.as_ref(), models.as_ref()];
    Sample::parse(&subprocess::run(&name, arguments)?)
}

#[derive(clap::Args)]
pub struct ChildArguments {
    variant: Variant,
    folder: PathBuf,
    models: usize,
}

/// What a child found.
struct Sample {
    median_us: f64,
    p90_us: f64,
    /// The bits of all predictions, added up: the same for every variant.
    predictions: u64,
}

impl Sample {
    fn parse(line: &str) -> Result<Self> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [median, p90, predictions] => {
                Ok(Self { median_us: median.parse()?, p90_us: p90.parse()?, predictions: predictions.parse()? })
            }
            _ => bail!("a child printed {line:?}"),
        }
    }
}

/// More than all models take.
const ROOM: u64 = 1 << 40;

/// Measures one variant and prints what [`Sample::parse`] reads.
pub fn run_child(arguments: &ChildArguments) -> Result<()> {
    let files = Files { folder: arguments.folder.clone(), models: arguments.models };
    let mut order: Vec<usize> = (0..files.models).collect();
    order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(1));
    let sample = match arguments.variant {
        Variant::Structure => ours(&files, &order, true, Verify::Structure),
        Variant::Full => ours(&files, &order, true, Verify::Full),
        Variant::RwStructure => ours(&files, &order, false, Verify::Structure),
        Variant::RwFull => ours(&files, &order, false, Verify::Full),
        Variant::Heed => heed(&files, &order, false),
        Variant::HeedHash => heed(&files, &order, true),
    }?;
    println!("{} {} {}", sample.median_us, sample.p90_us, sample.predictions);
    Ok(())
}

fn ours(files: &Files, order: &[usize], read_only: bool, verify: Verify) -> Result<Sample> {
    let keys = many::keys(files.models)?;
    let options = Store::options().create(false).read_only(read_only).verify(verify).hot_bytes(ROOM);
    let store = options.open(files.ours())?;
    let sample = each(order, |index| {
        let held = store.get::<Mixed>(keys.get(index).context("every model has a key")?)?;
        held.map(|held| first_prediction(&held)).context("every model was published")
    })?;
    ensure!(store.stats().loads == files.models as u64, "not every model came from the file");
    Ok(sample)
}

fn heed(files: &Files, order: &[usize], hash: bool) -> Result<Sample> {
    let hashes = many::hashes(files)?;
    let keys = (0..files.models).map(many::key_bytes).collect::<Result<Vec<_>>>()?;
    let heed = Heed::open_read_only(&files.heed())?;
    each(order, |index| {
        let (key, expected) = keys.get(index).zip(hashes.get(index)).context("every model has a key")?;
        heed.with(key, |bytes| {
            let archived = if hash { many::verify(bytes, expected) } else { access(bytes) };
            archived.map(first_prediction)
        })?
    })
}

fn each(order: &[usize], mut predict: impl FnMut(usize) -> Result<f64>) -> Result<Sample> {
    let mut us = Vec::with_capacity(order.len());
    let mut predictions = 0_u64;
    for &index in order {
        let started = Instant::now();
        let prediction = std::hint::black_box(predict(index)?);
        us.push(started.elapsed().as_nanos() as f64 / 1e3);
        predictions = predictions.wrapping_add(prediction.to_bits());
    }
    Ok(Sample { median_us: median(&us), p90_us: quantile(&us, 0.9), predictions })
}
