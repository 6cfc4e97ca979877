//! Publishing: everything that a training produced, in one transaction.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    Models,
    archive::{Model, ValidatedBytes},
    catalog::{
        artifacts,
        head::{self, Head},
        metadata::{self, Metadata},
    },
    entry::Entry,
    new_model::NewModel,
    retention::{Compressed, Leftover, put_compressed},
    staged::{Contents, Lineage, SeenHead, StagedVersion},
    tiers::{Change, PublishedModel},
    training,
};
use crate::{
    engine::{
        Batch, Sealed, Snapshot,
        sealed::{Blob, BlobHead},
    },
    format::envelope::Kind,
    types::{
        error::{Error, ErrorKind, Result},
        invariant::Invariant,
        key::{Label, ModelKey, Symbol},
        version::Version,
    },
};

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
        match self.commit_staged(&mut [(key, &mut staged)], expect) {
            Ok((written, doubt)) => {
                let Written { version, entry, .. } = written.into_iter().next().always("one was written");
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
        let mut all: Vec<_> = all.iter_mut().map(|(key, staged)| (&*key, staged)).collect();
        let (written, doubt) = self.commit_staged(&mut all, Expect::Anything)?;
        doubt.map_or(Ok(written.iter().map(|written| written.version).collect()), Err)
    }

    /// Writes each as the next version of its model, in one transaction, and shows it. In a file that is full what
    /// waits to be removed makes room.
    fn commit_staged(
        self: &Arc<Self>,
        all: &mut [(&ModelKey, &mut StagedVersion)],
        expect: Expect,
    ) -> Result<(Vec<Written>, Option<Error>)> {
        match self.try_to_commit(all, expect) {
            Err(err) if err.kind() == ErrorKind::StorageFull && self.make_room() => self.try_to_commit(all, expect),
            done => done,
        }
    }

    fn try_to_commit(
        self: &Arc<Self>,
        all: &mut [(&ModelKey, &mut StagedVersion)],
        expect: Expect,
    ) -> Result<(Vec<Written>, Option<Error>)> {
        self.core.check_writable("publish")?;
        let (mut archives, contents): (Vec<_>, Vec<_>) = all
            .iter_mut()
            .map(|(key, staged)| {
                let StagedVersion { checked, contents, .. } = &mut **staged;
                (checked, (*key, &*contents))
            })
            .unzip();
        let encoded = self.core.look_only(|snapshot| {
            let of = |(archive, &(key, contents)): (&&mut Arc<ValidatedBytes>, &(_, _))| {
                self.encode(snapshot, key, archive, contents)
            };
            archives.iter().zip(&contents).map(of).collect::<Result<Vec<_>>>()
        })?;
        let change = |batch: &Batch| {
            let (mut written, mut shown) = (Vec::new(), Vec::new());
            for ((archive, (key, contents)), encoded) in archives.iter_mut().zip(&contents).zip(encoded) {
                let one = self.write(batch, key, expect, archive, contents, encoded)?;
                shown.push(Change::Published(PublishedModel { key: (*key).clone(), entry: Arc::clone(&one.entry) }));
                written.push(one);
            }
            Ok((written, shown))
        };
        let note = |written: &Vec<Written>| {
            self.note_leftovers(written.iter().zip(&contents).map(|(written, &(key, _))| (key, written.left)));
        };
        let (written, doubt) = self.commit_or_doubt("publish", change, note)?;
        for (Written { version, entry, .. }, (key, _)) in written.iter().zip(&*all) {
            tracing::info!(%key, %version, bytes = entry.metadata.archive_bytes, "published");
        }
        if written.iter().any(|written| written.left.is_some()) {
            self.maintain_soon();
        }
        Ok((written, doubt))
    }

    /// Encodes everything that the transaction writes, before its turn, from one state of the file.
    fn encode<'a>(
        &self,
        before: &Snapshot,
        key: &ModelKey,
        archive: &ValidatedBytes,
        contents: &'a Contents,
    ) -> Result<Encoded<'a>> {
        let artifacts = contents.artifacts.iter().map(|(name, raw)| Ok((name, artifacts::encode(raw)?)));
        let samples = |prepared| training::stored::encode(before, key, prepared);
        let metadata = &contents.metadata;
        Ok(Encoded {
            model: BlobHead::raw(Kind::Model, &metadata.schema, archive.bytes(), metadata.model_hash)?,
            artifacts: artifacts.collect::<Result<Vec<_>>>()?,
            superseded: self.compressed_now(before, key)?,
            samples: contents.prepared.as_ref().map(samples).transpose()?.unwrap_or_default(),
            config: config_of(before, key)?,
        })
    }

    /// Writes the next version and makes it current.
    fn write(
        &self,
        batch: &Batch,
        key: &ModelKey,
        expect: Expect,
        archive: &mut Arc<ValidatedBytes>,
        contents: &Contents,
        encoded: Encoded<'_>,
    ) -> Result<Written> {
        let Encoded { model, artifacts, superseded, samples, config } = encoded;
        let (mut head, head_is_whole) = head::read_or_rebuild(batch, key)?;
        check_expected(key, expect, &head, head_is_whole)?;
        let version = head.next_version();
        let stored_bytes = model.stored_bytes();
        let mut metadata = Metadata { version: Some(version), config, stored_bytes, ..contents.metadata.clone() };
        for (name, artifact) in &artifacts {
            artifacts::write(batch, key, version, name, artifact)?;
        }
        for name in &contents.carried {
            let carried = match metadata.parent {
                Some(parent) => artifacts::carry(batch, key, parent, version, name)?,
                None => false,
            };
            if !carried {
                metadata.artifacts.retain(|known| known != name);
            }
        }
        if let Some(prepared) = &contents.prepared {
            training::stored::write(batch, key, prepared, samples)?;
        }
        // The highest id of all so far, and of its model the last to be written.
        let archive_id = batch.new_blob_id(&model)?;
        metadata::write(batch, key, version, archive_id, &metadata)?;
        let before = head.current;
        head.advance(version);
        let mut left = None;
        if head_is_whole {
            left = self.retire(batch, key, &mut head, before, superseded.as_ref())?;
        }
        head::write(batch, key, &head)?;
        if let Some(superseded) = superseded {
            put_compressed(batch, key, &head, superseded)?;
        }
        // Last, and after the removals: see `put_archive`.
        let header = model.seal_for(archive_id);
        match Arc::get_mut(archive).and_then(|archive| archive.sealed(&header)) {
            Some(sealed) => batch.write_archive(archive_id, &Sealed::Whole(sealed))?,
            None => batch.write_archive(archive_id, &Sealed::Apart { header: &header, payload: archive.bytes() })?,
        }
        let entry = Entry::new(Arc::clone(archive), metadata, Arc::clone(self.core.clock()));
        Ok(Written { version, entry: Arc::new(entry), left })
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
        let StagedVersion { checked, contents, seen, .. } = staged;
        let entry = Entry::new(checked, contents.metadata, Arc::clone(self.core.clock())).trained_over(seen);
        entry.mark_unpublished(publish_error);
        entry
    }
}

/// A version that a transaction wrote.
struct Written {
    version: Version,
    entry: Arc<Entry>,
    /// What it left for maintenance.
    left: Option<Leftover>,
}

/// What a publish writes, encoded.
struct Encoded<'a> {
    model: BlobHead,
    artifacts: Vec<(&'a Label, artifacts::Encoded<'a>)>,
    superseded: Option<Compressed>,
    samples: BTreeMap<&'a Symbol, Blob<'a>>,
    config: String,
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
