//! Aggregates: stored as they are built, and the same as if all were built anew.

use modelkeep::{
    ErrorKind, Interval, Store, Timestamp,
    market::{BadRows, Bar, Bars, Calendar, Timeframe},
};
use proptest::prelude::*;

use crate::market::{MINUTE, all_time, at, bar, between, data};

#[test]
fn hours_and_days_of_real_minutes_follow_the_sessions() {
    let store = Store::in_memory().unwrap();
    let minutes = store.bars("MSFT", Timeframe::MINUTE).unwrap();
    minutes.import_csv(data("msft_1min.csv"), BadRows::Refuse, |_| ()).unwrap();
    let days = minutes.resample(Timeframe::DAY).unwrap();
    assert_eq!(days.written.added, 20);
    let day = days.bars.range(between("2022-06-14", "2022-06-15")).unwrap().get(0).unwrap();
    // The daily bar of another file of the same vendor: 243.860001 245.740005 241.509995 244.490005; the close is set
    // by the closing auction, which no minute has.
    assert_eq!((day.open, day.high, day.low), (243.860_001, 245.740_005, 241.509_995));
    assert_eq!(days.outside, 0);
    let hours = minutes.resample(Timeframe::HOUR).unwrap();
    let first = hours.bars.range(between("2022-06-14", "2022-06-15")).unwrap();
    let starts: Vec<_> = first.timestamps().iter().map(|at| at.to_string()[11..16].to_owned()).collect();
    assert_eq!(starts, ["13:30", "14:30", "15:30", "16:30", "17:30", "18:30", "19:30"]);
    let volume = |bars: &Bars| bars.volume().iter().sum::<f64>();
    assert_eq!(volume(&hours.bars.range(all_time()).unwrap()), volume(&minutes.range(all_time()).unwrap()));
}

#[test]
fn minute_bars_lie_within_the_sessions_of_the_calendar() {
    let store = Store::in_memory().unwrap();
    let minutes = store.bars("MSFT", Timeframe::MINUTE).unwrap();
    minutes.import_csv(data("msft_1min.csv"), BadRows::Refuse, |_| ()).unwrap();
    let bars = minutes.range(all_time()).unwrap();
    let nyse = Calendar::nyse();
    assert!(bars.timestamps().iter().all(|at| nyse.session_at(*at).is_some()));
    // Whole sessions have a bar for each minute.
    let day = nyse.session("2022-06-14".parse().unwrap()).unwrap();
    assert_eq!(minutes.range(Interval::new(day.open, day.close).unwrap()).unwrap().len(), 390);
    assert!(minutes.gaps(between("2022-05-19", "2022-06-15")).unwrap().is_empty());
}

#[test]
fn only_what_changed_is_gone_through_and_written() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap().calendar(Calendar::always_open());
    let start = at("2018-01-01").as_nanos();
    let one = |n: i64, cents| bar(Timestamp::from_nanos(start + n * MINUTE), cents);
    series.write(&(0..100_000).map(|n| one(n, 5000)).collect()).unwrap();
    let hours = series.resample(Timeframe::HOUR).unwrap();
    assert_eq!((hours.chunks_read, hours.written.added), (3, 1667));
    series.write(&[one(70_000, 5001)].into_iter().collect()).unwrap();
    let hours = series.resample(Timeframe::HOUR).unwrap();
    assert_eq!((hours.chunks_read, hours.written.replaced, hours.written.added), (1, 1, 0));
    series.remove(between("2018-01-05", "2018-01-06")).unwrap();
    assert_eq!(series.resample(Timeframe::HOUR).unwrap().written.removed, 24);
    // Another calendar, other hours.
    series.set_calendar(Calendar::nyse()).unwrap();
    let nyse = store.bars("BTC-USD", Timeframe::MINUTE).unwrap().resample(Timeframe::HOUR).unwrap();
    assert!(nyse.bars.range(all_time()).unwrap().timestamps()[0] == at("2018-01-02T14:30:00Z"));
}

