//! Models, as a user calls them: found, published, followed.

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
        training::{TrainingSet, TrainingSummary},
    },
    types::{error::Result, key::ModelKey, version::Version},
};

impl Store {
    /// Returns the current version of a model, from the hot tier or from disk; `None` when there is none.
    ///
    /// A hit in the hot tier takes no lock and counts no reference: 8 ns where this was measured, and with 10,000
    /// models by Zipf what the processor's caches cost. A load from disk walks to three rows in a map of the file and
    /// leaves the archive there; under [`Verify::Full`](crate::Verify::Full) it is hashed. Small and compressed
    /// archives are copied.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// assert!(store.get::<Momentum>(&key)?.is_none());
    /// store.publish(&key, trained())?;
    /// let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert_eq!(model.weights[0].to_native(), 0.5); // read in place
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let first = store.publish(&key, trained())?;
    /// store.publish(&key, NewModel::new(Momentum { weights: vec![0.75] }))?;
    /// let old = store.get_version::<Momentum>(&key, first)?.expect("it is kept");
    /// assert_eq!(old.weights[0].to_native(), 0.5);
    /// assert!(store.get_version::<Momentum>(&key, first.next().next())?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_version<M: Model>(&self, key: &ModelKey, version: Version) -> Result<Option<ModelRef<M>>> {
        self.models.get_version(key, version)
    }

    /// Returns the metadata of the current version; `None` when there is none. The archive is not read.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// store.publish(&key, trained().metric("auc", 0.61).tag("desk", "equities"))?;
    /// let metadata = store.metadata(&key)?.expect("it was published");
    /// assert_eq!((metadata.metrics["auc"], metadata.tags["desk"].as_str()), (0.61, "equities"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the head or the metadata is damaged, `Io` when the file cannot be read.
    pub fn metadata(&self, key: &ModelKey) -> Result<Option<Metadata>> {
        self.models.metadata(key)
    }

    /// Returns the metadata of a certain version; `None` when there is none of that number.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let first = store.publish(&key, trained().metric("auc", 0.58))?;
    /// let second = store.publish(&key, trained().metric("auc", 0.61))?;
    /// let auc = |version| Ok::<_, modelkeep::Error>(store.metadata_of(&key, version)?.map(|known| known.metrics["auc"]));
    /// assert_eq!((auc(first)?, auc(second)?), (Some(0.58), Some(0.61)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`metadata`](Self::metadata).
    pub fn metadata_of(&self, key: &ModelKey, version: Version) -> Result<Option<Metadata>> {
        self.models.metadata_of(key, version)
    }

    /// Returns an artifact of a version, checked in full; `None` when the version has none of that name.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let version = store.publish(&key, trained().artifact("report.txt", "all is well"))?;
    /// assert_eq!(store.artifact(&key, version, "report.txt")?.as_deref(), Some(&b"all is well"[..]));
    /// assert_eq!(store.artifact(&key, version, "scaler.json")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    ///
    /// let mut samples = Samples::new("AAPL", &["zscore"])?;
    /// samples.push(Timestamp::from_nanos(1), &[-1.7], 1.0)?;
    /// let set = TrainingSet::from_samples([samples])?;
    /// store.publish(&key, trained().training_data(set.clone()))?;
    /// assert_eq!(store.training_data(&key)?, Some(set));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt`, naming the symbol, or `Io` when it cannot be read.
    pub fn training_data(&self, key: &ModelKey) -> Result<Option<TrainingSet>> {
        self.models.training_data(key)
    }

    /// Says what training data is stored for a model, symbol by symbol, without reading the columns.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// store.publish(&key, trained().training_data(set))?;
    /// for summary in store.training_summary(&key)? {
    ///     assert_eq!((summary.symbol.as_str(), summary.samples, summary.features), ("AAPL", 1, 2));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`training_data`](Self::training_data).
    pub fn training_summary(&self, key: &ModelKey) -> Result<Vec<TrainingSummary>> {
        self.models.training_summary(key)
    }

    /// Returns the versions that were found damaged and are not served.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::in_memory()?;
    /// for found in store.quarantined()? {
    ///     println!("{} {}: {}", found.key, found.version, found.reason);
    /// }
    /// assert!(store.quarantined()?.is_empty()); // nothing is damaged
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        self.models.quarantined()
    }

    /// Returns the bytes of a version's archive, decoded and checked in full; `None` when there is none of that number.
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
    /// let bytes = store.archive_bytes(&key, version)?.expect("it was published");
    /// let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert_eq!(bytes, model.archive_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let model = NewModel::new(Momentum { weights: vec![0.5] })
    ///     .metric("auc", 0.61)
    ///     .artifact("report.txt", "all is well");
    /// assert_eq!(store.publish(&key, model)?.get(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the model refuses itself, when a name breaks the rules of [`Label`](crate::Label), or when
    /// the key knows no configuration and none is stored. `LimitExceeded`, `ReadOnly`, `StorageFull`, `Corrupt` or
    /// `Io`. Nothing is published; before `StorageFull` superseded versions that [wait for
    /// it](crate::Options::maintenance) were compressed and removed, to make room. Or `OutcomeUnknown`: then the new
    /// version is there or not, and what [`get`](Self::get) and [`metadata`](Self::metadata) say is what the file has.
    pub fn publish<M: Model>(&self, key: &ModelKey, trained: NewModel<M>) -> Result<Version> {
        self.models.publish(key, Expect::Anything, trained)
    }

    /// Publishes the next version of each of several models, in one durable transaction: all of them, or none. What a
    /// nightly training of thousands of models is published with, where a publish of each would sync as often. Returns
    /// the versions, in the order of the models. They go to the hot tier, where the last ones stay if not all fit: call
    /// [`evict_all`](Self::evict_all) before a [`preload`](Self::preload) of others.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// let mut trained = Vec::new();
    /// for symbol in ["AAPL", "MSFT"] {
    ///     trained.push((ModelKey::new("momentum", &symbol)?, NewModel::new(Momentum { weights: vec![0.5] })));
    /// }
    /// assert_eq!(store.publish_many(trained)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when a model is there twice; otherwise as for [`publish`](Self::publish). Nothing is published
    /// then, but after `OutcomeUnknown`: all of them may be there, or none. All models, artifacts and archives are in
    /// memory at once meanwhile.
    pub fn publish_many<M: Model>(
        &self,
        trained: impl IntoIterator<Item = (ModelKey, NewModel<M>)>,
    ) -> Result<Vec<Version>> {
        self.models.publish_many(trained)
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

    /// Returns a handle that follows the current version of a model, also if there is none yet.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let live = store.live::<Momentum>(&key)?;
    /// assert!(live.load().is_none()); // nothing is published yet
    /// store.publish(&key, trained())?;
    /// assert_eq!(live.load().map(|model| model.weights[0].to_native()), Some(0.5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get`](Self::get): what is stored now cannot be read as an `M`.
    pub fn live<M: Model>(&self, key: &ModelKey) -> Result<Live<M>> {
        self.models.live(key)
    }

    /// Returns what the store did since it was opened.
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
    /// store.get::<Momentum>(&key)?;
    /// let stats = store.stats();
    /// assert_eq!((stats.hot.hits, stats.hot_entries), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.models.stats()
    }
}
