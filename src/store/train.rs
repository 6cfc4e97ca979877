//! Getting a model, or training it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Inner, Store,
    draft::{Draft, Origin},
    held::{Decision, Held, Tier},
    publish::Expect,
    read::Found,
    trained::Trained,
};
use crate::{
    archive::Model,
    error::{Error, ErrorKind, TrainError},
    key::ModelKey,
};

/// When a stored model is good enough.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::Freshness;
///
/// let daily = Freshness::max_age_hours(24);
/// let now = Freshness { force_refresh: true, ..daily };
/// assert_eq!(now.max_age, Some(Duration::from_secs(86_400)));
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
    #[must_use]
    pub const fn any_age() -> Self {
        Self { max_age: None, force_refresh: false, use_cache: true }
    }

    /// Returns a freshness that accepts a model which is at most `age` old.
    #[must_use]
    pub const fn max_age(age: Duration) -> Self {
        Self { max_age: Some(age), ..Self::any_age() }
    }

    /// Returns a freshness that accepts a model which is at most `hours` hours old.
    #[must_use]
    pub const fn max_age_hours(hours: u32) -> Self {
        Self::max_age(Duration::from_secs(hours as u64 * 3600))
    }

    /// Returns a freshness that accepts no stored model; the new one is published.
    #[must_use]
    pub const fn forced() -> Self {
        Self { force_refresh: true, ..Self::any_age() }
    }

    /// Returns a freshness that leaves the store alone: nothing is read, nothing is written.
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

impl Store {
    /// Returns the current version of a model if it is fresh enough, and otherwise trains, publishes and returns a new
    /// one. The tier and the decision of the result say which happened, and why.
    ///
    /// `train` is given the stored model, if there is one that can be read: an expired one, or the current one of a
    /// forced refresh. It may use the store, for other models. Callers that want the same key at the same time wait for
    /// one training. A closure that asks for its own model is refused; one that waits for a thread which does so waits
    /// for ever.
    ///
    /// The closure's types are best written out where the compiler cannot know them: `|prior: Option<&Held<MyModel>>|
    /// Ok::<_, MyError>(Trained::new(...))`. What it does not bring, such as tags, the new version does not have.
    ///
    /// A damaged entry is quarantined and trained anew. A model that was trained and cannot be stored is returned all
    /// the same, with the reason in [`Held::publish_error`]; it is kept in the hot tier, so that a full disk does not
    /// make every call train.
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
    ) -> Result<Held<M>, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(Option<&Held<M>>) -> Result<Trained<M>, E>,
    {
        let inner = &self.inner;
        if !freshness.use_cache {
            let draft = inner.train(key, None, &Origin::default(), train)?;
            let entry = Arc::new(inner.entry(draft, None));
            return Ok(Held::new(entry, Tier::Trained, Decision::Bypassed)?);
        }
        if !freshness.force_refresh
            && let Found::Model(held) = inner.find::<M>(key)
            && expired(&held, freshness).is_none()
        {
            return Ok(inner.serve(held));
        }
        let _flight = inner.flights.board(key)?;
        // While this call waited, another one may have done the work.
        let seen = inner.current_version(key).ok().flatten();
        let (prior, decision) = match inner.find::<M>(key) {
            Found::Model(held) => match expired(&held, freshness) {
                _ if freshness.force_refresh => (Some(held), Decision::Forced),
                Some(expired) => (Some(held), expired),
                None => return Ok(inner.serve(held)),
            },
            _ if freshness.force_refresh => (None, Decision::Forced),
            Found::Missing => (None, Decision::Missing),
            Found::OtherSchema { stored, requested } => (None, Decision::SchemaChanged { stored, requested }),
            Found::Failed(err) => (None, failed(&err)),
        };
        inner.count_miss();
        let origin = Origin { parent: prior.as_ref().and_then(Held::version), inherit: None, seen };
        let draft = inner.train(key, prior.as_ref(), &origin, train)?;
        Ok(inner.publish_trained(key, Expect::Anything, draft, decision)?)
    }
}

impl Inner {
    fn serve<M: Model>(&self, held: Held<M>) -> Held<M> {
        self.count_hit(&held);
        held
    }

    /// Runs the caller's closure, measures it, and drafts the result.
    pub(super) fn train<M, E, F>(
        &self,
        key: &ModelKey,
        prior: Option<&Held<M>>,
        origin: &Origin,
        train: F,
    ) -> Result<Draft, TrainError<E>>
    where
        M: Model,
        E: fmt::Debug + fmt::Display,
        F: FnOnce(Option<&Held<M>>) -> Result<Trained<M>, E>,
    {
        let started = self.clock.monotonic();
        let mut trained = train(prior).map_err(TrainError::Train)?;
        let took = self.clock.monotonic().saturating_sub(started);
        self.count_training(took);
        tracing::info!(%key, ?took, "trained");
        trained.training_duration.get_or_insert(took);
        Ok(self.draft(key, trained, origin)?)
    }

    /// Publishes what was trained; keeps it all the same when that fails.
    pub(super) fn publish_trained<M: Model>(
        self: &Arc<Self>,
        key: &ModelKey,
        expect: Expect,
        draft: Draft,
        decision: Decision,
    ) -> Result<Held<M>, Error> {
        let entry = match self.write_draft(key, expect, draft) {
            Ok(published) => published.into_entry(),
            Err(unwritten) => self.keep_unwritten(key, *unwritten),
        };
        self.after_write(entry.publish_error.get());
        Held::new(entry, Tier::Trained, decision)
    }
}

fn expired<M: Model>(held: &Held<M>, freshness: &Freshness) -> Option<Decision> {
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
