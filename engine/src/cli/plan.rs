//! `sirnn plan`: everything that can be known before anything runs.

use super::output::{bytes, write_file};
use super::{Failure, Planning, link_name, speeds};
use clap::Args;
use serde_json::json;
use sirnn::model::{self, Description, Model, Reveal, weights};
use sirnn::plan::planner::{self, Candidate};
use sirnn::run::session::{offline_cost, totals};
use sirnn::run::store::SectionHeader;
use sirnn::service::local::say;
use sirnn::service::memory;
use sirnn::service::summary::kind_name;
use sirnn_backends::Party;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Deepest scopes in the table for people.
const SHOWN_DEPTH: usize = 4;

/// Show what an inference will cost and what the client will learn
///
/// Exact, not estimated: the parties refuse to end a run that took other rounds or bytes than planned here.
#[derive(Args)]
pub(super) struct PlanCommand {
    /// Model directory; the weights are not needed if the description states all shapes
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Items that are computed together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
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

/// The public part of a model, completed from the weights if they are there.
fn describe(directory: &Path) -> Result<Description, Failure> {
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
        let all = planner::candidates(&description, (items, items), false, &policy, &speeds)?;
        let more = planner::in_more_lanes(&description, (items, items), false, &policy, &speeds, &all[0], |_| true)?;
        let &Candidate { backend, fuse, lanes, batch, ref plan, estimate } = more.as_ref().unwrap_or(&all[0]);
        if let Some(file) = &self.dot {
            write_file(file, plan.dot().as_bytes())?;
        }
        let offline = offline_cost(plan, backend);
        let [online, offline_bytes] = [plan.online_bytes(), offline.bytes_from].map(|b| b[0] + b[1]);
        let memory = memory(plan);
        let stores = Party::BOTH.map(|party| SectionHeader::new(plan, party).bytes);
        let scopes = plan.scope_costs();
        let revealed = revealed(&description);
        let correlations: BTreeMap<String, u64> =
            totals(&plan.needs).into_iter().map(|(kind, n)| (kind_name(kind), n)).collect();
        if self.json {
            let scopes: Vec<_> = scopes
                .iter()
                .map(|(path, c)| json!({ "scope": path, "instances": c.instances, "bytes_online": c.bytes, "rounds": c.depth }))
                .collect();
            say(json!({
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
            }));
            return Ok(());
        }
        let kind = if fuse { "fused cells" } else { "op by op" };
        let lanes_of = if lanes > 1 { format!(", in {lanes} lanes of {batch}") } else { String::new() };
        say(format_args!("{}, batch {items}{lanes_of}, OT {}, {kind}", description.name, backend.name()));
        if all.len() > 1 || lanes > 1 {
            comparison(&all, link_name(policy.link));
        }
        say(format_args!("\n{:<48} {:>12} {:>12} {:>7}", "scope", "instances", "bytes online", "rounds"));
        for (path, cost) in &scopes {
            let depth = path.matches('/').count();
            if depth < SHOWN_DEPTH {
                let name = format!("{:1$}{2}", "", 2 * depth, path.rsplit('/').next().unwrap_or(path));
                say(format_args!("{name:<48} {:>12} {:>12} {:>7}", cost.instances, bytes(cost.bytes), cost.depth));
            }
        }
        say("rounds of a scope: from its first message to its last, in one trip of a loop; scopes run side by side");
        say(format_args!("\nonline   {:>12}  {:>7} rounds", bytes(online), plan.rounds()));
        say(format_args!("offline  {:>12}  {:>7} rounds", bytes(offline_bytes), offline.rounds));
        say(format_args!(
            "total    {:>12}  {} an item",
            bytes(online + offline_bytes),
            bytes((online + offline_bytes) / batch as u64)
        ));
        say(format_args!(
            "memory   server {}, client {} at most, beside the program itself",
            bytes(memory[0]),
            bytes(memory[1])
        ));
        say(format_args!(
            "stores   server {}, client {}, if correlations are made ahead (sirnn offline)",
            bytes(stores[0]),
            bytes(stores[1])
        ));
        say("\ncorrelations");
        for (kind, n) in &correlations {
            say(format_args!("  {kind:<20} {n:>12}"));
        }
        say("\nrevealed to the client");
        for line in &revealed {
            say(format_args!("  {line}"));
        }
        say("the server learns the number of items and batches, and nothing about them");
        if self.explain {
            say(format_args!("\n{}", plan.explain()));
        }
        Ok(())
    }
}

