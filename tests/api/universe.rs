//! Bars of many symbols: written in one transaction, listed by their facts, and what changed since a state.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use modelkeep::{
    ErrorKind, Interval, Store, Symbol, Timestamp,
    disk::{Access, Disk, Fault},
    market::{BadRows, Bar, BarSummary, Bars, Changes, Coverage, FactsFilter, MarketState, ScanOptions, Timeframe},
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    market::{all_time, at, bar, between, days, minutes},
    support::{Folder, both, error},
};

const DAY: Timeframe = Timeframe::DAY;

fn symbol(text: &str) -> Symbol {
    Symbol::new(text).unwrap()
}

/// Counts syncs.
#[derive(Debug, Default)]
struct Syncs(AtomicU64);

impl Disk for Syncs {
    fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
        self.0.fetch_add(u64::from(matches!(access, Access::Sync { .. })), Ordering::Relaxed);
        Ok(())
    }
}

fn universe(symbols: usize) -> Vec<(Symbol, Bars)> {
    (0..symbols)
        .map(|n| {
            let bars: Bars = days("2018-01-01", "2018-03-01")
                .iter()
                .map(|bar| Bar { close: bar.close + n as f64 / 1000.0, high: bar.high + 1.0, ..bar })
                .collect();
            (symbol(&format!("S{n:04}")), bars)
        })
        .collect()
}

fn series(store: &Store) -> Vec<BarSummary> {
    store.bar_series().unwrap().into_iter().map(|(_, summary)| summary.unwrap()).collect()
}

#[test]
fn many_symbols_are_written_as_each_of_them_would_be() {
    both(|store, clock| {
        let one_by_one =
            Store::options().clock(Arc::new(modelkeep::clock::ManualClock::at(at("2018-12-24T18:00:00Z"))));
        let other = one_by_one.in_memory().unwrap();
        clock.set(at("2018-12-24T18:00:00Z"));
        let mut rows = universe(40);
        rows.reverse();
        for round in 0..3 {
            let written = store.write_many(DAY, &rows).unwrap();
            for ((symbol, bars), written) in rows.iter().zip(written) {
                let series = other.bars(symbol.as_str(), DAY).unwrap();
                assert_eq!(series.write(bars).unwrap(), written, "{symbol} in round {round}");
                let stored = store.bars(symbol.as_str(), DAY).unwrap();
                assert_eq!(stored.range(all_time()).unwrap(), series.range(all_time()).unwrap());
                let known = between("2017-01-01", "2019-01-01");
                assert_eq!(stored.coverage(known).unwrap(), series.coverage(known).unwrap());
                assert_eq!(stored.stored_calendar().unwrap(), series.stored_calendar().unwrap());
            }
            // A restatement and an appended bar.
            for (n, (_, bars)) in rows.iter_mut().enumerate().filter(|(n, _)| n % 3 == round) {
                let first = Bar { volume: 7.0 + n as f64, ..bars.get(0).unwrap() };
                *bars = [first, bar(at("2018-03-05"), 10_000)].into_iter().collect();
            }
        }
        assert_eq!(series(store), series(&other));
        assert!(store.verify().unwrap().is_whole());
    });
}

#[test]
fn all_is_written_or_nothing_and_the_error_names_symbol_and_row() {
    both(|store, _| {
        let mut rows = universe(20);
        let bad: Bars = rows[7].1.iter().take(3).chain([bar(at("2018-01-02"), 10_000)]).collect();
        rows[7].1 = bad;
        let err = error(store.write_many(DAY, &rows));
        assert_eq!(err.kind(), ErrorKind::InvalidInput);
        assert!(err.to_string().contains("S0007 1d: row 3 at 2018-01-02"), "{err}");
        assert!(store.bar_series().unwrap().is_empty());

        let mut rows = universe(3);
        rows.push((symbol("S0001"), Bars::default()));
        let err = error(store.write_many(DAY, &rows));
        assert!(err.to_string().contains("S0001 1d: the symbol is there twice, at 1 and at 3"), "{err}");

        // What one series cannot take, none of them takes.
        let store = Store::in_memory().unwrap();
        let other = modelkeep::market::Calendar::xetra();
        store.bars("S0002", DAY).unwrap().write_with(&rows[2].1, BadRows::Refuse).unwrap();
        store.bars("S0002", DAY).unwrap().set_calendar(other).unwrap();
        let outside = between("2018-01-01", "2018-01-05");
        let err = error(store.write_many_covering(DAY, &universe(3), outside));
        assert!(err.message().contains("lies outside of"), "{err}");
        assert_eq!(store.bar_symbols(DAY).unwrap().len(), 1);
        // A series keeps its own calendar.
        store.write_many(DAY, &universe(3)).unwrap();
        let of = |name: &str| store.bars(name, DAY).unwrap().stored_calendar().unwrap().unwrap().name().to_string();
        assert_eq!((of("S0002"), of("S0001")), ("xetra".to_owned(), "nyse".to_owned()));
    });
}

