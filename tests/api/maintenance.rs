//! What publishes leave for later, who does it, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use modelkeep::{ErrorKind, ModelKey, NewModel, Store, Version, admin::Maintenance};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{Folder, Weights, damage, damage_row, error, first_weight, key, large, weights};

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

fn numbers(store: &Store, name: &str) -> Vec<u64> {
    store.versions(&key(name)).unwrap().iter().map(|entry| entry.version.get()).collect()
}

/// Bytes of all large archives.
fn archive_bytes(store: &Store) -> u64 {
    store.usage().unwrap().tables.iter().find(|table| table.table == "archives").unwrap().stored_bytes
}

fn publish(store: &Store, name: &str, firsts: std::ops::RangeInclusive<u32>) {
    for first in firsts {
        store.publish(&key(name), large(f64::from(first))).unwrap();
    }
}

#[test]
fn a_publish_leaves_large_versions_until_somebody_asks() {
    let folder = Folder::new();
    let options = || folder.options().maintenance(Maintenance::OnRequest).retention(2);
    let store = options().open(folder.path()).unwrap();
    publish(&store, "m", 1..=3);
    let raw = archive_bytes(&store);
    assert_eq!((numbers(&store, "m"), store.stats().maintenance_waiting), (vec![1, 2, 3], 1));
    let held = store.get_version::<Weights>(&key("m"), version(1)).unwrap().unwrap();
    let done = store.run_maintenance().unwrap();
    assert_eq!((done.models, done.compressed, done.removed), (1, 1, 1));
    assert_eq!((numbers(&store, "m"), store.stats().maintenance_waiting), (vec![2, 3], 0));
    assert!(archive_bytes(&store) * 2 < raw, "one of three is gone, and one compressed");
    assert_eq!(first_weight(&held), 1.0, "it is held, whatever became of it");
    let compressed = store.get_version::<Weights>(&key("m"), version(2)).unwrap().unwrap();
    assert_eq!((first_weight(&compressed), first_weight(&store.get(&key("m")).unwrap().unwrap())), (2.0, 3.0));
    assert!(store.verify().unwrap().is_whole());
    assert_eq!(store.run_maintenance().unwrap().models, 0, "there is nothing left to do");
}

#[test]
fn a_thread_of_the_store_does_it_by_itself() {
    let folder = Folder::new();
    let store = folder.options().retention(2).open(folder.path()).unwrap();
    publish(&store, "m", 1..=3);
    publish(&store, "n", 1..=3);
    while store.stats().maintenance_waiting > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((numbers(&store, "m"), numbers(&store, "n")), (vec![2, 3], vec![2, 3]));
}

#[test]
fn what_is_left_survives_a_restart_and_is_finished_by_close() {
    let folder = Folder::new();
    let options = |who| folder.options().maintenance(who).retention(2);
    let leave = || {
        let store = options(Maintenance::OnRequest).open(folder.path()).unwrap();
        publish(&store, "m", 1..=3);
        store
    };
    drop(leave());
    let store = options(Maintenance::InBackground).open(folder.path()).unwrap();
    while store.stats().maintenance_waiting > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(numbers(&store, "m"), [2, 3]);
    drop(store);
    let store = leave();
    assert_eq!(numbers(&store, "m").len(), 3);
    store.close().unwrap();
    assert_eq!(numbers(&folder.open_read_only(), "m"), [5, 6]);
    let store = leave();
    store.compact().unwrap();
    assert_eq!((numbers(&store, "m").len(), store.run_maintenance().unwrap().removed), (3, 1), "copied as it is");
    drop(store);
    // Another store that asks for nothing is told by the file.
    drop(leave());
    let store = options(Maintenance::WithPublish).open(folder.path()).unwrap();
    assert_eq!(store.stats().maintenance_waiting, 1);
    publish(&store, "m", 13..=13);
    assert_eq!(numbers(&store, "m"), [12, 13]);
}

