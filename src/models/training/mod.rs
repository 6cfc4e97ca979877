//! Training data: the samples that a model was trained on, as typed columns per symbol.

mod merge;
mod samples;
pub(crate) mod stored;

pub use merge::Merge;
pub use samples::{Samples, TrainingSet};
pub use stored::TrainingSummary;
