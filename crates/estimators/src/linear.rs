//! Linear models: a weight per feature and an intercept.

use rkyv::rend::f64_le;

use super::{assert_width, check_finite};
use modelkeep::{Invalid, Model, Schema};

/// Linear regression, ordinary or with an elastic-net penalty: the prediction is the same.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct LinearRegression {
    weights: Vec<f64>,
    intercept: f64,
}

/// Binary logistic regression.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct LogisticRegression {
    weights: Vec<f64>,
    intercept: f64,
    threshold: f64,
    negative: i64,
    positive: i64,
}

impl LinearRegression {
    /// Returns the model with these weights, `[d]`, and this intercept.
    #[must_use]
    pub fn new(weights: Vec<f64>, intercept: f64) -> Self {
        Self { weights, intercept }
    }
}

impl LogisticRegression {
    /// Returns the model with these weights, `[d]`, and this intercept, for the classes 0 and 1 and a threshold of 0.5.
    #[must_use]
    pub fn new(weights: Vec<f64>, intercept: f64) -> Self {
        Self { weights, intercept, threshold: 0.5, negative: 0, positive: 1 }
    }

    /// Changes the probability from which on the positive class is predicted.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Changes what the negative and the positive class are called.
    #[must_use]
    pub fn with_classes(mut self, negative: i64, positive: i64) -> Self {
        (self.negative, self.positive) = (negative, positive);
        self
    }
}

/// The accessors that both models have; rkyv leaves no common base for their archived forms.
macro_rules! affine_parameters {
    ($($archived:ident),*) => {
        $(impl $archived {
            /// Returns the number of features, `d`.
            #[must_use]
            pub fn features(&self) -> usize {
                self.weights.len()
            }

            /// Returns the weights, `[d]`.
            #[must_use]
            pub fn weights(&self) -> impl ExactSizeIterator<Item = f64> {
                self.weights.iter().map(|weight| weight.to_native())
            }

            /// Returns the intercept.
            #[must_use]
            pub fn intercept(&self) -> f64 {
                self.intercept.to_native()
            }
        })*
    };
}

affine_parameters!(ArchivedLinearRegression, ArchivedLogisticRegression);

impl ArchivedLinearRegression {
    /// Returns the prediction for `row`, `[d]`.
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> f64 {
        affine(&self.weights, self.intercept, row)
    }
}

impl ArchivedLogisticRegression {
    /// Returns the negative and the positive class.
    #[must_use]
    pub fn classes(&self) -> (i64, i64) {
        (self.negative.to_native(), self.positive.to_native())
    }

    /// Returns the probability from which on the positive class is predicted.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold.to_native()
    }

    /// Returns the probability of the positive class, the second of [`classes`](Self::classes), for `row`, `[d]`.
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn probability(&self, row: &[f64]) -> f64 {
        1.0 / (1.0 + (-affine(&self.weights, self.intercept, row)).exp())
    }

    /// Returns the class for `row`, `[d]`: the positive one from the threshold on.
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn class(&self, row: &[f64]) -> i64 {
        if self.probability(row) >= self.threshold.to_native() {
            self.positive.to_native()
        } else {
            self.negative.to_native()
        }
    }
}

fn affine(weights: &[f64_le], intercept: f64_le, row: &[f64]) -> f64 {
    assert_width(row, weights.len());
    let dot: f64 = weights.iter().zip(row).map(|(weight, x)| weight.to_native() * x).sum();
    dot + intercept.to_native()
}

fn check_affine(weights: &[f64_le], intercept: f64_le) -> Result<(), Invalid> {
    if weights.is_empty() {
        return Err(Invalid::new("there are no weights"));
    }
    check_finite("weights", weights)?;
    check_finite("intercept", &[intercept])
}

impl Model for LinearRegression {
    const SCHEMA: Schema = Schema::new("modelkeep.linear_regression", 1);

    fn validate(archived: &ArchivedLinearRegression) -> Result<(), Invalid> {
        check_affine(&archived.weights, archived.intercept)
    }
}

impl Model for LogisticRegression {
    const SCHEMA: Schema = Schema::new("modelkeep.logistic_regression", 1);

    fn validate(archived: &ArchivedLogisticRegression) -> Result<(), Invalid> {
        check_affine(&archived.weights, archived.intercept)?;
        let threshold = archived.threshold.to_native();
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Invalid::new(format!("the threshold {threshold} is no probability")));
        }
        if archived.negative == archived.positive {
            return Err(Invalid::new("both classes have the same name"));
        }
        Ok(())
    }
}
