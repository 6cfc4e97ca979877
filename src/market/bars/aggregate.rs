//! Bars made of shorter bars: hours of minutes, days of hours.
//!
//! Aggregates of an exchange follow its sessions: an hour begins at the open and every hour after it, and anew after a
//! break; a day is a session; bars outside of sessions and in breaks do not count. So no aggregate of less than a day
//! reaches beyond a break, a close or midnight of another session. Where a calendar has no sessions, aggregates follow
//! the clock in UTC. Weeks, and other numbers of days, are counted from a Monday.

use std::{collections::BTreeMap, time::Duration};

use super::key::SeriesId;
use crate::{
    engine::{Batch, Reader, Table, sealed},
    market::{
        bars::{
            bar::{Bar, Flaws},
            columns::{Bars, Columns},
        },
        calendar::Calendar,
        timeframe::Timeframe,
    },
    types::{
        error::{Error, Result},
        hash::Digest,
        interval::Interval,
        time::{Day, Timestamp},
    },
};

/// Which bars of the source an aggregated series was made of.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct AggregateV1 {
    calendar: [u8; 32],
    periods: Vec<i64>,
    hashes: Vec<[u8; 32]>,
}

crate::format::record::schema!(AggregateV1, "modelkeep.aggregate", 1);

/// The same, and how many bars of each chunk are in no aggregate.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct AggregateV2 {
    calendar: [u8; 32],
    periods: Vec<i64>,
    hashes: Vec<[u8; 32]>,
    outside: Vec<u64>,
}

crate::format::record::schema!(AggregateV2, "modelkeep.aggregate", 2);

/// What an aggregated series was made of: a calendar, and the source's chunks.
#[derive(Debug, PartialEq)]
pub(crate) struct AggregateSources {
    pub(crate) calendar: Digest,
    pub(crate) chunks: BTreeMap<i64, Digest>,
    /// Bars of each chunk that are in no aggregate; `None` where an older release did not count them.
    pub(crate) outside: Option<BTreeMap<i64, u64>>,
}

pub(crate) fn read(reader: &impl Reader, series: &SeriesId) -> Result<Option<AggregateSources>> {
    let key = series.prefix();
    let Some((value, _)) = reader.get(Table::Aggregates, &key)? else {
        return Ok(None);
    };
    let chunks = |periods: &[i64], hashes: Vec<[u8; 32]>| {
        periods.iter().copied().zip(hashes.into_iter().map(Digest::from_bytes)).collect()
    };
    let (calendar, chunks, outside) = match sealed::open_record::<AggregateV2>(Table::Aggregates, &key, &value) {
        Ok(AggregateV2 { calendar, periods, hashes, outside }) => {
            (calendar, chunks(&periods, hashes), Some(periods.into_iter().zip(outside).collect()))
        }
        Err(err) => match sealed::open_record::<AggregateV1>(Table::Aggregates, &key, &value) {
            Ok(AggregateV1 { calendar, periods, hashes }) => (calendar, chunks(&periods, hashes), None),
            Err(_) => return Err(err),
        },
    };
    Ok(Some(AggregateSources { calendar: Digest::from_bytes(calendar), chunks, outside }))
}

pub(crate) fn write(batch: &Batch, series: &SeriesId, made_of: &AggregateSources) -> Result<()> {
    let outside = |period| made_of.outside.as_ref().and_then(|outside| outside.get(period)).copied().unwrap_or(0);
    let record = AggregateV2 {
        calendar: *made_of.calendar.as_bytes(),
        periods: made_of.chunks.keys().copied().collect(),
        hashes: made_of.chunks.values().map(|hash| *hash.as_bytes()).collect(),
        outside: made_of.chunks.keys().map(outside).collect(),
    };
    batch.put_record(Table::Aggregates, &series.prefix(), &record)
}

/// The series of aggregates that read a source's chunks.
pub(crate) fn check(source: &SeriesId, target: Timeframe) -> Result<SeriesId> {
    let (from, to) = (source.timeframe.as_nanos(), target.as_nanos());
    let refuse = |message: String| Err(Error::invalid("resample", source.to_string(), message));
    if let Some(given) = source.source {
        return refuse(format!("these are aggregates: resample the bars of {given} that they are made of"));
    }
    if to <= from || !to.is_multiple_of(from) {
        return refuse(format!("{target} is no multiple of {}", source.timeframe));
    }
    if target.is_daily() && !target.as_nanos().is_multiple_of(DAY.unsigned_abs()) {
        // Bars of a day and more are labelled by days, and sessions are not cut across days.
        return refuse(format!(
            "{target} is more than a day and no number of days: aggregates are whole days (1d, 2d, 7d ...), or shorter \
             than one"
        ));
    }
    Ok(SeriesId { symbol: source.symbol.clone(), timeframe: target, source: Some(source.timeframe) })
}

