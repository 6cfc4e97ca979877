//! Accesses that fail: what is held stays, what is stored can be read, and what a call says is what the file has.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use modelkeep::{
    ErrorKind, Freshness, Interval, ModelRef, Store, Tier, Verify, Version, admin::Maintenance, disk::Access,
    market::Timeframe,
};

use crate::{
    disk::{LoggedDisk, broken, full, is_read},
    support::{Step, Weights, bars, key, model, open, options, summary},
};

pub fn first(held: &ModelRef<Weights>) -> f64 {
    held.weights[0].to_native()
}

/// A store with some models, two versions of one of them, the superseded one compressed.
pub fn stored(path: &Path, disk: &Arc<LoggedDisk>) -> Store {
    stored_by(Maintenance::WithPublish, path, disk)
}

/// The same, with versions that wait to be compressed and removed.
fn neglected(path: &Path, disk: &Arc<LoggedDisk>) -> Store {
    let store = stored_by(Maintenance::OnRequest, path, disk);
    store.publish(&key("large"), model(4, 20_002)).unwrap();
    store.publish(&key("large"), model(5, 20_003)).unwrap();
    store
}

fn stored_by(who: Maintenance, path: &Path, disk: &Arc<LoggedDisk>) -> Store {
    let store = options().maintenance(who).disk(Arc::clone(disk) as _).open(path).unwrap();
    store.publish(&key("large"), model(1, 20_000)).unwrap();
    store.publish(&key("large"), model(2, 20_001)).unwrap();
    store.publish(&key("small"), model(3, 3)).unwrap();
    store.bars("SPY", Timeframe::MINUTE).unwrap().write(&bars(0, 390)).unwrap();
    store
}

/// From here on every sync fails.
pub fn break_syncs(disk: &LoggedDisk) {
    disk.plan(|access| matches!(access, Access::Sync { .. }).then(broken));
}

/// From here on nothing can be written.
fn fill(disk: &LoggedDisk) {
    disk.plan(|access| matches!(access, Access::Write { .. } | Access::SetLen { .. }).then(full));
}

#[test]
fn while_writes_fail_reads_go_on_and_what_is_held_stays() {
    for fault in [break_syncs, fill] {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = stored(&path, &disk);
        // The version before: held by a guard, by a clone, and by a handle that is idle.
        let live = store.live::<Weights>(&key("large")).unwrap();
        assert_eq!(first(&live.load().unwrap().to_model_ref()), 2.0);
        store.evict_all();
        let held = store.get::<Weights>(&key("large")).unwrap().unwrap();
        let bytes = held.archive_bytes().to_vec();
        store.publish(&key("large"), model(4, 20_002)).unwrap();
        fault(&disk);
        for round in 0..5 {
            let failed = store.publish(&key("large"), model(5, 20_003)).unwrap_err();
            assert!(
                matches!(failed.kind(), ErrorKind::Io | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown),
                "{failed:?}"
            );
            store.evict_all();
            let cold = store.get::<Weights>(&key("large")).unwrap().expect("a model");
            assert_eq!(
                (cold.tier(), cold.version()),
                (Tier::Disk, store.metadata(&key("large")).unwrap().unwrap().version)
            );
            let hot = store.get::<Weights>(&key("large")).unwrap().unwrap();
            assert_eq!((hot.tier(), first(&hot)), (Tier::Hot, first(&cold)), "round {round}");
            assert_eq!(first(&store.get(&key("small")).unwrap().unwrap()), 3.0);
            assert!(store.verify().unwrap().is_whole());
            assert!(held.archive_bytes() == bytes, "what is held changed");
        }
        disk.heal();
        let version = store.publish(&key("large"), model(6, 20_004)).unwrap();
        assert!(held.archive_bytes() == bytes && first(&live.load().unwrap().to_model_ref()) == 6.0);
        drop(store);
        let store = options().open(&path).unwrap();
        let again = store.get::<Weights>(&key("large")).unwrap().unwrap();
        assert_eq!((again.version(), first(&again)), (Some(version), 6.0));
    }
}

#[test]
fn the_lock_is_kept_whatever_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = stored(&path, &disk);
    store.evict_all();
    let held = store.get::<Weights>(&key("large")).unwrap().unwrap();
    break_syncs(&disk);
    for _ in 0..4 {
        store.publish(&key("large"), model(5, 20_003)).unwrap_err();
        for read_only in [true, false] {
            let refused = options().read_only(read_only).open(&path).map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InUse, "{refused:?}");
        }
    }
    drop(store);
    let refused = options().open(&path).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse, "a model is held in place: {refused:?}");
    drop(held);
    assert_eq!(first(&options().open(&path).unwrap().get(&key("small")).unwrap().unwrap()), 3.0);
}

