//! KK13: random 1-of-N OTs for N up to 256 from 256 base OTs.
//!
//! Kolesnikov and Kumaresan (CRYPTO 2013): IKNP with the row `c..c` of equal bits replaced by the code word `C(c)` of a
//! code of distance 128, here the 256-bit Walsh-Hadamard code, bit `i` of `C(c)` the parity of `c & i`. The sender gets
//! `q = t ^ (C(c) & s)`; pad `j` is a hash of `q ^ (C(j) & s)`, of which the receiver knows the one with `j = c`.
//!
//! Rows are shortened before they are hashed, by a public linear map `L` from 256 bits to 128: `L q = L t ^ L(C(c) & s)`.
//! For `x != 0` the word `C(x)` selects 128 bits of `s`, and `L` is such that it maps each of these 255 selections onto
//! all of GF(2)^128 (a test computes the ranks). So `L(C(x) & s)`, the distance of pad `c ^ x` from the one that is known, is
//! as uniform as delta in IKNP and linear in `x`: what a hash for correlated OTs needs, at half the work and memory.
//! With bits of a row numbered by elements of GF(2^8), `a` a generator and `b = a^47`, bit `k` of `L q` is the sum of
//! the bits `a^k b^(2^j)`, `0 <= j < 8`. Multiplying by `a` permutes the 255 selections, so that one rank tells all.
//!
//! Two kinds of columns are not sent: those in which all code words are zero (for N < 256), and the columns `2^b`, whose
//! bit is bit `b` of the random choice and can be chosen such that nothing has to be corrected.
//! One message from the receiver, 236 bits for N = 16 and 247 for N = 256, rounded up to multiples of 128 OTs.

use super::GRANULE;
use crate::correlation::combinations;
use crate::{Error, transport::Channel};
use sirnn_kernels::{
    aes::Prg,
    bits::{sum_columns, xor_blocks},
    memory::SecretVec,
    transpose::transpose128,
};
use zeroize::Zeroizing;

/// Length of the code.
const COLUMNS: usize = 256;

/// Blocks of 128 rows that are made at a time.
// AGREEMENT: the order of the blocks on the wire.
const TILE: usize = 16;

/// Rows that are made at a time; extending by multiples of this is the same as extending by their sum.
pub(super) const ROWS: usize = 128 * TILE;

/// Columns that are sent for 1-of-`2^bits`, ascending.
fn sent(bits: u8) -> impl Iterator<Item = usize> {
    (0..COLUMNS).filter(move |i| i & (low(bits)) != 0 && !is_choice(*i, bits))
}

/// Mask of a choice.
fn low(bits: u8) -> usize {
    (1 << bits) - 1
}

/// Whether the column is bit `i.trailing_zeros()` of the choice.
fn is_choice(i: usize, bits: u8) -> bool {
    i.is_power_of_two() && i < 1 << bits
}

/// Bytes of the message for `n` OTs.
pub(super) fn message(n: u64, bits: u8) -> u64 {
    n.next_multiple_of(GRANULE as u64) / 8 * sent(bits).count() as u64
}

/// The code word of `c`.
fn code_word(c: usize) -> [u128; 2] {
    let half = |h: usize| (0..128).fold(0, |w, i| w | u128::from((c & (128 * h + i)).count_ones() & 1) << i);
    [half(0), half(1)]
}

/// The bits of a row of which each bit of a shortened row is the sum.
// AGREEMENT: pads.
const PICKS: [[u8; 8]; 128] = {
    let mut power = [0u8; 255];
    let (mut x, mut e) = (1u16, 0);
    while e < 255 {
        power[e] = x as u8;
        x <<= 1;
        x ^= 0x11d * (x >> 8);
        e += 1;
    }
    let mut picks = [[0; 8]; 128];
    let mut i = 0;
    while i < 128 * 8 {
        let (k, j) = (i / 8, i % 8);
        picks[k][j] = power[(k + (47 << j)) % 255];
        i += 1;
    }
    picks
};

/// A shortened row.
fn shorten(row: [u128; 2]) -> u128 {
    let bit = |i: u8| row[usize::from(i / 128)] >> (i % 128) & 1;
    (0..128).fold(0, |short, k| short | PICKS[k].iter().fold(0, |sum, &i| sum ^ bit(i)) << k)
}

/// The side that knows all pads.
pub(super) struct Sender {
    s: Zeroizing<[u128; 2]>,
    columns: Vec<Prg>,
    q: SecretVec<u128>,
    short: SecretVec<u128>,
    received: Vec<u128>,
}

impl Sender {
    /// `seeds` are the base OTs' for the bits of `s`.
    pub(super) fn new(s: [u128; 2], seeds: &[u128]) -> Self {
        Self {
            s: Zeroizing::new(s),
            columns: seeds.iter().map(|&s| Prg::new(s)).collect(),
            q: vec![0; COLUMNS * TILE].into(),
            short: vec![0; 128 * TILE].into(),
            received: vec![0; COLUMNS * TILE],
        }
    }

    /// What to add to a row for each pad.
    pub(super) fn offsets(&self, bits: u8) -> SecretVec<u128> {
        combinations((0..bits).map(|b| {
            let word = code_word(1 << b);
            shorten([word[0] & self.s[0], word[1] & self.s[1]])
        }))
    }

