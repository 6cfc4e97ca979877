//! Levels in the file: one sealed record per series and calendar year, days and levels in columns, and beside them what
//! they were before.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    engine::{Batch, Reader, Table, sealed},
    market::{
        history::{CURRENT, Noted, Timeline, UNRECORDED, Version},
        levels::values::Levels,
    },
    types::{
        error::{Error, ErrorKind, Result},
        hash::hex,
        interval::Interval,
        key::{
            Symbol,
            row::{Fields, RowKey},
        },
        row_changes::RowChanges,
        time::{Day, Timestamp},
    },
};

/// What releases before wrote: no history, and not when a level was stored.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct YearV1 {
    days: Vec<i32>,
    levels: Vec<f64>,
}

crate::format::record::schema!(YearV1, "modelkeep.index_year", 1);

#[derive(Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct YearV2 {
    days: Vec<i32>,
    levels: Vec<f64>,
    /// When each of them was stored.
    recorded_at: Vec<i64>,
    /// Levels that were superseded or removed, by day and time.
    past_days: Vec<i32>,
    past_levels: Vec<f64>,
    past_recorded_at: Vec<i64>,
    past_until: Vec<i64>,
    /// Before when some of them are forgotten.
    forgotten_until: i64,
}

crate::format::record::schema!(YearV2, "modelkeep.index_year", 2);

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

fn open(row: &[u8], value: &[u8]) -> Result<YearV2> {
    let year = match sealed::open_record::<YearV2>(Table::Levels, row, value) {
        Ok(year) => year,
        Err(err) => match sealed::open_record::<YearV1>(Table::Levels, row, value) {
            Ok(YearV1 { days, levels }) => {
                let recorded_at = vec![UNRECORDED; days.len()];
                YearV2 { days, levels, recorded_at, forgotten_until: UNRECORDED, ..YearV2::default() }
            }
            Err(_) => return Err(err),
        },
    };
    let lengths = [year.levels.len(), year.recorded_at.len(), year.past_days.len()];
    if lengths != [year.days.len(), year.days.len(), year.past_until.len()] {
        return Err(Error::corrupt("read levels", hex(row), "its columns have different lengths"));
    }
    Ok(year)
}

/// The day of a row.
fn day_of(row: &[u8], days: i32) -> Result<Day> {
    let broken = |err| Error::corrupt("read levels", hex(row), "a day breaks the rules").with_source(err);
    Day::from_epoch_days(days).map_err(broken)
}

/// The levels of one year, with what they were.
struct Year {
    levels: BTreeMap<Day, Timeline<f64>>,
    forgotten_until: i64,
}

impl Year {
    fn read(row: &[u8], value: &[u8]) -> Result<Self> {
        let YearV2 { days, levels, recorded_at, past_days, past_levels, past_recorded_at, past_until, forgotten_until } =
            open(row, value)?;
        let mut all: BTreeMap<Day, Vec<Version<f64>>> = BTreeMap::new();
        let current = days.into_iter().zip(levels).zip(recorded_at).map(|((day, row), at)| (day, row, at, CURRENT));
        let past = past_days.into_iter().zip(past_levels).zip(past_recorded_at.into_iter().zip(past_until));
        let past = past.map(|((day, row), (at, until))| (day, row, at, until));
        for (day, level, recorded_at, until) in past.chain(current) {
            all.entry(day_of(row, day)?).or_default().push(Version { recorded_at, until, row: level });
        }
        let levels = all.into_iter().map(|(day, versions)| (day, Timeline::new(versions))).collect();
        Ok(Self { levels, forgotten_until })
    }

    fn new() -> Self {
        Self { levels: BTreeMap::new(), forgotten_until: UNRECORDED }
    }

    /// Lets go of what was superseded longer ago than it is kept.
    fn forget(&mut self, options: LevelOptions) {
        let Some(age) = options.retention else { return };
        let before = Timestamp::from_nanos(options.now).before(age).as_nanos();
        for timeline in self.levels.values_mut() {
            let (old, kept) = timeline.versions().iter().copied().partition::<Vec<_>, _>(|level| level.until <= before);
            let last = old.iter().map(|level| level.until).max();
            self.forgotten_until = self.forgotten_until.max(last.unwrap_or(UNRECORDED));
            if last.is_some() {
                *timeline = Timeline::new(kept);
            }
        }
        self.levels.retain(|_, timeline| !timeline.versions().is_empty());
    }

