//! A long, random run against one file: writers, readers that hold, reopenings, and a disk that fails now and then.
//!
//! Everything that is stored is made of a number, which is stored with it, so that whoever holds it can check all of
//! it. The writers know what they stored: after each operation the store must say the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::disallowed_methods,
    reason = "a check that fails ends the run, exact numbers are what it is about, and a run has a time"
)]

mod content;
mod episode;
mod holders;
mod weather;
mod writers;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// What to run.
pub struct Settings {
    /// How long, about: an episode that began is brought to its end.
    pub seconds: u64,
    /// Where all random choices begin. Threads take turns as they like, so a seed repeats the choices and not the run.
    pub seed: u64,
    /// Where the files are.
    pub folder: PathBuf,
}

/// What was done, and found to be right.
#[derive(Default)]
pub struct Report {
    pub episodes: AtomicU64,
    pub reopenings: AtomicU64,
    /// Operations that succeeded: publishes, updates, rollbacks, prunes, compactions and the rest.
    pub operations: AtomicU64,
    pub compactions: AtomicU64,
    /// Models taken: by `get`, `get_version`, and from handles that follow.
    pub taken: AtomicU64,
    /// Of those, taken from the file.
    pub loads: AtomicU64,
    /// Times that all of a model was compared with what it was made of.
    pub checks: AtomicU64,
    pub bytes_checked: AtomicU64,
    /// Artifacts, training data and bars compared likewise.
    pub others_checked: AtomicU64,
    /// Accesses that were made to fail.
    pub faults: AtomicU64,
    /// Operations that failed for that reason, and of those the ones whose outcome was not known.
    pub failed: AtomicU64,
    pub unknown: AtomicU64,
}

impl Report {
    fn count(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Every figure, with its name.
    pub fn figures(&self) -> [(&'static str, u64); 12] {
        [
            ("episodes", &self.episodes),
            ("reopenings", &self.reopenings),
            ("operations", &self.operations),
            ("compactions", &self.compactions),
            ("models taken", &self.taken),
            ("of those from the file", &self.loads),
            ("checks of whole models", &self.checks),
            ("bytes checked", &self.bytes_checked),
            ("artifacts, samples and bars checked", &self.others_checked),
            ("accesses made to fail", &self.faults),
            ("operations that failed so", &self.failed),
            ("of those with an unknown outcome", &self.unknown),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Runs until the time is over; panics at the first thing that is wrong.
pub fn run(settings: &Settings, mut after_episode: impl FnMut(&Report)) -> Report {
    let (started, report) = (Instant::now(), Report::default());
    let mut chance = StdRng::seed_from_u64(settings.seed);
    while started.elapsed() < Duration::from_secs(settings.seconds) {
        let path = settings.folder.join(format!("torture{}.redb", report.episodes.load(Ordering::Relaxed)));
        episode::run(&path, chance.r#gen(), &report);
        std::fs::remove_file(&path).unwrap();
        Report::count(&report.episodes, 1);
        after_episode(&report);
    }
    report
}
