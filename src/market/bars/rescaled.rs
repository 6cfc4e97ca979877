//! Whether bars that were replaced came back on another scale, as they do after a split.
//!
//! Prices are rounded to ticks, so that a factor is known between bounds only: a price of 10.01 that stands for
//! anything from 10.005 to 10.015 and becomes 2.50 was multiplied by something from 0.2492 to 0.2504. Bars have one
//! factor if the bounds of all their prices meet. How fine prices are is read off them.

use crate::{
    market::bars::{bar::Bar, columns::Columns},
    types::{rescaled::Rescaled, row_changes::RowChanges},
};

/// More decimals than that are a division's, and no tick's.
const DECIMALS_MAX: i32 = 6;

/// A share of a price that arithmetic in single precision may be off by.
const NOISE: f64 = 1e-6;

/// Looks at the rows of `old` that those of `new` take the place of; both ascend.
pub(super) fn between(old: &Columns, new: &Columns) -> Option<Rescaled> {
    let pairs: Vec<(Bar, Bar)> = (0..old.len())
        .filter_map(|row| {
            let old = old.bar(row)?;
            let at = new.at.binary_search(&old.at).ok()?;
            Some((old, new.bar(at)?))
        })
        .collect();
    of_pairs(&pairs)
}

/// Looks at pairs of an old and a new bar, in order of time: returns the longest run of them with one factor that is
/// more than 1 % away from 1; of runs of the same length the last.
fn of_pairs(pairs: &[(Bar, Bar)]) -> Option<Rescaled> {
    let ticks = (tick(&pairs.iter().map(|(old, _)| old)), tick(&pairs.iter().map(|(_, new)| new)));
    let (mut best, mut run) = (None, None);
    for (old, new) in pairs {
        let row = bounds(old, new, ticks).map(|bounds| Rescaled::one(new.at, bounds));
        let longer = run.zip(row).and_then(|(run, row): (Rescaled, Rescaled)| run.meet(row));
        if longer.is_none() {
            best = better(best, run);
        }
        run = longer.or(row);
    }
    better(best, run)
}

fn better(best: Option<Rescaled>, run: Option<Rescaled>) -> Option<Rescaled> {
    let run = run.filter(Rescaled::is_change);
    match (best, run) {
        (Some(best), Some(run)) if run.rows < best.rows => Some(best),
        (best, run) => run.or(best),
    }
}

fn prices(bar: &Bar) -> [f64; 4] {
    [bar.open, bar.high, bar.low, bar.close]
}

/// The smallest step that all prices are multiples of, as a power of ten; nothing for prices that are no decimals.
fn tick<'a>(bars: &(impl Iterator<Item = &'a Bar> + Clone)) -> f64 {
    let fits = |decimals: &i32| {
        let power = 10_f64.powi(*decimals);
        bars.clone().flat_map(prices).all(|price| (price * power - (price * power).round()).abs() < 1e-6)
    };
    (0..=DECIMALS_MAX).find(fits).map_or(0.0, |decimals| 10_f64.powi(-decimals))
}

/// Between what the factor of one bar lies; `None` if its prices have not one.
fn bounds(old: &Bar, new: &Bar, ticks: (f64, f64)) -> Option<(f64, f64)> {
    let mut all = (0.0_f64, f64::INFINITY);
    for (old, new) in prices(old).into_iter().zip(prices(new)) {
        if !(old.is_finite() && new.is_finite() && old > 0.0 && new > 0.0) {
            return None;
        }
        let (off_old, off_new) = ((ticks.0 / 2.0).max(old * NOISE), (ticks.1 / 2.0).max(new * NOISE));
        if old <= off_old {
            return None;
        }
        all = (all.0.max((new - off_new) / (old + off_old)), all.1.min((new + off_new) / (old - off_old)));
    }
    (all.0 <= all.1).then_some(all)
}

