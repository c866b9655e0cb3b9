//! One party's execution of a plan over a channel.
//!
//! Per round: draw tickets, run what became possible (local nodes, results whose messages arrived), write this party's frame,
//! read the peer's, hand its sections to their instances. Both parties do everything in the same order (trip, then node), so sections need no
//! labels: a frame is a header and the planned bytes.

pub mod clear;
pub mod file;
pub mod ideal;
pub mod local;
pub mod pair;
pub mod session;
pub mod shares;
pub mod store;
pub mod trace;
pub mod usage;

use crate::plan::explain::instruction;
use crate::plan::schedule::{Times, executes};
use crate::plan::{FRAME_HEADER, LinearTask, Plan, trips_at};
pub use crate::program::Inputs;
use crate::program::{Holder, LocalOp, Op, Reg};
use crate::run::trace::Trace;
use sirnn_backends::correlation::Correlations;
use sirnn_backends::forms::linear_rlwe::{Keys, Public};
use sirnn_backends::forms::{self, Instance, LinearShare, Operand};
use sirnn_backends::inst::{Message, Party};
use sirnn_backends::transport::{Channel, printable};
use sirnn_backends::vector::{Vector, VectorWord};
use sirnn_backends::{Error, with_words};
use sirnn_kernels::{aes::Prg, memory};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Below the engine: network, peer, correlations.
    #[error("{scope}{source}")]
    Backend {
        /// Round and what was going on, with a separator; empty where it is not known.
        scope: String,
        /// The cause.
        source: Error,
    },
    /// An input does not fit its declaration.
    #[error("input {0}")]
    Input(String),
}

impl From<Error> for RunError {
    fn from(source: Error) -> Self {
        RunError::Backend { scope: String::new(), source }
    }
}

/// A party in a run: who it is, what it brings, what it consumes.
pub struct PartyRun<'a> {
    /// The plan, the same at both parties.
    pub plan: &'a Plan,
    /// Which party.
    pub party: Party,
    /// Correlations for `plan.needs`.
    pub correlations: &'a mut dyn Correlations,
    /// Connection for the online phase.
    pub channel: &'a mut dyn Channel,
    /// Masks; seeded by the operating system.
    pub prg: &'a mut Prg,
    /// Where to note what happens when.
    pub trace: Option<&'a mut Trace>,
}

/// Prepared products, by task: what is left of them.
pub type Prepared = Vec<LinearShare>;

/// Binds and checks this party's inputs.
pub fn bind(plan: &Plan, party: Party, inputs: &Inputs) -> Result<HashMap<Reg, Arc<Vector>>, RunError> {
    let mut out = HashMap::new();
    for input in &plan.program.inputs {
        let ty = plan.program.ty(input.reg);
        if ty.holder != Holder::Only(party) {
            continue;
        }
        let values = inputs.get(&input.name).ok_or_else(|| RunError::Input(format!("'{}' is missing", input.name)))?;
        shares::check_range(&input.name, ty, values).map_err(RunError::Input)?;
        out.insert(input.reg, Arc::new(shares::encode(ty, values)));
    }
    Ok(out)
}

