//! Copying a version from one store to another, with its age.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Models,
    archive::{Model, ValidatedBytes},
    catalog::{artifacts, head, metadata, metadata::Metadata},
    entry::{check_hash, whole_but_other},
    publish::Expect,
    staged::{Contents, SeenHead, StagedVersion},
    training::{self, stored::Prepared},
};
use crate::{
    engine::Snapshot,
    format::{codec::Codec, envelope::Kind},
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

const COPY: &str = "copy";

impl Models {
    /// Publishes `version` of a model, or its current one, in another store.
    pub(crate) fn copy_to<M: Model>(
        &self,
        key: &ModelKey,
        version: Option<Version>,
        destination: &Arc<Self>,
    ) -> Result<Version> {
        if std::ptr::eq(self, Arc::as_ptr(destination)) {
            return Err(Error::invalid(COPY, key.to_string(), "the destination is the store itself"));
        }
        destination.core.check_writable(COPY).map_err(|err| err.about(key.to_string()))?;
        // All of it from one state of the file.
        let staged = self.core.look(|snapshot| stage::<M>(snapshot, key, version))?;
        let key = key.clone().with_config(&staged.contents.metadata.config);
        destination.publish_staged(&key, Expect::Anything, staged)
    }
}

/// Reads a version with everything that belongs to it, checked in full.
fn stage<M: Model>(snapshot: &Snapshot, key: &ModelKey, version: Option<Version>) -> Result<StagedVersion> {
    let absent = |message: String| Error::new(ErrorKind::NotFound, COPY, key.to_string(), message);
    let version = match version {
        Some(version) => version,
        None => head::read(snapshot, key)?
            .and_then(|head| head.current)
            .ok_or_else(|| absent("there is no current version".to_owned()))?,
    };
    let metadata::Stored { metadata, archive_id } =
        metadata::read(snapshot, key, version)?.ok_or_else(|| absent(format!("there is no version {version}")))?;
    if !metadata.schema.is(&M::SCHEMA) {
        let message = format!("it is stored as {}, and was asked for as {}", metadata.schema, M::SCHEMA);
        return Err(Error::new(ErrorKind::SchemaMismatch, COPY, key.to_string(), message));
    }
    let bytes = snapshot.blob(archive_id)?.read(Kind::Model, &metadata.schema)?;
    check_hash(&format!("{key} {version}"), &metadata, &bytes)?;
    // Memory of its own: what lies in this file would keep it open for the other store.
    let bytes = crate::format::buffer::AlignedBuf::copied(&bytes)
        .map_err(|err| Error::no_memory(COPY, key.to_string(), err))?;
    let checked = ValidatedBytes::from_bytes::<M>(bytes).map_err(|err| whole_but_other(&M::SCHEMA, key, err))?;
    let artifact = |name: &crate::types::key::Label| {
        let bytes = artifacts::read(snapshot, key, version, name)?;
        let bytes = bytes.ok_or_else(|| Error::corrupt(COPY, format!("{key} {version} {name}"), "it is not there"))?;
        Ok((name.clone(), bytes))
    };
    let artifacts = metadata.artifacts.iter().map(artifact).collect::<Result<BTreeMap<_, _>>>()?;
    let prepared = training_data(snapshot, key, &metadata)?;
    let metadata = Metadata { version: None, parent: None, codec: Codec::Raw, stored_bytes: 0, ..metadata };
    Ok(StagedVersion {
        checked: Arc::new(checked),
        contents: Contents { metadata, prepared, artifacts, carried: Vec::new() },
        seen: SeenHead::Unread,
        publish_error: None,
    })
}

/// The stored training data, if it is what this version was trained on: it belongs to the key, and may be newer.
fn training_data(snapshot: &Snapshot, key: &ModelKey, metadata: &Metadata) -> Result<Option<Prepared>> {
    if metadata.training_hash.is_none() {
        return Ok(None);
    }
    let stored = training::stored::read(snapshot, key)?;
    let prepared = stored.as_ref().map(Prepared::new).transpose()?;
    Ok(prepared.filter(|prepared| metadata.training_hash == Some(prepared.hash())))
}
