//! Opening: look before redb does.
//!
//! redb writes to a file that it opens for writing, and repairs or refuses one that it does not understand in words of
//! its own. So the file is locked, and its header and stamp are read first; only a file that is a store of a known
//! format is opened for writing. What redb trusts without looking, its own tables of free pages, is checked before.

use std::{path::Path, sync::Arc};

use redb::{Builder, ReadableDatabase};

use super::{
    EngineOptions, Writer,
    backend::{Fence, Fenced, Pages},
    compaction,
    create::{create, stamp_new, upgrade},
    file::StoreFile,
    health::{Health, translate},
    layout::{
        HEADER_BYTES, Header,
        header::{FORMAT, GOD_BYTE, MAGIC, may_be_torn},
    },
    lock::Sharing,
    pin::Pin,
    stamp::{self, Age},
    tables::Table,
    view::View,
};
use crate::types::{
    error::{Error, ErrorKind, Result},
    time::Timestamp,
};

/// What was opened.
pub(super) struct Opened {
    pub(super) pages: Pages,
    pub(super) view: View,
    /// `None` when it is only read.
    pub(super) writer: Option<Writer>,
}

/// Makes an empty store in memory.
pub(super) fn in_memory(options: &EngineOptions, now: Timestamp, health: &Health) -> Result<Opened> {
    open_for_writing(Pages::in_memory(), "memory", options, now, health)
}

/// Opens the store in the file `path`; creates it when it does not exist and the options allow that.
pub(super) fn open(path: &Path, options: &EngineOptions, now: Timestamp, health: &Health) -> Result<Opened> {
    let subject = path.display().to_string();
    let sharing = if options.read_only { Sharing::Readers } else { Sharing::Exclusive };
    if let Some(file) = StoreFile::open(path, sharing, &options.disk)? {
        return open_file(file, &subject, options, now, health);
    }
    if options.read_only || !options.create {
        let message = "there is no such file, and this call does not create one";
        return Err(Error::new(ErrorKind::NotFound, "open", subject, message));
    }
    create(path, &subject, options, now, health)?;
    match StoreFile::open(path, sharing, &options.disk)? {
        Some(file) => open_file(file, &subject, options, now, health),
        None => Err(Error::new(ErrorKind::Replaced, "open", subject, "it was removed while it was being created")),
    }
}

fn open_file(
    file: StoreFile,
    subject: &str,
    options: &EngineOptions,
    now: Timestamp,
    health: &Health,
) -> Result<Opened> {
    let bytes = file.expected_bytes();
    let pages = Pages::File(Arc::new(file));
    if bytes == 0 {
        if options.read_only {
            return Err(not_a_store(subject, "it is empty"));
        }
        // A user who made an empty file wants a store in it.
        return open_for_writing(pages, subject, options, now, health);
    }
    let looked = look(&pages, bytes, subject, options, health)?;
    if !options.read_only {
        compaction::remove_leftover(&pages);
    }
    match looked {
        Some(view) if options.read_only => Ok(Opened { pages, view, writer: None }),
        _ => open_for_writing(pages, subject, options, now, health),
    }
}

pub(super) fn builder(options: &EngineOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder
}

/// Has redb open pages that are known to be a store's, or empty.
pub(super) fn writer(pages: &Pages, options: &EngineOptions, health: &Health, subject: &str) -> Result<Writer> {
    let fence = Fence::default();
    let is_trusted = is_bookkeeping_whole(pages, options, subject)?;
    let db = health.contain("open", subject, || {
        let backend = Fenced::new(pages, options.file_bytes_max, options.cache_bytes, &fence);
        // Which pages are free is then found out from the trees themselves.
        let mut builder = builder(options);
        builder.set_check_integrity_on_open(!is_trusted);
        Ok(builder.create_with_backend(backend)?)
    })?;
    Ok(Writer { db: Arc::new(db), fence })
}

fn open_for_writing(
    pages: Pages,
    subject: &str,
    options: &EngineOptions,
    now: Timestamp,
    health: &Health,
) -> Result<Opened> {
    let writer = writer(&pages, options, health, subject)?;
    match initialise(&writer, &pages, subject, options, now, health) {
        Ok(view) => Ok(Opened { pages, view, writer: Some(writer) }),
        Err(err) => {
            writer.abandon(health);
            Err(err)
        }
    }
}

