//! What would happen to a model, and why, without training or loading anything.

use std::{fmt, sync::Arc};

use super::{
    Models,
    archive::Model,
    catalog::{self, head, metadata, metadata::Metadata, quarantine},
    decision::{Decision, Reason, Verdict},
    filter::name_prefix,
    freshness::Freshness,
    train::failed,
};
use crate::{
    cache::Lookup,
    engine::{Snapshot, Table},
    format::schema::Schema,
    types::{
        error::{Error, ErrorKind, Result},
        field_change::FieldChange,
        key::ModelKey,
    },
};

/// Relatives that an [`Explanation`] names at most: those that differ least.
const RELATIVES_MAX: usize = 16;

/// What [`Store::explain`](crate::Store::explain) found. Prints itself for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    key: ModelKey,
    decision: Decision,
    current: Option<Metadata>,
    relatives: Vec<Relative>,
}

/// A stored model of the same name under another configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Relative {
    /// Its key, with its configuration.
    pub key: ModelKey,
    /// What is known of its current version.
    pub metadata: Metadata,
    /// The fields in which its configuration differs: on the left that which was asked for, on the right its own.
    pub differences: Vec<FieldChange>,
}

impl Explanation {
    /// Returns the key that was asked about.
    #[must_use]
    pub fn key(&self) -> &ModelKey {
        &self.key
    }

    /// Returns what [`get_or_train`](crate::Store::get_or_train) would do, and every reason that it would have.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Returns what is known of the current version; `None` when there is none that can be read.
    #[must_use]
    pub fn current(&self) -> Option<&Metadata> {
        self.current.as_ref()
    }

    /// Returns the stored models of the same name under other configurations, at most 16, those with the fewest
    /// differences first.
    #[must_use]
    pub fn relatives(&self) -> &[Relative] {
        &self.relatives
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.key, self.decision.verdict())?;
        for reason in self.decision.reasons() {
            writeln!(f, "  because {reason}")?;
        }
        if let Some(Metadata { version, last_updated, sample_count, metrics, .. }) = &self.current {
            match version {
                Some(version) => write!(f, "  stored is {version}")?,
                None => write!(f, "  in memory is a model that could not be stored")?,
            }
            write!(f, ", made at {last_updated} of {sample_count} samples")?;
            for (name, value) in metrics {
                write!(f, ", {name} {value}")?;
            }
            writeln!(f)?;
        }
        for Relative { key, metadata, differences } in &self.relatives {
            let fields = if differences.len() == 1 { "field differs" } else { "fields differ" };
            write!(f, "  {key}, made at {}: {} {fields}", metadata.last_updated, differences.len())?;
            for FieldChange { field, left, right } in differences {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
                write!(f, ", {field} {} -> {}", value(left), value(right))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Models {
    /// Says what would happen to a model. `schema` is that of the type that it would be asked for as, if that is known.
    pub(crate) fn explain(
        self: &Arc<Self>,
        key: &ModelKey,
        freshness: &Freshness,
        schema: Option<&Schema>,
    ) -> Result<Explanation> {
        let current = match self.known_in_memory(key) {
            Some(known) => Ok(Some(known)),
            None => self.core.look(|snapshot| current(snapshot, key)),
        };
        let mut reasons: Vec<Reason> = (!freshness.use_cache).then_some(Reason::Bypassed).into_iter().collect();
        let current = match current {
            Ok(Some(known)) => {
                match schema.filter(|schema| !known.schema.is(schema)) {
                    Some(schema) => {
                        let (stored, requested) = (known.schema.clone(), schema.tag()?);
                        reasons.extend(freshness.without_model(Reason::SchemaChanged { stored, requested }));
                    }
                    None => reasons.extend(freshness.objections(&known, self.core.now())),
                }
                Some(known)
            }
            Ok(None) => {
                reasons.extend(freshness.without_model(Reason::Missing));
                None
            }
            Err(err) if err.kind() == ErrorKind::Expired => return Err(err),
            Err(err) => {
                reasons.extend(freshness.without_model(failed(&err)));
                None
            }
        };
        let verdict = if reasons.is_empty() { Verdict::Reuse } else { Verdict::Retrain };
        let relatives = self.core.look(|snapshot| relatives(snapshot, key))?;
        Ok(Explanation { key: key.clone(), decision: Decision::new(verdict, reasons), current, relatives })
    }

    /// The same for a model that is asked for as an `M`.
    pub(crate) fn explain_as<M: Model>(self: &Arc<Self>, key: &ModelKey, freshness: &Freshness) -> Result<Explanation> {
        self.explain(key, freshness, Some(&M::SCHEMA))
    }

    fn known_in_memory(&self, key: &ModelKey) -> Option<Metadata> {
        match self.tiers.in_memory(key, self.core.clock()) {
            Lookup::Hit(entry) => Some(entry.metadata.clone()),
            Lookup::Miss(_) | Lookup::Expired(_) => None,
        }
    }
}

/// What is known of the current version, unless it is not to be served.
fn current(snapshot: &Snapshot, key: &ModelKey) -> Result<Option<Metadata>> {
    let Some(version) = head::current(snapshot, key)? else {
        return Ok(None);
    };
    if let Some(reason) = quarantine::reason(snapshot, key, version)? {
        return Err(Error::corrupt("read", format!("{key} {version}"), format!("quarantined: {reason}")));
    }
    metadata::require(snapshot, key, version).map(|stored| Some(stored.metadata))
}

/// Models of the same name that have a current version, those with the fewest differences first. One that cannot be
/// read is left out.
fn relatives(snapshot: &Snapshot, key: &ModelKey) -> Result<Vec<Relative>> {
    let mut relatives = Vec::new();
    for row in snapshot.scan(Table::Heads, &name_prefix(key.name())) {
        let found = row.and_then(|(row, _)| {
            let other = ModelKey::from_bytes(&row)?;
            let stored = if other == *key { None } else { catalog::current(snapshot, &other)? };
            Ok(stored.map(|(_, stored)| (other.with_config(&stored.metadata.config), stored.metadata)))
        });
        match found {
            Ok(Some((other, metadata))) => {
                let differences = key.diff(&other);
                relatives.push(Relative { key: other, metadata, differences });
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a relative of the model cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    relatives.sort_by_key(|relative| relative.differences.len());
    relatives.truncate(RELATIVES_MAX);
    Ok(relatives)
}
