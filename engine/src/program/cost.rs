//! What the builder goes by when a function has several forms: what is to be least, and what a correlation costs.
//!
//! It stands here and not with the planner ([`crate::plan`]) because functions choose their forms while they are
//! lowered, and the planner works on programs: so that the dependency points one way.

use super::{Build, Cx, Op, Reg};
use sirnn_backends::inst::{CorrelationKind, Party};
use sirnn_backends::onehot::Shape;
use sirnn_backends::ot::BackendSpec;

/// What the builder optimises when a function has several forms.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Goal {
    /// Fewest rounds, then bytes.
    Rounds,
    /// Fewest bytes, then rounds.
    Bytes,
    /// Fewest bytes in the online phase, then rounds: for who makes correlations ahead of time.
    Online,
    /// Least time on a link: bits per second, and seconds that a round costs.
    Time {
        /// Bandwidth of one direction.
        bits_per_second: f64,
        /// One-way latency.
        latency: f64,
    },
}

/// Bytes on the wire, both ways, that one correlation costs; what the choice of forms goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// A correlated OT.
    pub cot: f64,
    /// A random 1-of-`2^k` OT, for `k` = 0..=12.
    pub one_of: [f64; 13],
    /// A bit triple with one column.
    pub triple: f64,
    /// A bit triple with several columns.
    pub triples: f64,
    /// A one-hot vector of `2^d` bits, for `d` = 2..=16.
    pub one_hot: [OneHotRate; 17],
}

/// How a one-hot vector is best made, and for how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OneHotRate {
    /// See [`Shape::top`].
    pub top: u8,
    /// Bytes, both ways.
    pub bytes: f64,
}

/// What a correlated OT counts for, in bytes, besides those on the wire, when the number of OTs in a one-hot vector is chosen: a few
/// nanoseconds at either party.
// AGREEMENT.
const OT_WORK: f64 = 0.5;
/// What the shares of products with the server's weights are made from, before the online phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearForms {
    /// Correlated OTs: bytes for every weight and row. A client cannot read weights in the offline phase, whatever it sends.
    #[default]
    Cot,
    /// Ring-LWE ([`sirnn_backends::forms::linear_rlwe`]) wherever there is such a form: bytes for every element.
    Rlwe,
    /// For each matrix what is fewer bytes.
    Auto,
}

impl LinearForms {
    /// What both a server and a client accept, if there is such a thing.
    pub fn agree(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Auto, x) | (x, Self::Auto) => Some(x),
            (x, y) => (x == y).then_some(x),
        }
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cot => "cot",
            Self::Rlwe => "rlwe",
            Self::Auto => "auto",
        }
    }
}

/// Choices that both parties must share: AGREEMENT, hashed into the handshake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// What to optimise.
    pub goal: Goal,
    /// Costs of the OT backend.
    pub rates: Rates,
    /// Where products with the weights come from.
    pub linear: LinearForms,
    /// Sessions of one plan that follow each other in a lane: they share the server's keys of products from ring-LWE.
    pub sessions: u64,
}

impl Rates {
    /// IKNP for correlated OT, KK13 for 1-of-N up to 256, and triples as they make them.
    pub fn iknp() -> Self {
        let one_of = std::array::from_fn(|k| match k {
            0 => 0.0,
            2..=8 => (256 - (256 >> k) - k) as f64 / 8.0,
            _ => 16.0 * k as f64,
        });
        // Half a 1-of-16 OT and half of its 30 bits of payload.
        let cot = 16.0;
        Self { cot, one_of, triple: (one_of[4] + 30.0 / 8.0) / 2.0, triples: 32.0, one_hot: Self::one_hot(cot) }
    }

    /// From the bytes of a correlated OT.
    fn one_hot(cot: f64) -> [OneHotRate; 17] {
        std::array::from_fn(|bits| {
            if bits < 2 {
                return OneHotRate::default();
            }
            let rate = |top| {
                let shape = Shape { bits: bits as u8, top, sign: true };
                let cots = 2.0 * shape.cots() as f64;
                let bytes = shape.bits_sent() as f64 / 8.0 + cots * cot;
                (bytes + cots * OT_WORK, OneHotRate { top, bytes })
            };
            let all = Shape::tops(bits as u8).map(rate);
            all.min_by(|a, b| a.0.total_cmp(&b.0)).expect("every length can be made").1
        })
    }

