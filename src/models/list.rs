//! Finding models: lists, versions, keys by name. Which models a list holds is said by [`Filter`].

use std::{
    cmp::Ordering,
    collections::{BTreeSet, VecDeque},
    fmt, mem,
};

use super::{
    Models,
    catalog::{
        head::{self, Head},
        metadata::{self, Metadata, Row},
        quarantine,
    },
    filter::{Filter, name_prefix},
};
use crate::{
    engine::{Rows, Table},
    types::{
        error::{Error, ErrorKind, Result},
        key::{ConfigHash, ModelKey, ModelName},
        time::Timestamp,
        version::Version,
    },
};

/// A model in a list: what tells it from others, and the metadata of its current version, to be decoded when wanted.
///
/// ```
/// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// # let store = Store::in_memory()?;
/// # let key = ModelKey::new("momentum", &())?;
/// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
/// use modelkeep::admin::Filter;
///
/// let version = store.publish(&key, trained().tag("desk", "equities").metric("auc", 0.61))?;
/// let listed = store.list(Filter::all())?.next().expect("one model is stored")?;
/// assert_eq!((listed.name().as_str(), listed.version(), listed.key()), ("momentum", version, &key));
/// assert_eq!((listed.tag("desk")?, listed.metric("auc")?), (Some("equities"), Some(0.61)));
/// assert_eq!(listed.metadata()?.config, "null"); // decoded only now
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Listed {
    key: ModelKey,
    version: Version,
    row: Row,
    pins: BTreeSet<Version>,
}

impl Listed {
    /// Returns the model's name.
    #[must_use]
    pub fn name(&self) -> &ModelName {
        self.key.name()
    }

    /// Returns the hash of its configuration.
    #[must_use]
    pub fn config_hash(&self) -> ConfigHash {
        self.key.config_hash()
    }

    /// Returns the key for reading. It does not know its configuration; the one in [`metadata`](Self::metadata) does:
    /// see [`key_with_config`](Self::key_with_config).
    #[must_use]
    pub fn key(&self) -> &ModelKey {
        &self.key
    }

    /// Returns the key with its configuration: it can be published under.
    ///
    /// # Errors
    /// As for [`metadata`](Self::metadata).
    pub fn key_with_config(&self) -> Result<ModelKey> {
        Ok(self.key.clone().with_config(&self.metadata()?.config))
    }

    /// Returns the current version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns when the lineage began.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.row.created
    }

    /// Returns when the current version was made.
    #[must_use]
    pub fn last_updated(&self) -> Timestamp {
        self.row.last_updated
    }

    /// Returns how many samples it was trained on.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.row.sample_count
    }

    /// Returns the bytes of its archive in memory.
    #[must_use]
    pub fn archive_bytes(&self) -> u64 {
        self.row.archive_bytes
    }

    /// Returns the pinned versions.
    #[must_use]
    pub fn pins(&self) -> &BTreeSet<Version> {
        &self.pins
    }

    /// Returns the value of a tag; `None` when it does not have the tag.
    ///
    /// # Errors
    /// `Corrupt` when the metadata's structure is broken.
    pub fn tag(&self, name: &str) -> Result<Option<&str>> {
        self.row.tag(name)
    }

    /// Returns what the training reported under `name`; `None` when it did not.
    ///
    /// # Errors
    /// `Corrupt` when the metadata's structure is broken.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        self.row.metric(name)
    }

    /// Decodes all that is known of the current version. Costs some microseconds; the other methods cost next to
    /// nothing.
    ///
    /// # Errors
    /// `Corrupt` when the metadata breaks its own rules.
    pub fn metadata(&self) -> Result<Metadata> {
        self.row.decode(&self.key, self.version)
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.version)
    }
}

/// Models in order of name and config hash, read as they are asked for.
///
/// Heads and metadata are walked side by side, each page at most once; pages that have nothing but versions which are
/// not current are passed by. A listing shows the state at the moment that it was made. It keeps redb from reusing the
/// pages of that state while it lives, so do not keep it for long. A damaged row is one `Err` item, and the listing
/// goes on. An `Err` of the kind `Io`, or `Expired` after an I/O error elsewhere, is the last item.
pub struct Listing {
    heads: Rows,
    rows: Rows,
    /// A row of metadata that was met too early.
    ahead: Option<(Vec<u8>, Result<Row>)>,
    filter: Filter,
    now: Timestamp,
    /// The name before: keys of one name lie together, and share it.
    name: Option<ModelName>,
    /// Room for the keys of rows.
    wanted: Vec<u8>,
    /// Gaps that were met on the way to a row.
    gaps: VecDeque<Error>,
    /// Models that are still wanted.
    left: usize,
    /// It cannot be read any further.
    is_over: bool,
}

impl Iterator for Listing {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.advance();
        self.is_over = next.as_ref().is_none_or(|next| {
            next.as_ref().is_err_and(|err| matches!(err.kind(), ErrorKind::Io | ErrorKind::Expired))
        });
        next
    }
}

