//! A plan that explains itself: the critical path of a block, what runs beside it, and the cost of every scope.

use crate::plan::Plan;
use crate::plan::schedule::{Time, Times};
use crate::program::{Holder, Op, Reg};
use sirnn_backends::inst::{Inst, LookupForm, Party};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Cost of a scope (or of everything in it), over all trips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScopeCost {
    /// Instances of interactive instructions.
    pub instances: u64,
    /// Online payload bytes, both ways.
    pub bytes: u64,
    /// Longest chain of messages inside one trip, in rounds from the first to the last.
    pub depth: usize,
}

/// A step on a critical path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Where it stands, as `loop/sigmoid/exp/carries`.
    pub scope: String,
    /// Instruction.
    pub instruction: &'static str,
    /// Round of the trip in which its deciding message is sent.
    pub round: Time,
    /// Rounds it adds to the path.
    pub rounds: Time,
    /// Bytes of its messages.
    pub bytes: usize,
    /// Why the path waits here.
    pub reason: String,
}

/// Short name of an instruction.
pub fn instruction(inst: &Inst) -> &'static str {
    match inst {
        Inst::And { .. } => "and",
        Inst::Cross { .. } => "cross",
        Inst::CrossMatrix { .. } => "cross matrix",
        Inst::Lookup { form: LookupForm::OneOf { .. }, .. } => "lookup",
        Inst::Lookup { form: LookupForm::Opened { .. }, .. } => "opened lookup",
        Inst::Leaf { .. } => "leaf",
        Inst::Linear { .. } => "linear",
        Inst::Open { .. } => "open",
    }
}

impl Plan {
    /// Costs by scope, each including the scopes inside it; paths in order.
    pub fn scope_costs(&self) -> BTreeMap<String, ScopeCost> {
        let mut costs: BTreeMap<String, ScopeCost> = BTreeMap::new();
        let mut spans: BTreeMap<String, BTreeMap<usize, (Time, Time)>> = BTreeMap::new();
        for (b, (block, s)) in self.program.blocks.iter().zip(&self.blocks).enumerate() {
            for (node, times) in block.nodes.iter().zip(&s.nodes) {
                let (Op::Inter(inst), Times::Inter { messages, .. }) = (&node.op, times) else { continue };
                let n = node.instances(&self.program.regs);
                let bytes: usize = inst.messages(n).iter().map(|m| m.bytes).sum();
                let (first, last) =
                    (messages.iter().min().copied().unwrap_or(0), messages.iter().max().map_or(0, |m| m + 1));
                let path = self.program.path(node.scope);
                let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
                for end in ends {
                    let cost = costs.entry(path[..end].to_string()).or_default();
                    cost.instances += (n * block.trips) as u64;
                    cost.bytes += (bytes * block.trips) as u64;
                    let span = spans.entry(path[..end].to_string()).or_default().entry(b).or_insert((first, last));
                    *span = (span.0.min(first), span.1.max(last));
                }
            }
        }
        for (path, cost) in &mut costs {
            cost.depth = spans[path].values().map(|(a, b)| b - a).sum();
        }
        costs
    }

    /// The chain of messages that decides how long a trip of block `b` takes: for a loop the cycle through its state, else the
    /// longest path. First step first.
    pub fn critical_path(&self, b: usize) -> Vec<Step> {
        let (block, s) = (&self.program.blocks[b], &self.blocks[b]);
        let at = |(reg, p): (Reg, Party)| s.at(reg)[p.index()];
        let state = block.carries.iter().flat_map(|c| Party::BOTH.map(|p| ((c.param, p), (c.next, p))));
        let tight = state.filter(|&(param, next)| at(param) + s.interval == at(next));
        let chains = tight.map(|(param, next)| {
            let (steps, from) = self.path_to(b, next);
            let rounds = steps.iter().map(|s| s.rounds).sum::<usize>();
            ((from == param, rounds == s.interval, rounds), steps)
        });
        // The chain that ends where it begins, at the same party. Where parties or states take turns over several trips, or
        // several chains are equally long, that of an interval's length.
        if let Some((_, steps)) = chains.max_by_key(|(score, _)| *score) {
            return steps;
        }
        let ends = block.nodes.iter().flat_map(|n| n.outs.iter().flat_map(|&r| Party::BOTH.map(|p| (r, p))));
        ends.max_by_key(|&end| at(end)).map_or(Vec::new(), |end| self.path_to(b, end).0)
    }

