//! Scans a universe of generated symbols for breakouts: cold, warm, after a restart, after a day of changes, and after
//! some bars were restated.
//!
//!     cargo run --release --example scan -- --symbols 5000
//!
//! A symbol breaks out when its last close lies above the highs of the 20 bars before it. After a change only what
//! changed is computed; every run is compared with one that computes everything.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line program prints, and says how long it took"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    disk::{Access, Disk, Fault},
    market::{Bar, Bars, Calendar, Changes, FetchError, MarketState, ScanOptions, Timeframe},
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

#[path = "common/table.rs"]
#[allow(dead_code, reason = "shared with the other examples")]
mod table;

/// Scan a universe of generated symbols, and say how long each way of doing it takes
#[derive(Parser)]
struct Args {
    /// How many symbols
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    symbols: u32,
    /// Where random choices begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the store in this file, which must not be there yet; default: a temporary folder
    #[arg(long)]
    store: Option<PathBuf>,
    /// A line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Bars before the last one that it has to rise above.
const LOOKBACK: usize = 20;
/// Longer than the sessions of the lookback and the last one take, with weekends and holidays.
const LOOKBACK_SPAN: Duration = Duration::from_secs(40 * 86_400);
/// One symbol in so many is restated.
const RESTATED_SHARE: usize = 50;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Whether each symbol broke out on its last day.
type Signals = BTreeMap<Symbol, bool>;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("scan: {err}");
            ExitCode::FAILURE
        }
    }
}

/// Counts the syncs of a store.
#[derive(Debug, Default)]
struct Syncs(AtomicU64);

impl Disk for Syncs {
    fn before(&self, access: &Access<'_>) -> std::result::Result<(), Fault> {
        self.0.fetch_add(u64::from(matches!(access, Access::Sync { .. })), Ordering::Relaxed);
        Ok(())
    }
}

/// What one run took.
struct Step {
    name: &'static str,
    time: Duration,
    computed: usize,
    calls: u64,
    syncs: u64,
}

/// Two years of daily bars of every symbol, and the last day apart.
struct Universe {
    bars: BTreeMap<Symbol, Bars>,
    symbols: Vec<Symbol>,
    last_day: Timestamp,
}

impl Universe {
    fn generate(symbols: u32, seed: u64) -> Result<Self> {
        let days: Vec<Timestamp> =
            Calendar::nyse().sessions(Interval::parse("2017-01-01", "2019-01-01")?).map(|s| s.day.start()).collect();
        let last_day = *days.last().ok_or("the calendar has no sessions")?;
        let mut bars = BTreeMap::new();
        for n in 0..symbols {
            bars.insert(Symbol::new(&format!("S{n:05}"))?, walk(&days, seed.wrapping_add(u64::from(n))));
        }
        Ok(Self { symbols: bars.keys().cloned().collect(), bars, last_day })
    }

    /// The whole market of an interval, as a vendor answers.
    fn answer(&self, symbols: &[Symbol], asked: Interval<Timestamp>) -> Vec<(Symbol, Bars)> {
        let of = |bars: &Bars| {
            let row = |at| bars.timestamps().partition_point(|row| *row < at);
            bars.slice(row(asked.start())..row(asked.end()))
        };
        symbols.iter().filter_map(|symbol| Some((symbol.clone(), of(self.bars.get(symbol)?)))).collect()
    }
}

/// A random walk in cents.
fn walk(days: &[Timestamp], seed: u64) -> Bars {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut cents = random.gen_range(500..50_000);
    let price = |cents: i32| f64::from(cents) / 100.0;
    let bar = |at: &Timestamp| {
        let open = cents;
        cents = (cents + random.gen_range(-cents / 40..=cents / 40)).max(100);
        let (high, low) = (open.max(cents) + random.gen_range(0..30), open.min(cents) - random.gen_range(0..30));
        let volume = f64::from(random.gen_range(1_000..2_000_000)) * 100.0;
        Bar { at: *at, open: price(open), high: price(high), low: price(low), close: price(cents), volume }
    };
    days.iter().map(bar).collect()
}

/// Whether the last bar closed above the highs of those before it.
fn breaks_out(bars: &Bars) -> bool {
    let Some(last) = bars.len().checked_sub(1) else { return false };
    let before = bars.slice(last.saturating_sub(LOOKBACK)..last);
    let high = before.high().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    !before.is_empty() && bars.last().is_some_and(|bar| bar.close > high)
}

/// Scans everything.
fn scan_all(store: &Store) -> Result<Signals> {
    let scan = store.scan_bars(Timeframe::DAY, ScanOptions::default())?;
    scan.map(|found| found.map(|(symbol, bars)| (symbol, breaks_out(&bars))).map_err(Into::into)).collect()
}

