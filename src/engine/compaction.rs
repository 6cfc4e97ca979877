//! Compaction: everything is copied to a new file, which is verified and then takes the name of the old one.
//!
//! At every moment the name stands for a whole, closed or committed file, the old one or the new: a crash, a power cut
//! or a failed sync in the middle leaves the old one, and perhaps a file beside it that the next open for writing
//! removes. Whoever holds a model of the old file keeps it: nobody writes to that file any more, so its pages stay what
//! they are. What is held for long is given memory of its own, and then the old file's blocks are free.
//!
//! The new file is locked before it has its name, so that nobody can come in between.
//!
//! Rows that cannot be trusted are left out, and where they lay is written down as a loss.

use std::{fs, path::PathBuf, sync::PoisonError};

use redb::{Database, WriteTransaction};

use super::{
    Core, Handle,
    backend::Pages,
    batch,
    create::{NewFile, make_tables},
    damage::{self, Gap},
    disk::Access,
    file::{StoreFile, folder},
    health::{Health, os_error},
    mapped::Seen,
    open,
    scan::{Missing, Scan},
    sealed,
    tables::{ARCHIVE_NUMBERS_END, ArchiveTable, Table, archive_id},
    view::View,
};
use crate::{
    format::record::PageChecksum,
    types::{
        error::{Error, Result},
        hash::hex,
        invariant::Invariant,
    },
};

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes that the file system had allocated for the file before.
    pub bytes_before: u64,
    /// Bytes that it has allocated for the new one.
    pub bytes_after: u64,
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionProgress {
    /// Bytes of keys and values that were written to the new file.
    pub copied_bytes: u64,
    /// Bytes of them that were read back and compared.
    pub verified_bytes: u64,
    /// Bytes that there are: as far as one can tell in advance, and exactly once all are copied.
    pub total_bytes: u64,
}

/// Bytes that are copied in one transaction: so much of them redb keeps track of at a time.
const TRANSACTION_BYTES: u64 = 64 << 20;

/// Bytes between two reports.
const REPORT_BYTES: u64 = 1 << 20;

impl Core {
    pub(super) fn compact(&self, progress: &mut dyn FnMut(CompactionProgress)) -> Result<Compacted> {
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.current()?;
        view.check_length()?;
        let (pages, ..) = self.writer("compact")?;
        let total_bytes = view.row_bytes()?;
        let mut report =
            Report { at: CompactionProgress { copied_bytes: 0, verified_bytes: 0, total_bytes }, progress };
        let before = allocated(&pages);
        let new = match &pages {
            Pages::Memory(..) => {
                let new = Pages::in_memory();
                self.fill(&view, &new, &mut report)?;
                new
            }
            Pages::File(old) => self.replace(&view, old, &mut report)?,
        };
        // From here on the new file is the store, whatever else fails.
        if let Err(error) = self.move_to(&new) {
            tracing::error!(store = %self.subject(), %error, "the compacted file is opened by the next call");
            self.pins.lose_sight(Seen::Shown);
        }
        drop(view);
        Ok(Compacted { bytes_before: before, bytes_after: allocated(&new) })
    }

    /// Writes a new file and puts it in the place of the old one.
    fn replace(&self, view: &View, old: &StoreFile, report: &mut Report<'_>) -> Result<Pages> {
        let failed = |err| os_error("compact", &self.subject(), err);
        old.check_name("compact")?;
        let temporary = leftover(old);
        remove(old, &temporary);
        let new = NewFile::at(temporary, old.disk()).map_err(failed)?;
        let duplicate = new.file.try_clone().map_err(failed)?;
        let file = StoreFile::adopt(duplicate, new.number, old.path(), old.disk())?;
        let pages = Pages::File(std::sync::Arc::new(file));
        // Before anything is in it.
        old.give_permissions_to(&new.file);
        self.fill(view, &pages, report)?;
        old.disk().access(Access::Sync { file: new.number }, || new.file.sync_all()).map_err(failed)?;
        // Somebody may have put another file there meanwhile.
        old.check_name("compact")?;
        new.replace_file(old.real_path()).map_err(failed)?;
        if let Pages::File(file) = &pages
            && let Err(error) = file.sync_name()
        {
            // Both files hold the same. No write is acknowledged in the new one before its name is safe.
            tracing::warn!(%error, "a power cut may bring the file from before the compaction back");
        }
        Ok(pages)
    }

