//! Loading many symbols: one call for those that lack the same, one commit for a call, and the ledger of each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Barrier, Mutex},
    time::Duration,
};

use modelkeep::{
    ErrorKind, Interval, Store, Symbol, Timestamp,
    clock::ManualClock,
    market::{
        Answer, BadRows, Bar, BarFetcher, Bars, Calendar, Coverage, FetchError, FetchPolicy, ManyBarFetcher, OneByOne,
        Timeframe,
    },
};

use crate::{
    market::{all_time, at, bar, between},
    support::{HOUR, clock, error},
};

const DAY: Timeframe = Timeframe::DAY;

/// A vendor of the whole market, who notes what was asked for and can be told what not to answer.
#[derive(Default)]
struct Vendor {
    calls: Mutex<Vec<(Vec<String>, Interval<Timestamp>)>>,
    fail: Mutex<Option<&'static str>>,
    /// Symbols that no answer names.
    lacks: Vec<&'static str>,
    /// Rows of one answer, of each symbol.
    page: Option<usize>,
    /// Symbols that are answered though nobody asked.
    extra: Vec<&'static str>,
}

fn session_bars(symbol: &Symbol, asked: Interval<Timestamp>) -> Bars {
    let seed = i64::from(symbol.as_str().bytes().map(u32::from).sum::<u32>());
    let sessions = Calendar::nyse().sessions(asked.days()).map(|session| session.day);
    sessions.map(|day| bar(day.start(), 10_000 + seed + i64::from(day.epoch_days() % 100))).collect()
}

impl Vendor {
    fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        let text = |(symbols, asked): &(Vec<String>, Interval<Timestamp>)| {
            format!("{} {} {}", symbols.join(","), asked.start().day(), asked.end().day())
        };
        let mut calls: Vec<_> = calls.iter().map(text).collect();
        calls.sort();
        calls
    }
}

impl ManyBarFetcher for Vendor {
    fn fetch(
        &self,
        symbols: &[Symbol],
        _: Timeframe,
        asked: Interval<Timestamp>,
    ) -> Result<Vec<(Symbol, Answer<Bars>)>, FetchError> {
        self.calls.lock().unwrap().push((symbols.iter().map(ToString::to_string).collect(), asked));
        if let Some(message) = *self.fail.lock().unwrap() {
            return Err(FetchError::permanent(message));
        }
        let extra: Vec<_> = self.extra.iter().map(|name| Symbol::new(name).unwrap()).collect();
        let named = symbols.iter().chain(&extra).filter(|symbol| !self.lacks.contains(&symbol.as_str()));
        let answers = named.map(|symbol| {
            let bars = session_bars(symbol, asked);
            let answer = match self.page.filter(|page| *page < bars.len()) {
                Some(page) => Answer::new(bars.slice(0..page)).more_from(bars.timestamps()[page]),
                None => Answer::new(bars),
            };
            (symbol.clone(), answer)
        });
        Ok(answers.collect())
    }
}

/// A vendor of single symbols, who counts calls and does not know one.
struct Single(Mutex<u32>);
impl BarFetcher for Single {
    fn fetch(&self, symbol: &Symbol, _: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        *self.0.lock().unwrap() += 1;
        if symbol.as_str() == "S3" {
            Err(FetchError::permanent("unknown"))
        } else {
            Ok(session_bars(symbol, asked).into())
        }
    }
}

fn symbols(names: &[&str]) -> Vec<Symbol> {
    names.iter().map(|name| Symbol::new(name).unwrap()).collect()
}

fn policy() -> FetchPolicy {
    FetchPolicy::default().backoff(Duration::from_micros(10), Duration::from_micros(50)).concurrency(2)
}

fn store_with(clock: &Arc<ManualClock>, policy: FetchPolicy) -> Store {
    clock.set(at("2019-06-01"));
    Store::options().clock(Arc::clone(clock)).fetch(policy).in_memory().unwrap()
}

