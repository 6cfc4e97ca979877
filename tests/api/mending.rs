//! What is done about damage: a write beside it does not bless it, a compaction gets rid of it, and what is accepted as
//! lost is not given out again.

use std::fs;

use modelkeep::{
    ErrorKind, Store, Verify, Version,
    admin::{CompactionProgress, Filter},
};

use crate::support::{Folder, Weights, damage, damage_row, first_weight, flip_first_bit, key, large, small, weights};

const POLICIES: [Verify; 3] = [Verify::Full, Verify::Structure, Verify::Background];

/// A write, and what to call it.
type Write = (&'static str, fn(&Store) -> modelkeep::error::Result<()>);

/// What may be written while a page is damaged.
const WRITES: [Write; 3] = [
    ("a publish beside it", |store| {
        let level = ("2018-12-24".parse().unwrap(), 1.0);
        store.levels("VXN")?.write(&[level]).and_then(|_| store.publish(&key("ddd"), weights(7.0))).map(drop)
    }),
    ("a pin beside it", |store| store.pin(&key("aaa"), Version::FIRST)),
    ("a compaction", |store| store.compact().map(drop)),
];

/// redb gives a page that it writes a checksum, damage and all.
#[test]
fn a_damaged_row_is_not_taken_for_whole_once_its_page_was_written_anew() {
    for (what, write) in WRITES {
        let folder = Folder::new();
        let store = folder.open();
        for name in ["aaa", "bbb", "ccc"] {
            store.publish(&key(name), weights(1.0).tag("note", format!("{name}-0123456789abcdef"))).unwrap();
        }
        let day = "2018-12-26".parse().unwrap();
        store.levels("VIX").unwrap().write(&[("2018-12-24".parse().unwrap(), 36.07), (day, 30.41)]).unwrap();
        drop(store);
        damage(&folder.path(), b"bbb-0123456789abcdef", |tag| tag[7] ^= 1);
        damage(&folder.path(), &30.41f64.to_le_bytes(), |level| level[6] ^= 4);
        let bytes = fs::read(folder.path()).unwrap();
        for verify in POLICIES {
            fs::write(folder.path(), &bytes).unwrap();
            let what = format!("{verify:?} after {what}");
            let open = || folder.options().verify(verify).open(folder.path()).unwrap();
            let store = open();
            write(&store).unwrap();
            drop(store);
            let store = open();
            let kind = |result: modelkeep::error::Result<()>| result.map_err(|err| err.kind());
            assert_eq!(kind(store.metadata(&key("bbb")).map(drop)), Err(ErrorKind::Corrupt), "{what}");
            assert_eq!(kind(store.versions(&key("bbb")).map(drop)), Err(ErrorKind::Corrupt), "{what}");
            assert_eq!(kind(store.get::<Weights>(&key("bbb")).map(drop)), Err(ErrorKind::Corrupt), "{what}");
            assert_eq!(kind(store.levels("VIX").unwrap().at(day).map(drop)), Err(ErrorKind::Corrupt), "{what}");
            let listed: Vec<_> = store.list(Filter::all()).unwrap().collect();
            assert!(listed.iter().flatten().all(|listed| listed.name().as_str() != "bbb"), "{what}: {listed:?}");
            assert_eq!(listed.iter().filter(|listed| listed.is_err()).count(), 1, "{what}: {listed:?}");
            assert!(!store.verify().unwrap().is_whole(), "{what}");
            assert_eq!(first_weight(&store.get(&key("aaa")).unwrap().unwrap()), 1.0, "{what}");
            // What is written there is whole again.
            store.publish(&key("bbb"), weights(2.0)).unwrap();
            assert_eq!(first_weight(&store.get(&key("bbb")).unwrap().unwrap()), 2.0, "{what}");
        }
    }
}

/// The current version in a head, and the highest number that was given out.
#[test]
fn a_damaged_head_beside_a_write_gives_out_no_number_twice() {
    let fields = [5u64, 4, 5].map(u64::to_le_bytes).concat();
    for (what, write) in WRITES {
        for (field, bits) in [(0, 1), (16, 4)] {
            let folder = Folder::new();
            let store = folder.open();
            for i in 1..=5u8 {
                store.publish(&key("aab"), weights(f64::from(i)).artifact("report", [i])).unwrap();
            }
            store.publish(&key("aaa"), weights(9.0)).unwrap();
            drop(store);
            damage(&folder.path(), &fields, |head| head[field] ^= bits);
            let bytes = fs::read(folder.path()).unwrap();
            for verify in POLICIES {
                fs::write(folder.path(), &bytes).unwrap();
                let what = format!("{verify:?} after {what}, field {field}");
                let store = folder.options().verify(verify).open(folder.path()).unwrap();
                write(&store).unwrap();
                let kind = store.get::<Weights>(&key("aab")).map(drop).map_err(|err| err.kind());
                assert_eq!(kind, Err(ErrorKind::Corrupt), "{what}");
                let listed = store.list(Filter::all()).unwrap().flatten();
                assert!(listed.into_iter().all(|listed| listed.name().as_str() != "aab"), "{what}");
                let version = store.publish(&key("aab"), weights(66.0)).unwrap();
                assert!(version.get() > 5, "{what}: {version} was given out before");
                let second = Version::new(2).unwrap();
                assert_eq!(store.artifact(&key("aab"), second, "report").unwrap(), Some(vec![2]), "{what}");
            }
        }
    }
}

/// The row that counts archives is lost, and the loss accepted: the next archives take nobody's place.
#[test]
fn the_archives_that_come_after_an_accepted_loss_take_nobodys_place() {
    for compacts in [false, true] {
        let folder = Folder::new();
        let store = folder.options().keep_all_versions().open(folder.path()).unwrap();
        for i in 0..20u32 {
            store.publish(&key("aaa"), weights(f64::from(i))).unwrap();
        }
        store.publish(&key("bbb"), weights(100.0)).unwrap();
        drop(store);
        damage(&folder.path(), b"next_archive", |name| name[11] ^= 1);
        let store = folder.options().keep_all_versions().open(folder.path()).unwrap();
        if compacts {
            store.compact().unwrap();
        }
        store.accept_losses().unwrap();
        for i in 0..3u32 {
            store.publish(&key("new"), weights(f64::from(200 + i))).unwrap();
        }
        drop(store);
        let store = folder.options().keep_all_versions().open(folder.path()).unwrap();
        for i in 0..20u32 {
            let version = Version::new(u64::from(i) + 1).unwrap();
            let held = store.get_version(&key("aaa"), version).unwrap().unwrap();
            assert_eq!(first_weight(&held), f64::from(i));
        }
        assert_eq!(first_weight(&store.get(&key("bbb")).unwrap().unwrap()), 100.0);
        assert_eq!(store.verify().unwrap().is_whole(), compacts, "a damaged page stays until then");
        // The counter stands above all that was given out: so do the numbers of a model whose head is lost now.
        drop(store);
        let head = [b"aaa\0".as_slice(), key("aaa").config_hash().as_bytes()].concat();
        damage(&folder.path(), &[head.as_slice(), b"bbb"].concat(), flip_first_bit);
        let store = folder.open();
        store.compact().unwrap();
        store.accept_losses().unwrap();
        let version = store.publish(&key("aaa"), weights(1.0)).unwrap();
        assert!(version.get() > 20, "{version} was given out before");
    }
}

/// An identity that is lost is drawn anew, and stays.
#[test]
fn a_store_that_lost_its_identity_gets_another_one() {
    let folder = Folder::new();
    let before = folder.open().identity().unwrap();
    damage(&folder.path(), b"identity", |name| name[7] ^= 1);
    let store = folder.open();
    store.identity().unwrap_err();
    store.compact().unwrap();
    store.identity().unwrap_err();
    store.accept_losses().unwrap();
    let now = store.identity().unwrap();
    assert_ne!(now.id, before.id);
    drop(store);
    assert_eq!(folder.open().identity().unwrap(), now);
}

/// One flipped bit in the id of a small archive, which may put its page out of order.
#[test]
fn a_compaction_leaves_a_page_behind_that_is_out_of_order() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 0..6u32 {
        store.publish(&key(&format!("m{i}")), weights(f64::from(i))).unwrap();
    }
    drop(store);
    let bytes = fs::read(folder.path()).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for id in 1..=6 {
        let id = small(id).to_le_bytes();
        for at in (0..bytes.len() - 8).filter(|&at| bytes[at..at + 8] == id) {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                fs::write(folder.path(), &damaged).unwrap();
                let Ok(store) = folder.options().open(folder.path()) else { continue };
                let what = format!("byte {at}, bit {bit}");
                opened += 1;
                refused += u32::from(store.publish(&key("new"), weights(50.0)).is_err());
                store.compact().unwrap_or_else(|err| panic!("{what}: {err:?}"));
                store.publish(&key("new"), weights(51.0)).unwrap_or_else(|err| panic!("{what}: {err:?}"));
                let mut lost = 0;
                for i in 0..6u32 {
                    match store.get(&key(&format!("m{i}"))) {
                        Ok(held) => assert_eq!(first_weight(&held.expect(&what)), f64::from(i), "{what}"),
                        Err(err) => {
                            assert_eq!(err.kind(), ErrorKind::Corrupt, "{what}");
                            lost += 1;
                        }
                    }
                }
                assert!(lost <= 1, "{what}: {lost} models are lost to one bit");
                assert_eq!(first_weight(&store.get(&key("new")).unwrap().unwrap()), 51.0, "{what}");
            }
        }
    }
    println!("{opened} opened, in {refused} no small archive could be written before");
    assert!(opened > 20 && refused > 5);
}

