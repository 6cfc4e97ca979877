//! Asking somebody else for data: several calls at a time, not more often than allowed, again when that may help.
//!
//! `fetch::load` chooses the calls and interprets the answers. Here calls are taken in turn by a few threads,
//! each waits for the rate limit (the `governor` crate) before every attempt, errors that the fetcher calls transient
//! are tried again after growing pauses (the `backon` crate), and answers are handed over one by one as they arrive.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::policy::FetchPolicy;

use crate::types::{clock::Clock, error::Result, interval::Interval, time::Timestamp};

/// Why a fetcher brought nothing.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::market::FetchError;
///
/// let busy = FetchError::transient("429 Too Many Requests").retry_after(Duration::from_secs(60));
/// assert!(busy.is_transient());
/// assert_eq!(FetchError::permanent("unknown symbol").to_string(), "unknown symbol");
/// ```
pub struct FetchError {
    transient: bool,
    retry_after: Option<Duration>,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl FetchError {
    /// Returns an error that may be gone when the call is made again: a time-out, a server that is busy.
    #[must_use]
    pub fn transient(err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { transient: true, retry_after: None, source: err.into() }
    }

    /// Returns an error that will be the same when the call is made again now: an unknown symbol, a wrong key. Later
    /// loads ask again, when [`FetchPolicy::retry_failed_after`] is over.
    #[must_use]
    pub fn permanent(err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { transient: false, retry_after: None, source: err.into() }
    }

    /// Says how long to wait before the next call, in place of the policy's pauses. If that is longer than the longest
    /// of them, the call is not made again now, and the interval is left alone for so long, a day at most.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Returns whether the call is worth making again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// How long to wait, if the fetcher said so.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl fmt::Debug for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.transient { "Transient" } else { "Permanent" };
        f.debug_tuple(name).field(&self.source).finish()
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

/// What became of one call.
pub(crate) struct Response<T, C = Interval<Timestamp>> {
    pub(crate) asked: C,
    pub(crate) result: std::result::Result<T, FetchError>,
    /// How often it was asked.
    pub(crate) attempts: u32,
    /// When the last of these calls began: what it brought may be as old as that.
    pub(crate) asked_at: Timestamp,
    /// How long it took, without the pauses.
    pub(crate) time: Duration,
}

/// Makes every call on threads of their own, a single one too, and hands the answers to `arrived` on this thread, in
/// the order in which they come. An error of `arrived` ends it: no further call is begun.
pub(crate) fn run<T: Send, C: Copy + Send + fmt::Display>(
    calls: Vec<C>,
    policy: &FetchPolicy,
    clock: &dyn Clock,
    fetch: impl Fn(C) -> std::result::Result<T, FetchError> + Sync,
    mut arrived: impl FnMut(Response<T, C>) -> Result<()>,
) -> Result<()> {
    let threads = policy.concurrency.min(calls.len());
    let calls = Mutex::new(calls.into_iter());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Handed over, not queued: nobody runs ahead of what can be written down.
        let (answers, arriving) = mpsc::sync_channel(0);
        let fetchers: Vec<_> = (0..threads)
            .map(|_| {
                let answers = answers.clone();
                let (calls, stop, fetch) = (&calls, &stop, &fetch);
                scope.spawn(move || {
                    // A fetcher that panics ends it all, once it has unwound.
                    let _stop = StopOnPanic(stop);
                    while !stop.load(Ordering::Relaxed) {
                        let Some(asked) = calls.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                            return;
                        };
                        if answers.send(call(asked, policy, clock, fetch)).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        drop(answers);
        let done = arriving.iter().try_for_each(&mut arrived);
        stop.store(true, Ordering::Relaxed);
        drop(arriving);
        for fetcher in fetchers {
            if let Err(panic) = fetcher.join() {
                std::panic::resume_unwind(panic);
            }
        }
        done
    })
}

struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Makes one call, and makes it again while that may help.
fn call<T, C: Copy + fmt::Display>(
    asked: C,
    policy: &FetchPolicy,
    clock: &dyn Clock,
    fetch: &impl Fn(C) -> std::result::Result<T, FetchError>,
) -> Response<T, C> {
    let mut pauses = policy.pauses();
    let mut attempts = 0;
    let mut time = Duration::ZERO;
    loop {
        policy.wait_for_turn();
        let (start, asked_at) = (clock.monotonic(), clock.now());
        let result = fetch(asked);
        time += clock.monotonic().saturating_sub(start);
        attempts += 1;
        let pause = match &result {
            // If `retry_after` exceeds `pause_max`, a later load asks again.
            Err(error) if error.is_transient() && error.pause().is_none_or(|asked| asked <= policy.pause_max) => {
                pauses.next().map(|pause| error.pause().unwrap_or(pause))
            }
            _ => None,
        };
        let Some(pause) = pause else {
            return Response { asked, result, attempts, asked_at, time };
        };
        if let Err(error) = &result {
            tracing::debug!(%asked, %error, ?pause, "asking again");
        }
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::types::{clock::SystemClock, error::Error};

    fn between(start: i64, end: i64) -> Interval<Timestamp> {
        Interval::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)).unwrap()
    }

    fn quick() -> FetchPolicy {
        FetchPolicy::default().backoff(Duration::from_micros(10), Duration::from_micros(100))
    }

    #[test]
    fn transient_errors_are_tried_again_and_others_are_not() {
        let calls = AtomicU32::new(0);
        let fetch = |asked: Interval<Timestamp>| {
            let n = calls.fetch_add(1, Ordering::SeqCst);
            match asked.start().as_nanos() {
                0 if n < 2 => Err(FetchError::transient("busy")),
                0 => Ok(7),
                1 => Err(FetchError::permanent("unknown")),
                _ => Err(FetchError::transient("down")),
            }
        };
        let policy = quick().concurrency(1).retries(3);
        let mut answers = Vec::new();
        let asked = vec![between(0, 1), between(1, 2), between(2, 3)];
        run(asked, &policy, &SystemClock, fetch, |answer| {
            answers.push((answer.result.is_ok(), answer.attempts));
            Ok(())
        })
        .unwrap();
        assert_eq!(answers, [(true, 3), (false, 1), (false, 4)]);
    }

    #[test]
    fn a_fetcher_says_how_long_to_wait() {
        let policy = quick().backoff(Duration::from_micros(1), Duration::from_millis(50)).concurrency(1).retries(3);
        for (asked, expected) in [(Duration::from_millis(20), 4), (Duration::from_millis(51), 1)] {
            let start = SystemClock.monotonic();
            let busy = |_| Err::<(), _>(FetchError::transient("busy").retry_after(asked));
            run(vec![between(0, 1)], &policy, &SystemClock, busy, |answer| {
                assert_eq!(answer.attempts, expected);
                Ok(())
            })
            .unwrap();
            assert!(SystemClock.monotonic().saturating_sub(start) >= asked * (expected - 1));
        }
    }

    #[test]
    fn no_more_calls_run_at_a_time_than_allowed() {
        let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let fetch = |_| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let mut count = 0;
        let asked = (0..20).map(|n| between(n, n + 1)).collect();
        run(asked, &quick().concurrency(3), &SystemClock, fetch, |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 20);
        assert!((2..=3).contains(&most.into_inner()));
    }

    #[test]
    fn calls_are_never_made_on_the_callers_thread_and_answers_always_arrive_there() {
        let me = thread::current().id();
        for (calls, concurrency) in [(0, 1), (1, 1), (1, 4), (3, 1), (5, 2)] {
            let asked = (0..calls).map(|n| between(n, n + 1)).collect();
            let elsewhere = |_| {
                assert_ne!(thread::current().id(), me);
                Ok(())
            };
            let mut arrived = 0;
            run(asked, &quick().concurrency(concurrency), &SystemClock, elsewhere, |_| {
                assert_eq!(thread::current().id(), me);
                arrived += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(arrived, calls);
        }
    }

    #[test]
    fn a_fetcher_that_panics_panics_the_caller() {
        let broken = |_| -> std::result::Result<(), FetchError> { panic!("no such vendor") };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(vec![between(0, 1)], &quick(), &SystemClock, broken, |_| Ok(()))
        }));
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"no such vendor"));
    }

    #[test]
    fn an_answer_that_cannot_be_taken_ends_it() {
        let calls = AtomicU32::new(0);
        let fetch = |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let asked = (0..1000).map(|n| between(n, n + 1)).collect();
        let full = |_| Err(Error::invalid("write", "x", "no room"));
        assert!(run(asked, &quick().concurrency(2), &SystemClock, fetch, full).is_err());
        assert!(calls.into_inner() < 1000);
    }

    #[test]
    fn the_rate_limit_is_shared_by_clones_of_a_policy() {
        let policy = quick().rate(50, Duration::from_secs(1));
        let start = SystemClock.monotonic();
        for policy in [policy.clone(), policy] {
            let asked = (0..30).map(|n| between(n, n + 1)).collect();
            run(asked, &policy, &SystemClock, |_| Ok(()), |_| Ok(())).unwrap();
        }
        // 50 at once, and the other ten at 50 a second.
        assert!(SystemClock.monotonic().saturating_sub(start) >= Duration::from_millis(150));
    }
}
