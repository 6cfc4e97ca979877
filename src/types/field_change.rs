//! What differs between two values with fields: metadata, or configurations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A field that differs between two values.
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

/// The fields that differ, in order of their paths.
pub(crate) fn changes(left: &Value, right: &Value) -> Vec<FieldChange> {
    let (mut on_the_left, mut on_the_right) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), left, &mut on_the_left);
    flatten(String::new(), right, &mut on_the_right);
    let fields: BTreeSet<String> = on_the_left.keys().chain(on_the_right.keys()).cloned().collect();
    fields
        .into_iter()
        .map(|field| FieldChange { left: on_the_left.remove(&field), right: on_the_right.remove(&field), field })
        .filter(|change| change.left != change.right)
        .collect()
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
