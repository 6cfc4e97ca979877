//! Writing the next state, as a whole or not at all.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use redb::{Database, WriteTransaction};

use super::{
    Core,
    backend::Fence,
    damage::{self, Gap},
    mapped::Commit,
    snapshot::{Reader, Snapshot, after_prefix},
    tables::{ARCHIVE_NUMBERS_END, ArchiveTable, LARGE_BYTES_MIN, LAST_ARCHIVE, Table},
};
use crate::{
    format::{envelope::HEADER_BYTES, record::PageChecksum},
    types::{
        error::{Error, Result},
        limits::{RECLAIM_BYTES_MIN, RECLAIM_ROW_BYTES_MIN},
    },
};

/// Begins a write transaction that is committed in two phases and can be repaired quickly, as all of them are.
pub(super) fn begin_write(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = db.begin_write()?;
    // Commits of this kind have two phases, as redb promises.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// One write transaction. Dropped without a commit, it changes nothing.
///
/// What it reads is the state that it began with, checked as every snapshot is, under its own writes; redb is not
/// asked.
pub(crate) struct Batch {
    transaction: Option<WriteTransaction>,
    operation: &'static str,
    core: Arc<Core>,
    /// The one that redb writes through.
    fence: Fence,
    base: Snapshot,
    /// A panic came from this very transaction.
    broken: Cell<bool>,
    /// Rows that were written, or removed.
    written: RefCell<WrittenRows>,
    /// Bytes of archives that leave their pages.
    freed_bytes: Cell<u64>,
    /// Bytes of rows that were written or removed: their pages are written anew, and leave the old ones.
    freed_row_bytes: Cell<u64>,
    has_last_archive: Cell<bool>,
}

/// A sealed archive.
pub(crate) enum Sealed<'a> {
    /// In one piece, which is copied once.
    Whole(&'a [u8]),
    /// In two. redb fills the page with zeros first, out of as many zeros elsewhere.
    Apart { header: &'a [u8; HEADER_BYTES], payload: &'a [u8] },
}

impl Sealed<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Whole(sealed) => sealed.len(),
            Self::Apart { header, payload } => header.len() + payload.len(),
        }
    }
}

/// Values by table and key; `None` for a row that was removed.
type WrittenRows = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

/// A commit that is in the file. The tiers above show it, and then it is [finished](Self::finish).
#[must_use]
pub(crate) struct Committed {
    core: Arc<Core>,
    operation: &'static str,
    /// Why nobody can say whether it survives a power cut.
    doubt: Option<Error>,
    /// It freed enough for redb to take back at once.
    reclaims: bool,
}

impl Committed {
    /// Does what is left to be done, and says what is in doubt.
    pub(crate) fn finish(self) -> Result<()> {
        if self.reclaims && self.doubt.is_none() {
            self.core.reclaim_freed_pages(self.operation);
        }
        self.core.check_held(self.operation)?;
        self.doubt.map_or(Ok(()), Err)
    }
}

impl Batch {
    pub(super) fn new(
        transaction: WriteTransaction,
        operation: &'static str,
        core: Arc<Core>,
        fence: Fence,
        base: Snapshot,
    ) -> Self {
        Self {
            transaction: Some(transaction),
            operation,
            core,
            fence,
            base,
            broken: Cell::new(false),
            written: RefCell::default(),
            freed_bytes: Cell::new(0),
            freed_row_bytes: Cell::new(0),
            has_last_archive: Cell::new(false),
        }
    }

    /// Says that this transaction removes: it may grow the file beyond its bound, for as long as it needs the room.
    pub(crate) fn frees_room(&self) {
        self.core.set_bound(false);
    }

    /// The state that this transaction began with.
    pub(crate) fn before(&self) -> &Snapshot {
        &self.base
    }

