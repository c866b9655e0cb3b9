//! Private matrix of `m`-bit numbers times the other party's private matrix: [`Inst::CrossMatrix`](crate::inst::Inst::CrossMatrix).
//!
//! The paper's CrossTerm for matrices (SIRNN IV-C): as [`cross`](super::cross), with one OT per bit `u_j` of an element of the chooser's matrix for
//! all products of that element. The element in row `i`, column `k` multiplies row `k` of the other matrix, so each OT transfers a string of `outer` values;
//! a pad is such a string: see [`LongPads`]. What is sent, and the shares made from it, are those of
//! `cross`; the sum over `k` is local.
//!
//! With `flip` the row that the top bit multiplies is negated where the other party's flag of the element is set.
//!
//! Rounds: 1, both messages independent. Bits, per element: `bits` to the other, `outer * sum (width - j)` to the chooser; a message is one section per
//! bit, elements in order. OT `j n + e` belongs to bit `j` of element `e`.
//!
//! Correct and secure: as `cross`.

use super::{
    Instance, Operand,
    chooser::{Chooser, Product},
    each, expect_len,
    linear::pad,
    operand, read_planes,
};
use crate::{
    Error,
    correlation::{Correlations, CotReceiver, LongPads},
    inst::section,
    vector::{Bits, Vector, VectorWord},
    with_word_type,
};
use sirnn_kernels::{
    memory::SecretVec,
    ops,
    pack::{pack, packed_len, unpack},
};

/// The parameters of the instruction.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) bits: u8,
    pub(super) width: u8,
    pub(super) flip: bool,
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) outer: usize,
    /// Elements of the chooser's matrix.
    pub(super) n: usize,
}

impl Shape {
    /// Width of the values for each bit.
    fn widths(self) -> impl Iterator<Item = u32> {
        (0..self.bits).map(move |j| u32::from(self.width - j))
    }

    fn ots(self) -> usize {
        self.n * usize::from(self.bits)
    }

    /// Values of a section.
    fn values(self) -> usize {
        self.n * self.outer
    }

    /// Elements of the result.
    fn results(self) -> usize {
        self.rows * self.outer
    }
}

pub(super) fn start(
    chooser: bool,
    shape: Shape,
    correlations: &mut dyn Correlations,
) -> Result<Box<dyn Instance>, Error> {
    with_word_type!(shape.width, W => Ok(if chooser {
        Box::new(Chooser::<_, W>::new(shape, correlations.cot_recv(shape.ots())?))
    } else {
        let pads = correlations.cot_send(shape.ots())?.long_pads();
        Box::new(Other { shape, pads, d: Bits::default(), words: std::marker::PhantomData::<W> })
    }))
}

/// Buffers for one element.
struct Scratch<W> {
    pad: SecretVec<u128>,
    zero: SecretVec<W>,
    one: SecretVec<W>,
}

impl<W: VectorWord> Scratch<W> {
    fn new(outer: usize) -> Self {
        let row = SecretVec::from(vec![W::default(); outer]);
        Self { pad: vec![0; (outer * W::BITS as usize).div_ceil(128)].into(), zero: row.clone(), one: row }
    }
}

/// `1` or, where the bit is set, `-1`, times `2^j`.
fn signed_worth<W: VectorWord>(negative: bool, j: u32) -> W {
    (W::one().wsub(W::from_u64(2 * u64::from(negative)))) << j
}

impl<W: VectorWord> Product<W> for Shape {
    fn elements(&self) -> usize {
        self.n
    }

    fn message_len(&self) -> usize {
        self.widths().map(|w| section(self.values(), w)).sum()
    }

