//! Freshly made correlations, before they are handed out.

use crate::{
    Party,
    correlation::Triples,
    inst::CorrelationKind,
    onehot::{OneHotBatch, Shape},
    vector::Bits,
};
use sirnn_kernels::memory::{self, SecretVec};

/// Correlations of one kind, this party's side.
#[derive(Debug)]
pub enum Batch {
    /// Rows `q` of correlated OTs.
    CotSend(SecretVec<u128>),
    /// Rows and choices of correlated OTs.
    CotRecv(SecretVec<u128>, Bits),
    /// Rows of 1-of-N OTs.
    OneOfSend(SecretVec<u128>),
    /// Rows and choices of 1-of-N OTs.
    OneOfRecv(SecretVec<u128>, SecretVec<u16>),
    /// Triples.
    Triples(Triples),
    /// One-hot vectors of a shape.
    OneHots(Shape, OneHotBatch),
}

/// No correlations of a kind.
pub(super) fn nothing(party: Party, kind: CorrelationKind) -> Batch {
    match kind {
        CorrelationKind::Cot { sender } if sender == party => Batch::CotSend(SecretVec::default()),
        CorrelationKind::Cot { .. } => Batch::CotRecv(SecretVec::default(), Bits::zero(1, 0)),
        CorrelationKind::OneOf { sender, .. } if sender == party => Batch::OneOfSend(SecretVec::default()),
        CorrelationKind::OneOf { .. } => Batch::OneOfRecv(SecretVec::default(), SecretVec::default()),
        CorrelationKind::Triple { cols } => {
            let planes = |p| Bits::zero(p, 0);
            Batch::Triples(Triples { a: planes(1), b: planes(cols.into()), c: planes(cols.into()) })
        }
        CorrelationKind::OneHot(shape) => Batch::OneHots(shape, OneHotBatch::zero(shape, 0)),
    }
}

impl Batch {
    /// Correlations in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Batch::CotSend(rows) | Batch::CotRecv(rows, _) => rows.len(),
            Batch::OneOfSend(rows) | Batch::OneOfRecv(rows, _) => rows.len(),
            Batch::Triples(t) => t.a.len,
            Batch::OneHots(_, o) => o.masks.len(),
        }
    }

    /// The same kind of batch with room for `n`; bits are there already, all zero.
    pub(super) fn empty(&self, n: usize) -> Self {
        match self {
            Batch::CotSend(_) => Batch::CotSend(memory::with_capacity(n).into()),
            Batch::CotRecv(..) => Batch::CotRecv(memory::with_capacity(n).into(), Bits::zero(1, n)),
            Batch::OneOfSend(_) => Batch::OneOfSend(memory::with_capacity(n).into()),
            Batch::OneOfRecv(..) => Batch::OneOfRecv(memory::with_capacity(n).into(), memory::with_capacity(n).into()),
            Batch::Triples(t) => {
                let planes = |bits: &Bits| Bits::zero(bits.planes, n);
                Batch::Triples(Triples { a: planes(&t.a), b: planes(&t.b), c: planes(&t.c) })
            }
            Batch::OneHots(shape, _) => Batch::OneHots(
                *shape,
                OneHotBatch {
                    masks: memory::with_capacity(n).into(),
                    blocks: memory::with_capacity(n * shape.blocks()).into(),
                    signs: Bits::zero(shape.sign.into(), n),
                    sent: memory::with_capacity(n * usize::from(shape.sign)).into(),
                    received: memory::with_capacity(n * usize::from(shape.sign)).into(),
                },
            ),
        }
    }

    /// Copies `n` correlations from `from` on to the end of `out`, which has `at` of them.
    pub(super) fn copy_to(&self, from: usize, n: usize, out: &mut Batch, at: usize) {
        let copy_planes = |bits: &Bits, out: &mut Bits| {
            for p in 0..bits.planes {
                copy_bits(bits.plane(p), from, n, out.plane_mut(p), at);
            }
        };
        match (self, out) {
            (Batch::CotSend(rows), Batch::CotSend(out)) => out.extend_from_slice(&rows[from..from + n]),
            (Batch::CotRecv(rows, c), Batch::CotRecv(out, out_c)) => {
                out.extend_from_slice(&rows[from..from + n]);
                copy_planes(c, out_c);
            }
            (Batch::OneOfSend(rows), Batch::OneOfSend(out)) => out.extend_from_slice(&rows[from..from + n]),
            (Batch::OneOfRecv(rows, c), Batch::OneOfRecv(out, out_c)) => {
                out.extend_from_slice(&rows[from..from + n]);
                out_c.extend_from_slice(&c[from..from + n]);
            }
            (Batch::Triples(t), Batch::Triples(out)) => {
                copy_planes(&t.a, &mut out.a);
                copy_planes(&t.b, &mut out.b);
                copy_planes(&t.c, &mut out.c);
            }
            (Batch::OneHots(shape, o), Batch::OneHots(_, out)) => {
                let blocks = shape.blocks();
                out.masks.extend_from_slice(&o.masks[from..from + n]);
                out.blocks.extend_from_slice(&o.blocks[from * blocks..(from + n) * blocks]);
                copy_planes(&o.signs, &mut out.signs);
                if shape.sign {
                    out.sent.extend_from_slice(&o.sent[from..from + n]);
                    out.received.extend_from_slice(&o.received[from..from + n]);
                }
            }
            _ => unreachable!("a stream has one form of batches"),
        }
    }
}

/// Copies `n` bits between planes; those of `out` are zero before.
fn copy_bits(bits: &[u64], from: usize, n: usize, out: &mut [u64], at: usize) {
    let mut done = 0;
    while done < n {
        let (source, target) = (from + done, at + done);
        let count = (64 - source % 64).min(64 - target % 64).min(n - done);
        let field = bits[source / 64] >> (source % 64) & (u64::MAX >> (64 - count));
        out[target / 64] |= field << (target % 64);
        done += count;
    }
}
