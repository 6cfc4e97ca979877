//! Market data, as a user calls it.

use super::Store;
use crate::{
    market::{
        bars::{columns::Bars, read::BarSummary, series::BarSeries},
        calendar::Calendar,
        features::{compute::FeatureSet, spec::FeatureSpec},
        fetch::{fetcher::BarFetcher, report::Loaded},
        levels::{series::LevelSeries, values::Levels},
        matrix::{Matrix, MatrixPlan},
        memory::MemoryStats,
        timeframe::Timeframe,
    },
    types::{error::Result, interval::Interval, key::Symbol, time::Timestamp},
};

impl Store {
    /// Returns the bars of `symbol` with this timeframe; there need not be any yet.
    ///
    /// ```
    /// use modelkeep::{Interval, Store, market::{Bar, Bars, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let daily = store.bars("SPY", Timeframe::DAY)?;
    /// let at = "2018-12-31T00:00:00Z".parse()?;
    /// daily.write(&Bars::from_iter([Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1.4e8 }]))?;
    /// assert_eq!(daily.range(Interval::all_time())?.close(), [249.9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the symbol breaks the rules of [`Symbol`].
    pub fn bars(&self, symbol: &str, timeframe: Timeframe) -> Result<BarSeries<'_>> {
        self.market.bars(symbol, timeframe)
    }

    /// Returns what is stored of every series of bars, in order of symbol and timeframe, or the error that keeps a
    /// series from being read, under its name.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = "2018-12-31T00:00:00Z".parse()?;
    /// # let bar = Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e8 };
    /// store.bars("SPY", Timeframe::DAY)?.write(&Bars::from_iter([bar]))?;
    /// for (name, summary) in store.bar_series()? {
    ///     println!("{name}: {} bars", summary?.bars);
    /// }
    /// # assert_eq!(store.bar_series()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all.
    pub fn bar_series(&self) -> Result<Vec<(String, Result<BarSummary>)>> {
        self.market.bar_series()
    }

    /// Returns the symbols that have bars of this timeframe, in order.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = "2018-12-31T00:00:00Z".parse()?;
    /// # let bar = Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e8 };
    /// store.bars("SPY", Timeframe::DAY)?.write(&Bars::from_iter([bar]))?;
    /// store.bars("AAPL", Timeframe::DAY)?.write(&Bars::from_iter([bar]))?;
    /// let symbols = store.bar_symbols(Timeframe::DAY)?;
    /// assert_eq!(symbols.iter().map(|symbol| symbol.as_str()).collect::<Vec<_>>(), ["AAPL", "SPY"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`bar_series`](Self::bar_series).
    pub fn bar_symbols(&self, timeframe: Timeframe) -> Result<Vec<Symbol>> {
        self.market.bar_symbols(timeframe)
    }

    /// Returns the calendars that judged what is stored, as they were then.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{Bar, Bars, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// # let at = "2018-12-31T00:00:00Z".parse()?;
    /// # let bar = Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e8 };
    /// store.bars("SPY", Timeframe::DAY)?.write(&Bars::from_iter([bar]))?;
    /// assert_eq!(store.calendars()?[0].name().as_str(), "nyse");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when one is damaged, `Io` when the file cannot be read.
    pub fn calendars(&self) -> Result<Vec<Calendar>> {
        self.market.calendars()
    }

    /// Returns the bars of `symbol`: from disk, and from the fetcher what is missing. See
    /// [`BarSeries::load_or_fetch`], which can be told its own calendar and policy.
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, Symbol, Timestamp, market::{Bar, Bars, Calendar, FetchError, Timeframe}};
    ///
    /// # let store = Store::in_memory()?;
    /// let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
    ///     let bar = |at| Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 };
    ///     Ok::<Bars, FetchError>(Calendar::nyse().sessions(asked.days()).map(|session| bar(session.day.start())).collect())
    /// };
    /// let december = Interval::<Day>::parse("2018-12-01", "2019-01-01")?.span();
    /// assert_eq!(store.load_or_fetch("SPY", Timeframe::DAY, december, &vendor)?.report.fetched, 19);
    /// assert_eq!(store.load_or_fetch("SPY", Timeframe::DAY, december, &vendor)?.report.calls, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`BarSeries::load_or_fetch`], and [`bars`](Self::bars).
    pub fn load_or_fetch(
        &self,
        symbol: &str,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
        fetcher: &impl BarFetcher,
    ) -> Result<Loaded<Bars>> {
        self.market.load_or_fetch(symbol, timeframe, interval, fetcher)
    }

    /// Returns what the memory tier of market data has, and what it saved since the store was opened.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::options().market_memory(1 << 20).in_memory()?;
    /// assert_eq!(store.market_memory().capacity_bytes, 1 << 20);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    #[must_use]
    pub fn market_memory(&self) -> MemoryStats {
        self.market.memory_stats()
    }

    /// Returns the features of `symbol` that `spec` describes; nothing need be computed yet.
    ///
    /// ```
    /// use modelkeep::{Interval, Store, market::{Bar, Bars, FeatureSpec, Lookback, Timeframe}};
    ///
    /// # let store = Store::in_memory()?;
    /// # let at = "2018-12-31T00:00:00Z".parse()?;
    /// # let bar = Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e8 };
    /// # store.bars("SPY", Timeframe::DAY)?.write(&Bars::from_iter([bar]))?;
    /// let spec = FeatureSpec::new("range", 1, Timeframe::DAY, Lookback::Bars(0), &["range"])?;
    /// let range = |bars: &Bars| vec![bars.iter().map(|bar| bar.high - bar.low).collect()];
    /// let features = store.features("SPY", &spec)?.get_or_compute(Interval::all_time(), range)?;
    /// assert_eq!(features.rows_computed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the symbol breaks the rules of [`Symbol`].
    pub fn features(&self, symbol: &str, spec: &FeatureSpec) -> Result<FeatureSet<'_>> {
        self.market.features(symbol, spec)
    }

    /// Returns a table to train on: a row for each bar of `symbols` that begins in `interval` and has ended, with the
    /// features that `compute` makes of it, levels and a target beside, as `plan` says. Features that are stored are
    /// not computed again; new ones are stored, those of 256 symbols in one durable transaction. Symbols are worked on
    /// by several threads.
    ///
    /// ```
    /// use std::time::Duration;
    /// use modelkeep::{Day, Interval, Store, market::{Bar, Bars, FeatureSpec, Lookback, MatrixPlan, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let first: Day = "2018-12-03".parse()?;
    /// let bar = |n: i32| {
    ///     let (at, close) = (first.plus_days(n).unwrap().start(), 100.0 + f64::from(n));
    ///     Bar { at, open: close, high: close, low: close, close, volume: 1.0 }
    /// };
    /// for symbol in ["AAPL", "MSFT"] {
    ///     store.bars(symbol, Timeframe::DAY)?.write(&(0..5).map(bar).collect::<Bars>())?;
    /// }
    /// store.levels("VIX")?.write(&[("2018-12-03".parse()?, 16.44), ("2018-12-04".parse()?, 20.74)])?;
    ///
    /// let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// let plan = MatrixPlan::new(&spec)
    ///     .levels("VIX", Duration::ZERO)?
    ///     .target(2, |bars: &Bars| bars.close()[2] - bars.close()[0]);
    /// let week = Interval::<Day>::parse("2018-12-03", "2018-12-08")?.span();
    /// let matrix = store.matrix(["AAPL", "MSFT"], week, &plan, |bars: &Bars| vec![bars.close().to_vec()])?;
    /// assert_eq!((matrix.len(), matrix.width(), matrix.without_target), (6, 2, 4)); // two bars follow three of five
    /// assert_eq!((matrix.row(1), matrix.targets[1]), (Some(&[101.0, 20.74][..]), 2.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`FeatureSet::get_or_compute`] and [`LevelSeries::range`], with the symbol as the subject;
    /// [`MatrixPlan::as_of`] also fails as [`BarSeries::range_as_of`] does.
    pub fn matrix<S: AsRef<str>>(
        &self,
        symbols: impl IntoIterator<Item = S>,
        interval: Interval<Timestamp>,
        plan: &MatrixPlan,
        compute: impl Fn(&Bars) -> Vec<Vec<f64>> + Sync,
    ) -> Result<Matrix> {
        self.market.matrix(symbols, interval, plan, compute)
    }

    /// Returns the series of this name, which need not have levels yet.
    ///
    /// ```
    /// use modelkeep::Store;
    ///
    /// # let store = Store::in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// vix.write(&[("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)])?;
    /// assert_eq!(vix.at("2018-12-23".parse()?)?, Some(30.11)); // the last one at or before
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`Symbol`].
    pub fn levels(&self, series: &str) -> Result<LevelSeries<'_>> {
        self.market.levels(series)
    }

    /// Returns every series that has levels, in order of the names, with all of its levels, or with the error that
    /// keeps them from being read.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// store.levels("VIX")?.write(&[("2018-12-24".parse()?, 36.07)])?;
    /// for (name, levels) in store.level_series()? {
    ///     assert_eq!((name.as_str(), levels?.levels), ("VIX", vec![36.07]));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all.
    pub fn level_series(&self) -> Result<Vec<(Symbol, Result<Levels>)>> {
        self.market.level_series()
    }
}