/// What every call says after a failed access is what the file has, now and after a restart; and the call can be made
/// again.
fn consistent(name: &str, make: fn(&Path, &Arc<LoggedDisk>) -> Store, call: Step) -> (usize, usize, usize) {
    let run = |faults: &dyn Fn(&LoggedDisk)| {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = make(&path, &disk);
        let live = store.live::<Weights>(&key("large")).unwrap();
        let before = (summary(&store), disk.accesses());
        faults(&disk);
        let result = call(&store);
        (folder, path, disk, store, live, before, result)
    };
    let (_folder, _, disk, store, _, (before, start), result) = run(&|_| {});
    result.unwrap();
    let (after, count) = (summary(&store), disk.accesses() - start);
    assert_ne!(before, after, "{name} changes nothing");
    drop(store);
    let (mut failed, mut made_up_for, mut unknown) = (0, 0, 0);
    for at in 0..count {
        // Once, twice in a row, and from then on.
        for times in [1, 2, u64::MAX] {
            let what = format!("{name}, access {at} fails {times} times");
            let (_folder, path, disk, store, live, _, result) =
                run(&|disk| drop(disk.fail(|access| !is_read(access), at, times)));
            let now = summary(&store);
            let version = store.metadata(&key("large")).unwrap().and_then(|metadata| metadata.version);
            assert_eq!(live.load().and_then(|model| model.version()), version, "{what}: a handle differs");
            match &result {
                Ok(()) => {
                    assert!(now == after, "{what}: it said that it was done:\n{now}");
                    made_up_for += 1;
                }
                Err(err) if err.kind() == ErrorKind::OutcomeUnknown => {
                    assert!(now == before || now == after, "{what}: neither one nor the other:\n{now}");
                    unknown += 1;
                }
                Err(err) => {
                    assert!(now == before, "{what}: it said that it failed ({err:?}):\n{now}");
                    failed += 1;
                }
            }
            disk.heal();
            if now == before {
                call(&store).unwrap_or_else(|err| panic!("{what}: again: {err:?}"));
                assert!(summary(&store) == after, "{what}: again");
            }
            drop((live, store));
            let store = options().open(&path).unwrap_or_else(|err| panic!("{what}: {err:?}"));
            assert!(summary(&store) == after, "{what}: after a restart:\n{}", summary(&store));
            let verified = store.verify().unwrap();
            assert!(verified.is_whole() && verified.unreferenced.is_empty(), "{what}: {verified:?}");
        }
    }
    println!("{name}: {count} accesses; {failed} failed, {made_up_for} made up for, {unknown} unknown");
    (failed, made_up_for, unknown)
}

#[test]
fn after_a_failed_access_every_call_says_what_the_file_has() {
    let calls: [(&str, Step); 8] = [
        ("publish", |store| store.publish(&key("large"), model(9, 20_005)).map(drop)),
        ("publish_if", |store| store.publish_if(&key("large"), Version::new(2), model(9, 20_005)).map(drop)),
        ("publish small", |store| store.publish(&key("small"), model(9, 4)).map(drop)),
        ("publish new", |store| store.publish_if(&key("other"), None, model(9, 700)).map(drop)),
        ("rollback", |store| store.rollback(&key("large")).map(drop)),
        ("prune", |store| store.prune(&key("large"), 1).run().map(drop)),
        ("remove", |store| store.remove(&key("large")).run().map(drop)),
        ("bars", |store| store.bars("SPY", Timeframe::MINUTE)?.write(&bars(1, 390)).map(drop)),
    ];
    let mut all = (0, 0, 0);
    for (name, call) in calls {
        let (failed, made_up_for, unknown) = consistent(name, stored, call);
        all = (all.0 + failed, all.1 + made_up_for, all.2 + unknown);
    }
    consistent("maintain", neglected, |store| store.run_maintenance().map(drop));
    assert!(all.0 > 20 && all.1 > 5 && all.2 > 5, "{all:?}: each of the three happens");
}

