//! The ideal machine: both parties in one process, every instruction executed by its definition, with fresh shares.
//! No cryptography and no schedule: the debugger, and what tests and fuzzing stand on.

use super::shares::{combine, encode, mask, words};
use super::{clear, local};
use crate::program::{Call, Holder, LocalOp, Node, Op, Program, Reg, Ty};
use sirnn_backends::inst::{FlagKind, Inst, Party, Ring, Table};
use sirnn_backends::vector::Vector;
use sirnn_kernels::aes::Prg;
use std::{collections::HashMap, sync::Arc};

/// A register's contents at each party.
pub type Pair = [Option<Arc<Vector>>; 2];

/// Executes programs on shares.
#[derive(Debug)]
pub struct Machine<'a> {
    program: &'a Program,
    regs: HashMap<Reg, Pair>,
    prg: Prg,
    check: bool,
}

impl<'a> Machine<'a> {
    /// A machine for `program`. With `check` it compares every call with the function's definition, and every value
    /// with its proven range.
    pub fn new(program: &'a Program, seed: u128, check: bool) -> Self {
        Self { program, regs: HashMap::new(), prg: Prg::new(seed), check }
    }

    /// Runs the program. Returns the outputs in program order, as the integers they stand for.
    ///
    /// # Errors
    /// A bad input, or (with `check`) the first call whose result differs from its definition.
    pub fn run(&mut self, inputs: &HashMap<String, Vec<i128>>) -> Result<Vec<(String, Vec<i128>)>, String> {
        for (reg, values) in clear::bind(self.program, inputs)? {
            let ty = self.program.ty(reg);
            let mut pair = [None, None];
            if let Holder::Only(p) = ty.holder {
                pair[p.index()] = Some(Arc::new(encode(ty, &values)));
            }
            self.regs.insert(reg, pair);
        }
        for b in 0..self.program.blocks.len() {
            self.block(b)?;
        }
        Ok(self.program.outputs.iter().map(|(name, reg)| (name.clone(), self.value(*reg))).collect())
    }

    /// What a register stands for.
    pub fn value(&self, reg: Reg) -> Vec<i128> {
        let ty = self.program.ty(reg);
        self.joined(reg).into_iter().map(|w| ty.decode(w)).collect()
    }

    fn joined(&self, reg: Reg) -> Vec<u64> {
        let ty = self.program.ty(reg);
        let [a, b] = &self.regs[&reg];
        match (a, b) {
            (Some(a), Some(b)) => combine(ty.ring, a, b),
            (Some(a), None) | (None, Some(a)) => words(a),
            (None, None) => unreachable!("nobody holds a register that is used"),
        }
    }

