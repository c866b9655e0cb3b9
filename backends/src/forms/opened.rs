//! Entry of a public table at an index that both parties share, by opening the masked index:
//! [`Inst::Lookup`](crate::inst::Inst::Lookup) with [`LookupForm::Opened`](crate::inst::LookupForm::Opened).
//!
//! Lowering, from a one-hot correlation ([`crate::onehot`]) with mask `g` and vectors `E0 ^ E1`, one at place `g` only:
//!
//! 1. both parties send their shares of `delta = x - g`: the mask hides `x`;
//! 2. each picks from the table with its own vector, moved up by `delta`. Parities of an entry's bits are XOR shares of it. Sums of entries,
//!    `q_p = sum E_p(v) T[v + delta]`, are additive shares up to a sign: `T[x] = s (q0 - q1)`, where `s` is 1 or -1 and `s = s0 s1` with a sign
//!    `s_p = (-1)^t_p` known to each;
//! 3. for each additive column of `w > 1` bits, each party sends its `a_p = s_p q_p` (negated at P1), masked for the peer's sign, `w - 1` bits
//!    `a_p + k_0 - k_1`. The peer has `k_t`, hence both have shares of `t a_p`, and of `(1 - 2 t) a_p`.
//!
//! Rounds: 2, or 1 without such columns. Bits, each way: the index, then `w - 1` per column; a message is one section per column.
//!
//! Correct: `s1 a_0 + s0 a_1 = s0 s1 (q0 - q1)`. Secure: `delta` is padded by the mask, which is used once; the second message by the pad that
//! the peer does not have. A pick itself never leaves: with its sign it would tell half of the indices.

use super::{Instance, Operand, each, expect_len, operand, planes_from_words, words};
use crate::{
    Error, Party,
    correlation::Correlations,
    inst::{Ring, section},
    onehot::{OneHots, Shape as Vectors},
    table::{PickedColumn, PublicTable},
    vector::{Vector, VectorWord},
    with_word_type, with_words,
};
use sirnn_kernels::{
    onehot::{pick_add, pick_xor, rotate},
    pack::{pack, unpack},
};
use std::sync::Arc;

/// Instances that are worked on at a time. LOCAL.
const TILE: usize = 64;

/// The parameters of the instruction.
pub(super) struct Shape {
    pub(super) vectors: Vectors,
    pub(super) table: Arc<PublicTable>,
    pub(super) columns: Vec<Ring>,
    pub(super) n: usize,
}

impl Shape {
    /// Number and width of the columns whose signs are removed.
    fn signed(&self) -> impl Iterator<Item = (usize, u32)> {
        let width = |(c, ring): (usize, &Ring)| match ring {
            Ring::Add(w) if *w > 1 => Some((c, u32::from(*w))),
            _ => None,
        };
        self.columns.iter().enumerate().filter_map(width)
    }

    fn values_len(&self) -> usize {
        self.signed().map(|(_, w)| section(self.n, w - 1)).sum()
    }
}

pub(super) fn start(
    party: Party,
    shape: Shape,
    correlations: &mut dyn Correlations,
) -> Result<Box<dyn Instance>, Error> {
    let tickets = correlations.one_hots(shape.vectors, shape.n)?;
    Ok(Box::new(Opened { party, shape, tickets, peer: Vec::new(), values: Vec::new(), picks: None }))
}

struct Opened {
    party: Party,
    shape: Shape,
    tickets: OneHots,
    /// The peer's shares of the masked indices.
    peer: Vec<u16>,
    /// The peer's masked values.
    values: Vec<u8>,
    /// Per column, in the ring's words; additive ones with this party's sign.
    picks: Option<Vec<Vec<u64>>>,
}

impl Opened {
    /// This party's shares of the masked indices.
    fn masked(&self, operands: &[Operand]) -> Vec<u16> {
        let x = words::<u16>(operand(operands, self.party.index()));
        let limit = u16::MAX >> (16 - self.shape.vectors.bits);
        x.iter().zip(self.tickets.batch.masks.iter()).map(|(x, g)| x.wrapping_sub(*g) & limit).collect()
    }

    /// Picks from all columns, once.
    fn picks(&mut self, operands: &[Operand]) -> Vec<Vec<u64>> {
        self.picks.take().unwrap_or_else(|| self.pick(operands))
    }

