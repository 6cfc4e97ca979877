//! Training data in the file: one row per model key and symbol, which names the archive that holds the columns.
//!
//! A symbol whose samples did not change is not written again, so that an update of one symbol among many costs one.

use std::collections::{BTreeMap, BTreeSet};

use super::{samples::Samples, set::TrainingSet};
use crate::{
    engine::{
        Batch, Reader, Snapshot, Table,
        sealed::{self, Blob},
    },
    format::{
        codec::Codec,
        envelope::{Kind, Verify},
        schema::{Schema, SchemaTag},
    },
    types::{
        error::{Error, Result},
        hash::Digest,
        key::{Label, ModelKey, Symbol, row::RowKey},
        time::Timestamp,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct TrainingRowV1 {
    archive_id: u64,
    hash: [u8; 32],
    samples: u64,
    features: u32,
    first: i64,
    last: i64,
    raw_bytes: u64,
    stored_bytes: u64,
}

crate::format::record::schema!(TrainingRowV1, "modelkeep.training_row", 1);

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SamplesV1 {
    symbol: String,
    feature_names: Vec<String>,
    timestamps: Vec<i64>,
    features: Vec<f64>,
    target: Vec<f64>,
}

const SAMPLES: Schema = Schema::new("modelkeep.samples", 1);

/// What is stored of one symbol's training samples.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrainingSummary {
    /// The symbol.
    pub symbol: Symbol,
    /// Rows.
    pub samples: u64,
    /// Features per row.
    pub features: u32,
    /// The first and the last timestamp; `None` when there are no rows.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Bytes of the columns in memory.
    pub raw_bytes: u64,
    /// Bytes of the columns in the file.
    pub stored_bytes: u64,
    /// BLAKE3 of the columns.
    pub hash: Digest,
}

/// One symbol's samples as bytes, hashed: the work that is done before a transaction begins.
pub(crate) struct Prepared {
    rows: Vec<PreparedSymbol>,
}

struct PreparedSymbol {
    symbol: Symbol,
    raw: rkyv::util::AlignedVec,
    row: TrainingRowV1,
}

impl Prepared {
    /// Serialises and hashes every symbol of `set`.
    pub(crate) fn new(set: &TrainingSet) -> Result<Self> {
        Ok(Self { rows: set.iter().map(PreparedSymbol::new).collect::<Result<_>>()? })
    }

    /// The hash of the whole set: of the symbols and their hashes, in order.
    pub(crate) fn hash(&self) -> Digest {
        let mut all = Vec::new();
        for row in &self.rows {
            all.extend_from_slice(row.symbol.as_str().as_bytes());
            all.push(0);
            all.extend_from_slice(&row.row.hash);
        }
        Digest::of(&all)
    }
}

impl PreparedSymbol {
    fn new(samples: &Samples) -> Result<Self> {
        let symbol = samples.symbol().clone();
        let nanos: Vec<i64> = samples.timestamps().iter().map(|at| at.as_nanos()).collect();
        let (first, last) = (nanos.first().copied(), nanos.last().copied());
        let record = SamplesV1 {
            symbol: symbol.to_string(),
            feature_names: samples.feature_names().iter().map(ToString::to_string).collect(),
            timestamps: nanos,
            features: samples.features().to_vec(),
            target: samples.target().to_vec(),
        };
        let raw = rkyv::to_bytes::<rkyv::rancor::Error>(&record).map_err(|err| {
            Error::invalid("write samples", symbol.to_string(), "they cannot be serialised").with_source(err)
        })?;
        let row = TrainingRowV1 {
            archive_id: 0,
            hash: *Digest::of(&raw).as_bytes(),
            samples: samples.len() as u64,
            features: u32::try_from(samples.width()).unwrap_or(u32::MAX),
            first: first.unwrap_or(0),
            last: last.unwrap_or(0),
            raw_bytes: raw.len() as u64,
            stored_bytes: 0,
        };
        Ok(Self { symbol, raw, row })
    }
}

fn row_key(key: &ModelKey, symbol: &str) -> Vec<u8> {
    RowKey::new().model(key).bytes(symbol.as_bytes()).into_bytes()
}

/// The symbol at the end of a row's key.
fn row_symbol(row: &[u8]) -> Result<Symbol> {
    let (_, symbol) = ModelKey::split_from(row)?;
    let text = std::str::from_utf8(symbol).unwrap_or_default();
    Symbol::new(text).map_err(|err| {
        Error::corrupt("read samples", crate::types::hash::hex(row), "the row's key names no symbol").with_source(err)
    })
}

/// Reads a row and the symbol that its key names.
fn open_row(row: &[u8], value: &[u8]) -> Result<(Symbol, TrainingRowV1)> {
    Ok((row_symbol(row)?, sealed::open_record::<TrainingRowV1>(Table::Training, row, value)?))
}

fn rows(reader: &impl Reader, key: &ModelKey) -> Result<BTreeMap<Symbol, TrainingRowV1>> {
    reader.prefix(Table::Training, &key.to_bytes())?.iter().map(|(row, value)| open_row(row, value)).collect()
}

/// Says what is stored under `key`, without reading the columns.
pub(crate) fn summaries(reader: &impl Reader, key: &ModelKey) -> Result<Vec<TrainingSummary>> {
    let summary = |(symbol, row): (Symbol, TrainingRowV1)| TrainingSummary {
        symbol,
        samples: row.samples,
        features: row.features,
        span: (row.samples > 0).then(|| (Timestamp::from_nanos(row.first), Timestamp::from_nanos(row.last))),
        raw_bytes: row.raw_bytes,
        stored_bytes: row.stored_bytes,
        hash: Digest::from_bytes(row.hash),
    };
    Ok(rows(reader, key)?.into_iter().map(summary).collect())
}

/// Reads all training data of `key`, checked in full; `None` when there is none.
pub(crate) fn read(snapshot: &Snapshot, key: &ModelKey) -> Result<Option<TrainingSet>> {
    let rows = rows(snapshot, key)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let schema = SAMPLES.tag()?;
    let mut set = TrainingSet::new();
    for (symbol, row) in rows {
        set.insert(read_samples(snapshot, &schema, &symbol, &row)?)?;
    }
    Ok(Some(set))
}

fn read_samples(snapshot: &Snapshot, schema: &SchemaTag, symbol: &Symbol, row: &TrainingRowV1) -> Result<Samples> {
    let broken = |message: &str| Error::corrupt("read samples", symbol.to_string(), message);
    let raw = snapshot.blob(row.archive_id)?.read(Kind::Training, schema)?;
    if *Digest::of(&raw).as_bytes() != row.hash {
        return Err(broken("the columns do not hash to what their row says"));
    }
    let record = rkyv::from_bytes::<SamplesV1, rkyv::rancor::Error>(&raw)
        .map_err(|err| broken("the structure of the columns is broken").with_source(err))?;
    if record.symbol != symbol.as_str() {
        return Err(broken("the columns are of another symbol"));
    }
    let names = record.feature_names.iter().map(|name| Label::new(name)).collect::<Result<Vec<_>>>();
    let samples = names.and_then(|names| {
        let samples = Samples {
            timestamps: record.timestamps.into_iter().map(Timestamp::from_nanos).collect(),
            features: record.features,
            target: record.target,
            ..Samples::with_names(symbol.clone(), names)?
        };
        samples.check().map(|()| samples)
    });
    samples.map_err(|err| broken("the columns break their own rules").with_source(err))
}

/// Compresses the symbols of `prepared` that changed since they were stored, or whose archive is damaged: the work that
/// is done before a transaction begins.
pub(crate) fn encode<'a>(
    snapshot: &Snapshot,
    key: &ModelKey,
    prepared: &'a Prepared,
) -> Result<BTreeMap<&'a Symbol, Blob<'a>>> {
    let whole = |id| snapshot.blob(id).is_ok_and(|blob| blob.open(Kind::Training, Verify::Full).is_ok());
    let mut stored = BTreeMap::new();
    for (row, value) in snapshot.prefix(Table::Training, &key.to_bytes())? {
        // What cannot be read is written again.
        if let Ok((symbol, record)) = open_row(&row, &value) {
            stored.insert(symbol, record);
        }
    }
    let schema = SAMPLES.tag()?;
    let changed = prepared.rows.iter().filter(|prepared| {
        !stored.get(&prepared.symbol).is_some_and(|old| old.hash == prepared.row.hash && whole(old.archive_id))
    });
    changed.map(|row| Ok((&row.symbol, Blob::encode(Kind::Training, &schema, Codec::Zstd, &row.raw)?))).collect()
}

