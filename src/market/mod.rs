//! Market data: bars, index levels, features, and what is known of each stretch of time.
//!
//! [`Store::bars`](crate::Store::bars), [`levels`](crate::Store::levels), [`features`](crate::Store::features) and
//! [`load_or_fetch`](crate::Store::load_or_fetch) lead here.

pub(crate) mod bars;
pub(crate) mod calendar;
pub(crate) mod coverage;
pub(crate) mod csv;
pub(crate) mod features;
pub(crate) mod fetch;
pub(crate) mod history;
pub(crate) mod levels;
pub(crate) mod matrix;
pub(crate) mod memory;
pub(crate) mod settings;
pub(crate) mod timeframe;

use std::sync::{Arc, Mutex};

pub use self::{
    bars::{
        bar::{BadRows, Bar, Field, Flaws},
        columns::Bars,
        facts::{
            changes::{Changed, Changes, MarketState},
            filter::{BarFacts, FactsFilter},
        },
        read::BarSummary,
        resample::Resampled,
        scan::{BarScan, ScanOptions, ScanProgress},
        series::{BarSeries, FieldColumn},
    },
    calendar::{Calendar, Session},
    coverage::ledger::{Coverage, CoverageSpan},
    csv::options::{CsvOptions, Imported, Progress, RowsLeftOut},
    features::{
        compute::FeatureSet,
        spec::{FeatureSpec, Lookback},
        table::Features,
    },
    fetch::{
        answer::Answer,
        fetcher::{BarFetcher, LevelFetcher},
        many::{ManyBarFetcher, OneByOne},
        policy::FetchPolicy,
        report::{FetchReport, LeftOut, Loaded, LoadedMany, ManyReport, UnknownDays},
        requests::FetchError,
    },
    history::KnownAt,
    levels::{
        series::{LevelSeries, Regime},
        values::Levels,
    },
    matrix::{Matrix, MatrixPlan},
    memory::MemoryStats,
    settings::BarCodec,
    timeframe::Timeframe,
};

pub use crate::types::rescaled::Rescaled;

use crate::{core::Core, sync::single_flight::SingleFlight};
use fetch::load::LoadKey;
use memory::Memory;
use settings::MarketSettings;

/// The market data of one store. Knows nothing of models; reads and commits through the [`Core`] that it shares with
/// them.
#[derive(Debug)]
pub(crate) struct Market {
    core: Arc<Core>,
    /// Series and features that are being fetched or computed.
    loads: SingleFlight<LoadKey>,
    /// What was decoded.
    memory: Arc<Memory>,
    settings: MarketSettings,
    /// The number that this store's changes of bars go by, once it made one.
    facts_writer: Mutex<Option<u64>>,
}

impl Market {
    pub(crate) fn new(core: Arc<Core>, settings: MarketSettings) -> Self {
        let memory = Arc::new(Memory::new(settings.memory_bytes));
        Self { core, loads: SingleFlight::default(), memory, settings, facts_writer: Mutex::default() }
    }

    pub(crate) fn memory_stats(&self) -> MemoryStats {
        self.memory.stats()
    }

    pub(crate) fn settings(&self) -> &MarketSettings {
        &self.settings
    }
}
