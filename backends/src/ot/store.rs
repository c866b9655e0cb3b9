//! Correlations outside of memory: what [`Streams::store`](super::streams::Streams::store) writes and
//! [`Streams::stored`](super::streams::Streams::stored) reads.
//!
//! ```text
//! delta (16 bytes), then for each kind of 1-of-N OT that this party sends, in order: what to add to a row for each pad (16 bytes each)
//! records, in the order in which the online phase first needs them:
//!   kind, role (4 bytes), number n (4), stream position (8)
//!   COT         n rows (16 bytes each); choices (1 bit each)
//!   1-of-N OT   n rows (16 bytes each); choices (2 bytes each)
//!   triples     planes of a, b, c (1 bit each)
//!   one-hot     n masks (2 bytes each); vectors or trees (16 bytes a block); with signs: signs (1 bit each), rows sent and received (16 each)
//! ```
//! Choices are there for the receiver only. Bits are in words of 8 bytes, numbers little endian. Positions matter: they are
//! the tweaks of the hash. Which records there are, and how long all of it is ([`len`]), follows from the needs: a reader
//! knows every length beforehand. The content is as secret as the correlations. This format does not say who wrote it; that takes
//! a hash or a key around it.

use super::{
    Batch,
    chunks::{Span, rest},
};
use crate::{Error, Party, correlation::Triples, inst::CorrelationKind, onehot::OneHotBatch, vector::Bits};
use sirnn_kernels::memory::SecretVec;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};
use zeroize::Zeroizing;

/// Bytes before the content of a record.
const RECORD_HEAD: usize = 16;

/// What all records have in common.
pub(super) struct Head {
    /// See [`Backend::delta`](super::Backend::delta).
    pub(super) delta: Zeroizing<u128>,
    /// See [`Backend::offsets`](super::Backend::offsets).
    pub(super) offsets: BTreeMap<CorrelationKind, Arc<SecretVec<u128>>>,
}

/// The kinds whose offsets a head has, with their number.
fn sent(party: Party, needs: &[(CorrelationKind, u64)]) -> BTreeMap<CorrelationKind, usize> {
    let pads = |&(kind, n): &(CorrelationKind, u64)| match kind {
        CorrelationKind::OneOf { sender, bits } if sender == party && n > 0 => Some((kind, 1 << bits)),
        _ => None,
    };
    needs.iter().filter_map(pads).collect()
}

impl Head {
    pub(super) fn write(
        &self,
        party: Party,
        needs: &[(CorrelationKind, u64)],
        to: &mut dyn Write,
    ) -> Result<(), Error> {
        write(to, &self.delta.to_le_bytes())?;
        for kind in sent(party, needs).into_keys() {
            write(to, bytemuck::cast_slice(self.offsets[&kind].as_slice()))?;
        }
        Ok(())
    }

    pub(super) fn read(party: Party, needs: &[(CorrelationKind, u64)], from: &mut dyn Read) -> Result<Self, Error> {
        let mut delta = Zeroizing::new([0; 16]);
        read(from, &mut *delta)?;
        let offsets = sent(party, needs).into_iter().map(|(kind, pads)| {
            let mut offsets = SecretVec::from(vec![0u128; pads]);
            read(from, bytemuck::cast_slice_mut(offsets.as_mut_slice()))?;
            Ok((kind, Arc::new(offsets)))
        });
        Ok(Self { offsets: offsets.collect::<Result<_, Error>>()?, delta: u128::from_le_bytes(*delta).into() })
    }
}

/// Bytes that a party's part of a session's correlations takes: those of `needs` without those of `drawn`.
pub fn len(party: Party, needs: &[(CorrelationKind, u64)], drawn: &[(CorrelationKind, u64)]) -> u64 {
    let head = 16 + 16 * sent(party, needs).into_values().sum::<usize>();
    let records = rest(needs, drawn).into_iter().map(|r| r.len(party) as u64);
    head as u64 + records.sum::<u64>()
}

/// A span as a record.
impl Span {
    /// Length in bytes.
    fn len(&self, party: Party) -> usize {
        let (n, words) = (self.n, 8 * self.n.div_ceil(64));
        RECORD_HEAD
            + match self.kind {
                CorrelationKind::Cot { sender } => 16 * n + if sender == party { 0 } else { words },
                CorrelationKind::OneOf { sender, .. } => 16 * n + if sender == party { 0 } else { 2 * n },
                CorrelationKind::Triple { cols } => (1 + 2 * usize::from(cols)) * words,
                CorrelationKind::OneHot(shape) => {
                    2 * n + 16 * n * shape.blocks() + usize::from(shape.sign) * (words + 32 * n)
                }
            }
    }

