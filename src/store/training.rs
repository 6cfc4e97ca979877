//! Training, as a user calls it: a model that is found or trained, and one that new data brings up to date.

use std::fmt;

use super::Store;
use crate::{
    models::{
        archive::Model, model_ref::ModelRef, new_model::NewModel, train::Freshness, training::TrainingSet,
        update::Update,
    },
    types::{error::TrainError, key::ModelKey},
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
    /// Write the closure in the call itself, as `|prior| -> TrainResult<MyModel>`: then `?` takes any error. One that is
    /// kept in a variable needs the type of its argument as well. What it does not bring, such as tags, the new version
    /// does not have.
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
}
