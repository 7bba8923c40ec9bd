//! Expressions as a graph: an arena of nodes in which equal subexpressions are one node and constants are folded.
//!
//! A node stands behind all that it is made of, so a pass from the first to the last sees operands before results.

use std::collections::HashMap;

use super::function::{Binary, Unary, power};

/// A node's place in the arena.
pub(in crate::simulator) type NodeId = usize;

/// One operation. Constants are compared by their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Constant(u64),
    Variable(usize),
    Unary(Unary, NodeId),
    Binary(Binary, NodeId, NodeId),
    Power(NodeId, i32),
}

/// Whole exponents up to this size become multiplications.
const MOST_MULTIPLIED: f64 = 64.0;

#[derive(Debug, Clone, Default)]
pub(in crate::simulator) struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Node, NodeId>,
}

impl Graph {
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn put(&mut self, node: Node) -> NodeId {
        *self.known.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    pub(in crate::simulator) fn constant(&mut self, value: f64) -> NodeId {
        // −0 and 0 are one constant.
        self.put(Node::Constant(if value == 0.0 { 0 } else { value.to_bits() }))
    }

    pub(in crate::simulator) fn variable(&mut self, index: usize) -> NodeId {
        self.put(Node::Variable(index))
    }

    /// The value of a constant.
    pub(in crate::simulator) fn value(&self, id: NodeId) -> Option<f64> {
        match self.nodes[id] {
            Node::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Which variable it is, where it is no more than one.
    pub(in crate::simulator) fn as_variable(&self, id: NodeId) -> Option<usize> {
        match self.nodes[id] {
            Node::Variable(index) => Some(index),
            _ => None,
        }
    }

    /// The nodes of all variables that the given nodes are made of.
    pub(in crate::simulator) fn variables_of(&self, ids: &[NodeId]) -> Vec<NodeId> {
        let needed = self.needed(ids);
        let is_variable = |&id: &NodeId| needed[id] && self.as_variable(id).is_some();
        (0..self.nodes.len()).filter(is_variable).collect()
    }

    /// Which nodes the given ones are made of, themselves included.
    pub(super) fn needed(&self, ids: &[NodeId]) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        for &id in ids {
            needed[id] = true;
        }
        for id in (0..self.nodes.len()).rev() {
            match self.nodes[id] {
                _ if !needed[id] => {}
                Node::Unary(_, a) | Node::Power(a, _) => needed[a] = true,
                Node::Binary(_, a, b) => (needed[a], needed[b]) = (true, true),
                Node::Constant(_) | Node::Variable(_) => {}
            }
        }
        needed
    }

    fn negated(&self, id: NodeId) -> Option<NodeId> {
        match self.nodes[id] {
            Node::Unary(Unary::Neg, a) => Some(a),
            _ => None,
        }
    }

    pub(in crate::simulator) fn unary(&mut self, function: Unary, a: NodeId) -> NodeId {
        if let Some(value) = self.value(a) {
            return self.constant(function.of(value));
        }
        match (function, self.negated(a)) {
            (Unary::Neg, Some(inner)) => inner,
            _ => self.put(Node::Unary(function, a)),
        }
    }

    pub(in crate::simulator) fn binary(&mut self, function: Binary, a: NodeId, b: NodeId) -> NodeId {
        let (left, right) = (self.value(a), self.value(b));
        if let (Some(left), Some(right)) = (left, right) {
            return self.constant(function.of(left, right));
        }
        match (function, left, right) {
            (Binary::Add, ..) => self.sum(a, b),
            (Binary::Sub, ..) => self.difference(a, b),
            (Binary::Mul, ..) => self.product(a, b),
            (Binary::Div, Some(0.0), _) | (Binary::Div, _, Some(1.0)) => a,
            (Binary::Pow, _, Some(n)) if n.fract() == 0.0 && n.abs() <= MOST_MULTIPLIED =>
            {
                #[allow(clippy::cast_possible_truncation, reason = "a small whole number")]
                self.power(a, n as i32)
            }
            _ => self.put(Node::Binary(function, a, b)),
        }
    }

    pub(in crate::simulator) fn power(&mut self, a: NodeId, n: i32) -> NodeId {
        match (self.value(a), n) {
            (_, 0) => self.constant(1.0),
            (_, 1) => a,
            (Some(value), _) => self.constant(power(value, n)),
            _ => self.put(Node::Power(a, n)),
        }
    }

    fn sum(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.value(a), self.value(b), self.negated(a), self.negated(b)) {
            (Some(0.0), ..) => b,
            (_, Some(0.0), ..) => a,
            (_, _, _, Some(b)) => self.difference(a, b),
            (_, _, Some(a), _) => self.difference(b, a),
            _ if a == b => {
                let two = self.constant(2.0);
                self.product(two, a)
            }
            _ => self.put(Node::Binary(Binary::Add, a.min(b), a.max(b))),
        }
    }

    fn difference(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.value(a), self.value(b), self.negated(b)) {
            (_, Some(0.0), _) => a,
            (Some(0.0), ..) => self.unary(Unary::Neg, b),
            (.., Some(b)) => self.sum(a, b),
            _ if a == b => self.constant(0.0),
            _ => self.put(Node::Binary(Binary::Sub, a, b)),
        }
    }

    fn product(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.negated(a), self.negated(b)) {
            (Some(a), Some(b)) => return self.product(a, b),
            (Some(positive), None) => return self.opposite_of_product(positive, b),
            (None, Some(positive)) => return self.opposite_of_product(a, positive),
            (None, None) => {}
        }
        // A constant stands in front.
        let (a, b) = if self.value(b).is_some() { (b, a) } else { (a, b) };
        let Some(factor) = self.value(a) else {
            return if a == b {
                self.power(a, 2)
            } else {
                self.put(Node::Binary(Binary::Mul, a.min(b), a.max(b)))
            };
        };
        match (factor, self.nodes[b]) {
            (0.0, _) => a,
            (1.0, _) => b,
            (-1.0, _) => self.unary(Unary::Neg, b),
            (_, Node::Binary(Binary::Mul, inner, rest)) if self.value(inner).is_some() => {
                let both = self.binary(Binary::Mul, a, inner);
                self.product(both, rest)
            }
            _ => self.put(Node::Binary(Binary::Mul, a, b)),
        }
    }

    fn opposite_of_product(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let product = self.binary(Binary::Mul, a, b);
        self.unary(Unary::Neg, product)
    }
}
