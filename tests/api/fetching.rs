//! Loading: from disk what is there, from a fetcher what is missing, and nothing twice.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use modelkeep::{
    Day, ErrorKind, Interval, Store, Symbol, Timestamp,
    clock::ManualClock,
    market::{Answer, Bar, BarFetcher, Bars, Calendar, Coverage, FetchError, FetchPolicy, Loaded, Timeframe},
};

use crate::{
    market::{all_time, at, bar, between},
    support::{Folder, HOUR, clock},
};

/// A vendor with daily bars of every session, who counts calls and can be told to fail.
#[derive(Default)]
struct Vendor {
    calls: Mutex<Vec<Interval<Timestamp>>>,
    /// What to answer in place of bars.
    fail: Mutex<Option<&'static str>>,
    /// Sessions that the vendor does not have.
    lacks: Vec<&'static str>,
}

impl Vendor {
    fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        let mut calls: Vec<_> =
            calls.iter().map(|call| format!("{} {}", call.start().day(), call.end().day())).collect();
        calls.sort();
        calls
    }

    fn fail(&self, how: Option<&'static str>) {
        *self.fail.lock().unwrap() = how;
    }
}

fn session_bars(asked: Interval<Timestamp>, lacks: &[&str]) -> Bars {
    let sessions = Calendar::nyse().sessions(asked.days()).map(|session| session.day);
    let there = sessions.filter(|day| !lacks.contains(&day.to_string().as_str()));
    there.map(|day| bar(day.start(), 10_000 + i64::from(day.epoch_days() % 100))).collect()
}

impl BarFetcher for Vendor {
    fn fetch(&self, _: &Symbol, _: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        self.calls.lock().unwrap().push(asked);
        match *self.fail.lock().unwrap() {
            Some("busy") => Err(FetchError::transient("429 too many requests")),
            Some(other) => Err(FetchError::permanent(other)),
            None => Ok(session_bars(asked, &self.lacks).into()),
        }
    }
}

pub fn policy() -> FetchPolicy {
    FetchPolicy::default().backoff(Duration::from_micros(10), Duration::from_micros(50)).concurrency(2)
}

pub fn store(clock: &Arc<ManualClock>) -> Store {
    clock.set(at("2019-06-01"));
    Store::options().clock(Arc::clone(clock)).fetch(policy()).in_memory().unwrap()
}

fn load(store: &Store, vendor: &impl BarFetcher, start: &str, end: &str) -> Loaded<Bars> {
    store.load_or_fetch("SPY", Timeframe::DAY, between(start, end), vendor).unwrap()
}

#[test]
fn only_what_is_missing_is_fetched() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let cold = load(&store, &vendor, "2018-03-01", "2018-06-01");
    assert_eq!(vendor.calls(), ["2018-03-01 2018-06-01"]);
    assert_eq!((cold.report.from_disk, cold.report.fetched, cold.report.calls), (0, 64, 1));
    assert!(cold.is_complete());
    let warm = load(&store, &vendor, "2018-03-01", "2018-06-01");
    assert_eq!(vendor.calls(), [""; 0]);
    assert_eq!((warm.report.from_disk, warm.report.fetched, warm.report.calls, warm.report.calls_saved), (64, 0, 0, 1));
    assert_eq!(warm.data, cold.data);
    let wider = load(&store, &vendor, "2018-01-01", "2018-07-01");
    assert_eq!(vendor.calls(), ["2018-01-01 2018-03-01", "2018-06-01 2018-07-01"]);
    assert_eq!(wider.data, session_bars(between("2018-01-01", "2018-07-01"), &[]));
    // A weekend more is nothing that anybody expects.
    load(&store, &vendor, "2018-01-01", "2018-07-02");
    assert_eq!(vendor.calls(), [""; 0]);
    // What was deleted is missing again, and so is what is to be forgotten.
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.remove(between("2018-02-05", "2018-02-10")).unwrap();
    series.mark_missing(between("2018-04-02", "2018-04-03")).unwrap();
    assert_eq!(load(&store, &vendor, "2018-01-01", "2018-07-01").data, wider.data);
    assert_eq!(vendor.calls(), ["2018-02-05 2018-02-10", "2018-04-02 2018-04-03"]);
}

