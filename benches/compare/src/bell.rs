//! Before the bell: how long from a closed file until thousands of models are in memory, every byte of them verified?
//!
//! Each sample is a process of its own, and variants take turns. Everybody uses all cores, except for Python, whose
//! interpreter has one. What our store does beside reading and verifying is in its figure: heads, metadata, and a tier
//! in memory that hands models out by their keys; the peers have a list of bytes when they are done.

mod child;
mod pickles;

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;

pub use child::{ChildArguments, run_child};
use child::{Sample, Variant};

use crate::{
    folder,
    many::Files,
    report::{Report, Wanted::AtMost, human_us},
    stats::{median, quantile},
    subprocess::{self, Named},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Models
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    models: u32,
    /// Kilobytes of the archive of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kb: u32,
    /// Fresh processes per variant
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Make the OS forget the files before each sample
    #[arg(long)]
    drop_cache: bool,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let (models, bytes) = (arguments.models as usize, arguments.kb as usize * 1000);
    let files = Files::prepare(folder.path(), models, bytes, true)?;
    let pickles = pickles::prepare(folder.path(), models, bytes)?;
    folder::settle();
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut expected = None;
    // With a warm cache the first round only makes it so.
    let warm_up = u32::from(!arguments.drop_cache);
    for round in 0..arguments.samples + warm_up {
        let variants = Variant::value_variants();
        let turn = round as usize % variants.len();
        for &variant in variants.iter().cycle().skip(turn).take(variants.len()) {
            if arguments.drop_cache {
                folder::drop_cache(folder.path())?;
            }
            let sample = spawn(variant, &files)?;
            let first = *expected.get_or_insert(sample.predictions);
            ensure!(sample.predictions == first, "{} predicted something else than the first", variant.name());
            if round >= warm_up {
                times.entry(variant.name()).or_default().push(sample.nanos as f64 / 1e3);
            }
        }
        if let Ok(pickles) = &pickles {
            if arguments.drop_cache {
                folder::drop_cache(folder.path())?;
            }
            let us = pickles.load()?;
            if round >= warm_up {
                times.entry("pickles".into()).or_default().push(us);
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.samples + warm_up);
    }
    let mut report = Report::new("bell", folder.path(), &["all in memory", "median", "lowest", "p90", "per model"]);
    report.set("models", arguments.models);
    report.set("kb", arguments.kb);
    report.set("samples", arguments.samples);
    report.set("cache_dropped", arguments.drop_cache);
    let named = Variant::value_variants().iter().map(|variant| (variant.name(), variant.explained()));
    for (name, explained) in named.chain([("pickles".into(), pickles::EXPLAINED.into())]) {
        let Some(us) = times.get(&name) else { continue };
        report.figure(format!("{name}_us"), median(us));
        let figures = [median(us), quantile(us, 0.0), quantile(us, 0.9), median(us) / f64::from(arguments.models)];
        report.row([format!("{name}: {explained}")].into_iter().chain(figures.map(human_us)).collect());
    }
    match pickles {
        Ok(pickles) => report.set("python", pickles.versions()),
        Err(why) => {
            println!("pickles: skipped, {why}");
            report.set("pickles_skipped", why);
        }
    }
    if !arguments.drop_cache {
        report.ratio("ratio_heed", "ours_us", "heed_us", AtMost(1.0));
        report.ratio("ratio_files", "ours_us", "files_us", AtMost(0.3));
        report.ratio("ratio_pickles", "ours_us", "pickles_us", AtMost(0.1));
    }
    report.print(arguments.json);
    Ok(())
}

fn spawn(variant: Variant, files: &Files) -> Result<Sample> {
    let (name, models) = (variant.name(), files.models.to_string());
    let arguments = [OsStr::new("bell-child"), name.as_ref(), files.folder.as_ref(), models.as_ref()];
    Sample::parse(&subprocess::run(&name, arguments)?)
}