    /// Copies everything to empty pages, and compares it.
    fn fill(&self, view: &View, pages: &Pages, report: &mut Report<'_>) -> Result<()> {
        let subject = self.subject();
        // What fails in the new file says nothing of the old one.
        let health = Health::default();
        let copied = {
            let writer = open::writer(pages, &self.options, &health, &subject)?;
            // No more than there is already is written, but redb grows a file by doubling it.
            writer.fence.lift_bound();
            let copied = self.copy(view, &writer.db, &health, report);
            // Closing writes what the next open relies on, and cuts the file.
            health.close_shared(writer.db);
            copied?
        };
        let written = View::new(pages, self.options.mapped, None, None)?;
        written.check_system()?;
        let verified = hash(&written, report)?;
        if verified != copied {
            let message = "what was copied is not what is read back; the file was left as it was";
            return Err(Error::corrupt("compact", subject, message));
        }
        Ok(())
    }

    /// Copies every row, in order; returns the hash of what was written.
    fn copy(&self, view: &View, db: &Database, health: &Health, report: &mut Report<'_>) -> Result<blake3::Hash> {
        let hasher = blake3::Hasher::new();
        let mut copy = Copy { subject: self.subject(), health, db, transaction: None, open_bytes: 0, hasher };
        copy.with(make_tables)?;
        let mut losses = view.losses().clone();
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Losses) {
            let mut rows = Scan::of_table(view, table);
            let (mut last, mut gap) = (None, None);
            while let Some(row) = rows.next_or_gap(view, |key, value, page| {
                if !damage::is_in_its_place(table, key, value) {
                    // Spoiled when its page was written anew.
                    gap.get_or_insert(Gap { after: last.clone(), before: None });
                    return Ok(0);
                }
                if let Some(gap) = gap.take() {
                    losses.add(table, Gap { before: Some(key.to_vec()), ..gap });
                }
                last = Some(key.to_vec());
                if page == PageChecksum::Unverified && sealed::check_row(table, key, value).is_err() {
                    return copy.row(table, key, &damage::spoil(value));
                }
                copy.row(table, key, value)
            }) {
                match row {
                    Ok(written) => report.copied(written?),
                    Err(Missing::Gap(gap)) => losses.add(table, gap),
                    Err(Missing::Failed(err)) => return Err(err),
                }
            }
            gap.into_iter().for_each(|gap| losses.add(table, gap));
        }
        let mut lost = Vec::new();
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Losses) {
            for gap in losses.in_table(table) {
                lost.push(damage::row(table, gap, self.now())?);
            }
        }
        lost.sort();
        lost.dedup_by(|a, b| a.0 == b.0);
        for (key, value) in lost {
            report.copied(copy.row(Table::Losses, &key, &value)?);
        }
        for table in ArchiveTable::ALL {
            let mut rows = Scan::of_archives(view, table);
            let end = table.id(ARCHIVE_NUMBERS_END);
            while let Some(row) = rows.next_or_gap(view, |key, value, _| {
                // The row that ends the table, and what damage made of it: the next large archive brings another one.
                if archive_id(key).is_ok_and(|id| id >= end) { Ok(0) } else { copy.archive(table, key, value) }
            }) {
                match row {
                    Ok(written) => report.copied(written?),
                    // Whoever refers to one that is missing finds out.
                    Err(Missing::Gap(_)) => {
                        tracing::error!(table = table.name(), "archives that cannot be read are left out");
                    }
                    Err(Missing::Failed(err)) => return Err(err),
                }
            }
        }
        report.all_is_copied();
        copy.finish()
    }

    /// Goes on with `pages` in place of those that were open.
    fn move_to(&self, pages: &Pages) -> Result<()> {
        let before = {
            let mut handle = self.handle();
            std::mem::replace(&mut *handle, Handle { pages: pages.clone(), writer: None })
        };
        if let Some(writer) = before.writer {
            // Nothing of it is wanted any more.
            writer.abandon(&self.health);
        }
        // Until the end of this, whoever looks finds no writer, and the next write opens the file again.
        self.health.latch();
        self.advance(View::new(pages, self.options.mapped, None, None)?, Seen::Shown);
        self.install_writer(pages, Seen::Shown, || Ok(()))
    }
}

/// Rows on their way to another file.
struct Copy<'a> {
    subject: String,
    health: &'a Health,
    db: &'a Database,
    transaction: Option<WriteTransaction>,
    open_bytes: u64,
    hasher: blake3::Hasher,
}

