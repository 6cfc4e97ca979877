//! Reading one committed state: in the map of the file, or through redb where there is no map.
//!
//! Both ways give the same rows in the same order and the same kinds of errors; the tests run on both.

use std::{ops::Deref, sync::Arc};

use redb::{OwnedAccessGuard, ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::{
    health::Health,
    mapped::{Eras, MappedScan, MappedValue, View},
    tables::{ARCHIVES, ARCHIVES_NAME, Definition, Table, TableUsage},
};
use crate::{
    error::{Error, Result},
    format::record::Page,
};

type Rows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What both a snapshot and a batch can read: small rows, as owned bytes.
pub(crate) trait Reader {
    /// Returns the row under `key`, and whether its page is known to be whole.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Page)>>;

    /// Returns all rows whose keys begin with `prefix`, in order.
    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

/// The smallest key that is greater than every key which begins with `prefix`; `None` when there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// One committed state of the store; later commits do not show in it.
pub(crate) enum Snapshot {
    /// Read in place.
    Mapped {
        view: Arc<View>,
        eras: Arc<Eras>,
        /// Whether the checksum of a page is as good as the seals of its rows.
        trusts_pages: bool,
    },
    /// Read by redb, into buffers of its own.
    Copied(Transaction),
}

/// A read transaction of redb.
pub(crate) struct Transaction {
    transaction: ReadTransaction,
    health: Arc<Health>,
}

/// A large value in place, or in redb's own buffer.
pub(crate) enum Value {
    Mapped(MappedValue, Arc<Eras>),
    /// It keeps its transaction alive: redb may free a page as soon as no transaction can see it, whoever holds a
    /// guard.
    Copied(OwnedAccessGuard<&'static [u8]>),
}

impl Value {
    /// Says that all of it is going to be read, in order.
    pub(super) fn expect_order(&self) {
        if let Self::Mapped(value, _) = self {
            value.view.expect_order();
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(value, _) => value,
            Self::Copied(guard) => guard.value(),
        }
    }
}

impl Snapshot {
    pub(super) fn copied(transaction: ReadTransaction, health: Arc<Health>) -> Self {
        Self::Copied(Transaction { transaction, health })
    }

    /// Returns the large value under `id`, without copying it.
    pub(crate) fn archive(&self, id: u64) -> Result<Option<Value>> {
        match self {
            Self::Mapped { view, eras, .. } => {
                Ok(view.archive(id)?.map(|value| Value::Mapped(value, Arc::clone(eras))))
            }
            Self::Copied(copied) => copied.archive(id),
        }
    }

    /// Returns all rows of `table` whose keys begin with `prefix`, in order, one at a time.
    pub(crate) fn scan(&self, table: Table, prefix: &[u8]) -> Result<Scan> {
        self.scan_between(table, prefix, after_prefix(prefix))
    }

    /// Returns the rows of `table` from `start` up to `end`, or to the last, in order, one at a time.
    pub(crate) fn scan_between(&self, table: Table, start: &[u8], end: Option<Vec<u8>>) -> Result<Scan> {
        match self {
            Self::Mapped { view, .. } => Ok(Scan::Mapped { rows: view.scan(table, start)?, end }),
            Self::Copied(copied) => copied.scan(table, start, end),
        }
    }

    /// Calls `visit` with the id and the bytes of every large value; stops at the first error.
    pub(crate) fn for_each_archive(&self, mut visit: impl FnMut(u64, &[u8])) -> Result<()> {
        match self {
            Self::Mapped { view, .. } => {
                let mut rows = view.scan_archives()?;
                while let Some((id, value, _)) = rows.next(false)? {
                    visit(id.first_chunk().map_or(0, |id| u64::from_le_bytes(*id)), value);
                }
                Ok(())
            }
            Self::Copied(copied) => copied.for_each_archive(visit),
        }
    }

    /// Returns what every table takes up.
    pub(crate) fn usage(&self) -> Result<Vec<TableUsage>> {
        match self {
            Self::Mapped { view, .. } => mapped_usage(view),
            Self::Copied(copied) => {
                // redb measures a tree by recursion, which on a damaged file with a cycle has no end but the stack's.
                // So every tree is walked first, in a way that ends or fails.
                for table in Table::ALL {
                    self.scan(table, b"")?.try_for_each(|row| row.map(drop))?;
                }
                self.for_each_archive(|_, _| {})?;
                copied.usage()
            }
        }
    }
}

impl Reader for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Page)>> {
        match self {
            Self::Mapped { view, trusts_pages: true, .. } => {
                Ok(view.get_checked(table, key)?.map(|(row, page)| (row.to_vec(), page)))
            }
            Self::Mapped { view, .. } => Ok(view.get(table, key)?.map(|row| (row.to_vec(), Page::Unchecked))),
            Self::Copied(copied) => Ok(copied.get(table, key)?.map(|row| (row, Page::Unchecked))),
        }
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.scan(table, prefix)?.collect()
    }
}

fn mapped_usage(view: &Arc<View>) -> Result<Vec<TableUsage>> {
    let measure = |table: &'static str, mut rows: MappedScan| {
        let mut usage = TableUsage { table, rows: 0, stored_bytes: 0, overhead_bytes: 0 };
        while let Some((key, value, _)) = rows.next(false)? {
            usage.rows += 1;
            usage.stored_bytes += (key.len() + value.len()) as u64;
        }
        usage.overhead_bytes = rows.page_bytes().saturating_sub(usage.stored_bytes);
        Ok(usage)
    };
    let small = Table::ALL.into_iter().filter(|&table| view.has(table));
    let mut all: Vec<_> = small.map(|table| measure(table.name(), view.scan(table, b"")?)).collect::<Result<_>>()?;
    all.push(measure(ARCHIVES_NAME, view.scan_archives()?)?);
    Ok(all)
}

