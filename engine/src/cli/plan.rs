//! `sirnn plan`: everything that can be known before anything runs.

use super::output::{bytes, write_file};
use super::show::shape_of;
use super::{Failure, Planning, link_name, speeds};
use clap::Args;
use serde_json::json;
use sirnn::compile::Request;
use sirnn::graph::{Dim, Reveal};
use sirnn::model::client::operations;
use sirnn::model::{Description, Model, weights};
use sirnn::plan::correlations::offline_cost;
use sirnn::plan::planner::{self, Candidate, Task};
use sirnn::plan::{LinearTask, Plan};
use sirnn::run::store::SectionHeader;
use sirnn::service::local::print_line;
use sirnn::service::memory;
use sirnn::service::summary::kind_name;
use sirnn_backends::Party;
use sirnn_backends::ot::streams::totals;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Deepest scopes in the table for people.
const SHOWN_DEPTH: usize = 4;

/// Show what an inference will cost and what the client will learn
///
/// Exact, not estimated: the parties refuse to end a run that took other rounds or bytes than planned here.
#[derive(Args)]
pub(super) struct PlanCommand {
    /// Model directory; with the weights, what they prove saves rounds
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Items that are computed together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Time steps of the items (default: the most that the model is for)
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    planning: Planning,
    /// Also show the critical path, round by round
    #[arg(long)]
    explain: bool,
    /// Draw the loop's instructions and what each waits for, the critical path in red (Graphviz)
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The public part of a model, with what the weights prove if they are there.
pub(super) fn describe(directory: &Path) -> Result<Description, Failure> {
    if directory.join(weights::FILE).exists() {
        Ok(Model::load(directory)?.description)
    } else {
        Ok(Description::load(directory)?)
    }
}

impl PlanCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let description = describe(&self.model)?;
        let (policy, speeds, items) = (self.planning.policy()?, speeds()?, self.batch as usize);
        let request = Request { items, steps: self.steps.unwrap_or(description.graph.steps), lengths: None };
        description.typed(request.steps)?;
        let task = Task { graph: &description.graph, request: &request, batch: items, watch: &[] };
        let all = planner::candidates(&task, &policy, &speeds)?;
        let more = planner::in_more_lanes(&task, &policy, &speeds, &all[0], |_| true)?;
        let &Candidate { backend, fuse, lanes, batch, ref plan, estimate } = more.as_ref().unwrap_or(&all[0]);
        if let Some(file) = &self.dot {
            write_file(file, plan.dot().as_bytes())?;
        }
        let offline = offline_cost(plan, backend);
        let [online, offline_bytes] = [plan.online_bytes(), offline.bytes_from].map(|b| b[0] + b[1]);
        let memory = memory(plan);
        let stores = Party::BOTH.map(|party| SectionHeader::new(plan, party).bytes);
        let scopes = plan.scope_costs();
        let revealed = revealed(&description, request.steps)?;
        let correlations: BTreeMap<String, u64> =
            totals(&plan.needs).into_iter().map(|(kind, n)| (kind_name(kind), n)).collect();
        if self.json {
            let scopes: Vec<_> = scopes
                .iter()
                .map(|(path, c)| json!({ "scope": path, "instances": c.instances, "bytes_online": c.bytes, "rounds": c.depth }))
                .collect();
            print_line(json!({
                "model": description.name, "batch": batch, "ot": backend.name(), "fused": fuse, "lanes": lanes,
                "estimate": estimate, "alternatives": all.iter().map(alternative).collect::<Vec<_>>(),
                "rounds": plan.rounds(), "rounds_offline": offline.rounds,
                "bytes_sent": plan.online_bytes()[0] + offline.bytes_from[0],
                "bytes_received": plan.online_bytes()[1] + offline.bytes_from[1],
                "bytes_total": online + offline_bytes, "bytes_offline": offline_bytes, "bytes_online": online,
                "peak_memory": memory, "store_bytes": stores, "correlations_used": correlations, "instances": batch,
                "bytes_per_instance": (online + offline_bytes) as f64 / batch as f64,
                "digest": blake3::Hash::from(plan.digest).to_hex().to_string(),
                "scopes": scopes, "revealed": revealed,
                "linear": plan.linear.iter().map(|task| product(plan, task)).collect::<Vec<_>>(),
                "linear_key_bytes": plan.key_bytes(), "linear_values": plan.values(),
            }));
            return Ok(());
        }
        let kind = if fuse { "with tables" } else { "op by op" };
        let lanes_of = if lanes > 1 { format!(", in {lanes} lanes of {batch}") } else { String::new() };
        print_line(format_args!("{}, batch {items}{lanes_of}, OT {}, {kind}", description.name, backend.name()));
        if all.len() > 1 || lanes > 1 {
            comparison(&all, link_name(policy.link));
        }
        print_line(format_args!("\n{:<48} {:>12} {:>12} {:>7}", "scope", "instances", "bytes online", "rounds"));
        for (path, cost) in &scopes {
            let depth = path.matches('/').count();
            if depth < SHOWN_DEPTH {
                let name = format!("{:1$}{2}", "", 2 * depth, path.rsplit('/').next().unwrap_or(path));
                print_line(format_args!(
                    "{name:<48} {:>12} {:>12} {:>7}",
                    cost.instances,
                    bytes(cost.bytes),
                    cost.depth
                ));
            }
        }
        print_line(
            "rounds of a scope: from its first message to its last, in one trip of a loop; scopes run side by side",
        );
        print_line(format_args!("\nonline   {:>12}  {:>7} rounds", bytes(online), plan.rounds()));
        print_line(format_args!("offline  {:>12}  {:>7} rounds", bytes(offline_bytes), offline.rounds));
        print_line(format_args!(
            "total    {:>12}  {} an item",
            bytes(online + offline_bytes),
            bytes((online + offline_bytes) / batch as u64)
        ));
        print_line(format_args!(
            "memory   server {}, client {} at most, beside the program itself",
            bytes(memory[0]),
            bytes(memory[1])
        ));
        print_line(format_args!(
            "stores   server {}, client {}, if correlations are made ahead (sirnn offline)",
            bytes(stores[0]),
            bytes(stores[1])
        ));
        products(plan);
        print_line("\ncorrelations");
        for (kind, n) in &correlations {
            print_line(format_args!("  {kind:<20} {n:>12}"));
        }
        print_line("\nrevealed to the client");
        for line in &revealed {
            print_line(format_args!("  {line}"));
        }
        print_line(
            "the server learns the number of items and batches and their time steps, and nothing about their content",
        );
        if self.explain {
            print_line(format_args!("\n{}", plan.explain()));
        }
        Ok(())
    }
}

