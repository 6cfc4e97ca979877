//! One thread for what can wait: reading an archive's pages in advance, hashing what is in use already.
//!
//! It is started by the first job and ends with its owner, who waits for the job at hand. A job may have a time before
//! which it does not begin; the others go first meanwhile. Jobs are told to stop then,
//! and look often enough that nobody waits long. Jobs that were not begun are forgotten: all of them are about being
//! faster or sooner, or about memory, which goes with the store.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What the thread does; it returns soon once the flag is set.
type Job = Box<dyn FnOnce(&Stop) + Send>;

/// A job, and the time before which it does not begin.
type Due = (Instant, Job);

/// Set when the owner goes away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to give up.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A thread that takes jobs in turn.
#[derive(Default)]
pub(crate) struct Worker {
    running: Mutex<Option<(Sender<Due>, JoinHandle<()>)>>,
    stop: Stop,
}

impl Worker {
    /// Has `job` done after those that were there before.
    pub(crate) fn later(&self, job: impl FnOnce(&Stop) + Send + 'static) {
        self.after(Duration::ZERO, job);
    }

    /// Has `job` done when `delay` is over. Says whether there is a thread that will.
    pub(crate) fn after(&self, delay: Duration, job: impl FnOnce(&Stop) + Send + 'static) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = self.start();
        }
        let taken = running.as_ref().is_some_and(|(jobs, _)| jobs.send((now() + delay, Box::new(job))).is_ok());
        if !taken {
            tracing::error!("there is no thread for background work");
        }
        taken
    }

    fn start(&self) -> Option<(Sender<Due>, JoinHandle<()>)> {
        let (sender, jobs) = mpsc::channel();
        let stop = self.stop.clone();
        match thread::Builder::new().name("modelkeep".into()).spawn(move || work(&jobs, &stop)) {
            Ok(thread) => Some((sender, thread)),
            Err(error) => {
                tracing::error!(%error, "no thread for background work");
                None
            }
        }
    }
}

/// Does jobs when they are due, in the order in which they are, until nobody can send another.
fn work(jobs: &Receiver<Due>, stop: &Stop) {
    // By time, and those of the same time in the order in which they came.
    let mut waiting: BTreeMap<(Instant, u64), Job> = BTreeMap::new();
    for number in 0_u64.. {
        let next = match waiting.first_key_value() {
            Some((&(due, _), _)) => jobs.recv_timeout(due.saturating_duration_since(now())),
            None => jobs.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok((due, job)) => drop(waiting.insert((due, number), job)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(entry) = waiting.first_entry().filter(|entry| entry.key().0 <= now()) {
            if stop.is_set() {
                return;
            }
            // A model's own check may panic, and the next job is not to go with it.
            let job = entry.remove();
            if catch_unwind(AssertUnwindSafe(|| job(stop))).is_err() {
                tracing::error!("background work panicked");
            }
        }
    }
}

/// The machine's own time: delays are about the machine, whatever time the store's clock says.
#[allow(clippy::disallowed_methods, reason = "a clock that stands still would keep jobs from ever being done")]
fn now() -> Instant {
    Instant::now()
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((jobs, thread)) = running {
            drop(jobs);
            // The last owner may have been a job itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("background work panicked");
            }
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_in_turn_and_dropping_waits_for_the_one_at_hand() {
        let (done, results) = mpsc::channel();
        let (begin, began) = mpsc::channel();
        let worker = Worker::default();
        for i in 0..3 {
            let done = done.clone();
            worker.later(move |_| done.send(i).unwrap());
        }
        let last = done.clone();
        worker.later(move |stop| {
            begin.send(()).unwrap();
            while !stop.is_set() {
                thread::yield_now();
            }
            last.send(99).unwrap();
        });
        let never = done.clone();
        began.recv().unwrap();
        worker.later(move |_| never.send(7).unwrap());
        drop(worker);
        drop(done);
        assert_eq!(results.iter().collect::<Vec<_>>(), [0, 1, 2, 99]);
    }

    #[test]
    fn a_job_waits_for_its_time_and_keeps_no_other_from_being_done() {
        let (done, results) = mpsc::channel();
        let worker = Worker::default();
        for (i, delay) in [(3, 40), (2, 20), (0, 0), (1, 0)] {
            let done = done.clone();
            worker.after(Duration::from_millis(delay), move |_| done.send(i).unwrap());
        }
        let never = done.clone();
        worker.after(Duration::from_secs(3600), move |_| never.send(7).unwrap());
        assert_eq!(results.iter().take(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
        drop(worker);
        drop(done);
        assert_eq!(results.iter().next(), None, "what is not due when the owner goes is not done");
    }
}
