//! The storage engine: redb, and the only module that names it.
//!
//! Owns the file, its lock and its transactions. A [`Snapshot`] reads one committed state, without redb; a [`Batch`] is
//! one transaction that is committed as a whole or not at all, always in two phases and with quick repair, because with
//! redb's default single phase a failed fsync followed by a reopen can lose the file. Values are bytes here; what they
//! mean is said above.
//!
//! After an I/O error another handle of redb takes the place of the one that failed ([`recovery`]). redb panics on some
//! pages that are corrupt; such a panic is contained and becomes an error, and the handle that saw it is never dropped,
//! because its destructor could panic again and take the process down; it is not written through again either.

mod backend;
mod batch;
mod closing;
mod compaction;
mod create;
mod damage;
mod disk;
mod file;
mod health;
pub(crate) mod identity;
mod layout;
mod lock;
mod mapped;
mod open;
mod open_files;
mod pin;
mod recovery;
mod scan;
pub(crate) mod sealed;
mod snapshot;
mod stamp;
mod tables;
mod view;
mod writeback;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use redb::Database;

pub(crate) use batch::{Batch, Sealed};
pub use compaction::{Compacted, CompactionProgress};
pub(crate) use disk::Watched;
pub use disk::{Access, Disk, Fault};
pub use identity::Identity;
pub(crate) use scan::Rows;
pub(crate) use snapshot::{Reader, Snapshot};
pub use tables::TableUsage;
pub(crate) use tables::{ArchiveTable, LAST_ARCHIVE, Table};

use crate::{
    sync::worker::{Stop, Worker},
    types::{
        clock::Clock,
        error::{Error, ErrorKind, Result},
        time::Timestamp,
    },
};
use backend::{Fence, Pages};
use health::Health;
use mapped::{PinRegistry, Seen};
use pin::Pin;
use view::View;

/// How long an archive that left the file may be held before its bytes are given memory of their own. Most are let go
/// of in microseconds; of those that are not, one cannot know for how long they will be held.
const HELD_SHORTLY: Duration = Duration::from_millis(5);

/// How to open an engine.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "options are switches, each set by its name")]
pub(crate) struct EngineOptions {
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) cache_bytes: usize,
    pub(crate) file_bytes_max: u64,
    /// Whether the file is read in place where that is possible.
    pub(crate) mapped: bool,
    /// Whether a row is verified by the checksum of its page, where that is at hand, instead of its seal.
    pub(crate) trusts_pages: bool,
    /// Whether each commit hashes everything that is held.
    pub(crate) checks_held: bool,
    pub(crate) disk: Watched,
}

/// One open file, or one database in memory.
#[derive(Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
}

/// What an engine shares with its transactions.
pub(crate) struct Core {
    /// Dropped first: its jobs use the rest.
    worker: Worker,
    source: Source,
    options: EngineOptions,
    clock: Arc<dyn Clock>,
    handle: Mutex<Handle>,
    /// One recovery, or compaction, at a time.
    replacing: Mutex<()>,
    pins: Arc<PinRegistry<View>>,
    health: Health,
    /// Something is about to be detached in the background.
    detaches: Arc<AtomicBool>,
    /// A commit freed much that was still held.
    owes_pages: AtomicBool,
    /// A commit may be in the file that nobody made durable.
    in_doubt: AtomicBool,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Memory,
}

/// What is open.
struct Handle {
    pages: Pages,
    /// `None` for a file that is only read, and after an I/O error until the next write.
    writer: Option<Writer>,
}

/// redb, and the fence that keeps it from writing once it was replaced.
struct Writer {
    db: Arc<Database>,
    fence: Fence,
}

impl Writer {
    /// Closes it without another byte written.
    fn abandon(self, health: &Health) {
        self.fence.shut();
        health.close_shared(self.db);
    }
}

impl Engine {
    /// Opens, or creates, the store in the file `path`.
    pub(crate) fn open(path: &Path, options: EngineOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let health = Health::default();
        let opened = open::open(path, &options, clock.now(), &health)?;
        Ok(Self::start(Source::File(path.to_owned()), opened, options, clock, health))
    }

    /// Makes a store in memory.
    pub(crate) fn in_memory(options: EngineOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let health = Health::default();
        let opened = open::in_memory(&options, clock.now(), &health)?;
        Ok(Self::start(Source::Memory, opened, options, clock, health))
    }

    fn start(
        source: Source,
        opened: open::Opened,
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        health: Health,
    ) -> Self {
        let open::Opened { pages, view, writer } = opened;
        let pins = Arc::new(PinRegistry::new(options.checks_held));
        pins.advance(&Arc::new(view), Seen::Shown);
        let core = Core {
            worker: Worker::default(),
            source,
            options,
            clock,
            handle: Mutex::new(Handle { pages, writer }),
            replacing: Mutex::new(()),
            pins,
            health,
            detaches: Arc::default(),
            owes_pages: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
        };
        Self { core: Arc::new(core) }
    }

