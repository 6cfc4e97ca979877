//! A model that is archived and not stored.

use std::{fmt, ops::Deref, sync::Arc};

use super::archive::{ArchiveRef, Model, ValidatedBytes};
use crate::types::error::Result;

/// A model as it will be read, before it is stored: for judging it on held-out data.
///
/// Dereferences to the archived type, as [`ModelRef`](crate::ModelRef) does, so that what is measured is what is
/// served.
///
/// ```
/// # use modelkeep::{Model, Schema, archive::Unstored};
/// # #[derive(rkyv::Archive, rkyv::Serialize)]
/// # struct Momentum { weights: Vec<f64> }
/// # impl Model for Momentum { const SCHEMA: Schema = Schema::new("momentum", 1); }
/// let model = Momentum { weights: vec![0.5, 0.25] };
/// let unstored = Unstored::of(&model)?;
/// assert_eq!(unstored.weights[1].to_native(), 0.25);
/// # Ok::<(), modelkeep::Error>(())
/// ```
pub struct Unstored<M: Model>(ArchiveRef<M, Arc<ValidatedBytes>>);

impl<M: Model> Unstored<M> {
    /// Archives `model` in memory and checks it, as a publish does.
    ///
    /// # Errors
    /// `InvalidInput` when the model refuses itself or cannot be serialised, `LimitExceeded` beyond 2 GiB.
    pub fn of(model: &M) -> Result<Self> {
        ArchiveRef::new(Arc::new(ValidatedBytes::from_model(model, 0)?)).map(Self)
    }
}

impl<M: Model> Deref for Unstored<M> {
    type Target = M::Archived;

    fn deref(&self) -> &M::Archived {
        &self.0
    }
}

impl<M: Model> fmt::Debug for Unstored<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unstored").field(self.0.holder()).finish()
    }
}
