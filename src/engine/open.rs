//! Opening: look before redb does.
//!
//! redb writes to a file that it opens for writing, and repairs or refuses one that it does not understand in words
//! of its own. So the header is read first, and the stamp through a read-only handle; only a file that is a store of
//! a known format is opened for writing.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, backends::FileBackend};

use super::{
    EngineOptions, Source,
    create::{create, stamp_new},
    health::{Health, translate},
    lock::SharedLock,
    mapped::{
        Alive, HEADER_BYTES, Header,
        header::{FORMAT, MAGIC, RECOVERY_REQUIRED},
    },
    memory::SharedMemory,
    overlay::Overlay,
    pin::{Handle, OpenFile, Opened},
    sparse::{Sparse, StaysLocked},
    stamp,
    tables::Table,
};
use crate::{
    error::{Error, ErrorKind, Result},
    time::Timestamp,
};

/// Opens `source`; creates it when it does not exist and `options.create` allows that.
pub(super) fn open(source: &Source, options: EngineOptions, health: &Arc<Health>) -> Result<Opened> {
    let subject = source.subject();
    match source {
        Source::Memory(memory) => {
            let backend = SharedMemory { inner: Arc::clone(memory), bytes_max: options.file_bytes_max };
            let db = health.contain("open", &subject, || Ok(builder(options).create_with_backend(backend)?))?;
            initialise(&db, &subject, options.now, health)?;
            Ok(OpenFile::unmapped(Handle::Write(db), health).into())
        }
        Source::File(path) => open_path(path, &subject, options, health),
    }
}

pub(super) fn builder(options: EngineOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder
}

