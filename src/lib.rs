//! modelkeep
#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "exact numbers are what tests are about, and theirs are small"
    )
)]
mod archive;
mod clock;
mod counters;
mod engine;
mod error;
pub mod estimators;
mod flight;
mod format;
mod hot;
mod inspect;
mod interval;
mod key;
mod limits;
mod registry;
mod store;
mod time;
mod training;
mod version;
mod vix;

pub use archive::{Invalid, Model};
pub use clock::{Clock, ManualClock, SystemClock};
pub use engine::{Identity, TableUsage};
pub use error::{Error, ErrorKind, Result, TrainError};
pub use format::{
    codec::Codec,
    digest::Digest,
    envelope::Verify,
    schema::{Schema, SchemaTag},
};
pub use inspect::{Damage, FieldChange, Usage, Verification};
pub use interval::Interval;
pub use key::{ConfigHash, Label, ModelKey, ModelName, Symbol};
pub use registry::{
    metadata::{Metadata, VixRange},
    quarantine::Quarantined,
};
pub use store::{
    Decision, Filter, Freshness, Held, Listed, Listing, Options, Removal, Removed, RemovedVersion, Stats, Store, Tier,
    TierStats, Trained, Update, VersionEntry, VixSeries,
};
pub use time::{Day, OutOfRange, Timestamp};
pub use training::{Merge, Samples, TrainingSet, TrainingSummary};
pub use version::Version;
pub use vix::{Levels, Upserted};
