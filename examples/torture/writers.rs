//! Writers: each has keys of its own, knows what it stored under them, and asks after each operation.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use modelkeep::{Error, ErrorKind, Interval, Store, Timestamp, TrainError, Version, market::Timeframe};
use rand::{Rng, rngs::StdRng, seq::IteratorRandom};

use super::{
    Report,
    content::{Numbered, bars, check, key, mix, samples, trained},
    episode::Run,
};

/// What is stored under a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    versions: BTreeMap<Version, u64>,
    current: Option<Version>,
}

impl Stored {
    /// What the store says.
    fn read(store: &Store, n: u32) -> Self {
        let entries = store.versions(&key(n)).unwrap();
        let current = store.metadata(&key(n)).unwrap().map(|metadata| metadata.version.unwrap());
        assert_eq!(entries.iter().find(|entry| entry.current).map(|entry| entry.version), current);
        let number = |tags: &BTreeMap<_, String>| tags["number"].parse().unwrap();
        Self { versions: entries.iter().map(|entry| (entry.version, number(&entry.metadata.tags))).collect(), current }
    }
}

/// What a writer knows of one of its keys.
#[derive(Default)]
pub(super) struct Known {
    stored: Stored,
    /// The highest version that was ever given out.
    highest: Option<Version>,
    /// A model that was trained and could not be stored: it may be shown, and is nowhere else.
    unstored: Option<u64>,
    /// By day.
    bars: BTreeMap<i64, u64>,
}

/// What an operation that succeeded did.
enum Done {
    Published(Version, u64),
    Current(Version),
    /// Some versions may be gone, but not the current one.
    Fewer,
    Nothing,
    Removed,
}

/// Why an operation failed.
#[derive(Debug)]
struct Failure {
    kind: ErrorKind,
    #[allow(dead_code, reason = "shown when the failure was not to be")]
    text: String,
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        Self { kind: err.kind(), text: format!("{err:?}") }
    }
}

pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) run: &'a Run<'a>,
    /// By key.
    pub(super) known: BTreeMap<u32, Known>,
    pub(super) chance: StdRng,
}

