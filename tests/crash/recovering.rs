//! After accesses that failed: reads go on, memory follows the file, and what is written is found again.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use modelkeep::{
    ErrorKind, Freshness, ModelKey, Store, Tier,
    disk::Access,
    tier::{Change, ModelTier, TierError, TierModel},
};

use crate::{
    disk::{LoggedDisk, broken},
    faults::{break_syncs, first, stored},
    support::{Weights, key, model, open, options},
};

/// Whatever fails while freed pages are taken back, after a publish or before one: reads go on.
#[test]
fn one_failed_access_of_a_publish_does_not_end_reads() {
    for mapped in [true, false] {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            // Without a cache redb reads its own tables whenever it needs them.
            let options = options().cache_bytes(0).mapped(mapped).retention(1).compress_superseded(false);
            let store = options.disk(Arc::clone(&disk) as _).open(&path).unwrap();
            for first in 1..4 {
                store.publish(&key("large"), model(first, 40_000)).unwrap();
            }
            store.evict_all();
            let held = store.get::<Weights>(&key("large")).unwrap().unwrap();
            store.publish(&key("large"), model(4, 40_000)).unwrap();
            let failed = disk.fail(|_| true, at, 1);
            let said = store.publish(&key("large"), model(5, 40_000));
            disk.heal();
            if failed.load(Ordering::Relaxed) == 0 {
                assert!(at > 20, "no access was made to fail");
                break;
            }
            store.evict_all();
            let version = store.metadata(&key("large")).unwrap().unwrap().version;
            let found = store.get::<Weights>(&key("large")).unwrap().unwrap();
            assert_eq!((found.version(), first(&held)), (version, 3.0), "access {at} failed: {said:?}");
            assert!(said.is_ok_and(|said| Some(said) == version) || [4.0, 5.0].contains(&first(&found)));
        }
    }
}

