//! A file that can be written to without changing: writes stay in memory.
//!
//! A file that was not closed cleanly has to be repaired before it can be read, and a repair writes. Through an overlay
//! the repair is done in memory, so that one can look whose file it is before touching it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

use super::Pages;

const PAGE: usize = 4096;

/// A file below, written pages above.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Pages,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    len: u64,
    /// Where the file below ends: what was once cut off reads as zeros if the length grows again.
    below_len: u64,
}

impl Overlay {
    pub(super) fn new(file: Pages) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, above: Mutex::new(Above { pages: BTreeMap::new(), len, below_len: len }) })
    }

    fn lock(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page of this number as it is in the file, zeros behind the end of it.
    fn below(&self, number: u64, below_len: u64) -> io::Result<Box<[u8; PAGE]>> {
        let mut page = Box::new([0; PAGE]);
        let start = number.saturating_mul(PAGE as u64);
        let there = below_len.saturating_sub(start).min(PAGE as u64);
        let there = usize::try_from(there).unwrap_or(PAGE);
        if let Some(part) = page.get_mut(..there).filter(|part| !part.is_empty()) {
            self.file.read_at(&(start..start + part.len() as u64), part)?;
        }
        Ok(page)
    }
}

/// The parts of pages that a range covers: page number, start in the page, length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(len as u64);
    let mut at = offset;
    std::iter::from_fn(move || {
        let (number, start) = (at / PAGE as u64, usize::try_from(at % PAGE as u64).ok()?);
        let length = usize::try_from(end.saturating_sub(at)).ok()?.min(PAGE - start);
        at += length as u64;
        (length > 0).then_some((number, start, length))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.lock();
        if offset.saturating_add(out.len() as u64) > above.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = &mut *out;
        for (number, start, length) in parts(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(length);
            let below;
            let page = match above.pages.get(&number) {
                Some(page) => page,
                None => {
                    below = self.below(number, above.below_len)?;
                    &below
                }
            };
            part.copy_from_slice(page.get(start..start + length).ok_or(io::ErrorKind::UnexpectedEof)?);
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut above = self.lock();
        if len < above.len {
            let (first, keep) = (len / PAGE as u64, usize::try_from(len % PAGE as u64).unwrap_or(0));
            let cut = above.pages.split_off(&first).remove(&first);
            if let Some(mut page) = cut.filter(|_| keep > 0) {
                page.iter_mut().skip(keep).for_each(|byte| *byte = 0);
                above.pages.insert(first, page);
            }
            above.below_len = above.below_len.min(len);
        }
        above.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.lock();
        let mut rest = data;
        for (number, start, length) in parts(offset, data.len()) {
            let (part, after) = rest.split_at(length);
            let below_len = above.below_len;
            let mut page = above.pages.remove(&number).map_or_else(|| self.below(number, below_len), Ok)?;
            page.get_mut(start..start + length).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(part);
            above.pages.insert(number, page);
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{disk::Watched, file::StoreFile, lock::Sharing};

    proptest! {
        #[test]
        fn it_reads_as_a_written_file_would_and_leaves_the_file_alone(
            content in prop::collection::vec(any::<u8>(), 0..9000),
            ops in prop::collection::vec((0u8..3, 0u64..20_000, prop::collection::vec(any::<u8>(), 0..6000)), 0..12),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("below");
            fs::write(&path, &content).unwrap();
            let file = StoreFile::open(&path, Sharing::Exclusive, &Watched::default()).unwrap().unwrap();
            let overlay = Overlay::new(Pages::File(Arc::new(file))).unwrap();
            let mut expected = content.clone();
            for (op, at, data) in ops {
                if op == 0 {
                    overlay.set_len(at).unwrap();
                    expected.resize(at as usize, 0);
                } else if at as usize + data.len() <= expected.len() {
                    overlay.write(at, &data).unwrap();
                    expected[at as usize..at as usize + data.len()].copy_from_slice(&data);
                }
                let mut found = vec![1; expected.len()];
                overlay.read(0, &mut found).unwrap();
                prop_assert!(found == expected);
                prop_assert_eq!(overlay.len().unwrap(), expected.len() as u64);
            }
            prop_assert!(overlay.read(expected.len() as u64, &mut [0]).is_err());
            prop_assert!(fs::read(&path).unwrap() == content);
        }
    }
}
