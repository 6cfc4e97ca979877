//! Publishing: everything that a training produced, in one transaction.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    Models,
    archive::Model,
    catalog::{
        self, artifacts,
        head::{self, Head},
        metadata::{self, Metadata},
        removal,
    },
    entry::Entry,
    new_model::NewModel,
    staged::{Lineage, SeenHead, StagedVersion},
    tiers::{Change, PublishedModel},
    training,
};
use crate::{
    engine::{Batch, Snapshot, sealed::Blob},
    format::{
        codec::Codec,
        envelope::{Kind, Verify},
    },
    types::{
        error::{Error, ErrorKind, Result},
        invariant::Invariant,
        key::{Label, ModelKey, Symbol},
        version::Version,
    },
};

/// Below this size compressing a superseded archive saves less than a page.
const COMPRESS_BYTES_MIN: usize = 8192;

/// What the head must be for a publish to go through.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    Anything,
    Current(Option<Version>),
}

/// A version that is in the file, and shown.
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

/// A version that could not be written, and why.
pub(super) struct PublishFailure {
    pub(super) error: Error,
    pub(super) staged: StagedVersion,
}

impl Models {
    pub(crate) fn publish<M: Model>(
        self: &Arc<Self>,
        key: &ModelKey,
        expect: Expect,
        trained: NewModel<M>,
    ) -> Result<Version> {
        self.core.check_writable("publish").map_err(|err| err.about(key.to_string()))?;
        let staged = self.stage(key, trained, &Lineage::default())?;
        self.publish_staged(key, expect, staged)
    }

    /// Writes it as the next version and shows it.
    pub(super) fn publish_staged(
        self: &Arc<Self>,
        key: &ModelKey,
        expect: Expect,
        staged: StagedVersion,
    ) -> Result<Version> {
        match self.write_staged(key, expect, staged) {
            Ok(Published { version, doubt: None, .. }) => Ok(version),
            Ok(Published { doubt: Some(doubt), .. }) => Err(doubt),
            Err(unwritten) => Err(unwritten.error),
        }
    }

    /// Writes it as the next version, in one transaction, and shows it. Gives it back when that fails.
    pub(super) fn write_staged(
        self: &Arc<Self>,
        key: &ModelKey,
        expect: Expect,
        mut staged: StagedVersion,
    ) -> Result<Published, Box<PublishFailure>> {
        if let Some(error) = staged.publish_error.take() {
            return Err(Box::new(PublishFailure { error, staged }));
        }
        match self.commit_staged(&[(key, &staged)], expect) {
            Ok((written, doubt)) => {
                let Written { version, entry } = written.into_iter().next().always("one was written");
                Ok(Published { version, entry, doubt })
            }
            Err(error) => Err(Box::new(PublishFailure { error, staged })),
        }
    }

    /// Publishes several models in one transaction: all of them, or none.
    pub(crate) fn publish_many<M: Model>(
        self: &Arc<Self>,
        trained: impl IntoIterator<Item = (ModelKey, NewModel<M>)>,
    ) -> Result<Vec<Version>> {
        self.core.check_writable("publish")?;
        let (mut all, mut keys) = (Vec::new(), HashSet::new());
        for (key, trained) in trained {
            if !keys.insert(key.clone()) {
                return Err(Error::invalid("publish", key.to_string(), "the model is there twice"));
            }
            let mut staged = self.stage(&key, trained, &Lineage::default())?;
            if let Some(error) = staged.publish_error.take() {
                return Err(error);
            }
            all.push((key, staged));
        }
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<_> = all.iter().map(|(key, staged)| (key, staged)).collect();
        let (written, doubt) = self.commit_staged(&all, Expect::Anything)?;
        doubt.map_or(Ok(written.iter().map(|written| written.version).collect()), Err)
    }

