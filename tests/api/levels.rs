//! Index levels, on the real VIX.

use std::path::Path;

use modelkeep::{
    Day, ErrorKind, Interval,
    market::{Calendar, Regime},
};

use crate::{
    dips::market,
    support::{Folder, both, error},
};

fn real_vix() -> Vec<(Day, f64)> {
    market::read_vix(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"))).unwrap()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

#[test]
fn five_years_of_real_levels_come_back() {
    let folder = Folder::new();
    let levels = real_vix();
    let done = folder.open().levels("VIX").unwrap().write(&levels).unwrap();
    assert_eq!((done.added, done.replaced, done.unchanged), (1259, 0, 0));
    let store = folder.open();
    let vix = store.levels("VIX").unwrap();
    let all = vix.range(Interval::parse("2014-01-01", "2020-01-01").unwrap()).unwrap();
    assert_eq!(all.iter().collect::<Vec<_>>(), levels);
    let year = vix.range(Interval::parse("2018-02-05", "2018-02-07").unwrap()).unwrap();
    assert_eq!(year.iter().collect::<Vec<_>>(), [(day("2018-02-05"), 37.32), (day("2018-02-06"), 29.98)]);
    assert!(vix.range(Interval::parse("2018-02-03", "2018-02-03").unwrap()).unwrap().is_empty());
    assert!(
        store.levels("VXN").unwrap().range(Interval::parse("2014-01-01", "2020-01-01").unwrap()).unwrap().is_empty()
    );
}

#[test]
fn the_gaps_are_the_holidays_of_the_exchange() {
    both(|store, _| {
        let vix = store.levels("VIX").unwrap();
        vix.write(&real_vix()).unwrap();
        let year = Interval::parse("2018-01-01", "2019-01-01").unwrap();
        assert!(vix.gaps(year).unwrap().is_empty());
        vix.set_calendar(Calendar::weekdays()).unwrap();
        let gaps = vix.gaps(year).unwrap();
        let text: Vec<String> = gaps.iter().map(|gap| gap.start().to_string()).collect();
        // New Year, M. L. King, Presidents, Good Friday, Memorial, Independence, Labor, Thanksgiving, the day of
        // mourning for G. H. W. Bush, Christmas.
        let holidays = [
            "2018-01-01",
            "2018-01-15",
            "2018-02-19",
            "2018-03-30",
            "2018-05-28",
            "2018-07-04",
            "2018-09-03",
            "2018-11-22",
            "2018-12-05",
            "2018-12-25",
        ];
        assert_eq!(text, holidays);
        // Judged by the sessions of the S&P 500 there is no gap.
        let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"));
        let spx = market::import_bars(&modelkeep::Store::in_memory().unwrap(), data, "SPX").unwrap();
        let all = Interval::parse("2014-01-03", "2019-01-01").unwrap();
        assert!(vix.gaps_among(all, spx.timestamps().iter().map(|at| at.day())).unwrap().is_empty());
    });
}

#[test]
fn an_upsert_counts_what_it_does_and_writes_all_or_nothing() {
    both(|store, _| {
        let vix = store.levels("VIX").unwrap();
        vix.write(&[(day("2017-12-29"), 11.04), (day("2018-01-02"), 9.77)]).unwrap();
        let rows = [(day("2018-01-03"), 9.15), (day("2018-01-02"), 9.77), (day("2017-12-29"), 11.05)];
        let done = vix.write(&rows).unwrap();
        assert_eq!((done.added, done.replaced, done.unchanged), (1, 1, 1));
        let all = Interval::parse("2017-01-01", "2019-01-01").unwrap();
        let before = (vix.range(all).unwrap(), vix.seen(all).unwrap());
        for bad in [[(day("2018-01-04"), 1.0), (day("2018-01-05"), f64::NAN)], [(day("2018-01-04"), 1.0); 2]] {
            let err = error(vix.write(&bad));
            assert_eq!(err.kind(), ErrorKind::InvalidInput);
            assert!(err.message().contains("row 1"), "{err}");
        }
        assert_eq!((vix.range(all).unwrap(), vix.seen(all).unwrap()), before);
    });
}

#[test]
fn what_a_training_saw_changes_with_the_levels() {
    both(|store, _| {
        let vix = store.levels("VIX").unwrap();
        let range = Interval::parse("2018-01-01", "2018-02-01").unwrap();
        vix.write(&[(day("2018-01-02"), 9.77)]).unwrap();
        let seen = vix.seen(range).unwrap();
        assert_eq!((seen.series.as_str(), seen.days, seen.range), ("VIX", 1, range));
        // A level outside the range does not count, a restated one does.
        vix.write(&[(day("2018-02-01"), 13.47)]).unwrap();
        assert_eq!(vix.seen(range).unwrap(), seen);
        vix.write(&[(day("2018-01-02"), 9.78)]).unwrap();
        assert_ne!(vix.seen(range).unwrap().hash, seen.hash);
    });
}

#[test]
fn levels_are_removed_by_range() {
    both(|store, _| {
        let vix = store.levels("VIX").unwrap();
        vix.write(&real_vix()).unwrap();
        store.levels("VXN").unwrap().write(&[(day("2016-06-01"), 1.0)]).unwrap();
        assert_eq!(vix.remove(Interval::parse("2015-12-30", "2018-01-03").unwrap()).unwrap().removed, 506);
        let all = vix.range(Interval::parse("2014-01-01", "2020-01-01").unwrap()).unwrap();
        assert_eq!(all.len(), 1259 - 506);
        assert_eq!((all.at(day("2017-06-01")), all.at(day("2018-01-03"))), (Some(16.08), Some(9.15)));
        assert_eq!(store.level_series().unwrap().len(), 2);
    });
}

#[test]
fn series_are_kept_apart() {
    both(|store, _| {
        for (series, level) in [("VIX", 1.0), ("VIX9D", 2.0), ("^VXN", 3.0)] {
            store.levels(series).unwrap().write(&[(day("2018-01-02"), level)]).unwrap();
        }
        let range = Interval::parse("2018-01-01", "2019-01-01").unwrap();
        assert_eq!(store.levels("VIX").unwrap().range(range).unwrap().levels, [1.0]);
        let all: Vec<(String, f64)> = store
            .level_series()
            .unwrap()
            .into_iter()
            .map(|(series, levels)| (series.to_string(), levels.unwrap().levels[0]))
            .collect();
        assert_eq!(all, [("VIX".into(), 1.0), ("VIX9D".into(), 2.0), ("^VXN".into(), 3.0)]);
        assert!(store.levels("no\tsymbol").is_err());
    });
}

#[test]
fn levels_percentiles_and_regimes_look_back_and_not_ahead() {
    let store = modelkeep::Store::in_memory().unwrap();
    let vix = store.levels("VIX").unwrap();
    vix.write(&real_vix()).unwrap();
    // The Sunday before Christmas 2018 knows Friday's level.
    assert_eq!(vix.at(day("2018-12-23")).unwrap(), Some(30.11));
    assert_eq!(vix.at(day("2018-12-24")).unwrap(), Some(36.07));
    assert_eq!(vix.at(day("2013-12-31")).unwrap(), None);
    assert_eq!(vix.at(day("2030-01-01")).unwrap(), None);
    // The highest level of the year but for February.
    assert_eq!(vix.percentile(day("2018-12-24"), 100).unwrap(), Some(1.0));
    assert_eq!(vix.percentile(day("2018-12-24"), 252).unwrap(), Some(251.0 / 252.0));
    assert_eq!(vix.percentile(day("2014-01-03"), 252).unwrap(), Some(1.0));
    let regime = |text: &str| vix.regime(day(text)).unwrap().unwrap();
    let found = ["2017-11-03", "2018-03-20", "2018-11-20", "2018-12-24"].map(regime);
    assert_eq!(found, [Regime::Calm, Regime::Normal, Regime::Elevated, Regime::Stressed]);
    assert!(found.is_sorted());
    let stored = modelkeep::Store::options().regimes([12.0, 13.0, 14.0]).unwrap().in_memory().unwrap();
    stored.levels("VIX").unwrap().write(&[(day("2018-01-02"), 12.5)]).unwrap();
    assert_eq!(stored.levels("VIX").unwrap().regime(day("2018-01-02")).unwrap(), Some(Regime::Normal));
    for bad in [[1.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1.0, f64::NAN, 2.0]] {
        assert_eq!(modelkeep::Store::options().regimes(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