/// Stamps a database without tables, which a crash left or a user made by creating an empty file; brings an older
/// format up to date; checks the stamp of any other.
fn initialise(
    writer: &Writer,
    pages: &Pages,
    subject: &str,
    options: &EngineOptions,
    now: Timestamp,
    health: &Health,
) -> Result<View> {
    let look = || View::new(pages, options.mapped, Some(Pin::take(&writer.db, health, subject)?), None);
    let view = look()?;
    match check_stamp(&view, subject)? {
        Some(Age::Current) => return Ok(view),
        Some(Age::Older) => upgrade(&writer.db, subject, health)?,
        None => stamp_new(&writer.db, subject, now, health)?,
    }
    look()
}

/// Checks the stamp of a file; `None` for one without any table.
fn check_stamp(view: &View, subject: &str) -> Result<Option<Age>> {
    match view.row(Table::Store, stamp::KEY, |stamp, _| stamp::check(subject, stamp)) {
        Ok(Some(age)) => age.map(Some),
        Ok(None) if view.tables().is_empty() => Ok(None),
        Ok(None) => Err(foreign(subject)),
        Err(err) if err.kind() == ErrorKind::Corrupt => {
            let message = "the row that says what kind of file it is is damaged; restore the file from a backup";
            Err(Error::corrupt("open", subject, message).with_source(err))
        }
        Err(err) => Err(err),
    }
}

/// Looks at a file that is not empty, and refuses what is not a store. `None` when nobody but redb can tell what it
/// holds, and it is to be opened for writing: a file that was not closed, whose last commit may be torn.
fn look(pages: &Pages, bytes: u64, subject: &str, options: &EngineOptions, health: &Health) -> Result<Option<View>> {
    // Once: it is locked, and nobody commits before redb has it.
    let front = read_front(pages, bytes, subject)?;
    let header = check_header(&front, pages, bytes, subject)?;
    let Some(header) = header.filter(|header| header.two_phase || !header.recovery_required) else {
        if options.read_only {
            return Err(translate("open", subject, redb::Error::RepairAborted));
        }
        // A writer repairs it; but whose file it is must be known before.
        return check_unclean(pages, subject, options, health).map(|()| None);
    };
    let view = match newer(&front, pages, options, subject)? {
        Some(newer) => newer,
        None => View::of(header, pages, options.mapped, None, None).map_err(|err| err.about(subject))?,
    };
    if view.tables().is_foreign() {
        return Err(foreign(subject));
    }
    match check_stamp(&view, subject)? {
        None if options.read_only => Err(not_a_store(subject, "it is a redb file without tables")),
        _ => Ok(Some(view)),
    }
}

/// The commit that a file which was closed should publish, if it does not and the commit is whole. When the file is to
/// be written, it is made to.
fn newer(front: &[u8], pages: &Pages, options: &EngineOptions, subject: &str) -> Result<Option<View>> {
    let Some(header) = Header::newer(front) else {
        return Ok(None);
    };
    let view = View::of(header, pages, options.mapped, None, None);
    let Some(view) = view.ok().filter(|view| view.check_all().is_ok()) else {
        // A commit that was given up.
        return Ok(None);
    };
    tracing::error!(store = subject, commit = header.commit, "the header named an older commit than the last one");
    if let (Pages::File(file), Some(flags)) = (pages, Header::publishing(front, header.commit))
        && !options.read_only
    {
        let failed = |err| super::health::os_error("open", subject, err);
        file.write_at(GOD_BYTE as u64, &[flags]).and_then(|()| file.sync()).map_err(failed)?;
    }
    Ok(Some(view))
}

