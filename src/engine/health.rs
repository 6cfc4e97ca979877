//! What the engine remembers of redb's failures, and the translation of its errors.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    engine::open_files::Opener,
    sync::panics::panic_text,
    types::error::{Error, ErrorKind, Result},
};

/// Flags that outlive a transaction.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// An I/O error latched redb's handle: it answers nothing until it is reopened.
    latched: AtomicBool,
    /// redb panicked: its destructor may panic again, so the handle must not be dropped.
    panicked: AtomicBool,
}

impl Health {
    /// Runs `work`, turning redb's errors into ours and a panic inside redb into [`ErrorKind::Corrupt`].
    pub(super) fn contain<T>(
        &self,
        operation: &'static str,
        subject: &str,
        work: impl FnOnce() -> Result<T, redb::Error>,
    ) -> Result<T> {
        self.contain_panic(operation, subject, || {
            work().map_err(|err| {
                if matches!(err, redb::Error::Io(_) | redb::Error::PreviousIo) {
                    self.latched.store(true, Ordering::Release);
                }
                translate(operation, subject, err)
            })
        })
    }

    /// The same for work whose errors are ours already.
    pub(super) fn contain_panic<T>(
        &self,
        operation: &'static str,
        subject: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            self.panicked.store(true, Ordering::Release);
            let message = format!("the storage engine gave up on a broken page: {}", panic_text(&*panic));
            Err(Error::corrupt(operation, subject, message))
        })
    }

    /// Whether redb's handle answers nothing any more.
    pub(super) fn is_latched(&self) -> bool {
        self.latched.load(Ordering::Acquire)
    }

    /// Has the handle replaced before the next write.
    pub(super) fn latch(&self) {
        self.latched.store(true, Ordering::Release);
    }

    /// Another handle is in its place.
    pub(super) fn unlatch(&self) {
        self.latched.store(false, Ordering::Release);
    }

    /// Whether redb panicked since the file was opened: its state is not to be written from any more.
    pub(super) fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    /// Drops a handle, unless redb panicked: its destructor may panic again, and again while unwinding.
    pub(super) fn close<T: 'static>(&self, handle: T) {
        if self.panicked() {
            tracing::error!("a broken page was met; the handle that met it stays in memory until this process ends");
            Box::leak(Box::new(handle));
        } else {
            self.drop_contained(handle);
        }
    }

    /// The same for a handle that others may have had.
    pub(super) fn close_shared<T: 'static>(&self, handle: Arc<T>) {
        if let Some(handle) = Arc::into_inner(handle) {
            self.close(handle);
        }
    }

    /// Drops what no panic came from.
    pub(super) fn drop_contained<T>(&self, value: T) {
        if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
            self.panicked.store(true, Ordering::Release);
            tracing::error!("the storage engine panicked while closing");
        }
    }
}

/// Who it is that has a file open is known where locks have owners, and not here.
const OPEN_ELSEWHERE: &str = "another process has it open; close it there first, or wait (`Options::wait_for_lock`)";

/// The error for a file that somebody else holds.
pub(super) fn in_use(subject: &str, opener: Opener) -> Error {
    let message = match opener {
        Opener::Store => "another `Store` of this process has it open; clone that one, or drop it first",
        Opener::Readers => {
            "models or listings of this process that were taken from it are still held, or followed; drop them first"
        }
        Opener::Unknown => OPEN_ELSEWHERE,
    };
    Error::new(ErrorKind::InUse, "open", subject, message)
}

/// The error for what the operating system says.
pub(super) fn os_error(operation: &'static str, subject: &str, err: io::Error) -> Error {
    translate(operation, subject, redb::Error::Io(err))
}

/// Says what a redb error means to the caller.
pub(super) fn translate(operation: &'static str, subject: &str, err: redb::Error) -> Error {
    use redb::Error as E;
    let (kind, message) = match &err {
        E::DatabaseAlreadyOpen => (ErrorKind::InUse, OPEN_ELSEWHERE),
        E::RepairAborted => {
            (ErrorKind::NeedsRecovery, "it was not closed cleanly; open it once for writing, which repairs it")
        }
        E::UpgradeRequired(_) => (ErrorKind::NotAStore, "it is a redb file of an older format, and no store"),
        E::Corrupted(_) => (ErrorKind::Corrupt, "the file's own structure is broken"),
        E::ValueTooLarge(_) => (ErrorKind::LimitExceeded, "a value is too large for the file format"),
        E::TableTypeMismatch { .. } | E::TableIsMultimap(_) | E::TypeDefinitionChanged { .. } => {
            (ErrorKind::NotAStore, "a table has another type than a store's")
        }
        E::Io(io) if is_full(io) => (ErrorKind::StorageFull, "there is no room left for the write"),
        E::TransactionInProgress => (ErrorKind::InUse, "a reader is still at work; try again when it is done"),
        E::PreviousIo => (ErrorKind::Io, "an earlier I/O error closed the file; it is reopened on the next call"),
        E::Io(_) => (ErrorKind::Io, "the operating system failed"),
        _ => (ErrorKind::Io, "the storage engine failed"),
    };
    let source: Box<dyn std::error::Error + Send + Sync> = match err {
        E::Io(io) => Box::new(io),
        other => Box::new(other),
    };
    Error::new(kind, operation, subject, message).with_source(source)
}

fn is_full(err: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(err.kind(), K::StorageFull | K::QuotaExceeded | K::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_handle_is_kept_from_dropping() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let health = Health::default();
        let err = health.contain::<()>("read", "a.redb", || panic!("page 7")).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Corrupt);
        assert!(err.message().contains("page 7"), "{err}");
        assert!(health.panicked(), "nothing is written through it any more");
        health.close(Bomb);
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = translate("write", "a.redb", redb::Error::Io(io::Error::from(io::ErrorKind::StorageFull)));
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        let other = translate("write", "a.redb", redb::Error::Io(io::Error::other("cable")));
        assert_eq!(other.kind(), ErrorKind::Io);
    }
}
