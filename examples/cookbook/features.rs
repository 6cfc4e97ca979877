//! Features that are computed once, and again only where bars changed.
//!
//!     cargo run --example cookbook_features

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "an example prints, windows are not empty, and numbers are small"
)]
#![allow(missing_docs, reason = "an example has no public API")]

use std::{cell::Cell, error::Error};

use modelkeep::{
    Interval, Store,
    market::{BadRows, Bar, Bars, FeatureSpec, Lookback, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");
const WINDOW: usize = 20;

/// How far the close lies above the mean of its window, and the range of the day.
fn compute(bars: &Bars) -> Vec<Vec<f64>> {
    let distance = |window: &[f64]| window[WINDOW - 1] / (window.iter().sum::<f64>() / WINDOW as f64) - 1.0;
    // The first rows have no whole window: there is no value, and not a wrong one.
    let missing = std::iter::repeat_n(f64::NAN, bars.len().min(WINDOW - 1));
    let distances = missing.chain(bars.close().windows(WINDOW).map(distance)).collect();
    vec![distances, bars.iter().map(|bar| bar.high / bar.low - 1.0).collect()]
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("market.redb"))?;
    let ibm = store.bars("IBM", Timeframe::DAY)?;
    ibm.import_csv(IBM, BadRows::Refuse, |_| {})?;

    // The spec is the key: raise the version when `compute` changes. 19 bars before each are looked at.
    let spec = FeatureSpec::new("trend", 1, Timeframe::DAY, Lookback::Bars(WINDOW - 1), &["distance20", "range"])?
        .params(&[("window", WINDOW)])?;
    let features = store.features("IBM", &spec)?;
    let rows = Cell::new(0);
    let counted = |bars: &Bars| {
        rows.set(rows.get() + bars.len());
        compute(bars)
    };

    let cold = features.get_or_compute(Interval::all_time(), counted)?;
    assert_eq!((cold.rows_computed, cold.rows_reused), (763, 0));
    let warm = features.get_or_compute(Interval::all_time(), counted)?;
    assert_eq!((warm.rows_computed, warm.rows_reused, rows.take()), (0, 763, 763));

    // One bar is restated: its month is computed again, and what looks back on it.
    let bars = ibm.range(Interval::all_time())?;
    let bar = bars.get(600).ok_or("there is no bar 600")?;
    ibm.write(&Bars::from_iter([Bar { close: bar.low, ..bar }]))?;
    let after = features.get_or_compute(Interval::all_time(), counted)?;
    println!("{} of {} rows computed again", after.rows_computed, after.len());
    assert!(after.rows_computed < 100 && after.rows_reused > 650);

    // What is reused and what is computed together are what computing everything anew gives, bit for bit.
    let anew = compute(&ibm.range(Interval::all_time())?);
    for (kept, new) in after.columns.iter().zip(&anew) {
        assert!(kept.iter().zip(new).all(|(kept, new)| kept.to_bits() == new.to_bits()));
    }
    assert!(after.column("distance20").is_some_and(|column| column[0].is_nan() && column[600].is_finite()));
    Ok(())
}
