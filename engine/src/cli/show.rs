//! `sirnn show`: a network, node by node.

use super::output::{bytes, write_file};
use super::plan::describe;
use super::{Failure, Planning, speeds};
use clap::Args;
use serde_json::{Value, json};
use sirnn::compile::Request;
use sirnn::graph::{Dim, Graph, Typed, TypedNode, ValueId};
use sirnn::model::Description;
use sirnn::plan::explain::ScopeCost;
use sirnn::plan::planner::{self, Task};
use sirnn::service::local::print_line;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Show a network, node by node: what it computes, in which formats, and what each node costs
///
/// Rounds of a node are those from its first message to its last for one item, in a loop those of one step; bytes are those of
/// the online phase. What the compiler moves or joins with another node is counted there.
#[derive(Args)]
pub(super) struct Show {
    /// Model directory; with the weights, what they prove saves rounds
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Time steps of the item (default: the most that the model is for)
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    planning: Planning,
    /// Draw the network instead (Graphviz), to a file or to standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    dot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, conflicts_with = "dot")]
    json: bool,
}

/// A result of a node.
struct Row {
    /// Name of the value; in a loop `loop/name`.
    name: String,
    op: &'static str,
    ins: Vec<String>,
    shape: Vec<usize>,
    bits: u32,
    scale: i32,
    /// The first result of a node has its cost.
    node: Option<String>,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let description = describe(&self.model)?;
        let graph = &description.graph;
        let steps = self.steps.unwrap_or(graph.steps);
        let typed = description.typed(steps)?;
        if let Some(file) = &self.dot {
            let text = dot(&typed);
            return if file == Path::new("-") {
                print_line(text.trim_end());
                Ok(())
            } else {
                write_file(file, text.as_bytes())
            };
        }
        let mut rows = Vec::new();
        for node in &typed.nodes {
            add(&typed, node, "", &mut rows);
        }
        let costs = self.costs(graph, steps)?;
        if self.json {
            let rows: Vec<Value> = rows.iter().map(|r| r.json(&costs)).collect();
            let inputs: Vec<Value> = graph
                .inputs
                .iter()
                .map(|i| json!({ "name": i.name, "shape": shape_of(&i.shape), "bits": i.number.bits, "scale": i.number.scale }))
                .collect();
            let outputs: Vec<Value> = graph
                .outputs
                .iter()
                .map(|o| json!({ "name": o.name, "value": o.value, "reveal": o.reveal, "labels": o.labels }))
                .collect();
            print_line(json!({
                "model": description.name, "steps": steps, "client": client_json(&description), "inputs": inputs, "nodes": rows, "outputs": outputs,
                "fits": graph.fits, "parameters": typed.parameters.values().map(|p| p.shape.iter().product::<usize>()).sum::<usize>(),
            }));
            return Ok(());
        }
        let width = rows.iter().map(|r| r.shown().len()).chain([4]).max().unwrap_or(4);
        let op = rows.iter().map(|r| r.op.len()).chain([9]).max().unwrap_or(9);
        print_line(format_args!(
            "{:<width$}  {:<op$}  {:<20} {:>4} {:>5} {:>7} {:>10}",
            "node", "operation", "shape", "bits", "scale", "rounds", "bytes"
        ));
        for input in &graph.inputs {
            let (shape, number) = (shape_of(&input.shape), input.number);
            print_line(format_args!(
                "{:<width$}  {:<op$}  {shape:<20} {:>4} {:>5}",
                input.name, "input", number.bits, number.scale
            ));
        }
        for row in &rows {
            let cost = row.cost(&costs);
            let rounds = cost.map_or(String::new(), |c| c.depth.to_string());
            let bytes = cost.map_or(String::new(), |c| bytes(c.bytes));
            let shape = format!("{:?}", row.shape);
            print_line(format_args!(
                "{:<width$}  {:<op$}  {shape:<20} {:>4} {:>5} {rounds:>7} {bytes:>10}",
                row.shown(),
                row.op,
                row.bits,
                row.scale
            ));
        }
        for output in &graph.outputs {
            let reveal = json!(output.reveal);
            let reveal = reveal.as_str().unwrap_or_default();
            print_line(format_args!("{:<width$}  {:<op$}  {} ({reveal})", output.name, "output", output.value));
        }
        let client = &description.client;
        if let Some(rate) = client.rate {
            print_line(format_args!("\nrecordings (.wav) of {rate} samples per second"));
        }
        for (part, when) in
            [(&client.before, "before, out of what the user has"), (&client.after, "after, out of what is revealed")]
        {
            let Some(part) = part else { continue };
            print_line(format_args!("\nthe client computes in the clear {when}:"));
            for input in &part.inputs {
                print_line(format_args!("  {:<width$}  {:<op$}  {}", input.name, "input", shape_of(&input.shape)));
            }
            for node in &part.nodes {
                print_line(format_args!(
                    "  {:<width$}  {:<op$}  of {}",
                    node.name,
                    node.op.name(),
                    node.ins.join(", ")
                ));
            }
            for output in &part.outputs {
                print_line(format_args!("  {:<width$}  {:<op$}  {}", output.name, "output", output.value));
            }
        }
        Ok(())
    }

    /// What each scope of the best program for one item costs.
    fn costs(&self, graph: &Graph, steps: usize) -> Result<BTreeMap<String, ScopeCost>, Failure> {
        let request = Request { items: 1, steps, lengths: None };
        let task = Task { graph, request: &request, batch: 1, watch: &[] };
        let all = planner::candidates(&task, &self.planning.policy()?, &speeds()?)?;
        Ok(all[0].plan.scope_costs())
    }
}

impl Row {
    /// The name, of a loop's body moved in.
    fn shown(&self) -> String {
        match self.name.split_once('/') {
            Some((_, inner)) => format!("  {inner}"),
            None => self.name.clone(),
        }
    }

