//! Changing bars: new rows take the place of old ones, and the old ones go to the history.
//!
//! Each row knows when it was stored, and a row that is superseded or deleted also knows until when it was current. So
//! what was known at a time can be read again: appending costs nothing for it, and a restatement costs the rows that it
//! changed. When a row was known is its own matter: no other row's time moves it.

use std::time::Duration;

use super::{
    SCHEMA,
    chunk::{self, Rows},
    history::{self, History},
    key::SeriesId,
    plan::Plan,
    rescaled,
    rest::{self, ChunkCodec, Growth},
};
use crate::{
    engine::{Reader, Table, sealed},
    format::columns::ints::IntCodec,
    market::{
        bars::columns::Columns,
        history::{CURRENT, Noted, Timeline, Version},
    },
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        invariant::Invariant,
        row_changes::RowChanges,
        time::Timestamp,
    },
};

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    /// What time it is.
    pub(crate) now: Timestamp,
    /// How long superseded bars can be read; `None` for ever.
    pub(crate) retention: Option<Duration>,
    pub(crate) codec: ChunkCodec,
    /// How superseded bars are encoded.
    pub(crate) history_codec: IntCodec,
}

/// Rows that are to be written, in order, each timestamp once.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) rows: &'a Columns,
    /// Since when each of them was known, if it is not since now.
    pub(crate) known_at: Option<&'a [i64]>,
}

/// Removes the bars that lie in `remove`, but for those that `incoming` has, and writes `incoming`.
pub(crate) fn apply(
    batch: &Plan<'_, impl Reader>,
    series: &SeriesId,
    incoming: Incoming<'_>,
    remove: Option<Interval<Timestamp>>,
    options: WriteOptions,
) -> Result<RowChanges> {
    let (period, rows) = (series.period(), incoming.rows);
    let mut written = RowChanges::default();
    let mut touched: Vec<i64> = match remove {
        Some(remove) => periods_in(batch, series, remove)?,
        None => Vec::new(),
    };
    let mut start = 0;
    let mut cuts = Vec::new();
    while let Some(at) = rows.at.get(start) {
        let index = period.index(*at);
        let (_, end) = period.span(index);
        let next =
            start + rows.at.get(start..).always("rows lie in the columns").partition_point(|at| *at < end).max(1);
        cuts.push((index, start..next));
        touched.push(index);
        start = next;
    }
    touched.sort_unstable();
    touched.dedup();
    let mut cuts = cuts.into_iter().peekable();
    for index in touched {
        let part = cuts.next_if(|(cut, _)| *cut == index).map_or(0..0, |(_, part)| part);
        let known_at = incoming.known_at.map(|known| known.get(part.clone()).always("each row has a time"));
        let mut rows = Columns::with_capacity(part.len());
        rows.extend(incoming.rows, part);
        written += apply_to_chunk(batch, series, index, Incoming { rows: &rows, known_at }, remove, options)?;
    }
    Ok(written)
}

/// The periods that have bars in `interval`.
fn periods_in(batch: &Plan<'_, impl Reader>, series: &SeriesId, interval: Interval<Timestamp>) -> Result<Vec<i64>> {
    let periods = series.period().indices(interval);
    let rows = batch.keys(Table::Bars, &series.prefix())?;
    let found = rows.iter().map(|row| Ok(SeriesId::of_row(row)?.1)).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().filter(|index| periods.contains(index)).collect())
}

