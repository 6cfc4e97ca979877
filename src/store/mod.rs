//! The store, as a user calls it: each method hands over to models, to market data or to the core, which do not know
//! each other's rows, and are all that a store is made of.

mod admin;
#[cfg(feature = "market")]
mod market;
mod models;
mod options;
mod preload;
mod removal;
mod training;
#[cfg(feature = "market")]
mod universe;
mod versions;

use std::{fmt, path::Path, sync::Arc};

pub use options::Options;

#[cfg(feature = "market")]
use crate::market::{Market, settings::MarketSettings};
use crate::{
    core::Core,
    engine::{Identity, Snapshot, identity},
    models::Models,
    sync::gate::Opened,
    types::error::Result,
};

/// An embedded store of trained models and the data they were trained on.
///
/// A `Store` is a handle: clones share one open file, one hot tier and one set of statistics, and may be used from any
/// number of threads. Writers take turns; readers are not blocked by a writer (but for one that finds, after an I/O
/// error, that the file has another state than the one shown: it waits for its turn to put memory right). Dropping the
/// last clone closes the file, unless a model is held that lies in it: then dropping that one does. Closing commits and
/// syncs: do not do it on a thread that trades.
///
/// ```
/// use modelkeep::{Freshness, ModelRef, ModelKey, Model, Schema, Store, Tier, NewModel};
///
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct Momentum { weights: Vec<f64> }
///
/// impl Model for Momentum {
///     const SCHEMA: Schema = Schema::new("momentum", 1);
/// }
///
/// let store = Store::in_memory()?;
/// let key = ModelKey::new("momentum", &["AAPL", "MSFT"])?;
/// let train = |_prior: Option<&ModelRef<Momentum>>| Ok::<_, std::io::Error>(NewModel::new(Momentum { weights: vec![0.5, 0.25] }));
///
/// let first = store.get_or_train(&key, &Freshness::max_age_hours(20), train)?;
/// let again = store.get_or_train(&key, &Freshness::max_age_hours(20), train)?;
/// assert_eq!((first.tier(), again.tier()), (Tier::Trained, Tier::Hot));
/// assert_eq!(again.weights[1].to_native(), 0.25);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What a write can fail with
///
/// Besides what its own documentation names, every call that writes may return one of these. Reads go on after each,
/// but for `Truncated`, with which they fail, too; what is [held](crate::ModelRef) stays readable in any case but that
/// one.
///
/// | kind | what it means | what is in the file |
/// |---|---|---|
/// | `ReadOnly` | opened with [`Options::read_only`] | what was there |
/// | `StorageFull` | no room on the device, or under [`Options::file_bytes_max`] | what was there; the next write goes through once there is room |
/// | `Io` | the operating system failed the access | what was there; the next write tries again |
/// | `Corrupt` | a page that would have to be written is damaged beyond repair | what was there; see [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) |
/// | `Replaced` | another program took the file's name, or removed it | nothing more is written to it |
/// | `Truncated` | another program cut the file | nothing more is written to it |
/// | `OutcomeUnknown` | the commit failed, and what became of it cannot be read, or not be made durable | all of the change or nothing; what the store answers from then on is what the file has |
///
/// # What deletes
///
/// | call | what goes | what stays |
/// |---|---|---|
/// | [`remove`](Self::remove)`(key)` | a model: every version and its training data | the numbering of its versions |
/// | [`invalidate`](Self::invalidate)`(name)` | every model of a name | as above |
/// | [`remove_version`](Self::remove_version)`(key, v)` | one version that is not current | the others |
/// | [`prune`](Self::prune), [`prune_all`](Self::prune_all), [`prune_older_than`](Self::prune_older_than) | old versions | pinned ones, and those with an alias |
/// | [`evict_all`](Self::evict_all) | models in memory | the file, and what is held |
/// | `remove` of [bars](crate::market::BarSeries::remove), [levels](crate::market::LevelSeries::remove), [features](crate::market::FeatureSet::remove) | rows | of bars, what was known before |
/// | `mark_missing` of [bars](crate::market::BarSeries::mark_missing), [levels](crate::market::LevelSeries::mark_missing) | what is known of an interval: it is fetched again | the rows |
///
/// The first four rows have a dry run, which is the run without its commit.
#[derive(Clone)]
pub struct Store {
    /// Dropped before the rest.
    opened: Opened,
    models: Arc<Models>,
    #[cfg(feature = "market")]
    market: Arc<Market>,
    core: Arc<Core>,
}

