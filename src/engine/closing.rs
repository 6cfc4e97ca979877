//! Closing the file for writing: with a last commit, which takes pins and free pages to the next open, and a sync.
//!
//! After an I/O error there is no handle that could do that, and what is shown may not be durable. So the file is
//! [opened again](super::recovery) first: that makes durable what is in it, and what is left then is a file that closes
//! as any other does.

use std::sync::atomic::Ordering;

use super::{
    Core, Engine,
    backend::{Fence, Pages},
};
use crate::types::error::{Error, ErrorKind, Result};

impl Engine {
    /// Closes the file for writing; what is held can still be read.
    pub(crate) fn close(&self) -> Result<()> {
        self.core.close_writer()
    }
}

impl Core {
    /// Closes the file for writing, once.
    fn close_writer(&self) -> Result<()> {
        let fence = self.handle().writer.as_ref().map(|writer| writer.fence.clone());
        // redb may have failed unnoticed, when it gave up a transaction.
        if fence.as_ref().is_some_and(Fence::has_failed) {
            self.health.latch();
        }
        if fence.is_none() && !self.health.is_latched() {
            return Ok(());
        }
        // Another program cut the file, or took its name away: not another byte is written to it.
        if let Err(err) = self.check_file() {
            let writer = self.handle().writer.take();
            writer.into_iter().for_each(|writer| writer.abandon(&self.health));
            return Err(err);
        }
        self.recover().map_err(|err| self.not_closed(err))?;
        let Some(writer) = self.handle().writer.take() else {
            return Ok(());
        };
        // It may need a page or two in a file that is full.
        writer.fence.lift_bound();
        // Its last commit honours the pins of what is held.
        self.health.close_shared(writer.db);
        writer.fence.shut();
        if writer.fence.has_failed() {
            let message = "its last sync failed; what was committed is there, and the next open for writing repairs it";
            return Err(Error::new(ErrorKind::Io, "close", self.subject(), message));
        }
        Ok(())
    }

    /// Why the file is left as it is.
    fn not_closed(&self, err: Error) -> Error {
        let (kind, what) = if self.in_doubt.load(Ordering::Acquire) {
            (ErrorKind::OutcomeUnknown, "what the store shows may be lost if the power fails")
        } else {
            (err.kind(), "what was committed is there, and the next open for writing repairs it")
        };
        let message = format!("the file cannot be opened again after an earlier error ({}); {what}", err.message());
        Error::new(kind, "close", self.subject(), message).with_source(err)
    }

    /// Fails when the file is not what it was, by another program's doing.
    fn check_file(&self) -> Result<()> {
        let pages = self.handle().pages.clone();
        match &pages {
            Pages::File(file) => file.check("close"),
            Pages::Memory(..) => Ok(()),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Err(error) = self.close_writer() {
            tracing::error!(store = %self.subject(), %error, "the file is not closed as it should be");
        }
        self.pins.close();
        if let Pages::File(file) = &self.handle().pages {
            file.note_store_closed();
        }
    }
}
