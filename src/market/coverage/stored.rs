//! What is known of which stretch of a series, and the calendar that judged it, in the file.

use std::time::Duration;

use super::ledger::{Coverage, CoverageSpan, Ledger};
use crate::{
    engine::{Batch, Reader, Table, sealed},
    market::{Market, calendar::Calendar},
    types::{
        error::{Error, Result},
        hash::{Digest, hex},
        interval::Interval,
        key::row::RowKey,
        time::Timestamp,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CoverageV1 {
    starts: Vec<i64>,
    ends: Vec<i64>,
    /// 0 present, 1 known to be empty, 2 failed.
    states: Vec<u8>,
    /// Of those that failed, in order.
    retries: Vec<i64>,
    attempts: Vec<u32>,
    reasons: Vec<String>,
    calendar: String,
    calendar_version: u32,
    calendar_hash: [u8; 32],
    calls: u64,
    call_nanos: u64,
}

crate::format::record::schema!(CoverageV1, "modelkeep.coverage", 1);

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CalendarV1 {
    json: String,
}

crate::format::record::schema!(CalendarV1, "modelkeep.calendar", 1);

/// The ledger of a series, who judged it, and what its calls took so far.
#[derive(Debug, Default)]
pub(crate) struct CoverageRecord {
    pub(crate) ledger: Ledger,
    calendar_id: Option<CalendarId>,
    pub(crate) calls: u64,
    pub(crate) call_time: Duration,
}

#[derive(Debug, PartialEq)]
struct CalendarId {
    name: String,
    version: u32,
    hash: Digest,
}

impl CalendarId {
    fn of(calendar: &Calendar) -> Self {
        let hash = Digest::of(calendar.json().as_bytes());
        Self { name: calendar.name().to_string(), version: calendar.version(), hash }
    }
}

impl CoverageRecord {
    /// The mean time of a call.
    pub(crate) fn mean_call(&self) -> Duration {
        let calls = u32::try_from(self.calls).unwrap_or(u32::MAX);
        self.call_time.checked_div(calls).unwrap_or_default()
    }
}

/// Reads the record under `key` for `calendar` to go on with: what another one, or another version of it, found to be
/// empty is not known any more.
pub(crate) fn read_for(reader: &impl Reader, key: &[u8], calendar: &Calendar) -> Result<CoverageRecord> {
    let mut record = read(reader, key)?;
    if record.calendar_id.as_ref().is_some_and(|judge| *judge != CalendarId::of(calendar)) {
        record.ledger.doubt_empty();
    }
    Ok(record)
}

/// Reads the record under `key`: an empty one when there is none.
pub(crate) fn read(reader: &impl Reader, key: &[u8]) -> Result<CoverageRecord> {
    let Some(record) = sealed::record::<CoverageV1>(reader, Table::Coverage, key)? else {
        return Ok(CoverageRecord::default());
    };
    let broken = || Error::corrupt("read coverage", hex(key), "the ledger breaks its own rules");
    let mut failures = record.retries.into_iter().zip(record.attempts).zip(record.reasons);
    let mut stretches = Vec::with_capacity(record.starts.len());
    for ((start, end), state) in record.starts.into_iter().zip(record.ends).zip(record.states) {
        let coverage = match state {
            0 => Coverage::Present,
            1 => Coverage::KnownEmpty,
            2 => {
                let ((retry, attempts), reason) = failures.next().ok_or_else(broken)?;
                Coverage::Failed { retry_at: Timestamp::from_nanos(retry), attempts, reason }
            }
            _ => return Err(broken()),
        };
        let interval = Interval::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end))?;
        stretches.push(CoverageSpan { interval, coverage });
    }
    Ok(CoverageRecord {
        ledger: Ledger::new(stretches).ok_or_else(broken)?,
        calendar_id: Some(CalendarId {
            name: record.calendar,
            version: record.calendar_version,
            hash: Digest::from_bytes(record.calendar_hash),
        }),
        calls: record.calls,
        call_time: Duration::from_nanos(record.call_nanos),
    })
}