/// The outcome of a write cannot be read: what is in memory is not taken for it, and is put right as soon as the file
/// can be read, though nobody asks the file for anything.
#[test]
fn memory_follows_the_file_after_an_outcome_that_could_not_be_read() {
    type Change = fn(&Store) -> Result<(), ErrorKind>;
    let changes: [Change; 4] = [
        |store| store.publish(&key("large"), model(9, 20_000)).map(drop).map_err(|err| err.kind()),
        |store| {
            let trained =
                store.get_or_train(&key("large"), &Freshness::forced(), |_| Ok::<_, String>(model(9, 20_000)));
            trained.unwrap().publish_error().map_or(Ok(()), |err| Err(err.kind()))
        },
        |store| store.rollback(&key("large")).map(drop).map_err(|err| err.kind()),
        |store| store.remove(&key("large")).run().map(drop).map_err(|err| err.kind()),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut unknown = 0;
        for failing in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            let store = stored(&path, &disk);
            let live = store.live::<Weights>(&key("large")).unwrap();
            assert_eq!(first(&live.load().unwrap().to_model_ref()), 2.0);
            let mut syncs = 0;
            disk.plan(move |access| {
                syncs += u32::from(matches!(access, Access::Sync { .. }));
                let reads = matches!(access, Access::Read { .. } | Access::Map { .. });
                (syncs > failing && (reads || matches!(access, Access::Sync { .. }))).then(broken)
            });
            let said = change(&store);
            if said == Err(ErrorKind::OutcomeUnknown) {
                unknown += 1;
                let hot = store.get::<Weights>(&key("large")).map_err(|err| err.kind());
                assert_eq!(hot.map(drop), Err(ErrorKind::Io), "nobody knows what is current");
                assert_eq!(store.get::<Weights>(&key("small")).unwrap().map(|held| held.tier()), Some(Tier::Hot));
            }
            disk.heal();
            let shown = || live.load().map(|current| current.version());
            let inside = || store.get::<Weights>(&key("large")).unwrap().map(|held| held.version());
            // Without a look at the file by this thread.
            let before = shown();
            for _ in 0..200 {
                if shown() != before {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let (shown, inside) = (shown(), inside());
            let stored = store.metadata(&key("large")).unwrap().map(|metadata| metadata.version);
            assert_eq!((shown, inside), (stored, stored), "change {n}, sync {failing}: {said:?}");
            drop((live, store));
            // The thread that looked at the file may be the last to let go of it.
            let again = std::iter::repeat_with(|| options().open(&path)).take(1000).find_map(|opened| {
                std::thread::sleep(std::time::Duration::from_millis(u64::from(opened.is_err())));
                opened.ok()
            });
            assert_eq!(again.unwrap().metadata(&key("large")).unwrap().map(|metadata| metadata.version), stored);
        }
        assert!(unknown > 0, "change {n} never had an unknown outcome");
    }
}

/// After a sync that failed the kernel takes its pages for written, and may drop them: who reads later finds what the
/// disk has. What was shown of them goes from memory and from handles, though the call that brings it up is about
/// another model.
#[test]
fn what_the_kernel_dropped_after_a_failed_sync_is_not_shown_any_more() {
    let mut dropped = 0;
    for failing in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = stored(&path, &disk);
        store.publish(&key("page"), model(4, 700)).unwrap();
        let live = store.live::<Weights>(&key("page")).unwrap();
        let on_disk = std::fs::read(&path).unwrap();
        let mut syncs = 0;
        disk.plan(move |access| {
            syncs += u32::from(matches!(access, Access::Sync { .. }));
            (syncs > failing && matches!(access, Access::Sync { .. })).then(broken)
        });
        let said = store.publish(&key("page"), model(5, 701));
        disk.heal();
        let shown = || store.get::<Weights>(&key("page")).unwrap().unwrap();
        if said.is_ok() || first(&shown()) != 5.0 {
            continue;
        }
        assert_eq!(said.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        assert_eq!((shown().tier(), first(&live.load().unwrap().to_model_ref())), (Tier::Hot, 5.0));
        // Its length is in the file system's journal, and stays.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&on_disk).unwrap();
        store.publish(&key("small"), model(6, 4)).unwrap();
        let stored = store.metadata(&key("page")).unwrap().unwrap().version;
        assert_eq!((first(&shown()), shown().version()), (4.0, stored), "sync {failing}");
        assert_eq!(live.load().unwrap().version(), stored, "sync {failing}");
        dropped += 1;
    }
    assert!(dropped > 0, "no commit was there and then gone");
}

/// The thread in the background cannot detach what left: then whoever writes does, before the commit after the next one
/// begins.
#[test]
fn what_left_is_detached_before_the_commit_after_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = stored(&path, &disk);
    store.evict_all();
    let held = store.get::<Weights>(&key("large")).unwrap().unwrap();
    let (bytes, writer) = (held.archive_bytes().to_vec(), std::thread::current().id());
    let detached = Arc::new(AtomicU64::new(0));
    disk.plan({
        let detached = Arc::clone(&detached);
        move |access| {
            let detaches = matches!(access, Access::Detach { .. });
            let is_writer = std::thread::current().id() == writer;
            detached.fetch_add(u64::from(detaches && is_writer), Ordering::Relaxed);
            (detaches && !is_writer).then(broken)
        }
    });
    // It leaves with this commit: the version that is superseded is compressed.
    store.publish(&key("large"), model(4, 20_002)).unwrap();
    store.publish(&key("small"), model(5, 4)).unwrap();
    store.publish(&key("small"), model(6, 4)).unwrap();
    assert_eq!(detached.load(Ordering::Relaxed), 1);
    assert!(held.archive_bytes() == bytes, "what is held changed");
}

