//! What takes up the space of a file.

use crate::{
    engine::{Snapshot, TableUsage},
    store::Store,
    types::error::Result,
};

/// What a store takes up, on the device and in its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The file's length; 0 for a store in memory.
    pub file_bytes: u64,
    /// What the file system has allocated for it, which is less when the file has holes; 0 for a store in memory.
    pub allocated_bytes: u64,
    /// Every table.
    pub tables: Vec<TableUsage>,
}

impl Usage {
    /// Returns the bytes of pages that hold the current state: keys, values, and the trees around them.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.stored_bytes + table.overhead_bytes).sum()
    }

    /// Returns the allocated bytes that hold nothing of the current state: free pages, pages of older states, and the
    /// engine's own bookkeeping. A compaction gives most of them back.
    #[must_use]
    pub fn dead_bytes(&self) -> u64 {
        self.allocated_bytes.saturating_sub(self.live_bytes())
    }
}

impl Store {
    /// Says what the store takes up. Walks the trees of all tables, which reads every page of the current state.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::open(folder.path().join("models.redb"))?;
    /// let usage = store.usage()?;
    /// assert!(usage.live_bytes() <= usage.file_bytes);
    /// for table in &usage.tables {
    ///     println!("{}: {} bytes", table.table, table.stored_bytes);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` or `Io` when a tree cannot be walked.
    pub fn usage(&self) -> Result<Usage> {
        let (file_bytes, allocated_bytes) = self.file_usage()?;
        Ok(Usage { file_bytes, allocated_bytes, tables: self.look(Snapshot::usage)? })
    }
}
