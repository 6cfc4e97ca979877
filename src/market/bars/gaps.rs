//! What is known of bars, and what is missing.

use std::time::Duration;

use super::{read, series::BarSeries};
use crate::{
    market::{
        bars::bar::Field,
        calendar::{Calendar, Session},
        coverage::{
            ledger::{Coverage, CoverageSpan},
            windows::Window,
        },
    },
    types::{
        error::{Error, Result},
        interval::Interval,
        time::Timestamp,
    },
};

impl BarSeries<'_> {
    /// Returns what is known of every part of `interval`, in order.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// series.write(&three)?;
    /// assert!(!series.coverage(Interval::new(at(0), at(3))?)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the ledger is damaged, `Io` when the file cannot be read.
    pub fn coverage(&self, interval: Interval<Timestamp>) -> Result<Vec<CoverageSpan>> {
        self.covered.coverage(interval)
    }

    /// Returns the calendar that judged what is known, as it was then; `None` when nothing is known.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = |n: i64| Timestamp::from_nanos(n * 86_400_000_000_000);
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let series = store.bars("SPY", Timeframe::DAY)?;
    /// # let three: Bars = (0..3).map(bar).collect();
    /// assert!(series.stored_calendar()?.is_none());
    /// series.write(&three)?;
    /// assert_eq!(series.stored_calendar()?.expect("bars are stored").name().as_str(), "nyse");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the ledger or the calendar is damaged, `Io` when the file cannot be read.
    pub fn stored_calendar(&self) -> Result<Option<Calendar>> {
        self.covered.stored_calendar()
    }

    /// Returns the sessions of `interval` that the calendar expects bars in, that have none at all, and that are not
    /// known to be empty; those that are over. For what is missing within sessions see
    /// [`intraday_gaps`](Self::intraday_gaps).
    ///
    /// ```
    /// # use modelkeep::{Day, Interval, Store, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let december = Interval::<Day>::parse("2018-12-24", "2018-12-28")?.span();
    /// let gaps = store.bars("SPY", Timeframe::DAY)?.gaps(december)?;
    /// assert_eq!(gaps.len(), 3); // the 25th is no session
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range); `InvalidInput` for bars of more than a day.
    pub fn gaps(&self, interval: Interval<Timestamp>) -> Result<Vec<Session>> {
        self.check_sessions("look for gaps")?;
        let snapshot = self.covered.market.core.snapshot()?;
        let judged = self.covered.judged_in(&snapshot, &snapshot)?;
        let judge = self.covered.judge(&judged, self.covered.market.core.now());
        let until = judge.complete_until();
        let over = Interval::between(interval.start(), interval.end().min(until).max(interval.start()));
        let (at, _) = read::field(&snapshot, &self.id, over, Field::Volume)?;
        let is_empty = |window: &Window| {
            // A long bar may begin before the session that it is of, but not within another one.
            let reach = if self.timeframe().is_daily() { Duration::ZERO } else { self.timeframe().duration() };
            let first = at.partition_point(|at| at.after(reach) <= window.span.start() && *at < window.span.start());
            let end = at.partition_point(|at| *at < window.span.end());
            let rows = at.get(first..end.max(first)).unwrap_or_default();
            rows.iter().all(|at| *at < window.span.start() && judge.window_at(*at).is_some())
        };
        let is_known = |span| {
            judged
                .record
                .ledger
                .within(span)
                .iter()
                .all(|part| part.coverage == Coverage::Empty || part.coverage == Coverage::Present)
        };
        let mut gaps: Vec<Session> = Vec::new();
        let windows: Vec<Window> = judge.windows(over).collect();
        // A session with a break has two windows.
        for parts in windows.chunk_by(|a, b| a.session == b.session) {
            if parts.iter().all(is_empty) && !parts.iter().all(|part| is_known(part.span)) {
                gaps.extend(parts.first().and_then(|part| part.session));
            }
        }
        Ok(gaps)
    }

    /// Refuses bars longer than a day: gaps and loads are computed per session.
    pub(crate) fn check_sessions(&self, operation: &'static str) -> Result<()> {
        if self.timeframe().is_longer_than_a_day() {
            let message = "sessions apply to bars of a day or shorter; load daily bars and resample them";
            return Err(Error::invalid(operation, self.id.to_string(), message));
        }
        Ok(())
    }

    /// Returns the stretches of trading, as far as they lie in `interval`, of at least `shortest` that no bar covers.
    /// Breaks of a session are none. Once a session has ended, a load takes stretches without a bar for minutes without
    /// a trade; this finds what a vendor cut off. [`mark_missing`](Self::mark_missing) such a stretch to have it
    /// fetched again.
    ///
    /// ```
    /// # use modelkeep::{Day, Interval, Store, market::Timeframe};
    /// # use std::time::Duration;
    /// # let store = Store::in_memory()?;
    /// let day = Interval::<Day>::parse("2018-12-24", "2018-12-25")?.span();
    /// let gaps = store.bars("SPY", Timeframe::MINUTE)?.intraday_gaps(day, Duration::from_secs(600))?;
    /// assert_eq!(gaps[0].end().to_string(), "2018-12-24T18:00:00Z"); // no bar at all, up to an early close
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn intraday_gaps(&self, interval: Interval<Timestamp>, shortest: Duration) -> Result<Vec<Interval<Timestamp>>> {
        self.check_sessions("look for gaps")?;
        let length = self.timeframe().duration();
        // A bar that goes on when the interval begins covers a part of it.
        let around = Interval::between(interval.start().before(length), interval.end());
        let (at, _) =
            self.covered.market.core.look(|snapshot| read::field(snapshot, &self.id, around, Field::Volume))?;
        let (calendar, mut intraday_gaps) = (self.covered.calendar()?, Vec::new());
        let sessions = calendar.expected(interval, self.timeframe());
        for window in sessions.flat_map(|session| session.windows(self.timeframe())) {
            let (start, end) = (window.start().max(interval.start()), window.end().min(interval.end()));
            let from = at.partition_point(|at| *at < start);
            let before = from.checked_sub(1).and_then(|row| at.get(row)).filter(|at| window.contains(**at));
            let bars = at.iter().skip(from).take_while(|at| **at < end).copied();
            let mut covered = before.map_or(start, |at| at.after(length).max(start));
            for next in bars.chain([end]) {
                if next > covered && next.since(covered) >= shortest {
                    intraday_gaps.push(Interval::new(covered, next)?);
                }
                covered = next.after(length).max(covered);
            }
        }
        Ok(intraday_gaps)
    }
}
