//! One thread for what can wait: reading an archive's pages in advance, hashing what is in use already.
//!
//! It is started by the first job and ends with its owner, who waits for the job at hand. Jobs are told to stop then,
//! and look often enough that nobody waits long. Jobs that were not begun are forgotten: all of them are about being
//! faster or sooner, never about being right.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
};

/// What the thread does; it returns soon once the flag is set.
type Job = Box<dyn FnOnce(&Stop) + Send>;

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
    running: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
    stop: Stop,
}

impl Worker {
    /// Has `job` done later.
    pub(crate) fn later(&self, job: impl FnOnce(&Stop) + Send + 'static) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = self.start();
        }
        if let Some((jobs, _)) = &*running
            && jobs.send(Box::new(job)).is_err()
        {
            tracing::error!("the background thread has ended early");
        }
    }

    fn start(&self) -> Option<(Sender<Job>, JoinHandle<()>)> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let stop = self.stop.clone();
        let work = move || jobs.into_iter().take_while(|_| !stop.is_set()).for_each(|job| job(&stop));
        match thread::Builder::new().name("modelkeep".into()).spawn(work) {
            Ok(thread) => Some((sender, thread)),
            Err(error) => {
                tracing::error!(%error, "no thread for background work");
                None
            }
        }
    }
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
}
