//! Following the current version of a model, for the inner loop of an engine.
//!
//! A [`Cell`] holds what is current and counts how often that changed; whoever publishes, rolls back or removes sets
//! it, on the writer's thread and under the registry's lock, after the hot tier. A [`Live`] remembers what it saw: as
//! long as the count is the same, that is all there is to look at.

use std::{
    any::TypeId,
    cell::{self, Ref, RefCell},
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    Inner, Store,
    counted::{Counted, UNSEEN},
    gate::Gate,
    held::{Decision, Held, Tier},
    holder::Entry,
    read::Found,
};
use crate::{
    archive::Model,
    error::{ErrorKind, Result},
    key::ModelKey,
    registry::metadata::Metadata,
    version::Version,
};

/// A handle that follows the current version of one model.
///
/// [`load`](Self::load) costs a comparison while nothing changed, and takes no lock when something did. Each thread has
/// a handle of its own: clone it for another one. The model that a handle has seen last stays in memory until the
/// handle sees the next one, or is dropped.
///
/// ```
/// # use modelkeep::{Model, ModelKey, Schema, Store, Trained};
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// let store = Store::in_memory()?;
/// let key = ModelKey::new("momentum", &())?;
/// let live = store.live::<Momentum>(&key)?;
/// assert!(live.load().is_none(), "nothing is published yet");
///
/// store.publish(&key, Trained::new(Momentum { weights: vec![0.5] }))?;
/// let on_another_thread = live.clone();
/// std::thread::spawn(move || {
///     let Some(model) = on_another_thread.load() else { return };
///     assert_eq!(model.weights[0].to_native(), 0.5);
/// }).join().unwrap();
/// # Ok::<(), modelkeep::Error>(())
/// ```
pub struct Live<M: Model> {
    cell: Arc<Cell>,
    /// The count at which `held` was current.
    seen: cell::Cell<u64>,
    held: RefCell<Option<Held<M>>>,
}

/// The model that was current when it was [loaded](Live::load): dereferences to the archived type.
///
/// While it lives, its handle goes on returning this very version, so that one prediction sees one model. Drop it
/// between predictions.
pub struct Current<'a, M: Model> {
    held: Ref<'a, Held<M>>,
}

/// What is current, shared by all handles of a key and a type.
pub(super) struct Cell {
    current: Counted<Entry>,
    key: ModelKey,
    /// Finds the current version again, as the type that is followed.
    find: fn(&Arc<Inner>, &ModelKey) -> Sight,
    inner: Weak<Inner>,
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
pub(super) struct Followed {
    cells: Mutex<HashMap<(ModelKey, TypeId), Weak<Cell>>>,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, HashMap<(ModelKey, TypeId), Weak<Cell>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a version that was published. The caller holds the writer's lock, so that they are shown in order.
    pub(super) fn show(&self, key: &ModelKey, entry: &Arc<Entry>) {
        let mut cells = self.lock();
        cells.retain(|_, cell| cell.strong_count() > 0);
        let followed = cells.iter().filter(|((known, _), _)| known == key).filter_map(|(_, cell)| cell.upgrade());
        followed.for_each(|cell| cell.current.set(Some(Arc::clone(entry))));
    }

