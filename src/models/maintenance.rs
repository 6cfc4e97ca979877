//! Doing what publishes left for later, in commits of its own: on the store's thread in the background, when somebody
//! asks for it, and before the store is closed.
//!
//! What is left is in the file, so that nothing is forgotten by a restart. The [`Backlog`] in memory says that there is
//! something, and how much: beyond its bound publishes do it themselves again.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    Models,
    catalog::{head, superseded},
    retention::{Compressed, Finished, Leftover, compress_left, left_bytes},
};
use crate::{
    engine::{Batch, Snapshot},
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

const MAINTAIN: &str = "maintain";

/// How long after a publish its leftovers are seen to: those of publishes that follow at once go with them.
const PAUSE: Duration = Duration::from_millis(20);
/// How long after a failure it is tried again; twice as long after each further one, up to 64 times.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of archives that wait; beyond it publishes leave nothing.
const BACKLOG_BYTES_MAX: u64 = 512 << 20;
/// Models of one commit.
const GROUP_MODELS_MAX: usize = 64;
/// Bytes of archives that are compressed for one commit, and held until it is made.
const GROUP_BYTES_MAX: u64 = 32 << 20;

/// Who compresses superseded versions, and removes those beyond the [retention](crate::Options::retention), and when.
///
/// It concerns archives of 16 KiB and more. Smaller ones are seen to by the publish itself, and so are all of a store that
/// keeps one version.
///
/// What a publish leaves is noted in the file, in its own transaction. Until it is done a model may have one version
/// more than is kept; one whose versions still wait when it is published again has them removed by that publish. When
/// archives of more than 512 MiB wait, publishes leave nothing until there is less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Maintenance {
    /// A thread of the store, in commits of their own, 20 ms after a publish. The default. It goes on after a restart, and
    /// is finished by [`Store::close`](crate::Store::close).
    #[default]
    InBackground,
    /// The caller of [`Store::run_maintenance`](crate::Store::run_maintenance), and otherwise as above.
    OnRequest,
    /// Each publish, in its own transaction, which takes that much longer.
    WithPublish,
}

/// What maintenance did.
///
/// ```
/// # use modelkeep::Store;
/// let store = Store::in_memory()?;
/// let done = store.run_maintenance()?;
/// assert_eq!((done.models, done.compressed, done.removed), (0, 0, 0)); // there was nothing to do
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// Models that were seen to.
    pub models: usize,
    /// Superseded versions that were compressed.
    pub compressed: usize,
    /// Versions beyond the retention that were removed.
    pub removed: usize,
}

/// The models for which something is left, with the bytes that are concerned.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    /// The thread in the background is about to see to it.
    is_due: AtomicBool,
    /// How often it has failed since it last went well.
    failures: AtomicU32,
    /// One at a time.
    running: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: HashMap<ModelKey, u64>,
    bytes_in_all: u64,
}

impl Backlog {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more may be left.
    pub(super) fn has_room(&self) -> bool {
        self.waiting().bytes_in_all < BACKLOG_BYTES_MAX
    }

    /// How many models wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().bytes.len()
    }

    fn set(&self, key: &ModelKey, bytes: u64) {
        let mut waiting = self.waiting();
        let before = waiting.bytes.insert(key.clone(), bytes).unwrap_or(0);
        waiting.bytes_in_all = waiting.bytes_in_all - before + bytes;
    }

    fn keep_only(&self, keys: &HashSet<ModelKey>) {
        let mut waiting = self.waiting();
        waiting.bytes.retain(|key, _| keys.contains(key));
        waiting.bytes_in_all = waiting.bytes.values().sum();
    }

    fn remove(&self, key: &ModelKey) {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes.remove(key).unwrap_or(0);
        waiting.bytes_in_all -= bytes;
    }
}

