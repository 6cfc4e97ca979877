//! A series whose coverage is known: what bars and levels have in common.

use std::time::Duration;

use super::{
    CalendarId, CoverageRecord, calendar_of,
    classify::Judge,
    grid::BarGrid,
    ledger::{Coverage, CoverageSpan, Ledger},
    read, write,
};
use crate::{
    engine::{Batch, Reader, Snapshot},
    market::{
        Market,
        bars::{self, bar::Field, key::SeriesId},
        calendar::Calendar,
        fetch::policy::FetchPolicy,
        levels,
        timeframe::Timeframe,
    },
    types::{
        error::{Error, Result, unless_corrupt},
        interval::Interval,
        key::Symbol,
        time::Timestamp,
    },
};

/// A series of a market, with its ledger, the calendar that says what should be there, and how fetchers are asked.
#[derive(Clone, Debug)]
pub(crate) struct CoveredSeries<'a> {
    pub(crate) market: &'a Market,
    id: CoveredId,
    timeframe: Timeframe,
    calendar: Option<Calendar>,
    policy: Option<FetchPolicy>,
}

/// Which series it is.
#[derive(Clone, Debug)]
pub(crate) enum CoveredId {
    Bars(SeriesId),
    Levels(Symbol),
}

impl CoveredId {
    /// Where its ledger lies.
    pub(crate) fn key(&self) -> Vec<u8> {
        match self {
            Self::Bars(id) => [b"bars/", id.prefix().as_slice()].concat(),
            Self::Levels(series) => [b"levels/", series.as_str().as_bytes()].concat(),
        }
    }

    /// When its stored rows begin, in `interval`.
    fn stored_times(&self, snapshot: &Snapshot, interval: Interval<Timestamp>) -> Result<Vec<Timestamp>> {
        match self {
            Self::Bars(id) => Ok(bars::read::field(snapshot, id, interval, Field::Volume)?.0),
            Self::Levels(series) => {
                let levels = levels::stored::range(snapshot, series, interval.days())?;
                Ok(levels.days.iter().map(|day| day.start()).collect())
            }
        }
    }
}

impl std::fmt::Display for CoveredId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bars(id) => id.fmt(f),
            Self::Levels(series) => series.fmt(f),
        }
    }
}

impl std::fmt::Display for CoveredSeries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.id.fmt(f)
    }
}

/// What is known of a series, and the calendar that judges it.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) record: CoverageRecord,
    pub(crate) calendar: Calendar,
    /// Where bars begin, by those that are stored.
    pub(crate) grid: BarGrid,
}

impl<'a> CoveredSeries<'a> {
    pub(crate) fn new(market: &'a Market, id: CoveredId, timeframe: Timeframe) -> Self {
        Self { market, id, timeframe, calendar: None, policy: None }
    }

    /// Another series, by the same calendar and policy.
    pub(crate) fn sibling(&self, id: CoveredId, timeframe: Timeframe) -> Self {
        Self { id, timeframe, ..self.clone() }
    }

    pub(crate) fn give_calendar(&mut self, calendar: Calendar) {
        self.calendar = Some(calendar);
    }

    pub(crate) fn set_policy(&mut self, policy: FetchPolicy) {
        self.policy = Some(policy);
    }

    pub(crate) fn timeframe(&self) -> Timeframe {
        self.timeframe
    }

    pub(crate) fn policy(&self) -> &FetchPolicy {
        self.policy.as_ref().unwrap_or(&self.market.settings.fetch)
    }

    /// What judges the series now.
    pub(crate) fn judge<'b>(&'b self, judged: &'b Judged, now: Timestamp) -> Judge<'b> {
        let (timeframe, policy) = (self.timeframe, self.policy());
        let CoverageRecord { learnt_delay, closing_seen, .. } = judged.record;
        Judge { calendar: &judged.calendar, timeframe, policy, learnt_delay, grid: &judged.grid, closing_seen, now }
    }

    /// What is known of it, and the calendar that goes on with that.
    pub(crate) fn judged(&self) -> Result<Judged> {
        self.market.core.look(|snapshot| self.judged_in(snapshot, snapshot))
    }