/// Writes the record under `key`, judged by `calendar`, which is stored with it.
pub(crate) fn write(batch: &Batch, key: &[u8], record: &CoverageRecord, calendar: &Calendar) -> Result<()> {
    let calendar_id = CalendarId::of(calendar);
    let stretches = record.ledger.stretches();
    let state = |stretch: &CoverageSpan| match stretch.coverage {
        Coverage::Present => 0,
        Coverage::KnownEmpty => 1,
        Coverage::Failed { .. } => 2,
        Coverage::Missing => unreachable!("a ledger has no spans for what is missing"),
    };
    let mut record = CoverageV1 {
        starts: stretches.iter().map(|stretch| stretch.interval.start().as_nanos()).collect(),
        ends: stretches.iter().map(|stretch| stretch.interval.end().as_nanos()).collect(),
        states: stretches.iter().map(state).collect(),
        retries: Vec::new(),
        attempts: Vec::new(),
        reasons: Vec::new(),
        calendar: calendar_id.name.clone(),
        calendar_version: calendar_id.version,
        calendar_hash: *calendar_id.hash.as_bytes(),
        calls: record.calls,
        call_nanos: u64::try_from(record.call_time.as_nanos()).unwrap_or(u64::MAX),
    };
    for stretch in stretches {
        if let Coverage::Failed { retry_at, attempts, reason } = &stretch.coverage {
            record.retries.push(retry_at.as_nanos());
            record.attempts.push(*attempts);
            record.reasons.push(reason.clone());
        }
    }
    batch.put_record(Table::Coverage, key, &record)?;
    let row = calendar_row(&calendar_id);
    if batch.get(Table::Calendars, &row)?.is_none() {
        batch.put_record(Table::Calendars, &row, &CalendarV1 { json: calendar.to_json() })?;
    }
    Ok(())
}

/// Name, version and the front of the hash: a calendar that changed without a new version has a row of its own.
fn calendar_row(calendar_id: &CalendarId) -> Vec<u8> {
    let (front, _) = calendar_id.hash.as_bytes().split_at(8);
    RowKey::new().text(&calendar_id.name).u32(calendar_id.version).bytes(front).into_bytes()
}

impl Market {
    /// Returns the calendars that judged what is stored, as they were then.
    pub(crate) fn calendars(&self) -> Result<Vec<Calendar>> {
        self.core.look(calendars)
    }
}

/// The calendars that judged what is stored.
pub(crate) fn calendars(reader: &impl Reader) -> Result<Vec<Calendar>> {
    let rows = reader.prefix(Table::Calendars, b"")?;
    rows.iter()
        .map(|(row, value)| {
            let record = sealed::open_record::<CalendarV1>(Table::Calendars, row, value)?;
            Calendar::from_json(&record.json)
                .map_err(|err| Error::corrupt("read calendar", hex(row), "it breaks its own rules").with_source(err))
        })
        .collect()
}

/// The calendar that judged the record under `key`, as it was then; `None` when there is no record.
pub(crate) fn stored_calendar(reader: &impl Reader, key: &[u8]) -> Result<Option<Calendar>> {
    let Some(calendar_id) = read(reader, key)?.calendar_id else {
        return Ok(None);
    };
    let row = calendar_row(&calendar_id);
    let broken = || Error::corrupt("read calendar", hex(&row), "the calendar that judged a series is not there");
    let record = sealed::record::<CalendarV1>(reader, Table::Calendars, &row)?.ok_or_else(broken)?;
    open_calendar(&row, &record).map(Some)
}

fn open_calendar(row: &[u8], record: &CalendarV1) -> Result<Calendar> {
    Calendar::from_json(&record.json)
        .map_err(|err| Error::corrupt("read calendar", hex(row), "it breaks its own rules").with_source(err))
}
