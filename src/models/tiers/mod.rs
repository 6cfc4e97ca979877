//! The order of tiers, and the one place that shows a change.
//!
//! A model is looked for in memory, then in the file, then in the [tiers of others](ModelTier), and then it is trained
//! ([`train`](super::train)); what is found is admitted to memory. The file comes before the tiers of others because it
//! is nearer: they may be on another machine.
//!
//! A [`Change`] is shown to memory, to those who follow the model and to the tiers of others, in this order, after its
//! commit and before its writer's turn ends. Memory and followers are private to [`Tiers`], and `show` is the only
//! function that shows them a change; what is loaded is admitted only if no change came between, and what they forget
//! they look for again. So none shows an older version than the last one that was committed here. Commits that change
//! no model do not pass through here.
//!
//! After an I/O error [`step`] compares what is shown with what the file has.

mod change;
mod disk;
mod find;
mod followers;
mod others;
mod preload;
mod step;

use std::{fmt, sync::Arc};

pub use change::{Change, ModelTier, PublishedModel, TierError, TierModel};
pub(super) use find::{Found, Wanted};
pub(super) use followers::Cell;
pub use preload::{PreloadReport, Preloaded};

use super::{Models, entry::Entry, settings::ModelSettings};
use crate::{
    cache::{Admission, Cache, Lookup, Occupancy, UpdateGuard},
    core::{Outcome, Turn},
    engine::Batch,
    sync::counters::Counter,
    types::{
        clock::Clock,
        error::{Error, Result},
        key::ModelKey,
    },
};
use followers::Followers;
use step::Unsure;

/// Where a store keeps models besides its file, and who follows them.
pub(super) struct Tiers {
    memory: Cache<Entry>,
    others: Vec<Arc<dyn ModelTier>>,
    followers: Followers,
    unsure: Unsure,
}

impl Tiers {
    pub(super) fn new(settings: &ModelSettings, others: Vec<Arc<dyn ModelTier>>) -> Self {
        let memory = Cache::new(settings.hot_bytes, settings.hot_max_age);
        Self { memory, others, followers: Followers::default(), unsure: Unsure::default() }
    }

    /// Whether there are tiers besides memory and the file.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// What memory has of a model.
    pub(super) fn in_memory(&self, key: &ModelKey, clock: &Arc<dyn Clock>) -> Lookup<Entry> {
        self.memory.get(key, clock)
    }

    /// How full memory is.
    pub(super) fn occupancy(&self) -> Occupancy {
        self.memory.occupancy()
    }
}

impl Models {
    /// Runs `change` in one transaction, commits it, and shows what it says that it changed.
    pub(super) fn commit<T>(
        self: &Arc<Self>,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<(T, Vec<Change>)>,
    ) -> Result<T> {
        let (value, doubt) = self.commit_or_doubt(operation, change, |_| ())?;
        doubt.map_or(Ok(value), Err)
    }

    /// The same; `note` is told what is in the file, or may be, before anybody else writes. The error that comes with a
    /// value is about what cannot be taken back: see [`Core::commit_shown`].
    ///
    /// [`Core::commit_shown`]: crate::core::Core::commit_shown
    pub(super) fn commit_or_doubt<T>(
        self: &Arc<Self>,
        operation: &'static str,
        change: impl FnOnce(&Batch) -> Result<(T, Vec<Change>)>,
        note: impl FnOnce(&T),
    ) -> Result<(T, Option<Error>)> {
        // Loads that are under way may bring what the commit makes old. What changes no model is in nobody's way.
        let begin = |(_, changes): &(T, Vec<Change>)| (!changes.is_empty()).then(|| self.tiers.memory.update());
        let show = |update: Option<UpdateGuard<'_, Entry>>, (value, changes): &(T, Vec<Change>), outcome| {
            note(value);
            if let Some(update) = update {
                self.show(&update, changes, outcome);
            }
        };
        let ((value, _), doubt) = self.core.commit_shown(operation, change, begin, show)?;
        Ok((value, doubt))
    }

    /// Shows what no commit goes with: a model that could not be stored, or a version that nobody can quarantine in the
    /// file.
    pub(super) fn show_uncommitted(self: &Arc<Self>, _turn: &Turn<'_>, change: Change) {
        self.show(&self.tiers.memory.update(), &[change], Outcome::Done);
    }

    fn show(self: &Arc<Self>, memory: &UpdateGuard<'_, Entry>, changes: &[Change], outcome: Outcome) {
        for change in changes {
            match change {
                // Asked for again in the file; followers are told when it can be read.
                _ if outcome == Outcome::Unknown => {
                    memory.remove_if(|key, _| change.covers(key));
                    self.tell(&Change::Unknown { keys: change.keys().cloned().collect() });
                    continue;
                }
                Change::Published(PublishedModel { key, entry }) => self.remember(memory, key, entry),
                Change::Moved { key, .. } | Change::Quarantined { key, .. } => memory.remove(key),
                Change::Removed { .. } | Change::Unknown { .. } => memory.remove_if(|key, _| change.covers(key)),
            }
            let found = self.tiers.followers.apply(self, change);
            if let (Change::Moved { key, .. }, Some(entry)) = (change, found) {
                self.remember(memory, key, &entry);
            }
            if change.is_stored() {
                self.tell(change);
            }
        }
    }

    fn remember(&self, memory: &UpdateGuard<'_, Entry>, key: &ModelKey, entry: &Arc<Entry>) {
        let evicted = memory.replace(key, self.admission(Arc::clone(entry)));
        self.counters.add(Counter::Evictions, evicted);
    }

    /// What to put into memory for an entry.
    fn admission(&self, value: Arc<Entry>) -> Admission<Entry> {
        Admission { weight: value.weight(), value, now: self.core.now() }
    }

    /// Takes what the file has out of memory. A model that could not be stored stays: it is nowhere else.
    fn forget_stored(&self, _turn: &Turn<'_>) {
        self.tiers.memory.update().remove_if(|_, entry| entry.metadata.version.is_some());
    }

    /// Drops every model from memory.
    pub(crate) fn clear_memory(&self) {
        self.tiers.memory.clear();
    }

    /// Empties memory for a file that takes the place of this one: what is hot would keep the old one.
    pub(crate) fn move_over(&self, turn: &Turn<'_>) {
        self.forget_stored(turn);
    }
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory.fmt(f)
    }
}
