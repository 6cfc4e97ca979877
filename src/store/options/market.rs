//! Options about market data.

use std::time::Duration;

use super::Options;
use crate::{
    market::{calendar::Calendar, fetch::policy::FetchPolicy, settings::BarCodec},
    types::error::{Error, Result},
};

impl Options {
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
    /// use std::time::Duration;
    /// use modelkeep::{Store, market::FetchPolicy};
    ///
    /// let five_a_minute = FetchPolicy::default().rate(5, Duration::from_secs(60)).retries(2);
    /// let store = Store::options().fetch(five_a_minute).in_memory()?;
    /// # assert!(!store.is_read_only());
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
    /// use modelkeep::{Store, market::BarCodec};
    ///
    /// let store = Store::options().bar_codec(BarCodec::Pco).in_memory()?; // fewer bytes, slower reads
    /// # assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bar_codec(mut self, codec: BarCodec) -> Self {
        self.market.codec = codec;
        self
    }

    /// How long bars that were restated or deleted can still be read as they were known. Default: without end, up to
    /// 65,536 rows beside each chunk. Zero keeps nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use modelkeep::Store;
    ///
    /// let store = Store::options().bar_history(Duration::from_secs(90 * 86_400)).in_memory()?;
    /// # assert!(!store.is_read_only());
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
