//! Getting a model, or training it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Models,
    archive::Model,
    model_ref::{Decision, ModelRef, Tier},
    new_model::NewModel,
    publish::Expect,
    staged::{Lineage, SeenHead, StagedVersion},
    tiers::Found,
};
use crate::{
    models::entry::nanos,
    sync::counters::Counter,
    types::{
        error::{Error, ErrorKind, TrainError},
        key::ModelKey,
    },
};

/// When a stored model is good enough.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::Freshness;
///
/// let daily = Freshness::max_age_hours(20);
/// let now = Freshness { force_refresh: true, ..daily };
/// assert_eq!(now.max_age, Some(Duration::from_secs(72_000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How old the model may be, measured from its last update by the store's clock. `None`: any age will do.
    pub max_age: Option<Duration>,
    /// Train in any case, and publish.
    pub force_refresh: bool,
    /// Whether the store is used at all. `false`: train, and neither read nor write anything.
    pub use_cache: bool,
}

impl Freshness {
    /// Returns a freshness that accepts a model of any age.
    ///
    /// ```
    /// # use modelkeep::Freshness;
    /// assert_eq!(Freshness::any_age(), Freshness::default());
    /// ```
    #[must_use]
    pub const fn any_age() -> Self {
        Self { max_age: None, force_refresh: false, use_cache: true }
    }

    /// Returns a freshness that accepts a model which is at most `age` old. The age counts from the publish, so that a job
    /// that runs every 24 hours wants less, such as 20: with 24 it would train every second time.
    ///
    /// ```
    /// # use modelkeep::Freshness;
    /// # use std::time::Duration;
    /// assert_eq!(Freshness::max_age(Duration::from_secs(7200)), Freshness::max_age_hours(2));
    /// ```
    #[must_use]
    pub const fn max_age(age: Duration) -> Self {
        Self { max_age: Some(age), ..Self::any_age() }
    }

    /// Returns a freshness that accepts a model which is at most `hours` hours old.
    ///
    /// ```
    /// # use modelkeep::Freshness;
    /// assert_eq!(Freshness::max_age_hours(20).max_age.map(|age| age.as_secs()), Some(72_000));
    /// ```
    #[must_use]
    pub const fn max_age_hours(hours: u32) -> Self {
        Self::max_age(Duration::from_secs(hours as u64 * 3600))
    }

    /// Returns a freshness that accepts no stored model; the new one is published.
    ///
    /// ```
    /// # use modelkeep::Freshness;
    /// assert!(Freshness::forced().force_refresh);
    /// ```
    #[must_use]
    pub const fn forced() -> Self {
        Self { force_refresh: true, ..Self::any_age() }
    }

    /// Returns a freshness that leaves the store alone: nothing is read, nothing is written.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// # use modelkeep::{Freshness, ModelRef};
    /// let train = |_: Option<&ModelRef<Momentum>>| Ok::<_, std::io::Error>(trained());
    /// assert_eq!(store.get_or_train(&key, &Freshness::bypass(), train)?.version(), None);
    /// assert!(store.metadata(&key)?.is_none()); // nothing was written
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn bypass() -> Self {
        Self { use_cache: false, ..Self::any_age() }
    }
}

impl Default for Freshness {
    /// [`Freshness::any_age`].
    fn default() -> Self {
        Self::any_age()
    }
}

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
            return Ok(ModelRef::new(entry, Tier::Trained, Decision::Bypassed)?);
        }
        if !freshness.force_refresh
            && let Found::Model(held) = self.find::<M>(key)
            && expired(&held, freshness).is_none()
        {
            return Ok(self.serve(held));
        }
        let _flight = self.trainings.acquire(key)?;
        // While this call waited, another one may have done the work.
        let seen = self.current_version(key).map_or(SeenHead::Unread, SeenHead::Current);
        let (prior, decision) = match self.find::<M>(key) {
            Found::Model(held) => match expired(&held, freshness) {
                _ if freshness.force_refresh => (Some(held), Decision::Forced),
                Some(expired) => (Some(held), expired),
                None => return Ok(self.serve(held)),
            },
            _ if freshness.force_refresh => (None, Decision::Forced),
            Found::Missing => (None, Decision::Missing),
            Found::OtherSchema { stored, requested } => (None, Decision::SchemaChanged { stored, requested }),
            Found::Failed(err) | Found::Damaged(_, err) => (None, failed(&err)),
        };
        self.count_miss();
        // What a tier of others handed out has a version of another file.
        let parent =
            prior.as_ref().and_then(ModelRef::version).filter(|version| seen == SeenHead::Current(Some(*version)));
        let lineage = Lineage { parent, inherit: None, seen };
        let staged = self.train(key, prior.as_ref(), &lineage, train)?;
        Ok(self.publish_trained(key, Expect::Anything, staged, decision)?)
    }
}

impl Models {
    fn serve<M: Model>(&self, held: ModelRef<M>) -> ModelRef<M> {
        self.count_hit(&held);
        held
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

fn expired<M: Model>(held: &ModelRef<M>, freshness: &Freshness) -> Option<Decision> {
    let max_age = freshness.max_age?;
    let age = held.age();
    (age > max_age).then_some(Decision::Expired { age, max_age })
}

/// Why a stored model that could not be loaded is trained anew.
fn failed(err: &Error) -> Decision {
    let reason = err.to_string();
    match err.kind() {
        ErrorKind::Corrupt => Decision::Corrupt { reason },
        _ => Decision::Unreadable { reason },
    }
}
