//! The store: where the tiers meet.
//!
//! A model is looked for in the hot tier, then on disk, and then trained; that order lives in this module and nowhere
//! else. Every change is one transaction; the hot tier is changed after the commit, while the writer's lock is still
//! held, so that it can never show an older version than the last one committed here.

mod bars;
mod counted;
mod csv;
mod draft;
mod features;
mod fetch;
mod gate;
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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
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
    engine::{Batch, Compacted, CompactionProgress, Engine, Identity, Snapshot, identity, unless_expired},
    error::{Error, ErrorKind, Result},
    flight::Flights,
    hot::{Change, HotTier},
    key::ModelKey,
    registry,
    version::Version,
    worker::{Stop, Worker},
};
use gate::{Gate, Opened};
use holder::Entry;
use live::Followed;
use load::Load;
use market::MarketSettings;
use options::Settings;

/// An embedded store of trained models and the data they were trained on.
///
/// A `Store` is a handle: clones share one open file, one hot tier and one set of statistics, and may be used from any
/// number of threads. Writers take turns; readers are not blocked by a writer (but for one that finds, after an I/O
/// error, that the file has another state than the one shown: it waits for its turn to put memory right). Dropping the
/// last clone closes the file, unless a model is held that lies in it: then dropping that one does. Closing commits and
/// syncs: do not do it on a thread that trades.
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
///
/// # What a write can fail with
///
/// Besides what its own documentation names, every call that writes may return one of these. Reads go on after each,
/// but for `Truncated`, with which they fail, too; what is [held](Held) stays readable in any case but that one.
///
/// | kind | what it means | what is in the file |
/// |---|---|---|
/// | `ReadOnly` | opened with [`Options::read_only`] | what was there |
/// | `StorageFull` | no room on the device, or under [`Options::file_bytes_max`] | what was there; the next write goes through once there is room |
/// | `Io` | the operating system failed the access | what was there; the next write tries again |
/// | `Corrupt` | a page that would have to be written is damaged beyond repair | what was there; see [`ErrorKind::Corrupt`] |
/// | `Replaced` | another program took the file's name, or removed it | nothing more is written to it |
/// | `Truncated` | another program cut the file | nothing more is written to it |
/// | `OutcomeUnknown` | the commit failed, and what became of it cannot be read, or not be made durable | all of the change or nothing; what the store answers from then on is what the file has |
#[derive(Clone)]
pub struct Store {
    /// Dropped before it.
    _opened: Opened,
    inner: Arc<Inner>,
}

struct Inner {
    /// Dropped first: its jobs hold models, and with them the file.
    worker: Worker,
    /// The file is being looked at until it can be read.
    looks: AtomicBool,
    gate: Arc<Gate>,
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
    /// One store that writes has the file for itself; any number of stores that only read share it, with readers of
    /// redb 4.4 and 4.5 too. A model that is [held](Held) where it lies in the file keeps it open after its store was
    /// dropped.
    ///
    /// Costs one look at the file's header and the stamp, and redb's own open: half a millisecond where this was
    /// measured, and 1.6 ms for a new file. After a crash the file is repaired first, as quickly. A store that is only
    /// read ([`Options::read_only`]) does without redb, and opens in less than a tenth of a millisecond.
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
            looks: AtomicBool::new(false),
            gate: Arc::default(),
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
        Self { _opened: Opened::new(&inner.gate), inner: Arc::new(inner) }
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
        self.look(identity::read)
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

    /// Copies everything that is stored to a new file, without gaps, which takes the place of this one; says how many
    /// bytes the two have on the disk. Needs room for both, blocks writers meanwhile, reads everything twice, and
    /// empties the hot tier; readers go on.
    ///
    /// A crash at any moment leaves the one file or the other, whole. Models and listings that are held stay as they
    /// are; the blocks of the old file are free when none of them is read in it any more. Rows that damage has made
    /// unreadable are left out, and noted as lost: see [`accept_losses`](Self::accept_losses).
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::in_memory()?;
    /// let compacted = store.compact()?;
    /// println!("{} bytes became {}", compacted.bytes_before, compacted.bytes_after);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when what was copied is not read back as it was, or
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    /// The old file stays in its place then. `Replaced` when another program puts a file in its place meanwhile.
    pub fn compact(&self) -> Result<Compacted> {
        self.compact_with(|_| {})
    }

    /// The same, and says how far it is: after each megabyte, or so. `progress` is called while nobody else may write:
    /// it must not use the store.
    ///
    /// # Errors
    /// As for [`compact`](Self::compact).
    pub fn compact_with(&self, mut progress: impl FnMut(CompactionProgress)) -> Result<Compacted> {
        let writer = self.inner.lock_writer();
        let compacted = self.inner.engine.compact(&mut progress);
        if compacted.is_ok() {
            // What is hot would keep the old file.
            self.inner.forget_stored();
        }
        drop(writer);
        self.inner.catch_up();
        compacted
    }

