//! Bars from and to CSV files.

use std::{io::Write, path::Path};

use super::{series::BarSeries, stream::Spool, validate::kind_of_flaw};
use crate::{
    market::{
        bars::bar::{BadRows, Bar},
        coverage::windows::RowPlace,
        csv::{
            options::{CsvOptions, Imported, LeftOutRows, Progress},
            read::{CsvFile, ROWS_PER_REPORT, is_missing},
            times,
            write::write_whole,
        },
    },
    types::{error::Result, interval::Interval, time::Timestamp},
};

const VALUE_NAMES: [&str; 5] = ["open", "high", "low", "close", "volume"];

/// What was left out of a file, and when the others begin, with their lines, where that matters.
#[derive(Default)]
struct Parsed {
    at: Vec<Timestamp>,
    lines: Vec<u64>,
    left_out: LeftOutRows,
    outside_sessions: u64,
    not_ended: u64,
}

impl BarSeries<'_> {
    /// Reads bars from a CSV file and writes them, in one durable transaction that begins when all are read
    /// (see [`write_iter`](Self::write_iter)); says what it left out, and why.
    /// `options` are [`CsvOptions`], or [`BadRows`] alone. `progress` is called every 4,096 rows, and at the end. The
    /// file is read into memory.
    ///
    /// The first line names the columns: `timestamp` (or `date`, `datetime`, `time`), `open`, `high`, `low`, `close`
    /// and `volume`, in any order and any case; others are left out. Times are RFC 3339 (`2018-12-24T14:30:00Z`,
    /// `2018-12-24T09:30:00-05:00`), or without an offset (`2018-12-24 14:30:00`), or days (`2018-12-24`). **A time
    /// without an offset is UTC**, unless [`CsvOptions::zone`] says of which zone it is.
    ///
    /// A row without prices (`null`, `NaN`, `N/A` or nothing, as vendors write days without trading) is left out and
    /// counted; [`BadRows::Keep`] keeps those of `NaN`, which are numbers to it. A row that lacks some of its values
    /// cannot be right: [`BadRows`] says what becomes of it. Rows outside of the sessions of the series' calendar are
    /// kept and counted: look at [`Imported::outside_sessions`], which shows a zone that was forgotten.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{BadRows, CsvOptions, Timeframe}};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("SPY.csv");
    /// # let store = Store::in_memory()?;
    /// let rows = "2018-12-31 09:30:00,249.6,250.2,247.5,249.9,1e6\n2018-12-31 09:31:00,null,null,null,null,null\n";
    /// std::fs::write(&path, format!("Datetime,Open,High,Low,Close,Volume\n{rows}"))?;
    /// let series = store.bars("SPY", Timeframe::MINUTE)?;
    /// let options = CsvOptions::new().zone("America/New_York")?;
    /// let imported = series.import_csv(&path, options, |progress| println!("{} rows", progress.rows))?;
    /// assert_eq!((imported.rows.added, imported.left_out[0].rows, imported.left_out[0].first_line), (1, 1, 3));
    /// assert_eq!(series.range(Interval::all_time())?.timestamps()[0].to_string(), "2018-12-31T14:30:00Z");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` or `Io` when the file cannot be read. `InvalidInput`, naming the line, for what is no time or no
    /// number, for a local time that does not exist or occurs twice in the zone, and for what
    /// [`write_with`](Self::write_with) refuses. Nothing is written then.
    pub fn import_csv(
        &self,
        path: impl AsRef<Path>,
        options: impl Into<CsvOptions>,
        progress: impl FnMut(Progress),
    ) -> Result<Imported> {
        self.check_given("import bars")?;
        let options = options.into();
        let file = CsvFile::open("import bars", path.as_ref())?;
        let mut spool = Spool::new(self.rules(), options.bad_rows);
        let Parsed { at, lines, mut left_out, outside_sessions, not_ended } =
            self.parse(&file, options, progress, &mut spool)?;
        left_out.add_repeated(at.into_iter(), &lines);
        let rows = self.write_spooled(spool)?;
        Ok(Imported { rows, left_out: left_out.into_sorted(), outside_sessions, not_ended })
    }

    /// Reads all rows, and spools those that are not left out.
    fn parse(
        &self,
        file: &CsvFile,
        options: CsvOptions,
        mut progress: impl FnMut(Progress),
        spool: &mut Spool<'_>,
    ) -> Result<Parsed> {
        let mut rows = file.rows()?;
        let time = rows.time_column()?;
        let mut columns = [0; 5];
        for (column, name) in columns.iter_mut().zip(VALUE_NAMES) {
            *column = rows.column(name)?.ok_or_else(|| rows.no_column(name))?;
        }
        let is_daily = self.timeframe().is_daily();
        let (judged, now) = (self.covered.judged()?, self.covered.market.core.now());
        let judge = self.covered.judge(&judged, now);
        let mut parsed = Parsed::default();
        while let Some(line) = rows.advance(&mut progress)? {
            if rows.is_empty() {
                parsed.left_out.add("an empty row", line);
                continue;
            }
            let at = times::timestamp(rows.field(time), options.zone, is_daily);
            let at = at.map_err(|message| file.refuse(line, message))?;
            let values = values(columns.map(|column| rows.field(column)), options.bad_rows);
            match values.map_err(|message| file.refuse(line, message))? {
                Values::LeftOut(reason) => parsed.left_out.add(reason, line),
                Values::Numbers([open, high, low, close, volume]) => {
                    let bar = Bar { at, open, high, low, close, volume };
                    match kind_of_flaw(self.rules(), &bar) {
                        Some(reason) if options.bad_rows == BadRows::LeaveOut => parsed.left_out.add(reason, line),
                        _ => {
                            let pushed = spool.push_named(&bar, || format!("line {line}"));
                            pushed.map_err(|err| file.refuse_all(err.message()).with_source(err))?;
                            parsed.outside_sessions += u64::from(judge.place_of(at) != RowPlace::Session);
                            parsed.not_ended += u64::from(judge.calendar.bar_end(at, self.timeframe()) > now);
                            if options.bad_rows != BadRows::Refuse {
                                parsed.at.push(at);
                                parsed.lines.push(line);
                            }
                        }
                    }
                }
            }
        }
        Ok(parsed)
    }

    /// Writes the bars of `interval` to a CSV file, which appears when it is whole, and returns how many there were.
    /// What is read back from it with [`BadRows::Keep`] is the same to the last bit, but for the payloads of NaNs.
    /// `progress` is called every 4,096 rows, and at the end.
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
        let bars = self.range(interval)?;
        let total = bars.len() as u64;
        write_whole("export bars", path.as_ref(), |out| {
            let time = if self.timeframe().is_daily() { "date" } else { "timestamp" };
            writeln!(out, "{time},{}", VALUE_NAMES.join(","))?;
            for (row, bar) in (1..).zip(bars.iter()) {
                let Bar { at, open, high, low, close, volume } = bar;
                let is_day = self.timeframe().is_daily() && at.day().start() == at;
                let at = if is_day { at.day().to_string() } else { at.to_string() };
                writeln!(out, "{at},{open},{high},{low},{close},{volume}")?;
                if u64::is_multiple_of(row, ROWS_PER_REPORT) {
                    progress(Progress { rows: row, done: row, total });
                }
            }
            Ok(())
        })?;
        progress(Progress { rows: total, done: total, total });
        Ok(total)
    }
}

