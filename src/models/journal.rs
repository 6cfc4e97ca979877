//! Decisions, kept: noted in memory by the call that took them, and written together by the thread in the background.
//!
//! No call waits for that. What was noted is in the file two seconds later, or when the store is closed or dropped,
//! unless the file cannot be written; then it waits, the newest ten thousand of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Models,
    catalog::decisions,
    decision::{Decision, DecisionEntry, Reason},
};
use crate::{
    engine::Batch,
    types::{
        error::Result,
        key::ModelKey,
        limits::{DECISION_REASON_BYTES_MAX, DECISIONS_MAX, shortened},
        version::Version,
    },
};

/// How long after a decision it is written, with all that were taken meanwhile.
const WRITE_AFTER: Duration = Duration::from_secs(1);

/// What is not written yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pending: Mutex<VecDeque<DecisionEntry>>,
    /// Held while what was noted is on its way from memory to the file.
    writing: Mutex<()>,
    /// The thread in the background is about to write.
    is_due: AtomicBool,
}

impl Journal {
    fn pending(&self) -> MutexGuard<'_, VecDeque<DecisionEntry>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: DecisionEntry) {
        let mut pending = self.pending();
        if pending.len() >= DECISIONS_MAX {
            pending.pop_front();
        }
        pending.push_back(entry);
    }

    /// Puts back what could not be written, before what was noted meanwhile.
    fn put_back(&self, taken: VecDeque<DecisionEntry>) {
        let mut pending = self.pending();
        let later = std::mem::replace(&mut *pending, taken);
        pending.extend(later);
        let surplus = pending.len().saturating_sub(DECISIONS_MAX);
        pending.drain(..surplus);
    }
}

impl Models {
    /// Notes a decision. A plain hit is none.
    pub(super) fn note(
        self: &Arc<Self>,
        key: &ModelKey,
        decision: &Decision,
        took: Duration,
        version: Option<Version>,
    ) {
        if decision.is_fresh() {
            return;
        }
        let reason = |reason: &Reason| shortened(&reason.to_string(), DECISION_REASON_BYTES_MAX);
        let reasons = decision.reasons().iter().map(reason).collect();
        let (at, verdict) = (self.core.now(), decision.verdict());
        self.journal.push(DecisionEntry { at, key: key.clone(), verdict, reasons, took, version });
        if !self.core.is_read_only() {
            self.write_decisions_later();
        }
    }

    fn write_decisions_later(self: &Arc<Self>) {
        if self.journal.is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        self.core.later(WRITE_AFTER, self, |models, stop| {
            models.journal.is_due.store(false, Ordering::Release);
            if stop.is_set() {
                return;
            }
            if let Err(error) = models.write_decisions() {
                tracing::warn!(%error, "decisions are not written yet");
                models.write_decisions_later();
            }
        });
    }

    /// Writes what was noted, if anything was.
    fn write_decisions(&self) -> Result<()> {
        let _writing = self.journal.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = std::mem::take(&mut *self.journal.pending());
        if taken.is_empty() {
            return Ok(());
        }
        let written =
            self.core.commit("note decisions", |batch: &Batch| decisions::append(batch, taken.make_contiguous()));
        if written.is_err() {
            self.journal.put_back(taken);
        }
        written
    }

    /// Writes what was noted before the file is closed.
    pub(super) fn finish_decisions(&self) {
        // What a store in memory has is gone with it.
        if self.core.is_read_only() || self.core.path().is_none() {
            return;
        }
        if let Err(error) = self.write_decisions() {
            tracing::warn!(%error, "some decisions are not written");
        }
    }

    /// The decisions that are kept, the oldest first.
    pub(crate) fn decisions(&self) -> Result<Vec<DecisionEntry>> {
        let _writing = self.journal.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.core.look(decisions::list)?;
        all.extend(self.journal.pending().iter().cloned());
        let surplus = all.len().saturating_sub(DECISIONS_MAX);
        Ok(all.split_off(surplus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{models::decision::Verdict, types::time::Timestamp};

    fn entry(n: i64) -> DecisionEntry {
        let key = ModelKey::new("m", &()).unwrap();
        let (took, version) = (Duration::ZERO, None);
        DecisionEntry {
            at: Timestamp::from_nanos(n),
            key,
            verdict: Verdict::Retrain,
            reasons: Vec::new(),
            took,
            version,
        }
    }

    #[test]
    fn the_newest_wait_and_what_could_not_be_written_comes_before_them() {
        let (journal, max) = (Journal::default(), i64::try_from(DECISIONS_MAX).unwrap());
        let waiting = || {
            let pending = journal.pending();
            (
                pending.len(),
                pending.front().map(|first| first.at.as_nanos()),
                pending.back().map(|last| last.at.as_nanos()),
            )
        };
        (0..max + 5).for_each(|n| journal.push(entry(n)));
        assert_eq!(waiting(), (DECISIONS_MAX, Some(5), Some(max + 4)));
        let taken = std::mem::take(&mut *journal.pending());
        journal.push(entry(max + 5));
        journal.put_back(taken);
        assert_eq!(waiting(), (DECISIONS_MAX, Some(6), Some(max + 5)));
    }
}
