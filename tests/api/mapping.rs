//! Archives that are read where they lie in the file, and the copies where they cannot be.

use std::{
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use modelkeep::{ErrorKind, ModelRef, NewModel, Store, Tier, Verify, admin::Filter};

use crate::support::{Folder, Weights, error, first_weight, key, large, weights};

fn address(held: &ModelRef<Weights>) -> usize {
    held.archive_bytes().as_ptr().addr()
}

/// Whether an address lies in a map of the store's file, as the kernel says.
fn is_in_file(folder: &Folder, address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = folder.path().canonicalize().unwrap();
    maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).any(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&address)
    })
}

fn allocated(folder: &Folder) -> u64 {
    std::fs::metadata(folder.path()).unwrap().blocks() * 512
}

#[test]
fn a_large_archive_is_read_in_place_whatever_the_policy_and_however_the_store_is_open() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), large(1.0)).unwrap();
    for verify in [Verify::Full, Verify::Background, Verify::Structure] {
        for read_only in [true, false] {
            let store = folder.options().mapped(true).verify(verify).read_only(read_only).open(folder.path()).unwrap();
            let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
            assert_eq!((held.tier(), first_weight(&held)), (Tier::Disk, 1.0));
            assert_eq!(address(&held) % 64, 0);
            assert!(is_in_file(&folder, address(&held)), "{verify:?}, read-only: {read_only}");
            let again = store.get::<Weights>(&key("m")).unwrap().unwrap();
            assert_eq!((again.tier(), address(&again)), (Tier::Hot, address(&held)));
        }
    }
}

#[test]
fn small_and_compressed_archives_and_stores_without_a_map_are_copied() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("small"), weights(1.0)).unwrap();
    store.publish(&key("m"), large(1.0)).unwrap();
    store.publish(&key("m"), large(2.0)).unwrap();
    store.run_maintenance().unwrap();
    let compressed = store.get_version::<Weights>(&key("m"), store.versions(&key("m")).unwrap()[0].version);
    store.evict_all();
    let small = store.get::<Weights>(&key("small")).unwrap().unwrap();
    let compressed = compressed.unwrap().unwrap();
    assert_eq!((first_weight(&small), first_weight(&compressed)), (1.0, 1.0));
    assert!(!is_in_file(&folder, address(&small)) && !is_in_file(&folder, address(&compressed)));
    drop((store, small, compressed));
    for read_only in [true, false] {
        let store = folder.options().mapped(false).read_only(read_only).open(folder.path()).unwrap();
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert_eq!(first_weight(&held), 2.0);
        assert!(!is_in_file(&folder, address(&held)));
    }
}

#[test]
fn what_is_held_in_place_stays_as_it_is_when_it_is_superseded_removed_and_overwritten() {
    let folder = Folder::new();
    let options = || folder.options().mapped(true).retention(1).compress_superseded(false);
    options().open(folder.path()).unwrap().publish(&key("m"), large(1.0)).unwrap();
    let store = options().open(folder.path()).unwrap();
    let mut held = Vec::new();
    for v in 1..30 {
        store.evict_all();
        let model = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert!(is_in_file(&folder, address(&model)));
        held.push((f64::from(v), model.archive_bytes().to_vec(), model));
        store.publish(&key("m"), large(f64::from(v + 1))).unwrap();
        // Whatever was freed is written to again.
        if v % 3 == 0 {
            held.remove(0);
        }
        for (first, bytes, model) in &held {
            assert_eq!(first_weight(model), *first);
            assert!(model.archive_bytes() == bytes, "an archive changed under its reader");
        }
    }
    store.remove(&key("m")).run().unwrap();
    drop(store);
    for (_, bytes, model) in &held {
        assert!(model.archive_bytes() == bytes, "also without the store");
    }
}

#[test]
fn a_model_held_in_place_keeps_the_file_open_and_locked() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), large(1.0)).unwrap();
    for read_only in [true, false] {
        let store = folder.options().mapped(true).read_only(read_only).open(folder.path()).unwrap();
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        drop(store);
        assert_eq!(error(Store::open(folder.path()).map(drop)).kind(), ErrorKind::InUse);
        assert_eq!(first_weight(&held), 1.0);
        drop(held);
        drop(Store::open(folder.path()).unwrap());
    }
}

