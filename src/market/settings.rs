//! What a store does with market data, as its options say.

use std::time::Duration;

use super::{
    bars::{rest::ChunkCodec, write::WriteOptions},
    calendar::Calendar,
    fetch::policy::FetchPolicy,
    timeframe::Timeframe,
};
use crate::{format::columns::ints::IntCodec, types::time::Timestamp};

/// How columns of bars are encoded. Without loss either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarCodec {
    /// Decides by what it finds. Of bars of a day and longer each column takes its shorter form; below a day a month
    /// (or whatever a chunk is) stays packed unless that takes more than 4/3 of the bytes, as it does where minutes are
    /// missing or without a trade. The newest bars of a series are packed until the next chunk begins, so that
    /// appending is fast. The default.
    #[default]
    Auto,
    /// Bit-packed: fast to read.
    Packed,
    /// [pco](https://docs.rs/pco): smaller, and several times slower to read and to append to.
    Pco,
}

impl BarCodec {
    fn of(self, timeframe: Timeframe) -> ChunkCodec {
        match self {
            Self::Auto => ChunkCodec::Auto { is_daily: timeframe.is_daily() },
            Self::Packed => ChunkCodec::Fixed(IntCodec::Packed),
            Self::Pco => ChunkCodec::Fixed(IntCodec::Pco),
        }
    }

    /// History is read rarely, and written when bars are restated.
    fn of_history(self, timeframe: Timeframe) -> IntCodec {
        match self {
            Self::Auto if timeframe.is_daily() => IntCodec::Pco,
            Self::Auto | Self::Packed => IntCodec::Packed,
            Self::Pco => IntCodec::Pco,
        }
    }
}

/// The part of the options that is about market data.
#[derive(Clone, Debug)]
pub(crate) struct MarketSettings {
    pub(crate) calendar: Calendar,
    pub(crate) fetch: FetchPolicy,
    pub(crate) codec: BarCodec,
    pub(crate) history: Option<Duration>,
    pub(crate) regimes: [f64; 3],
    /// What decoded chunks may take up in memory.
    pub(crate) memory_bytes: u64,
}

impl Default for MarketSettings {
    fn default() -> Self {
        Self {
            calendar: Calendar::nyse(),
            fetch: FetchPolicy::default(),
            codec: BarCodec::default(),
            history: None,
            regimes: [15.0, 20.0, 30.0],
            memory_bytes: 256 << 20,
        }
    }
}

impl MarketSettings {
    /// How bars of this length are written now.
    pub(crate) fn options(&self, timeframe: Timeframe, now: Timestamp) -> WriteOptions {
        let (codec, history_codec) = (self.codec.of(timeframe), self.codec.of_history(timeframe));
        WriteOptions { now, retention: self.history, codec, history_codec }
    }
}
