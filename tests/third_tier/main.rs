//! A third tier, built outside of the store: this file is all that it needs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test that cannot go on fails"
)]
#![allow(missing_docs, reason = "tests have no public API")]

mod misbehaving;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use modelkeep::{
    ErrorKind, Freshness, Live, Model, ModelKey, ModelRef, NewModel, Schema, Store, Tier, TrainError, Version,
    tier::{Change, ModelTier, TierError, TierModel},
};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Momentum {
    weights: Vec<f64>,
}

impl Model for Momentum {
    const SCHEMA: Schema = Schema::new("momentum", 1);
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct MomentumTwo {
    weights: Vec<f64>,
}

impl Model for MomentumTwo {
    const SCHEMA: Schema = Schema::new("momentum", 2);
}

/// What a shelf answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    /// With one bit flipped.
    Damaged,
    /// With the model of another key.
    Confused,
    Down,
}

/// A place for models that several stores share.
#[derive(Debug, Default)]
struct Shelf {
    models: Mutex<HashMap<ModelKey, TierModel>>,
    told: Mutex<Vec<String>>,
    asked: AtomicU32,
    mood: Mutex<Mood>,
}

impl ModelTier for Shelf {
    fn find(&self, key: &ModelKey) -> Result<Option<TierModel>, TierError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let models = self.models.lock().unwrap();
        let found = models.get(key).cloned();
        Ok(match *self.mood.lock().unwrap() {
            Mood::Well => found,
            Mood::Damaged => found.map(|mut model| {
                model.archive[0] ^= 1;
                model
            }),
            Mood::Confused => models.iter().find(|(other, _)| *other != key).map(|(_, model)| model.clone()),
            Mood::Down => return Err("nobody answers".into()),
        })
    }

    fn apply(&self, change: &Change) {
        let mut models = self.models.lock().unwrap();
        let told = match change {
            Change::Published(model) => {
                let kept = TierModel::new(model.metadata().clone(), model.archive_bytes().to_vec());
                models.insert(model.key().clone(), kept);
                format!("published {}", model.metadata().version.expect("only what is stored is told of"))
            }
            Change::Moved { key, version } => {
                models.remove(key);
                format!("moved to {version}")
            }
            Change::Removed { keys, name } => {
                models.retain(|key, _| !keys.contains(key) && name.as_ref() != Some(key.name()));
                format!("removed {}", keys.len())
            }
            Change::Unknown { keys } => {
                models.retain(|key, _| !keys.is_empty() && !keys.contains(key));
                format!("forgot {}", keys.len())
            }
            Change::Quarantined { key, version } => {
                models.remove(key);
                format!("quarantined {version}")
            }
        };
        self.told.lock().unwrap().push(told);
    }
}

impl Shelf {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn asked(&self) -> u32 {
        self.asked.swap(0, Ordering::SeqCst)
    }

