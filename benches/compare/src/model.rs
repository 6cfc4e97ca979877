//! The archive that everybody keeps: the benches' mix of weights, prices and a forest, and how it is read.
//!
//! Owns what every peer must do with the bytes once it has them, so that all of them do the same.

#![allow(unsafe_code, reason = "a model in memory is read in place by every peer, see `Resident::get`")]

#[allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the benches stop when they cannot go on, and this program uses a part of what they share"
)]
#[path = "../../common/mod.rs"]
mod common;

use std::ops::Deref;

use anyhow::{Context, Result};
use modelkeep::ModelKey;
use rkyv::{rancor, util::AlignedVec};

pub use common::{ArchivedMixed, Mixed, first_prediction, key, mixed};

/// Bytes of a megabyte here: 2^20.
pub const MB: usize = 1 << 20;

/// The archive as rkyv writes it, which is what the store keeps as well.
pub fn serialise(model: &Mixed) -> Result<AlignedVec> {
    rkyv::to_bytes::<rancor::Error>(model).context("the bench's model cannot be serialised")
}

/// Checks the structure of an archive and reads it in place.
pub fn access(bytes: &[u8]) -> Result<&ArchivedMixed> {
    rkyv::access::<ArchivedMixed, rancor::Error>(bytes).context("these bytes are not the bench's archive")
}

/// Bytes that rkyv can read in place.
pub enum Aligned<'a> {
    InPlace(&'a [u8]),
    Copy(AlignedVec),
}

impl<'a> Aligned<'a> {
    /// The bytes themselves where they happen to be aligned, and a copy where they are not.
    pub fn of(bytes: &'a [u8]) -> Self {
        if bytes.as_ptr().addr().is_multiple_of(align_of::<ArchivedMixed>()) {
            Self::InPlace(bytes)
        } else {
            Self::Copy(copy(bytes))
        }
    }
}

impl Deref for Aligned<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(bytes) => bytes,
            Self::Copy(bytes) => bytes,
        }
    }
}

/// A copy that is aligned for rkyv.
pub fn copy(bytes: &[u8]) -> AlignedVec {
    let mut copy = AlignedVec::with_capacity(bytes.len());
    copy.extend_from_slice(bytes);
    copy
}

/// Reads every byte once.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// What a hot get touches: the first weight.
#[inline]
pub fn touch(model: &ArchivedMixed) -> u64 {
    model.weights.first().map_or(0, |weight| weight.to_native().to_bits())
}

/// A checked archive in memory, as a user of a plain map would hold it: checked once, read in place.
pub struct Resident {
    bytes: AlignedVec,
}

impl Resident {
    pub fn new(bytes: AlignedVec) -> Result<Self> {
        access(&bytes)?;
        Ok(Self { bytes })
    }

    /// The bench's model of this size and seed.
    pub fn made(bytes: usize, seed: u64) -> Result<Self> {
        Self::new(serialise(&mixed(bytes, seed))?)
    }

    #[inline]
    pub fn get(&self) -> &ArchivedMixed {
        // SAFETY: `new` is the only constructor and checked these very bytes, which are never changed.
        unsafe { rkyv::access_unchecked::<ArchivedMixed>(&self.bytes) }
    }
}

/// The key of the `index`th of many models: one name, and a configuration for each.
pub fn numbered_key(index: usize) -> Result<ModelKey> {
    Ok(ModelKey::new("bench", &index)?)
}
