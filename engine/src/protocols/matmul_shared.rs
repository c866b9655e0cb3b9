//! Products of two shared matrices (paper IV-C, matrix multiplication with both operands shared).
//!
//! Write `X = X0 + X1 - 2^m W + l` with unsigned shares in the narrowest ring of `m` bits that holds the range, as for element-wise
//! [`product`](super::product)s, and let `t_p` be the top bits of party `p`'s shares. Party `p` brings its share `Y_p` of the other matrix, in the result's
//! ring. Modulo `2^l` and with a slack bit in `X`, where `W = t_0 + t_1 - t_0 t_1`,
//!
//! `X Y = sum_p A_p Y_p + X_q' Y_p`, `A_p = X_p - 2^m t_p + l`, and `X_q' Y_p` the product with the peer's bits in which its top bit counts `2^(m-1) - 2^m (1 - t_p)`.
//!
//! The first part is local. The second is one [`Inst::CrossMatrix`] per direction: the bits of one party's matrix choose, and *one* OT per bit of an element
//! serves all products of that element: `rows * inner * m` OTs, each with a string of `outer` values. The operand whose bits choose is that for which
//! this costs less; the product is transposed if it is the second.
//!
//! Rounds: 1 if both have slack (or fill the ring), 2 to extend the other one; without slack a comparison more. Bytes: per OT and direction one COT and
//! `1 + outer (l - i)` bits.

use super::linear::apply;
use super::product::corners;
use crate::program::{Build, Cx, Function, Holder, Int, Own, Reg, Ty, refuse};
use sirnn_backends::inst::{Inst, LinearOp, Party, Ring};

/// Rows of `inner` shared numbers times a shared matrix `[inner, outer]`, in a ring of `width` bits. Operands: rows, matrix.
#[derive(Clone, Copy, Debug)]
pub struct MatMul {
    /// Elements of a row.
    pub inner: usize,
    /// Elements of a row of the result.
    pub outer: usize,
    /// Width of the result.
    pub width: u32,
}

/// Shapes: rows, inner, outer.
type Shape = [usize; 3];

/// The index map that transposes `[rows, columns]`.
fn transposed(rows: usize, columns: usize) -> Vec<u32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| (r * columns + c) as u32)).collect()
}

/// Bits of an operand that choose, with a slack bit or as wide as the ring.
fn choices(cx: &Cx, x: Int, l: u32) -> u32 {
    (cx.ty(x).span_bits() + 1).min(l)
}

/// `X Y` where the bits of `X` choose.
fn multiply(cx: &mut Cx, x: Int, y: Int, [rows, inner, outer]: Shape, l: u32) -> Build<Int> {
    let m = choices(cx, x, l);
    let slack = m < l;
    let lo = if slack { cx.ty(x).lo } else { 0 };
    let x = cx.offset(x, -lo);
    let x = cx.extend(x, m)?;
    let y = cx.extend(y, l)?;
    let shares = Party::BOTH.map(|p| cx.view(x, p));
    let mut terms = Vec::new();
    for p in Party::BOTH {
        let (mine, v) = (shares[p.index()], cx.view(y, p));
        let mut a = cx.own_shl(mine, 0, l);
        let mut ins = vec![cx.planes(shares[p.other().index()], 0, m).0, v.0];
        if slack {
            let top = cx.planes(mine, m - 1, 1);
            let word = cx.word(top, l);
            let wrapped = cx.own_shl(word, m, l);
            a = cx.own_sub(a, wrapped);
            a = cx.own_offset(a, lo);
            ins.push(cx.own_not(top).0);
        }
        let local = cx.own_matmul(a, v, [rows, inner, outer]);
        terms.push(cx.share(local));
        let shape = [rows, inner, outer].map(|d| d as u32);
        let inst = Inst::CrossMatrix { chooser: p.other(), bits: m as u8, width: l as u8, flip: slack, shape };
        let ring = Ring::Add(l as u8);
        let ty = Ty { ring, len: rows * outer, holder: Holder::Both, lo: 0, hi: (1 << l) - 1 };
        terms.push(Int(cx.inter(inst, &ins, vec![ty])[0]));
    }
    let mut sum = terms[0];
    for &t in &terms[1..] {
        sum = cx.add(sum, t);
    }
    Ok(sum)
}

impl Function for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let op = LinearOp::MatMul { inner: self.inner as u32, outer: self.outer as u32 };
        vec![apply(op, ins[1], ins[0])]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (inner, outer, l, name) = (self.inner, self.outer, self.width, self.name());
        let (x, y) = (Int(ins[0]), Int(ins[1]));
        if inner == 0 || outer == 0 || !cx.len(x).is_multiple_of(inner) || cx.len(y) != inner * outer {
            return refuse(name, format!("{} numbers times {} as [{inner}, {outer}]", cx.len(x), cx.len(y)));
        }
        if l == 0 || l > 64 {
            return refuse(name, format!("no ring of {l} bits"));
        }
        if cx.len(x) >= 1 << 32 || inner * outer >= 1 << 32 {
            return refuse(name, "a matrix of 2^32 elements");
        }
        let rows = cx.len(x) / inner;
        let (lo, hi) = corners(name, cx.ty(x), cx.ty(y), inner)?;
        let rates = cx.profile.rates;
        let price = |x: Int, rows: usize, outer: usize| -> f64 {
            let bits = choices(cx, x, l);
            let values: u32 = (0..bits).map(|i| l - i).sum();
            (rows * inner) as f64 * (f64::from(bits) * rates.cot + f64::from(values) * outer as f64 / 8.0)
        };
        let product = if price(x, rows, outer) <= price(y, outer, rows) {
            multiply(cx, x, y, [rows, inner, outer], l)?
        } else {
            let (xt, yt) = (cx.gather(x, transposed(rows, inner)), cx.gather(y, transposed(inner, outer)));
            let product = multiply(cx, yt, xt, [outer, inner, rows], l)?;
            cx.gather(product, transposed(outer, rows))
        };
        Ok(vec![cx.retype(product, lo, hi).0])
    }
}

impl Cx {
    /// The product of two private matrices of one party.
    fn own_matmul(&mut self, a: Own, b: Own, shape: Shape) -> Own {
        let ty = Ty { len: shape[0] * shape[2], ..self.ty(a).clone() };
        Own(self.local(crate::program::LocalOp::MatMul { shape }, &[a.0, b.0], ty))
    }
}
