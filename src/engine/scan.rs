//! Rows of a table in the order of their keys, read as they are asked for.
//!
//! Each leaf is compared with its checksum when the scan comes to it. One that is damaged gives the rows that can still
//! be trusted, and an error for each gap in which others may be missing; and so does what was lost earlier.

use std::{collections::VecDeque, sync::Arc};

use super::{
    damage::{Gap, after, can_be_written, salvage_archives},
    layout::{Bounds, Cursor, Leaf, LeafRows, Pair, Root, Tree, Unreadable},
    tables::{ArchiveTable, Table},
    view::View,
};
use crate::{
    format::record::PageChecksum,
    types::error::{Error, Result},
};

/// A scan of one commit. What it finds it hands to a closure, in place; the commit is handed in again for each row.
pub(super) struct Scan {
    of: Of,
    cursor: Option<(Tree, Cursor)>,
    rows: Option<LeafRows>,
    /// What a damaged leaf had left, and errors that are due.
    pending: VecDeque<Pending>,
    /// The first key that belongs to the scan.
    start: Vec<u8>,
    /// The first key that does not belong to the scan.
    end: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
    page_bytes: u64,
}

#[derive(Clone, Copy)]
enum Of {
    Rows(Table),
    Archives(ArchiveTable),
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Rows(table) => table.name(),
            Self::Archives(table) => table.name(),
        }
    }
}

impl Scan {
    /// The rows of `table` from `start` up to `end`, or to the last.
    pub(super) fn new(view: &View, table: Table, start: &[u8], end: Option<Vec<u8>>) -> Self {
        let mut scan = Self::over(Of::Rows(table), view.tables().small(table), start, end);
        let lost = view.losses().in_table(table).iter().filter(|gap| gap.touches(&scan.start, scan.end.as_deref()));
        scan.pending = lost.cloned().map(Pending::Gap).collect();
        scan
    }

    /// All rows of `table`.
    pub(super) fn of_table(view: &View, table: Table) -> Self {
        Self::new(view, table, b"", None)
    }

    /// All rows of `table` that are there, whatever was lost.
    pub(super) fn rows_of(view: &View, table: Table) -> Self {
        Self::over(Of::Rows(table), view.tables().small(table), b"", None)
    }

    /// All archives of `table`.
    pub(super) fn of_archives(view: &View, table: ArchiveTable) -> Self {
        Self::over(Of::Archives(table), view.tables().archives(table), b"", None)
    }

    fn over(of: Of, tree: Option<&Tree>, start: &[u8], end: Option<Vec<u8>>) -> Self {
        let cursor = tree.map(|tree| (*tree, tree.cursor(start)));
        let (start, pending) = (start.to_vec(), VecDeque::new());
        Self { of, cursor, rows: None, pending, start, end, last: None, page_bytes: 0 }
    }

    /// Bytes of all pages of the tree, once the scan has come to its end.
    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Leaves out the rows before `wanted` that did not come yet: pages that hold no others are not read, and what is
    /// missing there is not told.
    pub(super) fn skip_to(&mut self, view: &View, wanted: &[u8]) -> Result<()> {
        if self.start.as_slice() < wanted {
            self.start.clear();
            self.start.extend_from_slice(wanted);
        }
        while matches!(self.pending.front(), Some(Pending::Row { key, .. }) if key.as_slice() < wanted) {
            self.pending.pop_front();
        }
        let Some(rows) = &mut self.rows else {
            return Ok(());
        };
        let _held = view.hold()?;
        rows.skip_to(&view.extent, wanted).map_err(|err| err.error("list", self.of.name()))
    }

    /// Calls `visit` with the next row, where it lies, and whether its page is whole; `None` at the end. `view` is
    /// always the same one; `visit` must not read it.
    pub(super) fn next_with<T>(
        &mut self,
        view: &View,
        visit: impl FnOnce(&[u8], &[u8], PageChecksum) -> T,
    ) -> Option<Result<T>> {
        let next = self.next_or_gap(view, visit)?;
        Some(next.map_err(|missing| match missing {
            Missing::Gap(gap) => self.missing(&gap),
            Missing::Failed(err) => err,
        }))
    }