    fn cost<'c>(&self, costs: &'c BTreeMap<String, ScopeCost>) -> Option<&'c ScopeCost> {
        let node = self.node.as_ref()?;
        // What moved out of its loop has a scope of its own.
        let inside = node.replacen('/', "/loop/", 1);
        costs.get(&inside).or_else(|| costs.get(node.rsplit('/').next()?))
    }

    fn json(&self, costs: &BTreeMap<String, ScopeCost>) -> Value {
        let cost = self.cost(costs);
        json!({
            "node": self.name, "op": self.op, "in": self.ins, "shape": self.shape, "bits": self.bits, "scale": self.scale,
            "rounds": cost.map(|c| c.depth), "bytes": cost.map(|c| c.bytes),
        })
    }
}

pub(super) fn shape_of(shape: &[Dim]) -> String {
    let dims = shape.iter().map(|d| match d {
        Dim::Size(n) => n.to_string(),
        Dim::Steps => "steps".into(),
    });
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

/// What the client computes itself.
fn client_json(description: &Description) -> Value {
    let part = |part: &Option<Graph>| {
        part.as_ref().map(|p| {
            let nodes: Vec<Value> =
                p.nodes.iter().map(|n| json!({ "node": n.name, "op": n.op.name(), "in": n.ins })).collect();
            let inputs: Vec<Value> =
                p.inputs.iter().map(|i| json!({ "name": i.name, "shape": shape_of(&i.shape) })).collect();
            let outputs: Vec<Value> = p.outputs.iter().map(|o| json!({ "name": o.name, "value": o.value })).collect();
            json!({ "inputs": inputs, "nodes": nodes, "outputs": outputs })
        })
    };
    let client = &description.client;
    json!({ "rate": client.rate, "reals": client.reals, "before": part(&client.before), "after": part(&client.after) })
}

/// The rows of a node: its results, behind those of its body.
fn add(typed: &Typed<'_>, node: &TypedNode<'_>, prefix: &str, rows: &mut Vec<Row>) {
    let path = format!("{prefix}{}", node.node.name);
    let row = |value: ValueId, name: Option<String>| {
        let ty = typed.ty(value);
        Row {
            name: typed.name(value).into(),
            op: node.node.op.name(),
            ins: node.ins.iter().map(|&v| typed.name(v).into()).collect(),
            shape: ty.shape.clone(),
            bits: ty.number.bits,
            scale: ty.number.scale,
            node: name,
        }
    };
    for (i, &out) in node.outs.iter().enumerate() {
        rows.push(row(out, (i == 0).then(|| path.clone())));
    }
    if let Some(body) = &node.body {
        for inner in &body.nodes {
            add(typed, inner, &format!("{path}/"), rows);
        }
    }
}

/// A text in a Graphviz string.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The network for Graphviz: values flow down; a loop is a box, its states dashed arrows back.
fn dot(typed: &Typed<'_>) -> String {
    let mut text = String::from("digraph network {\n  rankdir=TB; node [shape=box, fontname=\"sans-serif\"];\n");
    let label = |value: ValueId| {
        let ty = typed.ty(value);
        let name = typed.name(value).rsplit('/').next().unwrap_or_default();
        format!("{}\\n{:?}, {} bits at {}", quoted(name), ty.shape, ty.number.bits, ty.number.scale)
    };
    for (i, _) in typed.graph.inputs.iter().enumerate() {
        let _ = writeln!(text, "  v{i} [label=\"{}\", style=rounded];", label(ValueId(i as u32)));
    }
    for node in &typed.nodes {
        draw(node, &label, &mut text);
    }
    for (i, (output, value)) in typed.graph.outputs.iter().zip(&typed.outputs).enumerate() {
        let _ = writeln!(text, "  o{i} [label=\"{}\", style=rounded];\n  v{} -> o{i};", quoted(&output.name), value.0);
    }
    text.push_str("}\n");
    text
}

fn draw(node: &TypedNode<'_>, label: &dyn Fn(ValueId) -> String, text: &mut String) {
    let arrow = |text: &mut String, from: ValueId, to: ValueId, style: &str| {
        let _ = writeln!(text, "  v{} -> v{}{style};", from.0, to.0);
    };
    match &node.body {
        None => {
            for &out in &node.outs {
                let _ = writeln!(text, "  v{} [label=\"{}: {}\"];", out.0, node.node.op.name(), label(out));
                node.ins.iter().for_each(|&from| arrow(text, from, out, ""));
            }
        }
        Some(body) => {
            let name = &node.node.name;
            let first = node.outs[0].0;
            let _ = writeln!(text, "  subgraph cluster{first} {{\n  label=\"{}, {} steps\";", quoted(name), body.trips);
            for &slice in &body.slices {
                let _ = writeln!(text, "  v{} [label=\"{}\", style=rounded];", slice.0, label(slice));
            }
            for state in &body.states {
                let _ = writeln!(text, "  v{} [label=\"{}\", style=rounded];", state.param.0, label(state.param));
            }
            for inner in &body.nodes {
                draw(inner, label, text);
            }
            text.push_str("  }\n");
            for (&slice, &from) in body.slices.iter().zip(&node.ins) {
                arrow(text, from, slice, "");
            }
            for state in &body.states {
                arrow(text, state.next, state.param, " [style=dashed, constraint=false]");
                if let Some(from) = state.from {
                    arrow(text, from, state.param, "");
                }
            }
            for (&out, &(value, _)) in node.outs.iter().zip(&body.yields) {
                let _ = writeln!(text, "  v{} [label=\"{}\"];", out.0, label(out));
                arrow(text, value, out, "");
            }
        }
    }
}
