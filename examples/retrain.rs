//! Training again and again on data that hardly changes: what a store of bars and features saves.
//!
//! Four runs over 25 symbols and three years of real daily bars from a vendor who takes his time: nothing on disk; all
//! of it on disk; the last year lost; the day after. Each run loads bars, computes features and trains.
//!
//!     cargo run --release --example retrain [-- --json] [--latency-ms N] [--store FILE] [--data DIR]

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "an example prints, measures, and counts what is small"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

#[path = "common/indicators.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod indicators;
#[path = "common/table.rs"]
#[allow(dead_code, reason = "shared with the other examples")]
mod table;
#[path = "retrain/vendor.rs"]
mod vendor;

use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use linfa::{Dataset, traits::Fit};
use modelkeep::{
    Day, Interval, ModelKey, NewModel, Store, Symbol, Timestamp,
    clock::{Clock, ManualClock, SystemClock},
    market::{BadRows, Bars, FeatureSpec, FetchPolicy, Lookback, Timeframe},
};
use modelkeep_estimators::LinearRegression;
use ndarray::{Array1, Array2};
use table::{human_us, table};
use vendor::Vendor;

/// Load bars, compute features and train, four times, and show what was not done again.
#[derive(Parser)]
struct Args {
    /// Folder with `daily/SYMBOL.csv` (date,open,high,low,close,volume) and `universe.csv` (date,symbol,open,...)
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/panel"))]
    data: PathBuf,
    /// What one call to the vendor takes
    #[arg(long, value_name = "MS", default_value_t = 20)]
    latency_ms: u64,
    /// Where to keep the store; a temporary folder, removed at the end, when not given
    #[arg(long)]
    store: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

const FROM: &str = "2007-08-21";
const LAST_YEAR: &str = "2009-08-21";
const UNTIL: &str = "2010-08-21";
/// The first session after it.
const DAY_AFTER: &str = "2010-08-24";

/// Days are what this example says they are; durations are real.
#[derive(Debug)]
struct Replay(ManualClock);

impl Clock for Replay {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

/// What one run did.
#[derive(Default)]
struct Run {
    time: Duration,
    calls: u64,
    from_disk: u64,
    fetched: u64,
    time_saved: Duration,
    features_reused: u64,
    features_computed: u64,
    samples: usize,
    closes: Vec<u64>,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("retrain: {err}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), Box<dyn Error>> {
    let vendor = Vendor::new(&args.data, Duration::from_millis(args.latency_ms))?;
    let folder = tempfile::tempdir()?;
    let path = args.store.clone().unwrap_or_else(|| folder.path().join("retrain.redb"));
    if path.exists() {
        return Err(format!("{} is there already: the first run is to begin with nothing", path.display()).into());
    }
    let clock = Arc::new(Replay(ManualClock::at(evening(UNTIL)?)));
    // A row of this vendor that cannot be right is kept, and flagged.
    let policy = FetchPolicy::default().max_request_span(Duration::from_secs(366 * 86_400)).bad_rows(BadRows::Keep);
    let store = Store::options().clock(Arc::clone(&clock)).fetch(policy).open(&path)?;

    let cold = run(&store, &vendor, UNTIL)?;
    let warm = run(&store, &vendor, UNTIL)?;
    for symbol in vendor.symbols() {
        store.bars(symbol.as_str(), Timeframe::DAY)?.remove(Interval::<Day>::parse(LAST_YEAR, UNTIL)?.span())?;
    }
    let year = run(&store, &vendor, UNTIL)?;
    clock.0.set(evening(DAY_AFTER)?);
    let day = run(&store, &vendor, DAY_AFTER)?;

    let runs = [cold, warm, year, day];
    show(&vendor, &runs);
    check(&vendor, &runs)?;
    if args.json {
        println!("{}", json(&runs));
    }
    Ok(())
}

/// Ten in the evening, UTC, before a day begins.
fn evening(day: &str) -> Result<Timestamp, Box<dyn Error>> {
    Ok(day.parse::<Day>()?.start().before(Duration::from_secs(2 * 3600)))
}

/// Loads, computes and trains, up to a day.
fn run(store: &Store, vendor: &Vendor, until: &str) -> Result<Run, Box<dyn Error>> {
    let start = Instant::now();
    let interval = Interval::<Day>::parse(FROM, until)?.span();
    let mut run = Run::default();
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for symbol in vendor.symbols() {
        let loaded = store.load_or_fetch(symbol.as_str(), Timeframe::DAY, interval, vendor)?;
        run.from_disk += loaded.report.from_disk;
        run.fetched += loaded.report.fetched;
        run.time_saved += loaded.report.time_saved;
        let bars = loaded.complete()?;
        run.closes.extend(bars.close().iter().map(|close| close.to_bits()));
        add_samples(store, &symbol, &bars, interval, &mut run, &mut features, &mut targets)?;
    }
    run.samples = targets.len();
    let model = train(features, targets)?;
    let key = ModelKey::new("next-day", &SETTINGS)?;
    store.publish(&key, NewModel::new(model).metric("samples", run.samples as f64))?;
    run.time = start.elapsed();
    run.calls = vendor.calls();
    Ok(run)
}

/// Part of the model's key.
const SETTINGS: [&str; 2] = ["return, zscore20, volatility20 and rsi14", "linear, of the next day's return"];

const WINDOWS: [&str; 3] = ["return", "zscore20", "volatility20"];

fn windows(bars: &Bars) -> Vec<Vec<f64>> {
    let close = bars.close();
    vec![indicators::returns(close), indicators::zscore(close, 20), indicators::realised_volatility(close, 20)]
}

/// Adds a row for each bar whose features and whose next return are known.
fn add_samples(
    store: &Store,
    symbol: &Symbol,
    bars: &Bars,
    interval: Interval<Timestamp>,
    run: &mut Run,
    features: &mut Vec<f64>,
    targets: &mut Vec<f64>,
) -> Result<(), Box<dyn Error>> {
    let short = FeatureSpec::new("windows", 1, Timeframe::DAY, Lookback::Bars(20), &WINDOWS)?;
    let long = FeatureSpec::new("rsi", 1, Timeframe::DAY, Lookback::All, &["rsi14"])?;
    let short = store.features(symbol.as_str(), &short)?.get_or_compute(interval, windows)?;
    let long = store
        .features(symbol.as_str(), &long)?
        .get_or_compute(interval, |bars| vec![indicators::rsi(bars.close(), 14)])?;
    for set in [&short, &long] {
        run.features_reused += set.rows_reused;
        run.features_computed += set.rows_computed;
    }
    for (row, pair) in bars.close().windows(2).enumerate() {
        let values: Vec<f64> = short.columns.iter().chain(&long.columns).map(|column| column[row]).collect();
        if values.iter().all(|value| value.is_finite()) {
            features.extend(values);
            targets.push(pair[1] / pair[0] - 1.0);
        }
    }
    Ok(())
}

fn train(features: Vec<f64>, targets: Vec<f64>) -> Result<LinearRegression, Box<dyn Error>> {
    let features = Array2::from_shape_vec((targets.len(), WINDOWS.len() + 1), features)?;
    let fitted = linfa_linear::LinearRegression::default().fit(&Dataset::new(features, Array1::from(targets)))?;
    Ok(LinearRegression::from(&fitted))
}

const NAMES: [&str; 4] = ["1 cold", "2 warm", "3 last year lost", "4 the day after"];

fn show(vendor: &Vendor, runs: &[Run; 4]) {
    let mut rows = table(
        &["run", "time", "calls", "bars from disk", "bars fetched", "features reused", "computed", "time saved"],
        &[1, 2, 3, 4, 5, 6, 7],
    );
    let us = |time: Duration| human_us(time.as_secs_f64() * 1e6);
    for (name, run) in NAMES.iter().zip(runs) {
        rows.add_row([
            (*name).to_owned(),
            us(run.time),
            run.calls.to_string(),
            run.from_disk.to_string(),
            run.fetched.to_string(),
            run.features_reused.to_string(),
            run.features_computed.to_string(),
            us(run.time_saved),
        ]);
    }
    let [cold, warm, ..] = runs;
    println!("{} symbols, {FROM} to {UNTIL}, {} samples\n\n{rows}", vendor.symbols().len(), cold.samples);
    println!(
        "Warm takes {:.1} % of cold. Features are rows of two sets, of which one looks back 20 bars and the other at all; in the\n\
         third run they hold, because the bars come back as they were. Time saved: calls that were not made, by what a call\n\
         took so far.",
        100.0 * warm.time.as_secs_f64() / cold.time.as_secs_f64()
    );
}

/// The example checks what it says.
fn check(vendor: &Vendor, runs: &[Run; 4]) -> Result<(), Box<dyn Error>> {
    let [cold, warm, year, day] = runs;
    let symbols = vendor.symbols().len() as u64;
    let checks = [
        ("the warm run asks nobody", warm.calls == 0 && warm.fetched == 0 && warm.features_computed == 0),
        ("the warm run sees the same", warm.closes == cold.closes && warm.from_disk == cold.fetched),
        ("the third run asks for the year alone", year.calls == symbols && year.closes == cold.closes),
        ("features hold when the bars come back as they were", year.features_computed == 0),
        ("the fourth run computes its month alone", day.features_reused > 0 && day.features_computed < 100 * symbols),
        ("the fourth run asks for the day alone", day.calls == symbols && day.fetched < symbols + 1),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        Some((what, _)) => Err(format!("it does not hold that {what}").into()),
        None => Ok(()),
    }
}

fn json(runs: &[Run; 4]) -> serde_json::Value {
    let [cold, warm, year, day] = runs;
    let ms = |run: &Run| (run.time.as_secs_f64() * 1e6).round() / 1e3;
    let rate = |run: &Run| run.from_disk as f64 / (run.from_disk + run.fetched).max(1) as f64;
    serde_json::json!({
        "run1_ms": ms(cold), "run2_ms": ms(warm), "run3_ms": ms(year), "run4_ms": ms(day),
        "calls1": cold.calls, "calls2": warm.calls, "calls3": year.calls, "calls4": day.calls,
        "hit_rate2": rate(warm), "bars": cold.closes.len(),
        "fetched3": year.fetched, "fetched4": day.fetched,
        "features_reused3": year.features_reused, "features_computed3": year.features_computed,
    })
}
