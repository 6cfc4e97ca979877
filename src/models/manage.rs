//! Changing what is there: rollbacks, pins, and deletions with a dry run.

use std::{cell::Cell, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::{
    Models,
    catalog::{aliases, aliases::Alias, head, head::Head, metadata, quarantine, removal, superseded},
    filter::name_prefix,
    tiers::Change,
    training,
};
use crate::{
    engine::{Batch, Reader, Table, identity, sealed::Blob},
    format::{
        codec::{self, Codec},
        envelope::{Kind, Verify},
    },
    types::{
        error::{Error, ErrorKind, Result},
        key::{ModelKey, ModelName},
        version::Version,
    },
};

/// What a deletion removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The versions, in order of key and version.
    pub versions: Vec<RemovedVersion>,
    /// Bytes of all keys and values, training data included.
    pub bytes: u64,
}

/// One version that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedVersion {
    /// The model's key.
    pub key: ModelKey,
    /// The version.
    pub version: Version,
    /// Bytes of its archive, metadata and artifacts.
    pub bytes: u64,
}

/// A deletion that is ready to be run. Nothing happens before [`run`](Self::run).
///
/// ```
/// use modelkeep::{ModelKey, Store};
///
/// let store = Store::in_memory()?;
/// let removal = store.remove(&ModelKey::new("bounce", &())?);
/// println!("{} bytes would go", removal.dry_run()?.bytes);
/// removal.run()?;
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is removed before `run`"]
pub struct Removal<'a> {
    models: &'a Arc<Models>,
    scope: Scope,
}

impl fmt::Debug for Removal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removal").field("scope", &self.scope).finish_non_exhaustive()
    }
}

const ROLL_BACK: &str = "roll back";

#[derive(Clone, Debug)]
enum Scope {
    Version(ModelKey, Version),
    Key(ModelKey),
    Name(ModelName),
    Beyond { key: ModelKey, keep: usize },
    BeyondAll { keep: usize },
    OlderThan(Duration),
}

impl Models {
    /// Makes the previous version current again and returns it.
    pub(crate) fn rollback(self: &Arc<Self>, key: &ModelKey) -> Result<Version> {
        self.move_head(key, None)
    }

    /// Makes `version` current.
    pub(crate) fn rollback_to(self: &Arc<Self>, key: &ModelKey, version: Version) -> Result<()> {
        self.move_head(key, Some(version)).map(drop)
    }

    fn move_head(self: &Arc<Self>, key: &ModelKey, to: Option<Version>) -> Result<Version> {
        loop {
            let head = self.core.look(|snapshot| head::read(snapshot, key))?.unwrap_or_default();
            let message = "there is no previous version";
            let none = || Error::new(ErrorKind::NotFound, ROLL_BACK, key.to_string(), message);
            let target = to.or(head.previous).ok_or_else(none)?;
            // Which version is the previous one may have changed meanwhile: then it is asked for again.
            let expected = to.is_none().then_some(target);
            if self.move_head_to(key, target, expected)? {
                return Ok(target);
            }
        }
    }

    /// Makes `target` current, if the previous version is still `expected`.
    fn move_head_to(self: &Arc<Self>, key: &ModelKey, target: Version, expected: Option<Version>) -> Result<bool> {
        let operation = ROLL_BACK;
        let missing = |message| Error::new(ErrorKind::NotFound, operation, key.to_string(), message);
        let raw = self.decompressed(key, target)?;
        let overtaken = Cell::new(false);
        let change = |batch: &Batch| {
            let mut head = head::read(batch, key)?.unwrap_or_default();
            if expected.is_some() && head.previous != expected {
                overtaken.set(true);
                return Err(missing("another version is the previous one by now".to_owned()));
            }
            let Some(stored) = metadata::read(batch, key, target)? else {
                return Err(missing(format!("there is no version {target}")));
            };
            if let Some(reason) = quarantine::reason(batch, key, target)? {
                return Err(Error::corrupt(operation, key.to_string(), format!("{target} is quarantined: {reason}")));
            }
            // It was raw, and maintenance came in between: then it is decompressed first.
            if raw.is_none() && is_compressed(batch, &stored)? {
                overtaken.set(true);
                return Err(missing("it was compressed meanwhile".to_owned()));
            }
            // The current version is read often and in place; superseded ones may have been compressed.
            head.advance(target);
            head::write(batch, key, &head)?;
            // Last, as in a publish.
            if let Some(raw) = &raw {
                let blob = Blob::encode(Kind::Model, &stored.metadata.schema, Codec::Raw, raw)?;
                batch.put_blob_at(stored.archive_id, &blob)?;
            }
            Ok(((), vec![Change::Moved { key: key.clone(), version: target }]))
        };
        match self.commit(operation, change) {
            Err(_) if overtaken.get() => return Ok(false),
            done => done?,
        }
        tracing::info!(%key, version = %target, "rolled back");
        Ok(true)
    }

