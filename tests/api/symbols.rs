//! Symbols as vendors write them, wherever they go: into rows, names, errors, and through a file.

use std::sync::Mutex;

use modelkeep::{
    ErrorKind, Interval, Store, Symbol, Timestamp,
    market::{Bars, FeatureSpec, FetchError, Lookback, Timeframe},
};

use crate::{
    market::{all_time, between, days},
    support::{Folder, error, key, samples, weights},
};

/// Sorted, as the store lists them.
const SYMBOLS: [&str; 16] = [
    "\"A\" 1d",
    "$SPX",
    "../../A",
    "/ESM4",
    "9988.HK",
    "A 1h of",
    "BRK B",
    "BRK.B",
    "CL+1",
    "EUR/USD",
    "EURUSD=X",
    "M&M.NS",
    "^VIX",
    "a:b|c,d;e",
    "x\\0y",
    "~{%}*?<>",
];

/// Bars that are those of one symbol alone.
fn bars_of(symbol: &str) -> Bars {
    let shift = SYMBOLS.iter().position(|known| *known == symbol).unwrap() as f64;
    days("2018-12-01", "2018-12-20").iter().map(|bar| modelkeep::market::Bar { volume: shift, ..bar }).collect()
}

#[test]
fn every_symbol_that_a_vendor_writes_comes_back_from_a_file() {
    let folder = Folder::new();
    let store = folder.open();
    for symbol in SYMBOLS {
        store.bars(symbol, Timeframe::DAY).unwrap().write(&bars_of(symbol)).unwrap();
        let level = SYMBOLS.iter().position(|known| *known == symbol).unwrap() as f64;
        store.levels(symbol).unwrap().write(&[("2018-12-24".parse().unwrap(), level)]).unwrap();
        store.publish(&key("m"), weights(1.0).training_data(samples(symbol, &[(1, 0.5)]))).unwrap();
    }
    drop(store);

    let store = folder.open();
    let listed = store.bar_symbols(Timeframe::DAY).unwrap();
    assert_eq!(listed.iter().map(Symbol::as_str).collect::<Vec<_>>(), SYMBOLS);
    for (n, symbol) in SYMBOLS.into_iter().enumerate() {
        let series = store.bars(symbol, Timeframe::DAY).unwrap();
        assert_eq!(series.range(all_time()).unwrap(), bars_of(symbol), "{symbol}");
        assert_eq!(series.symbol().as_str(), symbol);
        let levels = store.levels(symbol).unwrap();
        assert_eq!(levels.at("2018-12-24".parse().unwrap()).unwrap(), Some(n as f64), "{symbol}");
        // One is removed, and no other goes with it.
        series.remove(all_time()).unwrap();
        assert_eq!(store.bar_symbols(Timeframe::DAY).unwrap().len(), SYMBOLS.len() - n - 1);
    }
    let series = store.level_series().unwrap();
    assert_eq!(series.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), SYMBOLS);
    // Each publication has the one symbol, under the name as it was written.
    let last = store.training_data(&key("m")).unwrap().unwrap();
    assert_eq!(last.symbols().map(Symbol::as_str).collect::<Vec<_>>(), [SYMBOLS[15]]);
    assert_eq!(store.metadata(&key("m")).unwrap().unwrap().symbols[0].as_str(), SYMBOLS[15]);
    assert!(store.verify().unwrap().is_whole());
    // No symbol became a file.
    let files = std::fs::read_dir(folder.path().parent().unwrap()).unwrap();
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["models.redb"]);
}

#[test]
fn no_two_series_have_one_name() {
    let folder = Folder::new();
    let store = folder.open();
    let bars = days("2018-12-01", "2018-12-05");
    for symbol in SYMBOLS {
        store.bars(symbol, Timeframe::DAY).unwrap().write(&bars).unwrap();
    }
    store.bars("A", Timeframe::DAY).unwrap().write(&bars).unwrap();
    let mut names: Vec<_> = store.bar_series().unwrap().into_iter().map(|(name, _)| name).collect();
    for expected in ["A 1d", "\"A 1h of\" 1d", "\"BRK B\" 1d", "BRK.B 1d", r#""\"A\" 1d" 1d"#, r#""x\\0y" 1d"#] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
    names.dedup();
    assert_eq!(names.len(), SYMBOLS.len() + 1);
}

#[test]
fn fetchers_and_features_are_given_the_symbol_as_it_was_written() {
    let folder = Folder::new();
    let store = folder.open();
    let seen = Mutex::new(Vec::new());
    let vendor = |symbol: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        seen.lock().unwrap().push(symbol.to_string());
        Ok::<_, FetchError>(days("2018-12-01", "2018-12-20").iter().filter(|bar| asked.contains(bar.at)).collect())
    };
    let spec = FeatureSpec::new("range", 1, Timeframe::DAY, Lookback::Bars(0), &["range"]).unwrap();
    let week = between("2018-12-10", "2018-12-15");
    for symbol in SYMBOLS {
        let loaded = store.load_or_fetch(symbol, Timeframe::DAY, week, &vendor).unwrap();
        assert_eq!(loaded.complete().unwrap().len(), 5);
        let range = |bars: &Bars| vec![bars.iter().map(|bar| bar.high - bar.low).collect::<Vec<_>>()];
        let features = store.features(symbol, &spec).unwrap().get_or_compute(week, range).unwrap();
        assert_eq!(features.timestamps.len(), 5, "{symbol}");
    }
    assert_eq!(seen.into_inner().unwrap(), SYMBOLS);
}

#[test]
fn what_no_vendor_writes_is_refused_with_its_place() {
    let store = Store::in_memory().unwrap();
    for (symbol, part) in [
        ("BRK  B", "' ' at byte 4"),
        (" BRK", "' ' at byte 0"),
        ("BRK ", "' ' at byte 3"),
        ("BRK\n", "'\\n' at byte 3"),
        ("B\u{1b}[31m", "at byte 1"),
        ("BRK\u{a0}B", "at byte 3"),
        ("", "cannot be empty"),
    ] {
        let refused = error(store.bars(symbol, Timeframe::DAY));
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.message().contains(part), "{refused}");
        assert_eq!(error(store.levels(symbol)).kind(), ErrorKind::InvalidInput);
    }
    // The small alphabet of other names is what it was.
    assert!(modelkeep::ModelName::new("BRK B").is_err() && modelkeep::Label::new("^VIX").is_err());
}
