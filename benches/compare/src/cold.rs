//! Cold: how long from opening a store to the first prediction, and until every byte was read?
//!
//! Each sample is a process of its own. Variants take turns, sample by sample, so that noise hits all alike; every
//! child says what it predicted and what its bytes add up to, and all must agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use crate::{
    folder::{self, DroppedBy},
    model::MB,
    open,
    probe::{self, Sample, Variant},
    report::{
        Report,
        Wanted::{AtLeast, AtMost},
        human_us,
    },
    stats::{median, quantile},
    subprocess::{self, Named},
};

/// Megabytes of the small archive that the large one is compared with.
const SMALL_MB: u32 = 1;

#[derive(clap::Args)]
pub struct Arguments {
    /// Megabytes of the archive
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1500))]
    mb: u32,
    /// Fresh processes per variant
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Make the OS forget the files before each sample
    #[arg(long)]
    drop_cache: bool,
    /// Measure gets of a store that is open and has many models, none of them in memory
    #[arg(long, conflicts_with_all = ["mb", "sizes", "drop_cache"])]
    open: bool,
    /// With `--open`: models
    #[arg(long, default_value_t = 10_000, requires = "open", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    models: u32,
    /// With `--open`: kilobytes of the archive of each
    #[arg(long, default_value_t = 100, requires = "open", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kb: u32,
    /// Megabytes of more archives, for the plot: 1,5,20,50
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1500))]
    sizes: Vec<u32>,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// A variant and the megabytes of its archive.
type Job = (Variant, u32);
type Samples = BTreeMap<Job, Vec<Sample>>;

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.open {
        let (models, bytes) = (arguments.models as usize, arguments.kb as usize * 1000);
        return open::run(arguments.samples, models, bytes, arguments.dir.as_deref(), arguments.json);
    }
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let jobs = jobs(arguments);
    let mut folders = BTreeMap::new();
    let mut archive_bytes = 0;
    for &(_, mb) in &jobs {
        if folders.contains_key(&mb) {
            continue;
        }
        eprintln!("preparing {mb} MB");
        let inside = folder::make(folder.path().join(mb.to_string()))?;
        let bytes = probe::prepare(&inside, mb as usize * MB)?;
        if mb == arguments.mb {
            archive_bytes = bytes;
        }
        folders.insert(mb, inside);
    }
    let (samples, dropped_by) = measure(arguments, &jobs, &folders)?;
    let mut report = Report::new("cold", folder.path(), &["", "first prediction", "lowest", "p90", "all bytes read"]);
    report.set("mb", arguments.mb);
    report.set("archive_bytes", archive_bytes);
    report.set("samples", arguments.samples);
    report.set("cache_dropped_by", dropped_by.map_or("nothing: warm", DroppedBy::name));
    if let Some(by) = dropped_by {
        println!("the OS cache was dropped before each sample, by {}", by.name());
    }
    figures(&mut report, arguments, &samples);
    targets(&mut report, arguments.drop_cache);
    report.print(arguments.json);
    Ok(())
}

/// Every variant at the main size and at those of the plot, and ours once more with a small archive.
fn jobs(arguments: &Arguments) -> Vec<Job> {
    let mut sizes = vec![arguments.mb];
    sizes.extend(&arguments.sizes);
    let every = |mb| Variant::value_variants().iter().map(move |&variant| (variant, mb));
    let mut jobs: Vec<Job> = sizes.into_iter().flat_map(every).chain([(Variant::OursStructure, SMALL_MB)]).collect();
    let mut seen = BTreeSet::new();
    jobs.retain(|job| seen.insert(*job));
    jobs
}

