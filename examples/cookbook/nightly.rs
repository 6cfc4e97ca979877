//! A nightly job: get the model if it is fresh enough, and train it otherwise.
//!
//!     cargo run --example cookbook_nightly

#![allow(clippy::print_stdout, reason = "an example prints")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::{error::Error, sync::Arc, time::Duration};

use modelkeep::{
    Day, Freshness, Interval, Model, ModelKey, ModelRef, NewModel, Reason, Schema, Store, TrainError, TrainResult,
    Verdict,
    clock::{Clock, ManualClock},
    market::{BadRows, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");
const HOUR: Duration = Duration::from_secs(3600);

#[derive(rkyv::Archive, rkyv::Serialize)]
struct MeanReturn(f64);

impl Model for MeanReturn {
    const SCHEMA: Schema = Schema::new("cookbook.mean_return", 1);
}

/// Trains on the bars that are known tonight.
fn train(store: &Store, tonight: Day) -> TrainResult<MeanReturn> {
    let known = Interval::new("2007-08-21".parse()?, tonight)?.span();
    let bars = store.bars("IBM", Timeframe::DAY)?.range(known)?;
    let (first, last) = (bars.get(0).ok_or("there are no bars")?, bars.last().ok_or("there are no bars")?);
    let days = f64::from(u32::try_from(bars.len())?);
    Ok(NewModel::new(MeanReturn((last.close / first.close).ln() / days)).trained_through(last.at))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // A job takes the system's clock, which is the default; here the nights pass faster.
    let clock = Arc::new(ManualClock::at("2010-08-16T22:00:00Z".parse()?));
    let store = Store::options().clock(Arc::clone(&clock)).open(folder.path().join("models.redb"))?;
    store.bars("IBM", Timeframe::DAY)?.import_csv(IBM, BadRows::Refuse, |_| {})?;
    let key = ModelKey::new("mean_return", "IBM")?;

    // One call does for every night. It says what it did, and why.
    let daily = Freshness::max_age(20 * HOUR);
    let run = |freshness: &Freshness| store.get_or_train(&key, freshness, |_| train(&store, clock.now().day()));
    let first = run(&daily)?;
    assert_eq!(first.decision().reasons(), [Reason::Missing]);
    clock.advance(HOUR);
    assert!(run(&daily)?.decision().is_fresh(), "a second start on the same night trains nothing");
    clock.advance(23 * HOUR);
    let second = run(&daily)?;
    assert!(matches!(second.decision().reasons(), [Reason::Expired { .. }]));
    assert!(second.metadata().trained_through > first.metadata().trained_through, "a day was learned");
    println!("{} because {}", second.tier(), second.decision());
    assert_eq!(run(&Freshness::forced())?.decision().reasons(), [Reason::Forced]);

    // A night on which training fails: yesterday's model is served, and says that it is one.
    clock.advance(24 * HOUR);
    let broken = |_: Option<&ModelRef<MeanReturn>>| -> TrainResult<MeanReturn> { Err("the vendor is down".into()) };
    let served = store.get_or_train(&key, &daily, broken)?;
    if served.decision().verdict() == Verdict::ReuseWithWarning {
        println!("{}", served.decision());
    }
    assert_eq!((served.version().map(modelkeep::Version::get), served.age()), (Some(3), 24 * HOUR));
    // Who would rather have the error gets it as it is.
    match store.get_or_train(&key, &Freshness { refuse_expired: true, ..daily }, broken) {
        Err(TrainError::Train(err)) => println!("not trained: {err}"),
        other => return Err(format!("expected the error of the training, got {other:?}").into()),
    }
    // And what was decided is on record.
    for decision in store.decisions()? {
        println!("{decision}");
    }
    assert_eq!(store.decisions()?.len(), 5);
    assert_eq!(store.stats().trainings, 3);
    Ok(())
}
