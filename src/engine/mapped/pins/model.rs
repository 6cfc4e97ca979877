//! A file that gives its pages to others as redb does, and who works with it: what the registry is held to account
//! with.
//!
//! A page holds the id of one archive. What a commit freed is written over by a later one as soon as the handle that
//! writes knows of no pin of a state from before: who still reads the page finds another id there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
};

use super::{Commit, HeldBytes, Location, PinRegistry, Place, Seen};
use crate::{
    sync::{Arc, Mutex, RwLock, RwLockReadGuard},
    types::error::Result,
};

const PAGE: u64 = 4096;

/// A number below the one given.
pub(super) type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// A file, with one handle that writes to it at a time.
pub(super) struct File {
    number: u64,
    state: Mutex<State>,
    /// Called while two commits are compared.
    on_compare: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

#[derive(Default)]
struct State {
    /// The id of the archive in each page.
    pages: Vec<u64>,
    commit: u64,
    /// Pages by id, as of the last commit.
    tree: BTreeMap<u64, usize>,
    /// Pages with the commit that freed them.
    freed: Vec<(u64, usize)>,
    /// How many live pins of each commit the handle knows of.
    pins: BTreeMap<u64, usize>,
    handle: u64,
    last_id: u64,
    /// No page gets memory of its own.
    refuses: bool,
}

impl File {
    fn new(number: u64, pages: Vec<u64>, tree: BTreeMap<u64, usize>, last_id: u64) -> Arc<Self> {
        let state = State { pages, tree, last_id, commit: 1, ..State::default() };
        Arc::new(Self { number, state: Mutex::new(state), on_compare: Mutex::new(None) })
    }

    /// Writes one commit: removes an archive, and adds some. One that fails may have been written all the same.
    fn commit(&self, fails: bool, draw: Draw<'_>) {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let now = state.commit + 1;
        let oldest = state.pins.keys().next().copied().unwrap_or(u64::MAX);
        let (mut tree, mut freed) = (state.tree.clone(), state.freed.clone());
        for _ in 0..=draw(2) {
            let page = match freed.iter().position(|&(by, _)| by <= oldest) {
                Some(at) => freed.swap_remove(at).1,
                None => {
                    state.pages.push(0);
                    state.pages.len() - 1
                }
            };
            state.last_id += 1;
            state.pages[page] = state.last_id;
            tree.insert(state.last_id, page);
        }
        let ids: Vec<u64> = tree.keys().copied().collect();
        for _ in 0..draw(3) {
            if let Some(page) = tree.remove(&ids[draw(ids.len())]) {
                freed.push((now, page));
            }
        }
        if !fails || draw(2) == 0 {
            (state.tree, state.freed, state.commit) = (tree, freed, now);
        }
    }

    /// Looks at the last commit, with a pin or without.
    fn look(self: &Arc<Self>, pinned: bool) -> Arc<Committed> {
        let mut state = self.state.lock().unwrap();
        let (number, handle, tree) = (state.commit, state.handle, state.tree.clone());
        if pinned {
            *state.pins.entry(number).or_default() += 1;
        }
        drop(state);
        let pin = pinned.then(|| Arc::new(Pin { file: Arc::clone(self), number, handle }));
        Arc::new(Committed { file: Arc::clone(self), number, tree, pin: Mutex::new(pin), expired: RwLock::new(false) })
    }

    /// Another handle writes from here on. It knows of no pin that was taken before.
    fn reopen(&self) {
        let mut state = self.state.lock().unwrap();
        state.handle += 1;
        state.pins.clear();
    }
}

pub(super) struct Pin {
    file: Arc<File>,
    number: u64,
    handle: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.file.state.lock().unwrap();
        if state.handle == self.handle
            && let Some(pins) = state.pins.get_mut(&self.number)
        {
            *pins -= 1;
            if *pins == 0 {
                state.pins.remove(&self.number);
            }
        }
    }
}

/// One commit of a file.
pub(super) struct Committed {
    file: Arc<File>,
    number: u64,
    tree: BTreeMap<u64, usize>,
    pin: Mutex<Option<Arc<Pin>>>,
    expired: RwLock<bool>,
}

impl Committed {
    /// Keeps it from expiring; `None` when it has.
    fn hold(&self) -> Option<RwLockReadGuard<'_, bool>> {
        Some(self.expired.read().unwrap()).filter(|expired| !**expired)
    }
}

impl Commit for Committed {
    type Pin = Pin;
    type HeldBytes = InPage;

    fn number(&self) -> u64 {
        self.number
    }

    fn file(&self) -> u64 {
        self.file.number
    }

    fn pin(&self) -> Option<Arc<Pin>> {
        self.pin.lock().unwrap().clone()
    }

    fn adopt(&self, pin: Option<Arc<Pin>>) {
        let before = std::mem::replace(&mut *self.pin.lock().unwrap(), pin);
        drop(before);
    }

    fn locate(&self, id: u64) -> Result<Option<Range<u64>>> {
        Ok(self.tree.get(&id).map(|&page| range(page)))
    }

    fn left(&self, later: &Self) -> Result<Vec<u64>> {
        let on_compare = self.file.on_compare.lock().unwrap().clone();
        if let Some(on_compare) = on_compare {
            on_compare();
        }
        let gone = self.tree.iter().filter(|(id, page)| later.tree.get(id) != Some(page));
        Ok(gone.map(|(_, &page)| range(page).start).collect())
    }

