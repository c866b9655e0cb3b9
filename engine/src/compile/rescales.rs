//! Pass 3, rescales: chains of rescale, wrap, shift up and shift down become one carry tree.
//!
//! Exact by these identities, for every integer:
//! * `R(R(x, a), b) = R(x, a + b)` in one rounding mode, where nothing wraps in between; a wrap in between stays where it is.
//! * `floor(a / 2^s) + b = floor((a + b 2^s) / 2^s)`: a sum whose latest operand is rounded down is rounded down itself. Its wrap, and the
//!   extension that its readers need, are then part of the same tree.
//! * A function of `x 2^z` is one of `x` with `z` zero bits: what was moved up is not computed with.

use super::ir::{Def, Home, Ir, Item, Shift, Unary, Val};
use crate::fixed::math;
use crate::protocols::lookup::MAX_INDEX;
use crate::protocols::truncation::Rounding;

/// Chains of shifts, and functions of what was moved up.
pub(super) fn shifts(ir: &mut Ir) {
    rewrite(ir, |ir, v, single| match &ir.value(v).def {
        Def::Shift(second) => composed(ir, v, *second, single),
        Def::Unary { zeros: 0, .. } => without_zeros(ir, v),
        _ => None,
    });
}

/// Sums whose latest operand is rounded down, and the shifts that this leaves.
pub(super) fn sums(ir: &mut Ir) {
    rewrite(ir, |ir, v, single| match &ir.value(v).def {
        Def::Shift(second) => composed(ir, v, *second, single),
        Def::Sum { .. } => late(ir, v, single),
        _ => None,
    });
}

/// Rewrites until nothing changes.
pub(super) fn rewrite(ir: &mut Ir, rule: impl Fn(&Ir, Val, &dyn Fn(Val) -> bool) -> Option<Chain>) {
    for home in std::iter::once(Home::Top).chain((0..ir.loops.len()).map(Home::Loop)) {
        let mut at = 0;
        // New values stand before the one that they replace, and are looked at again.
        while let Some(&v) = values(ir, home).get(at) {
            let readers = ir.readers();
            let single = |x: Val| readers[x.index()].len() == 1 && ir.value(x).home == home;
            match rule(ir, v, &single) {
                Some(chain) => {
                    replace(ir, home, v, chain);
                    super::ranges::run(ir);
                    at = at.saturating_sub(2);
                }
                None => at += 1,
            }
        }
    }
    ir.sweep();
    super::ranges::run(ir);
}

/// Values of a home, in order.
fn values(ir: &Ir, home: Home) -> Vec<Val> {
    match home {
        Home::Top => ir.top.iter().filter_map(|i| if let Item::Value(v) = i { Some(*v) } else { None }).collect(),
        Home::Loop(l) => ir.loops[l].body.clone(),
    }
}

/// Operations of which each reads the one before (`None`) and others.
pub(super) type Chain = Vec<(Def, Vec<Option<Val>>)>;

/// Puts a chain in the place of `v`, whose value is that of the last link.
fn replace(ir: &mut Ir, home: Home, v: Val, chain: Chain) {
    let value = ir.value(v).clone();
    let mut before = None;
    let n = chain.len();
    let mut new = Vec::new();
    for (i, (def, ins)) in chain.into_iter().enumerate() {
        let ins = ins.into_iter().map(|x| x.or(before).expect("a link before")).collect();
        if i + 1 == n {
            let value = &mut ir.values[v.index()];
            (value.def, value.ins) = (def, ins);
            super::ranges::update(ir, v);
        } else {
            let link = ir.detached(home, &value.name, def, ins, value.len);
            new.push(link);
            before = Some(link);
        }
    }
    match home {
        Home::Top => {
            let at = ir.top.iter().position(|i| *i == Item::Value(v)).expect("a value of this home");
            ir.top.splice(at..at, new.into_iter().map(Item::Value));
        }
        Home::Loop(l) => {
            let at = ir.loops[l].body.iter().position(|x| *x == v).expect("a value of this home");
            ir.loops[l].body.splice(at..at, new);
        }
    }
}

/// Two shifts as one, and a wrap behind it where the second wraps.
fn composed(ir: &Ir, v: Val, second: Shift, single: &dyn Fn(Val) -> bool) -> Option<Chain> {
    let x = ir.value(v).ins[0];
    let Def::Shift(first) = ir.value(x).def else { return None };
    if !single(x) || first.then > 0 || second.then > 0 {
        return None;
    }
    let from = ir.value(x).ins[0];
    let open = first.wrap.is_none() && first.left == 0;
    let floors = |s: &Shift| s.shift == 0;
    if open {
        // Nothing wraps in between.
        let joined = match (floors(&first), floors(&second)) {
            (true, _) if second.floor == 0 || floors(&first) => Shift { floor: first.floor + second.floor, ..second },
            (false, false) if second.floor == 0 => {
                Shift { floor: first.floor, shift: first.shift + second.shift, ..second }
            }
            (false, true) if second.floor == 0 => {
                Shift { floor: first.floor, shift: first.shift, rounding: first.rounding, ..second }
            }
            _ => return None,
        };
        return Some(vec![(Def::Shift(joined), vec![Some(from)])]);
    }
    if !second.drops() {
        return None;
    }
    // The first wraps or moves up: the second is what it does at the end, if it rounds the same way.
    let same = match (floors(&first), floors(&second)) {
        (true, true) => true,
        (true, false) => second.floor == 0,
        (false, true) => false,
        (false, false) => second.floor == 0 && first.rounding == second.rounding,
    };
    if !same {
        return None;
    }
    let rounding = if floors(&second) { Rounding::Floor } else { second.rounding };
    let joined = Shift { then: second.floor + second.shift, rounding, ..first };
    let mut chain: Chain = vec![(Def::Shift(joined), vec![Some(from)])];
    if second.left > 0 || second.wrap.is_some() {
        let rest = Shift { floor: 0, shift: 0, rounding: Rounding::Floor, ..second };
        chain.push((Def::Shift(rest), vec![None]));
    }
    Some(chain)
}

