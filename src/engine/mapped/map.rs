//! A shared, read-only map of the store's file: the one place where the file's bytes become memory.
//!
//! Whoever asks for a range gets a slice that must not change while it lives. That holds for pages of a commit that is
//! pinned (or of a file that nobody writes), because redb never writes to a page that a commit can still reach; so
//! slices are made for such pages alone, one at a time, and never for the file as a whole. The header changes in place
//! and is read with `pread`.
//!
//! An archive that leaves the file while it is held is *detached*: its pages are copied to memory of their own, which
//! takes their place in the map, at the same addresses and in one step. A map in which that happened is retired: pages
//! of later commits must not be looked for in it.

#![allow(unsafe_code, reason = "mapping the file is what this file is for; see `Map::get`")]

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    memory::{self, Advice},
    pins::HeldBytes,
};
use crate::{
    engine::{
        disk::Access,
        file::{StoreFile, draw_number},
    },
    format::prefetch,
    types::limits::{DETACHED_MAX, POPULATE_BYTES},
};

/// Pages that are asked for to tell whether a range is in memory.
const PROBES: u64 = 6;

/// Bytes of a page that are asked for in advance, at most. More are more than the processor has room for; who reads
/// this much in order gets the rest in time.
const PREFETCHED_BYTES: u64 = 2048;

/// Bytes that the kernel reads around a page that is touched, where it is not told that pages are read at random.
const READ_AROUND_BYTES: usize = 128 << 10;

/// Address space that is mapped beyond the end of the file at least: it may grow that far under the same map. Address
/// space is not memory.
const HEADROOM_BYTES: u64 = 1 << 30;

/// A map of a file, from its first byte, readable as far as the file reaches.
pub(in crate::engine) struct Map {
    number: u64,
    at: usize,
    len: usize,
    file: Arc<StoreFile>,
    /// The advice that a new map begins with is still on.
    random: AtomicBool,
    /// Something was detached, or is about to be.
    retired: AtomicBool,
    parts: Arc<Mutex<Parts>>,
}

/// What belongs to whom in the addresses of a map.
#[derive(Debug)]
struct Parts {
    /// The map is in use: its addresses must stay readable.
    live: bool,
    /// Ranges of addresses, by their starts, that have memory of their own: how long they are, and the number of the
    /// one that gave it to them.
    detached: BTreeMap<usize, (usize, u64)>,
}

impl Map {
    /// Maps `file`, which has `file_bytes` now, with room to grow.
    pub(in crate::engine) fn new(file: &Arc<StoreFile>, file_bytes: u64) -> io::Result<Self> {
        let map = |bytes: u64| {
            let len = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
            let access = Access::Map { file: file.number(), bytes };
            file.disk().access(access, || memory::map_file(file.file(), len)).map(|at| (at, len))
        };
        let room = file_bytes.max(HEADROOM_BYTES);
        // Where address space is short, without the room.
        let (at, len) = map(file_bytes.saturating_add(room)).or_else(|_| map(file_bytes))?;
        let parts = Arc::new(Mutex::new(Parts { live: true, detached: BTreeMap::new() }));
        let (random, retired) = (AtomicBool::new(true), AtomicBool::new(false));
        let map = Self { number: draw_number(), at, len, file: Arc::clone(file), random, retired, parts };
        // What is touched first lies here and there: a page each, and not what lies around it.
        map.advise(Advice::Random, &(0..map.len as u64));
        Ok(map)
    }

    /// Whether the pages of a commit that was published already may be looked for in the map of a file of `file_bytes`.
    pub(in crate::engine) fn serves(&self, file: &Arc<StoreFile>, file_bytes: u64) -> bool {
        Arc::ptr_eq(&self.file, file) && file_bytes <= self.len as u64 && !self.retired.load(Ordering::Acquire)
    }

    /// A number that no other map of this process has.
    fn number(&self) -> u64 {
        self.number
    }