/// Which aggregate a bar belongs to.
pub(crate) struct Buckets<'a> {
    calendar: &'a Calendar,
    source: Timeframe,
    target: Timeframe,
    /// The trading that the last bar was in, and the day of its session: the next is usually in it, too.
    trading: Option<(Day, Interval<Timestamp>)>,
}

const DAY: i64 = 86_400_000_000_000;

impl<'a> Buckets<'a> {
    pub(crate) fn new(calendar: &'a Calendar, source: Timeframe, target: Timeframe) -> Self {
        Self { calendar, source, target, trading: None }
    }

    /// The timestamp of the aggregate that a bar at `at` belongs to; `None` where there is no trading.
    pub(crate) fn of(&mut self, at: Timestamp) -> Option<Timestamp> {
        self.bucket(at).map(|(start, _)| start)
    }

    /// The timestamp of the aggregate that a bar at `at` belongs to, and where the next one can begin.
    fn bucket(&mut self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        // Bars of a day know no hours.
        if !self.calendar.has_sessions() || self.source.is_daily() {
            return Some(self.by_clock(at));
        }
        let (day, trading) = match self.trading {
            Some((day, trading)) if trading.contains(at) => (day, trading),
            _ => {
                let session = self.calendar.session_of_bar(at)?;
                // A bar that begins at the close counts with the last one before it.
                let within = if at == session.close { at.before(Duration::from_nanos(1)) } else { at };
                let mut trading = session.trading_at(within)?;
                let closing = trading.end();
                if closing == session.close && self.calendar.session_of_bar(closing) == Some(session) {
                    trading = Interval::between(trading.start(), closing.after(Duration::from_nanos(1)));
                }
                (session.day, trading)
            }
        };
        self.trading = Some((day, trading));
        if self.target.is_daily() {
            let (first, end) = self.days_with(day);
            return Some((first.start(), end.start()));
        }
        let (length, open) = (self.length(), trading.start().as_nanos());
        let last = trading.end().before(Duration::from_nanos(2)).max(trading.start());
        let start = Timestamp::from_nanos(open + (at.min(last).as_nanos() - open) / length * length);
        Some((start, start.after(self.target.duration()).min(trading.end())))
    }

    /// The days that an aggregate of days covers, the last one not included.
    fn days_with(&self, day: Day) -> (Day, Day) {
        // 1970-01-05 was a Monday.
        let days = i32::try_from(self.target.as_nanos() / DAY.unsigned_abs()).unwrap_or(1).max(1);
        let first = (day.epoch_days() - 4).div_euclid(days) * days + 4;
        let of = |epoch_days| Day::from_epoch_days(epoch_days).unwrap_or(day);
        (of(first), of(first + days))
    }

    fn length(&self) -> i64 {
        i64::try_from(self.target.as_nanos()).unwrap_or(i64::MAX)
    }

    fn by_clock(&self, at: Timestamp) -> (Timestamp, Timestamp) {
        if self.target.is_daily() {
            let (first, end) = self.days_with(at.day());
            return (first.start(), end.start());
        }
        let start = Timestamp::from_nanos(at.as_nanos().div_euclid(self.length()).saturating_mul(self.length()));
        (start, start.after(self.target.duration()))
    }

