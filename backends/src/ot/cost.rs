//! What correlations cost, before anything runs.

use crate::{Party, inst::CorrelationKind};
use std::collections::VecDeque;

/// Bytes and rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Bytes that P0 and P1 send.
    pub bytes_from: [u64; 2],
    /// One-way delays on the longest chain of messages.
    pub rounds: u32,
}

/// Messages in the order in which they are sent.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Bytes that P0 and P1 send at the same time, each before it receives.
    exchanges: Vec<[u64; 2]>,
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
        self.exchanges.push(bytes);
    }

    /// The sum.
    pub fn cost(&self) -> Cost {
        cost_of(std::slice::from_ref(self), [&[0], &[0]])
    }
}

/// The cost of several steps, each with the messages of one ledger, that P0 and P1 take in orders of their own. In both
/// orders messages of one direction come alike.
pub(super) fn cost_of(steps: &[Ledger], orders: [&[usize]; 2]) -> Cost {
    let mut cost = Cost::default();
    // What each party does, last first: sends (bytes, true) or receives (bytes, false).
    let mut actions = [0, 1].map(|party: usize| {
        let exchanges = orders[party].iter().flat_map(|&step| &steps[step].exchanges);
        let both = exchanges.flat_map(|e| [(e[party], true), (e[1 - party], false)]);
        let mut actions: Vec<(u64, bool)> = both.filter(|(bytes, _)| *bytes > 0).collect();
        actions.reverse();
        actions
    });
    // One-way delays on the longest chain of messages that ended at each party, and before each message under way.
    let mut depth = [0; 2];
    let mut under_way = [VecDeque::new(), VecDeque::new()];
    loop {
        let before = [0, 1].map(|party: usize| actions[party].len());
        for party in 0..2 {
            while let Some(&(bytes, sends)) = actions[party].last() {
                if sends {
                    cost.bytes_from[party] += bytes;
                    under_way[party].push_back(depth[party] + 1);
                } else if let Some(arrived) = under_way[1 - party].pop_front() {
                    depth[party] = depth[party].max(arrived);
                } else {
                    break;
                }
                actions[party].pop();
            }
        }
        if before == [0, 1].map(|party: usize| actions[party].len()) {
            cost.rounds = depth[0].max(depth[1]);
            return cost;
        }
    }
}

/// Predicts the messages of a backend: the mirror of [`super::Backend`], call by call.
pub trait Meter {
    /// The messages of the set-up.
    fn setup(&mut self, ledger: &mut Ledger);
    /// The messages of [`super::Backend::generate`].
    fn generate(&mut self, kind: CorrelationKind, n: usize, ledger: &mut Ledger);
    /// The same as [`super::Backend::flow`].
    fn flow(&self, kind: CorrelationKind) -> Option<Party>;
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

    #[test]
    fn sending_early_saves_rounds() {
        let steps = [Party::P0, Party::P1, Party::P0, Party::P1].map(|from| {
            let mut l = Ledger::default();
            l.message(from, 1);
            l
        });
        let in_order: &[usize] = &[0, 1, 2, 3];
        assert_eq!(cost_of(&steps, [in_order, in_order]), Cost { bytes_from: [2, 2], rounds: 4 });
        assert_eq!(cost_of(&steps, [&[0, 2, 1, 3], &[1, 3, 0, 2]]), Cost { bytes_from: [2, 2], rounds: 1 });
    }
}