    fn expire(&self) {
        *self.expired.write().unwrap() = true;
    }
}

fn range(page: usize) -> Range<u64> {
    let start = page as u64 * PAGE;
    start..start + PAGE
}

/// A page that is held.
pub(super) struct InPage {
    file: Arc<File>,
    page: usize,
    own: Mutex<Option<u64>>,
}

impl InPage {
    /// The id that is read there.
    fn id(&self) -> u64 {
        // One step, as it is for who reads an address.
        let own = self.own.lock().unwrap();
        own.unwrap_or_else(|| self.file.state.lock().unwrap().pages[self.page])
    }
}

impl HeldBytes for InPage {
    fn bytes(&self) -> &[u8] {
        unreachable!("the registry was not asked to hash")
    }

    fn detach(&self, _: &Range<u64>) -> io::Result<()> {
        let id = {
            let state = self.file.state.lock().unwrap();
            if state.refuses {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            state.pages[self.page]
        };
        // The copy first, then what is read: between the two the page may not change.
        *self.own.lock().unwrap() = Some(id);
        Ok(())
    }
}

/// A file, the registry, and what the engine does with the two.
pub(super) struct World {
    pub(super) pins: PinRegistry<Committed>,
    file: Mutex<Arc<File>>,
}

/// An archive that is held, for as long as this lives.
pub(super) struct Lease {
    world: Arc<World>,
    place: Arc<Place<Committed>>,
    id: u64,
}

impl Lease {
    pub(super) fn check(&self) {
        assert_eq!(self.place.held.id(), self.id, "the page was given to another: {:?}", self.place);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.check();
        self.world.pins.release(&self.place);
    }
}

impl World {
    /// Some archives in a file.
    pub(super) fn new() -> Arc<Self> {
        let file = File::new(1, vec![1, 2, 3], BTreeMap::from([(1, 0), (2, 1), (3, 2)]), 3);
        let pins = PinRegistry::new(false);
        pins.advance(&file.look(true), Seen::Shown);
        Arc::new(Self { pins, file: Mutex::new(file) })
    }

    fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.lock().unwrap())
    }

    /// The newest commit.
    pub(super) fn current(&self) -> Arc<Committed> {
        self.pins.current(|_| Ok(self.file().look(true))).unwrap().unwrap()
    }

    /// Takes a lease of one of the archives of `commit`; `None` when it has expired.
    pub(super) fn hold(self: &Arc<Self>, commit: &Arc<Committed>, draw: Draw<'_>) -> Option<Lease> {
        let _held = commit.hold()?;
        let (&id, &page) = commit.tree.iter().nth(draw(commit.tree.len()))?;
        let location = Location { id, range: range(page), pages: range(page) };
        let held = || Some(InPage { file: Arc::clone(&commit.file), page, own: Mutex::new(None) });
        let place = self.pins.register(commit, &location, held, |held| held.file.number == commit.file.number)?;
        Some(Lease { world: Arc::clone(self), place, id })
    }

    /// Writes a commit, as the engine does.
    pub(super) fn write(&self, draw: Draw<'_>) {
        self.pins.detach_older();
        let _base = self.current();
        let file = self.file();
        match draw(6) {
            0 => {
                file.commit(true, draw);
                self.recover();
            }
            1 => {
                file.commit(false, draw);
                self.pins.lose_sight(Seen::Shown);
            }
            _ => {
                file.commit(false, draw);
                self.pins.advance(&file.look(true), Seen::Shown);
            }
        }
    }

    /// Puts another handle in the place of the one that writes. Where something cannot be covered, nothing is written
    /// on.
    pub(super) fn recover(&self) {
        let file = self.file();
        self.pins.lose_sight(Seen::Found);
        self.pins.advance(&file.look(false), Seen::Found);
        while self.pins.end_pins().is_err() {
            file.state.lock().unwrap().refuses = false;
        }
        file.reopen();
        self.pins.advance(&file.look(true), Seen::Found);
        self.pins.end_pins().unwrap();
    }

    /// Moves to another file.
    pub(super) fn compact(&self) {
        let new = {
            let file = self.file();
            let state = file.state.lock().unwrap();
            File::new(file.number + 1, state.pages.clone(), state.tree.clone(), state.last_id)
        };
        *self.file.lock().unwrap() = Arc::clone(&new);
        self.pins.advance(&new.look(false), Seen::Shown);
        self.pins.advance(&new.look(true), Seen::Shown);
    }

    /// From here on some pages cannot be given memory of their own, or can again.
    pub(super) fn refuse(&self, refuses: bool) {
        self.file().state.lock().unwrap().refuses = refuses;
    }

    /// Calls `on_compare` whenever two commits of the file are compared.
    pub(super) fn on_compare(&self, on_compare: impl Fn() + Send + Sync + 'static) {
        *self.file().on_compare.lock().unwrap() = Some(Arc::new(on_compare));
    }

    /// Commits that a pin keeps pages of.
    pub(super) fn pinned(&self) -> BTreeSet<u64> {
        self.file().state.lock().unwrap().pins.keys().copied().collect()
    }
}
