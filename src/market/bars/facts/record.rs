//! The rows of facts, as they are stored.

use super::log::{ChangeLog, Entry};
use crate::{
    engine::{Batch, Reader, Table, sealed},
    market::bars::{key::SeriesId, plan::Edge},
    types::{
        error::{Error, Result},
        interval::Interval,
        time::Timestamp,
    },
};

/// The key of the row that is about all series. No series has it: a symbol is not empty.
pub(crate) const HEAD: &[u8] = &[0];

/// Writers that the head remembers. States that others took may differ from this file in anything.
const WRITERS_MAX: usize = 128;

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct FactsHeadV1 {
    /// Every series that has bars has a row of facts.
    is_complete: bool,
    /// Numbers drawn at random, one for each time that the store was opened for writing, the last one last.
    writers: Vec<u64>,
    /// The first and the last change that each of them made.
    first_changes: Vec<u64>,
    last_changes: Vec<u64>,
}

crate::format::record::schema!(FactsHeadV1, "modelkeep.bar_facts_head", 1);

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct BarFactsV1 {
    /// Whether the numbers are known. Otherwise only the changes are.
    is_known: bool,
    bars: u64,
    chunks: u64,
    stored_bytes: u64,
    /// Of the first bar and of the last one: time, close, volume; empty when there are none.
    edge_times: Vec<i64>,
    edge_values: Vec<f64>,
    written_at: i64,
    /// The log: change, first row, and the end of the last row.
    changes: Vec<u64>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

crate::format::record::schema!(BarFactsV1, "modelkeep.bar_facts", 1);

/// What is stored of one series, in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) bars: u64,
    pub(crate) chunks: u64,
    pub(crate) stored_bytes: u64,
    /// The first and the last bar; `None` when there are none.
    pub(crate) edges: Option<(Edge, Edge)>,
}

/// The row of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// `None` where only the chunks can say.
    pub(crate) numbers: Option<Numbers>,
    pub(crate) written_at: Timestamp,
    pub(crate) log: ChangeLog,
}

/// Somebody who had the store open for writing, and what he changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    pub(crate) id: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The row that is about all series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) is_complete: bool,
    /// Not empty: whoever wrote the head is in it.
    pub(crate) writers: Vec<Writer>,
}

impl Head {
    /// Reads the head; `None` when no release that knows of facts wrote bars yet.
    pub(crate) fn read(reader: &impl Reader) -> Result<Option<Self>> {
        let Some((value, _)) = reader.get(Table::BarFacts, HEAD)? else {
            return Ok(None);
        };
        Self::open(&value).map(Some)
    }

    pub(crate) fn open(value: &[u8]) -> Result<Self> {
        let record = sealed::open_record::<FactsHeadV1>(Table::BarFacts, HEAD, value)?;
        let spans = record.first_changes.into_iter().zip(record.last_changes);
        let writers = record.writers.into_iter().zip(spans);
        let writers: Vec<_> = writers.map(|(id, (first, last))| Writer { id, first, last }).collect();
        if writers.is_empty() {
            return Err(Error::corrupt("read facts", "head", "nobody wrote it"));
        }
        Ok(Self { is_complete: record.is_complete, writers })
    }

    pub(crate) fn write(&self, batch: &Batch) -> Result<()> {
        let kept = self.writers.len().saturating_sub(WRITERS_MAX);
        let writers = || self.writers.iter().skip(kept);
        let record = FactsHeadV1 {
            is_complete: self.is_complete,
            writers: writers().map(|writer| writer.id).collect(),
            first_changes: writers().map(|writer| writer.first).collect(),
            last_changes: writers().map(|writer| writer.last).collect(),
        };
        batch.put_record(Table::BarFacts, HEAD, &record)
    }

    /// The last change, and who made it.
    pub(crate) fn last(&self) -> Option<Writer> {
        self.writers.last().copied()
    }
}

impl Facts {
    /// Reads the row of a series.
    pub(crate) fn read(reader: &impl Reader, series: &SeriesId) -> Result<Option<Self>> {
        let key = series.prefix();
        let Some((value, _)) = reader.get(Table::BarFacts, &key)? else {
            return Ok(None);
        };
        Self::open(&key, &value).map(Some)
    }

    /// Opens a row that was read as bytes.
    pub(crate) fn open(key: &[u8], value: &[u8]) -> Result<Self> {
        let broken = || Error::corrupt("read facts", Table::BarFacts.describe(key), "they break their own rules");
        let record = sealed::open_record::<BarFactsV1>(Table::BarFacts, key, value)?;
        let edges = match (record.edge_times.as_slice(), record.edge_values.as_slice()) {
            ([], []) if record.bars == 0 => None,
            ([first, last], [first_close, first_volume, last_close, last_volume]) if record.bars > 0 => {
                let edge = |at: &i64, close: &f64, volume: &f64| Edge {
                    at: Timestamp::from_nanos(*at),
                    close: *close,
                    volume: *volume,
                };
                Some((edge(first, first_close, first_volume), edge(last, last_close, last_volume)))
            }
            _ => return Err(broken()),
        };
        let (bars, chunks, stored_bytes) = (record.bars, record.chunks, record.stored_bytes);
        let mut entries = Vec::with_capacity(record.changes.len());
        for ((change, start), end) in record.changes.into_iter().zip(record.starts).zip(record.ends) {
            let rows = Interval::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)).map_err(|_| broken())?;
            entries.push(Entry { change, rows });
        }
        Ok(Self {
            numbers: record.is_known.then_some(Numbers { bars, chunks, stored_bytes, edges }),
            written_at: Timestamp::from_nanos(record.written_at),
            log: ChangeLog::new(entries),
        })
    }

    pub(crate) fn write(&self, batch: &Batch, series: &SeriesId) -> Result<()> {
        let numbers = self.numbers.clone().unwrap_or_default();
        let (mut edge_times, mut edge_values) = (Vec::new(), Vec::new());
        for edge in numbers.edges.into_iter().flat_map(|(first, last)| [first, last]) {
            edge_times.push(edge.at.as_nanos());
            edge_values.extend([edge.close, edge.volume]);
        }
        let entries = self.log.entries();
        let record = BarFactsV1 {
            is_known: self.numbers.is_some(),
            bars: numbers.bars,
            chunks: numbers.chunks,
            stored_bytes: numbers.stored_bytes,
            edge_times,
            edge_values,
            written_at: self.written_at.as_nanos(),
            changes: entries.iter().map(|entry| entry.change).collect(),
            starts: entries.iter().map(|entry| entry.rows.start().as_nanos()).collect(),
            ends: entries.iter().map(|entry| entry.rows.end().as_nanos()).collect(),
        };
        batch.put_record(Table::BarFacts, &series.prefix(), &record)
    }
}

/// The series of a row of facts; `None` for the head.
pub(crate) fn series_of(key: &[u8]) -> Option<SeriesId> {
    // A row of bars has a period behind it.
    SeriesId::of_row(&[key, &[0; 8]].concat()).ok().map(|(series, _)| series)
}