#[test]
fn many_symbols_take_the_syncs_of_one() {
    let folder = Folder::new();
    let disk = Arc::new(Syncs::default());
    let store = folder.options().disk(Arc::<Syncs>::clone(&disk)).open(folder.path()).unwrap();
    let syncs = || disk.0.swap(0, Ordering::Relaxed);
    let rows = universe(100);
    store.bars("FIRST", DAY).unwrap().write(&rows[0].1).unwrap();
    syncs();
    for (symbol, bars) in &rows {
        store.bars(symbol.as_str(), DAY).unwrap().write(bars).unwrap();
    }
    let one_by_one = syncs();
    let next: Vec<_> =
        rows.iter().map(|(symbol, _)| (symbol.clone(), Bars::from_iter([bar(at("2018-03-01"), 9_000)]))).collect();
    store.write_many(DAY, &next).unwrap();
    let at_once = syncs();
    assert!(one_by_one >= 50 * at_once, "{one_by_one} syncs one by one, {at_once} at once");
}

#[test]
fn what_is_said_to_be_all_is_not_missing() {
    both(|store, _| {
        let month = between("2018-01-01", "2018-02-01");
        let there = |bar: &Bar| month.contains(bar.at);
        let mut rows = universe(3);
        rows.iter_mut().for_each(|(_, bars)| *bars = bars.iter().filter(there).collect());
        rows[1].1 = Bars::default();
        store.write_many_covering(DAY, &rows, month).unwrap();
        let known = |n: usize| store.bars(rows[n].0.as_str(), DAY).unwrap().coverage(month).unwrap();
        assert_eq!(known(0)[0].coverage, Coverage::Present);
        assert_eq!((known(1).len(), &known(1)[0].coverage), (1, &Coverage::Empty));
    });
}

/// Everything that facts say, against the bars themselves.
fn check_facts(store: &Store) {
    let facts: Vec<_> = store
        .bar_facts(&FactsFilter::all().aggregates(true))
        .unwrap()
        .into_iter()
        .map(|(_, facts)| facts.unwrap())
        .collect();
    let summaries: Vec<_> = store.bar_series().unwrap().into_iter().map(|(_, summary)| summary.unwrap()).collect();
    assert_eq!(facts.len(), summaries.len());
    for (facts, summary) in facts.iter().zip(&summaries) {
        assert_eq!((&facts.symbol, facts.timeframe), (&summary.symbol, summary.timeframe));
        assert_eq!((facts.bars, facts.span, facts.chunks), (summary.bars, summary.span, summary.chunks));
        assert_eq!(facts.stored_bytes, summary.stored_bytes);
        if facts.resampled_from.is_none() {
            let bars = store.bars(facts.symbol.as_str(), facts.timeframe).unwrap().range(all_time()).unwrap();
            let last = bars.last().unwrap();
            assert_eq!((facts.bars, facts.span), (bars.len() as u64, (bars.timestamps()[0], last.at)));
            assert_eq!((facts.last_close, facts.last_volume), (last.close, last.volume));
        }
    }
    // Verification compares facts with the chunks.
    let found = store.verify().unwrap();
    assert!(found.is_whole(), "{:?}", found.damage);
}

