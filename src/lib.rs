//! modelkeep keeps trained trading models, and the data they were trained on, one pointer away from a trading engine.
//!
//! One crash-safe [redb](https://docs.rs/redb) file holds models as zero-copy [rkyv](https://docs.rs/rkyv) archives,
//! their metadata, training data and artifacts, and the bars, features and daily index levels such as VIX behind them.
//! A model is found in memory, or loaded from the file and verified, or trained by your own closure and published; the
//! result says which, and why.
//!
//! ```
//! use modelkeep::{Freshness, ModelRef, Model, ModelKey, Schema, Store, Tier, NewModel};
//!
//! // Any type that derives rkyv's traits can be kept.
//! #[derive(rkyv::Archive, rkyv::Serialize)]
//! struct Bounce { weights: Vec<f64>, bias: f64 }
//!
//! impl Model for Bounce {
//!     const SCHEMA: Schema = Schema::new("bounce", 1);
//! }
//!
//! impl ArchivedBounce {
//!     fn score(&self, features: &[f64]) -> f64 {
//!         let dot: f64 = self.weights.iter().zip(features).map(|(w, x)| w.to_native() * x).sum();
//!         dot + self.bias.to_native()
//!     }
//! }
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("models.redb");
//! let store = Store::open(&path)?;
//! // The key is a name and the hash of any configuration that serde can serialise.
//! let key = ModelKey::new("bounce", &[("horizon_days", 5), ("lookback_days", 250)])?;
//! let train = |_prior: Option<&ModelRef<Bounce>>| {
//!     Ok::<_, std::io::Error>(NewModel::new(Bounce { weights: vec![0.5, -0.25], bias: 0.125 }))
//! };
//!
//! let model = store.get_or_train(&key, &Freshness::max_age_hours(20), train)?;
//! assert_eq!(model.tier(), Tier::Trained);
//! let model = store.get_or_train(&key, &Freshness::max_age_hours(20), train)?;
//! assert_eq!(model.tier(), Tier::Hot);
//! assert_eq!(model.score(&[1.0, 2.0]), 0.125); // read in place: nothing was deserialised
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! When a training fails and an older model is there, that one comes back: [`Decision::verdict`] is
//! [`ReuseWithWarning`](Verdict::ReuseWithWarning) then, and [`Freshness::refuse_expired`] wants the error instead.
//!
//! # Data to train on
//!
//! [`Store::load_or_fetch`] is the first place to ask for bars: it returns what is on disk, and asks your fetcher for
//! what is missing, by a trading [`Calendar`](market::Calendar) and a ledger of what was asked for before.
//! [`Store::features`] computes features where bars changed, and nowhere else.
//! [`BarSeries::range_as_of`](market::BarSeries::range_as_of) reads bars as they were known at a time,
//! and never one that was stored later.
//!
//! ```
//! use modelkeep::{
//!     Day, Interval, Store, Symbol, Timestamp, market::{Bar, Bars, FeatureSpec, FetchError, Lookback, Timeframe},
//! };
//!
//! let store = Store::in_memory()?;
//! // What a vendor's client would do.
//! let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
//!     let sessions = modelkeep::market::Calendar::nyse().sessions(asked.days());
//!     let bar = |at| Bar { at, open: 240.0, high: 250.0, low: 239.5, close: 244.9, volume: 1e6 };
//!     Ok::<Bars, FetchError>(sessions.map(|session| bar(session.day.start())).collect())
//! };
//! let year = Interval::<Day>::parse("2018-01-01", "2019-01-01")?.span();
//! let bars = store.load_or_fetch("SPY", Timeframe::DAY, year, &vendor)?.complete()?;
//! assert_eq!(bars.len(), 251);
//!
//! let spec = FeatureSpec::new("returns", 1, Timeframe::DAY, Lookback::Bars(1), &["return"])?;
//! let features = store.features("SPY", &spec)?.get_or_compute(year, |bars| {
//!     let change = bars.close().windows(2).map(|pair| pair[1] / pair[0] - 1.0);
//!     vec![[f64::NAN].into_iter().chain(change).take(bars.len()).collect()]
//! })?;
//! assert_eq!(features.column("return").map(<[f64]>::len), Some(251));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it is not
//!
//! Not a server, not a general database, not a framework for features or training. It has no async runtime and opens no
//! connection: fetchers are yours. One process writes a file at a time.
//!
//! # What a crash leaves, and an error
//!
//! A publish, an update, a rollback, a removal or a compaction is committed in two phases: after a crash all of it is
//! there or nothing, and what a call returned is there. The file can be read at once; the next open for writing repairs
//! it, in under a millisecond. Every stored value is sealed with its place and its content; what does not match its
//! seal is never served, and that there is no such row is said only of a page that is whole.
//!
//! After an error of a write nothing has changed, unless its kind is [`OutcomeUnknown`](ErrorKind::OutcomeUnknown):
//! then ask the store, which answers what the file has. Reads go on while a disk fails; the first write after it works
//! again goes through.
//!
//! # What is held
//!
//! A [`ModelRef`] or [`Current`] never changes and stays readable, whatever is published, removed, compacted or dropped
//! meanwhile. Nobody has to let go for a write or a compaction to succeed, on Linux: elsewhere, and where there is no
//! memory for it, a model that left the file keeps its pages in it until it is let go of. One thing is beyond this
//! crate: another program that cuts the file, or a disk that cannot read a sector, ends a process that reads there
//! through a map, by SIGBUS. Where that may happen, use [`Options::mapped`]`(false)`.
//!
//! # Threads and async code
//!
//! [`Live::load`] never blocks, nor does [`Store::get`] on a hit. Other calls read the file, and writes wait for their
//! turn and for two syncs: [which call waits for what](guide::blocking), and how to call them from async code.
//!
//! # Guides
//!
//! * [Which calls block, and on what](guide::blocking)
//! * [From a folder of pickles and a Redis](guide::from_pickles)
#![cfg_attr(feature = "market", doc = "* [Market data of many symbols, from the import to the trade](guide::universe)")]
//! * `examples/cookbook` in the package: ten whole programs of one task each.
//!
//! # Memory
//!
//! Bytes used = [`Options::hot_bytes`] at most for models in memory + [`Options::cache_bytes`] at most for file pages +
//! the models that callers hold after they were evicted + up to 1,024 branches of the file's trees, 4 to 8 MiB (twice
//! that while a list of an older state lives). Archives from 64 KiB on are read in place: their bytes are the operating
//! system's, which takes them back when it needs to. While a model of `n` bytes is published, up to `4 n`; while
//! superseded versions are compressed, up to 32 MiB of them and one more, until their commit.
//!
//! # Cargo features
//!
//! * `market` (on by default): bars, levels, features, calendars and fetching, and the six crates that they need. A
//!   store without it opens, serves and verifies files that were written with it.
#![cfg_attr(any(loom, shuttle), allow(dead_code, unused_imports, reason = "what is not modelled is not called"))]
#![cfg_attr(not(feature = "market"), allow(dead_code, reason = "parts that market data alone uses"))]
#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "exact numbers are what tests are about, and theirs are small"
    )
)]
mod cache;
mod core;
mod engine;
mod format;
mod inspect;
#[cfg(feature = "market")]
pub mod market;
mod models;
mod store;
mod sync;
mod types;

