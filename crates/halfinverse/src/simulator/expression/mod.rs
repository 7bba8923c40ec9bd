//! Expressions of task files: a text becomes a graph, the graph its derivatives, and both a list of operations.
//!
//! | step | file |
//! |---|---|
//! | text → nodes, or a [`Fault`] with its place | `parse` |
//! | equal nodes are one, constants are folded | `graph` |
//! | nodes → nodes of the derivatives | `derivative` |
//! | nodes → operations on W samples at a time | `program` |
//!
//! The crates exmex and fasteval were looked at first: exmex tells no places of its faults and evaluates one value at a
//! time, fasteval has no derivatives.

mod derivative;
mod function;
mod graph;
mod parse;
mod program;

pub(super) use function::{Binary, Unary};
pub(super) use graph::{Graph, NodeId};
pub(super) use parse::{Fault, Names, Parser, check_name, is_name};
pub(super) use program::Program;
