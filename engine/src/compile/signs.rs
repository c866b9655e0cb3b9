//! Pass 3, signs: a product that is divided toward zero, and whose sign is that of one factor, is rounded down instead.
//!
//! Exact: if `a >= 0` and `n = [b < 0]`, then `a b / 2^s` toward zero is `floor((a b + n (2^s - 1)) / 2^s)`. Where the product is 0 any `n`
//! will do, since `floor((2^s - 1) / 2^s) = 0`; so the sign of `tanh(y)` may be that of `y`.
//! The sign of a factor is a comparison of fewer bits than the product has, and is there before the product where the factor is: a state, or
//! what a gate's input makes while something else is waited for. The division toward zero itself would need the product's own sign, in the
//! product's width, after the product. Decided by public ranges alone.

use super::ir::{Def, Ir, Shift, Unary, Val};
use super::rescales::{self, Chain, TREE, bits};
use crate::protocols::truncation::Rounding;
use sirnn_backends::inst::LinearOp;

/// Widest sum, in bits.
const MAX_BITS: u32 = 62;

/// Divisions toward zero whose sign is known before.
pub(super) fn run(ir: &mut Ir) {
    rescales::rewrite(ir, |ir, v, _| known(ir, v));
}

fn known(ir: &Ir, v: Val) -> Option<Chain> {
    let Def::Shift(shift) = ir.value(v).def else { return None };
    if shift.rounding != Rounding::TowardZero || shift.shift == 0 || shift.floor > 0 || shift.then > 0 {
        return None;
    }
    let product = ir.value(v).ins[0];
    let (lo, hi) = (ir.value(product).lo, ir.value(product).hi);
    let most = (1i128 << shift.shift) - 1;
    if lo >= 0 || bits(lo).max(bits(hi + most)) > MAX_BITS {
        return None;
    }
    let source = source(ir, product)?;
    let mut depths = vec![None; ir.values.len()];
    let mut depth = |x: Val| rescales::depth(ir, x, &mut depths);
    if depth(source) + TREE > depth(product) {
        return None;
    }
    let negative = Def::Unary { function: Unary::Negative, zeros: 0 };
    // n (2^s - 1), and what is known of the sum: a positive product has n = 0, a negative one n = 1.
    let sum = Def::Sum { terms: vec![(false, 0), (true, 0), (false, shift.shift)], constant: 0 };
    let within = Def::Within { lo: (lo + most).min(0), hi: hi.max(most) };
    let down = Shift { floor: shift.shift, shift: 0, rounding: Rounding::Floor, ..shift };
    Some(vec![
        (negative, vec![Some(source)]),
        (sum, vec![Some(product), None, None]),
        (within, vec![None]),
        (Def::Shift(down), vec![None]),
    ])
}

/// What has the sign of a product, where that is not 0.
fn source(ir: &Ir, product: Val) -> Option<Val> {
    let value = ir.value(product);
    let factor = match &value.def {
        Def::Mul => {
            let other = value.ins.iter().position(|x| ir.value(*x).lo >= 0)?;
            value.ins[1 - other]
        }
        Def::Linear { op: LinearOp::Scale { .. }, weights } if weights.range().0 >= 0 => value.ins[0],
        _ => return None,
    };
    match &ir.value(factor).def {
        Def::Unary { function: Unary::Tanh(f), .. } if f.keeps_sign() => Some(ir.value(factor).ins[0]),
        _ => Some(factor),
    }
}