    /// Writes each as the next version of its model, in one transaction, and shows it.
    fn commit_staged(
        self: &Arc<Self>,
        all: &[(&ModelKey, &StagedVersion)],
        expect: Expect,
    ) -> Result<(Vec<Written>, Option<Error>)> {
        let encoded = self.encode(all)?;
        let change = |batch: &Batch| {
            let (mut written, mut shown) = (Vec::new(), Vec::new());
            for ((key, staged), encoded) in all.iter().zip(encoded) {
                let (version, entry) = self.write(batch, key, expect, staged, encoded)?;
                shown.push(Change::Published(PublishedModel { key: (*key).clone(), entry: Arc::clone(&entry) }));
                written.push(Written { version, entry });
            }
            Ok((written, shown))
        };
        let (written, doubt) = self.commit_or_doubt("publish", change)?;
        for (Written { version, entry }, (key, _)) in written.iter().zip(all) {
            tracing::info!(%key, %version, bytes = entry.metadata.archive_bytes, "published");
        }
        Ok((written, doubt))
    }

    /// Encodes everything that the transaction writes, before its turn, from one state of the file.
    fn encode<'a>(&self, all: &[(&ModelKey, &'a StagedVersion)]) -> Result<Vec<Encoded<'a>>> {
        self.core.check_writable("publish")?;
        let encode = |snapshot: &Snapshot, (key, staged): &(&ModelKey, &'a StagedVersion)| {
            self.encode_from(snapshot, key, staged)
        };
        self.core.look_only(|snapshot| all.iter().map(|one| encode(snapshot, one)).collect())
    }

    fn encode_from<'a>(&self, before: &Snapshot, key: &ModelKey, staged: &'a StagedVersion) -> Result<Encoded<'a>> {
        let artifacts = staged.artifacts.iter().map(|(name, raw)| Ok((name, artifacts::encode(raw)?)));
        let samples = |prepared| training::stored::encode(before, key, prepared);
        let metadata = &staged.metadata;
        Ok(Encoded {
            model: Blob::raw(Kind::Model, &metadata.schema, staged.checked.bytes(), metadata.model_hash)?,
            artifacts: artifacts.collect::<Result<Vec<_>>>()?,
            superseded: self.superseded(before, key),
            samples: staged.prepared.as_ref().map(samples).transpose()?.unwrap_or_default(),
            config: config_of(before, key)?,
        })
    }

    /// Writes the next version and makes it current.
    fn write(
        &self,
        batch: &Batch,
        key: &ModelKey,
        expect: Expect,
        staged: &StagedVersion,
        encoded: Encoded<'_>,
    ) -> Result<(Version, Arc<Entry>)> {
        let Encoded { model, artifacts, superseded, samples, config } = encoded;
        let (mut head, head_is_whole) = head::read_or_rebuild(batch, key)?;
        check_expected(key, expect, &head, head_is_whole)?;
        let version = head.next_version();
        let stored_bytes = model.stored_bytes();
        let mut metadata = Metadata { version: Some(version), config, stored_bytes, ..staged.metadata.clone() };
        if let Some(superseded) = superseded.filter(|superseded| head.current == Some(superseded.version)) {
            batch.put_blob_at(superseded.archive_id, &superseded.compressed)?;
        }
        for (name, artifact) in &artifacts {
            artifacts::write(batch, key, version, name, artifact)?;
        }
        for name in &staged.carried {
            let carried = match metadata.parent {
                Some(parent) => artifacts::carry(batch, key, parent, version, name)?,
                None => false,
            };
            if !carried {
                metadata.artifacts.retain(|known| known != name);
            }
        }
        if let Some(prepared) = &staged.prepared {
            training::stored::write(batch, key, prepared, samples)?;
        }
        // The highest id of all so far, and of its model the last to be written.
        let archive_id = batch.new_blob_id(&model)?;
        metadata::write(batch, key, version, archive_id, &metadata)?;
        head.advance(version);
        if head_is_whole {
            self.retain(batch, key, &mut head)?;
        }
        head::write(batch, key, &head)?;
        // Last, and after the removals: see `put_archive`.
        batch.write_blob(archive_id, &model)?;
        let entry = Entry::new(Arc::clone(&staged.checked), metadata, Arc::clone(self.core.clock()));
        Ok((version, Arc::new(entry)))
    }

    /// Keeps a model that could not be stored: in memory, too, when the store is at fault and nobody else moved the
    /// head, so that it is not trained again by the next call.
    pub(super) fn keep_unwritten(self: &Arc<Self>, key: &ModelKey, unwritten: PublishFailure) -> Arc<Entry> {
        use ErrorKind as K;
        let PublishFailure { error, staged } = unwritten;
        tracing::error!(%key, %error, "a trained model could not be stored");
        let turn = self.core.turn();
        let store_at_fault =
            matches!(error.kind(), K::ReadOnly | K::StorageFull | K::Io | K::Corrupt | K::Replaced | K::OutcomeUnknown);
        let current = self.current_version(key);
        let is_where_it_was = match (&current, staged.seen) {
            (Ok(current), SeenHead::Current(seen)) => *current == seen,
            (Ok(current), SeenHead::Unread) => current.is_none(),
            // It is seen to when that can be read; unless it may have moved by this very call.
            (Err(_), _) => error.kind() != K::OutcomeUnknown,
        };
        let entry = Arc::new(self.unstored(staged, Some(error)));
        if store_at_fault && is_where_it_was {
            let shown = PublishedModel { key: key.clone(), entry: Arc::clone(&entry) };
            self.show_uncommitted(&turn, Change::Published(shown));
            if current.is_err() {
                self.compare_later(&turn);
            }
        }
        entry
    }

    /// The version that the stored head names.
    pub(super) fn current_version(&self, key: &ModelKey) -> Result<Option<Version>> {
        Ok(self.core.look_only(|snapshot| head::read(snapshot, key))?.and_then(|head| head.current))
    }

    /// A model that is not in the file.
    pub(super) fn unstored(&self, staged: StagedVersion, publish_error: Option<Error>) -> Entry {
        let StagedVersion { checked, metadata, seen, .. } = staged;
        let entry = Entry::new(checked, metadata, Arc::clone(self.core.clock())).trained_over(seen);
        entry.mark_unpublished(publish_error);
        entry
    }

    fn retain(&self, batch: &Batch, key: &ModelKey, head: &mut Head) -> Result<()> {
        let Some(keep) = self.settings.retention else {
            return Ok(());
        };
        let seen = metadata::versions(batch, key)
            .and_then(|versions| Ok(removal::beyond(&versions, head, &removal::protected(batch, key, head)?, keep)));
        let unwanted = match seen {
            Ok(unwanted) => unwanted,
            // It can wait until somebody has seen to the damage.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%key, %error, "retention cannot see all versions and aliases; nothing is pruned");
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        for version in unwanted {
            let bytes = removal::remove_version(batch, key, version)?;
            head.forget(version);
            tracing::debug!(%key, %version, bytes, "pruned by retention");
        }
        Ok(())
    }

    /// The current version's archive in compressed form, when it is large, raw and whole. Compression is a saving and
    /// not worth failing for: what cannot be read stays as it is, and damaged bytes are not sealed anew.
    fn superseded(&self, before: &Snapshot, key: &ModelKey) -> Option<Superseded> {
        if !self.settings.compress_superseded {
            return None;
        }
        let (version, stored) = catalog::current(before, key).ok()??;
        let blob = before.blob(stored.archive_id).ok()?;
        let envelope = blob.open(Kind::Model, Verify::Full).ok()?;
        if envelope.header.codec != Codec::Raw || envelope.payload.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        let compressed = Blob::compress(Kind::Model, &stored.metadata.schema, envelope.payload).ok()??;
        Some(Superseded { version, archive_id: stored.archive_id, compressed })
    }
}

/// A version that a transaction wrote.
struct Written {
    version: Version,
    entry: Arc<Entry>,
}

/// What a publish writes, encoded.
struct Encoded<'a> {
    model: Blob<'a>,
    artifacts: Vec<(&'a Label, artifacts::Encoded<'a>)>,
    superseded: Option<Superseded>,
    samples: BTreeMap<&'a Symbol, Blob<'a>>,
    config: String,
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

/// The configuration to store: the key's own, or the one that an earlier version stored.
fn config_of(before: &Snapshot, key: &ModelKey) -> Result<String> {
    if let Some(config) = key.config() {
        return Ok(config.to_owned());
    }
    match metadata::versions(before, key)?.into_iter().next_back() {
        Some(newest) => Ok(metadata::require(before, key, newest)?.metadata.config),
        None => {
            let message = "the key was made from a hash and no configuration is stored for it; use ModelKey::new";
            Err(Error::invalid("publish", key.to_string(), message))
        }
    }
}
