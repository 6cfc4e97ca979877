//! Damage anywhere in a file: an answer is the one that the whole file gives, or an error. Never another one, and never
//! "there is no such thing" when there was.

use std::{collections::BTreeMap, fs};

use modelkeep::{
    ErrorKind, Interval, NewModel, Store, Symbol, Timestamp, Verify, Version,
    admin::{Filter, Maintenance},
    market::{Bar, BarFacts, Bars, FactsFilter, Timeframe},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{Folder, Weights, error, first_weight, is_copied, key, samples, weights};

const MODELS: u32 = 120;
const SYMBOLS: [&str; 3] = ["AAPL", "KO", "SPY"];
const SERIES: Timeframe = Timeframe::MINUTE;

fn name(i: u32) -> String {
    format!("model-{i:03}")
}

fn minutes(symbol: usize) -> Bars {
    let start = 1_514_764_800_000_000_000;
    let bar = |i: i64| {
        let price = 50.0 + (i % 97) as f64 + symbol as f64;
        let at = Timestamp::from_nanos(start + i * 3_600_000_000_000);
        Bar { at, open: price, high: price + 1.0, low: price - 1.0, close: price + 0.5, volume: i as f64 }
    };
    // Ten months of one bar an hour: ten chunks.
    (0..7200).map(bar).collect()
}

/// A store with branches in its tables, and everything that has rows of its own.
fn whole() -> Folder {
    let folder = Folder::new();
    let store = folder.options().retention(8).open(folder.path()).unwrap();
    for i in 0..MODELS {
        let trained = weights(f64::from(i)).tag("note", format!("{i}").repeat(20));
        store.publish(&key(&name(i)), trained.training_data(samples("KO", &[(1, f64::from(i))]))).unwrap();
        if i % 3 == 0 {
            store
                .publish(&key(&name(i)), weights(f64::from(i) + 0.5).artifact("report", format!("report {i}")))
                .unwrap();
        }
        if i % 10 == 0 {
            store.pin(&key(&name(i)), Version::FIRST).unwrap();
        }
    }
    store.remove(&key(&name(5))).run().unwrap();
    for (i, symbol) in SYMBOLS.iter().enumerate() {
        store.bars(symbol, SERIES).unwrap().write(&minutes(i)).unwrap();
    }
    let day = |i: i64| (format!("2018-{:02}-{:02}", i / 28 + 1, i % 28 + 1).parse().unwrap(), 10.0 + i as f64);
    store.levels("VIX").unwrap().write(&(0..300).map(day).collect::<Vec<_>>()).unwrap();
    drop(store);
    folder
}

fn symbol(name: &str) -> Symbol {
    Symbol::new(name).unwrap()
}

/// What a store answers to one question: an error has no further interest.
type Answer = Result<String, ErrorKind>;

fn said<T: std::fmt::Debug>(result: modelkeep::error::Result<T>) -> Answer {
    result.map(|value| format!("{value:?}")).map_err(|err| err.kind())
}

/// Asks everything. Without `contents`, only what is there and not what it is.
fn answers(store: &Store, contents: bool) -> BTreeMap<String, Answer> {
    let mut answers = BTreeMap::new();
    let mut ask = |question: String, answer: Answer| drop(answers.insert(question, answer));
    // First: whoever asks for a damaged model has it quarantined.
    ask("quarantined".into(), said(store.quarantined().map(|all| all.len())));
    for i in (0..MODELS + 2).step_by(3) {
        let (name, key) = (name(i), key(&name(i)));
        let got = store
            .get::<Weights>(&key)
            .map(|held| held.map(|held| (held.version(), contents.then(|| first_weight(&held)))));
        ask(format!("get {name}"), said(got));
        ask(
            format!("metadata {name}"),
            said(store.metadata(&key).map(|found| found.map(|found| (found.version, found.tags)))),
        );
        ask(
            format!("versions {name}"),
            said(
                store
                    .versions(&key)
                    .map(|all| all.iter().map(|v| (v.version, v.pinned, v.current)).collect::<Vec<_>>()),
            ),
        );
        ask(format!("training {name}"), said(store.training_data(&key).map(|set| set.map(|set| set.len()))));
        ask(format!("artifact {name}"), said(store.artifact(&key, Version::new(2).unwrap(), "report")));
        ask(format!("find {name}"), said(store.find_key(&name)));
    }
    let listed = |filter| {
        store
            .list(filter)
            .and_then(|all| all.map(|one| one.map(|one| format!("{one:?}"))).collect::<Result<Vec<_>, _>>())
    };
    ask("list".into(), said(listed(Filter::all())));
    ask("list one".into(), said(listed(Filter::all().name(&name(60)).unwrap())));
    for symbol in SYMBOLS.iter().chain(&["NONE"]) {
        let bars = store.bars(symbol, SERIES).unwrap();
        for range in
            ["2018-01-01 2019-01-01", "2018-03-01 2018-03-05", "2018-05-20 2018-06-20", "2020-01-01 2021-01-01"]
        {
            let (from, to) = range.split_once(' ').unwrap();
            let found = bars.range(Interval::parse(from, to).unwrap().span());
            ask(
                format!("bars {symbol} {range}"),
                said(found.map(|bars| (bars.len(), bars.close().iter().sum::<f64>()))),
            );
        }
        ask(format!("latest {symbol}"), said(bars.latest()));
    }
    ask("symbols".into(), said(store.bar_symbols(SERIES)));
    let facts = store.bar_facts(&FactsFilter::all().symbols(SYMBOLS.map(symbol))).and_then(|all| {
        let of = |facts: BarFacts| (facts.symbol, facts.bars, facts.chunks, facts.span, facts.last_close);
        all.into_iter().map(|(_, facts)| facts.map(of)).collect::<Result<Vec<_>, _>>()
    });
    ask("facts".into(), said(facts));
    let vix = store.levels("VIX").unwrap();
    for range in ["2018-01-01 2019-01-01", "2017-01-01 2018-01-01"] {
        let (from, to) = range.split_once(' ').unwrap();
        let found = vix.range(Interval::parse(from, to).unwrap());
        ask(format!("vix {range}"), said(found.map(|levels| levels.levels)));
    }
    ask("identity".into(), said(store.identity()));
    answers
}

fn compare(expected: &BTreeMap<String, Answer>, found: &BTreeMap<String, Answer>, what: &str) -> usize {
    let mut errors = 0;
    for (question, answer) in expected {
        match &found[question] {
            Err(_) => errors += 1,
            found => assert_eq!(found, answer, "{what}: {question}"),
        }
    }
    errors
}

/// Pages that hold anything.
fn used(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() / 4096).filter(|page| bytes[page * 4096..][..4096].iter().any(|&byte| byte != 0)).collect()
}

