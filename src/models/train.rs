//! Getting a model, or training it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Models,
    archive::Model,
    decision::{Decision, Reason, Verdict},
    freshness::Freshness,
    model_ref::{ModelRef, Tier},
    new_model::NewModel,
    publish::Expect,
    staged::{Lineage, SeenHead, StagedVersion},
    tiers::Found,
};
use crate::{
    models::entry::nanos,
    sync::{counters::Counter, single_flight::Acquired},
    types::{
        error::{Error, ErrorKind, TrainError},
        key::ModelKey,
        time::duration_text,
    },
};

impl Models {
    /// Returns the current version of a model if it is fresh enough, and otherwise trains, publishes and returns a new
    /// one.
    pub(crate) fn get_or_train<M, E, F>(
        self: &Arc<Self>,
        key: &ModelKey,
        freshness: &Freshness,
        train: F,
    ) -> Result<ModelRef<M>, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(Option<&ModelRef<M>>) -> Result<NewModel<M>, E>,
    {
        if !freshness.use_cache {
            let staged = self.train(key, None, &Lineage::default(), train)?;
            let entry = Arc::new(self.unstored(staged, None));
            return Ok(ModelRef::new(entry, Tier::Trained, Decision::retrain(Reason::Bypassed))?);
        }
        if !freshness.force_refresh
            && let Found::Model(held) = self.find::<M>(key)
            && self.objections(freshness, &held).is_empty()
        {
            return Ok(self.serve(held));
        }
        let started = self.core.clock().monotonic();
        let done = self.train_or_wait(key, freshness, train);
        let took = self.core.clock().monotonic().saturating_sub(started);
        match done {
            Ok(held) => {
                self.note(key, held.decision(), took, held.version());
                Ok(held)
            }
            Err((error, decision)) => {
                self.note(key, &decision, took, None);
                Err(error)
            }
        }
    }

    /// Trains, unless another call is doing so or did; an error comes with what was decided.
    fn train_or_wait<M, E, F>(
        self: &Arc<Self>,
        key: &ModelKey,
        freshness: &Freshness,
        train: F,
    ) -> Result<ModelRef<M>, (TrainError<E>, Decision)>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(Option<&ModelRef<M>>) -> Result<NewModel<M>, E>,
    {
        let undecided = |error: Error| (error.into(), Decision::FRESH);
        let before = freshness.force_refresh.then(|| self.current_version(key).ok());
        let (_flight, waited) = match self.trainings.acquire_within(key, freshness.wait_at_most).map_err(undecided)? {
            Acquired::Flight { flight, waited } => (flight, waited),
            Acquired::TimedOut { waited } => return self.serve_meanwhile(key, freshness, waited),
        };
        // While this call waited, another one may have done the work.
        let seen = self.current_version(key).map_or(SeenHead::Unread, SeenHead::Current);
        let was_trained = waited && before.flatten().is_some_and(|before| seen != SeenHead::Current(before));
        let freshness = &Freshness { force_refresh: freshness.force_refresh && !was_trained, ..*freshness };
        let (prior, mut reasons) = match self.judge::<M>(key, freshness) {
            (Some(held), none) if none.is_empty() => return Ok(self.serve(held)),
            judged => judged,
        };
        self.count_miss();
        // What a tier of others handed out has a version of another file.
        let parent =
            prior.as_ref().and_then(ModelRef::version).filter(|version| seen == SeenHead::Current(Some(*version)));
        let lineage = Lineage { parent, inherit: None, seen };
        let error = match self.train(key, prior.as_ref(), &lineage, train) {
            Ok(staged) => {
                let decision = Decision::new(Verdict::Retrain, reasons);
                return self.publish_trained(key, Expect::Anything, staged, decision).map_err(undecided);
            }
            Err(error) => error,
        };
        reasons.push(Reason::TrainingFailed { error: error.to_string() });
        match prior.filter(|_| !freshness.refuse_expired && !freshness.force_refresh) {
            Some(prior) if matches!(error, TrainError::Train(_)) => {
                self.serve_with_warning(key, &prior, reasons).map_err(undecided)
            }
            _ => Err((error, Decision::new(Verdict::Failed, reasons))),
        }
    }
}

impl Models {
    fn objections<M: Model>(&self, freshness: &Freshness, held: &ModelRef<M>) -> Vec<Reason> {
        freshness.objections(held.metadata(), self.core.now())
    }

