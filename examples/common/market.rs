//! Reading daily bars and index levels from CSV files; a bad row is an error with file and line.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use modelkeep::Day;

/// Daily bars of one symbol, in columns `[n]`, in order of the days.
#[derive(Debug, Default)]
pub struct Bars {
    pub symbol: String,
    pub days: Vec<Day>,
    pub open: Vec<f64>,
    pub high: Vec<f64>,
    pub low: Vec<f64>,
    pub close: Vec<f64>,
    pub volume: Vec<f64>,
}

impl Bars {
    pub fn len(&self) -> usize {
        self.days.len()
    }
}

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

/// Reads `DIR/daily/SYMBOL.csv`: `date,open,high,low,close,volume`.
pub fn read_bars(dir: &Path, symbol: &str) -> Result<Bars, BadData> {
    let path = dir.join("daily").join(format!("{symbol}.csv"));
    let mut bars = Bars { symbol: symbol.to_owned(), ..Bars::default() };
    read_rows(&path, &["date", "open", "high", "low", "close", "volume"], |day, values| {
        let [open, high, low, close, volume] = *values else {
            return Err("expected five numbers after the date".into());
        };
        if low > open.min(close) || high < open.max(close) {
            return Err(format!("low {low} <= open {open}, close {close} <= high {high} does not hold"));
        }
        if low <= 0.0 || volume < 0.0 {
            return Err(format!("a price {low} or a volume {volume} is not possible"));
        }
        bars.days.push(day);
        bars.open.push(open);
        bars.high.push(high);
        bars.low.push(low);
        bars.close.push(close);
        bars.volume.push(volume);
        Ok(())
    })?;
    Ok(bars)
}

/// Reads `DIR/vix.csv`: `date,close`.
pub fn read_vix(dir: &Path) -> Result<Vec<(Day, f64)>, BadData> {
    let mut levels = Vec::new();
    read_rows(&dir.join("vix.csv"), &["date", "close"], |day, values| match *values {
        [level] if level > 0.0 => {
            levels.push((day, level));
            Ok(())
        }
        _ => Err(format!("expected one positive level, found {values:?}")),
    })?;
    Ok(levels)
}

/// Reads rows of a date and numbers, dates ascending.
fn read_rows(
    path: &Path,
    header: &[&str],
    mut take: impl FnMut(Day, &[f64]) -> Result<(), String>,
) -> Result<(), BadData> {
    let mut reader = csv::Reader::from_path(path).map_err(|err| bad(path, None, err))?;
    let found = reader.headers().map_err(|err| bad(path, Some(1), err))?;
    if found.iter().ne(header.iter().copied()) {
        return Err(bad(path, Some(1), format!("expected the header {}", header.join(","))));
    }
    let (mut before, mut values) = (None, Vec::with_capacity(header.len()));
    for row in reader.records() {
        let row = row.map_err(|err| bad(path, err.position().map(csv::Position::line), &err))?;
        let line = row.position().map(csv::Position::line);
        let mut fields = row.iter();
        let date = fields.next().unwrap_or_default();
        let day: Day = date.parse().map_err(|_| bad(path, line, format!("{date:?} is no date YYYY-MM-DD")))?;
        if before.is_some_and(|before| before >= day) {
            return Err(bad(path, line, format!("{day} is not after the row before it")));
        }
        before = Some(day);
        values.clear();
        for field in fields {
            match field.parse::<f64>() {
                Ok(value) if value.is_finite() => values.push(value),
                _ => return Err(bad(path, line, format!("{field:?} is no finite number"))),
            }
        }
        take(day, &values).map_err(|reason| bad(path, line, reason))?;
    }
    match before {
        Some(_) => Ok(()),
        None => Err(bad(path, None, "it has no rows")),
    }
}
