//! Tables to train on: what is in them, and what must not be.

use std::time::Duration;

use modelkeep::{
    ErrorKind, Store, Timestamp,
    market::{Bars, FeatureSpec, KnownAt, Lookback, MatrixPlan, Timeframe},
};

use crate::{
    market::{at, bar, between},
    support::{Folder, HOUR},
};

/// A return over one bar, and a mean over three.
fn spec() -> FeatureSpec {
    FeatureSpec::new("plain", 1, Timeframe::DAY, Lookback::Bars(2), &["return", "mean3"]).unwrap()
}

fn compute(bars: &Bars) -> Vec<Vec<f64>> {
    let close = bars.close();
    let change = |row: usize| if row == 0 { f64::NAN } else { close[row] / close[row - 1] - 1.0 };
    let mean = |row: usize| if row < 2 { f64::NAN } else { close[row - 2..=row].iter().sum::<f64>() / 3.0 };
    vec![(0..close.len()).map(change).collect(), (0..close.len()).map(mean).collect()]
}

fn weekdays(cents: i64, start: &str, end: &str) -> Bars {
    let days = between(start, end).days();
    let first = days.start();
    (0..)
        .map(|n| first.plus_days(n).unwrap())
        .take_while(|day| *day < days.end())
        .filter(|day| !day.is_weekend())
        .map(|day| bar(day.start(), cents + i64::from(day.epoch_days() * 37 % 500)))
        .collect()
}

/// Twelve symbols, each with a history of its own length, and the VIX.
fn filled(folder: &Folder) -> (Store, Vec<String>) {
    folder.clock.set(at("2019-03-01").after(HOUR * 12));
    let store = folder.open();
    let symbols: Vec<String> = (0..12).map(|n| format!("S{n:02}")).collect();
    for (n, symbol) in (0..).zip(&symbols) {
        let start = format!("2018-{:02}-01", n + 1);
        let rows = weekdays(10_000 + 1_000 * n, &start, "2019-03-01");
        let series = store.bars(symbol, Timeframe::DAY).unwrap();
        series.write_known_at(&rows, KnownAt::Ended { delay: HOUR }).unwrap();
    }
    let levels: Vec<_> =
        weekdays(1_500, "2018-01-01", "2019-03-01").iter().map(|bar| (bar.at.day(), bar.close)).collect();
    store.levels("VIX").unwrap().write_known_at(&levels, KnownAt::Ended { delay: HOUR }).unwrap();
    (store, symbols)
}

fn plan() -> MatrixPlan {
    let change = |bars: &Bars| bars.close()[3] / bars.close()[0] - 1.0;
    MatrixPlan::new(&spec()).levels("VIX", Duration::from_secs(15 * 60)).unwrap().target(3, change)
}

#[test]
fn a_table_has_what_each_symbol_has_alone() {
    let folder = Folder::new();
    let (store, symbols) = filled(&folder);
    let span = between("2018-06-01", "2019-03-01");
    let matrix = store.matrix(&symbols, span, &plan(), compute).unwrap();
    assert_eq!(matrix.names, ["return", "mean3", "VIX"]);
    let mut row = 0;
    for symbol in &symbols {
        let features = store.features(symbol, &spec()).unwrap().get_or_compute(span, compute).unwrap();
        assert_eq!(features.rows_computed, 0, "they are stored");
        let series = store.bars(symbol, Timeframe::DAY).unwrap();
        let bars = series.range(span).unwrap();
        let ends = series.available_at(&bars).unwrap();
        let vix = store.levels("VIX").unwrap().available_after(Duration::from_secs(15 * 60)).join(&ends).unwrap();
        // The last three of each have no target yet.
        for n in 0..bars.len() - 3 {
            assert_eq!(matrix.symbols[row].as_str(), symbol);
            assert_eq!((matrix.timestamps[row], matrix.available_at[row]), (bars.timestamps()[n], ends[n]));
            let expected = [features.columns[0][n], features.columns[1][n], vix[n].unwrap()];
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(matrix.row(row).unwrap()), bits(&expected), "{symbol} {n}");
            assert_eq!(matrix.targets[row], bars.close()[n + 3] / bars.close()[n] - 1.0);
            row += 1;
        }
    }
    assert_eq!((matrix.len(), matrix.row(row), matrix.without_target), (row, None, 36));
    assert_eq!(matrix.values.len(), row * 3);
    // A second time nothing is computed, and the table is the same.
    let again = store.matrix(&symbols, span, &plan(), compute).unwrap();
    assert_eq!(again.rows_computed, 0);
    assert_eq!(format!("{:?}", again.values), format!("{:?}", matrix.values));
}

