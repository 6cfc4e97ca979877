//! One commit of a store's file, read page by page: in a map of the file, or in copies of its pages.
//!
//! A view does not change. What it says of a row is proved: a row that is there is in a page that has its checksum, or
//! has a seal that holds in a page that is damaged elsewhere; a row that is not there is not in the one page where it
//! would be. What nobody can know is an error.

#![allow(unsafe_code, reason = "a view vouches for the map's bytes with its pin; see `Extent::get`")]

use std::{io, ops::Range};

use super::{
    backend::Pages,
    damage::{self, Losses, Salvaged, after, can_be_written},
    layout::{
        Bounds, Branches, HEADER_BYTES, Header, Leaf, Lookup, PageBytes, Root, Source, Tables, Tree, Unreadable,
        check_system,
    },
    mapped::{Commit, Map, MappedRange},
    pin::Pin,
    scan::Scan,
    tables::{ArchiveTable, Table},
};
use crate::{
    format::record::PageChecksum,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    types::error::{Error, ErrorKind, Result},
};

/// Bytes of pages that are copied at a time, at most: rows are much smaller.
const COPIED_BYTES_MAX: u64 = 1 << 32;

/// One commit.
pub(crate) struct View {
    pub(super) extent: Extent,
    header: Header,
    tables: Tables,
    losses: Losses,
    /// While it lives, no page is reused that this commit reaches. `None` where nobody writes.
    pin: Mutex<Option<Arc<Pin>>>,
    /// The pages of this commit may have been reused.
    expired: RwLock<bool>,
}

/// The file as far as it reached.
pub(super) struct Extent {
    pages: Pages,
    map: Option<Arc<Map>>,
    bytes: u64,
    branches: Arc<Branches>,
}

impl Source for Extent {
    fn is_in_place(&self) -> bool {
        self.map.is_some()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn will_read(&self, range: &Range<u64>) {
        if let Some(map) = &self.map {
            map.will_read(range);
        }
    }

    fn branches(&self) -> Option<&Branches> {
        Some(&self.branches)
    }

    #[inline]
    fn get(&self, range: Range<u64>) -> Result<PageBytes<'_>, Unreadable> {
        if range.end > self.bytes || range.start > range.end {
            return Err(Unreadable::Missing);
        }
        let Some(map) = &self.map else {
            return self.copy(&range).map(PageBytes::Copied);
        };
        // SAFETY: the file is as long as that, and only ever shrinks by pages that no pinned commit reaches. A sound
        // file leads to pages that the pin keeps; a broken one may lead to a page that a writer is at, whose bytes
        // then do not have the checksum that their parent knows, and are given up.
        unsafe { map.get(&range) }.map(PageBytes::InPlace).ok_or(Unreadable::Missing)
    }
}

impl Extent {
    fn copy(&self, range: &Range<u64>) -> Result<Box<[u8]>, Unreadable> {
        let len = range.end - range.start;
        let len = usize::try_from(len).ok().filter(|_| len <= COPIED_BYTES_MAX).ok_or(Unreadable::Missing)?;
        let mut bytes = vec![0; len].into_boxed_slice();
        self.pages.read_at(range, &mut bytes).map_err(Unreadable::Io)?;
        Ok(bytes)
    }

    /// Reads all of `range` into `out`, which is as long.
    pub(super) fn read_into(&self, range: &Range<u64>, out: &mut [u8]) -> Result<(), Unreadable> {
        if self.map.is_some() {
            out.copy_from_slice(&self.get(range.clone())?);
            return Ok(());
        }
        if range.end > self.bytes {
            return Err(Unreadable::Missing);
        }
        self.pages.read_at(range, out).map_err(Unreadable::Io)
    }
}

/// Where an archive lies.
pub(super) struct ArchiveLocation {
    pub(super) range: Range<u64>,
    /// The pages that hold it and nothing else; `None` when they hold something else, too.
    pub(super) pages: Option<Range<u64>>,
}

impl View {
    /// Looks at the current commit of `pages`, under `pin`. With `mapped`, in a map of the file; the map of `earlier`,
    /// if it will do.
    pub(super) fn new(pages: &Pages, mapped: bool, pin: Option<Arc<Pin>>, earlier: Option<&Self>) -> Result<Self> {
        let header = Header::read(|out| pages.read_at(&(0..HEADER_BYTES as u64), out));
        let header = header.map_err(|err| err.error("read", "header"))?;
        Self::of(header, pages, mapped, pin, earlier)
    }

