//! How somebody else is asked.

use std::{num::NonZeroU32, sync::Arc, thread, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::market::bars::bar::BadRows;

/// How a fetcher is asked, and what its answers count for. Clones share one rate limit: use one policy per vendor.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::{Store, market::FetchPolicy};
///
/// let vendor = FetchPolicy::default()
///     .rate(5, Duration::from_secs(60))
///     .max_request_span(Duration::from_secs(30 * 86_400))
///     .concurrency(2);
/// let store = Store::options().fetch(vendor).in_memory()?;
/// # Ok::<(), modelkeep::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FetchPolicy {
    pub(crate) concurrency: usize,
    pub(crate) max_request_span: Option<Duration>,
    retries: u32,
    pause_min: Duration,
    pub(crate) pause_max: Duration,
    pub(crate) retry_failed_after: Duration,
    pub(crate) empty_attempts: u32,
    pub(crate) publication_delay: Duration,
    pub(crate) bad_rows: BadRows,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            concurrency: 4,
            max_request_span: None,
            retries: 4,
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(30),
            retry_failed_after: Duration::from_secs(15 * 60),
            empty_attempts: 3,
            publication_delay: Duration::from_secs(15 * 60),
            bad_rows: BadRows::Refuse,
            limiter: None,
        }
    }
}

impl FetchPolicy {
    /// Calls that run at the same time, for one series; at least 1. Default: 4. To load several series at once, load
    /// each on a thread of its own: they share the rate limit of the policy.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// How many calls may be made in a time, over all series that share this policy: `rate(5, Duration::from_secs(60))`
    /// for five a minute. As many may come at once after a pause. At least one call; a time of zero is no limit, which
    /// is the default. Waiting takes real time, whatever the store's clock says.
    pub fn rate(mut self, calls: u32, per: Duration) -> Self {
        let calls = NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(per / calls.get());
        self.limiter = quota.map(|quota| Arc::new(RateLimiter::direct(quota.allow_burst(calls))));
        self
    }

    /// The longest interval that one call may ask for; at least one bar is asked for. Default: no limit. Longer ones
    /// are split, and missing intervals that lie close together are joined where that saves a call.
    pub fn max_request_span(mut self, span: Duration) -> Self {
        self.max_request_span = Some(span);
        self
    }

    /// How often a call that failed with a transient error is made again at once. Default: 4.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The first and the longest pause before a call is made again; each is up to twice as long as the one before, with
    /// some chance in it. Default: 200 milliseconds and 30 seconds.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.pause_min, self.pause_max) = (first.min(longest), longest);
        self
    }

    /// How long an interval that could not be fetched is left alone; twice as long after each further failure, up to a
    /// day. Default: 15 minutes.
    pub fn retry_failed_after(mut self, pause: Duration) -> Self {
        self.retry_failed_after = pause;
        self
    }

    /// How often a session may come back empty, although the calendar expects bars, before it counts as known to be
    /// empty: a halt, the time before a listing. Default: 3.
    pub fn empty_attempts(mut self, attempts: u32) -> Self {
        self.empty_attempts = attempts.max(1);
        self
    }

    /// How long after the close of a session its last bars may still be on their way: what is not there by then counts
    /// as not there. Default: 15 minutes.
    pub fn publication_delay(mut self, time: Duration) -> Self {
        self.publication_delay = time;
        self
    }

    /// What becomes of fetched rows that cannot be right. Default: [`BadRows::Refuse`], which fails the call that they
    /// came with, and names the row.
    pub fn bad_rows(mut self, bad_rows: BadRows) -> Self {
        self.bad_rows = bad_rows;
        self
    }

    /// The pauses before a call is made again.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::default()
            .with_min_delay(self.pause_min)
            .with_max_delay(self.pause_max)
            .with_max_times(usize::try_from(self.retries).unwrap_or(usize::MAX))
            .with_jitter()
            .build()
    }

    /// Waits until the rate limit allows another call.
    pub(crate) fn wait_for_turn(&self) {
        let Some(limiter) = &self.limiter else { return };
        while let Err(not_yet) = limiter.check() {
            thread::sleep(not_yet.wait_time_from(limiter.clock().now()));
        }
    }
}
