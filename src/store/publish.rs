//! Publishing: everything that a training produced, in one transaction.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use super::{
    Inner, Store,
    draft::{Draft, Origin},
    holder::{Entry, nanos},
    trained::Trained,
};
use crate::{
    archive::Model,
    counters::Counter,
    engine::{Batch, Committed, sealed::Blob},
    error::{Error, ErrorKind, Result},
    format::{
        codec::Codec,
        envelope::{Kind, Verify},
    },
    hot::Change,
    key::ModelKey,
    registry::{
        self, artifacts,
        head::{self, Head},
        metadata::{self, Metadata},
        removal,
    },
    training,
    version::Version,
};

/// Below this size compressing a superseded archive saves less than a page.
const COMPRESS_BYTES_MIN: usize = 8192;

/// What the head must be for a publish to go through.
#[derive(Clone, Copy)]
pub(super) enum Expect {
    Anything,
    Current(Option<Version>),
}

/// A version that is in the file and in the hot tier.
pub(super) struct Published {
    pub(super) version: Version,
    pub(super) entry: Arc<Entry>,
    /// Why nobody can say whether it survives a power cut.
    pub(super) doubt: Option<Error>,
}

impl Published {
    /// The model, marked if it is in doubt.
    pub(super) fn into_entry(self) -> Arc<Entry> {
        self.entry.mark_unpublished(self.doubt);
        self.entry
    }
}

/// A version that is in the file, and is not shown yet.
struct Written<'a> {
    version: Version,
    metadata: Metadata,
    /// The begun change of the hot tier.
    hot: Change<'a, Entry>,
    writer: MutexGuard<'a, ()>,
    committed: Committed,
}

/// A draft that could not be written, and why.
pub(super) struct Unwritten {
    pub(super) error: Error,
    pub(super) draft: Draft,
}

impl Store {
    /// Publishes a new version: archive, metadata, training data, artifacts and head, in one durable transaction.
    /// Returns the version's number. The hot tier holds it when the call returns.
    ///
    /// Tags, artifacts and VIX ranges are those of `trained` alone; only [`update`](Self::update) takes over what the
    /// version before it had. Training data that `trained` does not bring stays stored as it is.
    ///
    /// Costs one transaction: two fsyncs and the archive's bytes.
    ///
    /// # Errors
    /// `InvalidInput` when the model refuses itself, when a name breaks the rules of [`Label`](crate::Label), or when
    /// the key knows no configuration and none is stored. `LimitExceeded`, `ReadOnly`, `StorageFull`, `Corrupt` or
    /// `Io`. Nothing is changed. Or `OutcomeUnknown`: then the new version is there or not, and what [`get`](Self::get)
    /// and [`metadata`](Self::metadata) say is what the file has.
    pub fn publish<M: Model>(&self, key: &ModelKey, trained: Trained<M>) -> Result<Version> {
        self.publish_expecting(key, Expect::Anything, trained)
    }

    /// Publishes if the current version is still `expected`; `None` expects that there is none yet.
    ///
    /// ```
    /// # use modelkeep::{ErrorKind, Model, ModelKey, Schema, Store, Trained};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || Trained::new(Momentum { weights: vec![0.5] });
    /// # store.publish(&key, trained())?;
    /// let version = match store.publish_if(&key, None, trained()) {
    ///     Ok(version) => version,
    ///     Err(err) => match err.kind() {
    ///         // Look at what the other one published, and if ours is still wanted, publish over it.
    ///         ErrorKind::Conflict { current, .. } => store.publish_if(&key, current, trained())?,
    ///         _ => return Err(err),
    ///     },
    /// };
    /// assert_eq!(version.get(), 2);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], with both versions, when somebody else moved the head; otherwise as for
    /// [`publish`](Self::publish).
    pub fn publish_if<M: Model>(
        &self,
        key: &ModelKey,
        expected: Option<Version>,
        trained: Trained<M>,
    ) -> Result<Version> {
        self.publish_expecting(key, Expect::Current(expected), trained)
    }

    fn publish_expecting<M: Model>(&self, key: &ModelKey, expect: Expect, trained: Trained<M>) -> Result<Version> {
        self.inner.engine.check_writable("publish").map_err(|err| err.about(key.to_string()))?;
        let draft = self.inner.draft(key, trained, &Origin::default())?;
        let written = self.inner.write_draft(key, expect, draft);
        let published = match written {
            Ok(Published { version, doubt: None, .. }) => Ok(version),
            Ok(Published { doubt: Some(doubt), .. }) => Err(doubt),
            Err(unwritten) => Err(unwritten.error),
        };
        self.inner.after_write(published.as_ref().err());
        published
    }
}

