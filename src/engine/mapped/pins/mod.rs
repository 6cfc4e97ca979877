//! Which pins keep which pages: what is held never changes, and no pin lives for long.
//!
//! redb reuses no page that a live read transaction, or a later one, can reach. A [`Commit`] is pinned by one. An
//! archive that is held has a [`Place`]: pages of the file that hold it and nothing else. One pin, of the newest
//! commit, covers every place that this commit still has. It is replaced after each commit, so that what the commit
//! freed can be reused.
//!
//! After every commit the places are found again, by what the old tree of archives and the new one do not share. A
//! place that the new commit does not have has *left*: it keeps the pin of the commit before, until it is let go of or
//! *detached*, that is, until its bytes are in memory of their own. A thread in the background does that to what is
//! held for longer than a moment. Before the commit after the next one it is done for all that is left, whoever has to
//! do it: no place keeps a pin longer than that, unless its bytes cannot be copied.
//!
//! The order of events, under one lock:
//!
//! ```text
//! commit k      the pin of k-1 covers everything meanwhile
//! advance(k)    places that k does not have keep the pin of k-1; the pin of k covers the others
//! later         what left is detached, and gives up its pin
//! ```
//!
//! Nothing depends on when exactly a lease is taken or dropped: before `advance` the older pin is there, after it the
//! newer.

mod place;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    ops::Range,
};

pub(in crate::engine) use place::{HeldBytes, Location, Place};

use crate::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    types::error::Result,
};
use place::Stage;

/// One commit of a file, as the registry needs it.
pub(in crate::engine) trait Commit: Send + Sync {
    /// While one lives, no page is reused that its commit, or a later one, reaches.
    type Pin: Send + Sync;
    /// The bytes of a place.
    type HeldBytes: HeldBytes;

    /// Its number. Later commits have higher ones.
    fn number(&self) -> u64;

    /// The number of the open file that it is in.
    fn file(&self) -> u64;

    /// Its pin; `None` where nobody writes.
    fn pin(&self) -> Option<Arc<Self::Pin>>;

    /// Keeps `pin`, which is of the same commit, in place of its own: that is of a handle that is gone.
    fn adopt(&self, pin: Option<Arc<Self::Pin>>);

    /// Where in the file the archive `id` lies.
    fn locate(&self, id: u64) -> Result<Option<Range<u64>>>;

    /// Where the pages of archives begin that `later`, a later commit of the same file, does not have.
    fn left(&self, later: &Self) -> Result<Vec<u64>>;

    /// From here on nothing of it can be read: its pages may be reused. Waits for those who are reading.
    fn expire(&self);
}

/// Every place that is held, and the commit whose pin covers those that are still in the file.
pub(in crate::engine) struct PinRegistry<C: Commit> {
    registered: Mutex<Registered<C>>,
    /// One place is detached at a time.
    detaching: Mutex<()>,
    /// Whether what is held is hashed, to be compared later.
    checks: bool,
}

struct Registered<C: Commit> {
    /// `None` before there is one, and after the store was closed.
    current: Option<Arc<C>>,
    /// A commit happened that could not be looked at yet.
    stale: bool,
    /// The commit that the tiers above show, if it is known.
    shown: Option<u64>,
    /// The file has another commit than the one that is shown.
    surprised: bool,
    /// By where their pages begin. Different files, and different maps of one, have different places.
    places: HashMap<u64, Vec<Holding<C>>>,
    /// What left and was not detached yet, with the number of the advance at which it left; the oldest first.
    left: VecDeque<(u64, Weak<Place<C>>)>,
    /// Commits that may still be read.
    commits: Vec<Weak<C>>,
    advances: u64,
}

struct Holding<C: Commit> {
    place: Arc<Place<C>>,
    leases: usize,
}

impl<C: Commit> PinRegistry<C> {
    /// An empty registry. With `checks`, [`find_changed`](Self::find_changed) hashes everything that is held.
    pub(in crate::engine) fn new(checks: bool) -> Self {
        let registered = Registered {
            current: None,
            stale: false,
            shown: None,
            surprised: false,
            places: HashMap::new(),
            left: VecDeque::new(),
            commits: Vec::new(),
            advances: 0,
        };
        Self { registered: Mutex::new(registered), detaching: Mutex::new(()), checks }
    }

