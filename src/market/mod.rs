//! Market data: bars, index levels, features, and what is known of each stretch of time.
//!
//! Nothing here knows of models. A [`Market`] reads and commits through the [`Core`] that it shares with them.

pub(crate) mod bars;
pub(crate) mod calendar;
pub(crate) mod coverage;
pub(crate) mod features;
pub(crate) mod fetch;
pub(crate) mod levels;
pub(crate) mod settings;
pub(crate) mod timeframe;

use std::sync::Arc;

use crate::{core::Core, sync::single_flight::SingleFlight};
use fetch::load::LoadKey;
use settings::MarketSettings;

/// The market data of one store.
#[derive(Debug)]
pub(crate) struct Market {
    core: Arc<Core>,
    /// Series and features that are being fetched or computed.
    loads: SingleFlight<LoadKey>,
    settings: MarketSettings,
}

impl Market {
    pub(crate) fn new(core: Arc<Core>, settings: MarketSettings) -> Self {
        Self { core, loads: SingleFlight::default(), settings }
    }
}