fn open_path(path: &Path, subject: &str, options: EngineOptions, health: &Arc<Health>) -> Result<Opened> {
    match File::open(path) {
        Ok(file) => {
            if let Some(opened) = look(file, path, subject, options, health)? {
                return Ok(opened);
            }
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound && options.create && !options.read_only => {
            create(path, subject, options, health)?;
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let message = "there is no such file, and this call does not create one";
            return Err(Error::new(ErrorKind::NotFound, "open", subject, message).with_source(err));
        }
        Err(err) => return Err(os_error(subject, err)),
    }
    let file = writable(path).map_err(|err| os_error(subject, err))?;
    open_for_writing(file, subject, options, health)
}

/// Opens a file that is known to be a store, or empty. The lock, if `file` holds one already, is kept.
pub(super) fn open_for_writing(
    file: File,
    subject: &str,
    options: EngineOptions,
    health: &Arc<Health>,
) -> Result<Opened> {
    let stays_locked = StaysLocked::default();
    let db = health.contain("open", subject, || {
        let backend = Sparse::new(file.try_clone()?, options.file_bytes_max, stays_locked.clone())?;
        Ok(builder(options).create_with_backend(backend)?)
    })?;
    initialise(&db, subject, options.now, health)?;
    Ok(OpenFile::writable(Handle::Write(db), file, stays_locked, options.mapped && cfg!(unix), health).into())
}

/// Makes sure that an existing file is a store, without changing it; opens it if reading is all that is wanted.
fn look(
    file: File,
    path: &Path,
    subject: &str,
    options: EngineOptions,
    health: &Arc<Health>,
) -> Result<Option<Opened>> {
    let found = file.metadata().map_err(|err| os_error(subject, err))?;
    match found.len() {
        _ if found.is_dir() => return Err(Error::invalid("open", subject, "it is a directory; name a file in it")),
        0 if options.read_only => return Err(not_a_store(subject, "it is empty")),
        // A user who made an empty file wants a store in it.
        0 => return Ok(None),
        _ => {}
    }
    let header = check_redb_header(&file, found.len(), subject)?;
    if options.mapped
        && cfg!(unix)
        && let Some(opened) = look_mapped(file, &header, subject, health)?
    {
        return Ok(options.read_only.then_some(opened));
    }
    look_copied(path, subject, options, health)
}

/// Looks at a file through a map; `None` when only redb can tell what it holds: a file that was not closed, whose last
/// commit may be torn.
fn look_mapped(file: File, header: &[u8], subject: &str, health: &Arc<Health>) -> Result<Option<Opened>> {
    let whole = |header: &Header| header.two_phase || !header.recovery_required;
    if !Header::parse(header).is_ok_and(|header| whole(&header)) {
        return Ok(None);
    }
    let lock = SharedLock::take(file.try_clone().map_err(|err| os_error(subject, err))?, subject)?;
    let open = Arc::new(OpenFile::locked(lock, file, health));
    // Of tables that are not a store's, and of broken ones, redb shall say what they are.
    let Ok(Some(view)) = open.look(&Alive::default(), None) else {
        return Ok(None);
    };
    match view.get(Table::Store, stamp::KEY)? {
        Some(stamp) => stamp::check(subject, stamp)?,
        None if view.is_empty() => return Err(not_a_store(subject, "it is a redb file without tables")),
        None => return Err(foreign(subject)),
    }
    Ok(Some(Opened { file: open, view: Some(Arc::new(view)) }))
}

fn look_copied(path: &Path, subject: &str, options: EngineOptions, health: &Arc<Health>) -> Result<Option<Opened>> {
    let db = match health.contain("open", subject, || Ok(builder(options).open_read_only(path)?)) {
        Ok(db) => db,
        // A writer repairs what a reader may not touch; but whose file it is must be known before.
        Err(err) if err.kind() == ErrorKind::NeedsRecovery && !options.read_only => {
            return check_unclean(path, subject, options, health).map(|()| None);
        }
        Err(err) => return Err(err),
    };
    let transaction = health.contain("open", subject, || Ok(db.begin_read()?))?;
    match check_stamp(&transaction, subject, health)? {
        _ if !options.read_only => Ok(None),
        State::Stamped => Ok(Some(OpenFile::unmapped(Handle::Read(db), health).into())),
        State::Empty => Err(not_a_store(subject, "it is a redb file without tables")),
    }
}

fn writable(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Repairs a file that was not closed cleanly, in memory alone, and looks whose it is.
fn check_unclean(path: &Path, subject: &str, options: EngineOptions, health: &Health) -> Result<()> {
    let db = health.contain("open", subject, || {
        let overlay = Overlay::new(FileBackend::new(writable(path)?)?)?;
        Ok(builder(options).create_with_backend(overlay)?)
    })?;
    let checked = health
        .contain("open", subject, || Ok(db.begin_read()?))
        .and_then(|transaction| check_stamp(&transaction, subject, health));
    health.close(db);
    checked.map(drop)
}

/// Stamps a database without tables, which a crash left or a user made by creating an empty file; checks the stamp of
/// any other.
fn initialise(db: &Database, subject: &str, now: Timestamp, health: &Health) -> Result<()> {
    let transaction = health.contain("open", subject, || Ok(db.begin_read()?))?;
    match check_stamp(&transaction, subject, health)? {
        State::Stamped => Ok(()),
        State::Empty => {
            drop(transaction);
            stamp_new(db, subject, now, health)
        }
    }
}

enum State {
    /// A store of a format that this release reads.
    Stamped,
    /// No table at all: new, or left by a crash before the first commit.
    Empty,
}

fn check_stamp(transaction: &ReadTransaction, subject: &str, health: &Health) -> Result<State> {
    health.contain_panic("open", subject, || {
        let failed = |err: redb::Error| translate("open", subject, err);
        let table = match transaction.open_table(Table::Store.definition()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                let mut tables = transaction.list_tables().map_err(|err| failed(err.into()))?;
                return if tables.next().is_none() { Ok(State::Empty) } else { Err(foreign(subject)) };
            }
            Err(err) => return Err(failed(err.into())),
        };
        match table.get(stamp::KEY).map_err(|err| failed(err.into()))? {
            Some(stamp) => stamp::check(subject, stamp.value()).map(|()| State::Stamped),
            None => Err(foreign(subject)),
        }
    })
}

/// Reads the first bytes of an existing, non-empty file and refuses what is not a whole redb file of a known format.
fn check_redb_header(file: &File, file_len: u64, subject: &str) -> Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(|err| os_error(subject, err))?;
    if header.iter().zip(MAGIC).any(|(&found, expected)| found != expected) {
        return Err(not_a_store(subject, "it is not a redb file"));
    }
    let truncated = |needed: u64| {
        let message = format!("the file has {file_len} bytes where its header needs {needed}: it was cut short");
        Error::new(ErrorKind::Truncated, "open", subject, message)
    };
    let field = |at: usize| Some(u64::from(u32::from_le_bytes(*header.get(at..)?.first_chunk()?)));
    let geometry = || {
        Some((
            *header.get(9)?,
            *header.get(64)?,
            *header.get(192)?,
            field(12)?,
            field(16)?,
            field(20)?,
            field(24)?,
            field(28)?,
        ))
    };
    let Some((flags, slot_0, slot_1, page, region_header, region_max, full, trailing)) = geometry() else {
        return Err(truncated(HEADER_BYTES as u64));
    };
    let version = slot_0.max(slot_1);
    if version > FORMAT {
        let message = format!("it is a redb file of format {version}, this release reads {FORMAT}; upgrade modelkeep");
        return Err(Error::new(ErrorKind::NewerFormat, "open", subject, message));
    }
    // After a crash redb derives the layout from the length; the counts in the header may be torn then.
    if flags & RECOVERY_REQUIRED == 0 {
        // Each field has 32 bits, so the sums fit; the product may not.
        let trailing_pages = if trailing > 0 { region_header + trailing } else { 0 };
        let pages = full.saturating_mul(region_header + region_max).saturating_add(1 + trailing_pages);
        let needed = page.saturating_mul(pages);
        if file_len < needed {
            return Err(truncated(needed));
        }
    }
    Ok(header)
}

fn foreign(subject: &str) -> Error {
    not_a_store(subject, "it is a redb file of another program")
}

fn not_a_store(subject: &str, message: &str) -> Error {
    Error::new(ErrorKind::NotAStore, "open", subject, format!("{message}; nothing was written to it"))
}

pub(super) fn os_error(subject: &str, err: io::Error) -> Error {
    translate("open", subject, redb::Error::Io(err))
}