/// Repairs a file that was not closed cleanly, in memory alone, and looks whose it is.
fn check_unclean(pages: &Pages, subject: &str, options: &EngineOptions, health: &Health) -> Result<()> {
    let db = health.contain("open", subject, || Ok(builder(options).create_with_backend(Fenced::overlay(pages)?)?))?;
    let checked = health.contain("open", subject, || {
        let transaction = db.begin_read()?;
        let table = match transaction.open_table(Table::Store.definition()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(transaction.list_tables()?.next().is_none()),
            Err(redb::TableError::Storage(err)) => return Err(err.into()),
            Err(_) => return Ok(false),
        };
        Ok(table.get(stamp::KEY)?.is_some_and(|stamp| stamp::is_whole(stamp.value())))
    });
    health.close(db);
    if checked? { Ok(()) } else { Err(foreign(subject)) }
}

/// Reads the header of a file, or as much of it as there is.
fn read_front(pages: &Pages, bytes: u64, subject: &str) -> Result<Vec<u8>> {
    let front = bytes.min(HEADER_BYTES as u64);
    let mut header = vec![0; usize::try_from(front).unwrap_or(HEADER_BYTES)];
    pages.read_at(&(0..front), &mut header).map_err(|err| super::health::os_error("open", subject, err))?;
    Ok(header)
}

/// Refuses what is not the header of a whole redb file of a known format. `None` when it is not whole, which a repair
/// may mend.
fn check_header(header: &[u8], pages: &Pages, bytes: u64, subject: &str) -> Result<Option<Header>> {
    if header.iter().zip(MAGIC).any(|(&found, expected)| found != expected) {
        return Err(not_a_store(subject, "it is not a redb file"));
    }
    let (Some(&slot_0), Some(&slot_1)) = (header.get(64), header.get(192)) else {
        return Err(truncated(subject, bytes, HEADER_BYTES as u64));
    };
    if header.len() < HEADER_BYTES {
        return Err(truncated(subject, bytes, HEADER_BYTES as u64));
    }
    let version = slot_0.max(slot_1);
    if version > FORMAT {
        let message = format!("it is a redb file of format {version}, this release reads {FORMAT}; upgrade modelkeep");
        return Err(Error::new(ErrorKind::NewerFormat, "open", subject, message));
    }
    if version < FORMAT {
        return Err(not_a_store(subject, "it is a redb file of an older format, and no store"));
    }
    let header = match Header::parse(header) {
        Ok(header) => header,
        // Of a file that was not closed, a repair may find another commit that is whole.
        Err(_) if may_be_torn(header) => return Ok(None),
        Err(broken) => return Err(broken.error("open", subject)),
    };
    if bytes < header.file_bytes && (!header.recovery_required || is_cut(pages, bytes)) {
        return Err(truncated(subject, bytes, header.file_bytes));
    }
    Ok(Some(header))
}

/// Whether a file that was not closed lacks pages. Its header may name a length that it never came to have, so the
/// trees are asked.
fn is_cut(pages: &Pages, bytes: u64) -> bool {
    let view = View::new(pages, false, None, None);
    view.and_then(|view| view.last_page_end()).map_or(true, |end| end > bytes)
}

/// Whether redb's own tables, of which pages are free or will be, are as they were written. redb does not look: it
/// would give pages away that are in use.
fn is_bookkeeping_whole(pages: &Pages, options: &EngineOptions, subject: &str) -> Result<bool> {
    let Pages::File(_) = pages else {
        return Ok(true);
    };
    if pages.len().map_err(|err| super::health::os_error("open", subject, err))? == 0 {
        return Ok(true);
    }
    let Ok(view) = View::new(pages, options.mapped, None, None) else {
        // Let redb report the error.
        return Ok(true);
    };
    let whole = view.check_system();
    if let Err(error) = &whole {
        tracing::error!(store = subject, %error, "the list of free pages is damaged, and made anew from all others");
    }
    Ok(whole.is_ok())
}

fn truncated(subject: &str, bytes: u64, needed: u64) -> Error {
    let message = format!("the file has {bytes} bytes where its header needs {needed}: it was cut short");
    Error::new(ErrorKind::Truncated, "open", subject, message)
}

fn foreign(subject: &str) -> Error {
    not_a_store(subject, "it is a redb file of another program")
}

fn not_a_store(subject: &str, message: &str) -> Error {
    Error::new(ErrorKind::NotAStore, "open", subject, format!("{message}; nothing was written to it"))
}
