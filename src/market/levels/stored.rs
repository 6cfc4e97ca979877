//! Levels in the file: one sealed record per series and calendar year, days and levels in columns.

use std::collections::BTreeMap;

use crate::{
    engine::{Batch, Reader, Table, sealed},
    market::levels::values::Levels,
    types::{
        error::{Error, Result},
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
pub(crate) fn all(reader: &impl Reader) -> Result<Vec<(Symbol, Result<Levels>)>> {
    let mut all: Vec<(Symbol, Result<Levels>)> = Vec::new();
    for (row, value) in reader.prefix(Table::Levels, b"")? {
        let name = Symbol::new(Fields::of(&row).text().unwrap_or_default()).map_err(|err| {
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
pub(crate) fn remove(batch: &Batch, series: &Symbol, range: Interval<Day>) -> Result<RowChanges> {
    let mut done = RowChanges::default();
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
        done.removed += (before - levels.len()) as u64;
        if levels.is_empty() {
            batch.remove(Table::Levels, &row)?;
        } else if levels.len() < before {
            write_year(batch, &row, &levels)?;
        }
    }
    Ok(done)
}

fn write_year(batch: &Batch, row: &[u8], levels: &BTreeMap<Day, f64>) -> Result<()> {
    let (days, levels) = levels.iter().map(|(day, &level)| (day.epoch_days(), level)).unzip();
    batch.put_record(Table::Levels, row, &YearV1 { days, levels })
}
