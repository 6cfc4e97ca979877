//! The tree of tables: names and the roots of their trees.
//! (redb 4.4, `InternalTableDefinition`; its bytes are part of file format 3.)

use std::ops::Range;

use super::{
    Broken,
    bytes::{array, offset_at, u32_at},
    page::{Geometry, Root},
    tree::{Keys, Source, Tree},
};
use crate::engine::tables::{ARCHIVES_NAME, Table};

/// Tables of a store at most, of this release or of another.
const TABLES_MAX: usize = 4096;

/// The trees of one commit.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    small: [Option<Tree>; Table::ALL.len()],
    archives: Option<Tree>,
    count: usize,
}

impl Tables {
    /// Reads the tree of tables. A table that another program put there is left alone.
    pub(super) fn read(source: &impl Source, geometry: Geometry, root: Option<Root>) -> Result<Self, Broken> {
        let names = Tree { root, keys: Keys::Bytes, geometry, check_leaves: true };
        let mut tables = Self { small: [None; Table::ALL.len()], archives: None, count: 0 };
        let mut cursor = names.cursor(source, b"")?;
        while let Some((name, definition)) = cursor.next(source)? {
            tables.count += 1;
            if tables.count > TABLES_MAX {
                return Err(Broken("there are too many tables"));
            }
            let small = Table::ALL.iter().position(|table| table.name().as_bytes() == name);
            if let Some(place) = small.and_then(|n| tables.small.get_mut(n)) {
                *place = Some(tree(source, definition, geometry, Keys::Bytes)?);
            } else if name == ARCHIVES_NAME.as_bytes() {
                tables.archives = Some(tree(source, definition, geometry, Keys::Numbers)?);
            }
        }
        Ok(tables)
    }

    /// The tree of a table; `None` when the file does not have it.
    pub(super) fn small(&self, table: Table) -> Option<&Tree> {
        let place = Table::ALL.iter().position(|&known| known == table)?;
        self.small.get(place)?.as_ref()
    }

    pub(super) fn archives(&self) -> Option<&Tree> {
        self.archives.as_ref()
    }

    /// Whether there is no table at all, of anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Reads a definition: kind, length, root, fixed widths of key and value, alignments, names of types.
fn tree(source: &impl Source, at: Range<u64>, geometry: Geometry, keys: Keys) -> Result<Tree, Broken> {
    let bytes = source.get(at).ok_or(Broken("a table's definition lies behind the end of the file"))?;
    let ([kind], [has_root]) = (array(bytes, 0)?, array(bytes, 9)?);
    if kind != 3 {
        return Err(Broken("a table is of another kind"));
    }
    let root = match has_root {
        0 => None,
        _ => Some(Root::read(bytes, 10)?),
    };
    let width = |at: usize| {
        Ok(match array(bytes, at)? {
            [0] => None,
            _ => Some(offset_at(bytes, at + 1)?),
        })
    };
    if width(42)? != keys.width() || width(47)?.is_some() || (u32_at(bytes, 52)?, u32_at(bytes, 56)?) != (1, 1) {
        return Err(Broken("a table has keys or values of another type"));
    }
    Ok(Tree { root, keys, geometry, check_leaves: false })
}