#[test]
fn long_intervals_are_split_and_neighbours_joined_where_that_saves_calls() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let by_month = policy().max_request_span(HOUR * 24 * 31);
    let series = store.bars("SPY", Timeframe::DAY).unwrap().policy(by_month);
    let year = between("2018-01-01", "2019-01-01");
    let cold = series.load_or_fetch(year, &vendor).unwrap();
    assert_eq!((vendor.calls().len(), cold.report.calls), (12, 12));
    for day in ["2018-05-03", "2018-05-24", "2018-08-20"] {
        series.mark_missing(between(day, &at(day).day().next().to_string())).unwrap();
    }
    let again = series.load_or_fetch(year, &vendor).unwrap();
    assert_eq!(vendor.calls(), ["2018-05-03 2018-05-25", "2018-08-20 2018-08-21"]);
    assert_eq!((again.report.calls, again.report.calls_saved), (2, 10));
    assert_eq!(again.data, cold.data);
}

#[test]
fn a_failure_is_remembered_and_nobody_asks_before_its_time() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    vendor.fail(Some("unknown symbol"));
    let failed = load(&store, &vendor, "2018-01-01", "2018-02-01");
    assert!(!failed.is_complete());
    let err = failed.complete().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFound);
    assert!(err.message().contains("unknown symbol"), "{err}");
    assert_eq!(vendor.calls().len(), 1);
    vendor.fail(None);
    for _ in 0..5 {
        assert_eq!(load(&store, &vendor, "2018-01-01", "2018-02-01").report.gaps.len(), 1);
    }
    assert_eq!(vendor.calls().len(), 0);
    clock.advance(Duration::from_secs(15 * 60));
    assert!(load(&store, &vendor, "2018-01-01", "2018-02-01").is_complete());
    assert_eq!(vendor.calls().len(), 1);
}

#[test]
fn transient_errors_are_tried_again_at_once() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    vendor.fail(Some("busy"));
    let failed = load(&store, &vendor, "2018-01-01", "2018-02-01");
    assert_eq!((failed.report.calls, vendor.calls().len()), (5, 5));
    // The second failure is left alone for twice as long.
    clock.advance(Duration::from_secs(15 * 60));
    load(&store, &vendor, "2018-01-01", "2018-02-01");
    let stretch = store.bars("SPY", Timeframe::DAY).unwrap().coverage(between("2018-01-01", "2018-02-01")).unwrap();
    let Coverage::Failed { retry_at, attempts, reason } = &stretch[0].coverage else { panic!("{stretch:?}") };
    assert_eq!((*attempts, retry_at.since(modelkeep::clock::Clock::now(&*clock))), (2, Duration::from_secs(30 * 60)));
    assert!(reason.contains("429"), "{reason}");
}

#[test]
fn what_the_calendar_expects_and_never_came_is_assumed_to_be_empty_and_asked_for_ever_more_rarely() {
    let (clock, vendor) = (clock(), Vendor { lacks: vec!["2018-01-10", "2018-01-11"], ..Vendor::default() });
    let store = store(&clock);
    let mut asked = Vec::new();
    for day in 0..100 {
        let loaded = load(&store, &vendor, "2018-01-01", "2018-02-01");
        assert_eq!((loaded.data.len(), loaded.report.gaps.len(), loaded.report.assumed_empty.len()), (19, 0, 1));
        assert!(!loaded.is_complete());
        asked.extend(vendor.calls().into_iter().map(|_| day));
        if day == 99 {
            let refused = loaded.clone().complete().unwrap_err();
            assert!(refused.message().contains("assumed to be empty"), "{refused}");
            assert_eq!(loaded.accept_assumed_empty().complete().unwrap().len(), 19);
        }
        clock.advance(HOUR * 24);
    }
    // At once, after a day, a week, a month, and then each month.
    assert_eq!(asked, [0, 1, 8, 38, 68, 98]);
}

#[test]
fn rows_outside_twice_or_out_of_order_are_put_right_and_counted() {
    let clock = clock();
    let store = store(&clock);
    let january = between("2018-01-01", "2018-02-01");
    let sloppy = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| {
        let mut rows: Vec<Bar> = session_bars(between("2017-12-01", "2018-03-01"), &[]).iter().collect();
        rows.reverse();
        let mut again = bar(at("2018-01-03"), 77_700);
        again.volume = 1.0;
        rows.push(again);
        Ok::<_, FetchError>(rows.into_iter().collect::<Bars>())
    };
    let loaded = store.load_or_fetch("SPY", Timeframe::DAY, january, &sloppy).unwrap();
    assert_eq!((loaded.data.len(), loaded.report.duplicates, loaded.report.outside), (21, 1, 39));
    assert_eq!(loaded.data.volume()[1], 1.0);
    assert!(loaded.data.timestamps().is_sorted());
    assert_eq!(store.bars("SPY", Timeframe::DAY).unwrap().range(all_time()).unwrap().len(), 21);
}

