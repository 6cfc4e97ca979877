//! The sessions of a built-in calendar as CSV: day, open, close, breaks, early, late. Times are UTC.
//!
//!     cargo run --example calendars -- tokyo 2024-11-01 2024-11-08
//!
//! `scripts/calendars.py` compares them with those of other packages.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program prints")]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use clap::Parser;
use modelkeep::{
    Day, Interval,
    market::{Calendar, Session},
};

/// Print the sessions of a built-in calendar.
#[derive(Parser)]
struct Args {
    /// The calendar, by name
    #[arg(value_parser = Calendar::NAMES)]
    name: String,
    /// The first day
    from: Day,
    /// The day after the last
    until: Day,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("calendars: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let calendar = Calendar::named(&args.name).ok_or("there is no such calendar")?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "day,open,close,breaks,early,late")?;
    for session in calendar.sessions(Interval::new(args.from, args.until)?) {
        let Session { day, open, close, early_close, late_open, .. } = session;
        let breaks: Vec<_> = session.breaks().map(|pause| format!("{}/{}", pause.start(), pause.end())).collect();
        writeln!(out, "{day},{open},{close},{},{early_close},{late_open}", breaks.join(" "))?;
    }
    Ok(out.flush()?)
}