/// What the values of a row are.
enum Values {
    Numbers([f64; 5]),
    LeftOut(&'static str),
}

/// Reads the values of a row: an error for what is no number, or for one that is missing and must not be.
fn values(texts: [&str; 5], bad_rows: BadRows) -> std::result::Result<Values, String> {
    let [prices @ .., _] = texts;
    let are_numbers = bad_rows == BadRows::Keep && prices.iter().all(|text| text.eq_ignore_ascii_case("nan"));
    if !are_numbers && prices.iter().all(|text| is_missing(text)) {
        return Ok(Values::LeftOut("no prices"));
    }
    let mut values = [f64::NAN; 5];
    let mut lacks = None;
    for ((value, text), name) in values.iter_mut().zip(texts).zip(VALUE_NAMES) {
        if is_missing(text) {
            lacks = lacks.or(Some((name, text)));
        } else {
            *value = text.parse().map_err(|_| format!("{name} {text:?} is no number"))?;
        }
    }
    match (lacks, bad_rows) {
        (Some((name, text)), BadRows::Refuse) => Err(format!("{name} is missing: {text:?}")),
        (Some(_), BadRows::LeaveOut) => Ok(Values::LeftOut("a value is missing")),
        _ => Ok(Values::Numbers(values)),
    }
}
