//! Measures modelkeep beside plain files, other embedded stores and caches: the same bytes, in the same run.
//!
//! Every subcommand answers one question, prints a table, and with `--json` one JSON object as the last line. Figures
//! are medians. Nothing is asserted about time: targets are printed beside what was found.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program has no public API, prints, and this one measures time"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "figures are shown with a few digits, and sizes are far below 2^53"
)]

mod affinity;
mod bars;
mod bell;
mod bench;
mod cold;
mod folder;
mod growth;
mod hasher;
mod hot;
mod live;
mod machine;
mod many;
mod maps;
mod metadata;
mod model;
mod open;
mod peers;
mod plot;
mod probe;
mod publish;
mod publish_many;
mod recover;
mod report;
mod space;
mod stats;
mod subprocess;
mod swap;
mod zipf;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures modelkeep beside its peers, in the same run and with the same bytes.
#[derive(Parser)]
#[command(name = "compare", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// From opening the store to the first prediction, each sample in a fresh process
    Cold(cold::Arguments),
    /// From a closed file until thousands of models are in memory and verified
    Bell(bell::Arguments),
    /// A model that is in memory: our hot tier beside maps and caches
    Hot(hot::Arguments),
    /// Predictions while versions are published: latencies, and whether every model seen was whole
    Swap(swap::Arguments),
    /// What a durable publish costs
    Publish(publish::Arguments),
    /// What it costs to publish many models in one transaction
    PublishMany(publish_many::Arguments),
    /// What models take on the disk, after one publish, after many, and compacted
    Space(space::Arguments),
    /// Listing many models by their metadata
    Metadata(metadata::Arguments),
    /// How time and memory of each operation grow with what is stored
    Growth(growth::Arguments),
    /// Bars of prices and volumes, beside Parquet: bytes, reads, appends
    Bars(bars::Arguments),
    /// The memory that a long stream of bars takes on its way into a store
    Stream(bars::stream::Arguments),
    /// Opening a file whose writer was killed
    Recover(recover::Arguments),
    /// Short runs of the others: which ratios moved since the baseline
    Bench(bench::Arguments),
    /// Draws the results of `cold`, `hot` and `growth` as SVG
    Plot(plot::Arguments),
    #[command(hide = true)]
    ColdChild(probe::Arguments),
    #[command(hide = true)]
    BellChild(bell::ChildArguments),
    #[command(hide = true)]
    OpenChild(open::ChildArguments),
    #[command(hide = true)]
    RecoverChild(recover::ChildArguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("compare: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Cold(arguments) => cold::run(&arguments),
        Command::Bell(arguments) => bell::run(&arguments),
        Command::Hot(arguments) => hot::run(&arguments),
        Command::Swap(arguments) => swap::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::PublishMany(arguments) => publish_many::run(&arguments),
        Command::Space(arguments) => space::run(&arguments),
        Command::Metadata(arguments) => metadata::run(&arguments),
        Command::Growth(arguments) => growth::run(&arguments),
        Command::Bars(arguments) => bars::run(&arguments),
        Command::Stream(arguments) => bars::stream::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Plot(arguments) => plot::run(&arguments),
        Command::ColdChild(arguments) => probe::run(&arguments),
        Command::BellChild(arguments) => bell::run_child(&arguments),
        Command::OpenChild(arguments) => open::run_child(&arguments),
        Command::RecoverChild(arguments) => recover::run_child(&arguments),
    }
}
