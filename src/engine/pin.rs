//! An open file, and pins of its commits.

use std::{fmt, fs::File, io, sync::Arc};

use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use super::{
    health::Health,
    lock::SharedLock,
    mapped::{Alive, View},
    sparse::StaysLocked,
};
use crate::error::Result;

/// What is open: closed when the last user is gone, the store or a model that is held where it lies in the file.
pub(crate) struct OpenFile {
    handle: Option<Handle>,
    file: Option<SameFile>,
    health: Arc<Health>,
}

/// The open file under the handle, once more: the same one for the kernel, with the same locks.
struct SameFile {
    file: Arc<File>,
    mapped: bool,
    stays_locked: StaysLocked,
}

/// A file that was just opened, and the commit that was looked at to open it.
pub(crate) struct Opened {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) view: Option<Arc<View>>,
}

impl From<OpenFile> for Opened {
    fn from(file: OpenFile) -> Self {
        Self { file: Arc::new(file), view: None }
    }
}

/// Who reads and writes.
pub(super) enum Handle {
    /// redb, for writing.
    Write(Database),
    /// redb, for reading where nothing is mapped.
    Read(ReadOnlyDatabase),
    /// Nobody: the file is locked against writers, and read in the map.
    Locked(SharedLock),
}

/// While it lives, no page is reused that its commit, or a later one, reaches.
pub(crate) struct Pin {
    /// `None` for a file that nobody can write. Dropped before the file that it is of.
    _transaction: Option<ReadTransaction>,
    _open: Arc<OpenFile>,
}

impl OpenFile {
    /// What is read by redb.
    pub(super) fn unmapped(handle: Handle, health: &Arc<Health>) -> Self {
        Self { handle: Some(handle), file: None, health: Arc::clone(health) }
    }

    /// A file that is only read, in the map.
    pub(super) fn locked(lock: SharedLock, file: File, health: &Arc<Health>) -> Self {
        Self::writable(Handle::Locked(lock), file, StaysLocked::default(), true, health)
    }

    /// A file with redb on top.
    pub(super) fn writable(
        handle: Handle,
        file: File,
        stays_locked: StaysLocked,
        mapped: bool,
        health: &Arc<Health>,
    ) -> Self {
        let file = SameFile { file: Arc::new(file), mapped, stays_locked };
        Self { handle: Some(handle), file: Some(file), health: Arc::clone(health) }
    }

    /// Closes the handle and returns the file, still locked, for the next one.
    pub(super) fn close_for_next(mut self) -> io::Result<Option<File>> {
        let Some(same) = self.file.take() else {
            return Ok(None);
        };
        same.stays_locked.set();
        same.file.try_clone().map(Some)
    }

    pub(super) fn handle(&self) -> &Handle {
        match &self.handle {
            Some(handle) => handle,
            None => unreachable!("only dropping the file takes its handle"),
        }
    }

    pub(super) fn handle_mut(&mut self) -> &mut Handle {
        match &mut self.handle {
            Some(handle) => handle,
            None => unreachable!("only dropping the file takes its handle"),
        }
    }

    /// Pins the newest commit and looks at it; `None` when this file is not mapped.
    pub(super) fn look(self: &Arc<Self>, alive: &Alive, earlier: Option<&View>) -> Result<Option<View>> {
        let Some(same) = self.file.as_ref().filter(|same| same.mapped) else {
            return Ok(None);
        };
        let transaction = match self.handle() {
            Handle::Write(db) => Some(self.health.contain("read", "file", || Ok(db.begin_read()?))?),
            Handle::Read(_) | Handle::Locked(_) => None,
        };
        let pin = Arc::new(Pin { _transaction: transaction, _open: Arc::clone(self) });
        View::new(&same.file, pin, alive, earlier).map(Some)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        match self.handle.take() {
            // Nothing of redb's: it cannot panic, and must be released in any case.
            Some(Handle::Locked(lock)) => drop(lock),
            Some(handle) => self.health.close(handle),
            None => {}
        }
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.handle {
            Some(Handle::Write(_)) => "Write",
            Some(Handle::Read(_)) => "Read",
            Some(Handle::Locked(_)) => "Locked",
            None => "Closed",
        })
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}
