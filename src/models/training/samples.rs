//! Samples of one symbol, and sets of them that share their feature names.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{
    error::{Error, ErrorKind, Result},
    key::{Label, Symbol},
    limits::{FEATURES_MAX, SYMBOLS_MAX},
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
    #[must_use]
    pub fn symbol(&self) -> &Symbol {
        &self.symbol
    }

    /// Returns the names of the `d` features.
    #[must_use]
    pub fn feature_names(&self) -> &[Label] {
        &self.feature_names
    }

    /// Returns the number of rows, `n`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Returns the number of features, `d`.
    #[must_use]
    pub fn width(&self) -> usize {
        self.feature_names.len()
    }

    /// Returns the timestamps, `[n]`, ascending.
    #[must_use]
    pub fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
    }

    /// Returns the features, `[n, d]`, row-major.
    #[must_use]
    pub fn features(&self) -> &[f64] {
        &self.features
    }

    /// Returns the targets, `[n]`.
    #[must_use]
    pub fn target(&self) -> &[f64] {
        &self.target
    }

    /// Returns the `d` features of row `row`.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&[f64]> {
        let start = row.checked_mul(self.width())?;
        self.features.get(start..start.checked_add(self.width())?)
    }

    /// Returns timestamp, features and target of every row.
    pub fn rows(&self) -> impl Iterator<Item = (Timestamp, &[f64], f64)> {
        let features = self.features.chunks_exact(self.width());
        self.timestamps.iter().zip(features).zip(&self.target).map(|((&at, features), &target)| (at, features, target))
    }
}

/// Training samples of many symbols with the same features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingSet {
    by_symbol: BTreeMap<Symbol, Samples>,
}

impl TrainingSet {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the set of these samples.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    pub fn from_samples(all: impl IntoIterator<Item = Samples>) -> Result<Self> {
        let mut set = Self::new();
        all.into_iter().try_for_each(|samples| set.insert(samples))?;
        Ok(set)
    }

    /// Adds the samples of a symbol, in place of those that the set had of it.
    ///
    /// # Errors
    /// `InvalidInput` when the feature names are not those of the set; both are named. `LimitExceeded` beyond 65,536
    /// symbols.
    pub fn insert(&mut self, samples: Samples) -> Result<()> {
        self.check_names(&samples)?;
        if self.by_symbol.len() >= SYMBOLS_MAX && !self.by_symbol.contains_key(&samples.symbol) {
            let message = format!("at most {SYMBOLS_MAX} symbols are allowed");
            return Err(Error::new(ErrorKind::LimitExceeded, "add samples", samples.symbol.to_string(), message));
        }
        self.by_symbol.insert(samples.symbol.clone(), samples);
        Ok(())
    }

    pub(super) fn check_names(&self, samples: &Samples) -> Result<()> {
        let Some(names) = self.feature_names().filter(|names| *names != samples.feature_names) else {
            return Ok(());
        };
        let message = format!("its features are {:?}, those of the set {names:?}", samples.feature_names);
        Err(Error::invalid("add samples", samples.symbol.to_string(), message))
    }

    pub(super) fn get_mut(&mut self, symbol: &Symbol) -> Option<&mut Samples> {
        self.by_symbol.get_mut(symbol)
    }

    /// Returns the names of the features, unless the set is empty.
    #[must_use]
    pub fn feature_names(&self) -> Option<&[Label]> {
        self.by_symbol.values().next().map(Samples::feature_names)
    }

    /// Returns the samples of a symbol.
    #[must_use]
    pub fn get(&self, symbol: &str) -> Option<&Samples> {
        self.by_symbol.get(symbol)
    }

    /// Returns the samples of every symbol, in order of the symbols.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Samples> {
        self.by_symbol.values()
    }

    /// Returns the symbols, in order.
    #[must_use]
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = &Symbol> {
        self.by_symbol.keys()
    }

    /// Returns the number of rows, all symbols together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().map(Samples::len).sum()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().all(Samples::is_empty)
    }

    /// Returns the newest timestamp.
    #[must_use]
    pub fn last_timestamp(&self) -> Option<Timestamp> {
        self.iter().filter_map(|samples| samples.timestamps.last().copied()).max()
    }

    /// Returns the features of all symbols below one another, `[n, d]` row-major, and the targets, `[n]`; copies.
    #[must_use]
    pub fn to_matrix(&self) -> (Vec<f64>, Vec<f64>) {
        let features = self.iter().flat_map(Samples::features).copied().collect();
        let target = self.iter().flat_map(Samples::target).copied().collect();
        (features, target)
    }
}

impl<'a> IntoIterator for &'a TrainingSet {
    type Item = &'a Samples;
    type IntoIter = std::collections::btree_map::Values<'a, Symbol, Samples>;

    fn into_iter(self) -> Self::IntoIter {
        self.by_symbol.values()
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

    #[test]
    fn a_set_refuses_samples_with_other_features() {
        let mut set = TrainingSet::new();
        set.insert(Samples::new("KO", &["a"]).unwrap()).unwrap();
        let err = set.insert(Samples::new("IBM", &["b"]).unwrap()).unwrap_err();
        assert!(err.message().contains("\"b\"") && err.message().contains("\"a\""), "{err}");
    }
}
