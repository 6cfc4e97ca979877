//! What can become of a model, and a tier of others that is told.

use std::{fmt, slice, sync::Arc};

use super::super::{catalog::metadata::Metadata, entry::Entry};
use crate::types::{
    key::{ModelKey, ModelName},
    version::Version,
};

/// What a commit changed about which version of a model is current.
///
/// ```
/// use modelkeep::{ModelKey, tier::Change};
///
/// fn forgotten(change: &Change) -> Vec<&ModelKey> {
///     match change {
///         Change::Published(model) => vec![model.key()],
///         Change::Moved { key, .. } | Change::Quarantined { key, .. } => vec![key],
///         Change::Removed { keys, .. } | Change::Unknown { keys } => keys.iter().collect(),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub enum Change {
    /// A new version was published, and is current.
    Published(PublishedModel),
    /// Another stored version was made current, or the current one was given other tags or metrics.
    Moved {
        /// The model's key.
        key: ModelKey,
        /// The version that is current now.
        version: Version,
    },
    /// These models have no current version any more.
    Removed {
        /// The models' keys, as far as they are known here.
        keys: Vec<ModelKey>,
        /// All models of this name, too.
        name: Option<ModelName>,
    },
    /// The current version was found damaged, and is not served any more.
    Quarantined {
        /// The model's key.
        key: ModelKey,
        /// The version.
        version: Version,
    },
    /// After an I/O error: what is current may have changed, or may not have, and what was shown before may have been
    /// taken back. Whatever a tier has of these models may be wrong.
    Unknown {
        /// The models' keys; none, if it is about all models.
        keys: Vec<ModelKey>,
    },
}

/// A version that was published.
#[derive(Clone)]
pub struct PublishedModel {
    pub(in super::super) key: ModelKey,
    pub(in super::super) entry: Arc<Entry>,
}

impl PublishedModel {
    /// Returns the model's key.
    #[must_use]
    pub fn key(&self) -> &ModelKey {
        &self.key
    }

    /// Returns what the store knows of it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.entry.metadata
    }

    /// Returns the bytes of its archive.
    #[must_use]
    pub fn archive_bytes(&self) -> &[u8] {
        self.entry.checked.bytes()
    }
}

impl fmt::Debug for PublishedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedModel")
            .field("key", &self.key)
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}

impl Change {
    /// The models that it is about.
    pub(super) fn keys(&self) -> slice::Iter<'_, ModelKey> {
        match self {
            Self::Published(PublishedModel { key, .. }) | Self::Moved { key, .. } | Self::Quarantined { key, .. } => {
                slice::from_ref(key).iter()
            }
            Self::Removed { keys, .. } | Self::Unknown { keys } => keys.iter(),
        }
    }

    /// Whether it is about this model.
    pub(super) fn covers(&self, key: &ModelKey) -> bool {
        match self {
            Self::Removed { keys, name } => name.as_ref() == Some(key.name()) || keys.contains(key),
            Self::Unknown { keys } => keys.is_empty() || keys.contains(key),
            Self::Published(PublishedModel { key: known, .. })
            | Self::Moved { key: known, .. }
            | Self::Quarantined { key: known, .. } => known == key,
        }
    }

    /// Whether the file has it: not so a model that could not be stored, which is shown all the same.
    pub(super) fn is_stored(&self) -> bool {
        match self {
            Self::Published(model) => model.entry.metadata.version.is_some(),
            Self::Moved { .. } | Self::Removed { .. } | Self::Quarantined { .. } | Self::Unknown { .. } => true,
        }
    }
}

/// A model as a tier of others keeps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierModel {
    /// What was known of it when it was published: from [`PublishedModel::metadata`].
    pub metadata: Metadata,
    /// The bytes of its archive: from [`PublishedModel::archive_bytes`].
    pub archive: Vec<u8>,
}

impl TierModel {
    /// Returns a model of these parts.
    #[must_use]
    pub fn new(metadata: Metadata, archive: Vec<u8>) -> Self {
        Self { metadata, archive }
    }
}

/// What keeps a tier of others from answering.
pub type TierError = Box<dyn std::error::Error + Send + Sync>;

/// A place besides memory and the file that keeps models: for the stores of a process, as [`Metadata`] cannot be
/// written to bytes and read back yet. Set it with [`Options::tier`](crate::Options::tier).
///
/// It is asked for a model that neither memory nor the file has, before one is trained. What it hands out is checked as
/// what lies in the file is: its hash, its schema, its structure. It is admitted to memory, and not to the file. As
/// long as it is in memory the tier is not asked again: how long that is,
/// [`Options::hot_max_age`](crate::Options::hot_max_age) says.
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}};
/// use modelkeep::{Model, ModelKey, NewModel, Schema, Store, Tier, tier::{Change, ModelTier, TierError, TierModel}};
///
/// #[derive(Debug, Default)]
/// struct Shelf(Mutex<HashMap<ModelKey, TierModel>>);
///
/// impl ModelTier for Shelf {
///     fn find(&self, key: &ModelKey) -> Result<Option<TierModel>, TierError> {
///         Ok(self.0.lock().unwrap().get(key).cloned())
///     }
///
///     fn apply(&self, change: &Change) {
///         if let Change::Published(model) = change {
///             let kept = TierModel::new(model.metadata().clone(), model.archive_bytes().to_vec());
///             self.0.lock().unwrap().insert(model.key().clone(), kept);
///         }
///     }
/// }
///
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// let shelf = Arc::new(Shelf::default());
/// let key = ModelKey::new("momentum", &())?;
/// let one = Store::options().tier(Arc::clone(&shelf) as _).in_memory()?;
/// one.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
///
/// let other = Store::options().tier(shelf).in_memory()?;
/// let model = other.get::<Momentum>(&key)?.expect("the shelf has it");
/// assert_eq!((model.tier(), model.weights[0].to_native()), (Tier::Shared, 0.5));
/// # Ok::<(), modelkeep::Error>(())
/// ```
pub trait ModelTier: fmt::Debug + Send + Sync {
    /// Returns the version of `key` that is current in this tier; `None` when there is none. Called by any thread that
    /// looks for a model, and by the store's background thread for models that are followed: closing the store waits
    /// for that call to return, so bound the time that it may take. A panic in it is an error of this tier.
    ///
    /// It may use a store, but not to get what it is asked for: such a call is refused with `InvalidInput`, and so is
    /// one that leads to a seventeenth model being asked for within others.
    ///
    /// # Errors
    /// Whatever keeps it from being asked. The caller of [`Store::get`](crate::Store::get) gets it as the source of an
    /// `Io` error when no other tier has the model; [`Store::get_or_train`](crate::Store::get_or_train) trains.
    fn find(&self, key: &ModelKey) -> Result<Option<TierModel>, TierError>;

    /// Takes note of a change, after its commit and after memory and followers show it. Called by one writer at a time,
    /// in the order of the commits, and while no other can write: it must be quick, and must not use the store. A panic
    /// in it is logged, and goes no further.
    fn apply(&self, change: &Change);
}
