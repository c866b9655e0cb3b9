//! What correlations cost, before anything runs.

use crate::{Party, inst::Kind};

/// Bytes and rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Bytes that P0 and P1 send.
    pub bytes_from: [u64; 2],
    /// One-way delays on the longest chain of messages.
    pub rounds: u32,
}

/// Adds up messages in the order in which they are sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    bytes: [u64; 2],
    /// One-way delays on the longest chain of messages that ended at each party.
    depth: [u32; 2],
}

impl Ledger {
    /// One message; nothing if it is empty.
    pub fn message(&mut self, from: Party, bytes: u64) {
        let mut both = [0; 2];
        both[from.index()] = bytes;
        self.exchange(both);
    }

    /// Messages both ways at the same time; empty ones are not sent.
    pub fn exchange(&mut self, bytes: [u64; 2]) {
        let before = self.depth;
        for (from, bytes) in bytes.into_iter().enumerate() {
            if bytes > 0 {
                self.bytes[from] += bytes;
                self.depth[1 - from] = self.depth[1 - from].max(before[from] + 1);
            }
        }
    }

    /// The sum.
    pub fn cost(&self) -> Cost {
        Cost { bytes_from: self.bytes, rounds: self.depth[0].max(self.depth[1]) }
    }
}

/// Predicts the messages of a backend: the mirror of [`super::Backend`], call by call.
pub trait Meter {
    /// The messages of the set-up.
    fn setup(&mut self, ledger: &mut Ledger);
    /// The messages of [`super::Backend::generate`].
    fn generate(&mut self, kind: Kind, n: usize, ledger: &mut Ledger);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_the_longest_chain() {
        let mut l = Ledger::default();
        l.message(Party::P0, 5);
        l.message(Party::P0, 5);
        assert_eq!(l.cost(), Cost { bytes_from: [10, 0], rounds: 1 });
        l.exchange([1, 1]);
        assert_eq!(l.cost().rounds, 2);
        l.exchange([0, 0]);
        l.message(Party::P1, 1);
        l.message(Party::P0, 1);
        assert_eq!(l.cost(), Cost { bytes_from: [12, 2], rounds: 3 });
    }
}
