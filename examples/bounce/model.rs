//! The model: a scaler and a logistic regression, trained on the years before the test year.

use linfa::{Dataset, traits::Fit};
use linfa_logistic::LogisticRegression as Fitter;
use linfa_preprocessing::linear_scaling::LinearScaler;
use modelkeep::{
    Day, Invalid, LevelRange, Model, ModelRef, NewModel, Schema, archive::Unstored, training::TrainingSet,
};
use modelkeep_estimators::{LogisticRegression, StandardScaler};
use ndarray::{Array1, Array2};
use rkyv::{Archive, Serialize};

/// What is kept: both parts predict straight from the archive.
#[derive(Archive, Serialize)]
pub struct BounceModel {
    scaler: StandardScaler,
    logistic: LogisticRegression,
}

impl Model for BounceModel {
    const SCHEMA: Schema = Schema::new("example.bounce", 1);

    fn validate(archived: &ArchivedBounceModel) -> Result<(), Invalid> {
        StandardScaler::validate(&archived.scaler)?;
        LogisticRegression::validate(&archived.logistic)?;
        if archived.scaler.features() != archived.logistic.features() {
            return Err(Invalid::new("scaler and regression are of different widths"));
        }
        Ok(())
    }
}

impl ArchivedBounceModel {
    /// The probability that a dip with these features bounces.
    pub fn probability(&self, features: &[f64; 9]) -> f64 {
        let mut scaled = [0.0; 9];
        self.scaler.transform_into(features, &mut scaled);
        self.logistic.probability(&scaled)
    }

    fn weights(&self) -> Array1<f64> {
        self.logistic.weights().chain([self.logistic.intercept()]).collect()
    }
}

/// The split in time, and how strongly weights are held back.
pub struct Plan {
    pub test_from: Day,
    pub horizon_days: usize,
    pub regularisation: f64,
}

/// How well the probabilities fit what happened in the test year.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub train_samples: usize,
    pub test_samples: usize,
    /// `None` when the test year has bounces only, or none.
    pub auc: Option<f64>,
    pub brier: f64,
    pub base_rate: f64,
}

/// Fits on the samples before the test year and judges on those in it. Starts from the weights of `prior`.
pub fn train(
    data: &TrainingSet,
    prior: Option<&ModelRef<BounceModel>>,
    plan: &Plan,
    vix: LevelRange,
) -> Result<(NewModel<BounceModel>, Report), Box<dyn std::error::Error>> {
    // A label looks `horizon_days` sessions ahead; samples whose label could reach into the test year are left out.
    let embargo_days = (plan.horizon_days * 7).div_ceil(5) + 4;
    let train_until = plan.test_from.epoch_days() - i32::try_from(embargo_days)?;
    let rows = || data.iter().flat_map(modelkeep::training::Samples::rows);
    let before = Day::from_epoch_days(train_until)?.start();
    let test_rows: Vec<_> = rows().filter(|row| row.0 >= plan.test_from.start()).collect();
    let train_rows: Vec<_> = rows().filter(|row| row.0 < before).collect();
    let (x, y) = matrix(&train_rows)?;
    if y.iter().all(|&bounced| bounced) || !y.iter().any(|&bounced| bounced) {
        return Err(format!("the {} training samples have one outcome only: nothing to learn", y.len()).into());
    }
    let scaler = LinearScaler::standard().fit(&Dataset::from(x.clone()))?;
    let mut fitter = Fitter::default().alpha(plan.regularisation).gradient_tolerance(1e-8).max_iterations(500);
    if let Some(prior) = prior {
        // The stored weights are about bounces; linfa's are about whichever outcome is more frequent.
        let bounces = y.iter().filter(|&&bounced| bounced).count();
        let about_bounces = 2 * bounces > y.len() || (2 * bounces == y.len() && y[0]);
        fitter = fitter.initial_params(if about_bounces { prior.weights() } else { -prior.weights() });
    }
    let scaled = linfa::traits::Transformer::transform(&scaler, x);
    let fitted = fitter.fit(&Dataset::new(scaled, y))?;
    let model = BounceModel { scaler: StandardScaler::try_from(&scaler)?, logistic: (&fitted).into() };

    let report = judge(&model, &train_rows, &test_rows)?;
    let text = format!(
        "train samples {}\ntest samples {}\nAUC {:?}\nBrier {}\n",
        report.train_samples, report.test_samples, report.auc, report.brier
    );
    let trained = NewModel::new(model)
        .levels(vix)
        .metric("brier", report.brier)
        .metric("base_rate", report.base_rate)
        .tag("desk", "equities")
        .artifact("report.txt", text);
    // Without bounces or without failures in the test year there is no AUC.
    let trained = match report.auc {
        Some(auc) => trained.metric("auc", auc),
        None => trained,
    };
    Ok((trained, report))
}

type Row<'a> = (modelkeep::Timestamp, &'a [f64], f64);

fn matrix(rows: &[Row<'_>]) -> Result<(Array2<f64>, Array1<bool>), ndarray::ShapeError> {
    let features = rows.iter().flat_map(|row| row.1).copied().collect();
    let x = Array2::from_shape_vec((rows.len(), super::dips::FEATURES.len()), features)?;
    Ok((x, rows.iter().map(|row| row.2 > 0.5).collect()))
}

/// Scores the test rows with the model as it will be stored.
fn judge(
    model: &BounceModel,
    train_rows: &[Row<'_>],
    test_rows: &[Row<'_>],
) -> Result<Report, Box<dyn std::error::Error>> {
    if test_rows.is_empty() {
        return Err("there are no labelled dips in the test year".into());
    }
    let archived = Unstored::of(model)?;
    let scored = test_rows.iter().map(|row| Ok((archived.probability(row.1.try_into()?), row.2)));
    let mut scored = scored.collect::<Result<Vec<(f64, f64)>, std::array::TryFromSliceError>>()?;
    let n = scored.len() as f64;
    let brier = scored.iter().map(|(p, y)| (p - y).powi(2)).sum::<f64>() / n;
    let base_rate = scored.iter().map(|(_, y)| y).sum::<f64>() / n;
    Ok(Report {
        train_samples: train_rows.len(),
        test_samples: test_rows.len(),
        auc: auc(&mut scored),
        brier,
        base_rate,
    })
}

/// The probability that a bounce is scored above a dip that did not: the Mann-Whitney statistic, ties counting half.
fn auc(scored: &mut [(f64, f64)]) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scored.iter().filter(|(_, y)| *y > 0.5).count() as f64;
    let negatives = scored.len() as f64 - positives;
    let (mut ranks, mut below) = (0.0, 0.0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let rank = below + (tied.len() as f64 + 1.0) / 2.0;
        ranks += rank * tied.iter().filter(|(_, y)| *y > 0.5).count() as f64;
        below += tied.len() as f64;
    }
    (positives > 0.0 && negatives > 0.0)
        .then(|| (ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}
