//! Aliases of versions: set, moved, removed, followed.

use std::sync::Arc;

use super::{
    Models,
    archive::Model,
    catalog::{aliases, aliases::Alias, metadata, quarantine},
    model_ref::ModelRef,
};
use crate::{
    engine::Batch,
    types::{
        error::{Error, ErrorKind, Result},
        key::{Label, ModelKey},
        version::Version,
    },
};

impl Models {
    /// Has `name` lead to `version`; returns the version that it led to before.
    pub(crate) fn set_alias(&self, key: &ModelKey, name: &str, version: Version) -> Result<Option<Version>> {
        let (name, now) = (Label::new(name)?, self.core.now());
        let before = self.core.commit("set alias", |batch: &Batch| {
            if metadata::read(batch, key, version)?.is_none() {
                let message = format!("there is no version {version}");
                return Err(Error::new(ErrorKind::NotFound, "set alias", key.to_string(), message));
            }
            if let Some(reason) = quarantine::reason(batch, key, version)? {
                let message = format!("{version} is quarantined: {reason}");
                return Err(Error::corrupt("set alias", key.to_string(), message));
            }
            aliases::set(batch, key, &name, Some(version), now)
        })?;
        tracing::info!(%key, %name, %version, ?before, "alias moved");
        Ok(before)
    }

    /// Removes an alias; returns the version that it led to.
    pub(crate) fn remove_alias(&self, key: &ModelKey, name: &str) -> Result<Option<Version>> {
        let (name, now) = (Label::new(name)?, self.core.now());
        self.core.commit("remove alias", |batch| match aliases::read(batch, key, &name)? {
            None => Ok(None),
            Some(_) => {
                // So that what it kept can be removed.
                batch.frees_room();
                aliases::set(batch, key, &name, None, now)
            }
        })
    }

    /// Returns the version that an alias leads to.
    pub(crate) fn alias(&self, key: &ModelKey, name: &str) -> Result<Option<Version>> {
        let name = Label::new(name)?;
        Ok(self.core.look(|snapshot| aliases::read(snapshot, key, &name))?.and_then(|alias| alias.version))
    }

    /// Returns all aliases of a model, with their history.
    pub(crate) fn aliases(&self, key: &ModelKey) -> Result<Vec<Alias>> {
        self.core.look(|snapshot| aliases::list(snapshot, key))
    }

    /// Returns the version that an alias leads to, as a model.
    pub(crate) fn get_alias<M: Model>(self: &Arc<Self>, key: &ModelKey, name: &str) -> Result<Option<ModelRef<M>>> {
        // A version that an alias leads to is not deleted; one that is gone was left by the alias in between.
        let mut version = self.alias(key, name)?;
        while let Some(wanted) = version {
            // The common case is that the champion is also the current version: then memory has it. Another current
            // version is none of the caller's business, damaged or not.
            if let Some(held) = self.hit::<M>(key).filter(|held| held.version() == Some(wanted)) {
                return Ok(Some(held));
            }
            if let Some(held) = self.get_version(key, wanted)? {
                return Ok(Some(held));
            }
            let moved = self.alias(key, name)?;
            if moved == version {
                return Err(metadata::absent(key, wanted));
            }
            version = moved;
        }
        Ok(None)
    }
}
