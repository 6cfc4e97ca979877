//! fjall: a log-structured merge tree, with its own way of keeping large values in files of their own.
//!
//! Large values are separated from keys and not compressed, which is what fjall's documentation advises for blobs and
//! what reads them fastest.

use std::path::Path;

use anyhow::{Context, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

/// A database and its one keyspace.
pub struct Fjall {
    rows: Keyspace,
    db: Database,
}

impl Fjall {
    /// Opens the database in a folder, and makes it when there is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let db = Database::builder(folder).open().context("fjall cannot be opened")?;
        let separated = || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
        Ok(Self { rows: db.keyspace("rows", separated)?, db })
    }

    /// Puts a row and makes it durable.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.rows.insert(key, value)?;
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    /// Moves everything out of the memory table, so that a reader finds tables and not a journal to replay.
    pub fn flush(&self) -> Result<()> {
        Ok(self.rows.rotate_memtable_and_wait()?)
    }

    /// Lends the value of `key`.
    pub fn with<R>(&self, key: &str, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let value = self.rows.get(key)?.context("fjall does not have the value")?;
        Ok(read(&value))
    }
}
