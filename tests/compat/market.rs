//! A file with market data: every form that columns have, a history, a ledger, aggregates and features.
//!
//! `tests/golden/market1.redb.zst` was written by `writes_the_golden_file` below.

use std::{path::Path, sync::Arc, time::Duration};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    clock::ManualClock,
    market::{
        BadRows, Bar, BarCodec, BarFacts, Bars, Calendar, Changes, Coverage, FactsFilter, FeatureSpec, FetchError,
        Lookback, Timeframe,
    },
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/market1.redb.zst");
/// Set it to a path to have the golden file written there.
const WRITE: &str = "MODELKEEP_WRITE_GOLDEN_MARKET";

fn at(text: &str) -> Timestamp {
    text.parse::<Day>().unwrap().start()
}

fn year() -> Interval<Timestamp> {
    Interval::<Day>::parse("2018-01-01", "2019-01-01").unwrap().span()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(at("2019-01-02")))
}

/// What the prices of a series look like.
type Form = fn(f64) -> f64;

const FORMS: [(&str, Form); 4] = [
    ("CENTS", |price| (price * 100.0).round() / 100.0),
    // As a vendor prints what he keeps in 32 bits.
    ("SINGLE", |price| (f64::from(((price * 100.0).round() / 100.0) as f32) * 1e6).round() / 1e6),
    ("DOUBLES", |price| price * std::f64::consts::PI),
    ("ODD", |price| if price > 109.5 { f64::NAN } else { price.round() }),
];

fn bars(form: Form, step: i64, n: i64) -> Bars {
    let start = at("2018-06-28").as_nanos();
    let bar = |row: i64| {
        let price = 100.0 + ((row * 7919) % 1000) as f64 / 100.0;
        Bar {
            at: Timestamp::from_nanos(start + row * step),
            open: form(price),
            high: form(price + 0.75),
            low: form(price - 0.5),
            close: form(price + 0.25),
            volume: (100 * (row % 37)) as f64,
        }
    };
    (0..n).map(bar).collect()
}

fn series() -> impl Iterator<Item = (&'static str, Timeframe, BarCodec, Bars)> {
    let timeframes = [(Timeframe::MINUTE, BarCodec::Packed, 6000), (Timeframe::DAY, BarCodec::Pco, 150)];
    FORMS.into_iter().flat_map(move |(symbol, form)| {
        timeframes.into_iter().map(move |(timeframe, codec, n)| {
            (symbol, timeframe, codec, bars(form, timeframe.as_nanos().cast_signed(), n))
        })
    })
}

fn spec() -> FeatureSpec {
    FeatureSpec::new("golden", 1, Timeframe::MINUTE, Lookback::Bars(1), &["change"]).unwrap().params(&[1, 2]).unwrap()
}

fn change(bars: &Bars) -> Vec<Vec<f64>> {
    let change = bars.close().windows(2).map(|pair| pair[1] / pair[0] - 1.0);
    vec![[f64::NAN].into_iter().chain(change).take(bars.len()).collect()]
}

fn restated() -> Bar {
    Bar { at: at("2018-06-29"), open: 1.0, high: 2.0, low: 0.5, close: 1.5, volume: 7.0 }
}

fn write(path: &Path) {
    let clock = clock();
    for (symbol, timeframe, codec, bars) in series() {
        let store = Store::options().clock(Arc::clone(&clock)).bar_codec(codec).open(path).unwrap();
        store.bars(symbol, timeframe).unwrap().write_with(&bars, BadRows::Keep).unwrap();
    }
    let store = Store::options().clock(Arc::clone(&clock)).open(path).unwrap();
    drop(store.bars("CENTS", Timeframe::MINUTE).unwrap().resample(Timeframe::HOUR).unwrap());
    store.features("CENTS", &spec()).unwrap().get_or_compute(year(), change).unwrap();
    clock.advance(Duration::from_secs(3600));
    store.bars("CENTS", Timeframe::DAY).unwrap().write(&[restated()].into_iter().collect()).unwrap();
    let nothing = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Err(FetchError::permanent("no route"));
    store.load_or_fetch("NOBODY", Timeframe::DAY, year(), &nothing).unwrap();
    let empty = |_: &Symbol, _: Interval<Day>| Ok::<_, FetchError>(Vec::new());
    let january = Interval::parse("2018-01-01", "2018-02-01").unwrap();
    store.levels("VIX").unwrap().load_or_fetch(january, &empty).unwrap();
}