#[test]
fn the_level_in_a_row_is_that_of_the_day_before_until_it_is_available() {
    let folder = Folder::new();
    let (store, symbols) = filled(&folder);
    let span = between("2018-12-03", "2018-12-08");
    let level = |delay: Duration| {
        let plan = MatrixPlan::new(&spec()).levels("VIX", delay).unwrap();
        let matrix = store.matrix(&symbols[..1], span, &plan, compute).unwrap();
        assert!(matrix.targets.is_empty());
        matrix.row(1).unwrap()[2]
    };
    let vix = store.levels("VIX").unwrap();
    let of = |day: &str| vix.at(day.parse().unwrap()).unwrap().unwrap();
    assert_eq!(level(Duration::ZERO), of("2018-12-04"));
    assert_eq!(level(Duration::from_secs(15 * 60)), of("2018-12-03"));
}

#[test]
fn a_table_as_of_a_time_is_the_one_that_could_be_made_then() {
    let folder = Folder::new();
    let (store, symbols) = filled(&folder);
    let span = between("2018-06-01", "2019-03-01");
    let now = folder.clock.clone();
    for then in ["2018-10-03T19:00:00Z", "2018-10-03T21:00:00Z", "2018-12-24T18:30:00Z"] {
        let then: Timestamp = then.parse().unwrap();
        let as_of = store.matrix(&symbols, span, &plan().as_of(then), compute).unwrap();
        // A store that has nothing later than that.
        let past = Store::options().clock(now.clone()).in_memory().unwrap();
        for symbol in &symbols {
            let series = store.bars(symbol, Timeframe::DAY).unwrap();
            let known = series.range_as_of(crate::market::all_time(), then).unwrap();
            past.bars(symbol, Timeframe::DAY).unwrap().write(&known).unwrap();
        }
        let vix = store.levels("VIX").unwrap();
        let all_days = modelkeep::Interval::parse("2018-01-01", "2019-03-01").unwrap();
        let levels: Vec<_> = vix.range_as_of(all_days, then).unwrap().iter().collect();
        past.levels("VIX").unwrap().write(&levels).unwrap();
        let expected = past.matrix(&symbols, span, &plan(), compute).unwrap();
        assert_eq!((as_of.len(), as_of.without_target), (expected.len(), expected.without_target), "{then}");
        assert!(as_of.available_at.iter().all(|at| *at < then));
        assert_eq!(format!("{:?}", as_of.values), format!("{:?}", expected.values), "{then}");
        assert_eq!((&as_of.targets, &as_of.symbols), (&expected.targets, &expected.symbols), "{then}");
    }
}

#[test]
fn what_is_wrong_with_one_symbol_is_said_by_its_name() {
    let folder = Folder::new();
    let (store, symbols) = filled(&folder);
    let span = between("2018-06-01", "2019-03-01");
    let err = store.matrix(&symbols, span, &plan(), |_| vec![vec![0.0]]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidInput);
    assert!(err.to_string().contains("S00") && err.to_string().contains("columns"), "{err}");
    assert!(store.matrix(["no\nname"], span, &plan(), compute).is_err());
    let matrix = store.matrix(["NONE", symbols[0].as_str()], span, &plan(), compute).unwrap();
    assert_eq!(matrix.symbols_without_rows, [modelkeep::Symbol::new("NONE").unwrap()]);
    assert!(!matrix.is_empty() && matrix.levels_without_rows.is_empty());
    let misspelt = plan().levels("^VIX", Duration::ZERO).unwrap();
    let matrix = store.matrix(&symbols[..1], span, &misspelt, compute).unwrap();
    assert_eq!(matrix.levels_without_rows, [modelkeep::Symbol::new("^VIX").unwrap()]);
    for (symbols, plan, name) in [
        (vec!["S00", "S01", "S00"], plan(), "S00"),
        (vec!["S00"], plan().levels("VIX", Duration::ZERO).unwrap(), "VIX"),
    ] {
        let err = store.matrix(&symbols, span, &plan, compute).unwrap_err();
        assert!(err.kind() == ErrorKind::InvalidInput && err.to_string().contains(name), "{err}");
    }
    assert!(MatrixPlan::new(&spec()).levels("", Duration::ZERO).is_err());
}

#[test]
fn a_read_only_store_makes_tables_too() {
    let folder = Folder::new();
    let (store, symbols) = filled(&folder);
    let span = between("2018-06-01", "2019-03-01");
    drop(store);
    let store = folder.open_read_only();
    let matrix = store.matrix(&symbols, span, &plan(), compute).unwrap();
    assert_eq!(store.matrix(&symbols, span, &plan(), compute).unwrap().rows_computed, matrix.rows_computed);
}
