//! The main job: a mean-reversion classifier over real daily bars and real VIX, trained once and then kept.
//!
//! It buys nothing and proves nothing about markets: it shows what a repeated scan costs when the model is kept, and
//! it is honest about how little the model knows.
//!
//!     cargo run --release --example bounce [-- --json] [--data DIR] [--store FILE]

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "an example prints, measures, and counts what is small"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

#[path = "bounce/dips.rs"]
mod dips;
#[path = "common/market.rs"]
mod market;
#[path = "bounce/model.rs"]
mod model;
#[path = "bounce/report.rs"]
mod report;
#[path = "common/table.rs"]
mod table;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use dips::{Dip, Rules};
use model::{BounceModel, Plan, Report};
use modelkeep::{
    Day, Freshness, Interval, ModelKey, ModelRef, NewModel, Store, Tier,
    market::{Bars, Levels},
    training::TrainingSet,
};
use serde::Serialize;

/// Train a bounce classifier on real bars and VIX, keep it, and measure what keeping it saves.
#[derive(Parser)]
struct Args {
    /// Folder with `daily/*.csv` (date,open,high,low,close,volume) and `vix.csv` (date,close)
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"))]
    data: PathBuf,
    /// Where to keep the store; a temporary folder, removed at the end, when not given
    #[arg(long)]
    store: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// The configuration: everything that the model depends on. Its hash is half of the model's key.
#[derive(Serialize)]
struct Config {
    tickers: Vec<String>,
    from: String,
    test_from: String,
    until: String,
    rules: Rules,
    regularisation: f64,
}

/// Sessions whose dips a scan reports.
const SCAN_SESSIONS: usize = 10;
/// How often a short time is measured; the median counts.
const REPEATS: usize = 21;

pub struct Signal {
    pub symbol: String,
    pub dip: Dip,
    pub probability: f64,
}

/// What was measured, in microseconds.
pub struct Times {
    pub train: f64,
    pub hot: f64,
    pub disk: f64,
    pub open: f64,
    pub incremental: f64,
    pub full_retrain: f64,
    pub forced: f64,
    pub scan_first: f64,
    pub scan_hot: f64,
    pub scan_disk: f64,
}

/// What a whole run came to.
pub struct Outcome {
    pub store: Store,
    pub key: ModelKey,
    pub full_key: ModelKey,
    pub symbols: usize,
    pub bars: usize,
    pub vix_days: usize,
    pub samples: usize,
    pub first: Report,
    pub merged: Report,
    pub tiers: [Tier; 3],
    pub times: Times,
    pub signals: Vec<Signal>,
    pub added: Vec<String>,
    /// Statistics after the first and the repeated scan.
    pub stats: modelkeep::admin::Stats,
    /// How far the updated model's probabilities are from the retrained one's, at most.
    pub difference: f64,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bounce: {err}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let path = args.store.clone().unwrap_or_else(|| temporary.path().join("models.redb"));
    if path.exists() {
        return Err(format!("{} exists; name a new file, so that the first scan has to train", path.display()).into());
    }
    let outcome = run(&args.data, &path)?;
    report::print(&outcome)?;
    if args.json {
        println!("{}", report::json(&outcome)?);
    }
    Ok(())
}

/// The model, the signals, and the microseconds that a scan took.
type Scan = (ModelRef<BounceModel>, Vec<Signal>, f64);

/// Bars and VIX in memory, and the rules.
struct Scanner {
    bars: Vec<(String, Bars)>,
    vix: Levels,
    range: Interval<Day>,
    config: Config,
    plan: Plan,
}

fn run(data: &std::path::Path, path: &std::path::Path) -> Result<Outcome, Box<dyn Error>> {
    let mut symbols = market::symbols(data)?;
    if symbols.len() < 3 {
        return Err(format!("{} has {} symbols, at least 3 are needed", data.display(), symbols.len()).into());
    }
    // The last two symbols come later, in the incremental update.
    let added = symbols.split_off(symbols.len() - 2);
    let store = Store::open(path)?;
    let scanner = Scanner::new(data, &symbols, &store)?;
    let key = ModelKey::new("bounce", &scanner.config)?;

    let mut first = None;
    let (held, signals, scan_first) = scanner.scan(&store, &key, |prior| {
        let set = training_set(&scanner.bars, &scanner.vix, &scanner.config.rules)?;
        let vix = store.levels("VIX")?.seen(scanner.range)?;
        let (trained, report) = model::train(&set, prior, &scanner.plan, vix)?;
        first = Some(report);
        Ok(trained.training_data(set))
    })?;
    let tier_first = held.tier();
    let train = micros(held.metadata().training_duration);
    let first = first.ok_or("the first scan found a model where there was none")?;

    let (held, again, scan_hot) = scanner.scan(&store, &key, |_| Err("a hot model was trained again".into()))?;
    let tier_second = held.tier();
    assert!(signals.iter().zip(&again).all(|(a, b)| a.probability == b.probability), "a hit changed a prediction");
    let stats = store.stats();
    let hot = median(|| {
        // One get is shorter than a clock's tick; a thousand are not.
        let started = Instant::now();
        for _ in 0..1000 {
            std::hint::black_box(store.get::<BounceModel>(std::hint::black_box(&key))?);
        }
        Ok(micros(started.elapsed()) / 1000.0)
    })?;
    drop((held, store));

    let (tier_reopened, disk, open, scan_disk) = scanner.reopened(path, &key)?;

    let store = Store::open(path)?;
    let (merged, incremental) = scanner.update(&store, &key, data, &added)?;
    let (full_key, full, full_retrain) = scanner.retrain(&store, data, &added)?;
    assert_eq!(merged.train_samples, full.train_samples, "both ways end with the same samples");
    let difference = largest_difference(&store, &key, &full_key)?;
    assert!(difference < 1e-3, "both ways end with the same model, up to where the optimiser stops");
    let started = Instant::now();
    let forced = store.get_or_train(&key, &Freshness::forced(), |prior| {
        let set = store.training_data(&key)?.ok_or("the training data is gone")?;
        let vix = store.levels("VIX")?.seen(scanner.range)?;
        Ok::<_, Box<dyn Error>>(model::train(&set, prior, &scanner.plan, vix)?.0.training_data(set))
    });
    let forced = forced.map(|_| micros(started.elapsed()))?;

    let times = Times { train, hot, disk, open, incremental, full_retrain, forced, scan_first, scan_hot, scan_disk };
    Ok(Outcome {
        key,
        full_key,
        symbols: symbols.len(),
        bars: scanner.bars.iter().map(|(_, bars)| bars.len()).sum(),
        vix_days: scanner.vix.len(),
        samples: first.train_samples + first.test_samples,
        first,
        merged,
        tiers: [tier_first, tier_second, tier_reopened],
        times,
        signals,
        added,
        store,
        stats,
        difference,
    })
}

impl Scanner {
    /// Brings the bars of `symbols` and the VIX into the store, and takes them from there.
    fn new(data: &std::path::Path, symbols: &[String], store: &Store) -> Result<Self, Box<dyn Error>> {
        let bars = imported(store, data, symbols)?;
        let levels = market::read_vix(data)?;
        store.levels("VIX")?.write(&levels)?;
        let (Some(first), Some(last)) = (levels.first(), levels.last()) else {
            return Err("there are no VIX levels".into());
        };
        let last_bar = bars.iter().filter_map(|(_, bars)| bars.last()).map(|bar| bar.at.day()).max().unwrap_or(last.0);
        let until = last_bar.min(last.0);
        let range = Interval::new(first.0, until.next())?;
        // The last year that the data reaches well into.
        let test_year = Day::from_epoch_days(until.epoch_days() - 90)?.year();
        let test_from: Day = format!("{test_year:04}-01-01").parse()?;
        let rules = Rules { zscore_below: -1.0, rsi2_below: 20.0, horizon_days: 5, rebound_pct: 2.0, stop_pct: 3.0 };
        let plan = Plan { test_from, horizon_days: rules.horizon_days, regularisation: 10.0 };
        let config = Config {
            tickers: symbols.to_vec(),
            from: first.0.to_string(),
            test_from: test_from.to_string(),
            until: until.to_string(),
            rules,
            regularisation: plan.regularisation,
        };
        Ok(Self { bars, vix: store.levels("VIX")?.range(range)?, range, config, plan })
    }

