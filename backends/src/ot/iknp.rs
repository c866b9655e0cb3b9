//! IKNP: random correlated OTs from 128 base OTs.
//!
//! Ishai, Kilian, Nissim, Petrank (CRYPTO 2003) in the form of Asharov, Lindell, Schneider, Zohner (CCS 2013), against
//! semi-honest parties. Column `i` of the receiver's matrix is `t_i = G(k_i^0)`; it sends `u_i = t_i ^ G(k_i^1) ^ c`,
//! the sender, who knows one of the two seeds by bit `i` of its delta, gets `q_i = t_i ^ delta_i c`. The choices are
//! random anyway: they are chosen such that `u_0 = 0`, which is not sent.
//! One message from the receiver, 127 bits per OT, rounded up to multiples of 128 OTs.

use super::{CotRecv, CotSend, GRANULE};
use crate::{Error, transport::Channel};
use sirnn_kernels::{aes::Prg, bits::xor_blocks, transpose::transpose128};
use zeroize::Zeroizing;

/// Blocks of 128 rows that are made at a time: the working set stays in the L2 cache.
// AGREEMENT: the order of the blocks on the wire.
const TILE: usize = 32;

/// Columns that are sent.
const SENT: usize = 127;

/// Bytes of the message for `n` OTs.
pub(super) fn message(n: u64) -> u64 {
    n.next_multiple_of(GRANULE as u64) / 8 * SENT as u64
}

/// The side that knows delta.
pub(super) struct Sender {
    delta: Zeroizing<u128>,
    columns: Vec<Prg>,
    received: Vec<u128>,
    q: Vec<u128>,
}

impl Sender {
    /// `seeds` are the base OTs' for the bits of `delta`.
    pub(super) fn new(delta: u128, seeds: &[u128]) -> Self {
        Self {
            delta: Zeroizing::new(delta),
            columns: seeds.iter().map(|&s| Prg::new(s)).collect(),
            received: vec![0; SENT * TILE],
            q: vec![0; 128 * TILE],
        }
    }
}

impl CotSend for Sender {
    fn delta(&self) -> u128 {
        *self.delta
    }

    fn extend(&mut self, rows: &mut [u128], channel: &mut dyn Channel) -> Result<(), Error> {
        for rows in rows.chunks_mut(128 * TILE) {
            let m = rows.len() / 128;
            let received = &mut self.received[..SENT * m];
            channel.recv(bytemuck::cast_slice_mut(received))?;
            let q = &mut self.q[..128 * m];
            for (i, (prg, q)) in self.columns.iter_mut().zip(q.chunks_exact_mut(m)).enumerate() {
                prg.fill_blocks(q);
                if i > 0 {
                    let take = 0u128.wrapping_sub(*self.delta >> i & 1);
                    q.iter_mut().zip(&received[(i - 1) * m..i * m]).for_each(|(q, u)| *q ^= u & take);
                }
            }
            transpose128(q, m, rows);
        }
        Ok(())
    }
}

/// The side that knows choices.
pub(super) struct Receiver {
    columns: Vec<[Prg; 2]>,
    t: Vec<u128>,
    u: Vec<u128>,
}

impl Receiver {
    /// `seeds` are both seeds of every base OT.
    pub(super) fn new(seeds: &[[u128; 2]]) -> Self {
        Self {
            columns: seeds.iter().map(|pair| pair.map(Prg::new)).collect(),
            t: vec![0; 128 * TILE],
            u: vec![0; 128 * TILE],
        }
    }
}

impl CotRecv for Receiver {
    fn extend(&mut self, rows: &mut [u128], choices: &mut [u64], channel: &mut dyn Channel) -> Result<(), Error> {
        for (rows, choices) in rows.chunks_mut(128 * TILE).zip(choices.chunks_mut(2 * TILE)) {
            let m = rows.len() / 128;
            let (t, u) = (&mut self.t[..128 * m], &mut self.u[..128 * m]);
            for ([zero, one], (t, u)) in self.columns.iter_mut().zip(t.chunks_exact_mut(m).zip(u.chunks_exact_mut(m))) {
                zero.fill_blocks(t);
                one.fill_blocks(u);
                xor_blocks(u, t);
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
