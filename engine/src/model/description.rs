//! The public part of a model, `model.toml`: all that both parties know. Format 2, taught in `docs/models.md`.
//!
//! The client gets it from the server and takes it as untrusted: [`Description::parse`] bounds every number before
//! anything is computed or allocated from it, and no text makes it panic. Every error is one line that names the node,
//! or the line of the text.
//!
//! The text is the graph, with what repeats given once: widths and scales that a node leaves out come from `[default]`,
//! roundings from `rounding`. Three short forms make it easier to read: `in = "x"` for one operand, `rescale = 7` for a shift
//! alone, `weights = "W"` for a tensor of the default width. `abbreviation` knows them all, in both directions.

mod abbreviation;

use super::client::{Client, REAL, Stamp};
use super::{ModelError, require};
use crate::graph::infer::check_name;
use crate::graph::{Dim, Graph, GraphError, Input, Node, Number, Output, Reveal, Typed};
use crate::protocols::truncation::Rounding;
use abbreviation::Defaults;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use toml::{Table, Value};

/// Version of the format.
pub const FORMAT: i64 = 2;
/// Name of the file in a model directory.
pub const FILE: &str = "model.toml";
/// Bytes of a description's text.
pub const MAX_TEXT: usize = 1 << 19;
/// How the time axis of an input is written.
const STEPS: &str = "steps";

/// A model's public program.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Description {
    /// Name for reports.
    pub name: String,
    /// Of every rescale in the text that does not say.
    pub rounding: Rounding,
    /// The network.
    pub graph: Graph,
    /// What the client does in the clear.
    pub client: Client,
}

/// `[client]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFields {
    rate: Option<u32>,
    #[serde(default)]
    reals: bool,
    tensors: Option<Stamp>,
    #[serde(default)]
    item_axis: BTreeMap<String, i64>,
    before: Option<PartFields>,
    after: Option<PartFields>,
}

/// `[client.before]`, `[client.after]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFields {
    #[serde(default)]
    input: Vec<Table>,
    #[serde(default)]
    node: Vec<Table>,
    #[serde(default)]
    output: Vec<Table>,
}

/// `[[client.before.input]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RealInputFields {
    name: String,
    shape: Vec<Value>,
}

/// `[[client.before.output]]`, `[[client.after.output]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RealOutputFields {
    name: String,
    value: Option<String>,
}

/// How `item_axis` says that a file describes one item.
const NO_ITEM_AXIS: i64 = -1;

/// The text's top level.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: i64,
    name: String,
    #[serde(default)]
    steps: usize,
    #[serde(default)]
    rounding: Rounding,
    #[serde(default)]
    fits: Vec<String>,
    #[serde(default)]
    default: Defaults,
    #[serde(default)]
    client: ClientFields,
    #[serde(default)]
    input: Vec<Table>,
    #[serde(default)]
    node: Vec<Table>,
    #[serde(default)]
    output: Vec<Table>,
}

/// `[[input]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputFields {
    name: String,
    shape: Vec<Value>,
    bits: u32,
    #[serde(default)]
    scale: i32,
    #[serde(default)]
    unsigned: bool,
}

/// `[[output]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputFields {
    name: String,
    value: Option<String>,
    reveal: Reveal,
    #[serde(default)]
    labels: Vec<String>,
}

impl From<GraphError> for ModelError {
    fn from(e: GraphError) -> Self {
        Self::new(e.place, e.what)
    }
}

/// The error of the TOML library with the line that it is about.
fn in_text(text: &str, e: &toml::de::Error) -> ModelError {
    let before = |end: usize| text.as_bytes().iter().take(end).filter(|&&b| b == b'\n').count();
    let line = e.span().map_or(0, |s| before(s.start)) + 1;
    ModelError::new(format!("line {line}"), e.message())
}

/// `kind 'name'` for errors; entry `i` if it has no name.
fn place(kind: &str, table: &Table, i: usize) -> String {
    match table.get("name") {
        Some(Value::String(name)) => format!("{kind} '{}'", crate::graph::shown(name)),
        _ => format!("{kind} {i}"),
    }
}

/// Reads a table of some entry.
fn read<T: for<'de> Deserialize<'de>>(place: &str, table: Table) -> Result<T, ModelError> {
    table.try_into().map_err(|e: toml::de::Error| ModelError::new(place, e.message()))
}

