//! A shared, read-only map of the store's file: the one place where the file's bytes become memory.
//!
//! Whoever asks for a range gets a slice that must not change while it lives. That holds for pages of a commit that is
//! pinned (or of a file that is locked for reading), because redb never writes to a page that a commit can still reach;
//! so slices are made for such pages alone, one at a time, and never for the file as a whole. The header changes in
//! place and is read with `pread`.

#![allow(unsafe_code, reason = "mapping the file is what this file is for; see `Map::get`")]

use std::{fs::File, io, ops::Range, slice};

use memmap2::{MmapOptions, MmapRaw};

/// Address space that is mapped at least, and beyond the end of the file: it may grow that far under the same map.
/// Address space is not memory.
const HEADROOM_BYTES: u64 = 1 << 30;

/// A map of a file, from its first byte, readable as far as the file reaches.
#[derive(Debug)]
pub(super) struct Map {
    map: MmapRaw,
}

impl Map {
    /// Maps `file`, which has `file_len` bytes now, with room to grow.
    pub(super) fn new(file: &File, file_len: u64) -> io::Result<Self> {
        let wanted = file_len.saturating_mul(2).max(HEADROOM_BYTES);
        let len = usize::try_from(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(len).map_raw_read_only(file);
        // Where address space is short, without the room.
        let map = map.or_else(|_| MmapOptions::new().map_raw_read_only(file))?;
        Ok(Self { map })
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

    /// Tells the kernel that `range` is read in no order: what is touched first is read from disk alone.
    pub(super) fn expect_random(&self, range: &Range<u64>) {
        self.advise(memmap2::Advice::Random, range);
    }

    /// Takes the advice back and brings all of `range` into memory and into the page table.
    pub(super) fn populate(&self, range: &Range<u64>) {
        self.advise(memmap2::Advice::Normal, range);
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::PopulateRead, range);
        #[cfg(not(target_os = "linux"))]
        self.advise(memmap2::Advice::WillNeed, range);
    }

    /// Advice that the kernel does not know, or refuses, costs time and nothing else.
    fn advise(&self, advice: memmap2::Advice, range: &Range<u64>) {
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
            return;
        };
        if let Err(err) = self.map.advise_range(advice, start, end.saturating_sub(start)) {
            tracing::debug!(%err, ?advice, "the kernel takes no advice");
        }
    }
}
