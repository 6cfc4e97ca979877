//! A version before it has a number: checked, hashed, and described.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Models,
    archive::{Model, ValidatedBytes},
    catalog::{self, metadata::Metadata},
    new_model::NewModel,
    training::{TrainingSet, stored::Prepared},
};
use crate::{
    format::codec::Codec,
    types::{
        error::{Error, ErrorKind, Result},
        hash::Digest,
        key::{Label, ModelKey},
        limits::{LABELS_MAX, TAG_VALUE_BYTES_MAX},
        version::Version,
    },
};

const PUBLISH: &str = "publish";

/// What was current when a training began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SeenHead {
    /// Nobody could read it.
    #[default]
    Unread,
    Current(Option<Version>),
}

/// Where a version comes from.
#[derive(Clone, Default)]
pub(super) struct Lineage {
    /// The version that it was trained from.
    pub(super) parent: Option<Version>,
    /// The parent's metadata, when the version continues its lineage: artifacts, VIX, tags and birth are inherited.
    pub(super) inherit: Option<Metadata>,
    pub(super) seen: SeenHead,
}

/// A version that is ready to be written: checked and hashed.
pub(super) struct StagedVersion {
    /// Nobody else has it yet: its header is written in front of it.
    pub(super) checked: Arc<ValidatedBytes>,
    pub(super) contents: Contents,
    pub(super) seen: SeenHead,
    /// Why it cannot be published as it is.
    pub(super) publish_error: Option<Error>,
}

/// What a version is made of, beside its archive.
pub(super) struct Contents {
    pub(super) metadata: Metadata,
    pub(super) prepared: Option<Prepared>,
    pub(super) artifacts: BTreeMap<Label, Vec<u8>>,
    /// Artifacts to take over from the parent.
    pub(super) carried: Vec<Label>,
}

impl Models {
    /// Serialises, checks and hashes what was trained. Only a model that cannot be read is an error; whatever else is
    /// wrong with the publication is noted with it, so that the model itself is not lost with it.
    pub(super) fn stage<M: Model>(
        &self,
        key: &ModelKey,
        trained: NewModel<M>,
        lineage: &Lineage,
    ) -> Result<StagedVersion> {
        let now = self.core.now();
        let checked = ValidatedBytes::from_model(&trained.model, self.archive_bytes_before(key)).map_err(|err| {
            // Which of many models it is helps more than which type.
            err.about(format!("{key} ({})", M::SCHEMA))
        })?;
        let inherit = lineage.inherit.as_ref();
        let data = trained.training_data.as_ref();
        let named = Named::new(key, trained.metrics, trained.tags, trained.artifacts, inherit);
        let prepared = data.map(Prepared::new).transpose();
        let (named, prepared, publish_error) = match (named, prepared) {
            (Ok(named), Ok(prepared)) => (named, prepared, None),
            (Err(publish_error), _) | (_, Err(publish_error)) => (Named::default(), None, Some(publish_error)),
        };
        let mut artifacts: Vec<Label> = named.artifacts.keys().chain(&named.carried).cloned().collect();
        artifacts.sort();
        let levels = match inherit {
            Some(parent) if trained.levels.is_empty() => parent.levels.clone(),
            _ => trained.levels,
        };
        let metadata = Metadata {
            model: key.name().clone(),
            version: None,
            config: key.config().unwrap_or_default().to_owned(),
            config_hash: key.config_hash(),
            model_hash: Digest::of(checked.bytes()),
            training_hash: prepared.as_ref().map(Prepared::hash),
            created: inherit.map_or(now, |parent| parent.created),
            last_updated: now,
            trained_through: trained.trained_through.or_else(|| data.and_then(TrainingSet::last_timestamp)),
            sample_count: data.map_or(0, |data| data.len() as u64),
            symbols: data.map(|data| data.symbols().cloned().collect()).unwrap_or_default(),
            metrics: named.metrics,
            schema: M::SCHEMA.tag()?,
            codec: Codec::Raw,
            archive_bytes: checked.bytes().len() as u64,
            stored_bytes: 0,
            parent: lineage.parent,
            training_duration: trained.training_duration.unwrap_or_default(),
            tags: named.tags,
            levels,
            artifacts,
        };
        let (artifacts, carried) = (named.artifacts, named.carried);
        let contents = Contents { metadata, prepared, artifacts, carried };
        Ok(StagedVersion { checked: Arc::new(checked), contents, seen: lineage.seen, publish_error })
    }
}

