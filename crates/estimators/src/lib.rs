//! Estimators as archives: scalers, linear models, trees and forests that predict straight from the stored bytes.
//!
//! Each type is a flat arena of numbers that derives rkyv's traits, implements [`modelkeep::Model`], and can be a
//! field of a model of your own. The archived forms (`ArchivedLogisticRegression` ...) carry the prediction methods, so
//! that nothing is deserialised. With the feature `linfa`, each is built from the fitted linfa object and predicts what
//! that object predicts; without it they can still be read and used, because a feature never decides whether a file
//! opens.
//!
//! ```
//! use modelkeep::{ModelKey, Store, NewModel};
//! use modelkeep_estimators::LogisticRegression;
//!
//! let store = Store::in_memory()?;
//! let key = ModelKey::new("coin", &())?;
//! store.publish(&key, NewModel::new(LogisticRegression::new(vec![2.0, -1.0], 0.5)))?;
//! let model = store.get::<LogisticRegression>(&key)?.expect("it was published above");
//! assert_eq!(model.probability(&[0.0, 0.5]), 0.5);
//! # Ok::<(), modelkeep::Error>(())
//! ```

#[cfg(feature = "linfa")]
mod from_linfa;
mod linear;
mod scaler;
mod tree;

pub use linear::{ArchivedLinearRegression, ArchivedLogisticRegression, LinearRegression, LogisticRegression};
pub use scaler::{ArchivedStandardScaler, StandardScaler};
pub use tree::{ArchivedDecisionTree, ArchivedNode, ArchivedRandomForest, DecisionTree, Node, RandomForest};

#[cfg(feature = "linfa")]
pub use from_linfa::ClassLabel;

use rkyv::rend::f64_le;

use modelkeep::Invalid;

/// Refuses a column with a value that is not finite.
fn check_finite(what: &str, values: &[f64_le]) -> Result<(), Invalid> {
    match values.iter().position(|value| !value.to_native().is_finite()) {
        None => Ok(()),
        Some(at) => Err(Invalid::new(format!("{what}[{at}] is not finite"))),
    }
}

/// Checks the width of a row that a caller passes. A wrong one is a mistake in the program and not in the data.
#[track_caller]
fn assert_width(row: &[f64], features: usize) {
    assert_eq!(row.len(), features, "a row has {} features where the model was trained on {features}", row.len());
}
