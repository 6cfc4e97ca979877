//! A store's file under redb: zeros take no room, and growth is bounded.
//!
//! redb rounds a large value up to a power of two of pages, zeros behind it, and grows its file by doubling. Here the zeros
//! become holes, which read as zeros and take no disk space, so that what is allocated follows what is stored.
//!
//! Every other method is redb's file backend's, the six lock methods included: a wrapper that leaves them out silently
//! loses the file lock.

use std::{
    fs::File,
    io,
    ops::{Bound, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// Zeros at the end of a write that are worth a hole.
const HOLE_BYTES_MIN: usize = 64 << 10;
/// Holes begin and end where blocks of file systems do.
const BLOCK_BYTES: usize = 4096;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// The file of a store that is open for writing.
#[derive(Debug)]
pub(super) struct Sparse {
    inner: FileBackend,
    file: File,
    bytes_max: u64,
    stays_locked: StaysLocked,
}

/// Whether closing leaves the file locked, for the next handle on the same open file.
#[derive(Clone, Debug, Default)]
pub(super) struct StaysLocked(Arc<AtomicBool>);

impl StaysLocked {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Sparse {
    /// Takes the open `file`, which is not grown beyond `bytes_max`.
    pub(super) fn new(file: File, bytes_max: u64, stays_locked: StaysLocked) -> Result<Self, redb::Error> {
        let inner = FileBackend::new(file.try_clone()?)?;
        Ok(Self { inner, file, bytes_max, stays_locked })
    }
}

/// Returns how many bytes at the front of `data` must be written, the rest being zeros.
fn dense_len(data: &[u8]) -> usize {
    let zero_words = |block: &[u8]| block.iter().all(|&byte| byte == 0);
    let zeros = data.rchunks(BLOCK_BYTES).take_while(|block| zero_words(block)).map(<[u8]>::len).sum::<usize>();
    let dense = (data.len() - zeros).next_multiple_of(BLOCK_BYTES).min(data.len());
    if data.len() - dense < HOLE_BYTES_MIN { data.len() } else { dense }
}

impl StorageBackend for Sparse {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        super::memory::check_growth(len, self.bytes_max, || self.inner.len())?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (dense, zeros) = data.split_at(dense_len(data));
        self.inner.write(offset, dense)?;
        if zeros.is_empty() {
            return Ok(());
        }
        let start = offset + dense.len() as u64;
        match punch(&self.file, start, zeros.len() as u64) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "no holes in files here");
                self.inner.write(start, zeros)
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        if self.stays_locked.0.load(Ordering::Acquire) { Ok(()) } else { self.inner.close() }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// Gives back the blocks that lie within `range`, whose bytes nobody reads any more.
pub(super) fn give_back(file: &File, range: &Range<u64>) {
    let (start, end) = (range.start.next_multiple_of(BLOCK), range.end - range.end % BLOCK);
    if end.saturating_sub(start) < HOLE_BYTES_MIN as u64 {
        return;
    }
    if let Err(error) = punch(file, start, end - start) {
        tracing::debug!(%error, "no holes in files here");
    }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, start: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, len)?)
}

#[cfg(not(target_os = "linux"))]
fn punch(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sparse() -> (tempfile::NamedTempFile, Sparse) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let backend = Sparse::new(named.reopen().unwrap(), u64::MAX, StaysLocked::default()).unwrap();
        (named, backend)
    }

    #[test]
    fn what_is_zero_at_the_end_is_not_written() {
        let block = BLOCK_BYTES;
        let data = |dense: usize, len: usize| [vec![1; dense], vec![0; len - dense]].concat();
        assert_eq!(dense_len(&data(1, 64 * block)), block);
        assert_eq!(dense_len(&data(block, 64 * block)), block);
        assert_eq!(dense_len(&data(block + 1, 64 * block)), 2 * block);
        assert_eq!(dense_len(&data(0, 64 * block)), 0);
        assert_eq!(dense_len(&data(50 * block, 64 * block)), 64 * block, "a hole of 14 blocks is not worth it");
        assert_eq!(dense_len(&[]), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn holes_take_no_room_and_read_as_zeros() {
        use std::os::unix::fs::MetadataExt;
        let (named, backend) = sparse();
        backend.set_len(8 << 20).unwrap();
        let value = [vec![7; 5 << 20], vec![0; 3 << 20]].concat();
        // Over what was written there before, too.
        backend.write(0, &vec![9; 8 << 20]).unwrap();
        backend.write(0, &value).unwrap();
        let mut found = vec![1; 8 << 20];
        backend.read(0, &mut found).unwrap();
        assert!(found == value);
        backend.sync_data().unwrap();
        let allocated = named.as_file().metadata().unwrap().blocks() * 512;
        assert!(allocated <= (5 << 20) + (64 << 10), "{allocated}");
    }

    proptest! {
        #[test]
        fn it_reads_as_it_was_written(
            writes in prop::collection::vec((0usize..1 << 18, 0usize..1 << 18, 0usize..1 << 18, any::<u8>()), 1..8),
        ) {
            let (_named, backend) = sparse();
            let mut expected = vec![0; 3 << 18];
            backend.set_len(expected.len() as u64).unwrap();
            for (at, dense, zeros, byte) in writes {
                let data = [vec![byte; dense], vec![0; zeros]].concat();
                backend.write(at as u64, &data).unwrap();
                expected[at..at + data.len()].copy_from_slice(&data);
            }
            let mut found = vec![1; expected.len()];
            backend.read(0, &mut found).unwrap();
            prop_assert!(found == expected);
        }
    }
}
