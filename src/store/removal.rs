//! Removal of models and versions, as a user calls it: every call returns a [`Removal`] that has a dry run.

use std::time::Duration;

use super::Store;
use crate::{
    models::manage::Removal,
    types::{error::Result, key::ModelKey, version::Version},
};

impl Store {
    /// Deletes one version: archive, metadata, artifacts. Fails with `NotFound` when there is none of this number, and
    /// with `Pinned` when it is current, is pinned, or has an alias.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let first = store.publish(&key, trained())?;
    /// store.publish(&key, trained())?;
    /// store.remove_version(&key, first).run()?;
    /// assert_eq!(store.versions(&key)?.len(), 1);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    pub fn remove_version(&self, key: &ModelKey, version: Version) -> Removal<'_> {
        self.models.remove_version(key, version)
    }

    /// Deletes all but the newest `keep` versions of a model. The current version stays in any case, and so do pinned
    /// ones and those that an alias leads to; and the one that a rollback leads to unless `keep` is below 2.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// for _ in 0..5 {
    ///     store.publish(&key, trained())?;
    /// }
    /// let removal = store.prune(&key, 2);
    /// assert_eq!(removal.dry_run()?.versions.len(), 3); // nothing is deleted yet
    /// assert_eq!(removal.run()?.versions.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prune(&self, key: &ModelKey, keep: usize) -> Removal<'_> {
        self.models.prune(key, keep)
    }

    /// Does [`prune`](Self::prune) for every model.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let other = ModelKey::new("momentum", &[("days", 20)])?;
    /// for key in [&key, &key, &other, &other] {
    ///     store.publish(key, trained())?;
    /// }
    /// assert_eq!(store.prune_all(1).run()?.versions.len(), 2); // one of each model
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prune_all(&self, keep: usize) -> Removal<'_> {
        self.models.prune_all(keep)
    }

    /// Deletes a model: every version, the training data and the history of its aliases, on disk and in memory; nothing,
    /// if there is none. Fails with `Pinned` when a version is pinned, or an alias leads to one. Version numbers are not
    /// reused: the next publish under the key continues the sequence.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// store.publish(&key, trained())?;
    /// assert_eq!(store.remove(&key).run()?.versions.len(), 1);
    /// assert!(store.get::<Momentum>(&key)?.is_none());
    /// assert_eq!(store.publish(&key, trained())?.get(), 2); // numbers are not given out twice
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, key: &ModelKey) -> Removal<'_> {
        self.models.remove(key)
    }

    /// Deletes all models of this name, under every configuration, on disk and in memory. Fails with `Pinned` when a
    /// version of one of them is pinned or has an alias, and deletes nothing then.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let other = ModelKey::new("momentum", &[("days", 20)])?;
    /// store.publish(&key, trained())?;
    /// store.publish(&other, trained())?;
    /// let removed = store.invalidate("momentum")?.run()?;
    /// assert_eq!(removed.versions.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`ModelName`](crate::ModelName).
    pub fn invalidate(&self, name: &str) -> Result<Removal<'_>> {
        self.models.invalidate(name)
    }

    /// Deletes every version, of any model, that was last updated longer than `older_than` ago, is not pinned and has no
    /// alias. A model whose current version goes has none until it is published again or rolled back by hand; nothing
    /// older is put in its place. With the last version of a model its training data goes, too.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let key = ModelKey::new("momentum", &())?;
    /// use std::{sync::Arc, time::Duration};
    /// use modelkeep::{Timestamp, clock::ManualClock};
    ///
    /// let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(0)));
    /// let store = Store::options().clock(Arc::clone(&clock)).in_memory()?;
    /// store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// clock.advance(Duration::from_secs(31 * 86_400));
    /// let removed = store.prune_older_than(Duration::from_secs(30 * 86_400)).run()?;
    /// assert_eq!(removed.versions.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prune_older_than(&self, older_than: Duration) -> Removal<'_> {
        self.models.prune_older_than(older_than)
    }
}
