//! Samples of one symbol.

use std::collections::BTreeSet;

use crate::types::{
    error::{Error, ErrorKind, Result},
    key::{Label, Symbol},
    limits::FEATURES_MAX,
    time::Timestamp,
};

/// Training samples of one symbol: `n` rows of `d` features and one target, in order of time.
///
/// Timestamps ascend strictly. A feature may be NaN (missing); it cannot be infinite. A target is finite.
///
/// ```
/// use modelkeep::{Timestamp, training::Samples};
///
/// let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
/// samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
/// assert_eq!((samples.len(), samples.width()), (1, 2));
/// assert_eq!(samples.row(0), Some(&[-1.7, 4.2][..]));
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    pub(super) symbol: Symbol,
    pub(super) feature_names: Vec<Label>,
    pub(super) timestamps: Vec<Timestamp>,
    pub(super) features: Vec<f64>,
    pub(super) target: Vec<f64>,
}

impl Samples {
    /// Returns no samples of `symbol` with these feature names.
    ///
    /// ```
    /// # use modelkeep::training::Samples;
    /// let samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// assert!(samples.is_empty());
    /// assert!(Samples::new("AAPL", &["zscore", "zscore"]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when a name breaks the rules of [`Symbol`] or [`Label`], when there is none, or when two are the
    /// same; `LimitExceeded` beyond 4096 features.
    pub fn new(symbol: &str, feature_names: &[impl AsRef<str>]) -> Result<Self> {
        let names = feature_names.iter().map(|name| Label::new(name.as_ref())).collect::<Result<Vec<_>>>()?;
        Self::with_names(Symbol::new(symbol)?, names)
    }

    pub(super) fn with_names(symbol: Symbol, feature_names: Vec<Label>) -> Result<Self> {
        let refuse = |kind, message: String| Err(Error::new(kind, "read samples", symbol.to_string(), message));
        let distinct: BTreeSet<&Label> = feature_names.iter().collect();
        if feature_names.is_empty() || distinct.len() < feature_names.len() {
            return refuse(ErrorKind::InvalidInput, "feature names must be there, and differ".into());
        }
        if feature_names.len() > FEATURES_MAX {
            let message = format!("{} features, at most {FEATURES_MAX} are allowed", feature_names.len());
            return refuse(ErrorKind::LimitExceeded, message);
        }
        Ok(Self { symbol, feature_names, timestamps: Vec::new(), features: Vec::new(), target: Vec::new() })
    }

    /// Returns samples made of whole columns: `timestamps [n]`, `features [n, d]` row-major, `target [n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::Samples};
    /// let at = vec![Timestamp::from_nanos(1), Timestamp::from_nanos(2)];
    /// let samples = Samples::from_columns("AAPL", &["zscore", "rsi2"], at, vec![-1.7, 4.2, 0.3, 60.0], vec![1.0, 0.0])?;
    /// assert_eq!(samples.row(1), Some(&[0.3, 60.0][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new) and [`push`](Self::push); and `InvalidInput` when the shapes do not agree.
    pub fn from_columns(
        symbol: &str,
        feature_names: &[impl AsRef<str>],
        timestamps: Vec<Timestamp>,
        features: Vec<f64>,
        target: Vec<f64>,
    ) -> Result<Self> {
        let samples = Self { timestamps, features, target, ..Self::new(symbol, feature_names)? };
        samples.check()?;
        Ok(samples)
    }

    /// Adds a row after the last one.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.len(), 1);
    /// assert!(samples.push(Timestamp::from_nanos(1), &[0.0, 50.0], 0.0).is_err()); // not after the row before it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, naming symbol and row, when `features` has not `d` values, when `at` is not after the last
    /// timestamp, when a feature is infinite, or the target not finite. Nothing is added then.
    pub fn push(&mut self, at: Timestamp, features: &[f64], target: f64) -> Result<()> {
        let row = self.len();
        if features.len() != self.width() {
            let message = format!("row {row} has {} features, expected {}", features.len(), self.width());
            return Err(self.refuse(message));
        }
        self.check_row(row, self.timestamps.last().copied(), at, features, target)?;
        self.timestamps.push(at);
        self.features.extend_from_slice(features);
        self.target.push(target);
        Ok(())
    }

