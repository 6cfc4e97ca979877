//! Those who follow the current version of a model, for the inner loop of an engine.
//!
//! A [`Cell`] holds what is current and counts how often that changed. It is set by a change, on the writer's thread and
//! in its turn, or by a look at the file after an I/O error. A [`Live`](super::super::live::Live) remembers what it saw:
//! as long as the count is the same, that is all there is to look at.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    super::{Models, archive::Model, entry::Entry, live::counted::Counted},
    change::{Change, PublishedModel},
    find::{Found, Located, Wanted},
};
use crate::{
    core::Core,
    sync::gate::Gate,
    types::{
        error::{ErrorKind, Result},
        key::ModelKey,
    },
};

/// What is current, shared by all handles of a key and a type.
pub(in super::super) struct Cell {
    pub(in super::super) current: Counted<Entry>,
    pub(in super::super) key: ModelKey,
    wanted: Wanted,
    core: Weak<Core>,
    gate: Arc<Gate>,
}

/// What a look at a key came to.
enum Sight {
    /// A model, or none.
    Seen(Option<Arc<Entry>>),
    /// There is a model that cannot be read now: better none than the one before. It is looked at again.
    Unreadable,
    /// The newest commit cannot be looked at now. Whoever made it sees to it that all is looked at again when it can.
    Dark,
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

    /// Shows a change, in the turn of its writer.
    pub(super) fn apply(&self, models: &Arc<Models>, change: &Change) {
        match change {
            Change::Published(PublishedModel { key, entry }) => {
                // Under the lock, so that a look that began earlier does not come later.
                let cells = self.cells(|known| known == key);
                let _cells = self.lock();
                cells.iter().for_each(|cell| cell.current.set(Some(Arc::clone(entry))));
            }
            Change::Moved { .. } | Change::Removed { .. } | Change::Quarantined { .. } => {
                let mut is_unreadable = false;
                for cell in self.cells(|known| change.keys().any(|key| key == known)) {
                    is_unreadable |= self.refresh(&cell, || {
                        let found = models.find_in_turn(&cell.key, &cell.wanted);
                        if let Found::Damaged(version, error) = &found {
                            // A commit of its own.
                            let (key, version, reason) = (cell.key.clone(), *version, error.to_string());
                            models.core.later(models, move |models, _| models.quarantine(&key, version, &reason));
                        }
                        models.sight(&cell.key, found)
                    });
                }
                if is_unreadable {
                    models.look_at_followed_later();
                }
            }
        }
    }

    /// Looks again at what is current. Not to be called in a turn to write: what is found may have to be quarantined.
    pub(super) fn look_again(&self, models: &Arc<Models>, wanted: impl Fn(&ModelKey) -> bool) {
        let mut is_unreadable = false;
        for cell in self.cells(wanted) {
            is_unreadable |=
                self.refresh(&cell, || models.sight(&cell.key, models.search_for(&cell.key, &cell.wanted)));
        }
        if is_unreadable {
            models.look_at_followed_later();
        }
    }

    /// Sets a cell to what `find` finds; again, when somebody sets it meanwhile, who may have looked earlier. Says
    /// whether it is to be looked at again.
    fn refresh(&self, cell: &Cell, mut find: impl FnMut() -> Sight) -> bool {
        loop {
            let count = cell.current.count();
            let (found, is_unreadable) = match find() {
                Sight::Seen(found) => (found, false),
                Sight::Unreadable => (None, true),
                Sight::Dark => return false,
            };
            let _cells = self.lock();
            if cell.current.count() == count {
                cell.current.set(found);
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
        let (core, gate) = (Arc::downgrade(&self.core), Arc::clone(self.core.gate()));
        let cell =
            Arc::new(Cell { current: Counted::empty(), key: key.clone(), wanted: Wanted::of::<M>(), core, gate });
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

    /// Has another thread look again at all models that are followed: one of them could not be read.
    fn look_at_followed_later(self: &Arc<Self>) {
        self.core.pause();
        self.core.later(self, |models, stop| {
            if !stop.is_set() {
                models.tiers.followers.look_again(models, |_| true);
            }
        });
    }
}

impl Cell {
    /// Has the thread in the background do `job`, unless the store is closed by then.
    pub(in super::super) fn later(&self, job: impl FnOnce() + Send + 'static) {
        self.gate.with(&self.core, |core| core.run_later(move |_| job()));
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
        let wanted = Wanted { schema: Schema::new("m", 1), check: |_| unreachable!("nothing is read") };
        let cell = Cell { current: Counted::empty(), key, wanted, core: Weak::new(), gate: Arc::default() };
        let mut looks = 0;
        Followers::default().refresh(&cell, || {
            looks += 1;
            if looks == 1 {
                cell.current.set(None);
            }
            Sight::Seen(None)
        });
        assert_eq!((looks, cell.current.count()), (2, 2));
    }
}
