//! The open file of a store: its descriptor, its lock, and whether it is still the one that its path names.
//!
//! It is shared by redb's backend, by the views, and by every model that is read where it lies. The lock is let go of
//! when the last of them is gone, and not before.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    disk::{Access, Watched},
    health::{in_use, os_error},
    lock::{FileLock, NotLocked, Sharing},
    writeback,
};
use crate::{
    engine::open_files::{self, OpenFile},
    types::error::{Error, ErrorKind, Result},
};

/// How often a file is opened again because another one took its name meanwhile.
const OPENS_MAX: usize = 16;

/// An open, locked file.
pub(crate) struct StoreFile {
    file: File,
    /// From the root on: the process may go to another folder.
    path: PathBuf,
    /// Where it led when it was opened: the name that is written to. Of a file that is only read, the path.
    real_path: PathBuf,
    number: u64,
    identity: Identity,
    disk: Watched,
    /// Bytes that it has at least, unless another program cuts it.
    expected_bytes: AtomicU64,
    /// Its name may not survive a power cut yet.
    unsynced_name: AtomicBool,
    /// Said to be open as long as it is locked.
    open: OpenFile,
    _lock: FileLock,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[cfg(unix)]
    fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: found.dev(), inode: found.ino() }
    }

    /// Elsewhere a file that is open keeps its name.
    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self { device: 0, inode: 0 }
    }
}

/// Draws the number of a file that is opened.
pub(super) fn draw_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl StoreFile {
    /// Opens and locks the file `path`; `None` when there is none of that name.
    pub(super) fn open(path: &Path, sharing: Sharing, disk: &Watched) -> Result<Option<Self>> {
        let subject = path.display().to_string();
        let path = &std::path::absolute(path).map_err(|err| os_error("open", &subject, err))?;
        for _ in 0..OPENS_MAX {
            let number = draw_number();
            let opened = disk.access(Access::Open { file: number, path }, || open(path, sharing));
            let file = match opened {
                Ok(file) => file,
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(_) if path.is_dir() => return Err(directory(&subject)),
                Err(err) => return Err(os_error("open", &subject, err)),
            };
            let found = file.metadata().map_err(|err| os_error("open", &subject, err))?;
            check_kind(&found, &subject)?;
            let identity = Identity::of(&found);
            let lock = lock(&file, sharing, identity, &subject)?;
            // Whoever had it before may have put another file in its place, and then closed it.
            let Some(bytes) = named(path).filter(|named| Identity::of(named) == identity).map(|named| named.len())
            else {
                continue;
            };
            return Ok(Some(Self {
                identity,
                open: OpenFile::note(identity),
                expected_bytes: AtomicU64::new(bytes),
                file,
                path: path.to_owned(),
                // Who only reads has no use for it, and it takes a call for each folder above.
                real_path: if sharing == Sharing::Exclusive { real(path) } else { path.to_owned() },
                number,
                disk: disk.clone(),
                unsynced_name: AtomicBool::new(sharing == Sharing::Exclusive),
                _lock: lock,
            }));
        }
        let message = "another file took its name each time that it was opened";
        Err(Error::new(ErrorKind::Replaced, "open", subject, message))
    }

    /// Takes a new file that is going to be named `path`.
    pub(super) fn adopt(file: File, number: u64, path: &Path, disk: &Watched) -> Result<Self> {
        let subject = path.display().to_string();
        let found = file.metadata().map_err(|err| os_error("create", &subject, err))?;
        let identity = Identity::of(&found);
        let lock = lock(&file, Sharing::Exclusive, identity, &subject)?;
        let path = std::path::absolute(path).map_err(|err| os_error("create", &subject, err))?;
        Ok(Self {
            identity,
            open: OpenFile::note(identity),
            expected_bytes: AtomicU64::new(found.len()),
            file,
            real_path: real(&path),
            path,
            number,
            disk: disk.clone(),
            unsynced_name: AtomicBool::new(true),
            _lock: lock,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Notes that no store has it open any more, but what was taken from one.
    pub(super) fn note_store_closed(&self) {
        self.open.note_store_closed();
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The same, without links, for who may write.
    pub(super) fn real_path(&self) -> &Path {
        &self.real_path
    }

    /// A number that no other open file of this process has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn disk(&self) -> &Watched {
        &self.disk
    }

    /// Where the file is, for messages.
    pub(super) fn subject(&self) -> String {
        self.path.display().to_string()
    }

    /// Bytes of the file now.
    pub(super) fn len(&self) -> io::Result<u64> {
        end(&self.file)
    }

    /// Bytes that it has at least, unless another program cut it: of a file that was just opened, all of them.
    pub(super) fn expected_bytes(&self) -> u64 {
        self.expected_bytes.load(Ordering::Acquire)
    }

    /// Bytes of the file, and of those the bytes that the file system has allocated.
    pub(super) fn usage(&self) -> io::Result<(u64, u64)> {
        let found = self.file.metadata()?;
        Ok((found.len(), allocated(&found)))
    }

    /// Gives another file the mode and, if that is allowed, the owner of this one.
    pub(super) fn give_permissions_to(&self, other: &File) {
        let given = self.file.metadata().and_then(|found| {
            other.set_permissions(found.permissions())?;
            give_owner(&found, other)
        });
        if let Err(error) = given {
            tracing::warn!(%error, "the new file has not got all permissions of the one before");
        }
    }

    /// Reads all of `range` into `out`, which is as long.
    pub(super) fn read_at(&self, range: &Range<u64>, out: &mut [u8]) -> io::Result<()> {
        let access = Access::Read { file: self.number, offset: range.start, bytes: range.end - range.start };
        self.disk.access(access, || read_exact_at(&self.file, out, range.start))
    }

    /// Writes `data` at `offset`.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(self.number, offset, data, |data| write_all_at(&self.file, data, offset))
    }

    /// Has the kernel begin to write a part to the disk.
    pub(super) fn begin_writeback(&self, offset: u64, bytes: u64) -> io::Result<()> {
        writeback::begin(&self.file, offset, bytes)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.access(Access::Sync { file: self.number }, || self.file.sync_data())
    }

    /// Makes a range zeros, and gives its blocks back to the file system.
    pub(super) fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let access = Access::Punch { file: self.number, offset, bytes };
        self.disk.access(access, || punch(&self.file, offset, bytes))
    }

    /// Sets the length.
    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        // Lower the expected length first: a reader must not take our own cut for another program's.
        self.expected_bytes.fetch_min(bytes, Ordering::AcqRel);
        self.disk.access(Access::SetLen { file: self.number, bytes }, || self.file.set_len(bytes))?;
        self.expected_bytes.store(bytes, Ordering::Release);
        Ok(())
    }

    /// Fails when the file is not what it was, by another program's doing: then nothing is to be written to it.
    pub(super) fn check(&self, operation: &'static str) -> Result<()> {
        self.check_name(operation)?;
        self.check_length()
    }

    /// Fails when somebody else cut the file: reading it in a map may end the process.
    pub(super) fn check_length(&self) -> Result<()> {
        let mut expected = self.expected_bytes.load(Ordering::Acquire);
        let found = loop {
            let found = self.len().map_err(|err| os_error("read", &self.subject(), err))?;
            if found >= expected {
                return Ok(());
            }
            // It may have been cut by a commit in between.
            match std::mem::replace(&mut expected, self.expected_bytes.load(Ordering::Acquire)) {
                before if before == expected => break found,
                _ => {}
            }
        };
        let message = format!("another program cut the file to {found} bytes while it was open; it had {expected}");
        Err(Error::new(ErrorKind::Truncated, "read", self.subject(), message))
    }

    /// Fails when what is written would not be found under the path again: another file has the name, or none.
    pub(super) fn check_name(&self, operation: &'static str) -> Result<()> {
        if self.has_its_name() {
            return Ok(());
        }
        let message = "another program renamed, replaced or removed the file while it was open; what was read of it stays \
                       readable, and nothing is written to it any more: open the store again";
        Err(Error::new(ErrorKind::Replaced, operation, self.subject(), message))
    }

    fn has_its_name(&self) -> bool {
        named(&self.path).is_some_and(|found| Identity::of(&found) == self.identity)
    }

    /// Makes sure that the file is found under its name after a power cut. Costs nothing once that is so.
    pub(super) fn sync_name(&self) -> io::Result<()> {
        if self.unsynced_name.load(Ordering::Acquire) {
            sync_folder(&self.real_path, &self.disk)?;
            self.unsynced_name.store(false, Ordering::Release);
        }
        Ok(())
    }
}

