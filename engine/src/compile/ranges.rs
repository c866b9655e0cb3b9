//! Pass 1, forward: the range of every value, from types, tables and declared formats alone.
//!
//! Exact for every input: the range of a result is that of interval arithmetic on its operands' ranges, or that of a wrap's width where a
//! wrap is possible. The range of a state is its declared format's. No weight enters, only declared bounds of tensors, and facts
//! that the server adds to the description (`fits`).

use super::ir::{Def, Ir, Rows, Shift, Unary, Val};
use crate::program::signed;
use sirnn_backends::inst::LinearOp;

/// Ranges beyond this are not reckoned with; a product of them would leave `i128`.
const MOST: i128 = 1 << 100;

fn hull(values: impl Iterator<Item = i128>) -> (i128, i128) {
    values.fold((i128::MAX, i128::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)))
}

fn product((a, b): (i128, i128), (c, d): (i128, i128), terms: i128) -> (i128, i128) {
    let all = [(a, c), (a, d), (b, c), (b, d)];
    let (lo, hi) = hull(all.into_iter().map(|(x, y)| x.saturating_mul(y).saturating_mul(terms)));
    (lo.max(-MOST), hi.min(MOST))
}

/// Terms of a sum of products.
pub(super) fn terms(op: LinearOp) -> usize {
    match op {
        LinearOp::MatMul { inner, .. } => inner as usize,
        LinearOp::Scale { .. } => 1,
        LinearOp::Conv(conv) => conv.patch(),
    }
}

impl Shift {
    /// Range of the result for operands in `[lo, hi]`.
    pub(crate) fn range(&self, lo: i128, hi: i128) -> (i128, i128) {
        let (lo, hi) = match self.wrap.filter(|_| self.fits) {
            // Before the last shift the value is in the width of the wrap.
            Some(bits) => {
                let (least, most) = signed(bits);
                let (lo, hi) = Shift { then: 0, ..*self }.protocol(64).range(lo, hi);
                let known = |x: i128| self.rounding.apply(x.clamp(least, most), self.then);
                (known(lo), known(hi))
            }
            None => self.protocol(64).range(lo, hi),
        };
        (lo, hi)
    }

    /// Whether operands in `[lo, hi]` may leave the width of the wrap.
    pub(crate) fn may_wrap(&self, lo: i128, hi: i128) -> bool {
        self.protocol(64).wraps(lo, hi)
    }
}

/// Reckons the range of `v` from those of its operands.
pub(crate) fn update(ir: &mut Ir, v: Val) {
    let value = ir.value(v);
    let of = |i: usize| {
        let x = ir.value(value.ins[i]);
        (x.lo, x.hi)
    };
    let (lo, hi) = match &value.def {
        Def::Input { number, .. } => number.range(),
        Def::Public(values) => hull(values.iter().copied()),
        Def::Server(recipe) => recipe.range(),
        Def::Linear { op, weights } => product(weights.range(), of(0), terms(*op) as i128),
        Def::Mul if value.ins[0] == value.ins[1] => {
            let (lo, hi) = of(0);
            let least = if lo <= 0 && hi >= 0 { 0 } else { lo.abs().min(hi.abs()) };
            (least * least, (lo * lo).max(hi * hi).min(MOST))
        }
        Def::Mul => product(of(0), of(1), 1),
        Def::Sum { terms, constant } => {
            terms.iter().enumerate().fold((*constant, *constant), |(lo, hi), (i, &(minus, up))| {
                let (a, b) = of(i);
                let (a, b) = if minus { (-b, -a) } else { (a, b) };
                (lo + (a << up), hi + (b << up))
            })
        }
        Def::Shift(shift) => {
            let (lo, hi) = of(0);
            shift.range(lo, hi)
        }
        Def::Unary { function, .. } => unary(function, of(0)),
        Def::Rows(rows) => match rows {
            Rows::Max { .. } => of(0),
            Rows::ArgMax { n } => (0, *n as i128 - 1),
            Rows::MatMul { inner, .. } => product(of(0), of(1), *inner as i128),
            Rows::Normalise { shift, rounding, inverse, .. } => {
                let (lo, hi) = product(of(0), *inverse, 1);
                (rounding.apply(lo, *shift), rounding.apply(hi, *shift))
            }
            Rows::Divide { reference } => {
                let (lo, hi) = of(0);
                let range = reference.ranges(crate::fixed::Interval { lo, hi }).result;
                (range.lo, range.hi)
            }
        },
        Def::Concat => {
            let all: Vec<_> = (0..value.ins.len()).map(of).collect();
            hull(all.into_iter().flat_map(|(lo, hi)| [lo, hi]))
        }
        Def::Gather(_) => of(0),
        Def::Column { site, column } => site.ranges[*column],
        Def::Within { lo, hi } => (of(0).0.max(*lo), of(0).1.min(*hi)),
        Def::Param { lo, hi } => (*lo, *hi),
        // Set by who makes the loop: the range of what stands on the other side.
        Def::Slice | Def::Last | Def::Stack => (value.lo, value.hi),
    };
    let value = &mut ir.values[v.index()];
    (value.lo, value.hi) = (lo, hi);
}

fn unary(function: &Unary, (lo, hi): (i128, i128)) -> (i128, i128) {
    let of = |r: crate::fixed::Interval| (r.lo, r.hi);
    match function {
        Unary::Sigmoid(f) => of(f.ranges().result),
        Unary::Tanh(f) => of(f.ranges().result),
        Unary::Exp(f) => of(f.ranges().result),
        Unary::Reciprocal(f) => of(f.ranges(crate::fixed::Interval { lo: 1, hi: 1 }).result),
        Unary::Root(f) => of(f.ranges().result),
        Unary::Relu { high, shift } => {
            let clip = |x: i128| x.clamp(0, high.unwrap_or(x.max(0))) >> shift;
            (clip(lo), clip(hi))
        }
        Unary::Table { entries, .. } => hull(entries.iter().copied()),
        Unary::Negative => (i128::from(hi < 0), i128::from(lo < 0)),
        Unary::DivideBy { divisor, rounding } => {
            let divide = |x: i128| rounding.divide(x, *divisor);
            (divide(lo), divide(hi))
        }
    }
}

/// All ranges anew, in order: after a pass that changed operands. States keep their declared range.
pub(crate) fn run(ir: &mut Ir) {
    for v in ir.order() {
        let source = match ir.value(v).def {
            Def::Slice | Def::Last | Def::Stack => other_side(ir, v),
            _ => None,
        };
        match source {
            Some(source) => {
                let (lo, hi) = (ir.value(source).lo, ir.value(source).hi);
                let value = &mut ir.values[v.index()];
                (value.lo, value.hi) = (lo, hi);
            }
            None => update(ir, v),
        }
    }
}

/// What a value at the border of a loop is on the other side of it.
pub(super) fn other_side(ir: &Ir, v: Val) -> Option<Val> {
    ir.loops.iter().find_map(|l| {
        let slice = l.slices.iter().find(|s| s.1 == v).map(|s| s.0);
        slice.or_else(|| l.lasts.iter().chain(&l.stacks).find(|s| s.1 == v).map(|s| s.0))
    })
}
