//! Reading models: the hot tier, then the disk.

use std::sync::{Arc, PoisonError};

use super::{
    Inner, Store,
    held::{Decision, Held, Tier},
    holder::{Entry, Holder, Owned, holder, nanos},
};
use crate::{
    archive::{Checked, Model},
    counters::Counter,
    engine::{Snapshot, sealed},
    error::{Error, ErrorKind, Result},
    format::{
        codec::{self, Codec},
        digest::Digest,
        envelope::{Kind, Verify},
        schema::SchemaTag,
    },
    hot::{Candidate, Hit, Lookup},
    key::{Label, ModelKey},
    lane,
    registry::{
        self, artifacts, head,
        metadata::{self, Metadata},
        quarantine::{self, Quarantined},
    },
    training::{self, TrainingSet, TrainingSummary},
    version::Version,
};

/// What a search for a model came to.
pub(super) enum Found<M: Model> {
    Model(Held<M>),
    Missing,
    OtherSchema { stored: SchemaTag, requested: SchemaTag },
    Failed(Error),
}

impl Store {
    /// Returns the current version of a model, from the hot tier or from disk; `None` when there is none.
    ///
    /// A hit in the hot tier takes no lock and counts no reference: 8 ns where this was measured, and with 10,000
    /// models by Zipf what the processor's caches cost. A load from disk walks to three rows in a map of the file and
    /// leaves the archive there; under [`Verify::Full`] it is hashed. Small and compressed archives are copied.
    ///
    /// # Errors
    /// `SchemaMismatch` when the stored model has another schema than `M`; the message names both. `Corrupt` when the
    /// stored bytes do not hold: the version is quarantined and not read again. `Io` when the file cannot be read.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub fn get<M: Model>(&self, key: &ModelKey) -> Result<Option<Held<M>>> {
        match self.inner.hit(key) {
            Some(held) => Ok(Some(held)),
            None => Ok(self.inner.search::<M>(key)?.and_then(|owned| Held::known(Holder::owned(owned)))),
        }
    }

    /// Returns a certain version of a model; `None` when there is none of that number. Does not use the hot tier.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_version<M: Model>(&self, key: &ModelKey, version: Version) -> Result<Option<Held<M>>> {
        self.look(|snapshot| self.inner.load::<M>(snapshot, key, version).into_result(key))
    }

    /// Returns the metadata of the current version; `None` when there is none. The archive is not read.
    ///
    /// # Errors
    /// `Corrupt` when the head or the metadata is damaged, `Io` when the file cannot be read.
    pub fn metadata(&self, key: &ModelKey) -> Result<Option<Metadata>> {
        self.look(|snapshot| Ok(registry::current(snapshot, key)?.map(|(_, stored)| stored.metadata)))
    }

    /// Returns the metadata of a certain version; `None` when there is none of that number.
    ///
    /// # Errors
    /// As for [`metadata`](Self::metadata).
    pub fn metadata_of(&self, key: &ModelKey, version: Version) -> Result<Option<Metadata>> {
        self.look(|snapshot| Ok(metadata::read(snapshot, key, version)?.map(|stored| stored.metadata)))
    }

    /// Returns an artifact of a version, checked in full; `None` when the version has none of that name.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`Label`], `Corrupt` or `Io` when it cannot be read.
    pub fn artifact(&self, key: &ModelKey, version: Version, name: &str) -> Result<Option<Vec<u8>>> {
        let name = Label::new(name)?;
        self.look(|snapshot| artifacts::read(snapshot, key, version, &name))
    }

    /// Returns the training data that is stored for a model; `None` when there is none.
    ///
    /// It belongs to the key and not to a version: it is what the newest publish or update was trained on.
    ///
    /// # Errors
    /// `Corrupt`, naming the symbol, or `Io` when it cannot be read.
    pub fn training_data(&self, key: &ModelKey) -> Result<Option<TrainingSet>> {
        self.look(|snapshot| training::stored::read(snapshot, key))
    }

    /// Says what training data is stored for a model, symbol by symbol, without reading the columns.
    ///
    /// # Errors
    /// As for [`training_data`](Self::training_data).
    pub fn training_summary(&self, key: &ModelKey) -> Result<Vec<TrainingSummary>> {
        self.look(|snapshot| training::stored::summaries(snapshot, key))
    }

    /// Returns the versions that were found damaged and are not served.
    ///
    /// # Errors
    /// `Io` when the file cannot be read.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        self.look(quarantine::list)
    }

    /// Returns the bytes of a version's archive, decoded and checked in full; `None` when there is none of that number.
    ///
    /// # Errors
    /// `Corrupt` or `Io` when it cannot be read.
    pub fn archive_bytes(&self, key: &ModelKey, version: Version) -> Result<Option<Vec<u8>>> {
        self.look(|snapshot| {
            let Some(stored) = metadata::read(snapshot, key, version)? else {
                return Ok(None);
            };
            let bytes = snapshot.blob(stored.archive_id)?.read(Kind::Model, &stored.metadata.schema)?;
            check_hash(key, version, &stored.metadata, &bytes)?;
            Ok(Some(bytes.to_vec()))
        })
    }
}

