//! Which bars: a symbol, a timeframe, and, for aggregates, what they are made of.

use std::fmt;

use crate::{
    market::timeframe::{Period, Timeframe, period_key, period_of_key},
    types::{
        error::{Error, Result},
        hash::hex,
        key::Symbol,
    },
};

/// A series of bars.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesId {
    pub(crate) symbol: Symbol,
    pub(crate) timeframe: Timeframe,
    /// The timeframe of the bars that these are aggregates of; `None` for bars as they were given.
    pub(crate) source: Option<Timeframe>,
}

impl SeriesId {
    /// What the keys of all rows of the series begin with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let mut bytes = self.symbol.as_str().as_bytes().to_vec();
        bytes.push(0);
        bytes.extend_from_slice(&self.timeframe.as_nanos().to_be_bytes());
        bytes.extend_from_slice(&self.source.map_or(0, Timeframe::as_nanos).to_be_bytes());
        bytes
    }

    /// The key of the row of one period. Rows sort by period.
    pub(crate) fn row(&self, period: i64) -> Vec<u8> {
        let mut bytes = self.prefix();
        bytes.extend_from_slice(&period_key(period));
        bytes
    }

    /// Reads the key of a row.
    pub(crate) fn of_row(row: &[u8]) -> Result<(Self, i64)> {
        let bad = || Error::corrupt("read bars", hex(row), "the row's key names no series");
        let end = row.iter().position(|&b| b == 0).ok_or_else(bad)?;
        let symbol = row.get(..end).and_then(|symbol| std::str::from_utf8(symbol).ok()).ok_or_else(bad)?;
        let ([timeframe, source, period], []) = row.get(end + 1..).unwrap_or_default().as_chunks::<8>() else {
            return Err(bad());
        };
        let timeframe_of = |bytes: [u8; 8]| Timeframe::from_nanos(u64::from_be_bytes(bytes)).map_err(|_| bad());
        let series = Self {
            symbol: Symbol::new(symbol).map_err(|_| bad())?,
            timeframe: timeframe_of(*timeframe)?,
            source: if *source == [0; 8] { None } else { Some(timeframe_of(*source)?) },
        };
        Ok((series, period_of_key(*period)))
    }

    /// How its bars are put together.
    pub(crate) fn period(&self) -> Period {
        self.timeframe.period()
    }
}

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            None => write!(f, "{} {}", self.symbol, self.timeframe),
            Some(source) => write!(f, "{} {} of {source}", self.symbol, self.timeframe),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_keys_and_sort_by_period() {
        let series = SeriesId {
            symbol: Symbol::new("BRK.B").unwrap(),
            timeframe: Timeframe::HOUR,
            source: Some(Timeframe::MINUTE),
        };
        let rows: Vec<_> = [i64::MIN, -7, 0, 7, i64::MAX].map(|period| series.row(period)).to_vec();
        assert!(rows.is_sorted());
        for (row, period) in rows.iter().zip([i64::MIN, -7, 0, 7, i64::MAX]) {
            assert_eq!(SeriesId::of_row(row).unwrap(), (series.clone(), period));
            assert!(row.starts_with(&series.prefix()));
        }
        assert!(SeriesId::of_row(b"BRK.B\0short").is_err());
    }
}