    /// The same, in one state of the file: `rows` are read there.
    pub(crate) fn judged_in(&self, reader: &impl Reader, rows: &Snapshot) -> Result<Judged> {
        let mut record = read(reader, &self.id.key())?;
        let calendar = self.calendar_for(reader, &record)?;
        if let Some(before) = &record.calendar_id
            && (*before != CalendarId::of(&calendar) || record.extended_hours != self.policy().extended_hours)
        {
            let before = calendar_of(reader, before)?;
            self.judge_anew(&mut record, &before);
        }
        record.extended_hours = self.policy().extended_hours;
        let mut judged = Judged { record, calendar, grid: BarGrid::of(self.timeframe) };
        self.learn_grid(&mut judged, rows)?;
        if judged.record.overclaims {
            let at = self.id.stored_times(rows, Interval::all_time())?;
            let mut ledger = judged.record.ledger.clone();
            ledger.keep_failures();
            self.judge(&judged, self.market.core.now()).record_write(&mut ledger, &at);
            judged.record = CoverageRecord { ledger, overclaims: false, ..judged.record };
        }
        Ok(judged)
    }

    /// Finds out where bars begin that follow no fixed grid, by the last ones that are stored.
    fn learn_grid(&self, judged: &mut Judged, rows: &Snapshot) -> Result<()> {
        const RECENT: Duration = Duration::from_secs(10 * 24 * 3600);
        if self.timeframe.is_daily() || self.timeframe.grid().is_some() {
            return Ok(());
        }
        let now = self.market.core.now();
        // Who wants the rows is told of damage; it must not keep them from being removed.
        let stored = unless_corrupt(self.id.stored_times(rows, Interval::between(now.before(RECENT), now)))?;
        judged.grid = self.judge(judged, now).grid_after(&stored.unwrap_or_default());
        Ok(())
    }

    /// Forgets what another calendar, or other hours, said. What is stored stays known where they had a session:
    /// outside of it nothing was expected, and so nothing was looked at.
    fn judge_anew(&self, record: &mut CoverageRecord, before: &Calendar) {
        record.ledger.judge_anew();
        record.off_days = 0;
        let policy = self.policy().clone().extended_hours(record.extended_hours);
        let judge = Judge {
            calendar: before,
            timeframe: self.timeframe,
            policy: &policy,
            learnt_delay: record.learnt_delay,
            grid: &BarGrid::of(self.timeframe),
            closing_seen: record.closing_seen,
            now: self.market.core.now(),
        };
        record.ledger.keep_within(|span| judge.windows(span).map(|window| window.span).collect());
    }

    /// The calendar of the series: the stored one. Another version of it takes its place; another calendar does not.
    fn calendar_for(&self, reader: &impl Reader, record: &CoverageRecord) -> Result<Calendar> {
        let standard = &self.market.settings.calendar;
        let Some(stored) = &record.calendar_id else {
            return Ok(self.calendar.as_ref().unwrap_or(standard).clone());
        };
        match &self.calendar {
            Some(given) if given.name().as_str() == stored.name => Self::newer(reader, stored, given),
            Some(given) => {
                let message = format!(
                    "its calendar is {stored}, and the call brings {given}; `set_calendar` gives the series another one"
                );
                Err(Error::invalid("read calendar", self.id.to_string(), message))
            }
            None if standard.name().as_str() == stored.name => Self::newer(reader, stored, standard),
            None => calendar_of(reader, stored),
        }
    }

    /// The newer version of one calendar: programs of two releases do not judge anew in turns.
    fn newer(reader: &impl Reader, stored: &CalendarId, given: &Calendar) -> Result<Calendar> {
        if given.version() < stored.version { calendar_of(reader, stored) } else { Ok(given.clone()) }
    }

    /// The calendar of the series.
    pub(crate) fn calendar(&self) -> Result<Calendar> {
        self.market.core.look(|snapshot| self.calendar_in(snapshot))
    }

    /// The calendar of the series in one state of the file.
    pub(crate) fn calendar_in(&self, reader: &impl Reader) -> Result<Calendar> {
        self.calendar_for(reader, &read(reader, &self.id.key())?)
    }

    /// What is known of every part of `interval`, in order.
    pub(crate) fn coverage(&self, interval: Interval<Timestamp>) -> Result<Vec<CoverageSpan>> {
        Ok(self.judged()?.record.ledger.within(interval))
    }