impl Inner {
    /// Finds and counts. What is returned fits into registers, so that the hot path needs no memory for it.
    #[cold]
    #[inline(never)]
    fn search<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Result<Option<Box<Owned>>> {
        let found = self.find::<M>(key);
        match &found {
            Found::Model(held) => self.count_hit(held),
            _ => self.count_miss(),
        }
        Ok(found.into_result(key)?.map(Held::into_owned))
    }

    /// Looks for the current version in the hot tier and then on disk. Counts loads, but neither hits nor misses.
    pub(super) fn find<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Found<M> {
        match self.hot.get(key, &self.clock) {
            Lookup::Hit(hit) => return found_hot(key, hit),
            Lookup::Expired => self.counters.add(Counter::Expirations, 1),
            Lookup::Miss => {}
        }
        let generation = self.hot.generation();
        let found = self.look(|snapshot| {
            let Some(version) = head::read(snapshot, key)?.and_then(|head| head.current) else {
                return Ok(Found::Missing);
            };
            match self.load::<M>(snapshot, key, version) {
                Found::Missing => Err(metadata::absent(key, version)),
                Found::Failed(err) => Err(err),
                found => Ok(found),
            }
        });
        let found = found.unwrap_or_else(Found::Failed);
        if let Found::Model(held) = &found {
            let entry = Arc::clone(held.shared());
            let evicted = self.hot.admit_loaded(key, self.candidate(entry), generation);
            self.counters.add(Counter::Evictions, evicted);
        }
        found
    }

    /// What to put into the hot tier for an entry.
    pub(super) fn candidate(&self, value: Arc<Entry>) -> Candidate<Entry> {
        Candidate { weight: value.weight(), value, now: self.clock.now() }
    }

