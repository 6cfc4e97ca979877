//! Market data, as a user calls it.

use super::Store;
use crate::{
    market::{
        bars::{columns::Bars, read::BarSummary, series::BarSeries},
        calendar::Calendar,
        features::{compute::FeatureSet, spec::FeatureSpec},
        fetch::{fetcher::BarFetcher, report::Loaded},
        levels::{series::LevelSeries, values::Levels},
        timeframe::Timeframe,
    },
    types::{error::Result, interval::Interval, key::Symbol, time::Timestamp},
};

impl Store {
    /// Returns the bars of `symbol` with this timeframe; there need not be any yet.
    ///
    /// # Errors
    /// `InvalidInput` when the symbol breaks the rules of [`Symbol`].
    pub fn bars(&self, symbol: &str, timeframe: Timeframe) -> Result<BarSeries<'_>> {
        self.market.bars(symbol, timeframe)
    }

    /// Returns what is stored of every series of bars, in order of symbol and timeframe, or the error that keeps a
    /// series from being read, under its name.
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all.
    pub fn bar_series(&self) -> Result<Vec<(String, Result<BarSummary>)>> {
        self.market.bar_series()
    }

    /// Returns the symbols that have bars of this timeframe, in order.
    ///
    /// # Errors
    /// As for [`bar_series`](Self::bar_series).
    pub fn bar_symbols(&self, timeframe: Timeframe) -> Result<Vec<Symbol>> {
        self.market.bar_symbols(timeframe)
    }

    /// Returns the calendars that judged what is stored, as they were then.
    ///
    /// # Errors
    /// `Corrupt` when one is damaged, `Io` when the file cannot be read.
    pub fn calendars(&self) -> Result<Vec<Calendar>> {
        self.market.calendars()
    }

    /// Returns the bars of `symbol`: from disk, and from the fetcher what is missing. See
    /// [`BarSeries::load_or_fetch`], which can be told its own calendar and policy.
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

    /// Returns the features of `symbol` that `spec` describes; nothing need be computed yet.
    ///
    /// # Errors
    /// `InvalidInput` when the symbol breaks the rules of [`Symbol`].
    pub fn features(&self, symbol: &str, spec: &FeatureSpec) -> Result<FeatureSet<'_>> {
        self.market.features(symbol, spec)
    }

    /// Returns the series of this name, which need not have levels yet.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`Symbol`].
    pub fn levels(&self, series: &str) -> Result<LevelSeries<'_>> {
        self.market.levels(series)
    }

    /// Returns every series that has levels, in order of the names, with all of its levels, or with the error that
    /// keeps them from being read.
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all.
    pub fn level_series(&self) -> Result<Vec<(Symbol, Result<Levels>)>> {
        self.market.level_series()
    }
}
