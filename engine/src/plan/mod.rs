//! The plan: a program with its schedule, and everything that follows from both before anything runs: frames, rounds,
//! bytes, correlations in the order of their use, memory, and the digest that both parties compare.

pub mod choice;
pub mod correlations;
mod digest;
pub mod explain;
pub mod operations;
pub mod planner;
pub mod schedule;
pub mod speeds;

use crate::program::{LinearForms, Op, Profile, Program, Reg};
use schedule::{BlockSchedule, Time, Times};
use sirnn_backends::forms::{linear_offline_cost, linear_rlwe};
use sirnn_backends::inst::{CorrelationKind, Inst, LinearOp, Party};
use sirnn_backends::ot::{self, cost::Cost, streams::Mode};
use sirnn_backends::vector::Vector;

/// Bytes of a frame's header: round number and payload length, 4 bytes each.
pub const FRAME_HEADER: usize = 8;

/// Version of everything that the digest covers. Raise it when the wire changes without the plan showing it.
// AGREEMENT.
pub const WIRE_VERSION: u32 = 4;

/// What products with the weights are made from, where that is correlations.
const PRODUCTS: CorrelationKind = CorrelationKind::Cot { sender: Party::P1 };

/// A matrix that the offline phase prepares: one per [`Inst::Linear`] node, for all trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearTask {
    /// Block and node.
    pub node: (usize, usize),
    /// The weights: an input of the program.
    pub weights: Reg,
    /// The map.
    pub op: LinearOp,
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Ring.
    pub width: u8,
    /// Input elements of one trip.
    pub n: usize,
    /// Trips.
    pub trips: usize,
    /// How the products come from ring-LWE; if not, from correlated OTs.
    pub form: Option<linear_rlwe::Form>,
}

impl LinearTask {
    /// What ring-LWE has to make.
    pub fn task(&self) -> linear_rlwe::Task {
        let Self { op, weight_bits, width, n, trips, .. } = *self;
        linear_rlwe::Task { op, weight_bits, width, n: n * trips }
    }

    /// The task and its form, if that is ring-LWE's.
    pub fn rlwe(&self) -> Option<(linear_rlwe::Task, linear_rlwe::Form)> {
        self.form.map(|form| (self.task(), form))
    }

    /// Correlated OTs with P1 as sender, bytes to P1, bytes to P0, without ring-LWE.
    pub fn cot_cost(&self) -> (u64, u64, u64) {
        let (cots, to_p1, to_p0) = linear_offline_cost(self.op, self.weight_bits, self.width, self.n * self.trips);
        (cots as u64, to_p1 as u64, to_p0 as u64)
    }

    /// The same for the task's form. The client's keys, which serve all tasks, are not in it.
    pub fn offline_cost(&self) -> (u64, u64, u64) {
        match self.rlwe() {
            None => self.cot_cost(),
            Some((task, form)) => {
                let cost = linear_rlwe::cost(&task, form);
                (0, cost.to_p1, cost.to_p0)
            }
        }
    }
}

/// Gives each task the form that the profile asks for.
fn choose_forms(linear: &mut [LinearTask], profile: &Profile) {
    let cot = |task: &LinearTask| {
        let (cots, to_p1, to_p0) = task.cot_cost();
        (to_p1 + to_p0) as f64 + cots as f64 * profile.rates.cot
    };
    let otherwise: Vec<f64> = match profile.linear {
        LinearForms::Cot => return,
        LinearForms::Rlwe => vec![f64::INFINITY; linear.len()],
        LinearForms::Auto => linear.iter().map(cot).collect(),
    };
    let tasks: Vec<linear_rlwe::Task> = linear.iter().map(LinearTask::task).collect();
    for (task, form) in linear.iter_mut().zip(linear_rlwe::choose(&tasks, &otherwise, profile.sessions)) {
        task.form = form;
    }
}

/// A planned program.
#[derive(Debug)]
pub struct Plan {
    /// The program.
    pub program: Program,
    /// How its forms were chosen.
    pub profile: Profile,
    /// One schedule per block.
    pub blocks: Vec<BlockSchedule>,
    /// Payload bytes of each party's frame in each round.
    pub frames: Vec<[usize; 2]>,
    /// Correlations in the order in which they are drawn.
    pub needs: Vec<(CorrelationKind, u64)>,
    /// Offline products.
    pub linear: Vec<LinearTask>,
    /// Digest of program, schedule and constants, over a canonical encoding.
    pub digest: [u8; 32],
}

