//! What the builder goes by when a function has several forms: what is to be least, and what a correlation costs.
//!
//! It stands here and not with the planner ([`crate::plan`]) because functions choose their forms while they are
//! lowered, and the planner works on programs: so that the dependency points one way.

use sirnn_backends::inst::{Kind, Party};
use sirnn_backends::ot::BackendSpec;

/// What the builder optimises when a function has several forms.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Goal {
    /// Fewest rounds, then bytes.
    Rounds,
    /// Fewest bytes, then rounds.
    Bytes,
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
}

/// Choices that both parties must share: AGREEMENT, hashed into the handshake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// What to optimise.
    pub goal: Goal,
    /// Costs of the OT backend.
    pub rates: Rates,
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
        Self { cot: 16.0, one_of, triple: (one_of[4] + 30.0 / 8.0) / 2.0, triples: 32.0 }
    }

    /// Those of a backend.
    pub fn of(backend: &dyn BackendSpec) -> Self {
        // Both directions cost the same.
        let sender = Party::P0;
        let mut one_of = [0.0; 13];
        for (bits, rate) in one_of.iter_mut().enumerate().skip(1) {
            *rate = backend.bytes_per(Kind::OneOf { sender, bits: bits as u8 });
        }
        Self {
            cot: backend.bytes_per(Kind::Cot { sender }),
            one_of,
            triple: backend.bytes_per(Kind::Triple { cols: 1 }),
            triples: backend.bytes_per(Kind::Triple { cols: 2 }),
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self { goal: Goal::Bytes, rates: Rates::iknp() }
    }
}

impl Profile {
    /// Orders forms: lower is better. `bytes` per instance, `n` instances.
    pub fn score(&self, rounds: u32, bytes: f64, n: usize) -> (f64, f64) {
        match self.goal {
            Goal::Rounds => (f64::from(rounds), bytes),
            Goal::Bytes => (bytes, f64::from(rounds)),
            Goal::Time { bits_per_second, latency } => {
                (f64::from(rounds) * latency + bytes * n as f64 * 8.0 / bits_per_second, bytes)
            }
        }
    }
}