    fn head(&self, party: Party) -> [u8; RECORD_HEAD] {
        let (kind, parameter, sender) = match self.kind {
            CorrelationKind::Cot { sender } => (1, 0, Some(sender)),
            CorrelationKind::OneOf { sender, bits } => (2, bits, Some(sender)),
            CorrelationKind::Triple { cols } => (3, cols, None),
            CorrelationKind::OneHot(shape) => (4, shape.part(), None),
        };
        let role = sender.map_or(0, |sender| 1 + u8::from(sender != party));
        let mut head = [0; RECORD_HEAD];
        head[..4].copy_from_slice(&[kind, parameter, role, 0]);
        head[4..8].copy_from_slice(&(self.n as u32).to_le_bytes());
        head[8..].copy_from_slice(&self.position.to_le_bytes());
        head
    }

    pub(super) fn write(&self, party: Party, batch: &Batch, to: &mut dyn Write) -> Result<(), Error> {
        debug_assert_eq!(batch.len(), self.n);
        let mut all = |parts: &[&[u8]]| {
            write(to, &self.head(party))?;
            parts.iter().try_for_each(|part| write(to, part))
        };
        match batch {
            Batch::CotSend(q) | Batch::OneOfSend(q) => all(&[bytemuck::cast_slice(q.as_slice())]),
            Batch::CotRecv(t, choices) => all(&[bytemuck::cast_slice(t.as_slice()), words(choices)]),
            Batch::OneOfRecv(t, choices) => {
                all(&[bytemuck::cast_slice(t.as_slice()), bytemuck::cast_slice(choices.as_slice())])
            }
            Batch::Triples(Triples { a, b, c }) => all(&[words(a), words(b), words(c)]),
            Batch::OneHots(_, OneHotBatch { masks, blocks, signs, sent, received }) => all(&[
                bytemuck::cast_slice(masks.as_slice()),
                bytemuck::cast_slice(blocks.as_slice()),
                words(signs),
                bytemuck::cast_slice(sent.as_slice()),
                bytemuck::cast_slice(received.as_slice()),
            ]),
        }
    }

    /// Reads the record, which has to be this one.
    pub(super) fn read(&self, party: Party, from: &mut dyn Read) -> Result<Batch, Error> {
        let (n, kind) = (self.n, self.kind);
        let mut head = [0; RECORD_HEAD];
        read(from, &mut head)?;
        if head != self.head(party) {
            return Err(Error::Store(format!(
                "no record of {n} {kind:?} from {} on where it should be",
                self.position
            )));
        }
        match kind {
            CorrelationKind::Cot { sender } => {
                let mut rows = SecretVec::from(vec![0u128; n]);
                read(from, bytemuck::cast_slice_mut(&mut rows[..]))?;
                if sender == party { Ok(Batch::CotSend(rows)) } else { Ok(Batch::CotRecv(rows, planes(1, n, from)?)) }
            }
            CorrelationKind::OneOf { sender, bits } => {
                let mut rows = SecretVec::from(vec![0u128; n]);
                read(from, bytemuck::cast_slice_mut(&mut rows[..]))?;
                if sender == party {
                    return Ok(Batch::OneOfSend(rows));
                }
                let mut choices = SecretVec::from(vec![0u16; n]);
                read(from, bytemuck::cast_slice_mut(&mut choices[..]))?;
                choices.iter_mut().for_each(|c| *c &= (1 << bits) - 1);
                Ok(Batch::OneOfRecv(rows, choices))
            }
            CorrelationKind::Triple { cols } => {
                let cols = usize::from(cols);
                let (a, b, c) = (planes(1, n, from)?, planes(cols, n, from)?, planes(cols, n, from)?);
                Ok(Batch::Triples(Triples { a, b, c }))
            }
            CorrelationKind::OneHot(shape) => {
                let mut batch = OneHotBatch::zero(shape, n);
                read(from, bytemuck::cast_slice_mut(batch.masks.as_mut_slice()))?;
                batch.masks.iter_mut().for_each(|g| *g &= u16::MAX >> (16 - shape.bits));
                read(from, bytemuck::cast_slice_mut(batch.blocks.as_mut_slice()))?;
                if shape.sign {
                    batch.signs = planes(1, n, from)?;
                    read(from, bytemuck::cast_slice_mut(batch.sent.as_mut_slice()))?;
                    read(from, bytemuck::cast_slice_mut(batch.received.as_mut_slice()))?;
                }
                Ok(Batch::OneHots(shape, batch))
            }
        }
    }
}

fn words(bits: &Bits) -> &[u8] {
    bytemuck::cast_slice(&bits.words)
}

fn planes(planes: usize, n: usize, from: &mut dyn Read) -> Result<Bits, Error> {
    let mut bits = Bits::zero(planes, n);
    read(from, bytemuck::cast_slice_mut(&mut bits.words))?;
    bits.clear_tail();
    Ok(bits)
}

fn write(to: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    to.write_all(bytes).map_err(|e| Error::Store(e.to_string()))
}

fn read(from: &mut dyn Read, bytes: &mut [u8]) -> Result<(), Error> {
    from.read_exact(bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Store("they end too early".into()),
        _ => Error::Store(e.to_string()),
    })
}