impl Plan {
    /// Schedules a program and derives its cost.
    pub fn new(program: Program, profile: Profile) -> Self {
        let blocks: Vec<BlockSchedule> = (0..program.blocks.len()).map(|b| schedule::block(&program, b)).collect();
        let mut linear = Vec::new();
        for (b, block) in program.blocks.iter().enumerate() {
            for (i, node) in block.nodes.iter().enumerate() {
                if let Op::Inter(Inst::Linear { op, weight_bits, width }) = node.op {
                    let n = node.instances(&program.regs);
                    let weights = node.ins[0];
                    linear.push(LinearTask {
                        node: (b, i),
                        weights,
                        op,
                        weight_bits,
                        width,
                        n,
                        trips: block.trips,
                        form: None,
                    });
                }
            }
        }
        choose_forms(&mut linear, &profile);
        let mut needs = Vec::new();
        for task in &linear {
            add_need(&mut needs, PRODUCTS, task.offline_cost().0);
        }
        let mut frames = Vec::new();
        for (b, s) in blocks.iter().enumerate() {
            block_traffic(&program, b, s, &mut frames, &mut needs);
        }
        let digest = {
            let forms: Vec<_> = linear.iter().map(|task| task.form).collect();
            digest::digest(&program, &blocks, &profile, &forms)
        };
        Plan { program, profile, blocks, frames, needs, linear, digest }
    }

    /// Online rounds: one-way delays. A round in which nobody sends takes no time.
    pub fn rounds(&self) -> usize {
        self.frames.iter().filter(|f| f[0] + f[1] > 0).count()
    }

    /// Online bytes that each party sends, frame headers included.
    pub fn online_bytes(&self) -> [u64; 2] {
        let mut sum = [0; 2];
        for frame in &self.frames {
            for p in 0..2 {
                if frame[p] > 0 {
                    sum[p] += (frame[p] + FRAME_HEADER) as u64;
                }
            }
        }
        sum
    }

    /// Those of `needs` that the offline products draw, before anything else does.
    pub fn drawn_offline(&self) -> (CorrelationKind, u64) {
        (PRODUCTS, self.linear.iter().map(|task| task.offline_cost().0).sum())
    }

    /// Offline cost with a backend: set-up, correlations, and the products with the weights.
    pub fn offline_cost(&self, spec: &dyn ot::BackendSpec, mode: Mode) -> Cost {
        let mut cost = ot::streams::plan_cost(spec, &self.needs, mode);
        for task in &self.linear {
            let (_, to_p1, to_p0) = task.offline_cost();
            cost.bytes_from[0] += to_p1;
            cost.bytes_from[1] += to_p0;
            cost.rounds += if task.form.is_none() { 2 } else { 0 };
        }
        // Ring-LWE makes those of all its tasks together.
        cost.bytes_from[1] += self.key_bytes();
        cost.rounds += if self.linear.iter().any(|task| task.form.is_some()) { 2 } else { 0 };
        cost
    }

    /// Bytes of the keys that the client sends for products from ring-LWE.
    pub fn key_bytes(&self) -> u64 {
        linear_rlwe::session_key_bytes(self.linear.iter().filter_map(LinearTask::rlwe))
    }

    /// Bytes of the server's keys for products from ring-LWE. A session after another one of this plan in a lane does not send
    /// them: it uses those of the former.
    pub fn kept_key_bytes(&self) -> u64 {
        let keys = |(task, form)| linear_rlwe::cost(&task, form).keys;
        if self.keeps_keys() { self.linear.iter().filter_map(LinearTask::rlwe).map(keys).sum() } else { 0 }
    }

    /// Whether sessions of this plan leave keys for the next one.
    pub fn keeps_keys(&self) -> bool {
        self.profile.sessions > 1 && self.linear.iter().any(|task| task.form.is_some())
    }

    /// Values whose distance from what says nothing about the weights adds up: those that ring-LWE makes.
    pub fn values(&self) -> u64 {
        self.linear.iter().filter_map(LinearTask::rlwe).map(|(task, form)| linear_rlwe::cost(&task, form).values).sum()
    }

    /// Instances of interactive nodes, over all trips.
    pub fn instances(&self) -> u64 {
        let count = |b: &crate::program::Block| {
            let inter = b.nodes.iter().filter(|n| matches!(n.op, Op::Inter(_)));
            inter.map(|n| n.instances(&self.program.regs) as u64).sum::<u64>() * b.trips as u64
        };
        self.program.blocks.iter().map(count).sum()
    }

