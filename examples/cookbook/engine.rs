//! An engine's loop that follows a model with `Live`, while a trainer's thread publishes new versions.
//!
//!     cargo run --example cookbook_engine

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "an example prints, and windows have two elements")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::{error::Error, thread};

use modelkeep::{
    Interval, Live, Model, ModelKey, NewModel, Schema, Store, Version,
    market::{BadRows, Bars, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");
const VERSIONS: u64 = 10;

/// The share of days that rose, after days that rose and after days that fell.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Momentum {
    after: [f64; 2],
}

impl Model for Momentum {
    const SCHEMA: Schema = Schema::new("cookbook.momentum", 1);
}

fn rose(bars: &Bars) -> Vec<bool> {
    bars.close().windows(2).map(|pair| pair[1] > pair[0]).collect()
}

fn train(bars: &Bars) -> Momentum {
    let share = |before: bool| {
        let after = rose(bars).windows(2).filter(|pair| pair[0] == before).map(|pair| pair[1]).collect::<Vec<_>>();
        let count = |days: usize| f64::from(u32::try_from(days).unwrap_or(u32::MAX));
        count(after.iter().filter(|rose| **rose).count()) / count(after.len().max(1))
    };
    Momentum { after: [share(false), share(true)] }
}

/// The engine: each pass loads the current version, which costs a comparison while nothing changed. It drops the model
/// at its end, so that the next pass can see the next version.
fn engine(live: &Live<Momentum>, rose: &[bool]) -> (Version, usize, u64) {
    let (mut last, mut passes, mut swaps) = (Version::FIRST, 0, 0);
    while last.get() < VERSIONS {
        // Nothing is published yet: an engine would trade without the model.
        let Some(model) = live.load() else { continue };
        let version = model.version().unwrap_or(last);
        assert!(version >= last, "a version went back");
        swaps += u64::from(version > last);
        last = version;
        // One pass sees one version, whatever is published meanwhile.
        let today = rose[passes % rose.len()];
        assert!((0.0..=1.0).contains(&model.after[usize::from(today)].to_native()));
        passes += 1;
    }
    (last, passes, swaps)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("models.redb"))?;
    let series = store.bars("IBM", Timeframe::DAY)?;
    series.import_csv(IBM, BadRows::Refuse, |_| {})?;
    let bars = series.range(Interval::all_time())?;
    let key = ModelKey::new("momentum", "IBM")?;
    let live = store.live::<Momentum>(&key)?;
    let (trainer, publisher) = (bars.clone(), store.clone());
    let trained = thread::spawn(move || -> modelkeep::error::Result<()> {
        for version in 1..=VERSIONS {
            let known = 500 + 20 * usize::try_from(version).unwrap_or(0);
            publisher.publish(&key, NewModel::new(train(&trainer.slice(0..known))))?;
        }
        Ok(())
    });
    let (last, passes, swaps) = engine(&live, &rose(&bars));
    trained.join().map_err(|_| "the trainer panicked")??;
    println!("{passes} passes saw {swaps} swaps, the last to {last}");
    Ok(())
}
