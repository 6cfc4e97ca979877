//! Which pins cover which archives: pins must neither end too early nor live for ever.
//!
//! redb reuses no page that a live read transaction, or a later one, can reach. One transaction therefore covers every
//! archive that is still in the file, and it is replaced after each commit, so that what the commit freed can be reused.
//! An archive that a commit removes or writes anew is different: from then on only the transactions before that commit
//! cover it. So *before* the commit every lease of it is given the pin of its time to keep.
//!
//! ```text
//! depart(ids)   leases of these ids keep the current pin, leases taken from here on, too
//!   commit
//! advance(ids)  the current pin is the new commit's; the old one lives on with those that kept it, or ends
//! ```
//!
//! A lease that kept a pin though its archive is still in the file, because it was taken in the middle of a commit, gives
//! it up at the next. A commit that fails leaves its leases with pins of their own, whether or not it reached the disk.

use std::{
    collections::{HashMap, HashSet},
    mem,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    lease::Cover,
    view::{Alive, MappedValue, View},
};
use crate::{
    engine::pin::{OpenFile, Opened, Pin},
    error::{Error, ErrorKind, Result},
};

/// How often a commit that freed much looks whether readers of the state before it are done. They need some microseconds,
/// unless they are kept from running.
const WAITS_FOR_READERS: usize = 400;
const WAIT: Duration = Duration::from_micros(100);

/// The current view, and the leases that its pin covers.
#[derive(Debug, Default)]
pub(crate) struct Eras {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while no file is open, or none that is mapped.
    current: Option<Arc<View>>,
    /// A commit happened that could not be looked at yet.
    stale: bool,
    /// Archives that a commit under way removes or writes anew.
    departing: HashSet<u64>,
    /// Every lease that lives, by archive.
    leases: HashMap<u64, Vec<Arc<Cover>>>,
    /// Every view holds one.
    alive: Alive,
    /// Pages that nobody leases and somebody may still look at, with what keeps them: the next commit sees to them.
    garbage: Vec<(Range<u64>, Arc<Pin>)>,
}

impl Eras {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the newest commit; `None` when nothing is mapped.
    pub(crate) fn current(&self, open: &Arc<OpenFile>) -> Result<Option<Arc<View>>> {
        let mut state = self.lock();
        if state.stale {
            drop(state.look(open)?);
        }
        Ok(state.current.clone())
    }

    /// Begins with an open file. Leases from before it was closed are covered by its first pin, for what they lease is
    /// still where it was; where it is not, it is an error.
    pub(crate) fn begin(&self, opened: Opened) -> Result<Arc<OpenFile>> {
        let mut state = self.lock();
        state.departing.clear();
        match opened.view {
            Some(view) => state.current = Some(view),
            None => drop(state.look(&opened.file)?),
        }
        let Some(view) = &state.current else {
            return Ok(opened.file);
        };
        for cover in state.leases.values().flatten() {
            if !view.locate(cover.id)?.is_some_and(|archive| cover.is_in(&archive)) {
                let message = "an archive in use is not where it was before the file was reopened";
                return Err(Error::corrupt("reopen", format!("archive {}", cover.id), message));
            }
        }
        drop(state);
        Ok(opened.file)
    }

    /// Looks again, after pages were moved.
    pub(crate) fn resume(&self, open: &Arc<OpenFile>) -> Result<()> {
        self.lock().look(open).map(drop)
    }

    /// Ends the current pin before the file is closed to be opened again. Refused while somebody uses an archive that
    /// is not in the file any more: nothing would cover it then.
    pub(crate) fn end(&self, subject: &str) -> Result<()> {
        let mut state = self.lock();
        let orphans = state.leases.values().flatten().filter(|cover| cover.has_own_pin()).count();
        if orphans > 0 {
            let message =
                format!("{orphans} models that left the file are still held; it is reopened when they are released");
            return Err(Error::new(ErrorKind::Io, "reopen", subject, message));
        }
        state.current = None;
        state.garbage.clear();
        Ok(())
    }

    /// Ends the current pin before pages are moved. Refused while any archive is in use.
    pub(crate) fn end_for_moving(&self, subject: &str) -> Result<()> {
        let mut state = self.lock();
        let held = state.leases.values().flatten().count();
        if held > 0 {
            let message = format!("{held} models are held where they lie in the file; drop them, and try again");
            return Err(Error::new(ErrorKind::InUse, "compact", subject, message));
        }
        state.current = None;
        state.garbage.clear();
        Ok(())
    }

    /// Call before a commit that removes these archives or writes them anew.
    pub(crate) fn depart(&self, ids: &[u64]) {
        let mut state = self.lock();
        state.departing.extend(ids);
        let Some(view) = state.current.clone() else {
            return;
        };
        let covers = ids.iter().filter_map(|id| state.leases.get(id)).flatten();
        covers.for_each(|cover| cover.keep(view.pin()));
    }