/// What is written now says the same as the golden file. With the environment variable it becomes one.
#[test]
fn a_file_that_is_written_now_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.redb");
    write(&plain);
    check(&Store::options().clock(clock()).read_only(true).open(&plain).unwrap());
    if let Some(path) = std::env::var_os(WRITE) {
        let packed = zstd::bulk::compress(&std::fs::read(&plain).unwrap(), 19).unwrap();
        std::fs::write(path, packed).unwrap();
    }
}

#[test]
fn a_file_with_market_data_says_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("golden.redb");
    let packed = std::fs::read(GOLDEN).unwrap();
    std::fs::write(&path, zstd::bulk::decompress(&packed, 64 << 20).unwrap()).unwrap();
    check(&Store::options().clock(clock()).read_only(true).open(&path).unwrap());
}

/// What an older release took for known to be empty is asked for again, and what is stored is not.
#[test]
fn an_older_ledger_is_judged_anew_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("golden.redb");
    let packed = std::fs::read(GOLDEN).unwrap();
    std::fs::write(&path, zstd::bulk::decompress(&packed, 64 << 20).unwrap()).unwrap();
    let january = Interval::parse("2018-01-01", "2018-02-01").unwrap();
    let vendor = |_: &Symbol, days: Interval<Day>| {
        Ok::<_, FetchError>(Calendar::nyse().sessions(days).map(|session| (session.day, 10.0)).collect())
    };
    for opened in 0..2 {
        let store = Store::options().clock(clock()).open(&path).unwrap();
        let known = store.levels("VIX").unwrap().coverage(january).unwrap();
        assert_eq!(known[0].coverage, if opened == 0 { Coverage::Missing } else { Coverage::Present });
        let loaded = store.levels("VIX").unwrap().load_or_fetch(january, &vendor).unwrap();
        assert_eq!((loaded.data.len(), loaded.is_complete(), loaded.report.calls), (21, true, 1 - opened));
        // Bars that are stored are there, and only they: each day is one stretch of what was written.
        let minutes = store.bars("CENTS", Timeframe::MINUTE).unwrap();
        let stored = minutes.range(year()).unwrap();
        let nothing = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Err(FetchError::permanent("no route"));
        let first = stored.timestamps()[0];
        let there = Interval::new(first, first.after(Duration::from_secs(3600))).unwrap();
        let loaded = minutes.load_or_fetch(there, &nothing).unwrap();
        assert_eq!((loaded.data.len(), loaded.is_complete(), loaded.report.calls), (60, true, 0));
        store.close().unwrap();
    }
}

/// Facts of an older file are those of its chunks, also where it is only read; a write writes them down for its series.
#[test]
fn an_older_file_has_facts_and_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("golden.redb");
    let packed = std::fs::read(GOLDEN).unwrap();
    std::fs::write(&path, zstd::bulk::decompress(&packed, 64 << 20).unwrap()).unwrap();
    let facts = |store: &Store| -> Vec<BarFacts> {
        let all = store.bar_facts(&FactsFilter::all()).unwrap();
        let all: Vec<_> = all.into_iter().map(|(_, facts)| facts.unwrap()).collect();
        for facts in &all {
            let bars = store.bars(facts.symbol.as_str(), facts.timeframe).unwrap().range(Interval::all_time()).unwrap();
            let last = bars.last().unwrap();
            assert_eq!((facts.bars, facts.span), (bars.len() as u64, (bars.timestamps()[0], last.at)));
            assert_eq!(facts.last_close.to_bits(), last.close.to_bits());
        }
        all
    };
    let read_only = Store::options().clock(clock()).read_only(true).open(&path).unwrap();
    let of_then = facts(&read_only);
    assert_eq!((of_then.len(), read_only.bar_series().unwrap().len()), (8, 9));
    assert!(of_then.iter().all(|facts| facts.written_at.is_none()));
    let state = read_only.market_state().unwrap();
    assert_eq!(read_only.changed_since(&state).unwrap(), Changes::Series(Vec::new()));
    drop(read_only);

    let store = Store::options().clock(clock()).open(&path).unwrap();
    let cents = store.bars("CENTS", Timeframe::DAY).unwrap();
    cents.write(&[Bar { at: at("2018-12-31"), ..restated() }].into_iter().collect()).unwrap();
    let now = facts(&store);
    let written: Vec<_> = now.iter().filter(|facts| facts.written_at.is_some()).collect();
    assert_eq!((now.len(), written.len(), written[0].symbol.as_str(), written[0].bars), (8, 1, "CENTS", 151));
    assert!(matches!(store.changed_since(&state).unwrap(), Changes::Everything { .. }));
    let state = store.market_state().unwrap();
    cents.remove(Interval::new(at("2018-06-28"), at("2018-07-02")).unwrap()).unwrap();
    let Changes::Series(changed) = store.changed_since(&state).unwrap() else { panic!("it is this store's") };
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].intervals, [Interval::new(at("2018-06-28"), at("2018-07-02")).unwrap()]);
    facts(&store);
    assert!(store.verify().unwrap().is_whole());
}