    fn share(&self, ots: &CotReceiver, choices: &[(Vec<u64>, Vec<u64>)], message: &[u8]) -> Vec<W> {
        let Shape { width, inner, outer, n, .. } = *self;
        let width = u32::from(width);
        let pads = ots.long_pads();
        let mut result = vec![W::default(); self.results()];
        let mut values = vec![W::default(); self.values()];
        let mut rest = message;
        for ((w, (c, d)), j) in self.widths().zip(choices).zip(0u32..) {
            let (section, after) = rest.split_at(packed_len(values.len(), w));
            rest = after;
            unpack(w, section, &mut values);
            let bit = |plane: &[u64], e: usize| plane[e / 64] >> (e % 64) & 1 == 1;
            let rows = result.chunks_exact_mut(outer.max(1)).enumerate();
            each(
                values.len(),
                rows,
                || Scratch::<W>::new(outer),
                |scratch, (i, acc)| {
                    for e in i * inner..(i + 1) * inner {
                        let ot = j as usize * n + e;
                        pad(&pads, ot, w, 0, &mut scratch.pad, &mut scratch.zero);
                        let chosen = W::from_u64(bit(c, e).into());
                        ops::mul_scalar(w, &values[e * outer..][..outer], chosen, &mut scratch.one);
                        ops::add_into(w, &mut scratch.zero, &scratch.one);
                        ops::mul_scalar(width, &scratch.zero, signed_worth(bit(d, e), j), &mut scratch.one);
                        ops::add_into(width, acc, &scratch.one);
                    }
                },
            );
        }
        result
    }
}

/// The party whose matrix is multiplied. It makes its pads twice, for the message and for the result: strings are long, hashes cheap.
struct Other<W> {
    shape: Shape,
    /// For both choices.
    pads: [LongPads; 2],
    d: Bits,
    words: std::marker::PhantomData<W>,
}

impl<W: VectorWord> Other<W> {
    /// The factor of element `e`'s row for bit `j`: 1, or -1 where the top bit's row is negated.
    fn factor(&self, operands: &[Operand], j: u32, e: usize) -> W {
        let flipped = self.shape.flip && j + 1 == self.shape.bits.into() && operand(operands, 2).bits().get(0, e);
        signed_worth(flipped, 0)
    }
}

impl<W: VectorWord> Instance for Other<W> {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let Shape { inner, outer, n, .. } = self.shape;
        let v = W::of(operand(operands, 1));
        let this = &*self;
        let mut values = vec![W::default(); self.shape.values()];
        let mut rest = out;
        for (w, j) in self.shape.widths().zip(0u32..) {
            let rows = values.chunks_exact_mut((inner * outer).max(1)).enumerate();
            each(
                n * outer,
                rows,
                || Scratch::<W>::new(outer),
                |scratch, (i, values)| {
                    for (k, value) in values.chunks_exact_mut(outer.max(1)).enumerate() {
                        let e = i * inner + k;
                        let ot = j as usize * n + e;
                        pad(&this.pads[0], ot, w, 0, &mut scratch.pad, &mut scratch.zero);
                        pad(&this.pads[1], ot, w, 0, &mut scratch.pad, &mut scratch.one);
                        ops::mul_scalar(w, &v[k * outer..][..outer], this.factor(operands, j, e), value);
                        ops::add_into(w, value, &scratch.zero);
                        ops::sub_into(w, value, &scratch.one);
                    }
                },
            );
            let (section, after) = std::mem::take(&mut rest).split_at_mut(packed_len(values.len(), w));
            rest = after;
            pack(w, &values, section);
        }
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        let Shape { bits, n, .. } = self.shape;
        expect_len(bytes, usize::from(bits) * section(n, 1))?;
        self.d = read_planes(bytes, bits.into(), n);
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        let Shape { width, inner, outer, n, .. } = self.shape;
        let width = u32::from(width);
        let v = W::of(operand(operands, 1));
        let this = &*self;
        let mut result = vec![W::default(); self.shape.results()];
        let rows = result.chunks_exact_mut(outer.max(1)).enumerate();
        each(
            self.shape.ots() * outer,
            rows,
            || Scratch::<W>::new(outer),
            |scratch, (i, acc)| {
                for (w, j) in this.shape.widths().zip(0u32..) {
                    for e in i * inner..(i + 1) * inner {
                        let ot = j as usize * n + e;
                        pad(&this.pads[0], ot, w, 0, &mut scratch.pad, &mut scratch.zero);
                        // - r0, or v + r0.
                        let d = this.d.get(j as usize, e);
                        ops::mul_scalar(width, &scratch.zero, signed_worth(!d, j), &mut scratch.one);
                        ops::add_into(width, acc, &scratch.one);
                        let factor: W = this.factor(operands, j, e) << j;
                        let kept = factor.wmul(W::from_u64(d.into()));
                        ops::mul_scalar(width, &v[e % inner * outer..][..outer], kept, &mut scratch.one);
                        ops::add_into(width, acc, &scratch.one);
                    }
                }
            },
        );
        vec![W::wrap(result)]
    }
}