    /// The chain of messages that a party's share of a register waits for, and the register (at its party) that it starts from.
    fn path_to(&self, b: usize, (mut reg, mut party): (Reg, Party)) -> (Vec<Step>, (Reg, Party)) {
        let (block, s) = (&self.program.blocks[b], &self.blocks[b]);
        let made_by = |reg: Reg| block.nodes.iter().position(|n| n.outs.contains(&reg));
        let at = |reg: Reg, p: Party| s.at(reg)[p.index()];
        let mut steps = Vec::new();
        // Backwards to where the trip's inputs come in: its slices, or the state of the trip before.
        while let Some(i) = made_by(reg) {
            let node = &block.nodes[i];
            let is_state = |r: Reg| block.carries.iter().any(|c| c.param == r);
            let last =
                |p: Party, ins: &[usize]| ins.iter().map(|&k| node.ins[k]).max_by_key(|&r| (at(r, p), is_state(r)));
            match (&node.op, &s.nodes[i]) {
                (Op::Local(_), _) => {
                    let all: Vec<usize> = (0..node.ins.len()).collect();
                    let Some(before) = last(party, &all) else { break };
                    reg = before;
                }
                (Op::Inter(inst), Times::Inter { messages, ready, .. }) => {
                    let n = node.instances(&self.program.regs);
                    let all = inst.messages(n);
                    let time = ready[party.index()].unwrap_or(0);
                    let waits = inst.ready(party).map_or(Vec::new(), |r| r.messages);
                    // Whether a message could not leave earlier. One that only waits for its reader decides nothing.
                    let tight = |m: usize| {
                        let sent = |m: usize| last(all[m].from, &all[m].needs).map_or(0, |r| at(r, all[m].from));
                        let mut m = m;
                        loop {
                            match all[m].after {
                                _ if sent(m) == messages[m] => break true,
                                Some(before) if messages[before] + 1 == messages[m] => m = before,
                                _ => break false,
                            }
                        }
                    };
                    let deciding = waits.iter().copied().find(|&m| messages[m] + 1 == time && tight(m));
                    let Some(decided) = deciding else {
                        // The party's own operand comes last.
                        let needs = inst.ready(party).map_or(Vec::new(), |r| r.needs);
                        let Some(before) = last(party, &needs) else { break };
                        reg = before;
                        continue;
                    };
                    let (mut m, mut rounds) = (decided, 1);
                    // Follow messages that answer each other.
                    while let Some(before) = all[m].after.filter(|&a| messages[a] + 1 == messages[m] && tight(a)) {
                        m = before;
                        rounds += 1;
                    }
                    let sender = all[m].from;
                    let needs = last(sender, &all[m].needs);
                    steps.push(Step {
                        scope: self.program.path(node.scope),
                        instruction: instruction(inst),
                        round: messages[m],
                        rounds,
                        bytes: all.iter().map(|m| m.bytes).sum(),
                        reason: format!("{party:?} waits for a message of {:?}", all[decided].from),
                    });
                    let Some(before) = needs else { break };
                    (reg, party) = (before, sender);
                }
                _ => unreachable!("times are of the node's kind"),
            }
        }
        steps.reverse();
        (steps, (reg, party))
    }