impl Transaction {
    fn table(&self, definition: Definition) -> Result<Option<Rows>, redb::Error> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            // A table that this release knows and an older file does not have is empty.
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.health.contain("read", table.name(), || {
            let Some(table) = self.table(table.definition())? else {
                return Ok(None);
            };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn archive(&self, id: u64) -> Result<Option<Value>> {
        self.health.contain("read", ARCHIVES_NAME, || match self.transaction.open_table(ARCHIVES) {
            Ok(table) => Ok(table.get_owned(id)?.map(|guard| {
                // redb cuts the value out of its page here and panics when a broken page gives it a range outside;
                // once it went well it goes well again, and later reads need no containment.
                let _: usize = guard.value().len();
                Value::Copied(guard)
            })),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(err) => Err(err.into()),
        })
    }

    fn scan(&self, table: Table, start: &[u8], end: Option<Vec<u8>>) -> Result<Scan> {
        let rows = self.health.contain("list", table.name(), || {
            let Some(table) = self.table(table.definition())? else {
                return Ok(None);
            };
            Ok(Some(match end {
                Some(end) => table.range(start..end.as_slice())?,
                None => table.range(start..)?,
            }))
        })?;
        Ok(Scan::Copied { rows, last: None, table, health: Arc::clone(&self.health) })
    }

    fn for_each_archive(&self, mut visit: impl FnMut(u64, &[u8])) -> Result<()> {
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

    fn usage(&self) -> Result<Vec<TableUsage>> {
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

/// Rows in key order, read as they are asked for.
///
/// Keys ascend; where they do not, the tree is damaged and may have a cycle, and the scan ends with an error.
pub(crate) enum Scan {
    Mapped {
        rows: MappedScan,
        /// The first key that does not belong to it.
        end: Option<Vec<u8>>,
    },
    Copied {
        rows: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
        last: Option<Vec<u8>>,
        table: Table,
        health: Arc<Health>,
    },
}

impl Scan {
    /// Calls `visit` with the next row, in place where it lies in the map, and whether its page is whole; `None` at the
    /// end.
    pub(crate) fn next_with<T>(&mut self, visit: impl FnOnce(&[u8], &[u8], Page) -> T) -> Option<Result<T>> {
        self.next_row(true, visit)
    }

    /// The same for rows whose seals are going to be checked: nobody asks about their pages.
    pub(crate) fn next_sealed<T>(&mut self, visit: impl FnOnce(&[u8], &[u8]) -> T) -> Option<Result<T>> {
        self.next_row(false, |key, value, _| visit(key, value))
    }

    fn next_row<T>(&mut self, check: bool, visit: impl FnOnce(&[u8], &[u8], Page) -> T) -> Option<Result<T>> {
        match self {
            Self::Mapped { rows, end } => match rows.next(check) {
                Ok(Some((key, value, page))) if end.as_deref().is_none_or(|end| key < end) => {
                    Some(Ok(visit(key, value, page)))
                }
                Ok(_) => None,
                Err(err) => Some(Err(err)),
            },
            Self::Copied { rows, last, table, health } => match next_copied(rows, last, *table, health)? {
                Ok((key, value)) => Some(Ok(visit(&key, &value, Page::Unchecked))),
                Err(err) => Some(Err(err)),
            },
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(|key, value, _| (key.to_vec(), value.to_vec()))
    }
}

fn next_copied(
    rows: &mut Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    last: &mut Option<Vec<u8>>,
    table: Table,
    health: &Health,
) -> Option<Result<(Vec<u8>, Vec<u8>)>> {
    let range = rows.as_mut()?;
    let row = health.contain("list", table.name(), || match range.next() {
        None => Ok(None),
        Some(row) => {
            let (key, value) = row?;
            Ok(Some((key.value().to_vec(), value.value().to_vec())))
        }
    });
    let row = match row {
        Ok(Some((key, _))) if last.as_ref().is_some_and(|last| *last >= key) => {
            Err(Error::corrupt("list", table.name(), "its keys are out of order"))
        }
        row => row,
    };
    match &row {
        // A broken tree is not walked any further: it may never end.
        Err(_) | Ok(None) => *rows = None,
        Ok(Some((key, _))) => *last = Some(key.clone()),
    }
    row.transpose()
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
