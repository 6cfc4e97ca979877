//! modelkeep
mod clock;
mod error;
mod interval;
mod key;
mod limits;
mod time;
mod version;
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind, Result, TrainError};
pub use interval::Interval;
pub use key::{ConfigHash, Label, ModelKey, ModelName, Symbol};
pub use time::{Day, OutOfRange, Timestamp};
pub use version::Version;