    /// Looks at the commit that `header` names.
    pub(super) fn of(
        header: Header,
        pages: &Pages,
        mapped: bool,
        pin: Option<Arc<Pin>>,
        earlier: Option<&Self>,
    ) -> Result<Self> {
        let bytes = pages.len().map_err(failed)?;
        // The header first, then the map: one that is not retired now has all that the header names.
        let map = match pages {
            Pages::File(file) if mapped => match earlier.and_then(|earlier| earlier.extent.map.as_ref()) {
                Some(map) if map.serves(file, bytes) => Some(Arc::clone(map)),
                _ => Map::new(file, bytes).map(Arc::new).map_err(|error| not_mapped(&error)).ok(),
            },
            _ => None,
        };
        let kept = earlier.map(|earlier| &earlier.extent.branches).filter(|branches| !branches.is_crowded());
        let branches = kept.map_or_else(|| Arc::new(Branches::default()), Arc::clone);
        let extent = Extent { pages: pages.clone(), map, bytes, branches };
        let tables =
            Tables::read(&extent, header.geometry, header.tables).map_err(|err| err.error("read", "tables"))?;
        let (pin, expired) = (Mutex::new(pin), RwLock::new(false));
        let mut view = Self { extent, header, tables, losses: Losses::default(), pin, expired };
        view.losses = view.read_losses(earlier);
        Ok(view)
    }

    /// What was lost, as the table of losses says. When that cannot be read, anything may have been.
    fn read_losses(&self, earlier: Option<&Self>) -> Losses {
        let root = |view: &Self| view.tables.small(Table::Losses).and_then(|tree| tree.root);
        match (root(self), earlier) {
            (None, _) => return Losses::default(),
            (root_now, Some(earlier)) if root(earlier) == root_now => return earlier.losses.clone(),
            _ => {}
        }
        let mut losses = Losses::default();
        let read = Scan::rows_of(self, Table::Losses).for_each(self, |key, value| losses.read(key, value));
        read.map_or_else(
            |error| {
                tracing::error!(%error, "what was lost cannot be read; nothing can be said to be absent");
                Losses::everything()
            },
            |()| losses,
        )
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Keeps the view from expiring while it is read; an error when it has. Not to be taken twice by one thread.
    #[inline]
    pub(super) fn hold(&self) -> Result<RwLockReadGuard<'_, bool>> {
        let expired = self.expired.read().unwrap_or_else(PoisonError::into_inner);
        if *expired {
            let message = "this state of the store was given up after an I/O error; ask again for the current one";
            return Err(Error::new(ErrorKind::Expired, "read", "snapshot", message));
        }
        Ok(expired)
    }

    /// Checks every page of redb's own tables.
    pub(super) fn check_system(&self) -> Result<()> {
        let checked = check_system(&self.extent, self.header.geometry, self.header.system);
        checked.map_err(|err| err.error("open", "free pages"))
    }

    /// Checks every page of every table, and of redb's own.
    pub(super) fn check_all(&self) -> Result<()> {
        self.check_system()?;
        for tree in self.trees() {
            tree.check_all(&self.extent).map_err(|err| err.error("open", "pages"))?;
        }
        Ok(())
    }

    fn trees(&self) -> impl Iterator<Item = &Tree> {
        let small = Table::ALL.into_iter().filter_map(|table| self.tables.small(table));
        small.chain(ArchiveTable::ALL.into_iter().filter_map(|table| self.tables.archives(table)))
    }

    /// Where the last page of all tables ends.
    pub(super) fn last_page_end(&self) -> Result<u64> {
        let mut end = 0;
        for tree in self.trees() {
            let mut cursor = tree.cursor(&[]);
            while cursor.next_leaf(&self.extent).map_err(|err| err.error("open", "pages"))?.is_some() {}
            end = end.max(cursor.end());
        }
        Ok(end)
    }

    /// Bytes of all keys and values of all tables, as far as pages can be found. No value is read for it.
    pub(super) fn row_bytes(&self) -> Result<u64> {
        let _held = self.hold()?;
        let mut bytes = 0;
        for tree in self.trees() {
            let mut cursor = tree.cursor(&[]);
            loop {
                let leaf = match cursor.next_leaf(&self.extent) {
                    Ok(Some(leaf)) => leaf,
                    Ok(None) => break,
                    Err(err @ Unreadable::Io(_)) => return Err(err.error("read", "pages")),
                    Err(_) => continue,
                };
                match tree.look_at_keys(&self.extent, leaf, |rows| rows.and_then(|rows| rows.bytes().ok())) {
                    Ok(found) => bytes += found.unwrap_or(0) as u64,
                    Err(err @ Unreadable::Io(_)) => return Err(err.error("read", "pages")),
                    Err(_) => {}
                }
            }
        }
        Ok(bytes)
    }

