//! Models: heads, metadata, artifacts, quarantine.
//!
//! Functions here read through any [`Reader`](crate::engine::Reader) and write through a batch; they commit nothing
//! and know no tiers. The rows that can be lost to a damaged page are told apart: a bad head does not hide the
//! versions, and a bad version does not hide the head.

pub(crate) mod artifacts;
pub(crate) mod head;
pub(crate) mod metadata;
pub(crate) mod quarantine;
pub(crate) mod removal;

use crate::{
    engine::Reader,
    types::{error::Result, key::ModelKey, version::Version},
};

/// The bytes of a key that ends in a version: big-endian, so that rows sort by version.
fn versioned(key: &ModelKey, version: Version) -> Vec<u8> {
    let mut bytes = key.to_bytes();
    bytes.extend_from_slice(&version.get().to_be_bytes());
    bytes
}

/// Splits what [`versioned`] made: the key, the version, and what follows.
fn split_versioned(bytes: &[u8]) -> Option<(ModelKey, Version, &[u8])> {
    let (key, rest) = ModelKey::split_from(bytes).ok()?;
    let (version, rest) = rest.split_first_chunk()?;
    Some((key, Version::new(u64::from_be_bytes(*version))?, rest))
}

/// The version that is current under `key`, with what is known of it; `None` when there is none.
pub(crate) fn current(reader: &impl Reader, key: &ModelKey) -> Result<Option<(Version, metadata::Stored)>> {
    match head::read(reader, key)?.and_then(|head| head.current) {
        None => Ok(None),
        Some(version) => Ok(Some((version, metadata::require(reader, key, version)?))),
    }
}
