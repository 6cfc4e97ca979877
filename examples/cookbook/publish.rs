//! Publish a model under a configuration, and get it back.
//!
//!     cargo run --example cookbook_publish

#![allow(clippy::print_stdout, clippy::float_cmp, reason = "an example prints, and a stored number is exact")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::error::Error;

use modelkeep::{
    Interval, Invalid, Model, ModelKey, NewModel, Schema, Store, Tier,
    market::{BadRows, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");

/// Everything that the model depends on. Its hash is half of the key: another value is another model.
#[derive(serde::Serialize)]
struct Config {
    symbol: &'static str,
    lookback_days: usize,
}

/// What is kept: any type that derives rkyv's traits.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Band {
    mean: f64,
    deviation: f64,
}

impl Model for Band {
    const SCHEMA: Schema = Schema::new("cookbook.band", 1);

    /// Runs before each publish and after each load from the file.
    fn validate(archived: &ArchivedBand) -> Result<(), Invalid> {
        if archived.deviation > 0.0 { Ok(()) } else { Err(Invalid::new("the deviation is not positive")) }
    }
}

impl ArchivedBand {
    fn zscore(&self, close: f64) -> f64 {
        (close - self.mean.to_native()) / self.deviation.to_native()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("models.redb");
    let config = Config { symbol: "IBM", lookback_days: 250 };
    let key = ModelKey::new("band", &config)?;

    let store = Store::open(&path)?;
    let bars = store.bars(config.symbol, Timeframe::DAY)?;
    bars.import_csv(IBM, BadRows::Refuse, |_| {})?;
    let bars = bars.range(Interval::all_time())?;
    let last = bars.slice(bars.len() - config.lookback_days..bars.len());
    let n = f64::from(u32::try_from(last.len())?);
    let mean = last.close().iter().sum::<f64>() / n;
    let deviation = (last.close().iter().map(|close| (close - mean).powi(2)).sum::<f64>() / n).sqrt();
    let version = store.publish(&key, NewModel::new(Band { mean, deviation }).metric("samples", n))?;
    store.close()?;

    // Another process, another day: the same configuration leads to the same model.
    let store = Store::options().read_only(true).open(&path)?;
    let model = store.get::<Band>(&ModelKey::new("band", &config)?)?.ok_or("the model is gone")?;
    assert_eq!((model.version(), model.tier()), (Some(version), Tier::Disk));
    assert_eq!(model.zscore(mean + deviation), ((mean + deviation) - mean) / deviation);
    println!("{} {version}: {mean:.2} +- {deviation:.2}, {:?} to load", model.key(), model.load_time());

    // Another configuration is another key, and there is nothing under it.
    let other = ModelKey::new("band", &Config { lookback_days: 20, ..config })?;
    assert!(store.get::<Band>(&other)?.is_none());
    for change in other.diff(&key) {
        println!("nothing under {other}: {} differs", change.field);
    }
    Ok(())
}
