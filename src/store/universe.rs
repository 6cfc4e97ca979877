//! Market data of many symbols at once, as a user calls it.

use super::Store;
use crate::{
    market::{
        bars::{
            columns::Bars,
            facts::{
                changes::{Changes, MarketState},
                filter::{BarFacts, FactsFilter},
            },
            scan::{BarScan, ScanOptions},
        },
        fetch::{many::ManyBarFetcher, report::LoadedMany},
        timeframe::Timeframe,
    },
    types::{error::Result, interval::Interval, key::Symbol, row_changes::RowChanges, time::Timestamp},
};

impl Store {
    /// Writes bars of many symbols in one durable transaction, all of them or none, and returns what that did to each
    /// of them, in their order. For each symbol it is what [`BarSeries::write`](crate::market::BarSeries::write) does:
    /// the same rules, the same ledger, the same history. Takes as many syncs as one symbol does, and uses the threads
    /// of the machine. What is written is in memory twice until it is committed.
    ///
    /// ```
    /// use modelkeep::{Store, Symbol, market::{Bar, Bars, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let at = "2018-12-31T00:00:00Z".parse()?;
    /// let of = |close| Bars::from_iter([Bar { at, open: close, high: close, low: close, close, volume: 1e6 }]);
    /// let day = [(Symbol::new("AAPL")?, of(157.74)), (Symbol::new("SPY")?, of(249.92))];
    /// let written = store.write_many(Timeframe::DAY, &day)?;
    /// assert_eq!((written[0].added, written[1].added), (1, 1));
    /// assert_eq!(store.write_many(Timeframe::DAY, &day)?[1].unchanged, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, naming the symbol and the row, for what `BarSeries::write` refuses, and for a symbol that is
    /// there twice; nothing is written then. Otherwise as for `BarSeries::write`.
    pub fn write_many(&self, timeframe: Timeframe, rows: &[(Symbol, Bars)]) -> Result<Vec<RowChanges>> {
        self.market.write_many(timeframe, rows, None)
    }

