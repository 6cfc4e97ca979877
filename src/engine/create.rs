//! Creating a store's file: under another name first, so that the real name never stands for half a file.
//!
//! A crash leaves no file, or a whole one, or a whole one and the temporary name beside it. Two processes that create
//! the same store at the same time both succeed in making the file, one of them in naming it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use redb::Database;

use super::{
    EngineOptions, batch,
    health::Health,
    identity,
    open::{self, os_error},
    sparse::{Sparse, StaysLocked},
    stamp,
    tables::{ARCHIVES, Table},
};
use crate::{error::Result, time::Timestamp};

/// Makes an empty store at `path`, unless there is a file of that name by then.
pub(super) fn create(path: &Path, subject: &str, options: EngineOptions, health: &Health) -> Result<()> {
    let failed = |err| os_error(subject, err);
    let temporary = Temporary::beside(path).map_err(failed)?;
    let file = File::options().read(true).write(true).create_new(true).open(&temporary.0).map_err(failed)?;
    let db = health.contain("create", subject, || {
        let backend = Sparse::new(file, options.file_bytes_max, StaysLocked::default())?;
        Ok(open::builder(options).create_with_backend(backend)?)
    })?;
    let stamped = stamp_new(&db, subject, options.now, health);
    // Closing writes what the next open relies on.
    health.close(db);
    stamped?;
    temporary.become_file(path).map_err(failed)?;
    sync_directory(path).map_err(failed)
}

/// Writes what makes a database without tables a store.
pub(super) fn stamp_new(db: &Database, subject: &str, now: Timestamp, health: &Health) -> Result<()> {
    let identity = identity::draw(now)?;
    health.contain("create", subject, || {
        let transaction = batch::begin_write(db)?;
        for table in Table::ALL {
            transaction.open_table(table.definition())?;
        }
        transaction.open_table(ARCHIVES)?;
        {
            let mut table = transaction.open_table(Table::Store.definition())?;
            table.insert(stamp::KEY, stamp::write().as_slice())?;
            table.insert(identity::KEY, identity.as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    })
}

/// A file of a temporary name, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self(path.with_file_name(format!(".{name}.{}.{number}.new", process::id()))))
    }

    /// Gives the file its name. A link never takes the place of another file, as a rename would.
    fn become_file(self, path: &Path) -> io::Result<()> {
        match fs::hard_link(&self.0, path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Not every file system has links.
            Err(_) if !path.exists() => fs::rename(&self.0, path),
            result => result,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        if let Err(err) = fs::remove_file(&self.0)
            && err.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %err, "a temporary file is left behind");
        }
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
