//! What goes into a table.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    market::{bars::columns::Bars, features::spec::FeatureSpec},
    types::{error::Result, key::Symbol, time::Timestamp},
};

/// Which columns a [`Matrix`](super::Matrix) has, and what is to be predicted.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::market::{Bars, FeatureSpec, Lookback, MatrixPlan, Timeframe};
///
/// let spec = FeatureSpec::new("returns", 1, Timeframe::DAY, Lookback::Bars(1), &["return1"])?;
/// let plan = MatrixPlan::new(&spec)
///     .levels("VIX", Duration::from_secs(15 * 60))?
///     .target(5, |bars: &Bars| bars.close()[5] / bars.close()[0] - 1.0); // the return over the next five bars
/// # let _ = plan;
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MatrixPlan {
    pub(super) spec: FeatureSpec,
    pub(super) levels: Vec<(Symbol, Duration)>,
    pub(super) target: Option<Target>,
    pub(super) as_of: Option<Timestamp>,
}

/// What is to be predicted.
#[derive(Clone)]
pub(super) struct Target {
    /// Bars after that of the row that it depends on.
    pub(super) horizon: usize,
    pub(super) compute: Arc<dyn Fn(&Bars) -> f64 + Send + Sync>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("horizon", &self.horizon).finish_non_exhaustive()
    }
}

impl MatrixPlan {
    /// Returns a plan of the columns of `spec`.
    pub fn new(spec: &FeatureSpec) -> Self {
        Self { spec: spec.clone(), levels: Vec::new(), target: None, as_of: None }
    }

    /// Adds a column with the last level of a series that is available when the bar of a row has ended; NaN where there
    /// is none. Levels are available `available_after` the close of their session:
    /// [`LevelSeries::available_after`](crate::market::LevelSeries::available_after).
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`Symbol`].
    pub fn levels(mut self, series: &str, available_after: Duration) -> Result<Self> {
        self.levels.push((Symbol::new(series)?, available_after));
        Ok(self)
    }

    /// Says what is to be predicted: `compute` is called with the bar of a row and the `horizon` bars behind it. A row
    /// whose last bar has not ended yet is left out, and counted. Bars count, and not time: across a hole, or a halt, the
    /// horizon is longer.
    pub fn target(mut self, horizon: usize, compute: impl Fn(&Bars) -> f64 + Send + Sync + 'static) -> Self {
        self.target = Some(Target { horizon, compute: Arc::new(compute) });
        self
    }

    /// Makes the table as it could have been made at `known_at`: of bars, levels and targets that had ended and were
    /// stored by then, as they were. Features are computed and not stored. Default: as of now.
    pub fn as_of(mut self, known_at: Timestamp) -> Self {
        self.as_of = Some(known_at);
        self
    }
}
