//! Models: heads, metadata, artifacts, aliases, quarantine.
//!
//! Functions here read through any [`Reader`](crate::engine::Reader) and write through a batch; they commit nothing
//! and know no tiers. The rows that can be lost to a damaged page are told apart: a bad head does not hide the
//! versions, and a bad version does not hide the head.

pub(crate) mod aliases;
pub(crate) mod artifacts;
pub(crate) mod decisions;
pub(crate) mod head;
pub(crate) mod metadata;
pub(crate) mod quarantine;
pub(crate) mod removal;
pub(crate) mod superseded;

use crate::{
    engine::Reader,
    types::{
        error::Result,
        key::{
            ModelKey,
            row::{Fields, RowKey},
        },
        version::Version,
    },
};

/// The bytes of a key that ends in a version: big-endian, so that rows sort by version.
fn versioned(key: &ModelKey, version: Version) -> Vec<u8> {
    versioned_fields(key, version).into_bytes()
}

/// Splits what [`versioned`] made: the key, the version, and what follows.
fn split_versioned(bytes: &[u8]) -> Option<(ModelKey, Version, &[u8])> {
    let mut fields = Fields::of(bytes);
    let (key, version) = (fields.model()?, Version::new(fields.u64()?)?);
    Some((key, version, fields.rest()))
}

fn versioned_fields(key: &ModelKey, version: Version) -> RowKey {
    RowKey::new().model(key).u64(version.get())
}

/// The version that is current under `key`, with what is known of it; `None` when there is none.
pub(crate) fn current(reader: &impl Reader, key: &ModelKey) -> Result<Option<(Version, metadata::Stored)>> {
    match head::current(reader, key)? {
        None => Ok(None),
        Some(version) => Ok(Some((version, metadata::require(reader, key, version)?))),
    }
}
