//! A network as an ONNX file holds it: operators by name, values by name, constants.
//!
//! [`Model::load`] reads a file, with weights beside it where it has such, and puts the file's own functions in the
//! place of their calls. Nothing is said here about what an operator means: see [`super::float`].

mod proto;
mod reader;

use super::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most bytes of a model file; weights beside it are bounded by the tensors' bound.
pub const MAX_FILE: u64 = 1 << 28;

/// Most nodes of a network, after the file's own functions have been put in.
pub const MAX_NODES: usize = 1 << 17;

/// A network read from a file.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the file computes.
    pub graph: Graph,
    /// Version of the operator set that the file is written in.
    pub opset: i64,
    /// The program that wrote the file, for people.
    pub producer: String,
}

/// Nodes between inputs and outputs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Values that come from outside; constants are not among them.
    pub inputs: Vec<Input>,
    /// Names of the values that are results.
    pub outputs: Vec<String>,
    /// Operators, each after those whose results it reads.
    pub nodes: Vec<Node>,
    /// Values that the file gives.
    pub constants: BTreeMap<String, Arc<Tensor>>,
}

/// A value from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Length of every axis, if the file says how many there are.
    pub shape: Option<Vec<Dim>>,
}

/// What the elements of an input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any float type.
    Float,
    /// Any integer type.
    Int,
    /// Truth values.
    Bool,
    /// Something that no network here can take.
    Other,
}

/// Length of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// The file fixes it.
    Fixed(usize),
    /// The caller chooses it; the name that the file gives it may be empty.
    Free(String),
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique, for people.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Operator set, empty for ONNX's own.
    pub domain: String,
    /// Names of the values that it takes; an empty name is an optional one left out.
    pub inputs: Vec<String>,
    /// Names of the values that it gives; empty as above.
    pub outputs: Vec<String>,
    /// Parameters.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A parameter of an operator.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// A number.
    Float(f32),
    /// A whole number.
    Int(i64),
    /// A word.
    String(String),
    /// A constant.
    Tensor(Arc<Tensor>),
    /// A branch or a body, which may read values of the graph around it.
    Graph(Box<Graph>),
    /// Numbers.
    Floats(Vec<f32>),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Words.
    Strings(Vec<String>),
}

impl Node {
    /// The graphs inside of the node.
    pub fn graphs(&self) -> impl Iterator<Item = &Graph> {
        self.attributes.values().filter_map(|a| match a {
            Attribute::Graph(g) => Some(&**g),
            _ => None,
        })
    }

    /// Names of all values that the node reads, those read by graphs inside of it among them.
    pub fn reads(&self) -> BTreeSet<&str> {
        let own = self.inputs.iter().map(String::as_str).filter(|n| !n.is_empty());
        own.chain(self.graphs().flat_map(Graph::captures)).collect()
    }
}

impl Graph {
    /// Names of the values of the graph around it that a graph inside of a node reads.
    pub fn captures(&self) -> BTreeSet<&str> {
        let mut known: BTreeSet<&str> = self.inputs.iter().map(|i| i.name.as_str()).collect();
        known.extend(self.constants.keys().map(String::as_str));
        let mut out = BTreeSet::new();
        for node in &self.nodes {
            out.extend(node.reads().into_iter().filter(|n| !known.contains(n)));
            known.extend(node.outputs.iter().map(String::as_str));
        }
        out.extend(self.outputs.iter().map(String::as_str).filter(|n| !known.contains(n)));
        out
    }

    /// Calls `visit` with every node, those of graphs inside of nodes among them.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Node)) {
        for node in &self.nodes {
            visit(node);
            for graph in node.graphs() {
                graph.walk(visit);
            }
        }
    }
}
