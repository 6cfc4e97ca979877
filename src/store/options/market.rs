//! Options about market data.

use std::time::Duration;

use super::Options;
use crate::{
    market::{
        calendar::Calendar,
        fetch::policy::FetchPolicy,
        settings::{BarCodec, MarketSettings},
    },
    types::error::{Error, Result},
};

impl Options {
    /// All that another store's options say about market data.
    pub(crate) fn with_market(mut self, settings: MarketSettings) -> Self {
        self.market = settings;
        self
    }

    /// The calendar that says which bars and levels there should be, where a series is not told otherwise. Default:
    /// [`Calendar::nyse`].
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, market::Calendar};
    ///
    /// let store = Store::options().calendar(Calendar::weekdays()).in_memory()?;
    /// let christmas = Interval::<Day>::parse("2018-12-25", "2018-12-26")?;
    /// assert_eq!(store.levels("VIX")?.gaps(christmas)?.len(), 1); // a Tuesday; for the NYSE it would be no gap
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn calendar(mut self, calendar: Calendar) -> Self {
        self.market.calendar = calendar;
        self
    }

    /// How fetchers are asked, where a call is not told otherwise. Default: [`FetchPolicy::default`].
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, Symbol, Timestamp, market::{Bars, FetchError, FetchPolicy, Timeframe}};
    ///
    /// let store = Store::options().fetch(FetchPolicy::default().retries(0)).in_memory()?;
    /// let busy = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Err::<Bars, _>(FetchError::transient("busy"));
    /// let week = Interval::<Day>::parse("2018-12-17", "2018-12-22")?.span();
    /// let report = store.load_or_fetch("SPY", Timeframe::DAY, week, &busy)?.report;
    /// assert_eq!((report.calls, report.gaps.is_empty()), (1, false)); // not asked again at once
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fetch(mut self, policy: FetchPolicy) -> Self {
        self.market.fetch = policy;
        self
    }

    /// How bars are encoded when they are written. Default: [`BarCodec::Auto`]. Bars of any codec can be read whatever
    /// this says.
    ///
    /// ```
    /// use modelkeep::{Interval, Store, market::{Bar, BarCodec, Bars, Timeframe}};
    ///
    /// let store = Store::options().bar_codec(BarCodec::Pco).in_memory()?; // fewer bytes, slower reads
    /// let minutes = store.bars("SPY", Timeframe::MINUTE)?;
    /// # let at = "2018-12-24T14:30:00Z".parse()?;
    /// # let bars = Bars::from_iter([Bar { at, open: 240.1, high: 240.3, low: 239.9, close: 240.2, volume: 1e4 }]);
    /// minutes.write(&bars)?;
    /// assert_eq!(minutes.range(Interval::all_time())?, bars); // without loss either way
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bar_codec(mut self, codec: BarCodec) -> Self {
        self.market.codec = codec;
        self
    }

    /// How many bytes decoded bars and features may take up in memory: what is read again is neither verified nor
    /// decoded again; of a range of several chunks, from its third reading on. Default: 256 MiB, which holds some 5 million bars. More makes scans of many symbols faster, zero
    /// keeps nothing. A chunk that changes in the file is decoded anew.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{Bar, Bars, Timeframe}};
    /// let store = Store::options().market_memory(1 << 30).in_memory()?;
    /// # let at = "2018-12-31T00:00:00Z".parse()?;
    /// # let bar = Bar { at, open: 249.6, high: 250.2, low: 247.5, close: 249.9, volume: 1e8 };
    /// let daily = store.bars("SPY", Timeframe::DAY)?;
    /// daily.write(&Bars::from_iter([bar]))?;
    /// for _ in 0..2 {
    ///     daily.range(Interval::all_time())?;
    /// }
    /// assert_eq!((store.market_memory().hits, store.market_memory().misses), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn market_memory(mut self, bytes: u64) -> Self {
        self.market.memory_bytes = bytes;
        self
    }

    /// How long bars and levels that were restated or deleted can still be read as they were known. Default: without
    /// end, up to 65,536 bars beside each chunk. Zero keeps nothing.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use modelkeep::{ErrorKind, Interval, Store, Timestamp, clock::ManualClock, market::{Bar, Bars, Timeframe}};
    /// # let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(10)));
    /// # let bar = |close| Bar { at: Timestamp::from_nanos(0), open: 1.0, high: 3.0, low: 0.5, close, volume: 9.0 };
    /// let store = Store::options().bar_history(Duration::ZERO).clock(Arc::clone(&clock)).in_memory()?;
    /// let series = store.bars("SPY", Timeframe::DAY)?;
    /// series.write(&Bars::from_iter([bar(2.0)]))?;
    /// clock.set(Timestamp::from_nanos(20));
    /// series.write(&Bars::from_iter([bar(2.5)]))?; // what it was is not kept
    /// let known = series.range_as_of(Interval::all_time(), Timestamp::from_nanos(15));
    /// assert_eq!(known.unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bar_history(mut self, age: Duration) -> Self {
        self.market.history = Some(age);
        self
    }

    /// The levels of an index at which a regime ends and the next begins. Default: 15, 20 and 30, which many who trade
    /// by the VIX use; they are habits and not facts.
    ///
    /// ```
    /// use modelkeep::{Store, market::Regime};
    ///
    /// let store = Store::options().regimes([12.0, 18.0, 25.0])?.in_memory()?;
    /// let vix = store.levels("VIX")?;
    /// vix.write(&[("2018-12-24".parse()?, 36.07)])?;
    /// assert_eq!(vix.regime("2018-12-24".parse()?)?, Some(Regime::Stressed));
    /// assert!(Store::options().regimes([30.0, 20.0, 15.0]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` unless they are finite and ascend.
    pub fn regimes(mut self, thresholds: [f64; 3]) -> Result<Self> {
        if !thresholds.iter().all(|level| level.is_finite()) || !thresholds.is_sorted_by(|a, b| a < b) {
            let message = "thresholds of regimes must be finite, and ascend";
            return Err(Error::invalid("set options", format!("{thresholds:?}"), message));
        }
        self.market.regimes = thresholds;
        Ok(self)
    }
}