fn input((i, table): (usize, Table)) -> Result<Input, ModelError> {
    let place = place("input", &table, i);
    let fields: InputFields = read(&place, table)?;
    let shape = shape(&place, &fields.shape)?;
    let number = Number { bits: fields.bits, scale: fields.scale, unsigned: fields.unsigned };
    Ok(Input { name: fields.name, shape, number })
}

fn shape(place: &str, values: &[Value]) -> Result<Vec<Dim>, ModelError> {
    let dim = |v: &Value| match v {
        Value::Integer(n) => usize::try_from(*n).ok().map(Dim::Size),
        Value::String(s) if s == STEPS => Some(Dim::Steps),
        _ => None,
    };
    let shape: Option<Vec<Dim>> = values.iter().map(dim).collect();
    shape.ok_or_else(|| ModelError::new(place, "a shape is a list of sizes, the first of them perhaps \"steps\""))
}

/// One of the client's parts: a graph on real numbers.
fn part(fields: PartFields, section: &str, rounding: Rounding, steps: usize) -> Result<Graph, ModelError> {
    let input = |(i, table): (usize, Table)| {
        let place = format!("{section}: {}", place("input", &table, i));
        let fields: RealInputFields = read(&place, table)?;
        Ok(Input { shape: shape(&place, &fields.shape)?, name: fields.name, number: REAL })
    };
    let output = |(i, table): (usize, Table)| {
        let place = format!("{section}: {}", place("output", &table, i));
        let RealOutputFields { name, value } = read(&place, table)?;
        Ok(Output { value: value.unwrap_or_else(|| name.clone()), name, reveal: Reveal::Values, labels: Vec::new() })
    };
    let inputs = fields.input.into_iter().enumerate().map(input).collect::<Result<Vec<Input>, ModelError>>()?;
    let node = |entry| node(entry, rounding, &Defaults::reals()).map_err(|e| e.inside(section));
    let timed = inputs.iter().any(|i| i.shape.contains(&Dim::Steps));
    Ok(Graph {
        steps: if timed { steps } else { 0 },
        inputs,
        nodes: fields.node.into_iter().enumerate().map(node).collect::<Result<_, _>>()?,
        outputs: fields.output.into_iter().enumerate().map(output).collect::<Result<Vec<_>, ModelError>>()?,
        fits: Vec::new(),
    })
}

fn client(fields: ClientFields, rounding: Rounding, steps: usize) -> Result<Client, ModelError> {
    let section = |fields: Option<PartFields>, name: &str| fields.map(|f| part(f, name, rounding, steps)).transpose();
    let (before, after) = (section(fields.before, "client.before")?, section(fields.after, "client.after")?);
    if after.as_ref().is_some_and(|after| !after.inputs.is_empty()) {
        return Err(ModelError::new("client.after", "its inputs are the network's outputs, and are not written"));
    }
    let axis = |(name, axis): (String, i64)| match axis {
        NO_ITEM_AXIS => Ok((name, None)),
        axis => match usize::try_from(axis).ok().filter(|&a| a < crate::graph::MAX_RANK) {
            Some(axis) => Ok((name, Some(axis))),
            None => Err(ModelError::new("client.item_axis", format!("{axis} is no axis"))),
        },
    };
    let item_axis = fields.item_axis.into_iter().map(axis).collect::<Result<_, _>>()?;
    let (rate, reals) = (fields.rate.filter(|&rate| rate > 0), fields.reals);
    Ok(Client { rate, reals, item_axis, before, after, stamp: fields.tensors, ..Client::default() })
}

/// Reads a node.
fn node((i, mut table): (usize, Table), rounding: Rounding, default: &Defaults) -> Result<Node, ModelError> {
    let place = place("node", &table, i);
    abbreviation::expand(&mut table, rounding, default).map_err(|e| e.inside(&place))?;
    let node: Result<Node, toml::de::Error> = table.try_into();
    node.map_err(|e| {
        let what = e.message();
        ModelError::new(&place, what.strip_prefix(&format!("{place}: ")).unwrap_or(what))
    })
}

