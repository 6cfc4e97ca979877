//! Trading calendars: when an exchange is open, and so where a missing bar is a gap.
//!
//! A calendar is data: a time zone, usual hours, closed days and early closes, within the years that it knows. It has
//! a name and a version, can be written as JSON and read back, and is stored with the data that it judged. Time zone
//! rules come from the IANA database.

mod data;
mod nyse;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, OnceLock},
};

use chrono::{NaiveTime, TimeZone, Weekday};
use chrono_tz::Tz;

use super::timeframe::Timeframe;
use crate::types::{
    error::{Error, Result},
    hash::Digest,
    interval::Interval,
    invariant::Invariant,
    key::Label,
    time::{Day, Timestamp},
};

/// A trading calendar. Clones are cheap.
///
/// [`nyse`](Self::nyse) and [`nasdaq`](Self::nasdaq) know 1999 to 2030: the holidays by the exchange's rules, the early
/// closes, and the days on which it stayed closed for mourning, attacks and storms, as the NYSE announced them. What
/// they say was compared, opens and closes of every day from 1999 to October 2027, with the calendar XNYS of the Python
/// package `exchange_calendars` 4.13.2 (Apache-2.0), and with the days that the S&P 500 has a level on from 1999 to
/// 2018. Days after the present follow the rules as they are.
///
/// ```
/// use modelkeep::market::Calendar;
///
/// let nyse = Calendar::nyse();
/// assert!(nyse.session("2025-01-09".parse()?).is_none()); // closed for the funeral of a president
/// let half = nyse.session("2018-12-24".parse()?).unwrap();
/// assert_eq!(half.close.to_string(), "2018-12-24T18:00:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Calendar(Arc<Inner>);

struct Inner {
    name: Label,
    version: u32,
    hours: Hours,
    /// Its JSON, once somebody asked: every write of a ledger does.
    json: OnceLock<String>,
    /// BLAKE3 of its JSON.
    digest: OnceLock<Digest>,
}

impl Inner {
    fn new(name: Label, version: u32, hours: Hours) -> Self {
        Self { name, version, hours, json: OnceLock::new(), digest: OnceLock::new() }
    }
}

enum Hours {
    /// Every day, all day, in UTC.
    Always,
    /// Monday to Friday, all day, in UTC.
    Weekdays,
    Exchange(Exchange),
}

/// Local hours, and the days that have others.
struct Exchange {
    zone: Tz,
    open: NaiveTime,
    close: NaiveTime,
    /// The days that the calendar knows about.
    known: Interval<Day>,
    /// Days of the week without a session.
    weekend: Vec<Weekday>,
    closed: BTreeSet<Day>,
    early: BTreeMap<Day, NaiveTime>,
}

/// A day on which there is trading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The day, as the exchange dates it.
    pub day: Day,
    /// When trading begins.
    pub open: Timestamp,
    /// When it has ended.
    pub close: Timestamp,
    /// Whether it closes early.
    pub early_close: bool,
}

impl Session {
    /// Returns the time in which bars of this session begin: from open to close, or, for bars of a day and longer, all
    /// of the day in UTC, by which they are labelled.
    #[must_use]
    pub fn window(&self, timeframe: Timeframe) -> Interval<Timestamp> {
        let (start, end) =
            if timeframe.is_daily() { (self.day.start(), self.day.next().start()) } else { (self.open, self.close) };
        Interval::between(start, end)
    }
}

impl Calendar {
    /// Returns the calendar of a market that never closes: each day in UTC is a session.
    #[must_use]
    pub fn always_open() -> Self {
        Self::built_in("always_open", Hours::Always)
    }

    /// Returns the calendar of a market that is open from Monday to Friday, in UTC, without holidays.
    #[must_use]
    pub fn weekdays() -> Self {
        Self::built_in("weekdays", Hours::Weekdays)
    }

    /// Returns the calendar of the New York Stock Exchange, 1999 to 2030: 9:30 to 16:00 in New York.
    #[must_use]
    pub fn nyse() -> Self {
        static NYSE: OnceLock<Calendar> = OnceLock::new();
        NYSE.get_or_init(|| Self::built_in("nyse", Hours::Exchange(nyse::exchange()))).clone()
    }

    /// Returns the calendar of Nasdaq, which keeps the sessions of the NYSE.
    #[must_use]
    pub fn nasdaq() -> Self {
        static NASDAQ: OnceLock<Calendar> = OnceLock::new();
        NASDAQ.get_or_init(|| Self::built_in("nasdaq", Hours::Exchange(nyse::exchange()))).clone()
    }

