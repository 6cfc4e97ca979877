//! What a training hands to the store.

use std::time::Duration;

use super::training::TrainingSet;
use crate::types::{level_range::LevelRange, time::Timestamp};

/// What a training produced: the model, and whatever is to be kept with it.
///
/// ```
/// # use modelkeep::{Model, Schema, NewModel};
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// let trained = NewModel::new(Momentum { weights: vec![0.5] })
///     .metric("auc", 0.61)
///     .tag("desk", "equities")
///     .artifact("report.txt", "all is well");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NewModel<M> {
    pub(super) model: M,
    pub(super) training_data: Option<TrainingSet>,
    pub(super) artifacts: Vec<(String, Vec<u8>)>,
    pub(super) levels: Vec<LevelRange>,
    pub(super) metrics: Vec<(String, f64)>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) trained_through: Option<Timestamp>,
    pub(super) training_duration: Option<Duration>,
}

/// What a training closure returns. With its type written out, nothing else needs to be: `?` takes any error.
///
/// ```
/// # use modelkeep::{Freshness, Model, ModelKey, NewModel, Schema, Store, TrainResult};
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// # let store = Store::in_memory()?;
/// # let key = ModelKey::new("momentum", &())?;
/// let model = store.get_or_train(&key, &Freshness::max_age_hours(20), |prior| -> TrainResult<Momentum> {
///     let first = "0.5".parse::<f64>()? + prior.map_or(0.0, |prior| prior.weights[0].to_native());
///     Ok(Momentum { weights: vec![first] }.into())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type TrainResult<M, E = Box<dyn std::error::Error + Send + Sync>> = Result<NewModel<M>, E>;

impl<M> From<M> for NewModel<M> {
    fn from(model: M) -> Self {
        Self::new(model)
    }
}

impl<M> NewModel<M> {
    /// Returns a model with nothing beside it.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// assert_eq!(store.publish(&key, NewModel::new(model))?.get(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(model: M) -> Self {
        Self {
            model,
            training_data: None,
            artifacts: Vec::new(),
            levels: Vec::new(),
            metrics: Vec::new(),
            tags: Vec::new(),
            trained_through: None,
            training_duration: None,
        }
    }

    /// Keeps the training data, in place of what was stored for the key. Without it, what was stored stays.
    ///
    /// [`Store::update`](crate::Store::update) stores the merged set by itself.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// # use modelkeep::{Timestamp, training::{Samples, TrainingSet}};
    /// # let mut samples = Samples::new("AAPL", &["zscore"])?;
    /// # samples.push(Timestamp::from_nanos(1), &[-1.7], 1.0)?;
    /// # let set = TrainingSet::from_samples([samples])?;
    /// store.publish(&key, NewModel::new(model).training_data(set))?;
    /// assert_eq!(store.metadata(&key)?.map(|known| known.sample_count), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn training_data(mut self, data: TrainingSet) -> Self {
        self.training_data = Some(data);
        self
    }

    /// Keeps named bytes with this version. The last one of a name counts.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// let version = store.publish(&key, NewModel::new(model).artifact("scaler.json", r#"{"mean":0.5}"#))?;
    /// assert_eq!(store.artifact(&key, version, "scaler.json")?.as_deref(), Some(&br#"{"mean":0.5}"#[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn artifact(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.artifacts.push((name.into(), bytes.into()));
        self
    }

    /// Records the index levels that the training saw; see [`LevelSeries::seen`](crate::market::LevelSeries::seen).
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// let vix = store.levels("VIX")?;
    /// vix.write(&[("2018-12-24".parse()?, 36.07)])?;
    /// let seen = vix.seen(modelkeep::Interval::parse("2018-12-01", "2019-01-01")?)?;
    /// store.publish(&key, NewModel::new(model).levels(seen.clone()))?;
    /// assert_eq!(store.metadata(&key)?.map(|known| known.levels), Some(vec![seen]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn levels(mut self, seen: LevelRange) -> Self {
        self.levels.push(seen);
        self
    }

    /// Records a metric. The last one of a name counts. NaN is kept as it is, and less than nothing: a guard that rolls
    /// back below a limit should ask for `!(metric >= limit)`.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// store.publish(&key, NewModel::new(model).metric("auc", 0.61))?;
    /// assert_eq!(store.metadata(&key)?.map(|known| known.metrics["auc"]), Some(0.61));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.push((name.into(), value));
        self
    }

    /// Tags the version, to be found, while it is current, by [`Filter::tag`](crate::admin::Filter::tag). The last one of a name counts.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// store.publish(&key, NewModel::new(model).tag("desk", "equities"))?;
    /// assert_eq!(store.metadata(&key)?.map(|known| known.tags["desk"].clone()).as_deref(), Some("equities"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }

    /// Records up to when the training data reaches. Default: the newest timestamp of the training data.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// let close = "2018-12-31T21:00:00Z".parse()?;
    /// store.publish(&key, NewModel::new(model).trained_through(close))?;
    /// assert_eq!(store.metadata(&key)?.and_then(|known| known.trained_through), Some(close));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trained_through(mut self, at: Timestamp) -> Self {
        self.trained_through = Some(at);
        self
    }

    /// Records how long the training took. Default: what the store measured around the training closure; zero for
    /// [`Store::publish`](crate::Store::publish), which cannot know.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let (store, key) = (Store::in_memory()?, ModelKey::new("momentum", &())?);
    /// # let model = Momentum { weights: vec![0.5] };
    /// # use std::time::Duration;
    /// store.publish(&key, NewModel::new(model).took(Duration::from_secs(90)))?;
    /// assert_eq!(store.metadata(&key)?.map(|known| known.training_duration.as_secs()), Some(90));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn took(mut self, duration: Duration) -> Self {
        self.training_duration = Some(duration);
        self
    }
}