/// The thread in the background fails until the disk is well, and then does what was left without being asked.
#[test]
fn what_fails_in_the_background_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    drop(neglected(&path, &disk));
    let (caller, failed) = (thread::current().id(), Arc::new(AtomicU64::new(0)));
    disk.plan({
        let failed = Arc::clone(&failed);
        move |access| {
            let fails = !is_read(access) && thread::current().id() != caller;
            failed.fetch_add(u64::from(fails), Ordering::Relaxed);
            fails.then(broken)
        }
    });
    let in_background = options().maintenance(Maintenance::InBackground);
    let store = in_background.disk(Arc::clone(&disk) as _).open(&path).unwrap();
    let wait_until = |done: &dyn Fn() -> bool| {
        let mut looks = 0;
        while !done() {
            looks += 1;
            assert!(looks < 24_000, "it does not come");
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait_until(&|| failed.load(Ordering::Relaxed) > 0);
    assert_eq!(store.stats().maintenance_waiting, 1);
    disk.heal();
    wait_until(&|| store.stats().maintenance_waiting == 0);
    assert_eq!(store.versions(&key("large")).unwrap().len(), 3);
}

/// What was decided while nothing could be written is written when it can be.
#[test]
fn decisions_wait_until_the_disk_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = stored(&path, &disk);
    fill(&disk);
    for i in 0..3 {
        let fails = |_: Option<&ModelRef<Weights>>| Err::<modelkeep::NewModel<Weights>, _>("no rows");
        store.get_or_train(&key(&format!("new{i}")), &Freshness::any_age(), fails).unwrap_err();
    }
    // Long enough that the thread in the background has tried.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(store.decisions().unwrap().len(), 3);
    disk.heal();
    store.close().unwrap();
    assert_eq!(options().open(&path).unwrap().decisions().unwrap().len(), 3);
}

#[test]
fn a_compaction_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = stored(&path, &disk);
    store.evict_all();
    let held = store.get::<Weights>(&key("large")).unwrap().unwrap();
    let (bytes, expected) = (held.archive_bytes().to_vec(), summary(&store));
    let (mut at, mut failed) = (0, 0);
    loop {
        let before = disk.accesses();
        // And the reads up to the next one.
        disk.plan({
            let mut n = 0;
            move |access| {
                n += u64::from(!is_read(access));
                (n == at + 1).then(broken)
            }
        });
        let result = store.compact();
        disk.heal();
        assert!(summary(&store) == expected, "access {at}");
        assert!(held.archive_bytes() == bytes, "access {at}");
        assert_eq!(options().read_only(true).open(&path).map(drop).unwrap_err().kind(), ErrorKind::InUse);
        failed += u64::from(result.is_err());
        at += 1;
        if disk.accesses() - before < at {
            result.unwrap();
            break;
        }
    }
    println!("{at} accesses, {failed} of them let the compaction fail");
    assert!(failed > 20);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    store.publish(&key("large"), model(9, 20_005)).unwrap();
    drop(store);
    assert!(held.archive_bytes() == bytes);
    let store = options().open(&path).unwrap();
    assert_eq!(first(&store.get(&key("large")).unwrap().unwrap()), 9.0);
}

/// A trained model is not lost when it cannot be stored: it is returned, marked, and served from memory.
#[test]
fn a_trained_model_that_cannot_be_stored_stays_in_memory_and_is_marked() {
    for fault in [break_syncs, fill] {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = stored(&path, &disk);
        let live = store.live::<Weights>(&key("other")).unwrap();
        fault(&disk);
        let train = |_: Option<&ModelRef<Weights>>| Ok::<_, String>(model(7, 9_000));
        let trained = store.get_or_train(&key("other"), &Freshness::any_age(), train).unwrap();
        assert_eq!((trained.tier(), first(&trained)), (Tier::Trained, 7.0));
        assert!(trained.publish_error().is_some());
        let never = |_: Option<&ModelRef<Weights>>| -> Result<_, String> { panic!("trained twice") };
        let again = store.get_or_train(&key("other"), &Freshness::any_age(), never).unwrap();
        assert_eq!((again.tier(), first(&again)), (Tier::Hot, 7.0));
        assert_eq!(first(&live.load().unwrap().to_model_ref()), 7.0);
        // Other models are read from the file meanwhile, and this one stays.
        store.publish(&key("small"), model(8, 3)).unwrap_err();
        assert_eq!(first(&store.get(&key("other")).unwrap().unwrap()), 7.0);
        disk.heal();
        store.publish(&key("small"), model(8, 3)).unwrap();
        assert_eq!(first(&store.get(&key("other")).unwrap().unwrap()), 7.0);
        assert_eq!(store.metadata(&key("other")).unwrap().map(|metadata| metadata.version), None);
    }
}