/// One way to damage a file.
fn damage(bytes: &mut [u8], used: &[usize], chance: &mut StdRng, kind: u32) -> String {
    let page = used[chance.gen_range(0..used.len())];
    let at = page * 4096 + chance.gen_range(0..4096);
    match kind % 8 {
        0 | 1 => {
            let bit = chance.gen_range(0..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        2 => {
            bytes[at] = chance.r#gen();
            format!("byte {at}")
        }
        3 => {
            let sector = at / 512 * 512;
            bytes[sector..sector + 512].fill(0);
            format!("sector {sector} is zeros")
        }
        4 => {
            // What a disk does that puts a write in the wrong place.
            let from = used[chance.gen_range(0..used.len())];
            bytes.copy_within(from * 4096..(from + 1) * 4096, page * 4096);
            format!("page {from} over page {page}")
        }
        5 => {
            // The front of one leaf over another: a number of rows and offsets that are not its own.
            let leaves: Vec<usize> = used.iter().copied().filter(|page| bytes[page * 4096] == 1).collect();
            let [from, to] = [(); 2].map(|()| leaves[chance.gen_range(0..leaves.len())]);
            bytes.copy_within(from * 4096..from * 4096 + 512, to * 4096);
            format!("front of leaf {from} over that of leaf {to}")
        }
        6 => {
            let (from, sector) = (used[chance.gen_range(0..used.len())], chance.gen_range(0..8) * 512);
            bytes.copy_within(from * 4096 + sector..from * 4096 + sector + 512, page * 4096 + sector);
            format!("sector {sector} of page {from} over that of page {page}")
        }
        _ => {
            // The front of a page: its header, its offsets, its keys.
            let at = page * 4096 + chance.gen_range(0..200);
            let bit = chance.gen_range(0..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
    }
}

#[test]
fn no_damage_changes_an_answer() {
    let folder = whole();
    let bytes = fs::read(folder.path()).unwrap();
    let used = used(&bytes);
    let mut expected = BTreeMap::new();
    for contents in [true, false] {
        expected.insert(contents, answers(&folder.open_read_only(), contents));
    }
    let mut chance = StdRng::seed_from_u64(9);
    let (mut errors, mut opened) = (0, 0);
    for n in 0..1000 {
        let mut damaged = bytes.clone();
        let what = damage(&mut damaged, &used, &mut chance, n);
        fs::write(folder.path(), &damaged).unwrap();
        let verify = [Verify::Full, Verify::Structure, Verify::Full, Verify::Background][n as usize % 4];
        let options = folder.options().verify(verify).read_only(n % 3 != 0).mapped(!is_copied() && n % 5 != 0);
        let what = format!("mutation {n}: {what} ({verify:?}, read-only: {})", n % 3 != 0);
        if let Ok(store) = options.open(folder.path()) {
            opened += 1;
            let contents = verify == Verify::Full;
            errors += compare(&expected[&contents], &answers(&store, contents), &what);
        }
    }
    println!("{opened} of 1000 opened, {errors} answers were errors");
    assert!(opened > 500 && errors > 100);
}

/// The same with writes in between: they must not cover anything up, and no number of a version is given out twice.
#[test]
fn writing_beside_damage_does_not_cover_it_up() {
    let folder = whole();
    let bytes = fs::read(folder.path()).unwrap();
    let used = used(&bytes);
    let before = folder.open_read_only();
    let expected = answers(&before, true);
    let highest: BTreeMap<u32, u64> = (0..MODELS)
        .map(|i| (i, before.versions(&key(&name(i))).unwrap().last().map_or(1, |entry| entry.version.get())))
        .collect();
    drop(before);
    let mut chance = StdRng::seed_from_u64(10);
    let (mut published, mut refused, mut errors) = (0, 0, 0);
    for n in 0..300u32 {
        let mut damaged = bytes.clone();
        let what = damage(&mut damaged, &used, &mut chance, n);
        fs::write(folder.path(), &damaged).unwrap();
        let what = format!("mutation {n}: {what}");
        let Ok(store) = folder.options().open(folder.path()) else { continue };
        // Models of which nothing is asked below, and rows beside those of which it is.
        for i in (1..MODELS).step_by(3) {
            match store.publish(&key(&name(i)), weights(1000.0)) {
                Ok(version) => {
                    assert!(version.get() > highest[&i], "{what}: {} is {version} again", name(i));
                    published += 1;
                }
                Err(_) => refused += 1,
            }
        }
        for i in (2..MODELS).step_by(6) {
            refused += u32::from(store.remove(&key(&name(i))).run().is_err());
        }
        drop(store.bars("IBM", SERIES).unwrap().write(&minutes(1)));
        if n % 4 == 0 {
            refused += u32::from(store.compact().is_err());
        }
        let list = |answers: BTreeMap<String, Answer>| -> BTreeMap<String, Answer> {
            // What the writes change, and what asking changes.
            let other = |question: &str| !["list", "symbols", "quarantined"].contains(&question);
            answers.into_iter().filter(|(question, _)| other(question)).collect()
        };
        let found = list(answers(&store, true));
        errors += compare(&list(expected.clone()), &found, &what);
        drop(store);
        let Ok(store) = folder.options().open(folder.path()) else { continue };
        compare(&list(expected.clone()), &list(answers(&store, true)), &format!("{what}, opened again"));
        // Also those that nobody finds any more go on where they were.
        for i in (0..MODELS).step_by(3) {
            if let Ok(version) = store.publish(&key(&name(i)), weights(2000.0)) {
                assert!(version.get() > highest[&i], "{what}: {} is {version} again", name(i));
            }
        }
    }
    println!("{published} published, {refused} refused, {errors} answers were errors");
    assert!(published > 5000 && errors > 30);
}

/// The key of a model's head, and of a chunk of bars, one bit at a time.
#[test]
fn a_flipped_bit_in_a_key_is_an_error_and_not_absence() {
    let folder = whole();
    let bytes = fs::read(folder.path()).unwrap();
    let (model, symbol) = (key(&name(60)), b"SPY\0");
    let expected = folder.open_read_only().bars("SPY", SERIES).unwrap().range(Interval::all_time()).unwrap().len();
    let places = |needle: &[u8]| -> Vec<usize> {
        bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle).map(|(at, _)| at).collect()
    };
    let mut errors = 0;
    for (needle, len) in [(name(60).as_bytes(), 40), (&symbol[..], 16)] {
        for at in places(needle) {
            for bit in (0..len * 8).step_by(5) {
                let mut damaged = bytes.clone();
                damaged[at + bit / 8] ^= 1 << (bit % 8);
                fs::write(folder.path(), &damaged).unwrap();
                let Ok(store) = folder.options().open(folder.path()) else { continue };
                let what = format!("bit {bit} behind byte {at}");
                match store.get::<Weights>(&model) {
                    Ok(held) => assert_eq!(held.expect(&what).version(), Version::new(2), "{what}"),
                    Err(err) => {
                        assert_eq!(err.kind(), ErrorKind::Corrupt, "{what}");
                        errors += 1;
                    }
                }
                if let Ok(bars) = store.bars("SPY", SERIES).unwrap().range(Interval::all_time()) {
                    assert_eq!(bars.len(), expected, "{what}");
                } else {
                    errors += 1;
                }
                if let Ok(version) = store.publish(&model, weights(9.0)) {
                    assert!(version.get() > 2, "{what}: {version} was given out before");
                }
            }
        }
    }
    assert!(errors > 100, "{errors}");
}

/// Three models, and a flipped bit in the key of the head of the one in the middle.
fn with_a_lost_head() -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    for name in ["aaa", "lost", "zzz"] {
        for v in 0..3 {
            store.publish(&key(name), weights(f64::from(v))).unwrap();
        }
    }
    drop(store);
    lose_head(&folder);
    folder
}

/// Flips a bit in the key of the head of "lost", wherever it is: its metadata has other bytes behind the key.
fn lose_head(folder: &Folder) {
    let mut bytes = fs::read(folder.path()).unwrap();
    let row = [b"lost\0".as_slice(), key("lost").config_hash().as_bytes()].concat();
    let heads: Vec<usize> = bytes
        .windows(row.len())
        .enumerate()
        .filter(|(at, window)| *window == row && bytes[at + row.len()..].starts_with(b"zzz"))
        .map(|(at, _)| at)
        .collect();
    assert!(!heads.is_empty(), "heads lie side by side");
    heads.iter().for_each(|at| bytes[at + 1] ^= 1);
    fs::write(folder.path(), &bytes).unwrap();
}

/// A removal and maintenance write heads, too: neither makes one that begins to number anew.
#[test]
fn no_number_is_given_out_twice_when_something_is_removed_after_a_loss() {
    let folder = with_a_lost_head();
    let store = folder.open();
    store.compact().unwrap();
    store.accept_losses().unwrap();
    assert!(!store.remove(&key("lost")).run().unwrap().versions.is_empty(), "its versions are there");
    let version = store.publish(&key("lost"), weights(7.0)).unwrap();
    assert!(version.get() > 3, "{version} was given out before");
}

/// Of a model without a head nobody knows which version is current, or pinned: maintenance leaves it alone.
#[test]
fn what_waits_of_a_model_whose_head_was_lost_is_left_alone() {
    let folder = Folder::new();
    let options = || folder.options().maintenance(Maintenance::OnRequest).retention(2);
    let store = options().open(folder.path()).unwrap();
    let large = |value| NewModel::new(Weights { weights: vec![value; 5000] });
    // The last one leaves nothing, so that of what is left the row of "lost" is the last, and not taken for its head.
    for (name, versions) in [("aaa", 3), ("lost", 3), ("zzz", 1)] {
        (0..versions).for_each(|v| assert!(store.publish(&key(name), large(f64::from(v))).is_ok()));
    }
    drop(store);
    lose_head(&folder);
    let store = options().open(folder.path()).unwrap();
    store.compact().unwrap();
    store.accept_losses().unwrap();
    assert_eq!(store.stats().maintenance_waiting, 2, "it was left by the publishes");
    store.run_maintenance().unwrap();
    assert_eq!(store.versions(&key("lost")).unwrap().len(), 3);
    assert_eq!(store.versions(&key("aaa")).unwrap().len(), 2);
    assert_eq!(store.stats().maintenance_waiting, 0);
    let version = store.publish(&key("lost"), weights(7.0)).unwrap();
    assert!(version.get() > 3, "{version} was given out before");
}

/// What is known of losses is lost itself: nothing can be said to be absent, until somebody accepts that.
#[test]
fn losses_that_cannot_be_read_can_be_accepted() {
    let folder = with_a_lost_head();
    folder.open().publish(&key("zzz"), weights(2.0)).unwrap();
    let mut bytes = fs::read(folder.path()).unwrap();
    let rows: Vec<usize> =
        bytes.windows(7).enumerate().filter(|(_, window)| window == b"heads\0\0").map(|(at, _)| at).collect();
    assert!(!rows.is_empty(), "the loss was written down");
    rows.iter().for_each(|at| bytes[*at] ^= 1);
    fs::write(folder.path(), &bytes).unwrap();
    let store = folder.open();
    assert_eq!(error(store.get::<Weights>(&key("none"))).kind(), ErrorKind::Corrupt);
    assert!(store.bar_series().is_err(), "nor is any other table known to be whole");
    assert!(store.metadata(&key("aaa")).unwrap().is_some(), "what is there is there");
    assert!(error(store.get::<Weights>(&key("aaa"))).to_string().contains("quarantine"), "and may be quarantined");
    store.accept_losses().unwrap();
    assert_eq!(first_weight(&store.get(&key("aaa")).unwrap().unwrap()), 2.0);
    assert!(store.get::<Weights>(&key("none")).unwrap().is_none() && store.bar_series().unwrap().is_empty());
    drop(store);
    assert!(folder.open().get::<Weights>(&key("none")).unwrap().is_none());
}

/// A row is lost, the loss is written down, and absence is an error until somebody accepts it; numbers go on from
/// above.
#[test]
fn a_loss_is_remembered_until_it_is_accepted() {
    let folder = with_a_lost_head();
    let lost = |store: &Store| {
        assert_eq!(error(store.get::<Weights>(&key("lost"))).kind(), ErrorKind::Corrupt);
        let listed: Vec<String> = store
            .list(Filter::all())
            .unwrap()
            .filter_map(|listed| Some(listed.ok()?.key().name().to_string()))
            .collect();
        assert_eq!(listed, ["aaa", "zzz"]);
        assert_eq!(first_weight(&store.get(&key("zzz")).unwrap().unwrap()), 2.0);
        assert!(store.get::<Weights>(&key("none")).is_err() && store.get::<Weights>(&key("aa")).is_err());
        assert!(!store.verify().unwrap().is_whole());
    };
    lost(&folder.open_read_only());
    let store = folder.open();
    lost(&store);
    store.publish(&key("zzz"), weights(2.0)).unwrap();
    lost(&store);
    store.compact().unwrap();
    lost(&store);
    drop(store);
    let store = folder.open();
    lost(&store);
    store.accept_losses().unwrap();
    assert!(store.get::<Weights>(&key("lost")).unwrap().is_none(), "its head is gone");
    assert!(store.get::<Weights>(&key("none")).unwrap().is_none());
    let version = store.publish(&key("lost"), weights(7.0)).unwrap();
    assert!(version.get() > 3, "{version} was given out before");
    assert_eq!(first_weight(&store.get(&key("lost")).unwrap().unwrap()), 7.0);
    let found = store.verify().unwrap();
    assert!(found.is_whole(), "{found:?}");
}