    /// Fails when somebody else cut the file: reading it in a map may end the process.
    pub(super) fn check_length(&self) -> Result<()> {
        match &self.extent.pages {
            Pages::File(file) => file.check_length(),
            Pages::Memory(..) => Ok(()),
        }
    }

    /// Looks at the row under `key`, and whether its page is whole; `None` when there is none.
    pub(super) fn row<T>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8], PageChecksum) -> T,
    ) -> Result<Option<T>> {
        let _held = self.hold()?;
        let Some(tree) = self.tables.small(table) else {
            return Ok(None);
        };
        let failed = |err: Unreadable| err.error("read", table.name());
        let damaged = match tree.find(&self.extent, key).map_err(failed)? {
            Lookup::Found(found) if tree.is_whole(&self.extent, found.leaf).map_err(failed)? => {
                let bytes = found.bytes(&self.extent).map_err(failed)?;
                return Ok(Some(look(&bytes, PageChecksum::Verified)));
            }
            Lookup::Found(found) => Some(found.leaf),
            Lookup::Absent(Some(leaf)) if !tree.is_whole(&self.extent, leaf).map_err(failed)? => Some(leaf),
            Lookup::Absent(_) => None,
        };
        if let Some(leaf) = damaged {
            let (_, bounds) = self.leaf_at(table, tree, key)?;
            if let Some(value) = self.salvage(table, tree, leaf, &bounds)?.find(table, key)? {
                return Ok(Some(look(&value, PageChecksum::Unverified)));
            }
        }
        self.losses.gap_at(table, key).map_or(Ok(None), |gap| Err(gap.error("read", table)))
    }

    /// The leaf that would hold `key`, and the keys that it lies between.
    fn leaf_at(&self, table: Table, tree: &Tree, key: &[u8]) -> Result<(Option<Root>, Bounds)> {
        let mut cursor = tree.cursor(key);
        let leaf = cursor.next_leaf(&self.extent);
        let found = leaf.and_then(|leaf| Ok((leaf, cursor.bounds(&self.extent)?)));
        found.map_err(|err| err.error("read", table.name()))
    }

    /// Looks at a leaf that is not whole.
    pub(super) fn salvage(&self, table: Table, tree: &Tree, leaf: Root, bounds: &Bounds) -> Result<Salvaged> {
        let salvaged = tree.look_at(&self.extent, leaf, |rows| damage::salvage(table, rows, bounds));
        salvaged.map_err(|err| err.error("read", table.name()))
    }

    /// What redb would give another checksum if it wrote the row under `key`, or removed it, and is not whole now. An
    /// error when redb would lose its way.
    ///
    /// A write touches the leaf of the row; a removal may join it with one beside it.
    pub(super) fn damage_around(&self, table: Table, key: &[u8], removes: bool) -> Result<Vec<Salvaged>> {
        let _held = self.hold()?;
        let Some(tree) = self.tables.small(table) else {
            return Ok(Vec::new());
        };
        let (own, bounds) = self.leaf_at(table, tree, key)?;
        let mut leaves = vec![(own, bounds.clone())];
        if removes {
            let beside = [bounds.above, bounds.up_to.as_deref().map(after)];
            for key in beside.into_iter().flatten() {
                leaves.push(self.leaf_at(table, tree, &key)?);
            }
        }
        let mut damaged = Vec::new();
        for (leaf, bounds) in leaves {
            let Some(leaf) = leaf else { continue };
            if tree.is_whole(&self.extent, leaf).map_err(|err| err.error("write", table.name()))? {
                continue;
            }
            let salvaged = self.salvage(table, tree, leaf, &bounds)?;
            if !salvaged.can_be_written {
                return Err(beyond_repair(table.name()));
            }
            damaged.push(salvaged);
        }
        Ok(damaged)
    }

    /// Fails when redb would lose its way if it wrote the archive under `id`, or removed it.
    pub(super) fn check_archive_pages(&self, id: u64) -> Result<()> {
        let _held = self.hold()?;
        let table = ArchiveTable::of(id);
        let Some(tree) = self.tables.archives(table) else {
            return Ok(());
        };
        let failed = |err: Unreadable| err.error("write", table.name());
        let mut cursor = tree.cursor(&id.to_le_bytes());
        let Some(leaf) = cursor.next_leaf(&self.extent).map_err(failed)? else {
            return Ok(());
        };
        let bounds = cursor.bounds(&self.extent).map_err(failed)?;
        let look = |rows: Option<&Leaf<'_>>| rows.is_some_and(|rows| can_be_written(rows, tree.keys, &bounds));
        let found = tree.look_at_keys(&self.extent, leaf, look).map_err(failed)?;
        if found { Ok(()) } else { Err(beyond_repair(table.name())) }
    }

    /// Where the archive under `id` lies; `None` when there is none.
    pub(super) fn locate_archive(&self, id: u64) -> Result<Option<ArchiveLocation>> {
        let table = ArchiveTable::of(id);
        let Some(tree) = self.tables.archives(table) else {
            return Ok(None);
        };
        let failed = |err: Unreadable| err.error("read", table.name());
        match tree.find(&self.extent, &id.to_le_bytes()).map_err(failed)? {
            // Whoever asks has a row that refers to it: that it is not there is damage in any case.
            Lookup::Absent(_) => Ok(None),
            Lookup::Found(found) => {
                let page = tree.range_of(found.leaf).map_err(failed)?;
                let end = found.range.end.next_multiple_of(SYSTEM_PAGE).min(page.end);
                let pages = found.is_alone.then_some(page.start..end);
                Ok(Some(ArchiveLocation { range: found.range, pages }))
            }
        }
    }

    /// The bytes of an archive where it lies, to be held there.
    ///
    /// # Safety
    /// A pin keeps these pages from being written to until they are detached, or until what is returned is dropped.
    pub(super) unsafe fn mapped_range(&self, range: Range<u64>) -> Option<MappedRange> {
        if range.end > self.extent.bytes {
            return None;
        }
        // SAFETY: the contract is the same.
        unsafe { MappedRange::new(self.extent.map.as_ref()?, range) }
    }

    /// Whether `held` was taken from the map of this view.
    pub(super) fn is_mapped_alike(&self, held: &MappedRange) -> bool {
        self.extent.map.as_ref().is_some_and(|map| held.is_of(map))
    }

    /// Says that from here on pages are read in order.
    pub(super) fn expect_order(&self) {
        if let Some(map) = &self.extent.map {
            map.expect_order();
        }
    }
}

