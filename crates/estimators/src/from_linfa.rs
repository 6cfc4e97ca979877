//! Conversions from fitted linfa objects.
//!
//! Each conversion reads the fitted parameters through linfa's public accessors; none of them fits anything.

use std::collections::BTreeSet;

use linfa::Label;
use linfa_elasticnet::ElasticNet;
use linfa_linear::FittedLinearRegression;
use linfa_logistic::FittedLogisticRegression;
use linfa_preprocessing::linear_scaling::{LinearScaler, ScalingMethod};

use super::{DecisionTree, LinearRegression, LogisticRegression, Node, RandomForest, StandardScaler};
use modelkeep::Invalid;

/// A class label that can be stored as an integer.
pub trait ClassLabel {
    /// Returns the label as it is stored.
    fn to_class(&self) -> i64;
}

impl ClassLabel for bool {
    fn to_class(&self) -> i64 {
        i64::from(*self)
    }
}

impl ClassLabel for usize {
    /// Labels beyond 2^63 - 1 are all taken for the largest one.
    fn to_class(&self) -> i64 {
        i64::try_from(*self).unwrap_or(i64::MAX)
    }
}

impl ClassLabel for i32 {
    fn to_class(&self) -> i64 {
        i64::from(*self)
    }
}

impl ClassLabel for u32 {
    fn to_class(&self) -> i64 {
        i64::from(*self)
    }
}

impl TryFrom<&LinearScaler<f64>> for StandardScaler {
    type Error = Invalid;

    /// Takes over a scaler that was fitted by the standard method, with or without mean and deviation.
    ///
    /// # Errors
    /// [`Invalid`] for the other methods of linfa's linear scaler.
    fn try_from(fitted: &LinearScaler<f64>) -> Result<Self, Invalid> {
        let (offsets, scales) = (fitted.offsets().to_vec(), fitted.scales().to_vec());
        match fitted.method() {
            ScalingMethod::Standard(true, _) => Ok(Self::new(offsets, scales)),
            ScalingMethod::Standard(false, _) => Ok(Self::with_shifts(offsets.clone(), scales, offsets)),
            other => Err(Invalid::new(format!("the scaler's method is {other}, and not the standard one"))),
        }
    }
}

impl From<&FittedLinearRegression<f64>> for LinearRegression {
    fn from(fitted: &FittedLinearRegression<f64>) -> Self {
        Self::new(fitted.params().to_vec(), fitted.intercept())
    }
}

impl From<&ElasticNet<f64>> for LinearRegression {
    fn from(fitted: &ElasticNet<f64>) -> Self {
        Self::new(fitted.hyperplane().to_vec(), fitted.intercept())
    }
}

impl<C: ClassLabel + PartialOrd + Clone> From<&FittedLogisticRegression<f64, C>> for LogisticRegression {
    /// Takes over weights, intercept and classes; the larger class becomes the positive one.
    ///
    /// linfa calls the class positive that is the more frequent one in the training data, so that its probabilities can
    /// change sides from one training to the next. Here `probability` is always about the larger label: `true`, or 1.
    /// Where linfa has it the other way round, weights and intercept change their signs, and `class` still agrees with
    /// linfa, ties included.
    ///
    /// linfa does not tell its threshold; one other than 0.5 has to be set again by
    /// [`LogisticRegression::with_threshold`].
    fn from(fitted: &FittedLogisticRegression<f64, C>) -> Self {
        let labels = fitted.labels();
        let (negative, positive) = (labels.neg.class.to_class(), labels.pos.class.to_class());
        let (weights, intercept) = (fitted.params().to_vec(), fitted.intercept());
        if negative <= positive {
            return Self::new(weights, intercept).with_classes(negative, positive);
        }
        let weights = weights.into_iter().map(|weight| -weight).collect();
        // linfa's positive class wins a tie at one half; here it is the negative one, so the threshold is just above.
        Self::new(weights, -intercept).with_classes(positive, negative).with_threshold(0.5f64.next_up())
    }
}