impl Inner {
    /// The configuration to store: the key's own, or the one that an earlier version stored.
    pub(super) fn config_of(&self, key: &ModelKey) -> Result<String> {
        if let Some(config) = key.config() {
            return Ok(config.to_owned());
        }
        let newest = self.engine.look(|snapshot| {
            let newest = metadata::versions(snapshot, key)?.into_iter().next_back();
            newest.map(|version| metadata::require(snapshot, key, version)).transpose()
        })?;
        match newest {
            Some(stored) => Ok(stored.metadata.config),
            None => {
                let message = "the key was made from a hash and no configuration is stored for it; use ModelKey::new";
                Err(Error::invalid("publish", key.to_string(), message))
            }
        }
    }

    /// Writes the draft as the next version, in one transaction, and puts it into the hot tier. Gives the draft back
    /// when that fails.
    pub(super) fn write_draft(
        &self,
        key: &ModelKey,
        expect: Expect,
        mut draft: Draft,
    ) -> Result<Published, Box<Unwritten>> {
        if let Some(error) = draft.flaw.take() {
            return Err(Box::new(Unwritten { error, draft }));
        }
        let Written { version, metadata, hot, writer, committed } = match self.encode_and_write(key, expect, &draft) {
            Ok(written) => written,
            Err(error) => return Err(Box::new(Unwritten { error, draft })),
        };
        tracing::info!(%key, %version, bytes = metadata.archive_bytes, "published");
        let entry = self.admit(&hot, key, Draft { metadata, ..draft }, None);
        drop(hot);
        let doubt = committed.finish().err();
        drop(writer);
        Ok(Published { version, entry, doubt })
    }

    fn encode_and_write(&self, key: &ModelKey, expect: Expect, draft: &Draft) -> Result<Written<'_>> {
        self.engine.check_writable("publish")?;
        let model = Blob::raw(Kind::Model, &draft.metadata.schema, draft.checked.bytes(), draft.metadata.model_hash)?;
        let artifacts = draft
            .artifacts
            .iter()
            .map(|(name, raw)| Ok((name, artifacts::encode(raw)?)))
            .collect::<Result<Vec<_>>>()?;
        let superseded = self.superseded(key);
        let samples = match &draft.prepared {
            Some(prepared) => self.engine.look(|snapshot| training::stored::encode(snapshot, key, prepared))?,
            None => BTreeMap::new(),
        };
        let mut metadata = draft.metadata.clone();
        metadata.config = self.config_of(key)?;
        metadata.stored_bytes = model.stored_bytes();

