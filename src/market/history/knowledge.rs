//! When rows were known that are written later than that: imports, replays.

use std::time::Duration;

use crate::types::{
    error::{Error, Result},
    time::Timestamp,
};

/// When a row was stored that a release wrote which did not keep it.
pub(crate) const UNRECORDED: i64 = i64::MIN;

/// Since when rows were known that are written now.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::{Timestamp, market::KnownAt};
///
/// let when_downloaded: KnownAt = Timestamp::from_nanos(0).into();
/// let as_a_feed_brings_them = KnownAt::Ended { delay: Duration::from_secs(1) };
/// assert_ne!(when_downloaded, as_a_feed_brings_them);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownAt {
    /// All of them since this time.
    Time(Timestamp),
    /// Each of them since it ended, and so much later: a bar since its end, a level since its session closed. So a
    /// history that is written at once can be read as if it had come row by row.
    Ended {
        /// How long after its end each was known.
        delay: Duration,
    },
}

impl From<Timestamp> for KnownAt {
    fn from(at: Timestamp) -> Self {
        Self::Time(at)
    }
}

impl KnownAt {
    /// Since when a row was known that ended at `end`.
    ///
    /// Nobody knew a row before its end, and what is known is known by now.
    pub(crate) fn of_row(self, end: Timestamp, now: Timestamp) -> Result<i64, String> {
        let known_at = match self {
            Self::Time(at) => at,
            Self::Ended { delay } => end.after(delay),
        };
        if known_at < end {
            return Err(format!("it ends at {end}, and cannot have been known at {known_at}"));
        }
        if known_at > now {
            return Err(format!("it cannot be known since {known_at}: by the store's clock it is {now}"));
        }
        Ok(known_at.as_nanos())
    }

    /// Since when each of the rows was known, which begin at `at` and end as `end_of` says.
    pub(crate) fn of_rows(
        self,
        at: &[Timestamp],
        end_of: impl Fn(Timestamp) -> Timestamp,
        now: Timestamp,
        (operation, subject): (&'static str, &dyn std::fmt::Display),
    ) -> Result<Vec<i64>> {
        let known = at.iter().enumerate().map(|(row, at)| {
            self.of_row(end_of(*at), now)
                .map_err(|why| Error::invalid(operation, subject.to_string(), format!("row {row} at {at}: {why}")))
        });
        known.collect()
    }
}
