//! What is stored of every series: from its facts, and from its chunks where there are none to go by.

use std::collections::BTreeMap;

use super::record::{Facts, HEAD, Head, Numbers, series_of};
use crate::{
    engine::{Reader, Snapshot, Table, sealed},
    market::{
        Market,
        bars::{
            SCHEMA,
            bar::Field,
            chunk,
            key::SeriesId,
            plan::Edge,
            read::{BarSummary, about},
        },
        timeframe::Timeframe,
    },
    types::{
        error::{Error, ErrorKind, Result},
        key::Symbol,
        time::Timestamp,
    },
};

/// What is known of one series: the numbers, and when they were last written, if anybody wrote that down.
pub(crate) type Known = (Numbers, Option<Timestamp>);

/// The series of a store in order, and behind them what names no series.
#[derive(Debug, Default)]
pub(crate) struct SeriesList {
    pub(crate) series: BTreeMap<SeriesId, Result<Known>>,
    pub(crate) unnamed: Vec<Error>,
}

/// Lists the series that are `wanted`.
pub(crate) fn list(snapshot: &Snapshot, wanted: impl Fn(&SeriesId) -> bool) -> Result<SeriesList> {
    match from_facts(snapshot, &wanted)? {
        Some(list) => Ok(list),
        None => from_all_chunks(snapshot, &wanted),
    }
}

/// By facts, and for series without facts by their chunks; `None` where damage may have taken rows of either table.
fn from_facts(snapshot: &Snapshot, wanted: &impl Fn(&SeriesId) -> bool) -> Result<Option<SeriesList>> {
    if snapshot.has_losses(Table::Bars) || snapshot.has_losses(Table::BarFacts) {
        return Ok(None);
    }
    let mut found: BTreeMap<SeriesId, Option<Facts>> = BTreeMap::new();
    let mut is_complete = false;
    let mut rows = snapshot.scan(Table::BarFacts, b"");
    while let Some(row) = rows.next_sealed(|key, value| {
        if key == HEAD {
            is_complete = Head::open(value).is_ok_and(|head| head.is_complete);
            return true;
        }
        let Some(series) = series_of(key) else { return false };
        if wanted(&series) {
            found.insert(series, Facts::open(key, value).ok());
        }
        true
    }) {
        match row {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(err) if err.kind() == ErrorKind::Corrupt => return Ok(None),
            Err(err) => return Err(err),
        }
    }
    if !is_complete {
        let Some(all) = series_with_bars(snapshot)? else { return Ok(None) };
        for series in all.into_iter().filter(wanted) {
            found.entry(series).or_insert(None);
        }
    }
    let mut list = SeriesList::default();
    for (series, facts) in found {
        let known = match facts {
            Some(Facts { numbers: Some(numbers), written_at, .. }) => Ok((numbers, Some(written_at))),
            facts => {
                let written_at = facts.map(|facts| facts.written_at);
                unless_unreadable(from_chunks(snapshot, &series))?.map(|numbers| (numbers, written_at))
            }
        };
        if known.as_ref().is_ok_and(|(numbers, _)| numbers.bars == 0) {
            continue;
        }
        list.series.insert(series, known);
    }
    Ok(Some(list))
}

/// Damage is about one series; anything else about the file.
fn unless_unreadable<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(err) if err.kind() != ErrorKind::Corrupt => Err(err),
        result => Ok(result),
    }
}

/// The series that have bars, found by their first rows alone; `None` where rows may be missing.
fn series_with_bars(snapshot: &Snapshot) -> Result<Option<Vec<SeriesId>>> {
    let mut all = Vec::new();
    let mut start = Vec::new();
    loop {
        let mut rows = snapshot.scan_between(Table::Bars, &start, None);
        match rows.next_sealed(|row, _| SeriesId::of_row(row)) {
            None => return Ok(Some(all)),
            Some(Ok(Ok((series, _)))) => {
                start = series.row(i64::MAX);
                // Behind the last row that it can have.
                start.push(0);
                all.push(series);
            }
            Some(Ok(Err(_))) => return Ok(None),
            Some(Err(err)) if err.kind() == ErrorKind::Corrupt => return Ok(None),
            Some(Err(err)) => return Err(err),
        }
    }
}

/// The numbers of one series by its chunks, which are checked.
pub(crate) fn from_chunks(reader: &impl Reader, series: &SeriesId) -> Result<Numbers> {
    let mut sum = Sum::default();
    for (row, value) in reader.prefix(Table::Bars, &series.prefix())? {
        sum.add(&row, &value)?;
    }
    sum.finish()
}

