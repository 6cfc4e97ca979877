//! redb's own file lock, taken for reading without redb.
//!
//! The ranges, their order and the probe are those of redb 4.4's `TransactionalMemory::lock_whole_storage`, so that a
//! writer that is opened by redb, here or in another process, and readers that are opened by either exclude each other
//! as they should. The locks themselves are taken by redb's file backend.

use std::{fs::File, ops::Bound};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use super::open::os_error;
use crate::error::{Error, ErrorKind, Result};

const BASE: u64 = 1 << 62;
const SHARED_WRITER: u64 = BASE + 1;
const RESERVED_START: u64 = BASE + 896;
const RESERVED_END: u64 = BASE + 1024;

type Span = (Bound<u64>, Bound<u64>);

const SUFFIX: Span = (Bound::Included(RESERVED_END), Bound::Unbounded);
const MIDDLE: Span = (Bound::Excluded(SHARED_WRITER), Bound::Excluded(RESERVED_START));
const PREFIX: Span = (Bound::Unbounded, Bound::Excluded(SHARED_WRITER));
const WHOLE: Span = (Bound::Unbounded, Bound::Unbounded);
const WRITERS: Span = (Bound::Included(SHARED_WRITER), Bound::Included(SHARED_WRITER));

/// A lock that other readers share and writers do not get past. Held until it is dropped.
#[derive(Debug)]
pub(super) struct SharedLock(FileBackend);

impl SharedLock {
    /// Locks `file`.
    pub(super) fn take(file: File, subject: &str) -> Result<Self> {
        let backend = FileBackend::new(file).map_err(|err| super::health::translate("open", subject, err.into()))?;
        let lock = Self(backend);
        match lock.ranges() {
            Ok(true) => Ok(lock),
            Ok(false) => Err(super::health::translate("open", subject, redb::Error::DatabaseAlreadyOpen)),
            Err(BackendError::Io(err)) => Err(os_error(subject, err)),
            Err(err) => Err(Error::new(ErrorKind::Io, "open", subject, "the file cannot be locked").with_source(err)),
        }
    }

    fn ranges(&self) -> Result<bool, BackendError> {
        for (start, end) in [SUFFIX, MIDDLE, PREFIX] {
            match self.0.try_lock_shared_range(start, end) {
                Ok(true) => {}
                Err(BackendError::Unsupported) => return self.whole(),
                other => return other,
            }
        }
        // Several processes that write together hold only this one.
        self.0.query_lock_range(WRITERS.0, WRITERS.1).map(|taken| !taken)
    }

    /// Where there are no locks of ranges, and nowhere else.
    fn whole(&self) -> Result<bool, BackendError> {
        match self.0.try_lock_shared_range(WHOLE.0, WHOLE.1) {
            // No locks at all: redb goes on without, and so do we.
            Err(BackendError::Unsupported) => Ok(true),
            other => other,
        }
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.close() {
            tracing::warn!(%error, "a file lock is left to the end of the process");
        }
    }
}
