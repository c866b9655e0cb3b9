//! Pass 4, rings backward: every value is dealt in the ring of its readers.
//!
//! A ring narrower than the value's range means that only the low bits are asked for; one that is wider, that a reader needs them there. Exact
//! because a reader asks for as many bits as its own result depends on: the low bits for sums, products and floors, the
//! whole number where the sign matters. A few bits more where a value is dealt cost little; an extension later costs rounds.

use super::ir::{Def, Ir, Item, Rows, Shift, Unary, Val};
use crate::program::bits_for;
use crate::protocols::bits::signed_bits;

/// Width of the ring of every value, by its number.
pub(super) type Rings = Vec<u32>;

/// Widest ring.
const MAX_RING: u32 = 64;

/// Bits of a ring that determines numbers of `[lo, hi]`, with one to spare: products and extensions are then one round.
pub(super) fn slack(lo: i128, hi: i128) -> u32 {
    bits_for(hi - lo).max(1) + 1
}

/// The rings of all values: the widest that a reader asks for.
pub(super) fn run(ir: &Ir) -> Rings {
    let mut rings = vec![1; ir.values.len()];
    for output in &ir.outputs {
        let value = ir.value(output.value);
        raise(&mut rings, output.value, signed_bits(value.lo, value.hi));
    }
    // States have the ring of their readers and of what reads the last step: until nothing grows.
    loop {
        let before = rings.clone();
        for item in ir.top.iter().rev() {
            match *item {
                Item::Value(v) => ask(ir, v, &mut rings),
                Item::Loop(l) => {
                    let l = &ir.loops[l];
                    for &(inner, outer) in l.lasts.iter().chain(&l.stacks) {
                        let ring = rings[outer.index()];
                        raise(&mut rings, inner, ring);
                    }
                    for s in &l.states {
                        let ring = rings[s.param.index()].max(rings[s.next.index()]);
                        [s.param, s.next, s.init].into_iter().for_each(|v| raise(&mut rings, v, ring));
                    }
                    for &v in l.body.iter().rev() {
                        ask(ir, v, &mut rings);
                    }
                    for &(outer, inner) in &l.slices {
                        let ring = rings[inner.index()];
                        raise(&mut rings, outer, ring);
                    }
                }
            }
        }
        if rings == before {
            return rings;
        }
    }
}

fn raise(rings: &mut Rings, v: Val, ring: u32) {
    let slot = &mut rings[v.index()];
    *slot = (*slot).max(ring.clamp(1, MAX_RING));
}

/// What a value asks of its operands.
fn ask(ir: &Ir, v: Val, rings: &mut Rings) {
    for i in 0..ir.value(v).ins.len() {
        let ring = asked(ir, v, i, rings[v.index()]);
        raise(rings, ir.value(v).ins[i], ring);
    }
}

/// The ring in which `v`, dealt in `ring` bits, reads its operand `i`.
pub(super) fn asked(ir: &Ir, v: Val, i: usize, ring: u32) -> u32 {
    let value = ir.value(v);
    let x = ir.value(value.ins[i]);
    let (lo, hi) = (x.lo, x.hi);
    match &value.def {
        Def::Linear { .. } => ring,
        Def::Mul => {
            let other = ir.value(value.ins[1 - i]);
            // The narrower operand's bits choose; the other one needs no wrap in the ring of the product.
            let wide = (hi - lo, i) > (other.hi - other.lo, 1 - i);
            if wide { ring } else { ring.min(slack(lo, hi)) }
        }
        Def::Sum { terms, .. } => ring.saturating_sub(terms[i].1),
        Def::Shift(shift) => shifted(shift, lo, hi, ring),
        Def::Unary { function, zeros } => match function {
            Unary::Sigmoid(f) => f.exp.width - zeros,
            Unary::Tanh(f) => f.exp.width - zeros,
            Unary::Exp(f) => (f.width - zeros).max(signed_bits(lo, hi)),
            Unary::Reciprocal(_) | Unary::Root(_) => slack(lo, hi).max(signed_bits(lo, hi)),
            Unary::Relu { high, .. } => {
                let high = high.filter(|&h| h < hi);
                let roomy = high.map_or(0, |h| signed_bits(lo - h, hi));
                let own = signed_bits(lo, hi);
                if roomy <= MAX_RING { own.max(roomy) } else { own }
            }
            Unary::Table { operand, .. } => operand.bits,
            Unary::Negative => signed_bits(lo, hi),
            Unary::DivideBy { .. } => slack(lo, hi).max(signed_bits(lo, hi)),
        },
        Def::Rows(rows) => match rows {
            Rows::Max { .. } | Rows::ArgMax { .. } => signed_bits(lo, hi) + 1,
            Rows::MatMul { .. } => ring.min(slack(lo, hi)),
            Rows::Normalise { .. } | Rows::Divide { .. } => slack(lo, hi).max(signed_bits(lo, hi)),
        },
        Def::Concat | Def::Gather(_) | Def::Within { .. } => ring,
        Def::Column { site, .. } => site.bits,
        Def::Input { .. }
        | Def::Public(_)
        | Def::Server(_)
        | Def::Slice
        | Def::Param { .. }
        | Def::Last
        | Def::Stack => ring,
    }
}

/// The ring of a shift's operand.
fn shifted(shift: &Shift, lo: i128, hi: i128, ring: u32) -> u32 {
    if shift.drops() {
        return shift.protocol(ring).ring(lo, hi);
    }
    let wrapped = match shift.wrap.filter(|_| shift.may_wrap(lo, hi)) {
        Some(bits) => ring.min(bits),
        None => ring,
    };
    wrapped.saturating_sub(shift.left)
}
