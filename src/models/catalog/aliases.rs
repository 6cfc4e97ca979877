//! Aliases: names such as `champion` that lead to one version of a model, and where each led before.

use std::collections::BTreeSet;

use crate::{
    engine::{Batch, Reader, Table, sealed},
    types::{
        error::{Error, Result},
        key::{Label, ModelKey, row::RowKey},
        limits::ALIAS_MOVES_MAX,
        time::Timestamp,
        version::Version,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct AliasV1 {
    /// Version and time in nanoseconds, the oldest first; the version 0 for "removed".
    moves: Vec<(u64, i64)>,
}

crate::format::record::schema!(AliasV1, "modelkeep.alias", 1);

/// A name that leads to one version of a model, and its history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alias {
    /// The name.
    pub name: Label,
    /// The version that it leads to; `None` when it was removed.
    pub version: Option<Version>,
    /// Every move of it, the oldest first, at most the last 1,024.
    pub history: Vec<AliasMove>,
}

/// One move of an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AliasMove {
    /// The version that it leads to from then on; `None` when it was removed.
    pub version: Option<Version>,
    /// When it was moved, by the store's clock.
    pub at: Timestamp,
}

fn row_key(key: &ModelKey, name: &Label) -> Vec<u8> {
    RowKey::new().model(key).bytes(name.as_str().as_bytes()).into_bytes()
}

/// Reads an alias; `None` when there never was one of this name.
pub(crate) fn read(reader: &impl Reader, key: &ModelKey, name: &Label) -> Result<Option<Alias>> {
    let record = sealed::record::<AliasV1>(reader, Table::Aliases, &row_key(key, name))?;
    Ok(record.map(|record| from_record(name.clone(), record)))
}

/// All aliases of a model, in order of their names; also those that were removed, for their history.
pub(crate) fn list(reader: &impl Reader, key: &ModelKey) -> Result<Vec<Alias>> {
    let prefix = key.to_bytes();
    let alias = |(row, value): (Vec<u8>, Vec<u8>)| {
        let record = sealed::open_record::<AliasV1>(Table::Aliases, &row, &value)?;
        let broken = || Error::corrupt("read alias", key.to_string(), "its name breaks its own rules");
        let name = row.get(prefix.len()..).and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(broken)?;
        Ok(from_record(Label::new(name).map_err(|err| broken().with_source(err))?, record))
    };
    reader.prefix(Table::Aliases, &prefix)?.into_iter().map(alias).collect()
}

/// The versions that an alias leads to: they are not deleted.
pub(crate) fn targets(reader: &impl Reader, key: &ModelKey) -> Result<BTreeSet<Version>> {
    Ok(list(reader, key)?.into_iter().filter_map(|alias| alias.version).collect())
}

/// Moves an alias, or removes it; returns the version that it led to before.
pub(crate) fn set(
    batch: &Batch,
    key: &ModelKey,
    name: &Label,
    version: Option<Version>,
    now: Timestamp,
) -> Result<Option<Version>> {
    let row = row_key(key, name);
    let mut moves =
        sealed::record::<AliasV1>(batch, Table::Aliases, &row)?.map(|record| record.moves).unwrap_or_default();
    let number = version.map_or(0, Version::get);
    let before = moves.last().map_or(0, |last| last.0);
    if number != before {
        moves.push((number, now.as_nanos()));
        let excess = moves.len().saturating_sub(ALIAS_MOVES_MAX);
        moves.drain(..excess);
        batch.put_record(Table::Aliases, &row, &AliasV1 { moves })?;
    }
    Ok(Version::new(before))
}

/// Removes all aliases of a model with their history; returns the bytes.
pub(crate) fn remove_all(batch: &Batch, key: &ModelKey) -> Result<u64> {
    let rows = batch.keys(Table::Aliases, &key.to_bytes())?;
    rows.iter().map(|row| batch.remove(Table::Aliases, row)).sum()
}

fn from_record(name: Label, record: AliasV1) -> Alias {
    let moved = |(version, at): (u64, i64)| AliasMove { version: Version::new(version), at: Timestamp::from_nanos(at) };
    let history: Vec<AliasMove> = record.moves.into_iter().map(moved).collect();
    Alias { name, version: history.last().and_then(|last| last.version), history }
}
