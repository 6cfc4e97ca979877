//! Which files this process has open: to say who is in the way when one cannot be opened again.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::file::Identity;

/// A file that is open, until this is dropped.
#[derive(Debug)]
pub(super) struct OpenFile {
    identity: Identity,
    /// Whether a store has it open, and not only what was taken from one.
    has_store: Arc<AtomicBool>,
}

/// Who has a file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    /// A store of this process.
    Store,
    /// Models or listings that were taken from a store of this process, which is closed.
    Readers,
    /// Nobody that this process knows of.
    Unknown,
}

/// Files that are open. Seldom more than a few.
static OPEN_FILES: Mutex<Vec<(Identity, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

fn open_files() -> MutexGuard<'static, Vec<(Identity, Arc<AtomicBool>)>> {
    OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenFile {
    /// Notes that a store has the file open.
    pub(super) fn note(identity: Identity) -> Self {
        let has_store = Arc::new(AtomicBool::new(true));
        open_files().push((identity, Arc::clone(&has_store)));
        Self { identity, has_store }
    }

    /// Notes that its store is closed.
    pub(super) fn note_store_closed(&self) {
        self.has_store.store(false, Ordering::Relaxed);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        open_files()
            .retain(|(identity, has_store)| *identity != self.identity || !Arc::ptr_eq(has_store, &self.has_store));
    }
}

/// Who in this process has the file open.
pub(super) fn opener(of: Identity) -> Opener {
    let open = open_files();
    let mut found = open.iter().filter(|(identity, _)| *identity == of).map(|(_, has_store)| has_store);
    match found.next() {
        None => Opener::Unknown,
        Some(first) if first.load(Ordering::Relaxed) || found.any(|other| other.load(Ordering::Relaxed)) => {
            Opener::Store
        }
        Some(_) => Opener::Readers,
    }
}
