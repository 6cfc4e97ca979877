//! A series whose coverage is known: what bars and levels have in common.

use super::{
    CoverageRecord, classify,
    ledger::{Coverage, CoverageSpan},
    read, read_for, stored_calendar, write,
};
use crate::{
    engine::{Batch, Snapshot},
    market::{Market, calendar::Calendar, fetch::policy::FetchPolicy, timeframe::Timeframe},
    types::{error::Result, interval::Interval, time::Timestamp},
};

/// A series of a market, with its ledger, the calendar that says what should be there, and how fetchers are asked.
#[derive(Clone, Debug)]
pub(crate) struct CoveredSeries<'a> {
    pub(crate) market: &'a Market,
    /// Where its ledger lies.
    key: Vec<u8>,
    timeframe: Timeframe,
    calendar: Option<Calendar>,
    policy: Option<FetchPolicy>,
}

impl<'a> CoveredSeries<'a> {
    pub(crate) fn new(market: &'a Market, key: Vec<u8>, timeframe: Timeframe) -> Self {
        Self { market, key, timeframe, calendar: None, policy: None }
    }

    /// Another series, by the same calendar and policy.
    pub(crate) fn sibling(&self, key: Vec<u8>, timeframe: Timeframe) -> Self {
        Self { key, timeframe, ..self.clone() }
    }

    pub(crate) fn set_calendar(&mut self, calendar: Calendar) {
        self.calendar = Some(calendar);
    }

    pub(crate) fn set_policy(&mut self, policy: FetchPolicy) {
        self.policy = Some(policy);
    }

    pub(crate) fn timeframe(&self) -> Timeframe {
        self.timeframe
    }

    pub(crate) fn calendar(&self) -> &Calendar {
        self.calendar.as_ref().unwrap_or(&self.market.settings.calendar)
    }

    pub(crate) fn policy(&self) -> &FetchPolicy {
        self.policy.as_ref().unwrap_or(&self.market.settings.fetch)
    }

    /// What a state knows of it.
    pub(crate) fn record_in(&self, snapshot: &Snapshot) -> Result<CoverageRecord> {
        read(snapshot, &self.key)
    }

    /// What is known of it.
    pub(crate) fn record(&self) -> Result<CoverageRecord> {
        self.market.core.look(|snapshot| self.record_in(snapshot))
    }

    /// What is known of it, as far as its calendar can go on with that.
    pub(crate) fn record_to_go_on_with(&self) -> Result<CoverageRecord> {
        self.market.core.look(|snapshot| read_for(snapshot, &self.key, self.calendar()))
    }

    /// What is known of every part of `interval`, in order.
    pub(crate) fn coverage(&self, interval: Interval<Timestamp>) -> Result<Vec<CoverageSpan>> {
        Ok(self.record()?.ledger.within(interval))
    }

    /// The calendar that judged what is known.
    pub(crate) fn stored_calendar(&self) -> Result<Option<Calendar>> {
        self.market.core.look(|snapshot| stored_calendar(snapshot, &self.key))
    }

    /// What was known of it before a transaction, as far as its calendar can go on with that.
    pub(crate) fn record_before(&self, batch: &Batch) -> Result<CoverageRecord> {
        read_for(batch, &self.key, self.calendar())
    }

    /// Writes what is known of it.
    pub(crate) fn write_record(&self, batch: &Batch, record: &CoverageRecord) -> Result<()> {
        write(batch, &self.key, record, self.calendar())
    }

    /// Notes that rows at these times, which ascend, were written.
    pub(crate) fn note_write(&self, batch: &Batch, at: &[Timestamp]) -> Result<()> {
        let mut record = self.record_before(batch)?;
        let before = record.ledger.clone();
        classify::record_write(&mut record.ledger, self.calendar(), self.timeframe, at);
        if record.ledger != before {
            self.write_record(batch, &record)?;
        }
        Ok(())
    }

    /// Notes that nothing is known of `interval`.
    pub(crate) fn note_missing(&self, batch: &Batch, interval: Interval<Timestamp>) -> Result<()> {
        let mut record = self.record_before(batch)?;
        record.ledger.mark(interval, Coverage::Missing);
        self.write_record(batch, &record)
    }
}