/// Rounds of a carry tree, roughly.
pub(super) const TREE: u32 = 7;

/// Rounds of the longest chain of operations before a value, roughly.
pub(super) fn depth(ir: &Ir, v: Val, known: &mut Vec<Option<u32>>) -> u32 {
    if let Some(d) = known[v.index()] {
        return d;
    }
    let value = ir.value(v);
    let before = value.ins.iter().map(|&x| depth(ir, x, known)).max().unwrap_or(0);
    let own = match &value.def {
        Def::Linear { .. } | Def::Mul => 1,
        Def::Shift(s) if s.drops() => TREE,
        Def::Unary { function: Unary::Negative, .. } => TREE,
        // One look-up, where the operand is narrow.
        Def::Unary {
            function: Unary::Sigmoid(math::Sigmoid { exp, .. }) | Unary::Tanh(math::Tanh { exp, .. }),
            zeros,
        } if exp.width - zeros <= MAX_INDEX => 2,
        Def::Unary { .. } | Def::Rows(_) => 24,
        Def::Column { .. } => 2,
        _ => 0,
    };
    known[v.index()] = Some(before + own);
    before + own
}

/// Bits of a signed number, and of its negative.
pub(super) fn bits(x: i128) -> u32 {
    129 - x.unsigned_abs().leading_zeros()
}

/// A sum with a product that comes last and is rounded down.
fn late(ir: &Ir, v: Val, single: &dyn Fn(Val) -> bool) -> Option<Chain> {
    let value = ir.value(v);
    let Def::Sum { terms, constant } = &value.def else { return None };
    let down = |i: usize| match ir.value(value.ins[i]).def {
        Def::Shift(s) => {
            let plain = s.shift == 0 && s.left == 0 && s.wrap.is_none() && s.then == 0 && s.floor > 0;
            let product = matches!(ir.value(ir.value(value.ins[i]).ins[0]).def, Def::Mul | Def::Linear { .. });
            (plain && product && terms[i] == (false, 0) && single(value.ins[i])).then_some(s.floor)
        }
        _ => None,
    };
    let mut known = vec![None; ir.values.len()];
    let mut depth = |x: Val| depth(ir, x, &mut known);
    let (last, floor) =
        (0..terms.len()).filter_map(|i| down(i).map(|floor| (i, floor))).max_by_key(|&(i, _)| depth(value.ins[i]))?;
    let product = ir.value(value.ins[last]).ins[0];
    let others = (0..terms.len()).filter(|&i| i != last).map(|i| depth(value.ins[i])).max()?;
    // The others have to be there when the product is, and come from a tree of their own: else nothing is saved.
    if others < TREE || others > depth(product) {
        return None;
    }
    let moved: Vec<(bool, u32)> = terms
        .iter()
        .enumerate()
        .map(|(i, &(minus, up))| if i == last { (false, 0) } else { (minus, up + floor) })
        .collect();
    if bits(value.lo).max(bits(value.hi)) + floor > 60 {
        return None;
    }
    let ins = value.ins.iter().enumerate().map(|(i, &x)| Some(if i == last { product } else { x })).collect();
    let sum = Def::Sum { terms: moved, constant: constant << floor };
    let down = Shift { floor, shift: 0, left: 0, wrap: None, fits: false, then: 0, rounding: Rounding::Floor };
    Some(vec![(sum, ins), (Def::Shift(down), vec![None])])
}

/// A function of a number whose low bits are zero.
fn without_zeros(ir: &Ir, v: Val) -> Option<Chain> {
    let value = ir.value(v);
    let Def::Unary { function, .. } = &value.def else { return None };
    let width = match function {
        Unary::Sigmoid(f) => f.exp.width,
        Unary::Tanh(f) => f.exp.width,
        Unary::Exp(f) => f.width,
        _ => return None,
    };
    let x = value.ins[0];
    let Def::Shift(shift) = ir.value(x).def else { return None };
    let zeros = shift.left.min(math::DIGIT_BITS - 1).min(width.saturating_sub(2));
    if zeros == 0 || shift.then > 0 || shift.wrap.is_some_and(|bits| bits != width) {
        return None;
    }
    let less = Shift { left: shift.left - zeros, wrap: shift.wrap.map(|bits| bits - zeros), ..shift };
    let function = Def::Unary { function: function.clone(), zeros };
    Some(vec![(Def::Shift(less), vec![Some(ir.value(x).ins[0])]), (function, vec![None])])
}