/// Where the products with a matrix come from, for programs.
fn product(plan: &Plan, task: &LinearTask) -> serde_json::Value {
    let ((_, to_p1, to_p0), (cots, cot_p1, cot_p0)) = (task.offline_cost(), task.cot_cost());
    let node = &plan.program.blocks[task.node.0].nodes[task.node.1];
    json!({
        "scope": plan.program.path(node.scope), "bits": task.width, "weight_bits": task.weight_bits,
        "form": if task.form.is_some() { "rlwe" } else { "cot" },
        "set": task.form.map(|f| f.set.name()), "spread": task.form.map(|f| f.spread), "error_bits": task.form.map(|f| f.bits),
        "bytes": to_p1 + to_p0, "bytes_by_cots": cot_p1 + cot_p0, "cots": cots,
    })
}

/// The same for people.
fn products(plan: &Plan) {
    if plan.linear.is_empty() {
        return;
    }
    print_line("\nproducts with the weights, offline (--linear)");
    for task in &plan.linear {
        let node = &plan.program.blocks[task.node.0].nodes[task.node.1];
        let (_, to_p1, to_p0) = task.offline_cost();
        let (_, cot_p1, cot_p0) = task.cot_cost();
        let how = match task.form {
            None => "COTs".into(),
            Some(f) => {
                format!("ring-LWE, {}, spread {}; by COTs {}", f.set.name(), f.spread, bytes(cot_p1 + cot_p0))
            }
        };
        print_line(format_args!("  {:<46} {:>12}  {how}", plan.program.path(node.scope), bytes(to_p1 + to_p0)));
    }
    if plan.values() > 0 {
        print_line(format_args!("  {:<46} {:>12}  for all of them", "the client's keys", bytes(plan.key_bytes())));
        print_line(format_args!(
            "  ring-LWE makes {} values: a client that does not follow the protocol could read up to 2 bits about the weights in each",
            plan.values()
        ));
    }
}

