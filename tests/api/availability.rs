//! What is available when: bars that have ended, levels of sessions that have closed, and no value from the future.

use std::{sync::Arc, time::Duration};

use modelkeep::{
    Day, Error, ErrorKind, Interval, Store, Symbol, Timestamp,
    audit::{Audit, Emitted},
    clock::ManualClock,
    market::{Bar, Bars, Calendar, FeatureSpec, FetchError, KnownAt, Lookback, Timeframe},
};

use crate::{
    market::{all_time, at, bar, between, days, minutes},
    support::{HOUR, clock},
};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn december() -> Interval<Day> {
    Interval::parse("2018-12-01", "2019-01-01").unwrap()
}

/// A store whose clock stands at a time.
fn store_at(now: &str) -> (Arc<ManualClock>, Store) {
    let clock = Arc::new(ManualClock::at(time(now)));
    let store = Store::options().clock(Arc::clone(&clock)).in_memory().unwrap();
    (clock, store)
}

#[test]
fn a_bar_is_available_when_it_has_ended() {
    let (_, store) = store_at("2019-06-03T12:00:00Z");
    let daily = store.bars("SPY", Timeframe::DAY).unwrap();
    let all: Bars = days("2018-12-20", "2018-12-29").iter().filter(|bar| !bar.at.day().is_weekend()).collect();
    daily.write(&all).unwrap();
    let until = |end: &str| daily.range_available(Interval::new(at("2018-12-01"), time(end)).unwrap()).unwrap().len();
    // 10:00 in New York, the close, an early close on the 24th.
    assert_eq!(until("2018-12-21T15:00:00Z"), 1);
    assert_eq!(until("2018-12-21T20:59:59Z"), 1);
    assert_eq!(until("2018-12-21T21:00:00Z"), 2);
    assert_eq!(until("2018-12-24T18:00:00Z"), 3);
    assert_eq!(daily.range(Interval::new(at("2018-12-01"), time("2018-12-21T15:00:00Z")).unwrap()).unwrap().len(), 2);

    let hours = store.bars("SPY", Timeframe::HOUR).unwrap();
    let starts = ["2018-12-21T19:30:00Z", "2018-12-21T20:30:00Z"];
    hours.write(&starts.iter().map(|start| bar(time(start), 10_000)).collect()).unwrap();
    let ends = hours.available_at(&hours.range(all_time()).unwrap()).unwrap();
    assert_eq!(ends, [time("2018-12-21T20:30:00Z"), time("2018-12-21T21:00:00Z")]);
}

#[test]
fn the_end_of_a_bar_is_that_of_its_session() {
    let week = Timeframe::days(7).unwrap();
    let ends = |calendar: Calendar, label: &str, timeframe| calendar.bar_end(at(label), timeframe).to_string();
    assert_eq!(ends(Calendar::nyse(), "2018-12-31", week), "2019-01-04T21:00:00Z");
    assert_eq!(ends(Calendar::nyse(), "2018-03-26", week), "2018-03-29T20:00:00Z"); // Good Friday
    assert_eq!(ends(Calendar::always_open(), "2018-12-31", Timeframe::DAY), "2019-01-01T00:00:00Z");
    assert_eq!(ends(Calendar::sydney(), "2018-12-20", Timeframe::DAY), "2018-12-20T05:00:00Z");
    assert_eq!(ends(Calendar::nyse(), "2018-12-24T17:58:00Z", Timeframe::MINUTE), "2018-12-24T17:59:00Z");
    assert_eq!(ends(Calendar::nyse(), "2018-12-24T18:00:00Z", Timeframe::MINUTE), "2018-12-24T18:01:00Z"); // the auction
}

