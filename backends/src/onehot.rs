//! One-hot correlations: a random mask `g` of `d` bits, shared additively modulo `2^d`, and the vector of `2^d` bits that is one
//! at place `g` only, shared by XOR. What is in a ticket, how it is grown, and how domains of hashes are told apart;
//! `ot::onehot` makes tickets, `forms::opened` uses them.
//!
//! The places of the mask's bits, lowest first: `leaf` bits inside a leaf, `top` bits of the root's children, one for each level.

use crate::{Party, vector::Bits};
use sirnn_kernels::{
    aes::AesKey,
    hash::Hasher,
    memory::{self, SecretVec},
    onehot::{half_level, leaves},
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Vectors up to this many bits of index are kept as they are; longer ones are grown when they are used.
// AGREEMENT: what stores hold.
const EXPANDED: u8 = 12;

/// Bits of a leaf's index, at most: a leaf is one block.
const LEAF: u8 = 7;

/// log2 of the nodes of one level that are hashed under a key; a longer tree has a key of its own.
// SECURITY: the multi-target term of the bound.
const NODES_PER_KEY: u8 = 10;

/// How a one-hot vector is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Bits of the index, `2..=16`.
    pub bits: u8,
    /// Of them, those that are multiplied out bit by bit above the leaves: `1..=6`, less than `bits`. More of them mean fewer
    /// bytes and more correlated OTs.
    pub top: u8,
    /// Whether the ticket can make additive shares of entries: that takes the sign of the difference of the vectors.
    pub sign: bool,
}

impl Shape {
    /// The most bits that an index can have.
    pub const MAX_BITS: u8 = 16;

    /// The values that `top` can have.
    pub fn tops(bits: u8) -> std::ops::RangeInclusive<u8> {
        1..=(bits - 1).min(6)
    }

    /// Bits of the index inside a leaf.
    pub fn leaf(self) -> u8 {
        LEAF.min(self.bits - self.top)
    }

    /// Levels of the tree below the nodes on top.
    pub fn levels(self) -> u8 {
        self.bits - self.top - self.leaf()
    }

    /// Nodes on top whose number has more than one bit set: each takes an OT with a chosen bit, each way.
    pub(crate) fn further(self) -> usize {
        (1 << self.top) - 1 - usize::from(self.top)
    }

    /// Correlated OTs for a ticket, each way.
    pub fn cots(self) -> usize {
        usize::from(self.bits) + self.further() + usize::from(self.sign)
    }

    /// Bits that are sent, both ways, for a ticket, besides its correlated OTs.
    pub fn bits_sent(self) -> usize {
        let strings = |k: u8| 2 * ((1 << k) - 1 - usize::from(k));
        let d = usize::from(self.bits);
        strings(self.leaf())
            + strings(self.top)
            + 2 * (self.further() + usize::from(self.sign))
            + 256 * usize::from(self.levels())
            + (2usize << self.leaf())
            + d * (d - 1) / 2
    }

    /// Bytes that a ticket takes in memory.
    pub fn bytes(self) -> usize {
        2 + 16 * self.blocks() + if self.sign { 33 } else { 0 }
    }

    /// Leaves of a vector.
    pub(crate) fn leaves(self) -> usize {
        1 << (self.bits - self.leaf())
    }

    /// Blocks of a vector.
    pub fn vector_blocks(self) -> usize {
        (1usize << self.bits).div_ceil(128)
    }

    /// Whether tickets hold vectors; else trees, which the use grows.
    pub(crate) fn expanded(self) -> bool {
        self.bits <= EXPANDED
    }

    /// Blocks that a ticket holds: the vector, or nodes on top, a correction per level, and that of the leaves.
    pub(crate) fn blocks(self) -> usize {
        if self.expanded() { self.vector_blocks() } else { (1 << self.top) + usize::from(self.levels()) + 1 }
    }

    /// Tickets whose trees share a key, as log2.
    pub(crate) fn shared(self) -> u8 {
        NODES_PER_KEY.saturating_sub(self.bits - self.leaf())
    }

    /// A number that no other shape has.
    pub(crate) fn part(self) -> u8 {
        (self.bits - 1) << 4 | self.top << 1 | u8::from(self.sign)
    }

    /// The hash of one of the purposes, in a session.
    pub(crate) fn hasher(self, session: u128, purpose: Purpose) -> Hasher {
        let domain = match purpose {
            Purpose::Strings { sender } => 0x90 + sender.index() as u8,
            Purpose::Sign { sender } => 0x92 + sender.index() as u8,
            Purpose::Trees => 0x94,
        };
        Hasher::new(session, domain).part(self.part())
    }
}

/// What is hashed when one-hot vectors are made and used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Rows of the mask's bits: the low half of a pad for strings, the high half for the additive mask.
    Strings {
        /// Who knows both pads.
        sender: Party,
    },
    /// Rows whose choice is the receiver's share of the sign.
    Sign {
        /// Who knows both pads.
        sender: Party,
    },
    /// Nodes of trees.
    Trees,
}

