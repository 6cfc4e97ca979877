//! Incremental training: new data, the stored data, and the model that was trained on it.

use std::{fmt, sync::Arc};

use super::{
    Store,
    draft::Origin,
    held::{Decision, Held},
    publish::Expect,
    read::Found,
    trained::Trained,
};
use crate::{
    archive::Model,
    error::{Error, ErrorKind, TrainError},
    key::ModelKey,
    registry,
    training::{Merge, TrainingSet, stored},
};

/// What an update came to.
#[non_exhaustive]
pub struct Update<M: Model> {
    /// The model: a new version, or the current one when nothing had changed.
    pub model: Held<M>,
    /// What the new data did to the stored data.
    pub merge: Merge,
    /// Whether a training took place.
    pub trained: bool,
}

impl<M: Model> fmt::Debug for Update<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("model", &self.model)
            .field("merge", &self.merge)
            .field("trained", &self.trained)
            .finish()
    }
}

/// Whether a model was trained on just this set.
fn trained_on<M: Model>(model: &Held<M>, data: &TrainingSet) -> Result<bool, Error> {
    match model.metadata().training_hash {
        Some(hash) => Ok(stored::Prepared::new(data)?.hash() == hash),
        None => Ok(data.is_empty()),
    }
}

impl Store {
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
    /// # use modelkeep::{Held, Model, ModelKey, Samples, Schema, Store, Timestamp, Trained, TrainingSet};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Mean { mean: f64 }
    /// # impl Model for Mean { const SCHEMA: Schema = Schema::new("mean", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("mean", &())?;
    /// let mut samples = Samples::new("AAPL", &["x"])?;
    /// samples.push(Timestamp::from_nanos(1), &[0.5], 2.0)?;
    /// let new = TrainingSet::from_samples([samples])?;
    ///
    /// let train = |all: &TrainingSet, _prior: Option<&Held<Mean>>| {
    ///     let (_features, target) = all.to_matrix();
    ///     let mean = target.iter().sum::<f64>() / target.len() as f64;
    ///     Ok::<_, std::io::Error>(Trained::new(Mean { mean }))
    /// };
    /// let update = store.update(&key, &new, train)?;
    /// assert_eq!((update.trained, update.merge.added), (true, 1));
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
        F: FnOnce(&TrainingSet, Option<&Held<M>>) -> Result<Trained<M>, E>,
    {
        let inner = &self.inner;
        let _flight = inner.flights.board(key)?;
        // Inherited is what is stored, and not what is hot: the two differ after a model could not be written.
        let (expect, parent, inherit, mut data) = self.look(|snapshot| {
            let (expect, parent) = match registry::head::read(snapshot, key) {
                Ok(head) => {
                    let current = head.and_then(|head| head.current);
                    (Expect::Current(current), current)
                }
                Err(err) if err.kind() == ErrorKind::Expired => return Err(err),
                Err(_) => (Expect::Anything, None),
            };
            let inherit = parent.and_then(|version| registry::metadata::read(snapshot, key, version).ok().flatten());
            Ok((expect, parent, inherit, stored::read(snapshot, key)?.unwrap_or_default()))
        })?;
        let merge = data.merge(new_data)?;
        let prior = match inner.find::<M>(key) {
            Found::Model(held) => Some(held),
            _ => None,
        };
        if !merge.changed()
            && let Some(model) = prior.as_ref()
            && trained_on(model, &data)?
        {
            tracing::info!(%key, "the new data changes nothing; not trained");
            let model = Held::new(Arc::clone(model.shared()), model.tier(), Decision::Unchanged)?;
            return Ok(Update { model, merge, trained: false });
        }
        if data.is_empty() {
            let message = "there are no rows to train on, neither stored nor new";
            return Err(Error::invalid("update", key.to_string(), message).into());
        }
        let origin = Origin { parent, inherit: inherit.map(|stored| stored.metadata), seen: parent };
        let draft = inner.train(key, prior.as_ref(), &origin, |prior| {
            let trained = train(&data, prior)?;
            Ok(trained.training_data(data))
        })?;
        let model = inner.publish_trained(key, expect, draft, Decision::NewData)?;
        Ok(Update { model, merge, trained: true })
    }
}
