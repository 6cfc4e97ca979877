//! While a file cannot be read: what nobody wrote is shown as before, what was trained meanwhile gives way to what is
//! stored, and tiers of others, whatever they do, are in nobody's way.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use modelkeep::{
    ErrorKind, Freshness, Live, ModelKey, Store, Version,
    disk::Access,
    tier::{Change, ModelTier, TierError, TierModel},
};

use crate::{
    disk::{LoggedDisk, broken},
    faults::first,
    support::{Weights, key, model, options},
};

fn shown(live: &Live<Weights>) -> Option<f64> {
    live.load().map(|current| first(&current.to_model_ref()))
}

fn current(store: &Store, name: &str) -> Option<Version> {
    store.metadata(&key(name)).unwrap().and_then(|metadata| metadata.version)
}

/// Waits for what another thread is about to do, for a second at most.
fn comes_true(is_true: impl Fn() -> bool) -> bool {
    (0..200).any(|_| {
        let found = is_true();
        if !found {
            thread::sleep(Duration::from_millis(5));
        }
        found
    })
}

/// From the `failing`th sync on every sync fails; and after the first that does so many reads, then so many go through,
/// and none after that.
fn break_down(disk: &LoggedDisk, failing: u32, dark: u64, light: u64) {
    let (mut syncs, mut reads) = (0, 0);
    disk.plan(move |access| {
        syncs += u32::from(matches!(access, Access::Sync { .. }));
        let is_broken = syncs > failing;
        let is_read = matches!(access, Access::Read { .. } | Access::Map { .. });
        reads += u64::from(is_broken && is_read);
        let unreadable = is_read && (reads <= dark || reads > dark + light);
        (is_broken && (matches!(access, Access::Sync { .. }) || unreadable)).then(broken)
    });
}

/// The outcome of a write is unknown, then the header can be read and rows cannot: a model that nobody wrote is served
/// from memory and shown to those who follow it all the same. Each of the two once forgot it, for as long as reads
/// failed.
#[test]
fn an_outage_hides_no_model_that_nobody_wrote() {
    let mut unknown = 0;
    for (dark, light) in [1, 2, 4, 8].into_iter().flat_map(|dark| (1..14).map(move |light| (dark, light))) {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = options().mapped(false).disk(Arc::clone(&disk) as _).open(&path).unwrap();
        for (n, name) in (1..).zip(["page", "small", "other"]) {
            store.publish(&key(name), model(n, 60)).unwrap();
        }
        let follow = |name| store.live::<Weights>(&key(name)).unwrap();
        let (live, changed) = (follow("small"), follow("page"));
        break_down(&disk, 1, dark, light);
        let said = store.publish(&key("page"), model(9, 61)).map_err(|err| err.kind());
        unknown += u32::from(said == Err(ErrorKind::OutcomeUnknown));
        for _ in 0..30 {
            let inside = store.get::<Weights>(&key("small")).map(|held| held.map(|held| first(&held)));
            assert_eq!(shown(&live), Some(2.0), "{dark} dark, {light} light: {said:?}");
            assert_eq!(inside.unwrap(), Some(2.0), "{dark} dark, {light} light: {said:?}");
            thread::sleep(Duration::from_millis(1));
        }
        disk.heal();
        let version = current(&store, "page");
        let follows = || changed.load().and_then(|current| current.version()) == version;
        assert!(comes_true(follows), "{dark} dark, {light} light: {said:?}, {version:?}");
        let inside = store.get::<Weights>(&key("page")).unwrap().and_then(|held| held.version());
        assert_eq!((inside, shown(&live)), (version, Some(2.0)), "{dark} dark, {light} light: {said:?}");
    }
    assert!(unknown > 20, "{unknown} outcomes were unknown");
}

/// A model is trained while nobody can read what is current, and cannot be stored. It serves until the file can be read;
/// then what is stored is served, where something is, as lists and metadata say.
#[test]
fn a_model_that_was_trained_in_an_outage_gives_way_to_what_is_stored() {
    for (failing, name) in [(0, "page"), (1, "page"), (1, "new")] {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
        let store = options().mapped(false).disk(Arc::clone(&disk) as _).open(&path).unwrap();
        store.publish(&key("page"), model(1, 60)).unwrap();
        let live = store.live::<Weights>(&key(name)).unwrap();
        break_down(&disk, failing, u64::MAX / 2, 0);
        let said = store.publish(&key("page"), model(2, 61)).map_err(|err| err.kind());
        let unread = store.metadata(&key("page")).map_err(|err| err.kind());
        assert_eq!((said, unread.map(drop)), (Err(ErrorKind::OutcomeUnknown), Err(ErrorKind::Io)));
        let train = || {
            let train = |_: Option<&_>| Ok::<_, String>(model(7, 62));
            store.get_or_train::<Weights, _, _>(&key(name), &Freshness::any_age(), train).unwrap()
        };
        let trained = train();
        assert_eq!((first(&trained), trained.version(), trained.publish_error().is_some()), (7.0, None, true));
        assert_eq!(first(&train()), 7.0);
        disk.heal();
        let version = current(&store, name);
        let inside = || store.get::<Weights>(&key(name)).unwrap().map(|held| (held.version(), first(&held)));
        let followed = || live.load().map(|now| (now.version(), first(&now.to_model_ref())));
        let expected = Some(version.map_or((None, 7.0), |version| (Some(version), version.get() as f64)));
        let agree = || inside() == expected && followed() == expected;
        assert!(comes_true(agree), "{name}, sync {failing}: {expected:?} {:?} {:?}", inside(), followed());
        store.publish(&key("other"), model(3, 4)).unwrap();
        assert!(agree(), "{name}, sync {failing}: after another write");
    }
}

