//! Correlations: what the online phase consumes, and the interface that hands them out.
//!
//! Each (kind, direction) is a FIFO that both parties draw from in the same order; the position in its stream is part of the
//! key of the hash, so that no two rows are ever hashed under the same key. A drawn ticket is moved into the instance
//! that uses it: using it twice does not compile. All of it is wiped when dropped.

use crate::{
    Party,
    onehot::{OneHots, Shape},
    vector::Bits,
};
use sirnn_kernels::{hash::Hasher, memory::SecretVec};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The sender's side of `n` correlated OTs.
#[derive(Debug)]
pub struct CotSender {
    /// Rows `q`.
    pub rows: SecretVec<u128>,
    /// Global correlation of this direction.
    pub delta: Zeroizing<u128>,
    /// Stream position of the first row.
    pub position: u64,
    /// Hash of this stream.
    pub hasher: Arc<Hasher>,
}

/// The receiver's side of `n` correlated OTs.
#[derive(Debug)]
pub struct CotReceiver {
    /// Rows `q xor c delta`.
    pub rows: SecretVec<u128>,
    /// Random choices `c`, one plane.
    pub choices: Bits,
    /// Stream position of the first row.
    pub position: u64,
    /// Hash of this stream.
    pub hasher: Arc<Hasher>,
}

impl CotSender {
    /// Pads for both choices of rows `from..from + zero.len()`.
    pub fn pads(&self, from: usize, zero: &mut [u128], one: &mut [u128]) {
        let rows = &self.rows[from..from + zero.len()];
        self.hasher.pad_pairs(self.position + from as u64, 0, rows, *self.delta, zero, one);
    }

    /// Long pads for both choices of all rows, instead of [`CotSender::pads`].
    pub fn long_pads(&self) -> [LongPads; 2] {
        let other = SecretVec::from(self.rows.iter().map(|row| row ^ *self.delta).collect::<Vec<_>>());
        [&self.rows, &other].map(|rows| LongPads::new(rows, self.position, &self.hasher))
    }
}

impl CotReceiver {
    /// Pads for the chosen side of rows `from..from + out.len()`.
    pub fn pads(&self, from: usize, out: &mut [u128]) {
        let rows = &self.rows[from..from + out.len()];
        self.hasher.pads(self.position + from as u64, 0, rows, &[0], out);
    }

    /// Long pads for the chosen side of all rows, instead of [`CotReceiver::pads`].
    pub fn long_pads(&self) -> LongPads {
        LongPads::new(&self.rows, self.position, &self.hasher)
    }
}

/// Pads of any length, one per row.
#[derive(Debug)]
pub struct LongPads {
    keys: SecretVec<u128>,
    position: u64,
    hasher: Arc<Hasher>,
}

impl LongPads {
    fn new(rows: &[u128], position: u64, hasher: &Arc<Hasher>) -> Self {
        let mut keys = SecretVec::from(vec![0; rows.len()]);
        hasher.long_pad_keys(position, rows, &mut keys);
        Self { keys, position, hasher: hasher.clone() }
    }

    /// Blocks from `first_block` on of the pad of row `row`.
    pub fn fill(&self, row: usize, first_block: u32, out: &mut [u128]) {
        self.hasher.long_pad(self.position + row as u64, self.keys[row], first_block, out);
    }
}

/// The sender's side of `n` random 1-of-`2^bits` OTs.
#[derive(Debug)]
pub struct OneOfSender {
    /// log2 of the number of pads.
    pub bits: u8,
    /// One row per instance.
    pub rows: SecretVec<u128>,
    /// What to add to a row for pad `j`: linear in `j`.
    pub offsets: Arc<SecretVec<u128>>,
    /// Stream position of the first row.
    pub position: u64,
    /// Hash of this stream.
    pub hasher: Arc<Hasher>,
}

/// The receiver's side of `n` random 1-of-`2^bits` OTs.
#[derive(Debug)]
pub struct OneOfReceiver {
    /// log2 of the number of pads.
    pub bits: u8,
    /// One row per instance.
    pub rows: SecretVec<u128>,
    /// Random choices, each below `2^bits`.
    pub choices: SecretVec<u16>,
    /// Stream position of the first row.
    pub position: u64,
    /// Hash of this stream.
    pub hasher: Arc<Hasher>,
}

impl OneOfSender {
    /// All pads of instances `from..`, `2^bits` each, instance-major.
    pub fn pads(&self, from: usize, out: &mut [u128]) {
        let rows = &self.rows[from..from + (out.len() >> self.bits)];
        self.hasher.pads(self.position + from as u64, 0, rows, &self.offsets, out);
    }
}

impl OneOfReceiver {
    /// The pad of its choice for instances `from..from + out.len()`.
    pub fn pads(&self, from: usize, out: &mut [u128]) {
        let rows = &self.rows[from..from + out.len()];
        self.hasher.pads(self.position + from as u64, 0, rows, &[0], out);
    }
}

/// All sums over GF(2) of the elements of a basis: sum `j` is of those whose bit is set in `j`.
pub(crate) fn combinations(basis: impl ExactSizeIterator<Item = u128>) -> SecretVec<u128> {
    let mut sums = SecretVec::from(Vec::with_capacity(1 << basis.len()));
    sums.push(0);
    for element in basis {
        sums.extend_from_within(..);
        let half = sums.len() / 2;
        sums[half..].iter_mut().for_each(|sum| *sum ^= element);
    }
    sums
}

/// A party's shares of `n` bit triples with a common factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triples {
    /// One plane.
    pub a: Bits,
    /// `cols` planes.
    pub b: Bits,
    /// `cols` planes: shares of `a AND b_j`.
    pub c: Bits,
}

/// Where tickets come from. The direction is the caller's: a party draws `cot_send` where its peer draws `cot_recv`.
pub trait Correlations: Send {
    /// Which party this is.
    fn party(&self) -> Party;
    /// `n` correlated OTs as sender.
    fn cot_send(&mut self, n: usize) -> Result<CotSender, crate::Error>;
    /// `n` correlated OTs as receiver.
    fn cot_recv(&mut self, n: usize) -> Result<CotReceiver, crate::Error>;
    /// `n` random 1-of-`2^bits` OTs as sender.
    fn one_of_send(&mut self, bits: u8, n: usize) -> Result<OneOfSender, crate::Error>;
    /// `n` random 1-of-`2^bits` OTs as receiver.
    fn one_of_recv(&mut self, bits: u8, n: usize) -> Result<OneOfReceiver, crate::Error>;
    /// `n` bit triples of `cols` columns.
    fn triples(&mut self, cols: u8, n: usize) -> Result<Triples, crate::Error>;
    /// `n` one-hot vectors.
    fn one_hots(&mut self, shape: Shape, n: usize) -> Result<OneHots, crate::Error>;
}
