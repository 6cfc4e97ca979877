//! Reading one committed state, and writing the next.

use std::{cell::Cell, ops::Deref, sync::Arc};

use redb::{Database, OwnedAccessGuard, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::{
    health::Health,
    tables::{ARCHIVES, ARCHIVES_NAME, Definition, Table, TableUsage},
};
use crate::error::{Error, Result};

type Rows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What both a snapshot and a batch can read: small rows, as owned bytes.
pub(crate) trait Reader {
    /// Returns the row under `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Returns all rows whose keys begin with `prefix`, in order.
    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

/// The smallest key that is greater than every key which begins with `prefix`; `None` when there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// One committed state of the store; later commits do not show in it.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
    health: Arc<Health>,
}

/// A value in redb's own buffer.
///
/// It keeps its transaction alive: redb may free a page as soon as no transaction can see it, whoever holds a guard.
pub(crate) struct Value(OwnedAccessGuard<&'static [u8]>);

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.value()
    }
}

impl Snapshot {
    pub(super) fn new(transaction: ReadTransaction, health: Arc<Health>) -> Self {
        Self { transaction, health }
    }

    fn table(&self, definition: Definition) -> Result<Option<Rows>, redb::Error> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            // A table that this release knows and an older file does not have is empty.
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    /// Returns the large value under `id`, without copying it.
    pub(crate) fn archive(&self, id: u64) -> Result<Option<Value>> {
        self.health.contain("read", ARCHIVES_NAME, || match self.transaction.open_table(ARCHIVES) {
            Ok(table) => Ok(table.get_owned(id)?.map(|guard| {
                // redb cuts the value out of its page here and panics when a broken page gives it a range outside;
                // once it went well it goes well again, and later reads need no containment.
                let _: usize = guard.value().len();
                Value(guard)
            })),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(err) => Err(err.into()),
        })
    }

    /// Returns all rows of `table` whose keys begin with `prefix`, in order, one at a time.
    pub(crate) fn scan(&self, table: Table, prefix: &[u8]) -> Result<Scan> {
        let rows = self.health.contain("list", table.name(), || {
            let Some(table) = self.table(table.definition())? else {
                return Ok(None);
            };
            Ok(Some(match after_prefix(prefix) {
                Some(end) => table.range(prefix..end.as_slice())?,
                None => table.range(prefix..)?,
            }))
        })?;
        Ok(Scan { rows, last: None, table, health: Arc::clone(&self.health) })
    }

    /// Calls `visit` with the id and the bytes of every large value; stops at the first error.
    pub(crate) fn for_each_archive(&self, mut visit: impl FnMut(u64, &[u8])) -> Result<()> {
        self.health.contain("list", ARCHIVES_NAME, || {
            let table = match self.transaction.open_table(ARCHIVES) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(err) => return Err(err.into()),
            };
            let mut last = None;
            for row in table.iter()? {
                let (id, value) = row?;
                let id = id.value();
                if last.is_some_and(|last| last >= id) {
                    return Err(redb::Error::Corrupted("its keys are out of order".into()));
                }
                last = Some(id);
                visit(id, value.value());
            }
            Ok(())
        })
    }

    /// Returns what every table takes up.
    ///
    /// redb measures a tree by recursion, which on a damaged file with a cycle has no end but the stack's. So every
    /// tree is walked first, in a way that ends or fails.
    pub(crate) fn usage(&self) -> Result<Vec<TableUsage>> {
        for table in Table::ALL {
            self.scan(table, b"")?.try_for_each(|row| row.map(drop))?;
        }
        self.for_each_archive(|_, _| {})?;
        let usage = |name: &'static str, rows: u64, stats: &redb::TableStats| TableUsage {
            table: name,
            rows,
            stored_bytes: stats.stored_bytes(),
            overhead_bytes: stats.metadata_bytes() + stats.fragmented_bytes(),
        };
        self.health.contain("measure", "tables", || {
            let mut all = Vec::new();
            for table in Table::ALL {
                if let Some(open) = self.table(table.definition())? {
                    all.push(usage(table.name(), open.len()?, &open.stats()?));
                }
            }
            match self.transaction.open_table(ARCHIVES) {
                Ok(open) => all.push(usage(ARCHIVES_NAME, open.len()?, &open.stats()?)),
                Err(redb::TableError::TableDoesNotExist(_)) => {}
                Err(err) => return Err(err.into()),
            }
            Ok(all)
        })
    }
}

impl Reader for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.health.contain("read", table.name(), || {
            let Some(table) = self.table(table.definition())? else {
                return Ok(None);
            };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.scan(table, prefix)?.collect()
    }
}

/// Rows in key order, read as they are asked for.
///
/// Keys ascend; where they do not, the tree is damaged and may have a cycle, and the scan ends with an error.
pub(crate) struct Scan {
    rows: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    last: Option<Vec<u8>>,
    table: Table,
    health: Arc<Health>,
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        let row = self.health.contain("list", self.table.name(), || match rows.next() {
            None => Ok(None),
            Some(row) => {
                let (key, value) = row?;
                Ok(Some((key.value().to_vec(), value.value().to_vec())))
            }
        });
        let row = match row {
            Ok(Some((key, _))) if self.last.as_ref().is_some_and(|last| *last >= key) => {
                Err(Error::corrupt("list", self.table.name(), "its keys are out of order"))
            }
            row => row,
        };
        match &row {
            // A broken tree is not walked any further: it may never end.
            Err(_) | Ok(None) => self.rows = None,
            Ok(Some((key, _))) => self.last = Some(key.clone()),
        }
        row.transpose()
    }
}

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
}

impl Batch {
    pub(super) fn new(transaction: WriteTransaction, operation: &'static str, health: Arc<Health>) -> Self {
        Self { transaction: Some(transaction), operation, health, broken: Cell::new(false) }
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

    /// Removes a row and returns the bytes of its key and value; 0 when there was none.
    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<u64> {
        self.run(table.name(), |transaction| {
            let mut table = transaction.open_table(table.definition())?;
            let removed = table.remove(key)?.map_or(0, |value| (key.len() + value.value().len()) as u64);
            Ok(removed)
        })
    }

    /// Writes a large value in two parts, straight into its page.
    pub(crate) fn put_archive(&self, id: u64, header: &[u8], payload: &[u8]) -> Result<()> {
        self.run(ARCHIVES_NAME, |transaction| {
            let mut table = transaction.open_table(ARCHIVES)?;
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
        self.run(ARCHIVES_NAME, |transaction| {
            let mut table = transaction.open_table(ARCHIVES)?;
            let removed = table.remove(id)?.map_or(0, |value| value.value().len() as u64);
            Ok(removed)
        })
    }

    /// Makes everything durable and visible, or nothing.
    pub(crate) fn commit(mut self) -> Result<()> {
        match self.transaction.take() {
            Some(transaction) => self.health.contain(self.operation, "commit", || Ok(transaction.commit()?)),
            None => Ok(()),
        }
    }
}

impl Reader for Batch {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(table.name(), |transaction| {
            let table = transaction.open_table(table.definition())?;
            let value = table.get(key)?.map(|value| value.value().to_vec());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_right_after_it() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
        assert_eq!(after_prefix(b""), None);
    }
}
