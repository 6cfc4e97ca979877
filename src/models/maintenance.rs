//! Doing what publishes left for later, in commits of its own: on the store's thread in the background, when somebody
//! asks for it, and before the store is closed.
//!
//! What is left is in the file, so that nothing is forgotten by a restart. The [backlog](super::backlog) in memory says
//! that there is something, and how much.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use super::{
    Models,
    catalog::{head, superseded},
    retention::{Compressed, Finished, Leftover, compress_left, left_bytes},
    settings::Maintenance,
};
use crate::{
    core::Outcome,
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
/// Models of one commit.
const GROUP_MODELS_MAX: usize = 64;
/// Bytes of archives that are compressed for one commit, and held until it is made.
const GROUP_BYTES_MAX: u64 = 32 << 20;

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
    /// Models of which nothing is left to be done.
    pub models: usize,
    /// Superseded versions that were compressed.
    pub compressed: usize,
    /// Versions beyond the retention that were removed.
    pub removed: usize,
}

impl Models {
    /// Notes what publishes left. Called in the turn of the publish, so that maintenance cannot come in between.
    pub(super) fn note_leftovers<'a>(&self, left: impl Iterator<Item = (&'a ModelKey, Option<Leftover>)>) {
        for (key, left) in left {
            match left {
                Some(Leftover { bytes }) => self.backlog.set(key, bytes),
                None => self.backlog.remove(key),
            }
        }
    }

    /// Has what was just left seen to, and all else that waits.
    pub(super) fn maintain_soon(self: &Arc<Self>) {
        self.maintain_later(PAUSE);
    }

    /// Goes on with what a store left that had the file open before.
    pub(crate) fn resume_maintenance(self: &Arc<Self>) {
        if self.core.is_read_only() {
            return;
        }
        let left = |snapshot: &Snapshot| {
            let of = |key: ModelKey| {
                let left = superseded::read(snapshot, &key)?.unwrap_or_default();
                Ok((key.clone(), left_bytes(snapshot, &key, &left)?))
            };
            superseded::keys(snapshot)?.0.into_iter().map(of).collect::<Result<Vec<_>>>()
        };
        match self.core.look_only(left) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                self.note_leftovers(left.iter().map(|(key, bytes)| (key, Some(Leftover { bytes: *bytes }))));
                self.maintain_soon();
            }
            Err(error) => tracing::warn!(%error, "what is left to compress and to prune cannot be read"),
        }
    }

    /// Does all that is left.
    pub(crate) fn run_maintenance(self: &Arc<Self>) -> Result<Maintained> {
        self.core.check_writable(MAINTAIN)?;
        let run = self.maintain_until(&|| false);
        run.failed.map_or(Ok(run.done), Err)
    }

    /// Does what is left before the file is closed, unless `others` have it open. What cannot be done now is done when
    /// the store is opened again.
    pub(super) fn finish_maintenance(self: &Arc<Self>, others: usize) {
        if self.core.is_read_only() || others > 0 {
            return;
        }
        if let Err(error) = self.run_maintenance() {
            tracing::warn!(%error, "some versions are not compressed or pruned yet");
        }
    }

    /// Does what is left because the file is full. Says whether anything came of it, whatever else failed.
    pub(super) fn make_room(self: &Arc<Self>) -> bool {
        let done = self.maintain_until(&|| false).done;
        done.removed + done.compressed > 0
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
            match models.maintain_until(&|| stop.is_set() || models.core.gate().is_shut()).failed {
                None => models.backlog.failures.store(0, Ordering::Relaxed),
                // It does not become better by being tried again; and it was logged.
                Some(error) if error.kind() == ErrorKind::Corrupt => {}
                Some(error) => {
                    tracing::warn!(%error, "some versions are not compressed or pruned yet");
                    let failures = models.backlog.failures.fetch_add(1, Ordering::Relaxed).min(6);
                    models.maintain_later(RETRY * 2_u32.pow(failures));
                }
            }
        });
    }

    /// Does what is left, a group of models a commit, until it is told to stop. Goes on with the others when one fails.
    fn maintain_until(self: &Arc<Self>, stopped: &dyn Fn() -> bool) -> Run {
        let _one = self.backlog.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut run = Run::default();
        if let Err(error) = self.maintain(&mut run, stopped) {
            run.failed.get_or_insert(error);
        }
        run
    }

    fn maintain(self: &Arc<Self>, run: &mut Run, stopped: &dyn Fn() -> bool) -> Result<()> {
        (run.keys, run.failed) = self.core.look_only(superseded::keys)?;
        // They are taken off the end.
        run.keys.reverse();
        while !run.keys.is_empty() {
            let group = self.prepare(run, stopped)?;
            if stopped() {
                return Ok(());
            }
            self.commit_or_part(group, run, stopped)?;
        }
        self.compare_backlog()
    }

    /// Takes keys off the end, and compresses what is to be compressed of them, until it is enough for a commit.
    fn prepare(&self, run: &mut Run, stopped: &dyn Fn() -> bool) -> Result<Group> {
        let (mut group, mut bytes) = (Group::new(), 0);
        while group.len() < GROUP_MODELS_MAX && bytes < GROUP_BYTES_MAX && !stopped() {
            let Some(key) = run.keys.last() else { break };
            let prepared = self.core.look_only(|snapshot| {
                // Without it nothing can be done: not worth compressing anything before.
                head::read(snapshot, key)?;
                let left = superseded::read(snapshot, key)?.unwrap_or_default();
                Ok((compress_left(snapshot, key, &left, GROUP_BYTES_MAX - bytes)?, left.compress.len()))
            });
            let (prepared, versions) = match prepared {
                Ok(prepared) => prepared,
                // A disk may be unable to read this, and everything else.
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {
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

    /// Commits what was prepared; model by model, if one of them is damaged. Such a one does not keep the others
    /// waiting, and does not come again.
    fn commit_or_part(self: &Arc<Self>, group: Group, run: &mut Run, stopped: &dyn Fn() -> bool) -> Result<()> {
        let keys: Vec<ModelKey> = group.iter().map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return Ok(());
        }
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
            let group = self.prepare(&mut alone, stopped)?;
            self.commit_or_part(group, &mut alone, stopped)?;
            run.done.add(alone.done);
            if let Some(error) = alone.failed {
                run.give_up(&key, error);
            }
        }
        Ok(())
    }

    /// Makes the backlog what is in the file: models may have been removed meanwhile.
    fn compare_backlog(&self) -> Result<()> {
        let _turn = self.core.turn();
        let left: HashSet<ModelKey> = self.core.look_only(superseded::keys)?.0.into_iter().collect();
        self.backlog.keep_only(&left);
        Ok(())
    }

    fn commit_group(self: &Arc<Self>, group: Group) -> Result<Maintained> {
        let change = |batch: &Batch| {
            batch.frees_room();
            let (mut done, mut finished) = (Maintained::default(), Vec::new());
            for (key, prepared) in group {
                let Finished { removed, compressed, is_all } = self.finish_left(batch, &key, prepared)?;
                done.removed += removed;
                done.compressed += compressed;
                if is_all {
                    finished.push(key);
                }
            }
            done.models = finished.len();
            Ok((done, finished))
        };
        let show = |(), (_, finished): &(Maintained, Vec<ModelKey>), outcome| {
            if outcome == Outcome::Done {
                finished.iter().for_each(|key| self.backlog.remove(key));
            }
        };
        let ((done, _), doubt) = self.core.commit_shown(MAINTAIN, change, |_| (), show)?;
        doubt.map_or(Ok(done), Err)
    }
}

/// One run of maintenance.
#[derive(Default)]
struct Run {
    /// The models that are left, from the last to the first.
    keys: Vec<ModelKey>,
    done: Maintained,
    /// The first error.
    failed: Option<Error>,
}

impl Run {
    /// Leaves a model as it is: something of it cannot be read.
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
