//! Bars and index levels from CSV files into a store and out of it again, with progress bars.
//!
//!     cargo run --release --example bars -- market.redb import MSFT minutes.csv --timeframe 1m --zone America/New_York
//!     cargo run --release --example bars -- market.redb export MSFT copy.csv --timeframe 1m --from 2022-06-01
//!     cargo run --release --example bars -- market.redb import-levels ^VIX vix.csv
//!
//! Rows that cannot be right are refused, by line; with `--keep` they are kept and flagged, with `--leave-out` left out.
//! Rows without prices are left out either way; the import says how many there were, and where.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program prints")]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use modelkeep::{
    Day, Interval, Store, Timestamp,
    market::{BadRows, CsvOptions, Imported, Progress, Timeframe},
};

/// Import bars and index levels from CSV files, and export them.
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
        #[command(flatten)]
        reading: Reading,
        /// Keep rows that cannot be right, and flag them
        #[arg(long, conflicts_with = "leave_out")]
        keep: bool,
        /// Prices below zero are as good as others
        #[arg(long)]
        negative_prices: bool,
    },
    /// Read daily levels of an index from a CSV file: a date, and close, value, `vix_close` or the last column
    ImportLevels {
        series: String,
        file: PathBuf,
        #[command(flatten)]
        reading: Reading,
    },
    /// Write bars to a CSV file
    Export {
        symbol: String,
        file: PathBuf,
        #[arg(long, default_value = "1d")]
        timeframe: Timeframe,
        #[command(flatten)]
        days: Days,
    },
    /// Write daily levels of an index to a CSV file
    ExportLevels {
        series: String,
        file: PathBuf,
        #[command(flatten)]
        days: Days,
    },
}

/// How a file is read.
#[derive(clap::Args)]
struct Reading {
    /// Which time zone times without an offset are of, as in `America/New_York`; UTC by default
    #[arg(long)]
    zone: Option<String>,
    /// Leave out rows that cannot be right, and say how many
    #[arg(long)]
    leave_out: bool,
}

impl Reading {
    fn options(&self) -> modelkeep::error::Result<CsvOptions> {
        let options = CsvOptions::from(if self.leave_out { BadRows::LeaveOut } else { BadRows::Refuse });
        self.zone.as_deref().map_or(Ok(options), |zone| options.zone(zone))
    }
}

/// Which days are written.
#[derive(clap::Args)]
struct Days {
    /// The first day
    #[arg(long)]
    from: Option<Day>,
    /// The day after the last
    #[arg(long)]
    until: Option<Day>,
}

impl Days {
    fn span(&self) -> modelkeep::error::Result<Interval<Timestamp>> {
        let start = self.from.map_or(Timestamp::from_nanos(i64::MIN), Day::start);
        Interval::new(start, self.until.map_or(Timestamp::from_nanos(i64::MAX), Day::start))
    }
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
        Command::Import { symbol, file, timeframe, reading, keep, negative_prices } => {
            let store = Store::open(&args.store)?;
            let series = store.bars(symbol, *timeframe)?;
            let series = if *negative_prices { series.allow_negative_prices() } else { series };
            let options = reading.options()?;
            let options = if *keep { options.bad_rows(BadRows::Keep) } else { options };
            let bar = progress_bar("{bar:40} {binary_bytes}/{binary_total_bytes}  {msg} rows  {eta} to go")?;
            let imported = series.import_csv(file, options, |done| show(&bar, done))?;
            bar.finish();
            report(&imported);
        }
        Command::ImportLevels { series, file, reading } => {
            report(&Store::open(&args.store)?.levels(series)?.import_csv(file, reading.options()?)?);
        }
        Command::Export { symbol, file, timeframe, days } => {
            let store = Store::options().read_only(true).open(&args.store)?;
            let bar = progress_bar("{bar:40} {pos}/{len} rows  {eta} to go")?;
            let series = store.bars(symbol, *timeframe)?;
            let rows = series.export_csv(file, days.span()?, |done| show(&bar, done))?;
            bar.finish();
            println!("{rows} rows in {}", file.display());
        }
        Command::ExportLevels { series, file, days } => {
            let store = Store::options().read_only(true).open(&args.store)?;
            let rows = store.levels(series)?.export_csv(file, days.span()?.days())?;
            println!("{rows} rows in {}", file.display());
        }
    }
    Ok(())
}

/// Says what an import did.
fn report(imported: &Imported) {
    let rows = &imported.rows;
    println!("{} added, {} replaced, {} unchanged, {} flagged", rows.added, rows.replaced, rows.unchanged, rows.flawed);
    for left_out in &imported.left_out {
        println!("{} left out: {}, the first in line {}", left_out.rows, left_out.reason, left_out.first_line);
    }
    if let Some(rescaled) = &rows.rescaled {
        println!("{rescaled}: the file is on another scale than what was stored before");
    }
}

fn progress_bar(template: &str) -> Result<ProgressBar, indicatif::style::TemplateError> {
    Ok(ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?))
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(progress.rows.to_string());
}