#[test]
fn bars_outside_of_sessions_are_counted() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("X", Timeframe::MINUTE).unwrap();
    // An hour before the open, the first hour of the session.
    let start = at("2018-12-21T13:30:00Z").as_nanos();
    series.write(&(0..120).map(|n| bar(Timestamp::from_nanos(start + n * MINUTE), 5000)).collect()).unwrap();
    let hours = series.resample(Timeframe::HOUR).unwrap();
    assert_eq!((hours.written.added, hours.outside), (1, 60));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("X", Timeframe::MINUTE).unwrap();
    let refused = |target: Timeframe| series.resample(target).unwrap_err().kind();
    for target in ["1m", "30s", "90s"] {
        assert_eq!(refused(target.parse().unwrap()), ErrorKind::InvalidInput, "{target}");
    }
    let hours = series.resample(Timeframe::HOUR).unwrap().bars;
    assert_eq!(hours.write(&Bars::default()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(hours.remove(all_time()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(hours.resample(Timeframe::DAY).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn sessions_that_begin_on_the_day_before_in_utc_are_whole() {
    let sydney = Calendar::from_json(
        r#"{"name": "asx", "version": 1, "hours": "exchange", "zone": "Australia/Sydney", "open": "10:00", "close": "16:00",
            "first": "2015-01-01", "end": "2025-01-01", "weekend": ["Sat", "Sun"], "closed": ["2019-01-01"]}"#,
    )
    .unwrap();
    let store = Store::in_memory().unwrap();
    let series = store.bars("BHP", Timeframe::minutes(5).unwrap()).unwrap().calendar(sydney.clone());
    let days = Interval::parse("2018-10-20", "2019-03-10").unwrap();
    let mut rows = Vec::new();
    for session in sydney.sessions(days) {
        rows.extend((0..72).map(|n| bar(Timestamp::from_nanos(session.open.as_nanos() + n * 5 * MINUTE), 5000 + n)));
    }
    series.write(&rows.iter().copied().collect()).unwrap();
    for (target, days_each) in [("1d", 1), ("3d", 3), ("7d", 7)] {
        let found = series.resample(target.parse().unwrap()).unwrap();
        assert_eq!(found.outside, 0);
        let mut expected: std::collections::BTreeMap<i32, f64> = std::collections::BTreeMap::new();
        for bar in &rows {
            let day = sydney.session_at(bar.at).unwrap().day.epoch_days();
            *expected.entry((day - 4).div_euclid(days_each) * days_each + 4).or_default() += bar.volume;
        }
        let found: std::collections::BTreeMap<i32, f64> =
            found.bars.range(all_time()).unwrap().iter().map(|bar| (bar.at.day().epoch_days(), bar.volume)).collect();
        assert_eq!(found, expected, "{target}");
    }
}

/// Edits: where, how long, at what price, or whether to delete.
/// A week that begins in one month and ends in the next: minutes of a month are a chunk.
#[test]
fn an_aggregate_that_two_chunks_share_is_made_of_both() {
    let week: Timeframe = "7d".parse().unwrap();
    let store = Store::in_memory().unwrap();
    let series = store.bars("X", Timeframe::MINUTE).unwrap().calendar(Calendar::always_open());
    let start = at("2018-10-30").as_nanos();
    let time = |n: i64| Timestamp::from_nanos(start + n * MINUTE);
    series.write(&(0..4 * 1440).map(|n| bar(time(n), 5000 + n % 17)).collect()).unwrap();
    series.resample(week).unwrap();
    // A minute of November.
    series.write(&[bar(time(3 * 1440), 9000)].into_iter().collect()).unwrap();
    let found = series.resample(week).unwrap().bars.range(all_time()).unwrap();
    let minutes = series.range(all_time()).unwrap();
    assert_eq!(found.len(), 1, "all of it is one week");
    assert_eq!(found.timestamps()[0], at("2018-10-29"));
    assert_eq!((found.open()[0], found.close()[0]), (minutes.open()[0], *minutes.close().last().unwrap()));
    assert_eq!(found.high()[0], minutes.high().iter().copied().fold(f64::MIN, f64::max));
    assert_eq!(found.low()[0], minutes.low().iter().copied().fold(f64::MAX, f64::min));
    assert_eq!(found.volume()[0], minutes.volume().iter().sum::<f64>());
}

fn edits() -> impl Strategy<Value = Vec<(i64, i64, i64, bool)>> {
    prop::collection::vec((0i64..150_000, 1i64..3_000, 0i64..300, prop::bool::weighted(0.3)), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn aggregates_are_what_a_full_recomputation_makes(edits in edits(), exchange in any::<bool>(), target in 0usize..4) {
        let calendar = if exchange { Calendar::nyse() } else { Calendar::always_open() };
        let target: Timeframe = ["5m", "1h", "1d", "7d"][target].parse().unwrap();
        let store = Store::in_memory().unwrap();
        let series = store.bars("X", Timeframe::MINUTE).unwrap().calendar(calendar.clone());
        let start = at("2018-10-01").as_nanos();
        let time = |n: i64| Timestamp::from_nanos(start + n * MINUTE);
        for (first, len, cents, delete) in edits {
            if delete {
                series.remove(Interval::new(time(first), time(first + len)).unwrap()).unwrap();
            } else {
                let rows: Vec<Bar> = (first..first + len).map(|n| bar(time(n), 5000 + cents + n % 17)).collect();
                series.write(&rows.into_iter().collect()).unwrap();
            }
            let step_by_step = series.resample(target).unwrap().bars.range(all_time()).unwrap();
            let fresh = Store::in_memory().unwrap();
            let whole = fresh.bars("X", Timeframe::MINUTE).unwrap().calendar(calendar.clone());
            whole.write(&series.range(all_time()).unwrap()).unwrap();
            prop_assert_eq!(step_by_step, whole.resample(target).unwrap().bars.range(all_time()).unwrap());
        }
    }
}
