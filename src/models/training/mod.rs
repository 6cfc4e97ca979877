//! Training data: the samples that a model was trained on, as typed columns per symbol.

mod merge;
mod samples;
mod set;
pub(crate) mod stored;

pub use merge::Merge;
pub use samples::Samples;
pub use set::TrainingSet;
pub use stored::TrainingSummary;