impl Store {
    /// Opens the store in the file `path`, creating the file when there is none, with the default [`Options`].
    ///
    /// One store that writes has the file for itself; any number of stores that only read share it, with readers of
    /// redb 4.4 and 4.5 too. A model that is [held](crate::ModelRef) where it lies in the file keeps it open after its
    /// store was dropped, and so does a [listing](crate::admin::Listing).
    ///
    /// Costs one look at the file's header and the stamp, and redb's own open: half a millisecond where this was
    /// measured, and 1.6 ms for a new file. After a crash the file is repaired first, as quickly. A store that is only
    /// read ([`Options::read_only`]) does without redb, and opens in less than a tenth of a millisecond.
    ///
    /// ```
    /// # use modelkeep::{ErrorKind, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("models.redb");
    /// let store = Store::open(&path)?;
    /// assert_eq!(Store::open(&path).unwrap_err().kind(), ErrorKind::InUse);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InUse` when another process, another `Store` in this one, or a model or listing of such a store holds the file;
    /// the message says which. `NotAStore` for a file of another
    /// program, `NewerFormat` for one of a newer release, `Truncated` for one that was cut short, `Corrupt` for one
    /// whose structure is broken: nothing is written to any of them. `Io` for what the operating system says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Returns the options, to be changed before [`Options::open`].
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::options().hot_bytes(64 << 20).retention(4).in_memory()?;
    /// assert_eq!(store.stats().hot_entries, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options() -> Options {
        Options::default()
    }

    /// Makes an empty store in memory: for tests, and for engines that need no persistence.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// assert_eq!(Store::in_memory()?.path(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when there is no memory for it.
    pub fn in_memory() -> Result<Self> {
        Self::options().in_memory()
    }

    /// Returns the store's file; `None` for a store in memory.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("models.redb");
    /// let store = Store::open(&path)?;
    /// assert!(store.path().is_some_and(|path| path.ends_with("models.redb")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.core.path()
    }

    /// Returns which store this is: an id of its own, and when it was created.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("models.redb");
    /// let first = Store::open(&path)?.identity()?;
    /// assert_eq!(Store::open(&path)?.identity()?.id, first.id); // the same file is the same store
    /// assert_ne!(Store::in_memory()?.identity()?.id, first.id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the row that says so is damaged, `Io` when the file cannot be read.
    pub fn identity(&self) -> Result<Identity> {
        self.look(identity::read)
    }

    /// Returns whether the store was opened read-only.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("models.redb");
    /// assert!(!Store::open(&path)?.is_read_only());
    /// assert!(Store::options().read_only(true).open(&path)?.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.core.is_read_only()
    }

    /// Closes the file, and says what went wrong; dropping the store does the same, and says nothing. After an I/O
    /// error the file is opened again first, so that what the store shows is durable once this returned `Ok`. Models
    /// and listings that are held stay readable, and keep the file locked. Waits for a tier of others that is being
    /// asked in the background.
    ///
    /// First it compresses and removes what publishes left for later, as [`run_maintenance`](Self::run_maintenance)
    /// does, which takes 0.2 s for 50 MB of archives and a commit; dropping the store leaves that to the next opening.
    /// What fails of it is logged, stays to be done, and is no error here.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::open(folder.path().join("models.redb"))?;
    /// store.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InUse` when there are clones of this store: the last of them closes the file. `OutcomeUnknown` when a write
    /// before had an unknown outcome, and the file cannot be opened again to make it durable: what was shown of it may
    /// be lost. `Io` when the last sync fails, `Replaced` or `Truncated` when another program took the file away: what
    /// was committed before is not lost by it.
    pub fn close(self) -> Result<()> {
        let others = self.opened.count() - 1;
        self.models.finish(others);
        self.core.close(others)
    }

    /// What its options say about market data.
    #[cfg(feature = "market")]
    pub(crate) fn market_settings(&self) -> MarketSettings {
        self.market.settings().clone()
    }

    /// What time it is, by the store's clock.
    #[cfg(feature = "market")]
    pub(crate) fn clock_now(&self) -> crate::types::time::Timestamp {
        self.core.now()
    }

    /// Forgets that anything was read.
    #[cfg(feature = "market")]
    pub(crate) fn forget_reads(&self) {
        self.core.forget_reads();
    }

    /// Whether anything was read since that was forgotten.
    #[cfg(feature = "market")]
    pub(crate) fn was_read(&self) -> bool {
        self.core.was_read()
    }

    /// Reads the last committed state with `read`; again, when that state was given up meanwhile.
    pub(crate) fn look<T>(&self, read: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        self.core.look(read)
    }

    /// Bytes of the file, and of those the bytes that are allocated.
    pub(crate) fn file_usage(&self) -> Result<(u64, u64)> {
        self.core.file_usage()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("core", &self.core).field("models", &self.models).finish_non_exhaustive()
    }
}
