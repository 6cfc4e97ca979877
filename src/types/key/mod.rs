//! What a model is filed under: a name and the hash of its configuration.

mod config;
mod exact;
mod name;
pub(crate) mod row;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Value, json};

pub use config::ConfigHash;
pub(crate) use name::shown;
pub use name::{Label, ModelName, Symbol};
use row::{Fields, RowKey};

use super::{
    error::{Error, Result},
    field_change::{FieldChange, changes},
    hash::hex,
    invariant::Invariant,
};

/// The key of a model: a [`ModelName`] and a [`ConfigHash`].
///
/// Two keys are equal when name and hash are; the configuration text that the hash was made of travels along so that
/// a publish can store it and a hash can always be explained.
///
/// ```
/// use modelkeep::ModelKey;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Config { horizon_days: u32, threshold: f64 }
///
/// let key = ModelKey::new("bounce", &Config { horizon_days: 5, threshold: -1.0 })?;
/// assert_eq!(key.config(), Some(r#"{"horizon_days":5,"threshold":-1}"#));
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone)]
pub struct ModelKey {
    name: ModelName,
    hash: ConfigHash,
    config: Option<Arc<str>>,
    quick: u64,
}

impl ModelKey {
    /// Returns the key of the model `name` under `config`, which is any value that serde can serialise.
    ///
    /// The configuration is brought into the canonical JSON form of RFC 8785 and hashed with BLAKE3. The order of
    /// fields, the order of map entries and the spelling of a number (`1`, `1.0`, `1e0`) do not change the hash; any
    /// value does. An `f32` is the double next to it, so that `0.1f32` and `0.1f64` differ; an `Option` that is `None`
    /// is `null` and counts, unless serde is told to skip it.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`ModelName`], or when the configuration holds something that
    /// JSON would change silently: NaN, an infinity, or an integer beyond 2^53 - 1 in magnitude (write it as a
    /// string). `LimitExceeded` when the canonical form exceeds 256 KiB.
    pub fn new<C: Serialize + ?Sized>(name: &str, config: &C) -> Result<Self> {
        let name = ModelName::new(name)?;
        let canonical = config::canonical(&name, config)?;
        let key = Self::from_hash(name, ConfigHash::of_canonical(&canonical));
        Ok(Self { config: Some(canonical.into()), ..key })
    }

    /// Returns the key with this name and hash, for reading what is stored under it.
    ///
    /// It does not know its configuration, so it can publish only where an earlier version stored one.
    #[must_use]
    pub fn from_hash(name: ModelName, hash: ConfigHash) -> Self {
        let quick = cached_hash(&name, hash);
        Self { name, hash, config: None, quick }
    }

    /// A hash for tables in memory, computed once; never 0.
    #[inline]
    pub(crate) fn cached_hash(&self) -> u64 {
        self.quick
    }

    /// Returns this key with the configuration that its hash was made of; unchanged when the hash is another one.
    #[must_use]
    pub(crate) fn with_config(mut self, canonical: &str) -> Self {
        if ConfigHash::of_canonical(canonical) == self.hash {
            self.config = Some(canonical.into());
        }
        self
    }

    /// Returns the model's name.
    #[inline]
    #[must_use]
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Returns the hash of the configuration.
    #[inline]
    #[must_use]
    pub fn config_hash(&self) -> ConfigHash {
        self.hash
    }

    /// Whether this is the hash of its configuration.
    #[inline]
    pub(crate) fn has_config(&self, hash: &ConfigHash) -> bool {
        self.hash == *hash
    }

