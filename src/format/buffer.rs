//! Memory that an archive is read in: aligned to 64 bytes, mapped with huge pages when it is large.
//!
//! rkyv reads integers in place and so needs aligned bytes. Fresh memory is what a large load costs: the first touch
//! of ordinary 4 KiB pages runs several times slower than that of huge pages, so large buffers are anonymous maps
//! that ask for them.

use std::{fmt, io, ops::Deref};

use memmap2::MmapMut;
use rkyv::util::AlignedVec;

use crate::limits::HUGE_BUFFER_BYTES_MIN;

/// Alignment of every archive in memory, in bytes: a cache line.
pub(crate) const ALIGNMENT: usize = 64;

/// Bytes that start at a multiple of 64 and do not move.
pub(crate) struct AlignedBuf(Inner);

enum Inner {
    Heap(AlignedVec<ALIGNMENT>),
    Map(MmapMut),
}

impl AlignedBuf {
    /// Returns a buffer with a copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() < HUGE_BUFFER_BYTES_MIN {
            // At least one byte: an empty vector would have no aligned address.
            let mut heap = AlignedVec::with_capacity(bytes.len().max(1));
            heap.extend_from_slice(bytes);
            return Ok(Self(Inner::Heap(heap)));
        }
        let mut map = huge_map(bytes.len())?;
        map.copy_from_slice(bytes);
        Ok(Self(Inner::Map(map)))
    }

    /// Returns a buffer of `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        if len < HUGE_BUFFER_BYTES_MIN {
            let mut heap = AlignedVec::with_capacity(len.max(1));
            heap.resize(len, 0);
            return Ok(Self(Inner::Heap(heap)));
        }
        Ok(Self(Inner::Map(huge_map(len)?)))
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Inner::Heap(heap) => heap.as_mut_slice(),
            Inner::Map(map) => map,
        }
    }
}

fn huge_map(len: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(len)?;
    // Advice: where the kernel refuses it, the pages are ordinary and everything works the same, only slower.
    #[cfg(target_os = "linux")]
    if let Err(err) = map.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%err, len, "no huge pages for this buffer");
    }
    Ok(map)
}

impl From<AlignedVec<ALIGNMENT>> for AlignedBuf {
    fn from(heap: AlignedVec<ALIGNMENT>) -> Self {
        Self(Inner::Heap(heap))
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Heap(heap) => heap.as_slice(),
            Inner::Map(map) => map,
        }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Inner::Heap(_) => "heap",
            Inner::Map(_) => "map",
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
            let mut zeroed = AlignedBuf::zeroed(len).unwrap();
            assert!(zeroed.iter().all(|&b| b == 0));
            zeroed.as_mut_slice().copy_from_slice(&bytes);
            assert_eq!(&*zeroed, &bytes[..]);
            assert_eq!(zeroed.as_ptr().addr() % ALIGNMENT, 0);
        }
    }
}