#[test]
fn a_load_returns_nothing_of_the_future() {
    let (clock, store) = store_at("2019-01-31T12:00:00Z");
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        Ok::<Bars, FetchError>(
            Calendar::nyse().sessions(asked.days()).map(|session| bar(session.day.start(), 10_000)).collect(),
        )
    };
    let year = between("2018-01-01", "2019-01-01");
    assert_eq!(store.load_or_fetch("SPY", Timeframe::DAY, year, &vendor).unwrap().data.len(), 251);
    let vix = store.levels("VIX").unwrap();
    vix.write(&[(day("2018-06-14"), 12.12), (day("2018-06-15"), 11.98), (day("2018-12-24"), 36.07)]).unwrap();
    // The same store under a clock of June, an hour after the open.
    clock.set(time("2018-06-15T14:30:00Z"));
    let loaded = store.load_or_fetch("SPY", Timeframe::DAY, year, &vendor).unwrap();
    assert_eq!(loaded.data.last().unwrap().at, at("2018-06-14"));
    let nobody = |_: &Symbol, _: Interval<Day>| Ok::<Vec<(Day, f64)>, FetchError>(Vec::new());
    let loaded = vix.load_or_fetch(Interval::parse("2018-01-01", "2019-01-01").unwrap(), &nobody).unwrap();
    assert_eq!(loaded.data.levels, [12.12]);
    clock.set(time("2018-06-15T20:00:00Z"));
    assert_eq!(
        store.load_or_fetch("SPY", Timeframe::DAY, year, &vendor).unwrap().data.last().unwrap().at,
        at("2018-06-15")
    );
}

#[test]
fn a_minute_is_joined_with_the_level_of_the_day_before() {
    let (_, store) = store_at("2019-06-03T12:00:00Z");
    let vix = store.levels("VIX").unwrap().available_after(Duration::from_secs(15 * 60));
    vix.write(&[(day("2018-12-20"), 28.38), (day("2018-12-21"), 30.11), (day("2018-12-24"), 36.07)]).unwrap();
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    series
        .write(
            &["2018-12-21T15:00:00Z", "2018-12-21T20:59:00Z", "2018-12-24T14:30:00Z"]
                .map(|at| bar(time(at), 10_000))
                .into_iter()
                .collect(),
        )
        .unwrap();
    let ends = series.available_at(&series.range(all_time()).unwrap()).unwrap();
    assert_eq!(vix.join(&ends).unwrap(), [Some(28.38), Some(28.38), Some(30.11)]);
    assert_eq!(vix.latest_at(time("2018-12-21T21:14:59Z")).unwrap(), Some(28.38));
    assert_eq!(vix.latest_at(time("2018-12-21T21:15:00Z")).unwrap(), Some(30.11));
    assert_eq!(vix.latest_at(time("2018-12-23T12:00:00Z")).unwrap(), Some(30.11));
    assert_eq!(vix.latest_at(time("2018-12-20T12:00:00Z")).unwrap(), None);
    assert_eq!(vix.last_day_at(time("2018-12-21T15:00:00Z")).unwrap(), day("2018-12-20"));
    // In any order, one by one and all at once.
    let every: Vec<Timestamp> = (0..200).map(|n| time("2018-12-19T00:00:00Z").after(HOUR * (n * 37 % 200))).collect();
    let one_by_one: Vec<_> = every.iter().map(|at| vix.latest_at(*at).unwrap()).collect();
    assert_eq!(vix.join(&every).unwrap(), one_by_one);
}

#[test]
fn levels_are_known_since_they_were_stored_and_as_they_were() {
    let clock = Arc::new(ManualClock::at(time("2018-12-24T19:00:00Z")));
    let folder = crate::support::Folder::new();
    let open = || folder.options().clock(Arc::clone(&clock)).open(folder.path()).unwrap();
    let store = open();
    let vix = store.levels("VIX").unwrap();
    vix.write(&[(day("2018-12-21"), 30.11), (day("2018-12-24"), 36.0)]).unwrap();
    clock.set(time("2018-12-26T19:00:00Z"));
    vix.write(&[(day("2018-12-24"), 36.07)]).unwrap();
    clock.set(time("2018-12-27T19:00:00Z"));
    assert_eq!(vix.remove(Interval::parse("2018-12-21", "2018-12-22").unwrap()).unwrap().removed, 1);
    drop(store);
    let store = open();
    let vix = store.levels("VIX").unwrap();
    let known = |at: &str| vix.range_as_of(december(), time(at)).unwrap().levels;
    assert!(known("2018-12-24T18:59:59Z").is_empty());
    assert_eq!(known("2018-12-26T18:59:59Z"), [30.11, 36.0]);
    assert_eq!(known("2018-12-26T19:00:00Z"), [30.11, 36.07]);
    assert_eq!(known("2018-12-27T19:00:00Z"), [36.07]);
    assert_eq!(vix.range(december()).unwrap().levels, [36.07]);
    // What is removed wholly keeps its history, and is no series any more.
    vix.remove(december()).unwrap();
    assert!(store.level_series().unwrap().is_empty());
    assert_eq!(known("2018-12-26T19:00:00Z"), [30.11, 36.07]);
}

