//! Levels from and to CSV files.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::Write,
    path::Path,
};

use super::series::LevelSeries;
use crate::{
    market::{
        bars::bar::BadRows,
        csv::{
            options::{CsvOptions, Imported, LeftOutRows},
            read::{CsvFile, is_missing},
            times,
            write::write_whole,
        },
    },
    types::{error::Result, interval::Interval, time::Day},
};

/// Names of the column of levels, the first that there is; else it is the last column.
const VALUE_NAMES: [&str; 4] = ["close", "value", "level", "vix_close"];

impl LevelSeries<'_> {
    /// Reads daily levels from a CSV file and writes them, in one durable transaction; says what it left out, and why.
    /// `options` are [`CsvOptions`], or [`BadRows`] alone.
    ///
    /// The first line names the columns: `date` (or `timestamp`, `datetime`, `time`, `observation_date`), and the level
    /// in `close`, `value`, `level` or `vix_close`, else in the last column. Days are days; a time is of the day that
    /// it is in the zone of the options, or in UTC. A row without a level (`null`, `NaN`, `N/A`, `.` or nothing) is
    /// left out and counted. [`BadRows::LeaveOut`] also leaves out levels that are not finite, and all but the last of
    /// the levels of one day; they are refused otherwise, for levels have no flaws to be kept with.
    ///
    /// ```
    /// # use modelkeep::{Store, market::BadRows};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("VIX.csv");
    /// # let store = Store::in_memory()?;
    /// std::fs::write(&path, "DATE,OPEN,HIGH,LOW,CLOSE\n2018-12-24,31.84,36.1,31.84,36.07\n2018-12-25,,,,\n")?;
    /// let vix = store.levels("^VIX")?;
    /// let imported = vix.import_csv(&path, BadRows::Refuse)?;
    /// assert_eq!((imported.rows.added, imported.left_out_rows()), (1, 1));
    /// assert_eq!(vix.at("2018-12-24".parse()?)?, Some(36.07));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` or `Io` when the file cannot be read; `InvalidInput`, naming the line, for what is no time or no
    /// number, and for what is refused. Nothing is written then. Otherwise what a write can fail with.
    pub fn import_csv(&self, path: impl AsRef<Path>, options: impl Into<CsvOptions>) -> Result<Imported> {
        let options = options.into();
        let leaves_out = options.bad_rows == BadRows::LeaveOut;
        let file = CsvFile::open("import levels", path.as_ref())?;
        let mut rows = file.rows()?;
        let time = rows.time_column()?;
        let named = VALUE_NAMES.iter().map(|name| rows.column(name)).collect::<Result<Vec<_>>>()?;
        let named = named.into_iter().flatten().next();
        let last = rows.columns().checked_sub(1).filter(|last| *last != time);
        let column = named.or(last).ok_or_else(|| rows.no_column("of levels"))?;
        let mut levels: BTreeMap<Day, (f64, u64)> = BTreeMap::new();
        let mut left_out = LeftOutRows::default();
        while let Some(line) = rows.advance(&mut |_| {})? {
            let text = rows.field(column);
            if is_missing(text) {
                left_out.add(if rows.is_empty() { "an empty row" } else { "no level" }, line);
                continue;
            }
            let day = times::day(rows.field(time), options.zone).map_err(|message| file.refuse(line, message))?;
            let level: f64 = text.parse().map_err(|_| file.refuse(line, format!("{text:?} is no number")))?;
            if !level.is_finite() {
                if !leaves_out {
                    return Err(file.refuse(line, format!("the level of {day} is {level}")));
                }
                left_out.add("not finite", line);
                continue;
            }
            match levels.entry(day) {
                Entry::Vacant(free) => {
                    free.insert((level, line));
                }
                Entry::Occupied(before) if !leaves_out => {
                    return Err(file.refuse(line, format!("{day} has a level in line {} already", before.get().1)));
                }
                Entry::Occupied(mut before) => {
                    left_out.add("a later row is of the same time", before.insert((level, line)).1);
                }
            }
        }
        let levels: Vec<(Day, f64)> = levels.into_iter().map(|(day, (level, _))| (day, level)).collect();
        let (calendar, now) = (self.covered.calendar()?, self.covered.market.core.now());
        let count = |holds: &dyn Fn(Day) -> bool| levels.iter().filter(|(day, _)| holds(*day)).count() as u64;
        let outside_sessions = count(&|day| calendar.known().contains(day) && calendar.session(day).is_none());
        let not_ended = count(&|day| self.available_by(&calendar, day) > now);
        let rows = self.write(&levels)?;
        Ok(Imported { rows, left_out: left_out.into_sorted(), outside_sessions, not_ended })
    }

    /// Writes the levels of the days in `range` to a CSV file of `date,close`, which appears when it is whole, and
    /// returns how many there were.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("VIX.csv");
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("^VIX")?;
    /// vix.write(&[("2018-12-24".parse()?, 36.07)])?;
    /// assert_eq!(vix.export_csv(&path, Interval::parse("2018-12-01", "2019-01-01")?)?, 1);
    /// assert_eq!(std::fs::read_to_string(&path)?, "date,close\n2018-12-24,36.07\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range); `Io` when the file cannot be written.
    pub fn export_csv(&self, path: impl AsRef<Path>, range: Interval<Day>) -> Result<u64> {
        let levels = self.range(range)?;
        write_whole("export levels", path.as_ref(), |out| {
            writeln!(out, "date,close")?;
            levels.iter().try_for_each(|(day, level)| writeln!(out, "{day},{level}"))
        })?;
        Ok(levels.len() as u64)
    }
}
