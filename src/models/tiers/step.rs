//! Bringing memory and followers in step with the file, after an I/O error.
//!
//! What the file has otherwise is forgotten, or shown. What cannot be read does not take the place of what is shown: it
//! is compared again until it can. So a model that nobody wrote is served and followed whatever else cannot be read.
//! (What a write of unknown outcome was about is taken out of memory when that write ends.)

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use super::{
    super::{
        Models,
        catalog::{self, head},
        entry::Entry,
        staged::SeenHead,
    },
    change::Change,
};
use crate::{
    core::{LOOK_AGAIN, OutOfStep, Turn},
    engine::Snapshot,
    types::{
        error::{ErrorKind, Result},
        key::ModelKey,
    },
};

/// What is yet to be compared with the file.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    /// Memory is. Changed in a turn to write.
    memory: AtomicBool,
    /// The thread in the background is about to look.
    is_due: AtomicBool,
    /// How often it has looked in vain.
    looks: AtomicU32,
}

/// Pauses between looks double as often as this.
const DOUBLED_MAX: u32 = 4;

impl Models {
    /// Brings memory and followers in step with the file. Not to be called in a turn to write.
    pub(in super::super) fn step_in(self: &Arc<Self>, why: OutOfStep) {
        if why == OutOfStep::Surprised {
            let turn = self.core.turn();
            self.tiers.unsure.memory.store(true, Ordering::Release);
            self.tell(&Change::Unknown { keys: Vec::new() });
            drop(turn);
        }
        self.tiers.unsure.looks.store(0, Ordering::Relaxed);
        self.compare();
    }

    /// Has memory compared with the file when that can be read.
    pub(in super::super) fn compare_later(self: &Arc<Self>, _turn: &Turn<'_>) {
        self.tiers.unsure.memory.store(true, Ordering::Release);
        self.look_later();
    }

    fn compare(self: &Arc<Self>) {
        let is_sure = self.forget_changed();
        // What is looked for is looked for in memory first.
        let is_followed = self.tiers.followers.look_again(self);
        if !is_sure || !is_followed {
            self.look_later();
        }
    }

    /// Has another thread look again: something could not be read.
    pub(super) fn look_later(self: &Arc<Self>) {
        let unsure = &self.tiers.unsure;
        if unsure.is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let doubled = unsure.looks.fetch_add(1, Ordering::Relaxed).min(DOUBLED_MAX);
        self.core.later(LOOK_AGAIN * 2_u32.pow(doubled), self, |models, stop| {
            models.tiers.unsure.is_due.store(false, Ordering::Release);
            if !stop.is_set() {
                models.compare();
            }
        });
    }

    /// Takes out of memory what the file has otherwise, or not any more. Says whether everything could be compared.
    fn forget_changed(&self) -> bool {
        let unsure = &self.tiers.unsure.memory;
        if !unsure.load(Ordering::Acquire) {
            return true;
        }
        let _turn = self.core.turn();
        let memory = self.tiers.memory.update();
        let entries = self.tiers.memory.entries();
        let compared = self.core.look_only(|snapshot| {
            let (mut changed, mut is_sure) = (HashSet::new(), true);
            for (key, entry) in &entries {
                match stands(snapshot, key, entry) {
                    Ok(true) => {}
                    Ok(false) => drop(changed.insert(key.clone())),
                    Err(err) if err.kind() == ErrorKind::Expired => return Err(err),
                    Err(_) => is_sure = false,
                }
            }
            Ok((changed, is_sure))
        });
        let Ok((changed, is_sure)) = compared else {
            return false;
        };
        memory.remove_if(|key, _| changed.contains(key));
        unsure.store(!is_sure, Ordering::Release);
        is_sure
    }
}

/// Whether what is shown of a model is what the file has. One that is not in the file stands as long as the file has what
/// it had when the model was trained, or, if nobody could read that, nothing.
pub(super) fn stands(snapshot: &Snapshot, key: &ModelKey, entry: &Entry) -> Result<bool> {
    let is_unstored = entry.metadata.version.is_none();
    let compared = if is_unstored {
        head::read(snapshot, key).map(|head| {
            let current = head.and_then(|head| head.current);
            match entry.trained_over {
                SeenHead::Current(seen) => current == seen,
                SeenHead::Unread => current.is_none(),
            }
        })
    } else {
        catalog::current(snapshot, key)
            .map(|current| current.is_some_and(|(_, stored)| stored.metadata == entry.metadata))
    };
    match compared {
        // Damage stays what it is: one that is nowhere else stays, and any other is looked for again, and reported.
        Err(err) if err.kind() == ErrorKind::Corrupt => Ok(is_unstored),
        compared => compared,
    }
}