/// Makes `prepared` the training data of `key`: writes the symbols that were `encoded`, removes those that are gone,
/// and whatever rows cannot be read.
pub(crate) fn write(
    batch: &Batch,
    key: &ModelKey,
    prepared: &Prepared,
    mut encoded: BTreeMap<&Symbol, Blob<'_>>,
) -> Result<()> {
    let schema = SAMPLES.tag()?;
    let wanted: BTreeSet<&Symbol> = prepared.rows.iter().map(|row| &row.symbol).collect();
    let mut stored = BTreeMap::new();
    for (row, value) in batch.prefix(Table::Training, &key.to_bytes())? {
        match open_row(&row, &value) {
            Ok((symbol, record)) if wanted.contains(&symbol) => drop(stored.insert(symbol, record)),
            Ok((_, record)) => {
                batch.remove_archive(record.archive_id)?;
                batch.remove(Table::Training, &row)?;
            }
            Err(error) => {
                tracing::error!(%key, %error, "a damaged row of training data is removed; its samples stay unnamed");
                batch.remove(Table::Training, &row)?;
            }
        }
    }
    for PreparedSymbol { symbol, raw, row } in &prepared.rows {
        let old = stored.get(symbol);
        let blob = match encoded.remove(symbol) {
            Some(blob) => blob,
            None if old.is_some_and(|old| old.hash == row.hash) => continue,
            // Somebody else published other samples since this was looked at.
            None => Blob::encode(Kind::Training, &schema, Codec::Zstd, raw)?,
        };
        if let Some(old) = old {
            batch.remove_archive(old.archive_id)?;
        }
        let record =
            TrainingRowV1 { archive_id: batch.put_blob(&blob)?, stored_bytes: blob.stored_bytes(), ..row.copy() };
        batch.put_record(Table::Training, &row_key(key, symbol.as_str()), &record)?;
    }
    Ok(())
}

/// Removes all training data of `key`; returns the bytes of keys and values.
pub(crate) fn remove(batch: &Batch, key: &ModelKey) -> Result<u64> {
    let mut bytes = 0;
    for (row, value) in batch.prefix(Table::Training, &key.to_bytes())? {
        match sealed::open_record::<TrainingRowV1>(Table::Training, &row, &value) {
            Ok(record) => bytes += batch.remove_archive(record.archive_id)?,
            Err(error) => tracing::error!(%key, %error, "the samples of a damaged row cannot be found and stay"),
        }
        bytes += batch.remove(Table::Training, &row)?;
    }
    Ok(bytes)
}

/// The archive id that a row refers to; `None` for an unreadable row.
pub(crate) fn reference(row: &[u8], value: &[u8]) -> Option<u64> {
    sealed::open_record::<TrainingRowV1>(Table::Training, row, value).ok().map(|record| record.archive_id)
}

impl TrainingRowV1 {
    fn copy(&self) -> Self {
        Self { ..*self }
    }
}
