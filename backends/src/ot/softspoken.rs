//! SoftSpoken OT: random correlated OTs from 128 base OTs, `k` times fewer bytes than IKNP for `2^k / 2k` times its
//! work; with `k = 1` it *is* IKNP.
//!
//! Roy (CRYPTO 2022), against semi-honest parties; IKNP: Ishai, Kilian, Nissim, Petrank (CRYPTO 2003). The bits of delta
//! are cut into `128 / k` groups. For a group with value `d` the receiver has `2^k` seeds, leaves of a GGM tree, and
//! the sender all of them but number `d`: what `k` base OTs and two blocks per further level of the tree give. With
//! `r_x` the expansion of seed `x`,
//!
//! * the receiver has `u = sum r_x` and, for every bit `b`, `v_b = sum x_b r_x`;
//! * the sender has `w_b = sum (x_b + d_b) r_x = v_b + d_b u`, in which the missing seed does not occur.
//!
//! The choices are `c = u` of the first group; for the others the receiver sends `u + c`.
//! One message from the receiver, `128 / k - 1` bits per OT, rounded up to multiples of 128 OTs.

use super::{CotRecv, CotSend, GRANULE};
use crate::{Error, transport::Channel};
use sirnn_kernels::{
    aes::{Fold, Prg},
    bits::xor_blocks,
    memory::SecretVec,
    transpose::transpose128,
};
use subtle::ConditionallySelectable;
use zeroize::{Zeroize, Zeroizing};

/// Blocks of 128 rows that are made at a time: the working set stays in the L2 cache.
// AGREEMENT: the order of the blocks on the wire.
const TILE: usize = 64;

/// Bytes of the message for `n` OTs.
pub(super) fn message(k: u32, n: u64) -> u64 {
    n.next_multiple_of(GRANULE as u64) / 8 * u64::from(128 / k - 1)
}

/// Bytes of the receiver's message at the set-up.
pub(super) fn setup_message(k: u32) -> u64 {
    32 * u64::from(128 / k * (k - 1))
}

/// The side that knows delta.
pub(super) struct Sender {
    k: usize,
    delta: Zeroizing<u128>,
    /// For each group `2^k - 1` seeds, seed `x` at `(x ^ d) - 1`.
    leaves: Vec<Prg>,
    sums: Sums,
    received: Vec<u128>,
    q: SecretVec<u128>,
}

impl Sender {
    /// `seeds` are the base OTs' for the bits of `delta`; the peer calls [`Receiver::new`].
    pub(super) fn new(k: u32, delta: u128, seeds: &[u128], channel: &mut dyn Channel) -> Result<Self, Error> {
        let k = k as usize;
        let mut corrections = vec![[0u128; 2]; 128 / k * (k - 1)];
        channel.recv(bytemuck::cast_slice_mut(&mut corrections))?;
        let mut corrections = corrections.into_iter();
        let mut leaves = Vec::with_capacity(128 / k * ((1 << k) - 1));
        for (g, seeds) in seeds.chunks_exact(k).enumerate() {
            // Node `x` of a level is at `x ^ d`, so that the unknown one is always at 0.
            let mut nodes = Zeroizing::new(vec![0]);
            for (i, seed) in seeds.iter().enumerate() {
                let bit = delta >> (g * k + i) & 1;
                let sum = match i {
                    0 => *seed,
                    _ => {
                        let [zero, one] = corrections.next().expect("counted above");
                        seed ^ zero ^ (zero ^ one) & 0u128.wrapping_sub(bit)
                    }
                };
                expand(&mut nodes, (bit as u8).into());
                let half = 1 << i;
                nodes[0] = 0;
                nodes[half] = 0;
                nodes[half] = nodes[half..].iter().fold(sum, |a, n| a ^ n);
            }
            leaves.extend(nodes[1..].iter().map(|&s| Prg::new(s)));
        }
        Ok(Self {
            k,
            delta: Zeroizing::new(delta),
            leaves,
            sums: Sums::new(k),
            received: vec![0; (128 / k - 1) * TILE],
            q: vec![0; 128 * TILE].into(),
        })
    }
}

impl CotSend for Sender {
    fn delta(&self) -> Zeroizing<u128> {
        self.delta.clone()
    }

    fn extend(&mut self, rows: &mut [u128], channel: &mut dyn Channel) -> Result<(), Error> {
        let k = self.k;
        for rows in rows.chunks_mut(128 * TILE) {
            let m = rows.len() / 128;
            let received = &mut self.received[..(128 / k - 1) * m];
            channel.recv(bytemuck::cast_slice_mut(received))?;
            let q = &mut self.q[..128 * m];
            for (g, leaves) in self.leaves.chunks_exact_mut((1 << k) - 1).enumerate() {
                let q = &mut q[g * k * m..][..k * m];
                self.sums.run(leaves, 1, m, q);
                if g > 0 {
                    let correction = &received[(g - 1) * m..][..m];
                    for (b, q) in q.chunks_exact_mut(m).enumerate() {
                        let take = 0u128.wrapping_sub(*self.delta >> (g * k + b) & 1);
                        q.iter_mut().zip(correction).for_each(|(q, u)| *q ^= u & take);
                    }
                }
            }
            transpose128(q, m, rows);
        }
        Ok(())
    }
}

