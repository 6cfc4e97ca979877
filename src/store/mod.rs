//! The store: where the tiers meet.
//!
//! A model is looked for in the hot tier, then on disk, and then trained; that order lives here and nowhere else.
//! Every change is one transaction; the hot tier is changed after the commit, while the writer's lock is still held,
//! so that it can never show an older version than the last one committed here.

mod bars;
mod csv;
mod draft;
mod features;
mod fetch;
mod held;
mod holder;
mod judge;
mod list;
mod live;
mod load;
mod manage;
mod market;
mod options;
mod publish;
mod read;
mod resample;
mod stats;
mod train;
mod trained;
mod update;
mod vix;

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use bars::{BarSeries, FieldColumn};
pub use csv::Progress;
pub use features::{FeatureSet, Features};
pub use fetch::{BarFetcher, FetchReport, LevelFetcher, Loaded};
pub use held::{Decision, Held, Tier};
pub use list::{Filter, Listed, Listing, VersionEntry};
pub use live::{Current, Live};
pub use manage::{Removal, Removed, RemovedVersion};
pub use market::BarCodec;
pub use options::Options;
pub use resample::Resampled;
pub use stats::{Stats, TierStats};
pub use train::Freshness;
pub use trained::Trained;
pub use update::Update;
pub use vix::{Regime, VixSeries};

use crate::{
    clock::Clock,
    counters::Counters,
    engine::{Batch, Engine, Identity, Snapshot, identity},
    error::Result,
    flight::Flights,
    hot::{Change, HotTier},
    key::ModelKey,
    version::Version,
    worker::Worker,
};
use holder::Entry;
use live::Followed;
use load::Load;
use market::MarketSettings;
use options::Settings;

/// An embedded store of trained models and the data they were trained on.
///
/// A `Store` is a handle: clones share one open file, one hot tier and one set of statistics, and may be used from
/// any number of threads. Writers take turns; readers are never blocked by a writer. Dropping the last clone closes
/// the file, unless a model is held that lies in it: then dropping that one does. Closing commits and syncs: do not do
/// it on a thread that trades.
///
/// ```
/// use modelkeep::{Freshness, Held, ModelKey, Model, Schema, Store, Tier, Trained};
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
/// let train = |_prior: Option<&Held<Momentum>>| Ok::<_, std::io::Error>(Trained::new(Momentum { weights: vec![0.5, 0.25] }));
///
/// let first = store.get_or_train(&key, &Freshness::max_age_hours(24), train)?;
/// let again = store.get_or_train(&key, &Freshness::max_age_hours(24), train)?;
/// assert_eq!((first.tier(), again.tier()), (Tier::Trained, Tier::Hot));
/// assert_eq!(again.weights[1].to_native(), 0.25);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// Dropped first: its jobs hold models, and with them the file.
    worker: Worker,
    engine: Engine,
    hot: HotTier<Entry>,
    flights: Flights<ModelKey>,
    /// Series and features that are being fetched or computed.
    loads: Flights<Load>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    market: MarketSettings,
    /// Held from the start of a write until the hot tier shows it.
    writer: Mutex<()>,
    followed: Followed,
    /// Versions found damaged, also when the store cannot write that down.
    quarantined: Mutex<HashMap<(ModelKey, Version), String>>,
}

impl Store {
    /// Opens the store in the file `path`, creating the file when there is none, with the default [`Options`].
    ///
    /// Costs one look at the file's header and the stamp, and redb's own open: half a millisecond where this was measured,
    /// and 1.6 ms for a new file. After a crash the file is repaired first, as quickly. A store that is only read
    /// ([`Options::read_only`]) does without redb, and opens in less than a tenth of a millisecond.
    ///
    /// # Errors
    /// `InUse` when another process, or another `Store` in this one, holds the file. `NotAStore` for a file of another
    /// program, `NewerFormat` for one of a newer release, `Truncated` for one that was cut short, `Corrupt` for one
    /// whose structure is broken: nothing is written to any of them. `Io` for what the operating system says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Returns the options, to be changed before [`Options::open`].
    pub fn options() -> Options {
        Options::default()
    }

    /// Makes an empty store in memory: for tests, and for engines that need no persistence.
    ///
    /// # Errors
    /// `Io` when there is no memory for it.
    pub fn in_memory() -> Result<Self> {
        Self::options().in_memory()
    }

    fn start(engine: Engine, settings: Settings, market: MarketSettings, clock: Arc<dyn Clock>) -> Self {
        let hot = HotTier::new(settings.hot_bytes, settings.hot_max_age);
        tracing::info!(store = %engine.subject(), read_only = engine.is_read_only(), "store open");
        let inner = Inner {
            worker: Worker::default(),
            engine,
            hot,
            flights: Flights::default(),
            loads: Flights::default(),
            counters: Arc::new(Counters::new()),
            clock,
            settings,
            market,
            writer: Mutex::new(()),
            followed: Followed::default(),
            quarantined: Mutex::new(HashMap::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the store's file; `None` for a store in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.inner.engine.path()
    }

    /// Returns which store this is: an id of its own, and when it was created.
    ///
    /// # Errors
    /// `Corrupt` when the row that says so is damaged, `Io` when the file cannot be read.
    pub fn identity(&self) -> Result<Identity> {
        identity::read(&self.snapshot()?)
    }

    /// Returns whether the store was opened read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.engine.is_read_only()
    }

    /// Forgets every model in the hot tier. Models that are held stay valid; the file is not touched.
    pub fn clear_hot(&self) {
        self.inner.hot.clear();
    }

    /// Moves the live pages of the file together and gives the rest back to the file system; returns whether anything
    /// moved. Rewrites up to the whole file, blocks writers meanwhile, and empties the hot tier.
    ///
    /// # Errors
    /// `InUse` while a model that was loaded from the file is held, or a [`Listing`] is being read: they lie where they
    /// are read. `ReadOnly`, or what a write can fail with.
    pub fn compact(&self) -> Result<bool> {
        let _writer = self.inner.lock_writer();
        self.inner.hot.clear();
        self.inner.engine.compact()
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.inner.engine.read()
    }

    /// Where the store is, for messages.
    pub(crate) fn subject(&self) -> String {
        self.inner.engine.subject()
    }
}

impl Inner {
    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` in one transaction and commits it; then shows it in the hot tier by `swap`, still holding the
    /// writer's lock.
    fn commit<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<T>,
        swap: impl FnOnce(&Change<'_, Entry>, &T),
    ) -> Result<T> {
        let _writer = self.lock_writer();
        let batch = self.engine.write(operation)?;
        let value = change(&batch)?;
        let hot = self.hot.change();
        batch.commit()?;
        swap(&hot, &value);
        Ok(value)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("engine", &self.inner.engine)
            .field("hot", &self.inner.hot)
            .finish_non_exhaustive()
    }
}