fn check(store: &Store) {
    assert!(store.verify().unwrap().is_whole());
    for (symbol, timeframe, _, bars) in series() {
        let series = store.bars(symbol, timeframe).unwrap();
        let first = series.range_as_of(year(), at("2019-01-02")).unwrap();
        // What was written has no flaws yet; what was stored has them.
        assert_eq!(
            first.iter().map(|bar| format!("{bar:?}")).collect::<Vec<_>>(),
            bars.iter().map(|bar| format!("{bar:?}")).collect::<Vec<_>>()
        );
        assert_eq!(first.flawed() > 0, symbol == "ODD", "{symbol} {timeframe}");
        let now = series.range(year()).unwrap();
        let is_restated = symbol == "CENTS" && timeframe == Timeframe::DAY;
        assert_eq!(now.get(1).unwrap() == restated(), is_restated);
    }
    // The calendar of then: version 1 in the golden file, which a read-only store cannot bring up to date.
    let minutes = store.bars("CENTS", Timeframe::MINUTE).unwrap();
    let judge = minutes.stored_calendar().unwrap().unwrap();
    let hours = minutes.calendar(judge.clone()).resample(Timeframe::HOUR).unwrap();
    assert_eq!((hours.chunks_read, hours.clone().accept_outside().range(year()).unwrap().len()), (0, 14));
    let features = store.features("CENTS", &spec()).unwrap();
    let found = features.get_or_compute(year(), |_| unreachable!("it is stored")).unwrap();
    let cents = store.bars("CENTS", Timeframe::MINUTE).unwrap().range(year()).unwrap();
    assert_eq!(found.rows_reused, 6000);
    assert_eq!(found.columns[0][1..], change(&cents)[0][1..]);
    let nobody = store.bars("NOBODY", Timeframe::DAY).unwrap();
    let known = nobody.coverage(year()).unwrap();
    let Coverage::Failed { attempts: 1, reason, retry_at } = &known[0].coverage else { panic!("{known:?}") };
    assert_eq!((reason.as_str(), retry_at.to_string().as_str()), ("no route", "2019-01-02T01:15:00Z"));
    assert_eq!(nobody.stored_calendar().unwrap().unwrap(), judge);
    // Version 1 of the NYSE's calendar is, but for its name, the one that Nasdaq still has: byte for byte.
    let is_of_then = judge.to_json() == Calendar::nasdaq().to_json().replace("nasdaq", "nyse");
    assert!(is_of_then || judge == Calendar::nyse(), "{}", judge.to_json());
    assert_eq!(is_of_then, judge.version() == 1);
    let january = Interval::parse("2018-01-01", "2018-02-01").unwrap();
    // Releases of then took an empty answer for proof, which this one does not believe.
    let levels = &store.levels("VIX").unwrap().coverage(january).unwrap()[0].coverage;
    let is_as_it_was =
        if is_of_then { *levels == Coverage::Missing } else { matches!(levels, Coverage::AssumedEmpty { .. }) };
    assert!(is_as_it_was, "{levels:?}");
}
