//! Incremental training: new tickers join a model that is stored with its training data.
//!
//!     cargo run --example cookbook_update

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "an example prints, and windows have six elements")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::error::Error;

use modelkeep::{
    Interval, Model, ModelKey, ModelRef, NewModel, Reason, Schema, Store, Symbol, TrainResult,
    market::{BadRows, Timeframe},
    training::{Samples, TrainingSet},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public");

/// The next day's return by the last four days' return: a line through all samples.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Reversal {
    slope: f64,
}

impl Model for Reversal {
    const SCHEMA: Schema = Schema::new("cookbook.reversal", 1);
}

/// The samples of some tickers, from their CSV files by way of the store.
fn samples(store: &Store, symbols: &[&str]) -> Result<TrainingSet, Box<dyn Error>> {
    let mut set = TrainingSet::new();
    for symbol in symbols {
        let series = store.bars(symbol, Timeframe::DAY)?;
        series.import_csv(format!("{FOLDER}/{symbol}.csv"), BadRows::Refuse, |_| {})?;
        let bars = series.range(Interval::all_time())?;
        let mut samples = Samples::new(symbol, &["return4"])?;
        for (week, at) in bars.close().windows(6).zip(&bars.timestamps()[4..]) {
            samples.push(*at, &[week[4] / week[0] - 1.0], week[5] / week[4] - 1.0)?;
        }
        set.insert(samples)?;
    }
    Ok(set)
}

#[allow(clippy::unnecessary_wraps, reason = "a training can fail")]
fn train(all: &TrainingSet, _prior: Option<&ModelRef<Reversal>>) -> TrainResult<Reversal> {
    let (x, y) = all.to_matrix();
    let slope = x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>() / x.iter().map(|x| x * x).sum::<f64>();
    Ok(NewModel::new(Reversal { slope }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("models.redb"))?;
    let key = ModelKey::new("reversal", &["next day", "four days"])?;

    let first = store.update(&key, &samples(&store, &["IBM", "MSFT"])?, train)?;
    assert_eq!(first.merge.new_symbols.len(), 2);

    // Two new tickers: only they are read; what is stored is merged with them, and the model is trained on all.
    let new = samples(&store, &["AAPL", "GOOG"])?;
    let second = store.update(&key, &new, train)?;
    let names: Vec<&str> = second.merge.new_symbols.iter().map(Symbol::as_str).collect();
    assert_eq!((names, second.merge.rows.added), (vec!["AAPL", "GOOG"], new.len() as u64));
    assert_eq!(second.model.decision().reasons(), [Reason::NewData]);
    assert_eq!(second.model.metadata().parent, first.model.version());

    // The same rows once more change nothing, and nothing is trained.
    let third = store.update(&key, &new, train)?;
    assert!(!third.trained);
    assert_eq!(third.model.decision().reasons(), [Reason::Unchanged]);

    // Training from nothing on all four ends with the same bits.
    let scratch = Store::in_memory()?;
    let whole = scratch.update(&key, &samples(&scratch, &["AAPL", "GOOG", "IBM", "MSFT"])?, train)?;
    assert_eq!(whole.model.metadata().model_hash, second.model.metadata().model_hash);
    println!("{} samples, slope {:.4}", second.model.metadata().sample_count, second.model.slope);
    Ok(())
}