    fn lock(&self) -> MutexGuard<'_, Registered<C>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the newest commit. `look` looks at the file, when that could not be done after a commit.
    pub(in crate::engine) fn current(&self, look: impl FnOnce(Option<&C>) -> Result<Arc<C>>) -> Result<Option<Arc<C>>> {
        let mut registered = self.lock();
        let mut before = None;
        if registered.stale {
            let commit = look(registered.current.as_deref())?;
            before = registered.advance(&commit, Seen::Found, None);
        }
        let current = registered.current.clone();
        drop(registered);
        drop(before);
        Ok(current)
    }

    /// The newest commit that was looked at.
    pub(in crate::engine) fn last(&self) -> Option<Arc<C>> {
        self.lock().current.clone()
    }

    /// Puts `commit` in the place of the newest one. Returns whether anything left that is held.
    pub(in crate::engine) fn advance(&self, commit: &Arc<C>, seen: Seen) -> bool {
        let mut registered = self.lock();
        let mut gone = None;
        while let Some(before) = registered.last_with_places() {
            // Who takes or drops a lease waits for the lock, and should not wait for pages.
            drop(registered);
            let found = gone_since(&before, commit);
            registered = self.lock();
            if registered.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &before)) {
                gone = Some(found);
                break;
            }
        }
        let before = registered.advance(commit, seen, gone);
        let left = !registered.left.is_empty();
        drop(registered);
        // It may hold the last reference to a pin, or to a map.
        drop(before);
        left
    }

    /// A commit happened that cannot be looked at now: whoever reads next tries again. Until then the pin of the commit
    /// before covers everything.
    pub(in crate::engine) fn lose_sight(&self, seen: Seen) {
        let mut registered = self.lock();
        registered.stale = true;
        if seen == Seen::Shown {
            registered.shown = None;
        }
    }

    /// Whether the file turned out to have another commit than the one that is shown, since this was asked last.
    pub(in crate::engine) fn take_surprise(&self) -> bool {
        std::mem::take(&mut self.lock().surprised)
    }

    /// Takes a lease of an archive that `commit` has; `held` makes its bytes.
    ///
    /// The caller reads `commit` meanwhile, so that it has not expired.
    pub(in crate::engine) fn register(
        &self,
        commit: &Arc<C>,
        location: &Location,
        held: impl FnOnce() -> Option<C::HeldBytes>,
        is_same: impl Fn(&C::HeldBytes) -> bool,
    ) -> Option<Arc<Place<C>>> {
        let mut registered = self.lock();
        let known = registered.places.get_mut(&location.pages.start);
        let is_known = |known: &&mut Holding<C>| known.place.id() == location.id && is_same(&known.place.held);
        if let Some(holding) = known.and_then(|known| known.iter_mut().find(is_known)) {
            holding.leases += 1;
            return Some(Arc::clone(&holding.place));
        }
        let place = Arc::new(Place::new(held()?, commit.file(), location, self.checks));
        let holding = Holding { place: Arc::clone(&place), leases: 1 };
        registered.places.entry(location.pages.start).or_default().push(holding);
        if !registered.covers(commit, location) {
            place.leave(commit.pin());
            let advance = registered.advances;
            registered.left.push_back((advance, Arc::downgrade(&place)));
        }
        Some(place)
    }

    /// Ends a lease.
    pub(in crate::engine) fn release(&self, place: &Arc<Place<C>>) {
        let mut registered = self.lock();
        let mut gone = None;
        if let Some(known) = registered.places.get_mut(&place.start()) {
            let at = known.iter().position(|known| Arc::ptr_eq(&known.place, place));
            if let Some((at, holding)) = at.and_then(|at| Some((at, known.get_mut(at)?))) {
                holding.leases -= 1;
                if holding.leases == 0 {
                    gone = Some(known.swap_remove(at));
                }
            }
            if known.is_empty() {
                registered.places.remove(&place.start());
            }
        }
        drop(registered);
        // It may hold the last reference to a pin, or to a map.
        drop(gone);
    }

    /// Detaches every place that left before the last commit: call it before the next one begins, so that what it frees
    /// can be reused.
    pub(in crate::engine) fn detach_older(&self) {
        let newest = self.lock().advances.saturating_sub(1);
        self.detach(newest, || false);
    }

    /// Detaches every place that left, until it is told to stop.
    pub(in crate::engine) fn detach_all(&self, is_stopped: impl Fn() -> bool) {
        self.detach(u64::MAX, is_stopped);
    }

    fn detach(&self, newest: u64, is_stopped: impl Fn() -> bool) {
        let _one = self.detaching.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = Vec::new();
        while !is_stopped()
            && let Some((advance, place)) = self.next_to_detach(newest)
        {
            match place.detach() {
                Ok(pin) => drop(pin),
                // It stays where it is, under its pin, until it is let go of, or a later attempt succeeds.
                Err(error) => {
                    tracing::warn!(?place, %error, "an archive that left the file while held keeps its pages");
                    failed.push((advance, Arc::downgrade(&place)));
                }
            }
        }
        let mut registered = self.lock();
        failed.into_iter().rev().for_each(|left| registered.left.push_front(left));
    }

    fn next_to_detach(&self, newest: u64) -> Option<(u64, Arc<Place<C>>)> {
        let mut registered = self.lock();
        while let Some(&(advance, _)) = registered.left.front() {
            if advance > newest {
                return None;
            }
            let place = registered.left.pop_front().and_then(|(_, place)| place.upgrade());
            if let Some(place) = place.filter(|place| place.stage() == Stage::Left) {
                return Some((advance, place));
            }
        }
        None
    }

    /// Prepares for another handle to write to the file, which knows of no pin that was taken before: detaches what
    /// left, and ends what reads older commits. Fails with the number of archives that would not be covered by
    /// anything.
    ///
    /// Nobody writes meanwhile, and the newest commit is the file's.
    pub(in crate::engine) fn end_pins(&self) -> Result<(), usize> {
        let older: Vec<Arc<C>> = {
            let registered = self.lock();
            let commits = registered.commits.iter().filter_map(Weak::upgrade);
            let is_older = |commit: &Arc<C>| {
                let same = |now: &Arc<C>| (now.file(), now.number()) == (commit.file(), commit.number());
                registered.current.as_ref().is_none_or(|now| now.file() == commit.file() && !same(now))
            };
            commits.filter(is_older).collect()
        };
        // Not under the lock: those who are reading may be about to take a lease.
        older.iter().for_each(|commit| commit.expire());
        self.detach_all(|| false);
        let registered = self.lock();
        let file = registered.current.as_ref().map(|current| current.file());
        let places = registered.places.values().flatten().map(|holding| &holding.place);
        let stuck = places.filter(|place| Some(place.file()) == file && place.stage() == Stage::Left).count();
        if stuck > 0 { Err(stuck) } else { Ok(()) }
    }

    /// Nobody writes from here on, and the file stays locked as long as anything is read in it: no pin is needed any
    /// more.
    pub(in crate::engine) fn close(&self) {
        let mut registered = self.lock();
        let current = registered.current.take();
        registered.left.clear();
        let places = registered.places.values().flatten().map(|holding| &holding.place);
        let pins: Vec<_> = places.filter_map(|place| place.take_pin()).collect();
        drop(registered);
        drop((current, pins));
    }

    /// Whether anything that left the file keeps its pages, and is going to be detached.
    pub(in crate::engine) fn has_left(&self) -> bool {
        let mut registered = self.lock();
        registered.left.retain(|(_, place)| place.upgrade().is_some_and(|place| place.stage() == Stage::Left));
        !registered.left.is_empty()
    }

    /// Whether the newest commit has been looked at.
    pub(in crate::engine) fn sees(&self) -> bool {
        !self.lock().stale
    }

    /// Hashes everything that is held, if the registry checks; names a place whose bytes are not what they were.
    pub(in crate::engine) fn find_changed(&self) -> Option<String> {
        if !self.checks {
            return None;
        }
        let places: Vec<_> = self.lock().places.values().flatten().map(|holding| Arc::clone(&holding.place)).collect();
        let changed = places.iter().find(|place| place.has_changed());
        changed.map(|place| format!("{place:?}"))
    }
}