pub use format::{
    codec::Codec,
    envelope::Verify,
    schema::{Schema, SchemaTag},
};
pub use models::{
    archive::{Invalid, Model},
    catalog::metadata::Metadata,
    decision::{Decision, DecisionEntry, Reason, Verdict},
    explain::{Explanation, Relative},
    freshness::Freshness,
    live::{Current, Live},
    lookup::{Absence, Lookup},
    model_ref::{ModelRef, Tier},
    new_model::{NewModel, TrainResult},
    update::Update,
};
pub use store::{Options, Store};
pub use types::{
    error::{Error, ErrorKind, TrainError},
    field_change::FieldChange,
    hash::Digest,
    interval::Interval,
    key::{ConfigHash, Label, ModelKey, ModelName, Symbol},
    level_range::LevelRange,
    time::{Day, Timestamp},
    version::Version,
};

pub mod admin {
    //! Care of a store: lists, removals, verification, compaction, statistics. What [`Store`](crate::Store)'s methods
    //! for those who run it take and return.

    pub use crate::{
        engine::{Compacted, CompactionProgress, Identity, TableUsage},
        inspect::{Damage, Usage, Verification},
        models::{
            annotate::Annotation,
            catalog::{
                aliases::{Alias, AliasMove},
                quarantine::Quarantined,
            },
            filter::Filter,
            list::{Listed, Listing, VersionEntry},
            maintenance::Maintained,
            manage::{Removal, Removed, RemovedVersion},
            settings::Maintenance,
            stats::{Stats, TierStats},
            tiers::{PreloadReport, Preloaded},
        },
    };
}

