//! Levels in memory: what one asks them, and which days they lack.

use crate::types::{error::Result, hash::Digest, interval::Interval, key::Symbol, time::Day};

/// Daily levels of one series, in order of the days.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// The days, `[n]`, ascending.
    pub days: Vec<Day>,
    /// The level of each day, `[n]`.
    pub levels: Vec<f64>,
}

impl Levels {
    /// Returns the number of days.
    ///
    /// ```
    /// # use modelkeep::market::Levels;
    /// # let levels: Levels = [("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)].into_iter().collect();
    /// assert_eq!(levels.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.days.len()
    }

    /// Returns whether there are none.
    ///
    /// ```
    /// # use modelkeep::market::Levels;
    /// assert!(Levels::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// Returns days and levels.
    ///
    /// ```
    /// # use modelkeep::market::Levels;
    /// # let levels: Levels = [("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)].into_iter().collect();
    /// assert_eq!(levels.iter().map(|(_, level)| level).fold(0.0, f64::max), 36.07);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Day, f64)> {
        self.days.iter().copied().zip(self.levels.iter().copied())
    }

    /// Returns the last level at or before `day`, never a later one.
    ///
    /// ```
    /// # use modelkeep::market::Levels;
    /// # let levels: Levels = [("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)].into_iter().collect();
    /// assert_eq!(levels.at("2018-12-23".parse()?), Some(30.11));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn at(&self, day: Day) -> Option<f64> {
        let after = self.days.partition_point(|&known| known <= day);
        self.levels.get(after.checked_sub(1)?).copied()
    }

    /// Returns which share of the last `window` levels up to `day`, from 0 to 1, is not above the last of them; `None`
    /// when there are none. 1 says that it has not been higher in all that time.
    ///
    /// ```
    /// # use modelkeep::market::Levels;
    /// # let levels: Levels = [("2018-12-21".parse()?, 30.11), ("2018-12-24".parse()?, 36.07)].into_iter().collect();
    /// assert_eq!(levels.percentile("2018-12-24".parse()?, 2), Some(1.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "nobody has 2^52 days")]
    pub fn percentile(&self, day: Day, window: usize) -> Option<f64> {
        let after = self.days.partition_point(|&known| known <= day);
        let known = self.levels.get(after.saturating_sub(window)..after)?;
        let last = known.last()?;
        let not_above = known.iter().filter(|level| *level <= last).count();
        Some(not_above as f64 / known.len() as f64)
    }

    /// The hash that metadata records: of the series' name, then each day and the bits of its level.
    pub(crate) fn hash(&self, series: &Symbol) -> Digest {
        let mut bytes = Vec::with_capacity(series.as_str().len() + 1 + 12 * self.len());
        bytes.extend_from_slice(series.as_str().as_bytes());
        bytes.push(0);
        for (day, level) in self.iter() {
            bytes.extend_from_slice(&day.epoch_days().to_le_bytes());
            bytes.extend_from_slice(&level.to_bits().to_le_bytes());
        }
        Digest::of(&bytes)
    }
}

impl FromIterator<(Day, f64)> for Levels {
    fn from_iter<I: IntoIterator<Item = (Day, f64)>>(rows: I) -> Self {
        let (days, levels) = rows.into_iter().unzip();
        Self { days, levels }
    }
}

/// The runs of `expected` days that have no level.
pub(crate) fn gaps(levels: &Levels, expected: impl IntoIterator<Item = Day>) -> Result<Vec<Interval<Day>>> {
    let mut gaps: Vec<(Day, Day)> = Vec::new();
    // A gap goes on as long as no expected day in between has a level.
    let mut open = false;
    for day in expected {
        if levels.days.binary_search(&day).is_ok() {
            open = false;
            continue;
        }
        match gaps.last_mut().filter(|_| open) {
            Some((_, end)) => *end = day.next(),
            None => gaps.push((day, day.next())),
        }
        open = true;
    }
    gaps.into_iter().map(|(start, end)| Interval::new(start, end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn the_level_at_a_day_is_never_a_later_one() {
        let levels: Levels = [(day("2018-12-21"), 30.11), (day("2018-12-24"), 36.07)].into_iter().collect();
        assert_eq!(levels.at(day("2018-12-20")), None);
        assert_eq!(levels.at(day("2018-12-21")), Some(30.11));
        assert_eq!(levels.at(day("2018-12-23")), Some(30.11));
        assert_eq!(levels.at(day("2019-06-01")), Some(36.07));
    }

    #[test]
    fn a_percentile_looks_back_and_not_ahead() {
        let levels: Levels = (3..9)
            .zip([10.0, 40.0, 20.0, 30.0, 30.0, 99.0])
            .map(|(n, level)| (day(&format!("2018-12-0{n}")), level))
            .collect();
        assert_eq!(levels.percentile(day("2018-12-02"), 5), None);
        assert_eq!(levels.percentile(day("2018-12-03"), 5), Some(1.0));
        assert_eq!(levels.percentile(day("2018-12-07"), 5), Some(0.8));
        assert_eq!(levels.percentile(day("2018-12-07"), 2), Some(1.0));
        assert_eq!(levels.percentile(day("2018-12-07"), 0), None);
    }

    #[test]
    fn neighbouring_missing_days_are_one_gap_across_a_weekend() {
        let levels: Levels = [(day("2018-12-19"), 1.0), (day("2018-12-26"), 1.0)].into_iter().collect();
        let expected = ["2018-12-19", "2018-12-20", "2018-12-21", "2018-12-24", "2018-12-26", "2018-12-27"].map(day);
        let gaps = gaps(&levels, expected).unwrap();
        let text: Vec<_> = gaps.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[2018-12-20, 2018-12-25)", "[2018-12-27, 2018-12-28)"]);
    }

    #[test]
    fn the_hash_sees_name_days_and_levels() {
        let one: Levels = [(day("2018-12-21"), 30.11)].into_iter().collect();
        let vix = Symbol::new("VIX").unwrap();
        assert_eq!(one.hash(&vix), one.clone().hash(&vix));
        assert_ne!(one.hash(&vix), one.hash(&Symbol::new("VXN").unwrap()));
        let other: Levels = [(day("2018-12-21"), 30.12)].into_iter().collect();
        assert_ne!(one.hash(&vix), other.hash(&vix));
    }
}