    /// The same correlations for nothing: what is left counts online.
    fn online(self) -> Self {
        let one_hot = self.one_hot.map(|rate| OneHotRate { bytes: 0.0, ..rate });
        Self { cot: 0.0, one_of: [0.0; 13], triple: 0.0, triples: 0.0, one_hot }
    }

    /// Those of a backend.
    pub fn of(backend: &dyn BackendSpec) -> Self {
        // Both directions cost the same.
        let sender = Party::P0;
        let mut one_of = [0.0; 13];
        for (bits, rate) in one_of.iter_mut().enumerate().skip(1) {
            *rate = backend.bytes_per(CorrelationKind::OneOf { sender, bits: bits as u8 });
        }
        let cot = backend.bytes_per(CorrelationKind::Cot { sender });
        Self {
            cot,
            one_hot: Self::one_hot(cot),
            one_of,
            triple: backend.bytes_per(CorrelationKind::Triple { cols: 1 }),
            triples: backend.bytes_per(CorrelationKind::Triple { cols: 2 }),
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self { goal: Goal::Bytes, rates: Rates::iknp(), linear: LinearForms::Cot, sessions: 1 }
    }
}

impl Profile {
    /// For a goal and a backend.
    pub fn of(goal: Goal, backend: &dyn BackendSpec) -> Self {
        let rates = Rates::of(backend);
        let rates = if goal == Goal::Online { rates.online() } else { rates };
        Self { goal, rates, linear: LinearForms::Cot, sessions: 1 }
    }

    /// Orders forms: lower is better. `bytes` per instance, `n` instances.
    pub fn score(&self, rounds: u32, bytes: f64, n: usize) -> (f64, f64) {
        match self.goal {
            Goal::Rounds => (f64::from(rounds), bytes),
            Goal::Bytes | Goal::Online => (bytes, f64::from(rounds)),
            Goal::Time { bits_per_second, latency } => {
                (f64::from(rounds) * latency + bytes * n as f64 * 8.0 / bits_per_second, bytes)
            }
        }
    }
}

impl Rates {
    /// Bytes of one correlation.
    fn bytes(&self, kind: CorrelationKind) -> f64 {
        match kind {
            CorrelationKind::Cot { .. } => self.cot,
            CorrelationKind::OneOf { bits, .. } => self.one_of[usize::from(bits)],
            CorrelationKind::Triple { cols: 1 } => self.triple,
            CorrelationKind::Triple { .. } => self.triples,
            CorrelationKind::OneHot(shape) => self.one_hot[usize::from(shape.bits)].bytes,
        }
    }
}

impl Cx {
    /// Rounds (from above: operands are as good as shared at the same time) and bytes per element of what `lower` would add for
    /// operands like these.
    pub(crate) fn price(
        &self,
        operands: &[Reg],
        lower: impl FnOnce(&mut Cx, &[Reg]) -> Build<Vec<Reg>>,
    ) -> Build<(u32, f64)> {
        let mut trial = Cx::new(self.profile);
        let ins: Vec<Reg> = operands.iter().map(|&r| trial.reg(self.ty(r).clone())).collect();
        lower(&mut trial, &ins)?;
        let program = trial.finish();
        let mut ready = vec![0u32; program.regs.len()];
        let mut bytes = 0.0;
        for node in program.blocks.iter().flat_map(|b| &b.nodes) {
            let at = |ready: &[u32], reg: Reg| ready[reg.0 as usize];
            let mut done = node.ins.iter().map(|&r| at(&ready, r)).max().unwrap_or(0);
            if let Op::Inter(inst) = &node.op {
                let n = node.instances(&program.regs);
                let mut arrived: Vec<u32> = Vec::new();
                for message in inst.messages(n) {
                    let needed = message.needs.iter().map(|&i| at(&ready, node.ins[i])).max().unwrap_or(0);
                    let before = message.after.map_or(0, |a| arrived[a]);
                    arrived.push(needed.max(before) + 1);
                    bytes += message.bytes as f64;
                }
                done = arrived.into_iter().fold(done, u32::max);
                bytes += inst.demand(n).map_or(0.0, |(kind, n)| self.profile.rates.bytes(kind) * n as f64);
            }
            node.outs.iter().for_each(|r| ready[r.0 as usize] = done);
        }
        let n = operands.first().map_or(1, |&r| self.ty(r).len).max(1);
        Ok((ready.into_iter().max().unwrap_or(0), bytes / n as f64))
    }
}
