//! The lock of a store's file, taken by the engine itself: redb could let go of it too early.
//!
//! redb locks the file that it opens, and unlocks it when it closes it *or fails to open it again*; but a map of the
//! file may outlive redb's handle, and after an I/O error the file is opened anew under maps that are in use. So the
//! engine takes the lock before redb sees the file and keeps it until nobody reads the file any more, and redb is told
//! that every lock it asks for is taken.
//!
//! The ranges, their order and the queries are those of redb 4.5 (`docs/design.md`, "Multi-process concurrency",
//! exclusive writer), so that stores, redb itself, and the locks of redb 4.4, whose ranges these cover, exclude each
//! other as they should. The locks themselves are taken by redb's file backend, which also takes the whole-file lock of
//! redb before 4.3.

use std::{fs::File, ops::Bound};

use redb::{BackendError, StorageBackend, backends::FileBackend};

const BASE: u64 = 1 << 62;
const SHARED_WRITER: u64 = BASE + 1;
const GENERATIONS_START: u64 = BASE + 5;
/// The generation of the protocol that redb 4.5 implements, and this release with it.
const GENERATION: u64 = GENERATIONS_START;
const GENERATIONS_END: u64 = BASE + 69;
/// Held by readers of redb 4.3 and 4.4, which hold every generation as well.
const LEGACY_READER: u64 = GENERATIONS_END;
const RESERVED_START: u64 = BASE + 896;
const RESERVED_END: u64 = BASE + 1024;

type Span = (Bound<u64>, Bound<u64>);

const SUFFIX: Span = (Bound::Included(RESERVED_END), Bound::Unbounded);
const WHOLE: Span = (Bound::Unbounded, Bound::Unbounded);

const WRITER: [Span; 3] = [
    SUFFIX,
    (Bound::Excluded(SHARED_WRITER), Bound::Excluded(RESERVED_START)),
    (Bound::Unbounded, Bound::Included(SHARED_WRITER)),
];

/// A reader leaves free what it asks about: the byte of several writers, the bytes of other generations.
const READER: [Span; 5] = [
    byte(GENERATION),
    SUFFIX,
    (Bound::Excluded(LEGACY_READER), Bound::Excluded(RESERVED_START)),
    (Bound::Excluded(SHARED_WRITER), Bound::Excluded(GENERATIONS_START)),
    (Bound::Unbounded, Bound::Excluded(SHARED_WRITER)),
];

/// All that a reader asks about, and some of what it holds.
const ASKED_ABOUT: Span = (Bound::Included(SHARED_WRITER), Bound::Included(LEGACY_READER));

const fn byte(at: u64) -> Span {
    (Bound::Included(at), Bound::Included(at))
}

/// Who may have the file open beside the one that locks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody.
    Exclusive,
    /// Others that read it.
    Readers,
}

/// A lock on an open file. Held until it is dropped.
#[derive(Debug)]
pub(super) struct FileLock(FileBackend);

/// Why a file is not locked.
#[derive(Debug)]
pub(super) enum NotLocked {
    /// Another handle holds it.
    InUse,
    /// The operating system failed.
    Failed(std::io::Error),
}

impl FileLock {
    /// Locks `file`, which shares its lock with all its duplicates.
    pub(super) fn take(file: File, sharing: Sharing) -> Result<Self, NotLocked> {
        let backend = FileBackend::new(file).map_err(|err| NotLocked::Failed(std::io::Error::other(err)))?;
        let lock = Self(backend);
        let taken = match sharing {
            Sharing::Exclusive => lock.all(&WRITER, sharing),
            Sharing::Readers => lock.all(&READER, sharing),
        };
        match taken {
            Ok(true) => Ok(lock),
            Ok(false) => Err(NotLocked::InUse),
            Err(BackendError::Io(err)) => Err(NotLocked::Failed(err)),
            Err(err) => Err(NotLocked::Failed(std::io::Error::other(err))),
        }
    }

    fn all(&self, spans: &[Span], sharing: Sharing) -> Result<bool, BackendError> {
        for span in spans {
            match self.one(*span, sharing) {
                Ok(true) => {}
                Err(BackendError::Unsupported) => return self.whole(sharing),
                other => return other,
            }
        }
        match sharing {
            Sharing::Exclusive => Ok(true),
            Sharing::Readers => self.is_nobody_else_here(),
        }
    }

