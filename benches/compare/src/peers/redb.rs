//! Plain redb, as one would use it: values under text keys, default cache.

use std::path::Path;

use anyhow::{Context, Result};
use redb::{Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// When a commit is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phases {
    /// redb's default.
    One,
    /// A failed sync cannot lose the file.
    Two,
    /// The same, and what is free is written down, so that a file that was not closed opens at once: as our store commits.
    TwoAndQuickRepair,
}

/// Makes a file.
pub fn create(path: &Path) -> Result<Database> {
    Database::create(path).with_context(|| format!("redb cannot make {}", path.display()))
}

/// Opens a file for writing, which repairs it where that is needed.
pub fn open(path: &Path) -> Result<Database> {
    Database::builder().open(path).with_context(|| format!("redb cannot open {}", path.display()))
}

/// Puts these rows in one durable transaction.
pub fn put<'r>(db: &Database, phases: Phases, rows: impl IntoIterator<Item = (&'r str, &'r [u8])>) -> Result<()> {
    let mut transaction = db.begin_write()?;
    transaction.set_two_phase_commit(phases != Phases::One);
    transaction.set_quick_repair(phases == Phases::TwoAndQuickRepair);
    {
        let mut table = transaction.open_table(ROWS)?;
        for (key, value) in rows {
            table.insert(key, value)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Writes a row and never commits it: calls `then` while the transaction is open.
pub fn put_and(db: &Database, key: &str, value: &[u8], then: impl FnOnce() -> Result<()>) -> Result<()> {
    let transaction = db.begin_write()?;
    transaction.open_table(ROWS)?.insert(key, value)?;
    then()
}

/// Opens a file for reading and lends the value of `key`, in redb's own buffer.
pub fn with<R>(path: &Path, key: &str, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
    let db = ReadOnlyDatabase::open(path).context("redb cannot be opened")?;
    let table = db.begin_read()?.open_table(ROWS)?;
    let value = table.get(key)?.context("redb does not have the value")?;
    Ok(read(value.value()))
}

/// Lends every value.
pub fn scan(db: &Database, mut read: impl FnMut(&[u8])) -> Result<()> {
    let table = db.begin_read()?.open_table(ROWS)?;
    for row in table.iter()? {
        read(row?.1.value());
    }
    Ok(())
}
