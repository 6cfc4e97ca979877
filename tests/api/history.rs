//! What was known when: restated bars, and no look-ahead.

use std::time::Duration;

use modelkeep::{
    ErrorKind, Store, Timestamp,
    market::{Bars, Timeframe},
};
use proptest::prelude::*;

use crate::{
    market::{all_time, at, bar, between, days},
    support::{HOUR, clock, noon},
};

#[test]
fn a_bar_that_was_stored_later_is_never_seen() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let january = days("2018-01-01", "2018-02-01");
    series.write(&january).unwrap();
    let first = noon();
    clock.advance(HOUR);
    let february = days("2018-02-01", "2018-03-01");
    series.write(&february).unwrap();
    clock.advance(HOUR);
    // Restated: the 10th of January, and a day less.
    let mut restated = january.get(9).unwrap();
    restated.close += 1.0;
    restated.high += 1.0;
    series.write(&[restated].into_iter().collect()).unwrap();
    clock.advance(HOUR);
    series.remove(between("2018-01-20", "2018-01-21")).unwrap();

    let known = |hours: u32| series.range_as_of(all_time(), first.after(HOUR * hours)).unwrap();
    assert!(series.range_as_of(all_time(), first.before(Duration::from_nanos(1))).unwrap().is_empty());
    assert_eq!(known(0), january);
    assert_eq!(known(1), january.iter().chain(february.iter()).collect());
    let with_restated: Bars =
        january.iter().chain(february.iter()).map(|bar| if bar.at == restated.at { restated } else { bar }).collect();
    assert_eq!(known(2), with_restated);
    let now: Bars = with_restated.iter().filter(|bar| bar.at != at("2018-01-20")).collect();
    assert_eq!(known(3), now);
    assert_eq!(series.range(all_time()).unwrap(), now);
    assert_eq!(series.range_as_of(between("2018-01-10", "2018-01-11"), first).unwrap(), january.slice(9..10));
}

#[test]
fn what_is_older_than_the_retention_is_an_error_and_not_a_guess() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).bar_history(HOUR * 10).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let day = at("2018-01-02");
    for price in 0..20 {
        series.write(&[bar(day, 10_000 + price)].into_iter().collect()).unwrap();
        clock.advance(HOUR);
    }
    let known = |hours: u32| series.range_as_of(all_time(), noon().after(HOUR * hours));
    for hours in 10..20 {
        assert_eq!(known(hours).unwrap().open(), [100.0 + f64::from(hours) / 100.0], "{hours}");
    }
    let err = known(3).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFound);
    assert!(err.message().contains("not kept any more"), "{err}");

    let store = Store::options().clock(clock.clone()).bar_history(Duration::ZERO).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let before = clock.now_timestamp();
    series.write(&[bar(day, 1)].into_iter().collect()).unwrap_err();
    series.write(&[bar(day, 100)].into_iter().collect()).unwrap();
    clock.advance(HOUR);
    series.write(&[bar(day, 101)].into_iter().collect()).unwrap();
    assert_eq!(series.range_as_of(all_time(), before).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn knowledge_does_not_go_back_when_the_clock_does() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&days("2018-01-01", "2018-01-05")).unwrap();
    let asked = noon().before(HOUR);
    clock.set(noon().before(HOUR * 2));
    series.write(&days("2018-01-05", "2018-01-09")).unwrap();
    assert!(series.range_as_of(all_time(), asked).unwrap().is_empty());
    assert_eq!(series.range_as_of(all_time(), noon()).unwrap().len(), 8);
}

#[test]
fn a_clock_that_goes_back_after_a_deletion_shows_no_bar_twice() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let start = noon();
    series.write(&days("2018-01-01", "2018-01-03")).unwrap();
    clock.advance(HOUR * 10);
    series.remove(between("2018-01-01", "2018-01-03")).unwrap();
    clock.set(start.after(HOUR * 2));
    series.write(&[bar(at("2018-01-01"), 777)].into_iter().collect()).unwrap();
    for hours in 0..12 {
        let known = series.range_as_of(all_time(), start.after(HOUR * hours)).unwrap();
        assert!(known.timestamps().is_sorted_by(|a, b| a < b), "{hours}: {known:?}");
    }
}

trait Now {
    fn now_timestamp(&self) -> Timestamp;
}

impl Now for modelkeep::clock::ManualClock {
    fn now_timestamp(&self) -> Timestamp {
        modelkeep::clock::Clock::now(self)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Against every state that there ever was.
    #[test]
    fn any_sequence_of_writes_can_be_read_as_of_any_time(
        writes in prop::collection::vec((0i32..400, 1i32..60, 0i64..5, any::<bool>()), 1..12),
    ) {
        let clock = clock();
        let store = Store::options().clock(clock.clone()).in_memory().unwrap();
        // Years of daily bars lie in one chunk, months of minutes in several; hours in one a year.
        let series = store.bars("SPY", Timeframe::HOUR).unwrap();
        let start = at("2017-06-01");
        let day = |n: i32| start.after(HOUR * 24 * u32::try_from(n).unwrap());
        let mut now = std::collections::BTreeMap::new();
        let mut states = Vec::new();
        for (first, len, price, delete) in writes {
            if delete {
                series.remove(modelkeep::Interval::new(day(first), day(first + len)).unwrap()).unwrap();
                now.retain(|at, _| *at < day(first) || *at >= day(first + len));
            } else {
                let bars: Vec<_> = (first..first + len).map(|n| bar(day(n), 10_000 + price)).collect();
                series.write(&bars.iter().copied().collect()).unwrap();
                now.extend(bars.into_iter().map(|bar| (bar.at, bar)));
            }
            states.push((clock.now_timestamp(), now.values().copied().collect::<Bars>()));
            clock.advance(HOUR);
        }
        for (known_at, state) in states {
            prop_assert_eq!(series.range_as_of(all_time(), known_at).unwrap(), state);
        }
        prop_assert_eq!(series.range(all_time()).unwrap(), now.values().copied().collect::<Bars>());
    }
}
