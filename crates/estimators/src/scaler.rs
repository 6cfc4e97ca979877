//! Standard scaling: every feature less its mean, over its deviation.

use super::{assert_width, check_finite};
use modelkeep::{Invalid, Model, Schema};

/// Scales `d` features: `(x - offset) * scale + shift`, each of the three `[d]`.
///
/// The shift is zero for a scaler that centres; one that only scales shifts back by its offset, as linfa does.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct StandardScaler {
    offsets: Vec<f64>,
    scales: Vec<f64>,
    shifts: Vec<f64>,
}

impl StandardScaler {
    /// Returns a scaler that subtracts `offsets` and multiplies by `scales`, both `[d]`.
    ///
    /// Lengths that differ and values that are not finite are found when the scaler is published.
    #[must_use]
    pub fn new(offsets: Vec<f64>, scales: Vec<f64>) -> Self {
        let shifts = vec![0.0; offsets.len()];
        Self { offsets, scales, shifts }
    }

    #[cfg(feature = "linfa")]
    pub(super) fn with_shifts(offsets: Vec<f64>, scales: Vec<f64>, shifts: Vec<f64>) -> Self {
        Self { offsets, scales, shifts }
    }
}

impl ArchivedStandardScaler {
    /// Returns the number of features, `d`.
    #[must_use]
    pub fn features(&self) -> usize {
        self.offsets.len()
    }

    /// Writes the scaled `row` `[d]` to `out` `[d]`; allocates nothing.
    ///
    /// # Panics
    /// When `row` or `out` has not `d` values.
    pub fn transform_into(&self, row: &[f64], out: &mut [f64]) {
        assert_width(row, self.features());
        assert_width(out, self.features());
        let parameters = self.offsets.iter().zip(&*self.scales).zip(&*self.shifts);
        for ((x, out), ((offset, scale), shift)) in row.iter().zip(out).zip(parameters) {
            *out = (x - offset.to_native()) * scale.to_native() + shift.to_native();
        }
    }

    /// Returns the scaled `row`, `[d]`.
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn transform(&self, row: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; row.len()];
        self.transform_into(row, &mut out);
        out
    }
}

impl Model for StandardScaler {
    const SCHEMA: Schema = Schema::new("modelkeep.standard_scaler", 1);

    fn validate(archived: &ArchivedStandardScaler) -> Result<(), Invalid> {
        let d = archived.features();
        if archived.scales.len() != d || archived.shifts.len() != d {
            let (scales, shifts) = (archived.scales.len(), archived.shifts.len());
            return Err(Invalid::new(format!("{d} offsets, {scales} scales and {shifts} shifts do not agree")));
        }
        check_finite("offsets", &archived.offsets)?;
        check_finite("scales", &archived.scales)?;
        check_finite("shifts", &archived.shifts)
    }
}