    /// Returns a part of the map; `None` when the map ends before it.
    ///
    /// # Safety
    /// The file must reach that far, and its bytes there must not change while the slice lives: a pinned commit, or a
    /// file that nobody writes, must reach these pages, and go on doing so.
    #[inline]
    pub(in crate::engine) unsafe fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        if start > end || end > self.len {
            return None;
        }
        let at = memory::pointer(self.at + start);
        // SAFETY: the range lies in the map, which lives as long as the slice; the caller vouches for the rest.
        Some(unsafe { slice::from_raw_parts(at, end - start) })
    }

    /// Asks the processor for the front of a range, which is going to be read soon. A part that is not mapped is
    /// left out, and one that is not in memory.
    pub(in crate::engine) fn will_read(&self, range: &Range<u64>) {
        let end = range.end.min(range.start.saturating_add(PREFETCHED_BYTES)).min(self.len as u64);
        if let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(end)) {
            (start..end).step_by(prefetch::LINE_BYTES).for_each(|at| prefetch::line(self.at + at));
        }
    }

    /// Tells the kernel that from here on bytes are read in order, too. Without it every page is a read of its own.
    pub(in crate::engine) fn expect_order(&self) {
        if self.random.swap(false, Ordering::Relaxed) {
            self.advise(Advice::Normal, &(0..self.len as u64));
        }
    }

    /// Advice that the kernel does not know, or refuses, costs time and nothing else.
    fn advise(&self, advice: Advice, range: &Range<u64>) {
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
            return;
        };
        let end = end.min(self.len);
        if let Err(err) = memory::advise(self.at + start, end.saturating_sub(start), advice) {
            tracing::debug!(%err, ?advice, "the kernel takes no advice");
        }
    }

    /// Gives `pages`, which must be whole pages of the system, memory of their own with the same bytes.
    fn detach(&self, pages: &Range<u64>) -> io::Result<Detached> {
        let (Ok(start), Ok(end)) = (usize::try_from(pages.start), usize::try_from(pages.end)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let page = memory::page_bytes();
        if end > self.len || start >= end || !start.is_multiple_of(page) || !end.is_multiple_of(page) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the pages of the system are larger than redb's"));
        }
        if Detached::count() >= DETACHED_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many archives have memory of their own"));
        }
        // Before anything changes: a commit that reuses these pages comes later, and must not be looked at in this map.
        self.retired.store(true, Ordering::Release);
        let access = Access::Detach { file: self.file.number(), offset: pages.start, bytes: pages.end - pages.start };
        let (at, len) = (self.at + start, end - start);
        let fill = |out: &mut [u8]| self.file.read_at(pages, out);
        // SAFETY: they are whole pages of this map, which no write reaches before they are let go of: what is read from
        // the file is what is read in the map.
        let copy = || unsafe { memory::copy_over(at, len, fill, || lock(&self.parts)) };
        let copied = self.file.disk().access(access, copy);
        match copied {
            Ok(mut parts) => {
                let detached = Detached::new(at, len, self, pages.start);
                parts.detached.insert(at, (len, detached.number));
                Ok(detached)
            }
            Err(err) => {
                // SAFETY: they are pages of this map, and the file has what it had.
                unsafe { memory::restore(at, len, self.file.file(), pages.start) };
                Err(err)
            }
        }
    }
}

