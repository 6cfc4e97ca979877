//! Walking redb's B-trees: to one key, or along all of them.
//!
//! Every branch is compared with the checksum that its parent has of it. Leaves are not, unless the tree says so: what
//! they hold is sealed row by row, and one damaged row should not take its neighbours along; [`Cursor::leaf_is_whole`]
//! tells who wants to know about all rows of a leaf at once. Whatever the bytes are, a walk ends: it is as deep as
//! [`DEPTH_MAX`] at most, and a scan demands that keys ascend, which a cycle cannot.

use std::{cmp::Ordering, ops::Range};

use super::{
    Broken,
    page::{Branch, Geometry, Leaf, Node, Root, Width, checksum},
};

/// Levels of a tree at most. With two children a branch, redb's own trees are as deep for more pages than a file has.
const DEPTH_MAX: usize = 48;

/// The bytes of a file, as far as they are there.
pub(super) trait Source {
    /// Returns the bytes of `range`, or `None` when it is not all within the file.
    fn get(&self, range: Range<u64>) -> Option<&[u8]>;
}

/// How keys are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// As bytes.
    Bytes,
    /// As little-endian 64-bit numbers.
    Numbers,
}

impl Keys {
    pub(super) fn width(self) -> Width {
        match self {
            Self::Bytes => None,
            Self::Numbers => Some(8),
        }
    }

    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match (self, a.first_chunk(), b.first_chunk()) {
            (Self::Numbers, Some(a), Some(b)) => u64::from_le_bytes(*a).cmp(&u64::from_le_bytes(*b)),
            _ => a.cmp(b),
        }
    }
}

/// A tree of pairs whose values have any length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) root: Option<Root>,
    pub(super) keys: Keys,
    pub(super) geometry: Geometry,
    /// Whether leaves are checked, too: for values that have no seal.
    pub(super) check_leaves: bool,
}

impl Tree {
    /// Returns where in the file the value under `key` lies, and the leaf that it is in.
    pub(super) fn find(&self, source: &impl Source, key: &[u8]) -> Result<Option<(Range<u64>, Root)>, Broken> {
        let Some(mut at) = self.root else {
            return Ok(None);
        };
        for _ in 0..DEPTH_MAX {
            let (start, node) = self.node(source, at)?;
            match node {
                Node::Branch(branch) => at = branch.child(self.child_for(&branch, key)?)?,
                Node::Leaf(leaf) => {
                    let n = self.lower_bound(&leaf, key)?;
                    if n == leaf.pairs() || self.keys.compare(leaf.key(n)?, key) != Ordering::Equal {
                        return Ok(None);
                    }
                    return Ok(Some((in_file(start, &leaf.value(n)?), at)));
                }
            }
        }
        Err(Broken("a tree is too deep"))
    }

    /// Reads and checks one page; returns also where it starts.
    fn node<'a>(&self, source: &'a impl Source, root: Root) -> Result<(u64, Node<'a>), Broken> {
        let (start, node) = self.checked_before(source, root)?;
        let check = self.check_leaves || matches!(node, Node::Branch(_));
        if check && checksum(node.covered()?) != root.checksum {
            return Err(Broken("the checksum of a page does not match"));
        }
        Ok((start, node))
    }

    /// Reads one page that was checked before: it cannot have changed, for its commit is pinned.
    fn checked_before<'a>(&self, source: &'a impl Source, root: Root) -> Result<(u64, Node<'a>), Broken> {
        let range = self.geometry.range(root.page)?;
        let page = source.get(range.clone()).ok_or(Broken("a page lies behind the end of the file"))?;
        Ok((range.start, Node::new(page, self.keys.width(), None)?))
    }

    /// Whether a leaf has the checksum that its parent knows: a fast word on all of its rows together.
    pub(super) fn is_whole(&self, source: &impl Source, leaf: Root) -> bool {
        let covered = self.checked_before(source, leaf).and_then(|(_, node)| node.covered());
        covered.is_ok_and(|bytes| checksum(bytes) == leaf.checksum)
    }

    /// The child that holds `key` if any does.
    fn child_for(&self, branch: &Branch<'_>, key: &[u8]) -> Result<usize, Broken> {
        partition(branch.keys(), |n| Ok(self.keys.compare(branch.key(n)?, key) == Ordering::Less))
    }

    /// The first pair whose key is not below `key`.
    fn lower_bound(&self, leaf: &Leaf<'_>, key: &[u8]) -> Result<usize, Broken> {
        partition(leaf.pairs(), |n| Ok(self.keys.compare(leaf.key(n)?, key) == Ordering::Less))
    }

    /// Begins a scan at the first key that is not below `from`.
    pub(super) fn cursor(&self, source: &impl Source, from: &[u8]) -> Result<Cursor, Broken> {
        let mut cursor =
            Cursor { tree: *self, branches: Vec::new(), leaf: None, last: None, known: None, page_bytes: 0 };
        if let Some(root) = self.root {
            cursor.descend(source, root, Some(from))?;
        }
        Ok(cursor)
    }
}

