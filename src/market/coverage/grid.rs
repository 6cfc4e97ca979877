//! Which bars can be over, and where bars can begin that follow no fixed grid.

use std::time::Duration;

use super::classify::Judge;
use crate::types::{interval::Interval, time::Timestamp};

impl Judge<'_> {
    /// The end of the rows that can be over: no row that begins before it goes on. Where bars of this length begin is
    /// known from the `grid` of those that are stored.
    pub(crate) fn complete_until(&self, grid: Option<BarGrid>) -> Timestamp {
        let now = self.now;
        if self.timeframe.is_daily() {
            let today = now.day();
            let days = [today.plus_days(-1).unwrap_or(today), today, today.next()];
            let open =
                days.into_iter().filter_map(|day| self.calendar.session(day)).find(|session| session.close > now);
            let is_known = self.calendar.known().contains(today);
            let over = if is_known { today.next().start() } else { today.start() };
            return open.map_or(over, |session| session.day.start());
        }
        if let Some(grid) = self.timeframe.grid() {
            return Timestamp::from_nanos(now.as_nanos().div_euclid(grid).saturating_mul(grid));
        }
        let Some(window) = self.window_at(now) else {
            // The last bar of a session ends with it.
            return now;
        };
        let Some(grid) = grid else {
            return now.before(self.timeframe.duration()).after(Duration::from_nanos(1));
        };
        let (open, length) = (window.whole.start(), self.timeframe.duration());
        let first = open.after(grid.phase);
        if now < first {
            return open;
        }
        let steps = u32::try_from(now.since(first).as_nanos() / length.as_nanos()).unwrap_or(u32::MAX);
        first.after(length.saturating_mul(steps))
    }

    /// Whether a bar can begin in `part`, as far as is known where bars of this length begin.
    pub(crate) fn can_begin_in(&self, part: Interval<Timestamp>, grid: Option<BarGrid>) -> bool {
        self.windows(part).any(|window| {
            if self.timeframe.is_daily() || window.session.is_none() {
                return true;
            }
            let (start, end) = (window.span.start(), window.span.end());
            if let Some(grid) = self.timeframe.grid() {
                let next = start.as_nanos().saturating_add(grid - 1).div_euclid(grid).saturating_mul(grid);
                return next < end.as_nanos();
            }
            let Some(grid) = grid else { return true };
            let (open, length) = (window.whole.start(), self.timeframe.duration());
            if start <= open {
                return true;
            }
            let first = open.after(grid.phase);
            let steps = start.since(first).as_nanos().div_ceil(length.as_nanos());
            let next = first.after(length.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX)));
            next < end
        })
    }

    /// Where bars of this length begin, by the last ones that are stored.
    pub(crate) fn grid_of(&self, stored: &[Timestamp]) -> Option<BarGrid> {
        let last = *stored.last()?;
        let phase = stored.iter().rev().find_map(|at| {
            let window = self.window_at(*at)?;
            // The first bar of a session may be a short one.
            let since_open = at.since(window.whole.start());
            (!since_open.is_zero()).then(|| {
                let nanos = since_open.as_nanos() % self.timeframe.duration().as_nanos();
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
            })
        });
        Some(BarGrid { phase: phase.unwrap_or_default(), last })
    }
}

/// Where bars that follow no fixed grid begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BarGrid {
    /// After the open of their session, less whole bars.
    phase: Duration,
    /// The last bar.
    last: Timestamp,
}

impl BarGrid {
    /// Whether `part` lies within the last bar, so that no other begins there. The first bar of a session may be short,
    /// and says nothing about what lies behind it.
    pub(crate) fn covers(&self, part: Interval<Timestamp>, judge: &Judge<'_>) -> bool {
        let is_first = judge.window_at(self.last).is_none_or(|window| window.whole.start() == self.last);
        !is_first && self.last <= part.start() && part.end() <= self.last.after(judge.timeframe.duration())
    }
}
