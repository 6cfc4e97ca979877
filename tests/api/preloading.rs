//! Loading many models before they are asked for: what is in memory afterwards, and what is said of the rest.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use modelkeep::{
    ErrorKind, ModelKey, NewModel, Store, Tier, Verify,
    admin::{PreloadReport, Preloaded},
    disk::{Access, Disk, Fault},
};

use crate::support::{Folder, HOUR, Weights, WeightsTwo, damage, first_weight, flip_first_bit, key, large, weights};

/// A weight that no other byte of the file looks like.
const MARK: f64 = 98_765.432_101_234;

fn keys(count: u32) -> Vec<ModelKey> {
    (0..count).map(|i| key(&format!("m{i}"))).collect()
}

/// Every third of them a large one, which is read where it lies.
fn fill(store: &Store, keys: &[ModelKey]) {
    for (i, key) in keys.iter().enumerate() {
        let model = if i % 3 == 0 { large(i as f64) } else { weights(i as f64) };
        store.publish(key, model).unwrap();
    }
}

/// Loaded, in memory, absent, without room, failed.
fn counts(report: &PreloadReport) -> [usize; 5] {
    let counts =
        [report.loaded(), report.in_memory(), report.absent(), report.without_room(), report.failures().count()];
    assert_eq!(counts.iter().sum::<usize>(), report.outcomes().len());
    counts
}

fn assert_hot(store: &Store, keys: &[ModelKey]) {
    for (i, key) in keys.iter().enumerate() {
        let held = store.get::<Weights>(key).unwrap().unwrap();
        assert_eq!((held.tier(), first_weight(&held)), (Tier::Hot, i as f64), "{key}");
    }
}

#[test]
fn what_was_preloaded_is_in_memory_whatever_the_policy() {
    let folder = Folder::new();
    let keys = keys(60);
    fill(&folder.open(), &keys);
    for verify in [Verify::Full, Verify::Background, Verify::Structure] {
        for read_only in [false, true] {
            let store = folder.options().verify(verify).read_only(read_only).open(folder.path()).unwrap();
            let report = store.preload::<Weights>(&keys);
            assert_eq!(counts(&report), [60, 0, 0, 0, 0], "{verify:?}, {report:?}");
            assert!(report.is_complete() && report.loaded_bytes() > 20 * 40_000 * 8);
            assert_eq!((store.stats().loads, store.stats().hot_entries), (60, 60));
            assert_hot(&store, &keys);
            let again = store.preload::<Weights>(&keys);
            assert_eq!((counts(&again), again.loaded_bytes()), ([0, 60, 0, 0, 0], 0));
        }
    }
    assert!(folder.open().preload::<Weights>(&[]).is_complete());
}

#[test]
fn outcomes_come_in_the_order_of_the_keys_and_a_key_that_is_given_twice_has_one() {
    let folder = Folder::new();
    let store = folder.open();
    let known = keys(4);
    fill(&store, &known);
    store.evict_all();
    let nobody = key("nobody");
    let named: Vec<ModelKey> = [&known[3], &nobody, &known[0], &known[3], &nobody].map(Clone::clone).into();
    let report = store.preload::<Weights>(&named);
    let order: Vec<&ModelKey> = report.outcomes().iter().map(|(key, _)| key).collect();
    assert_eq!(order, [&known[3], &nobody, &known[0]]);
    assert_eq!(counts(&report), [2, 0, 1, 0, 0]);
    assert!(!report.is_complete() && matches!(report.outcomes()[1].1, Preloaded::Absent));
    store.remove(&known[0]).run().unwrap();
    assert_eq!(counts(&store.preload::<Weights>(&known)), [2, 1, 1, 0, 0]);
}

#[test]
fn a_damaged_model_keeps_no_other_from_being_loaded() {
    for (verify, read_only) in [(Verify::Full, false), (Verify::Background, false), (Verify::Full, true)] {
        let folder = Folder::new();
        let keys = keys(20);
        let store = folder.open();
        fill(&store, &keys);
        store.publish(&keys[7], weights(MARK)).unwrap();
        drop(store);
        damage(&folder.path(), &MARK.to_le_bytes(), flip_first_bit);
        let store = folder.options().verify(verify).read_only(read_only).open(folder.path()).unwrap();
        let report = store.preload::<Weights>(&keys);
        assert_eq!(counts(&report), [19, 0, 0, 0, 1]);
        let (key, error) = report.failures().next().unwrap();
        assert_eq!((key, error.kind()), (&keys[7], ErrorKind::Corrupt), "{error}");
        assert_eq!(store.quarantined().unwrap().len(), usize::from(!read_only));
        // It is not read a second time.
        let again = store.preload::<Weights>(&keys);
        assert_eq!(counts(&again), [0, 19, 0, 0, 1]);
        assert!(again.failures().next().unwrap().1.message().contains("quarantined"));
    }
}

