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
    pub fn calendar(mut self, calendar: Calendar) -> Self {
        self.market.calendar = calendar;
        self
    }

    /// How fetchers are asked, where a call is not told otherwise. Default: [`FetchPolicy::default`].
    pub fn fetch(mut self, policy: FetchPolicy) -> Self {
        self.market.fetch = policy;
        self
    }

    /// How bars are encoded when they are written. Default: [`BarCodec::Auto`]. Bars of any codec can be read whatever
    /// this says.
    pub fn bar_codec(mut self, codec: BarCodec) -> Self {
        self.market.codec = codec;
        self
    }

    /// How long bars that were restated or deleted can still be read as they were known. Default: without end, up to
    /// 65,536 rows beside each chunk. Zero keeps nothing.
    pub fn bar_history(mut self, age: Duration) -> Self {
        self.market.history = Some(age);
        self
    }

    /// The levels of an index at which a regime ends and the next begins. Default: 15, 20 and 30, which many who trade
    /// by the VIX use; they are habits and not facts.
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
