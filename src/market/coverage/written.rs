//! What rows that somebody wrote say: the time that they cover, and what can lie between two of them.

use std::time::Duration;

use super::{
    classify::Judge,
    ledger::{Coverage, CoverageSpan, Ledger},
};
use crate::types::{interval::Interval, time::Timestamp};

/// How far apart rows that are written one by one can be and make one stretch.
const FAR: Duration = Duration::from_secs(10 * 24 * 3600);

impl Judge<'_> {
    /// Takes note of rows that were written: of the time that they cover, and of the time between two of them in which
    /// nothing is expected.
    pub(crate) fn record_write(&self, ledger: &mut Ledger, at: &[Timestamp]) {
        let grid = self.grid_after(at);
        let closing_seen = self.closing_seen || self.has_closing(at);
        Judge { grid: &grid, closing_seen, ..*self }.note_rows(ledger, at);
    }

    /// Whether nothing can have been missed between two rows that were written. A bar at the close, in a series that has
    /// had none, is left to be asked for if it is a matter of days, or was asked for already; of a long history it would
    /// be a call for each session.
    fn is_nothing_between(&self, ledger: &Ledger, end: Timestamp, row: Timestamp) -> bool {
        let between = Interval::between(end, row);
        if !self.can_begin_in(between) {
            return true;
        }
        let is_recent = row.after(FAR) > self.now;
        let was_asked = |span: &CoverageSpan| matches!(span.coverage, Coverage::Due { .. } | Coverage::Failed { .. });
        let waits = ledger.within(between).iter().any(|span| was_asked(span) && self.can_begin_in(span.interval));
        !is_recent && !waits && !self.expects_row(between)
    }

    fn note_rows(&self, ledger: &mut Ledger, at: &[Timestamp]) {
        let Some(first) = at.first() else { return };
        // Rows that come one by one make one stretch.
        let stored = ledger.within(Interval::between(first.before(FAR), *first));
        let stored =
            stored.iter().rev().find(|span| span.coverage == Coverage::Present).map(|span| span.interval.end());
        let mut run: Option<Interval<Timestamp>> = stored.map(|end| Interval::between(end, end));
        for row in at {
            let end = self.row_until(*row);
            run = Some(match run {
                Some(run) if *row <= run.end() || self.is_nothing_between(ledger, run.end(), *row) => {
                    Interval::between(run.start(), end.max(run.end()))
                }
                run => {
                    if let Some(run) = run {
                        ledger.mark(run, Coverage::Present);
                    }
                    Interval::between(*row, end)
                }
            });
        }
        if let Some(run) = run {
            ledger.mark(run, Coverage::Present);
        }
        // A bar that was written before it had ended may change.
        for row in at.iter().rev() {
            let end = self.row_end(*row);
            if end <= self.now {
                break;
            }
            let row = Interval::between(*row, self.row_until(*row));
            ledger.mark(row, Coverage::Provisional { confirm_at: end.after(self.delay()) });
        }
    }
}
