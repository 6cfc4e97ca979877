//! Random operations against an oracle made of `BTreeMap`s, under every set of options.
//!
//! After every operation the store must say what the oracle says; at the end it must be whole, with nothing left
//! behind that nobody refers to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and exact numbers are what it is about"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests have no public API")]

mod oracle;

use std::{sync::Arc, time::Duration};

use modelkeep::{
    ErrorKind, Freshness, Model, ModelKey, ModelRef, NewModel, Options, Reason, Schema, Store, Tier, Timestamp, Verify,
    Version,
    admin::{Filter, Maintenance},
    clock::ManualClock,
    training::{Samples, TrainingSet},
};
use oracle::Oracle;
use proptest::prelude::*;

const NAMES: [&str; 3] = ["a", "ab", "a.b"];
const CONFIGS: u8 = 2;
const RETENTION: usize = 3;

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Numbers {
    numbers: Vec<u32>,
}

impl Model for Numbers {
    const SCHEMA: Schema = Schema::new("test.numbers", 1);
}

#[derive(Clone, Debug)]
enum Op {
    Publish { key: u8, value: u32, large: bool, expect: Option<u64> },
    Get { key: u8 },
    GetVersion { key: u8, version: u64 },
    GetOrTrain { key: u8, value: u32, max_age_hours: u32 },
    Update { key: u8, value: u32, rows: Vec<(u8, i64, u8)> },
    Rollback { key: u8 },
    RollbackTo { key: u8, version: u64 },
    Pin { key: u8, version: u64, pinned: bool },
    Prune { key: u8, keep: usize },
    Remove { key: u8 },
    Invalidate { name: u8 },
    Clear { hours: u32 },
    List,
    EvictAll,
    Advance { hours: u32 },
    Compact,
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..(NAMES.len() as u8 * CONFIGS);
    let version = 1u64..8;
    let row = (0u8..2, 0i64..6, 0u8..3);
    let op = prop_oneof![
        6 => (key.clone(), any::<u32>(), any::<bool>(), prop::option::of(0u64..5))
            .prop_map(|(key, value, large, expect)| Op::Publish { key, value, large, expect }),
        6 => key.clone().prop_map(|key| Op::Get { key }),
        3 => (key.clone(), version.clone()).prop_map(|(key, version)| Op::GetVersion { key, version }),
        3 => (key.clone(), any::<u32>(), 1u32..6)
            .prop_map(|(key, value, max_age_hours)| Op::GetOrTrain { key, value, max_age_hours }),
        3 => (key.clone(), any::<u32>(), prop::collection::vec(row, 0..6))
            .prop_map(|(key, value, rows)| Op::Update { key, value, rows }),
        2 => key.clone().prop_map(|key| Op::Rollback { key }),
        2 => (key.clone(), version.clone()).prop_map(|(key, version)| Op::RollbackTo { key, version }),
        2 => (key.clone(), version, any::<bool>()).prop_map(|(key, version, pinned)| Op::Pin { key, version, pinned }),
        2 => (key.clone(), 0usize..4).prop_map(|(key, keep)| Op::Prune { key, keep }),
        1 => key.prop_map(|key| Op::Remove { key }),
        1 => (0..NAMES.len() as u8).prop_map(|name| Op::Invalidate { name }),
        1 => (1u32..10).prop_map(|hours| Op::Clear { hours }),
        2 => Just(Op::List),
        2 => Just(Op::EvictAll),
        2 => (1u32..4).prop_map(|hours| Op::Advance { hours }),
        1 => Just(Op::Compact),
        2 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..60)
}

fn key(index: u8) -> ModelKey {
    ModelKey::new(NAMES[usize::from(index / CONFIGS)], &(index % CONFIGS)).unwrap()
}

fn numbers(value: u32, large: bool) -> Vec<u32> {
    if large { (0..6000).map(|i| value.wrapping_add(i)).collect() } else { vec![value, 7] }
}

fn samples(rows: &[(u8, i64, u8)]) -> TrainingSet {
    let mut set = TrainingSet::new();
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    rows.dedup_by_key(|row| (row.0, row.1));
    for symbol in 0..2 {
        let mut samples = Samples::new(&format!("S{symbol}"), &["x"]).unwrap();
        for &(_, at, value) in rows.iter().filter(|row| row.0 == symbol) {
            samples.push(Timestamp::from_nanos(at), &[f64::from(value)], 0.0).unwrap();
        }
        if !samples.is_empty() {
            set.insert(samples).unwrap();
        }
    }
    set
}

/// The store under test, the oracle beside it, and what is needed to close and open it.
struct Run {
    folder: tempfile::TempDir,
    options: Options,
    clock: Arc<ManualClock>,
    store: Option<Store>,
    oracle: Oracle,
}

