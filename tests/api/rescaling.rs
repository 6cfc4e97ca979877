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