/// The numbers of all series by their chunks.
fn from_all_chunks(snapshot: &Snapshot, wanted: &impl Fn(&SeriesId) -> bool) -> Result<SeriesList> {
    let mut list = SeriesList::default();
    let mut under_way: Option<(SeriesId, Result<Sum>)> = None;
    let finish = |list: &mut SeriesList, done: Option<(SeriesId, Result<Sum>)>| {
        if let Some((series, sum)) = done {
            list.series.insert(series, sum.and_then(Sum::finish).map(|numbers| (numbers, None)));
        }
    };
    let mut rows = snapshot.scan(Table::Bars, b"");
    while let Some(row) = rows.next_sealed(|row, value| {
        let series = match SeriesId::of_row(row) {
            Ok((series, _)) => series,
            Err(err) => return list.unnamed.push(err),
        };
        if !wanted(&series) {
            return;
        }
        if under_way.as_ref().is_none_or(|(last, _)| *last != series) {
            finish(&mut list, under_way.replace((series, Ok(Sum::default()))));
        }
        if let Some((_, sum)) = &mut under_way
            && let Err(err) = sum.as_mut().map_or(Ok(()), |sum| sum.add(row, value))
        {
            *sum = Err(err);
        }
    }) {
        row?;
    }
    finish(&mut list, under_way);
    Ok(list)
}

/// Numbers that are being added up, chunk by chunk, in order.
#[derive(Debug, Default)]
struct Sum {
    numbers: Numbers,
    first: Option<Edge>,
    /// The row that came last: its last bar is looked at when no other follows.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl Sum {
    fn add(&mut self, row: &[u8], value: &[u8]) -> Result<()> {
        let bytes = sealed::open_columns(Table::Bars, row, value, &SCHEMA)?;
        let (mut at, mut volumes) = (Vec::new(), Vec::new());
        chunk::append_field(bytes, Field::Volume, &mut at, &mut volumes).map_err(|err| about(err, row))?;
        if at.is_empty() {
            return Err(Error::corrupt("read bars", Table::Bars.describe(row), "it is empty"));
        }
        if self.first.is_none() {
            self.first = Some(edges(row, bytes)?.0);
        }
        self.numbers.bars += at.len() as u64;
        self.numbers.chunks += 1;
        self.numbers.stored_bytes += (row.len() + value.len()) as u64;
        self.last = Some((row.to_vec(), bytes.to_vec()));
        Ok(())
    }

    fn finish(self) -> Result<Numbers> {
        let last = self.last.map(|(row, bytes)| edges(&row, &bytes)).transpose()?.map(|(_, last)| last);
        Ok(Numbers { edges: self.first.zip(last), ..self.numbers })
    }
}

/// The first and the last bar of a chunk.
fn edges(row: &[u8], bytes: &[u8]) -> Result<(Edge, Edge)> {
    let field = |field| {
        let (mut at, mut values) = (Vec::new(), Vec::new());
        chunk::append_field(bytes, field, &mut at, &mut values).map_err(|err| about(err, row))?;
        Ok((at, values))
    };
    let ((at, closes), (_, volumes)) = (field(Field::Close)?, field(Field::Volume)?);
    let edge = |at: Option<&Timestamp>, close: Option<&f64>, volume: Option<&f64>| {
        Some(Edge { at: *at?, close: *close?, volume: *volume? })
    };
    let first = edge(at.first(), closes.first(), volumes.first());
    let last = edge(at.last(), closes.last(), volumes.last());
    first.zip(last).ok_or_else(|| Error::corrupt("read bars", Table::Bars.describe(row), "it is empty"))
}

impl Market {
    /// Returns what is stored of every series of bars, in order of symbol and timeframe, or the error that keeps a
    /// series from being read, under its name.
    pub(crate) fn bar_series(&self) -> Result<Vec<(String, Result<BarSummary>)>> {
        let list = self.core.look(|snapshot| list(snapshot, |_| true))?;
        let series = list.series.into_iter().map(|(series, known)| {
            let summary = known.and_then(|(numbers, _)| summary(&series, &numbers));
            (series.to_string(), summary)
        });
        Ok(series.chain(list.unnamed.into_iter().map(|err| (err.subject().to_owned(), Err(err)))).collect())
    }

    /// Returns the symbols that have bars of this timeframe, in order.
    pub(crate) fn bar_symbols(&self, timeframe: Timeframe) -> Result<Vec<Symbol>> {
        self.core.look(|snapshot| symbols(snapshot, timeframe))
    }
}

/// The symbols that have bars of this timeframe, as they were given.
pub(crate) fn symbols(snapshot: &Snapshot, timeframe: Timeframe) -> Result<Vec<Symbol>> {
    let wanted = |series: &SeriesId| series.timeframe == timeframe && series.source.is_none();
    let mut list = list(snapshot, wanted)?;
    match list.unnamed.pop() {
        Some(err) => Err(err),
        None => Ok(list.series.into_keys().map(|series| series.symbol).collect()),
    }
}

fn summary(series: &SeriesId, numbers: &Numbers) -> Result<BarSummary> {
    let none = || Error::corrupt("read bars", series.to_string(), "it has no bars");
    let (first, last) = numbers.edges.ok_or_else(none)?;
    Ok(BarSummary {
        symbol: series.symbol.clone(),
        timeframe: series.timeframe,
        resampled_from: series.source,
        bars: numbers.bars,
        span: (first.at, last.at),
        chunks: numbers.chunks,
        stored_bytes: numbers.stored_bytes,
    })
}