#[test]
fn symbols_that_lack_the_same_are_asked_for_together_and_nothing_twice() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store_with(&clock, policy());
    let year = between("2018-01-01", "2019-01-01");
    let all = symbols(&["SPY", "AAPL", "MSFT"]);
    store.load_or_fetch_many(&all[..1], DAY, between("2018-01-01", "2018-07-01"), &vendor).unwrap();
    assert_eq!(vendor.calls(), ["SPY 2018-01-01 2018-07-01"]);
    let loaded = store.load_or_fetch_many(&all, DAY, year, &vendor).unwrap();
    assert_eq!(vendor.calls(), ["AAPL,MSFT 2018-01-01 2019-01-01", "SPY 2018-07-01 2019-01-01"]);
    assert_eq!((loaded.report.calls, loaded.report.commits), (2, 2));
    assert_eq!((loaded.report.from_disk, loaded.report.fetched), (125, 628));
    assert!(loaded.is_complete());
    // In the order in which they were asked for, each as a load of it alone would be.
    for ((symbol, one), wanted) in loaded.symbols.iter().zip(&all) {
        let one = one.as_ref().unwrap();
        assert_eq!((symbol, &one.data), (wanted, &session_bars(symbol, year)));
        assert_eq!((one.report.calls, one.report.calls_saved), (1, 0), "{symbol}");
        let alone = store_with(&clock, policy());
        let by_one = |symbol: &Symbol, _: Timeframe, asked: Interval<Timestamp>| Ok(session_bars(symbol, asked));
        alone.load_or_fetch(symbol.as_str(), DAY, year, &by_one).unwrap();
        let coverage = |store: &Store| store.bars(symbol.as_str(), DAY).unwrap().coverage(year).unwrap();
        assert_eq!(coverage(&store), coverage(&alone));
    }
    let warm = store.load_or_fetch_many(&all, DAY, year, &vendor).unwrap();
    assert_eq!((warm.report.calls, warm.report.commits, warm.report.from_disk), (0, 0, 753));
    assert_eq!(warm.complete().unwrap().len(), 3);
    assert!(vendor.calls().is_empty());
    // One symbol of which nothing comes is named, and the others are at hand.
    let some = |asked: &[Symbol], _: Timeframe, interval: Interval<Timestamp>| {
        let rows = asked.iter().filter(|symbol| symbol.as_str() != "GONE");
        Ok::<_, FetchError>(rows.map(|symbol| (symbol.clone(), session_bars(symbol, interval))).collect::<Vec<_>>())
    };
    let two = symbols(&["GONE", "SPY"]);
    let loaded = store.load_or_fetch_many(&two, DAY, year, &some).unwrap();
    let incomplete = loaded.incomplete();
    assert!(incomplete.len() == 1 && incomplete[0].0.as_str() == "GONE", "{incomplete:?}");
    let loaded = loaded.accept_assumed_empty();
    assert_eq!(loaded.incomplete(), [], "the sessions of a year ago are assumed to be empty at once");
    assert_eq!(loaded.complete().unwrap()[1].1.len(), 251);
    let err = error(store.load_or_fetch_many(&symbols(&["SPY", "A", "SPY"]), DAY, year, &vendor));
    assert!(err.to_string().contains("SPY 1d: the symbol is there twice"), "{err}");
    let err = error(store.load_or_fetch_many(&all, "7d".parse().unwrap(), year, &vendor));
    assert_eq!(err.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_call_asks_for_as_many_symbols_as_the_policy_and_the_fetcher_allow() {
    let (clock, vendor) = (clock(), Vendor::default());
    let names: Vec<String> = (0..10).map(|n| format!("S{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| Symbol::new(name).unwrap()).collect();
    let month = between("2018-03-01", "2018-04-01");
    let store = store_with(&clock, policy().symbols_per_call(4));
    let loaded = store.load_or_fetch_many(&all, DAY, month, &vendor).unwrap();
    assert_eq!((vendor.calls().len(), loaded.report.commits, loaded.is_complete()), (3, 3, true));

    let store = store_with(&clock, policy());
    let single = OneByOne(Single(Mutex::new(0)));
    let loaded = store.load_or_fetch_many(&all, DAY, month, &single).unwrap();
    assert_eq!(*single.0.0.lock().unwrap(), 10);
    let missing: Vec<_> = loaded
        .symbols
        .iter()
        .filter(|(_, one)| !one.as_ref().unwrap().is_complete())
        .map(|(symbol, _)| symbol.as_str())
        .collect();
    assert_eq!(missing, ["S3"]);
}

#[test]
fn a_symbol_that_is_not_named_is_due_and_never_known_to_be_empty() {
    let (clock, mut vendor) = (clock(), Vendor { lacks: vec!["GONE"], extra: vec!["NOBODY"], ..Vendor::default() });
    let store = store_with(&clock, policy());
    let all = symbols(&["SPY", "GONE"]);
    let (week, gone) = (between("2019-05-27", "2019-06-01"), store.bars("GONE", DAY).unwrap());
    let loaded = store.load_or_fetch_many(&all, DAY, week, &vendor).unwrap();
    assert_eq!(loaded.report.unasked, 1);
    assert!(store.bars("NOBODY", DAY).unwrap().latest().unwrap().is_none());
    let report = &loaded.symbols[1].1.as_ref().unwrap().report;
    assert!(!report.gaps.is_empty() && report.gaps.iter().all(|gap| matches!(gap.coverage, Coverage::Due { .. })));
    assert!(error(loaded.complete()).to_string().contains("GONE 1d"));
    // Asked for again when its time comes, and alone.
    vendor.calls();
    store.load_or_fetch_many(&all, DAY, week, &vendor).unwrap();
    assert_eq!(vendor.calls(), [""; 0]);
    clock.advance(HOUR * 24);
    store.load_or_fetch_many(&all, DAY, week, &vendor).unwrap();
    assert!(vendor.calls().iter().all(|call| call.starts_with("GONE ")));
    let months_later = |clock: &ManualClock| clock.advance(HOUR * 24 * 40);
    for _ in 0..4 {
        months_later(&clock);
        store.load_or_fetch_many(&all, DAY, week, &vendor).unwrap();
        let known = gone.coverage(between("2019-05-28", "2019-06-01")).unwrap();
        assert!(known.iter().all(|span| matches!(span.coverage, Coverage::AssumedEmpty { .. })), "{known:?}");
    }
    months_later(&clock);
    vendor.lacks.clear();
    assert!(store.load_or_fetch_many(&all, DAY, week, &vendor).unwrap().is_complete());
}

#[test]
fn a_call_that_failed_is_a_failure_of_each_of_its_symbols() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store_with(&clock, policy());
    let all = symbols(&["SPY", "AAPL"]);
    let month = between("2018-03-01", "2018-04-01");
    *vendor.fail.lock().unwrap() = Some("no route");
    let failed = store.load_or_fetch_many(&all, DAY, month, &vendor).unwrap();
    assert_eq!((failed.report.calls, failed.report.commits, failed.report.fetched), (1, 1, 0));
    for (symbol, one) in &failed.symbols {
        let Coverage::Failed { reason, attempts: 1, .. } = &one.as_ref().unwrap().report.gaps[0].coverage else {
            panic!("{symbol}: {one:?}")
        };
        assert_eq!(reason, "no route");
    }
    *vendor.fail.lock().unwrap() = None;
    vendor.calls();
    assert!(!store.load_or_fetch_many(&all, DAY, month, &vendor).unwrap().is_complete());
    assert!(vendor.calls().is_empty(), "not before its time");
    clock.advance(HOUR);
    assert!(store.load_or_fetch_many(&all, DAY, month, &vendor).unwrap().is_complete());
}

#[test]
fn pages_are_followed_and_bad_rows_are_those_of_their_symbol() {
    let (clock, vendor) = (clock(), Vendor { page: Some(30), ..Vendor::default() });
    let store = store_with(&clock, policy());
    let all = symbols(&["SPY", "AAPL", "MSFT"]);
    let quarter = between("2018-01-01", "2018-04-01");
    let loaded = store.load_or_fetch_many(&all, DAY, quarter, &vendor).unwrap();
    assert!(loaded.is_complete());
    assert_eq!((loaded.report.fetched, loaded.report.calls), (183, 3));
    for (symbol, bars) in loaded.complete().unwrap() {
        assert_eq!(bars, session_bars(&symbol, quarter));
    }
    for (bad_rows, expected) in [(BadRows::LeaveOut, 20), (BadRows::Refuse, 0)] {
        let store = store_with(&clock, policy().bad_rows(bad_rows));
        let vendor = |symbols: &[Symbol], _: Timeframe, asked: Interval<Timestamp>| {
            let of = |symbol: &Symbol| {
                let bars = session_bars(symbol, asked);
                let is_bad = |n: usize| symbol.as_str() == "AAPL" && n == 3;
                let bars =
                    bars.iter().enumerate().map(|(n, bar)| if is_bad(n) { Bar { high: 0.0, ..bar } } else { bar });
                (symbol.clone(), bars.collect())
            };
            Ok(symbols.iter().map(of).collect())
        };
        let loaded = store.load_or_fetch_many(&all, DAY, between("2018-03-01", "2018-04-01"), &vendor).unwrap();
        let rows: BTreeMap<_, _> =
            loaded.symbols.iter().map(|(symbol, one)| (symbol.as_str(), one.as_ref().unwrap().data.len())).collect();
        assert_eq!(rows, BTreeMap::from([("SPY", 21), ("AAPL", expected), ("MSFT", 21)]));
    }
}

/// Loads of one and of many, in any order, fetch each series once and never wait for each other for ever.
#[test]
fn concurrent_loads_of_the_same_series_fetch_once() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store_with(&clock, policy());
    let month = between("2018-03-01", "2018-04-01");
    let names = ["A", "B", "C", "D", "E"];
    let begin = Barrier::new(6);
    let singles = Mutex::new(0);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (store, vendor, begin) = (&store, &vendor, &begin);
            scope.spawn(move || {
                let mut order = symbols(&names);
                order.rotate_left(n);
                if n % 2 == 0 {
                    order.reverse();
                }
                begin.wait();
                assert!(store.load_or_fetch_many(&order, DAY, month, vendor).unwrap().is_complete());
            });
        }
        for name in ["E", "A"] {
            let (store, begin, singles) = (&store, &begin, &singles);
            scope.spawn(move || {
                let one = |symbol: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
                    *singles.lock().unwrap() += 1;
                    Ok(session_bars(symbol, asked))
                };
                begin.wait();
                assert!(store.load_or_fetch(name, DAY, month, &one).unwrap().is_complete());
            });
        }
    });
    let asked = vendor.calls.lock().unwrap().iter().map(|(symbols, _)| symbols.len()).sum::<usize>();
    assert_eq!(asked + singles.into_inner().unwrap(), names.len());
    for name in names {
        assert_eq!(store.bars(name, DAY).unwrap().range(all_time()).unwrap().len(), 21);
    }
}

/// A fetcher that asks the store for what it is asked for would wait for itself.
#[test]
fn a_fetcher_that_asks_for_its_own_series_is_refused() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store_with(&clock, policy());
    let month = between("2018-03-01", "2018-04-01");
    let again = |symbols: &[Symbol], timeframe: Timeframe, asked: Interval<Timestamp>| {
        let loaded = store.load_or_fetch_many(symbols, timeframe, asked, &vendor);
        Err::<Vec<(Symbol, Bars)>, _>(FetchError::permanent(loaded.unwrap_err()))
    };
    let loaded = store.load_or_fetch_many(&symbols(&["SPY", "AAPL"]), DAY, month, &again).unwrap();
    let err = error(loaded.complete());
    assert!(err.message().contains("would wait for itself"), "{err}");
}
