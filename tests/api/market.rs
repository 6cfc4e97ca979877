//! Bars, intervals and real files that the tests of market data share.

use std::path::{Path, PathBuf};

use modelkeep::{
    Day, Interval, Timestamp,
    market::{Bar, Bars},
};

pub const MINUTE: i64 = 60_000_000_000;

pub fn at(text: &str) -> Timestamp {
    text.parse::<Day>().map_or_else(|_| text.parse().unwrap(), Day::start)
}

pub fn between(start: &str, end: &str) -> Interval<Timestamp> {
    Interval::new(at(start), at(end)).unwrap()
}

pub fn all_time() -> Interval<Timestamp> {
    Interval::all_time()
}

/// A bar whose prices are a function of a number of cents.
pub fn bar(at: Timestamp, cents: i64) -> Bar {
    let price = |cents: i64| cents as f64 / 100.0;
    Bar {
        at,
        open: price(cents),
        high: price(cents + 7),
        low: price(cents - 5),
        close: price(cents + 2),
        volume: (cents % 977) as f64 * 100.0,
    }
}

/// Daily bars of every day in an interval.
pub fn days(start: &str, end: &str) -> Bars {
    let (start, end) = (at(start).day(), at(end).day());
    (start.epoch_days()..end.epoch_days())
        .map(|day| bar(Day::from_epoch_days(day).unwrap().start(), 10_000 + i64::from(day * 31 % 400)))
        .collect()
}

/// Minute bars from `start` on.
pub fn minutes(start: &str, count: i64) -> Bars {
    let start = at(start).as_nanos();
    (0..count).map(|n| bar(Timestamp::from_nanos(start + n * MINUTE), 10_000 + n * 31 % 400)).collect()
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}