impl Copy<'_> {
    fn with<T>(&mut self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T> {
        let (health, db) = (self.health, self.db);
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => health.contain("compact", &self.subject, || batch::begin_write(db))?,
        };
        let done = health.contain("compact", &self.subject, || work(&transaction));
        self.transaction = Some(transaction);
        done
    }

    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<u64> {
        self.with(|transaction| {
            transaction.open_table(table.definition())?.insert(key, value)?;
            Ok(())
        })?;
        self.count(table.name(), key, value)
    }

    /// In the order of ids, so that a large value never shares a page with a small one before it.
    fn archive(&mut self, table: ArchiveTable, key: &[u8], value: &[u8]) -> Result<u64> {
        let id = archive_id(key)?;
        self.with(|transaction| {
            transaction.open_table(table.definition())?.insert(id, value)?;
            Ok(())
        })?;
        self.count(table.name(), key, value)
    }

    fn count(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<u64> {
        add(&mut self.hasher, table, key, value);
        let bytes = (key.len() + value.len()) as u64;
        self.open_bytes += bytes;
        if self.open_bytes >= TRANSACTION_BYTES {
            self.commit()?;
        }
        Ok(bytes)
    }

    fn commit(&mut self) -> Result<()> {
        self.open_bytes = 0;
        match self.transaction.take() {
            Some(transaction) => self.health.contain("compact", &self.subject, || Ok(transaction.commit()?)),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<blake3::Hash> {
        self.commit()?;
        Ok(self.hasher.finalize())
    }
}

fn add(hasher: &mut blake3::Hasher, table: &str, key: &[u8], value: &[u8]) {
    for part in [table.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

/// The hash of every row, as [`Core::copy`] computes it; an error for a page that is not whole.
fn hash(view: &View, report: &mut Report<'_>) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let losses = Table::ALL.into_iter().filter(|table| *table == Table::Losses);
    let others = Table::ALL.into_iter().filter(|table| *table != Table::Losses);
    let rows = others.chain(losses).map(|table| (table.name(), Scan::rows_of(view, table)));
    let archives = ArchiveTable::ALL.into_iter().map(|table| (table.name(), Scan::of_archives(view, table)));
    for (name, mut scan) in rows.chain(archives) {
        while let Some(row) = scan.next_with(view, |key, value, _| {
            add(&mut hasher, name, key, value);
            (key.len() + value.len()) as u64
        }) {
            report.verified(row?);
        }
    }
    Ok(hasher.finalize())
}

struct Report<'a> {
    at: CompactionProgress,
    progress: &'a mut dyn FnMut(CompactionProgress),
}

impl Report<'_> {
    fn copied(&mut self, bytes: u64) {
        let before = self.at.copied_bytes;
        self.at.copied_bytes += bytes;
        self.tell(before, self.at.copied_bytes);
    }

    /// What could not be read was counted in advance, and what is noted of it was not.
    fn all_is_copied(&mut self) {
        self.at.total_bytes = self.at.copied_bytes;
    }

    fn verified(&mut self, bytes: u64) {
        let before = self.at.verified_bytes;
        self.at.verified_bytes += bytes;
        self.tell(before, self.at.verified_bytes);
    }

    fn tell(&mut self, before: u64, after: u64) {
        if before / REPORT_BYTES != after / REPORT_BYTES || after >= self.at.total_bytes {
            (self.progress)(self.at);
        }
    }
}

fn allocated(pages: &Pages) -> u64 {
    match pages {
        Pages::File(file) => file.usage().map_or(0, |(_, allocated)| allocated),
        Pages::Memory(..) => pages.len().unwrap_or(0),
    }
}

/// Where the new file of a compaction lies before it has its name. Whoever holds the store's lock may remove it.
fn leftover(file: &StoreFile) -> PathBuf {
    let name = file.real_path().file_name().always("an open file has a name").to_string_lossy().into_owned();
    let short = blake3::hash(name.as_bytes());
    let (short, _) = short.as_bytes().split_at(8);
    folder(file.real_path()).join(format!(".modelkeep-{}.compact", hex(short)))
}

/// Removes what a compaction left that did not come to its end.
pub(super) fn remove_leftover(pages: &Pages) {
    if let Pages::File(file) = pages {
        remove(file, &leftover(file));
    }
}

fn remove(file: &StoreFile, path: &PathBuf) {
    if fs::symlink_metadata(path).is_err() {
        return;
    }
    let removed = file.disk().access(Access::Remove { path }, || fs::remove_file(path));
    match removed {
        Ok(()) => tracing::info!(path = %path.display(), "removed what an earlier compaction left"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "an earlier compaction left a file behind"),
    }
}
