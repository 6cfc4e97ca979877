//! Decision trees and random forests in one flat arena of 16-byte nodes.
//!
//! Nodes are in preorder, so that the left child of an inner node is the next node and only the right one is named.
//! Children come after their parents, which `validate` checks; so a walk from a root ends, whatever the bytes.

use super::assert_width;
use modelkeep::{Invalid, Model, Schema};

/// In place of a feature: the node is a leaf.
const LEAF: u32 = u32::MAX;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct Node {
    /// An inner node sends a row left when its feature is below this.
    threshold: f64,
    feature: u32,
    /// Inner node: the index of the right child. Leaf: the index of the class.
    right: u32,
}

/// A classification tree.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct DecisionTree {
    nodes: Vec<Node>,
    classes: Vec<i64>,
    features: u32,
}

/// A random forest: trees that vote.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct RandomForest {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    classes: Vec<i64>,
    features: u32,
}

impl Node {
    /// Returns an inner node: rows whose `feature` is below `threshold` go to the next node, all others to `right`.
    #[must_use]
    pub const fn split(feature: u32, threshold: f64, right: u32) -> Self {
        Self { threshold, feature, right }
    }

    /// Returns a leaf that predicts the class with this index.
    #[must_use]
    pub const fn leaf(class: u32) -> Self {
        Self { threshold: 0.0, feature: LEAF, right: class }
    }

    #[cfg(feature = "linfa")]
    pub(super) fn set_right(&mut self, right: u32) {
        self.right = right;
    }
}

impl DecisionTree {
    /// Returns the tree over `features` features with these nodes in preorder, the root first. Leaves name a class by
    /// its index in `classes`.
    ///
    /// Indices out of range and children before their parents are found when the tree is published.
    #[must_use]
    pub fn new(features: u32, classes: Vec<i64>, nodes: Vec<Node>) -> Self {
        Self { nodes, classes, features }
    }
}

impl RandomForest {
    /// Returns the forest over `features` features: the trees' nodes, each tree in preorder and one behind the other,
    /// and the index of each root, ascending from 0.
    ///
    /// What [`DecisionTree::new`] says of indices holds here, and no tree refers to another one's nodes.
    #[must_use]
    pub fn new(features: u32, classes: Vec<i64>, roots: Vec<u32>, nodes: Vec<Node>) -> Self {
        Self { nodes, roots, classes, features }
    }
}

impl ArchivedDecisionTree {
    /// Returns the number of features, `d`.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features.to_native() as usize
    }

    /// Returns the class for `row`, `[d]`.
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn class(&self, row: &[f64]) -> i64 {
        assert_width(row, self.features());
        class_at(&self.classes, leaf(&self.nodes, 0, row))
    }
}

impl ArchivedRandomForest {
    /// Returns the number of features, `d`.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features.to_native() as usize
    }

    /// Returns the number of trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// Returns the classes, in the order in which [`votes_into`](Self::votes_into) counts them.
    #[must_use]
    pub fn classes(&self) -> impl ExactSizeIterator<Item = i64> {
        self.classes.iter().map(|class| class.to_native())
    }

    /// Counts the trees that vote for each class into `votes`, `[n_classes]`; allocates nothing.
    ///
    /// # Panics
    /// When `row` has not `d` values or `votes` not one for each class.
    pub fn votes_into(&self, row: &[f64], votes: &mut [u32]) {
        assert_width(row, self.features());
        assert_eq!(votes.len(), self.classes.len(), "one vote count is needed for each class");
        votes.fill(0);
        for root in &*self.roots {
            if let Some(count) = votes.get_mut(leaf(&self.nodes, root.to_native() as usize, row)) {
                *count += 1;
            }
        }
    }

    /// Returns the class that most trees vote for; of several with the same number, the first one. (linfa breaks ties
    /// by the order of a hash map, which differs from run to run.)
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn class(&self, row: &[f64]) -> i64 {
        let mut votes = vec![0; self.classes.len()];
        self.votes_into(row, &mut votes);
        let most = votes.iter().copied().max().unwrap_or(0);
        class_at(&self.classes, votes.iter().position(|&count| count == most).unwrap_or(0))
    }

    /// Returns the share of trees that vote for `class`, 0 for a class that the forest does not know.
    ///
    /// # Panics
    /// When `row` has not `d` values.
    #[must_use]
    pub fn share(&self, row: &[f64], class: i64) -> f64 {
        let mut votes = vec![0; self.classes.len()];
        self.votes_into(row, &mut votes);
        let at = self.classes().position(|known| known == class);
        let count = at.and_then(|at| votes.get(at)).copied().unwrap_or(0);
        f64::from(count) / f64::from(u32::try_from(self.trees()).unwrap_or(u32::MAX).max(1))
    }
}

/// Walks from `root` to a leaf and returns the index of its class.
fn leaf(nodes: &[ArchivedNode], root: usize, row: &[f64]) -> usize {
    let mut at = root;
    loop {
        // `validate` keeps every index in range and every child behind its parent: this ends, and finds a node.
        let Some(node) = nodes.get(at) else {
            unreachable!("a validated tree has node {at}");
        };
        let feature = node.feature.to_native();
        if feature == LEAF {
            return node.right.to_native() as usize;
        }
        // NaN is not below anything and goes right, as in linfa.
        let below = row.get(feature as usize).is_some_and(|&x| x < node.threshold.to_native());
        at = if below { at + 1 } else { node.right.to_native() as usize };
    }
}

