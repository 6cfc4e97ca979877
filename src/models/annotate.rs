//! What is said of a version after it was published: tags and metrics.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Models,
    catalog::{head, metadata},
    staged::{check_labels, label},
    tiers::Change,
};
use crate::{
    engine::Batch,
    types::{
        error::{Error, ErrorKind, Result},
        key::{Label, ModelKey},
        version::Version,
    },
};

/// Tags and metrics to be set on a version, or removed from it; what is not named stays.
///
/// ```
/// use modelkeep::admin::Annotation;
///
/// let judged = Annotation::new().metric("live_auc", 0.57).tag("reviewed_by", "risk").without_tag("candidate");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Annotation {
    tags: BTreeMap<String, Option<String>>,
    metrics: BTreeMap<String, Option<f64>>,
}

impl Annotation {
    /// Returns one that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a tag.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a tag; nothing, if there is none of this name.
    pub fn without_tag(mut self, name: impl Into<String>) -> Self {
        self.tags.insert(name.into(), None);
        self
    }

    /// Sets a metric.
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), Some(value));
        self
    }

    /// Removes a metric; nothing, if there is none of this name.
    pub fn without_metric(mut self, name: impl Into<String>) -> Self {
        self.metrics.insert(name.into(), None);
        self
    }
}

const ANNOTATE: &str = "annotate";

impl Models {
    /// Changes tags and metrics of a stored version.
    pub(crate) fn annotate(self: &Arc<Self>, key: &ModelKey, version: Version, annotation: &Annotation) -> Result<()> {
        let tags = named(key, "tag", &annotation.tags)?;
        let metrics = named(key, "metric", &annotation.metrics)?;
        self.commit(ANNOTATE, |batch: &Batch| {
            let Some(metadata::Stored { mut metadata, archive_id }) = metadata::read(batch, key, version)? else {
                let message = format!("there is no version {version}");
                return Err(Error::new(ErrorKind::NotFound, ANNOTATE, key.to_string(), message));
            };
            apply(&mut metadata.tags, tags);
            apply(&mut metadata.metrics, metrics);
            check_labels(ANNOTATE, key, metadata.metrics.len(), &metadata.tags, metadata.artifacts.len())?;
            metadata::write(batch, key, version, archive_id, &metadata)?;
            // What memory and followers have of the current version says what it said before.
            let is_current = head::read(batch, key)?.is_some_and(|head| head.current == Some(version));
            let change = Change::Moved { key: key.clone(), version };
            Ok(((), if is_current { vec![change] } else { Vec::new() }))
        })
    }
}

fn named<V: Clone>(key: &ModelKey, what: &str, named: &BTreeMap<String, V>) -> Result<BTreeMap<Label, V>> {
    named.iter().map(|(name, value)| Ok((label(ANNOTATE, key, what, name)?, value.clone()))).collect()
}

fn apply<V>(stored: &mut BTreeMap<Label, V>, changes: BTreeMap<Label, Option<V>>) {
    for (name, value) in changes {
        match value {
            Some(value) => drop(stored.insert(name, value)),
            None => drop(stored.remove(&name)),
        }
    }
}
