//! Metadata: what is known of one version of a model. Written once, never changed.

use std::{collections::BTreeMap, mem::offset_of, time::Duration};

use super::{split_versioned, versioned};
use crate::{
    engine::{Batch, Reader, Table, sealed},
    format::{
        codec::Codec,
        record::{PageChecksum, Payload},
        schema::SchemaTag,
    },
    types::{
        error::{Error, Result},
        hash::Digest,
        interval::Interval,
        key::{ConfigHash, Label, ModelKey, ModelName, Symbol},
        level_range::LevelRange,
        time::{Day, Timestamp},
        version::Version,
    },
};

/// What the store knows of one version of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metadata {
    /// The model's name.
    pub model: ModelName,
    /// The version; `None` for a model that was trained and not stored.
    pub version: Option<Version>,
    /// The configuration, in canonical JSON (RFC 8785).
    pub config: String,
    /// BLAKE3 of `config`.
    pub config_hash: ConfigHash,
    /// BLAKE3 of the archive's bytes.
    pub model_hash: Digest,
    /// BLAKE3 of the training data that this publish brought, symbol by symbol; `None` when it brought none.
    pub training_hash: Option<Digest>,
    /// When the lineage began: the last time that the model was trained anew and not updated.
    pub created: Timestamp,
    /// When this version was made. Ages are measured from here.
    pub last_updated: Timestamp,
    /// The newest timestamp among the training samples.
    pub trained_through: Option<Timestamp>,
    /// The number of training samples that this publish brought, all symbols together.
    pub sample_count: u64,
    /// The symbols of these samples, in order.
    pub symbols: Vec<Symbol>,
    /// What the training reported, by name: `auc`, `brier` ...
    pub metrics: BTreeMap<Label, f64>,
    /// The schema of the archive.
    pub schema: SchemaTag,
    /// How the archive was encoded when it was published. A superseded version may since have been compressed.
    pub codec: Codec,
    /// Bytes of the archive in memory.
    pub archive_bytes: u64,
    /// Bytes of the archive in the file when it was published, its header included.
    pub stored_bytes: u64,
    /// The version that this one was trained from, by an update or with a prior.
    pub parent: Option<Version>,
    /// How long the training took.
    pub training_duration: Duration,
    /// What the user wants to find it by.
    pub tags: BTreeMap<Label, String>,
    /// The ranges of VIX and other index levels that the training saw.
    pub levels: Vec<LevelRange>,
    /// The names of the artifacts that were stored with it.
    pub artifacts: Vec<Label>,
}

