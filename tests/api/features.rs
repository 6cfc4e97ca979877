//! Features: computed once, and again where bars changed; the same as if all were computed anew.

use std::cell::Cell;

use modelkeep::{
    ErrorKind, Interval, Store, Timestamp,
    market::{Bars, FeatureSpec, Lookback, Timeframe},
};
use proptest::prelude::*;

use crate::{
    market::{MINUTE, all_time, at, bar, between, days, minutes},
    support::{Folder, HOUR},
};

const WINDOW: usize = 20;

fn spec(timeframe: Timeframe, lookback: Lookback) -> FeatureSpec {
    FeatureSpec::new("test", 1, timeframe, lookback, &["mean", "range"]).unwrap()
}

/// A mean over a window, summed anew for each bar, and the range of the window.
fn windowed(bars: &Bars) -> Vec<Vec<f64>> {
    let window = |row: usize| row.saturating_sub(WINDOW - 1)..=row;
    let mean = |row: usize| bars.close()[window(row)].iter().sum::<f64>() / window(row).count() as f64;
    let high = |row: usize| bars.high()[window(row)].iter().copied().fold(f64::MIN, f64::max);
    let low = |row: usize| bars.low()[window(row)].iter().copied().fold(f64::MAX, f64::min);
    let rows = 0..bars.len();
    vec![rows.clone().map(mean).collect(), rows.map(|row| high(row) - low(row)).collect()]
}

/// An exponential mean, which remembers everything, and a count of bars.
fn endless(bars: &Bars) -> Vec<Vec<f64>> {
    let mut mean = f64::NAN;
    let ema = bars.close().iter().map(|close| {
        mean = if mean.is_nan() { *close } else { mean + (close - mean) * 0.1 };
        mean
    });
    vec![ema.collect(), (0..bars.len()).map(|row| row as f64).collect()]
}

#[test]
fn only_months_that_changed_are_computed_again() {
    let folder = Folder::new();
    folder.clock.advance(HOUR * 24 * 14); // when all of them have ended
    let store = folder.open();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&days("2016-01-01", "2019-01-01")).unwrap();
    let features = store.features("SPY", &spec(Timeframe::DAY, Lookback::Bars(WINDOW - 1))).unwrap();
    let seen = Cell::new(0);
    let compute = |bars: &Bars| {
        seen.set(seen.get() + bars.len());
        windowed(bars)
    };
    let all = between("2016-01-01", "2019-01-01");
    let first = features.get_or_compute(all, compute).unwrap();
    assert_eq!((first.rows_computed, first.rows_reused, seen.take()), (1096, 0, 1096));
    let again = features.get_or_compute(all, compute).unwrap();
    assert_eq!((again.rows_computed, again.rows_reused, seen.take()), (0, 1096, 0));
    assert_eq!(again.column("mean"), first.column("mean"));
    // One bar of March 2017: March, and April, whose first bars look back at it.
    series.write(&[bar(at("2017-03-20"), 12_345)].into_iter().collect()).unwrap();
    let changed = features.get_or_compute(all, compute).unwrap();
    assert_eq!((changed.rows_computed, seen.take()), (31 + 30, 19 + 31 + 30));
    // A day more.
    series.write(&days("2019-01-01", "2019-01-02")).unwrap();
    let longer = features.get_or_compute(between("2016-01-01", "2019-01-02"), compute).unwrap();
    assert_eq!((longer.rows_computed, seen.take()), (1, 20));
    // A part that is there.
    let part = features.get_or_compute(between("2017-03-05", "2017-03-10"), compute).unwrap();
    assert_eq!((part.len(), part.rows_reused, seen.take()), (5, 5, 0));
    assert!(features.remove().unwrap() > 0);
    assert_eq!(features.get_or_compute(all, compute).unwrap().rows_reused, 0);
}

#[test]
fn what_needs_the_whole_past_is_computed_from_the_first_changed_month_on() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&days("1998-01-01", "2003-01-01")).unwrap();
    let features = store.features("SPY", &spec(Timeframe::DAY, Lookback::All)).unwrap();
    let all = between("1998-01-01", "2003-01-01");
    assert_eq!(features.get_or_compute(all, endless).unwrap().rows_computed, 1826);
    series.write(&[bar(at("2002-11-05"), 12_345)].into_iter().collect()).unwrap();
    let changed = features.get_or_compute(all, endless).unwrap();
    assert_eq!(changed.rows_computed, 61);
    // The count of bars says that it began with the first.
    assert_eq!(changed.column("range").unwrap()[1825], 1825.0);
}

