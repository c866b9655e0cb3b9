//! Graphs from code: every call adds a node and returns the name of its value.

use super::ops::scan::{Scan, State, Steps, Yield};
use super::{Dim, Graph, Input, Node, Number, Op, Output, Reveal};

/// Collects the nodes of a graph, or of the body of a loop.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
}

impl Builder {
    /// No nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation that computes numbers of format `out`.
    pub fn compute(&mut self, name: &str, op: impl Into<Op>, ins: &[&str], out: Number) -> String {
        self.push(name, op.into(), ins, Some(out))
    }

    /// Adds an operation that keeps its operand's format.
    pub fn arrange(&mut self, name: &str, op: impl Into<Op>, ins: &[&str]) -> String {
        self.push(name, op.into(), ins, None)
    }

    fn push(&mut self, name: &str, op: Op, ins: &[&str], out: Option<Number>) -> String {
        let ins = ins.iter().map(|i| i.to_string()).collect();
        self.nodes.push(Node { name: name.into(), op, ins, out });
        name.into()
    }

    /// The nodes so far: the body of a loop.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// Adds a loop over the first axis of `ins`, whose entries the body calls `slices`. Its results are called `name.result`.
    pub fn scan(&mut self, name: &str, ins: &[&str], body: Body) -> String {
        let Body { reverse, slices, states, yields, nodes } = body;
        self.arrange(name, Scan { reverse, slices, states, body: nodes.into_nodes(), yields }, ins)
    }

    /// The graph.
    pub fn finish(self, steps: usize, inputs: Vec<Input>, outputs: Vec<Output>) -> Graph {
        Graph { steps, inputs, nodes: self.nodes, outputs, fits: Vec::new() }
    }
}

/// The body of a loop under construction.
#[derive(Debug, Default)]
pub struct Body {
    /// From the last entry to the first.
    pub reverse: bool,
    /// Names of the operands' entries.
    pub slices: Vec<String>,
    /// States.
    pub states: Vec<State>,
    /// Results.
    pub yields: Vec<Yield>,
    /// The nodes.
    pub nodes: Builder,
}

impl Body {
    /// A state that starts with zeros.
    pub fn state(&mut self, name: &str, next: &str, shape: &[usize], number: Number) {
        let (name, next, shape) = (name.into(), next.into(), shape.to_vec());
        self.states.push(State { name, next, shape, number, init: 0, from: None });
    }

    /// Hands out a value of the body.
    pub fn hand_out(&mut self, name: &str, value: &str, steps: Steps) {
        self.yields.push(Yield { name: name.into(), value: value.into(), steps });
    }
}

/// An input `[steps, features..]`.
pub fn series(name: &str, features: &[usize], number: Number) -> Input {
    let shape = [Dim::Steps].into_iter().chain(features.iter().map(|&n| Dim::Size(n))).collect();
    Input { name: name.into(), shape, number }
}

/// An input of a fixed shape.
pub fn fixed(name: &str, shape: &[usize], number: Number) -> Input {
    Input { name: name.into(), shape: shape.iter().map(|&n| Dim::Size(n)).collect(), number }
}

/// An output.
pub fn output(name: &str, value: &str, reveal: Reveal) -> Output {
    Output { name: name.into(), value: value.into(), reveal, labels: Vec::new() }
}
