//! Finding a model: memory, then the file, then the tiers of others.

use std::{sync::Arc, time::Duration};

use super::super::{
    Models,
    archive::{Model, RootPtr, ValidatedBytes},
    catalog::{head, metadata},
    decision::Decision,
    entry::{Entry, hit_as, nanos, whole_but_other},
    model_ref::{ModelRef, Tier},
};
use crate::{
    cache::Lookup,
    engine::Snapshot,
    format::{
        buffer::AlignedBuf,
        schema::{Schema, SchemaTag},
    },
    sync::{
        counters::Counter,
        thread_slot::{self, ThreadSlot},
    },
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

/// What a search for a model came to.
pub(in super::super) enum Found<T> {
    Model(T),
    Missing,
    OtherSchema {
        stored: SchemaTag,
        requested: SchemaTag,
    },
    Failed(Error),
    /// This version is damaged, and is to be quarantined.
    Damaged(Version, Error),
}

/// A model, and where it was found.
pub(in super::super) type Located = (Arc<Entry>, Tier);

/// The type that a caller wants a model as.
#[derive(Clone, Copy)]
pub(in super::super) struct Wanted {
    pub(super) schema: Schema,
    pub(super) check: fn(AlignedBuf) -> Result<ValidatedBytes>,
    pub(super) root: fn(&ValidatedBytes) -> Result<RootPtr>,
}

impl Wanted {
    pub(in super::super) fn of<M: Model>() -> Self {
        Self { schema: M::SCHEMA, check: ValidatedBytes::from_bytes::<M>, root: ValidatedBytes::root_as::<M> }
    }

    pub(super) fn refuse<T>(&self, stored: &SchemaTag) -> Found<T> {
        match self.schema.tag() {
            Ok(requested) => Found::OtherSchema { stored: stored.clone(), requested },
            Err(err) => Found::Failed(err),
        }
    }
}

impl Models {
    /// The common case: the current version is in memory, and of this type. Takes no lock, and counts no reference.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    fn guarded<M: Model>(&self, thread: ThreadSlot, key: &ModelKey) -> Option<(ModelRef<M>, u64)> {
        let hit = self.tiers.memory.peek(thread, key, self.core.clock())?;
        hit_as(hit).map(|(typed, training_nanos)| (ModelRef::of_hit(typed), training_nanos))
    }

    /// The same, counted as a hit.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(in super::super) fn hit<M: Model>(&self, key: &ModelKey) -> Option<ModelRef<M>> {
        let thread = thread_slot::current()?;
        let (held, training_nanos) = self.guarded(thread, key)?;
        self.counters.add_in(Some(thread), Counter::HotHits, 1);
        self.counters.add_in(Some(thread), Counter::HitTrainingNanos, training_nanos);
        Some(held)
    }

    /// Finds the current version of a model, as an `M`. Quarantines what is damaged. Counts loads, but neither hits nor
    /// misses. Not to be called in a turn to write.
    pub(in super::super) fn find<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Found<ModelRef<M>> {
        let thread = thread_slot::current();
        match thread.and_then(|thread| self.guarded::<M>(thread, key)) {
            Some((held, _)) => Found::Model(held),
            None => self.find_behind(key),
        }
    }

    /// The same, for a caller who did not find it at first sight.
    pub(in super::super) fn find_behind<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Found<ModelRef<M>> {
        let found = self.search(key, &Wanted::of::<M>());
        self.take(key, found)
    }

    /// What was found, as an `M`; quarantines what is damaged.
    pub(in super::super) fn take<M: Model>(
        self: &Arc<Self>,
        key: &ModelKey,
        found: Found<Located>,
    ) -> Found<ModelRef<M>> {
        match self.put_away(key, found) {
            Found::Model((entry, tier)) => match ModelRef::new(entry, tier, Decision::FRESH) {
                Ok(held) => Found::Model(held),
                Err(err) => Found::Failed(whole_but_other(&M::SCHEMA, key, err)),
            },
            Found::Damaged(version, err) => Found::Damaged(version, err),
            Found::Missing => Found::Missing,
            Found::OtherSchema { stored, requested } => Found::OtherSchema { stored, requested },
            Found::Failed(err) => Found::Failed(err),
        }
    }

    /// The same, for one who knows the type when it runs. Not to be called in a turn to write.
    pub(super) fn search_for(self: &Arc<Self>, key: &ModelKey, wanted: &Wanted) -> Found<Located> {
        let found = self.search(key, wanted);
        self.put_away(key, found)
    }

    /// Quarantines what is damaged.
    pub(super) fn put_away(self: &Arc<Self>, key: &ModelKey, found: Found<Located>) -> Found<Located> {
        match found {
            Found::Damaged(version, err) => {
                self.quarantine(key, version, &err.to_string());
                Found::Failed(err)
            }
            found => found,
        }
    }

    /// Asks one tier after the other. What is found outside of memory is admitted to it, unless a change of a model is
    /// under way, or was meanwhile.
    fn search(self: &Arc<Self>, key: &ModelKey, wanted: &Wanted) -> Found<Located> {
        let generation = match self.tiers.memory.get(key, self.core.clock()) {
            Lookup::Hit(entry) => return fitting(entry, wanted),
            Lookup::Expired(generation) => {
                self.counters.add(Counter::Expirations, 1);
                generation
            }
            Lookup::Miss(generation) => generation,
        };
        let found = match self.core.look(|snapshot| self.current_in_file(snapshot, key, wanted)) {
            Ok(Found::Missing) => self.find_in_others(key, wanted),
            Ok(found) => found,
            Err(err) => Found::Failed(err),
        };
        if let Found::Model((entry, _)) = &found {
            let evicted = self.tiers.memory.admit_loaded(key, self.admission(Arc::clone(entry)), generation);
            self.counters.add(Counter::Evictions, evicted);
        }
        found
    }

    /// Finds the current version in a turn to write, or out of one: admits nothing and quarantines nothing.
    pub(super) fn find_in_turn(self: &Arc<Self>, key: &ModelKey, wanted: &Wanted) -> Found<Located> {
        if let Lookup::Hit(entry) = self.tiers.memory.get(key, self.core.clock()) {
            return fitting(entry, wanted);
        }
        let found = self.core.look_only(|snapshot| self.current_in_file(snapshot, key, wanted));
        found.unwrap_or_else(Found::Failed)
    }

    fn current_in_file(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        key: &ModelKey,
        wanted: &Wanted,
    ) -> Result<Found<Located>> {
        let Some(version) = head::current(snapshot, key)? else {
            return Ok(Found::Missing);
        };
        match self.load(snapshot, key, version, wanted) {
            Found::Missing => Err(metadata::absent(key, version)),
            Found::Failed(err) => Err(err),
            found => Ok(found),
        }
    }

    /// The bytes of the archive that memory has; `None` when it has none.
    pub(in super::super) fn archive_bytes_in_memory(&self, key: &ModelKey) -> Option<usize> {
        match self.tiers.memory.get(key, self.core.clock()) {
            Lookup::Hit(entry) => Some(entry.checked.bytes().len()),
            Lookup::Miss(_) | Lookup::Expired(_) => None,
        }
    }

    /// Counts a load that began at `started`, and returns how long it took.
    pub(super) fn count_load(&self, started: Duration) -> Duration {
        let took = self.core.clock().monotonic().saturating_sub(started);
        self.counters.add(Counter::Loads, 1);
        self.counters.add(Counter::LoadNanos, nanos(took));
        took
    }
}

/// What memory has, if it is what is wanted.
fn fitting(entry: Arc<Entry>, wanted: &Wanted) -> Found<Located> {
    if entry.metadata.schema.is(&wanted.schema) {
        Found::Model((entry, Tier::Hot))
    } else {
        wanted.refuse(&entry.metadata.schema)
    }
}

impl<T> Found<T> {
    /// What a call for one model returns.
    pub(in super::super) fn into_result(self, key: &ModelKey) -> Result<Option<T>> {
        match self {
            Self::Model(held) => Ok(Some(held)),
            Self::Missing => Ok(None),
            Self::Failed(err) | Self::Damaged(_, err) => Err(err),
            Self::OtherSchema { stored, requested } => {
                let message = format!("it is stored as {stored}, and was asked for as {requested}");
                Err(Error::new(ErrorKind::SchemaMismatch, "get", key.to_string(), message))
            }
        }
    }
}
