//! Options about superseded versions: how many are kept, in which form, and who sees to it.

use super::Options;
use crate::models::settings::Maintenance;

impl Options {
    /// How many versions of a model are kept, the current one included; pinned versions, and the one that a rollback
    /// leads to, stay whatever their number. Until [maintenance](Self::maintenance) has run there may be one more.
    /// Default: 8.
    ///
    /// 1 keeps the newest version, and after a rollback the current one beside it: a publish leaves nothing to roll
    /// back to. 0 means the same.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let store = Store::options().retention(2).in_memory()?;
    /// for _ in 0..5 {
    ///     store.publish(&key, trained())?;
    /// }
    /// assert_eq!(store.versions(&key)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retention(mut self, versions: usize) -> Self {
        self.models.retention = Some(versions);
        self
    }

    /// Keeps every version until it is removed by hand.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// let store = Store::options().keep_all_versions().in_memory()?;
    /// for _ in 0..12 {
    ///     store.publish(&key, trained())?;
    /// }
    /// assert_eq!(store.versions(&key)?.len(), 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_all_versions(mut self) -> Self {
        self.models.retention = None;
        self
    }

    /// Whether the archive of a superseded version is compressed: it is rarely read again. Default: true. It took 47 %
    /// off a model of 50 MB. [`maintenance`](Self::maintenance) says when.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::options().compress_superseded(false).in_memory()?; // a larger file
    /// # assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compress_superseded(mut self, compress: bool) -> Self {
        self.models.compress_superseded = compress;
        self
    }

    /// Who compresses superseded versions, and removes those beyond the retention, and when. Default:
    /// [`Maintenance::InBackground`]: a publish then reads and writes no more than its own bytes, and maintenance
    /// shares the disk with the next one.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5; 10_000] });
    /// use modelkeep::admin::Maintenance;
    ///
    /// let store = Store::options().maintenance(Maintenance::OnRequest).retention(2).in_memory()?;
    /// for _ in 0..3 {
    ///     store.publish(&key, trained())?;
    /// }
    /// assert_eq!(store.versions(&key)?.len(), 3); // until somebody asks for it
    /// assert_eq!(store.run_maintenance()?.removed, 1);
    /// assert_eq!(store.versions(&key)?.len(), 2);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.models.maintenance = maintenance;
        self
    }
}
