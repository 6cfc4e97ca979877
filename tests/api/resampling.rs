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
    let day = days.clone().accept_outside().range(between("2022-06-14", "2022-06-15")).unwrap().get(0).unwrap();
    // The daily bar of another file of the same vendor: 243.860001 245.740005 241.509995 244.490005; the close is set
    // by the closing auction, which no minute has.
    assert_eq!((day.open, day.high, day.low), (243.860_001, 245.740_005, 241.509_995));
    assert_eq!(days.outside, 0);
    let hours = minutes.resample(Timeframe::HOUR).unwrap();
    let first = hours.clone().accept_outside().range(between("2022-06-14", "2022-06-15")).unwrap();
    let starts: Vec<_> = first.timestamps().iter().map(|at| at.to_string()[11..16].to_owned()).collect();
    assert_eq!(starts, ["13:30", "14:30", "15:30", "16:30", "17:30", "18:30", "19:30"]);
    let volume = |bars: &Bars| bars.volume().iter().sum::<f64>();
    assert_eq!(
        volume(&hours.clone().accept_outside().range(all_time()).unwrap()),
        volume(&minutes.range(all_time()).unwrap())
    );
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
    assert!(nyse.accept_outside().range(all_time()).unwrap().timestamps()[0] == at("2018-01-02T14:30:00Z"));
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
    // More than a day, and no number of days: of sessions, and by the clock.
    for calendar in [Calendar::nyse(), Calendar::forex(), Calendar::always_open()] {
        let series = series.clone().calendar(calendar);
        for target in ["25h", "36h", "90h", "1441m"] {
            let err = series.resample(target.parse().unwrap()).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::InvalidInput, "{target}");
            assert!(err.message().contains("whole days (1d, 2d, 7d"), "{err}");
        }
        for target in ["23h", "24h", "48h", "7d"] {
            drop(series.resample(target.parse().unwrap()).unwrap());
        }
    }
    let hours = series.resample(Timeframe::HOUR).unwrap().accept_outside();
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
        let found: std::collections::BTreeMap<i32, f64> = found
            .clone()
            .accept_outside()
            .range(all_time())
            .unwrap()
            .iter()
            .map(|bar| (bar.at.day().epoch_days(), bar.volume))
            .collect();
        assert_eq!(found, expected, "{target}");
    }
}

/// A week that begins in one month and ends in the next: minutes of a month are a chunk.
#[test]
fn an_aggregate_that_two_chunks_share_is_made_of_both() {
    let week: Timeframe = "7d".parse().unwrap();
    let store = Store::in_memory().unwrap();
    let series = store.bars("X", Timeframe::MINUTE).unwrap().calendar(Calendar::always_open());
    let start = at("2018-10-30").as_nanos();
    let time = |n: i64| Timestamp::from_nanos(start + n * MINUTE);
    series.write(&(0..4 * 1440).map(|n| bar(time(n), 5000 + n % 17)).collect()).unwrap();
    drop(series.resample(week).unwrap());
    // A minute of November.
    series.write(&[bar(time(3 * 1440), 9000)].into_iter().collect()).unwrap();
    let found = series.resample(week).unwrap().accept_outside().range(all_time()).unwrap();
    let minutes = series.range(all_time()).unwrap();
    assert_eq!(found.len(), 1, "all of it is one week");
    assert_eq!(found.timestamps()[0], at("2018-10-29"));
    assert_eq!((found.open()[0], found.close()[0]), (minutes.open()[0], *minutes.close().last().unwrap()));
    assert_eq!(found.high()[0], minutes.high().iter().copied().fold(f64::MIN, f64::max));
    assert_eq!(found.low()[0], minutes.low().iter().copied().fold(f64::MAX, f64::min));
    assert_eq!(found.volume()[0], minutes.volume().iter().sum::<f64>());
}

/// Starts and numbers of bars of aggregates of minute bars with a volume of 1, as `MM-DDTHH:MM count`.
fn counted(series: &modelkeep::market::BarSeries<'_>, target: &str) -> (Vec<String>, u64) {
    let found = series.resample(target.parse().unwrap()).unwrap();
    let bars = found.clone().accept_outside().range(all_time()).unwrap();
    (bars.iter().map(|bar| format!("{} {}", &bar.at.to_string()[5..16], bar.volume)).collect(), found.outside)
}

fn minutes_of_volume_one(start: &str, count: i64) -> Bars {
    let start = at(start).as_nanos();
    (0..count).map(|n| Bar { volume: 1.0, ..bar(Timestamp::from_nanos(start + n * MINUTE), 5000 + n % 17) }).collect()
}

#[test]
fn hours_begin_anew_after_lunch() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("0700.HK", Timeframe::MINUTE).unwrap().calendar(Calendar::hong_kong());
    // From 9:20 to 16:10, lunch included.
    series.write(&minutes_of_volume_one("2024-06-03T01:20:00Z", 410)).unwrap();
    let (hours, outside) = counted(&series, "1h");
    assert_eq!(
        hours,
        ["06-03T01:30 60", "06-03T02:30 60", "06-03T03:30 30", "06-03T05:00 60", "06-03T06:00 60", "06-03T07:00 61"]
    );
    // The bar that begins at the close is the closing auction's.
    assert_eq!(outside, 10 + 60 + 9);
    assert_eq!(counted(&series, "4h").0, ["06-03T01:30 150", "06-03T05:00 181"]);
    assert_eq!(counted(&series, "1d"), (vec!["06-03T00:00 331".to_owned()], 79));
}

