//! What becomes of superseded versions: compressed, and removed when there are more than are kept.
//!
//! It is decided in the transaction of each publish, and done there where that is cheap: small archives, and a store
//! that keeps one version. The rest is left to [maintenance](super::maintenance), with a row that says so. A model with
//! a version that waits to be removed has it removed by its next publish: so it never has more than one too many.

use super::{
    Models,
    catalog::{
        self,
        head::Head,
        metadata, removal,
        superseded::{self, Superseded},
    },
    settings::Maintenance,
};
use crate::{
    engine::{Batch, Reader, Snapshot, sealed::Blob},
    format::{
        codec::Codec,
        envelope::{Kind, Verify},
    },
    types::{
        error::{ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

/// Below this size compressing a superseded archive saves less than a page.
const COMPRESS_BYTES_MIN: u64 = 8192;
/// Archives below this size are compressed and removed by the publish itself: a commit of its own would cost more.
const LATER_BYTES_MIN: u64 = 16 << 10;

/// The archive of a superseded version, in the form that it is to have from then on.
pub(super) struct Compressed {
    version: Version,
    archive_id: u64,
    pub(super) raw_bytes: u64,
    blob: Blob<'static>,
}

/// What a publish left for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leftover {
    /// Bytes of archives that are to be compressed.
    pub(super) bytes: u64,
}

/// What was done of what was left of a model.
pub(super) struct Finished {
    pub(super) removed: usize,
    pub(super) compressed: usize,
    /// Nothing is left.
    pub(super) is_all: bool,
}

impl Models {
    /// Whether a publish may leave what an archive of this size costs to maintenance.
    fn may_leave(&self, bytes: u64) -> bool {
        bytes >= LATER_BYTES_MIN && self.settings.maintenance != Maintenance::WithPublish
    }

    /// Whether it does: not when too much waits.
    fn leaves(&self, bytes: u64) -> bool {
        self.may_leave(bytes) && self.backlog.has_room()
    }

    /// The current version's archive, compressed, if the publish that supersedes it does that itself.
    pub(super) fn compressed_now(&self, before: &Snapshot, key: &ModelKey) -> Result<Option<Compressed>> {
        if !self.settings.compress_superseded {
            return Ok(None);
        }
        let packed = match catalog::current(before, key) {
            Ok(Some((_, stored))) if self.leaves(stored.metadata.archive_bytes) => return Ok(None),
            Ok(Some((version, stored))) => compressed(before, version, &stored),
            Ok(None) => return Ok(None),
            Err(err) => Err(err),
        };
        match packed {
            Err(err) if err.kind() == ErrorKind::Expired => Err(err),
            // A saving, and not worth failing for.
            Err(error) => {
                tracing::warn!(%key, %error, "the superseded version is not compressed");
                Ok(None)
            }
            packed => packed,
        }
    }

    /// Decides what becomes of the versions of a model that `superseded` is not the current one of any more; `packed`
    /// is what was compressed before. Says what it left for later.
    pub(super) fn retire(
        &self,
        batch: &Batch,
        key: &ModelKey,
        head: &mut Head,
        superseded: Option<Version>,
        packed: Option<&Compressed>,
    ) -> Result<Option<Leftover>> {
        let before = superseded::read(batch, key)?;
        let mut left = before.clone().unwrap_or_default();
        let at_once = left.prune || self.settings.retention.is_some_and(|keep| keep <= 1);
        left.prune = false;
        // The newest first: one is left at most, the last that was kept.
        for (rank, version) in self.unwanted(batch, key, head)?.into_iter().enumerate() {
            if at_once || rank > 0 || !self.leaves(archive_bytes(batch, key, version)?) {
                remove_unwanted(batch, key, head, version)?;
                left.compress.retain(|other| *other != version);
            } else {
                left.prune = true;
            }
        }
        if let Some(version) = superseded.filter(|_| self.settings.compress_superseded)
            && packed.is_none_or(|packed| packed.version != version)
            && !left.compress.contains(&version)
            && self.may_leave(archive_bytes(batch, key, version)?)
        {
            left.compress.push(version);
        }
        if left.prune || !left.compress.is_empty() {
            superseded::write(batch, key, &left)?;
            return left_bytes(batch, key, &left).map(|bytes| Some(Leftover { bytes }));
        }
        if before.is_some() {
            superseded::clear(batch, key)?;
        }
        Ok(None)
    }

    /// Does what was left of a model, as far as it was prepared.
    pub(super) fn finish_left(
        &self,
        batch: &Batch,
        key: &ModelKey,
        prepared: Vec<(Version, Option<Compressed>)>,
    ) -> Result<Finished> {
        let mut finished = Finished { removed: 0, compressed: 0, is_all: true };
        let Some(mut left) = superseded::read(batch, key)? else {
            return Ok(finished);
        };
        // Lost to damage, and accepted as lost: nobody can say what is current, what is pinned, and which numbers were
        // used.
        let Some(mut head) = catalog::head::read(batch, key)? else {
            superseded::clear(batch, key)?;
            return Ok(finished);
        };
        let unwanted = self.unwanted(batch, key, &head)?;
        for &version in &unwanted {
            remove_unwanted(batch, key, &mut head, version)?;
        }
        if !unwanted.is_empty() {
            catalog::head::write(batch, key, &head)?;
        }
        left.prune = false;
        left.compress.retain(|version| !unwanted.contains(version));
        finished.removed = unwanted.len();
        for (version, packed) in prepared {
            left.compress.retain(|other| *other != version);
            let packed = packed.filter(|_| !unwanted.contains(&version));
            if let Some(packed) = packed
                && put_compressed(batch, key, &head, packed)?
            {
                finished.compressed += 1;
            }
        }
        finished.is_all = left.compress.is_empty();
        if finished.is_all {
            superseded::clear(batch, key)?;
        } else {
            superseded::write(batch, key, &left)?;
        }
        Ok(finished)
    }

    /// The versions beyond those that are kept.
    fn unwanted(&self, reader: &impl Reader, key: &ModelKey, head: &Head) -> Result<Vec<Version>> {
        let Some(keep) = self.settings.retention.map(|keep| keep.max(1)) else {
            return Ok(Vec::new());
        };
        let seen = metadata::versions(reader, key)
            .and_then(|versions| Ok(removal::beyond(&versions, head, &removal::protected(reader, key, head)?, keep)));
        match seen {
            // It can wait until somebody has seen to the damage.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%key, %error, "retention cannot see all versions and aliases; nothing is pruned");
                Ok(Vec::new())
            }
            seen => seen,
        }
    }
}

/// Bytes of the archives that are to be compressed.
pub(super) fn left_bytes(reader: &impl Reader, key: &ModelKey, left: &Superseded) -> Result<u64> {
    left.compress.iter().map(|&version| archive_bytes(reader, key, version)).sum()
}

/// Compresses what is to be compressed of a model, from one state of the file, until it is more than `bytes_max`
/// bytes of archives. Returns the versions that it looked at.
pub(super) fn compress_left(
    before: &Snapshot,
    key: &ModelKey,
    left: &Superseded,
    bytes_max: u64,
) -> Result<Vec<(Version, Option<Compressed>)>> {
    let (mut done, mut bytes) = (Vec::new(), 0);
    for &version in &left.compress {
        if bytes > bytes_max {
            break;
        }
        let packed = metadata::read(before, key, version).and_then(|stored| match stored {
            Some(stored) => compressed(before, version, &stored),
            None => Ok(None),
        });
        let packed = match packed {
            // It stays as it is, and keeps no other version waiting.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%key, %version, %error, "damaged; not compressed");
                None
            }
            packed => packed?,
        };
        bytes += packed.as_ref().map_or(0, |packed| packed.raw_bytes);
        done.push((version, packed));
    }
    Ok(done)
}

