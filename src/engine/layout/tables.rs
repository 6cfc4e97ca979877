//! The tree of tables: names and the roots of their trees.
//! (redb 4.5, `InternalTableDefinition`; its bytes are part of file format 3.)

use super::{
    Broken, Source, Unreadable,
    bytes::{array, offset_at, u32_at},
    cursor::LeafRows,
    page::{Geometry, Root, Width},
    tree::{Keys, Tree},
};
use crate::engine::tables::{ArchiveTable, Table};

/// Tables of a file at most, of this release or of another.
const TABLES_MAX: usize = 4096;

/// The trees of one commit.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Tables {
    small: [Option<Tree>; Table::ALL.len()],
    archives: [Option<Tree>; ArchiveTable::ALL.len()],
    count: usize,
    /// A table has a name that a store uses, and another type.
    foreign: bool,
}

impl Tables {
    /// Reads the tree of tables. A table that another program put there is left alone.
    pub(in crate::engine) fn read(
        source: &impl Source,
        geometry: Geometry,
        root: Option<Root>,
    ) -> Result<Self, Unreadable> {
        let names = names(geometry, root);
        let none = Self {
            small: [None; Table::ALL.len()],
            archives: [None; ArchiveTable::ALL.len()],
            count: 0,
            foreign: false,
        };
        let mut tables = none;
        let mut cursor = names.cursor(&[]);
        while let Some(leaf) = cursor.next_leaf(source)? {
            let mut rows = LeafRows::open(&names, source, leaf, None)?;
            while let Some((name, definition)) = rows.next(source)? {
                tables.add(name, definition, geometry)?;
            }
        }
        Ok(tables)
    }

    fn add(&mut self, name: &[u8], definition: &[u8], geometry: Geometry) -> Result<(), Broken> {
        self.count += 1;
        if self.count > TABLES_MAX {
            return Err(Broken("there are too many tables"));
        }
        let small = Table::ALL.iter().position(|table| table.name().as_bytes() == name);
        let archives = ArchiveTable::ALL.iter().position(|table| table.name().as_bytes() == name);
        let (place, keys) = match (small, archives) {
            (Some(n), _) => (self.small.get_mut(n), Keys::Bytes),
            (None, Some(n)) => (self.archives.get_mut(n), Keys::Numbers),
            (None, None) => return Ok(()),
        };
        match (tree(definition, geometry, keys)?, place) {
            (Some(tree), Some(place)) => *place = Some(tree),
            (None, _) => self.foreign = true,
            (Some(_), None) => {}
        }
        Ok(())
    }

    /// The tree of a table; `None` when the file does not have it.
    pub(in crate::engine) fn small(&self, table: Table) -> Option<&Tree> {
        let place = Table::ALL.iter().position(|&known| known == table)?;
        self.small.get(place)?.as_ref()
    }

    /// The tree of a table of large values; `None` when the file does not have it.
    pub(in crate::engine) fn archives(&self, table: ArchiveTable) -> Option<&Tree> {
        let place = ArchiveTable::ALL.iter().position(|&known| known == table)?;
        self.archives.get(place)?.as_ref()
    }

    /// Whether there is no table at all, of anybody.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a table of a store's name has another type than a store's.
    pub(in crate::engine) fn is_foreign(&self) -> bool {
        self.foreign
    }
}

/// The tree of tables that has this root.
fn names(geometry: Geometry, root: Option<Root>) -> Tree {
    Tree { root, keys: Keys::Bytes, values: None, geometry, check_leaves: true }
}

/// Checks every page of redb's own tables, whose names are in the tree with this root.
pub(in crate::engine) fn check_system(
    source: &impl Source,
    geometry: Geometry,
    root: Option<Root>,
) -> Result<(), Unreadable> {
    let names = names(geometry, root);
    let mut cursor = names.cursor(&[]);
    while let Some(leaf) = cursor.next_leaf(source)? {
        let mut rows = LeafRows::open(&names, source, leaf, None)?;
        while let Some((_, definition)) = rows.next(source)? {
            let [kind] = array(definition, 0)?;
            if kind != NORMAL {
                return Err(Broken("one of redb's own tables is of another kind").into());
            }
            let (root, [key, value]) = (root_of(definition)?, widths(definition)?);
            let tree = Tree { root, keys: Keys::Other(key), values: value, geometry, check_leaves: true };
            tree.check_all(source)?;
        }
    }
    Ok(())
}

/// The kind of a table with one value under a key.
const NORMAL: u8 = 3;

fn root_of(definition: &[u8]) -> Result<Option<Root>, Broken> {
    match array(definition, 9)? {
        [0] => Ok(None),
        [_] => Root::read(definition, 10).map(Some),
    }
}

/// The widths of keys and of values.
fn widths(definition: &[u8]) -> Result<[Width; 2], Broken> {
    let width = |at: usize| match array(definition, at)? {
        [0] => Ok(None),
        [_] => offset_at(definition, at + 1).map(Some),
    };
    Ok([width(42)?, width(47)?])
}

/// Reads a definition: kind, length, root, fixed widths of key and value, alignments, names of types. `None` when keys
/// or values are of another type.
fn tree(definition: &[u8], geometry: Geometry, keys: Keys) -> Result<Option<Tree>, Broken> {
    let [kind] = array(definition, 0)?;
    if kind != NORMAL {
        return Ok(None);
    }
    let (root, [key, value]) = (root_of(definition)?, widths(definition)?);
    let alignments = (u32_at(definition, 52)?, u32_at(definition, 56)?);
    if key != keys.width() || value.is_some() || alignments != (1, 1) {
        return Ok(None);
    }
    Ok(Some(Tree { root, keys, values: None, geometry, check_leaves: false }))
}
