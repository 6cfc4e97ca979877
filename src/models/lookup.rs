//! Why there is no model.

use std::{fmt, sync::Arc};

use super::{
    Models,
    archive::Model,
    catalog::{self, head},
    filter::name_prefix,
    model_ref::ModelRef,
};
use crate::{
    engine::{Snapshot, Table},
    types::{error::Result, key::ModelKey, version::Version},
};

/// Other configurations that an [`Absence`] names at most.
const OTHERS_MAX: usize = 16;

/// What [`Store::lookup`](crate::Store::lookup) found.
#[derive(Debug)]
pub enum Lookup<M: Model> {
    /// The current version.
    Found(ModelRef<M>),
    /// There is none, for this reason.
    Absent(Absence),
}

/// Why a key has no current version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// Nothing was ever published under this key.
    NeverPublished {
        /// Keys of the same name that have a model, with their configurations, at most 16:
        /// [`ModelKey::diff`] says what is different.
        others: Vec<ModelKey>,
    },
    /// Every version was removed, or the current one was pruned by age.
    Removed {
        /// The highest version that was ever given out.
        last: Version,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverPublished { others } if others.is_empty() => {
                f.write_str("nothing was ever published under this name")
            }
            Self::NeverPublished { others } => {
                f.write_str("nothing was ever published under this configuration; stored are")?;
                others.iter().try_for_each(|key| write!(f, " {key}"))
            }
            Self::Removed { last } => write!(f, "it was removed; the last version was {last}"),
        }
    }
}

impl Models {
    /// Finds the current version of a model, or says why there is none.
    pub(crate) fn lookup<M: Model>(self: &Arc<Self>, key: &ModelKey) -> Result<Lookup<M>> {
        loop {
            if let Some(held) = self.get(key)? {
                return Ok(Lookup::Found(held));
            }
            if let Some(absence) = self.core.look(|snapshot| absence(snapshot, key))? {
                return Ok(Lookup::Absent(absence));
            }
            // Published in between.
        }
    }
}

/// Why `key` has no current version; `None` when it has one.
fn absence(snapshot: &Snapshot, key: &ModelKey) -> Result<Option<Absence>> {
    if let Some(head) = head::read(snapshot, key)? {
        match (head.current, head.last) {
            (Some(_), _) => return Ok(None),
            (None, Some(last)) => return Ok(Some(Absence::Removed { last })),
            (None, None) => {}
        }
    }
    let mut others = Vec::new();
    for row in snapshot.scan(Table::Heads, &name_prefix(key.name())) {
        let other = ModelKey::from_bytes(&row?.0)?;
        if let Some((_, stored)) = catalog::current(snapshot, &other)? {
            others.push(other.with_config(&stored.metadata.config));
        }
        if others.len() == OTHERS_MAX {
            break;
        }
    }
    Ok(Some(Absence::NeverPublished { others }))
}
