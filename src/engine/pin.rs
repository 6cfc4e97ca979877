//! Pins of commits: read transactions of redb that nobody reads with.

use std::{fmt, sync::Arc};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::health::Health;
use crate::types::error::Result;

/// While it lives, no page is reused that its commit, or a later one, reaches.
pub(super) struct Pin {
    _transaction: ReadTransaction,
}

impl Pin {
    /// Pins the newest commit.
    pub(super) fn take(db: &Database, health: &Health, subject: &str) -> Result<Arc<Self>> {
        let transaction = health.contain("read", subject, || Ok(db.begin_read()?))?;
        Ok(Arc::new(Self { _transaction: transaction }))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}
