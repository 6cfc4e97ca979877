//! The memory tier of market data: it changes how long an answer takes, and no answer.

use modelkeep::{
    Interval, Store,
    market::{Bars, FeatureSpec, Field, Lookback, Timeframe},
};
use proptest::prelude::*;

use crate::{
    market::{all_time, at, bar, days},
    support::{Folder, HOUR},
};

#[test]
fn a_range_that_was_read_is_in_memory_until_it_changes() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let rows = days("2018-01-01", "2018-12-01");
    series.write(&rows).unwrap();
    let counted = || (store.market_memory().hits, store.market_memory().misses);
    assert_eq!(series.range(all_time()).unwrap(), rows);
    assert_eq!(counted(), (0, 1));
    assert_eq!(series.range(all_time()).unwrap(), rows);
    assert_eq!(series.column(Field::Close, all_time()).unwrap().values, rows.close());
    assert_eq!(counted(), (2, 1));
    // Another handle of the same file sees what is in the file.
    series.remove(Interval::new(at("2018-01-01"), at("2018-01-02")).unwrap()).unwrap();
    assert_eq!(series.range(all_time()).unwrap(), rows.slice(1..rows.len()));
    assert_eq!(counted(), (2, 2));
    let stats = store.market_memory();
    assert_eq!(stats.entries, 1);
    assert!(stats.bytes > 300 * 48 && stats.bytes < 300 * 96, "{stats:?}");
    drop(store);
    let store = folder.open();
    assert_eq!(store.bars("SPY", Timeframe::DAY).unwrap().range(all_time()).unwrap(), rows.slice(1..rows.len()));
    assert_eq!((store.market_memory().hits, store.market_memory().misses), (0, 1));
}

/// What is read once, as a long history is, is decoded into one piece, of which memory keeps no copy; what is read again
/// is kept.
#[test]
fn a_range_of_many_chunks_is_kept_when_it_is_read_again() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("SPY", Timeframe::HOUR).unwrap();
    let rows: Bars =
        (0..20_000_u32).map(|n| bar(at("2010-01-01").after(HOUR * n), i64::from(1_000 + n % 977))).collect();
    series.write(&rows).unwrap();
    let part = Interval::new(at("2010-03-01"), at("2012-01-01T05:00:00Z")).unwrap();
    let expected: Bars = rows.iter().filter(|bar| part.contains(bar.at)).collect();
    assert_eq!(series.range(part).unwrap(), expected);
    assert_eq!(store.market_memory().entries, 0);
    assert_eq!(series.range(part).unwrap(), expected);
    let chunks = store.market_memory().entries;
    assert!(chunks > 1, "{chunks}");
    assert_eq!(store.market_memory().hits, 0);
    assert_eq!(series.range(part).unwrap(), expected);
    assert_eq!(store.market_memory().hits, chunks);
    assert_eq!(series.range(all_time()).unwrap(), rows);
}

#[test]
fn features_that_were_read_are_in_memory_until_they_change() {
    let folder = Folder::new();
    folder.clock.advance(HOUR * 24 * 14);
    let store = folder.open();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&days("2018-01-01", "2018-12-01")).unwrap();
    let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"]).unwrap();
    let features = store.features("SPY", &spec).unwrap();
    let compute = |bars: &Bars| vec![bars.close().to_vec()];
    let first = features.get_or_compute(all_time(), compute).unwrap();
    features.get_or_compute(all_time(), compute).unwrap();
    let before = store.market_memory();
    let again = features.get_or_compute(all_time(), compute).unwrap();
    assert_eq!((again.rows_reused, &again.columns), (334, &first.columns));
    let after = store.market_memory();
    assert_eq!((after.misses, after.hits > before.hits), (before.misses, true));
    series.write(&[bar(at("2018-06-01"), 777)].into_iter().collect()).unwrap();
    assert_eq!(features.get_or_compute(all_time(), compute).unwrap().rows_computed, 30);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The same random work on three stores: without memory, with little, with much.
    #[test]
    fn no_answer_depends_on_what_is_in_memory(
        work in prop::collection::vec((0u8..4, 0usize..3, 0i64..500, 1i64..90, 0i64..5), 1..40),
    ) {
        let stores = [0, 30_000, 256 << 20].map(|bytes| Store::options().market_memory(bytes).in_memory().unwrap());
        let start = at("2017-06-01");
        let hour = |n: i64| start.after(HOUR * 24 * u32::try_from(n).unwrap());
        for (what, symbol, first, len, price) in work {
            // Hours lie in a chunk a year, minutes in one a month.
            let (symbol, timeframe) = [("A", Timeframe::HOUR), ("B", Timeframe::MINUTE), ("A", Timeframe::DAY)][symbol];
            let span = Interval::new(hour(first), hour(first + len)).unwrap();
            let mut answers = stores.iter().map(|store| {
                let series = store.bars(symbol, timeframe).unwrap();
                match what {
                    0 => {
                        let rows: Bars = (first..first + len).map(|n| bar(hour(n), 10_000 + price)).collect();
                        series.write(&rows).unwrap();
                    }
                    1 => {
                        series.remove(span).unwrap();
                    }
                    _ => {}
                }
                let column = series.column(Field::High, span).unwrap();
                (series.range(span).unwrap(), series.range(all_time()).unwrap(), column)
            });
            let first = answers.next().unwrap();
            for other in answers {
                prop_assert_eq!(&other, &first);
            }
        }
    }
}