/// Says in the log that a series was rescaled, if it was.
pub(crate) fn warn(series: &impl std::fmt::Display, changes: &RowChanges) {
    if let Some(rescaled) = &changes.rescaled {
        tracing::warn!(%series, %rescaled, "bars came back on another scale: mark all of it missing, and load again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::Timestamp;

    fn rounded(price: f64, decimals: i32) -> f64 {
        let power = 10_f64.powi(decimals);
        (price * power).round() / power
    }

    /// Bars of a walk, in cents.
    fn bar(n: i64) -> Bar {
        let close = 150.0 + (n * 7919 % 211) as f64 / 7.0;
        let [open, high, low, close] = [close - 0.31, close + 1.17, close - 2.03, close].map(|price| rounded(price, 2));
        Bar { at: Timestamp::from_nanos(n), open, high, low, close, volume: 1e6 }
    }

    fn scaled(bar: Bar, factor: f64, decimals: i32) -> Bar {
        let [open, high, low, close] = prices(&bar).map(|price| rounded(price * factor, decimals));
        Bar { open, high, low, close, volume: bar.volume / factor, ..bar }
    }

    fn found(pairs: &[(Bar, Bar)]) -> Option<(f64, i64, i64, u64)> {
        of_pairs(pairs).map(|found| {
            ((found.factor * 1e4).round() / 1e4, found.first.as_nanos(), found.last.as_nanos(), found.rows)
        })
    }

    #[test]
    fn a_factor_that_all_prices_share_is_found_through_rounding() {
        for (factor, decimals) in [(0.25, 2), (2.0 / 3.0, 2), (0.1, 4), (10.0, 2), (0.9731, 6), (1.05, 2)] {
            let pairs: Vec<_> = (0..250).map(|n| (bar(n), scaled(bar(n), factor, decimals))).collect();
            assert_eq!(found(&pairs), Some(((factor * 1e4).round() / 1e4, 0, 249, 250)), "{factor}");
            let one = found(&pairs[7..8]).unwrap();
            assert!((one.0 - factor).abs() < 1e-3 && (one.1, one.3) == (7, 1), "{factor}: {one:?}");
        }
    }

    #[test]
    fn corrections_and_small_adjustments_are_no_change_of_scale() {
        let corrected = |n: i64| (bar(n), Bar { close: bar(n).close + 0.02, ..bar(n) });
        let dividend = |n: i64| (bar(n), scaled(bar(n), 0.995, 6));
        let volume = |n: i64| (bar(n), Bar { volume: 7.0, ..bar(n) });
        let other = |n: i64| (bar(n), Bar { close: bar(n).low, ..scaled(bar(n), 0.25, 2) });
        let wrong = |n: i64| (bar(n), Bar { high: f64::NAN, ..scaled(bar(n), 0.25, 2) });
        let below_zero = |n: i64| (bar(n), scaled(bar(n), -1.0, 2));
        for pair in [corrected, dividend, volume, other, wrong, below_zero] {
            assert_eq!(found(&(0..100).map(pair).collect::<Vec<_>>()), None);
            assert_eq!(found(&[pair(3)]), None);
        }
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn what_rounding_explains_is_no_change_of_scale() {
        let flat = |price: f64| Bar { open: price, high: price, low: price, close: price, ..bar(0) };
        assert_eq!(found(&[(flat(0.50), flat(0.51))]), None);
        assert_eq!(found(&[(flat(0.0), flat(1.0))]), None);
        assert_eq!(found(&[(flat(0.50), flat(0.12))]).map(|found| found.3), Some(1));
        // Yen have no decimals.
        let yen = |n: i64| Bar { at: Timestamp::from_nanos(n), ..scaled(bar(n), 20.0, 0) };
        let pairs: Vec<_> = (0..50).map(|n| (yen(n), scaled(yen(n), 1.0 / 3.0, 0))).collect();
        assert_eq!(found(&pairs), Some((0.3333, 0, 49, 50)));
    }

    #[test]
    fn the_part_of_the_history_that_was_rescaled_is_told_from_the_rest() {
        let mut pairs: Vec<_> = (0..100).map(|n| (bar(n), scaled(bar(n), 0.25, 2))).collect();
        pairs.extend((100..110).map(|n| (bar(n), Bar { close: bar(n).close + 0.5, ..bar(n) })));
        assert_eq!(found(&pairs), Some((0.25, 0, 99, 100)));
        pairs.reverse();
        assert_eq!(found(&pairs).map(|found| found.3), Some(100));
        // Two factors: the one that most rows show.
        let two: Vec<_> = (0..90).map(|n| (bar(n), scaled(bar(n), if n < 30 { 0.5 } else { 0.2 }, 4))).collect();
        assert_eq!(found(&two), Some((0.2, 30, 89, 60)));
    }

    #[test]
    fn what_several_writes_find_is_one_thing_if_one_factor_explains_it() {
        let part = |rows: std::ops::Range<i64>, factor: f64| RowChanges {
            rescaled: of_pairs(&rows.map(|n| (bar(n), scaled(bar(n), factor, 2))).collect::<Vec<_>>()),
            ..RowChanges::default()
        };
        let mut all = part(0..10, 0.25);
        all += RowChanges::default();
        all += part(10..30, 0.25);
        let found = all.rescaled.unwrap();
        assert_eq!((found.rows, found.last.as_nanos()), (30, 29));
        assert!(found.to_string().starts_with("30 bars from 1970-01-01T00:00:00Z to "), "{found}");
        all += part(30..35, 0.5);
        assert_eq!(all.rescaled, Some(found));
        all += part(35..99, 0.5);
        assert_eq!(all.rescaled.unwrap().rows, 64);
    }

    #[test]
    fn only_rows_that_are_replaced_are_compared() {
        let columns = |bars: &[Bar]| {
            let mut columns = Columns::default();
            bars.iter().for_each(|bar| columns.push(bar, bar.flaws()));
            columns
        };
        let old = columns(&[bar(1), bar(2), bar(3)]);
        let new = columns(&[scaled(bar(0), 0.25, 2), scaled(bar(2), 0.25, 2), scaled(bar(4), 0.25, 2)]);
        let found = between(&old, &new).unwrap();
        assert_eq!((found.rows, found.first.as_nanos()), (1, 2));
        assert_eq!(between(&old, &Columns::default()), None);
    }
}