#[test]
fn imported_levels_are_known_since_the_time_that_the_writer_says() {
    let (_, store) = store_at("2019-06-03T12:00:00Z");
    let vix = store.levels("VIX").unwrap();
    let history = [(day("2018-12-20"), 28.38), (day("2018-12-21"), 30.11)];
    vix.write_known_at(&history, KnownAt::Ended { delay: HOUR }).unwrap();
    let known = |at: &str| vix.range_as_of(december(), time(at)).unwrap().levels;
    assert_eq!(known("2018-12-21T21:59:59Z"), [28.38]);
    assert_eq!(known("2018-12-21T22:00:00Z"), [28.38, 30.11]);
    let early = vix.write_known_at(&history, time("2018-12-21T20:00:00Z")).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::InvalidInput);
    assert!(early.to_string().contains("row 1"), "{early}");
}

#[test]
fn features_as_of_a_time_need_no_more_bars_than_there_are() {
    let (_, store) = store_at("2019-06-03T12:00:00Z");
    let daily = store.bars("SPY", Timeframe::DAY).unwrap();
    daily.write_known_at(&days("2018-12-20", "2018-12-25"), KnownAt::Ended { delay: HOUR }).unwrap();
    let spec = FeatureSpec::new("before", 1, Timeframe::DAY, Lookback::Bars(5), &["close", "before"]).unwrap();
    let span = between("2018-12-21", "2018-12-25");
    let features =
        store.features("SPY", &spec).unwrap().compute_as_of(span, time("2019-01-01T00:00:00Z"), close_and_before);
    assert_eq!(features.unwrap().len(), 4);
}