    fn block(&mut self, index: usize) -> Result<(), String> {
        let program = self.program;
        let block = &program.blocks[index];
        let mut calls: Vec<Vec<&Call>> = vec![Vec::new(); block.nodes.len() + 1];
        // A call is checked right after the node that makes its last result.
        let made: HashMap<Reg, usize> =
            block.nodes.iter().enumerate().flat_map(|(i, n)| n.outs.iter().map(move |&r| (r, i))).collect();
        for call in program.calls.iter().filter(|c| c.block == index) {
            let at = call.outs.iter().filter_map(|r| made.get(r)).max().map_or(block.nodes.len(), |i| *i);
            calls[at].push(call);
        }
        for trip in 0..block.trips {
            for &(outer, inner) in &block.slices {
                let len = program.ty(inner).len;
                let pair = self.regs[&outer].clone().map(|v| {
                    v.map(|v| {
                        let op = LocalOp::Slice { from: trip * len, len };
                        local::eval(&op, true, &[&v], program.ty(inner))
                    })
                });
                self.regs.insert(inner, pair);
            }
            let state: Vec<(Reg, Pair)> = block
                .carries
                .iter()
                .map(|c| (c.param, self.regs[if trip == 0 { &c.init } else { &c.next }].clone()))
                .collect();
            self.regs.extend(state);
            for (i, node) in block.nodes.iter().enumerate() {
                self.node(node);
                if self.check {
                    for call in &calls[i] {
                        self.check_call(call, trip)?;
                    }
                }
            }
            for &(inner, outer) in &block.stacks {
                let mut pair = self.regs[&inner].clone();
                if trip > 0 {
                    let before = self.regs[&outer].clone();
                    for (now, before) in pair.iter_mut().zip(before) {
                        if let (Some(n), Some(b)) = (now.as_ref(), before) {
                            *now = Some(local::eval(&LocalOp::Concat, true, &[&b, n], program.ty(outer)));
                        }
                    }
                }
                self.regs.insert(outer, pair);
            }
        }
        for &(inner, outer) in &block.finals {
            let last = self.regs[&inner].clone();
            self.regs.insert(outer, last);
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) {
        let program = self.program;
        match &node.op {
            Op::Local(op) => {
                let ty = program.ty(node.outs[0]);
                let pair = Party::BOTH.map(|p| {
                    let mine = ty.holder == Holder::Both || ty.holder == Holder::Only(p);
                    mine.then(|| {
                        let ins: Vec<_> = node.ins.iter().filter_map(|r| self.regs[r][p.index()].as_ref()).collect();
                        let first = p == Party::P0 || ty.holder != Holder::Both;
                        local::eval(op, first, &ins, ty)
                    })
                });
                self.regs.insert(node.outs[0], pair);
            }
            Op::Inter(inst) => {
                let ins: Vec<Vec<u64>> = node.ins.iter().map(|&r| self.joined(r)).collect();
                let results = execute(inst, &ins);
                for (&out, values) in node.outs.iter().zip(results) {
                    let ty = program.ty(out);
                    let pair = match ty.holder {
                        Holder::Both => self.split(ty.ring, &values).map(|v| Some(Arc::new(v))),
                        Holder::Only(p) => {
                            let mut pair = [None, None];
                            let v: Vec<i128> = values.iter().map(|&v| v.into()).collect();
                            pair[p.index()] = Some(Arc::new(encode(ty, &v)));
                            pair
                        }
                    };
                    self.regs.insert(out, pair);
                }
            }
        }
    }

    fn split(&mut self, ring: Ring, values: &[u64]) -> [Vector; 2] {
        let mut random = vec![0u64; values.len()];
        self.prg.fill_words(ring.bits(), &mut random);
        let other = values.iter().zip(&random).map(|(v, r)| match ring {
            Ring::Add(_) => v.wrapping_sub(*r) & mask(ring.bits()),
            Ring::Xor(_) => v ^ r,
        });
        let ty = Ty { ring, len: values.len(), holder: Holder::Both, lo: 0, hi: 0 };
        let other: Vec<i128> = other.map(i128::from).collect();
        let random: Vec<i128> = random.into_iter().map(i128::from).collect();
        [encode(&ty, &random), encode(&ty, &other)]
    }

    fn check_call(&self, call: &Call, trip: usize) -> Result<(), String> {
        let ins: Vec<Vec<i128>> = call.ins.iter().map(|&r| self.value(r)).collect();
        // Where an operand's range is wider than its ring the definition cannot be evaluated from shares.
        if call.ins.iter().any(|&r| !self.program.ty(r).exact()) {
            return Ok(());
        }
        let ins: Vec<&[i128]> = ins.iter().map(Vec::as_slice).collect();
        for (&reg, want) in call.outs.iter().zip(call.function.clear(&ins)) {
            let ty = self.program.ty(reg);
            let got = self.joined(reg);
            let place = || format!("{} (trip {trip})", self.program.path(call.scope));
            if got.len() != want.len() {
                return Err(format!("{}: {} results, {} expected", place(), got.len(), want.len()));
            }
            for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
                let operands = || ins.iter().map(|v| v.get(i).copied()).collect::<Vec<_>>();
                if g != w as u64 & mask(ty.width()) {
                    let shown = ty.decode(g);
                    return Err(format!("{}: element {i} is {shown}, not {w}; operands {:?}", place(), operands()));
                }
                if w < ty.lo || w > ty.hi {
                    let (lo, hi) = (ty.lo, ty.hi);
                    return Err(format!(
                        "{}: element {i} = {w} outside its range {lo}..={hi}; operands {:?}",
                        place(),
                        operands()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The functionality of an instruction on joined operands.
pub fn execute(inst: &Inst, ins: &[Vec<u64>]) -> Vec<Vec<u64>> {
    match inst {
        Inst::And { .. } => {
            vec![ins[0].iter().zip(&ins[1]).map(|(a, b)| if a & 1 == 1 { *b } else { 0 }).collect()]
        }
        Inst::Cross { bits, width, top, .. } => {
            let one = |i: usize| {
                let (u, v) = (ins[0][i], ins[1][i]);
                let mut sum = 0u64;
                for j in 0..u32::from(*bits) {
                    let value = if *top && j + 1 == u32::from(*bits) { ins[2][i] } else { v };
                    sum = sum.wrapping_add((u >> j & 1).wrapping_mul(value.wrapping_shl(j)));
                }
                sum & mask((*width).into())
            };
            vec![(0..ins[0].len()).map(one).collect()]
        }
        Inst::CrossMatrix { bits, width, flip, shape, .. } => {
            let [rows, inner, outer] = shape.map(|d| d as usize);
            let mut sums = vec![0u64; rows * outer];
            for (e, u) in ins[0].iter().enumerate() {
                let (i, k) = (e / inner, e % inner);
                // The number that the bits stand for, its top bit negative where it is flipped.
                let top = 1u64 << (bits - 1);
                let u = if *flip && ins[2][e] & 1 == 1 { (u & (top - 1)).wrapping_sub(u & top) } else { *u };
                for j in 0..outer {
                    let sum = &mut sums[i * outer + j];
                    *sum = sum.wrapping_add(u.wrapping_mul(ins[1][k * outer + j])) & mask((*width).into());
                }
            }
            vec![sums]
        }
        Inst::Lookup { index, xor_index, units, table, columns, .. } => {
            let parts = usize::from(*index > 0) + usize::from(*xor_index > 0);
            let n = ins[0].len();
            let entry = |i: usize| {
                let mut e = 0;
                if *index > 0 {
                    e = ins[0][i].wrapping_add(ins[parts][i]) & mask((*index).into());
                }
                if *xor_index > 0 {
                    e += (ins[parts - 1][i] ^ ins[2 * parts - 1][i]) << index;
                }
                ((i % *units as usize) << (index + xor_index)) + e as usize
            };
            let column = |c: usize| -> Vec<u64> {
                let t = match table {
                    Table::Public(t) => &t.columns()[c],
                    Table::Private => &ins[2 * parts + c],
                };
                (0..n).map(|i| t[entry(i)]).collect()
            };
            (0..columns.len()).map(column).collect()
        }
        Inst::Leaf { views, flags, .. } => {
            let one = |i: usize| {
                let r = ins[usize::from(*views)][i];
                let flag = |f: &sirnn_backends::inst::Flag| {
                    let m = mask(f.bits.into());
                    let sum = (ins[usize::from(f.view)][i] & m) + (r & m);
                    match f.kind {
                        FlagKind::Carry => sum > m,
                        FlagKind::Ones => sum == m,
                    }
                };
                flags.iter().enumerate().map(|(b, f)| u64::from(flag(f)) << b).sum()
            };
            vec![(0..ins[0].len()).map(one).collect()]
        }
        Inst::Linear { op, weight_bits, width } => {
            let sign = 64 - u32::from(*weight_bits);
            let w: Vec<u64> = ins[0].iter().map(|w| ((w << sign) as i64 >> sign) as u64).collect();
            let m = mask((*width).into());
            let y = op.apply(&w, &ins[1], 0u64, |sum, w, x| sum.wrapping_add(w.wrapping_mul(x)));
            vec![y.into_iter().map(|v| v & m).collect()]
        }
        Inst::Open { .. } => vec![ins[0].clone()],
    }
}
