//! Options of a store.

#[cfg(feature = "market")]
mod market;
mod versions;

use std::{path::Path, sync::Arc, thread, time::Duration};

use super::Store;
#[cfg(feature = "market")]
use crate::market::{Market, settings::MarketSettings};
use crate::{
    core::Core,
    engine::{Disk, Engine, EngineOptions, Watched},
    format::envelope::Verify,
    models::{Models, settings::ModelSettings, tiers::ModelTier},
    sync::gate::Opened,
    types::{
        clock::{Clock, SystemClock},
        error::{ErrorKind, Result},
    },
};

/// Options of a [`Store`], to be set before it is opened.
///
/// ```
/// use modelkeep::{Store, Verify};
///
/// let store = Store::options()
///     .hot_bytes(64 << 20)
///     .verify(Verify::Full)
///     .retention(4)
///     .in_memory()?;
/// assert_eq!(store.stats().hot_bytes, 0);
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    engine: EngineOptions,
    models: ModelSettings,
    tiers: Vec<Arc<dyn ModelTier>>,
    #[cfg(feature = "market")]
    market: MarketSettings,
    clock: Arc<dyn Clock>,
    /// How long to wait for the file's lock.
    wait: Duration,
}

/// How long after a file was found locked it is tried again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineOptions {
                create: true,
                read_only: false,
                cache_bytes: 8 << 20,
                file_bytes_max: u64::MAX,
                mapped: true,
                trusts_pages: false,
                checks_held: false,
                disk: Watched::default(),
            },
            models: ModelSettings::default(),
            tiers: Vec::new(),
            #[cfg(feature = "market")]
            market: MarketSettings::default(),
            clock: Arc::new(SystemClock),
            wait: Duration::ZERO,
        }
    }
}

