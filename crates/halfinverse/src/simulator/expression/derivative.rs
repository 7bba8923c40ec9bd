//! ∂/∂variable of every node of a graph, as nodes of the same graph: what a derivative shares with its function, or
//! with other derivatives, is evaluated once.

use super::function::{Binary, Unary};
use super::graph::{Graph, Node, NodeId};

impl Graph {
    /// The derivatives of the first `count` nodes.
    pub(in crate::simulator) fn derivatives(&mut self, variable: usize, count: usize) -> Vec<NodeId> {
        let (zero, one) = (self.constant(0.0), self.constant(1.0));
        let mut all = vec![zero; count];
        for id in 0..count {
            all[id] = match self.nodes()[id] {
                Node::Constant(_) => zero,
                Node::Variable(index) => [zero, one][usize::from(index == variable)],
                Node::Unary(_, a) | Node::Power(a, _) if all[a] == zero => zero,
                Node::Binary(_, a, b) if all[a] == zero && all[b] == zero => zero,
                Node::Unary(function, a) => {
                    let slope = self.slope(function, a, id);
                    self.binary(Binary::Mul, slope, all[a])
                }
                Node::Power(a, n) => {
                    let (factor, power) = (self.constant(f64::from(n)), self.power(a, n - 1));
                    let slope = self.binary(Binary::Mul, factor, power);
                    self.binary(Binary::Mul, slope, all[a])
                }
                Node::Binary(function, a, b) => self.chain(function, [a, b], [all[a], all[b]], id),
            };
        }
        all
    }

    /// f′(a), where `id` is f(a).
    fn slope(&mut self, function: Unary, a: NodeId, id: NodeId) -> NodeId {
        let one = self.constant(1.0);
        match function {
            Unary::Neg => self.constant(-1.0),
            Unary::Sin => self.unary(Unary::Cos, a),
            Unary::Cos => {
                let sine = self.unary(Unary::Sin, a);
                self.unary(Unary::Neg, sine)
            }
            Unary::Tan => {
                let square = self.power(id, 2);
                self.binary(Binary::Add, one, square)
            }
            Unary::Asin | Unary::Acos => {
                let square = self.power(a, 2);
                let rest = self.binary(Binary::Sub, one, square);
                let root = self.unary(Unary::Sqrt, rest);
                let sign = self.constant(if function == Unary::Asin { 1.0 } else { -1.0 });
                self.binary(Binary::Div, sign, root)
            }
            Unary::Atan => {
                let square = self.power(a, 2);
                let sum = self.binary(Binary::Add, one, square);
                self.binary(Binary::Div, one, sum)
            }
            Unary::Sinh => self.unary(Unary::Cosh, a),
            Unary::Cosh => self.unary(Unary::Sinh, a),
            Unary::Tanh => {
                let square = self.power(id, 2);
                self.binary(Binary::Sub, one, square)
            }
            Unary::Exp => id,
            Unary::Ln => self.binary(Binary::Div, one, a),
            Unary::Log10 => {
                let factor = self.constant(std::f64::consts::LOG10_E);
                self.binary(Binary::Div, factor, a)
            }
            Unary::Sqrt => {
                let half = self.constant(0.5);
                self.binary(Binary::Div, half, id)
            }
            Unary::Abs => self.unary(Unary::Sign, a),
            Unary::Sign => self.constant(0.0),
        }
    }

    /// The derivative of f(a, b), where `id` is f(a, b), from those of a and b.
    fn chain(&mut self, function: Binary, [a, b]: [NodeId; 2], [da, db]: [NodeId; 2], id: NodeId) -> NodeId {
        match function {
            Binary::Add | Binary::Sub => self.binary(function, da, db),
            Binary::Mul => {
                let (left, right) = (self.binary(Binary::Mul, da, b), self.binary(Binary::Mul, a, db));
                self.binary(Binary::Add, left, right)
            }
            Binary::Div => {
                let part = self.binary(Binary::Mul, id, db);
                let difference = self.binary(Binary::Sub, da, part);
                self.binary(Binary::Div, difference, b)
            }
            Binary::Pow => self.chain_of_power([a, b], [da, db], id),
            Binary::Min | Binary::Max => {
                let (low, high) = if function == Binary::Min { (a, b) } else { (b, a) };
                let first = self.binary(Binary::AtMost, low, high);
                let one = self.constant(1.0);
                let second = self.binary(Binary::Sub, one, first);
                let (left, right) =
                    (self.binary(Binary::Mul, first, da), self.binary(Binary::Mul, second, db));
                self.binary(Binary::Add, left, right)
            }
            Binary::Atan2 => {
                let (left, right) = (self.binary(Binary::Mul, b, da), self.binary(Binary::Mul, a, db));
                let difference = self.binary(Binary::Sub, left, right);
                let (first, second) = (self.power(a, 2), self.power(b, 2));
                let squares = self.binary(Binary::Add, first, second);
                self.binary(Binary::Div, difference, squares)
            }
            Binary::AtMost => self.constant(0.0),
        }
    }

    /// b·aᵇ⁻¹·da + aᵇ·ln a·db: no logarithm where only the base varies.
    fn chain_of_power(&mut self, [a, b]: [NodeId; 2], [da, db]: [NodeId; 2], id: NodeId) -> NodeId {
        let one = self.constant(1.0);
        let less = self.binary(Binary::Sub, b, one);
        let power = self.binary(Binary::Pow, a, less);
        let slope = self.binary(Binary::Mul, b, power);
        let of_base = self.binary(Binary::Mul, slope, da);
        if self.value(db) == Some(0.0) {
            return of_base;
        }
        let logarithm = self.unary(Unary::Ln, a);
        let slope = self.binary(Binary::Mul, id, logarithm);
        let of_exponent = self.binary(Binary::Mul, slope, db);
        self.binary(Binary::Add, of_base, of_exponent)
    }
}
