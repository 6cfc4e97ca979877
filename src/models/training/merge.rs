//! Merging new samples into stored ones, by symbol and timestamp. Newer rows win.

use super::{samples::Samples, set::TrainingSet};
use crate::types::{error::Result, key::Symbol, row_changes::RowChanges};

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merge {
    /// What it did to rows.
    pub rows: RowChanges,
    /// Symbols that were not there.
    pub new_symbols: Vec<Symbol>,
}

impl TrainingSet {
    /// Merges `newer` into this set: symbols that are new are appended, unless they have no rows; rows with the same
    /// symbol and timestamp are replaced, all other rows stay.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7, 4.2], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// let mut newer = Samples::new("AAPL", &["zscore", "rsi2"])?;
    /// newer.push(Timestamp::from_nanos(1), &[-1.5, 4.0], 1.0)?; // a row that is restated
    /// newer.push(Timestamp::from_nanos(2), &[0.3, 60.0], 0.0)?; // and a new one
    /// let mut merged = set.clone();
    /// let merge = merged.merge(&TrainingSet::from_samples([newer])?)?;
    /// assert_eq!((merge.rows.replaced, merge.rows.added, merged.len()), (1, 1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the feature names differ. The set is as it was then.
    pub fn merge(&mut self, newer: &Self) -> Result<Merge> {
        newer.iter().try_for_each(|samples| self.check_names(samples))?;
        let mut merge = Merge::default();
        for samples in newer.iter().filter(|samples| !samples.is_empty()) {
            if let Some(stored) = self.get_mut(samples.symbol()) {
                *stored = merge_symbol(stored, samples, &mut merge);
            } else {
                merge.rows.added += samples.len() as u64;
                merge.new_symbols.push(samples.symbol().clone());
                self.insert(samples.clone())?;
            }
        }
        Ok(merge)
    }
}

fn merge_symbol(stored: &Samples, newer: &Samples, merge: &mut Merge) -> Samples {
    let mut merged = Samples {
        symbol: stored.symbol.clone(),
        feature_names: stored.feature_names.clone(),
        timestamps: Vec::with_capacity(stored.len() + newer.len()),
        features: Vec::with_capacity(stored.features.len() + newer.features.len()),
        target: Vec::with_capacity(stored.len() + newer.len()),
    };
    let (mut old_rows, mut new_rows) = (stored.rows().peekable(), newer.rows().peekable());
    loop {
        // On equal timestamps both rows are taken and the newer one is kept.
        let take_old = match (old_rows.peek(), new_rows.peek()) {
            (Some(old), Some(new)) => old.0 <= new.0,
            (old, _) => old.is_some(),
        };
        let old = old_rows.next_if(|_| take_old);
        let new = new_rows.next_if(|new| old.is_none_or(|old| old.0 == new.0));
        match (old, new) {
            (Some(old), Some(new)) if same_bits(&old, &new) => merge.rows.unchanged += 1,
            (Some(_), Some(_)) => merge.rows.replaced += 1,
            (None, Some(_)) => merge.rows.added += 1,
            (Some(_), None) => {}
            (None, None) => return merged,
        }
        if let Some((at, features, target)) = new.or(old) {
            merged.timestamps.push(at);
            merged.features.extend_from_slice(features);
            merged.target.push(target);
        }
    }
}

/// Bits and not values: NaN equals itself, and 0.0 differs from -0.0.
fn same_bits<T>(a: &(T, &[f64], f64), b: &(T, &[f64], f64)) -> bool {
    a.2.to_bits() == b.2.to_bits() && a.1.iter().map(|x| x.to_bits()).eq(b.1.iter().map(|x| x.to_bits()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::types::time::Timestamp;

    type Rows = BTreeMap<(u8, i64), u8>;

    fn set(rows: &Rows) -> TrainingSet {
        let mut set = TrainingSet::new();
        for symbol in rows.keys().map(|(symbol, _)| *symbol) {
            let mut samples = Samples::new(&format!("S{symbol}"), &["x", "y"]).unwrap();
            for ((_, at), &value) in rows.iter().filter(|((s, _), _)| *s == symbol) {
                samples.push(Timestamp::from_nanos(*at), &[f64::from(value), f64::NAN], 1.0).unwrap();
            }
            set.insert(samples).unwrap();
        }
        set
    }

    fn rows() -> impl Strategy<Value = Rows> {
        prop::collection::btree_map((0u8..3, -5i64..20), 0u8..3, 0..40)
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(old in rows(), new in rows()) {
            let mut merged = set(&old);
            let merge = merged.merge(&set(&new)).unwrap();
            let mut expected = old.clone();
            expected.extend(new.clone());
            // NaN never equals itself, so the sets are compared as text.
            prop_assert_eq!(format!("{merged:?}"), format!("{:?}", set(&expected)));
            let count = |wanted: fn(Option<&u8>, u8) -> bool| {
                new.iter().filter(|(key, value)| wanted(old.get(key), **value)).count() as u64
            };
            prop_assert_eq!(merge.rows.added, count(|old, _| old.is_none()));
            prop_assert_eq!(merge.rows.unchanged, count(|old, new| old == Some(&new)));
            prop_assert_eq!(merge.rows.replaced, count(|old, new| old.is_some_and(|old| *old != new)));
            prop_assert_eq!(merge.rows.changed(), format!("{:?}", set(&old)) != format!("{merged:?}"));
        }
    }

    #[test]
    fn other_feature_names_change_nothing() {
        let mut stored = set(&Rows::from([((0, 1), 1)]));
        let before = format!("{stored:?}");
        let mut other = TrainingSet::new();
        other.insert(Samples::new("S9", &["x"]).unwrap()).unwrap();
        assert!(stored.merge(&other).is_err());
        assert_eq!(format!("{stored:?}"), before);
    }
}