    /// Bytes of memory at the peak, by party: registers, frames, products of the offline phase; without correlations.
    pub fn memory(&self) -> [u64; 2] {
        let mut peak = [0; 2];
        let prepared: u64 = self
            .linear
            .iter()
            .map(|t| {
                let n = t.n * t.trips;
                (Vector::heap_bytes(t.width.into(), n) + Vector::heap_bytes(t.width.into(), t.op.output_len(n))) as u64
            })
            .sum();
        let frame = self.frames.iter().map(|f| f[0] + f[1]).max().unwrap_or(0) as u64;
        let mut kept = 0;
        for (b, s) in self.blocks.iter().enumerate() {
            let live = self.live_registers(b, s);
            for p in 0..2 {
                peak[p] = peak[p].max(kept + live[p]);
            }
            kept += self.exports(b);
        }
        let rlwe = || self.linear.iter().filter_map(LinearTask::rlwe);
        let making = linear_rlwe::memory(rlwe());
        let kept = if self.keeps_keys() { linear_rlwe::kept_memory(rlwe()) } else { [0; 2] };
        [0, 1].map(|p| kept[p] + (peak[p] + prepared + 2 * frame).max(prepared + making[p]))
    }

    fn size(&self, reg: Reg) -> u64 {
        let ty = self.program.ty(reg);
        match ty.ring {
            sirnn_backends::inst::Ring::Add(w) => Vector::heap_bytes(w.into(), ty.len) as u64,
            sirnn_backends::inst::Ring::Xor(k) => u64::from(k) * ty.len.div_ceil(64) as u64 * 8,
        }
    }

    /// Registers of a block that are alive at the same time, over all trips under way.
    fn live_registers(&self, b: usize, s: &BlockSchedule) -> [u64; 2] {
        let block = &self.program.blocks[b];
        let mut death = s.available.clone();
        for (node, times) in block.nodes.iter().zip(&s.nodes) {
            let last = match times {
                Times::Local(t) => t.map(|t| t.unwrap_or(0)),
                Times::Inter { messages, ready, .. } => {
                    let last = messages.iter().map(|m| m + 1).max().unwrap_or(0);
                    ready.map(|r| r.unwrap_or(0).max(last))
                }
            };
            for reg in node.ins.iter().filter(|r| self.program.home[r.0 as usize] == b) {
                let slot = &mut death[(reg.0 - s.first) as usize];
                for p in 0..2 {
                    slot[p] = slot[p].max(last[p]);
                }
            }
        }
        let interval = s.interval.max(1);
        let mut folded = vec![[0u64; 2]; interval.min(s.length + 1)];
        for (i, (from, to)) in s.available.iter().zip(&death).enumerate() {
            let size = self.size(Reg(s.first + i as u32));
            for p in 0..2 {
                for t in from[p]..=to[p] {
                    let slot = t % folded.len();
                    folded[slot][p] += size;
                }
            }
        }
        [0, 1].map(|p| folded.iter().map(|f| f[p]).max().unwrap_or(0))
    }

    fn exports(&self, b: usize) -> u64 {
        let block = &self.program.blocks[b];
        block.stacks.iter().chain(&block.finals).map(|&(_, outer)| self.size(outer)).sum()
    }
}

fn add_need(needs: &mut Vec<(CorrelationKind, u64)>, kind: CorrelationKind, n: u64) {
    match needs.last_mut() {
        Some((last, count)) if *last == kind => *count += n,
        _ => needs.push((kind, n)),
    }
}

/// Trips of a block that are at some time of theirs in round `round`: `(trip, time)`, earlier trips first.
pub fn trips_at(s: &BlockSchedule, trips: usize, round: Time) -> impl Iterator<Item = (usize, Time)> + use<> {
    let (interval, length) = (s.interval.max(1), s.length);
    let first = round.saturating_sub(length).div_ceil(interval);
    let last = (round / interval).min(trips - 1);
    (first..last + 1).map(move |t| (t, round - t * interval)).filter(move |&(_, time)| time <= length)
}

fn block_traffic(
    program: &Program,
    b: usize,
    s: &BlockSchedule,
    frames: &mut Vec<[usize; 2]>,
    needs: &mut Vec<(CorrelationKind, u64)>,
) {
    let block = &program.blocks[b];
    let mut bytes = vec![[0usize; 2]; s.length + 1];
    let mut draws: Vec<Vec<(CorrelationKind, u64)>> = vec![Vec::new(); s.length + 1];
    for (node, times) in block.nodes.iter().zip(&s.nodes) {
        if let (Op::Inter(inst), Times::Inter { draw, messages, .. }) = (&node.op, times) {
            let n = node.instances(&program.regs);
            for (m, &round) in inst.messages(n).iter().zip(messages) {
                bytes[round][m.from.index()] += m.bytes;
            }
            draws[*draw].extend(inst.demand(n).map(|(kind, n)| (kind, n as u64)));
        }
    }
    for round in 0..=s.rounds(block.trips) {
        let mut frame = [0; 2];
        for (_, time) in trips_at(s, block.trips, round) {
            for p in 0..2 {
                frame[p] += bytes[time][p];
            }
            for &(kind, n) in &draws[time] {
                add_need(needs, kind, n);
            }
        }
        if round < s.rounds(block.trips) {
            frames.push(frame);
        }
    }
}