    /// Pins a version.
    pub(crate) fn pin(self: &Arc<Self>, key: &ModelKey, version: Version) -> Result<()> {
        self.set_pin(key, version, true)
    }

    /// Takes the pin off a version.
    pub(crate) fn unpin(self: &Arc<Self>, key: &ModelKey, version: Version) -> Result<()> {
        self.set_pin(key, version, false)
    }

    fn set_pin(self: &Arc<Self>, key: &ModelKey, version: Version, pinned: bool) -> Result<()> {
        let change = |batch: &Batch| {
            let mut head = head::read(batch, key)?.unwrap_or_default();
            if !metadata::versions(batch, key)?.contains(&version) {
                let message = format!("there is no version {version}");
                return Err(Error::new(ErrorKind::NotFound, "pin", key.to_string(), message));
            }
            head.set_pin(key, version, pinned)?;
            if !pinned {
                // So that what it kept can be removed.
                batch.frees_room();
            }
            head::write(batch, key, &head)
        };
        self.core.commit("pin", change)
    }

    /// Deletes all but the newest `keep` versions of a model.
    pub(crate) fn prune(self: &Arc<Self>, key: &ModelKey, keep: usize) -> Removal<'_> {
        self.removal(Scope::Beyond { key: key.clone(), keep })
    }

    /// Does [`prune`](Self::prune) for every model.
    pub(crate) fn prune_all(self: &Arc<Self>, keep: usize) -> Removal<'_> {
        self.removal(Scope::BeyondAll { keep })
    }

    /// Deletes one version.
    pub(crate) fn remove_version(self: &Arc<Self>, key: &ModelKey, version: Version) -> Removal<'_> {
        self.removal(Scope::Version(key.clone(), version))
    }

    /// Deletes a model.
    pub(crate) fn remove(self: &Arc<Self>, key: &ModelKey) -> Removal<'_> {
        self.removal(Scope::Key(key.clone()))
    }

    /// Deletes all models of this name, under every configuration, on disk and in memory.
    pub(crate) fn invalidate(self: &Arc<Self>, name: &str) -> Result<Removal<'_>> {
        Ok(self.removal(Scope::Name(ModelName::new(name)?)))
    }

    /// Deletes every version, of any model, that was last updated longer than `older_than` ago and is not pinned.
    pub(crate) fn prune_older_than(self: &Arc<Self>, older_than: Duration) -> Removal<'_> {
        self.removal(Scope::OlderThan(older_than))
    }

    /// Accepts that rows are missing: versions are numbered on from above all that can have been given out.
    pub(crate) fn accept_losses(&self) -> Result<()> {
        let now = self.core.now();
        self.core.commit("accept losses", |batch| {
            head::raise_floor(batch)?;
            identity::renew(batch, now)?;
            batch.forget_losses()
        })
    }

    fn removal(self: &Arc<Self>, scope: Scope) -> Removal<'_> {
        Removal { models: self, scope }
    }
}