/// Removes a version that is not kept.
fn remove_unwanted(batch: &Batch, key: &ModelKey, head: &mut Head, version: Version) -> Result<()> {
    let bytes = removal::remove_version(batch, key, version)?;
    head.forget(version);
    tracing::debug!(%key, %version, bytes, "pruned by retention");
    Ok(())
}

/// Writes a superseded archive in compressed form, if the version is there and not current.
pub(super) fn put_compressed(batch: &Batch, key: &ModelKey, head: &Head, packed: Compressed) -> Result<bool> {
    let Compressed { version, archive_id, blob, .. } = packed;
    let is_there = match metadata::read(batch, key, version) {
        Ok(stored) => stored.is_some_and(|stored| stored.archive_id == archive_id),
        Err(err) if err.kind() == ErrorKind::Corrupt => false,
        Err(err) => return Err(err),
    };
    if !is_there || head.current == Some(version) {
        return Ok(false);
    }
    batch.put_blob_at(archive_id, &blob)?;
    Ok(true)
}

/// Bytes of a version's archive, uncompressed; 0 when nobody knows.
fn archive_bytes(reader: &impl Reader, key: &ModelKey, version: Version) -> Result<u64> {
    match metadata::read(reader, key, version) {
        Ok(stored) => Ok(stored.map_or(0, |stored| stored.metadata.archive_bytes)),
        Err(err) if err.kind() == ErrorKind::Corrupt => Ok(0),
        Err(err) => Err(err),
    }
}

/// A version's archive in compressed form, when it is large and raw. All of it is checked: damaged bytes are not sealed
/// anew.
fn compressed(before: &Snapshot, version: Version, stored: &metadata::Stored) -> Result<Option<Compressed>> {
    let raw_bytes = stored.metadata.archive_bytes;
    if raw_bytes < COMPRESS_BYTES_MIN {
        return Ok(None);
    }
    let blob = before.blob(stored.archive_id)?;
    let envelope = blob.open(Kind::Model, Verify::Full)?;
    if envelope.header.codec != Codec::Raw {
        return Ok(None);
    }
    let blob = Blob::compress(Kind::Model, &stored.metadata.schema, envelope.payload)?;
    Ok(blob.map(|blob| Compressed { version, archive_id: stored.archive_id, raw_bytes, blob }))
}
