//! Decisions that were taken, in the order in which they were: the newest ten thousand.
//!
//! Reasons are kept as the text that says them: what a reason is made of changes from release to release, and what was
//! said then does not.

use std::time::Duration;

use super::super::decision::{DecisionEntry, Verdict};
use crate::{
    engine::{Batch, Reader, Snapshot, Table, sealed},
    types::{
        error::{Error, Result},
        hash::hex,
        key::{
            ConfigHash, ModelKey, ModelName,
            row::{Fields, RowKey},
        },
        limits::DECISIONS_MAX,
        time::Timestamp,
        version::Version,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct DecisionV1 {
    at: i64,
    model: String,
    config_hash: [u8; 32],
    verdict: u8,
    reasons: Vec<String>,
    took_nanos: u64,
    version: u64,
}

crate::format::record::schema!(DecisionV1, "modelkeep.decision", 1);

const READ: &str = "read decision";

/// Adds these, and removes the oldest ones that are too many.
pub(crate) fn append(batch: &Batch, new: &[DecisionEntry]) -> Result<()> {
    let keys = batch.keys(Table::Decisions, b"")?;
    let last = keys.last().and_then(|key| Fields::of(key).u64()).unwrap_or(0);
    for (number, entry) in (last + 1..).zip(new) {
        let record = DecisionV1 {
            at: entry.at.as_nanos(),
            model: entry.key.name().to_string(),
            config_hash: *entry.key.config_hash().as_bytes(),
            verdict: entry.verdict.id(),
            reasons: entry.reasons.clone(),
            took_nanos: u64::try_from(entry.took.as_nanos()).unwrap_or(u64::MAX),
            version: entry.version.map_or(0, Version::get),
        };
        batch.put_record(Table::Decisions, &RowKey::new().u64(number).into_bytes(), &record)?;
    }
    let surplus = (keys.len() + new.len()).saturating_sub(DECISIONS_MAX);
    for key in keys.iter().take(surplus) {
        batch.remove(Table::Decisions, key)?;
    }
    Ok(())
}

/// All of them, the oldest first.
pub(crate) fn list(snapshot: &Snapshot) -> Result<Vec<DecisionEntry>> {
    snapshot.prefix(Table::Decisions, b"")?.iter().map(|(row, value)| open(row, value)).collect()
}

fn open(row: &[u8], value: &[u8]) -> Result<DecisionEntry> {
    let record = sealed::open_record::<DecisionV1>(Table::Decisions, row, value)?;
    let refuse = |message| Error::corrupt(READ, hex(row), message);
    let name = ModelName::new(&record.model)
        .map_err(|err| refuse("the name of its model breaks the rules of names").with_source(err))?;
    Ok(DecisionEntry {
        at: Timestamp::from_nanos(record.at),
        key: ModelKey::from_hash(name, ConfigHash::from_bytes(record.config_hash)),
        verdict: Verdict::from_id(record.verdict).ok_or_else(|| refuse("its verdict is unknown"))?,
        reasons: record.reasons,
        took: Duration::from_nanos(record.took_nanos),
        version: Version::new(record.version),
    })
}