/// Bytes of the pages that memory is made of, on every machine that redb's pages fit.
const SYSTEM_PAGE: u64 = 4096;

impl Commit for View {
    type Pin = Pin;
    type HeldBytes = MappedRange;

    fn number(&self) -> u64 {
        self.header.commit
    }

    fn file(&self) -> u64 {
        self.extent.pages.number()
    }

    fn pin(&self) -> Option<Arc<Pin>> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn adopt(&self, pin: Option<Arc<Pin>>) {
        let before = std::mem::replace(&mut *self.pin.lock().unwrap_or_else(PoisonError::into_inner), pin);
        drop(before);
    }

    fn locate(&self, id: u64) -> Result<Option<Range<u64>>> {
        Ok(self.locate_archive(id)?.map(|found| found.range))
    }

    fn left(&self, later: &Self) -> Result<Vec<u64>> {
        let failed = |err: Unreadable| err.error("read", ArchiveTable::Large.name());
        let Some(tree) = self.tables.archives(ArchiveTable::Large) else {
            return Ok(Vec::new());
        };
        let none = Tree { root: None, ..*tree };
        let now = later.tables.archives(ArchiveTable::Large).unwrap_or(&none);
        let leaves = tree.leaves_left(&self.extent, now, &later.extent).map_err(failed)?;
        leaves.into_iter().map(|leaf| tree.range_of(leaf).map(|pages| pages.start).map_err(failed)).collect()
    }

    fn expire(&self) {
        *self.expired.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("commit", &self.header.commit).finish_non_exhaustive()
    }
}

fn beyond_repair(table: &'static str) -> Error {
    let message = "a page that would have to be written anew is damaged beyond what its rows can make good; \
                   `Store::compact` makes a file without it";
    Error::corrupt("write", table, message)
}

fn not_mapped(error: &io::Error) {
    tracing::warn!(%error, "the file cannot be mapped; its pages are copied");
}

fn failed(err: io::Error) -> Error {
    Error::new(ErrorKind::Io, "read", "file", "the file cannot be read").with_source(err)
}