fn apply_to_chunk(
    batch: &Plan<'_, impl Reader>,
    series: &SeriesId,
    index: i64,
    incoming: Incoming<'_>,
    remove: Option<Interval<Timestamp>>,
    options: WriteOptions,
) -> Result<RowChanges> {
    let row = series.row(index);
    let removes_all = remove.is_some_and(|remove| holds(remove, series, index));
    let stored = match read(batch, Table::Bars, &row) {
        Ok(stored) => stored.unwrap_or_default(),
        // What cannot be read goes if all of it was to go: that is how to make room for good bars.
        Err(error) if error.kind() == ErrorKind::Corrupt && removes_all => {
            tracing::error!(%series, %error, "bars that could not be read are removed");
            batch.remove(Table::Bars, &row)?;
            batch.note_damaged(series, index);
            Rows::default()
        }
        Err(error) => return Err(error),
    };
    let past = history::read(batch, &row)?.unwrap_or_default();
    if let Some(known) = incoming.known_at.and_then(|known| known.iter().find(|known| **known < past.forgotten_until)) {
        let [known, until] = [*known, past.forgotten_until].map(Timestamp::from_nanos);
        let message =
            format!("what was known before {until} is not kept any more, so that nothing can be put at {known}");
        return Err(Error::invalid("write bars known at a time", series.to_string(), message));
    }
    let mut merged = merge(&stored, &past, incoming, remove, options.now.as_nanos());
    merged.written.rescaled = rescaled::between(&merged.replaced, incoming.rows);
    if removes_all {
        // What was forgotten was so by a clock that was ahead: from now on all is known again.
        let until = merged.history.forgotten_until.min(options.now.as_nanos());
        merged.changes_history |= until != merged.history.forgotten_until;
        merged.history.forgotten_until = until;
    }
    if merged.changes_history {
        history::write(batch, &row, merged.history, options)?;
    }
    if merged.changes_rows {
        batch.note_chunk(series, index, &stored.bars, &merged.current.bars);
        if merged.current.bars.at.is_empty() {
            batch.remove(Table::Bars, &row)?;
        } else {
            let growth = Growth { stored_rows: stored.bars.len(), incoming_rows: incoming.rows.len() };
            let bytes = rest::encode(batch, series, index, &merged.current, growth, options.codec)?;
            batch.put_columns(Table::Bars, &row, &SCHEMA, &bytes)?;
        }
    }
    Ok(merged.written)
}

/// Whether all of a period lies in `interval`.
fn holds(interval: Interval<Timestamp>, series: &SeriesId, index: i64) -> bool {
    let (start, end) = series.period().span(index);
    interval.start() <= start && end <= interval.end()
}

pub(super) fn read(reader: &impl Reader, table: Table, row: &[u8]) -> Result<Option<Rows>> {
    let Some((value, _)) = reader.get(table, row)? else {
        return Ok(None);
    };
    let columns = sealed::open_columns(table, row, &value, &SCHEMA)?;
    Ok(Some(chunk::decode(columns).map_err(|err| err.about(Table::Bars.describe(row)))?))
}

/// A chunk and its history after a change.
#[derive(Default)]
struct Merged {
    current: Rows,
    history: History,
    /// What rows were that have other values now.
    replaced: Columns,
    written: RowChanges,
    changes_rows: bool,
    changes_history: bool,
}

/// Where the values of a version of a row lie.
#[derive(Clone, Copy)]
enum Origin {
    Stored(usize),
    Past(usize),
    New(usize),
}

/// Merges what is stored with what is new, both in order, at the time `now`.
fn merge(stored: &Rows, past: &History, new: Incoming<'_>, remove: Option<Interval<Timestamp>>, now: i64) -> Merged {
    let mut change = Change { stored, past, new, remove, now, out: Merged::default(), past_taken: 0 };
    change.out.history.forgotten_until = past.forgotten_until;
    change.out.current.bars = Columns::with_capacity(stored.bars.len() + new.rows.len());
    let (mut old, mut next) = (0, 0);
    // Most writes append: what lies before the first new row and is not removed stays as it is.
    let first = [new.rows.at.first().copied(), remove.map(|remove| remove.start())].into_iter().flatten().min();
    let untouched = first.map_or(stored.bars.len(), |first| stored.bars.at.partition_point(|at| *at < first));
    change.out.current.take(stored, old..untouched);
    old += untouched;
    loop {
        let ends = [stored.bars.at.get(old), new.rows.at.get(next)];
        let Some(at) = ends.into_iter().flatten().min().copied() else { break };
        let is_stored = stored.bars.at.get(old) == Some(&at);
        let is_new = new.rows.at.get(next) == Some(&at);
        change.row(at, is_stored.then_some(old), is_new.then_some(next));
        old += usize::from(is_stored);
        next += usize::from(is_new);
    }
    change.take_past(past.rows.bars.len());
    change.out
}

/// A change of a chunk, row by row.
struct Change<'a> {
    stored: &'a Rows,
    past: &'a History,
    new: Incoming<'a>,
    remove: Option<Interval<Timestamp>>,
    now: i64,
    out: Merged,
    /// Rows of the history that were taken over so far.
    past_taken: usize,
}

