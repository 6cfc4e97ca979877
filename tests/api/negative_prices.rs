//! Prices below zero, where a series allows them: the May contract of crude oil closed at -37.63 on 2020-04-20.

use modelkeep::{
    Interval, Store, Symbol, Timestamp,
    market::{BadRows, Bar, Bars, FetchError, Flaws, Timeframe},
};

use crate::{
    market::{MINUTE, all_time, at, between},
    support::Folder,
};

/// The week of the May contract, from its settlements.
fn oil() -> Bars {
    let row =
        |day: &str, [open, high, low, close]: [f64; 4], volume| Bar { at: at(day), open, high, low, close, volume };
    [
        row("2020-04-16", [20.06, 20.52, 19.20, 19.87], 244_720.0),
        row("2020-04-17", [20.18, 20.53, 17.31, 18.27], 117_940.0),
        row("2020-04-20", [17.73, 17.85, -40.32, -37.63], 247_947.0),
        row("2020-04-21", [-14.00, 13.86, -16.74, 10.01], 10_660.0),
    ]
    .into_iter()
    .collect()
}

#[test]
fn a_series_that_allows_them_keeps_prices_below_zero_to_the_last_bit() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("CL=F", Timeframe::DAY).unwrap();
    for refused in [series.write(&oil()), series.write_covering(&oil(), between("2020-04-16", "2020-04-22"))] {
        let refused = refused.unwrap_err();
        assert!(refused.message().starts_with("row 2 at 2020-04-20") && refused.message().contains("negative"));
        assert!(refused.message().contains("BarSeries::allow_negative_prices"), "{refused}");
    }
    assert_eq!(series.latest().unwrap(), None);
    let written = series.allow_negative_prices().write(&oil()).unwrap();
    assert_eq!((written.added, written.flawed), (4, 0));
    drop(store);

    let store = folder.open();
    let series = store.bars("CL=F", Timeframe::DAY).unwrap();
    let kept = series.range(all_time()).unwrap();
    assert_eq!((&kept, kept.flawed()), (&oil(), 0));
    assert_eq!(series.range_as_of(all_time(), at("2030-01-01")).unwrap(), oil());
    assert!(store.verify().unwrap().is_whole());
    // A volume below zero is none, whatever is allowed.
    let wrong = Bars::from_iter([Bar { volume: -1.0, ..oil().get(2).unwrap() }]);
    assert!(series.allow_negative_prices().write(&wrong).unwrap_err().message().contains("volume -1"));
}

#[test]
fn loads_and_imports_honour_it() {
    let folder = Folder::new();
    folder.clock.set(at("2020-06-01"));
    let store = folder.open();
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        Ok::<_, FetchError>(oil().iter().filter(|bar| asked.contains(bar.at)).collect())
    };
    let week = between("2020-04-16", "2020-04-22");
    let loaded = store.load_or_fetch("CL=F", Timeframe::DAY, week, &vendor).unwrap();
    assert_eq!((loaded.data.len(), loaded.report.left_out.len()), (2, 2));
    assert!(loaded.report.left_out[0].reason.contains("allow_negative_prices"), "{:?}", loaded.report.left_out);
    let series = store.bars("CL=F", Timeframe::DAY).unwrap().allow_negative_prices();
    series.mark_missing(week).unwrap();
    let loaded = series.load_or_fetch(week, &vendor).unwrap();
    assert_eq!(loaded.report.left_out, []);
    assert_eq!(loaded.complete().unwrap(), oil());

    let file = folder.path().with_extension("csv");
    series.export_csv(&file, all_time(), |_| {}).unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains("2020-04-20,17.73,17.85,-40.32,-37.63,247947\n"));
    let copy = store.bars("CLK20", Timeframe::DAY).unwrap();
    let refused = copy.import_csv(&file, BadRows::Refuse, |_| {}).unwrap_err();
    assert!(refused.message().starts_with("line 4 at 2020-04-20"), "{refused}");
    let copy = copy.allow_negative_prices();
    assert_eq!(copy.import_csv(&file, BadRows::Refuse, |_| {}).unwrap().rows.added, 4);
    assert_eq!(copy.range(all_time()).unwrap(), oil());
}

#[test]
fn aggregates_of_allowed_prices_are_not_flawed_and_those_of_kept_ones_are() {
    let folder = Folder::new();
    folder.clock.set(at("2020-06-01"));
    let store = folder.open();
    let open = at("2020-04-20T14:00:00Z").as_nanos();
    let minutes: Bars = (0..120)
        .map(|n| {
            let close = 20.0 - n as f64 / 2.0;
            let at = Timestamp::from_nanos(open + n * MINUTE);
            Bar { at, open: close + 0.25, high: close + 0.5, low: close - 0.5, close, volume: 10.0 }
        })
        .collect();
    for (symbol, allowed) in [("CLK20", true), ("CLM20", false)] {
        let series = store.bars(symbol, Timeframe::MINUTE).unwrap();
        let series = if allowed { series.allow_negative_prices() } else { series };
        series.write_with(&minutes, BadRows::Keep).unwrap();
        let hours = series.resample(Timeframe::HOUR).unwrap().accept_outside().range(all_time()).unwrap();
        let last = hours.last().unwrap();
        assert!(last.close < -39.0 && last.low < last.close);
        let expected = if allowed { Flaws::NONE } else { Flaws::NEGATIVE };
        assert_eq!(hours.flaws(hours.len() - 1), expected, "{symbol}");
        assert_eq!(hours.flaws(0), Flaws::NONE);
    }
}

#[test]
fn a_price_of_zero_needs_no_leave() {
    let store = Store::in_memory().unwrap();
    let zero = Bar { at: at("2020-04-20"), open: 0.0, high: 0.5, low: 0.0, close: 0.0, volume: 0.0 };
    let series = store.bars("X", Timeframe::DAY).unwrap();
    assert_eq!(series.write(&Bars::from_iter([zero])).unwrap().flawed, 0);
    assert_eq!(series.latest().unwrap(), Some(zero));
}
