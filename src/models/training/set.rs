//! Samples of many symbols that share their feature names.

use std::collections::BTreeMap;

use super::samples::Samples;
use crate::types::{
    error::{Error, ErrorKind, Result},
    key::{Label, Symbol},
    limits::SYMBOLS_MAX,
    time::Timestamp,
};

/// Training samples of many symbols with the same features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingSet {
    by_symbol: BTreeMap<Symbol, Samples>,
}

impl TrainingSet {
    /// Returns an empty set.
    ///
    /// ```
    /// # use modelkeep::training::TrainingSet;
    /// assert!(TrainingSet::new().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the set of these samples.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// let set = TrainingSet::from_samples([samples])?;
    /// assert_eq!(set.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// let mut set = TrainingSet::new();
    /// set.insert(samples)?;
    /// assert!(set.insert(Samples::new("MSFT", &["another"])?).is_err()); // the features differ
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert_eq!(set.feature_names().map(<[_]>::len), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn feature_names(&self) -> Option<&[Label]> {
        self.by_symbol.values().next().map(Samples::feature_names)
    }

    /// Returns the samples of a symbol.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert!(set.get("AAPL").is_some() && set.get("MSFT").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get(&self, symbol: &str) -> Option<&Samples> {
        self.by_symbol.get(symbol)
    }

    /// Returns the samples of every symbol, in order of the symbols.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert_eq!(set.iter().map(|samples| samples.len()).sum::<usize>(), set.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Samples> {
        self.by_symbol.values()
    }

    /// Returns the symbols, in order.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert_eq!(set.symbols().next().map(|symbol| symbol.as_str()), Some("AAPL"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = &Symbol> {
        self.by_symbol.keys()
    }

    /// Returns the number of rows, all symbols together.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert_eq!(set.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().map(Samples::len).sum()
    }

    /// Returns whether there are no rows.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert!(!set.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().all(Samples::is_empty)
    }

    /// Returns the newest timestamp.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// assert_eq!(set.last_timestamp(), Some(Timestamp::from_nanos(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn last_timestamp(&self) -> Option<Timestamp> {
        self.iter().filter_map(|samples| samples.timestamps.last().copied()).max()
    }

    /// Returns the features of all symbols below one another, `[n, d]` row-major, and the targets, `[n]`; copies.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// let (features, target) = set.to_matrix();
    /// assert_eq!((features, target), (vec![-1.7, 4.2], vec![1.0]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    #[test]
    fn a_set_refuses_samples_with_other_features() {
        let mut set = TrainingSet::new();
        set.insert(Samples::new("KO", &["a"]).unwrap()).unwrap();
        let err = set.insert(Samples::new("IBM", &["b"]).unwrap()).unwrap_err();
        assert!(err.message().contains("\"b\"") && err.message().contains("\"a\""), "{err}");
    }
}
