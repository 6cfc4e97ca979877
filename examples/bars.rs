//! Bars from a CSV file into a store and out of it again, with progress bars.
//!
//!     cargo run --release --example bars -- market.redb import MSFT minutes.csv --timeframe 1m
//!     cargo run --release --example bars -- market.redb export MSFT copy.csv --timeframe 1m --from 2022-06-01
//!
//! Rows that cannot be right are refused, by line or by row; with `--keep` they are kept and flagged.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program prints")]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use modelkeep::{
    Day, Interval, Store, Timestamp,
    market::{BadRows, Progress, Timeframe},
};

/// Import bars from CSV files, and export them.
#[derive(Parser)]
struct Args {
    /// The store's file; an import creates it
    store: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read bars from a CSV file: a time, open, high, low, close, volume
    Import {
        symbol: String,
        file: PathBuf,
        #[arg(long, default_value = "1d")]
        timeframe: Timeframe,
        /// Keep rows that cannot be right, and flag them
        #[arg(long)]
        keep: bool,
    },
    /// Write bars to a CSV file
    Export {
        symbol: String,
        file: PathBuf,
        #[arg(long, default_value = "1d")]
        timeframe: Timeframe,
        /// The first day
        #[arg(long)]
        from: Option<Day>,
        /// The day after the last
        #[arg(long)]
        until: Option<Day>,
    },
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bars: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    match &args.command {
        Command::Import { symbol, file, timeframe, keep } => {
            let store = Store::open(&args.store)?;
            let bad_rows = if *keep { BadRows::Keep } else { BadRows::Refuse };
            let bar = progress_bar("{bar:40} {binary_bytes}/{binary_total_bytes}  {msg} rows  {eta} to go")?;
            let written = store.bars(symbol, *timeframe)?.import_csv(file, bad_rows, |done| show(&bar, done))?;
            bar.finish();
            println!(
                "{} added, {} replaced, {} unchanged, {} flagged",
                written.added, written.replaced, written.unchanged, written.flawed
            );
        }
        Command::Export { symbol, file, timeframe, from, until } => {
            let store = Store::options().read_only(true).open(&args.store)?;
            let start = from.map_or(Timestamp::from_nanos(i64::MIN), Day::start);
            let end = until.map_or(Timestamp::from_nanos(i64::MAX), Day::start);
            let bar = progress_bar("{bar:40} {pos}/{len} rows  {eta} to go")?;
            let series = store.bars(symbol, *timeframe)?;
            let rows = series.export_csv(file, Interval::new(start, end)?, |done| show(&bar, done))?;
            bar.finish();
            println!("{rows} rows in {}", file.display());
        }
    }
    Ok(())
}

fn progress_bar(template: &str) -> Result<ProgressBar, indicatif::style::TemplateError> {
    Ok(ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?))
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(progress.rows.to_string());
}
