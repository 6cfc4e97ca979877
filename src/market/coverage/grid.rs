//! Where bars can begin, and which of them can be over.
//!
//! Bars of half an hour and what divides it begin at multiples of their length. Longer ones do not agree: some vendors
//! count hours from the open, others by the clock, with a short bar first. Which it is shows in the rows; until it
//! does, both are possible, and a bar can begin wherever one of them has one.

use std::{collections::BTreeSet, time::Duration};

use super::{classify::Judge, windows::Window};
use crate::{
    market::timeframe::Timeframe,
    types::{interval::Interval, time::Timestamp},
};

const NANO: Duration = Duration::from_nanos(1);
/// So many stretches with their first bar alone show that none begins by the clock.
const BARE_MIN: u32 = 3;

/// Where the bars of a series begin, as far as its rows say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that rows can show, or not")]
pub(crate) struct BarGrid {
    /// How far apart they are, in nanoseconds.
    length: i64,
    /// The first bar of a stretch of trading begins with it, wherever the others do.
    has_first: bool,
    /// The others may be counted from the start of the stretch.
    is_anchored: bool,
    /// The others may begin so long after multiples of the length, by the clock in UTC.
    clocks: Vec<i64>,
    /// Rows have shown it.
    is_known: bool,
    /// Rows have shown that a bar begins where trading goes on after a break, where none would by the clock: so the one
    /// before the break ended with it.
    ends_at_breaks: bool,
}

impl BarGrid {
    /// What is known of bars of this length before there are any.
    pub(crate) fn of(timeframe: Timeframe) -> Self {
        match timeframe.grid() {
            Some(length) => Self {
                length,
                has_first: false,
                is_anchored: false,
                clocks: vec![0],
                is_known: true,
                ends_at_breaks: true,
            },
            None => {
                let length = i64::try_from(timeframe.as_nanos()).unwrap_or(i64::MAX);
                let clocks = vec![0];
                Self { length, has_first: true, is_anchored: true, clocks, is_known: false, ends_at_breaks: false }
            }
        }
    }

    /// Whether rows can say more about it.
    fn is_open(&self) -> bool {
        self.has_first
    }

    /// What is known of it after `rows`, of which `window_of` says in which stretch of trading they lie, and `is_over`
    /// whether all rows of it can be had.
    fn after(
        &self,
        rows: &[Timestamp],
        window_of: impl Fn(Timestamp) -> Option<Window>,
        is_over: impl Fn(&Window) -> bool,
    ) -> Self {
        let mut bare = 0;
        let (mut is_anchored, mut clocks, mut resumed) = (true, BTreeSet::new(), BTreeSet::new());
        for at in rows {
            // The first bar of a stretch, and one that begins at the close, are where they are on every grid.
            let Some((window, start)) = window_of(*at).map(|window| (window, stretch_start(&window, *at))) else {
                continue;
            };
            if *at == start || Some(*at) == window.closing {
                if *at == start && window.session.is_some_and(|session| session.open < start) {
                    resumed.insert(start.as_nanos().rem_euclid(self.length));
                }
                // A stretch in which one would begin by the clock, and none did.
                let by_clock = Self { is_anchored: false, has_first: false, ..self.clone() };
                let wants = by_clock.next_from(&Window { closing: None, ..window }, start.after(NANO)).is_some();
                bare += u32::from(*at == start && wants && is_over(&window));
                continue;
            }
            is_anchored &= (at.as_nanos() - start.as_nanos()) % self.length == 0;
            clocks.insert(at.as_nanos().rem_euclid(self.length));
        }
        let by_clock = |phase: &i64| clocks.contains(phase) || clocks.is_empty() && self.clocks.contains(phase);
        let ends_at_breaks = self.ends_at_breaks || resumed.iter().any(|phase| !by_clock(phase));
        let seen = Self { ends_at_breaks, ..self.clone() };
        match (clocks.len(), is_anchored) {
            (0, _) if bare >= BARE_MIN => Self { clocks: Vec::new(), is_known: true, ..seen },
            (0, _) => seen,
            // Where clocks go forward, bars by the local clock have another phase than before.
            (1, is_anchored) | (_, is_anchored @ false) => {
                Self { is_anchored, clocks: clocks.into_iter().collect(), is_known: true, ..seen }
            }
            (_, true) => Self { is_anchored, clocks: Vec::new(), is_known: true, ..seen },
        }
    }

    /// The first time from `at` on at which a bar can begin in a stretch of trading.
    pub(crate) fn next_from(&self, window: &Window, at: Timestamp) -> Option<Timestamp> {
        let at = at.max(window.whole.start());
        let start = stretch_start(window, at);
        let up = |from: i64| {
            let steps =
                (at.as_nanos() - from).div_euclid(self.length) + i64::from((at.as_nanos() - from) % self.length != 0);
            Timestamp::from_nanos(from.saturating_add(steps.saturating_mul(self.length)))
        };
        // Whatever the grid, a bar begins with each stretch of trading.
        let first = starts(window).filter(|start| self.has_first && *start >= at).min();
        let anchored = self.is_anchored.then(|| up(start.as_nanos()));
        let closing = window.closing.filter(|closing| *closing >= at);
        let by_clock = self.clocks.iter().map(|phase| up(*phase));
        let next = first.into_iter().chain(anchored).chain(closing).chain(by_clock).min();
        next.filter(|next| window.whole.contains(*next))
    }

