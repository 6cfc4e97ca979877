//! Quarantine: versions that were found damaged and are not served again.
//!
//! A damaged version stays in the file, so that it can be examined, until it is pruned or removed.

use super::versioned;
use crate::{
    engine::{Batch, Reader, Table, sealed},
    types::{error::Result, key::ModelKey, time::Timestamp, version::Version},
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct QuarantineV1 {
    reason: String,
    found: i64,
}

crate::format::record::schema!(QuarantineV1, "modelkeep.quarantine", 1);

/// A version that is not served because it was found damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The model's key.
    pub key: ModelKey,
    /// The version.
    pub version: Version,
    /// What was wrong with it.
    pub reason: String,
    /// When it was found.
    pub found: Timestamp,
}

/// Returns why a version is not served, if it is not.
pub(crate) fn reason(reader: &impl Reader, key: &ModelKey, version: Version) -> Result<Option<String>> {
    let row = versioned(key, version);
    Ok(sealed::record::<QuarantineV1>(reader, Table::Quarantine, &row)?.map(|record| record.reason))
}

/// Writes that a version is not to be served.
pub(crate) fn write(batch: &Batch, key: &ModelKey, version: Version, reason: &str, found: Timestamp) -> Result<()> {
    let record = QuarantineV1 { reason: reason.to_owned(), found: found.as_nanos() };
    batch.put_record(Table::Quarantine, &versioned(key, version), &record)
}

/// All quarantined versions.
pub(crate) fn list(reader: &impl Reader) -> Result<Vec<Quarantined>> {
    let rows = reader.prefix(Table::Quarantine, b"")?;
    let read = |(row, value): &(Vec<u8>, Vec<u8>)| {
        let (key, version) = super::metadata::split_row(row)?;
        let record = sealed::open_record::<QuarantineV1>(Table::Quarantine, row, value).ok()?;
        let found = Timestamp::from_nanos(record.found);
        Some(Quarantined { key, version, reason: record.reason, found })
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Removes the note of a version; returns the bytes.
pub(super) fn remove(batch: &Batch, key: &ModelKey, version: Version) -> Result<u64> {
    batch.remove(Table::Quarantine, &versioned(key, version))
}
