//! Code of others that panics, or asks for what it is asked for: a model's check, a tier, a clock.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use modelkeep::{
    ErrorKind, Freshness, Invalid, Model, ModelKey, ModelRef, NewModel, Schema, Store, Timestamp, Version,
    clock::{Clock, SystemClock},
    tier::{Change, ModelTier, TierError, TierModel},
};

use crate::{Momentum, Shelf, first, key, weights};

/// A model of which one version is refused by a panic, while that is switched on.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Touchy {
    number: u32,
}

static TOUCHY: AtomicBool = AtomicBool::new(false);

impl Model for Touchy {
    const SCHEMA: Schema = Schema::new("touchy", 1);

    fn validate(archived: &ArchivedTouchy) -> Result<(), Invalid> {
        assert!(!TOUCHY.load(Ordering::SeqCst) || archived.number.to_native() != 1, "a check that panics");
        Ok(())
    }
}

/// A rollback is in the file, and the check of what it leads to panics: the call says that it is done, tiers are told,
/// and nobody goes on being shown what is not current any more, whatever type they follow the model as.
#[test]
fn a_check_that_panics_does_not_come_between_a_commit_and_those_who_wait_for_it() {
    let (shelf, touchy) = (Arc::new(Shelf::default()), |number| NewModel::new(Touchy { number }));
    let store = crate::store(&shelf);
    store.publish(&key("a"), touchy(1)).unwrap();
    store.publish(&key("a"), weights(2.0)).unwrap();
    let other = store.live::<Momentum>(&key("a")).unwrap();
    assert!(other.load().is_some());
    store.rollback(&key("a")).unwrap();
    let live = store.live::<Touchy>(&key("a")).unwrap();
    assert!(live.load().is_some() && other.load().is_none());
    store.rollback(&key("a")).unwrap();
    assert!(live.load().is_none() && other.load().is_some());
    shelf.told();

    TOUCHY.store(true, Ordering::SeqCst);
    assert_eq!(store.rollback(&key("a")).unwrap(), Version::FIRST);
    assert_eq!(shelf.told(), ["moved to v1"]);
    assert!(live.load().is_none() && other.load().is_none(), "what is shown is not current");
    let refused = store.get::<Touchy>(&key("a")).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SchemaMismatch, "{refused}");
    assert!(store.quarantined().unwrap().is_empty(), "its bytes are what was published");
    TOUCHY.store(false, Ordering::SeqCst);
    assert_eq!(store.get::<Touchy>(&key("a")).unwrap().unwrap().number.to_native(), 1);
    store.publish(&key("a"), touchy(3)).unwrap();
    assert_eq!(live.load().map(|model| model.number.to_native()), Some(3));
}

/// Asked for a model, it does what the test says.
struct Asks(Box<Find>);

type Find = dyn Fn(&ModelKey) -> Result<Option<TierModel>, TierError> + Send + Sync;

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asks")
    }
}

impl ModelTier for Asks {
    fn find(&self, key: &ModelKey) -> Result<Option<TierModel>, TierError> {
        (self.0)(key)
    }

    fn apply(&self, _: &Change) {}
}

#[test]
fn a_tier_that_panics_when_it_is_asked_is_one_that_cannot_be_asked() {
    let shelf = Arc::new(Shelf::default());
    let panics = Asks(Box::new(|_| panic!("a tier that panics")));
    let store = Store::options().tier(Arc::new(panics)).tier(Arc::clone(&shelf) as _).in_memory().unwrap();
    let refused = store.get::<Momentum>(&key("a")).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io);
    assert!(refused.message().contains("a tier that panics"), "{refused}");
    crate::store(&shelf).publish(&key("b"), weights(2.0)).unwrap();
    assert_eq!(first(&store.get(&key("b")).unwrap().unwrap()), 2.0, "the next tier has it");
    let train = |_: Option<&ModelRef<Momentum>>| Ok::<_, String>(weights(1.0));
    assert_eq!(first(&store.get_or_train(&key("a"), &Freshness::any_age(), train).unwrap()), 1.0);
}