    /// Since when a bar may run that goes on at `at`, in a stretch of trading: a time by each grid that is possible, and
    /// as long as none is known the earliest of all.
    fn running_since(&self, window: &Window, at: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let start = stretch_start(window, at);
        let down = |from: i64| {
            let steps = (at.as_nanos() - from).div_euclid(self.length);
            Timestamp::from_nanos(from.saturating_add(steps.saturating_mul(self.length))).max(window.whole.start())
        };
        let anchored = self.is_anchored.then(|| down(start.as_nanos()));
        // Before a row has shown it, a bar may have begun at any time.
        let length = Duration::from_nanos(self.length.unsigned_abs());
        let any = (!self.is_known).then(|| now.before(length).after(NANO));
        self.clocks.iter().map(|phase| down(*phase)).chain(anchored).chain(any).collect()
    }
}

/// Where stretches of trading begin in a window: with it, or, where hours outside of trading belong to it, within it.
fn starts(window: &Window) -> impl Iterator<Item = Timestamp> {
    let whole = window.whole;
    let trading = window.session.into_iter().flat_map(|session| session.trading());
    [whole.start()]
        .into_iter()
        .chain(trading.map(|stretch| stretch.start()).filter(move |start| whole.contains(*start)))
}

/// Where the stretch begins that `at` lies in.
fn stretch_start(window: &Window, at: Timestamp) -> Timestamp {
    starts(window).filter(|start| *start <= at).max().unwrap_or(window.whole.start())
}

impl Judge<'_> {
    /// The end of the rows that can be over: no row that begins before it goes on.
    pub(crate) fn complete_until(&self) -> Timestamp {
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
        // The last bar of a session ends with it; one that began before a break can go on over it.
        let began = Interval::between(now.before(self.timeframe.duration()), now.after(NANO));
        let goes_on = |window: &Window| window.session.map_or(now < window.closed_at, |session| now < session.close);
        let running = self.windows(began).filter(goes_on).flat_map(|window| {
            let last = now.min(window.whole.end().before(NANO));
            let is_over =
                move |since: &Timestamp| last < now && (self.grid.ends_at_breaks || self.row_end(*since) <= now);
            self.grid.running_since(&window, last, now).into_iter().filter(move |since| !is_over(since))
        });
        running.min().unwrap_or(now)
    }

    /// Whether a bar can begin in `part`.
    pub(crate) fn can_begin_in(&self, part: Interval<Timestamp>) -> bool {
        self.windows(part).any(|window| self.begins_in(&window))
    }

    /// Whether a bar is expected to begin in `part`: wherever one can, but at the close only where the series has had bars
    /// that do.
    pub(crate) fn expects_row(&self, part: Interval<Timestamp>) -> bool {
        self.windows(part).any(|window| match window.closing {
            Some(closing) if !self.closing_seen => {
                let span =
                    Interval::between(window.span.start(), window.span.end().min(closing).max(window.span.start()));
                self.begins_in(&Window { span, closing: None, ..window })
            }
            _ => self.begins_in(&window),
        })
    }

    fn begins_in(&self, window: &Window) -> bool {
        if self.timeframe.is_daily() || window.session.is_none() {
            return !window.span.is_empty();
        }
        self.grid.next_from(window, window.span.start()).is_some_and(|next| next < window.span.end())
    }

    /// Until when no other bar begins behind the one that begins at `at`.
    pub(crate) fn row_until(&self, at: Timestamp) -> Timestamp {
        let end = at.after(self.timeframe.duration());
        if self.timeframe.is_daily() || !self.grid.is_open() {
            return end;
        }
        let behind = Timestamp::from_nanos(at.as_nanos().saturating_add(1));
        let next = self.window_at(at).map(|window| self.grid.next_from(&window, behind).unwrap_or(window.whole.end()));
        next.map_or(end, |next| next.min(end))
    }

    /// Where bars begin, as far as these rows say more than what was known.
    pub(crate) fn grid_after(&self, rows: &[Timestamp]) -> BarGrid {
        if self.timeframe.is_daily() || !self.grid.is_open() {
            return self.grid.clone();
        }
        let is_over = |window: &Window| window.closed_at.after(self.delay()) <= self.now;
        self.grid.after(rows, |at| self.window_at(at), is_over)
    }

    /// Whether one of these rows begins at the close of its session.
    pub(crate) fn has_closing(&self, rows: &[Timestamp]) -> bool {
        if self.timeframe.is_daily() {
            return false;
        }
        // The calendar is asked of those rows alone behind which none follows at once.
        let last_ones = rows.windows(2).filter_map(|pair| match pair {
            [row, next] if next.since(*row) > self.timeframe.duration() => Some(row),
            _ => None,
        });
        let is_closing = |at: &Timestamp| self.window_at(*at).is_some_and(|window| window.closing == Some(*at));
        last_ones.chain(rows.last()).any(is_closing)
    }
}
