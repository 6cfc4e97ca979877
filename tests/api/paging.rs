//! Pages of a list: what they have together is the whole list, and each begins where it is told to.

use std::{collections::BTreeSet, fs};

use modelkeep::{ModelKey, Store, Version, admin::Filter};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{Folder, HOUR, key, weights};

/// Names that are prefixes of each other, and that differ by what sorts before a letter.
const NAMES: [&str; 10] = ["a", "a-b", "a.b", "a0", "aa", "ab", "abc", "b", "b-", "z"];
const CONFIGS: u32 = 12;
const DESKS: [&str; 3] = ["fx", "Börse", "株式"];

/// A store with branches in its tables.
fn stored() -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    for (n, name) in NAMES.iter().enumerate() {
        folder.clock.advance(HOUR);
        for config in 0..CONFIGS {
            let key = ModelKey::new(name, &config).unwrap();
            let trained = || weights(1.0).tag("desk", DESKS[(n + config as usize) % 3]).tag("note", "n".repeat(300));
            store.publish(&key, trained()).unwrap();
            if config % 4 == 0 {
                store.publish(&key, trained()).unwrap();
            }
            if config % 5 == 4 {
                store.remove(&key).run().unwrap();
            }
        }
    }
    drop(store);
    folder
}

/// Models in their order, and what else was said of the list.
#[derive(Debug, Default, PartialEq)]
struct Found {
    models: Vec<(ModelKey, Version)>,
    errors: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, store: &Store, filter: Filter) -> usize {
        let before = self.models.len();
        for listed in store.list(filter).unwrap() {
            match listed {
                Ok(listed) => self.models.push((listed.key().clone(), listed.version())),
                Err(err) => drop(self.errors.insert(err.to_string())),
            }
        }
        self.models.len() - before
    }
}

fn whole(store: &Store, filter: Filter) -> Found {
    let mut found = Found::default();
    found.add(store, filter);
    found
}

fn paged(store: &Store, filter: Filter, size: usize) -> Found {
    let (mut found, mut page) = (Found::default(), filter.limit(size));
    loop {
        let models = found.add(store, page.clone());
        assert!(models <= size && found.models.len() <= 1000);
        if models < size {
            return found;
        }
        page = page.after(&found.models.last().unwrap().0);
    }
}

/// Any conditions.
fn conditions(chance: &mut StdRng) -> Filter {
    let mut filter = Filter::all();
    if chance.gen_ratio(1, 2) {
        filter = filter.name(NAMES.get(chance.gen_range(0..=NAMES.len())).unwrap_or(&"absent")).unwrap();
    }
    if chance.gen_ratio(1, 3) {
        filter = filter.tag("desk", DESKS[chance.gen_range(0..3)]).unwrap();
    }
    let hours = |chance: &mut StdRng| HOUR * chance.gen_range(0..12);
    if chance.gen_ratio(1, 4) {
        filter = filter.older_than(hours(chance));
    }
    if chance.gen_ratio(1, 4) {
        filter = filter.younger_than(hours(chance));
    }
    filter
}

#[test]
fn all_pages_together_are_the_whole_list() {
    let folder = stored();
    let mut chance = StdRng::seed_from_u64(1);
    for read_only in [false, true] {
        let store = folder.options().read_only(read_only).open(folder.path()).unwrap();
        let all = whole(&store, Filter::all());
        assert_eq!((all.models.len(), all.errors.len()), (100, 0));
        for _ in 0..200 {
            let (filter, size) = (conditions(&mut chance), chance.gen_range(1..20));
            assert_eq!(paged(&store, filter.clone(), size), whole(&store, filter.clone()), "{filter:?} by {size}");
        }
    }
}

#[test]
fn pages_of_a_damaged_file_have_the_models_and_the_errors_of_the_whole_list() {
    let folder = stored();
    let bytes = fs::read(folder.path()).unwrap();
    let leaves: Vec<usize> = (0..bytes.len() / 4096).filter(|page| bytes[page * 4096] == 1).collect();
    let mut chance = StdRng::seed_from_u64(2);
    let mut errors = 0;
    for n in 0..60 {
        let mut damaged = bytes.clone();
        for _ in 0..=n % 4 {
            let at = leaves[chance.gen_range(0..leaves.len())] * 4096 + chance.gen_range(0..4096);
            damaged[at] ^= 1 << chance.gen_range(0..8);
        }
        fs::write(folder.path(), &damaged).unwrap();
        let Ok(store) = folder.options().read_only(true).open(folder.path()) else { continue };
        for size in [1, 2, 7] {
            let filter = if size == 2 { conditions(&mut chance) } else { Filter::all() };
            let expected = whole(&store, filter.clone());
            errors += expected.errors.len();
            assert_eq!(paged(&store, filter.clone(), size), expected, "{n}: {filter:?} by {size}");
        }
    }
    assert!(errors > 30, "{errors} errors");
}

