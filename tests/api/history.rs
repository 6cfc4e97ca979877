//! What was known when: restated bars, and no look-ahead.

use std::time::Duration;

use modelkeep::{
    ErrorKind, Store, Timestamp,
    market::{Bars, KnownAt, Timeframe},
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
fn a_row_is_known_since_its_own_time_whatever_its_neighbours_are() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    // Sixty days, one a day; the tenth under a clock that is far ahead.
    let all = days("2018-01-01", "2018-03-02");
    let mut known = Vec::new();
    for (n, row) in all.iter().enumerate() {
        clock.set(if n == 9 { at("2099-01-01") } else { row.at.after(HOUR * 23) });
        series.write(&[row].into_iter().collect()).unwrap();
        known.push(row.at.after(HOUR * 23));
    }
    let as_of = |known_at: Timestamp| series.range_as_of(all_time(), known_at).unwrap();
    for (n, known_at) in known.iter().enumerate() {
        let expected: Bars = all.iter().take(n + 1).filter(|bar| bar.at != all.get(9).unwrap().at).collect();
        assert_eq!(as_of(*known_at), expected, "{n}");
    }
    // Deleted and written again, it is known since then.
    clock.set(at("2018-03-05"));
    let tenth = all.slice(9..10);
    let span = modelkeep::Interval::new(tenth.timestamps()[0], tenth.timestamps()[0].after(HOUR)).unwrap();
    assert_eq!(series.remove(span).unwrap().removed, 1);
    series.write(&tenth).unwrap();
    assert_eq!(as_of(at("2018-03-05")), all);
    assert_eq!(as_of(at("2018-03-04")).len(), 59);
}

#[test]
fn a_row_that_was_written_under_a_clock_far_ahead_is_known_since_it_was_written_again() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let rows = days("2018-01-01", "2018-01-03");
    clock.set(at("2099-01-01"));
    series.write(&rows).unwrap();
    clock.set(noon());
    // The same values, and others.
    let mut second = rows.get(1).unwrap();
    second.volume += 1.0;
    let again: Bars = [rows.get(0).unwrap(), second].into_iter().collect();
    let written = series.write(&again).unwrap();
    assert_eq!((written.unchanged, written.replaced), (1, 1));
    assert_eq!(series.range_as_of(all_time(), noon()).unwrap(), again);
    assert!(series.range_as_of(all_time(), noon().before(HOUR)).unwrap().is_empty());
    assert_eq!(series.range_as_of(all_time(), at("2099-01-02")).unwrap(), again);
}

#[test]
fn a_history_that_is_imported_is_known_since_the_time_that_the_writer_says() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let feed = KnownAt::Ended { delay: HOUR };
    let january = days("2018-01-01", "2018-02-01");
    assert_eq!(series.write_known_at(&january, feed).unwrap().added, 31);
    // New Year's Day is no session: its bar ends with the day. The others do at the close, at 21:00.
    let known = |text: &str| series.range_as_of(all_time(), text.parse().unwrap()).unwrap().len();
    assert_eq!(known("2018-01-02T00:59:59Z"), 0);
    assert_eq!(known("2018-01-02T21:59:59Z"), 1);
    assert_eq!(known("2018-01-02T22:00:00Z"), 2);
    assert_eq!(series.write_known_at(&january, feed).unwrap().unchanged, 31);

    // What was known earlier does not take the place of what is known, and shows where it belongs.
    let mut first = january.get(20).unwrap();
    first.volume += 1.0;
    let since: Timestamp = "2018-01-22T12:00:00Z".parse().unwrap();
    let preliminary: Bars = [first].into_iter().collect();
    let span = between("2018-01-21", "2018-01-22");
    // The 21st was a Sunday: known at 01:00 of the 22nd.
    assert_eq!(series.write_known_at(&preliminary, since).unwrap().replaced, 1);
    let mut earlier = first;
    earlier.volume += 1.0;
    let before: Timestamp = "2018-01-22T00:30:00Z".parse().unwrap();
    assert_eq!(series.write_known_at(&[earlier].into_iter().collect(), before).unwrap().backdated, 1);
    let volume = |at: &str| series.range_as_of(span, at.parse().unwrap()).unwrap().volume().to_vec();
    assert!(volume("2018-01-22T00:29:59Z").is_empty());
    assert_eq!(volume("2018-01-22T00:59:59Z"), [earlier.volume]);
    assert_eq!(volume("2018-01-22T01:00:00Z"), [january.get(20).unwrap().volume]);
    assert_eq!(volume("2018-01-22T12:00:00Z"), [first.volume]);
    assert_eq!(series.range(span).unwrap().volume(), [first.volume]);
}

