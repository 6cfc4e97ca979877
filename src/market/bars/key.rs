//! Which bars: a symbol, a timeframe, and, for aggregates, what they are made of.

use std::fmt;

use crate::{
    market::timeframe::{Period, Timeframe},
    types::{
        error::{Error, Result},
        hash::hex,
        key::{
            Symbol,
            row::{Fields, RowKey},
            shown,
        },
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
        self.fields().into_bytes()
    }

    /// The key of the row of one period. Rows sort by period.
    pub(crate) fn row(&self, period: i64) -> Vec<u8> {
        self.fields().i64(period).into_bytes()
    }

    fn fields(&self) -> RowKey {
        let source = self.source.map_or(0, Timeframe::as_nanos);
        RowKey::new().text(self.symbol.as_str()).u64(self.timeframe.as_nanos()).u64(source)
    }

    /// Reads the key of a row.
    pub(crate) fn of_row(row: &[u8]) -> Result<(Self, i64)> {
        let bad = || Error::corrupt("read bars", hex(row), "the row's key names no series");
        let mut fields = Fields::of(row);
        let (symbol, timeframe) = (fields.text().ok_or_else(bad)?, fields.u64().ok_or_else(bad)?);
        let (source, period) = (fields.u64().ok_or_else(bad)?, fields.i64().ok_or_else(bad)?);
        if !fields.rest().is_empty() {
            return Err(bad());
        }
        let timeframe_of = |nanos| Timeframe::from_nanos(nanos).map_err(|_| bad());
        let series = Self {
            symbol: Symbol::new(symbol).map_err(|_| bad())?,
            timeframe: timeframe_of(timeframe)?,
            source: if source == 0 { None } else { Some(timeframe_of(source)?) },
        };
        Ok((series, period))
    }

    /// How its bars are put together.
    pub(crate) fn period(&self) -> Period {
        self.timeframe.period()
    }
}

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            None => write!(f, "{} {}", shown(self.symbol.as_str()), self.timeframe),
            Some(source) => write!(f, "{} {} of {source}", shown(self.symbol.as_str()), self.timeframe),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn no_two_series_have_one_row_or_one_name(
            a in ("[!-~]( ?[!-~]){0,9}", 0..3_usize, 0..3_usize),
            b in ("[!-~]( ?[!-~]){0,9}", 0..3_usize, 0..3_usize),
            period in any::<i64>(),
        ) {
            let frames = [Timeframe::MINUTE, Timeframe::HOUR, Timeframe::DAY];
            let series = |(symbol, frame, source): &(String, usize, usize)| SeriesId {
                symbol: Symbol::new(symbol).unwrap(),
                timeframe: frames[*frame],
                source: (source < frame).then(|| frames[*source]),
            };
            let (a, b) = (series(&a), series(&b));
            prop_assert_eq!(SeriesId::of_row(&a.row(period)).unwrap(), (a.clone(), period));
            prop_assert_eq!(a == b, a.row(period) == b.row(period));
            prop_assert_eq!(a == b, a.to_string() == b.to_string());
        }
    }

    #[test]
    fn a_symbol_that_reads_like_a_series_is_quoted() {
        let series = |symbol: &str, timeframe, source| {
            SeriesId { symbol: Symbol::new(symbol).unwrap(), timeframe, source }.to_string()
        };
        assert_eq!(series("A 1h of", Timeframe::MINUTE, None), "\"A 1h of\" 1m");
        assert_eq!(series("A", Timeframe::HOUR, Some(Timeframe::MINUTE)), "A 1h of 1m");
    }
}
