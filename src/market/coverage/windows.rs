//! Where rows of a series are expected: the trading of its calendar's sessions, and days that nobody judges.

use std::{iter, time::Duration};

use super::classify::Judge;
use crate::{
    market::calendar::Session,
    types::{
        interval::Interval,
        time::{Day, Timestamp},
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// A session, or a day that the calendar does not know, as far as it was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// `None` for a day that the calendar does not know.
    pub(crate) session: Option<Session>,
    /// All of it: where its rows begin.
    pub(crate) whole: Interval<Timestamp>,
    /// The part that was looked at.
    pub(crate) span: Interval<Timestamp>,
    /// When the last of its rows has ended, but for one that begins at the close.
    pub(crate) closed_at: Timestamp,
    /// The close, if a bar can begin with it, as that of the closing auction does: then it is the last moment of
    /// `whole`.
    pub(crate) closing: Option<Timestamp>,
}

/// Where a row lies by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowPlace {
    /// In a session, or on a day that nobody judges.
    Session,
    /// On a day with a session, before its open or after its close.
    OutsideHours,
    /// On a day without a session: the calendar may be of another market.
    OffDay,
}

impl Judge<'_> {
    /// The sessions in `within`, and the days that the calendar does not know, as far as they lie in it, in order.
    pub(crate) fn windows(&self, within: Interval<Timestamp>) -> impl Iterator<Item = Window> {
        let (judge, known) = (*self, self.calendar.known());
        let days = within.days();
        let before = Interval::between(days.start(), days.end().min(known.start()).max(days.start()));
        let after = Interval::between(days.start().max(known.end()).min(days.end()), days.end());
        let unjudged = move |days: Interval<Day>| {
            let all = iter::successors(Some(days.start()), |day| Some(day.next()));
            all.take_while(move |day| days.contains(*day)).map(|day| {
                let whole = Interval::between(day.start(), day.next().start());
                Window { session: None, whole, span: whole, closed_at: whole.end(), closing: None }
            })
        };
        let sessions = self.calendar.expected(self.widened(within), self.timeframe);
        let stretches = sessions.flat_map(move |session| judge.stretches(session));
        let all = unjudged(before).chain(stretches).chain(unjudged(after));
        all.filter_map(move |window| {
            let (start, end) = (window.whole.start().max(within.start()), window.whole.end().min(within.end()));
            // Bars of a day begin with it: who asked from noon on did not ask for today.
            let is_asked = start < end && (!judge.timeframe.is_daily() || start == window.whole.start());
            is_asked.then(|| Window { span: Interval::between(start, end), ..window })
        })
    }

    /// The window that `at` lies in.
    pub(crate) fn window_at(&self, at: Timestamp) -> Option<Window> {
        self.windows(Interval::between(at, at.after(Duration::from_nanos(1)))).next()
    }

    /// Extended hours, and the close, reach beyond the session that they belong to.
    fn widened(&self, within: Interval<Timestamp>) -> Interval<Timestamp> {
        if self.timeframe.is_daily() {
            within
        } else if self.policy.extended_hours {
            Interval::between(within.start().before(DAY), within.end().after(DAY))
        } else {
            // A bar that begins at the close belongs to the session before it.
            Interval::between(within.start().before(Duration::from_nanos(1)), within.end())
        }
    }

    /// The stretches in which the rows of a session begin: its trading, without breaks; with extended hours all of its
    /// day, local time; and for bars of a day the day that they are labelled by.
    fn stretches(&self, session: Session) -> impl Iterator<Item = Window> + use<> {
        let is_daily = self.timeframe.is_daily();
        let extended = (self.policy.extended_hours && !is_daily).then(|| {
            let (window, day) = (session.window(self.timeframe), self.calendar.local_day(session.day));
            // A session that opens in the evening before has no hours before it.
            if window.start() < day.start() {
                window
            } else {
                Interval::between(day.start(), window.end().max(day.end()))
            }
        });
        let plain = extended.is_none().then(|| session.windows(self.timeframe));
        let has_closing =
            extended.is_none() && !is_daily && self.calendar.session_of_bar(session.close) == Some(session);
        extended.into_iter().chain(plain.into_iter().flatten()).map(move |whole| {
            let closed_at = if is_daily { session.close } else { whole.end() };
            let closing = (has_closing && whole.end() == session.close).then_some(session.close);
            let end = closing.map_or(whole.end(), |close| close.after(Duration::from_nanos(1)));
            let whole = Interval::between(whole.start(), end);
            Window { session: Some(session), whole, span: whole, closed_at, closing }
        })
    }

    /// Where a row that begins at `at` lies by the calendar.
    pub(crate) fn place_of(&self, at: Timestamp) -> RowPlace {
        if self.belongs(at) {
            return RowPlace::Session;
        }
        // Hours before the open and after the close are of a day with a session; a weekend is not.
        let day = at.day();
        let is_daily = self.timeframe.is_daily();
        let around = [Some(day), day.plus_days(-1).ok().filter(|_| !is_daily)].into_iter().flatten();
        let mut days = around.filter(|day| is_daily || self.calendar.local_day(*day).contains(at));
        if days.any(|day| self.calendar.session(day).is_some()) { RowPlace::OutsideHours } else { RowPlace::OffDay }
    }

    /// Whether a row that begins at `at` belongs to the series: to a session of it, or to a day that nobody judges. A
    /// row that begins at the close, as the closing auction's does, belongs to the session.
    fn belongs(&self, at: Timestamp) -> bool {
        if !self.calendar.known().contains(at.day()) {
            return true;
        }
        if self.timeframe.is_daily() {
            return self.calendar.session(at.day()).is_some();
        }
        let around = Interval::between(at.before(MINUTE), at.after(MINUTE));
        let mut sessions = self.calendar.expected(self.widened(around), self.timeframe);
        sessions.any(|session| self.stretches(session).any(|part| part.whole.contains(at)))
    }
}
