//! Under tokio: calls that block go to `spawn_blocking`, and the task that serves uses calls that never do.
//!
//!     cargo run --example cookbook_tokio
//!
//! `docs/blocking.md` says of every call what it waits for.

#![allow(clippy::print_stdout, reason = "an example prints")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::{error::Error, thread, time::Duration};

use modelkeep::{
    Freshness, Interval, Live, Model, ModelKey, ModelRef, NewModel, Schema, Store, Symbol, Timestamp, TrainError,
    market::{Answer, Bar, BarFetcher, Bars, Calendar, FetchError, Timeframe},
};
use tokio::{runtime::Handle, task};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Weight(f64);

impl Model for Weight {
    const SCHEMA: Schema = Schema::new("cookbook.weight", 1);
}

/// Serves until version 3 is there. `Live::load` takes no lock, makes no system call and does not allocate, so that it
/// may be called on a thread of the runtime. A `Current` cannot be held over an `await`: it is not `Send`.
async fn serve(live: Live<Weight>) -> u64 {
    let mut answers = 0;
    loop {
        let version = live.load().and_then(|model| model.version()).map_or(0, modelkeep::Version::get);
        answers += 1;
        if version >= 3 {
            return answers;
        }
        task::yield_now().await;
    }
}

/// A vendor with an async client. The store calls `fetch` on a thread of its own, which belongs to no runtime and may
/// wait: so the handle comes along, and `Handle::current` would panic there.
struct Vendor(Handle);

impl Vendor {
    async fn download(asked: Interval<Timestamp>) -> Bars {
        task::yield_now().await; // an HTTP call
        let days = Calendar::nyse().sessions(asked.days()).collect::<Vec<_>>().into_iter().map(|session| session.day);
        days.map(|day| Bar { at: day.start(), open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 })
            .collect()
    }
}

impl BarFetcher for Vendor {
    fn fetch(&self, _: &Symbol, _: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        Ok(self.0.block_on(Self::download(asked)).into())
    }
}

/// Opening, loading, training and publishing read, write and sync: they have threads of their own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    task::spawn_blocking(work).await?
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("models.redb");
    let key = ModelKey::new("weight", &())?;
    let store = blocking(move || Ok(Store::open(path)?)).await?;

    // `live` reads the file once, `load` never.
    let (following, followed) = (store.clone(), key.clone());
    let live = blocking(move || Ok(following.live::<Weight>(&followed)?)).await?;
    let server = task::spawn(serve(live));

    // A load waits for the vendor, and for the disk.
    let (loader, vendor) = (store.clone(), Vendor(Handle::current()));
    let december = Interval::<modelkeep::Day>::parse("2018-12-01", "2019-01-01")?.span();
    let load = move || Ok(loader.load_or_fetch("SPY", Timeframe::DAY, december, &vendor)?.complete()?);
    assert_eq!(blocking(load).await?.len(), 19);

    for day in 1..=3_u32 {
        let (store, key) = (store.clone(), key.clone());
        let version = blocking(move || {
            let model = store.get_or_train(&key, &Freshness::forced(), |prior: Option<&ModelRef<Weight>>| {
                thread::sleep(Duration::from_millis(10)); // a training
                let before = prior.map_or(0.0, |prior| prior.0.to_native());
                Ok::<_, TrainError<Failure>>(NewModel::new(Weight(before + f64::from(day))))
            });
            Ok(model.map_err(|err| err.to_string())?.version())
        });
        println!("day {day}: version {:?}", version.await?.map(modelkeep::Version::get));
    }
    let answers = server.await?;
    assert!(answers > 0);
    println!("{answers} answers were given meanwhile");

    // The last handle closes the file, which syncs.
    let sum = blocking(move || {
        let sum = store.get::<Weight>(&key)?.map(|model| model.0.to_native());
        store.close()?;
        Ok(sum)
    });
    assert_eq!(sum.await?, Some(6.0));
    Ok(())
}
