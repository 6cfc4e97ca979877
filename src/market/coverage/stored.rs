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

/// What releases before wrote: they took an empty answer for proof, and a session with one bar for whole.
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

/// Another release's, which knew nothing of bars that begin at a close.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CoverageV2 {
    starts: Vec<i64>,
    ends: Vec<i64>,
    states: Vec<u8>,
    /// Of those that are asked for again, in order: when.
    retries: Vec<i64>,
    /// Of those that count how often they were asked for, in order.
    attempts: Vec<u32>,
    /// Of those that are due or unjudged, in order: when they were first and when they were last asked for.
    asked: Vec<i64>,
    /// Of those that failed, in order.
    reasons: Vec<String>,
    calendar: String,
    calendar_version: u32,
    calendar_hash: [u8; 32],
    calls: u64,
    call_nanos: u64,
    learnt_delay_nanos: u64,
    extended_hours: bool,
    off_days: u64,
}

crate::format::record::schema!(CoverageV2, "modelkeep.coverage", 2);

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CoverageV3 {
    starts: Vec<i64>,
    ends: Vec<i64>,
    states: Vec<u8>,
    /// Of those that are asked for again, in order: when.
    retries: Vec<i64>,
    /// Of those that count how often they were asked for, in order.
    attempts: Vec<u32>,
    /// Of those that are due or unjudged, in order: when they were first and when they were last asked for.
    asked: Vec<i64>,
    /// Of those that failed, in order.
    reasons: Vec<String>,
    calendar: String,
    calendar_version: u32,
    calendar_hash: [u8; 32],
    calls: u64,
    call_nanos: u64,
    learnt_delay_nanos: u64,
    extended_hours: bool,
    off_days: u64,
    closing_seen: bool,
    generation: u64,
    judged_at: i64,
}

crate::format::record::schema!(CoverageV3, "modelkeep.coverage", 3);

const PRESENT: u8 = 0;
const EMPTY: u8 = 1;
const FAILED: u8 = 2;
const PROVISIONAL: u8 = 3;
const DUE: u8 = 4;
const ASSUMED_EMPTY: u8 = 5;
const UNJUDGED: u8 = 6;

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CalendarV1 {
    json: String,
}

crate::format::record::schema!(CalendarV1, "modelkeep.calendar", 1);

/// The ledger of a series, who judged it, and what its calls took so far.
#[derive(Debug)]
pub(crate) struct CoverageRecord {
    pub(crate) ledger: Ledger,
    pub(crate) calendar_id: Option<CalendarId>,
    pub(crate) calls: u64,
    pub(crate) call_time: Duration,
    /// The longest publication delay that was seen.
    pub(crate) learnt_delay: Duration,
    /// Whether hours before the open and after the close are part of it.
    pub(crate) extended_hours: bool,
    /// Rows that were fetched on days without a session, and left out.
    pub(crate) off_days: u64,
    /// Whether there were bars that begin at the close of a session.
    pub(crate) closing_seen: bool,
    /// Counts what makes answers that are under way say nothing: somebody forgot what is known, or changed the
    /// calendar.
    pub(crate) generation: u64,
    /// When it was written, by the store's clock.
    pub(crate) judged_at: Timestamp,
    /// An older release wrote it, which claimed more than it knew.
    pub(crate) overclaims: bool,
}

/// Which calendar judged a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CalendarId {
    pub(crate) name: String,
    pub(crate) version: u32,
    hash: Digest,
}

impl CalendarId {
    pub(crate) fn of(calendar: &Calendar) -> Self {
        Self { name: calendar.name().to_string(), version: calendar.version(), hash: calendar.digest() }
    }
}

impl std::fmt::Display for CalendarId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

impl Default for CoverageRecord {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            calendar_id: None,
            calls: 0,
            call_time: Duration::ZERO,
            learnt_delay: Duration::ZERO,
            extended_hours: false,
            off_days: 0,
            closing_seen: false,
            generation: 0,
            judged_at: Timestamp::from_nanos(i64::MIN),
            overclaims: false,
        }
    }
}

