//! Incremental training: new data, the stored data, and the model that was trained on it.

use std::{fmt, sync::Arc};

use super::{
    Models,
    archive::Model,
    catalog,
    decision::{Decision, Reason, Verdict},
    model_ref::ModelRef,
    new_model::NewModel,
    publish::Expect,
    staged::{Lineage, SeenHead},
    tiers::Found,
    training::{Merge, TrainingSet, stored},
};
use crate::types::{
    error::{Error, ErrorKind, TrainError},
    key::ModelKey,
};

/// What an update came to.
#[non_exhaustive]
pub struct Update<M: Model> {
    /// The model: a new version, or the current one when nothing had changed.
    pub model: ModelRef<M>,
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
fn trained_on<M: Model>(model: &ModelRef<M>, data: &TrainingSet) -> Result<bool, Error> {
    match model.metadata().training_hash {
        Some(hash) => Ok(stored::Prepared::new(data)?.hash() == hash),
        None => Ok(data.is_empty()),
    }
}

impl Models {
    /// Merges `new_data` into the training data that is stored for `key`, trains on the merged set, and publishes model
    /// and set together as a new version.
    pub(crate) fn update<M, E, F>(
        self: &Arc<Self>,
        key: &ModelKey,
        new_data: &TrainingSet,
        train: F,
    ) -> Result<Update<M>, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(&TrainingSet, Option<&ModelRef<M>>) -> Result<NewModel<M>, E>,
    {
        let started = self.core.clock().monotonic();
        let took = || self.core.clock().monotonic().saturating_sub(started);
        let _flight = self.trainings.acquire(key)?;
        // Inherited is what is stored, and not what is hot: the two differ after a model could not be written.
        let (expect, parent, seen, inherit, mut data) = self.core.look(|snapshot| {
            let (expect, parent, seen) = match catalog::head::read(snapshot, key) {
                Ok(head) => {
                    let current = head.and_then(|head| head.current);
                    (Expect::Current(current), current, SeenHead::Current(current))
                }
                Err(err) if err.kind() == ErrorKind::Expired => return Err(err),
                Err(_) => (Expect::Anything, None, SeenHead::Unread),
            };
            let inherit = parent.and_then(|version| catalog::metadata::read(snapshot, key, version).ok().flatten());
            Ok((expect, parent, seen, inherit, stored::read(snapshot, key)?.unwrap_or_default()))
        })?;
        let merge = data.merge(new_data)?;
        let prior = match self.find::<M>(key) {
            Found::Model(held) => Some(held),
            _ => None,
        };
        if !merge.rows.changed()
            && let Some(model) = prior.as_ref()
            && trained_on(model, &data)?
        {
            tracing::info!(%key, "the new data changes nothing; not trained");
            let decision = Decision::new(Verdict::Reuse, vec![Reason::Unchanged]);
            let model: ModelRef<M> = ModelRef::new(Arc::clone(model.shared()), model.tier(), decision)?;
            self.note(key, model.decision(), took(), model.version());
            return Ok(Update { model, merge, trained: false });
        }
        if data.is_empty() {
            let message = "there are no rows to train on, neither stored nor new";
            return Err(Error::invalid("update", key.to_string(), message).into());
        }
        let lineage = Lineage { parent, inherit: inherit.map(|stored| stored.metadata), seen };
        let staged = self.train(key, prior.as_ref(), &lineage, |prior| {
            let trained = train(&data, prior)?;
            Ok(trained.training_data(data))
        })?;
        let model: ModelRef<M> = self.publish_trained(key, expect, staged, Decision::retrain(Reason::NewData))?;
        self.note(key, model.decision(), took(), model.version());
        Ok(Update { model, merge, trained: true })
    }
}