impl Writer<'_> {
    pub(super) fn work(mut self, stop: &AtomicBool) -> BTreeMap<u32, Known> {
        while !stop.load(Ordering::Relaxed) {
            self.step();
        }
        self.known
    }

    /// One operation on one key, and what the store says of it then.
    fn step(&mut self) {
        let n = *self.known.keys().choose(&mut self.chance).unwrap();
        let number = self.run.next_number();
        let faults = self.run.weather.faults();
        let was_unstored = self.known[&n].unstored;
        let done = self.operate(n, number);
        let known = self.known.get_mut(&n).unwrap();
        let after = Stored::read(self.store, n);
        match done {
            Ok(done) => {
                Report::count(&self.run.report.operations, 1);
                known.accept(n, &done, &after);
                if matches!(done, Done::Published(..) | Done::Current(_) | Done::Removed)
                    && known.unstored == was_unstored
                {
                    known.unstored = None;
                }
            }
            Err(err) => {
                let allowed = [ErrorKind::Io, ErrorKind::StorageFull, ErrorKind::OutcomeUnknown];
                assert!(self.run.weather.faults() != faults, "without any fault: {err:?}");
                assert!(allowed.contains(&err.kind), "{err:?}");
                Report::count(&self.run.report.failed, 1);
                let changed = after != known.stored;
                if err.kind == ErrorKind::OutcomeUnknown {
                    Report::count(&self.run.report.unknown, 1);
                } else {
                    assert!(!changed, "{err:?}, and yet {:?} became {after:?}", known.stored);
                }
                let is_new = |at: &Version, found: &u64| known.stored.versions.get(at) != Some(found);
                assert!(after.versions.iter().all(|(at, found)| !is_new(at, found) || *found == number), "{after:?}");
                known.highest = known.highest.max(after.versions.keys().last().copied());
            }
        }
        known.stored = after;
        self.look(n);
    }

    fn operate(&mut self, n: u32, number: u64) -> Result<Done, Failure> {
        let (store, key, known) = (self.store, key(n), self.known.get_mut(&n).unwrap());
        let versions: Vec<Version> = known.stored.versions.keys().copied().collect();
        match self.chance.gen_range(0..100) {
            0..35 => Ok(Done::Published(store.publish(&key, trained(n, number))?, number)),
            35..45 => Ok(Done::Published(store.publish_if(&key, known.stored.current, trained(n, number))?, number)),
            45..55 => {
                let new = samples(number, 1 + (mix(number) % 3000) as usize);
                let update = store.update::<Numbered, Error, _>(&key, &new, |_, _| Ok(trained(n, number)));
                let update = update.map_err(|err| match err {
                    TrainError::Store(err) | TrainError::Train(err) => err,
                })?;
                assert!(update.trained && check(&update.model, n, self.run.report) == number);
                match (update.model.version(), update.model.publish_error()) {
                    (Some(version), _) => Ok(Done::Published(version, number)),
                    (None, Some(err)) => {
                        known.unstored = Some(number);
                        Err(Failure { kind: err.kind(), text: format!("{err:?}") })
                    }
                    (None, None) => panic!("not stored, without a reason"),
                }
            }
            55..63 if versions.len() > 1 => match store.rollback(&key) {
                Err(err) if err.kind() == ErrorKind::NotFound => Ok(Done::Nothing),
                rolled => Ok(Done::Current(rolled?)),
            },
            63..67 if !versions.is_empty() => {
                let to = versions[self.chance.gen_range(0..versions.len())];
                store.rollback_to(&key, to)?;
                Ok(Done::Current(to))
            }
            67..75 => {
                store.prune(&key, self.chance.gen_range(1..4)).run()?;
                Ok(Done::Fewer)
            }
            75 => {
                store.remove(&key).run()?;
                Ok(Done::Removed)
            }
            76..78 => {
                store.compact()?;
                Report::count(&self.run.report.compactions, 1);
                Ok(Done::Nothing)
            }
            78..86 => {
                store.evict_all();
                known.unstored = None;
                Ok(Done::Nothing)
            }
            86..92 => {
                for &version in &versions {
                    let bytes = store.archive_bytes(&key, version)?.unwrap();
                    assert!(store.get_version::<Numbered>(&key, version)?.unwrap().archive_bytes() == bytes);
                }
                Ok(Done::Nothing)
            }
            _ => {
                let day = self.chance.gen_range(0..60);
                store.bars(&format!("B{n}"), Timeframe::MINUTE)?.write(&bars(day, number))?;
                known.bars.insert(day, number);
                Ok(Done::Nothing)
            }
        }
    }

    /// What is shown is what is stored.
    fn look(&mut self, n: u32) {
        let known = &self.known[&n];
        let held = self.store.get::<Numbered>(&key(n)).unwrap();
        let shown = held.as_ref().map(|held| (held.version(), check(held, n, self.run.report)));
        let expected = known.stored.current.map(|current| (Some(current), known.stored.versions[&current]));
        let unstored = known.unstored.map(|number| (None, number));
        assert!(
            shown == expected || (shown.is_some() && shown == unstored),
            "{shown:?} is shown, {expected:?} is stored"
        );
        if self.chance.gen_bool(0.1) {
            let all = Interval::<Timestamp>::all_time();
            let found = self.store.bars(&format!("B{n}"), Timeframe::MINUTE).unwrap().range(all).unwrap();
            // A write whose outcome was not known, or that failed, may have left the day as it was or not.
            if self.run.weather.faults() == 0 {
                let volumes = known.bars.values().flat_map(|&number| std::iter::repeat_n(number as f64, 390));
                assert!(found.iter().map(|bar| bar.volume).eq(volumes), "bars of key {n}");
            }
            Report::count(&self.run.report.others_checked, 1);
        }
    }

    /// Every key has what it had, and can be written to.
    pub(super) fn resume(mut self) -> BTreeMap<u32, Known> {
        let keys: Vec<u32> = self.known.keys().copied().collect();
        for n in keys {
            let known = self.known.get_mut(&n).unwrap();
            known.unstored = None;
            assert_eq!(Stored::read(self.store, n), known.stored, "key {n}");
            let number = self.run.next_number();
            let version = self.store.publish(&key(n), trained(n, number)).unwrap();
            let after = Stored::read(self.store, n);
            known.accept(n, &Done::Published(version, number), &after);
            known.stored = after;
            self.look(n);
        }
        self.known
    }
}

impl Known {
    /// Checks that the store is in the state that it should be in.
    fn accept(&mut self, n: u32, done: &Done, after: &Stored) {
        let before = &self.stored;
        let is_known = |(at, number): (&Version, &u64)| before.versions.get(at) == Some(number);
        let has_lost_none = || before == after;
        let holds = match *done {
            Done::Published(version, number) => {
                let is_higher = self.highest.is_none_or(|highest| version > highest);
                let others = after.versions.iter().filter(|(at, _)| **at != version).all(is_known);
                is_higher && after.current == Some(version) && after.versions.get(&version) == Some(&number) && others
            }
            Done::Current(version) => after.current == Some(version) && after.versions == before.versions,
            Done::Fewer => after.current == before.current && after.versions.iter().all(is_known),
            Done::Nothing => has_lost_none(),
            Done::Removed => after.versions.is_empty() && after.current.is_none(),
        };
        assert!(holds, "key {n}: {before:?} became {after:?}");
        self.highest = self.highest.max(after.versions.keys().last().copied());
    }
}
