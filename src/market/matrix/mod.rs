//! Tables to train on: features of many symbols, joined with levels and targets, and nothing in a row that was not
//! available when the row claims to be.

mod build;
mod plan;

pub use build::Matrix;
pub use plan::MatrixPlan;
