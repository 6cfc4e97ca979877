//! A stream of bars: how much memory does it take to write more of them than memory should hold?
//!
//! Seconds of one made-up symbol, written by one call in one durable transaction. The process does nothing else, so the
//! most memory that the kernel saw of it is what the stream took, the program itself included.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, ensure};
use modelkeep::{
    Store, Timestamp,
    market::{Bar, Bars, Timeframe},
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    folder,
    report::{Report, Wanted::AtMost},
};

const SEED: u64 = 0x57_4ea3;
const SECOND_NANOS: i64 = 1_000_000_000;

#[derive(clap::Args)]
pub struct Arguments {
    /// Bars that are written
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    rows: u32,
    /// Collect them first, and write them with `write`
    #[arg(long)]
    at_once: bool,
    /// Where the store is to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let store = Store::open(folder.path().join("stream.redb"))?;
    let series = store.bars("BTC-USD", Timeframe::seconds(1)?)?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut cents: i64 = 1_000_000;
    let bars = (0..i64::from(arguments.rows)).map(|second| {
        let open = cents;
        cents = (cents + random.gen_range(-40..=40)).max(100);
        let (high, low) = (open.max(cents) + random.gen_range(0..10), open.min(cents) - random.gen_range(0..10));
        let price = |cents: i64| cents as f64 / 100.0;
        let at = Timestamp::from_nanos(second * SECOND_NANOS);
        let volume = f64::from(random.gen_range(1..5000)) / 1000.0;
        Bar { at, open: price(open), high: price(high), low: price(low), close: price(cents), volume }
    });
    let started = Instant::now();
    let written = if arguments.at_once { series.write(&bars.collect::<Bars>())? } else { series.write_iter(bars)? };
    let seconds = started.elapsed().as_secs_f64();
    let most = most_memory()?;
    ensure!(written.added == u64::from(arguments.rows), "{written:?}");

    let mut report = Report::new("stream", folder.path(), &["rows", "seconds", "most memory, MB"]);
    let megabytes = most as f64 / 1e6;
    report.row(vec![arguments.rows.to_string(), format!("{seconds:.2}"), format!("{megabytes:.1}")]);
    report.set("rows", arguments.rows);
    report.set("at_once", arguments.at_once);
    report.figure("stream_s", seconds);
    report.figure("stream_memory_mb", megabytes);
    report.bound("stream_memory_mb", AtMost(200.0));
    report.print(arguments.json);
    Ok(())
}

/// The most memory that this process ever had, in bytes.
fn most_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel says VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
