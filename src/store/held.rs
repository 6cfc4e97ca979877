//! A model in the caller's hand.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use crate::{
    archive::{Checked, HoldsChecked, Model, Root, Typed},
    clock::Clock,
    error::{Error, Result},
    format::schema::SchemaTag,
    hot::{Guard, Hit, Keep},
    key::ModelKey,
    registry::metadata::Metadata,
    version::Version,
};

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// From memory.
    Hot,
    /// From the file.
    Disk,
    /// It was trained by this call.
    Trained,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hot => "hot",
            Self::Disk => "disk",
            Self::Trained => "trained",
        })
    }
}

/// Why a call served the stored model, or trained one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The stored model was good enough.
    Fresh,
    /// There was none.
    Missing,
    /// It was too old.
    Expired {
        /// How old it was.
        age: Duration,
        /// How old it was allowed to be.
        max_age: Duration,
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
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("fresh"),
            Self::Missing => f.write_str("missing"),
            Self::Expired { age, max_age } => write!(f, "expired: {age:?} old, at most {max_age:?} allowed"),
            Self::Forced => f.write_str("forced"),
            Self::Bypassed => f.write_str("bypassed"),
            Self::Corrupt { reason } => write!(f, "corrupt: {reason}"),
            Self::SchemaChanged { stored, requested } => write!(f, "schema changed: {stored} to {requested}"),
            Self::Unreadable { reason } => write!(f, "unreadable: {reason}"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::NewData => f.write_str("new data"),
        }
    }
}

/// What the hot tier holds and a held model shares: a checked archive and what is known of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) checked: Checked,
    /// What a hit saves.
    pub(super) training_nanos: u64,
    pub(super) metadata: Metadata,
    pub(super) clock: Arc<dyn Clock>,
    /// How long it took to read from disk; zero when it was trained here.
    pub(super) load_time: Duration,
    /// Why it is not in the file, if it should be.
    pub(super) publish_error: Option<Error>,
}

/// What a hit needs of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    root: Root,
    /// What a hit saves.
    pub(super) training_nanos: u64,
}

impl Facts {
    /// Whether the model was checked for this type.
    #[inline]
    pub(super) fn is_of<M: Model>(&self) -> bool {
        self.root.is_of::<M>()
    }
}

impl Keep for Entry {
    type Facts = Facts;

    fn facts(&self) -> Facts {
        Facts { root: self.checked.root(), training_nanos: self.training_nanos }
    }
}

impl Entry {
    pub(super) fn new(checked: Checked, metadata: Metadata, clock: Arc<dyn Clock>) -> Self {
        let training_nanos = nanos(metadata.training_duration);
        Self { checked, training_nanos, metadata, clock, load_time: Duration::ZERO, publish_error: None }
    }

    pub(super) fn loaded_in(self, load_time: Duration) -> Self {
        Self { load_time, ..self }
    }

    pub(super) fn not_published(self, publish_error: Option<Error>) -> Self {
        Self { publish_error, ..self }
    }

    /// Bytes that it takes in the hot tier.
    pub(super) fn weight_bytes(&self) -> u64 {
        (self.checked.bytes().len() + self.metadata.config.len() + size_of::<Self>()) as u64
    }
}

/// What keeps an entry: a guard of the hot tier, or a reference count. A clone counts.
pub(super) enum Holder {
    Guarded(Guard<Entry>),
    Counted(Arc<Entry>),
}

impl Holder {
    pub(super) fn entry(&self) -> &Arc<Entry> {
        match self {
            Self::Guarded(guard) => guard.value(),
            Self::Counted(entry) => entry,
        }
    }
}

impl From<Hit<Entry>> for Holder {
    fn from(hit: Hit<Entry>) -> Self {
        match hit {
            Hit::Guarded(guard) => Self::Guarded(guard),
            Hit::Counted(entry) => Self::Counted(entry),
        }
    }
}

impl Clone for Holder {
    fn clone(&self) -> Self {
        Self::Counted(Arc::clone(self.entry()))
    }
}

// SAFETY: both variants keep an entry, and a slot of the tier has its facts from the very entry that it keeps.
#[allow(unsafe_code, reason = "a holder vouches for what it holds")]
unsafe impl HoldsChecked for Holder {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path")]
    fn root(&self) -> Root {
        match self {
            Self::Guarded(guard) => guard.facts().root,
            Self::Counted(entry) => entry.checked.root(),
        }
    }

