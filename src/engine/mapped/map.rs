//! A shared, read-only map of the store's file: the one place where the file's bytes become memory.
//!
//! Whoever asks for a range gets a slice that must not change while it lives. That holds for pages of a commit that is
//! pinned (or of a file that is locked for reading), because redb never writes to a page that a commit can still reach;
//! so slices are made for such pages alone, one at a time, and never for the file as a whole. The header changes in
//! place and is read with `pread`.

#![allow(unsafe_code, reason = "mapping the file is what this file is for; see `Map::get`")]

use std::{
    fs::File,
    io,
    ops::Range,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use memmap2::{MmapOptions, MmapRaw};

use crate::engine::sparse;

/// Pages that are asked for to tell whether a range is in memory.
const PROBES: u64 = 6;

/// Address space that is mapped at least, and beyond the end of the file: it may grow that far under the same map.
/// Address space is not memory.
const HEADROOM_BYTES: u64 = 1 << 30;

/// A map of a file, from its first byte, readable as far as the file reaches.
#[derive(Debug)]
pub(super) struct Map {
    map: MmapRaw,
    file: Arc<File>,
    /// The advice that a new map begins with is still on.
    random: AtomicBool,
}

impl Map {
    /// Maps `file`, which has `file_len` bytes now, with room to grow.
    pub(super) fn new(file: &Arc<File>, file_len: u64) -> io::Result<Self> {
        let wanted = file_len.saturating_mul(2).max(HEADROOM_BYTES);
        let len = usize::try_from(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(len).map_raw_read_only(&**file);
        // Where address space is short, without the room.
        let map = map.or_else(|_| MmapOptions::new().map_raw_read_only(&**file))?;
        let map = Self { map, file: Arc::clone(file), random: AtomicBool::new(true) };
        // What is touched first lies here and there: a page each, and not what lies around it.
        map.advise(Expect::Random, &(0..wanted));
        Ok(map)
    }

    /// Whether a file of `file_len` bytes lies in the map.
    pub(super) fn covers(&self, file_len: u64) -> bool {
        file_len <= self.map.len() as u64
    }

    /// Returns a part of the map; `None` when the map ends before it.
    ///
    /// # Safety
    /// The file must reach that far, and its bytes there must not change while the slice lives: a pinned commit, or a
    /// file locked against writers, must reach these pages, and go on doing so.
    pub(super) unsafe fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        if start > end || end > self.map.len() {
            return None;
        }
        let at = self.map.as_ptr().wrapping_add(start);
        // SAFETY: the range lies in the map, which lives as long as the slice; the caller vouches for the rest.
        Some(unsafe { slice::from_raw_parts(at, end - start) })
    }

    /// Tells the kernel that from here on bytes are read in order, too. Without it every page is a read of its own.
    pub(super) fn expect_order(&self) {
        if self.random.swap(false, Ordering::Relaxed) {
            self.advise(Expect::Order, &(0..self.map.len() as u64));
        }
    }

    /// Whether the operating system has `range` in memory, as far as a few pages can tell.
    pub(super) fn is_resident(&self, range: &Range<u64>) -> bool {
        let step = (range.end - range.start) / PROBES + 1;
        range.clone().step_by(usize::try_from(step).unwrap_or(usize::MAX)).all(|at| is_resident(&self.file, at))
    }

    /// Gives the blocks of `range` back to the file system. The caller has made sure that nobody reads them.
    pub(super) fn give_back(&self, range: &Range<u64>) {
        sparse::give_back(&self.file, range);
    }

    /// Brings all of `range` into memory and into the page table.
    pub(super) fn populate(&self, range: &Range<u64>) {
        self.expect_order();
        self.advise(Expect::All, range);
    }

    /// Advice that the kernel does not know, or refuses, costs time and nothing else.
    #[cfg(unix)]
    fn advise(&self, expect: Expect, range: &Range<u64>) {
        use memmap2::Advice;
        let advice = match expect {
            Expect::Random => Advice::Random,
            Expect::Order => Advice::Normal,
            #[cfg(target_os = "linux")]
            Expect::All => Advice::PopulateRead,
            #[cfg(not(target_os = "linux"))]
            Expect::All => Advice::WillNeed,
        };
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
            return;
        };
        let end = end.min(self.map.len());
        if let Err(err) = self.map.advise_range(advice, start, end.saturating_sub(start)) {
            tracing::debug!(%err, ?advice, "the kernel takes no advice");
        }
    }

    /// Where nothing is mapped, nobody needs advice.
    #[cfg(not(unix))]
    fn advise(&self, _: Expect, _: &Range<u64>) {}
}

/// How a range is going to be read.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// A page here and a page there.
    Random,
    /// In order.
    Order,
    /// All of it, soon.
    All,
}

/// Whether the byte at `offset` can be read without waiting for a disk.
#[cfg(target_os = "linux")]
fn is_resident(file: &File, offset: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut byte = [0];
    // A kernel or a file system that cannot tell has it read in advance, to be sure.
    preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
}

#[cfg(not(target_os = "linux"))]
fn is_resident(_: &File, _: u64) -> bool {
    false
}
