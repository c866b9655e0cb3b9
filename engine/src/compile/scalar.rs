//! What an element-by-element operation makes of single integers: for tables, and for proofs about them.

use super::ir::{Def, Unary};

/// Whether element `i` of the result depends on element `i` of the operands alone, and on public numbers and the server's constants.
pub(super) fn is_elementwise(def: &Def) -> bool {
    use sirnn_backends::inst::LinearOp;
    match def {
        Def::Mul | Def::Sum { .. } | Def::Shift(_) | Def::Within { .. } => true,
        Def::Linear { op: LinearOp::Scale { .. }, .. } => true,
        Def::Unary { function, .. } => !matches!(function, Unary::DivideBy { .. }),
        _ => false,
    }
}

/// Whether the two parties exchange messages for it.
pub(super) fn is_interactive(def: &Def) -> bool {
    match def {
        Def::Shift(shift) => shift.drops(),
        Def::Mul | Def::Linear { .. } | Def::Unary { .. } | Def::Rows(_) | Def::Column { .. } => true,
        _ => false,
    }
}

impl Unary {
    /// The value at `x 2^zeros`.
    pub(super) fn eval(&self, x: i128, zeros: u32) -> i128 {
        let x = x << zeros;
        match self {
            Unary::Sigmoid(f) => f.eval(x),
            Unary::Tanh(f) => f.eval(x),
            Unary::Exp(f) => f.eval(x),
            // Entries that no value leads to may lie outside of the domain.
            Unary::Reciprocal(f) => f.eval(1, x.clamp(1 << f.s_den, (2 << f.s_den) - 1)),
            Unary::Root(f) => f.eval(x),
            Unary::Relu { high, shift } => x.clamp(0, high.unwrap_or(x.max(0))) >> shift,
            Unary::Table { entries, operand } => entries[(x & ((1 << operand.bits) - 1)) as usize],
            Unary::Negative => i128::from(x < 0),
            Unary::DivideBy { divisor, rounding } => rounding.divide(x, *divisor),
        }
    }
}

/// The value of an operation on `args`; `own` is the element of its vector, where it has one.
pub(super) fn eval(def: &Def, args: &[i128], own: Option<i128>) -> i128 {
    match def {
        Def::Mul => args[0] * args[1],
        Def::Sum { terms, constant } => {
            let term = |(x, &(minus, up)): (&i128, &(bool, u32))| if minus { -(x << up) } else { x << up };
            args.iter().zip(terms).map(term).sum::<i128>() + constant
        }
        Def::Shift(shift) => shift.protocol(64).value(args[0]),
        Def::Within { lo, hi } => args[0].clamp(*lo, *hi),
        Def::Unary { function, zeros } => function.eval(args[0], *zeros),
        Def::Linear { .. } => args[0] * own.expect("a vector"),
        Def::Public(_) | Def::Server(_) => own.expect("a vector"),
        _ => unreachable!("not element by element"),
    }
}
