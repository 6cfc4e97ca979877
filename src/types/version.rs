//! The version of a model.

use std::{fmt, num::NonZeroU64, str::FromStr};

/// The version of a model under one key: 1 for the first, one more for every publish.
///
/// A number is never given out twice under a key, even after everything under the key was removed; so a version that
/// a caller remembers can only mean what it meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(NonZeroU64);

impl Version {
    /// The first version under a key.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns version `number`, or `None` for zero, which is no version.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("v{}", self.0))
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    /// Parses `3` or `v3`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('v').unwrap_or(text).parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_parses_as_it_prints_and_zero_is_none() {
        let version = Version::FIRST.next();
        assert_eq!(version.to_string(), "v2");
        assert_eq!("v2".parse(), Ok(version));
        assert_eq!("2".parse(), Ok(version));
        assert!("v0".parse::<Version>().is_err());
        assert_eq!(Version::new(0), None);
    }
}
