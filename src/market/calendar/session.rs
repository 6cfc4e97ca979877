//! One trading day of a calendar: when it opens and closes, and the breaks in between.
//!
//! Breaks are in order, do not touch each other, and lie strictly between the open and the close. So a session always
//! has one trading stretch more than it has breaks.

use crate::{
    market::timeframe::Timeframe,
    types::{
        interval::Interval,
        time::{Day, Timestamp},
    },
};

/// Breaks of one session. Chinese futures, which trade at night too, have three.
pub(super) const BREAKS_MAX: usize = 4;

/// A day on which there is trading.
///
/// ```
/// use modelkeep::market::{Calendar, Timeframe};
///
/// let session = Calendar::tokyo().session("2024-11-05".parse()?).unwrap();
/// let hours: Vec<_> = session.trading().map(|stretch| stretch.to_string()).collect();
/// assert_eq!(hours, [
///     "[2024-11-05T00:00:00Z, 2024-11-05T02:30:00Z)",
///     "[2024-11-05T03:30:00Z, 2024-11-05T06:30:00Z)", // after lunch
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The day, as the exchange dates it. A session that opens in the evening before belongs to the day it closes on.
    pub day: Day,
    /// When trading begins.
    pub open: Timestamp,
    /// When it has ended.
    pub close: Timestamp,
    /// Whether it closes early.
    pub early_close: bool,
    /// Whether it opens late.
    pub late_open: bool,
    /// Filled from the front.
    breaks: [Option<Interval<Timestamp>>; BREAKS_MAX],
}

impl Session {
    pub(super) fn new(day: Day, open: Timestamp, close: Timestamp) -> Self {
        Self { day, open, close, early_close: false, late_open: false, breaks: [None; BREAKS_MAX] }
    }

    /// Adds a break behind those that are there. The exchange's hours were checked to have no more than fit.
    pub(super) fn add_break(&mut self, pause: Interval<Timestamp>) {
        if let Some(free) = self.breaks.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(pause);
        }
    }

    /// Returns the breaks, in order: lunch in Hong Kong and Tokyo, a daily halt of futures. Most sessions have none.
    pub fn breaks(&self) -> impl Iterator<Item = Interval<Timestamp>> + use<> {
        self.breaks.into_iter().flatten()
    }

    /// Returns the stretches of time in which there is trading, in order: the session without its breaks.
    pub fn trading(&self) -> impl Iterator<Item = Interval<Timestamp>> + use<> {
        let starts = std::iter::once(self.open).chain(self.breaks().map(|pause| pause.end()));
        let ends = self.breaks().map(|pause| pause.start()).chain([self.close]);
        starts.zip(ends).map(|(start, end)| Interval::between(start, end))
    }

    /// Returns the stretch of trading that `at` lies in; `None` in a break and outside of the session.
    #[must_use]
    pub fn trading_at(&self, at: Timestamp) -> Option<Interval<Timestamp>> {
        self.trading().find(|stretch| stretch.contains(at))
    }

    /// Returns the time in which bars of this session begin: from open to close, breaks included, or, for bars of a day
    /// and longer, all of the day in UTC, by which they are labelled.
    #[must_use]
    pub fn window(&self, timeframe: Timeframe) -> Interval<Timestamp> {
        let (start, end) =
            if timeframe.is_daily() { (self.day.start(), self.day.next().start()) } else { (self.open, self.close) };
        Interval::between(start, end)
    }

    /// The parts of the window in which bars are expected: the stretches of trading, or the day.
    pub(crate) fn windows(&self, timeframe: Timeframe) -> impl Iterator<Item = Interval<Timestamp>> + use<> {
        let day = timeframe.is_daily().then(|| self.window(timeframe));
        let trading = if timeframe.is_daily() { None } else { Some(self.trading()) };
        day.into_iter().chain(trading.into_iter().flatten())
    }
}