#[cfg(feature = "market")]
pub mod audit {
    //! Does a pipeline use what it cannot know? What [`Store::audit_look_ahead`](crate::Store::audit_look_ahead) takes
    //! and returns.

    pub use crate::inspect::{Audit, AuditReport, Emitted, LookAhead};
}

pub mod training {
    //! Training data that is kept with a model: samples by symbol, how new ones are merged, what is stored.

    pub use crate::{
        models::training::{Merge, Samples, TrainingSet, TrainingSummary},
        types::{rescaled::Rescaled, row_changes::RowChanges},
    };
}

pub mod tier {
    //! A tier of one's own, besides memory and the file: see [`ModelTier`].

    pub use crate::models::tiers::{Change, ModelTier, PublishedModel, TierError, TierModel};
}

pub mod archive {
    //! What the bounds of [`Model`](crate::Model) are made of, and a model's bytes without a store.

    pub use crate::models::{
        archive::{ModelBytes, ModelValidator},
        unstored::Unstored,
    };
}

pub mod clock {
    //! What a store takes the time from.

    pub use crate::types::clock::{Clock, ManualClock, SystemClock};
}

pub mod disk {
    //! What passes between a store and its disk, to be watched and to be made to fail: for tests.

    pub use crate::engine::{Access, Disk, Fault};
}

pub mod error {
    //! Results, and what the constructors of times refuse. [`Error`](crate::Error) lies at the root.

    pub use crate::types::{error::Result, time::OutOfRange};
}

#[cfg(any(doc, doctest))]
pub mod guide {
    //! Pages beside the reference: the files `docs/*.md` of the package.

    #[doc = include_str!("../docs/blocking.md")]
    pub mod blocking {}

    #[doc = include_str!("../docs/from-pickles.md")]
    pub mod from_pickles {}

    #[cfg(feature = "market")]
    #[doc = include_str!("../docs/universe.md")]
    pub mod universe {}
}

pub mod prelude {
    //! The names that most programs need: `use modelkeep::prelude::*;`. It shadows nothing of the standard library.
    //!
    //! ```
    //! use modelkeep::prelude::*;
    //!
    //! #[derive(rkyv::Archive, rkyv::Serialize)]
    //! struct Momentum { weights: Vec<f64> }
    //!
    //! impl Model for Momentum {
    //!     const SCHEMA: Schema = Schema::new("momentum", 1);
    //! }
    //!
    //! fn newest(store: &Store) -> Result<Version, Box<dyn std::error::Error>> {
    //!     let key = ModelKey::new("momentum", &())?;
    //!     Ok(store.publish(&key, NewModel::new(Momentum { weights: vec![0.5] }))?)
    //! }
    //!
    //! assert_eq!(newest(&Store::in_memory()?)?, Version::FIRST);
    //! # Ok::<(), Box<dyn std::error::Error>>(())
    //! ```

    #[cfg(feature = "market")]
    pub use crate::market::{
        Answer, BadRows, Bar, BarFetcher, Bars, Calendar, FeatureSpec, FetchError, FetchPolicy, Levels, Lookback,
        Timeframe,
    };
    pub use crate::{
        Absence, Day, Decision, ErrorKind, Freshness, Interval, Live, Model, ModelKey, ModelRef, NewModel, Reason,
        Schema, Store, Symbol, Timestamp, TrainError, TrainResult, Verdict, Version,
        training::{Samples, TrainingSet},
    };
}
