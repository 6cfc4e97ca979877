//! Versions of models, as a user calls them: listed, rolled back, named, copied, deleted.

use std::time::Duration;

use super::Store;
use crate::{
    models::{
        annotate::Annotation,
        archive::Model,
        catalog::aliases::Alias,
        list::{Filter, Listing, VersionEntry},
        manage::Removal,
        model_ref::ModelRef,
    },
    types::{error::Result, key::ModelKey, version::Version},
};

impl Store {
    /// Returns the models that pass `filter`, in order of name and config hash. Reads heads and metadata, one model at
    /// a time, and no archive.
    ///
    /// # Errors
    /// `Io` when the file cannot be read. A damaged row is an `Err` item of the listing.
    pub fn list(&self, filter: Filter) -> Result<Listing> {
        self.models.list(filter)
    }

    /// Returns the versions of a model, the oldest first.
    ///
    /// # Errors
    /// `Corrupt` when the head or a version's metadata is damaged, `Io` when the file cannot be read.
    pub fn versions(&self, key: &ModelKey) -> Result<Vec<VersionEntry>> {
        self.models.versions(key)
    }

    /// Returns the key that a person means by `text`: `name`, or `name@` and the first digits of the config hash.
    ///
    /// # Errors
    /// `NotFound` when no model matches, `InvalidInput` when more than one does; the message lists them.
    pub fn find_key(&self, text: &str) -> Result<ModelKey> {
        self.models.find_key(text)
    }

    /// Makes the previous version current again and returns it. The version that is left becomes the previous one, so
    /// that a second rollback undoes the first.
    ///
    /// The stored training data is not rolled back: the next [`update`](Self::update) trains on what the newest publish
    /// left, and on its new rows. To leave bad rows behind, publish with a whole [`TrainingSet`](crate::training::TrainingSet).
    ///
    /// # Errors
    /// `NotFound` when there is no previous version, `Corrupt` when it is quarantined, or
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn rollback(&self, key: &ModelKey) -> Result<Version> {
        self.models.rollback(key)
    }

    /// Makes `version` current.
    ///
    /// # Errors
    /// `NotFound` when there is no such version; otherwise as for [`rollback`](Self::rollback).
    pub fn rollback_to(&self, key: &ModelKey, version: Version) -> Result<()> {
        self.models.rollback_to(key, version)
    }

    /// Pins a version: no prune and no retention deletes it, and a removal of the whole model refuses.
    ///
    /// # Errors
    /// `NotFound` when there is no such version, `LimitExceeded` beyond 1024 pins, or
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn pin(&self, key: &ModelKey, version: Version) -> Result<()> {
        self.models.pin(key, version)
    }

    /// Takes the pin off a version. Does nothing when there is none.
    ///
    /// # Errors
    /// As for [`pin`](Self::pin).
    pub fn unpin(&self, key: &ModelKey, version: Version) -> Result<()> {
        self.models.unpin(key, version)
    }

