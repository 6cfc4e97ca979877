//! Metadata as structured fields: for programs, and for the difference between two versions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{
    models::catalog::metadata::Metadata,
    types::{level_range::LevelRange, time::Timestamp, version::Version},
};

/// A field that differs between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldChange {
    /// The field's path: `config.horizon_days`, `metrics.auc`, `model_hash` ...
    pub field: String,
    /// Its value on the left, as JSON; `None` when there is no such field.
    pub left: Option<String>,
    /// Its value on the right, as JSON; `None` when there is no such field.
    pub right: Option<String>,
}

impl Serialize for Metadata {
    /// A map of all fields: times as RFC 3339 text, hashes as hex digits, the configuration as the JSON that it is.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        to_value(self).serialize(serializer)
    }
}

fn to_value(metadata: &Metadata) -> Value {
    let text = |value: &dyn std::fmt::Display| value.to_string();
    let named = |values: &BTreeMap<_, String>| -> Map<String, Value> {
        values.iter().map(|(name, value)| (text(name), json!(value))).collect()
    };
    let metrics: Map<String, Value> = metadata
        .metrics
        .iter()
        // JSON has no NaN; as text it is at least not lost.
        .map(|(name, &value)| (text(name), if value.is_finite() { json!(value) } else { json!(value.to_string()) }))
        .collect();
    json!({
        "model": text(&metadata.model),
        "version": metadata.version.map(Version::get),
        // Stored canonically, so it parses; text that does not is shown as it is.
        "config": serde_json::from_str(&metadata.config).unwrap_or_else(|_| json!(metadata.config)),
        "config_hash": text(&metadata.config_hash),
        "model_hash": text(&metadata.model_hash),
        "training_hash": metadata.training_hash.as_ref().map(|hash| text(hash)),
        "created": text(&metadata.created),
        "last_updated": text(&metadata.last_updated),
        "trained_through": metadata.trained_through.map(|at: Timestamp| text(&at)),
        "sample_count": metadata.sample_count,
        "symbols": metadata.symbols.iter().map(|symbol| text(symbol)).collect::<Vec<_>>(),
        "metrics": metrics,
        "schema": { "name": metadata.schema.name(), "version": metadata.schema.version() },
        "codec": text(&metadata.codec),
        "archive_bytes": metadata.archive_bytes,
        "stored_bytes": metadata.stored_bytes,
        "parent": metadata.parent.map(Version::get),
        "training_us": u64::try_from(metadata.training_duration.as_micros()).unwrap_or(u64::MAX),
        "tags": named(&metadata.tags),
        "levels": metadata.levels.iter().map(level_value).collect::<Vec<_>>(),
        "artifacts": metadata.artifacts.iter().map(|name| text(name)).collect::<Vec<_>>(),
    })
}

fn level_value(seen: &LevelRange) -> Value {
    json!({
        "series": seen.series.to_string(),
        "from": seen.range.start().to_string(),
        "until": seen.range.end().to_string(),
        "days": seen.days,
        "hash": seen.hash.to_string(),
    })
}

impl Metadata {
    /// Returns the fields that differ from `other`, in order of their paths.
    #[must_use]
    pub fn diff(&self, other: &Self) -> Vec<FieldChange> {
        let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
        flatten(String::new(), &to_value(self), &mut left);
        flatten(String::new(), &to_value(other), &mut right);
        let fields: BTreeSet<String> = left.keys().chain(right.keys()).cloned().collect();
        fields
            .into_iter()
            .map(|field| FieldChange { left: left.remove(&field), right: right.remove(&field), field })
            .filter(|change| change.left != change.right)
            .collect()
    }
}

/// Writes every leaf of `value` to `out` under its path.
fn flatten(path: String, value: &Value, out: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(below(name), value, out)),
        // A list of names is one value; a list of records is not.
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(below(&at.to_string()), item, out));
        }
        Value::Null => {}
        leaf => drop(out.insert(path, leaf.to_string())),
    }
}