    /// The same, where it matters what is missing.
    pub(super) fn next_or_gap<T>(
        &mut self,
        view: &View,
        visit: impl FnOnce(&[u8], &[u8], PageChecksum) -> T,
    ) -> Option<Result<T, Missing>> {
        let _held = match view.hold() {
            Ok(held) => held,
            Err(err) => {
                // Said once: then it is at its end.
                let goes_on = self.cursor.is_some() || !self.pending.is_empty();
                self.stop();
                return goes_on.then_some(Err(Missing::Failed(err)));
            }
        };
        loop {
            match self.pending.pop_front() {
                Some(Pending::Gap(gap)) => return Some(Err(Missing::Gap(gap))),
                Some(Pending::Row { key, value }) => return Some(Ok(visit(&key, &value, PageChecksum::Unverified))),
                None => {}
            }
            let name = self.of.name();
            let next = match &mut self.rows {
                Some(rows) => in_leaf(rows, view, self.end.as_deref(), &mut self.last, name),
                None => Ok(Next::Leaf),
            };
            let goes_on = match next {
                Ok(Next::Row((key, value))) => return Some(Ok(visit(key, value, PageChecksum::Verified))),
                Ok(Next::Leaf) => {
                    self.rows = None;
                    self.next_leaf(view)
                }
                Ok(Next::End) => Ok(false),
                Err(err) => Err(err),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => {
                    self.stop();
                    return None;
                }
                Err(err) => {
                    self.stop();
                    return Some(Err(Missing::Failed(err)));
                }
            }
        }
    }

    /// Calls `visit` with every row, until it fails.
    pub(super) fn for_each(mut self, view: &View, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        while let Some(row) = self.next_with(view, |key, value, _| visit(key, value)) {
            row??;
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Some((_, cursor)) = self.cursor.take() {
            self.page_bytes = cursor.page_bytes();
        }
        (self.rows, self.pending) = (None, VecDeque::new());
    }

    fn missing(&self, gap: &Gap) -> Error {
        match self.of {
            Of::Rows(table) => gap.error("list", table),
            Of::Archives(table) => Error::corrupt("list", table.name(), "a page is damaged: archives may be missing"),
        }
    }

    /// Whether rows came already, so that all that follow belong to the scan as far as its start goes.
    fn is_behind_start(&self) -> bool {
        self.last.as_deref().is_some_and(|last| last >= self.start.as_slice())
    }

    /// Goes on to the next leaf, or to what is left of it; `false` at the end.
    fn next_leaf(&mut self, view: &View) -> Result<bool> {
        let name = self.of.name();
        let is_behind = self.is_behind_start();
        let Some((tree, cursor)) = &mut self.cursor else {
            return Ok(false);
        };
        let tree = *tree;
        let wanted = (!is_behind).then_some(self.start.as_slice());
        match cursor.leaf_from(&view.extent, wanted) {
            Ok(None) => return Ok(false),
            Ok(Some(leaf)) => self.enter(view, &tree, leaf)?,
            // A branch that is damaged, or a page that is neither.
            Err(Unreadable::Broken(_)) => {
                let bounds = cursor.bounds(&view.extent).map_err(|err| err.error("list", name))?;
                self.skip(&bounds);
            }
            Err(err) => return Err(err.error("list", name)),
        }
        Ok(true)
    }

    fn enter(&mut self, view: &View, tree: &Tree, leaf: Root) -> Result<()> {
        let failed = |err: Unreadable| err.error("list", self.of.name());
        let from = (!self.is_behind_start()).then_some(self.start.as_slice());
        let bounds = || match &self.cursor {
            Some((_, cursor)) => cursor.bounds(&view.extent).map_err(failed),
            None => Ok(Bounds::default()),
        };
        let whole = match self.of {
            // An archive is sealed under its id, and one that is missing is missed by the row that refers to it: its
            // bytes are not hashed for a scan.
            Of::Archives(_) => {
                let bounds = bounds()?;
                let is_sound =
                    |rows: Option<&Leaf<'_>>| rows.is_some_and(|rows| can_be_written(rows, tree.keys, &bounds));
                tree.look_at_keys(&view.extent, leaf, is_sound).map_err(failed)?
            }
            Of::Rows(_) => tree.is_whole(&view.extent, leaf).map_err(failed)?,
        };
        if whole {
            match LeafRows::open(tree, &view.extent, leaf, from) {
                Ok(rows) => {
                    self.rows = Some(rows);
                    return Ok(());
                }
                Err(Unreadable::Broken(_)) => {}
                Err(err) => return Err(failed(err)),
            }
        }
        let bounds = bounds()?;
        let (gap, rows) = match self.of {
            Of::Rows(table) => {
                let salvaged = view.salvage(table, tree, leaf, &bounds)?;
                (salvaged.gap.filter(|gap| gap.touches(&self.start, self.end.as_deref())), salvaged.rows)
            }
            Of::Archives(table) => {
                let salvage = |rows: Option<&Leaf<'_>>| salvage_archives(table, rows, tree.keys, &bounds);
                (Some(Gap::of(&bounds)), tree.look_at(&view.extent, leaf, salvage).map_err(failed)?)
            }
        };
        self.pending.extend(gap.map(Pending::Gap));
        let wanted = |key: &Vec<u8>| *key >= self.start && self.end.as_ref().is_none_or(|end| key < end);
        for (key, value) in rows.into_iter().filter(|(key, _)| wanted(key)) {
            self.last = Some(key.clone());
            self.pending.push_back(Pending::Row { key, value });
        }
        Ok(())
    }

    /// Notes that nothing between `bounds` can be read.
    fn skip(&mut self, bounds: &Bounds) {
        let gap = Gap { after: bounds.above.clone(), before: bounds.up_to.as_deref().map(after) };
        if gap.touches(&self.start, self.end.as_deref()) {
            self.pending.push_back(Pending::Gap(gap));
        }
    }
}

/// What comes before the next leaf is looked at.
enum Pending {
    /// A row of a leaf that is damaged.
    Row { key: Vec<u8>, value: Vec<u8> },
    /// Rows may be missing.
    Gap(Gap),
}

/// Why there is no next row.
pub(super) enum Missing {
    /// Rows may be missing; there may be more behind them.
    Gap(Gap),
    /// There is no going on.
    Failed(Error),
}

/// What comes next in a leaf.
enum Next<'a> {
    Row(Pair<'a>),
    /// Rows of the next leaf.
    Leaf,
    /// Nothing that belongs to the scan.
    End,
}

fn in_leaf<'a>(
    rows: &'a mut LeafRows,
    view: &'a View,
    end: Option<&[u8]>,
    last: &mut Option<Vec<u8>>,
    name: &'static str,
) -> Result<Next<'a>> {
    let keys = rows.keys();
    let Some((key, value)) = rows.next(&view.extent).map_err(|err| err.error("list", name))? else {
        return Ok(Next::Leaf);
    };
    if end.is_some_and(|end| key >= end) {
        return Ok(Next::End);
    }
    // Keys ascend in a tree that redb made.
    match last {
        Some(last) if keys.compare(last, key).is_ge() => {
            return Err(Error::corrupt("list", name, "its keys are out of order"));
        }
        Some(last) => {
            last.clear();
            last.extend_from_slice(key);
        }
        None => *last = Some(key.to_vec()),
    }
    Ok(Next::Row((key, value)))
}

