//! Models: archives and what is known of them, in memory, in the file, and in the hands of those who follow one.
//!
//! Nothing here knows of market data. [`tiers`] is the one place that finds a model and the one that shows a change;
//! [`catalog`] and [`training`] are the rows; the other modules are one verb each.

pub(crate) mod aliases;
pub(crate) mod annotate;
pub(crate) mod archive;
mod backlog;
pub(crate) mod catalog;
mod copy;
pub(crate) mod decision;
mod entry;
pub(crate) mod explain;
pub(crate) mod filter;
pub(crate) mod freshness;
mod journal;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod lookup;
pub(crate) mod maintenance;
pub(crate) mod manage;
pub(crate) mod model_ref;
pub(crate) mod new_model;
pub(crate) mod publish;
mod read;
mod retention;
pub(crate) mod settings;
mod staged;
pub(crate) mod stats;
pub(crate) mod tiers;
pub(crate) mod train;
pub(crate) mod training;
mod type_tag;
pub(crate) mod unstored;
pub(crate) mod update;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use crate::{
    core::Core,
    sync::{counters::Counters, single_flight::SingleFlight},
    types::{key::ModelKey, version::Version},
};
use backlog::Backlog;
use journal::Journal;
use settings::ModelSettings;
use tiers::{ModelTier, Tiers};

/// The models of one store.
pub(crate) struct Models {
    tiers: Tiers,
    trainings: SingleFlight<ModelKey>,
    counters: Counters,
    settings: ModelSettings,
    backlog: Backlog,
    journal: Journal,
    /// Versions found damaged, also when the store cannot write that down.
    quarantined: Mutex<HashMap<(ModelKey, Version), String>>,
    core: Arc<Core>,
}

impl Models {
    /// The models of a store that was just opened; memory follows what becomes of its file from here on.
    pub(crate) fn new(core: Arc<Core>, settings: ModelSettings, others: Vec<Arc<dyn ModelTier>>) -> Arc<Self> {
        let models = Arc::new(Self {
            tiers: Tiers::new(&settings, others),
            trainings: SingleFlight::default(),
            counters: Counters::new(),
            settings,
            backlog: Backlog::default(),
            journal: Journal::default(),
            quarantined: Mutex::new(HashMap::new()),
            core,
        });
        let weak = Arc::downgrade(&models);
        models.core.observe(Box::new(move |why| {
            // Called by one who uses the store, so that this is never the last reference.
            if let Some(models) = weak.upgrade() {
                models.step_in(why);
            }
        }));
        models
    }
}

impl Models {
    /// Does what was put off, before the file is closed.
    pub(crate) fn finish(self: &Arc<Self>, others: usize) {
        if others == 0 {
            self.finish_decisions();
        }
        self.finish_maintenance(others);
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        self.finish_decisions();
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tiers.fmt(f)
    }
}