    /// The explanation of the loop with the most rounds, or of the longest block.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        let mut put = |line: String| writeln!(text, "{line}").expect("strings grow");
        let rounds = |b: usize| self.blocks[b].rounds(self.program.blocks[b].trips);
        let b = (0..self.blocks.len()).max_by_key(|&b| rounds(b)).unwrap_or(0);
        let (block, s) = (&self.program.blocks[b], &self.blocks[b]);
        put(format!("{} rounds online, in {} blocks", self.rounds(), self.blocks.len()));
        for i in 0..self.blocks.len() {
            let (block, s) = (&self.program.blocks[i], &self.blocks[i]);
            let inter = block.nodes.iter().filter(|n| matches!(n.op, Op::Inter(_))).count();
            if inter > 0 {
                let what = if block.trips > 1 {
                    format!("{} trips, one every {} rounds, each {} long", block.trips, s.interval, s.length)
                } else if i < b {
                    "before the loop: what does not depend on its state".into()
                } else {
                    "after the loop".into()
                };
                put(format!("  block {i}: {inter} instructions, {} rounds; {what}", rounds(i)));
            }
        }
        let path = self.critical_path(b);
        put(format!("critical path of one trip of block {b}: {} rounds", path.iter().map(|s| s.rounds).sum::<usize>()));
        for step in &path {
            put(format!(
                "  round {:>4} +{}  {:<7} {:<44} {:>9} B  {}",
                step.round, step.rounds, step.instruction, step.scope, step.bytes, step.reason
            ));
        }
        let on_path: Vec<&str> = path.iter().map(|s| s.scope.as_str()).collect();
        put("beside it:".into());
        let mut beside: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for node in &block.nodes {
            let (Op::Inter(inst), path) = (&node.op, self.program.path(node.scope)) else { continue };
            if !on_path.contains(&path.as_str()) {
                let entry = beside.entry(path).or_default();
                entry.0 += 1;
                entry.1 += inst.messages(node.instances(&self.program.regs)).iter().map(|m| m.bytes).sum::<usize>();
            }
        }
        for (scope, (count, bytes)) in beside {
            put(format!("  {count:>3} instructions  {scope:<52} {bytes:>9} B"));
        }
        for line in self.savings(b) {
            put(line);
        }
        let merged = block.nodes.iter().filter(|n| matches!(n.op, Op::Inter(_))).count();
        put(format!(
            "{merged} instructions of a trip share {} rounds: about {:.1} in each",
            s.interval,
            merged as f64 / s.interval.max(1) as f64
        ));
        text
    }

    /// What does not cost a round of its own in loop `b`: hoisted out of it, made for all trips at once, fused.
    fn savings(&self, b: usize) -> Vec<String> {
        let program = &self.program;
        let trips = program.blocks[b].trips;
        let outermost = |scope: u32| program.path(scope).split('/').next().unwrap_or_default().to_string();
        let mut lines = Vec::new();
        let mut hoisted: BTreeMap<String, usize> = BTreeMap::new();
        for node in program.blocks[..b].iter().flat_map(|block| &block.nodes) {
            if let Op::Inter(_) = node.op {
                *hoisted.entry(outermost(node.scope)).or_default() += node.instances(&program.regs);
            }
        }
        for (scope, instances) in hoisted {
            lines.push(format!("hoisted: {scope}, {instances} instances of all {trips} trips before the loop"));
        }
        for task in self.linear.iter().filter(|t| t.trips > 1) {
            let (block, node) = task.node;
            let path = program.path(program.blocks[block].nodes[node].scope);
            lines.push(format!("merged: the masks of {path} are made for all {} trips at once, offline", task.trips));
        }
        for task in &self.linear {
            let (block, node) = task.node;
            let path = program.path(program.blocks[block].nodes[node].scope);
            lines.push(match task.form {
                None => format!("products of {path}: from COTs"),
                Some(form) => {
                    let keys = match self.profile.sessions {
                        1 => String::new(),
                        sessions => format!(", keys kept for {sessions} sessions"),
                    };
                    format!("products of {path}: from ring-LWE ({}, spread {}){keys}", form.set.name(), form.spread)
                }
            });
        }
        lines.dedup();
        let mut fused: BTreeMap<String, u64> = BTreeMap::new();
        for node in &program.blocks[b].nodes {
            let path = program.path(node.scope);
            if let (Op::Inter(Inst::Lookup { index, xor_index, .. }), Some(at)) = (&node.op, path.find("fused")) {
                let cell = path[at..].split('/').next().unwrap_or_default();
                fused.insert(format!("{}{cell}", &path[..at]), 1 << (index + xor_index));
            }
        }
        for (scope, entries) in fused {
            lines.push(format!("fused: {scope}, both activations in one look-up among {entries}"));
        }
        lines
    }

    /// The interactive nodes of the longest block as a graph in DOT, critical path in red.
    pub fn dot(&self) -> String {
        let rounds = |b: usize| self.blocks[b].rounds(self.program.blocks[b].trips);
        let b = (0..self.blocks.len()).max_by_key(|&b| rounds(b)).unwrap_or(0);
        let (block, s) = (&self.program.blocks[b], &self.blocks[b]);
        let critical: Vec<(String, Time)> = self.critical_path(b).into_iter().map(|s| (s.scope, s.round)).collect();
        let mut text = String::from("digraph trip {\n  rankdir=LR; node [shape=box, fontsize=9];\n");
        // Registers lead back to the interactive nodes they are made from.
        let mut sources: BTreeMap<Reg, Vec<usize>> = BTreeMap::new();
        for (i, node) in block.nodes.iter().enumerate() {
            let mut from: Vec<usize> =
                node.ins.iter().flat_map(|r| sources.get(r).cloned().unwrap_or_default()).collect();
            from.sort_unstable();
            from.dedup();
            if let (Op::Inter(inst), Times::Inter { messages, .. }) = (&node.op, &s.nodes[i]) {
                let path = self.program.path(node.scope);
                let first = messages.iter().min().copied().unwrap_or(0);
                let red = critical.iter().any(|(p, r)| *p == path && messages.contains(r));
                let color = if red { ", color=red" } else { "" };
                let _ = writeln!(text, "  n{i} [label=\"{}\\n{path}\\nround {first}\"{color}];", instruction(inst));
                for f in from {
                    let _ = writeln!(text, "  n{f} -> n{i};");
                }
                from = vec![i];
            }
            for &out in &node.outs {
                sources.insert(out, from.clone());
            }
        }
        for carry in &block.carries {
            for i in sources.get(&carry.next).into_iter().flatten() {
                let readers = block.nodes.iter().enumerate().filter(|(_, n)| n.ins.contains(&carry.param));
                for (j, _) in readers.filter(|(_, n)| matches!(n.op, Op::Inter(_))) {
                    let _ = writeln!(text, "  n{i} -> n{j} [style=dashed, constraint=false];");
                }
            }
        }
        text.push_str("}\n");
        text
    }

    /// Public facts about the model that the client sees in this plan: widths, ranges and shifts, by scope.
    pub fn revealed(&self) -> Vec<String> {
        let mut facts = Vec::new();
        for input in &self.program.inputs {
            let ty = self.program.ty(input.reg);
            if ty.holder == Holder::Only(Party::P0) {
                facts.push(format!(
                    "{}: {} values of {} bits in {}..={}",
                    input.name,
                    ty.len,
                    ty.width(),
                    ty.lo,
                    ty.hi
                ));
            }
        }
        facts
    }
}
