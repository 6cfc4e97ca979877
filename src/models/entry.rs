//! What a held model is made of: the entry that it shares with the hot tier, and what keeps that entry.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    archive::{ArchiveRef, Model, RootAddress, RootPtr, StableArchive, ValidatedBytes},
    catalog::metadata::Metadata,
    decision::Decision,
    model_ref::Tier,
    staged::SeenHead,
    type_tag::TypeTag,
};
use crate::{
    cache::{CacheValue, Guard, Hit, Weight},
    format::schema::Schema,
    types::{
        clock::Clock,
        error::{Error, ErrorKind, Result},
        hash::Digest,
        key::ModelKey,
    },
};

/// What the hot tier holds and a held model shares: a checked archive and what is known of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) checked: Arc<ValidatedBytes>,
    /// What a hit saves.
    pub(super) training_nanos: u64,
    pub(super) metadata: Metadata,
    pub(super) clock: Arc<dyn Clock>,
    /// How long it took to read from disk; zero when it was trained here.
    pub(super) load_time: Duration,
    /// What was current when it was trained, if it is not in the file.
    pub(super) trained_over: SeenHead,
    /// Why it is not in the file, or may be lost, if it should be there.
    pub(super) publish_error: OnceLock<Error>,
}

/// What a hit needs of an entry; the type that it was checked for is apart from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HitData {
    root: RootAddress,
    /// What a hit saves.
    training_nanos: u64,
}

impl CacheValue for Entry {
    type HitData = HitData;
    type Kind = TypeTag;

    fn hit_data(&self) -> (HitData, TypeTag) {
        let (root, checked_for) = ValidatedBytes::root(&self.checked).into_parts();
        (HitData { root, training_nanos: self.training_nanos }, checked_for)
    }

    /// An archive begins with what its root has no room for, and ends with the root.
    fn read_next(&self) -> (usize, usize) {
        let (root, _) = ValidatedBytes::root(&self.checked).into_parts();
        (self.checked.bytes().as_ptr().addr(), root.addr())
    }
}

/// What a hit found, as an `M`, and what it saves; `None` if it was checked for another type.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
pub(super) fn hit_as<M: Model>(hit: Hit<Entry>) -> Option<(ArchiveRef<M, Backing>, u64)> {
    let (guard, data, checked_for) = hit.into_parts();
    if !checked_for.is::<M>() {
        return None;
    }
    // SAFETY: a hit's data are those of the slot that its guard protects, and they are of the entry in it.
    #[allow(unsafe_code, reason = "a guard vouches for what it protects")]
    let typed = unsafe { ArchiveRef::vouched(Backing::guarded(guard), data.root) };
    Some((typed, data.training_nanos))
}

impl Entry {
    pub(super) fn new(checked: Arc<ValidatedBytes>, metadata: Metadata, clock: Arc<dyn Clock>) -> Self {
        let training_nanos = nanos(metadata.training_duration);
        let (load_time, trained_over, publish_error) = (Duration::ZERO, SeenHead::Unread, OnceLock::new());
        Self { checked, training_nanos, metadata, clock, load_time, trained_over, publish_error }
    }

    pub(super) fn trained_over(self, seen: SeenHead) -> Self {
        Self { trained_over: seen, ..self }
    }

    pub(super) fn loaded_in(self, load_time: Duration) -> Self {
        Self { load_time, ..self }
    }

    /// Notes why it is not in the file, once.
    pub(super) fn mark_unpublished(&self, error: Option<Error>) {
        if let Some(error) = error {
            self.publish_error.get_or_init(|| error);
        }
    }

    /// Bytes that it takes in the hot tier.
    pub(super) fn weight(&self) -> Weight {
        let archive = self.checked.bytes().len() as u64;
        let rest = rest_bytes(self.metadata.config.len());
        if self.checked.is_in_file() {
            Weight { heap_bytes: rest, mapped_bytes: archive }
        } else {
            Weight { heap_bytes: archive + rest, mapped_bytes: 0 }
        }
    }
}

/// Bytes that an entry takes in the hot tier besides its archive.
fn rest_bytes(config_len: usize) -> u64 {
    (config_len + size_of::<Entry>()) as u64
}

/// Bytes that a model takes in the hot tier, before it is loaded.
pub(super) fn weight_bytes(archive_bytes: u64, config_len: usize) -> u64 {
    archive_bytes.saturating_add(rest_bytes(config_len))
}

/// What keeps an entry: a guard of the hot tier, or a reference count.
///
/// Exactly one of the two is there. They are not variants of an enum, so that a hit, which is all guard, passes through
/// registers; the rest is behind one pointer, and out of the way.
pub(super) struct Backing {
    guard: Option<Guard<Entry>>,
    owned: Option<Box<CountedEntry>>,
}