#[test]
fn a_fetched_row_that_cannot_be_right_is_left_out_refused_or_kept() {
    use modelkeep::market::BadRows;
    let clock = clock();
    let store = store(&clock);
    let january = between("2018-01-01", "2018-02-01");
    let broken = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        let mut rows: Vec<Bar> = session_bars(asked, &[]).iter().collect();
        rows[3].high = 0.5;
        Ok::<_, FetchError>(rows.into_iter().collect::<Bars>())
    };
    let others = store.load_or_fetch("SPY", Timeframe::DAY, january, &broken).unwrap();
    assert_eq!((others.data.len(), others.report.left_out.len(), others.report.gaps.len()), (20, 1, 1));
    assert_eq!(others.report.left_out[0].at, at("2018-01-05"));
    assert!(others.report.left_out[0].reason.contains("high 0.5"), "{:?}", others.report.left_out);
    assert!(others.complete().unwrap_err().message().contains("high 0.5"));
    let by = |symbol: &str, bad_rows| store.bars(symbol, Timeframe::DAY).unwrap().policy(policy().bad_rows(bad_rows));
    let refused = by("IWM", BadRows::Refuse).load_or_fetch(january, &broken).unwrap();
    assert!(refused.data.is_empty());
    let err = refused.complete().unwrap_err();
    assert!(err.message().contains("row 3 at 2018-01-05"), "{err}");
    let kept = by("QQQ", BadRows::Keep).load_or_fetch(january, &broken).unwrap();
    assert_eq!(kept.complete().unwrap().flawed(), 1);
}

#[test]
fn callers_that_want_the_same_at_once_fetch_once() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let (start, answered) = (Barrier::new(8), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let loaded = load(&store, &vendor, "2018-01-01", "2019-01-01");
                assert_eq!(loaded.data.len(), 251);
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!((vendor.calls().len(), answered.into_inner()), (1, 8));
}

#[test]
fn an_interrupted_load_goes_on_where_it_stopped() {
    let folder = Folder::new();
    folder.clock.set(at("2019-06-01"));
    let by_month = policy().max_request_span(HOUR * 24 * 31).concurrency(1);
    let open = || folder.options().fetch(by_month.clone()).open(folder.path()).unwrap();
    let calls = AtomicU32::new(0);
    let flaky = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        assert!(calls.fetch_add(1, Ordering::SeqCst) < 5, "the process dies here");
        Ok::<_, FetchError>(session_bars(asked, &[]))
    };
    let store = open();
    let died =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| load(&store, &flaky, "2018-01-01", "2019-01-01")));
    assert!(died.is_err());
    drop(store);
    let (store, vendor) = (open(), Vendor::default());
    let loaded = load(&store, &vendor, "2018-01-01", "2019-01-01");
    assert_eq!((vendor.calls().len(), loaded.data.len(), loaded.report.calls_saved), (7, 251, 5));
}

#[test]
fn what_is_not_over_is_not_asked_for_and_the_next_day_is() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    // Christmas Eve, 16:00 UTC: the session goes on until 18:00.
    clock.set(at("2018-12-24T16:00:00Z"));
    let loaded = load(&store, &vendor, "2018-12-01", "2019-01-01");
    assert_eq!((loaded.data.len(), vendor.calls()), (14, vec!["2018-12-01 2018-12-24".to_owned()]));
    assert_eq!(loaded.report.not_yet.unwrap().start(), at("2018-12-24"));
    clock.set(at("2018-12-27T22:00:00Z"));
    let loaded = load(&store, &vendor, "2018-12-01", "2018-12-28");
    assert_eq!((loaded.data.len(), vendor.calls()), (17, vec!["2018-12-24 2018-12-28".to_owned()]));
}

#[test]
fn bars_that_were_written_need_not_be_fetched() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&session_bars(between("2018-01-01", "2018-07-01"), &["2018-03-07"])).unwrap();
    load(&store, &vendor, "2018-01-01", "2018-08-01");
    assert_eq!(vendor.calls(), ["2018-03-07 2018-03-08", "2018-06-30 2018-08-01"]);
}

