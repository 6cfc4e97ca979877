//! Going on after an I/O error, while the store is open.
//!
//! redb latches its handle after an I/O error and answers nothing more. Reads do not notice, for they do not go through
//! it. The call that failed reads from the file what became of its commit, and puts another handle in the place of the
//! one that failed; if it cannot, the next write does. The file stays open and locked meanwhile.

use std::sync::{PoisonError, atomic::Ordering};

use super::{
    Core,
    backend::Pages,
    mapped::{Commit, Seen},
    open,
    pin::Pin,
    view::View,
};
use crate::types::error::{Error, ErrorKind, Result};

impl Core {
    /// Finds out what became of a commit that failed with `error`, and opens the file again. `before` is the number of
    /// the commit before it.
    ///
    /// `Ok(None)`: it is in the file, and durable. `Ok(Some(doubt))`: it is in the file, and may be gone after a power
    /// cut. `Err`: it is not in the file, or, with the kind `OutcomeUnknown`, nobody can read whether it is.
    pub(super) fn resolve(&self, operation: &'static str, before: u64, error: Error) -> Result<Option<Error>> {
        self.health.latch();
        // Until the file is opened again.
        self.in_doubt.store(true, Ordering::Release);
        let mut found = None;
        let recovered = self.recover_from(&mut found);
        let unknown = |message: &str, error: Error| {
            Error::new(ErrorKind::OutcomeUnknown, operation, self.subject(), message).with_source(error)
        };
        let Some(found) = found else {
            return Err(unknown("the commit failed, and the file cannot be read to see what became of it", error));
        };
        if found <= before {
            self.in_doubt.store(false, Ordering::Release);
            return Err(error);
        }
        // Whoever committed is about to show it.
        self.pins.take_surprise();
        match recovered {
            // To open the file its first page was written and synced once more, after all that it names had been.
            Ok(()) => {
                tracing::warn!(%error, "a commit was made durable by a second attempt");
                Ok(None)
            }
            Err(again) => {
                tracing::warn!(error = %again, "a commit could not be made durable by a second attempt");
                Ok(Some(unknown("it was written, and may be lost if the power fails before the next write", error)))
            }
        }
    }

    /// After an I/O error: puts another handle of redb in the place of the one that answers nothing more. The file
    /// stays open and locked, and everything that is held stays as it is. Does nothing if there was no error.
    ///
    /// The state to go on from is read from the file, before redb sees it.
    pub(super) fn recover(&self) -> Result<()> {
        self.recover_from(&mut None)
    }

    /// The same; `found` becomes the number of the commit that was in the file before redb saw it.
    fn recover_from(&self, found: &mut Option<u64>) -> Result<()> {
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.health.is_latched() {
            return Ok(());
        }
        let (pages, failed) = {
            let mut handle = self.handle();
            (handle.pages.clone(), handle.writer.take())
        };
        if let Some(failed) = failed {
            failed.abandon(&self.health);
        }
        self.pins.lose_sight(Seen::Found);
        let view = View::new(&pages, self.options.mapped, None, self.pins.last().as_deref())?;
        *found = Some(view.number());
        self.advance(view, Seen::Found);
        self.check_writable("reopen")?;
        tracing::warn!(store = %self.subject(), "opening the file again after an I/O error");
        self.end_pins()?;
        self.install_writer(&pages, Seen::Found, || self.end_pins())
    }

    /// Has redb open `pages`, looks at them under its pin, and writes through it from then on, unless `check` fails.
    pub(super) fn install_writer(&self, pages: &Pages, seen: Seen, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let writer = open::writer(pages, &self.options, &self.health, &self.subject())?;
        let looked = Pin::take(&writer.db, &self.health, &self.subject()).and_then(|pin| {
            let view = View::new(pages, self.options.mapped, Some(pin), self.pins.last().as_deref())?;
            self.advance(view, seen);
            check()
        });
        if let Err(err) = looked {
            writer.abandon(&self.health);
            return Err(err);
        }
        self.handle().writer = Some(writer);
        self.health.unlatch();
        // To open the file its first page was written and synced, after all that it names had been.
        self.in_doubt.store(false, Ordering::Release);
        Ok(())
    }

    fn end_pins(&self) -> Result<()> {
        self.pins.end_pins().map_err(|stuck| {
            let message = format!(
                "{stuck} models that left the file are held, and cannot be copied to memory of their own; nothing is \
                 written until they are released"
            );
            Error::new(ErrorKind::Io, "reopen", self.subject(), message)
        })
    }
}