    /// What an engine does at every close: get the model, find the dips of the last sessions, score them.
    fn scan<F>(&self, store: &Store, key: &ModelKey, train: F) -> Result<Scan, Box<dyn Error>>
    where
        F: FnOnce(Option<&ModelRef<BounceModel>>) -> Result<NewModel<BounceModel>, Box<dyn Error>>,
    {
        let started = Instant::now();
        let held = store.get_or_train(key, &Freshness::max_age_hours(20), train)?;
        let mut signals = Vec::new();
        for (symbol, bars) in &self.bars {
            for dip in dips::find(bars, &self.vix, &self.config.rules, bars.len().saturating_sub(SCAN_SESSIONS)) {
                let probability = held.probability(&dip.features);
                signals.push(Signal { symbol: symbol.clone(), dip, probability });
            }
        }
        signals.sort_by(|a, b| b.dip.day.cmp(&a.dip.day).then(a.symbol.cmp(&b.symbol)));
        Ok((held, signals, micros(started.elapsed())))
    }

    /// Closes and opens the store, and scans: tier, time to load the model, to open the file, and for the scan.
    fn reopened(&self, path: &std::path::Path, key: &ModelKey) -> Result<(Tier, f64, f64, f64), Box<dyn Error>> {
        let (mut opens, mut scans, mut tier) = (Vec::new(), Vec::new(), Tier::Trained);
        let disk = median(|| {
            let started = Instant::now();
            let store = Store::open(path)?;
            opens.push(micros(started.elapsed()));
            let (held, _, scan) = self.scan(&store, key, |_| Err("a stored model was trained again".into()))?;
            tier = held.tier();
            scans.push(scan);
            Ok(micros(held.load_time()))
        })?;
        Ok((tier, disk, middle(&mut opens), middle(&mut scans)))
    }