impl PartyRun<'_> {
    /// The part of the offline phase that depends on the weights: products with fresh masks, for all trips.
    /// `public` is what ring-LWE draws its public polynomials from, `keys` are those of an earlier session, if it left some.
    pub fn prepare(
        &mut self,
        inputs: &HashMap<Reg, Arc<Vector>>,
        public: &Public,
        keys: &mut Option<Keys>,
    ) -> Result<Prepared, RunError> {
        let weights = |task: &LinearTask| inputs.get(&task.weights).map(|w| &**w);
        let (tasks, factors): (Vec<_>, Vec<_>) =
            self.plan.linear.iter().filter_map(|task| Some((task.rlwe()?, weights(task)))).unzip();
        let mut from_rlwe = match tasks[..] {
            [] => Vec::new(),
            _ => forms::linear_rlwe::linear_rlwe_offline(self.party, public, &tasks, &factors, keys, self.channel)?,
        }
        .into_iter();
        let mut prepared = Vec::new();
        for task in &self.plan.linear {
            let LinearTask { op, weight_bits, width, n, trips, .. } = *task;
            let weights = weights(task);
            if task.form.is_some() {
                prepared.extend(from_rlwe.next());
                continue;
            }
            prepared.push(forms::linear_offline(
                self.party,
                op,
                weight_bits,
                width,
                n * trips,
                weights,
                self.correlations,
                self.channel,
                self.prg,
            )?);
        }
        self.channel.flush()?;
        Ok(prepared)
    }

    /// The online phase. `progress` is called after every round with the number of rounds done. Returns the outputs that this party gets.
    pub fn online(
        &mut self,
        inputs: HashMap<Reg, Arc<Vector>>,
        prepared: Prepared,
        progress: &mut dyn FnMut(usize),
    ) -> Result<BTreeMap<String, Vec<i128>>, RunError> {
        let program = &self.plan.program;
        let mut globals = inputs;
        let mut prepared: Vec<Option<LinearShare>> = prepared.into_iter().map(Some).collect();
        let mut round = 0;
        for b in 0..program.blocks.len() {
            let mut run = BlockRun::new(self, b, &globals, &mut prepared);
            round = run.execute(round, progress)?;
            let made = run.exports();
            globals.extend(made);
        }
        let mut outputs = BTreeMap::new();
        for (name, reg) in &program.outputs {
            if let Some(v) = globals.get(reg) {
                let ty = program.ty(*reg);
                outputs.insert(name.clone(), shares::words(v).into_iter().map(|w| ty.decode(w)).collect());
            }
        }
        Ok(outputs)
    }
}

/// What to do at a time of a trip, in order.
#[derive(Default)]
struct Agenda {
    draw: Vec<usize>,
    compute: Vec<usize>,
    send: Vec<(usize, usize)>,
    receive: Vec<(usize, usize)>,
}

/// A trip under way.
struct Trip {
    regs: Vec<Operand>,
    /// Reads of each register that are still to come.
    uses: Vec<u32>,
    instances: Vec<Option<Box<dyn Instance>>>,
    /// Things that an instance still has to do.
    steps: Vec<u32>,
}

struct BlockRun<'r, 'a> {
    party: &'r mut PartyRun<'a>,
    index: usize,
    globals: &'r HashMap<Reg, Arc<Vector>>,
    prepared: Vec<(usize, VecDeque<LinearShare>)>,
    agenda: Vec<Agenda>,
    messages: Vec<Vec<Message>>,
    uses: Vec<u32>,
    steps: Vec<u32>,
    first: usize,
    /// Trips from number `oldest` on.
    trips: VecDeque<Trip>,
    oldest: usize,
    stacked: Vec<Vec<Operand>>,
    last: Vec<Operand>,
}

fn slice(v: &Vector, from: usize, len: usize) -> Vector {
    with_words!(v, xs => VectorWord::wrap(xs[from..from + len].to_vec()))
}