/// How a commit came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Seen {
    /// Whoever made it shows it to the tiers above.
    Shown,
    /// It was made to let redb take pages back, and shows nothing new.
    Reclaimed,
    /// It was found in the file.
    Found,
}

/// Which places a commit does not have that the one before had.
enum Gone {
    /// Those that begin there.
    From(Vec<u64>),
    /// All of them: it is another file.
    WithItsFile,
    /// Nobody can tell.
    Anything,
}

/// What `before` has and `now` does not. Reads pages of both.
fn gone_since<C: Commit>(before: &Arc<C>, now: &Arc<C>) -> Gone {
    if before.file() != now.file() {
        return Gone::WithItsFile;
    }
    before.left(now).map_or_else(
        |error| {
            tracing::error!(%error, "the archives cannot be compared; everything that is held keeps its pages");
            Gone::Anything
        },
        Gone::From,
    )
}

impl<C: Commit> Registered<C> {
    /// The newest commit, if anything is held that it may have.
    fn last_with_places(&self) -> Option<Arc<C>> {
        self.current.clone().filter(|_| !self.places.is_empty())
    }

    /// Puts `commit` in the place of the newest one, which is returned. `gone` is what [`gone_since`] says of the two,
    /// if that is known.
    fn advance(&mut self, commit: &Arc<C>, seen: Seen, gone: Option<Gone>) -> Option<Arc<C>> {
        self.stale = false;
        self.advances += u64::from(seen != Seen::Reclaimed);
        if seen == Seen::Found && self.shown.is_some_and(|shown| shown != commit.number()) {
            self.surprised = true;
        }
        self.shown = Some(commit.number());
        self.commits.retain(|commit| commit.strong_count() > 0);
        for same in self.commits.iter().filter_map(Weak::upgrade) {
            if (same.file(), same.number()) == (commit.file(), commit.number()) {
                same.adopt(commit.pin());
            }
        }
        self.commits.push(Arc::downgrade(commit));
        if let Some(before) = self.last_with_places() {
            self.move_on(&before, gone.unwrap_or_else(|| gone_since(&before, commit)));
        }
        self.current.replace(Arc::clone(commit))
    }