    /// Makes rows; their number is a multiple of 128.
    pub(super) fn extend(&mut self, bits: u8, rows: &mut [u128], channel: &mut dyn Channel) -> Result<(), Error> {
        let sent: Vec<usize> = sent(bits).collect();
        for rows in rows.chunks_mut(128 * TILE) {
            let m = rows.len() / 128;
            let received = &mut self.received[..sent.len() * m];
            channel.recv(bytemuck::cast_slice_mut(received))?;
            let q = &mut self.q[..COLUMNS * m];
            (0..COLUMNS).filter(|i| i & low(bits) == 0).for_each(|i| q[i * m..][..m].fill(0));
            for b in 0..bits {
                self.columns[1 << b].fill_blocks(&mut q[m << b..][..m]);
            }
            for (&i, u) in sent.iter().zip(received.chunks_exact(m)) {
                let q = &mut q[i * m..][..m];
                self.columns[i].fill_blocks(q);
                let take = 0u128.wrapping_sub(self.s[i / 128] >> (i % 128) & 1);
                q.iter_mut().zip(u).for_each(|(q, u)| *q ^= u & take);
            }
            rows_of(q, m, &mut self.short, rows);
        }
        Ok(())
    }
}

/// The side that knows choices.
pub(super) struct Receiver {
    columns: Vec<[Prg; 2]>,
    t: SecretVec<u128>,
    short: SecretVec<u128>,
    words: SecretVec<u128>,
    u: SecretVec<u128>,
}

impl Receiver {
    /// `seeds` are both seeds of every base OT.
    pub(super) fn new(seeds: &[[u128; 2]]) -> Self {
        Self {
            columns: seeds.iter().map(|pair| pair.map(Prg::new)).collect(),
            t: vec![0; COLUMNS * TILE].into(),
            short: vec![0; 128 * TILE].into(),
            words: vec![0; COLUMNS * TILE].into(),
            u: vec![0; COLUMNS * TILE].into(),
        }
    }

    /// Makes rows and random choices; their number is a multiple of 128.
    pub(super) fn extend(
        &mut self,
        bits: u8,
        rows: &mut [u128],
        choices: &mut [u16],
        channel: &mut dyn Channel,
    ) -> Result<(), Error> {
        let sent: Vec<usize> = sent(bits).collect();
        for (rows, choices) in rows.chunks_mut(128 * TILE).zip(choices.chunks_mut(128 * TILE)) {
            let m = rows.len() / 128;
            let t = &mut self.t[..COLUMNS * m];
            (0..COLUMNS).filter(|i| i & low(bits) == 0).for_each(|i| t[i * m..][..m].fill(0));
            // What is added to column `i` of all code words depends on `i mod N`; `words` has it for each residue.
            let words = &mut self.words[..m << bits];
            for b in 0..bits {
                let (t, word) = (&mut t[m << b..][..m], &mut words[m << b..][..m]);
                let [zero, one] = &mut self.columns[1 << b];
                zero.fill_blocks(t);
                one.fill_blocks(word);
                xor_blocks(word, t);
            }
            for x in 1..1 << bits {
                let rest: usize = x & (x - 1);
                if rest != 0 {
                    let (done, word) = words.split_at_mut(x * m);
                    word[..m].copy_from_slice(&done[rest * m..][..m]);
                    xor_blocks(&mut word[..m], &done[(x ^ rest) * m..][..m]);
                }
            }
            let u = &mut self.u[..sent.len() * m];
            for (&i, u) in sent.iter().zip(u.chunks_exact_mut(m)) {
                let t = &mut t[i * m..][..m];
                let [zero, one] = &mut self.columns[i];
                zero.fill_blocks(t);
                one.fill_blocks(u);
                xor_blocks(u, t);
                xor_blocks(u, &words[(i & low(bits)) * m..][..m]);
            }
            channel.send(bytemuck::cast_slice(u))?;
            gather(bits, bytemuck::cast_slice(words), choices);
            rows_of(t, m, &mut self.short, rows);
        }
        Ok(())
    }
}

/// Bit `b` of choice `i` is bit `i` of plane `2^b`; a plane has `choices.len() / 64` words.
fn gather(bits: u8, planes: &[u64], choices: &mut [u16]) {
    let words = choices.len() / 64;
    for (w, choices) in choices.chunks_exact_mut(64).enumerate() {
        choices.fill(0);
        for b in 0..bits {
            let plane = planes[(words << b) + w];
            for (i, c) in choices.iter_mut().enumerate() {
                *c |= ((plane >> i & 1) as u16) << b;
            }
        }
    }
}

/// The shortened rows of 256 columns of `m` blocks.
fn rows_of(columns: &[u128], m: usize, short: &mut [u128], rows: &mut [u128]) {
    let short = &mut short[..128 * m];
    sum_columns(columns, m, &PICKS, short);
    transpose128(short, m, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(mut rows: Vec<u128>) -> usize {
        let mut rank = 0;
        for bit in 0..128 {
            if let Some(p) = (rank..rows.len()).find(|&i| rows[i] >> bit & 1 == 1) {
                rows.swap(rank, p);
                let pivot = rows[rank];
                rows[rank + 1..].iter_mut().filter(|r| **r >> bit & 1 == 1).for_each(|r| *r ^= pivot);
                rank += 1;
            }
        }
        rank
    }

    /// A uniform `s` makes all offsets but that of pad 0 uniform: also shows that the code's distance is 128.
    #[test]
    fn every_selection_of_bits_is_mapped_onto_all_rows() {
        let unit = |i: usize| {
            shorten([(1u128 << (i % 128)) * u128::from(i < 128), (1u128 << (i % 128)) * u128::from(i >= 128)])
        };
        for x in 1..COLUMNS {
            let w = code_word(x);
            let selected = (0..COLUMNS).filter(|i| w[i / 128] >> (i % 128) & 1 == 1);
            assert_eq!(rank(selected.map(unit).collect()), 128, "{x}");
        }
    }

    #[test]
    fn bits_per_ot() {
        assert_eq!([2, 4, 8].map(|bits| message(1024, bits) / 128), [190, 236, 247]);
    }
}