#[test]
fn a_model_of_another_schema_is_an_error_that_names_both() {
    let store = Store::in_memory().unwrap();
    let keys = keys(2);
    fill(&store, &keys);
    for _ in 0..2 {
        let report = store.preload::<WeightsTwo>(&keys);
        assert_eq!(counts(&report), [0, 0, 0, 0, 2]);
        for (_, error) in report.failures() {
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
            assert!(error.message().contains("test.weights v1") && error.message().contains("test.weights v2"));
        }
        store.evict_all();
    }
}

#[test]
fn nothing_is_evicted_for_what_does_not_fit() {
    let folder = Folder::new();
    let keys: Vec<ModelKey> = keys(12);
    let store = folder.open();
    store.publish_many(keys.iter().cloned().zip((0..12).map(|i| large(f64::from(i))))).unwrap();
    drop(store);
    // Three of them fit.
    let store = folder.options().hot_bytes(1 << 20).open(folder.path()).unwrap();
    let first = store.get::<Weights>(&keys[11]).unwrap().unwrap();
    let report = store.preload::<Weights>(&keys);
    assert_eq!(counts(&report), [2, 1, 0, 9, 0]);
    assert_eq!((store.stats().evictions, store.stats().hot_entries), (0, 3));
    assert_eq!(store.get::<Weights>(&keys[11]).unwrap().unwrap().tier(), Tier::Hot);
    // Nothing was read for which there was no room.
    assert!(store.stats().loads < 3 + 2 * std::thread::available_parallelism().unwrap().get() as u64);
    for (key, outcome) in report.outcomes() {
        if let Preloaded::NoRoom { archive_bytes } = outcome {
            assert_eq!(*archive_bytes, store.metadata(key).unwrap().unwrap().archive_bytes);
        }
    }
    // A small one still finds room, and so does everything once there is.
    store.publish(&key("small"), weights(1.0)).unwrap();
    store.evict_all();
    assert_eq!(counts(&store.preload::<Weights>(&keys[..3])), [3, 0, 0, 0, 0]);
    assert_eq!(counts(&store.preload::<Weights>(&[keys[3].clone(), key("small")])), [1, 0, 0, 1, 0]);
    drop(first);
    let none = folder.options().hot_bytes(0).read_only(true);
    drop(store);
    assert_eq!(counts(&none.open(folder.path()).unwrap().preload::<Weights>(&keys)), [0, 0, 0, 12, 0]);
}

/// Whichever thread is faster: the room goes to the keys that come first, and nothing is read that gets none.
#[test]
fn room_goes_to_the_keys_that_are_named_first() {
    let folder = Folder::new();
    let keys = keys(400);
    let size = |i: usize| if i == 0 { 250_000 } else { 500 };
    let models = keys
        .iter()
        .enumerate()
        .map(|(i, key)| (key.clone(), NewModel::new(Weights { weights: vec![i as f64; size(i)] })));
    folder.open().publish_many(models).unwrap();
    for _ in 0..10 {
        let store = folder.options().hot_bytes(2_500_000).open(folder.path()).unwrap();
        let report = store.preload::<Weights>(&keys);
        let is_loaded: Vec<bool> =
            report.outcomes().iter().map(|(_, outcome)| matches!(outcome, Preloaded::Loaded { .. })).collect();
        let loaded = report.loaded();
        assert!(loaded > 50 && loaded < 400, "{loaded}");
        assert!(is_loaded[..loaded].iter().all(|is| *is), "{is_loaded:?}");
        assert_eq!(store.stats().loads, loaded as u64, "what gets no room is not read");
    }
}

#[test]
fn what_memory_has_had_for_too_long_is_loaded_again() {
    let folder = Folder::new();
    let keys = keys(6);
    fill(&folder.open(), &keys);
    let store = folder.options().hot_max_age(HOUR).open(folder.path()).unwrap();
    assert_eq!(counts(&store.preload::<Weights>(&keys)), [6, 0, 0, 0, 0]);
    folder.clock.advance(HOUR);
    assert_eq!(counts(&store.preload::<Weights>(&keys)), [0, 6, 0, 0, 0]);
    folder.clock.advance(Duration::from_nanos(1));
    assert_eq!(counts(&store.preload::<Weights>(&keys)), [6, 0, 0, 0, 0]);
    assert_hot(&store, &keys);
}