/// What counts a reference, and how it came about.
#[derive(Clone)]
pub(super) struct CountedEntry {
    pub(super) entry: Arc<Entry>,
    /// The entry's root, for the type that the model is held as.
    root: RootPtr,
    pub(super) tier: Tier,
    pub(super) decision: Decision,
}

impl CountedEntry {
    /// Holds `entry` as an `M`, checking it again if it was checked for another type.
    pub(super) fn of<M: Model>(entry: Arc<Entry>, tier: Tier, decision: Decision) -> Result<Box<Self>> {
        let root = entry.checked.root_as::<M>()?;
        Ok(Box::new(Self { entry, root, tier, decision }))
    }

    /// Holds `entry` for those who follow it, as the type whose root `root` finds.
    pub(super) fn followed(entry: &Arc<Entry>, root: fn(&ValidatedBytes) -> Result<RootPtr>) -> Result<Self> {
        let root = root(&entry.checked)?;
        Ok(Self { entry: Arc::clone(entry), root, tier: Tier::Hot, decision: Decision::FRESH })
    }
}

impl Backing {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    fn guarded(guard: Guard<Entry>) -> Self {
        Self { guard: Some(guard), owned: None }
    }

    #[inline]
    pub(super) fn owned(owned: Box<CountedEntry>) -> Self {
        Self { guard: None, owned: Some(owned) }
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        match (&self.guard, &self.owned) {
            (Some(guard), _) => guard.value(),
            (None, Some(owned)) => &owned.entry,
            (None, None) => unreachable!("only dropping a holder empties it"),
        }
    }

    /// How it came about; `None` for a guard: from the hot tier, fresh.
    pub(super) fn origin(&self) -> Option<&CountedEntry> {
        self.owned.as_deref()
    }

    /// Gives up the guard for a reference count.
    #[allow(clippy::unnecessary_box_returns, reason = "it is in that box already, and fits a register there")]
    pub(super) fn into_counted(mut self) -> Box<CountedEntry> {
        self.owned.take().unwrap_or_else(|| self.counted())
    }

    /// Counts a reference.
    #[allow(clippy::unnecessary_box_returns, reason = "a holder keeps it in a box")]
    fn counted(&self) -> Box<CountedEntry> {
        let fresh = || CountedEntry {
            entry: Arc::clone(self.entry()),
            root: self.root(),
            tier: Tier::Hot,
            decision: Decision::FRESH,
        };
        Box::new(self.origin().cloned().unwrap_or_else(fresh))
    }
}

impl Drop for Backing {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path")]
    fn drop(&mut self) {
        if let Some(owned) = self.owned.take() {
            release(owned);
        }
    }
}

/// By value, so that a holder without it need not have an address.
#[cold]
#[inline(never)]
fn release(owned: Box<CountedEntry>) {
    drop(owned);
}

impl Clone for Backing {
    fn clone(&self) -> Self {
        Self::owned(self.counted())
    }
}

// SAFETY: guard and count both keep an entry, and roots are the entry's own: that of a guard is asked of the entry, and
// `CountedEntry::of` has it from the one that it counts.
#[allow(unsafe_code, reason = "a holder vouches for what it holds")]
unsafe impl StableArchive for Backing {
    fn root(&self) -> RootPtr {
        match &self.owned {
            Some(owned) => owned.root,
            None => self.entry().checked.root(),
        }
    }

    fn checked(&self) -> &ValidatedBytes {
        &self.entry().checked
    }
}

// SAFETY: both constructors have the root from the entry that they count, and nothing changes either.
#[allow(unsafe_code, reason = "a count vouches for what it counts")]
unsafe impl StableArchive for Arc<CountedEntry> {
    fn root(&self) -> RootPtr {
        self.root
    }

    fn checked(&self) -> &ValidatedBytes {
        &self.entry.checked
    }
}

/// A duration as the counters hold it.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What was published is what is here: the type changed and its schema's version did not.
pub(super) fn whole_but_other(schema: &Schema, key: &ModelKey, err: Error) -> Error {
    let message = format!("what is stored as {schema} is whole, and is not what this type reads");
    Error::new(ErrorKind::SchemaMismatch, "get", key.to_string(), message).with_source(err)
}

/// Compares an archive with the hash that was published.
pub(super) fn check_hash(subject: &str, metadata: &Metadata, bytes: &[u8]) -> Result<()> {
    compare_hash(subject, metadata, Digest::of(bytes))
}

/// Compares the hash of an archive with the one that was published.
pub(super) fn compare_hash(subject: &str, metadata: &Metadata, found: Digest) -> Result<()> {
    if found == metadata.model_hash {
        return Ok(());
    }
    let message = format!("the archive hashes to {}, expected {}", found.short(), metadata.model_hash.short());
    Err(Error::corrupt("read archive", subject, message))
}