    /// Checks shapes and every row.
    pub(super) fn check(&self) -> Result<()> {
        let (n, d) = (self.len(), self.width());
        if self.features.len() != n * d || self.target.len() != n {
            let message = format!(
                "{n} timestamps need {} features and {n} targets, found {} and {}",
                n * d,
                self.features.len(),
                self.target.len()
            );
            return Err(self.refuse(message));
        }
        let mut before = None;
        for (row, (at, features, target)) in self.rows().enumerate() {
            self.check_row(row, before, at, features, target)?;
            before = Some(at);
        }
        Ok(())
    }

    fn check_row(
        &self,
        row: usize,
        before: Option<Timestamp>,
        at: Timestamp,
        features: &[f64],
        target: f64,
    ) -> Result<()> {
        if let Some(before) = before.filter(|&before| before >= at) {
            return Err(self.refuse(format!("row {row} at {at} is not after the row before it, at {before}")));
        }
        if let Some((name, value)) = self.feature_names.iter().zip(features).find(|(_, value)| value.is_infinite()) {
            return Err(self.refuse(format!("row {row} at {at}: feature {name} is {value}")));
        }
        if !target.is_finite() {
            return Err(self.refuse(format!("row {row} at {at}: the target is {target}")));
        }
        Ok(())
    }

    fn refuse(&self, message: String) -> Error {
        Error::invalid("read samples", self.symbol.to_string(), message)
    }

    /// Returns the symbol.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.symbol().as_str(), "AAPL");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn symbol(&self) -> &Symbol {
        &self.symbol
    }

    /// Returns the names of the `d` features.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.feature_names()[1].as_str(), "rsi2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn feature_names(&self) -> &[Label] {
        &self.feature_names
    }

    /// Returns the number of rows, `n`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Returns whether there are no rows.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert!(!samples.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Returns the number of features, `d`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.width(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn width(&self) -> usize {
        self.feature_names.len()
    }

    /// Returns the timestamps, `[n]`, ascending.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.timestamps(), [Timestamp::from_nanos(1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
    }

    /// Returns the features, `[n, d]`, row-major.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.features(), [-1.7, 4.2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn features(&self) -> &[f64] {
        &self.features
    }

    /// Returns the targets, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!(samples.target(), [1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn target(&self) -> &[f64] {
        &self.target
    }

    /// Returns the `d` features of row `row`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// assert_eq!((samples.row(0), samples.row(1)), (Some(&[-1.7, 4.2][..]), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&[f64]> {
        let start = row.checked_mul(self.width())?;
        self.features.get(start..start.checked_add(self.width())?)
    }

    /// Returns timestamp, features and target of every row.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// for (at, features, target) in samples.rows() {
    ///     println!("{at}: {features:?} -> {target}");
    /// }
    /// # assert_eq!(samples.rows().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rows(&self) -> impl Iterator<Item = (Timestamp, &[f64], f64)> {
        let features = self.features.chunks_exact(self.width());
        self.timestamps.iter().zip(features).zip(&self.target).map(|((&at, features), &target)| (at, features, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn a_bad_row_is_named_and_nothing_is_added() {
        let mut samples = Samples::new("KO", &["a", "b"]).unwrap();
        samples.push(at(10), &[1.0, f64::NAN], 0.0).unwrap();
        for (time, features, target, reason) in [
            (20, vec![1.0], 0.0, "row 1 has 1 features, expected 2"),
            (10, vec![1.0, 2.0], 0.0, "row 1 at 1970-01-01T00:00:00.000000010Z is not after"),
            (20, vec![1.0, f64::INFINITY], 0.0, "feature b is inf"),
            (20, vec![1.0, 2.0], f64::NAN, "the target is NaN"),
        ] {
            let err = samples.push(at(time), &features, target).unwrap_err();
            assert!(err.message().contains(reason), "{err}");
            assert_eq!(err.subject(), "KO");
        }
        assert_eq!(samples.len(), 1);
    }

    #[test]
    fn columns_must_agree_in_shape() {
        let err = Samples::from_columns("KO", &["a"], vec![at(1), at(2)], vec![1.0], vec![0.0, 0.0]).unwrap_err();
        assert!(err.message().contains("2 timestamps need 2 features"), "{err}");
        assert!(Samples::new("KO", &["a", "a"]).is_err());
        assert!(Samples::new("KO", &[] as &[&str]).is_err());
    }
}