/// One party's side of `n` tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneHotBatch {
    /// Additive shares of the masks, below `2^bits`.
    pub masks: SecretVec<u16>,
    /// The same number of blocks for each ticket: a vector, or what it grows from.
    pub blocks: SecretVec<u128>,
    /// Shares of the sign of this party's vector minus the other's as numbers, at the mask: a plane, or none without signs.
    pub signs: Bits,
    /// Rows of the correlated OTs in which this party is sender and the peer's share of the sign is the choice; none without signs.
    pub sent: SecretVec<u128>,
    /// The same with this party as receiver.
    pub received: SecretVec<u128>,
}

impl OneHotBatch {
    /// Room for `n` tickets, all zero.
    pub(crate) fn zero(shape: Shape, n: usize) -> Self {
        let rows = if shape.sign { n } else { 0 };
        Self {
            masks: vec![0; n].into(),
            blocks: memory::zeroed(n * shape.blocks()).into(),
            signs: Bits::zero(shape.sign.into(), n),
            sent: vec![0; rows].into(),
            received: vec![0; rows].into(),
        }
    }
}

/// One party's side of `n` one-hot correlations.
#[derive(Debug)]
pub struct OneHots {
    /// How they were made.
    pub shape: Shape,
    /// Stream position of the first.
    pub position: u64,
    /// Masks, vectors, signs.
    pub batch: OneHotBatch,
    /// Global correlation of the OTs in which this party is sender.
    pub delta: Zeroizing<u128>,
    trees: Hasher,
    /// As sender, as receiver.
    signs: [Arc<Hasher>; 2],
}

impl OneHots {
    pub(crate) fn new(
        party: Party,
        session: u128,
        shape: Shape,
        position: u64,
        batch: OneHotBatch,
        delta: Zeroizing<u128>,
    ) -> Self {
        let signs = [party, party.other()].map(|sender| Arc::new(shape.hasher(session, Purpose::Sign { sender })));
        Self { shape, position, batch, delta, trees: shape.hasher(session, Purpose::Trees), signs }
    }

    /// The vector of ticket `i`: entry `v` is bit `v % 128` of block `v / 128`. `scratch` has room for as many blocks as the vector.
    pub fn vector(&self, i: usize, scratch: &mut [u128], out: &mut [u128]) {
        let blocks = self.shape.blocks();
        let ticket = &self.batch.blocks[i * blocks..(i + 1) * blocks];
        if self.shape.expanded() {
            out.copy_from_slice(ticket);
        } else {
            let key = self.trees.tree_key((self.position + i as u64) >> self.shape.shared());
            grow(self.shape, &key, ticket, scratch, out);
        }
    }

    /// Pads with which this party masks a value for the peer's shares of the signs 0 and 1, for tickets `from..`; every column has a
    /// block of its own.
    pub fn sign_pads_sent(&self, from: usize, column: u32, zero: &mut [u128], one: &mut [u128]) {
        let rows = &self.batch.sent[from..from + zero.len()];
        let position = self.position + from as u64;
        self.signs[0].pad_pairs(position, column, rows, *self.delta, zero, one);
    }

    /// The peer's pads for this party's shares of the signs.
    pub fn sign_pads_received(&self, from: usize, column: u32, out: &mut [u128]) {
        let rows = &self.batch.received[from..from + out.len()];
        self.signs[1].pads(self.position + from as u64, column, rows, &[0], out);
    }
}

/// A party's share of the sign, from its vector: the numbers of ones, that of P1 negated, sum to 1 or -1, and so do these modulo 4,
/// where both have the same lowest bit or none.
pub(crate) fn sign_share(party: Party, vector: &[u128]) -> bool {
    let ones = vector.iter().fold(0u32, |sum, block| sum.wrapping_add(block.count_ones()));
    let ones = if party == Party::P0 { ones } else { ones.wrapping_neg() };
    ones >> 1 & 1 == 1
}

/// The vector that a tree's nodes on top and corrections make. A leaf is a block: shorter ones are kept expanded.
pub(crate) fn grow(shape: Shape, key: &AesKey, ticket: &[u128], scratch: &mut [u128], out: &mut [u128]) {
    debug_assert_eq!(shape.leaf(), LEAF);
    let mut n = 1usize << shape.top;
    let (nodes, corrections) = ticket.split_at(n);
    // Every level goes to the other of two places, so that the leaves end in `out`.
    let (mut here, mut there) = if shape.levels() % 2 == 0 { (scratch, out) } else { (out, scratch) };
    here[..n].copy_from_slice(nodes);
    for c in &corrections[..usize::from(shape.levels())] {
        let (left, right) = there[..2 * n].split_at_mut(n);
        half_level(key, &here[..n], *c, left, right);
        std::mem::swap(&mut here, &mut there);
        n *= 2;
    }
    leaves(key, &here[..n], corrections[usize::from(shape.levels())], &mut there[..n]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_shapes_are_distinct() {
        let mut parts = std::collections::BTreeSet::new();
        for bits in 2..=Shape::MAX_BITS {
            for top in Shape::tops(bits) {
                for sign in [false, true] {
                    let shape = Shape { bits, top, sign };
                    assert!(parts.insert(shape.part()), "{shape:?}");
                    assert_eq!(shape.leaf() + shape.top + shape.levels(), bits);
                    assert!(shape.leaf() >= 1 && (shape.expanded() || shape.leaf() == LEAF));
                }
            }
        }
    }
}
