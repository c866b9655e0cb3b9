//! Shared bit times a vector of shared bits, over GF(2): [`Inst::And`](crate::inst::Inst::And).
//!
//! Lowering (Beaver, one triple `(ta, tb_j, tc_j = ta & tb_j)` with a common factor per instance): both parties open
//! `d = a ^ ta` and `e_j = b_j ^ tb_j`, then `z_j = tc_j ^ d & tb_j ^ e_j & ta ^ d & e_j`, the last term at P0 only.
//!
//! Rounds: 1, both messages independent. Bits: `1 + cols` each way; a message is the plane of `d`, then those of `e_j`.
//!
//! Correct: `(d ^ ta)(e ^ tb) = de ^ d tb ^ e ta ^ tc`. Secure: `d` and `e_j` are one-time padded by the triple, which
//! is used once.

use super::{Instance, Operand, expect_len, operand, read_planes, write_words};
use crate::{
    Error, Party,
    correlation::{Correlations, Triples},
    vector::{Bits, Vector},
};
use sirnn_kernels::bits::{and_triple, xor_into};

pub(super) struct And {
    party: Party,
    triples: Triples,
    /// The peer's shares of `d` and `e_j`.
    opened: Bits,
}

impl And {
    pub(super) fn start(
        party: Party,
        cols: u8,
        n: usize,
        correlations: &mut dyn Correlations,
    ) -> Result<Box<dyn Instance>, Error> {
        Ok(Box::new(Self { party, triples: correlations.triples(cols, n)?, opened: Bits::default() }))
    }
}

impl Instance for And {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let (a, b) = (operand(operands, 0).bits(), operand(operands, 1).bits());
        let (d, e) = out.split_at_mut(a.words.len() * 8);
        write_words(d, a.words.iter().zip(&self.triples.a.words).map(|(x, t)| x ^ t));
        write_words(e, b.words.iter().zip(&self.triples.b.words).map(|(x, t)| x ^ t));
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        let planes = 1 + self.triples.b.planes;
        expect_len(bytes, planes * self.triples.a.words.len() * 8)?;
        self.opened = read_planes(bytes, planes, self.triples.a.len);
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        let (a, b) = (operand(operands, 0).bits(), operand(operands, 1).bits());
        let t = &self.triples;
        let mut d = self.opened.plane(0).to_vec();
        xor_into(&mut d, &a.words);
        xor_into(&mut d, &t.a.words);
        let mut z = Bits::zero(t.b.planes, a.len);
        let mut e = d.clone();
        for j in 0..t.b.planes {
            e.copy_from_slice(self.opened.plane(1 + j));
            xor_into(&mut e, b.plane(j));
            xor_into(&mut e, t.b.plane(j));
            let first = self.party == Party::P0;
            and_triple(&t.a.words, t.b.plane(j), t.c.plane(j), &d, &e, first, z.plane_mut(j));
        }
        vec![Vector::Bits(z)]
    }
}
