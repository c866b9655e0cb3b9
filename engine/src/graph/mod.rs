//! What a network is: a graph of integer operations with one definition each.
//!
//! A [`Graph`] is a list of nodes in topological order. A value is a tensor of integers; the batch is an implicit leading
//! axis of every value, time is an ordinary axis. A value declares `bits` and `scale` (`real = integer / 2^scale`).
//! The definition of an operation is its `clear` function on integers: exact, no floats ([`ops`]). Everything
//! else refers to it: the evaluator ([`evaluate`]), the model file, the compiler to two-party programs, the importer, the
//! fuzz targets.
//!
//! | module | content |
//! |---|---|
//! | [`ops`] | one file per operation: parameters, shape rule, bounds, `clear`, the weights it needs |
//! | [`infer`](mod@infer) | names to values, shapes and number formats; refuses what makes no sense, naming the node |
//! | [`evaluate`] | the cleartext evaluator: the definition of correct |
//! | [`cells`] | FastGRNN, FastRNN, LSTM, GRU and plain RNN as bodies of loops, by one call each |
//! | [`builder`] | graphs from code |
//!
//! A graph is instantiated for a number of time steps: [`Dim::Steps`] in the shape of an input stands for it.

pub mod builder;
pub mod cells;
pub mod evaluate;
pub mod infer;
pub mod ops;
pub mod rescale;
pub mod tensor;

pub use evaluate::{Weights, evaluate};
pub use infer::{Typed, TypedNode, ValueId};
pub use ops::{Op, Operation};
pub use rescale::Rescale;
pub use tensor::Tensor;

use crate::program::signed;
use serde::{Deserialize, Serialize};

/// Nodes of a graph, bodies of loops included.
pub const MAX_NODES: usize = 4096;
/// Elements of a value of one item, and of a tensor of weights.
pub const MAX_ELEMENTS: u64 = 1 << 26;
/// Axes of a value.
pub const MAX_RANK: usize = 8;
/// Time steps.
pub const MAX_STEPS: usize = 1 << 16;
/// Width of a value.
pub const MAX_BITS: u32 = 63;
/// Bytes of a name.
pub const MAX_NAME: usize = 128;

/// Format of a value's integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// Width; two's complement unless `unsigned`.
    pub bits: u32,
    /// `real = integer / 2^scale`.
    #[serde(default)]
    pub scale: i32,
    /// Whether the integers are not negative and use all bits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
}

impl Number {
    /// A signed number.
    pub fn new(bits: u32, scale: i32) -> Self {
        Self { bits, scale, unsigned: false }
    }

    /// Smallest and largest integer.
    pub fn range(&self) -> (i128, i128) {
        if self.unsigned { (0, (1 << self.bits) - 1) } else { signed(self.bits) }
    }

    /// The integer of the range that is congruent to `x` modulo `2^bits`.
    pub fn wrap(&self, x: i128) -> i128 {
        crate::fixed::wrap(x, self.bits, !self.unsigned)
    }
}

/// Type of a value of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// Sizes of the axes; none for a scalar.
    pub shape: Vec<usize>,
    /// Format of the integers.
    pub number: Number,
    /// Whether the first axis is the request's time axis: one entry per time step, step `t` depending on nothing but
    /// the item's own steps. Only of such values is the part behind an item's own length known to be padding.
    pub timed: bool,
}

impl ValueType {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Size of an axis of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Size(usize),
    /// The number of time steps of the request. Only the first axis.
    Steps,
}

/// A value that the client brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Name of the value.
    pub name: String,
    /// Shape of one item.
    pub shape: Vec<Dim>,
    /// Format of the integers.
    pub number: Number,
}

/// One operation of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name of the node and of its result; where it has several, `name.0`, `name.1`, or what a loop calls them.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Names of the operands.
    pub ins: Vec<String>,
    /// Format of the result, for operations that compute numbers; those that move values keep their operand's.
    pub out: Option<Number>,
}

/// The fields that all nodes have, as the model file writes them.
mod fields {
    pub(super) const NAME: &str = "name";
    pub(super) const OP: &str = "op";
    pub(super) const INS: &str = "in";
    pub(super) const OUT: &str = "out";
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut table = toml::Table::deserialize(deserializer)?;
        let mut text = |field: &str| match table.remove(field) {
            Some(toml::Value::String(text)) => Ok(text),
            Some(_) => Err(D::Error::custom(format!("a node's '{field}' is a text"))),
            None => Err(D::Error::custom(format!("a node without '{field}'"))),
        };
        let (name, op) = (text(fields::NAME)?, text(fields::OP)?);
        let at = |what: String| D::Error::custom(format!("node '{}': {what}", shown(&name)));
        let mut take = |field: &str| table.remove(field);
        let ins = take(fields::INS).map_or(Ok(Vec::new()), |v| v.try_into());
        let ins = ins.map_err(|_| at(format!("'{}' is a list of names", fields::INS)))?;
        let out = take(fields::OUT).map(|v| v.try_into()).transpose();
        let out = out.map_err(|e: toml::de::Error| at(format!("{}: {}", fields::OUT, e.message())))?;
        let op = Op::from_fields(&op, table).map_err(at)?;
        Ok(Node { name, op, ins, out })
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let mut table = toml::Table::new();
        table.insert(fields::NAME.into(), self.name.clone().into());
        table.insert(fields::OP.into(), self.op.name().into());
        table.insert(fields::INS.into(), self.ins.clone().into());
        table.extend(self.op.to_fields().map_err(S::Error::custom)?);
        if let Some(out) = self.out {
            table.insert(fields::OUT.into(), toml::Value::try_from(out).map_err(S::Error::custom)?);
        }
        table.serialize(serializer)
    }
}

/// A name of a file or a peer, short enough for a line.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).filter(|c| !c.is_control()).collect()
}

/// What of an output is revealed to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reveal {
    /// The values.
    Values,
    /// The values, and the index of the largest along the last axis.
    Scores,
    /// The index of the largest along the last axis alone.
    Class,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name, unique among outputs.
    pub name: String,
    /// The value.
    pub value: String,
    /// What is revealed of it.
    pub reveal: Reveal,
    /// Names of the classes along the last axis; empty for none.
    pub labels: Vec<String>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Graph {
    /// The most time steps that a request may have; 0 where no input has a time axis. Proofs that a state cannot wrap
    /// hold for as many.
    pub steps: usize,
    /// What the client brings.
    pub inputs: Vec<Input>,
    /// Operations, each after what it reads.
    pub nodes: Vec<Node>,
    /// Results.
    pub outputs: Vec<Output>,
    /// Names of values that never leave their declared width, for no input: facts about the weights, which the server
    /// proves when it loads them and adds. They save the comparison that a wrap costs.
    pub fits: Vec<String>,
}

/// A graph that makes no sense: where, and why. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct GraphError {
    /// Node, input or output.
    pub place: String,
    /// The reason.
    pub what: String,
}

impl GraphError {
    /// An error at `place`.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}
