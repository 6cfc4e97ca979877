//! One place of the file that is held, and what keeps it as it is.

use std::{fmt, io, ops::Range};

use super::Commit;
use crate::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    types::hash::Digest,
};

/// Where an archive lies that is to be held.
pub(in crate::engine) struct Location {
    pub(in crate::engine) id: u64,
    /// The archive itself.
    pub(in crate::engine) range: Range<u64>,
    /// The pages that it lies in.
    pub(in crate::engine) pages: Range<u64>,
}

/// The bytes of a place.
pub(in crate::engine) trait HeldBytes: Send + Sync {
    /// The bytes: always the same ones.
    fn bytes(&self) -> &[u8];

    /// Gives the bytes memory of their own, at the same addresses. `pages` are the pages that they lie in.
    fn detach(&self, pages: &Range<u64>) -> io::Result<()>;
}

/// Pages of a file that are held, by one lease or by several.
pub(in crate::engine) struct Place<C: Commit> {
    pub(in crate::engine) held: C::HeldBytes,
    id: u64,
    file: u64,
    pages: Range<u64>,
    /// The hash of the bytes, where it is to be checked.
    hash: Option<Digest>,
    state: Mutex<State<C::Pin>>,
}

/// What keeps a place as it is.
struct State<P> {
    /// A pin of its own; without one it is covered by the newest commit, unless nobody writes to its file.
    pin: Option<Arc<P>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The newest commit has it.
    InFile,
    /// The newest commit does not have it.
    Left,
    /// Its bytes are in memory of their own.
    Detached,
}

impl<C: Commit> Place<C> {
    /// A place that the newest commit has. With `hashes`, what it holds is going to be checked.
    pub(super) fn new(held: C::HeldBytes, file: u64, location: &Location, hashes: bool) -> Self {
        let hash = hashes.then(|| Digest::of(held.bytes()));
        let state = Mutex::new(State { pin: None, stage: Stage::InFile });
        Self { held, id: location.id, file, pages: location.pages.clone(), hash, state }
    }

    /// The archive's id.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The number of the open file that it is in.
    pub(super) fn file(&self) -> u64 {
        self.file
    }

    /// Where its pages begin.
    pub(super) fn start(&self) -> u64 {
        self.pages.start
    }

    /// Whether the bytes are not what they were, if that is to be checked.
    pub(super) fn has_changed(&self) -> bool {
        self.hash.is_some_and(|hash| hash != Digest::of(self.held.bytes()))
    }

    fn state(&self) -> MutexGuard<'_, State<C::Pin>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stage(&self) -> Stage {
        self.state().stage
    }

    /// Notes that the newest commit does not have it; `pin` is of one that does.
    pub(super) fn leave(&self, pin: Option<Arc<C::Pin>>) {
        let mut state = self.state();
        if state.stage == Stage::InFile {
            *state = State { pin, stage: Stage::Left };
        }
    }

    /// Gives its pin back, for good.
    pub(super) fn take_pin(&self) -> Option<Arc<C::Pin>> {
        self.state().pin.take()
    }

    /// Copies the bytes to memory of their own. Gives back the pin, which is not needed any more.
    pub(super) fn detach(&self) -> io::Result<Option<Arc<C::Pin>>> {
        self.held.detach(&self.pages)?;
        let mut state = self.state();
        state.stage = Stage::Detached;
        Ok(state.pin.take())
    }
}

impl<C: Commit> fmt::Debug for Place<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place(archive {}, {:?}, {:?})", self.id, self.pages, self.stage())
    }
}