/// Metadata, and where the archive is.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) metadata: Metadata,
    pub(crate) archive_id: u64,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct MetadataV1 {
    archive_id: u64,
    config: String,
    model_hash: [u8; 32],
    training_hash: Option<[u8; 32]>,
    created: i64,
    last_updated: i64,
    trained_through: Option<i64>,
    sample_count: u64,
    symbols: Vec<String>,
    metrics: Vec<(String, f64)>,
    schema_name: String,
    schema_version: u32,
    codec: u8,
    archive_bytes: u64,
    stored_bytes: u64,
    parent: u64,
    training_nanos: u64,
    tags: Vec<(String, String)>,
    vix: Vec<VixRangeV1>,
    artifacts: Vec<String>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct VixRangeV1 {
    series: String,
    start: i32,
    end: i32,
    days: u64,
    hash: [u8; 32],
}

crate::format::record::schema!(MetadataV1, "modelkeep.metadata", 1);

/// Reads the metadata of one version.
pub(crate) fn read(reader: &impl Reader, key: &ModelKey, version: Version) -> Result<Option<Stored>> {
    let decode = |record: &ArchivedMetadataV1| decode(key, version, record);
    sealed::look_at::<MetadataV1, _>(reader, Table::Metadata, &versioned(key, version), decode)?.transpose()
}

/// The bytes of a version's archive and of its configuration: what it takes in memory, and nothing else of the row is
/// decoded.
pub(crate) fn sizes(reader: &impl Reader, key: &ModelKey, version: Version) -> Result<Option<(u64, usize)>> {
    let sizes = |record: &ArchivedMetadataV1| (record.archive_bytes.to_native(), record.config.len());
    sealed::look_at::<MetadataV1, _>(reader, Table::Metadata, &versioned(key, version), sizes)
}

/// A row as a listing has it: verified, with what most readers want at hand, and the rest still to be decoded.
///
/// That the bytes are those that were written is checked at once, by the seal or by the checksum of the page; their
/// structure where something that has one is read.
#[derive(Clone)]
pub(crate) struct Row {
    payload: Payload<MetadataV1>,
    pub(crate) created: Timestamp,
    pub(crate) last_updated: Timestamp,
    pub(crate) sample_count: u64,
    pub(crate) archive_bytes: u64,
}

impl Row {
    /// Verifies a row that a scan found.
    pub(crate) fn open(row: &[u8], value: &[u8], page: PageChecksum) -> Result<Self> {
        let payload = sealed::payload::<MetadataV1>(Table::Metadata, row, value, page)?;
        let time = |offset| payload.field(offset).map(i64::from_le_bytes).map(Timestamp::from_nanos);
        let count = |offset| payload.field(offset).map(u64::from_le_bytes);
        Ok(Self {
            created: time(offset_of!(ArchivedMetadataV1, created))?,
            last_updated: time(offset_of!(ArchivedMetadataV1, last_updated))?,
            sample_count: count(offset_of!(ArchivedMetadataV1, sample_count))?,
            archive_bytes: count(offset_of!(ArchivedMetadataV1, archive_bytes))?,
            payload,
        })
    }

    /// The value of a tag.
    pub(crate) fn tag(&self, name: &str) -> Result<Option<&str>> {
        let tags = &self.payload.archived()?.tags;
        Ok(tags.iter().find(|tag| tag.0.as_str() == name).map(|tag| tag.1.as_str()))
    }

    /// Whether it has all of these tags, with these values.
    pub(crate) fn has_tags(&self, wanted: &[(Label, String)]) -> Result<bool> {
        if wanted.is_empty() {
            return Ok(true);
        }
        let tags = &self.payload.archived()?.tags;
        let has = |(name, value): &(Label, String)| {
            tags.iter().find(|tag| tag.0.as_str() == name.as_str()).is_some_and(|tag| tag.1.as_str() == value)
        };
        Ok(wanted.iter().all(has))
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Result<Option<f64>> {
        let metrics = &self.payload.archived()?.metrics;
        Ok(metrics.iter().find(|metric| metric.0.as_str() == name).map(|metric| metric.1.to_native()))
    }

    /// All of it.
    pub(crate) fn decode(&self, key: &ModelKey, version: Version) -> Result<Metadata> {
        Ok(decode(key, version, self.payload.archived()?)?.metadata)
    }
}

/// Makes the row of a version of the row of its model's head.
pub(crate) fn extend_row_key(row: &mut Vec<u8>, version: Version) {
    row.extend_from_slice(&version.get().to_be_bytes());
}

/// Reads the metadata of a version that the head or another row refers to, so that it must be there.
pub(crate) fn require(reader: &impl Reader, key: &ModelKey, version: Version) -> Result<Stored> {
    read(reader, key, version)?.ok_or_else(|| absent(key, version))
}

/// The error for a reference to a version whose metadata is not there.
pub(crate) fn absent(key: &ModelKey, version: Version) -> Error {
    Error::corrupt("read metadata", format!("{key} {version}"), "it is referred to and not in the file")
}

/// The version numbers under `key`, in order; a damaged row still has its number.
pub(crate) fn versions(reader: &impl Reader, key: &ModelKey) -> Result<Vec<Version>> {
    let rows = reader.keys(Table::Metadata, &key.to_bytes())?;
    Ok(rows.iter().filter_map(|row| split_versioned(row)).map(|(_, version, _)| version).collect())
}

/// Splits a row's key into model key and version, for a scan of the table.
pub(crate) fn split_row(row: &[u8]) -> Option<(ModelKey, Version)> {
    split_versioned(row).map(|(key, version, _)| (key, version))
}

/// Writes the metadata of a version and where its archive is.
pub(crate) fn write(
    batch: &Batch,
    key: &ModelKey,
    version: Version,
    archive_id: u64,
    metadata: &Metadata,
) -> Result<()> {
    let record = MetadataV1 {
        archive_id,
        config: metadata.config.clone(),
        model_hash: *metadata.model_hash.as_bytes(),
        training_hash: metadata.training_hash.map(|hash| *hash.as_bytes()),
        created: metadata.created.as_nanos(),
        last_updated: metadata.last_updated.as_nanos(),
        trained_through: metadata.trained_through.map(Timestamp::as_nanos),
        sample_count: metadata.sample_count,
        symbols: metadata.symbols.iter().map(ToString::to_string).collect(),
        metrics: metadata.metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
        schema_name: metadata.schema.name().to_owned(),
        schema_version: metadata.schema.version(),
        codec: metadata.codec.id(),
        archive_bytes: metadata.archive_bytes,
        stored_bytes: metadata.stored_bytes,
        parent: metadata.parent.map_or(0, Version::get),
        training_nanos: u64::try_from(metadata.training_duration.as_nanos()).unwrap_or(u64::MAX),
        tags: metadata.tags.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        vix: metadata.levels.iter().map(VixRangeV1::from).collect(),
        artifacts: metadata.artifacts.iter().map(ToString::to_string).collect(),
    };
    batch.put_record(Table::Metadata, &versioned(key, version), &record)
}

/// Reads a record where it lies.
fn decode(key: &ModelKey, version: Version, record: &ArchivedMetadataV1) -> Result<Stored> {
    // A seal that holds around names that break their own rules was made by another release, or by a forger.
    let refuse = |err: Error| {
        Error::corrupt("read metadata", format!("{key} {version}"), "a field breaks its own rules").with_source(err)
    };
    let codec = Codec::from_id(record.codec)
        .ok_or_else(|| refuse(Error::invalid("read codec", record.codec.to_string(), "unknown")))?;
    let time = |nanos: &rkyv::rend::i64_le| Timestamp::from_nanos(nanos.to_native());
    let metadata = Metadata {
        model: key.name().clone(),
        version: Some(version),
        config_hash: key.config_hash(),
        config: record.config.as_str().to_owned(),
        model_hash: Digest::from_bytes(record.model_hash),
        training_hash: record.training_hash.as_ref().map(|hash| Digest::from_bytes(*hash)),
        created: time(&record.created),
        last_updated: time(&record.last_updated),
        trained_through: record.trained_through.as_ref().map(time),
        sample_count: record.sample_count.to_native(),
        symbols: record.symbols.iter().map(|name| Symbol::new(name)).collect::<Result<_>>().map_err(refuse)?,
        metrics: record
            .metrics
            .iter()
            .map(|metric| Ok((Label::new(&metric.0)?, metric.1.to_native())))
            .collect::<Result<_>>()
            .map_err(refuse)?,
        schema: SchemaTag {
            name: Label::new(&record.schema_name).map_err(refuse)?,
            version: record.schema_version.to_native(),
        },
        codec,
        archive_bytes: record.archive_bytes.to_native(),
        stored_bytes: record.stored_bytes.to_native(),
        parent: Version::new(record.parent.to_native()),
        training_duration: Duration::from_nanos(record.training_nanos.to_native()),
        tags: record
            .tags
            .iter()
            .map(|tag| Ok((Label::new(&tag.0)?, tag.1.as_str().to_owned())))
            .collect::<Result<_>>()
            .map_err(refuse)?,
        levels: record.vix.iter().map(LevelRange::try_from).collect::<Result<_>>().map_err(refuse)?,
        artifacts: record.artifacts.iter().map(|name| Label::new(name)).collect::<Result<_>>().map_err(refuse)?,
    };
    Ok(Stored { metadata, archive_id: record.archive_id.to_native() })
}

impl From<&LevelRange> for VixRangeV1 {
    fn from(seen: &LevelRange) -> Self {
        Self {
            series: seen.series.to_string(),
            start: seen.range.start().epoch_days(),
            end: seen.range.end().epoch_days(),
            days: seen.days,
            hash: *seen.hash.as_bytes(),
        }
    }
}

impl TryFrom<&ArchivedVixRangeV1> for LevelRange {
    type Error = Error;

    fn try_from(record: &ArchivedVixRangeV1) -> Result<Self> {
        let day = |days: rkyv::rend::i32_le| {
            let days = days.to_native();
            Day::from_epoch_days(days).map_err(|err| Error::invalid("read day", days.to_string(), err.to_string()))
        };
        Ok(Self {
            series: Symbol::new(&record.series)?,
            range: Interval::new(day(record.start)?, day(record.end)?)?,
            days: record.days.to_native(),
            hash: Digest::from_bytes(record.hash),
        })
    }
}

/// The archive id that a row refers to; `None` for an unreadable row.
pub(crate) fn reference(row: &[u8], value: &[u8]) -> Option<u64> {
    sealed::open_record::<MetadataV1>(Table::Metadata, row, value).ok().map(|record| record.archive_id)
}