impl CoverageRecord {
    /// The mean time of a call.
    pub(crate) fn mean_call(&self) -> Duration {
        let calls = u32::try_from(self.calls).unwrap_or(u32::MAX);
        self.call_time.checked_div(calls).unwrap_or_default()
    }
}

/// Reads the record under `key`: an empty one when there is none.
pub(crate) fn read(reader: &impl Reader, key: &[u8]) -> Result<CoverageRecord> {
    let Some((value, _)) = reader.get(Table::Coverage, key)? else {
        return Ok(CoverageRecord::default());
    };
    let broken = || Error::corrupt("read coverage", hex(key), "the ledger breaks its own rules");
    let (record, overclaims) = open(key, &value)?;
    let (mut retries, mut attempts) =
        (record.retries.into_iter().map(Timestamp::from_nanos), record.attempts.into_iter());
    let (mut asked, mut reasons) = (record.asked.into_iter().map(Timestamp::from_nanos), record.reasons.into_iter());
    let mut stretches = Vec::with_capacity(record.starts.len());
    for ((start, end), state) in record.starts.into_iter().zip(record.ends).zip(record.states) {
        let mut retry = || retries.next().ok_or_else(broken);
        let mut attempt = || attempts.next().ok_or_else(broken);
        let mut asked_at = || asked.next().ok_or_else(broken);
        let coverage = match state {
            PRESENT => Coverage::Present,
            EMPTY => Coverage::Empty,
            PROVISIONAL => Coverage::Provisional { confirm_at: retry()? },
            DUE => {
                let (retry_at, attempts) = (retry()?, attempt()?);
                Coverage::Due { retry_at, attempts, since: asked_at()?, asked_at: asked_at()? }
            }
            ASSUMED_EMPTY => Coverage::AssumedEmpty { retry_at: retry()?, attempts: attempt()? },
            UNJUDGED => {
                let (retry_at, attempts) = (retry()?, attempt()?);
                Coverage::Unjudged { retry_at, attempts, since: asked_at()?, asked_at: asked_at()? }
            }
            FAILED => {
                let reason = reasons.next().ok_or_else(broken)?;
                Coverage::Failed { retry_at: retry()?, attempts: attempt()?, reason }
            }
            _ => return Err(broken()),
        };
        let interval = Interval::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)).map_err(|_| broken())?;
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
        learnt_delay: Duration::from_nanos(record.learnt_delay_nanos),
        extended_hours: record.extended_hours,
        off_days: record.off_days,
        closing_seen: record.closing_seen,
        generation: record.generation,
        judged_at: Timestamp::from_nanos(record.judged_at),
        overclaims,
    })
}

/// Opens a record of any release, and says whether it claims more than was seen.
fn open(key: &[u8], value: &[u8]) -> Result<(CoverageV3, bool)> {
    let error = match sealed::open_record::<CoverageV3>(Table::Coverage, key, value) {
        Ok(record) => return Ok((record, false)),
        Err(err) => err,
    };
    if let Ok(old) = sealed::open_record::<CoverageV2>(Table::Coverage, key, value) {
        return Ok((old.into(), false));
    }
    match sealed::open_record::<CoverageV1>(Table::Coverage, key, value) {
        Ok(old) => Ok((CoverageV2::from(old).into(), true)),
        Err(_) => Err(error),
    }
}

impl From<CoverageV2> for CoverageV3 {
    fn from(old: CoverageV2) -> Self {
        Self {
            starts: old.starts,
            ends: old.ends,
            states: old.states,
            retries: old.retries,
            attempts: old.attempts,
            asked: old.asked,
            reasons: old.reasons,
            calendar: old.calendar,
            calendar_version: old.calendar_version,
            calendar_hash: old.calendar_hash,
            calls: old.calls,
            call_nanos: old.call_nanos,
            learnt_delay_nanos: old.learnt_delay_nanos,
            extended_hours: old.extended_hours,
            off_days: old.off_days,
            closing_seen: false,
            generation: 0,
            judged_at: i64::MIN,
        }
    }
}