#[test]
fn a_series_has_one_calendar_and_another_one_is_an_error_that_names_both() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let week = between("2018-12-24", "2018-12-31");
    let coin = || store.bars("BTC-USD", Timeframe::DAY).unwrap();
    coin().calendar(Calendar::always_open()).load_or_fetch(week, &vendor).unwrap();
    // No call falls back to the calendar of the store.
    assert_eq!(coin().load_or_fetch(week, &vendor).unwrap().report.assumed_empty.len(), 2);
    assert_eq!(coin().gaps(week).unwrap().len(), 3);
    assert_eq!(coin().stored_calendar().unwrap(), Some(Calendar::always_open()));
    let refused = coin().calendar(Calendar::nyse()).load_or_fetch(week, &vendor).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(
        refused.message().contains("always_open v1") && refused.message().contains(&Calendar::nyse().to_string()),
        "{refused}"
    );
    let bars = session_bars(week, &[]);
    assert_eq!(coin().calendar(Calendar::nyse()).write(&bars).unwrap_err().kind(), ErrorKind::InvalidInput);
    // It can be given another one, which judges anew.
    coin().set_calendar(Calendar::nyse()).unwrap();
    vendor.calls();
    assert!(coin().load_or_fetch(week, &vendor).unwrap().is_complete());
    assert_eq!(vendor.calls().len(), 0);
    let names: Vec<_> = store.calendars().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["always_open v1".to_owned(), Calendar::nyse().to_string()]);
}

#[test]
fn levels_are_loaded_as_bars_are() {
    let clock = clock();
    let store = store(&clock);
    let calls = AtomicU32::new(0);
    let vendor = |_: &Symbol, days: Interval<Day>| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(FetchError::permanent("no route"));
        }
        Ok(Calendar::nyse().sessions(days).map(|session| (session.day, 20.0)).collect())
    };
    let vix = store.levels("VIX").unwrap();
    let december = Interval::parse("2018-12-01", "2019-01-01").unwrap();
    for _ in 0..3 {
        assert!(vix.load_or_fetch(december, &vendor).unwrap().data.is_empty());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    clock.advance(HOUR);
    assert_eq!(vix.load_or_fetch(december, &vendor).unwrap().complete().unwrap().len(), 19);
    let warm = vix.load_or_fetch(december, &vendor).unwrap();
    assert_eq!((warm.report.calls, warm.report.from_disk), (0, 19));
    assert_eq!(calls.into_inner(), 2);
    let bad = |_: &Symbol, days: Interval<Day>| {
        Ok::<_, FetchError>(Calendar::nyse().sessions(days).map(|session| (session.day, f64::NAN)).collect())
    };
    let refused = store.levels("VXN").unwrap().load_or_fetch(december, &bad).unwrap().complete().unwrap_err();
    assert!(refused.message().contains("the level of 2018-12-03 is NaN"), "{refused}");
}

#[test]
fn a_read_only_store_serves_what_it_has_and_fetches_nothing() {
    let folder = Folder::new();
    folder.clock.set(at("2019-06-01"));
    let vendor = Vendor::default();
    load(&folder.open(), &vendor, "2018-01-01", "2018-02-01");
    vendor.calls();
    let store = folder.open_read_only();
    assert_eq!(load(&store, &vendor, "2018-01-01", "2018-02-01").data.len(), 21);
    let wider = store.load_or_fetch("SPY", Timeframe::DAY, between("2018-01-01", "2018-03-01"), &vendor);
    assert_eq!(wider.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(vendor.calls().len(), 0);
}

#[test]
fn a_fetcher_that_asks_for_its_own_bars_is_refused() {
    let clock = clock();
    let store = store(&clock);
    let january = between("2018-01-01", "2018-02-01");
    let inner = store.clone();
    let circular = |symbol: &Symbol, timeframe: Timeframe, asked: Interval<Timestamp>| {
        let nothing = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Ok::<_, FetchError>(Bars::default());
        inner
            .load_or_fetch(symbol.as_str(), timeframe, asked, &nothing)
            .map(|loaded| loaded.data)
            .map_err(FetchError::permanent)
    };
    let refused = store.load_or_fetch("SPY", Timeframe::DAY, january, &circular).unwrap().complete().unwrap_err();
    assert!(refused.message().contains("wait for itself"), "{refused}");
}

#[test]
fn days_that_the_calendar_does_not_know_are_noted_bar_by_bar() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&[bar(at("1985-01-02"), 5000), bar(at("1998-12-31"), 5000)].into_iter().collect()).unwrap();
    load(&store, &vendor, "1985-01-01", "1999-01-01");
    // So little lies between the two stretches that one call for both costs less than two.
    assert_eq!(vendor.calls(), ["1985-01-01 1998-12-31"]);
}