/// A rollback succeeds, and what it leads to cannot be read once: whoever follows the model is shown none, and the
/// model as soon as it can be read, though nobody asks the file for anything.
#[test]
fn a_version_that_could_not_be_read_is_shown_when_it_can_be() {
    let (mut tries, mut hidden) = (0, 0);
    for (numbers, times) in [(10, 1), (20_000, 1), (10, 2), (20_000, 3)] {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            let store = options().mapped(false).hot_bytes(0).disk(Arc::clone(&disk) as _).open(&path).unwrap();
            store.publish(&key("page"), model(1, numbers)).unwrap();
            store.publish(&key("page"), model(2, numbers)).unwrap();
            let live = store.live::<Weights>(&key("page")).unwrap();
            let shown = || live.load().map(|current| first(&current.to_model_ref()));
            assert_eq!(shown(), Some(2.0));
            let failed = disk.fail(|access| matches!(access, Access::Read { .. }), at, times);
            let said = store.rollback(&key("page"));
            let at_once = shown();
            disk.heal();
            if failed.load(Ordering::Relaxed) == 0 {
                break;
            }
            tries += 1;
            if said.is_ok() {
                assert_ne!(at_once, Some(2.0), "read {at}: the version that was left is shown");
                hidden += u64::from(at_once.is_none());
            }
            let expected = if said.is_ok() { Some(1.0) } else { shown() };
            for _ in 0..200 {
                if shown() == expected {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let stored = store.get::<Weights>(&key("page")).unwrap().map(|held| first(&held));
            assert_eq!((shown(), stored), (expected, expected), "read {at}: {said:?}");
        }
    }
    println!("{tries} reads failed, {hidden} hid the model for a moment");
    assert!(tries > 20 && hidden > 0);
}

/// A write fails, and so does taking it back: the first write after that goes through.
#[test]
fn the_first_write_on_a_disk_that_is_well_again_goes_through() {
    let noise = |from: u64| -> Vec<u8> {
        (0..300_000)
            .scan(from, |state, _| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Some((*state >> 56) as u8)
            })
            .collect()
    };
    let mut failed = 0;
    for cache in [0, 8 << 20] {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            let store = options().mapped(false).cache_bytes(cache).disk(Arc::clone(&disk) as _).open(&path).unwrap();
            store.publish(&key("page"), model(1, 3_000)).unwrap();
            store.publish(&key("page"), model(2, 3_000)).unwrap();
            let hit = disk.fail(|_| true, at, 2);
            let trained = model(9, 9_000).artifact("b", noise(2)).artifact("c", noise(3));
            let said = store.publish(&key("page"), trained);
            disk.heal();
            if hit.load(Ordering::Relaxed) == 0 {
                break;
            }
            failed += u64::from(said.is_err());
            store
                .publish(&key("small"), model(6, 4))
                .unwrap_or_else(|err| panic!("access {at}: {said:?}, then {err:?}"));
        }
    }
    assert!(failed > 50, "{failed}");
}

/// Through a link in another folder: the name that is written is the one that the link leads to, and that is made
/// durable.
#[test]
fn through_a_link_the_folder_of_the_file_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    [&own, &other].iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let (path, link) = (own.join("models.redb"), other.join("link"));
    drop(stored(&path, &LoggedDisk::new()));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let disk = LoggedDisk::new();
    disk.knows(&path);
    disk.knows(&link);
    let folders = Arc::new(Mutex::new(Vec::new()));
    disk.plan({
        let folders = Arc::clone(&folders);
        move |access| {
            match access {
                Access::SyncFolder { path } => folders.lock().unwrap().push(path.to_path_buf()),
                Access::Rename { to, .. } => folders.lock().unwrap().push(to.to_path_buf()),
                _ => {}
            }
            None
        }
    });
    let store = open(&link, &disk).unwrap();
    store.compact().unwrap();
    store.publish(&key("other"), model(4, 10)).unwrap();
    let own = std::fs::canonicalize(&own).unwrap();
    assert_eq!(*folders.lock().unwrap(), [own.join("models.redb"), own], "renamed, then synced");
}

/// Somebody puts another file in the place of the store while it is compacted: that file stays.
#[test]
fn a_file_that_takes_the_name_during_a_compaction_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.redb");
    let store = stored(&path, &LoggedDisk::new());
    let mut restored = false;
    let refused = store.compact_with(|_| {
        if !std::mem::replace(&mut restored, true) {
            std::fs::rename(&path, folder.path().join("old.redb")).unwrap();
            std::fs::write(&path, "a backup").unwrap();
        }
    });
    assert_eq!(refused.map(drop).map_err(|err| err.kind()), Err(ErrorKind::Replaced));
    assert_eq!(std::fs::read(&path).unwrap(), b"a backup");
    assert_eq!(first(&store.get(&key("small")).unwrap().unwrap()), 3.0, "what is open can be read");
}

