//! A split, or another change of scale in restated history, is noticed and said.

use modelkeep::{
    Interval, Symbol, Timestamp,
    market::{Bar, Bars, Calendar, FetchError, Rescaled, Timeframe},
};

use crate::{
    fetching::store,
    market::{all_time, at, bar, between, days},
    support::{Folder, clock},
};

/// A bar as a vendor has it after a split, rounded to cents.
fn scaled(bar: Bar, factor: f64) -> Bar {
    let [open, high, low, close] =
        [bar.open, bar.high, bar.low, bar.close].map(|price| (price * factor * 100.0).round() / 100.0);
    Bar { open, high, low, close, volume: bar.volume / factor, ..bar }
}

fn near(rescaled: Option<Rescaled>, factor: f64) -> Rescaled {
    let rescaled = rescaled.unwrap();
    assert!((rescaled.factor - factor).abs() < 1e-3, "{rescaled}");
    rescaled
}

#[test]
fn a_write_says_that_bars_came_back_on_another_scale() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("AAPL", Timeframe::DAY).unwrap();
    // Chunks of days are of 20 years: two of them.
    let all = days("1999-06-01", "2000-06-01");
    assert_eq!(series.write(&all).unwrap().rescaled, None);
    assert_eq!(series.write(&all).unwrap().rescaled, None);
    let split: Bars = all.iter().map(|bar| scaled(bar, 0.25)).collect();
    let rescaled = near(series.write(&split).unwrap().rescaled, 0.25);
    assert_eq!((rescaled.rows, rescaled.first, rescaled.last), (366, at("1999-06-01"), at("2000-05-31")));
    // Back again, with new bars behind them; and a correction, which is none.
    let more: Bars = all.iter().chain(days("2000-06-01", "2000-06-10").iter()).collect();
    assert_eq!(near(series.write_covering(&more, all_time()).unwrap().rescaled, 4.0).rows, 366);
    let corrected: Bars = all.iter().map(|bar| Bar { close: bar.high, ..bar }).collect();
    let written = series.write(&corrected).unwrap();
    assert_eq!((written.replaced, written.rescaled), (366, None));
}

#[test]
fn the_one_bar_that_a_confirmation_restates_is_enough() {
    let clock = clock();
    let store = store(&clock);
    let week = between("2018-12-17", "2018-12-22");
    let vendor = |factor: f64| {
        move |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
            let days = Calendar::nyse().sessions(asked.days());
            Ok::<Bars, FetchError>(days.map(|session| scaled(bar(session.day.start(), 5000), factor)).collect())
        }
    };
    // Before the publication delay of the last session is over.
    clock.set(at("2018-12-21T21:05:00Z"));
    let first = store.load_or_fetch("AAPL", Timeframe::DAY, week, &vendor(1.0)).unwrap();
    assert_eq!((first.data.len(), first.report.rescaled), (5, None));
    // The vendor adjusts all history for a split; the last bar alone is asked for once more.
    clock.set(at("2018-12-22T12:00:00Z"));
    let next = store.load_or_fetch("AAPL", Timeframe::DAY, week, &vendor(0.25)).unwrap();
    let rescaled = near(next.report.rescaled, 0.25);
    assert_eq!((rescaled.rows, rescaled.first, rescaled.last), (1, at("2018-12-21"), at("2018-12-21")));
    assert_eq!((next.data.close()[0], next.data.close()[4]), (50.02, 12.51), "which is what the report is about");
    // What to do then.
    let series = store.bars("AAPL", Timeframe::DAY).unwrap();
    series.mark_missing(all_time()).unwrap();
    let whole = series.load_or_fetch(week, &vendor(0.25)).unwrap();
    assert_eq!(near(whole.report.rescaled, 0.25).rows, 4);
    assert_eq!(whole.complete().unwrap().close(), [12.51; 5]);
    assert_eq!(series.load_or_fetch(week, &vendor(0.25)).unwrap().report.rescaled, None);
}

