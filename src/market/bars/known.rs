//! What was known of bars, and when: as a store knew them at a time, and as far as they had ended.

use std::time::Duration;

use super::{
    aggregate::{self, Buckets},
    decoded, read,
    series::BarSeries,
    validate::prepare,
    write::Incoming,
};
use crate::{
    engine::Snapshot,
    market::{
        bars::{
            bar::{BadRows, Field},
            columns::Bars,
            key::SeriesId,
        },
        calendar::Calendar,
        history::KnownAt,
        timeframe::Timeframe,
    },
    types::{error::Result, interval::Interval, row_changes::RowChanges, time::Timestamp},
};

impl BarSeries<'_> {
    /// Returns the bars that begin in `interval` as this store knew them at `known_at`: nothing that was stored later,
    /// and what was changed or deleted later as it was. Aggregates are made of what their source was; the last one may
    /// be of the bars that there were so far.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, Timestamp, clock::ManualClock, market::{Bar, Bars, Timeframe}};
    /// # let clock = std::sync::Arc::new(ManualClock::at(Timestamp::from_nanos(10)));
    /// # let store = Store::options().clock(std::sync::Arc::clone(&clock)).in_memory()?;
    /// # let bar = |close| Bar { at: Timestamp::from_nanos(0), open: 1.0, high: 3.0, low: 0.5, close, volume: 9.0 };
    /// let series = store.bars("SPY", Timeframe::DAY)?;
    /// series.write(&Bars::from_iter([bar(2.0)]))?; // known at 10
    /// clock.set(Timestamp::from_nanos(20));
    /// series.write(&Bars::from_iter([bar(2.5)]))?; // restated at 20
    /// let known = series.range_as_of(Interval::all_time(), Timestamp::from_nanos(15))?;
    /// assert_eq!(known.close(), [2.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when something that was known then is not kept any more
    /// ([`Options::bar_history`](crate::Options::bar_history)); otherwise as for [`range`](Self::range).
    pub fn range_as_of(&self, interval: Interval<Timestamp>, known_at: Timestamp) -> Result<Bars> {
        self.covered.market.core.look(|snapshot| match self.id.source {
            None => read::as_of(snapshot, &self.id, interval, known_at),
            Some(source) => self.aggregate_as_of(snapshot, source, interval, known_at),
        })
    }

    /// Returns the bars that begin in `interval` and have ended by its end: what is available then. A daily bar, which
    /// is labelled by midnight, is not in an interval that ends at 10:00 of its day; for that see
    /// [`range`](Self::range).
    ///
    /// ```
    /// use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let daily = store.bars("SPY", Timeframe::DAY)?;
    /// let bar = |at| Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 };
    /// let at = |text: &str| text.parse::<Timestamp>();
    /// daily.write(&Bars::from_iter([bar(at("2018-12-27T00:00:00Z")?), bar(at("2018-12-28T00:00:00Z")?)]))?;
    /// let until = |end| Ok::<_, Box<dyn std::error::Error>>(Interval::new(at("2018-12-01T00:00:00Z")?, at(end)?)?);
    /// assert_eq!(daily.range_available(until("2018-12-28T15:00:00Z")?)?.len(), 1); // the session goes on
    /// assert_eq!(daily.range_available(until("2018-12-28T21:00:00Z")?)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`range`](Self::range).
    pub fn range_available(&self, interval: Interval<Timestamp>) -> Result<Bars> {
        self.ended_by(self.range(interval)?, interval.end())
    }

    /// Returns when each of the bars has ended, `[n]`: from then on it is available. What is joined with them, such as
    /// levels of an index, has to be of no later time.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let at = "2018-12-24T14:59:00Z".parse()?;
    /// let minutes = Bars::from_iter([Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 }]);
    /// let ends = store.bars("SPY", Timeframe::MINUTE)?.available_at(&minutes)?;
    /// assert_eq!(ends[0].to_string(), "2018-12-24T15:00:00Z");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the calendar of the series is damaged, `Io` when the file cannot be read.
    pub fn available_at(&self, bars: &Bars) -> Result<Vec<Timestamp>> {
        self.ends_of(bars.timestamps())
    }

    /// When each of the bars has ended that begin `at` these times.
    pub(crate) fn ends_of(&self, at: &[Timestamp]) -> Result<Vec<Timestamp>> {
        let calendar = self.covered.calendar()?;
        Ok(at.iter().map(|at| self.end_of(&calendar, *at)).collect())
    }

    /// Writes bars that were known since `known_at`, in one durable transaction: an import, or the replay of a history.
    /// So they can be read [as of](Self::range_as_of) a time before they are written. What was known later than that is
    /// not touched: it stays what [`range`](Self::range) returns.
    ///
    /// ```
    /// use std::time::Duration;
    /// use modelkeep::{Interval, Store, Timestamp, market::{Bar, Bars, KnownAt, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let daily = store.bars("SPY", Timeframe::DAY)?;
    /// let bar = |text: &str| {
    ///     let at = text.parse::<Timestamp>()?;
    ///     Ok::<_, Box<dyn std::error::Error>>(Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 })
    /// };
    /// let history = Bars::from_iter([bar("2018-12-27T00:00:00Z")?, bar("2018-12-28T00:00:00Z")?]);
    /// let feed = KnownAt::Ended { delay: Duration::from_secs(60) }; // as if they had come day by day
    /// assert_eq!(daily.write_known_at(&history, feed)?.added, 2);
    /// assert_eq!(daily.range_as_of(Interval::all_time(), "2018-12-28T12:00:00Z".parse()?)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, naming the row, for a time before the bar has ended, or after what the store's clock says;
    /// nothing is written then. Otherwise as for [`write`](Self::write).
    pub fn write_known_at(&self, bars: &Bars, known_at: impl Into<KnownAt>) -> Result<RowChanges> {
        self.write_known(bars, BadRows::Refuse, known_at.into())
    }

    /// The same, and says what to do with rows that cannot be right.
    pub(crate) fn write_known(&self, bars: &Bars, bad_rows: BadRows, known_at: KnownAt) -> Result<RowChanges> {
        const OPERATION: &str = "write bars known at a time";
        self.check_given(OPERATION)?;
        let rows = prepare(self.rules(), bars, bad_rows)?;
        let (calendar, now) = (self.covered.calendar()?, self.covered.market.core.now());
        let end_of = |at| self.end_of(&calendar, at);
        let known = known_at.of_rows(&rows.at, end_of, now, (OPERATION, &self.id))?;
        self.write_rows(OPERATION, Incoming { rows: &rows, known_at: Some(&known) }, None)
    }

    /// Those of `bars`, which are in order, that have ended by `until`.
    pub(crate) fn ended_by(&self, bars: Bars, until: Timestamp) -> Result<Bars> {
        let calendar = self.covered.calendar()?;
        let goes_on = |at: &&Timestamp| self.end_of(&calendar, **at) > until;
        let going_on = bars.timestamps().iter().rev().take_while(goes_on).count();
        Ok(if going_on == 0 { bars } else { bars.slice(0..bars.len() - going_on) })
    }

    /// When the bar that begins at `at` has ended. An aggregate has when the last bar has that may be in it: one that
    /// begins at the close, or, among hours that are counted by the clock, one that reaches beyond the aggregate.
    fn end_of(&self, calendar: &Calendar, at: Timestamp) -> Timestamp {
        let end = calendar.bar_end(at, self.timeframe());
        let Some(source) = self.id.source.filter(|source| !source.is_daily()) else { return end };
        let last = calendar.session_at(end.before(Duration::from_nanos(1)));
        match last.filter(|session| session.close == end) {
            Some(session) if calendar.session_of_bar(end) == Some(session) => end.after(source.duration()),
            Some(_) => end,
            None if source.grid().is_some() => end,
            None => end.after(source.duration()),
        }
    }

    /// The part of `interval` whose bars have ended by `until`.
    pub(crate) fn ended_part(
        &self,
        snapshot: &Snapshot,
        interval: Interval<Timestamp>,
        until: Timestamp,
    ) -> Result<Interval<Timestamp>> {
        // A session can begin two days before the day that it is labelled by, in UTC.
        let reach = self.timeframe().duration() + Duration::from_secs(2 * 24 * 3600);
        let start = until.before(reach).max(interval.start());
        if start >= interval.end() {
            return Ok(interval);
        }
        let calendar = self.covered.calendar_in(snapshot)?;
        let span = Interval::between(start, interval.end());
        let (at, _) = decoded::field(&self.covered.market.memory, snapshot, &self.id, span, Field::Volume)?;
        let going_on = at.into_iter().find(|at| self.end_of(&calendar, *at) > until);
        Ok(going_on.map_or(interval, |end| Interval::between(interval.start(), end)))
    }

    /// Aggregates of the bars of the source as they were known at a time.
    fn aggregate_as_of(
        &self,
        snapshot: &Snapshot,
        source: Timeframe,
        interval: Interval<Timestamp>,
        known_at: Timestamp,
    ) -> Result<Bars> {
        let id = SeriesId { symbol: self.id.symbol.clone(), timeframe: source, source: None };
        let calendar = self.covered.calendar_in(snapshot)?;
        let mut buckets = Buckets::new(&calendar, source, self.timeframe());
        // A session can begin two days before the day that it is labelled by, in UTC, and a week is in need of all of
        // it.
        let reach = self.timeframe().duration() + Duration::from_secs(4 * 24 * 3600);
        let around = Interval::between(interval.start().before(reach), interval.end().after(reach));
        let bars = read::as_of(snapshot, &id, around, known_at)?;
        let (rows, _) = aggregate::aggregate(&bars, &mut buckets, around);
        Ok(read::cut(rows.into(), interval))
    }
}