    /// The common case of [`find`](Self::find), counted: the current version is in the hot tier, and of this type.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    fn hit<M: Model>(&self, key: &ModelKey) -> Option<Held<M>> {
        let lane = lane::current()?;
        let guard = self.hot.peek(lane, key, &self.clock)?;
        let facts = guard.facts();
        if !facts.is_of::<M>() {
            return None;
        }
        self.counters.add_in(Some(lane), Counter::HotHits, 1);
        self.counters.add_in(Some(lane), Counter::HitTrainingNanos, facts.training_nanos);
        Held::known(Holder::guarded(guard))
    }

    /// Reads one version from disk and checks it as the policy says. Quarantines what is damaged.
    fn load<M: Model>(self: &Arc<Self>, snapshot: &Snapshot, key: &ModelKey, version: Version) -> Found<M> {
        let started = self.clock.monotonic();
        let stored =
            match self.refuse_quarantined(snapshot, key, version).and_then(|()| metadata::read(snapshot, key, version))
            {
                Ok(Some(stored)) => stored,
                Ok(None) => return Found::Missing,
                Err(err) => return Found::Failed(err),
            };
        if !stored.metadata.schema.is(&M::SCHEMA) {
            return other_schema::<M>(&stored.metadata.schema);
        }
        let loaded = self.read_archive::<M>(snapshot, key, version, &stored).and_then(|checked| {
            let load_time = self.clock.monotonic().saturating_sub(started);
            self.counters.add(Counter::Loads, 1);
            self.counters.add(Counter::LoadNanos, nanos(load_time));
            tracing::debug!(%key, %version, ?load_time, "loaded from disk");
            let clock = Arc::clone(&self.clock);
            let entry = Entry::new(checked, stored.metadata, clock).loaded_in(load_time);
            Held::<M>::new(Arc::new(entry), Tier::Disk, Decision::Fresh)
        });
        match loaded {
            Ok(held) => {
                self.finish_later(key, version, held.shared());
                Found::Model(held)
            }
            Err(err) => {
                if err.kind() == ErrorKind::Corrupt {
                    self.quarantine(key, version, &err);
                }
                Found::Failed(err)
            }
        }
    }

    fn read_archive<M: Model>(
        &self,
        snapshot: &Snapshot,
        key: &ModelKey,
        version: Version,
        stored: &metadata::Stored,
    ) -> Result<Checked> {
        let verify = self.settings.verify;
        let blob = snapshot.blob(stored.archive_id)?;
        let mut envelope = blob.open_known(Kind::Model, stored.metadata.model_hash)?;
        let raw = envelope.header.codec == Codec::Raw;
        if !raw {
            // All of it is decoded. What comes out is compared with the model's own hash, so what goes in need not be.
            blob.expect_order();
        } else if verify == Verify::Full {
            envelope = blob.open(Kind::Model, verify)?;
        }
        sealed::check_schema(stored.archive_id, &envelope.header, &stored.metadata.schema)?;
        // The seal binds these bytes to their id; this binds the id to the version that names it.
        if raw && envelope.payload_hash != stored.metadata.model_hash {
            let message = format!("its archive is not the one that was published as {version}");
            return Err(Error::corrupt("read archive", key.to_string(), message));
        }
        let bytes = if raw {
            blob.into_payload()?
        } else {
            let bytes = codec::decode(envelope.header.codec, envelope.payload, envelope.header.raw_len)?;
            if verify == Verify::Full {
                check_hash(key, version, &stored.metadata, &bytes)?;
            }
            bytes
        };
        Checked::from_bytes::<M>(bytes).map_err(|err| {
            let whole =
                snapshot.blob(stored.archive_id).and_then(|blob| blob.open(Kind::Model, Verify::Full).map(drop));
            if whole.is_err() { err } else { whole_but_other::<M>(key, err) }
        })
    }

    /// Has done on another thread what need not be done before a model is used: the pages that were not touched yet are
    /// read, so that the second prediction is not slow either, and the bytes are hashed, if the policy says so.
    fn finish_later(self: &Arc<Self>, key: &ModelKey, version: Version, entry: &Arc<Entry>) {
        let verify = self.settings.verify == Verify::Background;
        let populate = self.settings.verify != Verify::Full && !entry.checked.is_resident();
        if !verify && !populate {
            return;
        }
        let (inner, gate) = (Arc::downgrade(self), Arc::clone(&self.gate));
        let (key, weak) = (key.clone(), Arc::downgrade(entry));
        // What nobody holds any more need not be read in advance; but damage is to be found all the same.
        let strong = verify.then(|| Arc::clone(entry));
        self.worker.later(move |stop| {
            let Some(entry) = strong.or_else(|| weak.upgrade()) else {
                return;
            };
            entry.checked.populate(|| stop.is_set());
            if verify && let Err(err) = check_hash(&key, version, &entry.metadata, entry.checked.bytes()) {
                gate.with(&inner, |inner| inner.quarantine(&key, version, &err));
            }
        });
    }

    fn refuse_quarantined(&self, snapshot: &Snapshot, key: &ModelKey, version: Version) -> Result<()> {
        let remembered = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match remembered.get(&(key.clone(), version)) {
            Some(reason) => Some(reason.clone()),
            None => quarantine::reason(snapshot, key, version)?,
        };
        match reason {
            None => Ok(()),
            Some(reason) => Err(Error::corrupt("read", format!("{key} {version}"), format!("quarantined: {reason}"))),
        }
    }

    /// Takes a damaged version out of service, and writes that down if the store can be written.
    pub(super) fn quarantine(self: &Arc<Self>, key: &ModelKey, version: Version, reason: &Error) {
        let text = reason.to_string();
        tracing::error!(%key, %version, reason = %text, "quarantined a damaged model");
        let mut remembered = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.insert((key.clone(), version), text.clone()).is_some() {
            return;
        }
        drop(remembered);
        let now = self.clock.now();
        let write = |batch: &_| quarantine::write(batch, key, version, &text, now);
        if let Err(err) = self.commit("quarantine", write, |hot, ()| hot.remove(key)) {
            let _writer = self.lock_writer();
            self.hot.change().remove(key);
            tracing::warn!(%key, %version, error = %err, "the quarantine is in this process alone");
        }
        self.followed.look_again(self, |known| known == key);
    }

    /// Counts a call that is served what a search found.
    pub(super) fn count_hit<M: Model>(&self, held: &Held<M>) {
        let counters = &self.counters;
        counters.add(Counter::HitTrainingNanos, held.shared().training_nanos);
        if held.tier() == Tier::Hot {
            counters.add(Counter::HotHits, 1);
        } else {
            counters.add(Counter::HotMisses, 1);
            counters.add(Counter::DiskHits, 1);
            counters.add(Counter::HitLoadNanos, nanos(held.load_time()));
        }
    }

    /// Counts a call that is served nothing from either tier.
    pub(super) fn count_miss(&self) {
        self.counters.add(Counter::HotMisses, 1);
        self.counters.add(Counter::DiskMisses, 1);
    }
}

