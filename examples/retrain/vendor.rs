//! A vendor of daily bars: it serves real files, takes its time, and counts who asks.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use modelkeep::{
    Day, Interval, Symbol, Timestamp,
    market::{Answer, Bar, BarFetcher, Bars, FetchError, Timeframe},
};

/// What stands in for a vendor's server.
pub struct Vendor {
    bars: BTreeMap<Symbol, Vec<Bar>>,
    latency: Duration,
    calls: AtomicU64,
}

/// A file, or a line of it, that is not what it should be.
#[derive(Debug)]
pub struct BadFile(PathBuf, Option<u64>, String);

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, line, reason) = self;
        match line {
            Some(line) => write!(f, "{}:{line}: {reason}", path.display()),
            None => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for BadFile {}

impl Vendor {
    /// Reads `DIR/daily/SYMBOL.csv` and `DIR/universe.csv`.
    pub fn new(dir: &Path, latency: Duration) -> Result<Self, BadFile> {
        let mut bars = BTreeMap::new();
        let daily = dir.join("daily");
        let bad = |path: &Path, reason: &dyn fmt::Display| BadFile(path.to_owned(), None, reason.to_string());
        for entry in fs::read_dir(&daily).map_err(|err| bad(&daily, &err))?.flatten() {
            let path = entry.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            read(&path, Some(name), &mut bars)?;
        }
        read(&dir.join("universe.csv"), None, &mut bars)?;
        Ok(Self { bars, latency, calls: AtomicU64::new(0) })
    }

    /// Whom there are bars of.
    pub fn symbols(&self) -> Vec<Symbol> {
        self.bars.keys().cloned().collect()
    }

    /// Calls since this was last asked.
    pub fn calls(&self) -> u64 {
        self.calls.swap(0, Ordering::Relaxed)
    }
}

impl BarFetcher for Vendor {
    fn fetch(&self, symbol: &Symbol, _: Timeframe, interval: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.latency);
        let bars =
            self.bars.get(symbol).ok_or_else(|| FetchError::permanent(format!("{symbol} is not traded here")))?;
        // A folder: what is not in it now never will be.
        let asked: Bars = bars.iter().filter(|bar| interval.contains(bar.at)).copied().collect();
        Ok(Answer::new(asked).all_there_is())
    }
}

/// Reads rows of a day, a symbol unless it is given, open, high, low, close and volume.
fn read(path: &Path, symbol: Option<&str>, bars: &mut BTreeMap<Symbol, Vec<Bar>>) -> Result<(), BadFile> {
    let bad = |line: Option<u64>, reason: String| BadFile(path.to_owned(), line, reason);
    let mut reader = csv::Reader::from_path(path).map_err(|err| bad(None, err.to_string()))?;
    for row in reader.records() {
        let row = row.map_err(|err| bad(err.position().map(csv::Position::line), err.to_string()))?;
        let line = row.position().map(csv::Position::line);
        let mut fields = row.iter();
        let day: Day = fields
            .next()
            .and_then(|day| day.parse().ok())
            .ok_or_else(|| bad(line, "it does not begin with a date".into()))?;
        let name = symbol.or_else(|| fields.next()).unwrap_or_default();
        let name = Symbol::new(name).map_err(|err| bad(line, err.to_string()))?;
        let numbers: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
        let [open, high, low, close, volume] = numbers[..] else {
            return Err(bad(line, "expected open, high, low, close and volume".into()));
        };
        bars.entry(name).or_default().push(Bar { at: day.start(), open, high, low, close, volume });
    }
    Ok(())
}