impl DecisionTree {
    /// Takes over a fitted tree that was trained on `features` features.
    ///
    /// # Errors
    /// [`Invalid`] when the tree splits on a feature beyond `features`, or has more nodes than 32 bits count.
    pub fn from_linfa<L>(fitted: &linfa_trees::DecisionTree<f64, L>, features: usize) -> Result<Self, Invalid>
    where
        L: Label + ClassLabel,
    {
        let columns: Vec<usize> = (0..features).collect();
        let mut arena = Arena::new([fitted]);
        arena.plant(fitted, &columns)?;
        Ok(Self::new(number(features)?, arena.classes, arena.nodes))
    }
}

impl RandomForest {
    /// Takes over a fitted ensemble of trees that was trained on `features` features. A tree that was trained on some
    /// of them is made to read its own columns of the whole row.
    ///
    /// # Errors
    /// As for [`DecisionTree::from_linfa`]; also when the ensemble has no tree.
    pub fn from_linfa<L>(fitted: &linfa_ensemble::RandomForest<f64, L>, features: usize) -> Result<Self, Invalid>
    where
        L: Label + ClassLabel,
    {
        if fitted.models.is_empty() || fitted.models.len() != fitted.model_features.len() {
            return Err(refuse("the ensemble has no trees, or does not know their features"));
        }
        let mut arena = Arena::new(&fitted.models);
        let mut roots = Vec::with_capacity(fitted.models.len());
        for (tree, columns) in fitted.models.iter().zip(&fitted.model_features) {
            roots.push(number(arena.nodes.len())?);
            if columns.iter().any(|&column| column >= features) {
                return Err(refuse("a tree reads a feature that there is not"));
            }
            arena.plant(tree, columns)?;
        }
        Ok(Self::new(number(features)?, arena.classes, roots, arena.nodes))
    }
}

/// Nodes of trees, one behind the other, and the classes of all their leaves.
struct Arena {
    nodes: Vec<Node>,
    classes: Vec<i64>,
}

impl Arena {
    fn new<'a, L>(trees: impl IntoIterator<Item = &'a linfa_trees::DecisionTree<f64, L>>) -> Self
    where
        L: Label + ClassLabel + 'a,
    {
        let leaves = trees.into_iter().flat_map(|tree| tree.iter_nodes().filter_map(linfa_trees::TreeNode::prediction));
        let classes: BTreeSet<i64> = leaves.map(|label| label.to_class()).collect();
        Self { nodes: Vec::new(), classes: classes.into_iter().collect() }
    }

    /// Appends a tree in preorder. `columns` says which column of a row each of the tree's features is.
    fn plant<L>(&mut self, tree: &linfa_trees::DecisionTree<f64, L>, columns: &[usize]) -> Result<(), Invalid>
    where
        L: Label + ClassLabel,
    {
        // A right child waits on the stack, with its parent, until the left subtree is planted.
        let mut waiting = vec![(tree.root_node(), None)];
        while let Some((node, parent)) = waiting.pop() {
            let at = self.nodes.len();
            if let Some(parent) = parent.and_then(|parent: usize| self.nodes.get_mut(parent)) {
                parent.set_right(number(at)?);
            }
            if let Some(label) = node.prediction() {
                let class = self.classes.binary_search(&label.to_class());
                self.nodes.push(Node::leaf(number(class.unwrap_or_else(|missing| missing))?));
                continue;
            }
            let (feature, threshold, _) = node.split();
            let Some(&column) = columns.get(feature) else {
                return Err(refuse("a tree reads a feature that there is not"));
            };
            self.nodes.push(Node::split(number(column)?, threshold, 0));
            match node.children().as_slice() {
                [Some(left), Some(right)] => waiting.extend([(&**right, Some(at)), (&**left, None)]),
                _ => return Err(refuse("an inner node has not two children")),
            }
        }
        Ok(())
    }
}

fn number(number: usize) -> Result<u32, Invalid> {
    u32::try_from(number).map_err(|err| refuse(&format!("it is too large: {err}")))
}

fn refuse(message: &str) -> Invalid {
    Invalid::new(format!("the linfa model cannot be stored: {message}"))
}
