//! Flags of the sum of two private digits: [`Inst::Leaf`](crate::inst::Inst::Leaf).
//!
//! The leaves of the millionaires' protocol and its relatives (SIRNN III-A, App. A), by a random 1-of-`2^k` OT on `k`-bit
//! digits. Lowering, with digits `a_view` of the sender and `b` of the receiver, whose random choice is `c`:
//!
//! 1. the receiver sends `delta = b - c mod 2^k`;
//! 2. the sender sends, per flag, slot `j`: the flag of `a_view` and `j + delta`, XOR `mask`, padded with a bit of pad
//!    `j`. Its share is `mask`.
//!
//! Rounds: 2. Bits: `k`, then `2^k` per flag; a message is one section per flag, instance-major.
//!
//! Correct: slot `c` is that of `b`. Secure: as for a look-up, of which this is the case of a table that the sender
//! computes from its digits.

use super::{Instance, Operand, each, expect_len, operand, planes_from_words, write_words};
use crate::{
    Error,
    correlation::{Correlations, OneOfReceiver, OneOfSender},
    inst::{Flag, FlagKind, section},
    vector::{Bits, Vector, VectorWord},
};
use sirnn_kernels::{
    aes::Prg,
    memory::SecretVec,
    ops,
    pack::{pack, unpack},
    table::{LeafFlag, leaf_recv, leaf_send},
};

/// Slots that are worked on at a time; a multiple of 64 and of the largest digit's. LOCAL.
const TILE: usize = 64 << 8;

/// The parameters of the instruction.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) digit: u8,
    pub(super) views: u8,
    pub(super) flags: usize,
    pub(super) n: usize,
}

impl Shape {
    /// Instances that are worked on at a time; a multiple of 64.
    fn tile(self) -> usize {
        TILE >> self.digit
    }

    /// Bytes of a flag's section.
    fn section_len(self) -> usize {
        section(self.n << self.digit, 1)
    }
}

/// The party that masks the flags.
pub(super) struct Sender {
    shape: Shape,
    flags: Vec<LeafFlag>,
    ticket: OneOfSender,
    /// Bit `f` masks flag `f`.
    masks: SecretVec<u8>,
    delta: Vec<u8>,
}

impl Sender {
    pub(super) fn start(
        shape: Shape,
        flags: &[Flag],
        correlations: &mut dyn Correlations,
        prg: &mut Prg,
    ) -> Result<Box<dyn Instance>, Error> {
        let ticket = correlations.one_of_send(shape.digit, shape.n)?;
        let flags = flags.iter().map(|f| (f.kind == FlagKind::Carry, f.bits, f.view)).collect();
        let mut masks = SecretVec::from(vec![0; shape.n]);
        prg.fill_words(shape.flags as u32, &mut masks);
        Ok(Box::new(Self { shape, flags, ticket, masks, delta: Vec::new() }))
    }
}

impl Instance for Sender {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let Shape { digit, views, n, .. } = self.shape;
        let tile = self.shape.tile();
        let views: Vec<&[u8]> = (0..views).map(|v| u8::of(operand(operands, v.into()))).collect();
        let tile_len = section(tile << digit, 1);
        let mut sections: Vec<_> =
            out.chunks_exact_mut(self.shape.section_len().max(1)).map(|s| s.chunks_mut(tile_len)).collect();
        let jobs = (0..n).step_by(tile).map(|from| {
            (from, sections.iter_mut().map(|s| s.next().expect("a tile of every flag")).collect::<Vec<_>>())
        });
        let slots = tile.min(n) << digit;
        let scratch = || (SecretVec::from(vec![0; slots]), vec![0; self.flags.len() * slots.div_ceil(64)]);
        each(n << digit, jobs, scratch, |(pads, words), (from, sections)| {
            let at = from..n.min(from + tile);
            let pads = &mut pads[..at.len() << digit];
            let per_flag = pads.len().div_ceil(64);
            let words = &mut words[..self.flags.len() * per_flag];
            self.ticket.pads(from, pads);
            let views: Vec<&[u8]> = views.iter().map(|v| &v[at.clone()]).collect();
            leaf_send(digit.into(), &self.flags, &views, &self.delta[at.clone()], pads, &self.masks[at], words);
            for (section, words) in sections.into_iter().zip(words.chunks(per_flag)) {
                write_words(section, words.iter().copied());
            }
        });
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        let digit = u32::from(self.shape.digit);
        expect_len(bytes, section(self.shape.n, digit))?;
        self.delta = vec![0; self.shape.n];
        unpack(digit, bytes, &mut self.delta);
        Ok(())
    }

    fn finish(&mut self, _: &[Operand]) -> Vec<Vector> {
        vec![Vector::Bits(planes_from_words(self.shape.flags as u8, &self.masks))]
    }
}

