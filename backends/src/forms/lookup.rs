//! Table entry at an index that both parties share: [`Inst::Lookup`](crate::inst::Inst::Lookup).
//!
//! The paper's LUT protocol (SIRNN III) by a random 1-of-`N` OT, `N = 2^(index + xor_index)`, with an index that is
//! shared additively in its low part and by XOR in its high part, and several columns under one pad. Lowering, with
//! shares `(s, s')` of the sender and `(r, r')` of the receiver, whose random choice is `(c, c')`:
//!
//! 1. the receiver sends `delta = (r - c mod 2^index, r' ^ c')`;
//! 2. the sender sends slot `k = (k_lo, k_hi)`: `T[(k_lo + s + delta_lo mod 2^index, k_hi ^ s' ^ delta_hi)] - mask`,
//!    padded with pad `k`. Its share is `mask`.
//!
//! Rounds: 2. Bits: `index + xor_index`, then `N` entries; a message is one section per column, instance-major. A
//! column's pad starts in its pad block where the column before it ends.
//!
//! Correct: slot `(c, c')` holds the entry at `(s + r, s' ^ r')`. Secure: `delta` is one-time padded by the choice; all
//! slots but one are padded with what the receiver does not know, and the entry in that one is masked freshly. That
//! also makes the table private to the sender if it is not public.

use super::{Instance, Operand, each, expect_len, operand, planes_from_words, words, words_from_planes};
use crate::{
    Error,
    correlation::{Correlations, OneOfReceiver, OneOfSender},
    inst::{Ring, Table, section},
    vector::{Vector, VectorWord},
    with_word_type,
};
use sirnn_kernels::{
    aes::Prg,
    memory::SecretVec,
    pack::{pack, packed_len, unpack},
    table::{LookupTables, lut_recv, lut_send},
};
use std::borrow::Cow;

/// Entries that are worked on at a time; a multiple of 64. LOCAL.
const TILE: usize = 4096;

/// The parameters of the instruction.
pub(super) struct Shape {
    pub(super) index: u8,
    pub(super) xor_index: u8,
    pub(super) units: u32,
    pub(super) table: Table,
    pub(super) columns: Vec<Ring>,
    pub(super) n: usize,
}

impl Shape {
    /// Bits of the whole index.
    fn bits(&self) -> u8 {
        self.index + self.xor_index
    }

    /// Instances that are worked on at a time: a whole number of 64 entries.
    fn tile(&self) -> usize {
        (TILE >> self.bits()).max(1 << 6u8.saturating_sub(self.bits()))
    }

    /// Bytes of a column's section.
    fn section_len(&self, ring: Ring) -> usize {
        packed_len(self.n << self.bits(), ring.bits())
    }

    /// Bytes of a tile of a column's section.
    fn tile_len(&self, ring: Ring) -> usize {
        packed_len(self.tile() << self.bits(), ring.bits())
    }

    /// A party's two index shares: low and high part. Empty if the index has no such part.
    fn shares<'a>(&self, operands: &'a [Operand], receiver: bool) -> [Cow<'a, [u16]>; 2] {
        let (low, high) = (usize::from(self.index > 0), usize::from(self.xor_index > 0));
        let first = usize::from(receiver) * (low + high);
        let share = |present: usize, at: usize| match present {
            0 => Cow::Borrowed(&[][..]),
            _ => match operand(operands, at) {
                Vector::Bits(bits) => Cow::Owned(words_from_planes(bits)),
                digit => words(digit),
            },
        };
        [share(low, first), share(high, first + low)]
    }

    /// The entries of each column, as words.
    fn tables<'a>(&self, operands: &'a [Operand]) -> Vec<Cow<'a, Vector>> {
        let first = 2 * (usize::from(self.index > 0) + usize::from(self.xor_index > 0));
        let table = |(c, ring): (usize, &Ring)| match &self.table {
            Table::Public(columns) => Cow::Owned(Vector::from_u64s(ring.bits(), columns.columns()[c].iter().copied())),
            Table::Private => match operand(operands, first + c) {
                Vector::Bits(bits) => Cow::Owned(with_word_type!(ring.bits(), W => W::wrap(words_from_planes(bits)))),
                words => Cow::Borrowed(words),
            },
        };
        self.columns.iter().enumerate().map(table).collect()
    }

    /// Each column's ring and where its pad begins in the pad block.
    fn pads(&self) -> impl Iterator<Item = (Ring, u32)> {
        self.columns.iter().scan(0, |end, ring| {
            *end += ring.bits();
            Some((*ring, *end - ring.bits()))
        })
    }
}

