//! A store in memory under redb, with the bound on its size.
//!
//! The bound turns "the store ate the memory" into a typed error, as it does for files. Memory needs no locks.

use std::{io, sync::Arc};

use redb::{StorageBackend, backends::InMemoryBackend};

/// Refuses to grow to `len` bytes, if that is beyond the bound.
pub(super) fn check_growth(len: u64, bytes_max: u64, now: impl Fn() -> io::Result<u64>) -> io::Result<()> {
    if len > bytes_max && len > now()? {
        let message = format!("the store needs {len} bytes and may use {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::StorageFull, message));
    }
    Ok(())
}

/// Memory that outlives the database on top of it, so that it can be reopened after an error as a file can.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Arc<InMemoryBackend>,
    bytes_max: u64,
}

impl Bounded {
    pub(super) fn new(inner: Arc<InMemoryBackend>, bytes_max: u64) -> Self {
        Self { inner, bytes_max }
    }
}

impl StorageBackend for Bounded {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        check_growth(len, self.bytes_max, || self.inner.len())?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}
