//! On which threads fetchers run, and what they may not wait for there.

use std::{collections::HashSet, sync::Mutex, thread};

use modelkeep::{
    Interval, Symbol, Timestamp,
    market::{Bars, FetchError, Timeframe},
};

use crate::{
    fetching::{policy, store},
    market::between,
    support::{HOUR, clock},
};

type Vendor<'a> = dyn Fn(&Symbol, Timeframe, Interval<Timestamp>) -> Result<Bars, FetchError> + Sync + 'a;

#[allow(clippy::unnecessary_wraps, reason = "it is a fetcher")]
fn nothing(_: &Symbol, _: Timeframe, _: Interval<Timestamp>) -> Result<Bars, FetchError> {
    Ok(Bars::default())
}

#[test]
fn a_fetcher_never_runs_on_the_thread_of_the_caller() {
    let clock = clock();
    let store = store(&clock);
    let threads = Mutex::new(Vec::new());
    let vendor = |symbol: &Symbol, timeframe: Timeframe, asked: Interval<Timestamp>| {
        threads.lock().unwrap().push(thread::current().id());
        nothing(symbol, timeframe, asked)
    };
    let one = store.bars("SPY", Timeframe::DAY).unwrap();
    one.load_or_fetch(between("2018-01-01", "2018-02-01"), &vendor).unwrap();
    assert_eq!(threads.lock().unwrap().len(), 1);
    let policy = policy().max_request_span(HOUR * 24 * 30).concurrency(3);
    let several = store.bars("QQQ", Timeframe::DAY).unwrap().policy(policy);
    several.load_or_fetch(between("2018-01-01", "2018-12-01"), &vendor).unwrap();
    let days = Interval::parse("2018-01-01", "2018-02-01").unwrap();
    let levels = |_: &Symbol, _: Interval<modelkeep::Day>| {
        threads.lock().unwrap().push(thread::current().id());
        Ok::<_, FetchError>(Vec::new())
    };
    store.levels("VIX").unwrap().load_or_fetch(days, &levels).unwrap();
    let threads = threads.into_inner().unwrap();
    assert!(threads.len() > 10 && !threads.contains(&thread::current().id()));
    assert!(threads.iter().collect::<HashSet<_>>().len() <= 1 + 3 + 1);
}

#[test]
fn loads_within_loads_that_come_back_to_the_first_are_refused() {
    let clock = clock();
    let store = store(&clock);
    let january = between("2018-01-01", "2018-02-01");
    let inner = store.clone();
    let load = |symbol: &str, vendor: &Vendor<'_>| {
        inner
            .load_or_fetch(symbol, Timeframe::DAY, january, &|s: &Symbol, t: Timeframe, i: Interval<Timestamp>| {
                vendor(s, t, i)
            })
            .and_then(modelkeep::market::Loaded::complete)
            .map_err(FetchError::permanent)
    };
    // A asks for B, which asks for C, which asks for A.
    let third = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| load("A", &nothing);
    let second = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| load("C", &third);
    let first = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| load("B", &second);
    let refused = store.load_or_fetch("A", Timeframe::DAY, january, &first).unwrap().complete().unwrap_err();
    assert!(refused.message().contains("gap at"), "{refused}");
    let deepest = store.load_or_fetch("C", Timeframe::DAY, january, &nothing).unwrap().complete().unwrap_err();
    assert!(deepest.message().contains("wait for itself"), "{deepest}");
    // Nothing is held any more.
    assert!(store.load_or_fetch("A", Timeframe::DAY, january, &nothing).is_ok());
}
