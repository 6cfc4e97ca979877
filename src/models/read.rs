//! Reading what is known of models, and models as they are in the file.

use std::sync::Arc;

use super::{
    Models,
    archive::Model,
    catalog::{
        self, artifacts,
        metadata::{self, Metadata},
        quarantine::{self, Quarantined},
    },
    entry::{Backing, CountedEntry, check_hash, nanos},
    model_ref::{ModelRef, Tier},
    tiers::{Found, Wanted},
    training::{self, TrainingSet, TrainingSummary},
};
use crate::{
    format::envelope::Kind,
    sync::counters::Counter,
    types::{
        error::Result,
        key::{Label, ModelKey},
        version::Version,
    },
};

impl Models {
    /// Returns the current version of a model, from the hot tier or from disk.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(crate) fn get<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Result<Option<ModelRef<M>>> {
        match self.hit(key) {
            Some(held) => Ok(Some(held)),
            None => Ok(self.search_counted::<M>(key)?.and_then(|owned| ModelRef::known(Backing::owned(owned)))),
        }
    }

    /// Returns a certain version of a model.
    pub(crate) fn get_version<M: Model>(
        self: &Arc<Self>,
        key: &ModelKey,
        version: Version,
    ) -> Result<Option<ModelRef<M>>> {
        let wanted = Wanted::of::<M>();
        let found = self.core.look(|snapshot| match self.load(snapshot, key, version, &wanted) {
            Found::Failed(err) => Err(err),
            found => Ok(found),
        })?;
        self.take::<M>(key, found).into_result(key)
    }

    /// Returns the metadata of the current version.
    pub(crate) fn metadata(self: &Arc<Self>, key: &ModelKey) -> Result<Option<Metadata>> {
        self.core.look(|snapshot| Ok(catalog::current(snapshot, key)?.map(|(_, stored)| stored.metadata)))
    }

    /// Returns the metadata of a certain version.
    pub(crate) fn metadata_of(self: &Arc<Self>, key: &ModelKey, version: Version) -> Result<Option<Metadata>> {
        self.core.look(|snapshot| Ok(metadata::read(snapshot, key, version)?.map(|stored| stored.metadata)))
    }

    /// Returns an artifact of a version, checked in full.
    pub(crate) fn artifact(self: &Arc<Self>, key: &ModelKey, version: Version, name: &str) -> Result<Option<Vec<u8>>> {
        let name = Label::new(name)?;
        self.core.look(|snapshot| artifacts::read(snapshot, key, version, &name))
    }

    /// Returns the training data that is stored for a model.
    pub(crate) fn training_data(self: &Arc<Self>, key: &ModelKey) -> Result<Option<TrainingSet>> {
        self.core.look(|snapshot| training::stored::read(snapshot, key))
    }

    /// Says what training data is stored for a model, symbol by symbol, without reading the columns.
    pub(crate) fn training_summary(self: &Arc<Self>, key: &ModelKey) -> Result<Vec<TrainingSummary>> {
        self.core.look(|snapshot| training::stored::summaries(snapshot, key))
    }

    /// Returns the versions that were found damaged and are not served.
    pub(crate) fn quarantined(self: &Arc<Self>) -> Result<Vec<Quarantined>> {
        self.core.look(quarantine::list)
    }

    /// Returns the bytes of a version's archive, decoded and checked in full.
    pub(crate) fn archive_bytes(self: &Arc<Self>, key: &ModelKey, version: Version) -> Result<Option<Vec<u8>>> {
        self.core.look(|snapshot| {
            let Some(stored) = metadata::read(snapshot, key, version)? else {
                return Ok(None);
            };
            let bytes = snapshot.blob(stored.archive_id)?.read(Kind::Model, &stored.metadata.schema)?;
            check_hash(&format!("{key} {version}"), &stored.metadata, &bytes)?;
            Ok(Some(bytes.to_vec()))
        })
    }
}

impl Models {
    /// Finds and counts. What is returned fits into registers, so that the hot path needs no memory for it.
    #[cold]
    #[inline(never)]
    fn search_counted<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Result<Option<Box<CountedEntry>>> {
        let found = self.find_behind::<M>(key);
        match &found {
            Found::Model(held) => self.count_hit(held),
            _ => self.count_miss(),
        }
        Ok(found.into_result(key)?.map(ModelRef::into_counted))
    }

    /// Counts a call that is served what a search found.
    pub(super) fn count_hit<M: Model>(&self, held: &ModelRef<M>) {
        let counters = &self.counters;
        counters.add(Counter::HitTrainingNanos, held.shared().training_nanos);
        if held.tier() == Tier::Hot {
            counters.add(Counter::HotHits, 1);
            return;
        }
        counters.add(Counter::HotMisses, 1);
        counters.add(Counter::HitLoadNanos, nanos(held.load_time()));
        if held.tier() == Tier::Shared {
            counters.add(Counter::DiskMisses, 1);
            counters.add(Counter::SharedHits, 1);
        } else {
            counters.add(Counter::DiskHits, 1);
        }
    }

    /// Counts a call that is served nothing from any tier.
    pub(super) fn count_miss(&self) {
        self.counters.add(Counter::HotMisses, 1);
        self.counters.add(Counter::DiskMisses, 1);
        if self.tiers.has_others() {
            self.counters.add(Counter::SharedMisses, 1);
        }
    }
}