    /// Where the store is, for messages: its path, or `memory`.
    pub(crate) fn subject(&self) -> String {
        self.core.subject()
    }

    /// The file, unless the store is in memory.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.core.source {
            Source::File(path) => Some(path),
            Source::Memory => None,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.core.options.read_only
    }

    /// Bytes of the file, and of those the bytes that the file system has allocated; 0 for a store in memory.
    pub(crate) fn file_usage(&self) -> Result<(u64, u64)> {
        match &self.core.handle().pages {
            Pages::File(file) => file.usage().map_err(|err| health::os_error("measure", &self.subject(), err)),
            Pages::Memory(..) => Ok((0, 0)),
        }
    }

    /// Begins to read the last committed state.
    pub(crate) fn read(&self) -> Result<Snapshot> {
        let view = self.core.current()?;
        view.check_length()?;
        Ok(self.core.snapshot(view))
    }

    /// Reads the last committed state with `read`; see [`unless_expired`].
    pub(crate) fn look<T>(&self, read: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        unless_expired(|| read(&self.read()?))
    }

    /// Begins the one write transaction; waits for another one to end, so never call it twice on one thread.
    pub(crate) fn write(&self, operation: &'static str) -> Result<Batch> {
        match self.begin(operation) {
            // The handle had failed unnoticed, when it gave up a transaction: now another one can take its place.
            Err(err) if err.kind() == ErrorKind::Io && self.core.health.is_latched() => self.begin(operation),
            begun => begun,
        }
    }

    fn begin(&self, operation: &'static str) -> Result<Batch> {
        self.check_writable(operation)?;
        let core = &self.core;
        core.recover().map_err(|err| {
            let message = format!("the file cannot be opened again after an earlier error: {}", err.message());
            Error::new(err.kind(), operation, self.subject(), message).with_source(err)
        })?;
        let (pages, db, fence) = core.writer(operation)?;
        core.set_bound(true);
        if let Pages::File(file) = &pages {
            file.check(operation)?;
            file.sync_name().map_err(|err| health::os_error(operation, &self.subject(), err))?;
        }
        // Detach first, so that the next commit can reuse what this one frees.
        core.pins.detach_older();
        if core.owes_pages.load(Ordering::Relaxed) {
            core.reclaim_freed_pages(operation);
        }
        let base = core.snapshot(core.current()?);
        let transaction = core.health.contain(operation, &core.subject(), || batch::begin_write(&db))?;
        Ok(Batch::new(transaction, operation, Arc::clone(core), fence, base))
    }

    /// Refuses what a write would be refused for before it begins: worth asking before work is done for one.
    ///
    /// What redb had in memory when it panicked is not to be written from. Reads may go on.
    pub(crate) fn check_writable(&self, operation: &'static str) -> Result<()> {
        self.core.check_writable(operation)
    }

    /// Whether the file turned out to have another state than the one that was shown last, since this was asked last: a
    /// commit that nobody could tell the end of was in it, or was not.
    pub(crate) fn take_surprise(&self) -> bool {
        self.core.pins.take_surprise()
    }

    /// Whether the newest commit has been looked at: not while the file cannot be read.
    pub(crate) fn sees(&self) -> bool {
        self.core.pins.sees()
    }

    /// Moves everything to a new file that takes the place of this one; see [`compaction`]. Call it when no transaction
    /// is under way.
    pub(crate) fn compact(&self, progress: &mut dyn FnMut(CompactionProgress)) -> Result<Compacted> {
        self.check_writable("compact")?;
        self.core.recover()?;
        self.core.compact(progress)
    }
}

/// How often a read begins anew because an I/O error elsewhere took its state away: each time there was one.
const READS_MAX: u32 = 16;

/// Reads again when the state that was read was given up meanwhile, after an I/O error elsewhere: then there is another
/// one.
pub(crate) fn unless_expired<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let mut found = read();
    for _ in 0..READS_MAX {
        if !found.as_ref().is_err_and(|err| err.kind() == ErrorKind::Expired) {
            break;
        }
        found = read();
    }
    found
}

