//! Publish: what does it cost until a new version of a model is on the disk for good?
//!
//! Everybody writes the same new bytes in every round, and takes turns. Our figure includes what the others do not do:
//! serialising the model (given apart as well), checking and hashing it, and its metadata.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::Result;
use modelkeep::{NewModel, Options, Store};

use crate::{
    folder,
    model::{self, MB},
    peers::{KEY, fjall::Fjall, heed::Heed, ours, redb},
    report::{Report, Wanted::AtMost, human_bytes, human_us},
    stats::{median, millis, quantile},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Megabytes of the archive
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1500))]
    mb: u32,
    /// Kilobytes of the archive, instead
    #[arg(long, conflicts_with = "mb", value_parser = clap::value_parser!(u32).range(1..=1_536_000))]
    kb: Option<u32>,
    /// Publishes of everybody that are measured
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Publishes before that: the first ones make files grow
    #[arg(long, default_value_t = 4)]
    warm_up: u32,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// What is published in one round: the archive, and the seed that its model is made of.
struct Round {
    archive: rkyv::util::AlignedVec,
    bytes: usize,
    seed: u64,
}

/// Publishes a round's archive and returns the milliseconds that it took.
type Publish = Box<dyn FnMut(&Round) -> Result<f64>>;

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let bytes = arguments.kb.map_or(arguments.mb as usize * MB, |kb| kb as usize * 1024);
    let mut peers = peers(folder.path(), bytes)?;
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut archive_bytes = 0;
    for round in 0..arguments.warm_up + arguments.samples {
        let seed = u64::from(round);
        let model = model::mixed(bytes, seed);
        let started = Instant::now();
        let archive = model::serialise(&model)?;
        let serialised = millis(started.elapsed());
        drop(model);
        archive_bytes = archive.len();
        let written = Round { archive, bytes, seed };
        let measured = round >= arguments.warm_up;
        let count = peers.len();
        peers.rotate_left(usize::from(round > 0).min(count));
        for (name, publish) in &mut peers {
            let took = publish(&written)?;
            if measured {
                times.entry(name).or_default().push(took);
            }
        }
        if measured {
            times.entry("serialise").or_default().push(serialised);
        }
        eprintln!("round {} of {}", round + 1, arguments.warm_up + arguments.samples);
    }
    let mut report = Report::new("publish", folder.path(), &["durable publish", "median", "lowest", "p90"]);
    report.set("payload_bytes", archive_bytes);
    report.set("samples", arguments.samples);
    println!("archives of {}", human_bytes(archive_bytes as u64));
    for (name, explained) in ROWS {
        let samples = times.get(name).map(Vec::as_slice).unwrap_or_default();
        report.figure(format!("{name}_ms"), median(samples));
        let shown = [median(samples), quantile(samples, 0.0), quantile(samples, 0.9)];
        let mut row = vec![format!("{name}: {explained}")];
        row.extend(shown.map(|ms| human_us(ms * 1e3)));
        report.row(row);
    }
    let sum = |a: &str, b: &str| Some(median(times.get(a)?) + median(times.get(b)?));
    report.figure("heed_serialised_ms", sum("heed", "serialise").unwrap_or(f64::NAN));
    judge(&mut report, bytes);
    report.print(arguments.json);
    Ok(())
}

/// What is wanted depends on the size: a large archive is bytes, and a small one is a commit.
fn judge(report: &mut Report, bytes: usize) {
    report.ratio("ratio_default", "ours_default_ms", "ours_ms", AtMost(1.1));
    if bytes >= 8 * MB {
        report.ratio("ratio_heed", "ours_ms", "heed_ms", AtMost(1.6));
        report.ratio("ratio_file", "ours_ms", "file_ms", AtMost(1.8));
        report.ratio("ratio_cached_heed", "ours_cached_ms", "heed_ms", AtMost(1.1));
        report.ratio("ratio_cached_file", "ours_cached_ms", "file_ms", AtMost(1.3));
    } else if bytes >= MB / 8 {
        report.ratio("ratio_heed", "ours_ms", "heed_serialised_ms", AtMost(1.4));
        report.ratio("ratio_file", "ours_ms", "file_ms", AtMost(1.8));
    } else {
        report.ratio("ratio_redb", "ours_ms", "redb_quick_ms", AtMost(1.3));
        report.ratio("ratio_heed", "ours_ms", "heed_ms", AtMost(1.6));
    }
}

const ROWS: [(&str, &str); 9] = [
    ("ours", "2 versions kept, superseded left raw"),
    ("ours_default", "8 versions kept, superseded compressed"),
    ("ours_cached", "as ours, with 256 MiB of cache"),
    ("file", "write, fsync, rename, fsync of the folder"),
    ("heed", "LMDB, put and commit"),
    ("redb", "insert and commit of two phases"),
    ("redb_quick", "the same, with quick repair, as ours"),
    ("fjall", "insert and persist"),
    ("serialise", "rkyv alone, a part of ours"),
];

fn peers(folder: &std::path::Path, bytes: usize) -> Result<Vec<(&'static str, Publish)>> {
    let file = folder::make(folder.join("file"))?.join("plain");
    let heed = Heed::create(&folder::make(folder.join("heed"))?, bytes * 8 + (256 << 20))?;
    let redb = redb::create(&folder.join("peer.redb"))?;
    let redb_quick = redb::create(&folder.join("quick.redb"))?;
    let fjall = Fjall::open(&folder.join("fjall"))?;
    let raw = || Store::options().retention(2).compress_superseded(false);
    Ok(vec![
        ("ours", store(&folder.join("ours.redb"), raw())?),
        ("ours_cached", store(&folder.join("ours_cached.redb"), raw().cache_bytes(256 << 20))?),
        ("ours_default", store(&folder.join("ours_default.redb"), Store::options())?),
        ("file", timed(move |archive| folder::write_durably(&file, archive))),
        ("heed", timed(move |archive| heed.put([(KEY.as_bytes(), archive)]))),
        ("redb", timed(move |archive| redb::put(&redb, redb::Phases::Two, [(KEY, archive)]))),
        ("redb_quick", timed(move |archive| redb::put(&redb_quick, redb::Phases::TwoAndQuickRepair, [(KEY, archive)]))),
        ("fjall", timed(move |archive| fjall.put(KEY, archive))),
    ])
}

fn timed(mut write: impl FnMut(&[u8]) -> Result<()> + 'static) -> Publish {
    Box::new(move |round| {
        let started = Instant::now();
        write(&round.archive)?;
        Ok(millis(started.elapsed()))
    })
}

fn store(path: &std::path::Path, options: Options) -> Result<Publish> {
    let (store, key) = (options.open(path)?, ours::only_key());
    Ok(Box::new(move |round| {
        let trained = NewModel::new(model::mixed(round.bytes, round.seed));
        let started = Instant::now();
        store.publish(&key, trained)?;
        Ok(millis(started.elapsed()))
    }))
}
