//! One bar, its fields, and what can be wrong with it.

use std::fmt;

use crate::types::time::Timestamp;

/// One bar. `at` is when it begins; a bar of a day and longer has midnight UTC of its day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// When the bar begins.
    pub at: Timestamp,
    /// The first price.
    pub open: f64,
    /// The highest price.
    pub high: f64,
    /// The lowest price.
    pub low: f64,
    /// The last price.
    pub close: f64,
    /// What was traded, in units of the instrument.
    pub volume: f64,
}

impl Bar {
    /// Returns what is wrong with the bar taken alone.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Flaws}};
    /// let at = Timestamp::from_nanos(0);
    /// let bar = Bar { at, open: 2.0, high: 1.0, low: 0.5, close: 1.0, volume: 10.0 };
    /// assert_eq!(bar.flaws(), Flaws::INCONSISTENT); // the open lies above the high
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn flaws(&self) -> Flaws {
        let values = [self.open, self.high, self.low, self.close, self.volume];
        let mut flaws = Flaws::NONE;
        if values.iter().any(|value| !value.is_finite()) {
            flaws |= Flaws::NOT_FINITE;
        }
        if values.iter().any(|value| *value < 0.0) {
            flaws |= Flaws::NEGATIVE;
        }
        if self.low > self.open.min(self.close) || self.high < self.open.max(self.close) {
            flaws |= Flaws::INCONSISTENT;
        }
        flaws
    }
}

/// What is wrong with a bar: a set of flaws, usually empty.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flaws(u8);

impl Flaws {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A price or the volume is NaN or infinite.
    pub const NOT_FINITE: Self = Self(1);
    /// A price or the volume is below zero. Prices of a series that
    /// [allows them](crate::market::BarSeries::allow_negative_prices) have no such flaw.
    pub const NEGATIVE: Self = Self(2);
    /// `low <= open, close <= high` does not hold.
    pub const INCONSISTENT: Self = Self(4);
    /// Another row of the same write had the same timestamp, and came before it.
    pub const DUPLICATE: Self = Self(8);
    /// It was written after a row that it lies before.
    pub const UNSORTED: Self = Self(16);
    /// No bar of this timeframe begins then: bars of days begin at midnight UTC, and those of a length that half an
    /// hour is a multiple of at multiples of it.
    pub const OFF_GRID: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::NOT_FINITE, "not finite"),
        (Self::NEGATIVE, "negative"),
        (Self::INCONSISTENT, "inconsistent"),
        (Self::DUPLICATE, "duplicate"),
        (Self::UNSORTED, "unsorted"),
        (Self::OFF_GRID, "off the grid"),
    ];

    /// Returns whether there are none.
    ///
    /// ```
    /// # use modelkeep::market::Flaws;
    /// assert!(Flaws::NONE.is_empty() && !Flaws::NEGATIVE.is_empty());
    /// ```
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether all of `flaws` are among these.
    ///
    /// ```
    /// # use modelkeep::market::Flaws;
    /// let flaws = Flaws::NEGATIVE | Flaws::UNSORTED;
    /// assert!(flaws.contains(Flaws::NEGATIVE) && !flaws.contains(Flaws::DUPLICATE));
    /// ```
    #[must_use]
    pub const fn contains(self, flaws: Self) -> bool {
        self.0 & flaws.0 == flaws.0
    }

    /// These flaws, but for those in `other`.
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Unknown bits are kept: a later release may know them.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl std::ops::BitOrAssign for Flaws {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl std::ops::BitOr for Flaws {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Self::NAMES.iter().filter(|(flaw, _)| self.contains(*flaw)).map(|(_, name)| *name).collect();
        f.pad(&names.join(", "))
    }
}

impl fmt::Debug for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flaws({self})")
    }
}

/// What to do with rows that cannot be right: see [`Flaws`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRows {
    /// Write nothing, and name the first of them. The default.
    #[default]
    Refuse,
    /// Leave them out, and keep the others. Rows are sorted, and of rows with the same timestamp the last is kept.
    LeaveOut,
    /// Keep them, with their flaws beside them. Rows are sorted, and of rows with the same timestamp the last is kept.
    Keep,
}

/// One of the five columns of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The first price.
    Open,
    /// The highest price.
    High,
    /// The lowest price.
    Low,
    /// The last price.
    Close,
    /// What was traded.
    Volume,
}

impl Field {
    pub(crate) const ALL: [Self; 5] = [Self::Open, Self::High, Self::Low, Self::Close, Self::Volume];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(at: i64, close: f64) -> Bar {
        Bar { at: Timestamp::from_nanos(at), open: 1.0, high: 3.0, low: 0.5, close, volume: 100.0 }
    }

    #[test]
    fn flaws_of_a_bar_are_named() {
        assert!(bar(0, 2.0).flaws().is_empty());
        assert_eq!(bar(0, 4.0).flaws(), Flaws::INCONSISTENT);
        assert_eq!(bar(0, f64::NAN).flaws(), Flaws::NOT_FINITE);
        assert_eq!(bar(0, -1.0).flaws().to_string(), "negative, inconsistent");
        assert_eq!(Bar { volume: f64::INFINITY, ..bar(0, 2.0) }.flaws(), Flaws::NOT_FINITE);
    }
}