/// A tier may use the store that asks it, but not to ask for the same model, which would ask it again, and so on until
/// the stack is full; nor through another store, or for one model after the other.
#[test]
fn a_tier_that_asks_for_what_it_is_asked_for_is_refused() {
    let (one, other) = (Arc::new(Mutex::new(None::<Store>)), Arc::new(Mutex::new(None::<Store>)));
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let asks = |of: &Arc<Mutex<Option<Store>>>| {
        let (of, refusals) = (Arc::clone(of), Arc::clone(&refusals));
        Arc::new(Asks(Box::new(move |wanted| {
            let store = of.lock().unwrap().clone().unwrap();
            let next = match wanted.name().as_str() {
                "chain" => ModelKey::new("chain", &format!("{wanted}")).unwrap(),
                _ => wanted.clone(),
            };
            if let Err(err) = store.get::<Momentum>(&next) {
                refusals.lock().unwrap().push((err.kind(), err.message().to_owned()));
                return Err(err.into());
            }
            Ok(None)
        })))
    };
    let open = |tier: Arc<Asks>| Store::options().tier(tier).in_memory().unwrap();
    let (a, b) = (open(asks(&other)), open(asks(&one)));
    for (of_a, of_b) in [(&b, &a), (&a, &b)] {
        *other.lock().unwrap() = Some(of_a.clone());
        *one.lock().unwrap() = Some(of_b.clone());
        for (name, said) in [("same", "asks for it"), ("chain", "one model after the other")] {
            let failed = a.get::<Momentum>(&key(name)).map(drop).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Io, "{failed}");
            let refusals = std::mem::take(&mut *refusals.lock().unwrap());
            let (kind, message) = &refusals[0];
            assert!(*kind == ErrorKind::InvalidInput && message.contains(said), "{name}: {refusals:?}");
        }
    }
    a.publish(&key("same"), weights(1.0)).unwrap();
    assert_eq!(first(&a.get(&key("same")).unwrap().unwrap()), 1.0);
    (*one.lock().unwrap(), *other.lock().unwrap()) = (None, None);
}

/// Panics the so-many-th time that it is asked, once.
#[derive(Debug, Default)]
struct Clockwork {
    left: AtomicU32,
}

impl Clockwork {
    /// Whether it has done so.
    fn is_run_down(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn tick(&self) {
        let ticked = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(ticked != Ok(1), "a clock that panics");
    }
}

impl Clock for Clockwork {
    fn now(&self) -> Timestamp {
        self.tick();
        SystemClock.now()
    }

    fn monotonic(&self) -> std::time::Duration {
        self.tick();
        SystemClock.monotonic()
    }
}

/// Whenever the caller's clock panics: either nothing was published, or all show what was.
#[test]
fn a_clock_that_panics_does_not_come_between_a_commit_and_those_who_wait_for_it() {
    let mut published = 0;
    for at in 1.. {
        let (clock, shelf) = (Arc::new(Clockwork::default()), Arc::new(Shelf::default()));
        let store = Store::options().clock(Arc::clone(&clock)).tier(Arc::clone(&shelf) as _).in_memory().unwrap();
        store.publish(&key("a"), weights(1.0)).unwrap();
        let live = store.live::<Momentum>(&key("a")).unwrap();
        shelf.told();
        clock.left.store(at, Ordering::SeqCst);
        let publish = std::panic::AssertUnwindSafe(|| store.publish(&key("a"), weights(2.0)).unwrap().get());
        let said = std::panic::catch_unwind(publish);
        let has_panicked = clock.is_run_down();
        clock.left.store(0, Ordering::SeqCst);
        let version = store.metadata(&key("a")).unwrap().unwrap().version;
        assert_eq!(version.map(Version::get), Some(said.as_ref().map_or(1, |version| *version)), "call {at}");
        let (inside, shown) = (store.get::<Momentum>(&key("a")).unwrap().unwrap(), live.load().unwrap());
        assert_eq!((inside.version(), shown.version()), (version, version), "call {at}");
        assert_eq!(shelf.told().is_empty(), said.is_err(), "call {at}");
        if !has_panicked {
            break;
        }
        published += u32::from(said.is_ok());
    }
    assert!(published > 0, "no clock panicked after a commit");
}
