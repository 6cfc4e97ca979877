//! How a CSV file is read, and what an import says about it.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use crate::{
    market::bars::bar::BadRows,
    types::{
        error::{Error, Result},
        row_changes::RowChanges,
    },
};

/// How a CSV file is read. [`BadRows`] alone stands for options that say nothing else.
///
/// ```
/// use modelkeep::market::{BadRows, CsvOptions};
///
/// let options = CsvOptions::new().bad_rows(BadRows::LeaveOut).zone("America/New_York")?;
/// # let _ = options;
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub struct CsvOptions {
    pub(crate) bad_rows: BadRows,
    pub(crate) zone: Option<Tz>,
}

impl CsvOptions {
    /// Returns the default: rows that cannot be right are refused, and a time without an offset is UTC.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do with rows that cannot be right. Default: [`BadRows::Refuse`].
    pub fn bad_rows(mut self, bad_rows: BadRows) -> Self {
        self.bad_rows = bad_rows;
        self
    }

    /// Which time zone times without an offset are of, by its name in the IANA database: `America/New_York`. Default:
    /// UTC. A time that does not exist there, because clocks go forward, or that occurs twice is an error that names
    /// the line. Days are days in every zone; in a series of days, midnight in this zone is the day.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none.
    pub fn zone(mut self, name: &str) -> Result<Self> {
        let zone = name.parse().map_err(|_| {
            Error::invalid("read time zone", name, "the IANA database has no zone of this name (`America/New_York`)")
        })?;
        self.zone = Some(zone);
        Ok(self)
    }
}

impl From<BadRows> for CsvOptions {
    fn from(bad_rows: BadRows) -> Self {
        Self::new().bad_rows(bad_rows)
    }
}

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

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// What was done to stored rows.
    pub rows: RowChanges,
    /// Rows of the file that were left out, by reason, in order of their first lines.
    pub left_out: Vec<RowsLeftOut>,
    /// Rows, of those that were kept, that lie outside of the sessions of the series' calendar. Many say that the zone
    /// of the file's times is another one, or the calendar.
    pub outside_sessions: u64,
    /// Rows, of those that were kept, that had not ended yet by the store's clock.
    pub not_ended: u64,
}

impl Imported {
    /// Returns how many rows of the file were left out, for whatever reason.
    #[must_use]
    pub fn left_out_rows(&self) -> u64 {
        self.left_out.iter().map(|left_out| left_out.rows).sum()
    }
}

/// Rows of a file that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowsLeftOut {
    /// Why: what they have in common.
    pub reason: String,
    /// How many they are.
    pub rows: u64,
    /// The line of the first.
    pub first_line: u64,
}

/// Counts rows that are left out.
#[derive(Debug, Default)]
pub(crate) struct LeftOutRows(BTreeMap<String, (u64, u64)>);

impl LeftOutRows {
    pub(crate) fn add(&mut self, reason: impl Into<String>, line: u64) {
        let (rows, first_line) = self.0.entry(reason.into()).or_insert((0, line));
        *rows += 1;
        *first_line = line.min(*first_line);
    }

    /// Counts all but the last of the rows that have one time: `times` and `lines` belong together.
    pub(crate) fn add_repeated<T: Ord + Copy>(&mut self, times: impl Iterator<Item = T>, lines: &[u64]) {
        let mut rows: Vec<(T, u64)> = times.zip(lines.iter().copied()).collect();
        rows.sort_unstable();
        for ((_, line), _) in rows.iter().zip(rows.iter().skip(1)).filter(|((a, _), (b, _))| a == b) {
            self.add("a later row is of the same time", *line);
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<RowsLeftOut> {
        let rows = self.0.into_iter().map(|(reason, (rows, first_line))| RowsLeftOut { reason, rows, first_line });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|left_out| left_out.first_line);
        rows
    }
}
