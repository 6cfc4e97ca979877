//! Those who follow the current version of a model, for the inner loop of an engine.
//!
//! A [`Cell`] holds what is current and counts how often that changed. It is set by a change, on the writer's thread
//! and in its turn, or by a look at the file after an I/O error. A [`Live`](super::super::live::Live) remembers what it
//! saw: as long as the count is the same, that is all there is to look at.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::{
    super::{
        Models,
        archive::Model,
        entry::{CountedEntry, Entry},
        live::counted::Counted,
    },
    change::{Change, PublishedModel},
    find::{Found, Located, Wanted},
    step::stands,
};
use crate::{
    core::Core,
    types::{
        error::{ErrorKind, Result},
        key::ModelKey,
    },
};

/// What is current, shared by all handles of a key and a type.
pub(in super::super) struct Cell {
    pub(in super::super) current: Counted<CountedEntry>,
    pub(in super::super) key: ModelKey,
    wanted: Wanted,
    retired: Mutex<Retired>,
    core: Weak<Core>,
}

/// What was current, for as long as a handle has it: so that no handle is the last to let go of a model, and spends the
/// time on a trading thread that it takes to give back many megabytes.
#[derive(Default)]
struct Retired {
    entries: Vec<Arc<CountedEntry>>,
    /// It will be looked at again.
    is_swept: bool,
}

/// When what was retired is looked at for the first time, and how far apart later looks are at most.
const SWEEP_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// What a look at a key came to.
enum Sight {
    /// A model, or none.
    Seen(Option<Arc<Entry>>),
    /// There is a model that cannot be read now: better none than the one before. It is looked at again.
    Unreadable,
    /// What is current cannot be read now: what was seen stays until it can.
    Dark,
    /// What is shown.
    Same,
}

/// Every cell that somebody follows.
#[derive(Default)]
pub(super) struct Followers {
    cells: Mutex<HashMap<(ModelKey, TypeId), Weak<Cell>>>,
}

impl Followers {
    fn lock(&self) -> MutexGuard<'_, HashMap<(ModelKey, TypeId), Weak<Cell>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells(&self, wanted: impl Fn(&ModelKey) -> bool) -> Vec<Arc<Cell>> {
        let mut cells = self.lock();
        cells.retain(|_, cell| cell.strong_count() > 0);
        cells.iter().filter(|((key, _), _)| wanted(key)).filter_map(|(_, cell)| cell.upgrade()).collect()
    }

    /// Shows a change, in the turn of its writer. Returns the model that was looked for and found, if one was.
    pub(super) fn apply(&self, models: &Arc<Models>, change: &Change) -> Option<Arc<Entry>> {
        let mut seen = None;
        match change {
            Change::Published(PublishedModel { key, entry }) => {
                // Under the lock, so that a look that began earlier does not come later.
                let cells = self.cells(|known| known == key);
                let _cells = self.lock();
                cells.iter().for_each(|cell| cell.show(Some(entry)));
            }
            Change::Moved { .. } | Change::Removed { .. } | Change::Quarantined { .. } | Change::Unknown { .. } => {
                let mut is_unreadable = false;
                for cell in self.cells(|known| change.covers(known)) {
                    is_unreadable |= self.refresh(&cell, || {
                        let found = models.find_in_turn(&cell.key, &cell.wanted);
                        if let Found::Damaged(version, error) = &found {
                            // A commit of its own.
                            let (key, version, reason) = (cell.key.clone(), *version, error.to_string());
                            models.core.later(Duration::ZERO, models, move |models, _| {
                                models.quarantine(&key, version, &reason);
                            });
                        }
                        if let Found::Model((entry, _)) = &found {
                            seen = Some(Arc::clone(entry));
                        }
                        match models.sight(&cell.key, found) {
                            // The change is there, so what was seen before is not current any more.
                            Sight::Dark => Sight::Unreadable,
                            sight => sight,
                        }
                    });
                }
                if is_unreadable {
                    models.look_later();
                }
            }
        }
        seen
    }

    /// Looks again at what is current; says whether all of it could be read. Not to be called in a turn to write: what is
    /// found may have to be quarantined.
    pub(super) fn look_again(&self, models: &Arc<Models>) -> bool {
        let mut is_unreadable = false;
        for cell in self.cells(|_| true) {
            is_unreadable |= self.refresh(&cell, || models.look_for(&cell));
        }
        !is_unreadable
    }

    /// Sets a cell to what `find` finds; again, when somebody sets it meanwhile, who may have looked earlier. Says
    /// whether it is to be looked at again.
    fn refresh(&self, cell: &Arc<Cell>, mut find: impl FnMut() -> Sight) -> bool {
        loop {
            let count = cell.current.count();
            let (found, is_unreadable) = match find() {
                Sight::Seen(found) => (found, false),
                Sight::Unreadable => (None, true),
                Sight::Dark => return true,
                Sight::Same => return false,
            };
            let _cells = self.lock();
            if cell.current.count() == count {
                cell.show(found.as_ref());
                return is_unreadable;
            }
        }
    }
}

impl Models {
    /// The cell of a key and a type, which shows what is current.
    pub(in super::super) fn follow<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Result<Arc<Cell>> {
        let cell = self.cell::<M>(key);
        let mut failure = None;
        self.tiers.followers.refresh(&cell, || match self.get::<M>(key) {
            Ok(found) => Sight::Seen(found.map(|held| Arc::clone(held.shared()))),
            Err(error) => {
                failure = Some(error);
                Sight::Dark
            }
        });
        failure.map_or(Ok(cell), Err)
    }