/// The side that knows choices.
pub(super) struct Receiver {
    k: usize,
    /// For each group `2^k` seeds.
    leaves: Vec<Prg>,
    sums: Sums,
    t: SecretVec<u128>,
    u: SecretVec<u128>,
}

impl Receiver {
    /// `seeds` are both seeds of every base OT; the peer calls [`Sender::new`].
    pub(super) fn new(k: u32, seeds: &[[u128; 2]], channel: &mut dyn Channel) -> Result<Self, Error> {
        let k = k as usize;
        let mut corrections = Vec::with_capacity(128 / k * (k - 1));
        let mut leaves = Vec::with_capacity((128 / k) << k);
        for seeds in seeds.chunks_exact(k) {
            // With choice `d_i` the peer gets the sum of the nodes of level `i` whose last bit is not `d_i`.
            let mut nodes = Zeroizing::new(vec![seeds[0][1], seeds[0][0]]);
            for (i, seeds) in seeds.iter().enumerate().skip(1) {
                expand(&mut nodes, 0.into());
                let sum = |nodes: &[u128]| nodes.iter().fold(0, |a, n| a ^ n);
                let (zero, one) = nodes.split_at(1 << i);
                corrections.push([sum(one) ^ seeds[0], sum(zero) ^ seeds[1]]);
            }
            leaves.extend(nodes.iter().map(|&s| Prg::new(s)));
        }
        channel.send(bytemuck::cast_slice(&corrections))?;
        let (t, u) = (vec![0; 128 * TILE].into(), vec![0; 128 / k * TILE].into());
        Ok(Self { k, leaves, sums: Sums::new(k), t, u })
    }
}

impl CotRecv for Receiver {
    fn extend(&mut self, rows: &mut [u128], choices: &mut [u64], channel: &mut dyn Channel) -> Result<(), Error> {
        let k = self.k;
        for (rows, choices) in rows.chunks_mut(128 * TILE).zip(choices.chunks_mut(2 * TILE)) {
            let m = rows.len() / 128;
            let (t, u) = (&mut self.t[..128 * m], &mut self.u[..128 / k * m]);
            let columns = t.chunks_exact_mut(k * m).zip(u.chunks_exact_mut(m));
            for (leaves, (t, u)) in self.leaves.chunks_exact_mut(1 << k).zip(columns) {
                u.copy_from_slice(self.sums.run(leaves, 0, m, t));
            }
            let (c, u) = u.split_at_mut(m);
            u.chunks_exact_mut(m).for_each(|u| xor_blocks(u, c));
            channel.send(bytemuck::cast_slice(u))?;
            choices.copy_from_slice(bytemuck::cast_slice(c));
            transpose128(t, m, rows);
        }
        Ok(())
    }
}

/// Replaces the nodes of a level by those of the next: children of node `y` go to `y` and `y + nodes.len()`, the other
/// way round if `swap`.
fn expand(nodes: &mut Vec<u128>, swap: subtle::Choice) {
    let mut next = vec![0; 2 * nodes.len()];
    for (y, node) in nodes.iter().enumerate() {
        let mut children = [0; 2];
        Prg::new(*node).fill_blocks(&mut children);
        let [zero, one] = &mut children;
        u128::conditional_swap(zero, one, swap);
        next[y] = *zero;
        next[y + nodes.len()] = *one;
        children.zeroize();
    }
    std::mem::replace(nodes, next).zeroize();
}

/// Sums of expanded seeds.
struct Sums {
    k: usize,
    /// Sums of 1, 2, 4 ... seeds, [`TILE`] blocks each.
    partial: SecretVec<u128>,
}

impl Sums {
    fn new(k: usize) -> Self {
        Self { k, partial: vec![0; (k + 1) * TILE].into() }
    }

    /// The next `m` blocks of `sum x_b r_x` for every bit `b`, one after the other in `v`, and of `sum r_x` (returned).
    /// `leaves` has seeds `first..2^k`, where `first` is 0 or 1.
    fn run(&mut self, leaves: &mut [Prg], first: usize, m: usize, v: &mut [u128]) -> &[u128] {
        self.partial[..m].fill(0);
        for (leaf, x) in leaves.iter_mut().zip(first..) {
            let height = x.trailing_ones() as usize;
            leaf.fold(m, Fold { height, first: x + 1 == 1 << height, partial: &mut self.partial, v });
        }
        &self.partial[self.k * m..][..m]
    }
}
