//! Daily bars by way of a store, and index levels from a CSV file; a bad row is an error that names the file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use modelkeep::{
    Day, Interval, Store,
    market::{BadRows, Bars, Timeframe},
};

/// A row, or a file, that is not what it should be.
#[derive(Debug)]
pub struct BadData {
    path: PathBuf,
    line: Option<u64>,
    reason: String,
}

impl fmt::Display for BadData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.reason),
            None => write!(f, "{}: {}", self.path.display(), self.reason),
        }
    }
}

impl std::error::Error for BadData {}

fn bad(path: &Path, line: Option<u64>, reason: impl fmt::Display) -> BadData {
    BadData { path: path.to_owned(), line, reason: reason.to_string() }
}

/// The symbols that `DIR/daily/*.csv` holds, in order.
pub fn symbols(dir: &Path) -> Result<Vec<String>, BadData> {
    let daily = dir.join("daily");
    let entries = fs::read_dir(&daily).map_err(|err| bad(&daily, None, err))?;
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".csv").map(ToOwned::to_owned)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    if names.is_empty() {
        return Err(bad(&daily, None, "there are no .csv files in it"));
    }
    Ok(names)
}

/// Imports `DIR/daily/SYMBOL.csv` (`date,open,high,low,close,volume`) into `store`, and returns the bars that the store
/// has then. A row that cannot be right is refused, and nothing of the file is written.
pub fn import_bars(store: &Store, dir: &Path, symbol: &str) -> Result<Bars, BadData> {
    let path = dir.join("daily").join(format!("{symbol}.csv"));
    let imported = || {
        let series = store.bars(symbol, Timeframe::DAY)?;
        series.import_csv(&path, BadRows::Refuse, |_| {})?;
        series.range(Interval::all_time())
    };
    let bars = imported().map_err(|err| bad(&path, None, err.message()))?;
    if bars.is_empty() {
        return Err(bad(&path, None, "it has no rows"));
    }
    Ok(bars)
}

/// Reads `DIR/vix.csv`: `date,close`, dates ascending.
pub fn read_vix(dir: &Path) -> Result<Vec<(Day, f64)>, BadData> {
    let path = dir.join("vix.csv");
    let mut reader = csv::Reader::from_path(&path).map_err(|err| bad(&path, None, err))?;
    let mut levels: Vec<(Day, f64)> = Vec::new();
    for row in reader.deserialize() {
        let (day, level): (String, f64) =
            row.map_err(|err: csv::Error| bad(&path, err.position().map(csv::Position::line), &err))?;
        let line = Some(levels.len() as u64 + 2);
        let day: Day = day.parse().map_err(|_| bad(&path, line, format!("{day:?} is no date YYYY-MM-DD")))?;
        if levels.last().is_some_and(|before| before.0 >= day) {
            return Err(bad(&path, line, format!("{day} is not after the row before it")));
        }
        if !(level.is_finite() && level > 0.0) {
            return Err(bad(&path, line, format!("{level} is no positive level")));
        }
        levels.push((day, level));
    }
    if levels.is_empty() { Err(bad(&path, None, "it has no rows")) } else { Ok(levels) }
}