impl<'r, 'a> BlockRun<'r, 'a> {
    fn new(
        party: &'r mut PartyRun<'a>,
        index: usize,
        globals: &'r HashMap<Reg, Arc<Vector>>,
        prepared: &mut [Option<LinearShare>],
    ) -> Self {
        let plan = party.plan;
        let (program, s) = (&plan.program, &plan.blocks[index]);
        let block = &program.blocks[index];
        let me = party.party;
        let mut agenda: Vec<Agenda> = (0..=s.length).map(|_| Agenda::default()).collect();
        let mut uses = vec![0; s.available.len()];
        let mut steps = vec![0; block.nodes.len()];
        let mut messages = vec![Vec::new(); block.nodes.len()];
        let local = |r: &Reg| (program.home[r.0 as usize] == index).then(|| r.0 as usize - s.first as usize);
        for (i, (node, times)) in block.nodes.iter().zip(&s.nodes).enumerate() {
            let takes_part = match (times, &node.op) {
                (Times::Local(t), _) => {
                    if let Some(t) = t[me.index()] {
                        agenda[t].compute.push(i);
                    }
                    t[me.index()].is_some()
                }
                (Times::Inter { draw, messages: rounds, ready }, Op::Inter(inst)) => {
                    messages[i] = inst.messages(node.instances(&program.regs));
                    agenda[*draw].draw.push(i);
                    for (m, (message, &round)) in messages[i].iter().zip(rounds).enumerate() {
                        let list = &mut agenda[round];
                        if message.from == me { &mut list.send } else { &mut list.receive }.push((i, m));
                    }
                    if let Some(t) = ready[me.index()] {
                        agenda[t].compute.push(i);
                    }
                    steps[i] = (rounds.len() + usize::from(ready[me.index()].is_some())) as u32;
                    true
                }
                _ => unreachable!("times are of the node's kind"),
            };
            if takes_part {
                node.ins.iter().filter_map(local).for_each(|r| uses[r] += 1);
            }
        }
        // Values that outlive their trip.
        let kept =
            block.carries.iter().map(|c| &c.next).chain(block.stacks.iter().chain(&block.finals).map(|(r, _)| r));
        kept.filter_map(local).for_each(|r| uses[r] += 1);
        for reg in later_reads(plan, index) {
            local(&reg).into_iter().for_each(|r| uses[r] += 1);
        }
        let tasks = plan.linear.iter().enumerate().filter(|(_, t)| t.node.0 == index);
        let prepared = tasks
            .map(|(k, t)| {
                let all = prepared[k].take().expect("prepared once");
                let out = t.op.output_len(t.n);
                let trip = |i: usize| LinearShare {
                    mask: all.mask.as_ref().map(|m| slice(m, i * t.n, t.n)),
                    share: slice(&all.share, i * out, out),
                };
                (t.node.1, (0..t.trips).map(trip).collect())
            })
            .collect();
        Self {
            index,
            globals,
            prepared,
            agenda,
            messages,
            uses,
            steps,
            first: s.first as usize,
            trips: VecDeque::new(),
            oldest: 0,
            stacked: vec![Vec::new(); block.stacks.len()],
            last: vec![None; block.finals.len()],
            party,
        }
    }

    fn start_trip(&mut self, number: usize) {
        let program = &self.party.plan.program;
        let block = &program.blocks[self.index];
        let mut trip = Trip {
            regs: vec![None; self.uses.len()],
            uses: self.uses.clone(),
            instances: block.nodes.iter().map(|_| None).collect(),
            steps: self.steps.clone(),
        };
        // Inputs, and results of the loop before: made elsewhere, at home here.
        for (reg, value) in self.globals.iter().filter(|(r, _)| program.home[r.0 as usize] == self.index) {
            trip.regs[reg.0 as usize - self.first] = Some(value.clone());
        }
        for &(outer, inner) in &block.slices {
            let len = program.ty(inner).len;
            let part = self.globals.get(&outer).map(|v| Arc::new(slice(v, number * len, len)));
            trip.regs[inner.0 as usize - self.first] = part;
        }
        if number == 0 {
            for carry in &block.carries {
                trip.regs[carry.param.0 as usize - self.first] = self.globals.get(&carry.init).cloned();
            }
        }
        self.trips.push_back(trip);
    }

    fn operand(&self, trip: usize, reg: Reg) -> Operand {
        if self.party.plan.program.home[reg.0 as usize] == self.index {
            self.trips[trip - self.oldest].regs[reg.0 as usize - self.first].clone()
        } else {
            self.globals.get(&reg).cloned()
        }
    }

    fn operands(&self, trip: usize, node: usize) -> Vec<Operand> {
        let ins = &self.party.plan.program.blocks[self.index].nodes[node].ins;
        ins.iter().map(|&r| self.operand(trip, r)).collect()
    }

    fn release(&mut self, trip: usize, reg: Reg) {
        if self.party.plan.program.home[reg.0 as usize] == self.index {
            let t = &mut self.trips[trip - self.oldest];
            let i = reg.0 as usize - self.first;
            t.uses[i] -= 1;
            if t.uses[i] == 0 {
                t.regs[i] = None;
            }
        }
    }