/// Each night asks for the new day alone, which no stored row can be compared with; with an overlap the day before comes
/// along.
#[test]
fn a_nightly_load_notices_a_split_if_it_overlaps() {
    for (overlap, many) in [(0, false), (1, false), (1, true), (3, false), (3, true)] {
        let clock = clock();
        let policy = crate::fetching::policy().overlap(overlap);
        let options = modelkeep::Store::options().clock(std::sync::Arc::clone(&clock)).fetch(policy);
        let store = options.in_memory().unwrap();
        let asked = std::sync::Mutex::new(Vec::new());
        let night = |day: &str, until: &str, factor: f64| {
            clock.set(at(day));
            let rows = |interval: Interval<Timestamp>| {
                asked.lock().unwrap().push(interval.start().day().to_string());
                let days = Calendar::nyse().sessions(interval.days());
                days.map(|session| scaled(bar(session.day.start(), 5000), factor)).collect::<Bars>()
            };
            let one = |_: &Symbol, _: Timeframe, interval| Ok::<Bars, FetchError>(rows(interval));
            let all = |symbols: &[Symbol], _: Timeframe, interval| {
                Ok::<_, FetchError>(symbols.iter().map(|symbol| (symbol.clone(), rows(interval))).collect::<Vec<_>>())
            };
            let week = between("2018-12-03", until);
            if many {
                let symbols = [Symbol::new("AAPL").unwrap()];
                let loaded = store.load_or_fetch_many(&symbols, Timeframe::DAY, week, &all).unwrap();
                loaded.symbols.into_iter().next().unwrap().1.unwrap()
            } else {
                store.load_or_fetch("AAPL", Timeframe::DAY, week, &one).unwrap()
            }
        };
        night("2018-12-07T23:30:00Z", "2018-12-08", 1.0);
        asked.lock().unwrap().clear();
        // Monday night, after a split.
        let loaded = night("2018-12-10T23:30:00Z", "2018-12-11", 0.25);
        let first = ["2018-12-08", "2018-12-07", "", "2018-12-04"][overlap as usize];
        assert_eq!(asked.lock().unwrap()[..], [first], "overlap {overlap}");
        assert_eq!((loaded.is_complete(), loaded.data.len()), (true, 5), "on 5 December 2018 the NYSE was closed");
        match overlap {
            0 => assert_eq!(loaded.report.rescaled, None),
            _ => assert_eq!(near(loaded.report.rescaled, 0.25).rows, u64::from(overlap)),
        }
        // Nothing is due: nothing is asked for.
        night("2018-12-10T23:40:00Z", "2018-12-11", 0.25);
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}

/// Of minutes the whole session before is asked for again, and not the morning of the same day.
#[test]
fn an_overlap_is_of_whole_sessions() {
    for (calendar, until, now, first) in [
        (Calendar::nyse(), "2018-12-18T15:30:00Z", "2018-12-18T16:00:00Z", "2018-12-17T14:30:00Z"),
        (Calendar::tokyo(), "2018-12-18T04:00:00Z", "2018-12-18T07:00:00Z", "2018-12-17T00:00:00Z"),
    ] {
        let clock = clock();
        let policy = crate::fetching::policy().overlap(1);
        let options = modelkeep::Store::options().clock(std::sync::Arc::clone(&clock)).fetch(policy);
        let store = options.calendar(calendar.clone()).in_memory().unwrap();
        let asked = std::sync::Mutex::new(Vec::new());
        let vendor = |_: &Symbol, _: Timeframe, interval: Interval<Timestamp>| {
            asked.lock().unwrap().push(interval.start());
            let parts = calendar.sessions(interval.days()).flat_map(|session| session.trading().collect::<Vec<_>>());
            let minutes = parts.flat_map(|part| {
                let count = part.end().since(part.start()).as_secs() / 300;
                (0..count).map(move |n| part.start().after(std::time::Duration::from_secs(300 * n)))
            });
            Ok::<Bars, FetchError>(minutes.filter(|at| interval.contains(*at)).map(|at| bar(at, 5000)).collect())
        };
        let load = |until: &str, now: &str| {
            clock.set(at(now));
            let span = Interval::new(at("2018-12-13"), at(until)).unwrap();
            store.load_or_fetch("X", "5m".parse().unwrap(), span, &vendor).unwrap();
        };
        load(until, until);
        asked.lock().unwrap().clear();
        load(now, now);
        assert!(asked.lock().unwrap().contains(&at(first)), "{calendar}: {asked:?}");
    }
}

#[test]
fn several_answers_of_one_load_are_one_change_of_scale() {
    let clock = clock();
    let store = store(&clock);
    let months = between("2018-01-01", "2018-12-01");
    let policy = crate::fetching::policy().max_request_span(crate::support::HOUR * 24 * 31);
    let series = store.bars("AAPL", Timeframe::DAY).unwrap().policy(policy);
    let vendor = |factor: f64| {
        move |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
            let days = Calendar::nyse().sessions(asked.days());
            let cents = |day: modelkeep::Day| 10_000 + i64::from(day.epoch_days() * 31 % 400);
            Ok::<Bars, FetchError>(
                days.map(|session| scaled(bar(session.day.start(), cents(session.day)), factor)).collect(),
            )
        }
    };
    let first = series.load_or_fetch(months, &vendor(1.0)).unwrap();
    assert!(first.report.calls > 5 && first.report.rescaled.is_none());
    series.mark_missing(all_time()).unwrap();
    let report = series.load_or_fetch(months, &vendor(0.1)).unwrap().report;
    assert_eq!(near(report.rescaled, 0.1).rows, report.fetched);
}
