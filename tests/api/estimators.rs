//! Archived estimators predict what the linfa objects predict that they were made of, on real data.

use std::path::Path;

use linfa::{
    Dataset,
    traits::{Fit, Predict, Transformer},
};
use modelkeep::{ErrorKind, Model, ModelKey, NewModel, Store};
use modelkeep_estimators::{DecisionTree, LinearRegression, LogisticRegression, RandomForest, StandardScaler};
use ndarray::{Array1, Array2};
use rand::SeedableRng;

use crate::{dips::market, support::error};

const TOLERANCE: f64 = 1e-12;

/// Returns of six stocks on one day, `[n, 6]`, and the return of a seventh on the next.
fn returns() -> (Array2<f64>, Array1<f64>) {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"));
    let closes: Vec<Vec<f64>> = ["AAPL", "AMZN", "GOOG", "META", "MSFT", "NFLX", "SPX"]
        .map(|symbol| market::read_bars(dir, symbol).unwrap().close)
        .into();
    let change = |symbol: usize, t: usize| closes[symbol][t] / closes[symbol][t - 1] - 1.0;
    let n = closes[0].len() - 2;
    let x = Array2::from_shape_fn((n, 6), |(row, symbol)| change(symbol, row + 1));
    let y = Array1::from_shape_fn(n, |row| change(6, row + 2));
    (x, y)
}

/// Stores a model and reads it back from the archive.
fn kept<M: Model>(model: M) -> modelkeep::ModelRef<M> {
    let store = Store::in_memory().unwrap();
    let key = ModelKey::new("estimator", &()).unwrap();
    store.publish(&key, NewModel::new(model)).unwrap();
    store.evict_all();
    store.get(&key).unwrap().unwrap()
}

fn rows(x: &Array2<f64>) -> impl Iterator<Item = Vec<f64>> {
    x.rows().into_iter().map(|row| row.to_vec())
}

fn assert_close(ours: impl Iterator<Item = f64>, theirs: &Array1<f64>) {
    let mut n = 0;
    for (ours, theirs) in ours.zip(theirs) {
        assert!((ours - theirs).abs() <= TOLERANCE * theirs.abs().max(1.0), "{ours} is not {theirs}");
        n += 1;
    }
    assert_eq!(n, theirs.len());
}

#[test]
fn the_standard_scaler() {
    use linfa_preprocessing::linear_scaling::LinearScaler;
    let (x, y) = returns();
    let data = Dataset::new(x.clone(), y);
    for params in [LinearScaler::standard(), LinearScaler::standard_no_mean(), LinearScaler::standard_no_std()] {
        let fitted = params.fit(&data).unwrap();
        let held = kept(StandardScaler::try_from(&fitted).unwrap());
        let theirs = fitted.transform(x.clone());
        for (row, theirs) in rows(&x).zip(theirs.rows()) {
            assert_close(held.transform(&row).into_iter(), &theirs.to_owned());
        }
    }
    let other = LinearScaler::min_max().fit(&data).unwrap();
    assert!(error(StandardScaler::try_from(&other)).to_string().contains("not the standard one"));
}

#[test]
fn the_linear_regressions() {
    let (x, y) = returns();
    let data = Dataset::new(x.clone(), y);
    let ordinary = linfa_linear::LinearRegression::new().fit(&data).unwrap();
    let held = kept(LinearRegression::from(&ordinary));
    assert_close(rows(&x).map(|row| held.predict(&row)), &ordinary.predict(&x));
    for (penalty, l1_ratio) in [(1e-6, 0.5), (1e-4, 1.0), (1e-3, 0.0)] {
        let elastic = linfa_elasticnet::ElasticNet::params().penalty(penalty).l1_ratio(l1_ratio).fit(&data).unwrap();
        let held = kept(LinearRegression::from(&elastic));
        assert_close(rows(&x).map(|row| held.predict(&row)), &elastic.predict(&x));
    }
}

/// The returns and whether the next day's exceeds `least`: more ups than downs, or fewer.
fn ups(least: f64) -> (Array2<f64>, Array1<bool>) {
    let (x, y) = returns();
    (x, y.mapv(|change| change > least))
}

#[test]
fn the_logistic_regression() {
    // Ups are more frequent, then downs; linfa changes sides with the more frequent one, and the archive does not.
    for (least, mostly_up) in [(0.0, true), (0.0008, false)] {
        let (x, y) = ups(least);
        assert_eq!(y.iter().filter(|&&up| up).count() * 2 > y.len(), mostly_up);
        let fitted =
            linfa_logistic::LogisticRegression::default().alpha(1e-4).fit(&Dataset::new(x.clone(), y)).unwrap();
        assert_eq!(fitted.labels().pos.class, mostly_up, "what linfa calls positive");
        let held = kept(LogisticRegression::from(&fitted));
        assert_eq!(held.classes(), (0, 1));
        let theirs = fitted.predict_probabilities(&x).mapv(|p| if mostly_up { p } else { 1.0 - p });
        assert_close(rows(&x).map(|row| held.probability(&row)), &theirs);
        let theirs = fitted.predict(&x);
        assert!(theirs.iter().any(|&up| up) && theirs.iter().any(|&up| !up), "both classes are predicted");
        assert!(rows(&x).zip(&theirs).all(|(row, &theirs)| held.class(&row) == i64::from(theirs)));
        // Another threshold has to be set on both sides.
        let (strict, ours) = if mostly_up { (0.55, 0.55) } else { (0.55, (1.0f64 - 0.55).next_up()) };
        let held = kept(LogisticRegression::from(&fitted).with_threshold(ours));
        let strict = fitted.set_threshold(strict).predict(&x);
        assert!(rows(&x).zip(&strict).all(|(row, &theirs)| held.class(&row) == i64::from(theirs)));
    }
}

