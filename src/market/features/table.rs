//! Columns of features, as they are handed out.

use super::spec::FeatureSpec;
use crate::types::{interval::Interval, invariant::Invariant, key::Label, time::Timestamp};

/// Columns of features, and what it took to have them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Features {
    /// When each bar begins, `[n]`.
    pub timestamps: Vec<Timestamp>,
    /// The names of the `d` columns.
    pub names: Vec<Label>,
    /// The columns, `[d][n]`.
    pub columns: Vec<Vec<f64>>,
    /// Rows, of the `n`, that were on disk.
    pub rows_reused: u64,
    /// Rows, of the `n`, that were computed.
    pub rows_computed: u64,
}

impl Features {
    /// Returns the number of rows, `n`.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{Bars, FeatureSpec, Lookback, Timeframe}};
    /// # let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// # let store = Store::in_memory()?;
    /// let close = |bars: &Bars| vec![bars.close().to_vec()];
    /// assert_eq!(store.features("SPY", &spec)?.get_or_compute(Interval::all_time(), close)?.len(), 0); // no bars yet
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Returns whether there are no rows.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{FeatureSpec, Lookback, Timeframe}};
    /// # let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// # let store = Store::in_memory()?;
    /// assert!(store.features("SPY", &spec)?.get_or_compute(Interval::all_time(), |_| vec![vec![]])?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Returns the column of this name, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Interval, Store, market::{FeatureSpec, Lookback, Timeframe}};
    /// # let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// # let store = Store::in_memory()?;
    /// let features = store.features("SPY", &spec)?.get_or_compute(Interval::all_time(), |_| vec![vec![]])?;
    /// assert!(features.column("close").is_some() && features.column("open").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        let at = self.names.iter().position(|known| known.as_str() == name)?;
        self.columns.get(at).map(Vec::as_slice)
    }

    pub(crate) fn empty(spec: &FeatureSpec) -> Self {
        Self {
            timestamps: Vec::new(),
            names: spec.columns().to_vec(),
            columns: vec![Vec::new(); spec.columns().len()],
            rows_reused: 0,
            rows_computed: 0,
        }
    }

    pub(crate) fn take(&mut self, at: &[Timestamp], columns: &[Vec<f64>], interval: Interval<Timestamp>) -> u64 {
        let start = at.partition_point(|at| *at < interval.start());
        let end = at.partition_point(|at| *at < interval.end()).max(start);
        self.timestamps.extend_from_slice(at.get(start..end).always("rows lie in the columns"));
        for (column, more) in self.columns.iter_mut().zip(columns) {
            column.extend_from_slice(more.get(start..end).always("each column has a value for each row"));
        }
        (end - start) as u64
    }
}
