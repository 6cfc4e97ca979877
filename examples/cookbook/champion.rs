//! Champion and challenger by aliases, and a rollback that is guarded by a metric.
//!
//!     cargo run --example cookbook_champion

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "an example prints, and windows have two elements")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::error::Error;

use modelkeep::{
    Interval, Model, ModelKey, NewModel, Schema, Store, Version,
    admin::Annotation,
    market::{BadRows, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");

/// The daily volatility that is expected.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Volatility(f64);

impl Model for Volatility {
    const SCHEMA: Schema = Schema::new("cookbook.volatility", 1);
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
    values.sum::<f64>() / n
}

fn train(returns: &[f64]) -> NewModel<Volatility> {
    NewModel::new(Volatility(mean(returns.iter().map(|x| x * x)).sqrt()))
}

/// How well a version describes returns that it did not see: the mean logarithmic likelihood, larger is better.
fn judge(store: &Store, key: &ModelKey, alias: &str, returns: &[f64]) -> Result<f64, Box<dyn Error>> {
    let model = store.get_alias::<Volatility>(key, alias)?.ok_or("there is no such alias")?;
    let sigma = model.0.to_native();
    Ok(mean(returns.iter().map(|x| -sigma.ln() - (x / sigma).powi(2) / 2.0)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("models.redb"))?;
    let series = store.bars("IBM", Timeframe::DAY)?;
    series.import_csv(IBM, BadRows::Refuse, |_| {})?;
    let bars = series.range(Interval::all_time())?;
    let returns: Vec<f64> = bars.close().windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
    let (seen, unseen) = returns.split_at(returns.len() - 120);
    let key = ModelKey::new("volatility", "IBM")?;

    // The champion has seen the crisis of 2008; the challenger knows the last hundred days.
    let champion = store.publish(&key, train(seen))?;
    store.set_alias(&key, "champion", champion)?;
    let challenger = store.publish(&key, train(&seen[seen.len() - 100..]))?;
    store.set_alias(&key, "challenger", challenger)?;

    // Both are judged on the same days, and what came out is kept with the versions.
    let (old, new) = (judge(&store, &key, "champion", unseen)?, judge(&store, &key, "challenger", unseen)?);
    store.annotate(&key, champion, &Annotation::new().metric("live_likelihood", old))?;
    store.annotate(&key, challenger, &Annotation::new().metric("live_likelihood", new))?;
    println!("champion {old:.4}, challenger {new:.4}");
    let best = if new > old { challenger } else { champion };
    store.set_alias(&key, "champion", best)?;
    assert_eq!(store.alias(&key, "champion")?, Some(challenger), "on these days the shorter memory is better");

    // A bad version becomes current; the guard sees its metric and rolls back. NaN fails the guard as well.
    let bad = store.publish(&key, train(&[0.5]).metric("live_likelihood", f64::NAN))?;
    let metric = |version: Version| -> Result<f64, Box<dyn Error>> {
        let metadata = store.metadata_of(&key, version)?.ok_or("there is no such version")?;
        Ok(metadata.metrics.get("live_likelihood").copied().unwrap_or(f64::NAN))
    };
    let is_good_enough = metric(bad)? >= metric(best)? - 0.5;
    if !is_good_enough {
        println!("rolled back to {}", store.rollback(&key)?);
    }
    let current = store.get::<Volatility>(&key)?.ok_or("there is no current version")?;
    assert_eq!(current.version(), Some(challenger));
    Ok(())
}
