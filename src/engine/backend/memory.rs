//! A store in memory under redb. Memory needs no locks.

use std::{io, sync::Arc};

use redb::{StorageBackend, backends::InMemoryBackend};

/// Memory that outlives the database on top of it, so that it can be reopened after an error as a file can.
#[derive(Debug)]
pub(super) struct Kept(Arc<InMemoryBackend>);

impl Kept {
    pub(super) fn new(memory: Arc<InMemoryBackend>) -> Self {
        Self(memory)
    }
}

impl StorageBackend for Kept {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
