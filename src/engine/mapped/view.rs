//! One commit of the file, as it is seen in the map.

#![allow(unsafe_code, reason = "a view vouches for the map's bytes with its pin; see `Extent::get`")]

use std::{
    fs::File,
    io,
    ops::{Deref, Range},
    sync::Arc,
};

use super::{
    Broken, HEADER_BYTES, Header,
    map::Map,
    page::Root,
    tables::Tables,
    tree::{Cursor, Source, Tree},
};
use crate::{
    engine::{
        pin::Pin,
        tables::{ARCHIVES_NAME, Table},
    },
    error::{Error, ErrorKind, Result},
    format::record::Page,
};

/// How often the header is read before a writer in the way is taken for damage. Each writer's commit spoils one read.
const HEADER_READS_MAX: usize = 1000;

/// One commit. It does not change, and its pages are not reused while the view lives.
pub(crate) struct View {
    extent: Extent,
    tables: Tables,
    /// Counts the views that live.
    _alive: Alive,
}

/// A token that every view of a file holds.
pub(crate) type Alive = Arc<()>;

/// The map as far as the file reached, under a pin.
struct Extent {
    map: Arc<Map>,
    file_len: u64,
    pin: Arc<Pin>,
}

impl Source for Extent {
    fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.end > self.file_len {
            return None;
        }
        // SAFETY: the file is as long as that, and only ever shrinks by pages that no pinned commit reaches. A sound
        // file leads to pages that the pin keeps; a broken one may lead to a page that a writer is at, whose bytes
        // then do not have the checksum that their parent knows, and are given up.
        unsafe { self.map.get(&range) }
    }
}

impl View {
    /// Looks at the current commit of `file`, under `pin`. `earlier` is a view of the same file, whose map may do.
    pub(crate) fn new(file: &Arc<File>, pin: Arc<Pin>, alive: &Alive, earlier: Option<&Self>) -> Result<Self> {
        let header = read_header(file)?;
        let file_len = file.metadata().map_err(failed)?.len();
        let map = match earlier {
            Some(earlier) if earlier.extent.map.covers(file_len) => Arc::clone(&earlier.extent.map),
            _ => Arc::new(Map::new(file, file_len).map_err(failed)?),
        };
        let extent = Extent { map, file_len, pin };
        let tables =
            Tables::read(&extent, header.geometry, header.tables).map_err(|broken| broken.error("read", "tables"))?;
        Ok(Self { extent, tables, _alive: Arc::clone(alive) })
    }

    pub(super) fn map(&self) -> &Arc<Map> {
        &self.extent.map
    }

    pub(super) fn pin(&self) -> &Arc<Pin> {
        &self.extent.pin
    }

    /// Whether the file has no table at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns whether the file has this table.
    pub(crate) fn has(&self, table: Table) -> bool {
        self.tables.small(table).is_some()
    }

    /// Returns the row under `key`.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>> {
        Ok(self.find(table, key)?.map(|(bytes, _)| bytes))
    }

    /// Returns the row under `key`, and whether the page that it is in is whole.
    pub(crate) fn get_checked(&self, table: Table, key: &[u8]) -> Result<Option<(&[u8], Page)>> {
        let page = |leaf| {
            let whole = self.tables.small(table).is_some_and(|tree| tree.is_whole(&self.extent, leaf));
            if whole { Page::Whole } else { Page::Unchecked }
        };
        Ok(self.find(table, key)?.map(|(bytes, leaf)| (bytes, page(leaf))))
    }

    fn find(&self, table: Table, key: &[u8]) -> Result<Option<(&[u8], Root)>> {
        let Some(tree) = self.tables.small(table) else {
            return Ok(None);
        };
        let broken = |broken: Broken| broken.error("read", table.name());
        let Some((range, leaf)) = tree.find(&self.extent, key).map_err(broken)? else {
            return Ok(None);
        };
        let bytes = self.bytes(&range).ok_or_else(|| broken(outside()))?;
        Ok(Some((bytes, leaf)))
    }

    /// Returns where the large value under `id` lies.
    pub(super) fn locate(&self, id: u64) -> Result<Option<Range<u64>>> {
        let Some(tree) = self.tables.archives() else {
            return Ok(None);
        };
        let found = tree.find(&self.extent, &id.to_le_bytes());
        Ok(found.map_err(|broken| broken.error("read", ARCHIVES_NAME))?.map(|(range, _)| range))
    }

    /// Returns the large value under `id`.
    pub(crate) fn archive(self: &Arc<Self>, id: u64) -> Result<Option<MappedValue>> {
        let Some(range) = self.locate(id)? else {
            return Ok(None);
        };
        match self.bytes(&range) {
            Some(_) => Ok(Some(MappedValue { view: Arc::clone(self), range })),
            None => Err(outside().error("read", ARCHIVES_NAME)),
        }
    }

    /// Says that from here on archives are read as a whole.
    pub(crate) fn expect_order(&self) {
        self.extent.map.expect_order();
    }

    /// Returns the rows of `table` from the first that is not below `from`.
    pub(crate) fn scan(self: &Arc<Self>, table: Table, from: &[u8]) -> Result<MappedScan> {
        self.scan_tree(self.tables.small(table), from, table.name())
    }

    /// Returns all large values.
    pub(crate) fn scan_archives(self: &Arc<Self>) -> Result<MappedScan> {
        self.scan_tree(self.tables.archives(), &[0; 8], ARCHIVES_NAME)
    }

    fn scan_tree(self: &Arc<Self>, tree: Option<&Tree>, from: &[u8], name: &'static str) -> Result<MappedScan> {
        self.extent.map.expect_order();
        let cursor = tree.map(|tree| tree.cursor(&self.extent, from)).transpose();
        let cursor = cursor.map_err(|broken| broken.error("list", name))?;
        Ok(MappedScan { view: Arc::clone(self), cursor, page_bytes: 0, name })
    }

    fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        self.extent.get(range.clone())
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("file_len", &self.extent.file_len).finish_non_exhaustive()
    }
}