fn class_at(classes: &[rkyv::rend::i64_le], at: usize) -> i64 {
    match classes.get(at) {
        Some(class) => class.to_native(),
        None => unreachable!("a validated leaf names a class"),
    }
}

/// Checks the nodes of one tree, which are `nodes[root..end]`.
fn check_tree(nodes: &[ArchivedNode], root: usize, end: usize, features: u32, classes: usize) -> Result<(), Invalid> {
    for (at, node) in nodes.iter().enumerate().take(end).skip(root) {
        let (feature, right) = (node.feature.to_native(), node.right.to_native() as usize);
        let refuse = |why: &str| Err(Invalid::new(format!("node {at}: {why}")));
        match feature {
            LEAF if right >= classes => return refuse("there is no such class"),
            LEAF => {}
            _ if feature >= features => return refuse("there is no such feature"),
            _ if !node.threshold.to_native().is_finite() => return refuse("the threshold is not finite"),
            _ if right <= at + 1 || right >= end => return refuse("its right child is not behind it in its tree"),
            _ => {}
        }
    }
    // The last node of a preorder is a leaf; if it were not, its left child would be missing.
    match nodes.get(end.wrapping_sub(1)).filter(|_| root < end) {
        Some(last) if last.feature.to_native() == LEAF => Ok(()),
        _ => Err(Invalid::new(format!("the tree at node {root} does not end in a leaf"))),
    }
}

impl Model for DecisionTree {
    const SCHEMA: Schema = Schema::new("modelkeep.decision_tree", 1);

    fn validate(archived: &ArchivedDecisionTree) -> Result<(), Invalid> {
        let (nodes, features) = (&archived.nodes, archived.features.to_native());
        check_tree(nodes, 0, nodes.len(), features, archived.classes.len())
    }
}

impl Model for RandomForest {
    const SCHEMA: Schema = Schema::new("modelkeep.random_forest", 1);

    fn validate(archived: &ArchivedRandomForest) -> Result<(), Invalid> {
        let roots: Vec<usize> = archived.roots.iter().map(|root| root.to_native() as usize).collect();
        if roots.first() != Some(&0) {
            return Err(Invalid::new("the first tree does not start at node 0"));
        }
        let ends = roots.iter().skip(1).copied().chain([archived.nodes.len()]);
        for (&root, end) in roots.iter().zip(ends) {
            check_tree(&archived.nodes, root, end, archived.features.to_native(), archived.classes.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use modelkeep::archive::Unstored;

    fn classify(tree: &DecisionTree, row: &[f64]) -> Option<i64> {
        Some(Unstored::of(tree).ok()?.class(row))
    }

    #[test]
    fn a_small_tree_classifies() {
        let nodes = vec![Node::split(0, 0.5, 4), Node::split(1, -1.0, 3), Node::leaf(0), Node::leaf(1), Node::leaf(2)];
        let tree = DecisionTree::new(2, vec![10, 20, 30], nodes);
        assert_eq!(classify(&tree, &[0.0, -2.0]), Some(10));
        assert_eq!(classify(&tree, &[0.0, -1.0]), Some(20));
        assert_eq!(classify(&tree, &[0.5, 0.0]), Some(30));
        assert_eq!(classify(&tree, &[f64::NAN, 0.0]), Some(30));
    }

    #[test]
    fn nodes_are_sixteen_bytes() {
        assert_eq!(size_of::<ArchivedNode>(), 16);
    }

    #[test]
    fn a_child_that_is_not_behind_its_parent_is_refused() {
        for right in [0, 1, 3, 9] {
            let nodes = vec![Node::split(0, 0.5, right), Node::leaf(0), Node::leaf(1)];
            let refused = Unstored::of(&DecisionTree::new(1, vec![5, 6], nodes)).is_err();
            assert!(refused, "a tree whose right child is the node {right}");
        }
    }

    #[test]
    fn a_forest_whose_trees_share_nodes_is_refused() {
        let nodes = vec![Node::split(0, 0.5, 2), Node::leaf(0), Node::leaf(1)];
        assert!(Unstored::of(&RandomForest::new(1, vec![0, 1], vec![0], nodes.clone())).is_ok());
        for roots in [vec![], vec![1], vec![0, 1], vec![0, 0], vec![0, 3], vec![0, 9], vec![2, 0]] {
            let forest = RandomForest::new(1, vec![0, 1], roots.clone(), nodes.clone());
            assert!(Unstored::of(&forest).is_err(), "{roots:?}");
        }
    }

    proptest! {
        #[test]
        fn no_nodes_make_a_walk_endless(
            nodes in prop::collection::vec((prop_oneof![0u32..4, Just(LEAF)], -1.0f64..1.0, 0u32..12), 0..12),
            row in prop::collection::vec(-2.0f64..2.0, 3),
        ) {
            let nodes = nodes.into_iter().map(|(feature, t, right)| Node { threshold: t, feature, right }).collect();
            let class = classify(&DecisionTree::new(3, vec![5, 6], nodes), &row);
            prop_assert!(class.is_none_or(|class| class == 5 || class == 6));
        }
    }
}
