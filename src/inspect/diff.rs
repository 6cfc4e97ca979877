//! Metadata as structured fields: for programs, and for the difference between two versions.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{
    models::catalog::metadata::Metadata,
    types::{
        field_change::{FieldChange, changes},
        level_range::LevelRange,
        time::Timestamp,
        version::Version,
    },
};

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
        changes(&to_value(self), &to_value(other))
    }
}
