//! Going along a tree: from leaf to leaf, and along the pairs of one.
//!
//! Neither borrows anything, so they can be kept beside what they read from.

use std::ops::Range;

use super::{
    Broken, PageBytes, Source, Unreadable,
    page::{Leaf, Node, Part, Root},
    tree::{DEPTH_MAX, Keys, Tree},
};

impl Tree {
    /// Begins a scan at the first key that is not below `from`.
    pub(in crate::engine) fn cursor(&self, from: &[u8]) -> Cursor {
        let begin = self.root.map(|root| (root, from.to_vec()));
        Cursor { tree: *self, branches: Vec::new(), begin, pages: 0, page_bytes: 0, end: 0 }
    }

    /// Checks every page of the tree: its branches and its leaves.
    pub(in crate::engine) fn check_all(&self, source: &impl Source) -> Result<(), Unreadable> {
        let tree = Self { check_leaves: true, ..*self };
        let mut cursor = tree.cursor(&[]);
        while cursor.next_leaf(source)?.is_some() {}
        Ok(())
    }
}

/// A place between two leaves of a tree. A page that is damaged is an error, and the leaves behind it can still be
/// read.
#[derive(Debug)]
pub(in crate::engine) struct Cursor {
    tree: Tree,
    /// The branches above the leaf, each with the child that comes next.
    branches: Vec<(Root, usize)>,
    /// Where to go down next, and to which key: at the beginning.
    begin: Option<(Root, Vec<u8>)>,
    /// Pages that were gone through: no tree has more than its file.
    pages: u64,
    page_bytes: u64,
    /// Where the last of them ends.
    end: u64,
}

impl Cursor {
    /// Where in the file the last of all pages gone through ends.
    pub(in crate::engine) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of all pages gone through, as they lie in the file.
    pub(in crate::engine) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Goes on to the next leaf; `None` at the end.
    pub(in crate::engine) fn next_leaf(&mut self, source: &impl Source) -> Result<Option<Root>, Unreadable> {
        self.leaf_from(source, None)
    }

    /// Goes on to the next leaf that may hold a key which is not below `wanted`. Pages that end before it, as the
    /// branches above them say, are passed by.
    pub(in crate::engine) fn leaf_from(
        &mut self,
        source: &impl Source,
        wanted: Option<&[u8]>,
    ) -> Result<Option<Root>, Unreadable> {
        if let Some((root, from)) = self.begin.take() {
            return self.descend(source, root, Some(&from)).map(Some);
        }
        while let Some((root, next)) = self.branches.pop() {
            let page = self.tree.page(source, root, Part::Keys)?;
            let Node::Branch(branch) = page.node(&self.tree)? else {
                return Err(Broken("a branch has become a leaf").into());
            };
            let next = wanted.map_or(Ok(0), |wanted| self.tree.child_for(&branch, wanted))?.max(next);
            if next <= branch.keys() {
                self.branches.push((root, next + 1));
                let child = branch.child(next)?;
                // Read while the one before is looked at: pages that follow each other lie anywhere. One that is
                // nowhere is an error when the walk comes to it.
                if next < branch.keys()
                    && let Ok(following) = branch.child(next + 1)
                    && let Ok(range) = self.tree.geometry.range(following.page)
                {
                    source.will_read(&range);
                }
                return self.descend(source, child, wanted).map(Some);
            }
        }
        Ok(None)
    }

    /// Goes down from `at` to the leaf that holds the first key which is not below `from`, or to the first leaf.
    fn descend(&mut self, source: &impl Source, mut at: Root, from: Option<&[u8]>) -> Result<Root, Unreadable> {
        while self.branches.len() < DEPTH_MAX {
            let range = self.tree.geometry.range(at.page)?;
            self.pages += 1;
            self.page_bytes += range.end - range.start;
            self.end = self.end.max(range.end);
            if self.pages > source.bytes() / self.tree.geometry.page_bytes() {
                self.branches.clear();
                return Err(Broken("a tree has more pages than its file").into());
            }
            let page = self.tree.checked(source, at)?;
            match page.node(&self.tree)? {
                Node::Branch(branch) => {
                    let n = from.map_or(Ok(0), |from| self.tree.child_for(&branch, from))?;
                    self.branches.push((at, n + 1));
                    at = branch.child(n)?;
                }
                Node::Leaf(_) => return Ok(at),
            }
        }
        Err(Broken("a tree is too deep").into())
    }

