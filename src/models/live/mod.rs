//! A handle that follows the current version of a model.

pub(super) mod counted;

use std::{
    cell::{self, Ref, RefCell},
    fmt,
    ops::Deref,
    sync::Arc,
};

use super::{
    Models,
    archive::{ArchiveRef, Model},
    catalog::metadata::Metadata,
    entry::CountedEntry,
    model_ref::ModelRef,
    tiers::Cell,
};
use crate::types::{error::Result, key::ModelKey, version::Version};
use counted::UNSEEN;

/// A handle that follows the current version of one model.
///
/// [`load`](Self::load) costs a comparison while nothing changed, and takes no lock when something did. Each thread has
/// a handle of its own: clone it for another one. The model that a handle has seen last stays in memory until the
/// handle sees the next one, or is dropped.
///
/// ```
/// # use modelkeep::{Model, ModelKey, Schema, Store, NewModel};
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// let store = Store::in_memory()?;
/// let key = ModelKey::new("momentum", &())?;
/// let live = store.live::<Momentum>(&key)?;
/// assert!(live.load().is_none(), "nothing is published yet");
///
/// store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?;
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
    held: RefCell<Option<ArchiveRef<M, Arc<CountedEntry>>>>,
}

/// The model that was current when it was [loaded](Live::load): dereferences to the archived type.
///
/// While it lives, its handle goes on returning this very version, so that one prediction sees one model. Drop it
/// between predictions.
pub struct Current<'a, M: Model> {
    held: Ref<'a, ArchiveRef<M, Arc<CountedEntry>>>,
}

impl Models {
    /// Returns a handle that follows the current version of a model.
    pub(crate) fn live<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Result<Live<M>> {
        let cell = self.follow::<M>(key)?;
        Ok(Live { cell, seen: cell::Cell::new(UNSEEN), held: RefCell::new(None) })
    }
}

impl<M: Model> Live<M> {
    /// Returns the current version; `None` when there is none: not yet, not any more, or not of this schema.
    ///
    /// A new version is seen by the first call that begins after its publish returned, unless this handle's last
    /// [`Current`] is still alive. After a write whose outcome nobody could read, the version before it is shown until
    /// the file can be read, and what the file has some milliseconds later; models that nobody wrote are shown all the
    /// while. A version that is known to be current and cannot be read at the moment, after a rollback, is `None` until
    /// it can.
    ///
    /// A call frees nothing and makes no system call, from this thread's second one on, as long as there is a store: its
    /// background thread frees what was shown before. After the last store was dropped nobody else would, so that the
    /// first call that finds another version takes a lock, and frees the one before on this thread.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let live = store.live::<Momentum>(&key)?;
    /// store.publish(&key, trained())?;
    /// let current = live.load().expect("it is published");
    /// assert_eq!(current.weights[0].to_native(), 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn load(&self) -> Option<Current<'_, M>> {
        if self.cell.current.count() != self.seen.get() {
            self.refresh();
        }
        Ref::filter_map(self.held.borrow(), Option::as_ref).ok().map(|held| Current { held })
    }

    /// Returns the key that is followed.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// assert_eq!(store.live::<Momentum>(&key)?.key(), &key);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        // What was there before is kept by the cell until nobody has it: this thread frees nothing.
        *held = entry.and_then(ArchiveRef::known);
        drop(held);
        self.cell.sweep_without_store();
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
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let live = store.live::<Momentum>(&key)?;
    /// let version = store.publish(&key, trained())?;
    /// assert_eq!(live.load().and_then(|current| current.version()), Some(version));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.held.holder().entry.metadata.version
    }

    /// Returns what the store knows of the model.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let live = store.live::<Momentum>(&key)?;
    /// store.publish(&key, trained().metric("auc", 0.61))?;
    /// assert_eq!(live.load().map(|current| current.metadata().metrics["auc"]), Some(0.61));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.held.holder().entry.metadata
    }

    /// Returns the model to be held apart from the handle.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let live = store.live::<Momentum>(&key)?;
    /// let first = store.publish(&key, trained())?;
    /// let kept = live.load().expect("it is published").to_model_ref();
    /// store.publish(&key, trained())?;
    /// assert_eq!(kept.version(), Some(first)); // the handle goes on, what is kept does not
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_model_ref(&self) -> ModelRef<M> {
        ModelRef::of_counted(CountedEntry::clone(self.held.holder()))
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
        f.debug_tuple("Current").field(&self.to_model_ref()).finish()
    }
}
