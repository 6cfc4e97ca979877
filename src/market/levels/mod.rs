//! Daily levels of index series: VIX, and any other index by name.
//!
//! Stored as one sealed record per series and calendar year, days and levels in columns. A level is finite; a day has
//! one level, and writing it again replaces it.

pub(crate) mod series;

use std::collections::BTreeMap;

use crate::{
    engine::{Batch, Reader, Table, sealed},
    types::{
        error::{Error, Result},
        hash::Digest,
        interval::Interval,
        key::{
            Symbol,
            row::{Fields, RowKey},
        },
        row_changes::RowChanges,
        time::Day,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct YearV1 {
    days: Vec<i32>,
    levels: Vec<f64>,
}

crate::format::record::schema!(YearV1, "modelkeep.index_year", 1);

/// Daily levels of one series, in order of the days.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// The days, `[n]`, ascending.
    pub days: Vec<Day>,
    /// The level of each day, `[n]`.
    pub levels: Vec<f64>,
}

impl Levels {
    /// Returns the number of days.
    #[must_use]
    pub fn len(&self) -> usize {
        self.days.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// Returns days and levels.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Day, f64)> {
        self.days.iter().copied().zip(self.levels.iter().copied())
    }

    /// Returns the last level at or before `day`, never a later one.
    #[must_use]
    pub fn at(&self, day: Day) -> Option<f64> {
        let after = self.days.partition_point(|&known| known <= day);
        self.levels.get(after.checked_sub(1)?).copied()
    }

    /// Returns which share of the last `window` levels up to `day`, from 0 to 1, is not above the last of them; `None`
    /// when there are none. 1 says that it has not been higher in all that time.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "nobody has 2^52 days")]
    pub fn percentile(&self, day: Day, window: usize) -> Option<f64> {
        let after = self.days.partition_point(|&known| known <= day);
        let known = self.levels.get(after.saturating_sub(window)..after)?;
        let last = known.last()?;
        let not_above = known.iter().filter(|level| *level <= last).count();
        Some(not_above as f64 / known.len() as f64)
    }

    /// The hash that metadata records: of the series' name, then each day and the bits of its level.
    pub(crate) fn hash(&self, series: &Symbol) -> Digest {
        let mut bytes = Vec::with_capacity(series.as_str().len() + 1 + 12 * self.len());
        bytes.extend_from_slice(series.as_str().as_bytes());
        bytes.push(0);
        for (day, level) in self.iter() {
            bytes.extend_from_slice(&day.epoch_days().to_le_bytes());
            bytes.extend_from_slice(&level.to_bits().to_le_bytes());
        }
        Digest::of(&bytes)
    }
}

impl FromIterator<(Day, f64)> for Levels {
    fn from_iter<I: IntoIterator<Item = (Day, f64)>>(rows: I) -> Self {
        let (days, levels) = rows.into_iter().unzip();
        Self { days, levels }
    }
}

fn prefix(series: &Symbol) -> Vec<u8> {
    RowKey::new().text(series.as_str()).into_bytes()
}

fn row_key(series: &Symbol, year: u16) -> Vec<u8> {
    RowKey::new().text(series.as_str()).u16(year).into_bytes()
}

/// The year of a row; `None` for a key that is none of a row of levels.
fn year_of(row: &[u8]) -> Option<u16> {
    let mut fields = Fields::of(row);
    fields.text()?;
    fields.u16()
}

fn open(row: &[u8], value: &[u8]) -> Result<BTreeMap<Day, f64>> {
    let record = sealed::open_record::<YearV1>(Table::Levels, row, value)?;
    let broken =
        |err| Error::corrupt("read levels", crate::types::hash::hex(row), "a day breaks the rules").with_source(err);
    let day = |days: i32| Day::from_epoch_days(days).map_err(broken);
    record.days.iter().zip(&record.levels).map(|(&days, &level)| Ok((day(days)?, level))).collect()
}

/// Checks rows that are to be written: the error names the first one that cannot be right.
pub(crate) fn check(series: &Symbol, rows: &[(Day, f64)]) -> Result<BTreeMap<Day, f64>> {
    let mut levels = BTreeMap::new();
    for (at, &(day, level)) in rows.iter().enumerate() {
        let refuse = |message: String| Err(Error::invalid("write levels", series.to_string(), message));
        if !level.is_finite() {
            return refuse(format!("row {at}: the level of {day} is {level}"));
        }
        if levels.insert(day, level).is_some() {
            return refuse(format!("row {at}: {day} appears twice"));
        }
    }
    Ok(levels)
}

/// Writes levels, one row per day; all of them are checked before the first one is written.
pub(crate) fn upsert(batch: &Batch, series: &Symbol, rows: &[(Day, f64)]) -> Result<RowChanges> {
    let mut by_year: BTreeMap<u16, BTreeMap<Day, f64>> = BTreeMap::new();
    for (day, level) in check(series, rows)? {
        by_year.entry(day.year()).or_default().insert(day, level);
    }
    let mut done = RowChanges::default();
    for (year, levels) in by_year {
        let row = row_key(series, year);
        let mut stored = match batch.get(Table::Levels, &row)?.map(|(value, _)| value) {
            Some(value) => open(&row, &value)?,
            None => BTreeMap::new(),
        };
        let before = done;
        for (day, level) in levels {
            match stored.insert(day, level) {
                None => done.added += 1,
                Some(old) if old.to_bits() == level.to_bits() => done.unchanged += 1,
                Some(_) => done.replaced += 1,
            }
        }
        if (done.added, done.replaced) != (before.added, before.replaced) {
            write_year(batch, &row, &stored)?;
        }
    }
    Ok(done)
}

/// Reads the levels of the days in `range`.
pub(crate) fn range(reader: &impl Reader, series: &Symbol, range: Interval<Day>) -> Result<Levels> {
    if range.is_empty() {
        return Ok(Levels::default());
    }
    let mut levels = Levels::default();
    for (row, value) in reader.prefix(Table::Levels, &prefix(series))? {
        let year = year_of(&row);
        if year.is_none_or(|year| (range.start().year()..=range.end().year()).contains(&year)) {
            for (day, level) in open(&row, &value)?.range(range.start()..range.end()) {
                levels.days.push(*day);
                levels.levels.push(*level);
            }
        }
    }
    Ok(levels)
}

/// The series that have levels, with all of them, or with what keeps them from being read.
pub(crate) fn series(reader: &impl Reader) -> Result<Vec<(Symbol, Result<Levels>)>> {
    let mut all: Vec<(Symbol, Result<Levels>)> = Vec::new();
    for (row, value) in reader.prefix(Table::Levels, b"")? {
        let name = row.split(|&b| b == 0).next().unwrap_or_default();
        let name = Symbol::new(std::str::from_utf8(name).unwrap_or_default()).map_err(|err| {
            Error::corrupt("list series", crate::types::hash::hex(&row), "no series' name").with_source(err)
        })?;
        let year = open(&row, &value).map(|levels| levels.into_iter().collect::<Levels>());
        match all.last_mut().filter(|(last, _)| *last == name) {
            None => all.push((name, year)),
            Some((_, Err(_))) => {}
            Some((_, levels)) => match (levels.as_mut(), year) {
                (Ok(levels), Ok(year)) => {
                    levels.days.extend(year.days);
                    levels.levels.extend(year.levels);
                }
                (_, Err(err)) => *levels = Err(err),
                (Err(_), Ok(_)) => {}
            },
        }
    }
    Ok(all)
}

/// Removes the levels of the days in `range`; returns how many. A year that cannot be read goes if all of it lies in
/// the range.
pub(crate) fn remove(batch: &Batch, series: &Symbol, range: Interval<Day>) -> Result<u64> {
    let mut removed = 0;
    for (row, value) in batch.prefix(Table::Levels, &prefix(series))? {
        let mut levels = match open(&row, &value) {
            Ok(levels) => levels,
            Err(err) => {
                let Some(year) = year_of(&row) else {
                    return Err(err);
                };
                let whole = Interval::<Day>::parse(&format!("{year:04}-01-01"), &format!("{year:04}-12-31"))?;
                if range.contains(whole.start()) && range.end() >= whole.end().next() {
                    tracing::error!(%series, year, error = %err, "removed a year of levels that could not be read");
                    batch.remove(Table::Levels, &row)?;
                    continue;
                }
                return Err(err);
            }
        };
        let before = levels.len();
        levels.retain(|day, _| !range.contains(*day));
        removed += (before - levels.len()) as u64;
        if levels.is_empty() {
            batch.remove(Table::Levels, &row)?;
        } else if levels.len() < before {
            write_year(batch, &row, &levels)?;
        }
    }
    Ok(removed)
}

fn write_year(batch: &Batch, row: &[u8], levels: &BTreeMap<Day, f64>) -> Result<()> {
    let (days, levels) = levels.iter().map(|(day, &level)| (day.epoch_days(), level)).unzip();
    batch.put_record(Table::Levels, row, &YearV1 { days, levels })
}

/// The runs of `expected` days that have no level.
pub(crate) fn gaps(levels: &Levels, expected: impl IntoIterator<Item = Day>) -> Result<Vec<Interval<Day>>> {
    let mut gaps: Vec<(Day, Day)> = Vec::new();
    // A gap goes on as long as no expected day in between has a level.
    let mut open = false;
    for day in expected {
        if levels.days.binary_search(&day).is_ok() {
            open = false;
            continue;
        }
        match gaps.last_mut().filter(|_| open) {
            Some((_, end)) => *end = day.next(),
            None => gaps.push((day, day.next())),
        }
        open = true;
    }
    gaps.into_iter().map(|(start, end)| Interval::new(start, end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn the_level_at_a_day_is_never_a_later_one() {
        let levels: Levels = [(day("2018-12-21"), 30.11), (day("2018-12-24"), 36.07)].into_iter().collect();
        assert_eq!(levels.at(day("2018-12-20")), None);
        assert_eq!(levels.at(day("2018-12-21")), Some(30.11));
        assert_eq!(levels.at(day("2018-12-23")), Some(30.11));
        assert_eq!(levels.at(day("2019-06-01")), Some(36.07));
    }

    #[test]
    fn a_percentile_looks_back_and_not_ahead() {
        let levels: Levels = (3..9)
            .zip([10.0, 40.0, 20.0, 30.0, 30.0, 99.0])
            .map(|(n, level)| (day(&format!("2018-12-0{n}")), level))
            .collect();
        assert_eq!(levels.percentile(day("2018-12-02"), 5), None);
        assert_eq!(levels.percentile(day("2018-12-03"), 5), Some(1.0));
        assert_eq!(levels.percentile(day("2018-12-07"), 5), Some(0.8));
        assert_eq!(levels.percentile(day("2018-12-07"), 2), Some(1.0));
        assert_eq!(levels.percentile(day("2018-12-07"), 0), None);
    }

    #[test]
    fn neighbouring_missing_days_are_one_gap_across_a_weekend() {
        let levels: Levels = [(day("2018-12-19"), 1.0), (day("2018-12-26"), 1.0)].into_iter().collect();
        let expected = ["2018-12-19", "2018-12-20", "2018-12-21", "2018-12-24", "2018-12-26", "2018-12-27"].map(day);
        let gaps = gaps(&levels, expected).unwrap();
        let text: Vec<_> = gaps.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[2018-12-20, 2018-12-25)", "[2018-12-27, 2018-12-28)"]);
    }

    #[test]
    fn the_hash_sees_name_days_and_levels() {
        let one: Levels = [(day("2018-12-21"), 30.11)].into_iter().collect();
        let vix = Symbol::new("VIX").unwrap();
        assert_eq!(one.hash(&vix), one.clone().hash(&vix));
        assert_ne!(one.hash(&vix), one.hash(&Symbol::new("VXN").unwrap()));
        let other: Levels = [(day("2018-12-21"), 30.12)].into_iter().collect();
        assert_ne!(one.hash(&vix), other.hash(&vix));
    }
}