/// Rows are left out, and losses are written down: the figures agree at the end all the same.
#[test]
fn a_compaction_that_leaves_rows_out_says_how_far_it_is() {
    let folder = Folder::new();
    let store = folder.open();
    for name in ["aaa", "bbb", "ccc"] {
        store.publish(&key(name), weights(1.0)).unwrap();
    }
    drop(store);
    damage(&folder.path(), b"bbb\0", |name| name[1] ^= 1);
    let store = folder.open();
    for _ in 0..3 {
        let mut last = None::<CompactionProgress>;
        store
            .compact_with(|at| {
                assert!(at.verified_bytes <= at.total_bytes && at.copied_bytes <= at.total_bytes, "{at:?}");
                last = Some(at);
            })
            .unwrap();
        let last = last.expect("a report at the end");
        assert_eq!((last.copied_bytes, last.verified_bytes), (last.total_bytes, last.total_bytes));
    }
}

/// The row that ends the table of large archives is nobody's: a compaction leaves it out, whatever became of it, and the
/// next large archive brings another one.
#[test]
fn a_compaction_mends_the_row_that_ends_the_archives() {
    let last = (i64::MAX as u64).to_le_bytes();
    let front = [&last[..], b"mkp\x1a"].concat();
    for (what, flipped) in [("its value", 200), ("its key", 0), ("its key, far off", 6)] {
        let folder = Folder::new();
        let store = folder.open();
        store.publish(&key("m"), large(1.0)).unwrap();
        store.close().unwrap();
        damage(&folder.path(), &front, |row| {
            if flipped < row.len() {
                row[flipped] ^= 1;
            } else {
                row[11] ^= 1;
            }
        });
        damage_row(&folder, "store", b"next_archive");
        let store = folder.open();
        assert!(!store.verify().unwrap().is_whole(), "{what}");
        store.publish(&key("m"), large(2.0)).unwrap();
        store.compact().unwrap();
        store.publish(&key("n"), large(3.0)).unwrap();
        store.accept_losses().unwrap();
        let verified = store.verify().unwrap();
        assert!(verified.is_whole() && verified.unreferenced.is_empty(), "{what}: {verified:?}");
        for (name, first) in [("m", 2.0), ("n", 3.0)] {
            assert_eq!(first_weight(&store.get(&key(name)).unwrap().unwrap()), first, "{what}");
        }
    }
}
