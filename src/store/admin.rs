//! Care of a store: its memory, its file, and damage to it.

use super::Store;
use crate::{
    engine::{Compacted, CompactionProgress},
    models::maintenance::Maintained,
    types::error::Result,
};

impl Store {
    /// Forgets every model in the hot tier. Models that are held stay valid; the file is not touched.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5] });
    /// use modelkeep::Tier;
    ///
    /// store.publish(&key, trained())?;
    /// store.evict_all();
    /// let model = store.get::<Momentum>(&key)?.expect("the file has it");
    /// assert_eq!(model.tier(), Tier::Disk);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict_all(&self) {
        self.models.clear_memory();
    }

    /// Does now what publishes left for later: compresses superseded versions, and removes those beyond the retention.
    /// Says what was done. A thread of the store does the same by itself, unless
    /// [`Options::maintenance`](crate::Options::maintenance) says otherwise.
    ///
    /// ```
    /// # use modelkeep::{Model, ModelKey, NewModel, Schema, Store};
    /// # #[derive(rkyv::Archive, rkyv::Serialize)]
    /// # struct Momentum { weights: Vec<f64> }
    /// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
    /// # let store = Store::in_memory()?;
    /// # let key = ModelKey::new("momentum", &())?;
    /// # let trained = || NewModel::new(Momentum { weights: vec![0.5; 10_000] });
    /// store.publish(&key, trained())?;
    /// store.publish(&key, trained())?;
    /// store.run_maintenance()?;
    /// assert_eq!(store.stats().maintenance_waiting, 0);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// [What a write can fail with](crate::Store#what-a-write-can-fail-with); what is not done then stays to be done.
    /// `Corrupt` when something of a model is damaged; the others have been seen to.
    pub fn run_maintenance(&self) -> Result<Maintained> {
        self.models.run_maintenance()
    }

    /// Copies everything that is stored to a new file, without gaps, which takes the place of this one; says how many
    /// bytes the two have on the disk. Needs room for both, blocks writers meanwhile, reads everything twice, and
    /// empties the hot tier; readers go on.
    ///
    /// A crash at any moment leaves the one file or the other, whole. Models and listings that are held stay as they
    /// are; the blocks of the old file are free when none of them is read in it any more. What publishes left for later
    /// is copied as it is: call [`run_maintenance`](Self::run_maintenance) before. Rows that damage has made unreadable
    /// are left out, and noted as lost: see [`accept_losses`](Self::accept_losses).
    ///
    /// ```
    /// # use modelkeep::Store;
    /// let store = Store::in_memory()?;
    /// let compacted = store.compact()?;
    /// println!("{} bytes became {}", compacted.bytes_before, compacted.bytes_after);
    /// # Ok::<(), modelkeep::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` when what was copied is not read back as it was, or
    /// [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    /// The old file stays in its place then. `Replaced` when another program puts a file in its place meanwhile.
    pub fn compact(&self) -> Result<Compacted> {
        self.compact_with(|_| {})
    }

    /// The same, and says how far it is: after each megabyte, or so. `progress` is called while nobody else may write:
    /// it must not use the store.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::open(folder.path().join("models.redb"))?;
    /// let mut last = None;
    /// store.compact_with(|progress| last = Some(progress.copied_bytes))?;
    /// assert!(last.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`compact`](Self::compact).
    pub fn compact_with(&self, mut progress: impl FnMut(CompactionProgress)) -> Result<Compacted> {
        // What is hot would keep the old file.
        self.core.compact(&mut progress, |turn| self.models.move_over(turn))
    }

    /// Accepts that rows are missing which damage may have made unreadable: from here on they are taken to be absent,
    /// where until now every question about them was an error. No number of a version is given out twice all the same.
    /// A store that does not know any more which one it is gets an [`identity`](Self::identity) anew.
    ///
    /// Call [`compact`](Self::compact) first: it leaves damaged pages behind, and notes what may have been lost with
    /// them. As long as a damaged page is in the file, what it may have held stays an error. Keep a copy of the file
    /// before; [`verify`](Self::verify) lists what is damaged and what was lost.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::open(folder.path().join("models.redb"))?;
    /// if !store.verify()?.is_whole() {
    ///     store.compact()?; // after a copy of the file was made
    ///     store.accept_losses()?;
    /// }
    /// # store.accept_losses()?;
    /// assert!(store.verify()?.is_whole());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [What a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn accept_losses(&self) -> Result<()> {
        self.models.accept_losses()
    }
}
