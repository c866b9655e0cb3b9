//! The chooser's side of products by correlated OT: what [`cross`](super::cross) and [`cross_matrix`](super::cross_matrix)
//! have in common.

use super::{Instance, Operand, bit_range, expect_len, operand, write_words};
use crate::{
    Error,
    correlation::CotReceiver,
    inst::section,
    vector::{Bits, Vector, VectorWord},
};

/// A form of such products.
pub(super) trait Product<W>: Send {
    /// Elements of the chooser's operand.
    fn elements(&self) -> usize;
    /// Length of the other party's message.
    fn message_len(&self) -> usize;
    /// The chooser's share, from the planes `c` (the random choices) and `d = u ^ c` of each bit and the other party's message.
    fn share(&self, ots: &CotReceiver, choices: &[(Vec<u64>, Vec<u64>)], message: &[u8]) -> Vec<W>;
}

/// The party whose bits are the choices. OT `j n + i` belongs to bit `j` of element `i`.
pub(super) struct Chooser<P, W> {
    product: P,
    ots: CotReceiver,
    /// The other party's message, if it came before the operand was there.
    early: Option<Vec<u8>>,
    result: Vec<W>,
}

impl<P: Product<W>, W: VectorWord> Chooser<P, W> {
    pub(super) fn new(product: P, ots: CotReceiver) -> Self {
        Self { product, ots, early: None, result: Vec::new() }
    }

    /// Planes `c` and `d = u ^ c` of bit `j`.
    fn choice(&self, u: &Bits, j: usize) -> (Vec<u64>, Vec<u64>) {
        let n = self.product.elements();
        let c = bit_range(&self.ots.choices.words, j * n, n);
        let d = u.plane(j).iter().zip(&c).map(|(u, c)| u ^ c).collect();
        (c, d)
    }

    fn share(&self, u: &Bits, message: &[u8]) -> Vec<W> {
        let choices: Vec<_> = (0..u.planes).map(|j| self.choice(u, j)).collect();
        self.product.share(&self.ots, &choices, message)
    }
}

impl<P: Product<W>, W: VectorWord> Instance for Chooser<P, W> {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let u = operand(operands, 0).bits();
        let sections = out.chunks_exact_mut(section(self.product.elements(), 1).max(1));
        for (j, section) in sections.enumerate() {
            write_words(section, self.choice(u, j).1.into_iter());
        }
    }

    fn consume(&mut self, _: usize, operands: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        expect_len(bytes, self.product.message_len())?;
        match &operands[0] {
            Some(u) => self.result = self.share(u.bits(), bytes),
            None => self.early = Some(bytes.to_vec()),
        }
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        if let Some(bytes) = self.early.take() {
            self.result = self.share(operand(operands, 0).bits(), &bytes);
        }
        vec![W::wrap(std::mem::take(&mut self.result))]
    }
}
