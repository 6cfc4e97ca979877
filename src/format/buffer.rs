//! Memory that an archive is read in: aligned to 64 bytes, mapped with huge pages when it is large, or somebody else's.
//!
//! rkyv reads integers in place and so needs aligned bytes. Fresh memory is what a large load costs: the first touch
//! of ordinary 4 KiB pages runs several times slower than that of huge pages, so large buffers are anonymous maps
//! that ask for them.

use std::{convert::Infallible, fmt, io, ops::Deref};

use memmap2::MmapMut;
use rkyv::util::AlignedVec;

use super::huge_pages;
use crate::types::{invariant::Invariant, limits::HUGE_BUFFER_BYTES_MIN};

/// Alignment of every archive in memory, in bytes: a cache line.
pub(crate) const ALIGNMENT: usize = 64;

/// Bytes below which a copy costs less than memory that is not used.
const ROOMY_BYTES_MIN: usize = 64 << 10;

/// Bytes that start at a multiple of 64 and do not move.
pub(crate) struct AlignedBuf {
    inner: Inner,
    /// Bytes in front that do not belong to it.
    skipped: usize,
}

enum Inner {
    Heap(AlignedVec<ALIGNMENT>),
    Map(MmapMut),
    Borrowed(Box<dyn InPlace>),
}

/// Bytes that somebody else holds where they lie. They neither move nor change while this lives.
pub(crate) trait InPlace: fmt::Debug + Send + Sync {
    /// The bytes, always the same ones.
    fn bytes(&self) -> &[u8];

    /// Whether nothing is gained by [`populate`](InPlace::populate): the bytes are in memory, or so few that the first
    /// touch brings them all.
    fn is_at_hand(&self) -> bool;

    /// Brings bytes into memory that are not there yet: a part of them, from this offset on. Returns where to go on, or
    /// `None` at the end.
    fn populate(&self, from: usize) -> Option<usize>;
}

impl AlignedBuf {
    /// Returns a buffer with a copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() < HUGE_BUFFER_BYTES_MIN {
            // At least one byte: an empty vector would have no aligned address.
            let mut heap = AlignedVec::with_capacity(bytes.len().max(1));
            heap.extend_from_slice(bytes);
            return Ok(Inner::Heap(heap).into());
        }
        let mut map = huge_map(bytes.len())?;
        map.copy_from_slice(bytes);
        Ok(Inner::Map(map).into())
    }

    /// Takes a vector whose first `room` bytes are for [`with_front`](Self::with_front). A small one is copied instead,
    /// to take no more memory than its bytes.
    pub(crate) fn with_room(heap: AlignedVec<ALIGNMENT>, room: usize) -> Self {
        match heap.get(room..) {
            Some(bytes) if bytes.len() < ROOMY_BYTES_MIN => {
                let mut exact = AlignedVec::with_capacity(bytes.len().max(1));
                exact.extend_from_slice(bytes);
                Inner::Heap(exact).into()
            }
            _ => Self { inner: Inner::Heap(heap), skipped: room },
        }
    }

    /// Returns `lent` as a buffer; `None` when its bytes are not aligned.
    pub(crate) fn borrowed(lent: Box<dyn InPlace>) -> Option<Self> {
        lent.bytes().as_ptr().addr().is_multiple_of(ALIGNMENT).then_some(Inner::Borrowed(lent).into())
    }

    /// Returns the buffer without its first bytes; `None` when the rest would not be aligned.
    pub(crate) fn skip(mut self, bytes: usize) -> Option<Self> {
        self.skipped += bytes;
        self.skipped.is_multiple_of(ALIGNMENT).then_some(self)
    }

    /// Writes `front` right before the bytes, and returns it with them; `None` where there is no room that is its own.
    pub(crate) fn with_front(&mut self, front: &[u8]) -> Option<&[u8]> {
        let from = self.skipped.checked_sub(front.len())?;
        let Inner::Heap(heap) = &mut self.inner else {
            return None;
        };
        heap.get_mut(from..self.skipped)?.copy_from_slice(front);
        heap.get(from..)
    }

    /// Returns a buffer of `len` bytes, zeros at first, that `fill` has written to.
    pub(crate) fn filled<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> io::Result<Result<Self, E>> {
        if len < HUGE_BUFFER_BYTES_MIN {
            let mut heap = AlignedVec::with_capacity(len.max(1));
            heap.resize(len, 0);
            return Ok(fill(&mut heap).map(|()| Inner::Heap(heap).into()));
        }
        let mut map = huge_map(len)?;
        Ok(fill(&mut map).map(|()| Inner::Map(map).into()))
    }

    /// Returns a copy of `bytes`.
    pub(crate) fn copied(bytes: &[u8]) -> io::Result<Self> {
        let copy = |out: &mut [u8]| {
            out.copy_from_slice(bytes);
            Ok::<(), Infallible>(())
        };
        Self::filled(bytes.len(), copy).map(|copy| copy.unwrap_or_else(|never| match never {}))
    }

    /// Whether the bytes are somebody else's, who can let them be forgotten and read again.
    pub(crate) fn is_borrowed(&self) -> bool {
        matches!(self.inner, Inner::Borrowed(_))
    }

    /// Whether all bytes are at hand: see [`InPlace::is_at_hand`].
    pub(crate) fn is_at_hand(&self) -> bool {
        match &self.inner {
            Inner::Heap(_) | Inner::Map(_) => true,
            Inner::Borrowed(lent) => lent.is_at_hand(),
        }
    }

    /// Brings all bytes into memory that are not there yet, unless it is told to stop.
    pub(crate) fn populate(&self, stopped: impl Fn() -> bool) {
        let Inner::Borrowed(lent) = &self.inner else {
            return;
        };
        let mut at = Some(0);
        while let Some(from) = at.filter(|_| !stopped()) {
            at = lent.populate(from);
        }
    }
}

