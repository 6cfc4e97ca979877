//! When a stored model is good enough.

use std::time::Duration;

use super::{catalog::metadata::Metadata, decision::Reason};
use crate::types::time::Timestamp;

/// When a stored model is good enough.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::Freshness;
///
/// let daily = Freshness::max_age_hours(20);
/// let patient = Freshness { wait_at_most: Some(Duration::from_secs(2)), refuse_expired: true, ..daily };
/// assert_eq!(patient.max_age, Some(Duration::from_secs(72_000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How old the model may be, measured from its last update by the store's clock. `None`: any age will do.
    pub max_age: Option<Duration>,
    /// Only models that were made at this moment or later are good enough. With the last open, which
    /// `Calendar::last_open` knows, a model expires when the next session opens. A moment in the future makes every
    /// call train. `None`: whenever they were made.
    pub made_since: Option<Timestamp>,
    /// Train in any case, and publish. A training by another call that ended while this one waited for it counts.
    pub force_refresh: bool,
    /// Whether the store is used at all. `false`: train, and neither read nor write anything.
    pub use_cache: bool,
    /// Return an error when a model is not good enough, for whichever reason, and its training fails, or does not end
    /// in time. `false`: the stored one is returned then, with a warning: see
    /// [`Verdict::ReuseWithWarning`](crate::Verdict).
    pub refuse_expired: bool,
    /// How long to wait for a training of the same model by another call, by the machine's time. Then the stored model
    /// is returned, with a warning, or the call fails with `TimedOut`. `None`: as long as it takes. A training closure
    /// that waits for a thread which asks for the same model waits for ever without it.
    pub wait_at_most: Option<Duration>,
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
        Self {
            max_age: None,
            made_since: None,
            force_refresh: false,
            use_cache: true,
            refuse_expired: false,
            wait_at_most: None,
        }
    }

    /// Returns a freshness that accepts a model which is at most `age` old. The age counts from the publish, so that a
    /// job that runs every 24 hours wants less, such as 20: with 24 it would train every second time.
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

    /// Returns a freshness that accepts a model which was made at `moment` or later.
    ///
    /// ```
    /// # use modelkeep::Freshness;
    /// let open = "2018-12-24T14:30:00Z".parse()?;
    /// assert_eq!(Freshness::made_since(open).made_since, Some(open));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn made_since(moment: Timestamp) -> Self {
        Self { made_since: Some(moment), ..Self::any_age() }
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

impl Freshness {
    /// All that speaks against a model that cannot be served at all.
    pub(super) fn without_model(&self, why: Reason) -> Vec<Reason> {
        self.force_refresh.then_some(Reason::Forced).into_iter().chain([why]).collect()
    }

    /// All that speaks against a model as it is, at this time.
    pub(super) fn objections(&self, known: &Metadata, now: Timestamp) -> Vec<Reason> {
        let made = known.last_updated;
        let age = now.since(made);
        let expired = self.max_age.filter(|max_age| age > *max_age).map(|max_age| Reason::Expired { age, max_age });
        let before = self.made_since.filter(|since| made < *since).map(|since| Reason::MadeBefore { made, since });
        self.force_refresh.then_some(Reason::Forced).into_iter().chain(expired).chain(before).collect()
    }
}
