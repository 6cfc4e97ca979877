//! Loading models before they are asked for: many at once, on all cores, into the room that memory has.
//!
//! Each key goes the way of a get: memory, head, metadata, archive, checks, admission. What is different: nothing is
//! evicted, nothing is put off to another thread, and tiers of others are not asked. What was loaded while a model was
//! changed is loaded again, as a get would not be admitted then either.
//!
//! The room that memory has goes to the keys that come first, on whatever threads they are loaded: before a thread
//! loads some keys it looks up what they take, and reserves that when those before have theirs.

use std::{cell::RefCell, collections::HashSet, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use super::{
    super::{
        Models,
        archive::Model,
        catalog::{head, metadata},
        entry::{Entry, weight_bytes},
    },
    disk::Load,
    find::{Found, Located, Wanted},
};
use crate::{
    cache::{Beside, Lookup, Reservation},
    engine::Snapshot,
    format::{envelope::Verify, parallel},
    sync::{
        counters::Counter,
        in_order::{InOrder, Place},
    },
    types::{
        error::{Error, Result},
        key::ModelKey,
    },
};

/// How often a model is loaded while others are being changed, before changes have to wait for it.
const TRIES: usize = 3;

/// Keys that a thread takes at a time, at most.
const KEYS_TAKEN_MAX: usize = 16;

/// What became of one key of a [preload](crate::Store::preload).
#[derive(Debug)]
#[non_exhaustive]
pub enum Preloaded {
    /// It was read from the file, verified, and is in memory now.
    Loaded {
        /// Bytes of its archive.
        archive_bytes: u64,
    },
    /// It was in memory already, and not older than [`Options::hot_max_age`](crate::Options::hot_max_age) allows.
    InMemory,
    /// The file has no such model.
    Absent,
    /// It does not fit into memory beside what is there. It was not read, unless memory filled up meanwhile.
    NoRoom {
        /// Bytes of its archive.
        archive_bytes: u64,
    },
    /// It cannot be served, for the reason that a [`get`](crate::Store::get) would give.
    Failed(Error),
}

/// What a [preload](crate::Store::preload) came to, key by key.
#[derive(Debug)]
#[must_use]
pub struct PreloadReport {
    outcomes: Vec<(ModelKey, Preloaded)>,
    took: Duration,
}

impl PreloadReport {
    /// Returns what became of each key, in the order in which they were given. A key that was given twice is here once.
    #[must_use]
    pub fn outcomes(&self) -> &[(ModelKey, Preloaded)] {
        &self.outcomes
    }

    /// Returns how many models were read from the file.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.count(|outcome| matches!(outcome, Preloaded::Loaded { .. }))
    }

    /// Returns how many were in memory already.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.count(|outcome| matches!(outcome, Preloaded::InMemory))
    }

    /// Returns how many the file does not have.
    #[must_use]
    pub fn absent(&self) -> usize {
        self.count(|outcome| matches!(outcome, Preloaded::Absent))
    }

    /// Returns how many did not fit beside what is in memory.
    #[must_use]
    pub fn without_room(&self) -> usize {
        self.count(|outcome| matches!(outcome, Preloaded::NoRoom { .. }))
    }

    /// Returns the keys that cannot be served, each with its reason.
    pub fn failures(&self) -> impl Iterator<Item = (&ModelKey, &Error)> {
        self.outcomes.iter().filter_map(|(key, outcome)| match outcome {
            Preloaded::Failed(error) => Some((key, error)),
            _ => None,
        })
    }

    /// Returns the bytes of all archives that were read from the file.
    #[must_use]
    pub fn loaded_bytes(&self) -> u64 {
        let bytes =
            |outcome: &Preloaded| if let Preloaded::Loaded { archive_bytes } = outcome { *archive_bytes } else { 0 };
        self.outcomes.iter().map(|(_, outcome)| bytes(outcome)).sum()
    }

    /// Returns how long it took, by the store's clock.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Whether every model that was named was put into memory, or found there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.loaded() + self.in_memory() == self.outcomes.len()
    }

    fn count(&self, is_counted: impl Fn(&Preloaded) -> bool) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| is_counted(outcome)).count()
    }
}

