//! Loading before the bell, as a user calls it.

use super::Store;
use crate::{
    models::{archive::Model, tiers::PreloadReport},
    types::key::ModelKey,
};

impl Store {
    /// Loads the current versions of these models from the file into memory, verified, on all cores, so that the first
    /// [`get`](Self::get) of each is a hit. Returns what became of each key; a key that fails keeps no other from being
    /// loaded.
    ///
    /// Nothing is evicted for it: what does not fit beside what is in memory ([`Options::hot_bytes`]) is not read and
    /// reported as [`NoRoom`]. Room goes to the keys in the order in which they are given, so name first what must be
    /// there; one behind a large model that did not fit may still find room. To make room,
    /// [`evict_all`](Self::evict_all), or open the store with more. What is loaded later by `get` may push out what was
    /// preloaded, as it may anything.
    ///
    /// Under [`Verify::Full`](crate::Verify::Full) and [`Verify::Background`](crate::Verify::Background) every byte is
    /// hashed before a model counts as loaded; under [`Verify::Structure`](crate::Verify::Structure) the structure is
    /// checked, and all pages are brought into memory. Damaged models are quarantined, as by `get`. Models that are in
    /// memory stay as they are, and count as used. [Tiers of others](crate::tier::ModelTier) are not asked.
    ///
    /// Gets go on meanwhile, on other threads, and wait for nothing but processors. A model that cannot be loaded
    /// between two changes of models, because one follows the other, is loaded in a turn to write: publishes wait for
    /// that one.
    ///
    /// [`Options::hot_bytes`]: crate::Options::hot_bytes
    /// [`NoRoom`]: crate::admin::Preloaded::NoRoom
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store, Tier};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("models.redb");
    /// let keys = ["AAPL", "MSFT", "NVDA"].map(|symbol| ModelKey::new("momentum", symbol).unwrap());
    /// # let store = Store::open(&path)?;
    /// # for key in &keys[..2] { store.publish(key, NewModel::new(Momentum { weights: vec![0.5] }))?; }
    /// # drop(store);
    /// let store = Store::open(&path)?;
    /// let report = store.preload::<Momentum>(&keys);
    /// assert_eq!((report.loaded(), report.absent()), (2, 1)); // nobody published one for NVDA
    /// for (key, error) in report.failures() {
    ///     eprintln!("{key}: {error}");
    /// }
    /// assert_eq!(store.get::<Momentum>(&keys[0])?.expect("it is there").tier(), Tier::Hot);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn preload<M: Model>(&self, keys: &[ModelKey]) -> PreloadReport {
        self.models.preload::<M>(keys)
    }
}