fn output((i, table): (usize, Table)) -> Result<Output, ModelError> {
    let place = place("output", &table, i);
    let OutputFields { name, value, reveal, labels } = read(&place, table)?;
    let value = value.unwrap_or_else(|| name.clone());
    Ok(Output { name, value, reveal, labels })
}

impl Description {
    /// A network under a name.
    pub fn new(name: impl Into<String>, graph: Graph) -> Self {
        Self { name: name.into(), graph, ..Self::default() }
    }

    /// Reads a description.
    ///
    /// # Errors
    /// One line that names the node, or the line of the text.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        require(text.len() <= MAX_TEXT, "text", || format!("{} bytes, {MAX_TEXT} are allowed", text.len()))?;
        let table: Table = toml::from_str(text).map_err(|e| in_text(text, &e))?;
        match table.get("format") {
            Some(Value::Integer(FORMAT)) => {}
            Some(Value::Integer(other)) => {
                return Err(ModelError::new("format", format!("{other}, this program reads {FORMAT}")));
            }
            _ => return Err(ModelError::new("format", format!("missing, this program reads {FORMAT}"))),
        }
        drop(table);
        let file: File = toml::from_str(text).map_err(|e| in_text(text, &e))?;
        let node = |entry| node(entry, file.rounding, &file.default);
        let graph = Graph {
            steps: file.steps,
            inputs: file.input.into_iter().enumerate().map(input).collect::<Result<_, _>>()?,
            nodes: file.node.into_iter().enumerate().map(node).collect::<Result<_, _>>()?,
            outputs: file.output.into_iter().enumerate().map(output).collect::<Result<_, _>>()?,
            fits: file.fits,
        };
        let client = client(file.client, file.rounding, graph.steps)?;
        let description = Self { name: file.name, rounding: file.rounding, graph, client };
        description.validate()?;
        Ok(description)
    }

    /// Reads the bytes that a peer sent.
    ///
    /// # Errors
    /// As [`Description::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        require(bytes.len() <= MAX_TEXT, "text", || format!("{} bytes, {MAX_TEXT} are allowed", bytes.len()))?;
        Self::parse(std::str::from_utf8(bytes).map_err(|e| ModelError::new("text", e.to_string()))?)
    }

    /// Reads `model.toml` in `directory`.
    ///
    /// # Errors
    /// Also if the file cannot be read.
    pub fn load(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(FILE);
        let place = path.display().to_string();
        let bytes = super::input::read_bounded(&path, MAX_TEXT as u64)?;
        let mut description = Self::from_bytes(&bytes).map_err(|e| e.inside(&place))?;
        description.client.load(directory, &description.graph)?;
        Ok(description)
    }

    /// Checks name and graph.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_name("name", &self.name)?;
        self.typed(self.graph.steps)?;
        self.client.validate(&self.graph)
    }

    /// The graph for some number of time steps.
    ///
    /// # Errors
    /// More steps than the model is for, or fewer than it needs.
    pub fn typed(&self, steps: usize) -> Result<Typed<'_>, ModelError> {
        Ok(self.graph.infer(steps)?)
    }

    /// The text that [`Description::parse`] reads. What repeats most is given once.
    pub fn to_toml(&self) -> String {
        let mut text = format!("format = {FORMAT}\nname = {}\n", Value::from(self.name.as_str()));
        if self.graph.steps > 0 {
            let _ = writeln!(text, "steps = {}", self.graph.steps);
        }
        let rounding = Value::try_from(self.rounding).expect("a name");
        let _ = writeln!(text, "rounding = {rounding}");
        if !self.graph.fits.is_empty() {
            let _ = writeln!(text, "fits = {}", Value::from(self.graph.fits.clone()));
        }
        let mut nodes: Vec<Table> =
            self.graph.nodes.iter().map(|n| Table::try_from(n).expect("a node is a table")).collect();
        let default = abbreviation::most_frequent(&nodes);
        let fields = Table::try_from(default).expect("numbers");
        if !fields.is_empty() {
            text.push_str("\n[default]\n");
            write_fields(&mut text, "", fields);
        }
        for input in &self.graph.inputs {
            text.push_str("\n[[input]]\n");
            write_input(&mut text, input);
            write_fields(&mut text, "", Table::try_from(input.number).expect("numbers"));
        }
        for node in &mut nodes {
            abbreviation::shorten(node, self.rounding, &default);
            write_node(&mut text, "node", "", std::mem::take(node));
        }
        for output in &self.graph.outputs {
            let reveal = Value::try_from(output.reveal).expect("a name");
            let _ = writeln!(text, "\n[[output]]\nname = {}", Value::from(output.name.as_str()));
            if output.value != output.name {
                let _ = writeln!(text, "value = {}", Value::from(output.value.as_str()));
            }
            let _ = writeln!(text, "reveal = {reveal}");
            if !output.labels.is_empty() {
                let _ = writeln!(text, "labels = {}", Value::from(output.labels.clone()));
            }
        }
        if !self.client.is_empty() {
            self.write_client(&mut text);
        }
        text
    }

    fn write_client(&self, text: &mut String) {
        let Client { rate, reals, item_axis, before, after, stamp, .. } = &self.client;
        text.push_str("\n[client]\n");
        if let Some(rate) = rate {
            let _ = writeln!(text, "rate = {rate}");
        }
        if *reals {
            text.push_str("reals = true\n");
        }
        if let Some(Stamp { bytes, digest }) = stamp {
            let _ = writeln!(text, "tensors = {{ bytes = {bytes}, digest = \"{digest}\" }}");
        }
        if !item_axis.is_empty() {
            let axis = |axis: &Option<usize>| axis.map_or(NO_ITEM_AXIS, |a| a as i64);
            let table: Table = item_axis.iter().map(|(name, a)| (name.clone(), axis(a).into())).collect();
            let _ = writeln!(text, "item_axis = {}", Value::from(table));
        }
        for (part, section) in [(before, "client.before"), (after, "client.after")] {
            let Some(part) = part else { continue };
            if part.nodes.is_empty() && part.outputs.is_empty() {
                let _ = writeln!(text, "\n[{section}]");
            }
            for input in &part.inputs {
                let _ = writeln!(text, "\n[[{section}.input]]");
                write_input(text, input);
            }
            for node in &part.nodes {
                let mut node = Table::try_from(node).expect("a node is a table");
                abbreviation::shorten(&mut node, self.rounding, &Defaults::reals());
                write_node(text, &format!("{section}.node"), "", node);
            }
            for output in &part.outputs {
                let _ = writeln!(text, "\n[[{section}.output]]\nname = {}", Value::from(output.name.as_str()));
                if output.value != output.name {
                    let _ = writeln!(text, "value = {}", Value::from(output.value.as_str()));
                }
            }
        }
    }

    /// Whether `offered` is this model. What the server proves about its weights it may add.
    pub fn is_offered_as(&self, offered: &Description) -> bool {
        let fits = |name| offered.graph.fits.contains(name);
        let known = Graph { fits: self.graph.fits.clone(), ..offered.graph.clone() };
        self.graph.fits.iter().all(fits) && *self == Description { graph: known, ..offered.clone() }
    }
}

