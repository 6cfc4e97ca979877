//! modelkeep
mod archive;
mod clock;
mod counters;
mod engine;
mod error;
mod flight;
mod format;
mod hot;
mod interval;
mod key;
mod limits;
mod time;
mod version;
pub use archive::{Invalid, Model};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind, Result, TrainError};
pub use format::{
    codec::Codec,
    digest::Digest,
    envelope::Verify,
    schema::{Schema, SchemaTag},
};
pub use interval::Interval;
pub use key::{ConfigHash, Label, ModelKey, ModelName, Symbol};
pub use time::{Day, OutOfRange, Timestamp};
pub use version::Version;
