//! Functions of state, control and time, compiled, with their partial derivatives by state and control.

use std::ops::Range;

use super::super::expression::{Graph, NodeId, Program};
use crate::simulator::lanes::add_scaled;

/// A partial derivative that is not 0 everywhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Which function.
    pub(super) row: usize,
    /// By which component: states first, then controls.
    pub(super) column: usize,
    value: Coefficient,
}

#[derive(Debug, Clone, Copy)]
enum Coefficient {
    Fixed(f64),
    /// Its place among the values that change from point to point.
    Recorded(usize),
}

impl Entry {
    /// Its value in one sample.
    #[inline(always)]
    pub(super) fn value<const W: usize>(&self, record: &[[f64; W]], lane: usize) -> f64 {
        match self.value {
            Coefficient::Fixed(value) => value,
            Coefficient::Recorded(place) => record[place][lane],
        }
    }

    /// sum ← sum + value·factor.
    #[inline(always)]
    fn add_to<const W: usize>(&self, sum: &mut [f64; W], record: &[[f64; W]], factor: &[f64; W]) {
        match self.value {
            Coefficient::Fixed(value) => add_scaled(sum, value, factor),
            Coefficient::Recorded(place) => {
                let value = &record[place];
                for l in 0..W {
                    sum[l] += value[l] * factor[l];
                }
            }
        }
    }
}

/// The sparse matrix of the partial derivatives.
#[derive(Debug, Clone)]
pub(super) struct Partials {
    by_row: Vec<Vec<Entry>>,
    by_column: Vec<Vec<Entry>>,
    recorded: usize,
}

impl Partials {
    /// How many different values change from point to point.
    pub(super) fn recorded(&self) -> usize {
        self.recorded
    }

    pub(super) fn row(&self, row: usize) -> &[Entry] {
        &self.by_row[row]
    }

    /// out ← the matrix times a vector of state and control.
    #[inline(always)]
    pub(super) fn apply<const W: usize>(
        &self,
        record: &[[f64; W]],
        vector: &[[f64; W]],
        out: &mut [[f64; W]],
    ) {
        for (entries, out) in self.by_row.iter().zip(out) {
            *out = [0.0; W];
            for entry in entries {
                entry.add_to(out, record, &vector[entry.column]);
            }
        }
    }

    /// out ← out + some rows of the transpose, which are columns of the matrix, times a vector of functions.
    #[inline(always)]
    pub(super) fn add_transpose<const W: usize>(
        &self,
        columns: Range<usize>,
        record: &[[f64; W]],
        vector: &[[f64; W]],
        out: &mut [[f64; W]],
    ) {
        for (entries, out) in self.by_column[columns].iter().zip(out) {
            for entry in entries {
                entry.add_to(out, record, &vector[entry.row]);
            }
        }
    }
}

/// The functions of a system of equations, or those that are observed.
#[derive(Debug, Clone)]
pub(super) struct Formulas {
    values: Program,
    with_partials: Program,
    partials: Partials,
    /// Where the time stands: behind states and controls.
    time: usize,
}

impl Formulas {
    /// Functions of the variables 0 to `variables` − 1, states before controls, and of the time, which is the next one.
    pub(super) fn new(graph: &mut Graph, functions: &[NodeId], variables: usize) -> Self {
        let values = Program::new(graph, functions, variables + 1);
        let count = functions.iter().max().map_or(0, |last| last + 1);
        let mut partials = Partials {
            by_row: vec![Vec::new(); functions.len()],
            by_column: vec![Vec::new(); variables],
            recorded: 0,
        };
        let mut recorded: Vec<NodeId> = Vec::new();
        for column in 0..variables {
            let derivatives = graph.derivatives(column, count);
            for (row, &function) in functions.iter().enumerate() {
                let id = derivatives[function];
                let value = match graph.value(id) {
                    Some(0.0) => continue,
                    Some(value) => Coefficient::Fixed(value),
                    None => Coefficient::Recorded(
                        recorded.iter().position(|&known| known == id).unwrap_or_else(|| {
                            recorded.push(id);
                            recorded.len() - 1
                        }),
                    ),
                };
                let entry = Entry { row, column, value };
                partials.by_row[row].push(entry);
                partials.by_column[column].push(entry);
            }
        }
        partials.recorded = recorded.len();
        let with_partials = Program::new(graph, &[functions, &recorded].concat(), variables + 1);
        Self { values, with_partials, partials, time: variables }
    }

    pub(super) fn count(&self) -> usize {
        self.values.outputs().len()
    }

    pub(super) fn partials(&self) -> &Partials {
        &self.partials
    }

    /// Room for evaluations, with or without partial derivatives; state and control stand in front.
    pub(super) fn slots<const W: usize>(&self, derive: bool) -> Vec<[f64; W]> {
        if derive { self.with_partials.slots() } else { self.values.slots() }
    }

    /// The functions at the state and control in `slots`, which are for the same choice of `derive`; with it their
    /// partial derivatives too.
    #[inline(always)]
    pub(super) fn evaluate<const W: usize>(
        &self,
        derive: bool,
        t: f64,
        slots: &mut [[f64; W]],
        out: &mut [[f64; W]],
        partials: &mut [[f64; W]],
    ) {
        slots[self.time] = [t; W];
        let program = if derive { &self.with_partials } else { &self.values };
        program.run(slots);
        let (values, derivatives) = program.outputs().split_at(out.len());
        for (out, &slot) in out.iter_mut().zip(values) {
            *out = slots[slot];
        }
        for (out, &slot) in partials.iter_mut().zip(derivatives) {
            *out = slots[slot];
        }
    }
}
