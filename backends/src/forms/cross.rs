//! Private `m`-bit number times the other party's private value: [`Inst::Cross`](crate::inst::Inst::Cross).
//!
//! The paper's CrossTerm (SIRNN IV-C, App. D), in one round instead of two flights. Lowering, per bit `u_j` and mod
//! `2^(width - j)`, from a random OT with pads `r_0, r_1` at the other party and `c, r_c` at the chooser:
//! the chooser sends `d = u_j ^ c`, the other `e = v - (r_1 - r_0)`. Shares of `u_j v`:
//!
//! | | other | chooser |
//! |---|---|---|
//! | `d = 0` | `-r_0` | `r_c + c e` |
//! | `d = 1` | `v + r_0` | `-(r_c + c e)` |
//!
//! The result is the sum of these, shifted by `j`. Rounds: 1, both messages independent. Bits: `bits` to the other,
//! `sum (width - j)` to the chooser; a message is one section per bit. OT `j n + i` belongs to bit `j` of instance `i`.
//!
//! Correct: `r_c + c e` is `r_0` for `c = 0` and `r_0 + v` for `c = 1`, and `u_j = c ^ d`. Secure: `d` is one-time
//! padded by `c`, `e` by the pad that the chooser does not have.

use super::{
    Instance, Operand,
    chooser::{Chooser, Product},
    each, expect_len, operand, read_planes, words,
};
use crate::{
    Error,
    correlation::{Correlations, CotReceiver, CotSender},
    inst::section,
    vector::{Bits, Vector, VectorWord},
    with_word_type,
};
use sirnn_kernels::{
    cross::{cot_recv_finish, cot_send, cot_send_finish},
    memory::SecretVec,
    pack::{pack, packed_len, unpack},
};
use std::borrow::Cow;

/// OTs that are worked on at a time. LOCAL; a multiple of 64.
const TILE: usize = 2048;

/// The parameters of the instruction.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) bits: u8,
    pub(super) width: u8,
    pub(super) top: bool,
    pub(super) n: usize,
}

impl Shape {
    /// Width of the values for each bit of `u`.
    fn widths(self) -> impl Iterator<Item = u32> {
        (0..self.bits).map(move |j| u32::from(self.width - j))
    }

    fn ots(self) -> usize {
        self.n * usize::from(self.bits)
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
        let ticket = correlations.cot_send(shape.ots())?;
        Box::new(Other { shape, ticket: Some(ticket), message: None, zero: SecretVec::<W>::default(), d: Bits::default() })
    }))
}

impl<W: VectorWord> Product<W> for Shape {
    fn elements(&self) -> usize {
        self.n
    }

    fn message_len(&self) -> usize {
        self.widths().map(|w| section(self.n, w)).sum()
    }

    fn share(&self, ots: &CotReceiver, choices: &[(Vec<u64>, Vec<u64>)], message: &[u8]) -> Vec<W> {
        let Shape { width, n, .. } = *self;
        let width = u32::from(width);
        let mut result = vec![W::default(); n];
        let tile = TILE.min(n.max(1));
        let scratch = || (SecretVec::from(vec![0; tile]), vec![W::default(); tile]);
        each(self.ots(), result.chunks_mut(TILE).enumerate(), scratch, |(pads, e), (t, acc)| {
            let from = t * TILE;
            let (pads, e) = (&mut pads[..acc.len()], &mut e[..acc.len()]);
            let mut sections = message;
            for ((w, (c, d)), j) in self.widths().zip(choices).zip(0..) {
                let (section, rest) = sections.split_at(packed_len(n, w));
                sections = rest;
                ots.pads(j as usize * n + from, pads);
                unpack(w, &section[packed_len(from, w)..][..packed_len(acc.len(), w)], e);
                let plane = from / 64..(from + acc.len()).div_ceil(64);
                cot_recv_finish(w, j, width, &d[plane.clone()], &c[plane], pads, e, acc);
            }
        });
        result
    }
}

/// The party that owns `v`.
struct Other<W> {
    shape: Shape,
    /// Until the message has been made.
    ticket: Option<CotSender>,
    /// The message, if the result was wanted before it.
    message: Option<Vec<u8>>,
    /// `r_0`, one vector per bit.
    zero: SecretVec<W>,
    d: Bits,
}

impl<W: VectorWord> Other<W> {
    /// The values that bit `j` of `u` multiplies, for each `j`.
    fn values<'a>(&self, operands: &'a [Operand]) -> Vec<Cow<'a, [W]>> {
        let bits = usize::from(self.shape.bits);
        let mut values = vec![words::<W>(operand(operands, 1)); bits];
        if self.shape.top {
            values[bits - 1] = words(operand(operands, 2));
        }
        values
    }

    /// Writes the message and keeps `r_0`.
    fn assemble(&mut self, operands: &[Operand], out: &mut [u8]) {
        let n = self.shape.n;
        let ticket = self.ticket.take().expect("the message is made once");
        let values = self.values(operands);
        self.zero = vec![W::default(); self.shape.ots()].into();
        let mut jobs = Vec::new();
        let mut out = out;
        for ((j, w), zero) in self.shape.widths().enumerate().zip(self.zero.chunks_mut(n.max(1))) {
            let (section, rest) = std::mem::take(&mut out).split_at_mut(packed_len(n, w));
            out = rest;
            let tiles = section.chunks_mut(packed_len(TILE, w)).zip(zero.chunks_mut(TILE));
            jobs.extend(tiles.enumerate().map(|(t, (section, zero))| (j, w, t * TILE, section, zero)));
        }
        let tile = TILE.min(n);
        let scratch = || {
            let pads = || SecretVec::from(vec![0; tile]);
            (pads(), pads(), vec![W::default(); tile])
        };
        each(self.shape.ots(), jobs.into_iter(), scratch, |(pads0, pads1, e), (j, w, from, section, zero)| {
            let len = zero.len();
            let (pads0, pads1, e) = (&mut pads0[..len], &mut pads1[..len], &mut e[..len]);
            ticket.pads(j * n + from, pads0, pads1);
            cot_send(w, pads0, pads1, &values[j][from..][..len], e, zero);
            pack(w, e, section);
        });
    }
}

impl<W: VectorWord> Instance for Other<W> {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        match self.message.take() {
            Some(message) => out.copy_from_slice(&message),
            None => self.assemble(operands, out),
        }
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        let Shape { bits, n, .. } = self.shape;
        expect_len(bytes, usize::from(bits) * section(n, 1))?;
        self.d = read_planes(bytes, bits.into(), n);
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        let Shape { width, n, .. } = self.shape;
        if self.ticket.is_some() {
            let mut message = vec![0; Product::<W>::message_len(&self.shape)];
            self.assemble(operands, &mut message);
            self.message = Some(message);
        }
        let values = self.values(operands);
        let mut result = vec![W::default(); n];
        each(
            self.shape.ots(),
            result.chunks_mut(TILE).enumerate(),
            || (),
            |_, (t, acc)| {
                let (from, len) = (t * TILE, acc.len());
                for (j, w) in self.shape.widths().enumerate() {
                    let d = &self.d.plane(j)[from / 64..(from + len).div_ceil(64)];
                    let (v, zero) = (&values[j][from..][..len], &self.zero[j * n + from..][..len]);
                    cot_send_finish(w, j as u32, width.into(), d, v, zero, acc);
                }
            },
        );
        vec![W::wrap(result)]
    }
}
