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

mod backend;
mod create;
mod health;
pub(crate) mod identity;
mod open;
mod overlay;
pub(crate) mod sealed;
mod stamp;
mod tables;
mod transaction;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use redb::{Database, ReadOnlyDatabase, ReadableDatabase, backends::InMemoryBackend};

pub use identity::Identity;
pub use tables::TableUsage;
pub(crate) use tables::{ARCHIVES_NAME, Table};
pub(crate) use transaction::{Batch, Reader, Scan, Snapshot};

use crate::{
    error::{Error, ErrorKind, Result},
    time::Timestamp,
};
use health::Health;

/// How to open an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) cache_bytes: usize,
    pub(crate) file_bytes_max: u64,
    /// What time it is, for a store that is created.
    pub(crate) now: Timestamp,
}

/// One open file, or one database in memory.
#[derive(Debug)]
pub(crate) struct Engine {
    source: Source,
    options: EngineOptions,
    /// `None` only while a reopen failed.
    handle: RwLock<Option<Handle>>,
    health: Arc<Health>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Memory(Arc<InMemoryBackend>),
}

enum Handle {
    Write(Database),
    Read(ReadOnlyDatabase),
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(_) => "Write",
            Self::Read(_) => "Read",
        })
    }
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
        let handle = open::open(&source, options, &health)?;
        let handle = RwLock::new(Some(handle));
        Ok(Self { source, options, handle, health })
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
        self.with_handle("read", |handle| {
            self.health.contain("read", &self.source.subject(), || {
                Ok(match handle {
                    Handle::Write(db) => db.begin_read()?,
                    Handle::Read(db) => db.begin_read()?,
                })
            })
        })
        .map(|transaction| Snapshot::new(transaction, Arc::clone(&self.health)))
    }

    /// Begins the one write transaction; waits for another one to end, so never call it twice on one thread.
    pub(crate) fn write(&self, operation: &'static str) -> Result<Batch> {
        self.check_writable(operation)?;
        let transaction = self.with_handle(operation, |handle| match handle {
            Handle::Read(_) => Err(self.read_only(operation)),
            Handle::Write(db) => {
                self.health.contain(operation, &self.source.subject(), || transaction::begin_write(db))
            }
        })?;
        Ok(Batch::new(transaction, operation, Arc::clone(&self.health)))
    }

    /// Moves pages to the front of the file and cuts it; returns whether anything moved.
    pub(crate) fn compact(&self) -> Result<bool> {
        let operation = "compact";
        self.check_writable(operation)?;
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        match handle.as_mut() {
            None => Err(self.closed(operation)),
            Some(Handle::Read(_)) => Err(self.read_only(operation)),
            Some(Handle::Write(db)) => self.health.contain(operation, &self.source.subject(), || Ok(db.compact()?)),
        }
    }

    fn with_handle<T>(&self, operation: &'static str, work: impl FnOnce(&Handle) -> Result<T>) -> Result<T> {
        if self.health.must_reopen() {
            self.reopen()?;
        }
        match &*self.handle.read().unwrap_or_else(PoisonError::into_inner) {
            Some(handle) => work(handle),
            None => Err(self.closed(operation)),
        }
    }

    /// Closes the latched handle and opens the source again.
    fn reopen(&self) -> Result<()> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if !self.health.must_reopen() {
            return Ok(());
        }
        tracing::warn!(store = %self.source.subject(), "reopening after an I/O error");
        if let Some(old) = handle.take() {
            self.health.close(old);
        }
        *handle = Some(open::open(&self.source, EngineOptions { create: false, ..self.options }, &self.health)?);
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

impl Drop for Engine {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handle.take() {
            self.health.close(handle);
        }
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