#[test]
fn calls_without_end_are_refused_and_a_span_of_nothing_is_a_bar() {
    let (clock, vendor) = (clock(), Vendor::default());
    let store = store(&clock);
    let series = store.bars("SPY", Timeframe::DAY).unwrap().policy(policy().max_request_span(Duration::ZERO));
    assert_eq!(series.load_or_fetch(between("2018-12-03", "2018-12-08"), &vendor).unwrap().data.len(), 4);
    assert_eq!(vendor.calls().len(), 4);
    let minutes = store.bars("SPY", Timeframe::MINUTE).unwrap().policy(policy().max_request_span(Duration::ZERO));
    let err = minutes.load_or_fetch(between("2017-01-01", "2018-01-01"), &vendor).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::LimitExceeded);
    let weeks = store.bars("SPY", Timeframe::days(7).unwrap()).unwrap();
    assert_eq!(
        weeks.load_or_fetch(between("2018-01-01", "2018-03-01"), &vendor).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn each_session_counts_how_often_it_was_asked_for() {
    let (clock, vendor) = (clock(), Vendor { lacks: vec!["2018-12-10", "2018-12-11"], ..Vendor::default() });
    let store = store(&clock);
    for _ in 0..2 {
        load(&store, &vendor, "2018-12-10", "2018-12-11");
        clock.advance(HOUR * 24 * 7);
    }
    load(&store, &vendor, "2018-12-10", "2018-12-12");
    let known = store.bars("SPY", Timeframe::DAY).unwrap().coverage(between("2018-12-10", "2018-12-12")).unwrap();
    assert!(matches!(known[0].coverage, Coverage::AssumedEmpty { attempts: 3, .. }), "{known:?}");
    assert!(matches!(known[1].coverage, Coverage::AssumedEmpty { attempts: 1, .. }), "{known:?}");
}

#[test]
fn bars_that_come_one_by_one_make_one_stretch() {
    let clock = clock();
    let store = store(&clock);
    let seconds = store.bars("X", Timeframe::SECOND).unwrap();
    let start = at("2018-12-21T14:30:00Z").as_nanos();
    for n in 0..200 {
        seconds.write(&[bar(Timestamp::from_nanos(start + n * 7_000_000_000), 5000)].into_iter().collect()).unwrap();
    }
    let known = seconds.coverage(between("2018-12-21", "2018-12-22")).unwrap();
    // A second without a trade and a feed that is down look the same to one who only sees what is written.
    assert_eq!(known.iter().filter(|stretch| stretch.coverage == Coverage::Present).count(), 200);
    let daily = store.bars("X", Timeframe::DAY).unwrap();
    for bar in session_bars(between("2018-01-01", "2019-01-01"), &["2018-07-02"]).iter() {
        daily.write(&[bar].into_iter().collect()).unwrap();
    }
    let known = daily.coverage(between("2018-01-02", "2018-12-31")).unwrap();
    assert_eq!(known.len(), 3, "{known:?}");
}

#[test]
fn a_vendor_that_answers_at_length_is_quoted_in_brief_and_one_that_panics_ends_the_load() {
    let clock = clock();
    let store = store(&clock);
    let page = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Err(FetchError::permanent("größer".repeat(100_000)));
    let failed = store.load_or_fetch("SPY", Timeframe::DAY, between("2018-01-01", "2018-02-01"), &page).unwrap();
    assert!(failed.complete().unwrap_err().message().len() < 450);
    let calls = AtomicU32::new(0);
    let broken = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| -> Result<Bars, FetchError> {
        calls.fetch_add(1, Ordering::SeqCst);
        panic!("the client has a bug");
    };
    let days = store.bars("SPY", Timeframe::DAY).unwrap().policy(policy().max_request_span(HOUR * 24));
    let load = || days.load_or_fetch(between("2017-01-01", "2018-01-01"), &broken);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).unwrap_err();
    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"the client has a bug"));
    assert!(calls.into_inner() < 10);
}

#[test]
fn a_fetcher_with_several_calls_that_asks_for_its_own_bars_is_refused_too() {
    let clock = clock();
    let store = store(&clock);
    let inner = store.clone();
    let circular = |symbol: &Symbol, timeframe: Timeframe, asked: Interval<Timestamp>| {
        let nothing = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Ok::<_, FetchError>(Bars::default());
        let loaded = inner.load_or_fetch(symbol.as_str(), timeframe, asked, &nothing);
        loaded.map(|loaded| loaded.data).map_err(FetchError::permanent)
    };
    let days = store.bars("SPY", Timeframe::DAY).unwrap().policy(policy().max_request_span(HOUR * 24 * 30));
    let refused = days.load_or_fetch(between("2018-01-01", "2018-07-01"), &circular).unwrap().complete().unwrap_err();
    assert!(refused.message().contains("wait for itself"), "{refused}");
}