/// The smallest `n` for which `below` is false, if it is true for a prefix of `0..len`.
fn partition(len: usize, below: impl Fn(usize) -> Result<bool, Broken>) -> Result<usize, Broken> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if below(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn in_file(start: u64, range: &Range<usize>) -> Range<u64> {
    start + range.start as u64..start + range.end as u64
}

/// A place in a tree, between two pairs. It holds no bytes, so it can be kept beside what it reads from.
#[derive(Debug)]
pub(super) struct Cursor {
    tree: Tree,
    /// The branches above the leaf, each with the child that comes next.
    branches: Vec<(Root, usize)>,
    /// The leaf, checked, and the pair in it that comes next.
    leaf: Option<(Root, usize)>,
    /// The key before: keys ascend.
    last: Option<Vec<u8>>,
    /// A leaf, and whether it is whole.
    known: Option<(Root, bool)>,
    page_bytes: u64,
}

/// A pair: the key's bytes and where the value lies in the file.
pub(super) type Pair<'a> = (&'a [u8], Range<u64>);

impl Cursor {
    /// The key of the pair that came last.
    pub(super) fn key(&self) -> &[u8] {
        self.last.as_deref().unwrap_or_default()
    }

    /// Whether the leaf that the last pair came from is whole. Looked up once for each leaf.
    pub(super) fn leaf_is_whole(&mut self, source: &impl Source) -> bool {
        match (self.leaf, self.known) {
            (Some((leaf, _)), Some((known, whole))) if known == leaf => whole,
            (Some((leaf, _)), _) => {
                let whole = self.tree.is_whole(source, leaf);
                self.known = Some((leaf, whole));
                whole
            }
            (None, _) => false,
        }
    }

    /// Bytes of all pages gone through, as they lie in the file.
    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Returns the next pair.
    pub(super) fn next<'a, S: Source>(&mut self, source: &'a S) -> Result<Option<Pair<'a>>, Broken> {
        loop {
            let Some((root, n)) = self.leaf else {
                return Ok(None);
            };
            let (start, Node::Leaf(leaf)) = self.tree.checked_before(source, root)? else {
                return Err(Broken("a leaf has become a branch"));
            };
            if n < leaf.pairs() {
                self.leaf = Some((root, n + 1));
                let key = leaf.key(n)?;
                self.ascend(key)?;
                return Ok(Some((key, in_file(start, &leaf.value(n)?))));
            }
            self.next_leaf(source)?;
        }
    }

    fn ascend(&mut self, key: &[u8]) -> Result<(), Broken> {
        match &mut self.last {
            Some(last) if self.tree.keys.compare(last, key) != Ordering::Less => Err(Broken("keys are out of order")),
            Some(last) => {
                last.clear();
                last.extend_from_slice(key);
                Ok(())
            }
            None => {
                self.last = Some(key.to_vec());
                Ok(())
            }
        }
    }

    fn next_leaf(&mut self, source: &impl Source) -> Result<(), Broken> {
        self.leaf = None;
        while let Some((root, next)) = self.branches.pop() {
            let (_, Node::Branch(branch)) = self.tree.checked_before(source, root)? else {
                return Err(Broken("a branch has become a leaf"));
            };
            if next <= branch.keys() {
                self.branches.push((root, next + 1));
                return self.descend(source, branch.child(next)?, None);
            }
        }
        Ok(())
    }

    /// Goes down from `at` to the leaf that holds the first key which is not below `from`, or to the first leaf.
    fn descend(&mut self, source: &impl Source, mut at: Root, from: Option<&[u8]>) -> Result<(), Broken> {
        while self.branches.len() < DEPTH_MAX {
            let range = self.tree.geometry.range(at.page)?;
            self.page_bytes += range.end - range.start;
            match self.tree.node(source, at)?.1 {
                Node::Branch(branch) => {
                    let n = from.map_or(Ok(0), |from| self.tree.child_for(&branch, from))?;
                    self.branches.push((at, n + 1));
                    at = branch.child(n)?;
                }
                Node::Leaf(leaf) => {
                    let n = from.map_or(Ok(0), |from| self.tree.lower_bound(&leaf, from))?;
                    self.leaf = Some((at, n));
                    return Ok(());
                }
            }
        }
        Err(Broken("a tree is too deep"))
    }
}