impl fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreFile({}, {})", self.number, self.path.display())
    }
}

/// Where a file ends. Asked for before each look at it: a seek costs half of what `fstat(2)` does. Nobody reads or
/// writes where the position is.
#[cfg(unix)]
fn end(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?)
}

/// redb's backend has the position here.
#[cfg(not(unix))]
fn end(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

#[cfg(unix)]
fn allocated(found: &Metadata) -> u64 {
    // POSIX counts blocks of 512 bytes, whatever the file system's own block size is.
    std::os::unix::fs::MetadataExt::blocks(found) * 512
}

#[cfg(not(unix))]
fn allocated(found: &Metadata) -> u64 {
    found.len()
}

#[cfg(unix)]
fn give_owner(found: &Metadata, other: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let now = other.metadata()?;
    if (now.uid(), now.gid()) == (found.uid(), found.gid()) {
        Ok(())
    } else {
        fchown(other, Some(found.uid()), Some(found.gid()))
    }
}

#[cfg(not(unix))]
fn give_owner(_: &Metadata, _: &File) -> io::Result<()> {
    Ok(())
}

/// What has this name now.
fn named(path: &Path) -> Option<Metadata> {
    fs::metadata(path).ok()
}

/// Where a path leads; a file that has not got its name yet has no links in it.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn open(path: &Path, sharing: Sharing) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(sharing == Sharing::Exclusive);
    // Not to wait for somebody at the other end of a pipe.
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

fn directory(subject: &str) -> Error {
    Error::invalid("open", subject, "it is a directory; name a file in it")
}

fn check_kind(found: &Metadata, subject: &str) -> Result<()> {
    if found.is_dir() {
        return Err(directory(subject));
    }
    if !found.is_file() {
        let message = "it is no regular file, but a device, a pipe or a socket; nothing was written to it";
        return Err(Error::new(ErrorKind::NotAStore, "open", subject, message));
    }
    Ok(())
}

fn lock(file: &File, sharing: Sharing, identity: Identity, subject: &str) -> Result<FileLock> {
    let duplicate = file.try_clone().map_err(|err| os_error("open", subject, err))?;
    FileLock::take(duplicate, sharing).map_err(|err| match err {
        NotLocked::InUse => in_use(subject, open_files::opener(identity)),
        NotLocked::Failed(err) => os_error("open", subject, err),
    })
}

/// The folder that a path names a file in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in the folder of `path` durable.
pub(super) fn sync_folder(path: &Path, disk: &Watched) -> io::Result<()> {
    let folder = folder(path);
    disk.access(Access::SyncFolder { path: folder }, || File::open(folder)?.sync_all())
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                offset += read as u64;
                out = out.split_at_mut(read).1;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, data, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                offset += written as u64;
                data = data.split_at(written).1;
            }
        }
    }
    Ok(())
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
