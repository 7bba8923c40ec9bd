//! A graph's nodes as a list of operations, evaluated for W samples at a time.
//!
//! Every value has a slot: first the variables, then the constants, then the results, in the order in which they are
//! computed. An operation reads slots in front of its own.

use super::function::{Binary, Unary, power};
use super::graph::{Graph, Node, NodeId};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Unary(Unary, usize),
    Binary(Binary, usize, usize),
    Power(usize, i32),
}

#[derive(Debug, Clone)]
pub(in crate::simulator) struct Program {
    variables: usize,
    constants: Vec<f64>,
    operations: Vec<Operation>,
    outputs: Vec<usize>,
}

impl Program {
    /// What the outputs need, and nothing else.
    pub(in crate::simulator) fn new(graph: &Graph, outputs: &[NodeId], variables: usize) -> Self {
        let nodes = graph.nodes();
        let needed = graph.needed(outputs);
        let mut slots = vec![0; nodes.len()];
        let mut constants = Vec::new();
        for id in (0..nodes.len()).filter(|&id| needed[id]) {
            match nodes[id] {
                Node::Variable(index) => slots[id] = index,
                Node::Constant(bits) => {
                    slots[id] = variables + constants.len();
                    constants.push(f64::from_bits(bits));
                }
                _ => {}
            }
        }
        let first = variables + constants.len();
        let mut operations = Vec::new();
        for id in (0..nodes.len()).filter(|&id| needed[id]) {
            let operation = match nodes[id] {
                Node::Unary(function, a) => Operation::Unary(function, slots[a]),
                Node::Power(a, n) => Operation::Power(slots[a], n),
                Node::Binary(function, a, b) => Operation::Binary(function, slots[a], slots[b]),
                Node::Constant(_) | Node::Variable(_) => continue,
            };
            slots[id] = first + operations.len();
            operations.push(operation);
        }
        Self { variables, constants, operations, outputs: outputs.iter().map(|&id| slots[id]).collect() }
    }

    /// Room for the slots, with the constants in place.
    pub(in crate::simulator) fn slots<const W: usize>(&self) -> Vec<[f64; W]> {
        let mut slots = vec![[0.0; W]; self.variables + self.constants.len() + self.operations.len()];
        for (slot, &constant) in slots[self.variables..].iter_mut().zip(&self.constants) {
            *slot = [constant; W];
        }
        slots
    }

    /// Fills the slots from the variables, which stand in the first of them.
    #[inline(always)]
    pub(in crate::simulator) fn run<const W: usize>(&self, slots: &mut [[f64; W]]) {
        let first = self.variables + self.constants.len();
        for (i, &operation) in self.operations.iter().enumerate() {
            let (before, rest) = slots.split_at_mut(first + i);
            let out = &mut rest[0];
            match operation {
                Operation::Unary(function, a) => unary(function, &before[a], out),
                Operation::Binary(function, a, b) => binary(function, &before[a], &before[b], out),
                Operation::Power(a, n) => raise(n, &before[a], out),
            }
        }
    }

    /// The outputs' slots.
    pub(in crate::simulator) fn outputs(&self) -> &[usize] {
        &self.outputs
    }
}

// Each of the frequent operations has a loop of its own, which becomes vector instructions.

#[inline(always)]
fn unary<const W: usize>(function: Unary, a: &[f64; W], out: &mut [f64; W]) {
    match function {
        Unary::Neg => each(a, out, |a| -a),
        Unary::Sqrt => each(a, out, f64::sqrt),
        Unary::Abs => each(a, out, f64::abs),
        _ => each(a, out, |a| function.of(a)),
    }
}

#[inline(always)]
fn binary<const W: usize>(function: Binary, a: &[f64; W], b: &[f64; W], out: &mut [f64; W]) {
    match function {
        Binary::Add => pairs(a, b, out, |a, b| a + b),
        Binary::Sub => pairs(a, b, out, |a, b| a - b),
        Binary::Mul => pairs(a, b, out, |a, b| a * b),
        Binary::Div => pairs(a, b, out, |a, b| a / b),
        _ => pairs(a, b, out, |a, b| function.of(a, b)),
    }
}

#[inline(always)]
fn raise<const W: usize>(n: i32, a: &[f64; W], out: &mut [f64; W]) {
    match n {
        2 => each(a, out, |a| a * a),
        3 => each(a, out, |a| a * a * a),
        _ => each(a, out, |a| power(a, n)),
    }
}

#[inline(always)]
fn each<const W: usize>(a: &[f64; W], out: &mut [f64; W], f: impl Fn(f64) -> f64) {
    for l in 0..W {
        out[l] = f(a[l]);
    }
}

#[inline(always)]
fn pairs<const W: usize>(a: &[f64; W], b: &[f64; W], out: &mut [f64; W], f: impl Fn(f64, f64) -> f64) {
    for l in 0..W {
        out[l] = f(a[l], b[l]);
    }
}