    /// Writes bars of many symbols that are all there is of these symbols in `interval`, in one durable transaction:
    /// none of it is fetched from then on. A symbol without bars is known to be empty there.
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, Symbol, market::{Bar, Bars, Coverage, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let day = Interval::<Day>::parse("2018-12-31", "2019-01-01")?.span();
    /// let of = |close| Bars::from_iter([Bar { at: day.start(), open: close, high: close, low: close, close, volume: 1.0 }]);
    /// let rows = [(Symbol::new("SPY")?, of(249.92)), (Symbol::new("GONE")?, Bars::default())];
    /// store.write_many_covering(Timeframe::DAY, &rows, day)?;
    /// assert_eq!(store.bars("GONE", Timeframe::DAY)?.coverage(day)?[0].coverage, Coverage::Empty);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a bar that lies outside of `interval`; otherwise as for [`write_many`](Self::write_many).
    pub fn write_many_covering(
        &self,
        timeframe: Timeframe,
        rows: &[(Symbol, Bars)],
        interval: Interval<Timestamp>,
    ) -> Result<Vec<RowChanges>> {
        self.market.write_many(timeframe, rows, Some(interval))
    }

    /// Returns what is known of the series of bars that pass `filter`, in order of symbol and timeframe, or the error
    /// that keeps one from being read, under its name. Nothing is decoded for it: each write of bars keeps these facts.
    /// A series that only an older release wrote is computed from its bars, each time, until it is written again.
    ///
    /// Facts say what was written. Whether the bars are still whole is found when they are read, or by
    /// [`verify`](Self::verify), which compares the two.
    ///
    /// ```
    /// use modelkeep::{Store, market::{Bar, Bars, FactsFilter, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let at = "2018-12-31T00:00:00Z".parse()?;
    /// for (symbol, close) in [("PENNY", 0.31), ("SPY", 249.92)] {
    ///     let bar = Bar { at, open: close, high: close, low: close, close, volume: 1e6 };
    ///     store.bars(symbol, Timeframe::DAY)?.write(&Bars::from_iter([bar]))?;
    /// }
    /// for (name, facts) in store.bar_facts(&FactsFilter::all().timeframe(Timeframe::DAY).last_close(5.0..))? {
    ///     let facts = facts?;
    ///     assert_eq!((name.as_str(), facts.bars, facts.last_volume), ("SPY 1d", 1, 1e6));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all, `Corrupt` when bars of nobody knows which series were lost.
    pub fn bar_facts(&self, filter: &FactsFilter) -> Result<Vec<(String, Result<BarFacts>)>> {
        self.market.bar_facts(filter)
    }

    /// Returns which state the bars are in: to be kept beside what is computed from them, for
    /// [`changed_since`](Self::changed_since). Levels, ledgers and calendars are no part of it. Costs two small rows.
    ///
    /// ```
    /// use modelkeep::{Store, market::{Bar, Bars, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let before = store.market_state()?;
    /// let at = "2018-12-31T00:00:00Z".parse()?;
    /// let bars = Bars::from_iter([Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e8 }]);
    /// store.bars("SPY", Timeframe::DAY)?.write(&bars)?;
    /// let after = store.market_state()?;
    /// store.bars("SPY", Timeframe::DAY)?.write(&bars)?; // changes nothing
    /// assert!(before != after && after == store.market_state()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when the row that says so is damaged: the next write of bars makes it anew. `Io` when the file cannot
    /// be read.
    pub fn market_state(&self) -> Result<MarketState> {
        self.market.market_state()
    }

    /// Returns which series changed since `state`, and in which intervals rows were added, replaced or removed. Every
    /// row that differs between the two states begins in one of these intervals. Reads the facts of every series, and
    /// no bars.
    ///
    /// Each series remembers its last 32 intervals; older ones are joined, so that more is reported, and never less.
    /// Where nobody can say what changed, the answer is [`Changes::Everything`]: for a state of another store, of a
    /// copy or a backup that went its own way, from before the first change that was written down, or where rows may
    /// have been lost to damage.
    ///
    /// ```
    /// use modelkeep::{Store, market::{Bar, Bars, Changes, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let bar = |at, close| Bar { at, open: close, high: close, low: close, close, volume: 1e6 };
    /// let (friday, monday) = ("2018-12-28T00:00:00Z".parse()?, "2018-12-31T00:00:00Z".parse()?);
    /// for symbol in ["AAPL", "SPY"] {
    ///     store.bars(symbol, Timeframe::DAY)?.write(&Bars::from_iter([bar(friday, 240.0)]))?;
    /// }
    /// let computed_at = store.market_state()?;
    /// store.bars("SPY", Timeframe::DAY)?.write(&Bars::from_iter([bar(monday, 249.9)]))?;
    ///
    /// let Changes::Series(changed) = store.changed_since(&computed_at)? else { panic!("it is this store's") };
    /// assert_eq!((changed.len(), changed[0].symbol.as_str()), (1, "SPY"));
    /// assert!(changed[0].intervals[0].contains(monday) && !changed[0].intervals[0].contains(friday));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read.
    pub fn changed_since(&self, state: &MarketState) -> Result<Changes> {
        self.market.changed_since(state)
    }

    /// Goes through the bars of many symbols, in order of the symbols: what passes the filter of the options, from the
    /// state that the store is in now. Bars are decoded on the threads of the machine ahead of the one that takes them,
    /// a bounded number of series at a time; what does not pass the filter, or is skipped, is not decoded.
    ///
    /// ```
    /// use modelkeep::{Store, Symbol, market::{Bar, Bars, FactsFilter, ScanOptions, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let at = "2018-12-31T00:00:00Z".parse()?;
    /// let of = |close| Bars::from_iter([Bar { at, open: close, high: close, low: close, close, volume: 1e6 }]);
    /// let day = [(Symbol::new("AAPL")?, of(157.74)), (Symbol::new("PENNY")?, of(0.31)), (Symbol::new("SPY")?, of(249.92))];
    /// store.write_many(Timeframe::DAY, &day)?;
    ///
    /// let mut scan = store.scan_bars(Timeframe::DAY, ScanOptions::default().filter(FactsFilter::all().last_close(5.0..)))?;
    /// while let Some(found) = scan.next() {
    ///     let (symbol, bars) = found?;
    ///     println!("{symbol}: {} bars, {} of {}", bars.len(), scan.progress().done, scan.progress().total);
    /// }
    /// assert_eq!((scan.progress().done, scan.progress().decoded), (2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`bar_facts`](Self::bar_facts); what is wrong with a single series is handed out in its place.
    pub fn scan_bars(&self, timeframe: Timeframe, options: ScanOptions) -> Result<BarScan> {
        self.market.scan_bars(timeframe, options)
    }

    /// Returns the bars of many symbols: from disk, and from the fetcher what is missing. What is missing of a symbol
    /// is what [`load_or_fetch`](Self::load_or_fetch) would ask for; symbols that lack the same interval are asked for
    /// in one call, [`FetchPolicy::symbols_per_call`](crate::market::FetchPolicy::symbols_per_call) at a time, and what
    /// a call brought is committed in one transaction. Concurrent loads of a series fetch once.
    ///
    /// A symbol that an answer leaves out is due, and asked for again by later loads; a call that failed is a failure
    /// of each of its symbols. Both are in the report of the symbol. Uses the policy of the store.
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, Symbol, Timestamp, market::{Bar, Bars, Calendar, FetchError, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// // The whole market of some days, in one call.
    /// let vendor = |symbols: &[Symbol], _: Timeframe, asked: Interval<Timestamp>| {
    ///     let bar = |at| Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 };
    ///     let bars: Bars = Calendar::nyse().sessions(asked.days()).map(|session| bar(session.day.start())).collect();
    ///     Ok::<_, FetchError>(symbols.iter().map(|symbol| (symbol.clone(), bars.clone())).collect())
    /// };
    /// let december = Interval::<Day>::parse("2018-12-01", "2019-01-01")?.span();
    /// let symbols = [Symbol::new("SPY")?, Symbol::new("AAPL")?];
    /// let cold = store.load_or_fetch_many(&symbols, Timeframe::DAY, december, &vendor)?;
    /// assert_eq!((cold.report.fetched, cold.report.calls, cold.report.commits), (38, 1, 1));
    /// let warm = store.load_or_fetch_many(&symbols, Timeframe::DAY, december, &vendor)?;
    /// assert_eq!((warm.report.from_disk, warm.report.calls), (38, 0));
    /// assert_eq!(warm.complete()?[1].0.as_str(), "AAPL");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`BarSeries::load_or_fetch`](crate::market::BarSeries::load_or_fetch); a symbol that is there twice is
    /// `InvalidInput`. What is damaged of a single series is said in its place.
    pub fn load_or_fetch_many(
        &self,
        symbols: &[Symbol],
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
        fetcher: &impl ManyBarFetcher,
    ) -> Result<LoadedMany> {
        self.market.load_or_fetch_many(symbols, timeframe, interval, fetcher)
    }
}
