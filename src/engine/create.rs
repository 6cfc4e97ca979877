//! Creating a store's file: without a name first, so that the name never stands for half a file.
//!
//! A crash leaves no file, or a whole one. Two processes that create the same store at the same time both succeed in
//! making the file, one of them in naming it. Where a file cannot be without a name it gets a temporary one, which a
//! crash may leave behind.

use std::{
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::Database;

use super::{
    EngineOptions,
    backend::Pages,
    batch,
    disk::{Access, Watched},
    file::{StoreFile, draw_number, folder, sync_folder},
    health::{Health, os_error},
    identity, open, stamp,
    tables::{ArchiveTable, Table},
};
use crate::types::{error::Result, hash::hex, time::Timestamp};

/// How many links are followed to where a file is to be made.
const LINKS_MAX: usize = 16;

/// Makes an empty store at `path`, unless there is a file of that name by then.
pub(super) fn create(
    path: &Path,
    subject: &str,
    options: &EngineOptions,
    now: Timestamp,
    health: &Health,
) -> Result<()> {
    let failed = |err| os_error("create", subject, err);
    let path = follow(path);
    let new =
        NewFile::unnamed(&path, &options.disk).or_else(|_| NewFile::named(&path, &options.disk)).map_err(failed)?;
    match write(new, &path, subject, options, now, health)? {
        Named::Yes => {}
        // The kernel does not say where its files without names are.
        Named::No => {
            let new = NewFile::named(&path, &options.disk).map_err(failed)?;
            write(new, &path, subject, options, now, health)?;
        }
    }
    sync_folder(&path, &options.disk).map_err(failed)
}

/// Whether a file has its name.
enum Named {
    Yes,
    No,
}

fn write(
    new: NewFile,
    path: &Path,
    subject: &str,
    options: &EngineOptions,
    now: Timestamp,
    health: &Health,
) -> Result<Named> {
    let failed = |err| os_error("create", subject, err);
    let duplicate = new.file.try_clone().map_err(failed)?;
    let pages = Pages::File(Arc::new(StoreFile::adopt(duplicate, new.number, path, &options.disk)?));
    let writer = open::writer(&pages, options, health, subject)?;
    let stamped = stamp_new(&writer.db, subject, now, health);
    // Closing writes what the next open relies on.
    health.close_shared(writer.db);
    stamped?;
    new.become_file(path).map_err(failed)
}

/// Where a link leads that leads nowhere yet.
fn follow(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = match path.parent() {
            Some(parent) => parent.join(target),
            None => target,
        };
    }
    path
}

/// Writes what makes a database without tables a store.
pub(super) fn stamp_new(db: &Database, subject: &str, now: Timestamp, health: &Health) -> Result<()> {
    let identity = identity::draw(now)?;
    health.contain("create", subject, || {
        let transaction = batch::begin_write(db)?;
        {
            let mut table = transaction.open_table(Table::Store.definition())?;
            table.insert(stamp::KEY, stamp::write().as_slice())?;
            table.insert(identity::KEY, identity.as_slice())?;
        }
        make_tables(&transaction)?;
        transaction.commit()?;
        Ok(())
    })
}

/// Gives a store of an older format what this one has more.
pub(super) fn upgrade(db: &Database, subject: &str, health: &Health) -> Result<()> {
    tracing::info!(store = subject, "brought up to date: releases before this one cannot open it any more");
    health.contain("upgrade", subject, || {
        let transaction = batch::begin_write(db)?;
        transaction.open_table(Table::Store.definition())?.insert(stamp::KEY, stamp::write().as_slice())?;
        make_tables(&transaction)?;
        transaction.commit()?;
        Ok(())
    })
}

pub(super) fn make_tables(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    for table in ArchiveTable::ALL {
        transaction.open_table(table.definition())?;
    }
    Ok(())
}

/// A file that has not got its name yet.
pub(super) struct NewFile {
    pub(super) file: File,
    pub(super) number: u64,
    temporary: Option<Temporary>,
    disk: Watched,
}

impl NewFile {
    /// A file without a name, in the folder of `path`: nothing is left of it unless it gets one.
    #[cfg(target_os = "linux")]
    fn unnamed(path: &Path, disk: &Watched) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let number = draw_number();
        let file = disk.access(Access::Create { file: number, path: None }, || {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            Ok(File::from(rustix::fs::open(folder(path), flags, Mode::from_raw_mode(0o666))?))
        })?;
        Ok(Self { file, number, temporary: None, disk: disk.clone() })
    }

    #[cfg(not(target_os = "linux"))]
    fn unnamed(_: &Path, _: &Watched) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A file with a name that nobody else has, in the folder of `path`.
    fn named(path: &Path, disk: &Watched) -> io::Result<Self> {
        // Each `RandomState` has keys from the operating system's generator.
        let random = RandomState::new().build_hasher().finish();
        Self::at(folder(path).join(format!(".modelkeep-{}.new", hex(&random.to_be_bytes()))), disk)
    }

    /// A file with this name, which it loses when it is dropped.
    pub(super) fn at(path: PathBuf, disk: &Watched) -> io::Result<Self> {
        let number = draw_number();
        let file = disk.access(Access::Create { file: number, path: Some(&path) }, || {
            File::options().read(true).write(true).create_new(true).open(&path)
        })?;
        let temporary = Some(Temporary { path, disk: disk.clone() });
        Ok(Self { file, number, temporary, disk: disk.clone() })
    }

    /// Gives the file its name, unless there is a file of that name already.
    fn become_file(self, path: &Path) -> io::Result<Named> {
        let linked = self.disk.access(Access::Link { file: self.number, path }, || match &self.temporary {
            None => link_unnamed(&self.file, path),
            // A link never takes the place of another file, as a rename would. Not every file system has links.
            Some(temporary) => fs::hard_link(&temporary.path, path).or_else(|err| match err.kind() {
                io::ErrorKind::AlreadyExists => Err(err),
                _ if path.exists() => Err(io::ErrorKind::AlreadyExists.into()),
                _ => fs::rename(&temporary.path, path),
            }),
        });
        match linked {
            Ok(()) => Ok(Named::Yes),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(Named::Yes),
            Err(err) if err.kind() == io::ErrorKind::NotFound && self.temporary.is_none() => Ok(Named::No),
            Err(err) => Err(err),
        }
    }

    /// Puts the file in the place of the one that is named `path`.
    pub(super) fn replace_file(self, path: &Path) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let access = Access::Rename { file: self.number, from: &temporary.path, to: path };
        self.disk.access(access, || fs::rename(&temporary.path, path))
    }
}

#[cfg(target_os = "linux")]
fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link_unnamed(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::NotFound.into())
}

/// A name that is removed when it is dropped.
struct Temporary {
    path: PathBuf,
    disk: Watched,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let removed = self.disk.access(Access::Remove { path: &self.path }, || fs::remove_file(&self.path));
        // After a rename there is nothing left to remove.
        if let Err(err) = removed
            && err.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %err, "a temporary file is left behind");
        }
    }
}