#[test]
fn small_versions_and_those_of_a_store_that_keeps_one_go_at_once() {
    let folder = Folder::new();
    let store = folder.options().maintenance(Maintenance::OnRequest).retention(2).open(folder.path()).unwrap();
    for first in 1..=3 {
        store.publish(&key("small"), weights(f64::from(first))).unwrap();
    }
    assert_eq!((numbers(&store, "small"), store.stats().maintenance_waiting), (vec![2, 3], 0));
    drop(store);
    let store = folder.options().maintenance(Maintenance::OnRequest).retention(1).open(folder.path()).unwrap();
    publish(&store, "one", 1..=3);
    assert_eq!((numbers(&store, "one"), store.stats().maintenance_waiting), (vec![3], 0));
    let at_once = Store::options().maintenance(Maintenance::WithPublish).retention(2).in_memory().unwrap();
    publish(&at_once, "m", 1..=4);
    assert_eq!((numbers(&at_once, "m"), at_once.stats().maintenance_waiting), (vec![3, 4], 0));
}

#[test]
fn a_model_has_at_most_one_version_too_many_and_a_current_one_stays_as_it_is() {
    let folder = Folder::new();
    let store = folder.options().maintenance(Maintenance::OnRequest).retention(2).open(folder.path()).unwrap();
    for round in 1..=12 {
        publish(&store, "m", round..=round);
        assert!(numbers(&store, "m").len() <= 3, "{:?} after round {round}", numbers(&store, "m"));
    }
    // What waits to be compressed becomes current: it is read in place, and stays raw.
    store.run_maintenance().unwrap();
    publish(&store, "m", 13..=13);
    store.rollback(&key("m")).unwrap();
    assert_eq!(store.run_maintenance().unwrap().compressed, 0);
    store.evict_all();
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 12.0);
    assert_eq!(store.stats().hot_mapped_bytes > 0, !crate::support::is_copied());
}

/// A file that is full of what waits to be removed takes the next version all the same.
#[test]
fn what_waits_makes_room_when_the_file_is_full() {
    let folder = Folder::new();
    let options = folder.options().maintenance(Maintenance::OnRequest).retention(2).compress_superseded(false);
    let store = options.file_bytes_max(9 << 20).open(folder.path()).unwrap();
    for round in 1..=12 {
        for name in ["a", "b", "c", "d", "e"] {
            store.publish(&key(name), large(f64::from(round))).unwrap_or_else(|err| panic!("{round} {name}: {err:?}"));
        }
    }
    assert_eq!(first_weight(&store.get(&key("a")).unwrap().unwrap()), 12.0);
}

/// Nor does it matter that another model is damaged, of which nothing can be removed.
#[test]
fn what_waits_makes_room_beside_a_damaged_model() {
    let folder = Folder::new();
    let options = || {
        let options = folder.options().maintenance(Maintenance::OnRequest).retention(2).compress_superseded(false);
        options.file_bytes_max(13 << 20)
    };
    let store = options().open(folder.path()).unwrap();
    publish(&store, "broken", 1..=3);
    drop(store);
    damage_row(&folder, "heads", b"broken\0");
    let store = options().open(folder.path()).unwrap();
    for round in 1..=12 {
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            store.publish(&key(name), large(f64::from(round))).unwrap_or_else(|err| panic!("{round} {name}: {err:?}"));
        }
    }
    assert_eq!(error(store.run_maintenance()).kind(), ErrorKind::Corrupt);
    assert_eq!(first_weight(&store.get(&key("a")).unwrap().unwrap()), 12.0);
}

