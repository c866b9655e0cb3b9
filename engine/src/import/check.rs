//! What of a network cannot be imported: all of it at once.

use super::float;
use super::onnx::{Attribute, Graph, Model, Node};
use super::tensor::{Data, Tensor};
use std::fmt;

/// A node or constant that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The node's name, or the constant's.
    pub place: String,
    /// The node's operator; empty for a constant.
    pub op: String,
    /// Why, and what to do.
    pub what: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.op.is_empty() {
            write!(f, "constant '{}': {}", self.place, self.what)
        } else {
            write!(f, "node '{}' ({}): {}", self.place, self.op, self.what)
        }
    }
}

/// All nodes and constants that cannot be imported, in the order of the file.
pub fn refusals(model: &Model) -> Vec<Refusal> {
    let mut out = Vec::new();
    constants(&model.graph, &mut out);
    model.graph.walk(&mut |node| {
        let what = if node.domain.is_empty() { node_refusals(node) } else { vec![foreign(node)] };
        out.extend(what.into_iter().map(|what| Refusal { place: node.name.clone(), op: node.op.clone(), what }));
        for graph in node.graphs() {
            constants(graph, &mut out);
        }
    });
    out
}

fn foreign(node: &Node) -> String {
    format!("operators of '{}' are not known; export with ONNX's own operators only", node.domain)
}

/// Weights have to be numbers. Single constants may be infinite: bounds that do not bind are written so.
fn constants(graph: &Graph, out: &mut Vec<Refusal>) {
    for (name, value) in &graph.constants {
        if let Some(what) = not_finite(value) {
            out.push(Refusal { place: name.clone(), op: String::new(), what });
        }
    }
}

fn not_finite(value: &Tensor) -> Option<String> {
    let Data::Float(v) = value.data() else { return None };
    let i = v.iter().position(|x| x.is_nan() || (x.is_infinite() && v.len() > 1))?;
    Some(format!("element {i} is {}; the network was not trained to an end, or was saved badly", v[i]))
}

pub(super) fn node_refusals(node: &Node) -> Vec<String> {
    if !float::knows(node) {
        return vec![
            "this operator is not known; rewrite this part of the network, or cut the network before it".into(),
        ];
    }
    match node.op.as_str() {
        "LSTM" | "GRU" | "RNN" => recurrent(node),
        _ => Vec::new(),
    }
}

/// What ONNX lets a recurrent layer have and no exporter of a training framework writes.
fn recurrent(node: &Node) -> Vec<String> {
    let given = |i: usize| node.inputs.get(i).is_some_and(|n| !n.is_empty());
    let number = |name: &str| match node.attributes.get(name) {
        Some(Attribute::Int(i)) => *i as f32,
        Some(Attribute::Float(f)) => *f,
        _ => 0.0,
    };
    let mut out = Vec::new();
    if node.op == "LSTM" && given(7) {
        out.push("peepholes (input P) are not computed; train the layer without them".into());
    }
    if number("clip") > 0.0 {
        out.push("clipped gates (attribute clip) are not computed; export the layer without clip".into());
    }
    if node.op == "LSTM" && number("input_forget") != 0.0 {
        out.push("coupled gates (attribute input_forget) are not computed; train the layer without them".into());
    }
    if given(4) {
        out.push(
            "lengths inside of the file (input sequence_lens) are not computed; export the layer without them and give \
             the lengths of the items with --lengths"
                .into(),
        );
    }
    out
}