        let writer = self.lock_writer();
        let batch = self.engine.write("publish")?;
        let (mut head, head_is_whole) = head::read_or_rebuild(&batch, key)?;
        check_expected(key, expect, &head, head_is_whole)?;
        let version = head.next_version();
        metadata.version = Some(version);
        if let Some(superseded) = superseded.filter(|superseded| head.current == Some(superseded.version)) {
            batch.put_blob_at(superseded.archive_id, &superseded.compressed)?;
        }
        for (name, artifact) in &artifacts {
            artifacts::write(&batch, key, version, name, artifact)?;
        }
        for name in &draft.carried {
            let carried = match metadata.parent {
                Some(parent) => artifacts::carry(&batch, key, parent, version, name)?,
                None => false,
            };
            if !carried {
                metadata.artifacts.retain(|known| known != name);
            }
        }
        if let Some(prepared) = &draft.prepared {
            training::stored::write(&batch, key, prepared, samples)?;
        }
        // The highest id of all, and the last to be written.
        let archive_id = batch.new_blob_id(&model)?;
        metadata::write(&batch, key, version, archive_id, &metadata)?;
        head.advance(version);
        if head_is_whole {
            self.retain(&batch, key, &mut head)?;
        }
        head::write(&batch, key, &head)?;
        // Last, and after the removals: see `put_archive`.
        batch.write_blob(archive_id, &model)?;
        let hot = self.hot.change();
        let committed = batch.commit().inspect_err(|err| {
            if err.kind() == ErrorKind::OutcomeUnknown {
                // Asked for again in the file.
                hot.remove(key);
            }
        })?;
        Ok(Written { version, metadata, hot, writer, committed })
    }

    /// Keeps a model that could not be stored: in the hot tier, too, when the store is at fault and nobody else moved
    /// the head, so that it is not trained again by the next call.
    pub(super) fn keep_unwritten(&self, key: &ModelKey, unwritten: Unwritten) -> Arc<Entry> {
        use ErrorKind as K;
        let Unwritten { error, draft } = unwritten;
        tracing::error!(%key, %error, "a trained model could not be stored");
        let _writer = self.lock_writer();
        let store_at_fault =
            matches!(error.kind(), K::ReadOnly | K::StorageFull | K::Io | K::Corrupt | K::Replaced | K::OutcomeUnknown);
        let is_where_it_was = match self.current_version(key) {
            Ok(current) => current == draft.seen,
            // Nobody could read it before either; unless it may have moved by this very call.
            Err(_) => draft.seen.is_none() && error.kind() != K::OutcomeUnknown,
        };
        if store_at_fault && is_where_it_was {
            self.admit(&self.hot.change(), key, draft, Some(error))
        } else {
            Arc::new(self.entry(draft, Some(error)))
        }
    }

    /// The version that the stored head names.
    pub(super) fn current_version(&self, key: &ModelKey) -> Result<Option<Version>> {
        Ok(self.engine.look(|snapshot| head::read(snapshot, key))?.and_then(|head| head.current))
    }

    /// A model that is not to be stored.
    pub(super) fn entry(&self, draft: Draft, publish_error: Option<Error>) -> Entry {
        let Draft { checked, metadata, .. } = draft;
        let entry = Entry::new(checked, metadata, Arc::clone(&self.clock));
        entry.mark_unpublished(publish_error);
        entry
    }

    /// Puts a model into the hot tier. The caller holds the writer's lock, so that no newer one can be there.
    fn admit(&self, hot: &Change<'_, Entry>, key: &ModelKey, draft: Draft, publish_error: Option<Error>) -> Arc<Entry> {
        let entry = Arc::new(self.entry(draft, publish_error));
        let evicted = hot.replace(key, self.candidate(Arc::clone(&entry)));
        self.counters.add(Counter::Evictions, evicted);
        self.followed.show(key, &entry);
        entry
    }

    /// Counts a training.
    pub(super) fn count_training(&self, took: Duration) {
        self.counters.add(Counter::Trainings, 1);
        self.counters.add(Counter::TrainingNanos, nanos(took));
    }

    fn retain(&self, batch: &Batch, key: &ModelKey, head: &mut Head) -> Result<()> {
        let Some(keep) = self.settings.retention else {
            return Ok(());
        };
        let versions = match metadata::versions(batch, key) {
            Ok(versions) => versions,
            // It can wait until somebody has seen to the damage.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%key, %error, "retention cannot see all versions; nothing is pruned");
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        for version in removal::beyond(&versions, head, keep) {
            let bytes = removal::remove_version(batch, key, version)?;
            head.forget(version);
            tracing::debug!(%key, %version, bytes, "pruned by retention");
        }
        Ok(())
    }

    /// The current version's archive in compressed form, when it is large, raw and whole. Compression is a saving and
    /// not worth failing for: what cannot be read stays as it is, and damaged bytes are not sealed anew.
    fn superseded(&self, key: &ModelKey) -> Option<Superseded> {
        if !self.settings.compress_superseded {
            return None;
        }
        let snapshot = self.engine.read().ok()?;
        let (version, stored) = registry::current(&snapshot, key).ok()??;
        let blob = snapshot.blob(stored.archive_id).ok()?;
        let envelope = blob.open(Kind::Model, Verify::Full).ok()?;
        if envelope.header.codec != Codec::Raw || envelope.payload.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        let compressed = Blob::compress(Kind::Model, &stored.metadata.schema, envelope.payload).ok()??;
        Some(Superseded { version, archive_id: stored.archive_id, compressed })
    }
}

/// The archive of the version that a publish supersedes, in the form that it is to have from then on.
struct Superseded {
    version: Version,
    archive_id: u64,
    compressed: Blob<'static>,
}

fn check_expected(key: &ModelKey, expect: Expect, head: &Head, head_is_whole: bool) -> Result<()> {
    let current = head.current;
    match expect {
        Expect::Current(_) if !head_is_whole => {
            let message = "the head is damaged, so nobody can say which version is current; publish unconditionally";
            Err(Error::corrupt("publish", key.to_string(), message))
        }
        Expect::Current(expected) if expected != current => {
            let name = |version: Option<Version>| version.map_or("no version".into(), |version| version.to_string());
            let message = format!("expected {} to be current, and {} is", name(expected), name(current));
            Err(Error::new(ErrorKind::Conflict { expected, current }, "publish", key.to_string(), message))
        }
        _ => Ok(()),
    }
}
