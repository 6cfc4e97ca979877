//! Training, as a user calls it: a model that is found or trained, and one that new data brings up to date.

use std::fmt;

use super::Store;
use crate::{
    models::{
        archive::Model, decision::DecisionEntry, explain::Explanation, freshness::Freshness, model_ref::ModelRef,
        new_model::NewModel, training::TrainingSet, update::Update,
    },
    types::{
        error::{Result, TrainError},
        key::ModelKey,
    },
};

impl Store {
    /// Returns the current version of a model if it is fresh enough, and otherwise trains, publishes and returns a new
    /// one. The tier and the decision of the result say which happened, and why.
    ///
    /// `train` is given the stored model, if there is one that can be read: an expired one, or the current one of a
    /// forced refresh. It may use the store, for other models. Callers that want the same key at the same time wait for
    /// one training. A closure that asks for its own model is refused; one that waits for a thread which does so waits
    /// for ever.
    ///
    /// Write the closure in the call itself, as `|prior| -> TrainResult<MyModel>`: then `?` takes any error. One that
    /// is kept in a variable needs the type of its argument as well. What it does not bring, such as tags, the new
    /// version does not have.
    ///
    /// When the training of a model that is there, and not good enough, fails, that model is returned with the verdict
    /// [`ReuseWithWarning`](crate::Verdict::ReuseWithWarning): look at [`ModelRef::decision`], which says both why it
    /// is not good enough and what the training said. [`Freshness::refuse_expired`] wants the error instead, and so
    /// does a forced refresh. [`explain`](Self::explain) says beforehand what would happen.
    ///
    /// A damaged entry is quarantined and trained anew. A model that was trained and cannot be stored is returned all
    /// the same, with the reason in [`ModelRef::publish_error`]; it is kept in the hot tier, so that a full disk does
    /// not make every call train.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use std::time::Duration;
    /// use modelkeep::{Freshness, ModelRef, TrainResult};
    ///
    /// let train = |prior: Option<&ModelRef<Momentum>>| -> TrainResult<Momentum> {
    ///     let start = prior.map_or(0.0, |prior| prior.weights[0].to_native()); // warm start
    ///     Ok(Momentum { weights: vec![start + 0.5] }.into())
    /// };
    /// store.get_or_train(&key, &Freshness::max_age_hours(20), train)?;
    /// let forced = store.get_or_train(&key, &Freshness::forced(), train)?;
    /// assert_eq!((forced.decision().to_string().as_str(), forced.weights[0].to_native()), ("forced", 1.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`TrainError::Train`] with what `train` returned, untouched, when there is no model to return instead; what was
    /// stored before is then still there. [`TrainError::Store`] when the trained model refuses itself or cannot be
    /// archived, when `train` asks for the model that it is training, or, as `TimedOut`, when another call was training
    /// it for longer than [`Freshness::wait_at_most`], and there is no model to return instead.
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

    /// Says what [`get_or_train`](Self::get_or_train) would do now, and why, without training or loading anything: the
    /// verdict, all reasons with their figures, what is known of the current version, and which stored models of the
    /// same name differ from this one in which fields of their configuration.
    ///
    /// Only what is known of a model is read: not its archive, in which a load may still find damage. Where the type is
    /// known, prefer [`explain_as`](Self::explain_as): whether the schema fits is one of its reasons.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// use modelkeep::Freshness;
    ///
    /// let key = |threshold: f64| ModelKey::new("momentum", &[("z_threshold", threshold)].into_iter().collect::<std::collections::BTreeMap<_, _>>());
    /// store.publish(&key(-1.5)?, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// let explained = store.explain(&key(-1.2)?, &Freshness::any_age())?;
    /// assert!(explained.to_string().contains("1 field differs, config.z_threshold -1.2 -> -1.5"), "{explained}");
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read. Damage is a reason, and no error, as far as it is about this model.
    pub fn explain(&self, key: &ModelKey, freshness: &Freshness) -> Result<Explanation> {
        self.models.explain(key, freshness, None)
    }

    /// The same for a model that would be asked for as an `M`: whether the schema fits is one of the reasons.
    ///
    /// ```
    /// # use modelkeep::{Freshness, Model, ModelKey, NewModel, Reason, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct MomentumTwo { weights: Vec<f64>, bias: f64 }
    /// # impl Model for MomentumTwo { const SCHEMA: Schema = Schema::new("momentum", 2); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// let explained = store.explain_as::<MomentumTwo>(&key, &Freshness::any_age())?;
    /// assert!(matches!(explained.decision().reasons(), [Reason::SchemaChanged { .. }]));
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`explain`](Self::explain), and `InvalidInput` when the name of the type's schema breaks the rules of
    /// [`Label`](crate::Label).
    pub fn explain_as<M: Model>(&self, key: &ModelKey, freshness: &Freshness) -> Result<Explanation> {
        self.models.explain_as::<M>(key, freshness)
    }

    /// Returns the decisions that were taken about models, the oldest first: those of
    /// [`get_or_train`](Self::get_or_train) and [`update`](Self::update), unless the answer was `fresh`, with all
    /// reasons, how long the call took, and the version that it returned. The newest 10,000 are kept.
    ///
    /// A call that decides waits for nothing: what it decided is in the file two seconds later, together with others,
    /// or when the store is closed or dropped. A store that is opened read-only keeps its own in memory. Calls that
    /// bypass the store are not noted. A reason is cut after 1 KiB.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// use modelkeep::{Freshness, TrainResult};
    ///
    /// let train = |_: Option<&_>| -> TrainResult<Momentum> { Ok(Momentum { weights: vec![0.5] }.into()) };
    /// store.get_or_train(&key, &Freshness::any_age(), train)?; // trains
    /// store.get_or_train(&key, &Freshness::any_age(), train)?; // a hit
    /// let decisions = store.decisions()?;
    /// assert_eq!((decisions.len(), decisions[0].reasons[0].as_str()), (1, "missing"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when one of them is damaged, `Io` when the file cannot be read.
    pub fn decisions(&self) -> Result<Vec<DecisionEntry>> {
        self.models.decisions()
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
}