    /// Has the alias `name` lead to `version`, and returns the version that it led to before: in one transaction, so that
    /// there is one champion at any time. Its moves are kept, with their times.
    ///
    /// An alias protects its version as a [pin](Self::pin) does: nothing deletes it.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let (old, new) = (store.publish(&key, trained())?, store.publish(&key, trained())?);
    /// store.set_alias(&key, "champion", old)?;
    /// store.set_alias(&key, "challenger", new)?;
    /// // The challenger has won.
    /// assert_eq!(store.set_alias(&key, "champion", new)?, Some(old));
    /// let champion = store.get_alias::<Momentum>(&key, "champion")?.expect("it is set");
    /// assert_eq!(champion.version(), Some(new));
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such version, `Corrupt` when it is quarantined, `InvalidInput` when the name breaks
    /// the rules of [`Label`](crate::Label), or [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn set_alias(&self, key: &ModelKey, name: &str, version: Version) -> Result<Option<Version>> {
        self.models.set_alias(key, name, version)
    }

    /// Removes an alias, and returns the version that it led to; `None` when there was none. Its history stays.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let version = store.publish(&key, trained())?;
    /// store.set_alias(&key, "challenger", version)?;
    /// assert_eq!(store.remove_alias(&key, "challenger")?, Some(version));
    /// assert_eq!(store.alias(&key, "challenger")?, None);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for the name, or [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn remove_alias(&self, key: &ModelKey, name: &str) -> Result<Option<Version>> {
        self.models.remove_alias(key, name)
    }

    /// Returns the version that an alias leads to; `None` when there is no such alias.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// assert_eq!(store.alias(&key, "champion")?, None);
    /// # let _ = trained;
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for the name, `Corrupt` or `Io` when it cannot be read.
    pub fn alias(&self, key: &ModelKey, name: &str) -> Result<Option<Version>> {
        self.models.alias(key, name)
    }

    /// Returns the aliases of a model in order of their names, with the time of every move; also those that were
    /// removed.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let version = store.publish(&key, trained())?;
    /// store.set_alias(&key, "champion", version)?;
    /// for alias in store.aliases(&key)? {
    ///     assert_eq!((alias.name.as_str(), alias.history.len()), ("champion", 1));
    /// }
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when one is damaged, `Io` when the file cannot be read.
    pub fn aliases(&self, key: &ModelKey) -> Result<Vec<Alias>> {
        self.models.aliases(key)
    }

    /// Returns the version that an alias leads to, as a model; `None` when there is no such alias. From memory if it is
    /// also the current version; otherwise it is read anew at each call, so hold it.
    ///
    /// See [`set_alias`](Self::set_alias) for an example.
    ///
    /// # Errors
    /// As for [`get_version`](Self::get_version) and [`alias`](Self::alias).
    pub fn get_alias<M: Model>(&self, key: &ModelKey, name: &str) -> Result<Option<ModelRef<M>>> {
        self.models.get_alias(key, name)
    }

    /// Sets tags and metrics of a version that was published, or removes some, in one transaction. The archive, the age
    /// and everything else stay. A model that is held shows what it showed.
    ///
    /// ```
    /// use modelkeep::admin::Annotation;
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let version = store.publish(&key, trained())?;
    /// store.annotate(&key, version, &Annotation::new().metric("live_auc", 0.57).tag("reviewed_by", "risk"))?;
    /// let metadata = store.metadata(&key)?.expect("it was published");
    /// assert_eq!(metadata.metrics["live_auc"], 0.57);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such version, `InvalidInput` for a name, `LimitExceeded` for too many or too long
    /// ones, or [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn annotate(&self, key: &ModelKey, version: Version, annotation: &Annotation) -> Result<()> {
        self.models.annotate(key, version, annotation)
    }

    /// Publishes a version of a model in another store and returns its number there: archive, metadata with its age,
    /// artifacts, and the stored training data if the version was trained on it. `None` copies the current version.
    ///
    /// Everything is checked in full on the way. Pins and aliases stay behind.
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
    /// let production = Store::in_memory()?;
    /// store.copy_to::<Momentum>(&key, None, &production)?;
    /// let (here, there) = (store.metadata(&key)?.unwrap(), production.metadata(&key)?.unwrap());
    /// assert_eq!((here.model_hash, here.last_updated), (there.model_hash, there.last_updated));
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such version, `SchemaMismatch` when it is stored with another schema than that of
    /// `M`, `Corrupt` or `Io` when it cannot be read, and as for [`publish`](Self::publish) in `destination`.
    pub fn copy_to<M: Model>(
        &self,
        key: &ModelKey,
        version: impl Into<Option<Version>>,
        destination: &Self,
    ) -> Result<Version> {
        self.models.copy_to::<M>(key, version.into(), &destination.models)
    }

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

    /// Deletes all but the newest `keep` versions of a model. The current version stays in any case, and so do pinned ones
    /// and those that an alias leads to; and the one that a rollback leads to unless `keep` is below 2.
    pub fn prune(&self, key: &ModelKey, keep: usize) -> Removal<'_> {
        self.models.prune(key, keep)
    }

    /// Does [`prune`](Self::prune) for every model.
    pub fn prune_all(&self, keep: usize) -> Removal<'_> {
        self.models.prune_all(keep)
    }

    /// Deletes a model: every version, the training data and the history of its aliases, on disk and in memory; nothing,
    /// if there is none. Fails with `Pinned` when a version is pinned, or an alias leads to one. Its number goes on where it was when the key is published again.
    pub fn remove(&self, key: &ModelKey) -> Removal<'_> {
        self.models.remove(key)
    }

    /// Deletes all models of this name, under every configuration, on disk and in memory. Fails with `Pinned` when a
    /// version of one of them is pinned or has an alias, and deletes nothing then.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`ModelName`](crate::ModelName).
    pub fn invalidate(&self, name: &str) -> Result<Removal<'_>> {
        self.models.invalidate(name)
    }

    /// Deletes every version, of any model, that was last updated longer than `older_than` ago, is not pinned and has no alias. A
    /// model whose current version goes has none until it is published again or rolled back by hand; nothing older
    /// is put in its place. With the last version of a model its training data goes, too.
    pub fn prune_older_than(&self, older_than: Duration) -> Removal<'_> {
        self.models.prune_older_than(older_than)
    }
}