    fn checked(&self) -> &Checked {
        &self.entry().checked
    }
}

/// A model that is ready to be used: dereferences to the archived type, read in place.
///
/// Numbers in an archive are little-endian types with `to_native()`; vectors and options are used as one would. An owned
/// copy is `rkyv::deserialize::<M, rkyv::rancor::Error>(&*held)`, for a type that derives `rkyv::Deserialize`.
///
/// It stays valid for as long as it is held, whatever happens to the hot tier, or to the model in the file. What was
/// loaded from a file keeps that file open and locked, also after the store is dropped, since it is read where it lies.
///
/// A thread that holds up to eight models from the hot tier counts no references; a clone does, and so does what is
/// held beyond those eight. Held for long, a clone leaves the eight to the calls that are in a hurry.
pub struct Held<M: Model> {
    typed: Typed<M, Holder>,
    /// `None`: fresh.
    decision: Option<Box<Decision>>,
    tier: Tier,
}

impl<M: Model> Held<M> {
    /// A model from the hot tier, if it was checked for this type.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn hot(guard: Guard<Entry>) -> Option<Self> {
        Some(Self { typed: Typed::known(Holder::Guarded(guard))?, decision: None, tier: Tier::Hot })
    }

    pub(super) fn fresh(holder: Holder, tier: Tier) -> Result<Self> {
        Ok(Self { typed: Typed::new(holder)?, decision: None, tier })
    }

    pub(super) fn new(entry: Arc<Entry>, tier: Tier, decision: Decision) -> Result<Self> {
        Ok(Self::fresh(Holder::Counted(entry), tier)?.with_decision(decision))
    }

    pub(super) fn with_decision(mut self, decision: Decision) -> Self {
        self.decision = (decision != Decision::Fresh).then(|| Box::new(decision));
        self
    }

    /// The shared part, for the hot tier.
    pub(super) fn shared(&self) -> &Arc<Entry> {
        self.typed.holder().entry()
    }

    fn entry(&self) -> &Entry {
        self.shared()
    }

    /// Returns the key that it is filed under, with its configuration.
    #[must_use]
    pub fn key(&self) -> ModelKey {
        let metadata = self.metadata();
        ModelKey::from_hash(metadata.model.clone(), metadata.config_hash).with_config(&metadata.config)
    }

    /// Returns where the model came from.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Returns why it was served or trained.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        self.decision.as_deref().unwrap_or(&Decision::Fresh)
    }

    /// Returns what the store knows of it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.entry().metadata
    }

    /// Returns its version; `None` when it was trained and not stored.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.entry().metadata.version
    }

    /// Returns how long ago it was trained or updated, by the store's clock; zero when that lies in the future.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.entry().clock.now().since(self.entry().metadata.last_updated)
    }

    /// Returns how long it took to read from disk, checks included; zero for a model that was trained here.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.entry().load_time
    }

    /// Returns why the model could not be stored after it was trained; `None` when it was stored, or need not be.
    #[must_use]
    pub fn publish_error(&self) -> Option<&Error> {
        self.entry().publish_error.as_ref()
    }

    /// Returns the archive's bytes: what rkyv wrote, aligned to 64 bytes.
    #[must_use]
    pub fn archive_bytes(&self) -> &[u8] {
        self.entry().checked.bytes()
    }
}

impl<M: Model> Deref for Held<M> {
    type Target = M::Archived;

    #[inline]
    fn deref(&self) -> &M::Archived {
        &self.typed
    }
}

impl<M: Model> Clone for Held<M> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone(), tier: self.tier, decision: self.decision.clone() }
    }
}

impl<M: Model> fmt::Display for Held<M> {
    /// `bounce@b84226441024 v3 (hot, fresh)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.key())?;
        match self.version() {
            Some(version) => write!(f, "{version}")?,
            None => f.write_str("unstored")?,
        }
        write!(f, " ({}, {})", self.tier, self.decision())
    }
}

impl<M: Model> fmt::Debug for Held<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("tier", &self.tier)
            .field("decision", self.decision())
            .field("metadata", self.metadata())
            .field("publish_error", &self.publish_error())
            .finish_non_exhaustive()
    }
}

/// A duration as the counters hold it.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
