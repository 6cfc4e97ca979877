//! Readers: they take models in every way there is, hold them from nanoseconds to many commits, and check them.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use modelkeep::{ErrorKind, ModelRef, Store, Tier, Version, admin::Filter};
use rand::{Rng, seq::SliceRandom};

use super::{
    Report,
    content::{Numbered, check, check_artifact, check_samples, key},
    episode::Run,
};

/// Which number each version of each key had that anybody saw.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<(u32, Version), u64>>);

impl Seen {
    /// A version only ever means one thing.
    pub(super) fn note(&self, key: u32, version: Version, number: u64) {
        let before = *self.0.lock().unwrap().entry((key, version)).or_insert(number);
        assert_eq!(before, number, "{version} of key {key} was given out twice");
    }

    fn any(&self, chance: &mut impl Rng) -> Option<(u32, Version)> {
        let known: Vec<_> = self.0.lock().unwrap().keys().copied().collect();
        known.choose(chance).copied()
    }
}

/// A model that is held, and what it was when it was taken.
pub(super) struct Holding {
    key: u32,
    number: u64,
    held: ModelRef<Numbered>,
}

impl Holding {
    pub(super) fn new(held: ModelRef<Numbered>, key: u32, run: &Run<'_>) -> Self {
        let number = check(&held, key, run.report);
        if let Some(version) = held.version() {
            run.seen.note(key, version, number);
        }
        Report::count(&run.report.taken, 1);
        Report::count(&run.report.loads, u64::from(held.tier() == Tier::Disk));
        Self { key, number, held }
    }

    pub(super) fn check(&self, report: &Report) {
        assert_eq!(check(&self.held, self.key, report), self.number, "what is held has changed");
    }
}

/// Takes and holds, until it is told to stop; returns what it holds then.
pub(super) fn read(store: &Store, run: &Run<'_>, seed: u64, stop: &AtomicBool) -> Vec<Holding> {
    let mut chance = run.chance(seed);
    let mut pool: Vec<Holding> = Vec::new();
    let lives: Vec<_> = (0..run.keys).map(|n| store.live::<Numbered>(&key(n)).unwrap()).collect();
    let room = [0, 4, 12, 40][chance.gen_range(0..4)];
    while !stop.load(Ordering::Relaxed) {
        let n = chance.gen_range(0..run.keys);
        let taken = match chance.gen_range(0..16) {
            0 => run.seen.any(&mut chance).and_then(|(n, version)| {
                let held = store.get_version::<Numbered>(&key(n), version).unwrap();
                held.map(|held| Holding::new(held, n, run))
            }),
            1 => lives[n as usize].load().map(|current| Holding::new(current.to_model_ref(), n, run)),
            2 => {
                look_at_others(store, run, &mut chance);
                None
            }
            _ => store.get::<Numbered>(&key(n)).unwrap().map(|held| Holding::new(held, n, run)),
        };
        let Some(taken) = taken else { continue };
        match chance.gen_range(0..8) {
            0..4 => {}
            4..6 => pool.push(taken),
            6 => {
                // To another thread, or to nobody if they are all busy.
                let copy = Holding { key: taken.key, number: taken.number, held: taken.held.clone() };
                run.handed.try_send(copy).unwrap_or_default();
                taken.check(run.report);
            }
            _ => {
                thread::sleep(Duration::from_micros(chance.gen_range(1..3000)));
                taken.check(run.report);
            }
        }
        while pool.len() > room {
            let at = chance.gen_range(0..pool.len());
            pool.swap_remove(at).check(run.report);
        }
        if let Some(some) = pool.choose(&mut chance) {
            some.check(run.report);
        }
    }
    pool
}

/// Artifacts, samples, bars and lists.
fn look_at_others(store: &Store, run: &Run<'_>, chance: &mut impl Rng) {
    if let Some((n, version)) = run.seen.any(chance)
        && let Some(found) = store.artifact(&key(n), version, "a").unwrap()
    {
        check_artifact(&found);
        Report::count(&run.report.others_checked, 1);
    }
    if let Some(set) = store.training_data(&key(chance.gen_range(0..run.keys))).unwrap() {
        check_samples(&set);
        Report::count(&run.report.others_checked, 1);
    }
    for listed in store.list(Filter::all()).unwrap() {
        // After an I/O error a list may be given up.
        let expired = listed.as_ref().is_err_and(|err| err.kind() == ErrorKind::Expired && run.weather.faults() > 0);
        assert!(expired || listed.is_ok(), "{listed:?}");
    }
}

/// Holds what others took, longer than they do.
pub(super) fn keep(handed: &Receiver<Holding>, run: &Run<'_>, seed: u64, stop: &AtomicBool) -> Vec<Holding> {
    let (mut chance, mut kept) = (run.chance(seed), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        kept.extend(handed.recv_timeout(Duration::from_millis(20)));
        if kept.len() > 60 {
            let at = chance.gen_range(0..kept.len());
            kept.swap_remove(at).check(run.report);
        }
    }
    kept
}
