//! Recover: how long does it take to open a file whose writer was killed?
//!
//! A child fills a file, begins one more write and kills itself in the middle of it. Every sample opens a fresh copy,
//! since opening repairs it; the copies are in the OS cache and on the disk before the clock starts.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use modelkeep::{NewModel, Store};
use rustix::process::{Signal, getpid, kill_process};

use crate::{
    folder,
    model::{self, MB, Mixed},
    peers::redb,
    report::{Report, Wanted::AtMost, human_us},
    stats::{median, millis, quantile},
};

/// The byte of redb's header that says whether the file was closed, and its bit (redb's docs/design.md).
const GOD_BYTE: usize = 9;
const RECOVERY_REQUIRED: u8 = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// Values in the file
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    values: u32,
    /// Megabytes of each
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1500))]
    mb: u32,
    /// Copies of everybody's file that are opened
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Ours,
    Redb,
}

#[derive(clap::Args)]
pub struct ChildArguments {
    engine: Engine,
    path: PathBuf,
    values: u32,
    mb: u32,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let engines = [(Engine::Ours, "ours"), (Engine::Redb, "redb")];
    for (_, name) in engines {
        eprintln!("filling {name} and killing its writer");
        let path = folder.path().join(name);
        let status = Command::new(std::env::current_exe()?)
            .args(["recover-child", name])
            .arg(&path)
            .args([arguments.values.to_string(), arguments.mb.to_string()])
            .status()?;
        ensure!(status.signal() == Some(Signal::KILL.as_raw()), "the writer of {name} was not killed: {status}");
        ensure!(unclean(&path)?, "the file of {name} is clean although its writer was killed");
    }
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..arguments.samples {
        for ((engine, name), times) in engines.into_iter().zip(&mut times) {
            let copy = folder.path().join(format!("{name}.{round}"));
            fs::copy(folder.path().join(name), &copy)?;
            File::open(&copy)?.sync_all()?;
            times.push(open(engine, &copy, arguments.values)?);
            fs::remove_file(&copy)?;
        }
        eprintln!("round {} of {}", round + 1, arguments.samples);
    }
    let mut report = Report::new("recover", folder.path(), &["opening after a kill", "median", "lowest", "highest"]);
    for (key, value) in [("values", arguments.values), ("mb", arguments.mb), ("samples", arguments.samples)] {
        report.set(key, value);
    }
    for ((_, name), times) in engines.into_iter().zip(&times) {
        report.figure(format!("{name}_ms"), median(times));
        let mut row = vec![name.to_owned()];
        row.extend([median(times), quantile(times, 0.0), quantile(times, 1.0)].map(|ms| human_us(ms * 1e3)));
        report.row(row);
    }
    report.bound("ours_ms", AtMost(10.0));
    report.ratio("ratio_redb", "ours_ms", "redb_ms", AtMost(0.05));
    report.print(arguments.json);
    Ok(())
}

fn unclean(path: &Path) -> Result<bool> {
    let mut header = [0; GOD_BYTE + 1];
    std::io::Read::read_exact(&mut File::open(path)?, &mut header)?;
    let [.., god_byte] = header;
    Ok(god_byte & RECOVERY_REQUIRED != 0)
}

/// Opens a file for writing; returns the milliseconds, and makes sure that what was committed is there.
fn open(engine: Engine, path: &Path, values: u32) -> Result<f64> {
    let started = Instant::now();
    match engine {
        Engine::Ours => {
            let store = Store::options().create(false).open(path)?;
            let took = millis(started.elapsed());
            for index in 0..values {
                let key = model::numbered_key(index as usize)?;
                store.get::<Mixed>(&key)?.with_context(|| format!("{key} is lost"))?;
            }
            Ok(took)
        }
        Engine::Redb => {
            let db = redb::open(path)?;
            let took = millis(started.elapsed());
            let mut found = 0;
            redb::scan(&db, |_| found += 1)?;
            ensure!(found == values, "{found} of {values} values are there");
            Ok(took)
        }
    }
}

/// Fills a file and dies in the middle of a write.
pub fn run_child(arguments: &ChildArguments) -> Result<()> {
    let bytes = arguments.mb as usize * MB;
    match arguments.engine {
        Engine::Ours => fill_ours(&arguments.path, arguments.values, bytes),
        Engine::Redb => fill_redb(&arguments.path, arguments.values, bytes),
    }
}

fn die() -> Result<()> {
    kill_process(getpid(), Signal::KILL)?;
    bail!("this process should be dead")
}

fn fill_ours(path: &Path, values: u32, bytes: usize) -> Result<()> {
    let store = Store::open(path)?;
    let mut last = Duration::ZERO;
    for index in 0..values {
        let trained = NewModel::new(model::mixed(bytes, index.into()));
        let started = Instant::now();
        store.publish(&model::numbered_key(index as usize)?, trained)?;
        last = started.elapsed();
    }
    // The last part of a publish is its transaction.
    let one_more = NewModel::new(model::mixed(bytes, values.into()));
    let key = model::numbered_key(values as usize)?;
    thread::scope(|scope| {
        scope.spawn(|| store.publish(&key, one_more));
        thread::sleep(last.mul_f64(0.7));
        die()
    })
}

fn fill_redb(path: &Path, values: u32, bytes: usize) -> Result<()> {
    let db = redb::create(path)?;
    for index in 0..values {
        let archive = model::serialise(&model::mixed(bytes, index.into()))?;
        redb::put(&db, redb::Phases::One, [(format!("model.{index}").as_str(), &archive[..])])?;
    }
    redb::put_and(&db, "one more", &vec![7; bytes], die)
}
