//! `sirnn plan`: everything that can be known before anything runs.

use super::connection::Ceilings;
use super::output::{bytes, write_file};
use super::show::shape_of;
use super::{Failure, Planning, link_name, speeds};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use sirnn::compile::Request;
use sirnn::graph::{Dim, Reveal};
use sirnn::model::client::operations;
use sirnn::model::{Description, Model, weights};
use sirnn::plan::correlations::{kind_name, offline_cost};
use sirnn::plan::planner::{self, Candidate, Task};
use sirnn::plan::{LinearTask, Plan};
use sirnn::run::store::SectionHeader;
use sirnn::service::local::print_line;
use sirnn::service::memory;
use sirnn_backends::Party;
use sirnn_backends::forms::linear_rlwe;
use sirnn_backends::ot::{BackendSpec, streams::totals};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Deepest scopes in the table for people.
const SHOWN_DEPTH: usize = 4;

/// Show what an inference will cost and what the client will learn
///
/// Exact, not estimated: the parties refuse to end a run that took other rounds or bytes than planned here. Totals are those of the
/// whole request, as reports of runs have them; scopes and memory are those of one session, which computes a batch.
#[derive(Args)]
pub(super) struct PlanCommand {
    /// Model directory; with the weights, what they prove saves rounds
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Items that are computed at the same time, in all lanes together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Items of the whole job, which is computed in as many batches as it takes (default: one batch)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: Option<u32>,
    /// Time steps of the items (default: the most that the model is for)
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    ceilings: Ceilings,
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

/// What sessions cost together, under the names of reports.
#[derive(Clone, Copy, Default, Serialize)]
struct Sessions {
    instances: u64,
    batches: u64,
    rounds: u64,
    rounds_offline: u64,
    bytes_sent: u64,
    bytes_received: u64,
    bytes_total: u64,
    bytes_offline: u64,
    bytes_online: u64,
    linear_values: u64,
}

impl Sessions {
    /// A session of so many items, which uses the keys that one before left, or makes its own.
    fn one(items: usize, plan: &Plan, backend: &dyn BackendSpec, kept: bool) -> Self {
        let (online, before) = (plan.online_bytes(), offline_cost(plan, backend));
        let offline = [before.bytes_from[0] - if kept { plan.kept_key_bytes() } else { 0 }, before.bytes_from[1]];
        let bytes_total = online.iter().chain(&offline).sum();
        Self {
            instances: items as u64,
            batches: 1,
            rounds: plan.rounds() as u64,
            rounds_offline: before.rounds.into(),
            bytes_sent: online[0] + offline[0],
            bytes_received: online[1] + offline[1],
            bytes_total,
            bytes_offline: offline.iter().sum(),
            bytes_online: online.iter().sum(),
            linear_values: plan.values(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            instances: self.instances + other.instances,
            batches: self.batches + other.batches,
            rounds: self.rounds + other.rounds,
            rounds_offline: self.rounds_offline + other.rounds_offline,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_total: self.bytes_total + other.bytes_total,
            bytes_offline: self.bytes_offline + other.bytes_offline,
            bytes_online: self.bytes_online + other.bytes_online,
            linear_values: self.linear_values + other.linear_values,
        }
    }
}

/// All sessions of a request.
struct Job {
    /// The plans of a full session and of a smaller last one, how many there are of each, and what it costs.
    plans: Vec<(usize, Sessions)>,
    /// All together.
    all: Sessions,
    /// Those of the lane that has most.
    lane: Sessions,
    correlations: BTreeMap<String, u64>,
}

impl Job {
    fn new(items: usize, chosen: &Candidate, rest: Option<&Plan>) -> Self {
        let &Candidate { backend, lanes, batch, ref plan, .. } = chosen;
        let full = items / batch;
        let kinds: Vec<usize> = std::iter::repeat_n(0, full).chain(rest.map(|_| 1)).collect();
        let size = |kind: usize| if kind == 0 { batch } else { items % batch };
        let plan_of = |kind: usize| if kind == 0 { plan } else { rest.unwrap_or(plan) };
        // By kind, and whether keys are kept.
        let costs =
            [0, 1].map(|kind| [false, true].map(|kept| Sessions::one(size(kind), plan_of(kind), backend, kept)));
        let cost = |k: usize| costs[kinds[k]][usize::from(planner::follows(&kinds, lanes, k))];
        let sum = |step: usize| (0..kinds.len()).step_by(step).map(cost).fold(Sessions::default(), Sessions::and);
        let mut correlations = BTreeMap::new();
        for (kind, count) in [(0, full), (1, kinds.len() - full)] {
            for (correlation, n) in totals(&plan_of(kind).needs).into_iter().filter(|_| count > 0) {
                *correlations.entry(kind_name(correlation)).or_default() += n * count as u64;
            }
        }
        let plans = [(0, full), (1, kinds.len() - full)];
        Self {
            plans: plans.into_iter().filter(|p| p.1 > 0).map(|(kind, count)| (count, costs[kind][0])).collect(),
            all: sum(1),
            lane: sum(lanes),
            correlations,
        }
    }
}

impl PlanCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let description = describe(&self.model)?;
        let (policy, speeds) = (self.planning.policy()?, speeds()?);
        let items = self.items.unwrap_or(self.batch) as usize;
        let request = Request { items, steps: self.steps.unwrap_or(description.graph.steps), lengths: None };
        description.typed(request.steps)?;
        let batch = items.min(self.batch as usize);
        let task = Task { graph: &description.graph, request: &request, batch, watch: &[] };
        let mut all = planner::candidates(&task, &policy, &speeds)?;
        if let Some(more) = planner::in_more_lanes(&task, &policy, &speeds, &all[0], |_| true)? {
            all.insert(0, more);
        }
        let chosen = &all[0];
        let &Candidate { backend, fuse, lanes, batch, ref plan, mut estimate } = chosen;
        if let Some(file) = &self.dot {
            write_file(file, plan.dot().as_bytes())?;
        }
        let rest = chosen.rest(&task)?;
        let job = Job::new(items, chosen, rest.as_ref());
        (estimate.bytes, estimate.bytes_offline) = (job.all.bytes_total, job.all.bytes_offline);
        let memory = memory(plan).map(|m| m * lanes as u64);
        // What `serve` and `infer` refuse with the same limits is shown first.
        let most = memory[0].max(memory[1]);
        let allowed = self.ceilings.bounds().check([items, lanes, batch], job.all.bytes_total, most);
        let allowed = allowed.map_err(Failure::from);
        let stores = Party::BOTH.map(|party| {
            let of = |plan: &Plan| SectionHeader::new(plan, party).bytes;
            of(plan) * (items / batch) as u64 + rest.as_ref().map_or(0, of)
        });
        let scopes = plan.scope_costs();
        let revealed = revealed(&description, request.steps)?;
        if self.json {
            let scopes: Vec<_> = scopes
                .iter()
                .map(|(path, c)| json!({ "scope": path, "instances": c.instances, "bytes_online": c.bytes, "rounds": c.depth }))
                .collect();
            let mut report = serde_json::to_value(job.all)?;
            let more = json!({
                "model": description.name, "items": items, "batch": batch, "ot": backend.name(), "fused": fuse, "lanes": lanes,
                "estimate": estimate, "alternatives": all.iter().map(alternative).collect::<Vec<_>>(),
                "lane": job.lane, "sessions": job.plans.iter().map(|(count, cost)| json!({ "count": count, "each": cost })).collect::<Vec<_>>(),
                "peak_memory": memory, "store_bytes": stores, "correlations_used": job.correlations,
                "bytes_per_instance": job.all.bytes_total as f64 / items as f64,
                "digest": blake3::Hash::from(plan.digest).to_hex().to_string(),
                "scopes": scopes, "revealed": revealed,
                "linear": plan.linear.iter().map(|task| product(plan, task)).collect::<Vec<_>>(),
                "linear_key_bytes": plan.key_bytes(), "linear_kept_key_bytes": plan.kept_key_bytes(),
            });
            report.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            print_line(report);
            return allowed;
        }
        let kind = if fuse { "with tables" } else { "op by op" };
        let how = match (job.all.batches, lanes) {
            (1, _) => String::new(),
            (n, 1) => format!(" in {n} sessions of {batch}"),
            (n, _) => format!(" in {n} sessions of {batch}, {lanes} at the same time (lanes)"),
        };
        let plural = if items == 1 { "item" } else { "items" };
        print_line(format_args!("{}, {items} {plural}{how}, OT {}, {kind}", description.name, backend.name()));
        if all.len() > 1 {
            comparison(&all, link_name(policy.link));
        }
        print_line(format_args!(
            "\n{:<48} {:>12} {:>12} {:>7}",
            "scope of a session", "instances", "bytes online", "rounds"
        ));
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
        self.totals(&job, lanes);
        print_line(format_args!(
            "time     {:.2} s, {:.2} s of CPU of both parties: estimates, for link {} (--link)",
            estimate.seconds,
            estimate.cpu_seconds,
            link_name(policy.link)
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
        for (kind, n) in &job.correlations {
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
        allowed
    }

    /// Bytes and rounds of the request, and of what it consists of.
    fn totals(&self, job: &Job, lanes: usize) {
        let mut columns = vec![("request".to_string(), job.all)];
        if lanes > 1 {
            columns.push(("a lane".into(), job.lane));
        }
        if job.all.batches > 1 {
            columns.push(("a session".into(), job.plans[0].1));
            columns.extend(job.plans.get(1).map(|&(_, cost)| ("the last".into(), cost)));
        }
        let row = |name: &str, cell: &dyn Fn(&Sessions) -> String| {
            let cells: Vec<String> = columns.iter().map(|(_, c)| format!("{:>12}", cell(c))).collect();
            print_line(format_args!("{name:<16} {}", cells.join(" ")));
        };
        let heads: Vec<String> = columns.iter().map(|(name, _)| format!("{name:>12}")).collect();
        print_line(format_args!("\n{:<16} {}", "", heads.join(" ")));
        row("items", &|c| c.instances.to_string());
        row("sessions", &|c| c.batches.to_string());
        row("rounds online", &|c| c.rounds.to_string());
        row("rounds offline", &|c| c.rounds_offline.to_string());
        row("bytes online", &|c| bytes(c.bytes_online));
        row("bytes offline", &|c| bytes(c.bytes_offline));
        row("bytes", &|c| bytes(c.bytes_total));
        row("bytes an item", &|c| bytes(c.bytes_total / c.instances));
        if job.all.batches > 1 {
            print_line("sessions of a lane run one after the other; a session that follows an equal one uses its keys");
        }
        print_line("");
    }
}

/// Where the products with a matrix come from, for programs.
fn product(plan: &Plan, task: &LinearTask) -> serde_json::Value {
    let ((_, to_p1, to_p0), (cots, cot_p1, cot_p0)) = (task.offline_cost(), task.cot_cost());
    let node = &plan.program.blocks[task.node.0].nodes[task.node.1];
    json!({
        "scope": plan.program.path(node.scope), "bits": task.width, "weight_bits": task.weight_bits,
        "form": match task.form {
            None => "cot",
            Some(_) if plan.keeps_keys() => "rlwe with kept keys",
            Some(_) => "rlwe",
        },
        "set": task.form.map(|f| f.set.name()), "spread": task.form.map(|f| f.spread), "error_bits": task.form.map(|f| f.bits),
        "bytes": to_p1 + to_p0, "bytes_kept": to_p1 + to_p0 - kept(plan, task), "bytes_by_cots": cot_p1 + cot_p0, "cots": cots,
    })
}

/// Bytes that a product saves in a session that uses the keys of another.
fn kept(plan: &Plan, task: &LinearTask) -> u64 {
    let keys = |(task, form)| linear_rlwe::cost(&task, form).keys;
    task.rlwe().filter(|_| plan.keeps_keys()).map_or(0, keys)
}

/// The same for people.
fn products(plan: &Plan) {
    if plan.linear.is_empty() {
        return;
    }
    print_line("\nproducts with the weights of a session, offline (--linear)");
    for task in &plan.linear {
        let node = &plan.program.blocks[task.node.0].nodes[task.node.1];
        let (_, to_p1, to_p0) = task.offline_cost();
        let (_, cot_p1, cot_p0) = task.cot_cost();
        let how = match task.form {
            None => "COTs".into(),
            Some(f) => {
                let kept = match kept(plan, task) {
                    0 => String::new(),
                    keys => format!(", {} with kept keys", bytes(to_p1 + to_p0 - keys)),
                };
                let (set, cots) = (f.set.name(), bytes(cot_p1 + cot_p0));
                format!("ring-LWE, {set}, spread {}{kept}; by COTs {cots}", f.spread)
            }
        };
        print_line(format_args!("  {:<46} {:>12}  {how}", plan.program.path(node.scope), bytes(to_p1 + to_p0)));
    }
    if plan.values() > 0 {
        print_line(format_args!("  {:<46} {:>12}  for all of them", "the client's keys", bytes(plan.key_bytes())));
        if plan.keeps_keys() {
            print_line(format_args!(
                "  the server's keys serve {} sessions; a session without new ones takes {} less",
                plan.profile.sessions,
                bytes(plan.kept_key_bytes())
            ));
        }
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
        "\n{:<14} {:<9} {:>5} {:>12} {:>12} {:>7} {:>8} {:>9}   link {link}",
        "OT", "cells", "lanes", "bytes", "bytes online", "rounds", "CPU s", "time s"
    ));
    for Candidate { backend, fuse, lanes, estimate: e, .. } in all {
        let (bytes, online) = (bytes(e.bytes), bytes(e.bytes - e.bytes_offline));
        let cells = if *fuse { "tables" } else { "op by op" };
        print_line(format_args!(
            "{:<14} {cells:<9} {lanes:>5} {bytes:>12} {online:>12} {:>7} {:>8.2} {:>9.2}",
            backend.name(),
            e.rounds,
            e.cpu_seconds,
            e.seconds
        ));
    }
    print_line(
        "bytes of all sessions, counted as if all were full; rounds of one; CPU and time are estimates (sirnn doctor --calibrate)",
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
