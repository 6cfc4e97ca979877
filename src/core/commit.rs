//! The one protocol of commit. A change is made in a transaction, in its writer's [`Turn`]; what is kept in memory is
//! told before the commit that it may soon be old, and after it what is new; only then the turn ends.
//!
//! What the change is, and who keeps what, is not known here: [`commit_shown`](Core::commit_shown) takes both as
//! closures.

use std::sync::{Arc, MutexGuard, PoisonError, atomic::Ordering};

use super::Core;
use crate::{
    engine::{Batch, Compacted, CompactionProgress},
    sync::panics::contained,
    types::error::{Error, ErrorKind, Result},
};

/// How a commit ended that may have changed the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The change is in the file.
    Done,
    /// The change is in the file, or nothing of it: nobody can say now.
    Unknown,
}

/// The turn to write: one at a time, from before a transaction until everything shows it.
pub(crate) struct Turn<'a> {
    _lock: MutexGuard<'a, ()>,
}

impl Core {
    /// Waits for the turn to write.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn { _lock: self.writer.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Runs `change` in a transaction that is not committed.
    pub(crate) fn try_out<T>(&self, operation: &'static str, change: impl FnOnce(&Batch) -> Result<T>) -> Result<T> {
        let _turn = self.turn();
        change(&self.engine.write(operation)?)
    }

    /// Runs `change` in one transaction and commits it. For what nobody keeps in memory: models are left alone.
    pub(crate) fn commit<T>(
        self: &Arc<Self>,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<T>,
    ) -> Result<T> {
        let (value, doubt) = self.commit_shown(operation, change, |_| (), |(), _, _| ())?;
        doubt.map_or(Ok(value), Err)
    }

    /// Runs `change` in one transaction and commits it. `begin` is told what is about to be committed, and `show` what
    /// was, or may have been; both before anybody else writes. An error that comes with the value is about what cannot
    /// be taken back: the change is in the file, and may not survive a power cut.
    pub(crate) fn commit_shown<T, S>(
        self: &Arc<Self>,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<T>,
        begin: impl FnOnce(&T) -> S,
        show: impl FnOnce(S, &T, Outcome),
    ) -> Result<(T, Option<Error>)> {
        let done = self.commit_in_turn(operation, change, begin, show);
        let error = done.as_ref().map_or_else(Some, |(_, doubt)| doubt.as_ref());
        self.after_write(error);
        done
    }

    fn commit_in_turn<T, S>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<T>,
        begin: impl FnOnce(&T) -> S,
        show: impl FnOnce(S, &T, Outcome),
    ) -> Result<(T, Option<Error>)> {
        let _turn = self.turn();
        let batch = self.engine.write(operation)?;
        let value = change(&batch)?;
        let shown = begin(&value);
        match batch.commit() {
            Ok(committed) => {
                self.show_contained(|| show(shown, &value, Outcome::Done));
                let doubt = committed.finish().err();
                Ok((value, doubt))
            }
            Err(error) => {
                if error.kind() == ErrorKind::OutcomeUnknown {
                    self.show_contained(|| show(shown, &value, Outcome::Unknown));
                }
                Err(error)
            }
        }
    }

    /// Shows a commit. Code of others that panics meanwhile does not come between the commit and its caller: memory is
    /// brought in step with the file instead.
    fn show_contained(&self, show: impl FnOnce()) {
        if let Err(panic) = contained(show) {
            tracing::error!(store = %self.subject(), panic, "a commit could not be shown; the file is looked at");
            self.is_behind.store(true, Ordering::Release);
        }
    }

    /// Copies everything to a new file that takes the place of this one, and runs `after` before anybody else writes.
    pub(crate) fn compact(
        self: &Arc<Self>,
        progress: &mut dyn FnMut(CompactionProgress),
        after: impl FnOnce(&Turn<'_>),
    ) -> Result<Compacted> {
        let turn = self.turn();
        let compacted = self.engine.compact(progress);
        if compacted.is_ok() {
            after(&turn);
        }
        drop(turn);
        self.catch_up();
        compacted
    }
}
