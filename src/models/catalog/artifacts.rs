//! Artifacts: named bytes that belong to a version, such as a fitted scaler or a report.
//!
//! An update carries the artifacts of its parent over: the new version's rows name the same archives, and an archive
//! is deleted with the last row that names it.

use std::collections::BTreeSet;

use super::{versioned, versioned_fields};
use crate::{
    engine::{
        Batch, Reader, Snapshot, Table,
        sealed::{self, Blob},
    },
    format::{
        codec::Codec,
        envelope::Kind,
        schema::{Schema, SchemaTag},
    },
    types::{
        error::{Error, Result},
        hash::Digest,
        key::{Label, ModelKey},
        version::Version,
    },
};

/// Artifacts are bytes of the user's own making; the schema only says so.
const SCHEMA: Schema = Schema::new("modelkeep.artifact", 1);

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct ArtifactV1 {
    archive_id: u64,
    bytes: u64,
    hash: [u8; 32],
}

crate::format::record::schema!(ArtifactV1, "modelkeep.artifact_row", 1);

fn row(key: &ModelKey, version: Version, name: &Label) -> Vec<u8> {
    versioned_fields(key, version).bytes(name.as_str().as_bytes()).into_bytes()
}

fn schema() -> Result<SchemaTag> {
    SCHEMA.tag()
}

/// An artifact, encoded and hashed: the work that is done before a transaction begins.
pub(crate) struct Encoded<'a> {
    blob: Blob<'a>,
    bytes: u64,
    hash: Digest,
}

/// Encodes an artifact for [`write`].
pub(crate) fn encode(raw: &[u8]) -> Result<Encoded<'_>> {
    let blob = Blob::encode(Kind::Artifact, &schema()?, Codec::Zstd, raw)?;
    Ok(Encoded { blob, bytes: raw.len() as u64, hash: Digest::of(raw) })
}

/// Writes an artifact of a version.
pub(crate) fn write(
    batch: &Batch,
    key: &ModelKey,
    version: Version,
    name: &Label,
    artifact: &Encoded<'_>,
) -> Result<()> {
    let archive_id = batch.put_blob(&artifact.blob)?;
    let record = ArtifactV1 { archive_id, bytes: artifact.bytes, hash: *artifact.hash.as_bytes() };
    batch.put_record(Table::Artifacts, &row(key, version, name), &record)
}

/// Gives `to` the artifact that `from` has; false when `from` has none of that name.
pub(crate) fn carry(batch: &Batch, key: &ModelKey, from: Version, to: Version, name: &Label) -> Result<bool> {
    match sealed::record::<ArtifactV1>(batch, Table::Artifacts, &row(key, from, name))? {
        None => Ok(false),
        Some(record) => batch.put_record(Table::Artifacts, &row(key, to, name), &record).map(|()| true),
    }
}

/// Reads an artifact, checked in full.
pub(crate) fn read(snapshot: &Snapshot, key: &ModelKey, version: Version, name: &Label) -> Result<Option<Vec<u8>>> {
    let row = row(key, version, name);
    let Some(record) = sealed::record::<ArtifactV1>(snapshot, Table::Artifacts, &row)? else {
        return Ok(None);
    };
    let bytes = snapshot.blob(record.archive_id)?.read(Kind::Artifact, &schema()?)?;
    if *Digest::of(&bytes).as_bytes() != record.hash {
        let message = "it does not hash to what its row says";
        return Err(Error::corrupt("read artifact", format!("{key} {version} {name}"), message));
    }
    Ok(Some(bytes.to_vec()))
}

/// Removes the artifacts of a version and the archives that no other version of the key names; returns the bytes.
pub(super) fn remove(batch: &Batch, key: &ModelKey, version: Version) -> Result<u64> {
    let mine = versioned(key, version);
    let (mut removed, mut unused, mut named) = (0, BTreeSet::new(), BTreeSet::new());
    for (row, value) in batch.prefix(Table::Artifacts, &key.to_bytes())? {
        let id = sealed::open_record::<ArtifactV1>(Table::Artifacts, &row, &value).map(|record| record.archive_id);
        if row.starts_with(&mine) {
            unused.extend(id);
            removed += batch.remove(Table::Artifacts, &row)?;
        } else {
            named.extend(id);
        }
    }
    for id in unused.difference(&named) {
        removed += batch.remove_archive(*id)?;
    }
    Ok(removed)
}

/// The archive ids that artifact rows refer to, with the row's text for messages; unreadable rows are left out.
pub(crate) fn reference(row: &[u8], value: &[u8]) -> Option<u64> {
    sealed::open_record::<ArtifactV1>(Table::Artifacts, row, value).ok().map(|record| record.archive_id)
}
