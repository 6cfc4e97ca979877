//! modelkeep, as a trading engine uses it.

use std::path::Path;

use anyhow::{Context, Result};
use modelkeep::{ModelKey, ModelRef, NewModel, Store, Verify, Version};

use super::KEY;
use crate::model::{Mixed, key};

/// The key of the one model in a file of a cold or publish measurement.
pub fn only_key() -> ModelKey {
    key(KEY)
}

/// Opens the store that is to be read.
pub fn open(path: &Path, read_only: bool, verify: Verify) -> Result<Store> {
    Ok(Store::options().create(false).read_only(read_only).verify(verify).open(path)?)
}

/// The current version.
pub fn get(store: &Store, key: &ModelKey) -> Result<ModelRef<Mixed>> {
    store.get::<Mixed>(key)?.with_context(|| format!("the store does not have {key}"))
}

/// A certain version.
pub fn get_version(store: &Store, key: &ModelKey, version: u64) -> Result<ModelRef<Mixed>> {
    let held = Version::new(version).map(|version| store.get_version::<Mixed>(key, version)).transpose()?.flatten();
    held.with_context(|| format!("the store does not have {key} v{version}"))
}

/// Makes a store with one model in it; `twice` publishes it again, which leaves the first version compressed.
pub fn create(path: &Path, model: impl Fn() -> Mixed, twice: bool) -> Result<()> {
    let store = Store::options().open(path)?;
    for _ in 0..=usize::from(twice) {
        store.publish(&only_key(), NewModel::new(model()))?;
    }
    // It is compressed in the background, or here.
    Ok(store.close()?)
}