    /// Finds the stored model, and all that speaks against serving it; if there is none, why not.
    fn judge<M: Model>(self: &Arc<Self>, key: &ModelKey, freshness: &Freshness) -> (Option<ModelRef<M>>, Vec<Reason>) {
        match self.find::<M>(key) {
            Found::Model(held) => {
                let reasons = self.objections(freshness, &held);
                (Some(held), reasons)
            }
            Found::Missing => (None, freshness.without_model(Reason::Missing)),
            Found::OtherSchema { stored, requested } => {
                (None, freshness.without_model(Reason::SchemaChanged { stored, requested }))
            }
            Found::Failed(err) | Found::Damaged(_, err) => (None, freshness.without_model(failed(&err))),
        }
    }

    fn serve<M: Model>(&self, held: ModelRef<M>) -> ModelRef<M> {
        self.count_hit(&held);
        held
    }

    /// Serves what is there while another call goes on training.
    fn serve_meanwhile<M: Model, E: fmt::Debug + fmt::Display>(
        self: &Arc<Self>,
        key: &ModelKey,
        freshness: &Freshness,
        waited: Duration,
    ) -> Result<ModelRef<M>, (TrainError<E>, Decision)> {
        let (held, mut reasons) = match self.judge::<M>(key, freshness) {
            (Some(held), none) if none.is_empty() => return Ok(self.serve(held)),
            judged => judged,
        };
        reasons.push(Reason::TrainingUnderWay { waited });
        if let Some(held) = held.filter(|_| !freshness.refuse_expired) {
            return self.serve_with_warning(key, &held, reasons).map_err(|error| (error.into(), Decision::FRESH));
        }
        let message = format!("another call is training it, and did not end within {}", duration_text(waited));
        let error = Error::new(ErrorKind::TimedOut, "train", key.to_string(), message);
        Err((error.into(), Decision::new(Verdict::Failed, reasons)))
    }

    /// Serves a model that is not good enough, because there is nothing better now.
    fn serve_with_warning<M: Model>(
        &self,
        key: &ModelKey,
        held: &ModelRef<M>,
        reasons: Vec<Reason>,
    ) -> Result<ModelRef<M>, Error> {
        let decision = Decision::new(Verdict::ReuseWithWarning, reasons);
        tracing::warn!(%key, %decision, "the stored model is served all the same");
        self.counters.add(Counter::Warnings, 1);
        ModelRef::new(Arc::clone(held.shared()), held.tier(), decision)
    }

    /// Runs the caller's closure, measures it, and stages the result.
    pub(super) fn train<M, E, F>(
        &self,
        key: &ModelKey,
        prior: Option<&ModelRef<M>>,
        lineage: &Lineage,
        train: F,
    ) -> Result<StagedVersion, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(Option<&ModelRef<M>>) -> Result<NewModel<M>, E>,
    {
        let started = self.core.clock().monotonic();
        let mut trained = train(prior).map_err(TrainError::Train)?;
        let took = self.core.clock().monotonic().saturating_sub(started);
        self.count_training(took);
        tracing::info!(%key, ?took, "trained");
        trained.training_duration.get_or_insert(took);
        Ok(self.stage(key, trained, lineage)?)
    }

    /// Counts a training.
    fn count_training(&self, took: Duration) {
        self.counters.add(Counter::Trainings, 1);
        self.counters.add(Counter::TrainingNanos, nanos(took));
    }

    /// Publishes what was trained; keeps it all the same when that fails.
    pub(super) fn publish_trained<M: Model>(
        self: &Arc<Self>,
        key: &ModelKey,
        expect: Expect,
        staged: StagedVersion,
        decision: Decision,
    ) -> Result<ModelRef<M>, Error> {
        let entry = match self.write_staged(key, expect, staged) {
            Ok(published) => published.into_entry(),
            Err(unwritten) => self.keep_unwritten(key, *unwritten),
        };
        ModelRef::new(entry, Tier::Trained, decision)
    }
}

/// Why a stored model that could not be loaded is trained anew.
pub(super) fn failed(err: &Error) -> Reason {
    let reason = err.to_string();
    match err.kind() {
        ErrorKind::Corrupt => Reason::Corrupt { reason },
        _ => Reason::Unreadable { reason },
    }
}
