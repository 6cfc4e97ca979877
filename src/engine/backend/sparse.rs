//! A store's file under redb: zeros take no room.
//!
//! redb rounds a large value up to a power of two of pages, zeros behind it, and grows its file by doubling. Here the
//! zeros become holes, which read as zeros and take no disk space, so that what is allocated follows what is stored.

use std::{
    io,
    sync::{Arc, Weak},
};

use redb::StorageBackend;

use super::StoreFile;

/// Holes begin and end where blocks of file systems do.
const BLOCK_BYTES: usize = 4096;
/// Writes from this size on may have holes: the page of a chunk of bars or of an archive.
const HOLED_BYTES_MIN: usize = 4 * BLOCK_BYTES;
/// One byte in so many is not worth a hole, which takes some 25 us, and more of the sync behind it.
const ZEROS_SHARE_MIN: usize = 8;
/// Zeros that are worth a hole however long the write is.
const HOLE_BYTES_MIN: usize = 64 << 10;

/// Bytes of a large write after which the disk begins with them.
const WRITEBACK_BYTES: usize = 4 << 20;

/// The file of a store that is open for writing.
///
/// A handle of redb that panicked is never dropped. It must not keep the file open, and locked, for that.
#[derive(Debug)]
pub(super) struct Sparse(Weak<StoreFile>);

impl Sparse {
    pub(super) fn new(file: &Arc<StoreFile>) -> Self {
        Self(Arc::downgrade(file))
    }

    fn file(&self) -> io::Result<Arc<StoreFile>> {
        self.0.upgrade().ok_or_else(|| io::Error::other("the file is closed"))
    }
}

/// Returns how many bytes at the front of `data` must be written, the rest being zeros.
fn dense_len(data: &[u8]) -> usize {
    // All of a block at once: with a way out after each byte it is no loop for vectors.
    let is_zero = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    let zeros = data.rchunks(BLOCK_BYTES).take_while(|block| is_zero(block)).map(<[u8]>::len).sum::<usize>();
    let dense = (data.len() - zeros).next_multiple_of(BLOCK_BYTES).min(data.len());
    let worth = HOLE_BYTES_MIN.min(data.len() / ZEROS_SHARE_MIN);
    if data.len() < HOLED_BYTES_MIN || data.len() - dense < worth { data.len() } else { dense }
}

/// Writes `data`; what is large so that the disk has begun with the front when the end is written.
fn write_dense(file: &StoreFile, offset: u64, data: &[u8]) -> io::Result<()> {
    if data.len() < WRITEBACK_BYTES {
        return file.write_at(offset, data);
    }
    let mut at = offset;
    for part in data.chunks(WRITEBACK_BYTES) {
        file.write_at(at, part)?;
        file.begin_writeback(at, part.len() as u64)?;
        at += part.len() as u64;
    }
    Ok(())
}

impl StorageBackend for Sparse {
    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_at(&(offset..offset + out.len() as u64), out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        let (dense, zeros) = data.split_at(dense_len(data));
        write_dense(&file, offset, dense)?;
        if zeros.is_empty() {
            return Ok(());
        }
        let start = offset + dense.len() as u64;
        match file.punch(start, zeros.len() as u64) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "no holes in files here");
                file.write_at(start, zeros)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{disk::Watched, lock::Sharing};

    fn sparse() -> (tempfile::NamedTempFile, Arc<StoreFile>, Sparse) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let file = StoreFile::open(named.path(), Sharing::Exclusive, &Watched::default()).unwrap().unwrap();
        let file = Arc::new(file);
        let sparse = Sparse::new(&file);
        (named, file, sparse)
    }

    #[test]
    fn what_is_zero_at_the_end_is_not_written() {
        let block = BLOCK_BYTES;
        let data = |dense: usize, len: usize| [vec![1; dense], vec![0; len - dense]].concat();
        assert_eq!(dense_len(&data(1, 64 * block)), block);
        assert_eq!(dense_len(&data(block, 64 * block)), block);
        assert_eq!(dense_len(&data(block + 1, 64 * block)), 2 * block);
        assert_eq!(dense_len(&data(0, 64 * block)), 0);
        assert_eq!(dense_len(&data(9 * block, 16 * block)), 9 * block);
        assert_eq!(dense_len(&data(3 * block, 4 * block)), 3 * block);
        assert_eq!(dense_len(&data(58 * block, 64 * block)), 64 * block, "a hole of 6 blocks is not worth it");
        assert_eq!(dense_len(&data(block, 2 * block)), 2 * block, "nor one in two blocks");
        assert_eq!(dense_len(&data(1000 * block, 1016 * block)), 1000 * block);
        assert_eq!(dense_len(&[]), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn holes_take_no_room_and_read_as_zeros() {
        use std::os::unix::fs::MetadataExt;
        let (named, _file, backend) = sparse();
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
            let (_named, _file, backend) = sparse();
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