/// What the planner compared, for programs.
fn alternative(c: &Candidate) -> serde_json::Value {
    json!({ "ot": c.backend.name(), "fused": c.fuse, "lanes": c.lanes, "batch": c.batch, "estimate": c.estimate })
}

/// What the planner compared, for people; best first.
fn comparison(all: &[Candidate], link: String) {
    say(format_args!(
        "\n{:<14} {:<9} {:>12} {:>12} {:>7} {:>8} {:>9}   link {link}",
        "OT", "cells", "bytes", "bytes online", "rounds", "CPU s", "time s"
    ));
    for Candidate { backend, fuse, estimate: e, .. } in all {
        let (bytes, online) = (bytes(e.bytes), bytes(e.bytes - e.bytes_offline));
        let cells = if *fuse { "fused" } else { "op by op" };
        say(format_args!(
            "{:<14} {cells:<9} {bytes:>12} {online:>12} {:>7} {:>8.2} {:>9.2}",
            backend.name(),
            e.rounds,
            e.cpu_seconds,
            e.seconds
        ));
    }
    say("all items in one lane; bytes and rounds are exact, CPU and time are estimates (sirnn doctor --calibrate)");
}

/// All that a client learns about a model.
fn revealed(d: &Description) -> Vec<String> {
    let mut lines = vec![match d.reveal {
        Reveal::Scores => format!("per item: {} scores of {} bits, and the class", d.classes(), d.output.out),
        Reveal::Class => "per item: the class".into(),
    }];
    lines.push(format!(
        "shape: {} steps of {} features, {} classes and their names, rounding {}",
        d.steps,
        d.features,
        d.classes(),
        match d.rounding {
            sirnn::protocols::truncation::Rounding::Floor => "down",
            sirnn::protocols::truncation::Rounding::TowardZero => "toward zero",
            sirnn::protocols::truncation::Rounding::Nearest => "to nearest",
        }
    ));
    lines.push(format!("input: {} bits, scale {}", d.input.bits, d.input.scale));
    for (i, l) in d.layer.iter().enumerate() {
        let chain = |factors: &[model::description::Factor]| {
            let one = |f: &model::description::Factor| {
                format!("{} bits, shifts {}+{}, left {}, result {} bits", f.bits, f.floor, f.shift, f.left, f.out)
            };
            factors.iter().map(one).collect::<Vec<_>>().join("; ")
        };
        lines.push(format!("layer {i}: FastGRNN, {} units", l.hidden));
        lines.push(format!("  input product:  {}", chain(&l.w)));
        lines.push(format!("  state product:  {}", chain(&l.u)));
        let pre = &l.pre;
        lines.push(format!(
            "  pre-activation: {} bits, scale {}, shifts {} and {}, left {}, biases {} bits",
            pre.bits, pre.scale, pre.shift_w, pre.shift_u, pre.left, pre.bias_bits
        ));
        lines.push(format!(
            "  gate scale {}, candidate scale {}, zeta {} bits >> {}, nu {} bits >> {}",
            l.gate.scale, l.candidate.scale, l.zeta.bits, l.zeta.shift, l.nu.bits, l.nu.shift
        ));
        let s = &l.state;
        lines.push(format!(
            "  state: {} bits, scale {}, shifts {}, {}, {}",
            s.bits, s.scale, s.gate_shift, s.candidate_shift, s.out_shift
        ));
        if let Some(fits) = s.fits {
            lines.push(format!(
                "  whether the weights keep every state within its width: {}",
                if fits { "yes" } else { "not proven" }
            ));
        }
    }
    let o = &d.output;
    lines.push(format!(
        "output: weights {} bits, shifts {}+{}, {} bits, scale {}, bias {} bits >> {}",
        o.bits, o.floor, o.shift, o.out, o.scale, o.bias.bits, o.bias.shift
    ));
    lines.push("widths and shifts were fitted to the weights: they tell their magnitude, to a power of two".into());
    lines
}