    fn cell<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Arc<Cell> {
        let mut cells = self.tiers.followers.lock();
        let place = cells.entry((key.clone(), TypeId::of::<M>())).or_default();
        if let Some(cell) = place.upgrade() {
            return cell;
        }
        let cell = Arc::new(Cell {
            current: Counted::empty(),
            key: key.clone(),
            wanted: Wanted::of::<M>(),
            retired: Mutex::default(),
            core: Arc::downgrade(&self.core),
        });
        *place = Arc::downgrade(&cell);
        cell
    }

    /// What those who follow a model are to see after a search for it.
    fn sight(&self, key: &ModelKey, found: Found<Located>) -> Sight {
        match found {
            Found::Model((entry, _)) => Sight::Seen(Some(entry)),
            Found::Missing => Sight::Seen(None),
            Found::OtherSchema { stored, requested } => {
                tracing::warn!(%key, %stored, %requested, "a followed model has another schema now");
                Sight::Seen(None)
            }
            Found::Failed(error) | Found::Damaged(_, error) => {
                tracing::error!(%key, %error, "a followed model cannot be read");
                match error.kind() {
                    _ if !self.core.sees() => Sight::Dark,
                    ErrorKind::Io | ErrorKind::Expired => Sight::Unreadable,
                    _ => Sight::Seen(None),
                }
            }
        }
    }

    /// What those who follow a cell are to see now. As long as nobody can read what is current, that is what they see.
    fn look_for(self: &Arc<Self>, cell: &Cell) -> Sight {
        let (_, shown) = cell.current.load();
        let current = self.core.look(|snapshot| match &shown {
            Some(shown) => stands(snapshot, &cell.key, &shown.entry),
            None => Ok(false),
        });
        match current {
            Ok(true) => Sight::Same,
            Ok(false) => self.sight(&cell.key, self.search_for(&cell.key, &cell.wanted)),
            Err(error) => {
                tracing::warn!(key = %cell.key, %error, "what is current of a followed model cannot be read");
                Sight::Dark
            }
        }
    }
}

impl Cell {
    /// Shows `entry` to those who follow, if it is of their schema. One at a time, by one who uses the store.
    fn show(self: &Arc<Self>, entry: Option<&Arc<Entry>>) {
        let fitting = entry.filter(|entry| entry.metadata.schema.is(&self.wanted.schema));
        let next = fitting.and_then(|entry| CountedEntry::followed(entry, self.wanted.root).ok());
        let Some(last) = self.current.set(next.map(Arc::new)) else {
            return;
        };
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.entries.push(last);
        if !retired.is_swept
            && let Some(core) = self.core.upgrade()
        {
            retired.is_swept = self.sweep_later(&core, SWEEP_PAUSES[0]);
        }
    }

    /// Lets go of what no handle has any more, when there is no store that would do so. Says whether there is none.
    pub(in super::super) fn sweep_without_store(&self) -> bool {
        let is_alone = self.core.strong_count() == 0;
        if is_alone {
            self.free();
        }
        is_alone
    }

    /// Lets go of what no handle has any more; says whether that was all.
    fn free(&self) -> bool {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can take it again: it is in no place where one looks.
        let (free, held) = retired.entries.drain(..).partition(|entry| Arc::strong_count(entry) == 1);
        retired.entries = held;
        retired.is_swept = !retired.entries.is_empty();
        let is_all = !retired.is_swept;
        drop(retired);
        drop::<Vec<_>>(free);
        is_all
    }

    /// Says whether it will be done.
    fn sweep_later(self: &Arc<Self>, core: &Arc<Core>, pause: Duration) -> bool {
        let cell = Arc::downgrade(self);
        core.later(pause, core, move |core, stop| {
            if let Some(cell) = cell.upgrade().filter(|_| !stop.is_set()) {
                cell.sweep(core, pause);
            }
        })
    }

    /// Lets go of what no handle has any more, on the thread in the background.
    fn sweep(self: &Arc<Self>, core: &Arc<Core>, pause: Duration) {
        if !self.free() && !self.sweep_later(core, (2 * pause).min(SWEEP_PAUSES[1])) {
            self.retired.lock().unwrap_or_else(PoisonError::into_inner).is_swept = false;
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for cell in self.cells(|_| true) {
            cell.free();
        }
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;
    use crate::format::schema::Schema;

    /// Of two that look again, after two rollbacks, the one that looked first set the cell last: it stayed there.
    #[test]
    fn who_was_overtaken_looks_again() {
        let key = ModelKey::new("m", &()).unwrap();
        let wanted = Wanted {
            schema: Schema::new("m", 1),
            check: |_| unreachable!("nothing is read"),
            root: |_| unreachable!("nothing is shown"),
        };
        let (retired, core) = (Mutex::default(), Weak::new());
        let cell = Arc::new(Cell { current: Counted::empty(), key, wanted, retired, core });
        let mut looks = 0;
        Followers::default().refresh(&cell, || {
            looks += 1;
            if looks == 1 {
                cell.show(None);
            }
            Sight::Seen(None)
        });
        assert_eq!((looks, cell.current.count()), (2, 2));
    }
}
