//! Versions of models, as a user calls them: listed, rolled back, pinned, named, annotated, copied.

use super::Store;
use crate::{
    models::{
        annotate::Annotation,
        archive::Model,
        catalog::aliases::Alias,
        filter::Filter,
        list::{Listing, VersionEntry},
        model_ref::ModelRef,
    },
    types::{error::Result, key::ModelKey, version::Version},
};

impl Store {
    /// Returns the models that pass `filter`, in order of name and config hash. Reads heads and metadata, one model at
    /// a time, and no archive.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use modelkeep::admin::Filter;
    ///
    /// store.publish(&key, trained().tag("desk", "equities"))?;
    /// for listed in store.list(Filter::all().tag("desk", "equities")?)? {
    ///     assert_eq!(listed?.key(), &key);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read. A damaged row is an `Err` item of the listing.
    pub fn list(&self, filter: Filter) -> Result<Listing> {
        self.models.list(filter)
    }

    /// Returns the versions of a model, the oldest first.
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
    /// store.publish(&key, trained())?;
    /// let versions = store.versions(&key)?;
    /// assert_eq!(versions.iter().map(|entry| entry.version.get()).collect::<Vec<_>>(), [1, 2]);
    /// assert!(versions[1].current);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the head or a version's metadata is damaged, `Io` when the file cannot be read.
    pub fn versions(&self, key: &ModelKey) -> Result<Vec<VersionEntry>> {
        self.models.versions(key)
    }

    /// Returns the key that a person means by `text`: `name`, or `name@` and the first digits of the config hash.
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
    /// assert_eq!(store.find_key("momentum")?, key);
    /// let digits = &key.config_hash().to_string()[..6];
    /// assert_eq!(store.find_key(&format!("momentum@{digits}"))?, key);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let first = store.publish(&key, trained())?;
    /// let second = store.publish(&key, trained())?;
    /// assert_eq!(store.rollback(&key)?, first);
    /// assert_eq!(store.rollback(&key)?, second); // the second rollback undoes the first
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no previous version, `Corrupt` when it is quarantined, or
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn rollback(&self, key: &ModelKey) -> Result<Version> {
        self.models.rollback(key)
    }

    /// Makes `version` current.
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
    /// store.publish(&key, trained())?;
    /// store.rollback_to(&key, first)?;
    /// assert_eq!(store.get::<Momentum>(&key)?.and_then(|model| model.version()), Some(first));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such version; otherwise as for [`rollback`](Self::rollback).
    pub fn rollback_to(&self, key: &ModelKey, version: Version) -> Result<()> {
        self.models.rollback_to(key, version)
    }

    /// Pins a version: no prune and no retention deletes it, and a removal of the whole model refuses.
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
    /// store.pin(&key, first)?;
    /// assert!(store.prune(&key, 1).run()?.versions.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such version, `LimitExceeded` beyond 1024 pins, or
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn pin(&self, key: &ModelKey, version: Version) -> Result<()> {
        self.models.pin(key, version)
    }

    /// Takes the pin off a version. Does nothing when there is none.
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
    /// store.pin(&key, first)?;
    /// store.unpin(&key, first)?;
    /// assert_eq!(store.prune(&key, 1).run()?.versions.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// let champion = store.get_alias::<Momentum>(&key, "champion")?.expect("it is set");
    /// assert_eq!(champion.version(), Some(version));
    /// assert!(store.get_alias::<Momentum>(&key, "challenger")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// Everything is checked in full on the way. Pins and aliases stay behind. Each call makes a version: compare
    /// `model_hash` of both stores first, where the same one may be copied twice.
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
    /// `M`, `Corrupt` or `Io` when it cannot be read, `InvalidInput` when `destination` is this store, and as for [`publish`](Self::publish) in `destination`.
    pub fn copy_to<M: Model>(
        &self,
        key: &ModelKey,
        version: impl Into<Option<Version>>,
        destination: &Self,
    ) -> Result<Version> {
        self.models.copy_to::<M>(key, version.into(), &destination.models)
    }
}
