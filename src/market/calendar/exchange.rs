//! The hours of an exchange: usual hours that may change over the years, and the days that have others.
//!
//! Times are local. A session belongs to the day on which it closes and is at most 24 hours long, so that a time of day
//! names one point of it: where a session opens on the day before, the times from the open on are of that day.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, NaiveTime, TimeDelta, TimeZone, Weekday};
use chrono_tz::Tz;

use super::session::{BREAKS_MAX, Session};
use crate::types::{
    error::{Error, Result},
    interval::Interval,
    time::{Day, Timestamp},
};

/// Local hours, and the days that have others.
pub(super) struct Exchange {
    pub(super) zone: Tz,
    /// The days that the calendar knows about.
    pub(super) known: Interval<Day>,
    /// Hours of the first days that are known.
    pub(super) usual: UsualHours,
    /// Hours that replaced them, by the first day that has them.
    pub(super) changes: BTreeMap<Day, UsualHours>,
    /// Days of the week without a session.
    pub(super) weekend: Vec<Weekday>,
    pub(super) closed: BTreeSet<Day>,
    pub(super) early: BTreeMap<Day, NaiveTime>,
    pub(super) late: BTreeMap<Day, NaiveTime>,
    /// Whether a bar that begins at the close belongs to the session.
    pub(super) closing_auction: bool,
}

/// Hours of every day that has no others.
#[derive(Clone)]
pub(super) struct UsualHours {
    pub(super) open: NaiveTime,
    /// Whether the session opens on the calendar day before.
    pub(super) opens_day_before: bool,
    pub(super) close: NaiveTime,
    pub(super) breaks: Vec<(NaiveTime, NaiveTime)>,
}

/// A local time of a session, in order of time: on the day before (-1), or on its own (0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Local {
    day: i64,
    time: NaiveTime,
}

impl UsualHours {
    /// Where in a session the local time `time` is.
    fn place(&self, time: NaiveTime) -> Local {
        Local { day: if self.opens_day_before && time >= self.open { -1 } else { 0 }, time }
    }

    fn opens(&self) -> Local {
        self.place(self.open)
    }

    fn closes(&self) -> Local {
        // At the time at which the session opened, on the next day, it is 24 hours long.
        Local { day: 0, time: self.close }
    }

    /// What is wrong with these hours: the field, and why.
    fn flaw(&self) -> Option<(&'static str, String)> {
        if self.opens_day_before && self.close > self.open {
            let message =
                format!("it closes at {}, more than 24 hours after {} on the day before", self.close, self.open);
            return Some(("close", message));
        }
        if self.closes() <= self.opens() {
            return Some(("close", format!("it closes at {}, and opens at {}", self.close, self.open)));
        }
        if self.breaks.len() > BREAKS_MAX {
            return Some((
                "breaks",
                format!("a session has at most {BREAKS_MAX}, and there are {}", self.breaks.len()),
            ));
        }
        let mut after = self.opens();
        for (start, end) in &self.breaks {
            let (from, to) = (self.place(*start), self.place(*end));
            if from <= after || to <= from || self.closes() <= to {
                let message = format!("{start} to {end} is not within the hours, in order and apart from the others");
                return Some(("breaks", message));
            }
            after = to;
        }
        None
    }
}

impl Exchange {
    /// The hours that are usual on `day`.
    fn usual(&self, day: Day) -> &UsualHours {
        self.changes.range(..=day).next_back().map_or(&self.usual, |(_, hours)| hours)
    }

    fn is_closed(&self, day: Day) -> bool {
        !self.known.contains(day) || self.weekend.contains(&day.to_date().weekday()) || self.closed.contains(&day)
    }

    fn opens(&self, day: Day) -> Local {
        let usual = self.usual(day);
        self.late.get(&day).map_or(usual.opens(), |time| usual.place(*time))
    }

    fn closes(&self, day: Day) -> Local {
        self.early.get(&day).map_or(self.usual(day).closes(), |time| Local { day: 0, time: *time })
    }