impl Models {
    /// The bytes of the current version's archive, as a guess at the next one's; 0 when there is none. Memory knows it
    /// mostly, and no state of the file is pinned while the next one is serialised.
    fn archive_bytes_before(&self, key: &ModelKey) -> usize {
        if let Some(bytes) = self.archive_bytes_in_memory(key) {
            return bytes;
        }
        let current = self.core.look_only(|snapshot| catalog::current(snapshot, key));
        let bytes = current.ok().flatten().map_or(0, |(_, stored)| stored.metadata.archive_bytes);
        // A guess: what does not fit is no worse than none.
        usize::try_from(bytes).unwrap_or(0)
    }
}

/// Everything of a publication that has a name, checked: what is new, and what is inherited.
#[derive(Default)]
struct Named {
    metrics: BTreeMap<Label, f64>,
    tags: BTreeMap<Label, String>,
    artifacts: BTreeMap<Label, Vec<u8>>,
    carried: Vec<Label>,
}

impl Named {
    fn new(
        key: &ModelKey,
        metrics: Vec<(String, f64)>,
        tags: Vec<(String, String)>,
        artifacts: Vec<(String, Vec<u8>)>,
        inherit: Option<&Metadata>,
    ) -> Result<Self> {
        let mut named = Self {
            metrics: labels(key, "metric", metrics)?,
            artifacts: labels(key, "artifact", artifacts)?,
            ..Self::default()
        };
        if let Some(parent) = inherit {
            named.tags.clone_from(&parent.tags);
            let kept = parent.artifacts.iter().filter(|name| !named.artifacts.contains_key(*name));
            named.carried = kept.cloned().collect();
        }
        named.tags.extend(labels(key, "tag", tags)?);
        named.check(key)?;
        Ok(named)
    }

    fn check(&self, key: &ModelKey) -> Result<()> {
        let artifacts = self.artifacts.len() + self.carried.len();
        check_labels(PUBLISH, key, self.metrics.len(), &self.tags, artifacts)
    }
}

/// Checks how many metrics, tags and artifacts a version has, and the values of its tags.
pub(super) fn check_labels(
    operation: &'static str,
    key: &ModelKey,
    metrics: usize,
    tags: &BTreeMap<Label, String>,
    artifacts: usize,
) -> Result<()> {
    let refuse = |message| Err(Error::new(ErrorKind::LimitExceeded, operation, key.to_string(), message));
    for (what, count) in [("metrics", metrics), ("tags", tags.len()), ("artifacts", artifacts)] {
        if count > LABELS_MAX {
            return refuse(format!("{count} {what}, at most {LABELS_MAX} are allowed"));
        }
    }
    match tags.iter().find(|(_, value)| value.len() > TAG_VALUE_BYTES_MAX) {
        None => Ok(()),
        Some((name, value)) => {
            refuse(format!("tag {name} has {} bytes, at most {TAG_VALUE_BYTES_MAX} are allowed", value.len()))
        }
    }
}

/// Checks the name of a metric, a tag or an artifact.
pub(super) fn label(operation: &'static str, key: &ModelKey, what: &str, name: &str) -> Result<Label> {
    Label::new(name).map_err(|err| {
        let message = format!("{what} {name:?}: {}", err.message());
        Error::new(err.kind(), operation, key.to_string(), message).with_source(err)
    })
}

/// Checks names.
fn labels<V>(key: &ModelKey, what: &str, named: Vec<(String, V)>) -> Result<BTreeMap<Label, V>> {
    named.into_iter().map(|(name, value)| Ok((label(PUBLISH, key, what, &name)?, value))).collect()
}
