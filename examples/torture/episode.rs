//! One file, opened several times with one choice of options.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use modelkeep::{ErrorKind, Options, Store, Verify, admin::Maintenance};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    Report,
    holders::{Holding, Seen, keep, read},
    weather::Weather,
    writers::{Known, Writer},
};

const WRITERS: u32 = 2;
const READERS: u64 = 2;

/// What all threads share.
pub(super) struct Run<'a> {
    pub(super) report: &'a Report,
    pub(super) seen: &'a Seen,
    pub(super) weather: &'a Weather,
    pub(super) keys: u32,
    pub(super) handed: SyncSender<Holding>,
    seed: u64,
    numbers: &'a AtomicU64,
}

impl Run<'_> {
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn chance(&self, of: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(of))
    }
}

/// Options that an engine might have.
fn options(chance: &mut StdRng) -> Options {
    let verify = [Verify::Full, Verify::Background, Verify::Structure];
    let options = Store::options()
        .verify(*verify.choose(chance).unwrap())
        .mapped(chance.gen_bool(0.75))
        .hot_bytes([0, 100_000, 8 << 20, 256 << 20][chance.gen_range(0..4)])
        .compress_superseded(chance.gen_bool(0.5))
        .check_held(chance.gen_bool(0.5));
    // Writers know to the version what there is: what is removed is removed by their own calls.
    if chance.gen_bool(0.2) {
        options.keep_all_versions().maintenance(Maintenance::InBackground)
    } else {
        options.retention(chance.gen_range(1..5)).maintenance(Maintenance::WithPublish)
    }
}

pub(super) fn run(path: &Path, seed: u64, report: &Report) {
    let mut chance = StdRng::seed_from_u64(seed);
    let options = options(&mut chance);
    let weather = Arc::new(Weather::new(chance.r#gen()));
    let storms = chance.gen_bool(0.5);
    let (seen, numbers) = (Seen::default(), AtomicU64::new(chance.gen_range(0..1 << 40)));
    let keys = chance.gen_range(2..12);
    let mut known: BTreeMap<u32, Known> = (0..keys).map(|n| (n, Known::default())).collect();
    let mut held = Vec::new();
    for opening in 0..chance.gen_range(1..5) {
        let open = || options.clone().disk(Arc::clone(&weather) as _).open(path);
        // What is held from the last time may keep the file locked, and then goes.
        let store = match open() {
            Err(err) if err.kind() == ErrorKind::InUse && !held.is_empty() => {
                held.clear();
                open().unwrap()
            }
            opened => opened.unwrap(),
        };
        Report::count(&report.reopenings, u64::from(opening > 0));
        let (handed, received) = mpsc::sync_channel(16);
        let run = Run { report, seen: &seen, weather: &weather, keys, handed, seed: chance.r#gen(), numbers: &numbers };
        let writer = |known, of| Writer { store: &store, run: &run, known, chance: run.chance(of) };
        known = writer(known, 0).resume();
        weather.set_storms(storms);
        let (stop, until) = (AtomicBool::new(false), Duration::from_millis(chance.gen_range(200..3000)));
        thread::scope(|scope| {
            let (run, stop, store) = (&run, &stop, &store);
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| {
                    let (own, others) = std::mem::take(&mut known).into_iter().partition(|(n, _)| n % WRITERS == w);
                    known = others;
                    let writer = writer(own, 1 + u64::from(w));
                    scope.spawn(move || if writer.known.is_empty() { writer.known } else { writer.work(stop) })
                })
                .collect();
            let readers: Vec<_> = (0..READERS).map(|r| scope.spawn(move || read(store, run, 10 + r, stop))).collect();
            let keeper = scope.spawn(move || keep(&received, run, 20, stop));
            thread::sleep(until);
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().for_each(|writer| known.extend(writer.join().unwrap()));
            readers.into_iter().for_each(|reader| held.extend(reader.join().unwrap()));
            held.extend(keeper.join().unwrap());
        });
        weather.set_storms(false);
        known = writer(known, 30).resume();
        assert!(store.verify().unwrap().is_whole());
        drop(store);
        held.iter().for_each(|holding: &Holding| holding.check(report));
    }
    Report::count(&report.faults, weather.faults());
}
