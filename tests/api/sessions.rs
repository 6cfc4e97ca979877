//! Loading while a session goes on, and just after it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use modelkeep::{
    Interval, Symbol, Timestamp,
    market::{Bars, Calendar, FetchError, Timeframe},
};

use crate::{
    fetching::store,
    market::{at, bar, between},
    support::{HOUR, clock},
};

#[test]
fn a_session_that_goes_on_or_has_just_ended_is_not_known_to_be_empty() {
    let clock = clock();
    let store = store(&clock);
    let late = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Ok::<_, FetchError>(Bars::default());
    let minutes = store.bars("SPY", Timeframe::MINUTE).unwrap();
    for time in ["14:31", "14:50", "15:40", "20:59", "21:05"] {
        clock.set(at(&format!("2018-12-21T{time}:00Z")));
        let loaded = minutes.load_or_fetch(between("2018-12-21", "2018-12-22"), &late).unwrap();
        assert!(!loaded.is_complete(), "{time}");
    }
    // The tail that came late is fetched when it is there.
    let all = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        let session = Calendar::nyse().session("2018-12-21".parse().unwrap()).unwrap();
        let minute = |n: i64| Timestamp::from_nanos(session.open.as_nanos() + n * crate::market::MINUTE);
        Ok::<_, FetchError>((0..390).map(minute).filter(|at| asked.contains(*at)).map(|at| bar(at, 5000)).collect())
    };
    clock.advance(HOUR);
    let loaded = minutes.load_or_fetch(between("2018-12-21", "2018-12-22"), &all).unwrap();
    assert_eq!((loaded.is_complete(), loaded.data.len()), (true, 390));
    // Bars that are not over are not asked for, whatever grid they are on.
    clock.set(at("2018-12-21T14:41:00Z"));
    let asked = AtomicU32::new(0);
    let running = |_: &Symbol, timeframe: Timeframe, interval: Interval<Timestamp>| {
        asked.fetch_add(1, Ordering::SeqCst);
        assert!(
            interval.end() <= at("2018-12-21T14:41:00Z").before(timeframe.duration()).after(Duration::from_nanos(1))
        );
        Ok::<_, FetchError>(Bars::default())
    };
    let twenty = store.bars("SPY", Timeframe::minutes(20).unwrap()).unwrap();
    twenty.load_or_fetch(between("2018-12-20", "2018-12-22"), &running).unwrap();
    assert_eq!(asked.into_inner(), 1);
}

#[test]
fn rows_on_days_without_a_session_say_that_the_calendar_may_be_of_another_market() {
    let clock = clock();
    let store = store(&clock);
    let around_the_clock = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        let days = Calendar::always_open().sessions(asked.days());
        Ok::<_, FetchError>(days.map(|session| bar(session.day.start(), 5000)).collect::<Bars>())
    };
    let weeks = between("2018-12-10", "2018-12-24");
    let coin = store.bars("BTC-USD", Timeframe::DAY).unwrap();
    // At every load, also where nothing is fetched any more.
    for calls in [1, 0] {
        let loaded = coin.load_or_fetch(weeks, &around_the_clock).unwrap();
        assert_eq!((loaded.report.calls, loaded.data.len(), loaded.report.off_days), (calls, 10, 4));
        let refused = loaded.clone().complete().unwrap_err();
        assert!(refused.message().contains("4 fetched rows lie on days without a session of nyse"), "{refused}");
        assert_eq!(loaded.accept_off_days().complete().unwrap().len(), 10);
    }
    coin.set_calendar(Calendar::always_open()).unwrap();
    assert_eq!(coin.load_or_fetch(weeks, &around_the_clock).unwrap().complete().unwrap().len(), 14);
}

#[test]
fn a_bar_that_was_written_before_it_ended_is_asked_for_once_more() {
    let clock = clock();
    let store = store(&clock);
    let (minutes, begins) = (store.bars("SPY", Timeframe::MINUTE).unwrap(), at("2018-12-21T15:00:00Z"));
    let hour = between("2018-12-21T15:00:00Z", "2018-12-21T15:01:00Z");
    clock.set(begins.after(Duration::from_secs(10)));
    minutes.write(&[bar(begins, 5000)].into_iter().collect()).unwrap();
    let whole = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        Ok::<_, FetchError>([bar(begins, 7000)].into_iter().filter(|bar| asked.contains(bar.at)).collect::<Bars>())
    };
    clock.advance(HOUR);
    assert_eq!(minutes.load_or_fetch(hour, &whole).unwrap().data.close(), [70.02]);
}