impl Run {
    fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(1_545_652_800_000_000_000)));
        // The oracle knows at once which versions are kept.
        let options = options.clock(Arc::clone(&clock)).retention(RETENTION).maintenance(Maintenance::WithPublish);
        let folder = tempfile::tempdir().unwrap();
        let mut run = Self { folder, options, clock, store: None, oracle: Oracle::new(RETENTION) };
        run.reopen();
        run
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.options.clone().open(self.folder.path().join("models.redb")).unwrap());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn hours(&self) -> u64 {
        use modelkeep::clock::Clock;
        u64::try_from(self.clock.now().as_nanos() / 3_600_000_000_000).unwrap()
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let now = self.hours();
        match *op {
            Op::Publish { key: k, value, large, expect } => {
                let trained =
                    NewModel::new(Numbers { numbers: numbers(value, large) }).artifact("a", value.to_le_bytes());
                let result = match expect {
                    None => self.store().publish(&key(k), trained),
                    Some(number) => self.store().publish_if(&key(k), Version::new(number), trained),
                };
                match (result, self.oracle.publish(k, expect, numbers(value, large), now, false)) {
                    (Ok(version), Some(number)) => prop_assert_eq!(version.get(), number),
                    (Err(err), None) => prop_assert!(matches!(err.kind(), ErrorKind::Conflict { .. }), "{}", err),
                    (result, expected) => prop_assert!(false, "{:?} where {:?} was expected", result, expected),
                }
            }
            Op::Get { key: k } => {
                let held = self.store().get::<Numbers>(&key(k)).unwrap();
                prop_assert_eq!(held.as_ref().map(values), self.oracle.current(k));
            }
            Op::GetVersion { key: k, version } => {
                let held = self.store().get_version::<Numbers>(&key(k), Version::new(version).unwrap()).unwrap();
                prop_assert_eq!(held.as_ref().map(values), self.oracle.version(k, version));
            }
            Op::GetOrTrain { key: k, value, max_age_hours } => {
                let freshness = Freshness::max_age_hours(max_age_hours);
                let train = |_: Option<&ModelRef<Numbers>>| {
                    Ok::<_, String>(NewModel::new(Numbers { numbers: numbers(value, false) }))
                };
                let held = self.store().get_or_train(&key(k), &freshness, train).unwrap();
                let age = self.oracle.age(k, now);
                let trains = age.is_none_or(|age| age > u64::from(max_age_hours));
                prop_assert_eq!(held.tier() == Tier::Trained, trains);
                match held.decision().reasons() {
                    [Reason::Missing] => prop_assert_eq!(age, None),
                    [Reason::Expired { age: found, .. }] => {
                        prop_assert_eq!(Some(found.as_secs() / 3600), age);
                    }
                    other => prop_assert!(!trains && held.decision().is_fresh(), "{:?}", other),
                }
                if trains {
                    self.oracle.publish(k, None, numbers(value, false), now, false);
                }
                prop_assert_eq!(Some(values(&held)), self.oracle.current(k));
            }
            Op::Update { key: k, value, ref rows } => {
                let train = |_: &TrainingSet, _: Option<&ModelRef<Numbers>>| {
                    Ok::<_, String>(NewModel::new(Numbers { numbers: numbers(value, false) }))
                };
                let changed = self.oracle.merge(k, rows);
                let trains = !self.oracle.trained_on_what_is_stored(k);
                let Ok(update) = self.store().update(&key(k), &samples(rows), train) else {
                    prop_assert!(trains && self.oracle.rows(k).is_empty(), "only an update of nothing fails");
                    return Ok(());
                };
                prop_assert_eq!(update.trained, trains);
                prop_assert_eq!(update.merge.rows.changed(), changed);
                if trains {
                    self.oracle.publish(k, None, numbers(value, false), now, true);
                }
                prop_assert_eq!(Some(values(&update.model)), self.oracle.current(k));
            }
            _ => self.manage(op, now)?,
        }
        Ok(())
    }

    /// The operations that move heads, delete, or look.
    fn manage(&mut self, op: &Op, now: u64) -> Result<(), TestCaseError> {
        match *op {
            Op::Rollback { key: k } => {
                let version = self.store().rollback(&key(k)).ok().map(Version::get);
                prop_assert_eq!(version, self.oracle.rollback(k));
            }
            Op::RollbackTo { key: k, version } => {
                let moved = self.store().rollback_to(&key(k), Version::new(version).unwrap()).is_ok();
                prop_assert_eq!(moved, self.oracle.rollback_to(k, version));
            }
            Op::Pin { key: k, version, pinned } => {
                let number = Version::new(version).unwrap();
                let result =
                    if pinned { self.store().pin(&key(k), number) } else { self.store().unpin(&key(k), number) };
                prop_assert_eq!(result.is_ok(), self.oracle.pin(k, version, pinned));
            }
            Op::Prune { key: k, keep } => {
                self.check_removal(&self.store().prune(&key(k), keep), Oracle::prune, (k, keep))?;
            }
            Op::Remove { key: k } => {
                self.check_removal(&self.store().remove(&key(k)), |oracle, k| oracle.remove(&[k]), k)?;
            }
            Op::Invalidate { name } => {
                let keys: Vec<u8> = (0..CONFIGS).map(|config| name * CONFIGS + config).collect();
                let removal = self.store().invalidate(NAMES[usize::from(name)]).unwrap();
                self.check_removal(&removal, |oracle, keys| oracle.remove(&keys), keys)?;
            }
            Op::Clear { hours } => {
                let age = Duration::from_secs(u64::from(hours) * 3600);
                self.check_removal(
                    &self.store().prune_older_than(age),
                    |oracle, (hours, now)| Some(oracle.clear(hours, now)),
                    (u64::from(hours), now),
                )?;
            }
            Op::List => {
                let listed = self.store().list(Filter::all()).unwrap().map(|listed| {
                    let listed = listed.unwrap();
                    (listed.key().clone(), listed.version().get())
                });
                prop_assert_eq!(listed.collect::<Vec<_>>(), self.oracle.list(key));
            }
            Op::EvictAll => self.store().evict_all(),
            Op::Advance { hours } => self.clock.advance(Duration::from_secs(u64::from(hours) * 3600)),
            Op::Compact => drop(self.store().compact().unwrap()),
            Op::Reopen => self.reopen(),
            _ => unreachable!("it trains or reads, which `apply` does"),
        }
        Ok(())
    }

    /// Runs a removal on both sides; the dry run must have said the same.
    fn check_removal<A>(
        &self,
        removal: &modelkeep::admin::Removal<'_>,
        expected: impl FnOnce(&Oracle, A) -> Option<oracle::Removed>,
        arguments: A,
    ) -> Result<(), TestCaseError> {
        let planned = removal.dry_run();
        let result = removal.run();
        match (planned, result, expected(&self.oracle, arguments)) {
            (Ok(planned), Ok(removed), Some(expected)) => {
                prop_assert_eq!(&planned, &removed);
                let mut versions: Vec<_> =
                    removed.versions.iter().map(|gone| (gone.key.clone(), gone.version.get())).collect();
                versions.sort();
                let mut expected: Vec<_> = expected.iter().map(|&(k, version)| (key(k), version)).collect();
                expected.sort();
                prop_assert_eq!(versions, expected);
            }
            (Err(planned), Err(err), None) => {
                prop_assert_eq!((planned.kind(), err.kind()), (ErrorKind::Pinned, ErrorKind::Pinned));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn check_all(&self) -> Result<(), TestCaseError> {
        for k in 0..NAMES.len() as u8 * CONFIGS {
            let versions: Vec<u64> =
                self.store().versions(&key(k)).unwrap().iter().map(|entry| entry.version.get()).collect();
            prop_assert_eq!(versions, self.oracle.versions(k), "versions of {}", key(k));
            let rows = self.store().training_data(&key(k)).unwrap().unwrap_or_default();
            prop_assert_eq!(rows, samples(&self.oracle.rows(k)), "training data of {}", key(k));
        }
        let found = self.store().verify().unwrap();
        prop_assert!(found.is_whole() && found.unreferenced.is_empty(), "{:?}", found);
        Ok(())
    }
}

fn values(held: &ModelRef<Numbers>) -> Vec<u32> {
    held.numbers.iter().map(|number| number.to_native()).collect()
}

fn check(options: Options, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut run = Run::new(options);
    for op in ops {
        run.apply(op)?;
    }
    run.reopen();
    run.check_all()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn with_default_options(ops in ops()) {
        check(Store::options(), &ops)?;
    }

    #[test]
    fn with_a_hot_tier_that_holds_two_models(ops in ops()) {
        check(Store::options().hot_bytes(3000), &ops)?;
    }

    #[test]
    fn without_a_hot_tier_and_with_structural_checks(ops in ops()) {
        check(Store::options().hot_bytes(0).verify(Verify::Structure), &ops)?;
    }

    #[test]
    fn with_background_checks_and_no_compression(ops in ops()) {
        check(Store::options().verify(Verify::Background).compress_superseded(false).cache_bytes(0), &ops)?;
    }
}