impl Core {
    fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subject(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Memory => "memory".into(),
        }
    }

    fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn check_writable(&self, operation: &'static str) -> Result<()> {
        if self.options.read_only {
            let message = "the store was opened read-only";
            return Err(Error::new(ErrorKind::ReadOnly, operation, self.subject(), message));
        }
        if self.health.panicked() {
            let message = "a broken page was met earlier; end this process, then copy or repair the file";
            return Err(Error::corrupt(operation, self.subject(), message));
        }
        Ok(())
    }

    /// What is written to.
    fn writer(&self, operation: &'static str) -> Result<(Pages, Arc<Database>, Fence)> {
        let handle = self.handle();
        match &handle.writer {
            Some(writer) => Ok((handle.pages.clone(), Arc::clone(&writer.db), writer.fence.clone())),
            None => {
                let message = "the file could not be opened again after an I/O error";
                Err(Error::new(ErrorKind::Io, operation, self.subject(), message))
            }
        }
    }

    fn snapshot(&self, view: Arc<View>) -> Snapshot {
        Snapshot::new(view, &self.pins, self.options.trusts_pages)
    }

    /// Whether the bound on the size of the file holds for what is written from here on.
    fn set_bound(&self, holds: bool) {
        if let Some(writer) = &self.handle().writer {
            if holds { writer.fence.set_bound() } else { writer.fence.lift_bound() }
        }
    }

    /// The newest commit.
    fn current(&self) -> Result<Arc<View>> {
        match self.pins.current(|earlier| self.look(earlier).map(Arc::new))? {
            Some(view) => Ok(view),
            None => Err(Error::new(ErrorKind::Io, "read", self.subject(), "the store is closed")),
        }
    }

    /// Reads the newest commit, and pins it if a writer is open.
    fn look(&self, earlier: Option<&View>) -> Result<View> {
        let (pages, db) = {
            let handle = self.handle();
            (handle.pages.clone(), handle.writer.as_ref().map(|writer| Arc::clone(&writer.db)))
        };
        // A handle that answers nothing gives no pin. It writes nothing either, until another one is in its place; and
        // that one pins the newest commit, and ends the others.
        let db = db.filter(|_| !self.health.is_latched());
        let pin = match db.map(|db| Pin::take(&db, &self.health, &self.subject())).transpose() {
            Err(_) if self.health.is_latched() => None,
            pin => pin?,
        };
        View::new(&pages, self.options.mapped, pin, earlier)
    }

    /// Looks at the commit that was just made. If that fails now, the next reader tries again.
    fn look_again(&self) {
        match self.look(self.pins.last().as_deref()) {
            Ok(view) => self.advance(view, Seen::Shown),
            Err(error) => {
                tracing::error!(%error, "a commit cannot be read back yet");
                self.pins.lose_sight(Seen::Shown);
            }
        }
    }

    fn advance(&self, view: View, seen: Seen) {
        if self.pins.advance(&Arc::new(view), seen) {
            self.detach_soon();
        }
    }

    /// Has what left the file detached by a thread in the background, unless it is let go of before.
    fn detach_soon(&self) {
        if self.detaches.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pins, detaches) = (Arc::clone(&self.pins), Arc::clone(&self.detaches));
        self.worker.later(move |stop: &Stop| {
            let step = HELD_SHORTLY / 5;
            (0..5).take_while(|_| !stop.is_set()).for_each(|_| thread::sleep(step));
            detaches.store(false, Ordering::Release);
            pins.detach_all(|| stop.is_set());
        });
    }

    /// Lets redb take back the pages that a commit freed. At the commit they were still pinned, as the state before it;
    /// without this the next large value would be put behind them, and the file would grow by one version more. What is
    /// still held keeps its pages: then it is done before the next write.
    fn reclaim_freed_pages(&self, operation: &'static str) {
        let is_held = self.pins.has_left();
        self.owes_pages.store(is_held, Ordering::Relaxed);
        let Some((_, db, _)) = self.writer(operation).ok().filter(|_| !is_held) else {
            return;
        };
        let reclaimed =
            self.health.contain(operation, "reclaim_freed_pages", || Ok(batch::begin_write(&db)?.commit()?));
        let seen = reclaimed.and_then(|()| self.look(self.pins.last().as_deref()));
        match seen {
            Ok(view) => self.advance(view, Seen::Reclaimed),
            // What was to be written is written.
            Err(error) => {
                tracing::warn!(%error, "freed pages are not taken back yet");
                self.pins.lose_sight(Seen::Shown);
            }
        }
    }

    /// Fails if anything that is held is not what it was, where the options ask for it.
    fn check_held(&self, operation: &'static str) -> Result<()> {
        match self.pins.find_changed() {
            None => Ok(()),
            Some(place) => {
                let message = format!(
                    "what is held has changed: {place}; another program wrote to the file, or this is a defect of modelkeep"
                );
                Err(Error::corrupt(operation, self.subject(), message))
            }
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("source", &self.source).finish_non_exhaustive()
    }
}