/// Name and shape.
fn write_input(text: &mut String, input: &Input) {
    let dim = |d: &Dim| match *d {
        Dim::Size(n) => Value::Integer(n as i64),
        Dim::Steps => STEPS.into(),
    };
    let shape: Vec<Value> = input.shape.iter().map(dim).collect();
    let _ = writeln!(text, "name = {}\nshape = {}", Value::from(input.name.as_str()), Value::from(shape));
}

/// Lines `key = value`.
fn write_fields(text: &mut String, indent: &str, fields: Table) {
    for (key, value) in fields {
        let _ = writeln!(text, "{indent}{key} = {value}");
    }
}

/// A node: what everybody looks for first, its parameters, the format of its result, then its body, indented.
fn write_node(text: &mut String, header: &str, indent: &str, mut node: Table) {
    let _ = writeln!(text, "\n{indent}[[{header}]]");
    let body = node.remove("body");
    let out = node.remove("out");
    for key in ["name", "op", "in"] {
        if let Some(value) = node.remove(key) {
            let _ = writeln!(text, "{indent}{key} = {value}");
        }
    }
    write_fields(text, indent, node);
    if let Some(out) = out {
        let _ = writeln!(text, "{indent}out = {out}");
    }
    if let Some(Value::Array(body)) = body {
        for node in body {
            if let Value::Table(node) = node {
                write_node(text, &format!("{header}.body"), "  ", node);
            }
        }
    }
}