/// Asked for a certain model, it panics.
#[derive(Debug, Default)]
struct PanicsFor {
    is_on: AtomicBool,
    asked: AtomicU32,
}

impl ModelTier for PanicsFor {
    fn find(&self, wanted: &ModelKey) -> Result<Option<TierModel>, TierError> {
        if self.is_on.load(Ordering::SeqCst) && *wanted == key("absent") {
            self.asked.fetch_add(1, Ordering::SeqCst);
            panic!("a tier that panics");
        }
        Ok(None)
    }

    fn apply(&self, _: &Change) {}
}

/// A tier that panics when it is asked for one model keeps nobody who follows another one at an old version, and its
/// panic reaches no caller who asks for something else.
#[test]
fn a_tier_that_panics_when_it_is_asked_keeps_nobody_from_following() {
    let mut unknown = 0;
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk, tier) = (folder.path().join("models.redb"), LoggedDisk::new(), Arc::<PanicsFor>::default());
        let options = options().mapped(false).disk(Arc::clone(&disk) as _);
        let store = options.tier(Arc::clone(&tier) as _).open(&path).unwrap();
        store.publish(&key("page"), model(1, 60)).unwrap();
        let follow = |name| store.live::<Weights>(&key(name)).unwrap();
        let (absent, live) = (follow("absent"), follow("page"));
        tier.is_on.store(true, Ordering::SeqCst);
        break_down(&disk, 1, u64::MAX / 2, 0);
        let said = store.publish(&key("page"), model(2, 61)).map_err(|err| err.kind());
        unknown += u32::from(said == Err(ErrorKind::OutcomeUnknown));
        thread::sleep(Duration::from_millis(5));
        disk.heal();
        if round % 2 == 0 {
            thread::sleep(Duration::from_millis(30));
        }
        let expected = current(&store, "page").map(|version| version.get() as f64);
        assert!(comes_true(|| shown(&live) == expected), "round {round}: {said:?}");
        assert!(comes_true(|| tier.asked.load(Ordering::SeqCst) > 0) && shown(&absent).is_none());
    }
    assert!(unknown > 10, "{unknown} outcomes were unknown");
}

/// Lets go of the store that it has when it is asked in the background, once its owner has let go of it.
#[derive(Debug, Default)]
struct LetsGo {
    store: Mutex<Option<Store>>,
    is_on: AtomicBool,
    was_asked: AtomicBool,
    is_last: AtomicBool,
}

impl ModelTier for LetsGo {
    fn find(&self, _: &ModelKey) -> Result<Option<TierModel>, TierError> {
        if !self.is_on.load(Ordering::SeqCst) {
            return Ok(None);
        }
        if thread::current().name() == Some("modelkeep") {
            let last = self.store.lock().unwrap().take();
            self.was_asked.store(true, Ordering::SeqCst);
            while !self.is_last.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            drop(last);
        }
        Err("not now".into())
    }

    fn apply(&self, _: &Change) {}
}

/// The thread in the background may be the one that drops the last store, in a tier that it asks: it does not wait for
/// itself, and the file is free afterwards.
#[test]
fn a_tier_that_is_asked_in_the_background_may_let_go_of_the_last_store() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk, tier) = (folder.path().join("models.redb"), LoggedDisk::new(), Arc::<LetsGo>::default());
    let store = options().disk(Arc::clone(&disk) as _).tier(Arc::clone(&tier) as _).open(&path).unwrap();
    store.publish(&key("page"), model(1, 60)).unwrap();
    let live = store.live::<Weights>(&key("absent")).unwrap();
    *tier.store.lock().unwrap() = Some(store.clone());
    tier.is_on.store(true, Ordering::SeqCst);
    break_down(&disk, 1, u64::MAX / 2, 0);
    let said = store.publish(&key("page"), model(2, 61)).map_err(|err| err.kind());
    disk.heal();
    assert!(comes_true(|| tier.was_asked.load(Ordering::SeqCst)), "{said:?}");
    drop((store, live));
    tier.is_last.store(true, Ordering::SeqCst);
    assert!(comes_true(|| options().open(&path).is_ok()), "the file stays locked");
}

/// Takes its time when it is asked in the background.
#[derive(Debug, Default)]
struct Slow {
    is_on: AtomicBool,
    was_asked: AtomicBool,
}

impl ModelTier for Slow {
    fn find(&self, _: &ModelKey) -> Result<Option<TierModel>, TierError> {
        if self.is_on.load(Ordering::SeqCst) && thread::current().name() == Some("modelkeep") {
            self.was_asked.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(100));
        }
        Ok(None)
    }

    fn apply(&self, _: &Change) {}
}

/// A thread in the background that is at work in the store is not left to close it: the drop waits for the tier that it
/// is asking.
#[test]
fn who_drops_the_last_store_waits_for_a_tier_that_is_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (path, disk, tier) = (folder.path().join("models.redb"), LoggedDisk::new(), Arc::<Slow>::default());
    let store = options().disk(Arc::clone(&disk) as _).tier(Arc::clone(&tier) as _).open(&path).unwrap();
    store.publish(&key("page"), model(1, 60)).unwrap();
    let live = store.live::<Weights>(&key("absent")).unwrap();
    tier.is_on.store(true, Ordering::SeqCst);
    break_down(&disk, 1, u64::MAX / 2, 0);
    let said = store.publish(&key("page"), model(2, 61)).map_err(|err| err.kind());
    disk.heal();
    assert!(comes_true(|| tier.was_asked.load(Ordering::SeqCst)), "{said:?}");
    drop((live, store));
    assert_eq!(options().open(&path).map(drop).map_err(|err| err.kind()), Ok(()));
}
