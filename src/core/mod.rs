//! What models and market data stand on: the open file, the clock, the writers' turns, and one thread for what can
//! wait.
//!
//! [`commit`] is the one protocol of commit. Where the file turns out to have another state than the one that was
//! shown, after an I/O error, the [`Observer`] brings memory in step.

mod commit;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    engine::{Engine, Snapshot, unless_expired},
    sync::{
        gate::Gate,
        panics::contained,
        worker::{Stop, Worker},
    },
    types::{
        clock::Clock,
        error::{Error, ErrorKind, Result},
        time::Timestamp,
    },
};

/// How long after a look at a file that cannot be read the next one follows.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) use commit::{Outcome, Turn};

/// One open store, as its parts share it.
pub(crate) struct Core {
    /// Dropped first: its jobs hold models, and with them the file.
    worker: Worker,
    gate: Arc<Gate>,
    engine: Engine,
    clock: Arc<dyn Clock>,
    /// Held from the start of a write until everything that is kept in memory shows it.
    writer: Mutex<()>,
    observer: OnceLock<Observer>,
    /// The file is being looked at until it can be read.
    looks: AtomicBool,
    /// Somebody read the file: asked by an audit, whether a pipeline reads what it is given.
    was_read: AtomicBool,
    /// A commit is not shown, or what the file has is not: code of others panicked.
    is_behind: AtomicBool,
}

/// Brings what is kept in memory in step with the file.
pub(crate) type Observer = Box<dyn Fn(OutOfStep) + Send + Sync>;

/// Why memory may show what the file does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfStep {
    /// The file has another state than the one that was shown.
    Surprised,
    /// It may have: the outcome of a commit was unknown.
    Unsure,
}

impl Core {
    pub(crate) fn new(engine: Engine, clock: Arc<dyn Clock>) -> Self {
        tracing::info!(store = %engine.subject(), read_only = engine.is_read_only(), "store open");
        Self {
            worker: Worker::default(),
            gate: Arc::default(),
            engine,
            clock,
            writer: Mutex::new(()),
            observer: OnceLock::new(),
            looks: AtomicBool::new(false),
            was_read: AtomicBool::new(false),
            is_behind: AtomicBool::new(false),
        }
    }

    /// Says who brings memory in step with the file. Once, before the store is used.
    pub(crate) fn observe(&self, observer: Observer) {
        let first = self.observer.set(observer).is_ok();
        assert!(first, "a store has one observer");
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.engine.path()
    }

    /// Where the store is, for messages.
    pub(crate) fn subject(&self) -> String {
        self.engine.subject()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.engine.is_read_only()
    }

    /// Bytes of the file, and of those the bytes that are allocated.
    pub(crate) fn file_usage(&self) -> Result<(u64, u64)> {
        self.engine.file_usage()
    }

    /// Closes the file for writing, if there are no `others` who have it open.
    pub(crate) fn close(&self, others: usize) -> Result<()> {
        if others > 0 {
            let message = format!("{others} more of its handles are open; close it there, too");
            return Err(Error::new(ErrorKind::InUse, "close", self.subject(), message));
        }
        let turn = self.turn();
        let closed = self.engine.close();
        drop(turn);
        // Handles outlive the store: they show what it was closed with.
        self.catch_up();
        closed
    }

    /// Refuses what a write would be refused for before it begins: worth asking before work is done for one.
    pub(crate) fn check_writable(&self, operation: &'static str) -> Result<()> {
        self.engine.check_writable(operation)
    }

    /// Whether the newest commit has been looked at: not while the file cannot be read.
    pub(crate) fn sees(&self) -> bool {
        self.engine.sees()
    }

    /// Reads the last committed state. Not to be called in a [`Turn`].
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let snapshot = self.engine.read();
        if !self.was_read.load(Ordering::Relaxed) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        self.catch_up();
        snapshot
    }

    /// Reads the last committed state with `read`; again, when that state was given up meanwhile. Not to be called in a
    /// [`Turn`].
    pub(crate) fn look<T>(&self, read: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        unless_expired(|| read(&self.snapshot()?))
    }

    /// Forgets that anything was read.
    #[cfg(feature = "market")]
    pub(crate) fn forget_reads(&self) {
        self.was_read.store(false, Ordering::Relaxed);
    }

    /// Whether anything was read since that was forgotten.
    #[cfg(feature = "market")]
    pub(crate) fn was_read(&self) -> bool {
        self.was_read.load(Ordering::Relaxed)
    }

    /// The same, also in a [`Turn`]: does not bring memory in step with the file.
    pub(crate) fn look_only<T>(&self, read: impl Fn(&Snapshot) -> Result<T>) -> Result<T> {
        self.engine.look(read)
    }

    /// Brings what is in memory in step with the file, after a write that ended with `error`. Not to be called in a
    /// [`Turn`].
    fn after_write(self: &Arc<Self>, error: Option<&Error>) {
        self.catch_up();
        if error.is_some_and(|err| err.kind() == ErrorKind::OutcomeUnknown) {
            // It may be in the file, and whoever made it goes no further.
            self.tell(OutOfStep::Unsure);
        }
        if !self.sees() {
            self.look_until_it_sees();
        }
    }

    /// Has the file looked at by another thread until it can be read: those who only ask what is in memory would not
    /// find out.
    fn look_until_it_sees(self: &Arc<Self>) {
        if self.looks.swap(true, Ordering::AcqRel) {
            return;
        }
        self.later(LOOK_AGAIN, self, |core, stop| {
            core.looks.store(false, Ordering::Release);
            if core.snapshot().is_ok() || core.sees() {
                core.tell(OutOfStep::Unsure);
            } else if !stop.is_set() {
                core.look_until_it_sees();
            }
        });
    }

    /// Has the thread in the background do `job`.
    pub(crate) fn run_later(&self, job: impl FnOnce(&Stop) + Send + 'static) {
        self.worker.later(job);
    }

    /// Has the thread in the background do `work` with a part of the store when `delay` is over, unless the store is
    /// closed by then. Says whether there is such a thread.
    pub(crate) fn later<T: Send + Sync + 'static>(
        &self,
        delay: Duration,
        part: &Arc<T>,
        work: impl FnOnce(&Arc<T>, &Stop) + Send + 'static,
    ) -> bool {
        let (part, gate) = (Arc::downgrade(part), Arc::clone(&self.gate));
        self.worker.after(delay, move |stop| {
            gate.with(&part, |part| work(part, stop));
        })
    }

    /// Where the file turned out to have another state than the one that was shown, memory is brought in step. Not to
    /// be called in a [`Turn`].
    fn catch_up(&self) {
        let is_behind = self.is_behind.swap(false, Ordering::AcqRel);
        if self.engine.take_surprise() || is_behind {
            tracing::warn!(store = %self.subject(), "the file has another state than the one that was shown");
            self.tell(OutOfStep::Surprised);
        }
    }

    fn tell(&self, why: OutOfStep) {
        if let Some(observer) = self.observer.get()
            && let Err(panic) = contained(|| observer(why))
        {
            tracing::error!(store = %self.subject(), panic, "memory is not in step with the file yet");
            self.is_behind.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("engine", &self.engine).finish_non_exhaustive()
    }
}