    fn pick(&self, operands: &[Operand]) -> Vec<Vec<u64>> {
        let Shape { vectors, table, columns, n } = &self.shape;
        let d = u32::from(vectors.bits);
        let limit = u16::MAX >> (16 - vectors.bits);
        let own = self.masked(operands);
        let delta: Vec<u16> = own.iter().zip(&self.peer).map(|(a, b)| a.wrapping_add(*b) & limit).collect();
        let picked = table.picked(columns);
        let count = columns.len();
        let mut all = vec![0u64; n * count];
        let blocks = vectors.vector_blocks();
        // Vectors shorter than a block are words with zeros behind.
        let used = (1usize << d).div_ceil(64);
        let scratch = || (vec![0u128; blocks], vec![0u128; blocks], vec![0u64; used]);
        each(
            n << (d / 2),
            all.chunks_mut((TILE * count).max(1)).enumerate(),
            scratch,
            |(room, vector, moved), (tile, all)| {
                for (k, picks) in all.chunks_exact_mut(count).enumerate() {
                    let i = tile * TILE + k;
                    self.tickets.vector(i, room, vector);
                    rotate(&bytemuck::cast_slice(vector)[..used], d, delta[i].into(), moved);
                    for (pick, column) in picks.iter_mut().zip(picked.iter()) {
                        match column {
                            PickedColumn::Planes(planes) => pick_xor(moved, planes, pick),
                            PickedColumn::Words(table) => {
                                *pick = with_words!(table, table => u64::from(pick_add(moved, table)));
                            }
                        }
                    }
                }
            },
        );
        let signs = &self.tickets.batch.signs;
        let column = |(c, ring): (usize, &Ring)| {
            let picks = all.iter().skip(c).step_by(count.max(1)).copied();
            match ring {
                Ring::Xor(_) => picks.collect(),
                Ring::Add(1) => picks.map(|q| q & 1).collect(),
                Ring::Add(w) => {
                    let limit = u64::MAX >> (64 - w);
                    let negated = self.party == Party::P1;
                    let signed = |(i, q): (usize, u64)| {
                        let minus = 0u64.wrapping_sub(u64::from(signs.get(0, i) ^ negated));
                        (q ^ minus).wrapping_sub(minus) & limit
                    };
                    picks.enumerate().map(signed).collect()
                }
            }
        };
        columns.iter().enumerate().map(column).collect()
    }
}

impl Instance for Opened {
    fn produce(&mut self, message: usize, operands: &[Operand], out: &mut [u8]) {
        if message < 2 {
            return pack(self.shape.vectors.bits.into(), &self.masked(operands), out);
        }
        let picks = self.picks(operands);
        let n = self.shape.n;
        let [mut zero, mut one] = [(); 2].map(|()| vec![0u128; n]);
        let mut rest = out;
        for (k, (c, w)) in self.shape.signed().enumerate() {
            let (out, after) = std::mem::take(&mut rest).split_at_mut(section(n, w - 1));
            rest = after;
            self.tickets.sign_pads_sent(0, k as u32, &mut zero, &mut one);
            let limit = u64::MAX >> (65 - w);
            let masked = picks[c].iter().zip(zero.iter().zip(&one));
            let masked: Vec<u64> =
                masked.map(|(a, (k0, k1))| a.wrapping_add(*k0 as u64).wrapping_sub(*k1 as u64) & limit).collect();
            pack(w - 1, &masked, out);
        }
        self.picks = Some(picks);
    }

    fn consume(&mut self, message: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        if message < 2 {
            let bits = u32::from(self.shape.vectors.bits);
            expect_len(bytes, section(self.shape.n, bits))?;
            self.peer = vec![0; self.shape.n];
            unpack(bits, bytes, &mut self.peer);
        } else {
            expect_len(bytes, self.shape.values_len())?;
            self.values = bytes.to_vec();
        }
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        let mut columns = self.picks(operands);
        self.picks = Some(columns.clone());
        let n = self.shape.n;
        let [mut zero, mut one, mut own] = [(); 3].map(|()| vec![0u128; n]);
        let mut theirs = vec![0u64; n];
        let mut rest = &self.values[..];
        for (k, (c, w)) in self.shape.signed().enumerate() {
            let (bytes, after) = rest.split_at(section(n, w - 1));
            rest = after;
            unpack(w - 1, bytes, &mut theirs);
            self.tickets.sign_pads_sent(0, k as u32, &mut zero, &mut one);
            self.tickets.sign_pads_received(0, k as u32, &mut own);
            let limit = u64::MAX >> (64 - w);
            for (i, a) in columns[c].iter_mut().enumerate() {
                let taken = theirs[i] & 0u64.wrapping_sub(u64::from(self.tickets.batch.signs.get(0, i)));
                // Shares of the peer's sign times a_p, and of this party's times the peer's.
                let products = (zero[i] as u64).wrapping_sub(own[i] as u64).wrapping_sub(taken);
                *a = a.wrapping_add(products << 1) & limit;
            }
        }
        let register = |(ring, picks): (&Ring, Vec<u64>)| match ring {
            Ring::Xor(k) => Vector::Bits(planes_from_words(*k, &picks)),
            Ring::Add(w) => with_word_type!(*w, W => W::wrap(picks.into_iter().map(|q| q as W).collect())),
        };
        self.shape.columns.iter().zip(columns).map(register).collect()
    }
}