    fn write(mut self, batch: &Batch, row: &[u8], options: LevelOptions) -> Result<()> {
        self.forget(options);
        let mut year = YearV2 { forgotten_until: self.forgotten_until, ..YearV2::default() };
        for (day, timeline) in &self.levels {
            for level in timeline.versions() {
                if level.until == CURRENT {
                    year.days.push(day.epoch_days());
                    year.levels.push(level.row);
                    year.recorded_at.push(level.recorded_at);
                } else {
                    year.past_days.push(day.epoch_days());
                    year.past_levels.push(level.row);
                    year.past_recorded_at.push(level.recorded_at);
                    year.past_until.push(level.until);
                }
            }
        }
        if self.levels.is_empty() && self.forgotten_until == UNRECORDED {
            return batch.remove(Table::Levels, row).map(drop);
        }
        batch.put_record(Table::Levels, row, &year)
    }
}

/// How levels are written.
#[derive(Clone, Copy)]
pub(crate) struct LevelOptions {
    /// What time it is.
    pub(crate) now: i64,
    /// How long superseded levels can be read; `None` for ever.
    pub(crate) retention: Option<Duration>,
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

/// Writes levels, one row per day; all of them are checked before the first one is written. `known_at` says since when
/// each day's level was known, if it is not since now.
pub(crate) fn upsert(
    batch: &Batch,
    series: &Symbol,
    rows: &[(Day, f64)],
    known_at: Option<&BTreeMap<Day, i64>>,
    options: LevelOptions,
) -> Result<RowChanges> {
    let mut by_year: BTreeMap<u16, BTreeMap<Day, f64>> = BTreeMap::new();
    for (day, level) in check(series, rows)? {
        by_year.entry(day.year()).or_default().insert(day, level);
    }
    let mut done = RowChanges::default();
    for (year, levels) in by_year {
        let row = row_key(series, year);
        let mut stored = match batch.get(Table::Levels, &row)?.map(|(value, _)| value) {
            Some(value) => Year::read(&row, &value)?,
            None => Year::new(),
        };
        let mut changed = false;
        for (day, level) in levels {
            if let Some(known) =
                known_at.and_then(|known| known.get(&day)).filter(|known| **known < stored.forgotten_until)
            {
                let [known, until] = [*known, stored.forgotten_until].map(Timestamp::from_nanos);
                let message = format!(
                    "what was known before {until} is not kept any more, so that nothing can be put at {known}"
                );
                return Err(Error::invalid("write levels known at a time", series.to_string(), message));
            }
            let timeline = stored.levels.entry(day).or_insert_with(|| Timeline::new([]));
            let before = timeline.clone();
            let is_same = |other: f64| other.to_bits() == level.to_bits();
            let noted = match known_at.and_then(|known| known.get(&day)) {
                None => timeline.write(options.now, level, is_same),
                Some(known_at) => timeline.record(*known_at, level, is_same),
            };
            changed |= *timeline != before;
            *match noted {
                Noted::Added => &mut done.added,
                Noted::Replaced => &mut done.replaced,
                Noted::Unchanged => &mut done.unchanged,
                Noted::Backdated => &mut done.backdated,
            } += 1;
        }
        if changed {
            stored.write(batch, &row, options)?;
        }
    }
    Ok(done)
}

/// The rows of the years that `range` touches.
fn years(reader: &impl Reader, series: &Symbol, range: Interval<Day>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = reader.prefix(Table::Levels, &prefix(series))?;
    let touched = range.start().year()..=range.end().year();
    rows.retain(|(row, _)| year_of(row).is_none_or(|year| touched.contains(&year)));
    Ok(rows)
}

/// Reads the levels of the days in `range`.
pub(crate) fn range(reader: &impl Reader, series: &Symbol, range: Interval<Day>) -> Result<Levels> {
    let mut levels = Levels::default();
    for (row, value) in years(reader, series, range)? {
        let year = open(&row, &value)?;
        for (day, level) in year.days.into_iter().zip(year.levels) {
            let day = day_of(&row, day)?;
            if range.contains(day) {
                levels.days.push(day);
                levels.levels.push(level);
            }
        }
    }
    Ok(levels)
}

/// Since when the levels of the days in `range` that are stored are known.
pub(crate) fn recorded(reader: &impl Reader, series: &Symbol, range: Interval<Day>) -> Result<BTreeMap<Day, i64>> {
    let mut recorded = BTreeMap::new();
    for (row, value) in years(reader, series, range)? {
        let year = open(&row, &value)?;
        for (day, at) in year.days.into_iter().zip(year.recorded_at) {
            recorded.insert(day_of(&row, day)?, at);
        }
    }
    Ok(recorded)
}

/// Reads the levels of the days in `range` as they were known at a time.
pub(crate) fn as_of(
    reader: &impl Reader,
    series: &Symbol,
    range: Interval<Day>,
    known_at: Timestamp,
) -> Result<Levels> {
    let refuse =
        |message: String| Err(Error::new(ErrorKind::NotFound, "read levels as of", series.to_string(), message));
    let mut levels = Levels::default();
    for (row, value) in years(reader, series, range)? {
        let year = Year::read(&row, &value)?;
        if known_at.as_nanos() < year.forgotten_until {
            let forgotten = Timestamp::from_nanos(year.forgotten_until);
            return refuse(format!("what was known before {forgotten} is not kept any more"));
        }
        for (day, timeline) in year.levels.range(range.start()..range.end()) {
            match timeline.as_of(known_at.as_nanos()) {
                Some(level) if level.recorded_at == UNRECORDED => {
                    return refuse(format!(
                        "an older release wrote the level of {day}, and did not keep since when it was known; say so with \
                         `write_known_at`"
                    ));
                }
                Some(level) => {
                    levels.days.push(*day);
                    levels.levels.push(level.row);
                }
                None => {}
            }
        }
    }
    Ok(levels)
}

/// The series that have levels, with all of them, or with what keeps them from being read.
pub(crate) fn all(reader: &impl Reader) -> Result<Vec<(Symbol, Result<Levels>)>> {
    let mut all: Vec<(Symbol, Result<Levels>)> = Vec::new();
    for (row, value) in reader.prefix(Table::Levels, b"")? {
        let name = Symbol::new(Fields::of(&row).text().unwrap_or_default())
            .map_err(|err| Error::corrupt("list series", hex(&row), "no series' name").with_source(err))?;
        let year = open(&row, &value).and_then(|year| current(&row, year));
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
    // A series of which only its history is left has no levels.
    all.retain(|(_, levels)| !levels.as_ref().is_ok_and(Levels::is_empty));
    Ok(all)
}

/// The levels that a year has.
fn current(row: &[u8], year: YearV2) -> Result<Levels> {
    let days = year.days.into_iter().map(|day| day_of(row, day)).collect::<Result<Vec<_>>>()?;
    Ok(Levels { days, levels: year.levels })
}

/// Removes the levels of the days in `range`; returns how many. A year that cannot be read goes if all of it lies in
/// the range.
pub(crate) fn remove(
    batch: &Batch,
    series: &Symbol,
    range: Interval<Day>,
    options: LevelOptions,
) -> Result<RowChanges> {
    let mut done = RowChanges::default();
    for (row, value) in batch.prefix(Table::Levels, &prefix(series))? {
        let mut year = match Year::read(&row, &value) {
            Ok(year) => year,
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
        let before = done.removed;
        for (day, timeline) in &mut year.levels {
            if range.contains(*day) {
                done.removed += u64::from(timeline.remove(options.now));
            }
        }
        if done.removed > before {
            year.levels.retain(|_, timeline| !timeline.versions().is_empty());
            year.write(batch, &row, options)?;
        }
    }
    Ok(done)
}