impl Listing {
    fn advance(&mut self) -> Option<Result<Listed>> {
        loop {
            if let Some(gap) = self.gaps.pop_front() {
                return Some(Err(gap));
            }
            if self.left == 0 {
                return None;
            }
            let mut wanted = mem::take(&mut self.wanted);
            let head = self.heads.next_with(|key, value, page| {
                wanted.clear();
                wanted.extend_from_slice(key);
                head::listed(key, value, page)
            })?;
            let (version, pins) = match head.and_then(|head| head) {
                Ok((Some(version), pins)) => (version, pins),
                Ok((None, _)) => continue,
                Err(err) => return Some(Err(err)),
            };
            let item = self.read(&mut wanted, version, pins).transpose();
            self.wanted = wanted;
            if item.is_some() {
                self.left -= usize::from(item.as_ref().is_some_and(Result::is_ok));
                return item;
            }
        }
    }

    /// Finds the metadata that a head refers to; `None` when the model does not pass the filter. `wanted` begins as the
    /// head's row and ends as the metadata's.
    fn read(&mut self, wanted: &mut Vec<u8>, version: Version, pins: BTreeSet<Version>) -> Result<Option<Listed>> {
        let key = self.key(wanted)?;
        metadata::extend_row_key(wanted, version);
        let row = self.row(wanted)?.ok_or_else(|| metadata::absent(&key, version))??;
        if !self.filter.passes(&row, self.now)? {
            return Ok(None);
        }
        Ok(Some(Listed { key, version, row, pins }))
    }

    /// Goes on to the row under `wanted`, which lies behind all that were wanted before.
    fn row(&mut self, wanted: &[u8]) -> Result<Option<Result<Row>>> {
        if let Some((key, row)) = self.ahead.take() {
            match key.as_slice().cmp(wanted) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(row)),
                Ordering::Greater => {
                    self.ahead = Some((key, row));
                    return Ok(None);
                }
            }
        }
        loop {
            let found = self.rows.next_with(|key, value, page| match key.cmp(wanted) {
                Ordering::Less => None,
                Ordering::Equal => Some((None, Row::open(key, value, page))),
                Ordering::Greater => Some((Some(key.to_vec()), Row::open(key, value, page))),
            });
            let found = match found.transpose() {
                // What lies behind it may be what is wanted.
                Err(gap) if gap.kind() == ErrorKind::Corrupt => {
                    self.gaps.push_back(gap);
                    continue;
                }
                found => found?,
            };
            match found {
                None => return Ok(None),
                // Of a version that is not current, and so may be all up to what is wanted.
                Some(None) => self.rows.skip_to(wanted)?,
                Some(Some((None, row))) => return Ok(Some(row)),
                Some(Some((Some(key), row))) => {
                    self.ahead = Some((key, row));
                    return Ok(None);
                }
            }
        }
    }

    fn key(&mut self, row: &[u8]) -> Result<ModelKey> {
        if let Some(key) = self.name.as_ref().and_then(|name| ModelKey::with_name(name, row)) {
            return Ok(key);
        }
        let key = ModelKey::from_bytes(row)?;
        self.name = Some(key.name().clone());
        Ok(key)
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

impl Models {
    /// Returns the models that pass `filter`, in order of name and config hash.
    pub(crate) fn list(&self, filter: Filter) -> Result<Listing> {
        let snapshot = self.core.snapshot()?;
        let (passed, left) = (filter.passed(), filter.models_max());
        let scan = |table| snapshot.scan_behind(table, &filter.prefix(), passed.as_deref().unwrap_or_default());
        Ok(Listing {
            heads: scan(Table::Heads),
            rows: scan(Table::Metadata),
            ahead: None,
            filter,
            now: self.core.now(),
            name: None,
            wanted: Vec::new(),
            gaps: VecDeque::new(),
            left,
            is_over: left == 0 || passed.is_none(),
        })
    }

    /// Returns the versions of a model, the oldest first.
    pub(crate) fn versions(&self, key: &ModelKey) -> Result<Vec<VersionEntry>> {
        self.core.look(|snapshot| {
            let head: Head = head::read(snapshot, key)?.unwrap_or_default();
            let entry = |version| {
                Ok(VersionEntry {
                    version,
                    metadata: metadata::require(snapshot, key, version)?.metadata,
                    current: head.current == Some(version),
                    pinned: head.pins.contains(&version),
                    quarantined: quarantine::reason(snapshot, key, version)?,
                })
            };
            metadata::versions(snapshot, key)?.into_iter().map(entry).collect()
        })
    }

    /// Returns the key that a person means by `text`.
    pub(crate) fn find_key(&self, text: &str) -> Result<ModelKey> {
        let (name, digits) = text.split_once('@').unwrap_or((text, ""));
        let prefix = name_prefix(&ModelName::new(name)?);
        let matches = self.core.look(|snapshot| {
            let mut matches = Vec::new();
            for row in snapshot.scan(Table::Heads, &prefix) {
                let key = ModelKey::from_bytes(&row?.0)?;
                let meant = key.config_hash().to_string().starts_with(&digits.to_ascii_lowercase());
                // The head of a removed model stays behind, to number on.
                if meant && !metadata::versions(snapshot, &key)?.is_empty() {
                    matches.push(key);
                }
            }
            Ok(matches)
        })?;
        match matches.as_slice() {
            [key] => Ok(key.clone()),
            [] => {
                let message = format!("there is no such model in {}", self.core.subject());
                Err(Error::new(ErrorKind::NotFound, "find", text, message))
            }
            several => {
                let keys: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(Error::invalid("find", text, format!("it could be any of {}", keys.join(", "))))
            }
        }
    }
}