    fn store(&mut self, trip: usize, reg: Reg, value: Arc<Vector>) {
        let block = &self.party.plan.program.blocks[self.index];
        for carry in block.carries.iter().filter(|c| c.next == reg) {
            if trip + 1 < block.trips {
                while self.oldest + self.trips.len() <= trip + 1 {
                    self.start_trip(self.oldest + self.trips.len());
                }
                let i = carry.param.0 as usize - self.first;
                self.trips[trip + 1 - self.oldest].regs[i] = Some(value.clone());
            }
        }
        for (k, _) in block.stacks.iter().enumerate().filter(|(_, s)| s.0 == reg) {
            let rows = &mut self.stacked[k];
            rows.resize(rows.len().max(trip + 1), None);
            rows[trip] = Some(value.clone());
        }
        if trip + 1 == block.trips {
            for (k, _) in block.finals.iter().enumerate().filter(|(_, f)| f.0 == reg) {
                self.last[k] = Some(value.clone());
            }
        }
        let i = reg.0 as usize - self.first;
        let t = &mut self.trips[trip - self.oldest];
        if t.uses[i] > 0 {
            t.regs[i] = Some(value);
        }
    }

    /// One step of an instance is done; after the last its operands are free.
    fn step(&mut self, trip: usize, node: usize) {
        let t = &mut self.trips[trip - self.oldest];
        t.steps[node] -= 1;
        if t.steps[node] == 0 {
            t.instances[node] = None;
            let plan = self.party.plan;
            for &reg in &plan.program.blocks[self.index].nodes[node].ins {
                self.release(trip, reg);
            }
        }
    }

    fn instance(&mut self, trip: usize, node: usize) -> &mut Box<dyn Instance> {
        self.trips[trip - self.oldest].instances[node].as_mut().expect("drawn before it is used")
    }

    fn draw(&mut self, trip: usize, node: usize) -> Result<(), Error> {
        let program = &self.party.plan.program;
        let n = &program.blocks[self.index].nodes[node];
        let Op::Inter(inst) = &n.op else { unreachable!("only interactive nodes draw") };
        let linear = self.prepared.iter_mut().find(|(i, _)| *i == node).and_then(|(_, q)| q.pop_front());
        let count = n.instances(&program.regs);
        let p = &mut *self.party;
        let started = forms::start(inst, count, p.party, p.correlations, p.prg, linear)?;
        self.trips[trip - self.oldest].instances[node] = Some(started);
        Ok(())
    }

    fn compute(&mut self, trip: usize, node: usize) {
        let plan = self.party.plan;
        let program = &plan.program;
        let n = &program.blocks[self.index].nodes[node];
        match &n.op {
            Op::Local(op) => {
                let ty = program.ty(n.outs[0]);
                debug_assert!(executes(ty, self.party.party));
                let operands = self.operands(trip, node);
                let ins: Vec<&Arc<Vector>> = operands.iter().flatten().collect();
                let first = self.party.party == Party::P0 || ty.holder != Holder::Both;
                let value = local::eval(op, first, &ins, ty);
                self.store(trip, n.outs[0], value);
                for &reg in &n.ins {
                    self.release(trip, reg);
                }
            }
            Op::Inter(_) => {
                let operands = self.operands(trip, node);
                let results = self.instance(trip, node).finish(&operands);
                for (&reg, value) in n.outs.iter().zip(results) {
                    self.store(trip, reg, Arc::new(value));
                }
                self.step(trip, node);
            }
        }
    }

