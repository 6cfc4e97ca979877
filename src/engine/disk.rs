//! What passes between the engine and the disk, shown to whoever wants to watch it or to make it fail.
//!
//! Every access to a store's file, and to the folder that names it, goes by a [`Disk`] if there is one. Tests stand in
//! for disks that are full, that fail, and that lose what was not synced; a store without one does not notice.

use std::{fmt, io, path::Path, sync::Arc};

/// One access, by the number of the open file. Numbers are not given out twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access<'a> {
    /// Bytes are read, other than through a map: see `Options::mapped`.
    Read {
        /// The file.
        file: u64,
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Bytes are written.
    Write {
        /// The file.
        file: u64,
        /// Where.
        offset: u64,
        /// What.
        data: &'a [u8],
    },
    /// Bytes become zeros, and their blocks are given back to the file system.
    Punch {
        /// The file.
        file: u64,
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The length is set.
    SetLen {
        /// The file.
        file: u64,
        /// The new length.
        bytes: u64,
    },
    /// What was written so far is made durable.
    Sync {
        /// The file.
        file: u64,
    },
    /// An existing file is opened.
    Open {
        /// The file.
        file: u64,
        /// Its name.
        path: &'a Path,
    },
    /// A new, empty file is made; without a name where that is possible.
    Create {
        /// The file.
        file: u64,
        /// Its name.
        path: Option<&'a Path>,
    },
    /// A file gets a name, in place of none.
    Link {
        /// The file.
        file: u64,
        /// The name.
        path: &'a Path,
    },
    /// A file gets the name of another one.
    Rename {
        /// The file.
        file: u64,
        /// The name before.
        from: &'a Path,
        /// The name after.
        to: &'a Path,
    },
    /// A name goes.
    Remove {
        /// The name.
        path: &'a Path,
    },
    /// The names in a folder are made durable.
    SyncFolder {
        /// The folder.
        path: &'a Path,
    },
    /// The file is mapped.
    Map {
        /// The file.
        file: u64,
        /// Bytes of address space.
        bytes: u64,
    },
    /// An archive that is held is about to be copied to memory of its own.
    Detach {
        /// The file.
        file: u64,
        /// Where it lies.
        offset: u64,
        /// Bytes of its pages.
        bytes: u64,
    },
}

/// How an access fails.
#[derive(Debug)]
pub struct Fault {
    /// Bytes of a write that reach the file all the same.
    pub written: usize,
    /// What the caller is told.
    pub error: io::Error,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self { written: 0, error }
    }
}

/// Watches what passes between a store and its disk, and may make it fail. Called on any thread, with locks held: it
/// must not use the store.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Called before an access.
    ///
    /// # Errors
    /// Whatever the access is to fail with; it does not take place then, or only in part.
    fn before(&self, access: &Access<'_>) -> Result<(), Fault>;

    /// Called after an access that did not fail.
    fn after(&self, access: &Access<'_>) {
        let _ = access;
    }
}

/// The disk of a store, if somebody watches it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Option<Arc<dyn Disk>>);

impl Watched {
    /// Watched by `disk`.
    pub(crate) fn by(disk: Arc<dyn Disk>) -> Self {
        Self(Some(disk))
    }

    /// Does `work`, which is `access`.
    pub(super) fn access<T>(&self, access: Access<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(disk) = &self.0 else {
            return work();
        };
        disk.before(&access).map_err(|fault| fault.error)?;
        let done = work()?;
        disk.after(&access);
        Ok(done)
    }

    /// Does a write of `data`, of which a fault may let a part pass.
    pub(super) fn write(
        &self,
        file: u64,
        offset: u64,
        data: &[u8],
        work: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(disk) = &self.0 else {
            return work(data);
        };
        let access = Access::Write { file, offset, data };
        match disk.before(&access) {
            Ok(()) => {
                work(data)?;
                disk.after(&access);
                Ok(())
            }
            Err(fault) => {
                let written = data.get(..fault.written).unwrap_or(data);
                if !written.is_empty() {
                    work(written)?;
                    disk.after(&Access::Write { file, offset, data: written });
                }
                Err(fault.error)
            }
        }
    }
}