#[test]
fn levels_that_are_older_than_the_retention_are_an_error_and_not_a_guess() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).bar_history(HOUR * 10).in_memory().unwrap();
    let vix = store.levels("VIX").unwrap();
    let start = modelkeep::clock::Clock::now(&*clock);
    for price in 0..20 {
        vix.write(&[(day("2018-12-24"), f64::from(price))]).unwrap();
        clock.advance(HOUR);
    }
    let known = |hours: u32| vix.range_as_of(december(), start.after(HOUR * hours));
    for hours in 10..20 {
        assert_eq!(known(hours).unwrap().levels, [f64::from(hours)]);
    }
    assert_eq!(known(3).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn aggregates_are_of_what_their_source_was() {
    let (clock, store) = store_at("2018-12-21T18:00:00Z");
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    let session = minutes("2018-12-21T14:30:00Z", 390);
    series.write(&session.slice(0..200)).unwrap();
    clock.set(time("2018-12-21T21:30:00Z"));
    series.write(&session.slice(200..390)).unwrap();
    let mut restated = session.get(10).unwrap();
    restated.volume += 5.0;
    clock.set(time("2018-12-22T12:00:00Z"));
    series.write(&[restated].into_iter().collect()).unwrap();
    for target in [Timeframe::HOUR, Timeframe::DAY, Timeframe::days(7).unwrap()] {
        let long = series.resample(target).unwrap().whole().unwrap();
        let sum = |at: &str| long.range_as_of(all_time(), time(at)).unwrap().volume().iter().sum::<f64>();
        let of = |rows: std::ops::Range<usize>| session.slice(rows).volume().iter().sum::<f64>();
        assert!(long.range_as_of(all_time(), time("2018-12-21T17:59:59Z")).unwrap().is_empty());
        assert_eq!(sum("2018-12-21T18:00:00Z"), of(0..200), "{target}");
        assert_eq!(sum("2018-12-22T11:59:59Z"), of(0..390), "{target}");
        assert_eq!(sum("2018-12-22T12:00:00Z"), of(0..390) + 5.0, "{target}");
        assert_eq!(
            long.range_as_of(all_time(), time("2019-01-01T00:00:00Z")).unwrap(),
            long.range(all_time()).unwrap()
        );
    }
    // An hour that goes on is not available.
    let hours = series.resample(Timeframe::HOUR).unwrap().whole().unwrap();
    let until = Interval::new(at("2018-12-21"), time("2018-12-21T16:00:00Z")).unwrap();
    assert_eq!(hours.range_available(until).unwrap().len(), 1);
}

#[test]
fn an_aggregate_has_ended_when_the_last_bar_in_it_has() {
    let (_, store) = store_at("2019-06-03T12:00:00Z");
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    // With the bar that begins at the close.
    series.write(&minutes("2018-12-21T14:30:00Z", 391)).unwrap();
    let hours = series.resample(Timeframe::HOUR).unwrap().whole().unwrap();
    let ends = hours.available_at(&hours.range(all_time()).unwrap()).unwrap();
    assert_eq!(ends[0], time("2018-12-21T15:30:00Z"));
    assert_eq!(ends.last(), Some(&time("2018-12-21T21:01:00Z")));
    let days = series.resample(Timeframe::DAY).unwrap().whole().unwrap();
    let until = |end: &str| days.range_available(Interval::new(at("2018-12-21"), time(end)).unwrap()).unwrap().len();
    assert_eq!((until("2018-12-21T21:00:00Z"), until("2018-12-21T21:01:00Z")), (0, 1));
    // Hours by the clock, in aggregates that are counted from the open.
    let hourly = store.bars("SPY", Timeframe::HOUR).unwrap();
    hourly
        .write(
            &["14:30", "15:00", "16:00"]
                .map(|at| bar(time(&format!("2018-12-21T{at}:00Z")), 100))
                .into_iter()
                .collect(),
        )
        .unwrap();
    let two = hourly.resample(Timeframe::hours(2).unwrap()).unwrap().whole().unwrap();
    assert!(two.available_at(&two.range(all_time()).unwrap()).unwrap()[0] >= time("2018-12-21T17:00:00Z"));
}

fn close_and_before(bars: &Bars) -> Vec<Vec<f64>> {
    let before = std::iter::once(f64::NAN).chain(bars.close().iter().copied()).take(bars.len());
    vec![bars.close().to_vec(), before.collect()]
}

#[test]
fn features_are_of_bars_that_have_ended_and_were_known() {
    let (clock, store) = store_at("2018-12-20T22:00:00Z");
    let daily = store.bars("SPY", Timeframe::DAY).unwrap();
    let row = |label: &str, cents| bar(at(label), cents);
    daily.write(&[row("2018-12-19", 100), row("2018-12-20", 200)].into_iter().collect()).unwrap();
    let spec = FeatureSpec::new("before", 1, Timeframe::DAY, Lookback::Bars(1), &["close", "before"]).unwrap();
    let features = store.features("SPY", &spec).unwrap();
    let closes = |features: &modelkeep::market::Features| features.column("close").unwrap().to_vec();
    // A bar that goes on, written by a live feed.
    clock.set(time("2018-12-21T15:00:00Z"));
    daily.write(&[row("2018-12-21", 300)].into_iter().collect()).unwrap();
    assert_eq!(closes(&features.get_or_compute(all_time(), close_and_before).unwrap()), [1.02, 2.02]);
    clock.set(time("2018-12-21T21:00:00Z"));
    daily.write(&[row("2018-12-21", 400)].into_iter().collect()).unwrap();
    assert_eq!(closes(&features.get_or_compute(all_time(), close_and_before).unwrap()), [1.02, 2.02, 4.02]);
    clock.set(time("2018-12-22T12:00:00Z"));
    daily.write(&[row("2018-12-20", 500)].into_iter().collect()).unwrap();
    let as_of = |known_at: &str, from: &str| {
        let span = Interval::new(at(from), at("2019-01-01")).unwrap();
        let features = features.compute_as_of(span, time(known_at), close_and_before).unwrap();
        (closes(&features), features.column("before").unwrap().to_vec())
    };
    assert_eq!(as_of("2018-12-21T20:00:00Z", "2018-12-20"), (vec![2.02], vec![1.02]));
    assert_eq!(as_of("2018-12-21T21:00:00Z", "2018-12-21"), (vec![4.02], vec![2.02]));
    assert_eq!(as_of("2018-12-22T12:00:00Z", "2018-12-21"), (vec![4.02], vec![5.02]));
}

/// Returns of closes, joined with the VIX; `peeks` takes the close of the day that goes on.
fn pipeline(store: &Store, peeks: bool) -> Result<Vec<Emitted>, Error> {
    let series = store.bars("SPY", Timeframe::MINUTE)?;
    let bars = series.range(all_time())?;
    let ends = series.available_at(&bars)?;
    let vix = store.levels("VIX")?;
    let levels =
        if peeks { ends.iter().map(|at| vix.at(at.day())).collect::<Result<Vec<_>, _>>()? } else { vix.join(&ends)? };
    let rows = ends.iter().zip(bars.close()).zip(levels);
    Ok(rows
        .map(|((at, close), level)| Emitted::new(*at, "close over vix", close / level.unwrap_or(f64::NAN)))
        .collect())
}

#[test]
fn an_audit_finds_what_comes_from_the_future_and_nothing_else() {
    let (_, store) = store_at("2019-06-03T12:00:00Z");
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    for session in ["2018-12-20T14:30:00Z", "2018-12-21T14:30:00Z"] {
        series.write(&minutes(session, 390)).unwrap();
    }
    store
        .levels("VIX")
        .unwrap()
        .write(&[(day("2018-12-19"), 25.58), (day("2018-12-20"), 28.38), (day("2018-12-21"), 30.11)])
        .unwrap();
    let audit = Audit::default().cuts(10).seed(3);
    let clean = store.audit_look_ahead(&audit, |store| pipeline(store, false)).unwrap();
    assert!(clean.is_clean() && clean.compared > 1_000, "{clean:?}");
    let found = store.audit_look_ahead(&audit, |store| pipeline(store, true)).unwrap();
    let first = &found.found[0];
    assert!(first.at <= first.cut && first.with_all.is_some(), "{first:?}");
    // Other symbols are not copied, and nothing is emitted.
    let err = store.audit_look_ahead(&audit.symbols(["MSFT"]), |store| pipeline(store, false)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidInput);
    // The store is as it was.
    assert_eq!(series.range(all_time()).unwrap().len(), 780);
}

#[test]
fn an_audit_of_what_was_known_finds_corrections() {
    let (clock, store) = store_at("2018-12-20T22:00:00Z");
    let daily = store.bars("SPY", Timeframe::DAY).unwrap();
    for n in 0..20 {
        let label = day("2018-12-20").plus_days(n).unwrap();
        clock.set(label.start().after(HOUR * 22));
        daily.write(&[bar(label.start(), 100 + i64::from(n))].into_iter().collect()).unwrap();
    }
    let closes = |store: &Store| {
        let series = store.bars("SPY", Timeframe::DAY)?;
        let bars = series.range(all_time())?;
        let ends = series.available_at(&bars)?.into_iter();
        Ok::<_, Error>(ends.zip(bars.iter()).map(|(at, bar)| Emitted::new(at, "close", bar.close)).collect())
    };
    // Stored at 22:00, an hour after the close that they claim to be known at: late, and so found.
    let audit = Audit::default().as_known();
    assert!(!store.audit_look_ahead(&audit, closes).unwrap().is_clean());
    let later = |store: &Store| {
        let series = store.bars("SPY", Timeframe::DAY)?;
        let emit = |bar: Bar| Emitted::new(bar.at.after(HOUR * 24), "close", bar.close);
        Ok::<_, Error>(series.range(all_time())?.iter().map(emit).collect())
    };
    assert!(store.audit_look_ahead(&audit, later).unwrap().is_clean());
    clock.set(time("2019-02-01T00:00:00Z"));
    daily.write(&[bar(at("2018-12-27"), 999)].into_iter().collect()).unwrap();
    assert!(!store.audit_look_ahead(&audit.clone().cuts(60), later).unwrap().is_clean());
    assert!(store.audit_look_ahead(&Audit::default(), later).unwrap().is_clean());
}