    /// Gives what is gone since `before` the pin of `before`.
    fn move_on(&mut self, before: &Arc<C>, gone: Gone) {
        let mut leave = |place: &Arc<Place<C>>, pin: Option<Arc<C::Pin>>| {
            if place.file() == before.file() && place.stage() == Stage::InFile {
                place.leave(pin);
                self.left.push_back((self.advances, Arc::downgrade(place)));
            }
        };
        match gone {
            Gone::From(starts) => {
                let holdings = starts.iter().filter_map(|start| self.places.get(start)).flatten();
                holdings.for_each(|holding| leave(&holding.place, before.pin()));
            }
            Gone::Anything => self.places.values().flatten().for_each(|holding| leave(&holding.place, before.pin())),
            // Nobody writes to that file any more.
            Gone::WithItsFile => self.places.values().flatten().for_each(|holding| leave(&holding.place, None)),
        }
    }

    /// Whether the pin of the newest commit covers an archive that `commit` has, or no pin is needed.
    fn covers(&self, commit: &Arc<C>, location: &Location) -> bool {
        match &self.current {
            Some(current) if Arc::ptr_eq(current, commit) => true,
            Some(current) if current.file() == commit.file() => {
                matches!(current.locate(location.id), Ok(Some(range)) if range == location.range)
            }
            Some(_) => false,
            None => true,
        }
    }
}

impl<C: Commit> fmt::Debug for PinRegistry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinRegistry")
    }
}
