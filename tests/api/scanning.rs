//! Going through the bars of many symbols, from one state, decoded ahead.

use modelkeep::{
    Symbol,
    market::{Bars, FactsFilter, ScanOptions, Timeframe},
};

use crate::{
    market::{all_time, at, bar, between, days, minutes},
    support::{Folder, both},
};

const DAY: Timeframe = Timeframe::DAY;

fn rows(symbols: i64) -> Vec<(Symbol, Bars)> {
    (0..symbols)
        .map(|n| {
            let last = bar(at("2018-03-01"), 1_000 * (n + 1));
            let bars = days("2018-01-01", "2018-03-01").iter().chain([last]).collect();
            (Symbol::new(&format!("S{n:03}")).unwrap(), bars)
        })
        .collect()
}

#[test]
fn a_scan_hands_out_what_each_series_has_in_order_on_any_number_of_threads() {
    both(|store, _| {
        let rows = rows(60);
        store.write_many(DAY, &rows).unwrap();
        store.bars("A-MINUTE", Timeframe::MINUTE).unwrap().write(&minutes("2018-01-01", 5)).unwrap();
        for threads in 0..5 {
            let scan = store.scan_bars(DAY, ScanOptions::default().threads(threads)).unwrap();
            assert_eq!(scan.map(Result::unwrap).collect::<Vec<_>>(), rows, "{threads} threads");
            let february = between("2018-02-01", "2018-03-01");
            let part = store.scan_bars(DAY, ScanOptions::default().threads(threads).interval(february)).unwrap();
            let expected = days("2018-02-01", "2018-03-01");
            assert!(part.map(Result::unwrap).all(|(_, bars)| bars == expected));
        }
        let wanted = [&rows[7].0, &rows[3].0].map(Clone::clone);
        let some = store.scan_bars(DAY, ScanOptions::default().symbols(wanted)).unwrap();
        assert_eq!(some.map(Result::unwrap).collect::<Vec<_>>(), [rows[3].clone(), rows[7].clone()]);
        assert!(store.scan_bars(Timeframe::HOUR, ScanOptions::default()).unwrap().next().is_none());
    });
}

#[test]
fn what_does_not_pass_or_is_skipped_is_not_decoded() {
    both(|store, _| {
        store.write_many(DAY, &rows(60)).unwrap();
        // Closes are 10.02, 20.02 and so on.
        let dear = ScanOptions::default().filter(FactsFilter::all().last_close(500.0..));
        let mut scan = store.scan_bars(DAY, dear.clone()).unwrap();
        assert_eq!(scan.by_ref().count(), 11);
        let progress = scan.progress();
        assert_eq!((progress.done, progress.total, progress.decoded, progress.bars), (11, 11, 11, 11 * 60));

        let mut scan = store.scan_bars(DAY, ScanOptions::default().threads(0)).unwrap();
        let tenth: Vec<_> = scan.by_ref().step_by(10).map(|found| found.unwrap().0.to_string()).collect();
        assert_eq!(tenth, ["S000", "S010", "S020", "S030", "S040", "S050"]);
        assert_eq!((scan.progress().decoded, scan.progress().done), (6, 60));
        // Ahead of the one that takes them threads decode a bounded number.
        let mut scan = store.scan_bars(DAY, ScanOptions::default().threads(1)).unwrap();
        assert_eq!(scan.nth(55).unwrap().unwrap().0.as_str(), "S055");
        assert!(scan.progress().decoded <= 8 + 5, "{:?}", scan.progress());
        drop(scan);
        // One that nobody goes on with ends.
        let scan = store.scan_bars(DAY, ScanOptions::default().threads(3)).unwrap();
        drop(scan);
    });
}

#[test]
fn a_scan_reads_one_state_whatever_is_written_meanwhile() {
    let folder = Folder::new();
    let store = folder.open();
    let before = rows(40);
    store.write_many(DAY, &before).unwrap();
    for threads in [0, 2] {
        let mut scan = store.scan_bars(DAY, ScanOptions::default().threads(threads)).unwrap();
        let first = scan.next().unwrap().unwrap();
        for (symbol, _) in &before {
            store.bars(symbol.as_str(), DAY).unwrap().remove(all_time()).unwrap();
        }
        let rest: Vec<_> = std::iter::once(first).chain(scan.map(Result::unwrap)).collect();
        assert_eq!(rest, before);
        store.write_many(DAY, &before).unwrap();
    }
}

#[test]
fn symbols_and_a_filter_both_count_in_any_order() {
    both(|store, _| {
        store.write_many(DAY, &rows(6)).unwrap();
        let wanted = || [1, 4].map(|n| Symbol::new(&format!("S{n:03}")).unwrap());
        let dear = || FactsFilter::all().last_close(30.0..);
        for options in [
            ScanOptions::default().symbols(wanted()).filter(dear()),
            ScanOptions::default().filter(dear()).symbols(wanted()),
        ] {
            let found = store.scan_bars(DAY, options).unwrap().map(|series| series.unwrap().0.to_string());
            assert_eq!(found.collect::<Vec<_>>(), ["S004"]);
        }
    });
}