/// What is held, left the file, and cannot be copied keeps its pages: it stays as it is, the file grows meanwhile, and
/// after an I/O error nothing is written until it is released.
#[test]
fn what_cannot_be_detached_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = stored(&path, &disk);
    store.evict_all();
    let held = store.get::<Weights>(&key("large")).unwrap().unwrap();
    let bytes = held.archive_bytes().to_vec();
    disk.plan(|access| matches!(access, Access::Detach { .. }).then(full));
    for round in 0..12 {
        store.publish(&key("large"), model(10 + round, 20_010)).unwrap();
        assert!(held.archive_bytes() == bytes, "round {round}");
    }
    disk.plan(|access| matches!(access, Access::Detach { .. } | Access::Sync { .. }).then(full));
    store.publish(&key("large"), model(30, 20_010)).unwrap_err();
    disk.plan(|access| matches!(access, Access::Detach { .. }).then(full));
    let refused = store.publish(&key("large"), model(31, 20_010)).unwrap_err();
    assert!(refused.message().contains("1 models that left the file are held"), "{refused:?}");
    store.evict_all();
    assert_eq!(first(&store.get(&key("small")).unwrap().unwrap()), 3.0, "reads go on");
    assert!(held.archive_bytes() == bytes);
    drop(held);
    store.publish(&key("large"), model(32, 20_010)).unwrap();
    assert!(store.verify().unwrap().is_whole());
}

/// Under every policy, mapped and not: what is read while the disk fails is what was read before.
#[test]
fn reads_go_on_under_every_option() {
    for verify in [Verify::Full, Verify::Background, Verify::Structure] {
        for mapped in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            drop(stored(&path, &LoggedDisk::new()));
            disk.knows(&path);
            let options = options().verify(verify).mapped(mapped).hot_bytes(0);
            let store = options.disk(Arc::clone(&disk) as _).open(&path).unwrap();
            let expected = summary(&store);
            let listing = store.list(modelkeep::admin::Filter::all()).unwrap();
            break_syncs(&disk);
            for _ in 0..3 {
                let failed = store.bars("SPY", Timeframe::MINUTE).unwrap().write(&bars(1, 390)).unwrap_err();
                assert!(matches!(failed.kind(), ErrorKind::Io | ErrorKind::OutcomeUnknown), "{failed:?}");
                let bars = store.bars("SPY", Timeframe::MINUTE).unwrap().range(Interval::all_time()).unwrap();
                assert!([390, 780].contains(&bars.len()));
            }
            disk.heal();
            store.bars("SPY", Timeframe::MINUTE).unwrap().remove(Interval::all_time()).unwrap();
            store.bars("SPY", Timeframe::MINUTE).unwrap().write(&bars(0, 390)).unwrap();
            assert!(summary(&store) == expected);
            // A listing from before the error has its state, or says that it is gone.
            for listed in listing {
                match listed {
                    Ok(_) => {}
                    Err(err) => assert_eq!(err.kind(), ErrorKind::Expired, "{err:?}"),
                }
            }
        }
    }
}

/// Where a file cannot be mapped, from the start or from some moment on, its pages are copied.
#[test]
fn a_file_that_cannot_be_mapped_is_copied() {
    for times in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        drop(stored(&path, &LoggedDisk::new()));
        disk.knows(&path);
        let (mut maps, refused) = (0, Arc::new(AtomicU64::new(0)));
        disk.plan({
            let refused = Arc::clone(&refused);
            move |access| {
                let refuses = matches!(access, Access::Map { .. }) && {
                    maps += 1;
                    maps > times
                };
                refused.fetch_add(u64::from(refuses), Ordering::Relaxed);
                refuses.then(|| std::io::Error::from_raw_os_error(19).into())
            }
        });
        let store = open(&path, &disk).unwrap();
        let mut held = Vec::new();
        for round in 0..5 {
            let model = store.get::<Weights>(&key("large")).unwrap().unwrap();
            assert_eq!(model.tier(), Tier::Disk);
            held.push((first(&model), model));
            // What left while held retires its map: the next one is refused.
            store.publish(&key("large"), model_of(round)).unwrap();
            store.evict_all();
            thread::sleep(Duration::from_millis(20));
        }
        assert!(held.iter().all(|(value, model)| first(model) == *value));
        assert!(refused.load(Ordering::Relaxed) > 0, "no map was refused");
        assert!(store.verify().unwrap().is_whole());
        drop((store, held));
        let reader = options().read_only(true).disk(Arc::clone(&disk) as _).open(&path).unwrap();
        assert_eq!(reader.get::<Weights>(&key("large")).unwrap().unwrap().tier(), Tier::Disk);
    }
}

fn model_of(round: u32) -> modelkeep::NewModel<Weights> {
    model(40 + round, 20_000 + round as usize)
}

/// A drop has nobody to tell; `close` does.
#[test]
fn closing_says_that_the_last_sync_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
    let store = open(&path, &disk).unwrap();
    store.publish(&key("m"), model(1, 100)).unwrap();
    break_syncs(&disk);
    let failed = store.close().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io, "{failed}");
    disk.heal();
    let store = open(&path, &disk).unwrap();
    assert_eq!(first(&store.get(&key("m")).unwrap().unwrap()), 1.0);
    store.close().unwrap();
}
