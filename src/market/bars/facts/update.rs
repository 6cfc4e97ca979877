//! Bringing facts in step with a write, in its transaction.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::PoisonError,
};

use super::{
    list::from_chunks,
    log::ChangeLog,
    record::{Facts, Head, Numbers, Writer},
};
use crate::{
    engine::{Batch, Reader, Table},
    market::{
        Market,
        bars::{key::SeriesId, plan::Planned},
    },
    types::{
        error::{Error, ErrorKind, Result, unless_corrupt},
        interval::Interval,
        time::Timestamp,
    },
};

/// A transaction that changes bars: its number, and whether a series without facts has no bars.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    number: u64,
    is_complete: bool,
    now: Timestamp,
}

impl Market {
    /// The number of the change that this transaction makes. All of a transaction is one change.
    pub(crate) fn change(&self, batch: &Batch) -> Result<Change> {
        let now = self.core.now();
        let head = readable(Head::read(batch))?;
        if batch.has_written(Table::BarFacts, super::record::HEAD)
            && let Some(last) = head.as_ref().and_then(Head::last)
        {
            let is_complete = head.is_some_and(|head| head.is_complete);
            return Ok(Change { number: last.last, is_complete, now });
        }
        let mut head = match head {
            Some(head) => head,
            None => Head { is_complete: has_no_bars(batch)?, writers: Vec::new() },
        };
        let number = head.last().map_or(0, |last| last.last).saturating_add(1);
        let mut session = self.facts_writer.lock().unwrap_or_else(PoisonError::into_inner);
        match head.writers.last_mut() {
            Some(last) if Some(last.id) == *session => last.last = number,
            // The first change since the store was opened, or since the head was lost: states of before are told apart.
            _ => {
                // The first keys of a thread come from the operating system's generator.
                let id = RandomState::new().build_hasher().finish();
                *session = Some(id);
                head.writers.push(Writer { id, first: number, last: number });
            }
        }
        head.write(batch)?;
        Ok(Change { number, is_complete: head.is_complete, now })
    }
}

/// Whether the file had no bars before a transaction, and knows that it had none.
fn has_no_bars(batch: &Batch) -> Result<bool> {
    if batch.before().has_losses(Table::Bars) || batch.before().has_losses(Table::BarFacts) {
        return Ok(false);
    }
    let mut rows = batch.before().scan(Table::Bars, b"");
    match rows.next_sealed(|_, _| ()) {
        None => Ok(true),
        Some(Err(err)) if err.kind() != ErrorKind::Corrupt => Err(err),
        Some(_) => Ok(false),
    }
}

/// What was read; `None` for what is damaged.
fn readable<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "facts of bars are damaged, and computed again");
            Ok(None)
        }
        read => read,
    }
}

/// Writes the facts of a series whose planned rows are in the transaction.
pub(crate) fn record(batch: &Batch, series: &SeriesId, planned: &Planned, change: Change) -> Result<()> {
    if planned.chunks.is_empty() {
        return Ok(());
    }
    let stored = Facts::read(batch, series);
    let is_damaged = stored.as_ref().is_err_and(|err| err.kind() == ErrorKind::Corrupt);
    let stored = readable(stored)?;
    let (numbers, mut log) = match stored {
        Some(facts) => (facts.numbers.and_then(|numbers| numbers.after(series, planned)), facts.log),
        None if change.is_complete && !is_damaged => (Numbers::default().after(series, planned), ChangeLog::default()),
        None => (None, ChangeLog::default()),
    };
    let numbers = match numbers {
        Some(numbers) => Some(numbers),
        // Where a chunk is damaged, those who ask are told.
        None => unless_corrupt(from_chunks(batch, series))?,
    };
    if is_damaged {
        log.add(change.number, [Interval::all_time()]);
    } else {
        log.add(change.number, changed(planned));
    }
    Facts { numbers, written_at: change.now, log }.write(batch, series)
}

/// The intervals of rows that changed: neighbouring chunks that changed up to their common border are one.
fn changed(planned: &Planned) -> Vec<Interval<Timestamp>> {
    let mut all: Vec<Interval<Timestamp>> = Vec::new();
    let mut goes_on = false;
    for chunk in planned.chunks.values() {
        let Some(changed) = chunk.changed else { continue };
        match all.last_mut() {
            Some(last) if goes_on && chunk.reaches.0 => {
                *last = Interval::between(last.start(), last.end().max(changed.end()));
            }
            _ => all.push(changed),
        }
        goes_on = chunk.reaches.1;
    }
    all
}

impl Numbers {
    /// The numbers after a write; `None` where only the chunks can say.
    fn after(self, series: &SeriesId, planned: &Planned) -> Option<Self> {
        let period = series.period();
        let mut numbers = self;
        let held = numbers.edges.map(|(first, last)| (period.index(first.at), period.index(last.at)));
        for chunk in planned.chunks.values() {
            if chunk.was_damaged {
                return None;
            }
            numbers.bars = numbers.bars.checked_sub(chunk.bars.0)?.checked_add(chunk.bars.1)?;
            numbers.stored_bytes = numbers.stored_bytes.checked_sub(chunk.bytes.0)?.checked_add(chunk.bytes.1)?;
            numbers.chunks = numbers.chunks.checked_sub(u64::from(chunk.bytes.0 > 0))?;
            numbers.chunks += u64::from(chunk.bytes.1 > 0);
        }
        if numbers.bars == 0 {
            numbers.edges = None;
            return Some(numbers);
        }
        let left = || planned.chunks.iter().filter_map(|(index, chunk)| Some((*index, chunk.edges?)));
        let (first, last) = (left().next(), left().next_back());
        // The chunk with the first bar, or the last one, may be empty now: then the one beside it has it.
        let is_gone = |index: i64| planned.chunks.get(&index).is_some_and(|chunk| chunk.edges.is_none());
        let first = match (held, first) {
            (None, first) => first?.1.0,
            (Some((index, _)), Some((touched, edges))) if touched <= index => edges.0,
            (Some((index, _)), _) if is_gone(index) => return None,
            (Some(_), _) => numbers.edges?.0,
        };
        let last = match (held, last) {
            (None, last) => last?.1.1,
            (Some((_, index)), Some((touched, edges))) if index <= touched => edges.1,
            (Some((_, index)), _) if is_gone(index) => return None,
            (Some(_), _) => numbers.edges?.1,
        };
        numbers.edges = Some((first, last));
        Some(numbers)
    }
}

/// Checks the facts of a series against its chunks.
pub(crate) fn check(reader: &impl Reader, key: &[u8], value: &[u8]) -> Result<()> {
    let Some(series) = super::record::series_of(key) else {
        return Ok(());
    };
    let Some(recorded) = Facts::open(key, value)?.numbers else {
        return Ok(());
    };
    // What keeps chunks from being read is found where they are.
    let Ok(found) = from_chunks(reader, &series) else {
        return Ok(());
    };
    if recorded == found {
        return Ok(());
    }
    let message = format!(
        "the facts say {} bars in {} chunks and {} bytes, or name another first or last bar; stored \
                           are {} in {} and {}: one of the two was changed without the other",
        recorded.bars, recorded.chunks, recorded.stored_bytes, found.bars, found.chunks, found.stored_bytes
    );
    Err(Error::corrupt("verify", series.to_string(), message))
}
