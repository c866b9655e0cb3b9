//! One party learns a shared value: [`Inst::Open`](crate::inst::Inst::Open).
//!
//! The other party sends its share. Rounds: 1, one way. Bits: the value's width. Secure: the share together with the
//! receiver's own says exactly the value, which is the output that the instruction declares.

use super::{Instance, Operand, expect_len, operand, read_planes, write_words};
use crate::{
    Error,
    inst::{Ring, section},
    vector::{Vector, VectorWord},
    with_word_type, with_words,
};
use sirnn_kernels::{
    ops,
    pack::{pack, unpack},
};

pub(super) struct Open {
    ring: Ring,
    n: usize,
    /// The peer's share.
    peer: Option<Vector>,
}

impl Open {
    pub(super) fn start(ring: Ring, n: usize) -> Box<dyn Instance> {
        Box::new(Self { ring, n, peer: None })
    }
}

impl Instance for Open {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        match operand(operands, 0) {
            Vector::Bits(bits) => write_words(out, bits.words.iter().copied()),
            words => with_words!(words, xs => pack(self.ring.bits(), xs, out)),
        }
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        self.peer = Some(match self.ring {
            Ring::Add(w) => {
                expect_len(bytes, section(self.n, w.into()))?;
                with_word_type!(w, W => {
                    let mut share = vec![W::default(); self.n];
                    unpack(w.into(), bytes, &mut share);
                    W::wrap(share)
                })
            }
            Ring::Xor(k) => {
                expect_len(bytes, usize::from(k) * section(self.n, 1))?;
                Vector::Bits(read_planes(bytes, k.into(), self.n))
            }
        });
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        let mut value = self.peer.take().expect("the peer's share has arrived");
        let own = operand(operands, 0);
        match &mut value {
            Vector::Bits(value) => sirnn_kernels::bits::xor_into(&mut value.words, &own.bits().words),
            value => with_words!(value, xs => ops::add_into(self.ring.bits(), xs, VectorWord::of(own))),
        }
        vec![value]
    }
}