    /// The calendar that judged what is known, as it was then.
    pub(crate) fn stored_calendar(&self) -> Result<Option<Calendar>> {
        self.market.core.look(|snapshot| {
            let record = read(snapshot, &self.id.key())?;
            record.calendar_id.map(|stored| calendar_of(snapshot, &stored)).transpose()
        })
    }

    /// What was known of it before a transaction.
    pub(crate) fn judged_before(&self, batch: &Batch) -> Result<Judged> {
        self.judged_in(batch, batch.before())
    }

    /// Writes what is known of it.
    pub(crate) fn write_judged(&self, batch: &Batch, judged: &Judged) -> Result<()> {
        write(batch, &self.id.key(), &judged.record, &judged.calendar, self.market.core.now())
    }

    /// Notes that rows at these times, which ascend, were written; and, if the writer says so, that they are all there
    /// is in an interval.
    pub(crate) fn note_write(
        &self,
        batch: &Batch,
        at: &[Timestamp],
        covered: Option<Interval<Timestamp>>,
    ) -> Result<()> {
        self.note_rows(batch, |judge, ledger| Ok(record_rows(judge, ledger, at, covered)))
    }

    /// Notes what `record` says of rows that are written; it returns whether one of them begins at a close.
    pub(crate) fn note_rows(
        &self,
        batch: &Batch,
        record: impl FnOnce(&Judge<'_>, &mut Ledger) -> Result<bool>,
    ) -> Result<()> {
        match self.after(batch, batch.before(), record)? {
            Some(judged) => self.write_judged(batch, &judged),
            None => Ok(()),
        }
    }

    /// What is known of it after rows at these times were written; `None` when that is what was known before.
    pub(crate) fn after_write(
        &self,
        reader: &impl Reader,
        rows: &Snapshot,
        at: &[Timestamp],
        covered: Option<Interval<Timestamp>>,
    ) -> Result<Option<Judged>> {
        self.after(reader, rows, |judge, ledger| Ok(record_rows(judge, ledger, at, covered)))
    }

    fn after(
        &self,
        reader: &impl Reader,
        rows: &Snapshot,
        record: impl FnOnce(&Judge<'_>, &mut Ledger) -> Result<bool>,
    ) -> Result<Option<Judged>> {
        let mut judged = self.judged_in(reader, rows)?;
        let before = judged.record.ledger.clone();
        let mut ledger = before.clone();
        let has_closing = record(&self.judge(&judged, self.market.core.now()), &mut ledger)?;
        ledger.bound();
        let is_new = judged.record.calendar_id.is_none() || has_closing && !judged.record.closing_seen;
        let changes = ledger != before || is_new;
        judged.record.ledger = ledger;
        judged.record.closing_seen |= has_closing;
        Ok(changes.then_some(judged))
    }

    /// Notes that nothing is known of `interval`.
    pub(crate) fn note_missing(&self, batch: &Batch, interval: Interval<Timestamp>) -> Result<()> {
        let mut judged = self.judged_before(batch)?;
        judged.record.ledger.mark(interval, Coverage::Missing);
        // What was learnt of a vendor who was broken goes with it, and so does an answer that is under way.
        judged.record.learnt_delay = Duration::ZERO;
        judged.record.generation = judged.record.generation.wrapping_add(1);
        self.write_judged(batch, &judged)
    }

    /// Gives the series another calendar, and forgets what the one before judged.
    pub(crate) fn set_calendar(&self, batch: &Batch, calendar: Calendar) -> Result<()> {
        let as_stored = Self { calendar: None, ..self.clone() };
        let Judged { mut record, calendar: before, grid } = as_stored.judged_before(batch)?;
        if before != calendar {
            self.judge_anew(&mut record, &before);
            record.generation = record.generation.wrapping_add(1);
        }
        self.write_judged(batch, &Judged { record, calendar, grid })
    }
}

/// Takes note of rows that were written at these times; they are all there is in `covered`, if the writer says so.
/// Returns whether one of them begins at a close.
fn record_rows(judge: &Judge<'_>, ledger: &mut Ledger, at: &[Timestamp], covered: Option<Interval<Timestamp>>) -> bool {
    match covered {
        Some(interval) => {
            let coverage = if at.is_empty() { Coverage::Empty } else { Coverage::Present };
            ledger.mark(interval, coverage);
        }
        None => judge.record_write(ledger, at),
    }
    judge.has_closing(at)
}