impl Models {
    /// Loads the current versions of these models into memory, as far as they fit. Not to be called in a turn to write.
    pub(crate) fn preload<M: Model>(self: &Arc<Self>, keys: &[ModelKey]) -> PreloadReport {
        let started = self.core.clock().monotonic();
        let mut seen = HashSet::with_capacity(keys.len());
        let keys: Vec<&ModelKey> = keys.iter().filter(|&key| seen.insert(key)).collect();
        let wanted = Wanted::of::<M>();
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        // Some for each thread, so that one with large models keeps nobody waiting in the end.
        let taken = (keys.len() / (8 * cores)).clamp(1, KEYS_TAKEN_MAX);
        let threads = cores.min(keys.len().div_ceil(taken));
        let order = InOrder::default();
        let load = |(number, some): (usize, &[&ModelKey])| {
            let reserved = self.reserve_in_order(order.place(number), some);
            let of = |(key, reserved): (&&ModelKey, Reserved<'_>)| self.preload_one(key, &wanted, reserved);
            some.iter().zip(reserved).map(of).collect::<Vec<_>>()
        };
        let outcomes = parallel::map(keys.chunks(taken).enumerate(), threads, load).into_iter().flatten();
        let outcomes = keys.iter().map(|&key| key.clone()).zip(outcomes).collect();
        PreloadReport { outcomes, took: self.core.clock().monotonic().saturating_sub(started) }
    }

    /// Keeps room for these models, when those before them have theirs. What they take is looked up before.
    fn reserve_in_order(&self, place: Place<'_>, keys: &[&ModelKey]) -> Vec<Reserved<'_>> {
        let weights: Vec<_> = keys.iter().map(|key| self.weigh(key)).collect();
        place.wait();
        let reserve = |(key, weight): (&&ModelKey, Option<u64>)| {
            weight.map_or(Reserved::Unknown, |weight_bytes| self.reserve(key, weight_bytes))
        };
        let reserved = keys.iter().zip(weights).map(reserve).collect();
        drop(place);
        reserved
    }

    fn reserve(&self, key: &ModelKey, weight_bytes: u64) -> Reserved<'_> {
        self.tiers.memory.reserve(key, weight_bytes).map_or(Reserved::NoRoom, Reserved::Room)
    }

    /// Whether there is room for a model of so many bytes: what was reserved for it, or what can be reserved now.
    fn has_room<'a>(&'a self, key: &ModelKey, weight_bytes: u64, reserved: &RefCell<Reserved<'a>>) -> bool {
        let mut reserved = reserved.borrow_mut();
        match &*reserved {
            Reserved::NoRoom => return false,
            Reserved::Room(reservation) if reservation.is_enough_for(weight_bytes) => return true,
            Reserved::Room(_) | Reserved::Unknown => {}
        }
        // Given back first, if it is too small.
        *reserved = Reserved::Unknown;
        *reserved = self.reserve(key, weight_bytes);
        matches!(*reserved, Reserved::Room(_))
    }

    /// Bytes that the current version takes in memory; `None` when it is there, when there is none, and when nobody can
    /// say: the reason is found again when it is to be loaded.
    fn weigh(&self, key: &ModelKey) -> Option<u64> {
        if let Lookup::Hit(_) = self.tiers.memory.get(key, self.core.clock()) {
            return None;
        }
        let sizes = |snapshot: &Snapshot| match head::current(snapshot, key)? {
            Some(version) => metadata::sizes(snapshot, key, version),
            None => Ok(None),
        };
        self.core.look_only(sizes).ok()?.map(|(archive_bytes, config_len)| weight_bytes(archive_bytes, config_len))
    }