fn outside() -> Broken {
    Broken("a value lies behind the end of the file")
}

/// Reads the header until it is the same twice: a commit that goes on meanwhile changes it in place, and a slot that is
/// read after the byte that names it may hold a commit that is not there yet.
fn read_header(file: &File) -> Result<Header> {
    let mut last = [0; HEADER_BYTES];
    let mut broken = Broken("the header does not hold still");
    for _ in 0..HEADER_READS_MAX {
        let mut bytes = [0; HEADER_BYTES];
        read_at_start(file, &mut bytes).map_err(failed)?;
        if bytes == last {
            match Header::parse(&bytes) {
                Ok(header) => return Ok(header),
                Err(found) if found == broken => break,
                // Once more: a torn header is not torn for long.
                Err(found) => broken = found,
            }
        }
        last = bytes;
    }
    Err(broken.error("read", "header"))
}

#[cfg(unix)]
fn read_at_start(file: &File, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, 0)
}

/// Elsewhere nothing is mapped.
#[cfg(not(unix))]
fn read_at_start(_: &File, _: &mut [u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn failed(err: io::Error) -> Error {
    Error::new(ErrorKind::Io, "read", "file", "the file cannot be read").with_source(err)
}

/// A value in the map. It keeps its commit pinned.
pub(crate) struct MappedValue {
    pub(crate) view: Arc<View>,
    pub(super) range: Range<u64>,
}

impl Deref for MappedValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // It was there when it was found, and a view does not change.
        self.view.bytes(&self.range).unwrap_or(&[])
    }
}

/// The key and the value of a row, and whether its page is whole.
pub(crate) type MappedRow<'a> = (&'a [u8], &'a [u8], Page);

/// Rows in key order.
pub(crate) struct MappedScan {
    view: Arc<View>,
    /// `None` when there is no such table, and after an error: a broken tree is not walked any further.
    cursor: Option<Cursor>,
    page_bytes: u64,
    name: &'static str,
}

impl MappedScan {
    /// Returns the next row, in place, and whether its page is whole, if that is asked for. (A lending iterator, which
    /// `Iterator` cannot be.)
    pub(crate) fn next(&mut self, check: bool) -> Result<Option<MappedRow<'_>>> {
        let Some(mut cursor) = self.cursor.take() else {
            return Ok(None);
        };
        let extent = &self.view.extent;
        let value = match cursor.next(extent) {
            Ok(Some((_, value))) => value,
            Ok(None) => {
                self.page_bytes = cursor.page_bytes();
                return Ok(None);
            }
            Err(broken) => return Err(broken.error("list", self.name)),
        };
        let page = if check && cursor.leaf_is_whole(extent) { Page::Whole } else { Page::Unchecked };
        let value = self.view.bytes(&value).ok_or_else(|| outside().error("list", self.name))?;
        Ok(Some((self.cursor.insert(cursor).key(), value, page)))
    }

    /// Bytes of all pages of the tree, once the scan has come to its end.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }
}