fn lock(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Map {
    fn drop(&mut self) {
        let mut parts = lock(&self.parts);
        parts.live = false;
        // What is detached belongs to those who hold it.
        let mut from = self.at;
        for (&at, &(len, _)) in &parts.detached {
            // SAFETY: what lies between is this map's, and nobody has it any more.
            unsafe { memory::unmap(from, at - from) };
            from = at + len;
        }
        // SAFETY: as above.
        unsafe { memory::unmap(from, self.at + self.len - from) };
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({:?}, {} bytes)", self.file, self.len)
    }
}

/// Pages that have memory of their own in the addresses of a map.
#[derive(Debug)]
struct Detached {
    number: u64,
    at: usize,
    len: usize,
    parts: Arc<Mutex<Parts>>,
    /// The map's file, and where the pages lay in it.
    file: Weak<StoreFile>,
    offset: u64,
}

/// How many there are.
static DETACHED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

impl Detached {
    fn new(at: usize, len: usize, map: &Map, offset: u64) -> Self {
        DETACHED.fetch_add(1, Ordering::Relaxed);
        let (parts, file) = (Arc::clone(&map.parts), Arc::downgrade(&map.file));
        Self { number: draw_number(), at, len, parts, file, offset }
    }

    fn count() -> usize {
        DETACHED.load(Ordering::Relaxed)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        DETACHED.fetch_sub(1, Ordering::Relaxed);
        let mut parts = lock(&self.parts);
        // Somebody who still read the commit that had these pages may hold them anew, and have given them other memory.
        if parts.detached.get(&self.at).is_none_or(|&(_, owner)| owner != self.number) {
            return;
        }
        match self.file.upgrade() {
            // A view of the commit that had these pages may still look at them. What cannot be mapped again stays as it
            // is, and goes with the map.
            Some(file) if parts.live => {
                // SAFETY: the addresses are a part of the map that is still there, and whoever looks at them reads the
                // commit that had these pages, which its pin keeps in the file.
                if unsafe { memory::map_over(self.at, self.len, file.file(), self.offset) }.is_ok() {
                    tracing::trace!(at = self.at, "an archive that was detached is let go of");
                }
                parts.detached.remove(&self.at);
            }
            _ => {
                parts.detached.remove(&self.at);
                // SAFETY: the map is gone, and these addresses were left to this.
                unsafe { memory::unmap(self.at, self.len) };
            }
        }
    }
}

/// The bytes of one archive where they lie in a map: always the same bytes, at the same addresses.
#[derive(Debug)]
pub(in crate::engine) struct MappedRange {
    at: usize,
    len: usize,
    /// In the file.
    range: Range<u64>,
    /// The number of the map that they were taken from.
    map: u64,
    backing: Mutex<Backing>,
}

#[derive(Debug)]
enum Backing {
    /// The file, in a map of it.
    Map(Arc<Map>),
    /// Memory of their own, in the addresses of a map that may be gone.
    Detached { _memory: Detached },
}

impl MappedRange {
    /// Takes a part of a map; `None` when the map ends before it.
    ///
    /// # Safety
    /// The bytes stay what they are until they are detached, or until this is dropped: a pin keeps their pages.
    pub(in crate::engine) unsafe fn new(map: &Arc<Map>, range: Range<u64>) -> Option<Self> {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        if start > end || end > map.len {
            return None;
        }
        let (at, len) = (map.at + start, end - start);
        Some(Self { at, len, range, map: map.number, backing: Mutex::new(Backing::Map(Arc::clone(map))) })
    }

    fn backing(&self) -> MutexGuard<'_, Backing> {
        self.backing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes.
    pub(in crate::engine) fn bytes(&self) -> &[u8] {
        // SAFETY: these addresses are mapped as long as this lives: by the map that it holds, or by memory of its own,
        // which took their place in one step and holds the same bytes. As long as they are the map's, the pins keep the
        // pages from being written to; see `PinRegistry`.
        unsafe { slice::from_raw_parts(memory::pointer(self.at), self.len) }
    }

    /// Whether they were taken from this very map.
    pub(in crate::engine) fn is_of(&self, map: &Map) -> bool {
        self.map == map.number()
    }

    /// Says that all of it is going to be read, in order.
    pub(in crate::engine) fn expect_order(&self) {
        if let Backing::Map(map) = &*self.backing() {
            map.expect_order();
        }
    }

    /// Whether the bytes are in memory already; if so, the kernel is told that they are read in order, too. Few bytes
    /// count as such once that was said: what is touched first brings the others along.
    pub(in crate::engine) fn is_at_hand(&self) -> bool {
        let Backing::Map(map) = &*self.backing() else {
            return true;
        };
        if self.len <= READ_AROUND_BYTES && !map.random.load(Ordering::Relaxed) {
            return true;
        }
        let step = (self.range.end - self.range.start) / PROBES + 1;
        let mut probes = self.range.clone().step_by(usize::try_from(step).unwrap_or(usize::MAX));
        let resident = probes.all(|at| is_resident(map.file.file(), at));
        if resident {
            map.expect_order();
        }
        resident
    }

    /// Brings some bytes from the offset `from` on into memory, in one large read. Returns where to go on.
    pub(in crate::engine) fn populate(&self, from: usize) -> Option<usize> {
        let map = match &*self.backing() {
            Backing::Map(map) => Arc::clone(map),
            Backing::Detached { .. } => return None,
        };
        let start = self.range.start + from as u64;
        let end = start.saturating_add(POPULATE_BYTES as u64).min(self.range.end);
        map.expect_order();
        map.advise(Advice::Populate, &(start..end));
        (end < self.range.end).then_some(from + POPULATE_BYTES)
    }
}

impl HeldBytes for MappedRange {
    fn bytes(&self) -> &[u8] {
        Self::bytes(self)
    }

    fn detach(&self, pages: &Range<u64>) -> io::Result<()> {
        let mut backing = self.backing();
        let Backing::Map(map) = &*backing else {
            return Ok(());
        };
        let memory = map.detach(pages)?;
        *backing = Backing::Detached { _memory: memory };
        Ok(())
    }
}

/// Whether the byte at `offset` can be read without waiting for a disk.
#[cfg(target_os = "linux")]
fn is_resident(file: &std::fs::File, offset: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut byte = [0];
    // A kernel or a file system that cannot tell has it read in advance, to be sure.
    preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
}

#[cfg(not(target_os = "linux"))]
fn is_resident(_: &std::fs::File, _: u64) -> bool {
    false
}
