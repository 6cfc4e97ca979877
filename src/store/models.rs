//! Models, as a user calls them.

use std::{fmt, time::Duration};

use super::Store;
use crate::{
    models::{
        archive::Model,
        catalog::{metadata::Metadata, quarantine::Quarantined},
        list::{Filter, Listing, VersionEntry},
        live::Live,
        manage::Removal,
        model_ref::ModelRef,
        new_model::NewModel,
        publish::Expect,
        stats::Stats,
        train::Freshness,
        training::{TrainingSet, TrainingSummary},
        update::Update,
    },
    types::{
        error::{Result, TrainError},
        key::ModelKey,
        version::Version,
    },
};

impl Store {
    /// Returns the current version of a model, from the hot tier or from disk; `None` when there is none.
    ///
    /// A hit in the hot tier takes no lock and counts no reference: 8 ns where this was measured, and with 10,000
    /// models by Zipf what the processor's caches cost. A load from disk walks to three rows in a map of the file and
    /// leaves the archive there; under [`Verify::Full`](crate::Verify::Full) it is hashed. Small and compressed
    /// archives are copied.
    ///
    /// # Errors
    /// `SchemaMismatch` when the stored model has another schema than `M`; the message names both. `Corrupt` when the
    /// stored bytes do not hold: the version is quarantined and not read again. `Io` when the file cannot be read.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub fn get<M: Model>(&self, key: &ModelKey) -> Result<Option<ModelRef<M>>> {
        self.models.get(key)
    }

    /// Returns a certain version of a model; `None` when there is none of that number. Does not use the hot tier.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_version<M: Model>(&self, key: &ModelKey, version: Version) -> Result<Option<ModelRef<M>>> {
        self.models.get_version(key, version)
    }

    /// Returns the metadata of the current version; `None` when there is none. The archive is not read.
    ///
    /// # Errors
    /// `Corrupt` when the head or the metadata is damaged, `Io` when the file cannot be read.
    pub fn metadata(&self, key: &ModelKey) -> Result<Option<Metadata>> {
        self.models.metadata(key)
    }

    /// Returns the metadata of a certain version; `None` when there is none of that number.
    ///
    /// # Errors
    /// As for [`metadata`](Self::metadata).
    pub fn metadata_of(&self, key: &ModelKey, version: Version) -> Result<Option<Metadata>> {
        self.models.metadata_of(key, version)
    }

    /// Returns an artifact of a version, checked in full; `None` when the version has none of that name.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`Label`](crate::Label), `Corrupt` or `Io` when it cannot be
    /// read.
    pub fn artifact(&self, key: &ModelKey, version: Version, name: &str) -> Result<Option<Vec<u8>>> {
        self.models.artifact(key, version, name)
    }

    /// Returns the training data that is stored for a model; `None` when there is none.
    ///
    /// It belongs to the key and not to a version: it is what the newest publish or update was trained on.
    ///
    /// # Errors
    /// `Corrupt`, naming the symbol, or `Io` when it cannot be read.
    pub fn training_data(&self, key: &ModelKey) -> Result<Option<TrainingSet>> {
        self.models.training_data(key)
    }

    /// Says what training data is stored for a model, symbol by symbol, without reading the columns.
    ///
    /// # Errors
    /// As for [`training_data`](Self::training_data).
    pub fn training_summary(&self, key: &ModelKey) -> Result<Vec<TrainingSummary>> {
        self.models.training_summary(key)
    }

    /// Returns the versions that were found damaged and are not served.
    ///
    /// # Errors
    /// `Io` when the file cannot be read.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        self.models.quarantined()
    }

    /// Returns the bytes of a version's archive, decoded and checked in full; `None` when there is none of that number.
    ///
    /// # Errors
    /// `Corrupt` or `Io` when it cannot be read.
    pub fn archive_bytes(&self, key: &ModelKey, version: Version) -> Result<Option<Vec<u8>>> {
        self.models.archive_bytes(key, version)
    }

    /// Publishes a new version: archive, metadata, training data, artifacts and head, in one durable transaction.
    /// Returns the version's number. The hot tier holds it when the call returns.
    ///
    /// Tags, artifacts and VIX ranges are those of `trained` alone; only [`update`](Self::update) takes over what the
    /// version before it had. Training data that `trained` does not bring stays stored as it is.
    ///
    /// Costs one transaction: two fsyncs and the archive's bytes.
    ///
    /// # Errors
    /// `InvalidInput` when the model refuses itself, when a name breaks the rules of [`Label`](crate::Label), or when
    /// the key knows no configuration and none is stored. `LimitExceeded`, `ReadOnly`, `StorageFull`, `Corrupt` or
    /// `Io`. Nothing is changed. Or `OutcomeUnknown`: then the new version is there or not, and what [`get`](Self::get)
    /// and [`metadata`](Self::metadata) say is what the file has.
    pub fn publish<M: Model>(&self, key: &ModelKey, trained: NewModel<M>) -> Result<Version> {
        self.models.publish(key, Expect::Anything, trained)
    }

    /// Publishes if the current version is still `expected`; `None` expects that there is none yet.
    ///
    /// ```
    /// # use modelkeep::{ErrorKind, Model, ModelKey, Schema, Store, NewModel};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// # store.publish(&key, trained())?;
    /// let version = match store.publish_if(&key, None, trained()) {
    ///     Ok(version) => version,
    ///     Err(err) => match err.kind() {
    ///         // Look at what the other one published, and if ours is still wanted, publish over it.
    ///         ErrorKind::Conflict { current, .. } => store.publish_if(&key, current, trained())?,
    ///         _ => return Err(err),
    ///     },
    /// };
    /// assert_eq!(version.get(), 2);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict), with both versions, when somebody else moved the head;
    /// otherwise as for [`publish`](Self::publish).
    pub fn publish_if<M: Model>(
        &self,
        key: &ModelKey,
        expected: Option<Version>,
        trained: NewModel<M>,
    ) -> Result<Version> {
        self.models.publish(key, Expect::Current(expected), trained)
    }

    /// Returns the current version of a model if it is fresh enough, and otherwise trains, publishes and returns a new
    /// one. The tier and the decision of the result say which happened, and why.
    ///
    /// `train` is given the stored model, if there is one that can be read: an expired one, or the current one of a
    /// forced refresh. It may use the store, for other models. Callers that want the same key at the same time wait for
    /// one training. A closure that asks for its own model is refused; one that waits for a thread which does so waits
    /// for ever.
    ///
    /// The closure's types are best written out where the compiler cannot know them: `|prior:
    /// Option<&ModelRef<MyModel>>| Ok::<_, MyError>(NewModel::new(...))`. What it does not bring, such as tags, the new
    /// version does not have.
    ///
    /// A damaged entry is quarantined and trained anew. A model that was trained and cannot be stored is returned all
    /// the same, with the reason in [`ModelRef::publish_error`]; it is kept in the hot tier, so that a full disk does
    /// not make every call train.
    ///
    /// # Errors
    /// [`TrainError::Train`] with what `train` returned, untouched; what was stored before is then still there.
    /// [`TrainError::Store`] when the trained model refuses itself or cannot be archived, or when `train` asks for
    /// the model that it is training.
    pub fn get_or_train<M, E, F>(
        &self,
        key: &ModelKey,
        freshness: &Freshness,
        train: F,
    ) -> Result<ModelRef<M>, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(Option<&ModelRef<M>>) -> Result<NewModel<M>, E>,
    {
        self.models.get_or_train(key, freshness, train)
    }

    /// Merges `new_data` into the training data that is stored for `key`, trains on the merged set, and publishes
    /// model and set together as a new version.
    ///
    /// Rows are merged by symbol and timestamp: new symbols are appended, newer rows replace older ones. `train` gets
    /// the merged set and the current model. Artifacts, tags and VIX ranges of the current version are taken over,
    /// unless `train` gives new ones of the same name. When the merge changes nothing and the current model was trained
    /// on that very set, `train` is not called and [`Update::trained`] is false; after a rollback the stored set is the
    /// newer one, so that the next update does train.
    ///
    /// ```
    /// # use modelkeep::{
    /// #     ModelRef, Model, ModelKey, Schema, Store, Timestamp, NewModel, training::{Samples, TrainingSet},
    /// # };
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Mean { mean: f64 }
    /// # impl Model for Mean { const SCHEMA: Schema = Schema::new("mean", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("mean", &())?;
    /// let mut samples = Samples::new("AAPL", &["x"])?;
    /// samples.push(Timestamp::from_nanos(1), &[0.5], 2.0)?;
    /// let new = TrainingSet::from_samples([samples])?;
    ///
    /// let train = |all: &TrainingSet, _prior: Option<&ModelRef<Mean>>| {
    ///     let (_features, target) = all.to_matrix();
    ///     let mean = target.iter().sum::<f64>() / target.len() as f64;
    ///     Ok::<_, std::io::Error>(NewModel::new(Mean { mean }))
    /// };
    /// let update = store.update(&key, &new, train)?;
    /// assert_eq!((update.trained, update.merge.rows.added), (true, 1));
    /// assert!(!store.update(&key, &new, train)?.trained); // nothing new
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`TrainError::Train`] with what `train` returned, untouched. [`TrainError::Store`] when there are no rows at
    /// all, when the feature names differ from the stored ones, when the stored data is damaged (the symbol is named;
    /// publish a whole set to replace it), or as for [`get_or_train`](Self::get_or_train). As there, a trained model
    /// that cannot be stored is returned with the reason attached; that includes a conflict with somebody else's
    /// publish.
    pub fn update<M, E, F>(&self, key: &ModelKey, new_data: &TrainingSet, train: F) -> Result<Update<M>, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(&TrainingSet, Option<&ModelRef<M>>) -> Result<NewModel<M>, E>,
    {
        self.models.update(key, new_data, train)
    }

    /// Returns a handle that follows the current version of a model, also if there is none yet.
    ///
    /// # Errors
    /// As for [`get`](Self::get): what is stored now cannot be read as an `M`.
    pub fn live<M: Model>(&self, key: &ModelKey) -> Result<Live<M>> {
        self.models.live(key)
    }

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

    /// Deletes all but the newest `keep` versions of a model. The current version and pinned ones stay in any case, and
    /// the one that a rollback leads to unless `keep` is below 2.
    pub fn prune(&self, key: &ModelKey, keep: usize) -> Removal<'_> {
        self.models.prune(key, keep)
    }

    /// Does [`prune`](Self::prune) for every model.
    pub fn prune_all(&self, keep: usize) -> Removal<'_> {
        self.models.prune_all(keep)
    }

    /// Deletes a model: every version and the training data, on disk and in memory; nothing, if there is none. Fails
    /// with `Pinned` when a version is pinned. Its number goes on where it was when the key is published again.
    pub fn remove(&self, key: &ModelKey) -> Removal<'_> {
        self.models.remove(key)
    }

    /// Deletes all models of this name, under every configuration, on disk and in memory. Fails with `Pinned` when a
    /// version of one of them is pinned, and deletes nothing then.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`ModelName`](crate::ModelName).
    pub fn invalidate(&self, name: &str) -> Result<Removal<'_>> {
        self.models.invalidate(name)
    }

    /// Deletes every version, of any model, that was last updated longer than `older_than` ago and is not pinned. A
    /// model whose current version goes has none until it is published again or rolled back by hand; nothing older
    /// is put in its place. With the last version of a model its training data goes, too.
    pub fn prune_older_than(&self, older_than: Duration) -> Removal<'_> {
        self.models.prune_older_than(older_than)
    }

    /// Returns what the store did since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.models.stats()
    }
}