fn measure(
    arguments: &Arguments,
    jobs: &[Job],
    folders: &BTreeMap<u32, PathBuf>,
) -> Result<(Samples, Option<DroppedBy>)> {
    let mut samples = Samples::new();
    let mut expected: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut dropped_by = None;
    // With a warm cache the first round only makes it so.
    let warm_up = u32::from(!arguments.drop_cache);
    for round in 0..arguments.samples + warm_up {
        let turn = round as usize % jobs.len();
        for &(variant, mb) in jobs.iter().cycle().skip(turn).take(jobs.len()) {
            let folder = folders.get(&mb).context("every size was prepared")?;
            if arguments.drop_cache {
                dropped_by = Some(folder::drop_cache(folder)?);
            }
            let sample = child(variant, folder)?;
            let found = (sample.prediction, sample.sum);
            let first = *expected.entry(mb).or_insert(found);
            ensure!(found == first, "{} at {mb} MB read other bytes than the first", variant.name());
            if round >= warm_up {
                samples.entry((variant, mb)).or_default().push(sample);
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.samples + warm_up);
    }
    Ok((samples, dropped_by))
}

fn child(variant: Variant, folder: &std::path::Path) -> Result<Sample> {
    let name = variant.name();
    probe::parse(&subprocess::run(&name, [OsStr::new("cold-child"), name.as_ref(), folder.as_ref()])?)
}

fn figures(report: &mut Report, arguments: &Arguments, samples: &Samples) {
    let us = |job: Job, time: fn(&Sample) -> u64| -> Vec<f64> {
        let samples = samples.get(&job).map(Vec::as_slice).unwrap_or_default();
        samples.iter().map(|sample| time(sample) as f64 / 1e3).collect()
    };
    let mut add = |name: &str, explained: &str, job: Job| {
        let (first, all) = (us(job, |sample| sample.first_ns), us(job, |sample| sample.all_ns));
        report.figure(format!("{name}_us"), median(&first));
        report.figure(format!("all_{name}_us"), median(&all));
        report.row(vec![
            format!("{name}: {explained}"),
            human_us(median(&first)),
            human_us(quantile(&first, 0.0)),
            human_us(quantile(&first, 0.9)),
            human_us(median(&all)),
        ]);
    };
    for &variant in Variant::value_variants() {
        add(&variant.name(), &variant.explained(), (variant, arguments.mb));
    }
    add("ours_1mb", "as ours_structure, with an archive of 1 MB", (Variant::OursStructure, SMALL_MB));
    if !arguments.sizes.is_empty() {
        let mut sizes = arguments.sizes.clone();
        sizes.sort_unstable();
        let series = |time: fn(&Sample) -> u64| -> serde_json::Map<_, _> {
            let point = |variant, mb| json!([mb, median(&us((variant, mb), time))]);
            let line = |&variant: &Variant| {
                (variant.name(), sizes.iter().map(|&mb| point(variant, mb)).collect::<Vec<_>>().into())
            };
            Variant::value_variants().iter().map(line).collect()
        };
        report.set("series", series(|sample| sample.first_ns));
        report.set("series_all", series(|sample| sample.all_ns));
    }
}

fn targets(report: &mut Report, dropped: bool) {
    if dropped {
        report.ratio("ratio_dropped_structure_heed", "ours_structure_us", "heed_us", AtMost(0.3));
        report.ratio("ratio_dropped_all_heed", "all_ours_structure_us", "all_heed_us", AtMost(1.1));
        return;
    }
    report.ratio("ratio_structure_heed", "ours_structure_us", "heed_us", AtMost(0.8));
    report.ratio("ratio_structure_mmap", "ours_structure_us", "mmap_us", AtMost(1.6));
    report.ratio("ratio_redb_copy_structure", "redb_copy_us", "ours_structure_us", AtLeast(200.0));
    report.ratio("ratio_structure_1mb", "ours_structure_us", "ours_1mb_us", AtMost(1.5));
    report.ratio("ratio_full_redb_copy", "ours_full_us", "redb_copy_us", AtMost(0.25));
    report.ratio("ratio_full_mmap_hash", "ours_full_us", "mmap_hash_us", AtMost(1.3));
    report.ratio("ratio_zstd_redb_zstd", "ours_zstd_us", "redb_zstd_us", AtMost(0.4));
}