    fn preload_one<'a>(self: &'a Arc<Self>, key: &ModelKey, wanted: &Wanted, mut reserved: Reserved<'a>) -> Preloaded {
        let mut tries = 0;
        loop {
            // Nothing is changed in a turn.
            let turn = (tries >= TRIES).then(|| self.core.turn());
            let tried = self.try_preload(key, wanted, reserved, turn.is_some());
            drop(turn);
            // Another version is current, or what was known of this one could not be read: room is looked for again.
            reserved = Reserved::Unknown;
            match tried {
                Tried::Ended(outcome) => return outcome,
                Tried::Refused(found) => return refused(key, self.put_away(key, found)),
                Tried::Outdated => {}
            }
            tries += 1;
            // Until the change that is under way is shown.
            drop(self.core.turn());
        }
    }

    fn try_preload<'a>(
        self: &'a Arc<Self>,
        key: &ModelKey,
        wanted: &Wanted,
        reserved: Reserved<'a>,
        in_turn: bool,
    ) -> Tried {
        let memory = &self.tiers.memory;
        // Before the file is looked at, so that a change in between is noticed.
        let generation = match memory.get(key, self.core.clock()) {
            Lookup::Hit(entry) if entry.metadata.schema.is(&wanted.schema) => return Tried::Ended(Preloaded::InMemory),
            Lookup::Hit(entry) => return Tried::Refused(wanted.refuse(&entry.metadata.schema)),
            Lookup::Miss(generation) => generation,
            Lookup::Expired(generation) => {
                self.counters.add(Counter::Expirations, 1);
                generation
            }
        };
        let reserved = RefCell::new(reserved);
        let read = |snapshot: &Snapshot| self.preload_from(snapshot, key, wanted, &reserved);
        let read = if in_turn { self.core.look_only(read) } else { self.core.look(read) };
        let entry = match read {
            Ok(Read::Entry(entry)) => entry,
            Ok(Read::Ended(tried)) => return tried,
            Err(err) => return Tried::Refused(Found::Failed(err)),
        };
        let archive_bytes = entry.checked.bytes().len() as u64;
        let Reserved::Room(reservation) = reserved.into_inner() else {
            return Tried::Ended(Preloaded::NoRoom { archive_bytes });
        };
        match memory.admit_beside(key, self.admission(entry), generation, reservation) {
            Beside::Admitted => Tried::Ended(Preloaded::Loaded { archive_bytes }),
            Beside::NoRoom => Tried::Ended(Preloaded::NoRoom { archive_bytes }),
            Beside::Changed => Tried::Outdated,
        }
    }

    /// Reads the current version, if there is room for it. Nobody waits for one model of many: so what may be verified
    /// after a model is handed out is verified before.
    fn preload_from<'a>(
        self: &'a Arc<Self>,
        snapshot: &Snapshot,
        key: &ModelKey,
        wanted: &Wanted,
        reserved: &RefCell<Reserved<'a>>,
    ) -> Result<Read> {
        let started = self.core.clock().monotonic();
        let Some(version) = head::current(snapshot, key)? else {
            return Ok(Read::Ended(Tried::Ended(Preloaded::Absent)));
        };
        let verify = match self.settings.verify {
            Verify::Structure => Verify::Structure,
            Verify::Background | Verify::Full => Verify::Full,
        };
        let load = Load { key, version, wanted, verify };
        let stored = match self.find_stored(snapshot, &load) {
            Ok(stored) => stored,
            Err(Found::Missing) => return Err(metadata::absent(key, version)),
            Err(found) => return Ok(Read::Ended(Tried::Refused(found))),
        };
        let archive_bytes = stored.metadata.archive_bytes;
        if !self.has_room(key, weight_bytes(archive_bytes, stored.metadata.config.len()), reserved) {
            return Ok(Read::Ended(Tried::Ended(Preloaded::NoRoom { archive_bytes })));
        }
        match self.load_stored(snapshot, &load, stored, started) {
            Found::Model((entry, _)) => {
                if verify == Verify::Structure {
                    entry.checked.populate(|| false);
                }
                Ok(Read::Entry(entry))
            }
            Found::Failed(err) => Err(err),
            found => Ok(Read::Ended(Tried::Refused(found))),
        }
    }
}

/// What an attempt at one model came to.
enum Tried {
    Ended(Preloaded),
    /// It cannot be served.
    Refused(Found<Located>),
    /// Models were changed meanwhile, and this one may not be the current version any more.
    Outdated,
}

/// Room for one of the models.
enum Reserved<'a> {
    Room(Reservation<'a, Entry>),
    /// Those before it have taken it.
    NoRoom,
    /// Nobody has looked yet.
    Unknown,
}

/// What was found in the file.
enum Read {
    Entry(Arc<Entry>),
    Ended(Tried),
}

/// Why a model cannot be served.
fn refused(key: &ModelKey, found: Found<Located>) -> Preloaded {
    match found.into_result(key) {
        Ok(None) => Preloaded::Absent,
        Ok(Some(_)) => unreachable!("what was found is not refused"),
        Err(err) => Preloaded::Failed(err),
    }
}
