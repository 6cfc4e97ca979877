//! Conditions that models of a list must meet, and which page of the list is wanted.

use std::time::Duration;

use super::catalog::metadata::Row;
use crate::types::{
    error::Result,
    key::{Label, ModelKey, ModelName, row::RowKey},
    time::Timestamp,
};

/// Which models a list is to hold: all conditions must be met. [`after`](Self::after) and [`limit`](Self::limit) make a
/// page of it.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::{Store, admin::Filter};
///
/// let store = Store::in_memory()?;
/// let stale = Filter::all().tag("desk", "equities")?.older_than(Duration::from_secs(7 * 86_400));
/// for listed in store.list(stale)? {
///     println!("{}", listed?.key());
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
    after: Option<ModelKey>,
    limit: Option<usize>,
}

impl Filter {
    /// Returns a filter that every model passes.
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
    /// store.publish(&key, trained())?;
    /// assert_eq!(store.list(Filter::all())?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn all() -> Self {
        Self::default()
    }

    /// Wants models of this name, under any configuration.
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
    /// store.publish(&key, trained())?;
    /// assert_eq!(store.list(Filter::all().name("momentum")?)?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rules of [`ModelName`].
    pub fn name(mut self, name: &str) -> Result<Self> {
        self.name = Some(ModelName::new(name)?);
        Ok(self)
    }

    /// Wants models with this tag and value.
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
    /// store.publish(&key, trained().tag("desk", "equities"))?;
    /// assert_eq!(store.list(Filter::all().tag("desk", "rates")?)?.count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the tag breaks the rules of [`Label`].
    pub fn tag(mut self, tag: &str, value: impl Into<String>) -> Result<Self> {
        self.tags.push((Label::new(tag)?, value.into()));
        Ok(self)
    }

    /// Wants models that were last updated longer ago than `age`.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// # use std::time::Duration;
    /// use modelkeep::admin::Filter;
    /// store.publish(&key, trained())?;
    /// assert_eq!(store.list(Filter::all().older_than(Duration::from_secs(86_400)))?.count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Wants models that were last updated at most `age` ago.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// # use std::time::Duration;
    /// use modelkeep::admin::Filter;
    /// store.publish(&key, trained())?;
    /// assert_eq!(store.list(Filter::all().younger_than(Duration::from_secs(86_400)))?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn younger_than(mut self, age: Duration) -> Self {
        self.younger_than = Some(age);
        self
    }

    /// Wants models that come after `key` in the order of the list, by name and config hash. The list begins there:
    /// what lies before `key` is not read, however much it is. The key need not be stored, or not any more.
    ///
    /// With [`limit`](Self::limit) it makes pages; the last key of one says where the next begins. Each page is a list
    /// of its own, and shows one moment. Keys do not move: so a model that is there all along is in exactly one page,
    /// whatever is published or removed meanwhile, and one that comes or goes may be in its page or not.
    ///
    /// To go on after a restart, keep the name and all 64 digits of the hash (a key prints 12 of them):
    /// `ModelKey::from_hash(ModelName::new(name)?, digits.parse()?)`.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use modelkeep::{admin::Filter, error::Result};
    ///
    /// for horizon_days in 0..5 {
    ///     store.publish(&ModelKey::new("momentum", &horizon_days)?, trained())?;
    /// }
    /// let (mut page, mut lengths) = (Filter::all().limit(2), Vec::new());
    /// loop {
    ///     let page_of = store.list(page.clone())?;
    ///     let keys = page_of.map(|listed| Ok(listed?.key().clone())).collect::<Result<Vec<ModelKey>>>()?;
    ///     let Some(last) = keys.last() else { break };
    ///     lengths.push(keys.len());
    ///     page = page.after(last);
    /// }
    /// assert_eq!(lengths, [2, 2, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after(mut self, key: &ModelKey) -> Self {
        self.after = Some(key.clone());
        self
    }

    /// Wants the first `models` models that meet the conditions, and nothing of what lies behind the last of them; no
    /// models make an empty list.
    ///
    /// Errors are not counted: a page with damaged rows has as many models as one without. Damage that two pages touch
    /// is in both; what is known to be lost is in every page up to it.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use modelkeep::admin::Filter;
    /// for horizon_days in 0..5 {
    ///     store.publish(&ModelKey::new("momentum", &horizon_days)?, trained())?;
    /// }
    /// assert_eq!(store.list(Filter::all().limit(2))?.count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit(mut self, models: usize) -> Self {
        self.limit = Some(models);
        self
    }

    pub(super) fn passes(&self, row: &Row, now: Timestamp) -> Result<bool> {
        let age = now.since(row.last_updated);
        let in_time =
            self.older_than.is_none_or(|limit| age > limit) && self.younger_than.is_none_or(|limit| age <= limit);
        Ok(in_time && row.has_tags(&self.tags)?)
    }

    /// What the stored keys of the wanted models begin with.
    pub(super) fn prefix(&self) -> Vec<u8> {
        self.name.as_ref().map(name_prefix).unwrap_or_default()
    }

    /// What the stored keys begin with that the wanted models come after; empty when they begin at the first. `None`
    /// when no model can come after it.
    pub(super) fn passed(&self) -> Option<Vec<u8>> {
        let passed = self.after.as_ref().map(ModelKey::to_bytes).unwrap_or_default();
        let prefix = self.prefix();
        (passed <= prefix || passed.starts_with(&prefix)).then_some(passed)
    }

    /// How many models are wanted at most.
    pub(super) fn models_max(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }
}

/// What the stored keys of all models of this name begin with.
pub(super) fn name_prefix(name: &ModelName) -> Vec<u8> {
    RowKey::new().text(name.as_str()).into_bytes()
}