#[test]
fn facts_follow_every_path_that_changes_bars() {
    both(|store, clock| {
        store.write_many(DAY, &universe(5)).unwrap();
        check_facts(store);
        let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
        series.write(&minutes("2018-10-20", 60 * 24 * 80)).unwrap();
        check_facts(store);
        assert_eq!(
            store.bar_facts(&FactsFilter::all().timeframe(Timeframe::MINUTE)).unwrap()[0].1.as_ref().unwrap().chunks,
            4
        );
        drop(series.resample(Timeframe::HOUR).unwrap());
        check_facts(store);
        // The first chunk, a middle one and the last one go, and rows of one.
        for (start, end) in [
            ("2018-10-01", "2018-11-01"),
            ("2018-11-10", "2018-11-11"),
            ("2018-12-01", "2019-01-01"),
            ("2019-01-07", "2020-01-01"),
            ("2019-01-01", "2020-01-01"),
        ] {
            series.remove(between(start, end)).unwrap();
            check_facts(store);
            drop(series.resample(Timeframe::HOUR).unwrap());
            check_facts(store);
        }
        series.remove(all_time()).unwrap();
        check_facts(store);
        assert_eq!(store.bar_series().unwrap().iter().filter(|(name, _)| name == "BTC-USD 1m").count(), 0);
        series.write(&minutes("2017-10-20", 10)).unwrap();
        check_facts(store);
        // By a load, with the time of the store's clock.
        clock.set(at("2019-06-01"));
        let vendor = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Ok(days("2018-05-01", "2018-06-01"));
        store.load_or_fetch("SPY", DAY, between("2018-05-01", "2018-06-01"), &vendor).unwrap();
        check_facts(store);
        let spy = store.bar_facts(&FactsFilter::all().symbols([symbol("SPY")])).unwrap().remove(0).1.unwrap();
        assert_eq!((spy.bars, spy.written_at, spy.covered_until), (22, Some(at("2019-06-01")), Some(at("2018-06-01"))));
    });
}

