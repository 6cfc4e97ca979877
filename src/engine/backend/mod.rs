//! What redb writes through: the file of a store or memory, behind a fence.
//!
//! redb is told that it has every lock it asks for, because the engine holds them, for longer than redb would; and
//! closing closes nothing. Once its [`Fence`] is shut, a handle that is still about cannot write: not one that met an
//! I/O error and was replaced, not one that is leaked because redb panicked in it.

mod memory;
mod overlay;
mod sparse;

use std::{
    io,
    ops::{Bound, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{BackendError, StorageBackend, backends::InMemoryBackend};

use memory::Bounded;
use overlay::Overlay;
use sparse::Sparse;

use super::file::{StoreFile, draw_number};

/// Where the pages of a store are.
#[derive(Clone, Debug)]
pub(super) enum Pages {
    File(Arc<StoreFile>),
    Memory(Arc<InMemoryBackend>, u64),
}

impl Pages {
    /// Fresh memory.
    pub(super) fn in_memory() -> Self {
        Self::Memory(Arc::new(InMemoryBackend::new()), draw_number())
    }

    /// Bytes that there are.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(memory, _) => memory.len(),
        }
    }

    /// Reads all of `range` into `out`, which is as long.
    pub(super) fn read_at(&self, range: &Range<u64>, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_at(range, out),
            Self::Memory(memory, _) => memory.read(range.start, out),
        }
    }

    /// A number that no other open file, or memory, of this process has.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::File(file) => file.number(),
            Self::Memory(_, number) => *number,
        }
    }
}

/// What keeps a handle that was replaced from writing.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence(Arc<FenceState>);

#[derive(Debug, Default)]
struct FenceState {
    is_shut: AtomicBool,
    has_failed: AtomicBool,
}

impl Fence {
    /// From here on nothing is written.
    pub(super) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::Release);
    }

    /// Whether a write or a sync failed.
    pub(super) fn has_failed(&self) -> bool {
        self.0.has_failed.load(Ordering::Acquire)
    }

    /// Does `write`, unless the fence is shut.
    fn pass(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.0.is_shut.load(Ordering::Acquire) {
            return Err(io::Error::other("this handle was replaced"));
        }
        write().inspect_err(|_| self.0.has_failed.store(true, Ordering::Release))
    }
}

/// Pages that redb reads and writes, for as long as the fence is open.
#[derive(Debug)]
pub(super) struct Fenced {
    pages: Box<dyn StorageBackend>,
    fence: Fence,
}

impl Fenced {
    /// Takes `pages`, which are not grown beyond `bytes_max`.
    pub(super) fn new(pages: &Pages, bytes_max: u64, fence: &Fence) -> Self {
        let pages: Box<dyn StorageBackend> = match pages {
            Pages::File(file) => Box::new(Sparse::new(file, bytes_max)),
            Pages::Memory(memory, _) => Box::new(Bounded::new(Arc::clone(memory), bytes_max)),
        };
        Self { pages, fence: fence.clone() }
    }

    /// The same pages, which are not changed by what is written.
    pub(super) fn overlay(pages: &Pages) -> io::Result<Self> {
        Ok(Self { pages: Box::new(Overlay::new(pages.clone())?), fence: Fence::default() })
    }
}

impl StorageBackend for Fenced {
    fn len(&self) -> io::Result<u64> {
        self.pages.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.pages.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fence.pass(|| self.pages.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fence.pass(|| self.pages.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fence.pass(|| self.pages.write(offset, data))
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