impl Models {
    /// Notes what publishes left, and has it seen to.
    pub(super) fn note_leftovers<'a>(self: &Arc<Self>, left: impl Iterator<Item = (&'a ModelKey, Option<Leftover>)>) {
        let mut any = false;
        for (key, left) in left {
            match left {
                Some(Leftover { bytes }) => {
                    self.backlog.set(key, bytes);
                    any = true;
                }
                None => self.backlog.remove(key),
            }
        }
        if any {
            self.maintain_later(PAUSE);
        }
    }

    /// Goes on with what a store left that had the file open before.
    pub(crate) fn resume_maintenance(self: &Arc<Self>) {
        if self.core.is_read_only() {
            return;
        }
        let left = |snapshot: &Snapshot| {
            let of = |key: ModelKey| left_bytes(snapshot, &key).map(|bytes| (key, bytes));
            superseded::keys(snapshot)?.into_iter().map(of).collect::<Result<Vec<_>>>()
        };
        match self.core.look_only(left) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => self.note_leftovers(left.iter().map(|(key, bytes)| (key, Some(Leftover { bytes: *bytes })))),
            Err(error) => tracing::warn!(%error, "what is left to compress and to prune cannot be read"),
        }
    }

    /// Does all that is left.
    pub(crate) fn run_maintenance(self: &Arc<Self>) -> Result<Maintained> {
        self.core.check_writable(MAINTAIN)?;
        self.maintain_until(|| false)
    }

    /// Does what is left before the file is closed, unless `others` have it open. What cannot be done now is done when the store is
    /// opened again.
    pub(crate) fn finish_maintenance(self: &Arc<Self>, others: usize) {
        if self.core.is_read_only() || others > 0 {
            return;
        }
        if let Err(error) = self.run_maintenance() {
            tracing::warn!(%error, "some versions are not compressed or pruned yet");
        }
    }

    /// Does what is left because the file is full. Says whether anything came of it.
    pub(super) fn makes_room(self: &Arc<Self>) -> bool {
        self.run_maintenance().is_ok_and(|done| done.removed + done.compressed > 0)
    }

    fn maintain_later(self: &Arc<Self>, delay: Duration) {
        if self.settings.maintenance != Maintenance::InBackground || self.backlog.is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        self.core.later(delay, self, |models, stop| {
            models.backlog.is_due.store(false, Ordering::Release);
            if stop.is_set() {
                return;
            }
            // Whoever drops the last store waits for this, and the rest can be done when the file is opened again.
            match models.maintain_until(|| stop.is_set() || models.core.gate().is_shut()) {
                Ok(_) => models.backlog.failures.store(0, Ordering::Relaxed),
                // It does not become better by being tried again.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => {
                    tracing::warn!(%error, "some versions are not compressed or pruned yet");
                    let failures = models.backlog.failures.fetch_add(1, Ordering::Relaxed).min(6);
                    models.maintain_later(RETRY * 2_u32.pow(failures));
                }
            }
        });
    }

    /// Does what is left, a group of models a commit, until it is told to stop. Returns the first error when the others
    /// have been seen to.
    fn maintain_until(self: &Arc<Self>, stopped: impl Fn() -> bool) -> Result<Maintained> {
        let _one = self.backlog.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut run = Run { keys: self.core.look_only(superseded::keys)?, ..Run::default() };
        // They are taken off the end.
        run.keys.reverse();
        while !run.keys.is_empty() && !stopped() {
            let group = self.prepare(&mut run)?;
            self.see_to(group, &mut run)?;
        }
        if run.keys.is_empty() {
            self.compare_backlog()?;
        }
        run.failed.map_or(Ok(run.done), Err)
    }

    /// Takes keys off the end, and compresses what is to be compressed of them, until it is enough for a commit.
    fn prepare(&self, run: &mut Run) -> Result<Group> {
        let (mut group, mut bytes) = (Group::new(), 0);
        while group.len() < GROUP_MODELS_MAX && bytes < GROUP_BYTES_MAX {
            let Some(key) = run.keys.last() else { break };
            let prepared = self.core.look_only(|snapshot| {
                // Without it nothing can be done: not worth compressing anything before.
                head::read(snapshot, key)?;
                let versions = superseded::read(snapshot, key)?.map_or(0, |left| left.compress.len());
                Ok((compress_left(snapshot, key, GROUP_BYTES_MAX - bytes)?, versions))
            });
            let (prepared, versions) = match prepared {
                Ok(prepared) => prepared,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    run.give_up(&key.clone(), error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            bytes +=
                prepared.iter().filter_map(|(_, packed)| packed.as_ref()).map(|packed| packed.raw_bytes).sum::<u64>();
            // One with more to compress than fits comes again.
            let is_whole = prepared.len() == versions;
            group.push((key.clone(), prepared));
            if !is_whole {
                break;
            }
            run.keys.pop();
        }
        Ok(group)
    }

    /// Commits what was prepared. One that is damaged does not keep the others waiting, and does not come again.
    fn see_to(self: &Arc<Self>, group: Group, run: &mut Run) -> Result<()> {
        let keys: Vec<ModelKey> = group.iter().map(|(key, _)| key.clone()).collect();
        let error = match self.commit_group(group) {
            Ok(some) => {
                run.done.add(some);
                return Ok(());
            }
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            Err(error) => error,
        };
        if let [key] = keys.as_slice() {
            run.give_up(key, error);
            return Ok(());
        }
        for key in keys {
            let mut alone = Run { keys: vec![key.clone()], ..Run::default() };
            let group = self.prepare(&mut alone)?;
            self.see_to(group, &mut alone)?;
            run.done.add(alone.done);
            if let Some(error) = alone.failed {
                run.give_up(&key, error);
            }
        }
        Ok(())
    }

    /// Makes the backlog what is in the file: models may have been removed meanwhile.
    fn compare_backlog(&self) -> Result<()> {
        // What is published from here on is noted after this.
        let _turn = self.core.turn();
        let left: HashSet<ModelKey> = self.core.look_only(superseded::keys)?.into_iter().collect();
        self.backlog.keep_only(&left);
        Ok(())
    }

    fn commit_group(self: &Arc<Self>, group: Group) -> Result<Maintained> {
        let mut finished = Vec::new();
        let change = |batch: &Batch| {
            batch.frees_room();
            let mut done = Maintained { models: group.len(), ..Maintained::default() };
            for (key, prepared) in group {
                let Finished { removed, compressed, is_all } = self.finish_left(batch, &key, prepared)?;
                done.removed += removed;
                done.compressed += compressed;
                if is_all {
                    finished.push(key);
                }
            }
            Ok(done)
        };
        let done = self.core.commit(MAINTAIN, change);
        if done.is_ok() {
            finished.iter().for_each(|key| self.backlog.remove(key));
        }
        done
    }
}

/// One run of maintenance.
#[derive(Default)]
struct Run {
    /// The models that are left, from the last to the first.
    keys: Vec<ModelKey>,
    done: Maintained,
    /// The first error that was about one model.
    failed: Option<Error>,
}

impl Run {
    /// Leaves a model as it is: something of it is damaged.
    fn give_up(&mut self, key: &ModelKey, error: Error) {
        tracing::error!(%key, %error, "its versions are not compressed or pruned");
        self.keys.retain(|other| other != key);
        self.failed.get_or_insert(error);
    }
}

/// Models with what was compressed of them.
type Group = Vec<(ModelKey, Vec<(Version, Option<Compressed>)>)>;

impl Maintained {
    fn add(&mut self, more: Self) {
        self.models += more.models;
        self.compressed += more.compressed;
        self.removed += more.removed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_bound_to_what_may_wait() {
        let (backlog, key) = (Backlog::default(), |i: u64| ModelKey::new("m", &i).unwrap());
        (0..4).for_each(|i| backlog.set(&key(i), BACKLOG_BYTES_MAX / 4 - 1));
        assert!(backlog.has_room());
        // A model counts once, however often it is published.
        (1..=5).for_each(|more| backlog.set(&key(0), BACKLOG_BYTES_MAX / 4 + more));
        assert!(!backlog.has_room() && backlog.len() == 4);
        backlog.remove(&key(0));
        assert!(backlog.has_room() && backlog.len() == 3);
        backlog.keep_only(&[key(1), key(7)].into());
        assert_eq!((backlog.len(), backlog.waiting().bytes_in_all), (1, BACKLOG_BYTES_MAX / 4 - 1));
        (0..4).for_each(|i| backlog.remove(&key(i)));
        assert_eq!((backlog.len(), backlog.waiting().bytes_in_all), (0, 0));
    }
}
