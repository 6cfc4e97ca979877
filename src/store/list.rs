//! Finding models: lists, versions, keys by name.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::Store;
use crate::{
    engine::{Scan, Snapshot, Table},
    error::{Error, ErrorKind, Result},
    key::{Label, ModelKey, ModelName},
    registry::{
        head::{self, Head},
        metadata::{self, Metadata},
        quarantine,
    },
    time::Timestamp,
    version::Version,
};

/// Which models a list is to hold: all conditions must be met.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::{Filter, Store};
///
/// let store = Store::in_memory()?;
/// let stale = Filter::all().tag("desk", "equities")?.older_than(Duration::from_secs(7 * 86_400));
/// for listed in store.list(stale)? {
///     println!("{}", listed?.key);
/// }
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Filter {
    name: Option<ModelName>,
    tags: Vec<(Label, String)>,
    older_than: Option<Duration>,
    younger_than: Option<Duration>,
}

impl Filter {
    /// Returns a filter that every model passes.
    pub fn all() -> Self {
        Self::default()
    }

    /// Wants models of this name, under any configuration.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`ModelName`].
    pub fn name(mut self, name: &str) -> Result<Self> {
        self.name = Some(ModelName::new(name)?);
        Ok(self)
    }

    /// Wants models with this tag and value.
    ///
    /// # Errors
    /// `InvalidInput` when the tag breaks the rules of [`Label`].
    pub fn tag(mut self, tag: &str, value: impl Into<String>) -> Result<Self> {
        self.tags.push((Label::new(tag)?, value.into()));
        Ok(self)
    }

    /// Wants models that were last updated longer ago than `age`.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Wants models that were last updated at most `age` ago.
    pub fn younger_than(mut self, age: Duration) -> Self {
        self.younger_than = Some(age);
        self
    }

    fn passes(&self, metadata: &Metadata, now: Timestamp) -> bool {
        let age = now.since(metadata.last_updated);
        self.tags.iter().all(|(tag, value)| metadata.tags.get(tag) == Some(value))
            && self.older_than.is_none_or(|limit| age > limit)
            && self.younger_than.is_none_or(|limit| age <= limit)
    }

    /// What the stored keys of the wanted models begin with.
    fn prefix(&self) -> Vec<u8> {
        self.name.as_ref().map(name_prefix).unwrap_or_default()
    }
}

/// What the stored keys of all models of this name begin with.
pub(super) fn name_prefix(name: &ModelName) -> Vec<u8> {
    let mut prefix = name.as_str().as_bytes().to_vec();
    prefix.push(0);
    prefix
}

/// A model in a list: its key, and the metadata of its current version.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listed {
    /// The key. It knows its configuration, so it can be published under.
    pub key: ModelKey,
    /// The metadata of the current version.
    pub metadata: Metadata,
    /// Pinned versions.
    pub pins: BTreeSet<Version>,
}

/// Models in order of name and config hash, read as they are asked for.
///
/// A listing shows the state at the moment that it was made. It keeps redb from reusing the pages of that state while
/// it lives, so do not keep it for long. A damaged row is one `Err` item, and the listing goes on.
pub struct Listing {
    scan: Scan,
    snapshot: Snapshot,
    filter: Filter,
    now: Timestamp,
}

impl Iterator for Listing {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = match self.scan.next()? {
                Ok(row) => row,
                Err(err) => return Some(Err(err)),
            };
            match self.read(&row.0, &row.1) {
                Ok(None) => {}
                Ok(Some(listed)) => return Some(Ok(listed)),
                Err(err) => return Some(Err(err)),
            }
        }
    }
}

impl Listing {
    fn read(&self, key: &[u8], value: &[u8]) -> Result<Option<Listed>> {
        let (key, head) = head::from_row(key, value)?;
        let Some(version) = head.current else {
            return Ok(None);
        };
        let metadata = metadata::require(&self.snapshot, &key, version)?.metadata;
        if !self.filter.passes(&metadata, self.now) {
            return Ok(None);
        }
        let key = key.with_config(&metadata.config);
        Ok(Some(Listed { key, metadata, pins: head.pins }))
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// One version in the history of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VersionEntry {
    /// The version.
    pub version: Version,
    /// What is known of it.
    pub metadata: Metadata,
    /// Whether it is the current one.
    pub current: bool,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Why it is not served, if it is quarantined.
    pub quarantined: Option<String>,
}

impl Store {
    /// Returns the models that pass `filter`, in order of name and config hash. Reads heads and metadata, one model at
    /// a time, and no archive.
    ///
    /// # Errors
    /// `Io` when the file cannot be read. A damaged row is an `Err` item of the listing.
    pub fn list(&self, filter: Filter) -> Result<Listing> {
        let snapshot = self.snapshot()?;
        let scan = snapshot.scan(Table::Heads, &filter.prefix())?;
        Ok(Listing { scan, snapshot, filter, now: self.inner.clock.now() })
    }

    /// Returns the versions of a model, the oldest first.
    ///
    /// # Errors
    /// `Corrupt` when the head or a version's metadata is damaged, `Io` when the file cannot be read.
    pub fn versions(&self, key: &ModelKey) -> Result<Vec<VersionEntry>> {
        let snapshot = self.snapshot()?;
        let head: Head = head::read(&snapshot, key)?.unwrap_or_default();
        let entry = |version| {
            Ok(VersionEntry {
                version,
                metadata: metadata::require(&snapshot, key, version)?.metadata,
                current: head.current == Some(version),
                pinned: head.pins.contains(&version),
                quarantined: quarantine::reason(&snapshot, key, version)?,
            })
        };
        metadata::versions(&snapshot, key)?.into_iter().map(entry).collect()
    }

    /// Returns the key that a person means by `text`: `name`, or `name@` and the first digits of the config hash.
    ///
    /// # Errors
    /// `NotFound` when no model matches, `InvalidInput` when more than one does; the message lists them.
    pub fn find_key(&self, text: &str) -> Result<ModelKey> {
        let (name, digits) = text.split_once('@').unwrap_or((text, ""));
        let mut matches = Vec::new();
        let snapshot = self.snapshot()?;
        for row in snapshot.scan(Table::Heads, &name_prefix(&ModelName::new(name)?))? {
            let key = ModelKey::from_bytes(&row?.0)?;
            let meant = key.config_hash().to_string().starts_with(&digits.to_ascii_lowercase());
            // The head of a removed model stays behind, to number on.
            if meant && !metadata::versions(&snapshot, &key)?.is_empty() {
                matches.push(key);
            }
        }
        match matches.as_slice() {
            [key] => Ok(key.clone()),
            [] => {
                let message = format!("there is no such model in {}", self.subject());
                Err(Error::new(ErrorKind::NotFound, "find", text, message))
            }
            several => {
                let keys: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(Error::invalid("find", text, format!("it could be any of {}", keys.join(", "))))
            }
        }
    }
}