/// A state that was given up is said to be once, and then the listing is over.
#[test]
fn a_listing_that_outlives_an_error_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = stored(&path, &disk);
    let lists = || store.list(modelkeep::admin::Filter::all()).unwrap();
    let (untouched, mut begun) = (lists(), lists());
    assert_eq!(*begun.next().unwrap().unwrap().key(), key("large"));
    store.publish(&key("other"), model(4, 10)).unwrap();
    break_syncs(&disk);
    store.publish(&key("other"), model(5, 10)).unwrap_err();
    disk.heal();
    store.publish(&key("other"), model(6, 10)).unwrap();
    for listing in [untouched, begun] {
        let kinds: Vec<_> = listing.take(10).map(|listed| listed.map_err(|err| err.kind()).map(drop)).collect();
        assert_eq!(kinds, [Err(ErrorKind::Expired)]);
    }
    assert!(lists().all(|listed| listed.is_ok()) && lists().count() == 3);
}

/// A model is removed, and the file cannot be looked at afterwards, while freed pages are taken back: whoever follows it
/// is not left with it.
#[test]
fn a_model_that_was_removed_is_not_shown_whatever_could_not_be_read() {
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = options().mapped(false).disk(Arc::clone(&disk) as _).open(&path).unwrap();
        store.publish(&key("large"), model(1, 40_000)).unwrap();
        let live = store.live::<Weights>(&key("large")).unwrap();
        assert!(live.load().is_some());
        let failed = disk.fail(|access| matches!(access, Access::Read { .. }), at, 2);
        let said = store.remove(&key("large")).run();
        disk.heal();
        if failed.load(Ordering::Relaxed) == 0 {
            assert!(at > 2, "no read was made to fail");
            break;
        }
        for _ in 0..400 {
            let stored = store.metadata(&key("large")).unwrap().map(|metadata| metadata.version);
            if live.load().map(|current| current.version()) == stored {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let stored = store.metadata(&key("large")).unwrap().map(|metadata| metadata.version);
        assert_eq!(live.load().map(|current| current.version()), stored, "read {at}: {said:?}");
    }
}

/// Which changes a tier of others was told of.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<Change>>);

impl ModelTier for Told {
    fn find(&self, _: &ModelKey) -> Result<Option<TierModel>, TierError> {
        Ok(None)
    }

    fn apply(&self, change: &Change) {
        self.0.lock().unwrap().push(change.clone());
    }
}

/// A tier of others is told of each version that the file has after a commit, or that nobody knows.
#[test]
fn a_tier_of_others_hears_of_a_commit_whose_outcome_is_unknown() {
    let mut unknown = 0;
    for (failing, reads_fail) in (0..8).flat_map(|failing| [(failing, false), (failing, true)]) {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk, told) = (folder.path().join("models.redb"), LoggedDisk::new(), Arc::new(Told::default()));
        let store = options().disk(Arc::clone(&disk) as _).tier(Arc::clone(&told) as _).open(&path).unwrap();
        store.publish(&key("page"), model(1, 700)).unwrap();
        told.0.lock().unwrap().clear();
        let mut syncs = 0;
        disk.plan(move |access| {
            syncs += u32::from(matches!(access, Access::Sync { .. }));
            let fails = match access {
                Access::Sync { .. } => true,
                Access::Read { .. } => reads_fail,
                _ => false,
            };
            (syncs > failing && fails).then(broken)
        });
        let said = store.publish(&key("page"), model(2, 701));
        disk.heal();
        let stored = store.metadata(&key("page")).unwrap().unwrap().version;
        let told = told.0.lock().unwrap();
        let knows = |change: &Change| match change {
            Change::Published(model) => model.metadata().version == stored,
            Change::Unknown { keys } => keys.is_empty() || keys.contains(&key("page")),
            _ => false,
        };
        let is_new = stored == modelkeep::Version::new(2);
        assert!(!is_new || told.iter().any(knows), "sync {failing}: {said:?}, {told:?}");
        unknown += u32::from(said.is_err_and(|err| err.kind() == ErrorKind::OutcomeUnknown));
    }
    assert!(unknown > 0, "no outcome was unknown");
}