    /// The keys between which the page lies that the cursor went to last, as the branches above it say: not the first
    /// of them, and the last. `None` where there is no bound.
    pub(in crate::engine) fn bounds(&self, source: &impl Source) -> Result<Bounds, Unreadable> {
        let mut bounds = Bounds::default();
        for &(root, next) in &self.branches {
            let page = self.tree.page(source, root, Part::Keys)?;
            let Node::Branch(branch) = page.node(&self.tree)? else {
                return Err(Broken("a branch has become a leaf").into());
            };
            let child = next.saturating_sub(1);
            if let Some(below) = child.checked_sub(1) {
                bounds.above = Some(branch.key(below)?.to_vec());
            }
            if child < branch.keys() {
                bounds.up_to = Some(branch.key(child)?.to_vec());
            }
        }
        Ok(bounds)
    }
}

/// Between which keys a page lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Bounds {
    /// Every key of the page is greater.
    pub(in crate::engine) above: Option<Vec<u8>>,
    /// No key of the page is greater.
    pub(in crate::engine) up_to: Option<Vec<u8>>,
}

/// The pairs of one leaf, in order.
#[derive(Debug)]
pub(in crate::engine) struct LeafRows {
    tree: Tree,
    next: usize,
    pairs: usize,
    /// The page's bytes, where they are not in place.
    copied: Option<Box<[u8]>>,
    range: Range<u64>,
}

/// A key and its value.
pub(in crate::engine) type Pair<'a> = (&'a [u8], &'a [u8]);

impl LeafRows {
    /// Opens a leaf at the first pair whose key is not below `from`.
    pub(in crate::engine) fn open(
        tree: &Tree,
        source: &impl Source,
        root: Root,
        from: Option<&[u8]>,
    ) -> Result<Self, Unreadable> {
        let page = tree.page(source, root, Part::All)?;
        let Node::Leaf(leaf) = page.node(tree)? else {
            return Err(Broken("a leaf has become a branch").into());
        };
        let (pairs, next) = (leaf.pairs(), from.map_or(Ok(0), |from| tree.lower_bound(&leaf, from))?);
        let range = page.start..page.start + page.length;
        let copied = match page.bytes {
            PageBytes::InPlace(_) => None,
            PageBytes::Copied(bytes) => Some(bytes),
        };
        Ok(Self { tree: *tree, next, pairs, copied, range })
    }

    /// How keys are ordered.
    pub(in crate::engine) fn keys(&self) -> Keys {
        self.tree.keys
    }

    /// Goes on to the first pair whose key is not below `wanted`, if it has not come already.
    pub(in crate::engine) fn skip_to(&mut self, source: &impl Source, wanted: &[u8]) -> Result<(), Unreadable> {
        let tree = self.tree;
        let first = tree.lower_bound(&self.leaf(source)?, wanted)?;
        self.next = self.next.max(first);
        Ok(())
    }

    /// Returns the next pair; `None` at the end of the leaf.
    #[inline]
    pub(in crate::engine) fn next<'a, S: Source>(&'a mut self, source: &'a S) -> Result<Option<Pair<'a>>, Unreadable> {
        if self.next >= self.pairs {
            return Ok(None);
        }
        let n = self.next;
        self.next += 1;
        let leaf = self.leaf(source)?;
        Ok(Some((leaf.key(n)?, leaf.value(n)?)))
    }

    #[inline]
    fn leaf<'a, S: Source>(&'a self, source: &'a S) -> Result<Leaf<'a>, Unreadable> {
        let length = self.range.end - self.range.start;
        let bytes = match &self.copied {
            Some(bytes) => bytes,
            None => match source.get(self.range.clone())? {
                PageBytes::InPlace(bytes) => bytes,
                PageBytes::Copied(_) => return Err(Broken("a page is not in place").into()),
            },
        };
        match Node::new(bytes, length, self.tree.keys.width(), self.tree.values)? {
            Node::Leaf(leaf) => Ok(leaf),
            Node::Branch(_) => Err(Broken("a leaf has become a branch").into()),
        }
    }
}