impl Models {
    /// The archive of a version in decoded form, if it is stored compressed.
    fn decompressed(&self, key: &ModelKey, version: Version) -> Result<Option<Vec<u8>>> {
        self.core.look_only(|snapshot| {
            let Some(stored) = metadata::read(snapshot, key, version)? else {
                return Ok(None);
            };
            let blob = snapshot.blob(stored.archive_id)?;
            let envelope = blob.open(Kind::Model, Verify::Full)?;
            if envelope.header.codec == Codec::Raw {
                return Ok(None);
            }
            Ok(Some(codec::decode(envelope.header.codec, envelope.payload, envelope.header.raw_len)?.to_vec()))
        })
    }
}

impl Removal<'_> {
    /// Says what [`run`](Self::run) would remove. It is the run itself, without the commit.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// store.publish(&key, trained())?;
    /// let removal = store.remove(&key);
    /// assert_eq!(removal.dry_run()?.versions.len(), 1);
    /// assert!(store.get::<Momentum>(&key)?.is_some()); // it is still there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn dry_run(&self) -> Result<Removed> {
        self.models.core.try_out("remove", |batch| Ok(self.apply(batch)?.0))
    }

    /// Removes, in one transaction, and returns what was removed. The pages are free for later writes; the file
    /// shrinks when it is compacted. Until it is committed a removal needs room of its own, for which it may grow the
    /// file beyond [`Options::file_bytes_max`](crate::Options::file_bytes_max), to twice as much.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// store.publish(&key, trained())?;
    /// let removed = store.remove(&key).run()?;
    /// assert!(removed.bytes > 0 && store.get::<Momentum>(&key)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Pinned`, `ReadOnly`, `Corrupt` when the head of the model is damaged (a publish makes a new one), or [what a
    /// write can fail with](crate::Store#what-a-write-can-fail-with). Nothing is removed then. Of all models, one with
    /// a damaged head is left alone.
    pub fn run(&self) -> Result<Removed> {
        let removed = self.models.commit("remove", |batch| {
            let (removed, gone) = self.apply(batch)?;
            // Also what was trained and never reached the file.
            let (keys, name) = match &self.scope {
                Scope::Name(name) => (gone, Some(name.clone())),
                Scope::Key(key) => (vec![key.clone()], None),
                _ => (gone, None),
            };
            let is_nothing = keys.is_empty() && name.is_none();
            let changes = if is_nothing { Vec::new() } else { vec![Change::Removed { keys, name }] };
            Ok((removed, changes))
        })?;
        tracing::info!(versions = removed.versions.len(), bytes = removed.bytes, "removed");
        Ok(removed)
    }

    /// Removes in `batch`; returns also the keys whose current version is gone.
    fn apply(&self, batch: &Batch) -> Result<(Removed, Vec<ModelKey>)> {
        batch.frees_room();
        let (mut removed, mut gone) = (Removed::default(), Vec::new());
        for (key, unwanted) in self.unwanted(batch)? {
            let mut head = head::read_or_begin(batch, &key)?;
            let had_current = head.current.is_some();
            for version in unwanted {
                let bytes = removal::remove_version(batch, &key, version)?;
                head.forget(version);
                removed.bytes += bytes;
                removed.versions.push(RemovedVersion { key: key.clone(), version, bytes });
            }
            if metadata::versions(batch, &key)?.is_empty() {
                removed.bytes += training::stored::remove(batch, &key)? + aliases::remove_all(batch, &key)?;
                superseded::clear(batch, &key)?;
            }
            if had_current && head.current.is_none() {
                gone.push(key.clone());
            }
            head::write(batch, &key, &head)?;
        }
        Ok((removed, gone))
    }

    /// The versions to delete, by key.
    fn unwanted(&self, batch: &Batch) -> Result<BTreeMap<ModelKey, Vec<Version>>> {
        let prefix = match &self.scope {
            Scope::Key(key) | Scope::Version(key, _) | Scope::Beyond { key, .. } => key.to_bytes(),
            Scope::Name(name) => name_prefix(name),
            Scope::BeyondAll { .. } | Scope::OlderThan(_) => Vec::new(),
        };
        let mut by_key: BTreeMap<ModelKey, Vec<Version>> = BTreeMap::new();
        for row in batch.keys(Table::Metadata, &prefix)? {
            if let Some((key, version)) = metadata::split_row(&row) {
                by_key.entry(key).or_default().push(version);
            }
        }
        if let Scope::Version(key, version) = &self.scope
            && !by_key.get(key).is_some_and(|versions| versions.contains(version))
        {
            let message = format!("there is no version {version}");
            return Err(Error::new(ErrorKind::NotFound, "remove", key.to_string(), message));
        }
        let mut unwanted = BTreeMap::new();
        for (key, versions) in by_key {
            match self.unwanted_of(batch, &key, versions) {
                Ok(versions) if versions.is_empty() => {}
                Ok(versions) => drop(unwanted.insert(key, versions)),
                // Of many models, one whose head is damaged is left alone; of one, it is what the caller must know.
                Err(error) if prefix.is_empty() && error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(%key, %error, "its head is damaged; nothing of it is removed");
                }
                Err(err) => return Err(err),
            }
        }
        Ok(unwanted)
    }

    /// The versions of one model to delete. Without its head nobody can say which are pinned or current.
    fn unwanted_of(&self, batch: &Batch, key: &ModelKey, mut versions: Vec<Version>) -> Result<Vec<Version>> {
        let head = head::read(batch, key)?.unwrap_or_default();
        match &self.scope {
            Scope::Version(_, version) => {
                if head.current == Some(*version) {
                    let message =
                        format!("{version} is current; roll back, or publish another one, before removing it");
                    return Err(Error::new(ErrorKind::Pinned, "remove", key.to_string(), message));
                }
                versions.retain(|other| other == version);
                refuse_protected(batch, key, &head, &versions)?;
            }
            Scope::Key(_) | Scope::Name(_) => refuse_protected(batch, key, &head, &versions)?,
            Scope::Beyond { keep, .. } | Scope::BeyondAll { keep } => {
                versions = removal::beyond(&versions, &head, &removal::protected(batch, key, &head)?, *keep);
                versions.reverse();
            }
            Scope::OlderThan(age) => {
                let protected = removal::protected(batch, key, &head)?;
                versions.retain(|&version| !protected.contains(&version) && self.is_older(batch, key, version, *age));
            }
        }
        Ok(versions)
    }

    /// Whether a version is older than `age`; one whose metadata is damaged has no age and is left alone.
    fn is_older(&self, batch: &Batch, key: &ModelKey, version: Version, age: Duration) -> bool {
        let now = self.models.core.now();
        match metadata::read(batch, key, version) {
            Ok(Some(stored)) => now.since(stored.metadata.last_updated) > age,
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(%key, %version, %error, "its age cannot be read; left alone");
                false
            }
        }
    }
}

/// Whether the archive of a version is compressed, in the state that a transaction began with.
fn is_compressed(batch: &Batch, stored: &metadata::Stored) -> Result<bool> {
    let blob = batch.before().blob(stored.archive_id)?;
    let envelope = blob.open(Kind::Model, Verify::Structure)?;
    Ok(envelope.header.codec != Codec::Raw)
}

/// Refuses to delete versions of which one is pinned, or has an alias.
fn refuse_protected(batch: &Batch, key: &ModelKey, head: &Head, unwanted: &[Version]) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Pinned, "remove", key.to_string(), message));
    let pins: Vec<String> = head.pins.iter().filter(|pin| unwanted.contains(pin)).map(ToString::to_string).collect();
    if !pins.is_empty() {
        return refuse(format!("{} pinned; unpin before removing", pins.join(", ")));
    }
    let aliases = aliases::list(batch, key)?;
    let leads_there = aliases.iter().find(|alias| alias.version.is_some_and(|version| unwanted.contains(&version)));
    match leads_there {
        Some(Alias { name, version: Some(version), .. }) => {
            refuse(format!("the alias {name} leads to {version}; move or remove the alias before removing"))
        }
        _ => Ok(()),
    }
}