    /// Call after that commit: looks at the newest commit and pins it instead of the one before. Returns whether there was
    /// one before: its pages could not be taken back by the commit.
    ///
    /// Readers see the commit from here on, and not from the moment that it is in the file: the hot tier does not show it
    /// before either, and a model must not go back in time.
    pub(crate) fn advance(&self, open: &Arc<OpenFile>, ids: &[u64]) -> bool {
        let mut state = self.lock();
        state.stale = true;
        let before = state.look(open).unwrap_or_else(|error| {
            // The old pin stays, and covers all that it covered; the next reader tries again.
            tracing::error!(%error, "a commit cannot be read back yet");
            None
        });
        state.departing.retain(|id| !ids.contains(id));
        let joined = state.join();
        let Some(before) = before else {
            return false;
        };
        let freed = state.freed(&before, ids);
        // Where nothing is in use redb takes the pages for the next large value, blocks and all, which is faster than new
        // ones; but a pin keeps it from doing so, and then it takes others.
        let in_use = state.leases.values().flatten().any(|cover| cover.has_own_pin());
        let anything = (!freed.is_empty() && in_use) || !state.garbage.is_empty();
        drop(state);
        drop(joined);
        if !anything {
            return true;
        }
        let unread = self.is_last_reader(&before);
        // While the state before is pinned, redb does not reuse what is given back here.
        let (pin, map) = (Arc::clone(before.pin()), Arc::clone(before.map()));
        drop(before);
        let mut state = self.lock();
        // What is still leased is given back when the lease ends.
        let unleased = |(id, range): (u64, Range<u64>)| (!state.is_leased_after_departing(id)).then_some(range);
        let free: Vec<_> = freed.into_iter().filter_map(unleased).map(|range| (range, Arc::clone(&pin))).collect();
        state.garbage.extend(free);
        // Whoever looked at an earlier state may have taken a lease since the pages were put here.
        let garbage = if unread { state.take_unleased_garbage() } else { Vec::new() };
        drop(state);
        garbage.iter().for_each(|(range, _)| map.give_back(range));
        true
    }

    /// Whether nobody but the caller reads `before`, or any view before it. Waits a moment for those who are about to be
    /// done.
    fn is_last_reader(&self, before: &Arc<View>) -> bool {
        for _ in 0..WAITS_FOR_READERS {
            // This one, the current one, and the token itself.
            if Arc::strong_count(before) == 1 && Arc::strong_count(&self.lock().alive) <= 3 {
                return true;
            }
            thread::sleep(WAIT);
        }
        false
    }

    /// Enters a new lease of `value`.
    pub(super) fn enter(&self, cover: &Arc<Cover>, value: &MappedValue) {
        let mut state = self.lock();
        let covered = match &state.current {
            _ if state.departing.contains(&cover.id) => false,
            Some(current) if Arc::ptr_eq(current, &value.view) => true,
            // The value was found in an earlier commit. If it is where it was, today's pin covers it. If it is not, it left
            // before this lease was there to be told; who leaves later must not take it for the last of its readers.
            Some(current) => match current.locate(cover.id) {
                Ok(Some(range)) if range == value.range => true,
                Ok(_) => {
                    cover.depart();
                    false
                }
                Err(_) => false,
            },
            None => false,
        };
        if !covered {
            cover.keep(value.view.pin());
        }
        state.leases.entry(cover.id).or_default().push(Arc::clone(cover));
    }

    /// Forgets a lease that is being dropped. Returns whether nobody can read its pages any more.
    pub(super) fn leave(&self, cover: &Arc<Cover>) -> bool {
        let mut state = self.lock();
        if let Some(of_archive) = state.leases.get_mut(&cover.id) {
            of_archive.retain(|other| !Arc::ptr_eq(other, cover));
            if of_archive.is_empty() {
                state.leases.remove(&cover.id);
            }
        }
        // A view that is not the current one may still reach them, and so may another lease.
        if !cover.has_departed() || state.is_leased_after_departing(cover.id) {
            return false;
        }
        let unread = Arc::strong_count(&state.alive) <= 2;
        if !unread && let Some(pin) = cover.join() {
            state.garbage.push((cover.range.clone(), pin));
        }
        unread
    }
}

impl State {
    /// Where in `before` the archives lay that left it. Leases of them are marked.
    fn freed(&self, before: &View, ids: &[u64]) -> Vec<(u64, Range<u64>)> {
        let freed = |id: &u64| {
            let range = before.locate(*id).ok()??;
            let covers = self.leases.get(id).into_iter().flatten();
            covers.filter(|cover| cover.is_in(&range)).for_each(|cover| cover.depart());
            Some((*id, range))
        };
        ids.iter().filter_map(freed).collect()
    }

    /// Takes the pages that nobody leases; the others stay, under their pins, for a later commit.
    fn take_unleased_garbage(&mut self) -> Vec<(Range<u64>, Arc<Pin>)> {
        let departed: Vec<Range<u64>> = self
            .leases
            .values()
            .flatten()
            .filter(|cover| cover.has_departed())
            .map(|cover| cover.range.clone())
            .collect();
        let overlaps =
            |range: &Range<u64>| departed.iter().any(|leased| leased.start < range.end && range.start < leased.end);
        let (leased, free) = mem::take(&mut self.garbage).into_iter().partition(|(range, _)| overlaps(range));
        self.garbage = leased;
        free
    }

    /// Whether somebody reads an archive where it lay before it left the file.
    fn is_leased_after_departing(&self, id: u64) -> bool {
        self.leases.get(&id).is_some_and(|covers| covers.iter().any(|cover| cover.has_departed()))
    }

    /// Lets leases whose archives are where they were be covered by the current pin; returns the pins they kept.
    fn join(&self) -> Vec<Arc<Pin>> {
        let Some(view) = self.current.as_ref().filter(|_| !self.stale) else {
            return Vec::new();
        };
        let in_place =
            |cover: &&Arc<Cover>| matches!(view.locate(cover.id), Ok(Some(archive)) if cover.is_in(&archive));
        let apart = self.leases.values().flatten().filter(|cover| cover.has_own_pin());
        let apart = apart.filter(|cover| !self.departing.contains(&cover.id));
        apart.filter(in_place).filter_map(|cover| cover.join()).collect()
    }

    /// Looks at the newest commit; returns the view before it, whose pin ends when it is dropped.
    fn look(&mut self, open: &Arc<OpenFile>) -> Result<Option<Arc<View>>> {
        let view = open.look(&self.alive, self.current.as_deref())?.map(Arc::new);
        self.stale = false;
        Ok(mem::replace(&mut self.current, view))
    }
}