/// Scans what changed since a state, and says how many symbols that were.
fn scan_changed(store: &Store, since: &MarketState, last_day: Timestamp, signals: &mut Signals) -> Result<usize> {
    let changed = match store.changed_since(since)? {
        Changes::Series(changed) => changed,
        Changes::Everything { reason } => return Err(reason.into()),
        other => return Err(format!("{other:?}").into()),
    };
    let recent = Interval::new(last_day.before(LOOKBACK_SPAN), last_day.day().next().start())?;
    // What lies before the lookback is in no signal.
    let concerns = |rows: &Interval<Timestamp>| rows.end() > recent.start();
    let symbols: Vec<_> = changed
        .into_iter()
        .filter(|changed| changed.timeframe == Timeframe::DAY && changed.intervals.iter().any(concerns))
        .map(|changed| changed.symbol)
        .collect();
    let computed = symbols.len();
    // A series that was removed is among the changed ones, and no scan hands it out: its signal goes.
    signals.retain(|symbol, _| !symbols.contains(symbol));
    let scan = store.scan_bars(Timeframe::DAY, ScanOptions::default().symbols(symbols).interval(recent))?;
    for found in scan {
        let (symbol, bars) = found?;
        signals.insert(symbol, breaks_out(&bars));
    }
    Ok(computed)
}

fn run(args: &Args) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let path = args.store.clone().unwrap_or_else(|| temporary.path().join("market.redb"));
    if path.exists() {
        return Err(format!("{} is there already: a cold run needs a new file", path.display()).into());
    }
    let universe = Universe::generate(args.symbols, args.seed)?;
    let steps = measure(&universe, &path)?;
    report(&steps, args);
    Ok(())
}

/// Runs every step, and compares what it came to with a scan of everything.
fn measure(universe: &Universe, path: &Path) -> Result<Vec<Step>> {
    let disk = Arc::new(Syncs::default());
    let open = || Store::options().disk(Arc::<Syncs>::clone(&disk)).open(path);
    let all = Interval::<Day>::parse("2017-01-01", "2019-01-01")?.span();
    let but_one = Interval::new(all.start(), universe.last_day)?;
    let vendor = |symbols: &[Symbol], _: Timeframe, asked: Interval<Timestamp>| {
        Ok::<_, FetchError>(universe.answer(symbols, asked))
    };
    let mut steps = Vec::new();
    let mut note = |name, started: Instant, computed, calls| {
        let syncs = disk.0.swap(0, Ordering::Relaxed);
        steps.push(Step { name, time: started.elapsed(), computed, calls, syncs });
    };
    let load = |store: &Store, interval| -> Result<u64> {
        let loaded = store.load_or_fetch_many(&universe.symbols, Timeframe::DAY, interval, &vendor)?;
        let calls = loaded.report.calls;
        drop(loaded.complete()?);
        Ok(calls)
    };

    let started = Instant::now();
    let store = open()?;
    let calls = load(&store, but_one)?;
    let cold = scan_all(&store)?;
    note("cold", started, cold.len(), calls);

    let started = Instant::now();
    let warm = scan_all(&store)?;
    note("warm", started, warm.len(), 0);
    check(&cold, &warm, "warm")?;
    let state = store.market_state()?.to_string();
    store.close()?;

    let started = Instant::now();
    let store = open()?;
    let mut signals = scan_all(&store)?;
    note("restart", started, signals.len(), 0);
    check(&cold, &signals, "restarted")?;

    // The state was kept as text, beside the signals.
    let started = Instant::now();
    let calls = load(&store, all)?;
    let computed = scan_changed(&store, &state.parse()?, universe.last_day, &mut signals)?;
    note("changed", started, computed, calls);
    check(&scan_all(&store)?, &signals, "changed")?;

    let state = store.market_state()?;
    let started = Instant::now();
    store.write_many(Timeframe::DAY, &restated(universe))?;
    let computed = scan_changed(&store, &state, universe.last_day, &mut signals)?;
    note("restated", started, computed, 0);
    check(&scan_all(&store)?, &signals, "restated")?;
    Ok(steps)
}

/// A higher high of the day before the last, for some of the symbols.
fn restated(universe: &Universe) -> Vec<(Symbol, Bars)> {
    let some = universe.bars.iter().step_by(RESTATED_SHARE);
    some.filter_map(|(symbol, bars)| {
        let bar = bars.get(bars.len().checked_sub(2)?)?;
        Some((symbol.clone(), Bars::from_iter([Bar { high: bar.high + 100.0, ..bar }])))
    })
    .collect()
}

fn check(expected: &Signals, found: &Signals, what: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let differs = expected.iter().find(|(symbol, signal)| found.get(*symbol) != Some(*signal));
    Err(format!("the {what} scan differs from one of everything: {differs:?}").into())
}

fn report(steps: &[Step], args: &Args) {
    let ms = |step: &Step| step.time.as_secs_f64() * 1e3;
    let (calls, syncs) = steps.iter().fold((0, 0), |(calls, syncs), step| (calls + step.calls, syncs + step.syncs));
    if args.json {
        let mut fields: Vec<String> =
            steps.iter().map(|step| format!("\"{}_ms\":{:.3}", step.name, ms(step))).collect();
        fields.extend([format!("\"symbols\":{}", args.symbols), format!("\"calls\":{calls}")]);
        fields.push(format!("\"syncs\":{syncs}"));
        println!("{{{}}}", fields.join(","));
        return;
    }
    let mut shown = table::table(&["scan", "time", "symbols computed", "calls", "syncs"], &[1, 2, 3, 4]);
    for step in steps {
        shown.add_row([
            step.name.to_owned(),
            table::human_us(step.time.as_secs_f64() * 1e6),
            step.computed.to_string(),
            step.calls.to_string(),
            step.syncs.to_string(),
        ]);
    }
    println!("{shown}");
}
