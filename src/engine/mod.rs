//! The storage engine: redb, and the only module that names it.
//!
//! Owns the file, its lock and its transactions. A [`Snapshot`] reads one committed state; a [`Batch`] is one
//! transaction that is committed as a whole or not at all, always in two phases and with quick repair, because with
//! redb's default single phase a failed fsync followed by a reopen can lose the file. Values are bytes here; what
//! they mean is said above.
//!
//! redb latches its handle after an I/O error and answers nothing more; the engine then reopens the file on the next
//! transaction. redb panics on pages that are corrupt; such a panic is contained and becomes an error, and the handle
//! that saw it is never dropped, because its destructor could panic again and take the process down; it is not written
//! through again either.

mod batch;
mod create;
mod health;
pub(crate) mod identity;
mod lock;
mod mapped;
mod memory;
mod open;
mod overlay;
mod pin;
pub(crate) mod sealed;
mod snapshot;
mod sparse;
mod stamp;
mod tables;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use redb::{ReadableDatabase, backends::InMemoryBackend};

pub(crate) use batch::Batch;
pub use identity::Identity;
pub(crate) use snapshot::{Reader, Scan, Snapshot};
pub use tables::TableUsage;
pub(crate) use tables::{ARCHIVES_NAME, Table};

use crate::{
    error::{Error, ErrorKind, Result},
    time::Timestamp,
};
use health::Health;
use mapped::Eras;
use pin::{Handle, OpenFile};

/// How to open an engine.
#[derive(Clone, Copy, Debug)]
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
    /// What time it is, for a store that is created.
    pub(crate) now: Timestamp,
}

/// One open file, or one database in memory.
#[derive(Debug)]
pub(crate) struct Engine {
    source: Source,
    options: EngineOptions,
    /// `None` only while a reopen failed.
    open: RwLock<Option<Arc<OpenFile>>>,
    eras: Arc<Eras>,
    health: Arc<Health>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Memory(Arc<InMemoryBackend>),
}

impl Engine {
    /// Opens, or creates, the store in the file `path`.
    pub(crate) fn open(path: &Path, options: EngineOptions) -> Result<Self> {
        Self::start(Source::File(path.to_owned()), options)
    }

    /// Makes a store in memory.
    pub(crate) fn in_memory(options: EngineOptions) -> Result<Self> {
        Self::start(Source::Memory(Arc::new(InMemoryBackend::new())), options)
    }

    fn start(source: Source, options: EngineOptions) -> Result<Self> {
        let health = Arc::new(Health::default());
        let eras = Arc::new(Eras::default());
        let open = eras.begin(open::open(&source, options, &health)?)?;
        Ok(Self { source, options, open: RwLock::new(Some(open)), eras, health })
    }

    /// Where the store is, for messages: its path, or `memory`.
    pub(crate) fn subject(&self) -> String {
        self.source.subject()
    }

    /// The file, unless the store is in memory.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Memory(_) => None,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// Begins to read the last committed state.
    pub(crate) fn read(&self) -> Result<Snapshot> {
        let open = self.open_file("read")?;
        if let Some(view) = self.eras.current(&open)? {
            let trusts_pages = self.options.trusts_pages;
            return Ok(Snapshot::Mapped { view, eras: Arc::clone(&self.eras), trusts_pages });
        }
        let transaction = self.health.contain("read", &self.source.subject(), || {
            Ok(match open.handle() {
                Handle::Write(db) => db.begin_read()?,
                Handle::Read(db) => db.begin_read()?,
                Handle::Locked(_) => unreachable!("a file that is only locked is mapped"),
            })
        })?;
        Ok(Snapshot::copied(transaction, Arc::clone(&self.health)))
    }

    /// Begins the one write transaction; waits for another one to end, so never call it twice on one thread.
    pub(crate) fn write(&self, operation: &'static str) -> Result<Batch> {
        self.check_writable(operation)?;
        let open = self.open_file(operation)?;
        let Handle::Write(db) = open.handle() else {
            return Err(self.read_only(operation));
        };
        let transaction = self.health.contain(operation, &self.source.subject(), || batch::begin_write(db))?;
        let (eras, health) = (Arc::clone(&self.eras), Arc::clone(&self.health));
        Ok(Batch::new(transaction, operation, Arc::clone(&open), eras, health))
    }

    /// Moves pages to the front of the file and cuts it; returns whether anything moved. Refused while an archive is
    /// used where it lies.
    pub(crate) fn compact(&self) -> Result<bool> {
        let operation = "compact";
        self.check_writable(operation)?;
        let subject = self.source.subject();
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = slot.as_mut() else {
            return Err(self.closed(operation));
        };
        self.eras.end_for_moving(&subject)?;
        let compacted = match Arc::get_mut(open).map(OpenFile::handle_mut) {
            Some(Handle::Write(db)) => self.health.contain(operation, &subject, || Ok(db.compact()?)),
            Some(_) => Err(self.read_only(operation)),
            None => {
                let message = "a reader is still at work; try again when it is done";
                Err(Error::new(ErrorKind::InUse, operation, &subject, message))
            }
        };
        self.eras.resume(open)?;
        compacted
    }

    /// The open file; opens it again if an I/O error closed it.
    fn open_file(&self, operation: &'static str) -> Result<Arc<OpenFile>> {
        if self.health.must_reopen() {
            self.reopen()?;
        }
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| self.closed(operation))
    }

    /// Closes the latched handle and opens the source again.
    fn reopen(&self) -> Result<()> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if !self.health.must_reopen() {
            return Ok(());
        }
        let subject = self.source.subject();
        self.eras.end(&subject)?;
        tracing::warn!(store = %subject, "reopening after an I/O error");
        let file = match slot.take().map(Arc::try_unwrap) {
            Some(Ok(old)) => old.close_for_next().map_err(|err| open::os_error(&subject, err))?,
            Some(Err(old)) => {
                *slot = Some(old);
                let message = "a reader is still at work in the file that failed; it is reopened when it is done";
                return Err(Error::new(ErrorKind::Io, "reopen", subject, message));
            }
            None => None,
        };
        let options = EngineOptions { create: false, ..self.options };
        let opened = match file {
            Some(file) => open::open_for_writing(file, &subject, options, &self.health)?,
            None => open::open(&self.source, options, &self.health)?,
        };
        let open = self.eras.begin(opened)?;
        *slot = Some(open);
        self.health.reopened();
        Ok(())
    }

    /// Refuses what a write would be refused for before it begins: worth asking before work is done for one.
    ///
    /// What redb had in memory when it panicked is not to be written from. Reads may go on.
    pub(crate) fn check_writable(&self, operation: &'static str) -> Result<()> {
        if self.options.read_only {
            return Err(self.read_only(operation));
        }
        if self.health.panicked() {
            let message = "a broken page was met earlier; end this process, then copy or repair the file";
            return Err(Error::corrupt(operation, self.source.subject(), message));
        }
        Ok(())
    }

    fn read_only(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::ReadOnly, operation, self.source.subject(), "the store was opened read-only")
    }

    fn closed(&self, operation: &'static str) -> Error {
        let message = "the file could not be reopened after an I/O error";
        Error::new(ErrorKind::Io, operation, self.source.subject(), message)
    }
}

impl Source {
    fn subject(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory(_) => "memory".into(),
        }
    }
}
