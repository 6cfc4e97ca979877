//! Tortures a store: writers, readers that hold what they took, reopenings, and a disk that fails, for as long as it is
//! told.
//!
//!     cargo run --release --example torture -- --seconds 3600
//!
//! Everything that is taken is compared with what was stored: when it is taken, while it is held, and when it is
//! dropped. The first wrong answer ends the run with status 101 and says what was wrong.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line program prints, and says how long it took"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;

#[path = "common/table.rs"]
#[allow(dead_code, reason = "shared with the other examples")]
mod table;
#[path = "torture/mod.rs"]
mod torture;

/// Torture a store, and report what was done to it
#[derive(Parser)]
struct Args {
    /// How long, about
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where random choices begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the files are; default: a temporary folder
    #[arg(long)]
    folder: Option<PathBuf>,
    /// A line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("torture: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    if !folder.is_dir() {
        return Err(format!("{} is not a folder", folder.display()).into());
    }
    let started = Instant::now();
    let settings = torture::Settings { seconds: args.seconds, seed: args.seed, folder };
    let report = torture::run(&settings, |report| {
        let taken = report.taken.load(std::sync::atomic::Ordering::Relaxed);
        eprint!("\r{:>6.0} s, {taken} models taken", started.elapsed().as_secs_f64());
    });
    eprintln!();
    let mut figures = report.figures().to_vec();
    figures.insert(0, ("seconds", started.elapsed().as_secs()));
    if args.json {
        let fields = figures.iter().map(|(name, figure)| format!("\"{}\":{figure}", name.replace(' ', "_")));
        println!("{{{}}}", fields.collect::<Vec<_>>().join(","));
    } else {
        let mut shown = table::table(&["what", "how many"], &[1]);
        for (name, figure) in &figures {
            shown.add_row([(*name).to_owned(), figure.to_string()]);
        }
        println!("{shown}");
    }
    Ok(())
}