impl Options {
    /// Whether a file that does not exist is created. Default: true.
    ///
    /// ```
    /// # use modelkeep::{ErrorKind, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let opened = Store::options().create(false).open(folder.path().join("models.redb"));
    /// assert_eq!(opened.unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(mut self, create: bool) -> Self {
        self.engine.create = create;
        self
    }

    /// Whether the file is opened for reading only: it is never created, changed or repaired, other read-only stores
    /// may have it open at the same time, and a writer may not. A file whose writer was killed can be read. Default:
    /// false.
    ///
    /// ```
    /// # use modelkeep::{ErrorKind, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("models.redb");
    /// # drop(Store::open(&path)?);
    /// let store = Store::options().read_only(true).open(&path)?;
    /// let another = Store::options().read_only(true).open(&path)?; // readers share the file
    /// assert_eq!(store.compact().unwrap_err().kind(), ErrorKind::ReadOnly);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.engine.read_only = read_only;
        self
    }

    /// Bytes of models that the hot tier holds at most. Default: 256 MiB. More bytes mean fewer loads from disk; 0
    /// switches the tier off.
    /// A model takes its archive, its configuration, and some 500 bytes for what is known of it: many small ones take
    /// several times their archives.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let store = Store::options().hot_bytes(0).in_memory()?; // every get reads the file
    /// store.publish(&key, trained())?;
    /// assert_eq!(store.stats().hot_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hot_bytes(mut self, bytes: u64) -> Self {
        self.models.hot_bytes = bytes;
        self
    }

    /// How long a model stays in the hot tier before it is read from disk again. Default: without end. This is about
    /// the copy in memory; how old a *model* may be is said by [`Freshness`](crate::Freshness).
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use std::{sync::Arc, time::Duration};
    /// use modelkeep::{Tier, Timestamp, clock::ManualClock};
    ///
    /// let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(0)));
    /// let store = Store::options().clock(Arc::clone(&clock)).hot_max_age(Duration::from_secs(60)).in_memory()?;
    /// store.publish(&key, trained())?;
    /// clock.advance(Duration::from_secs(61));
    /// assert_eq!(store.get::<Momentum>(&key)?.map(|model| model.tier()), Some(Tier::Disk));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hot_max_age(mut self, age: Duration) -> Self {
        self.models.hot_max_age = Some(age);
        self
    }

    /// Bytes of file pages that the storage engine keeps in memory, for writing. Default: 8 MiB. Reads go through the
    /// map and need none of it. More helps who publishes large models often: with room for three of them a publish of
    /// 50 MB took 91 ms instead of 130 to 160, and that room stays taken.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::options().cache_bytes(64 << 20).open(folder.path().join("models.redb"))?;
    /// # assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.engine.cache_bytes = bytes;
        self
    }

    /// Bytes beyond which the file is not grown: a write that needs more fails with `StorageFull`. Default: no bound
    /// but the disk.
    ///
    /// The engine grows a file by doubling it, so that a file may be full at little more than half of the bound. What
    /// removes something writes before it frees, and may grow the file to twice the bound, so that a store which is
    /// full can be emptied; so may [`compact`](Store::compact) and the close. Until a compaction such a file may be
    /// longer than the bound.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// # let folder = tempfile::tempdir()?;
    /// use modelkeep::ErrorKind;
    ///
    /// let store = Store::options().file_bytes_max(8 << 20).open(folder.path().join("models.redb"))?;
    /// let large = NewModel::new(Momentum { weights: vec![0.5; 2 << 20] }); // 16 MiB
    /// assert_eq!(store.publish(&key, large).unwrap_err().kind(), ErrorKind::StorageFull);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.engine.file_bytes_max = bytes;
        self
    }

    /// Whether the file is read in place, through a map of it. Default: true. Otherwise, and wherever a file cannot be
    /// mapped, archives are copied into memory: for file systems on which maps are slow, or go away.
    ///
    /// A map ends the process by SIGBUS when a page below it is gone: when another program cuts the file, or the disk
    /// cannot read a sector. The length of the file is compared whenever it is read anew, so that a cut that is over is
    /// an error ([`Truncated`](crate::ErrorKind::Truncated)); one that happens while a model is being read is not.
    /// Without a map both are errors, and so is a model that another program wrote over: use it where programs that do
    /// not ask for the file's lock may come near it. A model of 50 MB then takes some 20 ms to load instead of 0.1.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::options().mapped(false).open(folder.path().join("models.redb"))?;
    /// store.publish(&key, NewModel::new(Momentum { weights: vec![0.5; 10_000] }))?;
    /// store.evict_all();
    /// assert!(store.get::<Momentum>(&key)?.is_some()); // a copy in memory
    /// assert_eq!(store.stats().hot_mapped_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mapped(mut self, mapped: bool) -> Self {
        self.engine.mapped = mapped;
        self
    }

    /// How much of an archive is checked when it is loaded. Default: [`Verify::Full`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use modelkeep::{Store, Verify};
    ///
    /// // The structure of an archive is checked at once, and its bytes by a thread of the store afterwards.
    /// let store = Store::options().verify(Verify::Background).open(folder.path().join("models.redb"))?;
    /// # assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(mut self, verify: Verify) -> Self {
        self.models.verify = verify;
        self.engine.trusts_pages = verify != Verify::Full;
        self
    }

    /// Whether each commit hashes every archive that is held in place. If one is not what it was when it was taken, the
    /// call that committed fails with `Corrupt`, though what it wrote is there. Default: false. For tests of engines
    /// that link this crate, and for those who want to see for themselves: it costs a hash of all that is held with
    /// each commit.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let store = Store::options().check_held(true).in_memory()?;
    /// store.publish(&key, trained())?;
    /// let held = store.get::<Momentum>(&key)?;
    /// store.publish(&key, trained())?; // fails if the bytes of `held` have changed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check_held(mut self, check: bool) -> Self {
        self.engine.checks_held = check;
        self
    }

    /// Watches what passes between the store and its disk, or makes it fail: for tests of what a full disk, a broken
    /// one or a power cut does to an engine. Default: nobody watches.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// use modelkeep::{ErrorKind, Store, disk::{Access, Disk, Fault}, market::Timeframe};
    ///
    /// #[derive(Debug, Default)]
    /// struct Failing(AtomicBool);
    ///
    /// impl Disk for Failing {
    ///     fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
    ///         let fails = matches!(access, Access::Sync { .. }) && self.0.load(Ordering::Relaxed);
    ///         if fails { Err(std::io::Error::other("the disk is gone").into()) } else { Ok(()) }
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let disk = Arc::new(Failing::default());
    /// let store = Store::options().disk(Arc::clone(&disk) as _).open(folder.path().join("models.redb"))?;
    /// disk.0.store(true, Ordering::Relaxed);
    /// let failed = store.levels("VIX")?.write(&[("2018-12-24".parse()?, 36.07)]).unwrap_err();
    /// assert_eq!(failed.kind(), ErrorKind::Io); // nothing was changed, and reads go on
    /// disk.0.store(false, Ordering::Relaxed);
    /// store.levels("VIX")?.write(&[("2018-12-24".parse()?, 36.07)])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.engine.disk = Watched::by(disk);
        self
    }

    /// Adds a tier that is asked for what neither memory nor the file has; in the order in which they were added.
    /// Default: none.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use modelkeep::{ModelKey, Store, tier::{Change, ModelTier, TierError, TierModel}};
    ///
    /// #[derive(Debug)]
    /// struct Empty; // in place of a Redis or a bucket
    ///
    /// impl ModelTier for Empty {
    ///     fn find(&self, _: &ModelKey) -> Result<Option<TierModel>, TierError> { Ok(None) }
    ///     fn apply(&self, _: &Change) {}
    /// }
    /// let store = Store::options().tier(Arc::new(Empty)).in_memory()?;
    /// assert_eq!(store.stats().shared.hits, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tier(mut self, tier: Arc<dyn ModelTier>) -> Self {
        self.tiers.push(tier);
        self
    }

    /// Where the time comes from. Default: [`SystemClock`].
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use modelkeep::{Store, Timestamp, clock::ManualClock};
    ///
    /// let clock = Arc::new(ManualClock::at("2018-12-24T18:00:00Z".parse()?));
    /// let store = Store::options().clock(Arc::clone(&clock)).in_memory()?;
    /// assert_eq!(store.identity()?.created.to_string(), "2018-12-24T18:00:00Z");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How long an open waits for a file that another store, or a model or listing that was taken from one, has open,
    /// before it fails with `InUse`. It asks again every ten milliseconds. Default: not at all.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("models.redb");
    /// use std::time::Duration;
    /// use modelkeep::Store;
    ///
    /// let other = Store::open(&path)?;
    /// std::thread::spawn(move || drop(other));
    /// let store = Store::options().wait_for_lock(Duration::from_secs(10)).open(&path)?;
    /// # assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_lock(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Opens the store in the file `path`.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::options().retention(4).open(folder.path().join("models.redb"))?;
    /// assert!(store.path().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Store::open`]; and `NotFound` when the file does not exist and is not to be created, `NeedsRecovery`
    /// when a read-only store was not closed cleanly and its last commit may be torn, which none of this crate's is.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        let began = SystemClock.monotonic();
        loop {
            match Engine::open(path.as_ref(), self.engine.clone(), Arc::clone(&self.clock)) {
                Err(err) if err.kind() == ErrorKind::InUse => {
                    let waited = SystemClock.monotonic().saturating_sub(began);
                    if waited >= self.wait {
                        return Err(err);
                    }
                    thread::sleep(ASK_AGAIN.min(self.wait.saturating_sub(waited)));
                }
                opened => return Ok(self.start(opened?)),
            }
        }
    }

    /// Makes an empty store in memory.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::options().hot_bytes(1 << 20).in_memory()?;
    /// assert!(store.path().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Store::in_memory`].
    pub fn in_memory(self) -> Result<Store> {
        let engine = EngineOptions { read_only: false, ..self.engine.clone() };
        let engine = Engine::in_memory(engine, Arc::clone(&self.clock))?;
        Ok(self.start(engine))
    }

    fn start(self, engine: Engine) -> Store {
        let core = Arc::new(Core::new(engine, self.clock));
        let store = Store {
            opened: Opened::new(core.gate()),
            models: Models::new(Arc::clone(&core), self.models, self.tiers),
            #[cfg(feature = "market")]
            market: Arc::new(Market::new(Arc::clone(&core), self.market)),
            core,
        };
        store.models.resume_maintenance();
        store
    }
}
