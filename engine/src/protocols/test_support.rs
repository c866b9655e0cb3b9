//! What the tests of protocols share: sharing operands, running on the ideal machine and on real oblivious transfer.

use super::basic::Reveal;
use crate::plan::Plan;
use crate::program::{Build, Cx, Function, Goal, Holder, Own, Profile, Program, Reg};
use crate::run::pair;
use crate::run::{clear, ideal::Machine};
use sirnn_backends::inst::Party;
use std::collections::HashMap;

pub(super) type Inputs = HashMap<String, Vec<i128>>;

/// A sharing that is random at both parties: a product with one, which the machine shares afresh.
#[derive(Debug)]
pub(super) struct Shuffle;

impl Function for Shuffle {
    fn name(&self) -> &'static str {
        "shuffle"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].to_vec()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (lo, hi) = (cx.ty(ins[0]).lo, cx.ty(ins[0]).hi);
        let Holder::Only(owner) = cx.ty(ins[0]).holder else { unreachable!() };
        let n = cx.len(ins[0]);
        let ones = cx.public(1, vec![1; n]);
        let p0 = cx.view(ones, Party::P0);
        let p1 = cx.view(ones, Party::P1);
        let one = cx.own_offset(p1, i128::from(owner == Party::P0));
        let one = if owner == Party::P0 { one } else { p0 };
        let one = cx.planes(one, 0, 1);
        let x = cx.cross(one, Own(ins[0]), None);
        Ok(vec![cx.retype(x, lo, hi).0])
    }
}

/// Shares operands over both parties, applies `build`, reveals the results to P1.
pub(super) fn program(
    operands: &[(u32, (i128, i128), usize)],
    build: impl FnOnce(&mut Cx, &[Reg]) -> Build<Vec<Reg>>,
) -> Build<Program> {
    program_for(Goal::Bytes, operands, build)
}

/// The same with the forms of a goal.
pub(super) fn program_for(
    goal: Goal,
    operands: &[(u32, (i128, i128), usize)],
    build: impl FnOnce(&mut Cx, &[Reg]) -> Build<Vec<Reg>>,
) -> Build<Program> {
    let mut cx = Cx::new(Profile { goal, ..Profile::default() });
    let mut ins = Vec::new();
    for (i, &(width, range, n)) in operands.iter().enumerate() {
        let own = cx.input(&format!("x{i}"), if i % 2 == 0 { Party::P1 } else { Party::P0 }, width, n, range);
        ins.push(cx.call(Shuffle, &[own.0])?[0]);
    }
    let outs = build(&mut cx, &ins)?;
    for (i, out) in outs.into_iter().enumerate() {
        let revealed = cx.call(Reveal { to: Party::P1 }, &[out])?[0];
        cx.output(&format!("y{i}"), Own(revealed));
    }
    Ok(cx.finish())
}

pub(super) fn inputs(values: &[Vec<i128>]) -> Inputs {
    values.iter().enumerate().map(|(i, v)| (format!("x{i}"), v.clone())).collect()
}

/// Runs a program on the ideal machine with all checks and compares its outputs with cleartext.
pub(super) fn check(program: &Program, inputs: &Inputs, seed: u128) -> Result<(), String> {
    let want = clear::evaluate(program, inputs)?;
    let got = Machine::new(program, seed, true).run(inputs)?;
    if got == want { Ok(()) } else { Err(format!("outputs differ: {got:?} {want:?}")) }
}

/// The same with real oblivious transfer between two threads: outputs, rounds and bytes as planned.
pub(super) fn check_real(program: Program, inputs: &Inputs, backend: &str) {
    let want = clear::evaluate(&program, inputs).unwrap();
    let plan = Plan::new(program, Profile::default());
    let [_, (got, _)] = pair::run(&plan, backend, inputs).unwrap();
    assert_eq!(got, want.into_iter().collect());
}

/// A function that is never a table.
#[derive(Clone, Debug)]
struct ByProtocol<F>(F);

impl<F: Function> Function for ByProtocol<F> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        self.0.clear(ins)
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        self.0.lower(cx, ins)
    }
}

/// One function on operands with the given types, in the forms of fewest bytes and of fewest rounds; values are spread over
/// the range, ends included. What can be a table is also computed by its protocol.
pub(super) fn one(
    function: impl Function + Clone + 'static,
    types: &[(u32, (i128, i128))],
    values: Vec<Vec<i128>>,
    seed: u128,
) {
    let operands: Vec<_> = types.iter().zip(&values).map(|(&(w, r), v)| (w, r, v.len())).collect();
    let name = format!("{function:?}").chars().take(100).collect::<String>();
    for goal in [Goal::Bytes, Goal::Rounds] {
        let p = program_for(goal, &operands, |cx, ins| cx.call(function.clone(), ins))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        check(&p, &inputs(&values), seed).unwrap_or_else(|e| panic!("{name} on {types:?} for {goal:?}: {e}"));
        if function.pointwise().is_some() {
            let p = program_for(goal, &operands, |cx, ins| cx.call(ByProtocol(function.clone()), ins)).unwrap();
            check(&p, &inputs(&values), seed).unwrap_or_else(|e| panic!("{name} by its protocol, {goal:?}: {e}"));
        }
    }
}

pub(super) fn all(lo: i128, hi: i128) -> Vec<i128> {
    (lo..=hi).collect()
}
