//! Walking redb's B-trees to one key.
//!
//! Every branch is compared with the checksum that its parent has of it. Leaves are not, unless the tree says so: what
//! they hold is sealed row by row, and one damaged row should not take its neighbours along. Who did *not* find a key
//! in a leaf asks [`Tree::is_whole`] before believing it. Whatever the bytes are, a walk ends: it is as deep as
//! [`DEPTH_MAX`] at most, and goes through no more pages than a file of that length has.

use std::{cmp::Ordering, ops::Range};

use super::{
    Branches, Broken, PageBytes, Source, Unreadable,
    page::{Branch, Geometry, Leaf, Node, Part, Root, Width, checksum},
};

/// Levels of a tree at most. With two children a branch, redb's own trees are as deep for more pages than a file has.
pub(super) const DEPTH_MAX: usize = 48;

/// Bytes of a page that are read first, where a page has to be copied: all of most pages.
const FRONT_BYTES: u64 = 4096;

/// Bytes in front of the value in a leaf that holds it alone, under a key of 8 bytes.
const ALONE_OFFSET: usize = 16;

/// How keys are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Keys {
    /// As bytes.
    Bytes,
    /// As little-endian 64-bit numbers.
    Numbers,
    /// In a way of redb's own, which is of no interest here; all of this width.
    Other(Width),
}

impl Keys {
    pub(super) fn width(self) -> Width {
        match self {
            Self::Bytes => None,
            Self::Numbers => Some(8),
            Self::Other(width) => width,
        }
    }

    #[inline]
    pub(in crate::engine) fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match (self, a.first_chunk(), b.first_chunk()) {
            (Self::Numbers, Some(a), Some(b)) => u64::from_le_bytes(*a).cmp(&u64::from_le_bytes(*b)),
            _ => a.cmp(b),
        }
    }
}

/// A tree of pairs.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Tree {
    pub(in crate::engine) root: Option<Root>,
    pub(in crate::engine) keys: Keys,
    /// The width of all values, if they have the same one.
    pub(in crate::engine) values: Width,
    pub(in crate::engine) geometry: Geometry,
    /// Whether leaves are checked, too: for values that have no seal.
    pub(in crate::engine) check_leaves: bool,
}

/// What a search for a key came to.
pub(in crate::engine) enum Lookup<'a> {
    Found(Found<'a>),
    /// The key is not in this leaf, where it would be; `None` when the tree has no pages.
    Absent(Option<Root>),
}

/// A pair that was found.
pub(in crate::engine) struct Found<'a> {
    /// As much of the leaf as was read.
    page: PageBytes<'a>,
    value: Range<usize>,
    /// Where in the file the value lies.
    pub(in crate::engine) range: Range<u64>,
    pub(in crate::engine) leaf: Root,
    /// Whether the leaf holds nothing else, so that no other change of the tree moves the value.
    pub(in crate::engine) is_alone: bool,
}

impl<'a> Found<'a> {
    /// The value's bytes.
    pub(in crate::engine) fn bytes<S: Source>(self, source: &'a S) -> Result<PageBytes<'a>, Unreadable> {
        match self.page {
            PageBytes::InPlace(page) => match page.get(self.value) {
                Some(value) => Ok(PageBytes::InPlace(value)),
                None => Err(Unreadable::Missing),
            },
            PageBytes::Copied(page) => match page.get(self.value) {
                Some(value) => Ok(PageBytes::Copied(value.into())),
                None => source.get(self.range),
            },
        }
    }
}

/// A page, or the front of it.
pub(super) struct Page<'a> {
    pub(super) bytes: PageBytes<'a>,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Page<'_> {
    pub(super) fn node(&self, tree: &Tree) -> Result<Node<'_>, Broken> {
        Node::new(&self.bytes, self.length, tree.keys.width(), tree.values)
    }
}