    /// Two new tickers: import them, and let the store merge their samples with those that it has.
    fn update(
        &self,
        store: &Store,
        key: &ModelKey,
        data: &std::path::Path,
        added: &[String],
    ) -> Result<(Report, f64), Box<dyn Error>> {
        let started = Instant::now();
        let bars = imported(store, data, added)?;
        let set = training_set(&bars, &self.vix, &self.config.rules)?;
        let vix = store.levels("VIX")?.seen(self.range)?;
        let mut report = None;
        let update = store.update(key, &set, |merged, prior| {
            let (trained, merged_report) = model::train(merged, prior, &self.plan, vix)?;
            report = Some(merged_report);
            Ok::<_, Box<dyn Error>>(trained)
        })?;
        assert_eq!(update.merge.new_symbols.len(), added.len(), "the new symbols are new");
        let took = micros(started.elapsed());
        Ok((report.ok_or("the new tickers brought no samples")?, took))
    }

    /// The same model without what the store has kept: import all files into an empty one, compute all features, fit,
    /// publish.
    fn retrain(
        &self,
        store: &Store,
        data: &std::path::Path,
        added: &[String],
    ) -> Result<(ModelKey, Report, f64), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let empty = Store::open(folder.path().join("empty.redb"))?;
        let started = Instant::now();
        let all: Vec<String> = self.config.tickers.iter().chain(added).cloned().collect();
        let scanner = Self::new(data, &all, &empty)?;
        let key = ModelKey::new("bounce", &scanner.config)?;
        let set = training_set(&scanner.bars, &scanner.vix, &scanner.config.rules)?;
        let vix = empty.levels("VIX")?.seen(scanner.range)?;
        let (trained, report) = model::train(&set, None, &scanner.plan, vix)?;
        store.publish(&key, trained.training_data(set).took(started.elapsed()))?;
        Ok((key, report, micros(started.elapsed())))
    }
}

/// The bars of these symbols, from their files by way of the store.
fn imported(store: &Store, data: &std::path::Path, symbols: &[String]) -> Result<Vec<(String, Bars)>, market::BadData> {
    symbols.iter().map(|symbol| Ok((symbol.clone(), market::import_bars(store, data, symbol)?))).collect()
}

fn training_set(bars: &[(String, Bars)], vix: &Levels, rules: &Rules) -> modelkeep::error::Result<TrainingSet> {
    let mut set = TrainingSet::new();
    for (symbol, bars) in bars {
        set.insert(dips::samples(symbol, bars, vix, rules)?)?;
    }
    Ok(set)
}

/// How far the probabilities of two models are apart, over all training samples of the first.
fn largest_difference(store: &Store, one: &ModelKey, other: &ModelKey) -> Result<f64, Box<dyn Error>> {
    let get = |key| -> Result<_, Box<dyn Error>> {
        Ok(store.get::<BounceModel>(key)?.ok_or("a model that was just published is gone")?)
    };
    let (a, b) = (get(one)?, get(other)?);
    let data = store.training_data(one)?.ok_or("the training data is gone")?;
    let mut largest = 0.0f64;
    for (_, features, _) in data.iter().flat_map(modelkeep::training::Samples::rows) {
        let features = features.try_into()?;
        largest = largest.max((a.probability(features) - b.probability(features)).abs());
    }
    Ok(largest)
}

fn micros(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median(mut measure: impl FnMut() -> Result<f64, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut times = (0..REPEATS).map(|_| measure()).collect::<Result<Vec<f64>, _>>()?;
    Ok(middle(&mut times))
}

fn middle(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