/// What the planner compared, for programs.
fn alternative(c: &Candidate) -> serde_json::Value {
    json!({ "ot": c.backend.name(), "fused": c.fuse, "lanes": c.lanes, "batch": c.batch, "estimate": c.estimate })
}

/// What the planner compared, for people; best first.
fn comparison(all: &[Candidate], link: String) {
    print_line(format_args!(
        "\n{:<14} {:<9} {:>12} {:>12} {:>7} {:>8} {:>9}   link {link}",
        "OT", "cells", "bytes", "bytes online", "rounds", "CPU s", "time s"
    ));
    for Candidate { backend, fuse, estimate: e, .. } in all {
        let (bytes, online) = (bytes(e.bytes), bytes(e.bytes - e.bytes_offline));
        let cells = if *fuse { "tables" } else { "op by op" };
        print_line(format_args!(
            "{:<14} {cells:<9} {bytes:>12} {online:>12} {:>7} {:>8.2} {:>9.2}",
            backend.name(),
            e.rounds,
            e.cpu_seconds,
            e.seconds
        ));
    }
    print_line(
        "all items in one lane; bytes and rounds are exact, CPU and time are estimates (sirnn doctor --calibrate)",
    );
}

/// All that a client learns about a model.
pub(super) fn revealed(d: &Description, steps: usize) -> Result<Vec<String>, Failure> {
    let typed = d.typed(steps)?;
    let mut lines = Vec::new();
    for (output, &value) in d.graph.outputs.iter().zip(&typed.outputs) {
        let ty = typed.ty(value);
        let per = if ty.timed { "per item and time step" } else { "per item" };
        let what = match output.reveal {
            Reveal::Values => format!("{:?} values of {} bits", ty.shape, ty.number.bits),
            Reveal::Scores => format!("{:?} scores of {} bits, and the class", ty.shape, ty.number.bits),
            Reveal::Class => "the class alone".into(),
        };
        lines.push(format!("output '{}', {per}: {what}", output.name));
    }
    let client = &d.client;
    for input in client.inputs(&d.graph).iter().filter(|_| client.before.is_some()) {
        lines.push(format!("input '{}' of the user: {}, real numbers", input.name, shape_of(&input.shape)));
    }
    if let Some(before) = &client.before {
        lines.push(format!("what the client computes before, in the clear: {}", operations(before)));
    }
    if let Some(after) = &client.after {
        lines.push(format!("what the client computes from what is revealed, in the clear: {}", operations(after)));
    }
    if let Some(stamp) = &client.stamp {
        lines.push(format!("the tensors of what the client computes: {} bytes (client.safetensors)", stamp.bytes));
    }
    for input in &d.graph.inputs {
        let dims = input.shape.iter().map(|dim| match dim {
            Dim::Size(n) => n.to_string(),
            Dim::Steps => format!("1 to {} steps", d.graph.steps),
        });
        let shape = dims.collect::<Vec<_>>().join(", ");
        lines.push(format!(
            "input '{}': [{shape}], {} bits, scale {}",
            input.name, input.number.bits, input.number.scale
        ));
    }
    lines.push(format!(
        "the network: {} operations with their shapes, widths, scales and shifts (sirnn show), names of {} tensors",
        typed.nodes.iter().map(|n| 1 + n.body.as_ref().map_or(0, |b| b.nodes.len())).sum::<usize>(),
        typed.parameters.len()
    ));
    if !d.graph.fits.is_empty() {
        lines.push(format!(
            "that the weights keep these within their width for every input: {}",
            d.graph.fits.join(", ")
        ));
    }
    lines.push("widths and shifts were fitted to the weights: they tell their magnitude, to a power of two".into());
    Ok(lines)
}