impl From<CoverageV1> for CoverageV2 {
    fn from(old: CoverageV1) -> Self {
        Self {
            starts: old.starts,
            ends: old.ends,
            states: old.states,
            retries: old.retries,
            attempts: old.attempts,
            asked: Vec::new(),
            reasons: old.reasons,
            calendar: old.calendar,
            calendar_version: old.calendar_version,
            calendar_hash: old.calendar_hash,
            calls: old.calls,
            call_nanos: old.call_nanos,
            learnt_delay_nanos: 0,
            extended_hours: false,
            off_days: 0,
        }
    }
}

/// Writes the record under `key`, judged by `calendar`, which is stored with it.
pub(crate) fn write(
    batch: &Batch,
    key: &[u8],
    record: &CoverageRecord,
    calendar: &Calendar,
    now: Timestamp,
) -> Result<()> {
    let calendar_id = CalendarId::of(calendar);
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut row = CoverageV3 {
        starts: Vec::new(),
        ends: Vec::new(),
        states: Vec::new(),
        retries: Vec::new(),
        attempts: Vec::new(),
        asked: Vec::new(),
        reasons: Vec::new(),
        calendar: calendar_id.name.clone(),
        calendar_version: calendar_id.version,
        calendar_hash: *calendar_id.hash.as_bytes(),
        calls: record.calls,
        call_nanos: nanos(record.call_time),
        learnt_delay_nanos: nanos(record.learnt_delay),
        extended_hours: record.extended_hours,
        off_days: record.off_days,
        closing_seen: record.closing_seen,
        generation: record.generation,
        judged_at: now.as_nanos(),
    };
    for CoverageSpan { interval, coverage } in record.ledger.stretches() {
        row.starts.push(interval.start().as_nanos());
        row.ends.push(interval.end().as_nanos());
        row.push_state(coverage);
    }
    batch.put_record(Table::Coverage, key, &row)?;
    let row = calendar_row(&calendar_id);
    if batch.get(Table::Calendars, &row)?.is_none() {
        batch.put_record(Table::Calendars, &row, &CalendarV1 { json: calendar.to_json() })?;
    }
    Ok(())
}

impl CoverageV3 {
    fn push_state(&mut self, coverage: &Coverage) {
        let (state, retry, attempts, asked) = match coverage {
            Coverage::Present => (PRESENT, None, None, None),
            Coverage::Empty => (EMPTY, None, None, None),
            Coverage::Provisional { confirm_at } => (PROVISIONAL, Some(confirm_at), None, None),
            Coverage::Due { retry_at, attempts, since, asked_at } => {
                (DUE, Some(retry_at), Some(attempts), Some([since, asked_at]))
            }
            Coverage::AssumedEmpty { retry_at, attempts } => (ASSUMED_EMPTY, Some(retry_at), Some(attempts), None),
            Coverage::Unjudged { retry_at, attempts, since, asked_at } => {
                (UNJUDGED, Some(retry_at), Some(attempts), Some([since, asked_at]))
            }
            Coverage::Failed { retry_at, attempts, reason } => {
                self.reasons.push(reason.clone());
                (FAILED, Some(retry_at), Some(attempts), None)
            }
            Coverage::Missing => unreachable!("a ledger has no spans for what is missing"),
        };
        self.states.push(state);
        self.retries.extend(retry.map(|at| at.as_nanos()));
        self.attempts.extend(attempts);
        self.asked.extend(asked.into_iter().flatten().map(|at| at.as_nanos()));
    }
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
            open_calendar(row, &record)
        })
        .collect()
}

/// The calendar of this id, as it was when it judged.
pub(crate) fn calendar_of(reader: &impl Reader, calendar_id: &CalendarId) -> Result<Calendar> {
    let row = calendar_row(calendar_id);
    let broken = || Error::corrupt("read calendar", hex(&row), "the calendar that judged a series is not there");
    let record = sealed::record::<CalendarV1>(reader, Table::Calendars, &row)?.ok_or_else(broken)?;
    open_calendar(&row, &record)
}

fn open_calendar(row: &[u8], record: &CalendarV1) -> Result<Calendar> {
    Calendar::from_json(&record.json)
        .map_err(|err| Error::corrupt("read calendar", hex(row), "it breaks its own rules").with_source(err))
}