/// A register of ring `ring` from the words of its elements.
fn register<W: VectorWord>(ring: Ring, words: Vec<W>) -> Vector {
    match ring {
        Ring::Add(_) => W::wrap(words),
        Ring::Xor(k) => Vector::Bits(planes_from_words(k, &SecretVec::from(words))),
    }
}

/// The party that masks the table.
pub(super) struct Sender {
    shape: Shape,
    ticket: OneOfSender,
    /// Words, one vector per column.
    masks: Vec<Vector>,
    delta: Vec<u16>,
}

impl Sender {
    pub(super) fn start(
        shape: Shape,
        correlations: &mut dyn Correlations,
        prg: &mut Prg,
    ) -> Result<Box<dyn Instance>, Error> {
        let ticket = correlations.one_of_send(shape.bits(), shape.n)?;
        let mask = |ring: &Ring| {
            with_word_type!(ring.bits(), W => {
                let mut mask = vec![W::default(); shape.n];
                prg.fill_words(ring.bits(), &mut mask);
                W::wrap(mask)
            })
        };
        let masks = shape.columns.iter().map(mask).collect();
        Ok(Box::new(Self { shape, ticket, masks, delta: Vec::new() }))
    }

    /// The slots of one column of a tile, whose masks are given.
    fn slots<W: VectorWord>(&self, (ring, shift): (Ring, u32), table: &[W], tile: &Tile, masks: &[W], slots: &mut [W]) {
        let Shape { index, xor_index, units, .. } = self.shape;
        let (bits, units) = (self.shape.bits(), units as usize);
        let mut i = 0;
        while i < masks.len() {
            // Instance i uses unit i % units, but a kernel call begins with the first unit of the table it is given.
            let unit = (tile.from + i) % units;
            let left = masks.len() - i;
            let len = if unit == 0 { left } else { left.min(units - unit) };
            let used = len.min(units);
            let slot = i << bits..(i + len) << bits;
            let lookups = LookupTables {
                tables: &table[unit << bits..(unit + used) << bits],
                units: used,
                index_bits: index.into(),
                xor_bits: xor_index.into(),
                rotations: part(tile.rot, i, len),
                xors: part(tile.xorv, i, len),
                pads: &tile.pads[slot.clone()],
                pad_shift: shift,
                masks: &masks[i..i + len],
                width: ring.bits(),
                xor: matches!(ring, Ring::Xor(_)),
            };
            lut_send(&lookups, &mut slots[slot]);
            i += len;
        }
    }
}

/// Some instances: their rotations, what to XOR to the high part of the index, and their pads.
struct Tile<'a> {
    /// Number of the first.
    from: usize,
    rot: &'a [u16],
    xorv: &'a [u16],
    pads: &'a [u128],
}

/// `xs[from..from + len]`, or nothing of nothing.
fn part(xs: &[u16], from: usize, len: usize) -> &[u16] {
    if xs.is_empty() { xs } else { &xs[from..from + len] }
}