    fn feels(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn store(shelf: &Arc<Shelf>) -> Store {
    Store::options().tier(Arc::clone(shelf) as _).in_memory().unwrap()
}

fn key(name: &str) -> ModelKey {
    ModelKey::new(name, &()).unwrap()
}

fn weights(first: f64) -> NewModel<Momentum> {
    NewModel::new(Momentum { weights: vec![first, 0.25] })
}

fn first(model: &ModelRef<Momentum>) -> f64 {
    model.weights[0].to_native()
}

fn never(_: Option<&ModelRef<Momentum>>) -> Result<NewModel<Momentum>, String> {
    Err("it should not train".into())
}

#[test]
fn what_one_store_publishes_another_finds() {
    let shelf = Arc::new(Shelf::default());
    let (one, other) = (store(&shelf), store(&shelf));
    one.publish(&key("a"), weights(1.0)).unwrap();

    let found = other.get::<Momentum>(&key("a")).unwrap().unwrap();
    assert_eq!((first(&found), found.tier(), found.version().map(Version::get)), (1.0, Tier::Shared, Some(1)));
    assert_eq!(shelf.asked(), 1);
    let again = other.get::<Momentum>(&key("a")).unwrap().unwrap();
    assert_eq!((first(&again), again.tier(), shelf.asked()), (1.0, Tier::Hot, 0));
    other.evict_all();
    let fresh = other.get_or_train(&key("a"), &Freshness::any_age(), never).unwrap();
    assert!(fresh.tier() == Tier::Shared && fresh.decision().is_fresh());
    assert!(other.get::<Momentum>(&key("b")).unwrap().is_none());
    assert!(other.metadata(&key("a")).unwrap().is_none(), "it is not in the file of this store");
}

#[test]
fn memory_and_the_file_come_first() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    store.publish(&key("a"), weights(1.0)).unwrap();
    assert_eq!(store.get::<Momentum>(&key("a")).unwrap().unwrap().tier(), Tier::Hot);
    store.evict_all();
    assert_eq!(store.get::<Momentum>(&key("a")).unwrap().unwrap().tier(), Tier::Disk);
    assert_eq!(shelf.asked(), 0);
}

#[test]
fn it_is_told_of_every_change_and_of_nothing_else() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    store.publish(&key("a"), weights(1.0)).unwrap();
    store.publish(&key("a"), weights(2.0)).unwrap();
    assert_eq!(shelf.told(), ["published v1", "published v2"]);
    store.rollback(&key("a")).unwrap();
    assert_eq!(shelf.told(), ["moved to v1"]);
    store.pin(&key("a"), store.metadata(&key("a")).unwrap().unwrap().version.unwrap()).unwrap();
    store.prune(&key("a"), 1).run().unwrap();
    store.unpin(&key("a"), store.metadata(&key("a")).unwrap().unwrap().version.unwrap()).unwrap();
    store.levels("VIX").unwrap().write(&[("2018-12-24".parse().unwrap(), 36.07)]).unwrap();
    assert!(shelf.told().is_empty(), "no current version was changed");
    store.remove(&key("a")).dry_run().unwrap();
    assert!(shelf.told().is_empty());
    store.remove(&key("a")).run().unwrap();
    assert_eq!(shelf.told(), ["removed 1"]);
    assert!(store.get::<Momentum>(&key("a")).unwrap().is_none());
}

/// Each is told in the turn of its writer: were the lock released before, two could pass each other.
#[test]
fn changes_are_told_in_the_order_of_their_commits() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                (0..25).for_each(|_| assert!(store.publish(&key("a"), weights(f64::from(thread))).is_ok()));
            });
        }
    });
    assert_eq!(shelf.told(), (1..=100).map(|version| format!("published v{version}")).collect::<Vec<_>>());
}

#[test]
fn what_it_hands_out_is_checked() {
    let shelf = Arc::new(Shelf::default());
    let (one, other) = (store(&shelf), store(&shelf));
    one.publish(&key("a"), weights(1.0)).unwrap();
    one.publish(&key("b"), weights(2.0)).unwrap();
    for mood in [Mood::Damaged, Mood::Confused] {
        shelf.feels(mood);
        let refused = other.get::<Momentum>(&key("a")).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{mood:?}: {refused}");
    }
    shelf.feels(Mood::Well);
    let refused = other.get::<MomentumTwo>(&key("a")).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SchemaMismatch);
    assert_eq!(first(&other.get::<Momentum>(&key("a")).unwrap().unwrap()), 1.0);
    assert!(other.quarantined().unwrap().is_empty(), "what another tier has is not this file's");
}

/// By name goes also what only the tier has, and what memory has of it.
#[test]
fn invalidation_by_name_reaches_every_tier() {
    let shelf = Arc::new(Shelf::default());
    let (one, other) = (store(&shelf), store(&shelf));
    one.publish(&key("a"), weights(1.0)).unwrap();
    assert!(other.get::<Momentum>(&key("a")).unwrap().is_some(), "from the shelf, into memory");
    other.invalidate("a").unwrap().run().unwrap();
    assert!(other.get::<Momentum>(&key("a")).unwrap().is_none());
}

