//! Trading calendars: when an exchange is open, and so where a missing bar is a gap.
//!
//! A calendar is data: a time zone, usual hours and breaks, closed days, early closes and late opens, within the years
//! that it knows. It has a name and a version, can be written as JSON and read back, and is stored with the data that
//! it judged. Time zone rules come from the IANA database. A bar that begins at the close, as the closing auction's
//! does, belongs to the session; an auction before the open does not.

mod data;
mod exchange;
mod nyse;
mod session;
mod venues;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use exchange::Exchange;
pub use session::Session;

use super::timeframe::Timeframe;
use crate::types::{
    hash::Digest,
    interval::Interval,
    key::Label,
    time::{Day, Timestamp},
};

/// A trading calendar. Clones are cheap.
///
/// Built in are the NYSE and Nasdaq, Xetra, London, Sydney, Hong Kong, Tokyo, equity index futures in Chicago, the
/// currency market, and markets that never close. Each says what it knows, from when to when, and what it does not
/// know; days after the present follow the rules as they are. Others are read [from JSON](Self::from_json).
///
/// Open, close and breaks of every session to the end of 2027 (currencies 2040) were compared with the Python packages
/// `exchange_calendars` 4.13.2 (Apache-2.0) and `pandas_market_calendars` 5.5.0 (MIT): 90,579 days with 64,930
/// sessions, without a difference to the reference of each calendar, where 1,767 sessions were corrected by
/// announcements of the exchanges. The README beside the data has the numbers of each calendar, and where the packages
/// differ. The NYSE was also compared with the days that the S&P 500 has a level on from 1999 to 2018.
///
/// A session belongs to the day on which it closes, and may have breaks: see [`Session`].
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

/// Days that are looked at for the last open.
const LAST_OPEN_DAYS: usize = 32;

impl Calendar {
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

    /// Returns the session that `at` lies in, from its open to its close. A time in a break of the session belongs to
    /// it, too: [`Session::trading_at`] says whether there is trading.
    #[must_use]
    pub fn session_at(&self, at: Timestamp) -> Option<Session> {
        around(at.day()).filter_map(|day| self.session(day)).find(|session| session.open <= at && at < session.close)
    }

    /// Returns when the last session that has opened by `at` did so: the session that is going on, or the one before.
    /// `None` when there was none within a month, or when the calendar does not know these days.
    ///
    /// What [`Freshness::made_since`](crate::Freshness::made_since) wants: a model of before is one of another session.
    ///
    /// ```
    /// use modelkeep::{Freshness, Timestamp, market::Calendar};
    ///
    /// let christmas: Timestamp = "2018-12-25T15:00:00Z".parse()?;
    /// let open = Calendar::nyse().last_open(christmas).expect("a session within a month");
    /// assert_eq!(open.to_string(), "2018-12-24T14:30:00Z");
    /// let freshness = Freshness { made_since: Some(open), ..Freshness::max_age_hours(20) };
    /// # assert!(freshness.made_since.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn last_open(&self, at: Timestamp) -> Option<Timestamp> {
        // The session of tomorrow may open this evening.
        let days = std::iter::successors(Some(at.day().next()), |day| day.plus_days(-1).ok()).take(LAST_OPEN_DAYS);
        days.filter_map(|day| self.session(day)).map(|session| session.open).find(|open| *open <= at)
    }

    /// Returns the session that a bar which begins at `at` belongs to: the one that `at` lies in, or, where there is a
    /// closing auction, the one that closes then.
    #[must_use]
    pub fn session_of_bar(&self, at: Timestamp) -> Option<Session> {
        self.session_at(at).or_else(|| {
            let closing = match &self.0.hours {
                Hours::Exchange(exchange) => exchange.closing_auction,
                Hours::Always | Hours::Weekdays => false,
            };
            let before = at.before(Duration::from_nanos(1));
            self.session_at(before).filter(|session| closing && session.close == at)
        })
    }

    /// Returns when a bar that begins at `at` has ended: after its length, or with its session, or at a break, if that
    /// comes before and nothing behind it can be part of the bar; a bar of a day ends when the session of its day
    /// closes, and one of several days when the last session in them does. Where the official close comes from an
    /// auction some minutes after the session (London, XETRA, Hong Kong, Sydney), the vendor's bar of the day has its
    /// last value as much later.
    ///
    /// ```
    /// use modelkeep::market::{Calendar, Timeframe};
    ///
    /// let nyse = Calendar::nyse();
    /// let midnight = "2018-12-24T00:00:00Z".parse()?;
    /// assert_eq!(nyse.bar_end(midnight, Timeframe::DAY).to_string(), "2018-12-24T18:00:00Z"); // an early close
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bar_end(&self, at: Timestamp, timeframe: Timeframe) -> Timestamp {
        let end = at.after(timeframe.duration());
        if !timeframe.is_daily() {
            let Some(session) = self.session_at(at) else { return end };
            // Nothing is traded in a break; a bar that reaches beyond one may have what comes behind it.
            let pause = session.breaks().find(|pause| at < pause.start() && pause.start() < end && end <= pause.end());
            return pause.map_or(end.min(session.close), |pause| pause.start());
        }
        let first = at.day();
        let last = end.before(Duration::from_nanos(1)).day().max(first);
        if !self.known().contains(last) {
            return end;
        }
        let mut days = std::iter::successors(Some(last), |day| day.plus_days(-1).ok()).take_while(|day| *day >= first);
        days.find_map(|day| self.session(day)).map_or(end, |session| session.close)
    }

    /// A day as the exchange dates it: from midnight to midnight, local time.
    pub(crate) fn local_day(&self, day: Day) -> Interval<Timestamp> {
        let midnight = |day: Day| match &self.0.hours {
            Hours::Exchange(exchange) => exchange.midnight(day),
            Hours::Always | Hours::Weekdays => day.start(),
        };
        let start = midnight(day);
        Interval::between(start, midnight(day.next()).max(start))
    }

    /// BLAKE3 of its JSON.
    pub(crate) fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| Digest::of(self.json().as_bytes()))
    }

    /// Returns the sessions whose bars can lie in `span`: not those of which only a break does.
    pub(crate) fn expected(
        &self,
        span: Interval<Timestamp>,
        timeframe: Timeframe,
    ) -> impl Iterator<Item = Session> + use<> {
        let days = span.days();
        let start = days.start().plus_days(-1).unwrap_or(days.start());
        let around = Interval::new(start, days.end().next().next()).unwrap_or(days);
        let is_touched = move |part: Interval<Timestamp>| part.start() < span.end() && span.start() < part.end();
        self.sessions(around).filter(move |session| session.windows(timeframe).any(is_touched))
    }
}

/// The days whose sessions a time of the day `day`, in UTC, can lie in. No zone is more than 14 hours from UTC, and a
/// session opens on its day or on the day before.
fn around(day: Day) -> impl Iterator<Item = Day> {
    let day = day.epoch_days();
    (day - 1..=day + 2).filter_map(|day| Day::from_epoch_days(day).ok())
}

/// All of a day in UTC.
fn whole(day: Day) -> Session {
    Session::new(day, day.start(), day.next().start())
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
mod tests;