#[test]
fn sessions_over_midnight_are_one_day() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("ES", Timeframe::MINUTE).unwrap().calendar(Calendar::cme_equity_futures());
    // Two sessions, Thursday to Friday evening in Chicago, over the end of a month, with the hour between them.
    series.write(&minutes_of_volume_one("2024-10-30T22:00:00Z", 47 * 60)).unwrap();
    assert_eq!(counted(&series, "1d"), (vec!["10-31T00:00 1380".to_owned(), "11-01T00:00 1380".to_owned()], 60));
    let (hours, outside) = counted(&series, "5h");
    let starts = ["22:00 300", "03:00 300", "08:00 300", "13:00 300", "18:00 180"];
    let days = ["10-30", "10-31", "10-31", "10-31", "10-31", "10-31", "11-01", "11-01", "11-01", "11-01"];
    let expected: Vec<_> =
        days.iter().zip(starts.iter().cycle()).map(|(day, start)| format!("{day}T{start}")).collect();
    assert_eq!((hours, outside), (expected, 60));
    // A minute of November changes a bar that began in October.
    let one = Bar { volume: 3.0, ..bar(at("2024-11-01T01:30:00Z"), 9000) };
    series.write(&[one].into_iter().collect()).unwrap();
    assert_eq!(counted(&series, "5h").0[5], "10-31T22:00 302");
    assert_eq!(counted(&series, "1d").0, ["10-31T00:00 1380", "11-01T00:00 1382"]);
}

/// A session that begins where another ends, shortly after the end of a month: minutes of a month are a chunk.
#[test]
fn an_aggregate_ends_with_its_session() {
    let calendar = seamless();
    let store = Store::in_memory().unwrap();
    let series = store.bars("EURUSD", Timeframe::MINUTE).unwrap().calendar(calendar);
    series.write(&minutes_of_volume_one("2024-10-31T00:30:00Z", 2 * 24 * 60)).unwrap();
    let starts = ["00:30 420", "07:30 420", "14:30 420", "21:30 180"];
    let expected = |days: [&str; 2]| -> Vec<String> {
        days.iter().flat_map(|day| starts.iter().map(move |start| format!("{day}T{start}"))).collect()
    };
    assert_eq!(counted(&series, "7h"), (expected(["10-31", "11-01"]), 0));
    // A minute of October: the bar from 21:30 is three hours long, and the one after it is left alone.
    series.write(&[Bar { volume: 2.0, ..bar(at("2024-10-31T22:00:00Z"), 9000) }].into_iter().collect()).unwrap();
    let (hours, _) = counted(&series, "7h");
    assert_eq!((hours[3].as_str(), hours[4].as_str()), ("10-31T21:30 181", "11-01T00:30 420"));
}

/// Sessions of 24 hours, each of which begins at 00:30 UTC where the last one ends.
fn seamless() -> Calendar {
    let json = r#"{"name":"seamless","version":1,"hours":"exchange","zone":"UTC","open":"00:30","close":"00:30",
        "opens_day_before":true,"first":"2015-01-01","end":"2030-01-01"}"#;
    Calendar::from_json(json).unwrap()
}

/// Minutes of October, after minutes of November: the last bar that is read for October is the first of a session that
/// lies in November.
#[test]
fn an_edit_of_one_month_leaves_the_days_of_the_next_as_they_are() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("X", Timeframe::MINUTE).unwrap().calendar(seamless());
    let start = at("2018-10-01").as_nanos();
    let time = |n: i64| Timestamp::from_nanos(start + n * MINUTE);
    for (first, len) in [(44_640, 2_000), (43_435, 1_206)] {
        series.write(&(first..first + len).map(|n| bar(time(n), 5000 + n % 17)).collect()).unwrap();
        let step_by_step = series.resample(Timeframe::DAY).unwrap().whole().unwrap().range(all_time()).unwrap();
        let fresh = Store::in_memory().unwrap();
        let whole = fresh.bars("X", Timeframe::MINUTE).unwrap().calendar(seamless());
        whole.write(&series.range(all_time()).unwrap()).unwrap();
        assert_eq!(step_by_step, whole.resample(Timeframe::DAY).unwrap().whole().unwrap().range(all_time()).unwrap());
    }
}

/// Edits: where, how long, at what price, or whether to delete.
fn edits() -> impl Strategy<Value = Vec<(i64, i64, i64, bool)>> {
    prop::collection::vec((0i64..150_000, 1i64..3_000, 0i64..300, prop::bool::weighted(0.3)), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn aggregates_are_what_a_full_recomputation_makes(edits in edits(), calendar in 0usize..4, target in 0usize..5) {
        let calendar =
            [Calendar::nyse(), Calendar::always_open(), seamless(), Calendar::hong_kong()][calendar].clone();
        let target: Timeframe = ["5m", "1h", "7h", "1d", "7d"][target].parse().unwrap();
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
            let step_by_step = series.resample(target).unwrap().accept_outside().range(all_time()).unwrap();
            let fresh = Store::in_memory().unwrap();
            let whole = fresh.bars("X", Timeframe::MINUTE).unwrap().calendar(calendar.clone());
            whole.write(&series.range(all_time()).unwrap()).unwrap();
            prop_assert_eq!(step_by_step, whole.resample(target).unwrap().accept_outside().range(all_time()).unwrap());
        }
    }
}