#[derive(Debug)]
struct Panics;

impl ModelTier for Panics {
    fn find(&self, _: &ModelKey) -> Result<Option<TierModel>, TierError> {
        Ok(None)
    }

    fn apply(&self, _: &Change) {
        panic!("a tier that panics");
    }
}

#[test]
fn a_panic_in_a_tier_comes_between_nobody() {
    let store = Store::options().tier(Arc::new(Panics)).in_memory().unwrap();
    let live = store.live::<Momentum>(&key("a")).unwrap();
    for n in 1..4_u32 {
        store.publish(&key("a"), weights(f64::from(n))).unwrap();
        assert_eq!(live.load().and_then(|model| model.version()), Version::new(n.into()));
    }
    store.rollback(&key("a")).unwrap();
    assert_eq!(live.load().and_then(|model| model.version()), Version::new(2));
    let found = store.get::<Momentum>(&key("a")).unwrap().unwrap();
    assert_eq!(found.tier(), Tier::Hot, "what was looked for in the turn is in memory");
}

#[test]
fn a_tier_that_does_not_answer_is_in_nobodys_way() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    shelf.feels(Mood::Down);
    let refused = store.get::<Momentum>(&key("a")).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io);
    assert!(refused.to_string().contains("nobody answers"), "{refused}");
    assert!(matches!(
        store.get_or_train(&key("a"), &Freshness::any_age(), never).map(drop),
        Err(TrainError::Train(reason)) if reason == "it should not train"
    ));
    let trained = store
        .get_or_train(&key("a"), &Freshness::any_age(), |_: Option<&ModelRef<Momentum>>| Ok::<_, String>(weights(3.0)));
    let trained = trained.unwrap();
    assert_eq!((trained.tier(), first(&trained)), (Tier::Trained, 3.0));
    store.evict_all();
    assert_eq!(store.get::<Momentum>(&key("a")).unwrap().unwrap().tier(), Tier::Disk);
}

/// Follows a model, and notes where the one who follows was behind when this tier was told.
#[derive(Debug, Default)]
struct Watcher {
    live: Mutex<Option<Live<Momentum>>>,
    behind: Mutex<Vec<String>>,
}

impl ModelTier for Watcher {
    fn find(&self, _: &ModelKey) -> Result<Option<TierModel>, TierError> {
        Ok(None)
    }

    fn apply(&self, change: &Change) {
        let now = match change {
            Change::Published(model) => model.metadata().version,
            Change::Moved { version, .. } => Some(*version),
            Change::Removed { .. } | Change::Quarantined { .. } | Change::Unknown { .. } => None,
        };
        if let Some(live) = &*self.live.lock().unwrap() {
            let shown = live.load().and_then(|model| model.version());
            if shown != now {
                self.behind.lock().unwrap().push(format!("{shown:?} was shown instead of {now:?}"));
            }
        }
    }
}

/// After the commit and before the lock is released: not so late that another change is made before it is shown.
#[test]
fn who_follows_sees_a_change_before_the_next_one_is_made() {
    let watcher = Arc::new(Watcher::default());
    let store = Store::options().tier(Arc::clone(&watcher) as _).in_memory().unwrap();
    (1..=3).for_each(|n| assert!(store.publish(&key("a"), weights(f64::from(n))).is_ok()));
    *watcher.live.lock().unwrap() = Some(store.live(&key("a")).unwrap());
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..50 {
                    if (n + thread) % 5 == 0 {
                        store.publish(&key("a"), weights(f64::from(n))).unwrap();
                    } else {
                        store.rollback(&key("a")).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(*watcher.behind.lock().unwrap(), Vec::<String>::new());
    *watcher.live.lock().unwrap() = None;
}
