//! LMDB through heed: a B+ tree in a map of memory.

#![allow(unsafe_code, reason = "opening an environment is unsafe: it maps a file")]

use std::path::Path;

use anyhow::{Context, Result};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, types::Bytes};

type Rows = Database<'static, Bytes, Bytes>;

/// An environment and its unnamed database.
pub struct Heed {
    env: Env,
    rows: Rows,
}

impl Heed {
    /// Makes an environment in a folder, with room for `map_bytes` in its map.
    pub fn create(folder: &Path, map_bytes: usize) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(map_bytes.next_multiple_of(4096));
        // SAFETY: no other process has this folder, and nobody changes the files but LMDB.
        let env = unsafe { options.open(folder) }.context("LMDB cannot be opened")?;
        let rows = env.create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        Ok(Self { rows: rows.unwrap_commit(), env })
    }

    /// Opens an environment for reading.
    pub fn open_read_only(folder: &Path) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        // SAFETY: READ_ONLY only takes away what may be done.
        unsafe { options.flags(EnvFlags::READ_ONLY) };
        // SAFETY: no other process writes to this folder, and nobody changes the files but LMDB.
        let env = unsafe { options.open(folder) }.context("LMDB cannot be opened")?;
        let rows = env.open_databases_and_commit(env.read_txn()?, |opener, transaction| {
            opener.open_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        Ok(Self { rows: rows.unwrap_commit().context("LMDB has no unnamed database")?, env })
    }

    /// Puts these rows in one durable transaction.
    pub fn put<'r>(&self, rows: impl IntoIterator<Item = (&'r [u8], &'r [u8])>) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in rows {
            self.rows.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    /// Lends the value of `key`, where it lies in the map.
    pub fn with<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let transaction = self.env.read_txn()?;
        let value = self.rows.get(&transaction, key)?.context("LMDB does not have the value")?;
        Ok(read(value))
    }

    /// Lends the values of these keys, each with what comes with its key, in one transaction.
    pub fn with_each<'k, T: 'k>(
        &self,
        wanted: impl Iterator<Item = (&'k Vec<u8>, &'k T)>,
        mut read: impl FnMut(&[u8], &T) -> Result<()>,
    ) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for (key, with) in wanted {
            read(self.rows.get(&transaction, key)?.context("LMDB does not have the value")?, with)?;
        }
        Ok(())
    }

    /// Lends every value.
    pub fn scan(&self, mut read: impl FnMut(&[u8])) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for row in self.rows.iter(&transaction)? {
            read(row?.1);
        }
        Ok(())
    }
}