    /// Looks again at what is current, after heads were moved or removed. The caller does not hold the writer's lock:
    /// what is found may have to be quarantined.
    pub(super) fn look_again(&self, inner: &Arc<Inner>, wanted: impl Fn(&ModelKey) -> bool) {
        let followed = |(_, cell): (_, &Weak<Cell>)| cell.upgrade().filter(|cell| wanted(&cell.key));
        let cells: Vec<_> = self.lock().iter().filter_map(followed).collect();
        let mut is_unreadable = false;
        for cell in &cells {
            is_unreadable |= self.refresh(cell, || (cell.find)(inner, &cell.key));
        }
        if is_unreadable {
            inner.look_at_followed_later();
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

impl Store {
    /// Returns a handle that follows the current version of a model, also if there is none yet.
    ///
    /// # Errors
    /// As for [`get`](Self::get): what is stored now cannot be read as an `M`.
    pub fn live<M: Model>(&self, key: &ModelKey) -> Result<Live<M>> {
        let cell = self.inner.cell::<M>(key);
        let mut failure = None;
        self.inner.followed.refresh(&cell, || match self.get::<M>(key) {
            Ok(found) => Sight::Seen(found.map(|held| Arc::clone(held.shared()))),
            Err(error) => {
                failure = Some(error);
                Sight::Dark
            }
        });
        failure.map_or(Ok(()), Err)?;
        // What a handle sees last may be large: it is freed on the background thread, which is started here.
        self.inner.worker.later(|_| {});
        Ok(Live { cell, seen: cell::Cell::new(UNSEEN), held: RefCell::new(None) })
    }
}

impl Inner {
    fn cell<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Arc<Cell> {
        let mut cells = self.followed.lock();
        let place = cells.entry((key.clone(), TypeId::of::<M>())).or_default();
        if let Some(cell) = place.upgrade() {
            return cell;
        }
        let find = |inner: &Arc<Self>, key: &ModelKey| match inner.find::<M>(key) {
            Found::Model(held) => Sight::Seen(Some(Arc::clone(held.shared()))),
            Found::Missing => Sight::Seen(None),
            Found::OtherSchema { stored, requested } => {
                tracing::warn!(%key, %stored, %requested, "a followed model has another schema now");
                Sight::Seen(None)
            }
            Found::Failed(error) => {
                tracing::error!(%key, %error, "a followed model cannot be read");
                match error.kind() {
                    _ if !inner.engine.sees() => Sight::Dark,
                    ErrorKind::Io | ErrorKind::Expired => Sight::Unreadable,
                    _ => Sight::Seen(None),
                }
            }
        };
        let (inner, gate) = (Arc::downgrade(self), Arc::clone(&self.gate));
        let cell = Arc::new(Cell { current: Counted::empty(), key: key.clone(), find, inner, gate });
        *place = Arc::downgrade(&cell);
        cell
    }
}

impl<M: Model> Live<M> {
    /// Returns the current version; `None` when there is none: not yet, not any more, or not of this schema.
    ///
    /// A new version is seen by the first call that begins after its publish returned, unless this handle's last
    /// [`Current`] is still alive. After a write whose outcome nobody could read, the version before it is shown until
    /// the file can be read, and what the file has some milliseconds later; and a version that cannot be read at the
    /// moment, after a rollback, is `None` until it can.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Option<Current<'_, M>> {
        if self.cell.current.count() != self.seen.get() {
            self.refresh();
        }
        Ref::filter_map(self.held.borrow(), Option::as_ref).ok().map(|held| Current { held })
    }

    /// Returns the key that is followed.
    #[must_use]
    pub fn key(&self) -> &ModelKey {
        &self.cell.key
    }

    #[cold]
    fn refresh(&self) {
        let Ok(mut held) = self.held.try_borrow_mut() else {
            return;
        };
        let (seen, entry) = self.cell.current.load();
        self.seen.set(seen);
        let next = entry.and_then(|entry| {
            let schema_fits = entry.metadata.schema.is(&M::SCHEMA);
            schema_fits.then(|| Held::new(entry, Tier::Hot, Decision::Fresh).ok()).flatten()
        });
        let last = std::mem::replace(&mut *held, next);
        if let Some(last) = last
            && Arc::strong_count(last.shared()) == 1
        {
            // Giving back many megabytes takes longer than a prediction may.
            self.cell.gate.with(&self.cell.inner, |inner| inner.worker.later(move |_| drop(last)));
        }
    }
}

impl<M: Model> Clone for Live<M> {
    fn clone(&self) -> Self {
        Self { cell: Arc::clone(&self.cell), seen: cell::Cell::new(UNSEEN), held: RefCell::new(None) }
    }
}

impl<M: Model> fmt::Debug for Live<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("key", &self.cell.key).finish_non_exhaustive()
    }
}

impl<M: Model> Current<'_, M> {
    /// Returns the version; `None` when it was trained and could not be stored.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.held.version()
    }

    /// Returns what the store knows of the model.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.held.metadata()
    }

    /// Returns the model to be held apart from the handle.
    #[must_use]
    pub fn to_held(&self) -> Held<M> {
        self.held.clone()
    }
}

impl<M: Model> Deref for Current<'_, M> {
    type Target = M::Archived;

    #[inline]
    fn deref(&self) -> &M::Archived {
        &self.held
    }
}

impl<M: Model> fmt::Debug for Current<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&*self.held).finish()
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;

    /// Of two that look again, after two rollbacks, the one that looked first set the cell last: it stayed there.
    #[test]
    fn who_was_overtaken_looks_again() {
        let key = ModelKey::new("m", &()).unwrap();
        let (inner, gate) = (Weak::new(), Arc::default());
        let cell = Cell { current: Counted::empty(), key, find: |_, _| Sight::Dark, inner, gate };
        let mut looks = 0;
        Followed::default().refresh(&cell, || {
            looks += 1;
            if looks == 1 {
                cell.current.set(None);
            }
            Sight::Seen(None)
        });
        assert_eq!((looks, cell.current.count()), (2, 2));
    }
}