impl Change<'_> {
    /// Changes the row at `at`, which is stored, or new, or both.
    fn row(&mut self, at: Timestamp, old: Option<usize>, new: Option<usize>) {
        let is_gone = new.is_none() && self.remove.is_some_and(|remove| remove.contains(at));
        let past = self.past.versions_of(at);
        self.out.written.flawed += u64::from(new.is_some_and(|new| !self.new.rows.flaws_of(new).is_empty()));
        let recorded_at = |old: usize| self.stored.recorded_at.get(old).copied().always("each row has a time");
        match (old, new) {
            (Some(old), None) if !is_gone => return self.out.current.take(self.stored, old..old + 1),
            // Most rows that are written are new, or were there already.
            (None, Some(new)) if past.is_empty() => {
                self.out.written.added += 1;
                self.out.changes_rows = true;
                return self.push_current(Origin::New(new), self.known_at(new));
            }
            (Some(old), Some(new))
                // That a row was the same at a time which its writer names is remembered.
                if self.is_same(Origin::Stored(old), new)
                    && match self.new.known_at {
                        None => recorded_at(old) <= self.now,
                        Some(_) => recorded_at(old) == self.known_at(new),
                    } =>
            {
                self.out.written.unchanged += 1;
                return self.out.current.take(self.stored, old..old + 1);
            }
            _ => {}
        }
        self.take_past(past.start);
        self.past_taken = past.end;
        let current =
            old.map(|old| Version { recorded_at: recorded_at(old), until: CURRENT, row: Origin::Stored(old) });
        let earlier = past.clone().filter_map(|row| {
            let rows = &self.past.rows;
            let (recorded_at, until) = (*rows.recorded_at.get(row)?, *rows.superseded_at.get(row)?);
            Some(Version { recorded_at, until, row: Origin::Past(row) })
        });
        let mut timeline = Timeline::new(earlier.chain(current));
        match new {
            Some(new) => {
                let (row, is_same) = (Origin::New(new), |row| self.is_same(row, new));
                let noted = match self.new.known_at {
                    None => timeline.write(self.now, row, is_same),
                    Some(_) => timeline.record(self.known_at(new), row, is_same),
                };
                self.count(noted);
                if let Some(old) = old.filter(|_| noted == Noted::Replaced) {
                    self.out.replaced.extend(&self.stored.bars, old..old + 1);
                }
            }
            None => self.out.written.removed += u64::from(timeline.remove(self.now)),
        }
        self.out.changes_rows = true;
        self.out.changes_history |= !past.is_empty();
        for version in timeline.versions() {
            if version.until == CURRENT {
                self.push_current(version.row, version.recorded_at);
            } else {
                self.out.changes_history = true;
                self.push_past(version);
            }
        }
    }

    /// Since when a new row is known.
    fn known_at(&self, new: usize) -> i64 {
        let known = |known: &[i64]| known.get(new).copied().always("each row has a time");
        self.new.known_at.map_or(self.now, known)
    }

    /// Whether a version has the values of a new row.
    fn is_same(&self, version: Origin, new: usize) -> bool {
        let (columns, row) = values(self.stored, self.past, self.new, version);
        self.new.rows.same(new, columns, row)
    }

    fn count(&mut self, noted: Noted) {
        let written = &mut self.out.written;
        *match noted {
            Noted::Added => &mut written.added,
            Noted::Replaced => &mut written.replaced,
            Noted::Unchanged => &mut written.unchanged,
            Noted::Backdated => &mut written.backdated,
        } += 1;
    }

    fn push_current(&mut self, row: Origin, recorded_at: i64) {
        let (columns, at) = values(self.stored, self.past, self.new, row);
        self.out.current.bars.extend(columns, at..at + 1);
        self.out.current.recorded_at.push(recorded_at);
    }

    fn push_past(&mut self, version: &Version<Origin>) {
        let (columns, at) = values(self.stored, self.past, self.new, version.row);
        let rows = &mut self.out.history.rows;
        rows.bars.extend(columns, at..at + 1);
        rows.recorded_at.push(version.recorded_at);
        rows.superseded_at.push(version.until);
    }

    /// Takes over the rows of the history in front of `end`.
    fn take_past(&mut self, end: usize) {
        self.out.history.rows.take(&self.past.rows, self.past_taken..end.max(self.past_taken));
        self.past_taken = end.max(self.past_taken);
    }
}

fn values<'a>(stored: &'a Rows, past: &'a History, new: Incoming<'a>, version: Origin) -> (&'a Columns, usize) {
    match version {
        Origin::Stored(row) => (&stored.bars, row),
        Origin::Past(row) => (&past.rows.bars, row),
        Origin::New(row) => (new.rows, row),
    }
}

impl Rows {
    /// Appends rows of `other`.
    pub(super) fn take(&mut self, other: &Self, rows: std::ops::Range<usize>) {
        self.bars.extend(&other.bars, rows.clone());
        self.recorded_at.extend_from_slice(other.recorded_at.get(rows.clone()).always("rows lie in the columns"));
        self.superseded_at.extend_from_slice(other.superseded_at.get(rows).unwrap_or_default());
    }
}