#[test]
fn a_filter_looks_at_facts_alone() {
    both(|store, clock| {
        clock.set(at("2019-01-10"));
        let of = |day: &str, cents: i64| Bars::from_iter([bar(at("2018-12-03"), 500), bar(at(day), cents)]);
        store
            .write_many(DAY, &[(symbol("OLD"), of("2018-12-20", 10_000)), (symbol("NEW"), of("2019-01-09", 20_000))])
            .unwrap();
        store.bars("NEW", Timeframe::HOUR).unwrap().write(&of("2019-01-09T10:00:00Z", 100)).unwrap();
        let names = |filter: FactsFilter| {
            store.bar_facts(&filter).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let all = FactsFilter::all();
        assert_eq!(names(all.clone()), ["NEW 1h", "NEW 1d", "OLD 1d"]);
        assert_eq!(names(all.clone().timeframe(DAY)), ["NEW 1d", "OLD 1d"]);
        assert_eq!(names(all.clone().symbols([symbol("OLD"), symbol("NOBODY")])), ["OLD 1d"]);
        assert_eq!(names(all.clone().last_close(150.0..)), ["NEW 1d"]);
        assert_eq!(names(all.clone().last_close(..100.02)), ["NEW 1h"]);
        assert_eq!(names(all.clone().last_close(..=100.02)), ["NEW 1h", "OLD 1d"]);
        assert_eq!(names(all.clone().last_volume(100.0 * 200.0..)), ["NEW 1d", "OLD 1d"]);
        assert_eq!(names(all.clone().bars(3..)), [""; 0]);
        assert_eq!(names(all.clone().age(..Duration::from_secs(2 * 86_400)).timeframe(DAY)), ["NEW 1d"]);
        assert_eq!(names(all.clone().age(Duration::from_secs(2 * 86_400)..)), ["OLD 1d"]);
        assert_eq!(names(all.covered_until(at("2019-01-01")..)), ["NEW 1h", "NEW 1d"]);
    });
}

/// A list of series reads no bars: it says the same when they are damaged, and reading them says that they are.
#[test]
fn a_list_of_series_decodes_no_bars() {
    let folder = Folder::new();
    let store = folder.open();
    let rows = ["AAPL", "SPY"].map(|name| (symbol(name), minutes("2018-11-01", 3000)));
    store.write_many(Timeframe::MINUTE, &rows).unwrap();
    let listed = series(&store);
    store.close().unwrap();
    let mut bytes = std::fs::read(folder.path()).unwrap();
    let schema = blake3::derive_key("modelkeep 2026 schema id v1", b"modelkeep.bars");
    let header = bytes.windows(8).position(|window| window == &schema[..8]).unwrap() - 8;
    bytes[header + 112 + 1500] ^= 0x40;
    std::fs::write(folder.path(), &bytes).unwrap();

    let store = folder.open();
    assert_eq!(series(&store), listed);
    assert_eq!(store.bar_symbols(Timeframe::MINUTE).unwrap(), [symbol("AAPL"), symbol("SPY")]);
    let is_damaged = |name: &&str| {
        store
            .bars(name, Timeframe::MINUTE)
            .unwrap()
            .range(all_time())
            .is_err_and(|err| err.kind() == ErrorKind::Corrupt)
    };
    let damaged: Vec<_> = ["AAPL", "SPY"].into_iter().filter(is_damaged).collect();
    assert_eq!(damaged.len(), 1);
    // A scan hands the error out in its place, and goes on.
    let scanned: Vec<_> = store.scan_bars(Timeframe::MINUTE, ScanOptions::default()).unwrap().collect();
    assert_eq!((scanned.len(), scanned.iter().filter(|found| found.is_err()).count()), (2, 1));
    // What makes room for good bars makes the facts right again.
    let again = store.bars(damaged[0], Timeframe::MINUTE).unwrap();
    again.remove(all_time()).unwrap();
    assert_eq!(series(&store).len(), 1);
    again.write(&minutes("2018-11-01", 3)).unwrap();
    let facts = store.bar_facts(&FactsFilter::all().symbols([symbol(damaged[0])])).unwrap().remove(0).1.unwrap();
    assert_eq!((facts.bars, facts.chunks, facts.span), (3, 1, (at("2018-11-01"), at("2018-11-01T00:02:00Z"))));
}

fn changed(store: &Store, since: &MarketState) -> BTreeMap<String, Vec<Interval<Timestamp>>> {
    match store.changed_since(since).unwrap() {
        Changes::Series(changed) => changed
            .into_iter()
            .map(|changed| (format!("{} {}", changed.symbol, changed.timeframe), changed.intervals))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn changes_are_of_rows_and_not_of_chunks() {
    both(|store, _| {
        let nothing = store.market_state().unwrap();
        assert_eq!(changed(store, &nothing), BTreeMap::new());
        store.write_many(DAY, &universe(3)).unwrap();
        assert!(matches!(store.changed_since(&nothing).unwrap(), Changes::Everything { .. }));
        let cold = store.market_state().unwrap();
        assert_eq!(cold.to_string().parse::<MarketState>().unwrap(), cold);
        let json = serde_json::to_string(&cold).unwrap();
        assert_eq!(serde_json::from_str::<MarketState>(&json).unwrap(), cold);
        let series = store.bars("S0001", DAY).unwrap();
        series.write(&[bar(at("2018-01-20"), 1_000)].into_iter().collect()).unwrap();
        let restated = store.market_state().unwrap();
        series.write(&days("2018-03-01", "2018-03-05")).unwrap();
        series.remove(between("2018-01-03", "2018-01-05")).unwrap();
        let removed = store.market_state().unwrap();
        // Nothing that changes nothing counts.
        series.mark_missing(all_time()).unwrap();
        store.write_many(DAY, &universe(1)).unwrap();
        assert_eq!(store.market_state().unwrap(), removed);
        let parts = [("2018-01-03", "2018-01-05"), ("2018-01-20", "2018-01-21"), ("2018-03-01", "2018-03-05")];
        let parts = parts.map(|(start, end)| between(start, end));
        assert_eq!(changed(store, &cold), BTreeMap::from([("S0001 1d".to_owned(), parts.to_vec())]));
        assert_eq!(changed(store, &restated)["S0001 1d"], [parts[0], parts[2]]);
        assert!(changed(store, &removed).is_empty());
        // Aggregates are series, too.
        drop(store.bars("S0002", DAY).unwrap().resample("7d".parse().unwrap()).unwrap());
        assert_eq!(changed(store, &removed).keys().collect::<Vec<_>>(), ["S0002 7d"]);
    });
}

#[test]
fn a_state_survives_restarts_and_compaction_and_not_another_store() {
    let folder = Folder::new();
    let store = folder.open();
    store.write_many(DAY, &universe(3)).unwrap();
    let state = store.market_state().unwrap();
    store.compact().unwrap();
    assert_eq!(store.market_state().unwrap(), state);
    store.close().unwrap();
    let backup = std::fs::read(folder.path()).unwrap();

    let store = folder.open();
    assert_eq!(store.market_state().unwrap(), state);
    let append = |store: &Store, day: &str| {
        store.bars("S0001", DAY).unwrap().write(&Bars::from_iter([bar(at(day), 9_000)])).unwrap();
        store.market_state().unwrap()
    };
    let later = append(&store, "2018-03-01");
    assert_eq!(changed(&store, &state)["S0001 1d"], [between("2018-03-01", "2018-03-02")]);
    store.close().unwrap();
    assert_eq!(changed(&folder.open_read_only(), &state).len(), 1);

    // The backup goes another way, as far as the original did.
    std::fs::write(folder.path(), &backup).unwrap();
    let store = folder.open();
    assert!(matches!(store.changed_since(&later).unwrap(), Changes::Everything { .. }));
    let other_way = append(&store, "2018-03-02");
    assert_eq!((other_way.changes(), other_way == later), (later.changes(), false));
    assert!(matches!(store.changed_since(&later).unwrap(), Changes::Everything { .. }));
    assert_eq!(changed(&store, &state)["S0001 1d"], [between("2018-03-02", "2018-03-03")]);

    let other = Store::in_memory().unwrap();
    let Changes::Everything { reason } = other.changed_since(&state).unwrap() else { panic!("it is another store") };
    assert_eq!(reason, "the state is of another store");
    for text in ["", "abc", "0-0-0", &state.to_string().replace('-', "_"), &format!("{state}-1")] {
        assert_eq!(error(text.parse::<MarketState>()).kind(), ErrorKind::InvalidInput, "{text}");
    }
}

/// What a list of rows would say.
type Oracle = BTreeMap<(String, i64), [u64; 5]>;

fn rows(store: &Store, names: &[&str]) -> Oracle {
    let mut all = Oracle::new();
    for name in names {
        for bar in store.bars(name, DAY).unwrap().range(all_time()).unwrap().iter() {
            let values = [bar.open, bar.high, bar.low, bar.close, bar.volume].map(f64::to_bits);
            all.insert(((*name).to_owned(), bar.at.as_nanos()), values);
        }
    }
    all
}

/// Every row that differs between two states lies in an interval that is reported, whatever happened between the two.
#[test]
fn no_row_that_changed_is_left_out() {
    const NAMES: [&str; 3] = ["A", "B", "C"];
    for seed in 0..4 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let folder = Folder::new();
        let mut store = folder.open();
        let mut states: Vec<(MarketState, Oracle)> = Vec::new();
        let day = |n: i64| Timestamp::from_nanos((n * 40 + 3) * 86_400_000_000_000);
        for step in 0..60 {
            // Over 80 years: five chunks.
            let (start, len) = (random.gen_range(0..700), random.gen_range(1..12));
            let mut bars = || (start..start + len).map(|n| bar(day(n), random.gen_range(100..103))).collect::<Bars>();
            let one = bars();
            match random.gen_range(0..6) {
                0..=1 => drop(store.bars(NAMES[random.gen_range(0..3)], DAY).unwrap().write(&one).unwrap()),
                2..=3 => {
                    let rows = NAMES.map(|name| (symbol(name), one.slice(0..random.gen_range(0..=one.len()))));
                    store.write_many(DAY, &rows).unwrap();
                }
                4 => {
                    let gone = Interval::new(day(start), day(start + random.gen_range(0..300))).unwrap();
                    store.bars(NAMES[random.gen_range(0..3)], DAY).unwrap().remove(gone).unwrap();
                }
                _ if random.gen_range(0..4) == 0 => {
                    store.close().unwrap();
                    store = folder.open();
                }
                _ => drop(store.compact().unwrap()),
            }
            let now = rows(&store, &NAMES);
            for (state, before) in &states {
                let Changes::Series(changed) = store.changed_since(state).unwrap() else {
                    assert_eq!(state.changes(), 0, "only the first state is not written down");
                    continue;
                };
                let reported = |(name, at): &(String, i64)| {
                    let of = changed.iter().filter(|changed| changed.symbol.as_str() == name);
                    of.flat_map(|changed| &changed.intervals).any(|rows| rows.contains(Timestamp::from_nanos(*at)))
                };
                for row in before.keys().chain(now.keys()) {
                    assert!(before.get(row) == now.get(row) || reported(row), "{row:?} in step {step} of {seed}");
                }
            }
            states.push((store.market_state().unwrap(), now));
        }
        let filter = FactsFilter::all();
        assert_eq!(store.bar_facts(&filter).unwrap().len(), store.bar_symbols(DAY).unwrap().len());
        check_facts(&store);
    }
}