/// A scan together with the commit that it reads.
pub(crate) struct Rows {
    scan: Scan,
    view: Arc<View>,
}

impl Rows {
    pub(super) fn new(view: &Arc<View>, scan: Scan) -> Self {
        view.expect_order();
        Self { scan, view: Arc::clone(view) }
    }

    /// Calls `visit` with the next row, where it lies, and whether its page is whole; `None` at the end.
    pub(crate) fn next_with<T>(&mut self, visit: impl FnOnce(&[u8], &[u8], PageChecksum) -> T) -> Option<Result<T>> {
        self.scan.next_with(&self.view, visit)
    }

    /// Leaves out the rows before `wanted` that did not come yet.
    pub(crate) fn skip_to(&mut self, wanted: &[u8]) -> Result<()> {
        self.scan.skip_to(&self.view, wanted)
    }

    /// The same for rows whose seals are going to be checked: nobody asks about their pages.
    pub(crate) fn next_sealed<T>(&mut self, visit: impl FnOnce(&[u8], &[u8]) -> T) -> Option<Result<T>> {
        self.next_with(|key, value, _| visit(key, value))
    }

    /// Bytes of all pages of the tree, once the scan has come to its end.
    pub(super) fn page_bytes(&self) -> u64 {
        self.scan.page_bytes()
    }
}

impl Iterator for Rows {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(|key, value, _| (key.to_vec(), value.to_vec()))
    }
}