#[test]
fn one_that_is_damaged_keeps_no_other_waiting() {
    let folder = Folder::new();
    let options = || folder.options().maintenance(Maintenance::OnRequest).retention(2);
    let store = options().open(folder.path()).unwrap();
    for (name, first) in [("a", 1), ("b", 11), ("c", 21)] {
        publish(&store, name, first..=first + 2);
    }
    drop(store);
    // The archive that is to be compressed: damaged bytes are not sealed anew.
    damage(&folder.path(), &front(12.0), |bytes| bytes[15] ^= 1);
    let store = options().open(folder.path()).unwrap();
    let done = store.run_maintenance().unwrap();
    assert_eq!((done.models, done.compressed, done.removed), (3, 2, 3));
    assert_eq!(store.stats().maintenance_waiting, 0);
    assert_eq!(error(store.get_version::<Weights>(&key("b"), version(2))).kind(), ErrorKind::Corrupt);
    for (name, first) in [("a", 3.0), ("b", 13.0), ("c", 23.0)] {
        assert_eq!(first_weight(&store.get(&key(name)).unwrap().unwrap()), first, "{name}");
    }
}

/// One with more to compress than a commit takes, and a head that cannot be read: it is given up, by whoever tries.
#[test]
fn a_model_that_cannot_be_seen_to_is_not_tried_for_ever() {
    let folder = Folder::new();
    let options = |who| folder.options().maintenance(who).retention(8);
    let store = options(Maintenance::OnRequest).open(folder.path()).unwrap();
    let huge = |first: f64| NewModel::new(Weights { weights: [vec![first], vec![0.5; 2_500_000]].concat() });
    (1..=4).for_each(|first| assert!(store.publish(&key("huge"), huge(f64::from(first))).is_ok()));
    publish(&store, "well", 1..=3);
    drop(store);
    damage_row(&folder, "heads", b"huge\0");
    let store = options(Maintenance::OnRequest).open(folder.path()).unwrap();
    assert_eq!(error(store.run_maintenance()).kind(), ErrorKind::Corrupt);
    assert_eq!(store.stats().maintenance_waiting, 1, "the other one has been seen to");
    drop(store);
    // Neither does the thread in the background, nor the close.
    let store = options(Maintenance::InBackground).open(folder.path()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    store.close().unwrap();
}

#[test]
fn a_model_that_was_removed_does_not_wait() {
    let store = Store::options().maintenance(Maintenance::OnRequest).retention(2).in_memory().unwrap();
    publish(&store, "m", 1..=3);
    store.remove(&key("m")).run().unwrap();
    assert_eq!(store.run_maintenance().unwrap().models, 0);
    assert_eq!(store.stats().maintenance_waiting, 0);
}

/// Whoever drops the last store waits for the commit that is under way, and the rest is done another time.
#[test]
fn dropping_a_store_does_not_wait_for_all_that_is_left() {
    let folder = Folder::new();
    let options = |who| folder.options().maintenance(who).open(folder.path()).unwrap();
    let store = options(Maintenance::OnRequest);
    for first in [1.0, 2.0] {
        let all = (0..400).map(|i| (ModelKey::new("m", &i).unwrap(), large(first)));
        store.publish_many(all).unwrap();
    }
    drop(store);
    let store = options(Maintenance::InBackground);
    while store.stats().maintenance_waiting == 400 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(store);
    let store = options(Maintenance::OnRequest);
    assert!(store.stats().maintenance_waiting > 0, "all of it was waited for");
    store.run_maintenance().unwrap();
    assert_eq!(store.stats().maintenance_waiting, 0);
}

/// The newest version stays, whatever is current.
#[test]
fn to_keep_none_is_to_keep_one() {
    for keep in [0, 1] {
        let folder = Folder::new();
        let options = |keep| folder.options().maintenance(Maintenance::OnRequest).retention(keep);
        let store = options(3).open(folder.path()).unwrap();
        publish(&store, "m", 1..=2);
        store.rollback(&key("m")).unwrap();
        drop(store);
        let store = options(keep).open(folder.path()).unwrap();
        store.run_maintenance().unwrap();
        assert_eq!(numbers(&store, "m"), [1, 2], "{keep}");
        publish(&store, "m", 3..=3);
        assert_eq!(numbers(&store, "m"), [3], "{keep}");
    }
}

/// A version that a pin kept is one too many when the pin is taken off: the next publish leaves one for later at most.
#[test]
fn what_a_pin_kept_goes_with_the_next_publish() {
    let store = Store::options().maintenance(Maintenance::OnRequest).retention(2).in_memory().unwrap();
    publish(&store, "m", 1..=1);
    store.pin(&key("m"), version(1)).unwrap();
    publish(&store, "m", 2..=3);
    store.unpin(&key("m"), version(1)).unwrap();
    publish(&store, "m", 4..=4);
    assert_eq!(numbers(&store, "m"), [2, 3, 4]);
}

/// The bytes of the first two weights of a large model.
fn front(first: f64) -> Vec<u8> {
    [first.to_le_bytes(), (1.0 / 7.0_f64).to_le_bytes()].concat()
}

/// Random calls beside a model of what must be there: all contents, whatever waits; and the versions that are to be kept.
#[test]
fn whatever_waits_every_version_that_must_be_there_is() {
    for seed in 0..8 {
        let folder = Folder::new();
        let mut chance = StdRng::seed_from_u64(seed);
        let open = |who| folder.options().maintenance(who).retention(3).open(folder.path()).unwrap();
        let whos = [Maintenance::OnRequest, Maintenance::InBackground, Maintenance::WithPublish];
        let mut store = open(whos[0]);
        let mut written: BTreeMap<(u8, u64), f64> = BTreeMap::new();
        let mut heads: [(Option<u64>, Option<u64>, BTreeSet<u64>); 3] = Default::default();
        for step in 0..60 {
            let name = chance.gen_range(0..3_u8);
            let (key, (current, previous, pins)) = (key(&name.to_string()), &mut heads[usize::from(name)]);
            match chance.gen_range(0..10) {
                0..5 => {
                    let numbers = [3, 900, 3000, 20_000][chance.gen_range(0..4)];
                    let first = f64::from(step);
                    let content = std::iter::once(first).chain((1..numbers).map(|i| f64::from(i % 9))).collect();
                    let version = store.publish(&key, NewModel::new(Weights { weights: content })).unwrap().get();
                    written.insert((name, version), first);
                    (*previous, *current) = (*current, Some(version));
                }
                5 if previous.is_some() => {
                    store.rollback(&key).unwrap();
                    std::mem::swap(previous, current);
                }
                6 if current.is_some() => {
                    let version = current.unwrap();
                    if pins.remove(&version) {
                        store.unpin(&key, Version::new(version).unwrap()).unwrap();
                    } else {
                        store.pin(&key, Version::new(version).unwrap()).unwrap();
                        pins.insert(version);
                    }
                }
                7 => drop(store.run_maintenance().unwrap()),
                8 => {
                    drop(store);
                    store = open(whos[chance.gen_range(0..3)]);
                }
                _ => store.evict_all(),
            }
            if step == 59 {
                store.run_maintenance().unwrap();
            }
            for (name, (current, previous, pins)) in (0..3_u8).zip(&heads) {
                let key = crate::support::key(&name.to_string());
                let listed: BTreeSet<u64> = numbers(&store, &name.to_string()).into_iter().collect();
                let newest = written.range((name, 0)..(name + 1, 0)).rev().take(3).map(|((_, version), _)| *version);
                let wanted: BTreeSet<u64> =
                    newest.chain(*current).chain(*previous).chain(pins.iter().copied()).collect();
                assert!(listed.is_superset(&wanted), "seed {seed} step {step}: {listed:?} lacks some of {wanted:?}");
                for version in &listed {
                    let Some(held) = store.get_version::<Weights>(&key, Version::new(*version).unwrap()).unwrap()
                    else {
                        assert!(!wanted.contains(version), "seed {seed} step {step}: {version} is gone");
                        continue; // pruned in the background since it was listed
                    };
                    assert_eq!(first_weight(&held), written[&(name, *version)], "seed {seed} step {step}");
                }
                let now = store.get::<Weights>(&key).unwrap().and_then(|held| held.version()).map(Version::get);
                assert_eq!(now, *current, "seed {seed} step {step}");
            }
        }
        assert_eq!(store.stats().maintenance_waiting, 0);
        assert!(store.verify().unwrap().is_whole());
    }
}
