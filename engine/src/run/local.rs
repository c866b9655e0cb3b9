//! Execution of local operations on one party's vectors.

use crate::program::{LocalOp, Ty};
use sirnn_backends::inst::Ring;
use sirnn_backends::vector::{Bits, Vector, VectorWord};
use sirnn_backends::{with_word_type, with_words};
use sirnn_kernels::{bits as bitk, matmul::matmul, ops, ring::RingWord};
use std::sync::Arc;

/// Runs a local operation at one party. `first` is P0, who adds public constants to shares; for private registers it
/// is true. `ty` is the type of the result.
pub fn eval(op: &LocalOp, first: bool, ins: &[&Arc<Vector>], ty: &Ty) -> Arc<Vector> {
    let width = ty.width();
    let out = match op {
        LocalOp::View | LocalOp::Retype => return Arc::clone(ins[0]),
        LocalOp::Share => match ins.first() {
            Some(x) => return Arc::clone(x),
            None => zero(ty),
        },
        LocalOp::Public(values) if first => Vector::from_u64s(width, values.iter().map(|&v| v as u64)),
        LocalOp::Public(_) => zero(ty),
        LocalOp::Add => binary(ins, width, WordFn::Add),
        LocalOp::Sub => binary(ins, width, WordFn::Sub),
        LocalOp::Mul => binary(ins, width, WordFn::Mul),
        LocalOp::MatMul { shape: [rows, inner, outer] } => with_words!(&**ins[0], a => {
            fn go<W: VectorWord>(a: &[W], b: &Vector, width: u32, [rows, inner, outer]: [usize; 3]) -> Vector {
                let mut out = vec![W::default(); rows * outer];
                matmul(a, W::of(b), &mut out, rows, inner, outer);
                let m = W::mask(width);
                out.iter_mut().for_each(|x| *x &= m);
                W::wrap(out)
            }
            go(a, ins[1], width, [*rows, *inner, *outer])
        }),
        LocalOp::Offset(c) if first => scalar(ins[0], width, *c, true),
        LocalOp::Offset(_) => return Arc::clone(ins[0]),
        LocalOp::Scale(c) => scalar(ins[0], width, *c, false),
        LocalOp::Shl { by, .. } => with_words!(&**ins[0], xs => with_word_type!(width, W => {
            let m = W::mask(width);
            W::wrap(xs.iter().map(|x| W::from_u64(x.to_u64() << by) & m).collect())
        })),
        LocalOp::Digit { lo, .. } => with_words!(&**ins[0], xs => with_word_type!(width, W => {
            let mut out = vec![W::default(); xs.len()];
            ops::digit(xs, u32::from(*lo), width, &mut out);
            W::wrap(out)
        })),
        LocalOp::Planes { lo, bits } => with_words!(&**ins[0], xs => {
            let mut out = Bits::zero(usize::from(*bits), xs.len());
            for p in 0..*bits {
                bitk::bit_plane(xs, u32::from(lo + p), out.plane_mut(usize::from(p)));
            }
            Vector::Bits(out)
        }),
        LocalOp::Word { .. } => {
            let b = ins[0].bits();
            with_word_type!(width, W => {
                let mut out = vec![W::default(); b.len];
                bitk::words_from_plane(b.plane(0), b.len, &mut out);
                W::wrap(out)
            })
        }
        LocalOp::Select => {
            let b = ins[0].bits();
            with_words!(&**ins[1], xs => {
                let mut out = vec![Default::default(); xs.len()];
                bitk::select_words(b.plane(0), xs, &mut out);
                VectorWord::wrap(out)
            })
        }
        LocalOp::Xor => {
            let mut out = ins[0].bits().clone();
            for (a, b) in out.words.iter_mut().zip(&ins[1].bits().words) {
                *a ^= b;
            }
            Vector::Bits(out)
        }
        LocalOp::Not if first => {
            let mut out = ins[0].bits().clone();
            out.words.iter_mut().for_each(|w| *w = !*w);
            out.clear_tail();
            Vector::Bits(out)
        }
        LocalOp::Not => return Arc::clone(ins[0]),
        LocalOp::Pick { from, count } => {
            let b = ins[0].bits();
            let n = b.words_per_plane();
            let (from, count) = (usize::from(*from), usize::from(*count));
            Vector::Bits(Bits { planes: count, len: b.len, words: b.words[from * n..(from + count) * n].to_vec() })
        }
        LocalOp::Stack => {
            let words = ins.iter().flat_map(|b| b.bits().words.iter().copied()).collect();
            Vector::Bits(Bits { planes: ins.iter().map(|b| b.bits().planes).sum(), len: ty.len, words })
        }
        LocalOp::Slice { from, len } => match &**ins[0] {
            Vector::Bits(b) => Vector::Bits(gather_bits(b, (*from..from + len).map(|i| (0, i)), &[b], *len)),
            v => with_words!(v, xs => VectorWord::wrap(xs[*from..from + len].to_vec())),
        },
        LocalOp::Concat => with_words!(&**ins[0], first => {
            let mut out = first.clone();
            extend(&mut out, &ins[1..]);
            VectorWord::wrap(out)
        }),
        LocalOp::Repeat { times } => with_words!(&**ins[0], xs => VectorWord::wrap(xs.repeat(*times))),
        LocalOp::Gather(map) => {
            with_words!(&**ins[0], xs => VectorWord::wrap(map.iter().map(|&i| xs[i as usize]).collect()))
        }
    };
    Arc::new(out)
}

fn extend<W: VectorWord>(out: &mut Vec<W>, parts: &[&Arc<Vector>]) {
    for part in parts {
        out.extend_from_slice(W::of(part));
    }
}

fn gather_bits(like: &Bits, map: impl Iterator<Item = (usize, usize)> + Clone, from: &[&Bits], len: usize) -> Bits {
    let mut out = Bits::zero(like.planes, len);
    for p in 0..like.planes {
        for (i, (source, j)) in map.clone().enumerate() {
            out.set(p, i, from[source].get(p, j));
        }
    }
    out
}

/// A register of zeros.
pub fn zero(ty: &Ty) -> Vector {
    match ty.ring {
        Ring::Add(w) => with_word_type!(w, W => W::wrap(vec![W::default(); ty.len])),
        Ring::Xor(k) => Vector::Bits(Bits::zero(usize::from(k), ty.len)),
    }
}

enum WordFn {
    Add,
    Sub,
    Mul,
}

fn binary(ins: &[&Arc<Vector>], width: u32, f: WordFn) -> Vector {
    fn go<W: VectorWord>(a: &[W], b: &Vector, width: u32, f: WordFn) -> Vector {
        let b = W::of(b);
        let mut out = vec![W::default(); a.len()];
        match f {
            WordFn::Add => ops::add(width, a, b, &mut out),
            WordFn::Sub => ops::sub(width, a, b, &mut out),
            WordFn::Mul => ops::mul(width, a, b, &mut out),
        }
        W::wrap(out)
    }
    with_words!(&**ins[0], a => go(a, ins[1], width, f))
}

fn scalar(x: &Vector, width: u32, c: i128, add: bool) -> Vector {
    fn go<W: VectorWord>(x: &[W], width: u32, c: i128, add: bool) -> Vector {
        let c = W::from_u64(c as u64) & W::mask(width);
        let mut out = vec![W::default(); x.len()];
        if add {
            ops::add_scalar(width, x, c, &mut out);
        } else {
            ops::mul_scalar(width, x, c, &mut out);
        }
        W::wrap(out)
    }
    with_words!(x, xs => go(xs, width, c, add))
}
