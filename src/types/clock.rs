//! Where the time comes from.
//!
//! Nothing else in the crate asks the operating system for the time, so that a test, a backtest or a replay can say
//! what time it is. Wall time judges ages; monotonic time measures durations.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::time::Timestamp;

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the wall time: what "now" is when ages are judged.
    fn now(&self) -> Timestamp;

    /// Returns the time since some fixed moment; never goes back. Durations are differences of it.
    fn monotonic(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> Timestamp {
        let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Timestamp::from_nanos(nanos)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that stands still until it is moved: for tests, backtests and replays.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use modelkeep::{Timestamp, clock::{Clock, ManualClock}};
///
/// let clock = Arc::new(ManualClock::at(Timestamp::from_nanos(0)));
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().as_nanos(), 3_600_000_000_000);
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now_nanos: AtomicI64,
    started_nanos: i64,
}

impl ManualClock {
    /// Returns a clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now_nanos: AtomicI64::new(now.as_nanos()), started_nanos: now.as_nanos() }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    /// Moves the clock to `now`, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.now_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now_nanos.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::from_nanos(self.started_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_2020_and_does_not_go_back() {
        assert!(SystemClock.now().to_string().as_str() > "2020");
        let first = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= first);
    }
}