    pub(super) fn session(&self, day: Day) -> Option<Session> {
        if self.is_closed(day) {
            return None;
        }
        let usual = self.usual(day);
        let (open, close) = (self.at(day, self.opens(day))?, self.at(day, self.closes(day))?);
        // What was in order by the clock may not be where clocks change.
        if close <= open {
            return None;
        }
        let mut session = Session::new(day, open, close);
        session.early_close = self.early.contains_key(&day);
        session.late_open = self.late.contains_key(&day);
        let mut after = open;
        for (start, end) in &usual.breaks {
            let (start, end) = (self.at(day, usual.place(*start))?, self.at(day, usual.place(*end))?);
            // A day that opens after the break, or closes before it, is without.
            if after < start && start < end && end < close {
                session.add_break(Interval::between(start, end));
                after = end;
            }
        }
        Some(session)
    }

    /// When `day` begins, local time.
    pub(super) fn midnight(&self, day: Day) -> Timestamp {
        self.at(day, Local { day: 0, time: NaiveTime::MIN }).unwrap_or(day.start())
    }

    fn at(&self, day: Day, local: Local) -> Option<Timestamp> {
        let time = day.to_date().checked_add_signed(TimeDelta::days(local.day))?.and_time(local.time);
        // Where clocks are turned back a time is there twice: the first is meant. Where they are turned forward it is
        // skipped, and what should happen then happens an hour later.
        let found = self.zone.from_local_datetime(&time).earliest();
        let found = found.or_else(|| self.zone.from_local_datetime(&(time + TimeDelta::hours(1))).earliest())?;
        Timestamp::try_from(found.to_utc()).ok()
    }

    /// Refuses hours that contradict each other, by the name of the field in JSON.
    pub(super) fn check(&self, refuse: &impl Fn(&str, String) -> Error) -> Result<()> {
        if let Some((field, message)) = self.usual.flaw() {
            return Err(refuse(field, message));
        }
        for (day, hours) in &self.changes {
            if let Some((field, message)) = hours.flaw() {
                return Err(refuse("changes", format!("{day}: {field}: {message}")));
            }
        }
        let days = [
            ("closed", self.closed.iter().collect::<Vec<_>>()),
            ("early", self.early.keys().collect()),
            ("late", self.late.keys().collect()),
            ("changes", self.changes.keys().collect()),
        ];
        for (field, days) in days {
            if let Some(day) = days.into_iter().find(|day| !self.known.contains(**day)) {
                return Err(refuse(field, format!("{day} is outside of the days that it knows, {}", self.known)));
            }
        }
        self.late.keys().try_for_each(|day| self.check_late(*day, refuse))?;
        self.early.keys().try_for_each(|day| self.check_early(*day, refuse))?;
        self.changes.keys().try_for_each(|day| self.check_change(*day, refuse))
    }

    fn check_late(&self, day: Day, refuse: &impl Fn(&str, String) -> Error) -> Result<()> {
        let (usual, open) = (self.usual(day), self.opens(day));
        if open <= usual.opens() || self.closes(day) <= open {
            let message = format!("{day} opens at {}, which is not between {} and its close", open.time, usual.open);
            return Err(refuse("late", message));
        }
        let within = |(start, end): &&(NaiveTime, NaiveTime)| usual.place(*start) <= open && open < usual.place(*end);
        match usual.breaks.iter().find(within) {
            Some((start, end)) => Err(refuse("late", format!("{day} opens in the break from {start} to {end}"))),
            None => Ok(()),
        }
    }

    fn check_early(&self, day: Day, refuse: &impl Fn(&str, String) -> Error) -> Result<()> {
        let (usual, close) = (self.usual(day), self.closes(day));
        if close <= self.opens(day) || usual.closes() <= close {
            let message = format!("{day} closes at {}, which is not between its open and {}", close.time, usual.close);
            return Err(refuse("early", message));
        }
        let within = |(start, end): &&(NaiveTime, NaiveTime)| usual.place(*start) < close && close <= usual.place(*end);
        match usual.breaks.iter().find(within) {
            Some((start, end)) => Err(refuse("early", format!("{day} closes in the break from {start} to {end}"))),
            None => Ok(()),
        }
    }

    /// New hours may begin while the session of the day before goes on.
    fn check_change(&self, day: Day, refuse: &impl Fn(&str, String) -> Error) -> Result<()> {
        let Some(before) = day.plus_days(-1).ok().filter(|before| !self.is_closed(*before)) else { return Ok(()) };
        let (close, open) = (self.closes(before), self.opens(day));
        if open.day < 0 && open.time < close.time {
            let message = format!("{day} opens at {} on the day before, which closes at {}", open.time, close.time);
            return Err(refuse("changes", message));
        }
        Ok(())
    }
}