/// Returns room to serialise into: with huge pages when it is large.
pub(crate) fn room(bytes: usize) -> AlignedVec<ALIGNMENT> {
    let mut room = AlignedVec::with_capacity(bytes);
    if bytes >= HUGE_BUFFER_BYTES_MIN {
        huge_pages::advise(room.as_mut_ptr(), bytes);
    }
    room
}

impl From<Inner> for AlignedBuf {
    fn from(inner: Inner) -> Self {
        Self { inner, skipped: 0 }
    }
}

fn huge_map(len: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(len)?;
    // Advice: where the kernel refuses it, the pages are ordinary and everything works the same, only slower.
    #[cfg(all(target_os = "linux", not(miri)))]
    if let Err(err) = map.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%err, len, "no huge pages for this buffer");
    }
    Ok(map)
}

impl From<AlignedVec<ALIGNMENT>> for AlignedBuf {
    fn from(heap: AlignedVec<ALIGNMENT>) -> Self {
        Inner::Heap(heap).into()
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = match &self.inner {
            Inner::Heap(heap) => heap.as_slice(),
            Inner::Map(map) => map,
            Inner::Borrowed(lent) => lent.bytes(),
        };
        bytes.get(self.skipped..).always("what is skipped lies in the buffer")
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.inner {
            Inner::Heap(_) => "heap",
            Inner::Map(_) => "map",
            Inner::Borrowed(_) => "lent",
        };
        write!(f, "AlignedBuf({} bytes, {kind})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_both_kinds_are_aligned_and_hold_what_they_were_given() {
        for len in [0, 1, 4097, HUGE_BUFFER_BYTES_MIN, HUGE_BUFFER_BYTES_MIN + 3] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
            let copy = AlignedBuf::copy_of(&bytes).unwrap();
            assert_eq!(&*copy, &bytes[..]);
            assert_eq!(copy.as_ptr().addr() % ALIGNMENT, 0);
            let filled = AlignedBuf::filled(len, |out| {
                assert!(out.iter().all(|&b| b == 0));
                out.copy_from_slice(&bytes);
                Ok::<_, ()>(())
            });
            let filled = filled.unwrap().unwrap();
            assert_eq!(&*filled, &bytes[..]);
            assert_eq!(filled.as_ptr().addr() % ALIGNMENT, 0);
            assert!(AlignedBuf::filled(len, |_| Err(7)).unwrap().is_err());
        }
    }

    #[test]
    fn a_front_is_written_right_before_the_bytes_where_there_is_room() {
        for len in [0, ROOMY_BYTES_MIN - 1, ROOMY_BYTES_MIN, HUGE_BUFFER_BYTES_MIN + 5] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut heap = room(128 + len);
            heap.resize(128, 0);
            heap.extend_from_slice(&bytes);
            let mut buffer = AlignedBuf::with_room(heap, 128);
            let before = buffer.as_ptr();
            assert!(*buffer == bytes && before.addr().is_multiple_of(ALIGNMENT), "{len}");
            let whole = buffer.with_front(b"front").map(<[u8]>::to_vec);
            assert_eq!(whole, (len >= ROOMY_BYTES_MIN).then(|| [b"front".as_slice(), &bytes].concat()), "{len}");
            assert!(buffer.as_ptr() == before && *buffer == bytes, "{len}: it stays what and where it is");
            assert!(buffer.with_front(&[0; 129]).is_none(), "that is more than there is room for");
        }
        assert!(AlignedBuf::copy_of(&vec![1; 1 << 20]).unwrap().with_front(b"front").is_none());
    }
}