    fn run<T>(&self, subject: &str, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T> {
        let Some(transaction) = &self.transaction else {
            unreachable!("the transaction is taken by commit and drop alone, which end the batch");
        };
        // Cleared again unless the work panics.
        self.broken.set(true);
        self.core.health.contain(self.operation, subject, || {
            let result = work(transaction);
            self.broken.set(false);
            result
        })
    }

    /// Makes sure that writing the row under `key` covers up no damage: what redb is about to write anew is whole, or
    /// what is missing there is written down first, and what is damaged is spoiled.
    fn prepare(&self, table: Table, key: &[u8], removes: bool) -> Result<()> {
        if self.core.is_in_memory() {
            return Ok(());
        }
        let view = self.base.view();
        for damaged in view.damage_around(table, key, removes)? {
            if let Some(gap) = damaged.gap.filter(|gap| !view.losses().in_table(table).contains(gap)) {
                tracing::error!(table = table.name(), ?gap, "rows may have been lost to a damaged page");
                self.note_loss(table, &gap)?;
            }
            for (key, value) in damaged.spoiled {
                // What this transaction wrote there is whole.
                if !self.written.borrow().contains_key(&(table, key.clone())) {
                    self.insert(table, &key, &value)?;
                }
            }
        }
        Ok(())
    }

    /// Writes down that rows may be missing.
    fn note_loss(&self, table: Table, gap: &Gap) -> Result<()> {
        let (key, value) = damage::row(table, gap, self.core.now())?;
        self.insert(Table::Losses, &key, &value)
    }

    fn insert(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.run(table.name(), |transaction| {
            transaction.open_table(table.definition())?.insert(key, value)?;
            Ok(())
        })?;
        self.written.borrow_mut().insert((table, key.to_vec()), Some(value.to_vec()));
        Ok(())
    }

    /// Writes a row.
    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.prepare(table, key, false)?;
        // Nearly what was there before, if anything was.
        self.frees_rows(value.len());
        self.insert(table, key, value)
    }

    /// Whether this transaction wrote the row under `key`, or removed it.
    pub(crate) fn has_written(&self, table: Table, key: &[u8]) -> bool {
        self.written.borrow().contains_key(&(table, key.to_vec()))
    }

    /// Calls `visit` with every row whose key begins with `prefix` that this transaction wrote, or removed.
    fn for_each_written(&self, table: Table, prefix: &[u8], mut visit: impl FnMut(&[u8], Option<&[u8]>)) {
        let end = match after_prefix(prefix) {
            Some(end) => Bound::Excluded((table, end)),
            None => Bound::Unbounded,
        };
        let written = self.written.borrow();
        let range = written.range((Bound::Included((table, prefix.to_vec())), end));
        for ((_, key), value) in range.take_while(|((of, _), _)| *of == table) {
            visit(key, value.as_deref());
        }
    }

    /// Removes a row and returns the bytes of its key and value; 0 when there was none.
    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<u64> {
        let Some((value, _)) = self.get(table, key)? else {
            return Ok(0);
        };
        self.prepare(table, key, true)?;
        self.frees_rows(value.len());
        let removed = self.run(table.name(), |transaction| {
            let mut table = transaction.open_table(table.definition())?;
            let removed = table.remove(key)?.is_some();
            Ok(removed)
        })?;
        if !removed {
            let message =
                "a row that is there cannot be found to be removed; `Store::compact` makes a file without damage";
            return Err(Error::corrupt(self.operation, table.name(), message));
        }
        self.written.borrow_mut().insert((table, key.to_vec()), None);
        Ok((key.len() + value.len()) as u64)
    }

    /// Removes every row of the table of losses, whatever of it can be read. What is said of bars that may be among the
    /// lost ones goes with them.
    pub(crate) fn forget_losses(&self) -> Result<()> {
        let lost = [Table::Bars, Table::BarFacts].into_iter().any(|table| self.base.has_losses(table));
        if lost {
            self.clear(Table::BarFacts)?;
        }
        self.clear(Table::Losses)
    }

    /// Removes every row of a table, whatever of it can be read.
    fn clear(&self, table: Table) -> Result<()> {
        self.run(table.name(), |transaction| {
            transaction.delete_table(table.definition())?;
            transaction.open_table(table.definition())?;
            Ok(())
        })?;
        self.written.borrow_mut().retain(|(of, _), _| *of != table);
        Ok(())
    }

    /// Writes an archive. Best done last in a transaction: every page that redb takes up after it pushes it out of the
    /// write buffer, and then it is read back at the commit for its checksum.
    ///
    /// A large one is alone in its pages, whatever comes later: no value beside it is small enough to share a leaf.
    pub(super) fn put_archive(&self, id: u64, archive: &Sealed<'_>) -> Result<()> {
        let table = ArchiveTable::of(id);
        let bytes = archive.bytes();
        let is_large = bytes >= LARGE_BYTES_MIN;
        assert_eq!(is_large, table == ArchiveTable::Large, "an archive of {bytes} bytes under the id {id}");
        self.base.view().check_archive_pages(id)?;
        if let Some(before) = self.base.view().locate_archive(id)? {
            self.frees(before.range.end - before.range.start);
        }
        // Whatever lies beside a large one is large, and alone.
        let _skim = is_large.then(|| self.fence.skim());
        self.run(table.name(), |transaction| {
            let mut table = transaction.open_table(table.definition())?;
            if is_large {
                // Insert an empty value first: that takes up the branches above it before the large page, not after it.
                table.insert(id, [].as_slice())?;
            }
            match archive {
                Sealed::Whole(sealed) => drop(table.insert(id, *sealed)?),
                Sealed::Apart { header, payload } => {
                    let mut page = table.insert_reserve(id, bytes)?;
                    let (head, tail) = page.as_mut().split_at_mut(header.len());
                    head.copy_from_slice(*header);
                    tail.copy_from_slice(payload);
                }
            }
            Ok(())
        })
    }

