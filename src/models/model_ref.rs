//! A model in the caller's hand.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use super::{
    archive::{ArchiveRef, Model},
    catalog::metadata::Metadata,
    decision::Decision,
    entry::{Backing, CountedEntry, Entry},
};
use crate::types::{
    error::{Error, Result},
    key::ModelKey,
    version::Version,
};

/// The decision of a hit.
static FRESH: Decision = Decision::FRESH;

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// From memory.
    Hot,
    /// From the file.
    Disk,
    /// From a tier of others: see [`ModelTier`](crate::tier::ModelTier).
    Shared,
    /// It was trained by this call.
    Trained,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hot => "hot",
            Self::Disk => "disk",
            Self::Shared => "shared",
            Self::Trained => "trained",
        })
    }
}

/// A model that is ready to be used: dereferences to the archived type, read in place.
///
/// Numbers in an archive are little-endian types with `to_native()`; vectors and options are used as one would. An
/// owned copy is `rkyv::deserialize::<M, rkyv::rancor::Error>(&*held)`, for a type that derives `rkyv::Deserialize`.
///
/// It stays valid for as long as it is held, and shows the same bytes, whatever happens to the hot tier, to the model
/// in the file, or to the store. As long as it is read where it lies in the file, it keeps that file open and locked,
/// also after the store is dropped. When its version leaves the file it gets memory of its own, at the same addresses,
/// and keeps nothing any more.
///
/// Another program that cuts the file, or a disk that fails under it, can end the process that reads it: see
/// [`Options::mapped`](crate::Options::mapped).
///
/// Each thread has eight hazard-pointer slots. A model from memory uses one and no reference count; a clone and a ninth
/// model hold a reference count. To keep a model for long, keep a clone, so that its slot is free for `get`.
pub struct ModelRef<M: Model> {
    typed: ArchiveRef<M, Backing>,
}

impl<M: Model> ModelRef<M> {
    /// What `holder` holds, if it holds it as an `M`.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn known(holder: Backing) -> Option<Self> {
        ArchiveRef::known(holder).map(|typed| Self { typed })
    }

    /// What a hit found.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) fn of_hit(typed: ArchiveRef<M, Backing>) -> Self {
        Self { typed }
    }

    pub(super) fn new(entry: Arc<Entry>, tier: Tier, decision: Decision) -> Result<Self> {
        let typed = ArchiveRef::new(Backing::owned(CountedEntry::of::<M>(entry, tier, decision)?))?;
        Ok(Self { typed })
    }

    /// What was counted as an `M` already.
    pub(super) fn of_counted(counted: CountedEntry) -> Self {
        match Self::known(Backing::owned(Box::new(counted))) {
            Some(held) => held,
            None => unreachable!("those who follow a model have it as their own type"),
        }
    }

    /// Counts a reference, if that is not done yet, and gives up the rest.
    #[allow(clippy::unnecessary_box_returns, reason = "it is in that box already, and fits a register there")]
    pub(super) fn into_counted(self) -> Box<CountedEntry> {
        self.typed.into_holder().into_counted()
    }

    /// The shared part, for the hot tier.
    pub(super) fn shared(&self) -> &Arc<Entry> {
        self.typed.holder().entry()
    }

    fn entry(&self) -> &Entry {
        self.shared()
    }

    /// Returns the key that it is filed under, with its configuration.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert_eq!((model.key(), model.key().config()), (key, Some("null")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> ModelKey {
        let metadata = self.metadata();
        ModelKey::from_hash(metadata.model.clone(), metadata.config_hash).with_config(&metadata.config)
    }

    /// Returns where the model came from.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// use modelkeep::Tier;
    /// assert_eq!(model.tier(), Tier::Hot);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.typed.holder().origin().map_or(Tier::Hot, |owned| owned.tier)
    }

    /// Returns why it was served or trained.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// use modelkeep::Decision;
    /// assert!(model.decision().is_fresh());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn decision(&self) -> &Decision {
        self.typed.holder().origin().map_or(&FRESH, |owned| &owned.decision)
    }

    /// Returns what the store knows of it.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert_eq!(model.metadata().schema.name(), "momentum");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.entry().metadata
    }

    /// Returns its version; `None` when it was trained and not stored.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert_eq!(model.version(), Some(version));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.entry().metadata.version
    }

    /// Returns how long ago it was trained or updated, by the store's clock; zero when that lies in the future.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert!(model.age().as_secs() < 3600);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn age(&self) -> Duration {
        self.entry().clock.now().since(self.entry().metadata.last_updated)
    }

    /// Returns how long it took to read from disk, or from a tier of others, checks included; zero for a model that was
    /// trained here.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert!(model.load_time().is_zero()); // it came from memory, where the publish had put it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.entry().load_time
    }

    /// Returns why the model could not be stored after it was trained, or may be lost if the power fails
    /// ([`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown)); `None` when it was stored, or need not be.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// if let Some(err) = model.publish_error() {
    ///     eprintln!("trained, and not stored: {err}");
    /// }
    /// # assert!(model.publish_error().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn publish_error(&self) -> Option<&Error> {
        self.entry().publish_error.get()
    }

    /// Returns the archive's bytes: what rkyv wrote, aligned to 64 bytes.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let version = store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
    /// # let model = store.get::<Momentum>(&key)?.expect("it was published");
    /// assert_eq!(model.archive_bytes().len() as u64, model.metadata().archive_bytes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn archive_bytes(&self) -> &[u8] {
        self.entry().checked.bytes()
    }
}

impl<M: Model> Deref for ModelRef<M> {
    type Target = M::Archived;

    #[inline]
    fn deref(&self) -> &M::Archived {
        &self.typed
    }
}

impl<M: Model> Clone for ModelRef<M> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone() }
    }
}

impl<M: Model> fmt::Display for ModelRef<M> {
    /// `bounce@b84226441024 v3 (hot, fresh)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.key())?;
        match self.version() {
            Some(version) => write!(f, "{version}")?,
            None => f.write_str("unstored")?,
        }
        write!(f, " ({}, {})", self.tier(), self.decision())
    }
}

impl<M: Model> fmt::Debug for ModelRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRef")
            .field("tier", &self.tier())
            .field("decision", self.decision())
            .field("metadata", self.metadata())
            .field("publish_error", &self.publish_error())
            .finish_non_exhaustive()
    }
}
