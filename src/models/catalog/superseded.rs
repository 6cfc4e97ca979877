//! What publishes left for later: superseded versions that are to be compressed, and models that have more versions
//! than are kept.
//!
//! A row is written by the publish that leaves something, in its transaction, and goes with the transaction that does
//! it. So a store that is opened again knows what is left. A row that is lost costs room, and nothing else.

use crate::{
    engine::{Batch, Reader, Snapshot, Table, sealed},
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SupersededV1 {
    compress: Vec<u64>,
    prune: bool,
}

crate::format::record::schema!(SupersededV1, "modelkeep.superseded", 1);

/// What is left to be done for a model. Which versions are to go is found anew when it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Superseded {
    /// The versions whose archives are to be compressed, unless one is current by then.
    pub(crate) compress: Vec<Version>,
    /// There are more versions than are kept.
    pub(crate) prune: bool,
}

/// What is left for `key`; `None` when nothing is. A damaged row says that something is.
pub(crate) fn read(reader: &impl Reader, key: &ModelKey) -> Result<Option<Superseded>> {
    match sealed::record::<SupersededV1>(reader, Table::Superseded, &key.to_bytes()) {
        Ok(row) => Ok(row.map(|row| {
            let compress = row.compress.into_iter().filter_map(Version::new).collect();
            Superseded { compress, prune: row.prune }
        })),
        Err(err) if err.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%key, error = %err, "what is to be compressed cannot be read; it stays as it is");
            Ok(Some(Superseded { compress: Vec::new(), prune: true }))
        }
        Err(err) => Err(err),
    }
}

/// Writes what is left for `key`.
pub(crate) fn write(batch: &Batch, key: &ModelKey, left: &Superseded) -> Result<()> {
    let compress = left.compress.iter().map(|version| version.get()).collect();
    let record = SupersededV1 { compress, prune: left.prune };
    batch.put_record(Table::Superseded, &key.to_bytes(), &record)
}

/// Says that nothing is left for `key`.
pub(crate) fn clear(batch: &Batch, key: &ModelKey) -> Result<u64> {
    batch.remove(Table::Superseded, &key.to_bytes())
}

/// The models for which something is left, and the first error about rows that cannot be read: those are left out, and
/// come again with the next publish of their model.
pub(crate) fn keys(snapshot: &Snapshot) -> Result<(Vec<ModelKey>, Option<Error>)> {
    let (mut keys, mut failed) = (Vec::new(), None);
    let mut rows = snapshot.scan(Table::Superseded, b"");
    while let Some(row) = rows.next_sealed(|row, _| ModelKey::from_bytes(row)) {
        match row.flatten() {
            Ok(key) => keys.push(key),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%error, "of some models it is not known whether anything is to be compressed or pruned");
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((keys, failed))
}