#[test]
fn a_tie_goes_where_linfa_lets_it_go() {
    for mostly_up in [true, false] {
        // No feature says anything, and the regularised weights of a constant zero are zero.
        let y = Array1::from_shape_fn(9, |i| (i % 3 == 0) != mostly_up);
        let x = Array2::<f64>::zeros((9, 1));
        let fitter = linfa_logistic::LogisticRegression::default().with_intercept(false);
        let fitted = fitter.fit(&Dataset::new(x.clone(), y)).unwrap();
        let held = kept(LogisticRegression::from(&fitted));
        assert_eq!(held.probability(&[0.0]), 0.5);
        assert_eq!(held.class(&[0.0]), i64::from(fitted.predict(&x)[0]));
    }
}

/// Three classes: the next day is down, flat, or up.
fn three_classes() -> (Array2<f64>, Dataset<f64, usize, ndarray::Ix1>) {
    let (x, y) = returns();
    let classes = y.mapv(|change| if change < -0.003 { 10 } else { 11 + usize::from(change > 0.003) });
    (x.clone(), Dataset::new(x, classes))
}

#[test]
fn the_decision_tree() {
    let (x, data) = three_classes();
    for depth in [Some(1), Some(4), None] {
        let fitted = linfa_trees::DecisionTree::params().max_depth(depth).fit(&data).unwrap();
        let held = kept(DecisionTree::from_linfa(&fitted, 6).unwrap());
        let theirs = fitted.predict(&x);
        assert!(rows(&x).zip(&theirs).all(|(row, &theirs)| held.class(&row) == i64::try_from(theirs).unwrap()));
    }
    let fitted = linfa_trees::DecisionTree::params().fit(&data).unwrap();
    let refused = error(DecisionTree::from_linfa(&fitted, 2)).to_string();
    assert!(refused.contains("feature"), "it reads six features: {refused}");
}

#[test]
fn the_random_forest() {
    let (x, data) = three_classes();
    let two = Dataset::new(x.clone(), data.targets.mapv(|class| class == 12));
    let rng = rand_xoshiro::Xoshiro256Plus::seed_from_u64(7);
    // An odd number of trees and two classes: no ties, which linfa breaks by chance.
    let fitted = linfa_ensemble::EnsembleLearnerParams::new_fixed_rng(
        linfa_trees::DecisionTree::params().max_depth(Some(6)),
        rng,
    )
    .ensemble_size(31)
    .bootstrap_proportion(0.7)
    .feature_proportion(0.5)
    .fit(&two)
    .unwrap();
    assert!(fitted.model_features.iter().any(|columns| columns != &[0, 1, 2]), "the trees read columns of their own");
    let held = kept(RandomForest::from_linfa(&fitted, 6).unwrap());
    assert_eq!(held.trees(), 31);
    let theirs: Array1<bool> = fitted.predict(&x);
    assert!(theirs.iter().any(|&up| up) && theirs.iter().any(|&up| !up), "both classes are predicted");
    for (row, &theirs) in rows(&x).zip(&theirs) {
        assert_eq!(held.class(&row), i64::from(theirs));
        let share = held.share(&row, 1);
        assert_eq!(share > 0.5, theirs);
        assert!((held.share(&row, 0) + share - 1.0).abs() < TOLERANCE);
    }
}

#[test]
fn estimators_that_contradict_themselves_are_not_stored() {
    let store = Store::in_memory().unwrap();
    let key = ModelKey::new("bad", &()).unwrap();
    let refused = |result: modelkeep::error::Result<modelkeep::Version>| {
        assert_eq!(error(result).kind(), ErrorKind::InvalidInput);
    };
    refused(store.publish(&key, NewModel::new(StandardScaler::new(vec![0.0; 2], vec![1.0]))));
    refused(store.publish(&key, NewModel::new(LinearRegression::new(vec![f64::NAN], 0.0))));
    refused(store.publish(&key, NewModel::new(LogisticRegression::new(vec![], 0.0))));
    refused(store.publish(&key, NewModel::new(LogisticRegression::new(vec![1.0], 0.0).with_threshold(1.5))));
    refused(store.publish(&key, NewModel::new(DecisionTree::new(1, vec![0], vec![]))));
}