    /// Whether nobody has the file open whom a reader must not meet. Asked when its own generation is taken, so that of
    /// two that open at once the second sees the first.
    fn is_nobody_else_here(&self) -> Result<bool, BackendError> {
        // All at once: a reader is alone more often than not. Its own locks are not in its way.
        if !self.query(ASKED_ABOUT)? {
            return Ok(true);
        }
        if self.is_another_generation_open()? {
            return Ok(false);
        }
        // Several processes that write together hold only this one.
        self.query(byte(SHARED_WRITER)).map(|taken| !taken)
    }

    fn is_another_generation_open(&self) -> Result<bool, BackendError> {
        if self.query(byte(LEGACY_READER))? {
            return Ok(false);
        }
        self.query((Bound::Excluded(GENERATION), Bound::Excluded(GENERATIONS_END)))
    }

    fn one(&self, (start, end): Span, sharing: Sharing) -> Result<bool, BackendError> {
        match sharing {
            Sharing::Exclusive => self.0.try_lock_range(start, end),
            Sharing::Readers => self.0.try_lock_shared_range(start, end),
        }
    }

    fn query(&self, (start, end): Span) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }

    /// Where there are no locks of ranges, and nowhere else.
    fn whole(&self, sharing: Sharing) -> Result<bool, BackendError> {
        match self.one(WHOLE, sharing) {
            // No locks at all: redb goes on without, and so do we.
            Err(BackendError::Unsupported) => Ok(true),
            other => other,
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.close() {
            tracing::warn!(%error, "a file lock is left to the end of the process");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    /// How handles of redb 4.4 lock a file, by its `docs/design.md`: exclusively, or shared.
    const REDB_4_4: [(&str, &[Span], bool); 5] = [
        ("writer", &[SUFFIX, (Bound::Unbounded, Bound::Excluded(RESERVED_START))], true),
        (
            "reader",
            &[
                SUFFIX,
                (Bound::Excluded(SHARED_WRITER), Bound::Excluded(RESERVED_START)),
                (Bound::Unbounded, Bound::Excluded(SHARED_WRITER)),
            ],
            false,
        ),
        ("only writer of several processes", &[byte(SHARED_WRITER), byte(BASE)], true),
        ("writer among several", &[byte(SHARED_WRITER)], false),
        ("reader of several processes", &[byte(BASE + 2)], false),
    ];

    fn file() -> (tempfile::TempDir, impl Fn() -> File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, [0; 4096]).unwrap();
        (folder, move || OpenOptions::new().read(true).write(true).open(&path).unwrap())
    }

    fn old(file: File, (_, spans, exclusive): (&str, &[Span], bool)) -> Option<FileBackend> {
        let backend = FileBackend::new(file).unwrap();
        let all = spans.iter().all(|&(start, end)| {
            let locked =
                if exclusive { backend.try_lock_range(start, end) } else { backend.try_lock_shared_range(start, end) };
            locked.unwrap()
        });
        all.then_some(backend)
    }

    /// Nobody of redb 4.4 has a file open beside a writer of this release, nor the other way round. Readers of both
    /// may: nobody writes then.
    #[test]
    fn locks_of_redb_4_4_and_these_exclude_each_other() {
        for older in REDB_4_4 {
            let (name, ..) = older;
            let writes = name.contains("writer");
            for sharing in [Sharing::Exclusive, Sharing::Readers] {
                let both = sharing == Sharing::Readers && !writes;
                let (_folder, open) = file();
                let held = old(open(), older).expect("nobody else has it");
                let taken = FileLock::take(open(), sharing);
                assert_eq!(taken.is_ok(), both, "{sharing:?} after a {name} of redb 4.4: {taken:?}");
                drop((held, taken));

                let (_folder, open) = file();
                let held = FileLock::take(open(), sharing).unwrap();
                // A writer among several takes its byte first, and then asks about readers.
                let taken = old(open(), older).filter(|backend| {
                    let whole_file_reader = (Bound::Included(BASE + 3), Bound::Included(BASE + 3));
                    !name.contains("writer")
                        || !backend.query_lock_range(whole_file_reader.0, whole_file_reader.1).unwrap()
                });
                assert_eq!(taken.is_some(), both, "a {name} of redb 4.4 after {sharing:?}");
                drop(held);
            }
        }
    }
}
