//! How somebody else is asked.

use std::{num::NonZeroU32, sync::Arc, thread, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::market::{bars::bar::BadRows, timeframe::Timeframe};

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
    pub(crate) assume_empty_after: Duration,
    publication_delay: Duration,
    /// Of single timeframes.
    publication_delays: Vec<(Timeframe, Duration)>,
    pub(crate) extended_hours: bool,
    pub(crate) bad_rows: BadRows,
    pub(crate) symbols_per_call: usize,
    pub(crate) overlap: u32,
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
            assume_empty_after: Duration::from_secs(7 * 24 * 3600),
            publication_delay: Duration::from_secs(15 * 60),
            publication_delays: Vec::new(),
            extended_hours: false,
            bad_rows: BadRows::LeaveOut,
            symbols_per_call: usize::MAX,
            overlap: 0,
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

    /// How long after its close a session that comes back empty counts as due, and is asked for again and again; after
    /// that it is [assumed to be empty](crate::market::Coverage::AssumedEmpty). Default: a week.
    pub fn assume_empty_after(mut self, time: Duration) -> Self {
        self.assume_empty_after = time;
        self
    }

    /// How long after the close of a session its last rows may still be on their way. Default: 15 minutes. Where rows
    /// are seen to come later, the longer delay is learnt for their series, up to
    /// [`assume_empty_after`](Self::assume_empty_after).
    pub fn publication_delay(mut self, time: Duration) -> Self {
        self.publication_delay = time;
        self
    }

    /// The same for bars of one timeframe; levels have that of days.
    pub fn publication_delay_of(mut self, timeframe: Timeframe, time: Duration) -> Self {
        self.publication_delays.retain(|(known, _)| *known != timeframe);
        self.publication_delays.push((timeframe, time));
        self
    }

    /// Whether bars before the open and after the close are wanted, on days with a session: from midnight to midnight,
    /// as the exchange dates it. Default: no; then they are left out and counted in the report, but for bars that begin
    /// at the close, as the closing auction's do.
    pub fn extended_hours(mut self, wanted: bool) -> Self {
        self.extended_hours = wanted;
        self
    }

    /// How many whole sessions before the last of what is missing are asked for again along with it, at most 30, each time that
    /// anything is missing; what was traded earlier on the same day goes along. What a vendor restated
    /// since is written, and [reported](crate::market::FetchReport::rescaled) where the scale changed. Default: none.
    ///
    /// A vendor that adjusts for splits sends the new day on the new scale, and the stored days are on the old one.
    /// Nobody can tell a split from a fall in price by two different days: it takes one day twice. With an overlap of 1
    /// each nightly load brings that day. The report comes once: what came back is stored on the new scale then. After it, fetch the rest of the history again:
    /// [`mark_missing`](crate::market::BarSeries::mark_missing) of all of it, and a load.
    ///
    /// ```
    /// # use modelkeep::{Store, market::FetchPolicy};
    /// let store = Store::options().fetch(FetchPolicy::default().overlap(1)).in_memory()?;
    /// # assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn overlap(mut self, sessions: u32) -> Self {
        self.overlap = sessions.min(30);
        self
    }

    /// What becomes of fetched rows that cannot be right. Default: [`BadRows::LeaveOut`], which keeps the others and
    /// puts the row into the report: its time is a gap, and is asked for again like a call that failed.
    /// [`BadRows::Refuse`] fails the call that they came with, and names the row.
    pub fn bad_rows(mut self, bad_rows: BadRows) -> Self {
        self.bad_rows = bad_rows;
        self
    }

    /// The publication delay of bars of this length.
    pub(crate) fn delay_of(&self, timeframe: Timeframe) -> Duration {
        let own = self.publication_delays.iter().find(|(known, _)| *known == timeframe);
        own.map_or(self.publication_delay, |(_, delay)| *delay)
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
