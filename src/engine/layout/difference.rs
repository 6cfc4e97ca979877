//! What two trees do not share.

use std::collections::HashSet;

use super::{
    Broken, Source, Unreadable,
    page::{Node, Root},
    tree::{DEPTH_MAX, Tree},
};

impl Tree {
    /// The leaves of `self` that are not in `later`, which is the same tree some commits on. What the two share is not
    /// walked, so that the cost follows what changed.
    ///
    /// A page never changes while a commit reaches it: one that both trees name, with the same checksum, is the same
    /// page.
    pub(in crate::engine) fn leaves_left(
        &self,
        source: &impl Source,
        later: &Self,
        later_source: &impl Source,
    ) -> Result<Vec<Root>, Unreadable> {
        if self.root == later.root {
            return Ok(Vec::new());
        }
        let (mut old, mut new) = (Level::top(self, source)?, Level::top(later, later_source)?);
        while old.height > new.height {
            old = old.below(self, source)?;
        }
        while new.height > old.height {
            new = new.below(later, later_source)?;
        }
        loop {
            let shared: HashSet<Root> = old.pages.iter().filter(|page| new.pages.contains(page)).copied().collect();
            old.pages.retain(|page| !shared.contains(page));
            new.pages.retain(|page| !shared.contains(page));
            if old.pages.is_empty() || old.height == 0 {
                return Ok(old.pages.into_iter().collect());
            }
            old = old.below(self, source)?;
            new = new.below(later, later_source)?;
        }
    }
}

/// Pages of one level of a tree; leaves are at the height 0.
struct Level {
    pages: HashSet<Root>,
    height: usize,
}

impl Level {
    /// The root alone.
    fn top(tree: &Tree, source: &impl Source) -> Result<Self, Unreadable> {
        let mut height = 0;
        let mut at = tree.root;
        while let Some(root) = at {
            at = match tree.checked(source, root)?.node(tree)? {
                Node::Branch(branch) => Some(branch.child(0)?),
                Node::Leaf(_) => None,
            };
            height += usize::from(at.is_some());
            if height > DEPTH_MAX {
                return Err(Broken("a tree is too deep").into());
            }
        }
        Ok(Self { pages: tree.root.into_iter().collect(), height })
    }

    /// Their children.
    fn below(&self, tree: &Tree, source: &impl Source) -> Result<Self, Unreadable> {
        let mut pages = HashSet::new();
        for &page in &self.pages {
            let page = tree.checked(source, page)?;
            let Node::Branch(branch) = page.node(tree)? else {
                return Err(Broken("a tree is higher in one place than in another").into());
            };
            for n in 0..=branch.keys() {
                pages.insert(branch.child(n)?);
            }
        }
        Ok(Self { pages, height: self.height.saturating_sub(1) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::engine::{
        layout::{HEADER_BYTES, Header, Tables, tests::Bytes},
        tables::ArchiveTable,
    };

    type Archives<'t> = redb::Table<'t, u64, &'static [u8]>;

    /// Every leaf, one by one.
    fn leaves(tree: &Tree, source: &Bytes<'_>) -> HashSet<Root> {
        let mut cursor = tree.cursor(&[]);
        std::iter::from_fn(|| cursor.next_leaf(source).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Trees of one level to three, that grow, shrink, lose everything, and are made anew.
        #[test]
        fn it_is_what_a_walk_of_both_trees_finds(
            seed in 0u64..400,
            commits in prop::collection::vec((0u8..9, any::<u64>(), 1u64..40), 2..6),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f.redb");
            let db = Database::create(&path).unwrap();
            let commit = |work: &dyn Fn(&mut Archives<'_>)| {
                let transaction = db.begin_write().unwrap();
                work(&mut transaction.open_table(ArchiveTable::Large.definition()).unwrap());
                transaction.commit().unwrap();
            };
            let insert = |table: &mut Archives<'_>, id: u64| {
                let value = vec![id as u8; 1000 + (id as usize * 797) % 7000];
                drop(table.insert(id, value.as_slice()).unwrap());
            };
            commit(&|table| (0..seed).for_each(|id| insert(table, 1000 + id)));
            for (op, at, count) in commits {
                // What is pinned is not written over.
                let pin = db.begin_read().unwrap();
                let before = Header::parse(&std::fs::read(&path).unwrap()[..HEADER_BYTES]).unwrap();
                let some = || (0..count).map(|n| 1000 + at.wrapping_add(n * 31) % 500);
                match op {
                    0..=2 => commit(&|table| some().for_each(|id| insert(table, id))),
                    3..=5 => commit(&|table| some().for_each(|id| drop(table.remove(id).unwrap()))),
                    6 => commit(&|table| table.retain(|id, _| id < 1000 + count - 1).unwrap()),
                    7 => commit(&|table| (0..400).for_each(|id| insert(table, 3000 + id))),
                    _ => commit(&|_| {}),
                }
                let bytes = std::fs::read(&path).unwrap();
                let source = Bytes::new(&bytes);
                let after = Header::parse(&bytes[..HEADER_BYTES]).unwrap();
                let tree = |header: Header| {
                    let tables = Tables::read(&source, header.geometry, header.tables).unwrap();
                    *tables.archives(ArchiveTable::Large).unwrap()
                };
                let (old, new) = (tree(before), tree(after));
                let (old_leaves, new_leaves) = (leaves(&old, &source), leaves(&new, &source));
                let reads = source.reads();
                let left: HashSet<Root> = old.leaves_left(&source, &new, &source).unwrap().into_iter().collect();
                let reads = source.reads() - reads;
                prop_assert_eq!(&left, &old_leaves.difference(&new_leaves).copied().collect::<HashSet<_>>());
                // The branches above each leaf that changed, and the way down on the left.
                let changed = old_leaves.symmetric_difference(&new_leaves).count();
                let reads_max = if old.root == new.root { 0 } else { 2 * changed + 8 };
                prop_assert!(reads <= reads_max, "{reads} reads for {changed} leaves of {}", old_leaves.len());
                drop(pin);
            }
        }
    }
}