    fn built_in(name: &str, hours: Hours) -> Self {
        let name = Label::new(name).always("names of calendars here are labels");
        Self(Arc::new(Inner::new(name, 1, hours)))
    }

    /// Returns the calendar's name.
    #[must_use]
    pub fn name(&self) -> &Label {
        &self.0.name
    }

    /// Returns the version of its data.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.version
    }

    /// Returns the days that the calendar knows about; on others it expects nothing.
    #[must_use]
    pub fn known(&self) -> Interval<Day> {
        match &self.0.hours {
            Hours::Exchange(exchange) => exchange.known,
            _ => Interval::new(Timestamp::from_nanos(i64::MIN).day(), Timestamp::from_nanos(i64::MAX).day())
                .unwrap_or_else(|_| unreachable!("time goes on")),
        }
    }

    /// Returns whether aggregates follow its sessions. Otherwise they follow the clock, in UTC.
    #[must_use]
    pub fn has_sessions(&self) -> bool {
        matches!(self.0.hours, Hours::Exchange(_))
    }

    /// Returns the session of `day`; `None` when there is none, or when the calendar does not know the day.
    #[must_use]
    pub fn session(&self, day: Day) -> Option<Session> {
        match &self.0.hours {
            Hours::Always => Some(whole(day)),
            Hours::Weekdays => (!day.is_weekend()).then(|| whole(day)),
            Hours::Exchange(exchange) => exchange.session(day),
        }
    }

    /// Returns the sessions of the days in `range`, in order.
    pub fn sessions(&self, range: Interval<Day>) -> impl Iterator<Item = Session> + use<> {
        let calendar = self.clone();
        let days = std::iter::successors(Some(range.start()), |day| Some(day.next()));
        days.take_while(move |day| range.contains(*day)).filter_map(move |day| calendar.session(day))
    }

    /// Returns the session that is open at `at`.
    #[must_use]
    pub fn session_at(&self, at: Timestamp) -> Option<Session> {
        // A session's local day is the day in UTC, or the one before or after it.
        let day = at.day().epoch_days();
        let around = (day - 1..=day + 1).filter_map(|day| Day::from_epoch_days(day).ok());
        around.filter_map(|day| self.session(day)).find(|session| session.open <= at && at < session.close)
    }

    /// A day as the exchange dates it: from midnight to midnight, local time.
    pub(crate) fn local_day(&self, day: Day) -> Interval<Timestamp> {
        let midnight = |day: Day| match &self.0.hours {
            Hours::Exchange(exchange) => {
                let local = exchange.zone.from_local_datetime(&day.to_date().and_time(NaiveTime::MIN)).earliest();
                local.and_then(|local| Timestamp::try_from(local.to_utc()).ok()).unwrap_or(day.start())
            }
            Hours::Always | Hours::Weekdays => day.start(),
        };
        let start = midnight(day);
        Interval::between(start, midnight(day.next()).max(start))
    }

    /// BLAKE3 of its JSON.
    pub(crate) fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| Digest::of(self.json().as_bytes()))
    }

    /// Returns the sessions whose bars can lie in `span`.
    pub(crate) fn expected(
        &self,
        span: Interval<Timestamp>,
        timeframe: Timeframe,
    ) -> impl Iterator<Item = Session> + use<> {
        let days = span.days();
        let start = days.start().plus_days(-1).unwrap_or(days.start());
        let around = Interval::new(start, days.end().next()).unwrap_or(days);
        self.sessions(around).filter(move |session| {
            let window = session.window(timeframe);
            window.start() < span.end() && span.start() < window.end()
        })
    }
}

/// All of a day in UTC.
fn whole(day: Day) -> Session {
    Session { day, open: day.start(), close: day.next().start(), early_close: false }
}

impl Exchange {
    fn session(&self, day: Day) -> Option<Session> {
        use chrono::Datelike;
        let date = day.to_date();
        let shut = !self.known.contains(day) || self.weekend.contains(&date.weekday()) || self.closed.contains(&day);
        if shut {
            return None;
        }
        let early = self.early.get(&day);
        let at = |time: NaiveTime| {
            // Around a change of the clocks a local time may be there twice, or not at all; no exchange opens then.
            let local = self.zone.from_local_datetime(&date.and_time(time)).earliest()?;
            Timestamp::try_from(local.to_utc()).ok()
        };
        Some(Session {
            day,
            open: at(self.open)?,
            close: at(*early.unwrap_or(&self.close))?,
            early_close: early.is_some(),
        })
    }