#[test]
#[cfg(target_os = "linux")]
fn one_core_will_do() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let folder = Folder::new();
    let keys = keys(40);
    fill(&folder.open(), &keys);
    let store = folder.open_read_only();
    std::thread::scope(|scope| {
        let on_one_core = || {
            let all = sched_getaffinity(None).unwrap();
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|&core| all.is_set(core)).unwrap());
            sched_setaffinity(None, &one).unwrap();
            assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
            store.preload::<Weights>(&keys)
        };
        assert_eq!(counts(&scope.spawn(on_one_core).join().unwrap()), [40, 0, 0, 0, 0]);
    });
    assert_hot(&store, &keys);
}

/// Versions are published, and memory is emptied, while models are preloaded: no get goes back to an older one.
#[test]
fn no_preload_puts_an_older_version_over_a_newer_one() {
    let folder = Folder::new();
    let store = folder.options().check_held(false).open(folder.path()).unwrap();
    let keys = keys(8);
    store.publish_many(keys.iter().map(|key| (key.clone(), weights(0.0)))).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.evict_all();
                let report = store.preload::<Weights>(&keys);
                assert_eq!(report.failures().count() + report.absent() + report.without_room(), 0, "{report:?}");
            }
        });
        for version in 1..150_u32 {
            let key = &keys[version as usize % keys.len()];
            store.publish(key, weights(f64::from(version))).unwrap();
            for _ in 0..20 {
                assert_eq!(first_weight(&store.get(key).unwrap().unwrap()), f64::from(version));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Holds reads of large ranges until it is told to let them go.
#[derive(Debug, Default)]
struct Slow {
    /// Whether reads are held, and how many are.
    held: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Disk for Slow {
    fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
        if matches!(access, Access::Read { bytes, .. } if *bytes > 100_000) {
            let mut held = self.held.lock().unwrap();
            held.1 += 1;
            self.changed.notify_all();
            drop(self.changed.wait_while(held, |held| held.0).unwrap());
        }
        Ok(())
    }
}

#[test]
fn gets_go_on_while_a_preload_waits_for_the_disk() {
    let folder = Folder::new();
    let keys = keys(4);
    fill(&folder.open(), &keys);
    let slow = Arc::new(Slow::default());
    let options = || folder.options().mapped(false).check_held(false);
    let store = options().disk(Arc::clone(&slow) as _).open(folder.path()).unwrap();
    assert_eq!(store.get::<Weights>(&keys[1]).unwrap().unwrap().tier(), Tier::Disk);
    slow.held.lock().unwrap().0 = true;
    std::thread::scope(|scope| {
        let report = scope.spawn(|| store.preload::<Weights>(&keys[..1]));
        drop(slow.changed.wait_while(slow.held.lock().unwrap(), |held| held.1 == 0).unwrap());
        // One from memory, and one from the file.
        assert_eq!(store.get::<Weights>(&keys[1]).unwrap().unwrap().tier(), Tier::Hot);
        assert_eq!(store.get::<Weights>(&keys[2]).unwrap().unwrap().tier(), Tier::Disk);
        assert!(!report.is_finished());
        *slow.held.lock().unwrap() = (false, 0);
        slow.changed.notify_all();
        assert_eq!(counts(&report.join().unwrap()), [1, 0, 0, 0, 0]);
    });
}

/// Everything is emptied and preloaded by several threads at once; what they say adds up to what was loaded.
#[test]
fn preloads_of_several_threads_agree() {
    let folder = Folder::new();
    let keys = keys(30);
    fill(&folder.open(), &keys);
    let store = folder.open_read_only();
    let reports: Vec<PreloadReport> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| store.preload::<Weights>(&keys))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut times: HashMap<&ModelKey, usize> = HashMap::new();
    for (key, outcome) in reports.iter().flat_map(PreloadReport::outcomes) {
        assert!(matches!(outcome, Preloaded::Loaded { .. } | Preloaded::InMemory), "{key}: {outcome:?}");
        *times.entry(key).or_default() += usize::from(matches!(outcome, Preloaded::Loaded { .. }));
    }
    assert!(keys.iter().all(|key| times[key] >= 1));
    assert_eq!(store.stats().hot_entries, 30);
    assert_hot(&store, &keys);
}
