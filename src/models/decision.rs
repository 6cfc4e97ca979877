//! Why a call served the stored model, or trained one: what was found against it, with the figures.

use std::{fmt, time::Duration};

use crate::{
    format::schema::SchemaTag,
    types::{
        key::ModelKey,
        time::{Timestamp, duration_text},
        version::Version,
    },
};

/// What a call does about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The stored model is good enough.
    Reuse,
    /// It is not, and is served all the same: there is nothing better now.
    ReuseWithWarning,
    /// A new one is trained.
    Retrain,
    /// A new one was wanted, and there is none: the call returned an error.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reuse => "reuse",
            Self::ReuseWithWarning => "reuse with a warning",
            Self::Retrain => "retrain",
            Self::Failed => "failed",
        })
    }
}

impl Verdict {
    /// The number under which it is stored.
    pub(super) fn id(self) -> u8 {
        match self {
            Self::Reuse => 0,
            Self::ReuseWithWarning => 1,
            Self::Retrain => 2,
            Self::Failed => 3,
        }
    }

    pub(super) fn from_id(id: u8) -> Option<Self> {
        [Self::Reuse, Self::ReuseWithWarning, Self::Retrain, Self::Failed]
            .into_iter()
            .find(|verdict| verdict.id() == id)
    }
}

/// One thing that speaks against serving the stored model, or that came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// There was no model.
    Missing,
    /// It was too old.
    Expired {
        /// How old it was.
        age: Duration,
        /// How old it was allowed to be.
        max_age: Duration,
    },
    /// It was made before a moment from which on only newer ones are wanted.
    MadeBefore {
        /// When it was made.
        made: Timestamp,
        /// The moment.
        since: Timestamp,
    },
    /// The caller wanted a new one.
    Forced,
    /// The caller wanted the store neither read nor written.
    Bypassed,
    /// The stored model was damaged; it is quarantined.
    Corrupt {
        /// What was wrong.
        reason: String,
    },
    /// The stored model has another schema than the caller's type.
    SchemaChanged {
        /// The schema in the file.
        stored: SchemaTag,
        /// The schema of the caller's type.
        requested: SchemaTag,
    },
    /// The stored model could not be read, for a reason that may pass; it stays where it is.
    Unreadable {
        /// What was wrong.
        reason: String,
    },
    /// New data changed nothing that the model was trained on: [`Store::update`](crate::Store::update) did not train.
    Unchanged,
    /// New training data arrived: what [`Store::update`](crate::Store::update) trains for.
    NewData,
    /// A training was tried, and failed.
    TrainingFailed {
        /// What the caller's error says.
        error: String,
    },
    /// Another call was training the model, and did not end within
    /// [`Freshness::wait_at_most`](crate::Freshness::wait_at_most).
    TrainingUnderWay {
        /// How long this call waited for it.
        waited: Duration,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Expired { age, max_age } => {
                write!(f, "expired: {} old, at most {} allowed", duration_text(*age), duration_text(*max_age))
            }
            Self::MadeBefore { made, since } => write!(f, "made at {made}, before {since}"),
            Self::Forced => f.write_str("forced"),
            Self::Bypassed => f.write_str("bypassed"),
            Self::Corrupt { reason } => write!(f, "corrupt: {reason}"),
            Self::SchemaChanged { stored, requested } => write!(f, "schema changed: {stored} to {requested}"),
            Self::Unreadable { reason } => write!(f, "unreadable: {reason}"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::NewData => f.write_str("new data"),
            Self::TrainingFailed { error } => write!(f, "training failed: {error}"),
            Self::TrainingUnderWay { waited } => {
                write!(f, "the training of another call did not end within {}", duration_text(*waited))
            }
        }
    }
}

/// What a call decided about a model, and every reason that it had.
///
/// ```
/// use modelkeep::{Decision, Freshness, ModelKey, Reason, Store, Verdict};
///
/// let store = Store::in_memory()?;
/// let explained = store.explain(&ModelKey::new("bounce", &())?, &Freshness::max_age_hours(20))?;
/// assert_eq!(explained.decision().verdict(), Verdict::Retrain);
/// assert_eq!(explained.decision().reasons(), [Reason::Missing]);
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    verdict: Verdict,
    reasons: Vec<Reason>,
}

impl Decision {
    /// The stored model was good enough.
    pub(super) const FRESH: Self = Self { verdict: Verdict::Reuse, reasons: Vec::new() };

    pub(super) fn new(verdict: Verdict, reasons: Vec<Reason>) -> Self {
        Self { verdict, reasons }
    }

    pub(super) fn retrain(reason: Reason) -> Self {
        Self::new(Verdict::Retrain, vec![reason])
    }

    /// Returns what was done.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns all that spoke against serving the stored model as it is, and what came of it; empty, when it was good
    /// enough.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Whether the stored model was good enough.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.verdict == Verdict::Reuse && self.reasons.is_empty()
    }
}

impl fmt::Display for Decision {
    /// `fresh`, or the reasons, behind `reuse with a warning` if that is the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_fresh() {
            return f.write_str("fresh");
        }
        if self.verdict == Verdict::ReuseWithWarning {
            write!(f, "{}: ", self.verdict)?;
        }
        for (at, reason) in self.reasons.iter().enumerate() {
            write!(f, "{}{reason}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A decision that was taken and noted: one entry of [`Store::decisions`](crate::Store::decisions).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecisionEntry {
    /// When it was taken, by the store's clock.
    pub at: Timestamp,
    /// The model's key. Only in the process that took the decision does it know its configuration.
    pub key: ModelKey,
    /// What was done.
    pub verdict: Verdict,
    /// Every reason, as it [prints itself](Reason).
    pub reasons: Vec<String>,
    /// How long the call took by the store's clock, waiting for others and training included.
    pub took: Duration,
    /// The version that was returned; `None` when none was, and for a model that could not be stored.
    pub version: Option<Version>,
}

impl fmt::Display for DecisionEntry {
    /// When, the key, the verdict, the version, and the reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, key, verdict, reasons, took, version } = self;
        write!(f, "{at} {key} {verdict}")?;
        if let Some(version) = version {
            write!(f, " {version}")?;
        }
        write!(f, " in {}: {}", duration_text(*took), reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_names_all_of_its_reasons() {
        assert_eq!(Decision::FRESH.to_string(), "fresh");
        assert_eq!(Decision::retrain(Reason::Forced).to_string(), "forced");
        let (age, max_age) = (Duration::from_secs(7200), Duration::from_secs(3600));
        let reasons = vec![Reason::Expired { age, max_age }, Reason::TrainingFailed { error: "no rows".into() }];
        let warned = Decision::new(Verdict::ReuseWithWarning, reasons);
        let expected = "reuse with a warning: expired: 2h old, at most 1h allowed; training failed: no rows";
        assert_eq!(warned.to_string(), expected);
        assert!(!warned.is_fresh() && !Decision::new(Verdict::Reuse, vec![Reason::Unchanged]).is_fresh());
    }
}