    fn check(&self, name: &Label) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid("read calendar", name.to_string(), message));
        if self.open >= self.close {
            return refuse(format!("it closes at {}, and opens at {}", self.close, self.open));
        }
        if let Some((day, close)) = self.early.iter().find(|(_, close)| **close <= self.open || **close >= self.close) {
            return refuse(format!("{day} closes at {close}, which is not between {} and {}", self.open, self.close));
        }
        match self.closed.iter().chain(self.early.keys()).find(|day| !self.known.contains(**day)) {
            Some(day) => refuse(format!("{day} is outside of the days that it knows, {}", self.known)),
            None => Ok(()),
        }
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.json() == other.json()
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.0.name, self.0.version)
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn days_that_were_closed_have_no_session() {
        let nyse = Calendar::nyse();
        for text in [
            "2001-09-11",
            "2001-09-12",
            "2001-09-13",
            "2001-09-14",
            "2004-06-11",
            "2007-01-02",
            "2012-10-29",
            "2012-10-30",
            "2018-12-05",
            "2025-01-09",
            "2022-06-20",
            "2021-12-24",
            "1999-04-02",
            "2030-11-28",
        ] {
            assert_eq!(nyse.session(day(text)), None, "{text}");
        }
        // Not on a Friday before a New Year's Day on a Saturday; no Juneteenth before 2022.
        for text in ["1999-12-31", "2010-12-31", "2021-12-31", "2021-06-18", "2001-09-17", "2018-12-06"] {
            assert!(nyse.session(day(text)).is_some(), "{text}");
        }
    }

    #[test]
    fn half_days_close_at_one() {
        let nyse = Calendar::nyse();
        for text in [
            "1999-11-26",
            "2002-07-05",
            "2003-12-26",
            "2013-07-03",
            "2018-07-03",
            "2018-11-23",
            "2018-12-24",
            "2024-07-03",
        ] {
            let session = nyse.session(day(text)).unwrap();
            assert!(session.early_close, "{text}");
            assert_eq!(session.close.since(session.open).as_secs(), 3 * 3600 + 1800);
        }
        for text in ["2002-07-03", "2013-07-05", "2020-07-02", "2020-07-06", "2015-07-02"] {
            assert!(!nyse.session(day(text)).unwrap().early_close, "{text}");
        }
    }

    #[test]
    fn hours_follow_the_clocks_of_new_york() {
        let nyse = Calendar::nyse();
        // The second Sunday of March since 2007, the first of April before; November since 2007, October before.
        for (text, open) in [
            ("2006-03-31", "14:30"),
            ("2006-04-03", "13:30"),
            ("2006-10-27", "13:30"),
            ("2006-10-30", "14:30"),
            ("2018-03-09", "14:30"),
            ("2018-03-12", "13:30"),
            ("2018-11-02", "13:30"),
            ("2018-11-05", "14:30"),
        ] {
            let session = nyse.session(day(text)).unwrap();
            assert_eq!(session.open.to_string(), format!("{text}T{open}:00Z"));
            assert_eq!(session.close.since(session.open).as_secs(), 6 * 3600 + 1800);
        }
    }

    #[test]
    fn a_session_is_found_by_a_time_within() {
        let nyse = Calendar::nyse();
        let session = nyse.session(day("2018-12-24")).unwrap();
        assert_eq!(nyse.session_at(session.open), Some(session));
        assert_eq!(nyse.session_at(session.close), None);
        let saturday = Calendar::always_open().session_at(day("2018-12-22").start()).unwrap();
        assert_eq!(saturday.day, day("2018-12-22"));
        assert_eq!(Calendar::weekdays().session_at(day("2018-12-22").start()), None);
    }

    #[test]
    fn what_is_expected_depends_on_the_length_of_the_bars() {
        let nyse = Calendar::nyse();
        let day_of = |text: &str| Interval::new(day(text), day(text).next()).unwrap().span();
        let count = |text: &str, timeframe| nyse.expected(day_of(text), timeframe).count();
        assert_eq!((count("2018-12-24", Timeframe::DAY), count("2018-12-25", Timeframe::DAY)), (1, 0));
        assert_eq!(count("2018-12-24", Timeframe::MINUTE), 1);
    }
}