    /// The protocols with a message in a round, by trip; if there are none, those that are computed. Empty if there is nothing to do.
    fn label(&self, agenda: &[Agenda], active: &[(usize, usize)]) -> String {
        let program = &self.party.plan.program;
        let nodes = &program.blocks[self.index].nodes;
        let label = |of: &dyn Fn(&Agenda) -> Vec<usize>| {
            let mut parts: Vec<String> = Vec::new();
            for &(trip, time) in active {
                for node in of(&agenda[time]) {
                    let path = program.path(nodes[node].scope);
                    let path = match &nodes[node].op {
                        Op::Inter(inst) if path.is_empty() => instruction(inst).into(),
                        Op::Local(_) if path.is_empty() => "local".into(),
                        _ => path,
                    };
                    let part = if self.stepped() { format!("step {trip} {path}") } else { path };
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
            }
            parts.join(", ")
        };
        let talking = label(&|a| a.send.iter().chain(&a.receive).map(|&(node, _)| node).collect());
        if talking.is_empty() { label(&|a| a.compute.clone()) } else { talking }
    }

    fn stepped(&self) -> bool {
        self.party.plan.program.blocks[self.index].trips > 1
    }

    /// Runs all trips; `round` numbers frames over all blocks. Returns the number of the next round.
    fn execute(&mut self, start: usize, progress: &mut dyn FnMut(usize)) -> Result<usize, RunError> {
        let plan = self.party.plan;
        let s = &plan.blocks[self.index];
        let trips = plan.program.blocks[self.index].trips;
        let me = self.party.party;
        let total = s.rounds(trips);
        let agenda = std::mem::take(&mut self.agenda);
        // One buffer for all frames of a direction: fresh memory takes time.
        let longest = |p: Party| plan.frames[start..start + total].iter().map(|f| f[p.index()]).max().unwrap_or(0);
        let mut out = memory::zeroed::<u8>(FRAME_HEADER + longest(me));
        let mut inbox = memory::zeroed::<u8>(longest(me.other()));
        for round in 0..=total {
            let number = start + round;
            let context = |e: Error, what: &str| RunError::Backend {
                scope: format!("round {number} of {}, {what}: ", plan.frames.len()),
                source: e,
            };
            let active: Vec<(usize, usize)> = trips_at(s, trips, round).collect();
            self.keep(&active);
            let label = self.party.trace.as_ref().map(|_| self.label(&agenda, &active));
            if let (Some(trace), Some(label)) = (&mut self.party.trace, label) {
                trace.start(number, label);
            }
            for &(trip, time) in &active {
                for &node in &agenda[time].draw {
                    self.draw(trip, node).map_err(|e| context(e, "correlations"))?;
                }
            }
            for &(trip, time) in &active {
                for &node in &agenda[time].compute {
                    self.compute(trip, node);
                }
            }
            if round == total {
                if let Some(trace) = &mut self.party.trace {
                    trace.sent(0);
                }
                break;
            }
            let [mine, theirs] = [me, me.other()].map(|p| plan.frames[number][p.index()]);
            // Messages without instances are empty, but are made and read like others.
            let out = &mut out[..FRAME_HEADER + mine];
            out[..FRAME_HEADER].copy_from_slice(&header(number, mine));
            self.write(&agenda, &active, &mut out[FRAME_HEADER..]);
            if mine > 0 {
                self.party.channel.send(out).map_err(|e| context(e, "sending"))?;
            }
            if let Some(trace) = &mut self.party.trace {
                trace.sent(mine);
            }
            let inbox = &mut inbox[..theirs];
            if theirs > 0 {
                expect_frame(self.party.channel, number, theirs).map_err(|e| context(e, "receiving"))?;
                self.party.channel.recv(inbox).map_err(|e| context(e, "receiving"))?;
                if let Some(trace) = &mut self.party.trace {
                    trace.received(theirs);
                }
            }
            self.read(&agenda, &active, inbox).map_err(|(e, scope)| context(e, &scope))?;
            progress(number + 1);
        }
        self.party.channel.flush()?;
        Ok(start + total)
    }

    /// Starts the trips that become active, and drops those that no longer are.
    fn keep(&mut self, active: &[(usize, usize)]) {
        let (Some(first), Some(last)) = (active.first(), active.last()) else { return };
        while self.oldest + self.trips.len() <= last.0 {
            self.start_trip(self.oldest + self.trips.len());
        }
        while self.oldest < first.0 {
            self.trips.pop_front();
            self.oldest += 1;
        }
    }

    /// Writes the messages of a round.
    fn write(&mut self, agenda: &[Agenda], active: &[(usize, usize)], payload: &mut [u8]) {
        let mut rest = payload;
        for &(trip, time) in active {
            for &(node, m) in &agenda[time].send {
                let (section, behind) = rest.split_at_mut(self.messages[node][m].bytes);
                let operands = self.operands(trip, node);
                self.instance(trip, node).produce(m, &operands, section);
                self.step(trip, node);
                rest = behind;
            }
        }
        debug_assert!(rest.is_empty(), "a frame is exactly its messages");
    }

    /// Reads the peer's messages of a round. An error comes with the protocol that it happened in.
    fn read(&mut self, agenda: &[Agenda], active: &[(usize, usize)], payload: &[u8]) -> Result<(), (Error, String)> {
        let mut rest = payload;
        for &(trip, time) in active {
            for &(node, m) in &agenda[time].receive {
                let (section, behind) = rest.split_at(self.messages[node][m].bytes);
                let operands = self.operands(trip, node);
                self.instance(trip, node).consume(m, &operands, section).map_err(|e| {
                    let program = &self.party.plan.program;
                    (e, program.path(program.blocks[self.index].nodes[node].scope))
                })?;
                self.step(trip, node);
                rest = behind;
            }
        }
        Ok(())
    }

    /// Registers of this block, and made from it, that later blocks read.
    fn exports(mut self) -> Vec<(Reg, Arc<Vector>)> {
        let plan = self.party.plan;
        let block = &plan.program.blocks[self.index];
        let mut out = Vec::new();
        for (&(_, outer), value) in block.finals.iter().zip(&mut self.last) {
            out.extend(value.take().map(|v| (outer, v)));
        }
        for (&(_, outer), rows) in block.stacks.iter().zip(&self.stacked) {
            let rows: Vec<&Arc<Vector>> = rows.iter().flatten().collect();
            out.push((outer, local::eval(&LocalOp::Concat, true, &rows, plan.program.ty(outer))));
        }
        for reg in later_reads(plan, self.index) {
            if plan.program.home[reg.0 as usize] == self.index && block.trips == 1 {
                let made = self.trips.back().and_then(|t| t.regs.get(reg.0 as usize - self.first).cloned().flatten());
                out.extend(made.map(|v| (reg, v)));
            }
        }
        out
    }
}

/// Receives the header of a frame, which has to be this one.
///
/// # Errors
/// It is another, or the peer says that it ends the session.
pub(crate) fn expect_frame(channel: &mut dyn Channel, number: usize, payload: usize) -> Result<(), Error> {
    let mut head = [0; FRAME_HEADER];
    channel.recv(&mut head)?;
    if head == header(number, payload) {
        return Ok(());
    }
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if head == header(FAREWELL, length) && length <= MAX_FAREWELL {
        let mut reason = vec![0; length];
        channel.recv(&mut reason)?;
        return Err(Error::Ended(printable(&String::from_utf8_lossy(&reason))));
    }
    Err(Error::Protocol(format!("another frame than number {number} was sent")))
}

/// Why the peer ended the session, if that is what it sent last.
pub(crate) fn last_word(channel: &mut dyn Channel) -> Option<String> {
    match expect_frame(channel, FAREWELL, usize::MAX) {
        Err(Error::Ended(reason)) => Some(reason),
        _ => None,
    }
}

/// Number of the frame that ends a session early.
const FAREWELL: usize = u32::MAX as usize;
/// Longest reason in it.
const MAX_FAREWELL: usize = 300;

/// The frame that tells the peer why a session ends early, in the place of any other.
pub fn farewell(reason: &str) -> Vec<u8> {
    let mut reason = printable(reason).into_bytes();
    reason.truncate(MAX_FAREWELL);
    [&header(FAREWELL, reason.len())[..], &reason].concat()
}

pub(crate) fn header(round: usize, payload: usize) -> [u8; FRAME_HEADER] {
    let mut h = [0; FRAME_HEADER];
    h[..4].copy_from_slice(&(round as u32).to_le_bytes());
    h[4..].copy_from_slice(&(payload as u32).to_le_bytes());
    h
}

/// Registers that blocks after `index`, or the outputs, read.
fn later_reads(plan: &Plan, index: usize) -> Vec<Reg> {
    let program = &plan.program;
    let mut regs: Vec<Reg> = program.outputs.iter().map(|(_, r)| *r).collect();
    for block in &program.blocks[index + 1..] {
        regs.extend(block.nodes.iter().flat_map(|n| n.ins.iter().copied()));
        regs.extend(block.slices.iter().map(|s| s.0));
        regs.extend(block.carries.iter().map(|c| c.init));
    }
    regs.sort_unstable();
    regs.dedup();
    regs.retain(|r| program.home[r.0 as usize] <= index);
    regs
}