    /// The bars that have to be read to aggregate those of `span` anew, and the aggregates that they replace: whole
    /// ones at both ends.
    pub(crate) fn around(&mut self, span: Interval<Timestamp>) -> (Interval<Timestamp>, Interval<Timestamp>) {
        let last = Timestamp::from_nanos(span.end().as_nanos().saturating_sub(1));
        if !self.target.is_daily() {
            // An aggregate ends after its length, or with the trading: behind a close or a break another one may begin
            // at once, and would be replaced by a part of itself.
            let start = self.of(span.start()).map_or(span.start(), |at| at.min(span.start()));
            let end = self.bucket(last).map_or(span.end(), |(_, end)| end.max(span.end()));
            return (Interval::between(start, end), Interval::between(start, end));
        }
        // A session can begin two days before its own, in UTC, and end on the day after.
        let around = |day: Day, days: i32| day.plus_days(days).unwrap_or(day);
        let (first, _) = self.days_with(around(span.start().day(), -1));
        let (_, end) = self.days_with(around(last.day(), 2));
        let replaced = Interval::between(first.start(), end.start());
        if !self.calendar.has_sessions() || self.source.is_daily() {
            return (replaced, replaced);
        }
        let days = Interval::between(first, end);
        let open = self.calendar.sessions(days).next().map_or(replaced.start(), |session| session.open);
        let close = self.calendar.sessions(days).last().map_or(replaced.end(), |session| session.close);
        // With the bar that begins at the close.
        let close = close.after(Duration::from_nanos(1));
        // What lies outside of sessions is counted, so all of `span` is read.
        (Interval::between(open.min(span.start()), close.max(span.end())), replaced)
    }
}

/// Aggregates bars that are in order: first open, highest high, lowest low, last close, sum of the volume. Returns also
/// how many bars of `span` lie outside of sessions, or in their breaks: whole aggregates reach into the chunks beside
/// it, which count their own.
pub(crate) fn aggregate(bars: &Bars, buckets: &mut Buckets<'_>, span: Interval<Timestamp>) -> (Columns, u64) {
    let mut columns = Columns::default();
    let mut outside = 0;
    // An aggregate, and whether a bar of it was stored with a price below zero that was not allowed.
    let mut current: Option<(Bar, bool)> = None;
    let flaws = |(bar, negative): &(Bar, bool)| {
        if *negative { bar.flaws() } else { bar.flaws().without(Flaws::NEGATIVE) }
    };
    for (row, bar) in bars.iter().enumerate() {
        let is_negative = bars.flaws(row).contains(Flaws::NEGATIVE);
        let Some(at) = buckets.of(bar.at) else {
            outside += u64::from(span.contains(bar.at));
            continue;
        };
        match &mut current {
            Some((all, negative)) if all.at == at => {
                *negative |= is_negative;
                all.high = all.high.max(bar.high);
                all.low = all.low.min(bar.low);
                all.close = bar.close;
                all.volume += bar.volume;
            }
            _ => {
                if let Some(done) = current.replace((Bar { at, ..bar }, is_negative)) {
                    columns.push(&done.0, flaws(&done));
                }
            }
        }
    }
    if let Some(done) = current {
        columns.push(&done.0, flaws(&done));
    }
    (columns, outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().try_into().unwrap()
    }

    fn starts(calendar: &Calendar, target: Timeframe, times: &[&str]) -> Vec<String> {
        let mut buckets = Buckets::new(calendar, Timeframe::MINUTE, target);
        times.iter().map(|time| buckets.of(at(time)).map_or("-".into(), |start| start.to_string())).collect()
    }

    #[test]
    fn hours_of_an_exchange_begin_at_the_open() {
        let times = [
            "2018-12-24T14:29:00Z",
            "2018-12-24T14:30:00Z",
            "2018-12-24T15:29:00Z",
            "2018-12-24T17:45:00Z",
            "2018-12-24T18:00:00Z",
            "2018-12-24T18:01:00Z",
        ];
        assert_eq!(
            starts(&Calendar::nyse(), Timeframe::HOUR, &times),
            ["-", "2018-12-24T14:30:00Z", "2018-12-24T14:30:00Z", "2018-12-24T17:30:00Z", "2018-12-24T17:30:00Z", "-"]
        );
        assert_eq!(starts(&Calendar::nyse(), Timeframe::DAY, &times[1..2]), ["2018-12-24T00:00:00Z"]);
        let by_clock = starts(&Calendar::always_open(), Timeframe::HOUR, &times[..2]);
        assert_eq!(by_clock, ["2018-12-24T14:00:00Z", "2018-12-24T14:00:00Z"]);
    }

    #[test]
    fn weeks_begin_on_a_monday() {
        let week = Timeframe::days(7).unwrap();
        let times = ["2018-12-28T15:00:00Z", "2018-12-31T15:00:00Z"];
        for calendar in [Calendar::nyse(), Calendar::always_open()] {
            assert_eq!(starts(&calendar, week, &times), ["2018-12-24T00:00:00Z", "2018-12-31T00:00:00Z"]);
        }
    }
}