impl Tree {
    /// Looks for `key`.
    pub(in crate::engine) fn find<'a, S: Source>(&self, source: &'a S, key: &[u8]) -> Result<Lookup<'a>, Unreadable> {
        let Some(leaf) = self.leaf_for(source, key)? else {
            return Ok(Lookup::Absent(None));
        };
        let page = self.page(source, leaf, Part::Keys)?;
        let Node::Leaf(rows) = page.node(self)? else {
            return Err(Broken("a leaf has become a branch").into());
        };
        let n = self.lower_bound(&rows, key)?;
        if n == rows.pairs() || self.keys.compare(rows.key(n)?, key) != Ordering::Equal {
            return Ok(Lookup::Absent(Some(leaf)));
        }
        let value = rows.value_range(n)?;
        let is_alone = rows.pairs() == 1 && value.start == ALONE_OFFSET;
        let range = page.start + value.start as u64..page.start + value.end as u64;
        Ok(Lookup::Found(Found { page: page.bytes, value, range, leaf, is_alone }))
    }

    /// The leaf that holds `key` if any does; `None` when the tree has no pages. Checks the branches above it.
    fn leaf_for(&self, source: &impl Source, key: &[u8]) -> Result<Option<Root>, Unreadable> {
        let Some(mut at) = self.root else {
            return Ok(None);
        };
        for _ in 0..DEPTH_MAX {
            let page = self.checked_once(source, at)?;
            match page.node(self)? {
                Node::Branch(branch) => at = branch.child(self.child_for(&branch, key)?)?,
                Node::Leaf(_) => return Ok(Some(at)),
            }
        }
        Err(Broken("a tree is too deep").into())
    }

    /// Reads one page, and checks it if it is a branch or if leaves are to be checked.
    pub(super) fn checked<'a, S: Source>(&self, source: &'a S, root: Root) -> Result<Page<'a>, Unreadable> {
        self.checked_and_kept(source, root, None)
    }

    /// The same, on the way to one key: a branch that was checked before is not read again, if it was kept. Who goes
    /// through whole trees reads what is in the file.
    fn checked_once<'a, S: Source>(&self, source: &'a S, root: Root) -> Result<Page<'a>, Unreadable> {
        let branches = source.branches();
        let Some(bytes) = branches.and_then(|branches| branches.get(root)) else {
            return self.checked_and_kept(source, root, branches);
        };
        let range = self.geometry.range(root.page)?;
        Ok(Page { bytes: PageBytes::InPlace(bytes), start: range.start, length: range.end - range.start })
    }

    fn checked_and_kept<'a, S: Source>(
        &self,
        source: &'a S,
        root: Root,
        branches: Option<&Branches>,
    ) -> Result<Page<'a>, Unreadable> {
        let part = if self.check_leaves { Part::All } else { Part::Keys };
        let page = self.page(source, root, part)?;
        let node = page.node(self)?;
        let is_branch = matches!(node, Node::Branch(_));
        if !is_branch && !self.check_leaves {
            return Ok(page);
        }
        let covered = node.covered()?;
        let wrong = Broken("the checksum of a page does not match");
        match branches.filter(|_| is_branch).and_then(|branches| branches.vacancy(root, covered.len())) {
            Some(vacancy) => {
                // It is the copy that is checked: no later change of the page shows in what is kept.
                let copy: Box<[u8]> = covered.into();
                if checksum(&copy) != root.checksum {
                    return Err(wrong.into());
                }
                vacancy.keep(root, copy);
            }
            None if checksum(covered) != root.checksum => return Err(wrong.into()),
            None => {}
        }
        Ok(page)
    }

    /// Reads one page. Where it was checked before it cannot have changed, for its commit is pinned.
    #[inline]
    pub(super) fn page<'a, S: Source>(&self, source: &'a S, root: Root, part: Part) -> Result<Page<'a>, Unreadable> {
        let range = self.geometry.range(root.page)?;
        let (start, length) = (range.start, range.end - range.start);
        let mut wanted = if source.is_in_place() { length } else { length.min(FRONT_BYTES) };
        loop {
            let page = Page { bytes: source.get(start..start + wanted)?, start, length };
            let needed = page.node(self)?.needed(part)? as u64;
            if needed <= wanted {
                return Ok(page);
            }
            if needed > length {
                return Err(Broken("the last entry ends outside its page").into());
            }
            wanted = needed;
        }
    }

    /// Whether a leaf has the checksum that its parent knows: a fast word on all of its rows together.
    pub(in crate::engine) fn is_whole(&self, source: &impl Source, leaf: Root) -> Result<bool, Unreadable> {
        let page = match self.page(source, leaf, Part::All) {
            Ok(page) => page,
            Err(Unreadable::Broken(_)) => return Ok(false),
            Err(err) => return Err(err),
        };
        let covered = page.node(self).and_then(|node| node.covered());
        Ok(covered.is_ok_and(|bytes| checksum(bytes) == leaf.checksum))
    }

    /// Calls `look` with a leaf as it lies there, whole or not; with `None` when it is none.
    pub(in crate::engine) fn look_at<T>(
        &self,
        source: &impl Source,
        leaf: Root,
        look: impl FnOnce(Option<&Leaf<'_>>) -> T,
    ) -> Result<T, Unreadable> {
        self.look_at_part(source, leaf, Part::All, look)
    }

    /// The same, without the values where they would have to be copied.
    pub(in crate::engine) fn look_at_keys<T>(
        &self,
        source: &impl Source,
        leaf: Root,
        look: impl FnOnce(Option<&Leaf<'_>>) -> T,
    ) -> Result<T, Unreadable> {
        self.look_at_part(source, leaf, Part::Keys, look)
    }

    fn look_at_part<T>(
        &self,
        source: &impl Source,
        leaf: Root,
        part: Part,
        look: impl FnOnce(Option<&Leaf<'_>>) -> T,
    ) -> Result<T, Unreadable> {
        match self.page(source, leaf, part) {
            Ok(page) => Ok(match page.node(self) {
                Ok(Node::Leaf(rows)) => look(Some(&rows)),
                _ => look(None),
            }),
            Err(Unreadable::Broken(_)) => Ok(look(None)),
            Err(err) => Err(err),
        }
    }

    /// Where a page lies in the file.
    pub(in crate::engine) fn range_of(&self, page: Root) -> Result<Range<u64>, Unreadable> {
        Ok(self.geometry.range(page.page)?)
    }

    /// The child that holds `key` if any does.
    pub(super) fn child_for(&self, branch: &Branch<'_>, key: &[u8]) -> Result<usize, Broken> {
        partition(branch.keys(), |n| Ok(self.keys.compare(branch.key(n)?, key) == Ordering::Less))
    }

    /// The first pair whose key is not below `key`.
    pub(super) fn lower_bound(&self, leaf: &Leaf<'_>, key: &[u8]) -> Result<usize, Broken> {
        partition(leaf.pairs(), |n| Ok(self.keys.compare(leaf.key(n)?, key) == Ordering::Less))
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