#[test]
fn a_file_that_is_open_for_reading_can_be_read_by_others_and_by_redb_and_not_written() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), large(1.0)).unwrap();
    let one = folder.open_read_only();
    let two = folder.open_read_only();
    let three = folder.options().mapped(false).read_only(true).open(folder.path()).unwrap();
    for store in [&one, &two, &three] {
        assert_eq!(first_weight(&store.get::<Weights>(&key("m")).unwrap().unwrap()), 1.0);
    }
    drop((two, three));
    assert_eq!(error(folder.options().open(folder.path()).map(drop)).kind(), ErrorKind::InUse);
    drop(one);
    let writer = folder.open();
    assert_eq!(error(folder.options().read_only(true).open(folder.path()).map(drop)).kind(), ErrorKind::InUse);
    drop(writer);
}

#[test]
fn a_compaction_leaves_what_is_held_as_it_is() {
    let folder = Folder::new();
    let store = folder.options().mapped(true).retention(1).open(folder.path()).unwrap();
    for v in 0..8 {
        store.publish(&key("m"), large(f64::from(v))).unwrap();
        store.publish(&key(&format!("m{v}")), large(1.0)).unwrap();
    }
    store.prune_all(1).run().unwrap();
    (0..7).for_each(|v| drop(store.remove(&key(&format!("m{v}"))).run().unwrap()));
    store.evict_all();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    let bytes = held.archive_bytes().to_vec();
    let listing = store.list(Filter::all()).unwrap();
    let before = allocated(&folder);
    let compacted = store.compact().unwrap();
    assert_eq!((compacted.bytes_before, compacted.bytes_after), (before, allocated(&folder)));
    assert!(compacted.bytes_after <= before / 2, "{compacted:?}");
    assert!(held.archive_bytes() == bytes);
    assert_eq!(listing.count(), 2, "m and m7, in the file that was replaced");
    assert_eq!(first_weight(&store.get::<Weights>(&key("m")).unwrap().unwrap()), 7.0);
    for v in 8..12 {
        store.publish(&key("m"), large(f64::from(v))).unwrap();
    }
    assert!(held.archive_bytes() == bytes);
    assert!(store.verify().unwrap().is_whole());
    drop(store);
    assert!(held.archive_bytes() == bytes, "also without the store");
    let store = folder.options().open(folder.path()).unwrap();
    assert_eq!(first_weight(&store.get::<Weights>(&key("m")).unwrap().unwrap()), 11.0);
}

/// 20 MB in numbers that all are the version.
fn huge(version: u32) -> NewModel<Weights> {
    NewModel::new(Weights { weights: vec![f64::from(version); (20 << 20) / 8] })
}

/// The most that the file takes while 200 versions are published under two readers, and what it takes is what they
/// hold.
fn most_allocated() -> u64 {
    const VERSIONS: u32 = 200;
    let folder = Folder::new();
    let options =
        folder.options().mapped(true).retention(1).compress_superseded(false).verify(Verify::Structure).hot_bytes(0);
    let store = options.open(folder.path()).unwrap();
    store.publish(&key("m"), huge(1)).unwrap();
    let (done, loads) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut largest = 0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Without a hot tier every load is a new lease of whatever is current.
                    let held = store.get::<Weights>(&key("m")).unwrap().expect("it is never missing");
                    let first = first_weight(&held);
                    let same = |at: usize| held.weights[at].to_native() == first;
                    assert!((0..held.weights.len()).step_by(4099).all(same), "a page was written to under its reader");
                    loads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in 2..=VERSIONS {
            store.publish(&key("m"), huge(version)).unwrap();
            largest = largest.max(allocated(&folder));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(loads.load(Ordering::Relaxed) > u64::from(VERSIONS), "readers did read");
    println!("{} MiB allocated", largest >> 20);
    assert_eq!(first_weight(&store.get::<Weights>(&key("m")).unwrap().unwrap()), f64::from(VERSIONS));
    largest
}

/// A reader that is stopped in the middle of a load pins a state for as long: on a busy machine that can be several
/// commits. So one of three runs has to do.
#[test]
fn two_hundred_versions_of_20_mb_under_readers_take_the_room_of_less_than_four() {
    let least = (0..3).map(|_| most_allocated()).find(|most| *most < 4 * (20 << 20));
    assert!(least.is_some(), "each time four versions or more were allocated");
}
