//! Bars from and to CSV files.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use super::{series::BarSeries, stream::Spool};
use crate::{
    market::bars::bar::{BadRows, Bar},
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        row_changes::RowChanges,
        time::{Day, Timestamp},
    },
};

/// How far an import or an export is: for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows that were read or written.
    pub rows: u64,
    /// Bytes of the file that were read, or rows that were written.
    pub done: u64,
    /// What `done` will be in the end.
    pub total: u64,
}

/// Rows between two calls of a progress callback.
const ROWS_PER_REPORT: u64 = 4096;

/// Names that the first column goes by.
const TIME_NAMES: [&str; 4] = ["timestamp", "date", "datetime", "time"];

const VALUE_NAMES: [&str; 5] = ["open", "high", "low", "close", "volume"];

impl BarSeries<'_> {
    /// Reads bars from a CSV file and writes them, in one durable transaction that begins when all are read: see
    /// [`write_iter`](Self::write_iter). `progress` is called every 4,096 rows, and when the last was read.
    ///
    /// The first line names the columns: `timestamp` (or `date`, `datetime`, `time`), `open`, `high`, `low`, `close`
    /// and `volume`, in any order and any case; others are left out. Times are RFC 3339 (`2018-12-24T14:30:00Z`,
    /// `2018-12-24T09:30:00-05:00`), or without an offset (`2018-12-24 14:30:00`), or days (`2018-12-24`), which stand
    /// for midnight UTC. **A time without an offset is UTC**: the local times of an exchange have to be converted
    /// before.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{BadRows, Timeframe}};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("SPY.csv");
    /// # let store = Store::in_memory()?;
    /// std::fs::write(&path, "date,open,high,low,close,volume\n2018-12-31,249.6,250.2,247.5,249.9,144299400\n")?;
    /// let series = store.bars("SPY", Timeframe::DAY)?;
    /// let written = series.import_csv(&path, BadRows::Refuse, |progress| println!("{} rows", progress.rows))?;
    /// assert_eq!((written.added, series.range(Interval::all_time())?.close()), (1, &[249.9][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` or `Io` when the file cannot be read. `InvalidInput`, naming the line, for what is no time or no
    /// number; and, naming the row, what [`write_with`](Self::write_with) refuses. Nothing is written then.
    pub fn import_csv(
        &self,
        path: impl AsRef<Path>,
        bad_rows: BadRows,
        progress: impl FnMut(Progress),
    ) -> Result<RowChanges> {
        let path = path.as_ref();
        let failed = |err| failed("import bars", path, err);
        let file = File::open(path).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        self.check_given("write bars")?;
        let mut spool = Spool::new(&self.id, bad_rows);
        parse(BufReader::new(file), path, total, progress, |bar| spool.push(&bar))?;
        self.write_spooled(spool)
    }

    /// Writes the bars of `interval` to a CSV file, which appears when it is whole, and returns how many there were.
    /// What is read back from it is the same to the last bit, but for the payloads of NaNs. `progress` is called every
    /// 4,096 rows, and at the end.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{Bar, Bars, Timeframe}};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("SPY.csv");
    /// # let store = Store::in_memory()?;
    /// # let at = "2018-12-31T00:00:00Z".parse()?;
    /// let series = store.bars("SPY", Timeframe::DAY)?;
    /// series.write(&Bars::from_iter([Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e6 }]))?;
    /// assert_eq!(series.export_csv(&path, Interval::all_time(), |_| {})?, 1);
    /// assert!(std::fs::read_to_string(&path)?.ends_with("2018-12-31,249.6,250.2,247.5,249.9,1000000\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range); `Io` when the file cannot be written.
    pub fn export_csv(
        &self,
        path: impl AsRef<Path>,
        interval: Interval<Timestamp>,
        mut progress: impl FnMut(Progress),
    ) -> Result<u64> {
        let path = path.as_ref();
        let bars = self.range(interval)?;
        let total = bars.len() as u64;
        let temporary = temporary(path);
        let written = File::create_new(&temporary).and_then(|file| {
            let mut out = BufWriter::new(file);
            let time = if self.timeframe().is_daily() { "date" } else { "timestamp" };
            writeln!(out, "{time},{}", VALUE_NAMES.join(","))?;
            for (row, bar) in bars.iter().enumerate() {
                let Bar { at, open, high, low, close, volume } = bar;
                let is_day = self.timeframe().is_daily() && at.day().start() == at;
                let at = if is_day { at.day().to_string() } else { at.to_string() };
                writeln!(out, "{at},{open},{high},{low},{close},{volume}")?;
                if (row as u64 + 1).is_multiple_of(ROWS_PER_REPORT) {
                    progress(Progress { rows: row as u64 + 1, done: row as u64 + 1, total });
                }
            }
            out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&temporary, path)
        });
        if let Err(err) = written {
            // A file of another name that was there before is not ours to remove.
            if err.kind() != std::io::ErrorKind::AlreadyExists {
                drop(fs::remove_file(&temporary));
            }
            return Err(failed("export bars", path, err));
        }
        progress(Progress { rows: total, done: total, total });
        Ok(total)
    }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn failed(operation: &'static str, path: &Path, err: std::io::Error) -> Error {
    let kind = match err.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        _ => ErrorKind::Io,
    };
    Error::new(kind, operation, path.display().to_string(), err.to_string()).with_source(err)
}