    /// Accepts that rows are missing which damage may have made unreadable: from here on they are taken to be absent,
    /// where until now every question about them was an error. No number of a version is given out twice all the same. A
    /// store that does not know any more which one it is gets an [`identity`](Self::identity) anew.
    ///
    /// Call [`compact`](Self::compact) first: it leaves damaged pages behind, and notes what may have been lost with
    /// them. As long as a damaged page is in the file, what it may have held stays an error. Keep a copy of the file
    /// before; [`verify`](Self::verify) lists what is damaged and what was lost.
    ///
    /// # Errors
    /// [What a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn accept_losses(&self) -> Result<()> {
        let now = self.inner.clock.now();
        let accept = |batch: &Batch| {
            registry::head::raise_floor(batch)?;
            identity::renew(batch, now)?;
            batch.forget_losses()
        };
        self.inner.commit("accept losses", accept, |_, ()| ())
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.inner.snapshot()
    }

    /// Reads the last committed state with `read`; again, when that state was given up meanwhile.
    pub(crate) fn look<T>(&self, read: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        self.inner.look(read)
    }

    /// Bytes of the file, and of those the bytes that are allocated.
    pub(crate) fn file_usage(&self) -> Result<(u64, u64)> {
        self.inner.engine.file_usage()
    }

    /// Where the store is, for messages.
    pub(crate) fn subject(&self) -> String {
        self.inner.engine.subject()
    }
}

/// How long after a look at a file that cannot be read the next one follows.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Inner {
    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` in one transaction and commits it; then shows it in the hot tier by `swap`, still holding the
    /// writer's lock.
    fn commit<T>(
        self: &Arc<Self>,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<T>,
        swap: impl FnOnce(&Change<'_, Entry>, &T),
    ) -> Result<T> {
        let done = self.commit_locked(operation, change, swap);
        self.after_write(done.as_ref().err());
        done
    }

    fn commit_locked<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<T>,
        swap: impl FnOnce(&Change<'_, Entry>, &T),
    ) -> Result<T> {
        let _writer = self.lock_writer();
        let batch = self.engine.write(operation)?;
        let value = change(&batch)?;
        let hot = self.hot.change();
        let committed = batch.commit();
        // What may have been changed is asked for again in the file.
        if committed.as_ref().map_or_else(|err| err.kind() == ErrorKind::OutcomeUnknown, |_| true) {
            swap(&hot, &value);
        }
        drop(hot);
        committed?.finish()?;
        Ok(value)
    }

    /// Reads the last committed state. Not to be called with the writer's lock held.
    fn snapshot(self: &Arc<Self>) -> Result<Snapshot> {
        let snapshot = self.engine.read();
        self.catch_up();
        snapshot
    }

    /// Reads the last committed state with `read`; again, when that state was given up meanwhile. Not to be called with
    /// the writer's lock held.
    fn look<T>(self: &Arc<Self>, read: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        unless_expired(|| read(&self.snapshot()?))
    }

    /// Brings what is in memory in step with the file, after a write that ended with `error`. Not to be called with the
    /// writer's lock held.
    fn after_write(self: &Arc<Self>, error: Option<&Error>) {
        self.catch_up();
        if error.is_some_and(|err| err.kind() == ErrorKind::OutcomeUnknown) {
            // It may be in the file, and whoever made it goes no further.
            self.followed.look_again(self, |_| true);
        }
        if !self.engine.sees() {
            self.look_until_it_sees();
        }
    }

    /// Has the file looked at by another thread until it can be read: those who only ask what is in memory would not
    /// find out.
    fn look_until_it_sees(self: &Arc<Self>) {
        if self.looks.swap(true, Ordering::AcqRel) {
            return;
        }
        self.later(|inner, stop| {
            inner.looks.store(false, Ordering::Release);
            if inner.snapshot().is_ok() || inner.engine.sees() {
                inner.followed.look_again(inner, |_| true);
            } else if !stop.is_set() {
                inner.worker.later(|_| thread::sleep(LOOK_AGAIN));
                inner.look_until_it_sees();
            }
        });
    }

    /// Has another thread look again at all models that are followed: one of them could not be read.
    fn look_at_followed_later(self: &Arc<Self>) {
        self.worker.later(|stop| {
            if !stop.is_set() {
                thread::sleep(LOOK_AGAIN);
            }
        });
        self.later(|inner, stop| {
            if !stop.is_set() {
                inner.followed.look_again(inner, |_| true);
            }
        });
    }

    /// Has a thread in the background do `work`, unless the store is closed by then.
    fn later(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>, &Stop) + Send + 'static) {
        let (inner, gate) = (Arc::downgrade(self), Arc::clone(&self.gate));
        self.worker.later(move |stop| {
            gate.with(&inner, |inner| work(inner, stop));
        });
    }

    /// Takes what the file has out of memory. A model that could not be stored stays: it is nowhere else. The caller
    /// holds the writer's lock.
    fn forget_stored(&self) {
        self.hot.change().remove_if(|_, entry| entry.metadata.version.is_some());
    }

    /// Where the file turned out to have another state than the one that was shown, what is in memory goes, and handles
    /// that follow a model look again. What could not be stored stays: it is nowhere else. Not to be called with the
    /// writer's lock held.
    fn catch_up(self: &Arc<Self>) {
        if !self.engine.take_surprise() {
            return;
        }
        tracing::warn!(store = %self.engine.subject(), "the file has another state than the one that was shown");
        let writer = self.lock_writer();
        self.forget_stored();
        drop(writer);
        self.followed.look_again(self, |_| true);
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