    /// Whether the table of large archives ends with the row that ends it, or is about to.
    pub(super) fn has_last_archive(&self) -> Result<bool> {
        if !self.has_last_archive.get() {
            self.has_last_archive.set(self.base.view().locate_archive(LAST_ARCHIVE)?.is_some());
        }
        Ok(self.has_last_archive.get())
    }

    /// Says that it does from here on.
    pub(super) fn note_last_archive(&self) {
        self.has_last_archive.set(true);
    }

    /// The highest number that an archive's id can have been made of.
    pub(crate) fn last_archive_number(&self) -> Result<Option<u64>> {
        let mut last = None;
        for table in ArchiveTable::ALL {
            let end = table.id(ARCHIVE_NUMBERS_END);
            let highest = self.run(table.name(), |transaction| {
                let table = transaction.open_table(table.definition())?;
                let highest = last_below(&table, end)?;
                Ok(highest)
            })?;
            last = last.max(highest.map(ArchiveTable::number));
        }
        Ok(last)
    }

    /// Removes an archive and returns its bytes; 0 when there was none.
    pub(crate) fn remove_archive(&self, id: u64) -> Result<u64> {
        let table = ArchiveTable::of(id);
        self.base.view().check_archive_pages(id)?;
        let _skim = (table == ArchiveTable::Large).then(|| self.fence.skim());
        let removed = self.run(table.name(), |transaction| {
            let mut table = transaction.open_table(table.definition())?;
            let removed = table.remove(id)?.map_or(0, |value| value.value().len() as u64);
            Ok(removed)
        })?;
        self.frees(removed);
        Ok(removed)
    }

    fn frees_rows(&self, bytes: usize) {
        self.freed_row_bytes.set(self.freed_row_bytes.get() + bytes as u64);
    }

    fn frees(&self, bytes: u64) {
        self.freed_bytes.set(self.freed_bytes.get() + bytes);
    }

    /// Makes everything durable and visible, or nothing: after an error nothing has changed, unless it is of the kind
    /// `OutcomeUnknown`.
    pub(crate) fn commit(mut self) -> Result<Committed> {
        let Some(transaction) = self.transaction.take() else {
            unreachable!("the transaction is taken by commit and drop alone, which end the batch");
        };
        let (core, operation, before) = (Arc::clone(&self.core), self.operation, self.base.view().number());
        let reclaims =
            self.freed_bytes.get() >= RECLAIM_BYTES_MIN || self.freed_row_bytes.get() >= RECLAIM_ROW_BYTES_MIN;
        let committed = core.health.contain(operation, "commit", || Ok(transaction.commit()?));
        // No handle but the core's is open when the file is opened again.
        drop(self);
        let doubt = match committed {
            Ok(()) => {
                core.look_again();
                None
            }
            Err(error) => core.resolve(operation, before, error)?,
        };
        Ok(Committed { core, operation, doubt, reclaims })
    }
}

/// The highest id below `end`.
fn last_below(
    table: &impl redb::ReadableTable<u64, &'static [u8]>,
    end: u64,
) -> Result<Option<u64>, redb::StorageError> {
    Ok(table.range(..end)?.next_back().transpose()?.map(|(id, _)| id.value()))
}

impl Reader for Batch {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, PageChecksum)>> {
        match self.written.borrow().get(&(table, key.to_vec())) {
            Some(written) => Ok(written.clone().map(|value| (value, PageChecksum::Unverified))),
            None => self.base.get(table, key),
        }
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = self.base.prefix(table, prefix)?.into_iter().collect();
        self.for_each_written(table, prefix, |key, value| match value {
            Some(value) => drop(rows.insert(key.to_vec(), value.to_vec())),
            None => drop(rows.remove(key)),
        });
        Ok(rows.into_iter().collect())
    }

    fn keys(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut keys: BTreeSet<Vec<u8>> = self.base.keys(table, prefix)?.into_iter().collect();
        self.for_each_written(table, prefix, |key, value| match value {
            Some(_) => drop(keys.insert(key.to_vec())),
            None => drop(keys.remove(key)),
        });
        Ok(keys.into_iter().collect())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        match self.transaction.take() {
            // Nobody waits for it: after a panic the engine begins no other.
            Some(transaction) if self.broken.get() => drop(Box::leak(Box::new(transaction))),
            Some(transaction) => self.core.health.drop_contained(transaction),
            None => {}
        }
    }
}