/// Reads all rows, one after the other.
fn parse(
    input: impl Read,
    path: &Path,
    total: u64,
    mut progress: impl FnMut(Progress),
    mut take: impl FnMut(Bar) -> Result<()>,
) -> Result<()> {
    let refuse = |line: Option<u64>, message: String| {
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        Error::invalid("import bars", path.display().to_string(), format!("{place}{message}"))
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let header = reader.headers().map_err(|err| refuse(Some(1), err.to_string()))?.clone();
    let find = |names: &[&str]| {
        let found = header.iter().position(|name| names.iter().any(|known| name.eq_ignore_ascii_case(known)));
        found.ok_or_else(|| refuse(Some(1), format!("there is no column {}", names.join(" or "))))
    };
    let time = find(&TIME_NAMES)?;
    let is_time = |name: &&str| TIME_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
    if header.iter().filter(is_time).count() > 1 {
        return Err(refuse(Some(1), format!("it has several columns of {}: put them into one", TIME_NAMES.join(", "))));
    }
    let mut columns = [0; 5];
    for (column, name) in columns.iter_mut().zip(VALUE_NAMES) {
        *column = find(&[name])?;
    }
    let mut rows: u64 = 0;
    let mut row = csv::StringRecord::new();
    while reader
        .read_record(&mut row)
        .map_err(|err| refuse(err.position().map(csv::Position::line), err.to_string()))?
    {
        let line = row.position().map(csv::Position::line);
        let field = |column: usize| row.get(column).unwrap_or_default();
        let at = time_of(field(time)).ok_or_else(|| {
            refuse(line, format!("{:?} is no time like 2018-12-24T14:30:00Z or 2018-12-24", field(time)))
        })?;
        let mut values = [0.0; 5];
        for ((value, column), name) in values.iter_mut().zip(columns).zip(VALUE_NAMES) {
            let text = field(column);
            *value = text.parse().map_err(|_| refuse(line, format!("{name} {text:?} is no number")))?;
        }
        let [open, high, low, close, volume] = values;
        take(Bar { at, open, high, low, close, volume })?;
        rows += 1;
        if rows.is_multiple_of(ROWS_PER_REPORT) {
            progress(Progress { rows, done: reader.position().byte(), total });
        }
    }
    progress(Progress { rows, done: total, total });
    Ok(())
}

fn time_of(text: &str) -> Option<Timestamp> {
    match text.parse::<Day>() {
        // Nanoseconds reach from 1677 to 2262.
        Ok(day) => Some(day.start()).filter(|start| start.day() == day),
        Err(_) => text.parse().ok(),
    }
}
