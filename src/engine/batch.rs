//! Writing the next state, as a whole or not at all.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use redb::{Database, ReadableTable, WriteTransaction};

use super::{
    health::Health,
    mapped::Eras,
    pin::{Handle, OpenFile},
    snapshot::{Reader, after_prefix},
    tables::{ARCHIVES, ARCHIVES_NAME, Table},
};
use crate::{
    error::Result,
    format::record::Page,
    limits::{MAPPED_BYTES_MIN, SETTLE_BYTES_MIN},
};

/// Begins a write transaction that is committed in two phases and can be repaired quickly, as all of them are.
pub(super) fn begin_write(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// One write transaction. Dropped without a commit, it changes nothing.
pub(crate) struct Batch {
    transaction: Option<WriteTransaction>,
    operation: &'static str,
    health: Arc<Health>,
    /// A panic came from this very transaction.
    broken: Cell<bool>,
    open: Arc<OpenFile>,
    eras: Arc<Eras>,
    /// Archives that this transaction removes or writes anew, and their bytes.
    departing: RefCell<Vec<u64>>,
    departing_bytes: Cell<u64>,
}

impl Batch {
    pub(super) fn new(
        transaction: WriteTransaction,
        operation: &'static str,
        open: Arc<OpenFile>,
        eras: Arc<Eras>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            transaction: Some(transaction),
            operation,
            health,
            broken: Cell::new(false),
            open,
            eras,
            departing: RefCell::default(),
            departing_bytes: Cell::new(0),
        }
    }

    /// Notes that an archive leaves its pages, which hold `bytes`.
    pub(super) fn departs(&self, id: u64, bytes: u64) {
        self.departing.borrow_mut().push(id);
        self.departing_bytes.set(self.departing_bytes.get() + bytes);
    }

    fn run<T>(&self, subject: &str, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T> {
        let Some(transaction) = &self.transaction else {
            unreachable!("the transaction is taken by commit and drop alone, which end the batch");
        };
        // Cleared again unless the work panics.
        self.broken.set(true);
        self.health.contain(self.operation, subject, || {
            let result = work(transaction);
            self.broken.set(false);
            result
        })
    }

    /// Writes a row.
    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.run(table.name(), |transaction| {
            transaction.open_table(table.definition())?.insert(key, value)?;
            Ok(())
        })
    }

    /// The keys that begin with `prefix`, in order.
    pub(crate) fn keys(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.run(table.name(), |transaction| {
            let table = transaction.open_table(table.definition())?;
            let rows = match after_prefix(prefix) {
                Some(end) => table.range(prefix..end.as_slice())?,
                None => table.range(prefix..)?,
            };
            rows.map(|row| Ok(row?.0.value().to_vec())).collect()
        })
    }

    /// Removes a row and returns the bytes of its key and value; 0 when there was none.
    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<u64> {
        self.run(table.name(), |transaction| {
            let mut table = transaction.open_table(table.definition())?;
            let removed = table.remove(key)?.map_or(0, |value| (key.len() + value.value().len()) as u64);
            Ok(removed)
        })
    }

    /// Writes a large value in two parts, straight into its page. Best done last in a transaction: every page that redb
    /// takes up after it pushes it out of the write buffer, and then it is read back at the commit for its checksum.
    pub(crate) fn put_archive(&self, id: u64, header: &[u8], payload: &[u8]) -> Result<()> {
        self.run(ARCHIVES_NAME, |transaction| {
            let mut table = transaction.open_table(ARCHIVES)?;
            if payload.len() >= MAPPED_BYTES_MIN {
                // The branches above it are taken up by an empty value, before it and not after it.
                table.insert(id, [].as_slice())?;
            }
            let mut page = table.insert_reserve(id, header.len() + payload.len())?;
            let (head, tail) = page.as_mut().split_at_mut(header.len());
            head.copy_from_slice(header);
            tail.copy_from_slice(payload);
            Ok(())
        })
    }

    /// The highest id that a large value has.
    pub(crate) fn last_archive(&self) -> Result<Option<u64>> {
        self.run(ARCHIVES_NAME, |transaction| {
            let table = transaction.open_table(ARCHIVES)?;
            let last = table.last()?.map(|(id, _)| id.value());
            Ok(last)
        })
    }

    /// Removes a large value and returns its bytes; 0 when there was none.
    pub(crate) fn remove_archive(&self, id: u64) -> Result<u64> {
        let removed = self.run(ARCHIVES_NAME, |transaction| {
            let mut table = transaction.open_table(ARCHIVES)?;
            let removed = table.remove(id)?.map_or(0, |value| value.value().len() as u64);
            Ok(removed)
        })?;
        self.departs(id, removed);
        Ok(removed)
    }

    /// Makes everything durable and visible, or nothing.
    pub(crate) fn commit(mut self) -> Result<()> {
        let Some(transaction) = self.transaction.take() else {
            return Ok(());
        };
        let departing = self.departing.take();
        self.eras.depart(&departing);
        self.health.contain(self.operation, "commit", || Ok(transaction.commit()?))?;
        let was_pinned = self.eras.advance(&self.open, &departing);
        if was_pinned && self.departing_bytes.get() >= SETTLE_BYTES_MIN {
            self.settle();
        }
        Ok(())
    }

    /// Lets redb take back the pages that the commit freed. At the commit they were still pinned, as the state before it;
    /// without this the next large value would be put behind them, and the file would grow by one version more.
    fn settle(&self) {
        let Handle::Write(db) = self.open.handle() else {
            return;
        };
        let settled = self.health.contain(self.operation, "settle", || Ok(begin_write(db)?.commit()?));
        match settled {
            Ok(()) => {
                self.eras.advance(&self.open, &[]);
            }
            // What was to be written is written.
            Err(error) => tracing::warn!(%error, "freed pages are not taken back yet"),
        }
    }
}

impl Reader for Batch {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Page)>> {
        self.run(table.name(), |transaction| {
            let table = transaction.open_table(table.definition())?;
            let value = table.get(key)?.map(|value| (value.value().to_vec(), Page::Unchecked));
            Ok(value)
        })
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.run(table.name(), |transaction| {
            let table = transaction.open_table(table.definition())?;
            let rows = match after_prefix(prefix) {
                Some(end) => table.range(prefix..end.as_slice())?,
                None => table.range(prefix..)?,
            };
            rows.map(|row| {
                let (key, value) = row?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })
            .collect()
        })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        match self.transaction.take() {
            // Nobody waits for it: after a panic the engine begins no other.
            Some(transaction) if self.broken.get() => drop(Box::leak(Box::new(transaction))),
            Some(transaction) => self.health.drop_contained(transaction),
            None => {}
        }
    }
}