impl<M: Model> Found<M> {
    fn into_result(self, key: &ModelKey) -> Result<Option<Held<M>>> {
        match self {
            Self::Model(held) => Ok(Some(held)),
            Self::Missing => Ok(None),
            Self::Failed(err) => Err(err),
            Self::OtherSchema { stored, requested } => {
                let message = format!("it is stored as {stored}, and was asked for as {requested}");
                Err(Error::new(ErrorKind::SchemaMismatch, "get", key.to_string(), message))
            }
        }
    }
}

/// What the hot tier has, as an `M`.
fn found_hot<M: Model>(key: &ModelKey, hit: Hit<Entry>) -> Found<M> {
    let entry = match &hit {
        Hit::Guarded(guard) => guard.value(),
        Hit::Counted(entry) => entry,
    };
    if !entry.metadata.schema.is(&M::SCHEMA) {
        return other_schema::<M>(&entry.metadata.schema);
    }
    match holder::<M>(hit) {
        Ok(holder) => Held::known(holder).map_or(Found::Missing, Found::Model),
        Err(err) => Found::Failed(whole_but_other::<M>(key, err)),
    }
}

fn other_schema<M: Model>(stored: &SchemaTag) -> Found<M> {
    match M::SCHEMA.tag() {
        Ok(requested) => Found::OtherSchema { stored: stored.clone(), requested },
        Err(err) => Found::Failed(err),
    }
}

/// What was published is what is here: the type changed and its schema's version did not.
fn whole_but_other<M: Model>(key: &ModelKey, err: Error) -> Error {
    let message = format!("what is stored as {} is whole, and is not what this type reads", M::SCHEMA);
    Error::new(ErrorKind::SchemaMismatch, "get", key.to_string(), message).with_source(err)
}

fn check_hash(key: &ModelKey, version: Version, metadata: &Metadata, bytes: &[u8]) -> Result<()> {
    let found = Digest::of(bytes);
    if found == metadata.model_hash {
        return Ok(());
    }
    let message = format!("the archive hashes to {}, expected {}", found.short(), metadata.model_hash.short());
    Err(Error::corrupt("read archive", format!("{key} {version}"), message))
}