/// The party that takes the flags of its digit.
pub(super) struct Receiver {
    shape: Shape,
    ticket: OneOfReceiver,
    result: Bits,
}

impl Receiver {
    pub(super) fn start(shape: Shape, correlations: &mut dyn Correlations) -> Result<Box<dyn Instance>, Error> {
        let ticket = correlations.one_of_recv(shape.digit, shape.n)?;
        Ok(Box::new(Self { shape, ticket, result: Bits::default() }))
    }

    /// The choices as digits.
    fn choices(&self) -> SecretVec<u8> {
        let mut choices = SecretVec::from(vec![0; self.shape.n]);
        ops::resize(&self.ticket.choices, self.shape.digit.into(), &mut choices);
        choices
    }
}

impl Instance for Receiver {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let digit = u32::from(self.shape.digit);
        let b = u8::of(operand(operands, self.shape.views.into()));
        let mut delta = vec![0; self.shape.n];
        ops::sub(digit, b, &self.choices(), &mut delta);
        pack(digit, &delta, out);
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        let Shape { digit, flags, n, .. } = self.shape;
        expect_len(bytes, flags * self.shape.section_len())?;
        let choices = self.choices();
        self.result = Bits::zero(flags, n);
        let tile = self.shape.tile();
        let (slot_words, words) = ((tile.min(n) << digit).div_ceil(64), tile.min(n).div_ceil(64));
        let sections: Vec<&[u8]> = bytes.chunks_exact(self.shape.section_len().max(1)).collect();
        let plane = self.result.words_per_plane().max(1);
        let mut planes: Vec<_> = self.result.words.chunks_exact_mut(plane).map(|p| p.chunks_mut(tile / 64)).collect();
        let jobs = (0..n)
            .step_by(tile)
            .map(|from| (from, planes.iter_mut().map(|p| p.next().expect("a tile of every flag")).collect::<Vec<_>>()));
        let ticket = &self.ticket;
        let scratch = || (SecretVec::from(vec![0; tile.min(n)]), vec![0; flags * slot_words], vec![0; flags * words]);
        each(n << digit, jobs, scratch, |(pads, slots, found), (from, planes)| {
            let at = from..n.min(from + tile);
            let pads = &mut pads[..at.len()];
            let per_flag = (at.len() << digit).div_ceil(64);
            let at_words = at.len().div_ceil(64);
            let (slots, found) = (&mut slots[..flags * per_flag], &mut found[..flags * at_words]);
            for (section, slots) in sections.iter().zip(slots.chunks_exact_mut(per_flag)) {
                let (section, _) = section[(from << digit) / 8..].as_chunks();
                slots.iter_mut().zip(section).for_each(|(w, b)| *w = u64::from_le_bytes(*b));
            }
            ticket.pads(from, pads);
            leaf_recv(digit.into(), flags, slots, &choices[at], pads, found);
            for (plane, found) in planes.into_iter().zip(found.chunks_exact(at_words)) {
                plane.copy_from_slice(found);
            }
        });
        Ok(())
    }

    fn finish(&mut self, _: &[Operand]) -> Vec<Vector> {
        vec![Vector::Bits(std::mem::take(&mut self.result))]
    }
}