#[test]
fn another_spec_has_features_of_its_own_and_a_wrong_shape_is_refused() {
    let store = Store::in_memory().unwrap();
    store.bars("SPY", Timeframe::DAY).unwrap().write(&days("2018-01-01", "2018-03-01")).unwrap();
    let all = between("2018-01-01", "2018-03-01");
    let one = spec(Timeframe::DAY, Lookback::Bars(19));
    let two = one.clone().params(&20).unwrap();
    for spec in [&one, &two] {
        assert_eq!(store.features("SPY", spec).unwrap().get_or_compute(all, windowed).unwrap().rows_computed, 59);
    }
    let other = FeatureSpec::new("other", 1, Timeframe::DAY, Lookback::Bars(0), &["x"]).unwrap();
    let features = store.features("SPY", &other).unwrap();
    for wrong in [vec![], vec![vec![1.0; 58]], vec![vec![1.0; 59]; 2]] {
        let err = features.get_or_compute(all, |_| wrong.clone()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidInput);
    }
    assert!(store.features("QQQ", &one).unwrap().get_or_compute(all, windowed).unwrap().is_empty());
}

#[test]
fn aggregates_have_features_of_their_own() {
    let store = Store::in_memory().unwrap();
    let minutes =
        store.bars("BTC-USD", Timeframe::MINUTE).unwrap().calendar(modelkeep::market::Calendar::always_open());
    minutes.write(&crate::market::minutes("2018-10-15", 60 * 24 * 50)).unwrap();
    store.bars("BTC-USD", Timeframe::DAY).unwrap().write(&days("2018-10-15", "2018-11-15")).unwrap();
    let resampled = minutes.resample(Timeframe::DAY).unwrap().accept_outside();
    let spec = spec(Timeframe::DAY, Lookback::Bars(WINDOW - 1));
    let of_minutes = resampled.features(&spec).unwrap().get_or_compute(all_time(), windowed).unwrap();
    let given = store.features("BTC-USD", &spec).unwrap().get_or_compute(all_time(), windowed).unwrap();
    assert_eq!((of_minutes.len(), given.len()), (50, 31));
    assert_eq!(of_minutes.columns, windowed(&resampled.range(all_time()).unwrap()));
    assert_eq!(resampled.features(&spec).unwrap().get_or_compute(all_time(), windowed).unwrap().rows_reused, 50);
    assert_eq!(minutes.features(&spec).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn minutes_are_computed_across_chunks() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    let all = minutes("2018-10-15", 60 * 24 * 50);
    series.write(&all).unwrap();
    let features = store.features("BTC-USD", &spec(Timeframe::MINUTE, Lookback::Bars(WINDOW - 1))).unwrap();
    // The middle first: what comes before it is not computed, and yet looked back at.
    let november = features.get_or_compute(between("2018-11-01", "2018-12-01"), windowed).unwrap();
    assert_eq!(november.rows_computed, 30 * 1440);
    let whole = features.get_or_compute(all_time(), windowed).unwrap();
    assert_eq!((whole.rows_computed, whole.rows_reused), (20 * 1440, 30 * 1440));
    assert_eq!(whole.columns, windowed(&all));
}

fn edits() -> impl Strategy<Value = Vec<(i64, i64, i64, bool)>> {
    prop::collection::vec((0i64..900, 1i64..60, 0i64..300, prop::bool::weighted(0.3)), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn features_are_what_a_full_recomputation_makes(
        edits in edits(),
        all in any::<bool>(),
        hours in any::<bool>(),
        asked in (0i64..900, 1i64..900),
    ) {
        let store = Store::in_memory().unwrap();
        let (timeframe, step) = if hours { (Timeframe::HOUR, 600 * MINUTE) } else { (Timeframe::DAY, 1440 * MINUTE) };
        let lookback = if all { Lookback::All } else { Lookback::Bars(WINDOW - 1) };
        let compute = if all { endless } else { windowed };
        let series = store.bars("X", timeframe).unwrap();
        let features = store.features("X", &spec(timeframe, lookback)).unwrap();
        let time = |n: i64| Timestamp::from_nanos(at("2018-11-03").as_nanos() + n * step);
        let asked = Interval::new(time(asked.0), time(asked.0 + asked.1)).unwrap();
        for (first, len, cents, delete) in edits {
            if delete {
                series.remove(Interval::new(time(first), time(first + len)).unwrap()).unwrap();
            } else {
                series.write(&(first..first + len).map(|n| bar(time(n), 5000 + cents + n % 17)).collect()).unwrap();
            }
            for interval in [asked, all_time()] {
                let found = features.get_or_compute(interval, compute).unwrap();
                let bars = series.range(all_time()).unwrap();
                let whole = compute(&bars);
                let rows: Vec<usize> = (0..bars.len()).filter(|row| interval.contains(bars.timestamps()[*row])).collect();
                prop_assert_eq!(found.len(), rows.len());
                for (column, whole) in found.columns.iter().zip(&whole) {
                    let expected: Vec<u64> = rows.iter().map(|row| whole[*row].to_bits()).collect();
                    prop_assert_eq!(column.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