#[test]
fn snapshots_can_be_imported_in_any_order() {
    let days = ["2018-12-10T12:00:00Z", "2018-12-11T12:00:00Z", "2018-12-12T12:00:00Z"]
        .map(|at| at.parse::<Timestamp>().unwrap());
    let snapshots = [(days[0], 1_000), (days[1], 2_000), (days[2], 1_000)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let store = Store::options().clock(clock()).in_memory().unwrap();
        let series = store.bars("SPY", Timeframe::DAY).unwrap();
        for (known_at, cents) in order.map(|n: usize| snapshots[n]) {
            series.write_known_at(&[bar(at("2018-12-03"), cents)].into_iter().collect(), known_at).unwrap();
        }
        let open = |at| series.range_as_of(all_time(), at).unwrap().open().to_vec();
        assert_eq!(days.map(open), [[10.0], [20.0], [10.0]], "{order:?}");
        assert_eq!(series.range(all_time()).unwrap().open(), [10.0]);
    }
}

#[test]
fn what_was_deleted_does_not_come_back_by_what_was_known_before() {
    let clock = clock();
    for history in [None, Some(Duration::ZERO)] {
        let options = Store::options().clock(clock.clone());
        let store = history.map_or(options.clone(), |age| options.bar_history(age)).in_memory().unwrap();
        let series = store.bars("SPY", Timeframe::DAY).unwrap();
        let row: Bars = [bar(at("2018-12-03"), 1_000)].into_iter().collect();
        series.write(&row).unwrap();
        series.remove(between("2018-12-03", "2018-12-04")).unwrap();
        let known = series.write_known_at(&row, "2018-12-10T12:00:00Z".parse::<Timestamp>().unwrap());
        assert_eq!(known.is_ok(), history.is_none());
        assert!(series.range(all_time()).unwrap().is_empty());
    }
}

/// Nor what a clock wrote that was far ahead: deleting it under the right one leaves a mark.
#[test]
fn what_a_clock_ahead_wrote_and_another_deleted_does_not_come_back() {
    for ahead in ["2018-12-11T11:00:00Z", "2018-12-12T00:00:00Z", "2093-12-10T12:00:00Z"] {
        let clock = clock();
        let store = Store::options().clock(clock.clone()).in_memory().unwrap();
        let series = store.bars("SPY", Timeframe::DAY).unwrap();
        let row: Bars = [bar(at("2018-12-03"), 1_000)].into_iter().collect();
        clock.set(at(ahead));
        series.write(&row).unwrap();
        clock.set(at("2018-12-10T12:00:00Z"));
        series.remove(between("2018-12-03", "2018-12-04")).unwrap();
        clock.set(at("2018-12-20T12:00:00Z"));
        assert_eq!(series.write_known_at(&row, at("2018-12-05")).unwrap().backdated, 1, "{ahead}");
        assert!(series.range(all_time()).unwrap().is_empty(), "{ahead}");
        // What is known later than the deletion is there.
        assert_eq!(series.write_known_at(&row, at("2018-12-15")).unwrap().added, 1, "{ahead}");
    }
}

#[test]
fn nobody_knew_a_bar_before_it_ended_nor_after_now() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let rows = days("2018-01-02", "2018-01-04");
    let refused = |known_at: KnownAt| {
        let err = series.write_known_at(&rows, known_at).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidInput);
        err.to_string()
    };
    let early = refused("2018-01-03T20:59:59Z".parse::<Timestamp>().unwrap().into());
    assert!(early.contains("row 1") && early.contains("2018-01-03T21:00:00Z"), "{early}");
    let late = refused(noon().after(HOUR).into());
    assert!(late.contains("row 0") && late.contains("clock"), "{late}");
    assert!(series.range(all_time()).unwrap().is_empty());
    series.write_known_at(&rows, "2018-01-03T21:00:00Z".parse::<Timestamp>().unwrap()).unwrap();
}

#[test]
fn a_replay_of_a_history_reads_back_right_beside_a_bar_of_today() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let start = noon().before(HOUR * 24 * 1_010).day();
    let bars: Bars = (0..1_000).map(|n| bar(start.plus_days(n).unwrap().start(), 10_000 + i64::from(n))).collect();
    let today = bar(noon().day().plus_days(-1).unwrap().start(), 777);
    series.write(&[today].into_iter().collect()).unwrap();
    for row in bars.iter() {
        clock.set(row.at.after(HOUR * 23));
        series.write(&[row].into_iter().collect()).unwrap();
    }
    for (n, row) in bars.iter().enumerate() {
        let known = series.range_as_of(all_time(), row.at.after(HOUR * 23)).unwrap();
        assert_eq!(known.len(), n + 1);
        assert_eq!(known.last(), Some(row));
    }
    assert_eq!(series.range_as_of(all_time(), noon()).unwrap().len(), 1_001);
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
