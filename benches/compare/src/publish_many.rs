//! A night's retraining: many small models, each durable when its call returns. All in one transaction, and one by one.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use modelkeep::{ModelKey, NewModel, Options, Store};

use crate::{
    folder,
    model::{self, Mixed},
    peers::heed::Heed,
    report::{Report, Wanted::AtMost, human_us},
    stats::{median, millis},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Models
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    models: u32,
    /// Kilobytes of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1024))]
    kb: u32,
    /// Nights
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Also publish them one by one
    #[arg(long)]
    one_by_one: bool,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let bytes = arguments.kb as usize * 1024;
    let keys = (0..arguments.models as usize).map(model::numbered_key).collect::<Result<Vec<_>>>()?;
    let trained = |night: u64| -> Vec<(ModelKey, Mixed)> {
        let of = |(number, key): (u64, &ModelKey)| (key.clone(), model::mixed(bytes, night << 32 | number));
        (0..).zip(&keys).map(of).collect()
    };
    let open = |name: &str, options: Options| options.open(folder.path().join(name));
    let (ours, single) = (open("ours.redb", Store::options())?, open("single.redb", Store::options())?);
    let heed = Heed::create(&folder::make(folder.path().join("heed"))?, keys.len() * bytes * 8 + (1 << 30))?;
    let mut report =
        Report::new("publish-many", folder.path(), &["models published, each durable", "first", "median after"]);
    let (mut many, mut one_by_one, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for night in 0..=u64::from(arguments.samples) {
        let models = trained(night);
        let started = Instant::now();
        ours.publish_many(models.into_iter().map(|(key, model)| (key, NewModel::new(model))))?;
        many.push(millis(started.elapsed()));
        let models = trained(night);
        let started = Instant::now();
        let archives = models.iter().map(|(_, model)| model::serialise(model)).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
        heed.put(names.iter().map(String::as_bytes).zip(archives.iter().map(rkyv::util::AlignedVec::as_slice)))?;
        peer.push(millis(started.elapsed()));
        if arguments.one_by_one && night < 2 {
            let models = trained(night);
            let started = Instant::now();
            for (key, model) in models {
                single.publish(&key, NewModel::new(model))?;
            }
            one_by_one.push(millis(started.elapsed()));
        }
    }
    for (name, explained, samples) in [
        ("many", "publish_many, one version and then another over it", &many),
        ("heed", "LMDB: serialised, and put in one transaction", &peer),
        ("one_by_one", "publish for each", &one_by_one),
    ] {
        let Some((first, later)) = samples.split_first() else { continue };
        report.figure(format!("{name}_first_ms"), *first);
        report.figure(format!("{name}_ms"), median(later));
        report.row(vec![format!("{name}: {explained}"), human_us(first * 1e3), human_us(median(later) * 1e3)]);
    }
    report.bound("many_ms", AtMost(5_000.0));
    report.print(arguments.json);
    Ok(())
}