#[test]
fn a_page_begins_behind_its_key_whether_that_is_stored_or_not() {
    let folder = stored();
    let store = folder.open();
    let names = |filter: Filter| -> Vec<String> {
        store.list(filter).unwrap().map(|listed| listed.unwrap().name().to_string()).collect()
    };
    let first = |name: &str| names(Filter::all().after(&key(name)).limit(1)).pop();
    let all = whole(&store, Filter::all()).models;
    for (n, (key, _)) in all.iter().enumerate() {
        let rest = whole(&store, Filter::all().after(key)).models;
        assert_eq!(rest, all[n + 1..], "after {key}");
    }
    assert_eq!(first("aaa").as_deref(), Some("ab"));
    assert_eq!(first("0").as_deref(), Some("a"));
    assert_eq!(first("zz"), None);
    // A key outside of the name that is wanted: all of it, or nothing.
    let named = |after: &str| names(Filter::all().name("ab").unwrap().after(&key(after))).len();
    assert_eq!((named("aa"), named("abb"), named("b")), (10, 0, 0));
    assert_eq!(names(Filter::all().limit(0)).len(), 0);
    assert_eq!(names(Filter::all().after(&key("a")).limit(0)).len(), 0);
    assert_eq!(names(Filter::all().limit(usize::MAX)).len(), 100);
}

#[test]
fn a_model_that_is_there_all_along_is_in_one_page_whatever_is_published_meanwhile() {
    let folder = stored();
    let store = folder.open();
    let before = whole(&store, Filter::all()).models;
    let (mut page, mut found, mut round) = (Filter::all().limit(7), Found::default(), 0);
    loop {
        let models = found.add(&store, page.clone());
        // Before the page, at its edge, and behind it.
        let last = found.models.last().unwrap().0.clone();
        for name in ["0", last.name().as_str(), "zz"] {
            store.publish(&ModelKey::new(name, &format!("new {round}")).unwrap(), weights(2.0)).unwrap();
        }
        store.publish(&last, weights(3.0)).unwrap();
        if models < 7 || round == 100 {
            break;
        }
        (page, round) = (page.after(&last), round + 1);
    }
    let keys = |models: &[(ModelKey, Version)]| models.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let seen = keys(&found.models);
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "in order, and each once");
    assert!(keys(&before).iter().all(|key| seen.contains(key)));
    assert!(seen.iter().any(|key| key.name().as_str() == "zz"), "what came behind the page is in a later one");
    assert!(seen.iter().all(|key| key.name().as_str() != "0"));
}

#[test]
fn what_lies_before_a_page_or_behind_it_is_not_read() {
    let folder = stored();
    let middle = whole(&folder.open(), Filter::all()).models[60].0.clone();
    let mut bytes = fs::read(folder.path()).unwrap();
    // Every row of metadata of the first names, and of the last one, is damaged.
    for name in ["a", "a-b", "a.b", "a0", "z"] {
        let row = [name.as_bytes(), &[0]].concat();
        let found = bytes.windows(row.len()).enumerate().filter(|(_, found)| *found == row).map(|(at, _)| at);
        let in_leaves: Vec<usize> = found.filter(|at| bytes[at / 4096 * 4096] == 1).collect();
        for at in in_leaves {
            bytes[at] ^= 0x40;
        }
    }
    fs::write(folder.path(), bytes).unwrap();
    let store = folder.open_read_only();
    assert!(!whole(&store, Filter::all()).errors.is_empty());
    let page = whole(&store, Filter::all().after(&middle).limit(10));
    assert_eq!((page.models.len(), page.errors.len()), (10, 0), "{:?}", page.errors);
    assert!(whole(&store, Filter::all().limit(0)).errors.is_empty());
}
