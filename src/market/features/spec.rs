//! What features are: a name, a version, parameters, and how far back they look.

use serde::Serialize;

use crate::{
    market::timeframe::Timeframe,
    types::{
        error::{Error, ErrorKind, Result},
        hash::Digest,
        key::{Label, ModelKey},
        limits::FEATURES_MAX,
    },
};

/// How many bars before a bar its features depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lookback {
    /// So many: a mean over 20 bars looks back 19, a return over one looks back 1. Features must be the same whatever
    /// comes before: sum a window anew for every bar, for a running sum depends on where it began.
    Bars(usize),
    /// All there are: exponential means, and whatever else has a memory without end. Every change of a bar makes all
    /// that follows be computed again, from the first bar on.
    All,
}

/// What features are computed, and how: everything that changes their values.
///
/// ```
/// use modelkeep::{market::{FeatureSpec, Lookback, Timeframe}};
///
/// let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["mean20", "zscore20"])?;
/// let slower = spec.clone().params(&[("scale", 2.0)])?;
/// assert_ne!(spec.fingerprint(), slower.fingerprint());
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSpec {
    name: Label,
    version: u32,
    timeframe: Timeframe,
    lookback: Lookback,
    columns: Vec<Label>,
    fingerprint: Digest,
}

#[derive(Serialize)]
struct Canonical<'a, P> {
    name: &'a str,
    version: u32,
    timeframe_nanos: String,
    lookback: String,
    columns: Vec<&'a str>,
    params: P,
}

impl FeatureSpec {
    /// Returns the features `columns` of bars of this timeframe, without parameters. Raise the version whenever the
    /// code that computes them changes what it computes.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert!(FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::All, &["a", "a"]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when a name breaks the rules of [`Label`], when there is no column, or when two have the same
    /// name; `LimitExceeded` beyond 4096 columns.
    pub fn new(
        name: &str,
        version: u32,
        timeframe: Timeframe,
        lookback: Lookback,
        columns: &[impl AsRef<str>],
    ) -> Result<Self> {
        let name = Label::new(name)?;
        let columns = columns.iter().map(|column| Label::new(column.as_ref())).collect::<Result<Vec<_>>>()?;
        let refuse = |kind, message: String| Err(Error::new(kind, "read features", name.to_string(), message));
        let distinct: std::collections::BTreeSet<&Label> = columns.iter().collect();
        if columns.is_empty() || distinct.len() < columns.len() {
            return refuse(ErrorKind::InvalidInput, "names of columns must be there, and differ".into());
        }
        if columns.len() > FEATURES_MAX {
            return refuse(
                ErrorKind::LimitExceeded,
                format!("{} columns, at most {FEATURES_MAX} are allowed", columns.len()),
            );
        }
        let spec = Self { name, version, timeframe, lookback, columns, fingerprint: Digest::from_bytes([0; 32]) };
        spec.params(&())
    }

    /// Sets the parameters: any value that serde can serialise, as for [`ModelKey::new`].
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore"])?;
    /// let other = spec.clone().params(&[("window", 20)])?;
    /// assert_ne!(spec.fingerprint(), other.fingerprint());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`ModelKey::new`].
    pub fn params<P: Serialize + ?Sized>(mut self, params: &P) -> Result<Self> {
        let canonical = Canonical {
            name: self.name.as_str(),
            version: self.version,
            timeframe_nanos: self.timeframe.as_nanos().to_string(),
            lookback: format!("{:?}", self.lookback),
            columns: self.columns.iter().map(Label::as_str).collect(),
            params,
        };
        let key = ModelKey::new("features", &canonical)?;
        self.fingerprint = Digest::from_bytes(*key.config_hash().as_bytes());
        Ok(self)
    }

    /// Returns the name.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// # let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert_eq!(spec.name().as_str(), "trend");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &Label {
        &self.name
    }

    /// Returns the version.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// # let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert_eq!(spec.version(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the timeframe of the bars.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// # let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert_eq!(spec.timeframe(), Timeframe::DAY);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timeframe(&self) -> Timeframe {
        self.timeframe
    }

    /// Returns how far back the features look.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// # let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert_eq!(spec.lookback(), Lookback::Bars(19));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lookback(&self) -> Lookback {
        self.lookback
    }

    /// Returns the names of the columns.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// # let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert_eq!(spec.columns()[0].as_str(), "zscore20");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn columns(&self) -> &[Label] {
        &self.columns
    }

    /// Returns the BLAKE3 hash of name, version, timeframe, lookback, columns and parameters in RFC 8785 form: the key
    /// that the features are stored under.
    ///
    /// ```
    /// # use modelkeep::market::{FeatureSpec, Lookback, Timeframe};
    /// # let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// let newer = FeatureSpec::new("trend", 2, Timeframe::DAY, Lookback::Bars(19), &["zscore20"])?;
    /// assert_ne!(spec.fingerprint(), newer.fingerprint());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_the_values_changes_the_fingerprint() {
        let spec = |name, version, timeframe, lookback, columns: &[&str]| {
            FeatureSpec::new(name, version, timeframe, lookback, columns).unwrap().fingerprint()
        };
        let base = spec("a", 1, Timeframe::DAY, Lookback::Bars(5), &["x"]);
        for other in [
            spec("b", 1, Timeframe::DAY, Lookback::Bars(5), &["x"]),
            spec("a", 2, Timeframe::DAY, Lookback::Bars(5), &["x"]),
            spec("a", 1, Timeframe::HOUR, Lookback::Bars(5), &["x"]),
            spec("a", 1, Timeframe::DAY, Lookback::Bars(6), &["x"]),
            spec("a", 1, Timeframe::DAY, Lookback::All, &["x"]),
            spec("a", 1, Timeframe::DAY, Lookback::Bars(5), &["x", "y"]),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(base, spec("a", 1, Timeframe::DAY, Lookback::Bars(5), &["x"]));
    }

    #[test]
    fn columns_must_have_names_that_differ() {
        for columns in [&[][..], &["x", "x"], &["no space"]] {
            assert!(FeatureSpec::new("a", 1, Timeframe::DAY, Lookback::All, columns).is_err());
        }
    }
}