impl Instance for Sender {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let shape = &self.shape;
        let (bits, tile) = (shape.bits(), shape.tile());
        let [s, s2] = shape.shares(operands, false);
        let m = (1 << shape.index) - 1;
        let secret = |words: Vec<u16>| SecretVec::from(words);
        let rot = secret(s.iter().zip(&self.delta).map(|(s, d)| s.wrapping_add(*d) & m).collect());
        let xorv = secret(s2.iter().zip(&self.delta).map(|(s, d)| s ^ (d >> shape.index)).collect());
        let tables = shape.tables(operands);
        let mut rest = out;
        let mut sections: Vec<_> = shape
            .columns
            .iter()
            .map(|ring| {
                let (section, after) = std::mem::take(&mut rest).split_at_mut(shape.section_len(*ring));
                rest = after;
                section.chunks_mut(shape.tile_len(*ring))
            })
            .collect();
        let jobs = (0..shape.n).step_by(tile).map(|from| {
            (from, sections.iter_mut().map(|s| s.next().expect("a tile of every column")).collect::<Vec<_>>())
        });
        let entries = tile.min(shape.n) << bits;
        each(
            shape.n << bits,
            jobs,
            || (SecretVec::from(vec![0; entries]), vec![0u64; entries]),
            |(pads, room), (from, sections)| {
                let len = tile.min(shape.n - from);
                let pads = &mut pads[..len << bits];
                self.ticket.pads(from, pads);
                let tile = Tile { from, rot: part(&rot, from, len), xorv: part(&xorv, from, len), pads };
                for (c, (column, section)) in shape.pads().zip(sections).enumerate() {
                    with_word_type!(column.0.bits(), W => {
                        let slots = &mut bytemuck::cast_slice_mut::<u64, W>(room)[..len << bits];
                        let masks = &W::of(&self.masks[c])[from..from + len];
                        self.slots(column, W::of(&tables[c]), &tile, masks, slots);
                        pack(column.0.bits(), slots, section);
                    });
                }
            },
        );
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        let bits = u32::from(self.shape.bits());
        expect_len(bytes, section(self.shape.n, bits))?;
        self.delta = vec![0; self.shape.n];
        unpack(bits, bytes, &mut self.delta);
        Ok(())
    }

    fn finish(&mut self, _: &[Operand]) -> Vec<Vector> {
        let share =
            |(ring, mask): (&Ring, &Vector)| with_word_type!(ring.bits(), W => register(*ring, W::of(mask).to_vec()));
        self.shape.columns.iter().zip(&self.masks).map(share).collect()
    }
}

/// The party that takes an entry.
pub(super) struct Receiver {
    shape: Shape,
    ticket: OneOfReceiver,
    results: Vec<Vector>,
}

impl Receiver {
    pub(super) fn start(shape: Shape, correlations: &mut dyn Correlations) -> Result<Box<dyn Instance>, Error> {
        let ticket = correlations.one_of_recv(shape.bits(), shape.n)?;
        Ok(Box::new(Self { shape, ticket, results: Vec::new() }))
    }

    fn column<W: VectorWord>(&self, (ring, shift): (Ring, u32), pads: &[u128], section: &[u8]) -> Vector {
        let Shape { n, .. } = self.shape;
        let (bits, tile) = (self.shape.bits(), self.shape.tile());
        let mut words = vec![W::default(); n];
        let jobs = words.chunks_mut(tile).zip(section.chunks(self.shape.tile_len(ring))).enumerate();
        each(
            n << bits,
            jobs,
            || vec![W::default(); tile.min(n) << bits],
            |entries, (t, (words, section))| {
                let entries = &mut entries[..words.len() << bits];
                unpack(ring.bits(), section, entries);
                let at = t * tile..t * tile + words.len();
                let (choices, pads) = (&self.ticket.choices[at.clone()], &pads[at]);
                lut_recv(entries, bits.into(), choices, pads, shift, ring.bits(), matches!(ring, Ring::Xor(_)), words);
            },
        );
        register(ring, words)
    }
}

impl Instance for Receiver {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let shape = &self.shape;
        let [r, r2] = shape.shares(operands, true);
        let m = (1 << shape.index) - 1;
        let mut delta = self.ticket.choices.clone();
        // The high part of the choice stays; XOR with the share makes it the message's.
        delta.iter_mut().zip(r.iter()).for_each(|(d, r)| *d = (*d & !m) | (r.wrapping_sub(*d) & m));
        delta.iter_mut().zip(r2.iter()).for_each(|(d, r)| *d ^= r << shape.index);
        pack(shape.bits().into(), &delta, out);
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        expect_len(bytes, self.shape.columns.iter().map(|ring| self.shape.section_len(*ring)).sum())?;
        let mut pads = SecretVec::from(vec![0; self.shape.n]);
        self.ticket.pads(0, &mut pads);
        let mut rest = bytes;
        for column in self.shape.pads() {
            let (section, after) = rest.split_at(self.shape.section_len(column.0));
            rest = after;
            self.results.push(with_word_type!(column.0.bits(), W => self.column::<W>(column, &pads, section)));
        }
        Ok(())
    }

    fn finish(&mut self, _: &[Operand]) -> Vec<Vector> {
        std::mem::take(&mut self.results)
    }
}