    /// Returns the configuration in canonical JSON, if this key was made from one.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// Returns what differs between two keys, field by field: `model`, and the fields of the configuration under
    /// `config`. Where one of them does not know its configuration, `config_hash` differs.
    ///
    /// ```
    /// use modelkeep::ModelKey;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Config { horizon_days: u32, lookback_days: u32 }
    ///
    /// let today = ModelKey::new("bounce", &Config { horizon_days: 5, lookback_days: 250 })?;
    /// let yesterday = ModelKey::new("bounce", &Config { horizon_days: 3, lookback_days: 250 })?;
    /// let changes = today.diff(&yesterday);
    /// assert_eq!((changes.len(), changes[0].field.as_str()), (1, "config.horizon_days"));
    /// assert_eq!((changes[0].left.as_deref(), changes[0].right.as_deref()), (Some("5"), Some("3")));
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    #[must_use]
    pub fn diff(&self, other: &Self) -> Vec<FieldChange> {
        let knows_both = self.config.is_some() && other.config.is_some();
        let fields = |key: &Self| {
            let config: Option<Value> = key
                .config()
                .filter(|_| knows_both)
                .map(|config| serde_json::from_str(config).always("the configuration is canonical JSON"));
            json!({
                "model": key.name.as_str(),
                "config_hash": (!knows_both).then(|| key.hash.to_string()),
                "config": config,
            })
        };
        changes(&fields(self), &fields(other))
    }

    /// The bytes that order stored keys: by name, then by hash.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        RowKey::new().model(self).into_bytes()
    }

    /// Reads a key from the front of `bytes` and returns it with what follows it.
    pub(crate) fn split_from(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let mut fields = Fields::of(bytes);
        let key = fields.model().ok_or_else(|| Error::corrupt("read key", hex(bytes), "not a model key"))?;
        Ok((key, fields.rest()))
    }

    /// Reads a key that is all of `bytes` and has this name; `None` when it has another.
    pub(crate) fn with_name(name: &ModelName, bytes: &[u8]) -> Option<Self> {
        let hash = bytes.strip_prefix(name.as_str().as_bytes())?.strip_prefix(&[0])?;
        Some(Self::from_hash(name.clone(), ConfigHash::from_bytes(hash.try_into().ok()?)))
    }

    /// Reads a key that is all of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match Self::split_from(bytes)? {
            (key, []) => Ok(key),
            _ => Err(Error::corrupt("read key", hex(bytes), "bytes follow the model key")),
        }
    }
}

/// The config hash is uniform, and the same for every model that has no configuration; the name tells those apart.
fn cached_hash(name: &ModelName, hash: ConfigHash) -> u64 {
    let [config, ..] = hash.as_bytes().as_chunks::<8>().0 else {
        unreachable!("a hash has 32 bytes");
    };
    (u64::from_le_bytes(*config) ^ xxhash_rust::xxh3::xxh3_64(name.as_str().as_bytes())).max(1)
}

impl PartialEq for ModelKey {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.quick == other.quick && self.hash == other.hash && self.name.is(&other.name)
    }
}

impl Eq for ModelKey {}

impl PartialOrd for ModelKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ModelKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.name, self.hash).cmp(&(&other.name, other.hash))
    }
}

impl Hash for ModelKey {
    /// Writes one 64-bit number, which is uniform already.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.quick);
    }
}

impl fmt::Display for ModelKey {
    /// `name@` and the first 12 hex digits of the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.hash.short()))
    }
}

impl fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_bytes() {
        let key = ModelKey::new("bounce", &[1, 2, 3]).unwrap();
        assert_eq!(ModelKey::from_bytes(&key.to_bytes()).unwrap(), key);
        let mut longer = key.to_bytes();
        longer.extend_from_slice(&7u64.to_be_bytes());
        let (read, rest) = ModelKey::split_from(&longer).unwrap();
        assert_eq!((read, rest), (key, &7u64.to_be_bytes()[..]));
    }

    #[test]
    fn cut_or_foreign_key_bytes_are_refused() {
        let bytes = ModelKey::new("bounce", &()).unwrap().to_bytes();
        for cut in 0..bytes.len() {
            assert!(ModelKey::from_bytes(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        assert!(ModelKey::from_bytes(b"bad name\0").is_err());
    }

    #[test]
    fn stored_keys_sort_as_keys_do() {
        let mut keys: Vec<_> = ["b", "a", "a.b", "a-b", "ab"]
            .iter()
            .flat_map(|name| (0..4).map(move |i| ModelKey::new(name, &i).unwrap()))
            .collect();
        keys.sort();
        let bytes: Vec<_> = keys.iter().map(ModelKey::to_bytes).collect();
        assert!(bytes.is_sorted());
    }
}
