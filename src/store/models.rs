//! Models, as a user calls them: found, published, trained, followed.

use std::fmt;

use super::Store;
use crate::{
    models::{
        archive::Model,
        catalog::{metadata::Metadata, quarantine::Quarantined},
        live::Live,
        lookup::Lookup,
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

    /// Returns the current version of a model, or why there is none: nothing was ever published under this key, or
    /// everything was removed.
    ///
    /// ```
    /// use modelkeep::{Absence, Lookup};
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// let (stored, wanted) = (ModelKey::new("momentum", &[("days", 5)])?, ModelKey::new("momentum", &[("days", 20)])?);
    /// store.publish(&stored, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// match store.lookup::<Momentum>(&wanted)? {
    ///     Lookup::Found(model) => println!("{}", model.weights[0]),
    ///     Lookup::Absent(Absence::NeverPublished { others }) => assert_eq!(wanted.diff(&others[0]).len(), 1),
    ///     Lookup::Absent(why) => println!("{why}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get`](Self::get): a model that is there and cannot be served is an error, and not absent.
    pub fn lookup<M: Model>(&self, key: &ModelKey) -> Result<Lookup<M>> {
        self.models.lookup(key)
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

    /// Returns what the store did since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.models.stats()
    }
}
