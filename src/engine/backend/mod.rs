//! What redb writes through: the file of a store or memory, behind a fence.
//!
//! redb is told that it has every lock it asks for, because the engine holds them, for longer than redb would; and
//! closing closes nothing. Once its [`Fence`] is shut, a handle that is still about cannot write: not one that met an
//! I/O error and was replaced, not one that is leaked because redb panicked in it.

mod memory;
mod overlay;
mod skim;
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

use memory::Kept;
use overlay::Overlay;
pub(super) use skim::Skim;
use skim::Skims;
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
    is_unbound: AtomicBool,
    skims: Skims,
}

impl Fence {
    /// From here on nothing is written.
    pub(super) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::Release);
    }

    /// From here on the pages are not grown beyond their bound.
    pub(super) fn set_bound(&self) {
        self.0.is_unbound.store(false, Ordering::Release);
    }

    /// From here on the pages may be grown to twice their bound: for what is written in order to free others.
    pub(super) fn lift_bound(&self) {
        self.0.is_unbound.store(true, Ordering::Release);
    }

    /// As long as what it returns lives, redb gets the fronts of large leaves alone, which must be all that it needs.
    pub(super) fn skim(&self) -> Skim<'_> {
        self.0.skims.begin()
    }

    /// What `bytes_max` is now.
    fn bound(&self, bytes_max: u64) -> u64 {
        if self.0.is_unbound.load(Ordering::Acquire) { bytes_max.saturating_mul(2) } else { bytes_max }
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
    bytes_max: u64,
    cache_bytes: usize,
}

impl Fenced {
    /// Takes `pages`, which are not grown beyond `bytes_max` as long as the fence keeps the bound; for redb with a
    /// cache of `cache_bytes`.
    pub(super) fn new(pages: &Pages, bytes_max: u64, cache_bytes: usize, fence: &Fence) -> Self {
        let pages: Box<dyn StorageBackend> = match pages {
            Pages::File(file) => Box::new(Sparse::new(file)),
            Pages::Memory(memory, _) => Box::new(Kept::new(Arc::clone(memory))),
        };
        Self { pages, fence: fence.clone(), bytes_max, cache_bytes }
    }

    /// The same pages, which are not changed by what is written.
    pub(super) fn overlay(pages: &Pages) -> io::Result<Self> {
        let pages = Box::new(Overlay::new(pages.clone())?);
        Ok(Self { pages, fence: Fence::default(), bytes_max: u64::MAX, cache_bytes: usize::MAX })
    }
}

/// The error for pages that would grow beyond their bound.
fn too_large(len: u64, bytes_max: u64) -> io::Error {
    let message = format!("the store needs {len} bytes and may use {bytes_max}");
    io::Error::new(io::ErrorKind::StorageFull, message)
}

impl StorageBackend for Fenced {
    fn len(&self) -> io::Result<u64> {
        self.pages.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.fence.0.skims.read(self.cache_bytes, offset, out, |offset, out| self.pages.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fence.pass(|| {
            let bytes_max = self.fence.bound(self.bytes_max);
            if len > bytes_max && len > self.pages.len()? {
                return Err(too_large(len, bytes_max));
            }
            self.pages.set_len(len)
        })
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
