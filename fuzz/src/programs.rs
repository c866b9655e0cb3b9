//! Random well-typed programs from the functions of the library, with values for their operands.
//!
//! Operands are of the kind that a function takes (number, bit, private); their widths, ranges and lengths, and all
//! parameters, are random. What makes no sense has to be refused with a [`BuildError`](sirnn::program::BuildError),
//! and is then left out of the program.

use crate::oracle::{self, Case};
use crate::show;
use crate::source::Source;
use sirnn::fixed::math;
use sirnn::program::{
    Build, Cx, Function, Goal, Holder, Int, LinearForms, Own, Profile, Rates, Reg, cost::OneHotRate, signed,
};
use sirnn::protocols::activation::Relu;
use sirnn::protocols::basic::{Add, Constant, Gather, Repeat, Reveal, Share, ShiftLeft, SubtractFrom, Wrap};
use sirnn::protocols::bits::{BitToArithmetic, Mux};
use sirnn::protocols::compare::{Equal, Gate, Greater, Not, Select, Wraps, WrapsAndOnes, WrapsGivenSign};
use sirnn::protocols::conv::SharedConv;
use sirnn::protocols::division::{Divide, DivideGeneral, Reciprocal};
use sirnn::protocols::linear::{Linear, ScaledLinear};
use sirnn::protocols::lookup::{Column, Digits, Lookup, PrivateLookup};
use sirnn::protocols::matmul_shared::MatMul;
use sirnn::protocols::msnzb::{Msnzb, OneHot, OneHotNumbers};
use sirnn::protocols::normalise::{AddScaled, BatchNorm, L2Normalise};
use sirnn::protocols::pool::{AveragePool, DivideBy, MaxPool, Sum, Window};
use sirnn::protocols::product::{Product, ScaledProduct};
use sirnn::protocols::select::{ArgMax, Max};
use sirnn::protocols::sign::Sign;
use sirnn::protocols::truncation::{Rounding, Shift};
use sirnn::protocols::{exp::Exp, roots::Root, sigmoid::Sigmoid, sigmoid::Tanh};
use sirnn::run::Inputs;
use sirnn_backends::inst::{Conv, LinearOp, Party, Ring};
use std::sync::Arc;

/// Elements of a register, at most.
const MAX_LEN: usize = 300;
/// Numbers of this size and more are brought back to their ring.
const MAX_RANGE: i128 = 1 << 100;

/// The target.
pub fn check(data: &[u8]) {
    if let Some(case) = case(&mut Source::new(data)) {
        oracle::defined(case);
    }
}

/// How forms are chosen.
pub fn profile(s: &mut Source) -> Profile {
    let goal = match s.range(0, 3) {
        0 => Goal::Bytes,
        1 => Goal::Rounds,
        2 => Goal::Time { bits_per_second: 3e9, latency: 2e-4 },
        _ => Goal::Time { bits_per_second: 1e7, latency: 0.05 },
    };
    // Others than IKNP's: what is cheap differs, so other forms win.
    let rates = match s.range(0, 3) {
        0 => Rates::iknp(),
        1 => {
            let one_hot = Rates::iknp().one_hot.map(|rate| OneHotRate { bytes: 1.0, ..rate });
            Rates { cot: 0.5, one_of: std::array::from_fn(|k| k as f64 / 2.0), triple: 1.0, triples: 2.0, one_hot }
        }
        _ => {
            let one_hot = Rates::iknp().one_hot.map(|rate| OneHotRate { bytes: 1e6, ..rate });
            Rates { cot: 1e4, one_of: [1.0; 13], triple: 100.0, triples: 1e3, one_hot }
        }
    };
    Profile { goal, rates, linear: LinearForms::Cot, sessions: 1 }
}

/// A flavour of oblivious transfer for some of the inputs: base OTs take longer than all the rest of a case. By all bytes together, or
/// the fuzzer would prefer these cases for what more they reach.
pub fn backend(s: &Source) -> Option<&'static str> {
    match s.checksum() % 4096 {
        0 => Some("ferret"),
        1..=3 => Some("softspoken:2"),
        4..=7 => Some("softspoken:8"),
        8..=15 => Some("softspoken"),
        16..=79 => Some("iknp"),
        _ => None,
    }
}

/// A program with operands; `None` if it was refused as a whole.
pub fn case(s: &mut Source) -> Option<Case> {
    let profile = profile(s);
    let backend = backend(s);
    let mut cx = Cx::new(profile);
    let mut g = Generator {
        len: s.len(),
        s,
        inputs: Inputs::new(),
        ints: Vec::new(),
        bits: Vec::new(),
        own: [Vec::new(), Vec::new()],
        norms: Vec::new(),
        weights: Vec::new(),
        tables: Vec::new(),
    };
    g.declare(&mut cx);
    let steps = g.s.range(1, 5);
    for _ in 0..steps {
        g.step(&mut cx);
    }
    if g.s.one_in(3) {
        // What a refused loop leaves behind is no program.
        g.scan(&mut cx).ok()?;
        for _ in 0..g.s.range(0, 2) {
            g.step(&mut cx);
        }
    }
    g.reveal(&mut cx);
    let inputs = g.inputs;
    Some(Case { program: cx.finish(), profile, inputs, backend })
}

/// A linear map that makes sense.
pub fn linear(s: &mut Source) -> LinearOp {
    match s.range(0, 2) {
        0 => LinearOp::MatMul { inner: s.range(1, 9), outer: s.range(1, 9) },
        1 => LinearOp::Scale { period: s.range(1, 9) },
        _ => {
            let conv = convolution(s);
            if conv.problem().is_none() { LinearOp::Conv(conv) } else { LinearOp::Scale { period: 1 } }
        }
    }
}

/// The shape of a convolution, which need not make sense.
fn convolution(s: &mut Source) -> Conv {
    let groups = s.range(1, 3);
    let [height, width, down, across] = std::array::from_fn(|i| s.range(1, if i < 2 { 5 } else { 3 }));
    Conv {
        image: [height, width, groups * s.range(1, 2)],
        kernel: [down, across],
        stride: [s.range(1, 3), s.range(1, 3)],
        padding: std::array::from_fn(|i| s.range(0, if i < 2 { down } else { across } - 1)),
        groups,
        filters: groups * s.range(1, 2) + u32::from(s.one_in(32)),
    }
}

/// Elements of an input's row or image.
fn row(op: LinearOp) -> usize {
    match op {
        LinearOp::MatMul { inner, .. } => inner as usize,
        LinearOp::Scale { .. } => 1,
        LinearOp::Conv(conv) => conv.image_len(),
    }
}

/// The sum of a number of each party, read as a value of a range.
#[derive(Debug)]
struct Join {
    width: u32,
    bounds: (i128, i128),
}

impl Function for Join {
    fn name(&self) -> &'static str {
        "join"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let lo = self.bounds.0;
        vec![ins[0].iter().zip(ins[1]).map(|(a, b)| lo + (a + b - lo).rem_euclid(1 << self.width)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let [a, b] = [0, 1].map(|i| cx.share(Own(ins[i])));
        let sum = cx.add(a, b);
        Ok(vec![cx.retype(sum, self.bounds.0, self.bounds.1).0])
    }
}

struct Generator<'s, 'd> {
    s: &'s mut Source<'d>,
    /// Elements of most registers.
    len: usize,
    inputs: Inputs,
    /// Shared numbers, shared bits, and private numbers by party.
    ints: Vec<Reg>,
    bits: Vec<Reg>,
    own: [Vec<Reg>; 2],
    /// Bias and weights of channels.
    norms: Vec<[Reg; 2]>,
    weights: Vec<(Reg, LinearOp)>,
    tables: Vec<(Vec<Reg>, usize, u32)>,
}

fn shares_a_bit(cx: &Cx, reg: Reg) -> bool {
    matches!(cx.ty(reg).ring, Ring::Xor(_))
}

impl Generator<'_, '_> {
    fn input(&mut self, cx: &mut Cx, owner: Party, width: u32, bounds: (i128, i128), values: Vec<i128>) -> Reg {
        let name = format!("i{}", self.inputs.len());
        show!(
            "input {name}: {owner:?}, {width} bits, {bounds:?}, {} values {:?}",
            values.len(),
            &values[..values.len().min(4)]
        );
        let own = cx.input(&name, owner, width, values.len(), bounds);
        self.inputs.insert(name, values);
        own.0
    }

    fn declare(&mut self, cx: &mut Cx) {
        for _ in 0..self.s.range(1, 3) {
            let width = self.s.width();
            let bounds = self.s.bounds(width);
            let n = if self.s.one_in(8) { self.s.len() } else { self.len };
            let values = self.s.values(n, bounds);
            match self.s.range(0, 3) {
                kind @ 0..=1 => {
                    let party = Party::BOTH[kind as usize];
                    let own = self.input(cx, party, width, bounds, values);
                    let shared = cx.call(Share, &[own]).expect("sharing is always possible");
                    self.ints.extend(shared);
                    self.own[kind as usize].push(own);
                }
                _ => {
                    let full = (0, (1i128 << width) - 1);
                    let mask = self.s.values(n, full);
                    let rest = values.iter().zip(&mask).map(|(v, m)| (v - m).rem_euclid(1 << width)).collect();
                    let a = self.input(cx, Party::P0, width, full, mask);
                    let b = self.input(cx, Party::P1, width, full, rest);
                    show!("  joined as {bounds:?}");
                    let x = cx.call(Join { width, bounds }, &[a, b]).expect("joining is always possible");
                    self.ints.extend(x);
                    self.own[0].push(a);
                    self.own[1].push(b);
                }
            }
        }
        if self.s.one_in(4) {
            let op = linear(self.s);
            let width = self.s.width();
            let (lo, hi) = self.s.bounds(width);
            // Weights are signed.
            let bounds = if hi < 1 << (width - 1) && lo >= -(1 << (width - 1)) { (lo, hi) } else { signed(width) };
            let values = self.s.values(op.weights(), bounds);
            let w = self.input(cx, Party::P0, width, bounds, values);
            self.weights.push((w, op));
        }
        if self.s.one_in(6) {
            let (channels, width) = (self.s.range(1, 5) as usize, self.s.width());
            let norm = [0, 1].map(|_| {
                let values = self.s.values(channels, signed(width));
                self.input(cx, Party::P0, width, signed(width), values)
            });
            self.norms.push(norm);
        }
        if self.s.one_in(6) {
            let (units, index) = (self.s.range(1, 5) as usize, self.s.range(1, 8));
            let columns = (0..self.s.range(1, 3)).map(|_| {
                let width = self.s.width();
                let bounds = self.s.bounds(width);
                let values = self.s.values(units << index, bounds);
                self.input(cx, Party::P0, width, bounds, values)
            });
            let columns = columns.collect();
            self.tables.push((columns, units, index));
        }
    }

    /// Calls a function; its results are operands from now on. Says whether it was not refused.
    fn call(&mut self, cx: &mut Cx, function: impl Function + 'static, ins: &[Reg]) -> Option<Vec<Reg>> {
        let short: String = format!("{function:?}").chars().take(200).collect();
        show!("{short} of {:?}", ins.iter().map(|&r| cx.ty(r)).collect::<Vec<_>>());
        match cx.call(function, ins) {
            Ok(outs) => {
                show!("  = {:?}", outs.iter().map(|&r| cx.ty(r)).collect::<Vec<_>>());
                for &out in &outs {
                    self.keep(cx, out);
                }
                Some(outs)
            }
            Err(e) => {
                show!("  refused: {e}");
                None
            }
        }
    }

    fn keep(&mut self, cx: &mut Cx, out: Reg) {
        let ty = cx.ty(out).clone();
        if ty.len > MAX_LEN || ty.holder != Holder::Both {
            return;
        }
        if shares_a_bit(cx, out) {
            self.bits.push(out);
        } else if ty.lo < -MAX_RANGE || ty.hi > MAX_RANGE {
            self.call(cx, Wrap { width: ty.width() }, &[out]);
        } else {
            self.ints.push(out);
        }
    }

    /// A number, rather a late one.
    fn int(&mut self) -> Reg {
        let n = self.ints.len();
        let back = if self.s.range(0, 1) == 0 { self.s.below(n.min(2)) } else { self.s.below(n) };
        self.ints[n - 1 - back]
    }

    /// A number of the same length as `like`, as a rule.
    fn alike(&mut self, cx: &mut Cx, like: Reg) -> Option<Reg> {
        let (x, n) = (self.int(), cx.len(like));
        if self.s.one_in(32) { Some(x) } else { self.fitted(cx, x, n) }
    }

    /// Elements of `x` as a vector of `n`.
    fn fitted(&mut self, cx: &mut Cx, x: Reg, n: usize) -> Option<Reg> {
        let have = cx.len(x);
        if have == n {
            return Some(x);
        }
        if have == 0 {
            return None;
        }
        let map = (0..n).map(|i| (i % have) as u32).collect();
        Some(self.call(cx, Gather { map }, &[x])?[0])
    }

    /// A shared bit, made if there is none.
    fn bit(&mut self, cx: &mut Cx) -> Option<Reg> {
        if self.bits.is_empty() || self.s.one_in(4) {
            let x = self.int();
            self.call(cx, Sign, &[x])?;
        }
        let n = self.bits.len();
        Some(self.bits[n - 1 - self.s.below(n)])
    }

    /// The low bits of a number, unsigned, in a ring of just so many.
    fn digit(&mut self, cx: &mut Cx, x: Reg, width: u32) -> Option<Reg> {
        Some(self.call(cx, Digits { widths: vec![width] }, &[x])?[0])
    }

    /// The same in another ring, as a signed number of it.
    fn brought(&mut self, cx: &mut Cx, mut x: Reg, width: u32) -> Option<Reg> {
        if cx.width(x) >= width {
            x = self.call(cx, Wrap { width }, &[x])?[0];
        }
        if cx.width(x) != width {
            x = self.call(cx, Shift::down(0, width), &[x])?[0];
        }
        Some(x)
    }

    fn shift(&mut self) -> Shift {
        let rounding = self.s.pick(&Rounding::ALL);
        let floor = if self.s.range(0, 1) == 0 { 0 } else { self.s.range(0, 20) };
        let shift = if self.s.one_in(8) { self.s.range(0, 70) } else { self.s.range(0, 16) };
        Shift { floor, shift, rounding, width: self.parameter() }
    }

    /// A width that a result is asked for in; rarely none that there is.
    fn parameter(&mut self) -> u32 {
        if self.s.one_in(24) { self.s.pick(&[0, 65, 100]) } else { self.s.width() }
    }

    fn column(&mut self, index: u32) -> Column {
        let width = self.parameter();
        let bounds = self.s.bounds(width.clamp(1, 64));
        Column { width, entries: Arc::new(self.s.values(1 << index, bounds)) }
    }

    fn step(&mut self, cx: &mut Cx) -> Option<()> {
        let x = self.int();
        match self.s.range(0, 47) {
            32.. => self.layer(cx, x)?,
            0..=4 => {
                let shift = self.shift();
                self.call(cx, shift, &[x])?;
            }
            5..=7 => {
                let (y, width) = (self.alike(cx, x)?, self.parameter());
                self.call(cx, Product { width }, &[x, y])?;
            }
            8 | 9 => {
                let (y, shift) = (self.alike(cx, x)?, self.shift());
                self.call(cx, ScaledProduct(shift), &[x, y])?;
            }
            10 => {
                let widths = (0..self.s.range(1, 4)).map(|_| self.s.range(0, 12)).collect();
                self.call(cx, Digits { widths }, &[x])?;
            }
            11 | 12 => {
                let index = self.s.range(1, 12);
                let at = if self.s.one_in(8) { x } else { self.digit(cx, x, index)? };
                let columns = (0..self.s.range(1, 3)).map(|_| self.column(index)).collect();
                self.call(cx, Lookup { columns }, &[at])?;
            }
            13 => {
                let (columns, units, index) = self.tables.last()?.clone();
                let at = if self.s.one_in(8) { x } else { self.digit(cx, x, index)? };
                let ins: Vec<Reg> = [at].into_iter().chain(columns).collect();
                self.call(cx, PrivateLookup { units }, &ins)?;
            }
            14 => {
                self.call(cx, Sign, &[x])?;
            }
            15 => {
                let (bit, width) = (self.bit(cx)?, self.parameter());
                self.call(cx, BitToArithmetic { width }, &[bit])?;
            }
            16 => {
                let bit = self.bit(cx)?;
                let x = self.int();
                let n = cx.len(bit);
                let x = self.fitted(cx, x, n)?;
                self.call(cx, Mux, &[bit, x])?;
            }
            17 => {
                let (bit, width) = (self.bit(cx)?, self.parameter());
                let n = cx.len(bit);
                let (x, y) = (self.int(), self.int());
                let (x, y) = (self.fitted(cx, x, n)?, self.fitted(cx, y, n)?);
                self.call(cx, Select { width }, &[bit, x, y])?;
            }
            18 => {
                let y = self.alike(cx, x)?;
                if self.s.range(0, 1) == 0 {
                    self.call(cx, Greater, &[x, y])?
                } else {
                    self.call(cx, Equal, &[x, y])?
                };
            }
            19 => self.private(cx)?,
            20 => {
                let (a, b) = (self.bit(cx)?, self.bit(cx)?);
                let gate = self.s.pick(&[Gate::And, Gate::Or, Gate::Xor]);
                if self.s.one_in(4) {
                    self.call(cx, Not, &[a])?
                } else {
                    self.call(cx, gate, &[a, b])?
                };
            }
            21 => {
                let classes = self.s.range(1, 9) as usize;
                let items = self.s.range(0, 9) as usize;
                let x = if self.s.one_in(16) { x } else { self.fitted(cx, x, items * classes)? };
                self.call(cx, ArgMax { classes }, &[x])?;
            }
            22 | 23 => {
                let (w, op) = self.weights.last().copied()?;
                let rows = self.s.range(0, 6) as usize;
                let x = if self.s.one_in(16) { x } else { self.fitted(cx, x, rows * row(op))? };
                if self.s.range(0, 1) == 0 {
                    let shift = self.shift();
                    self.call(cx, ScaledLinear { op, shift }, &[w, x])?;
                } else {
                    let width = self.parameter();
                    self.call(cx, Linear { op, width }, &[w, x])?;
                }
            }
            24 => {
                let (y, width) = (self.alike(cx, x)?, self.parameter());
                self.call(cx, Add { width }, &[x, y])?;
            }
            25 => {
                let width = self.s.width();
                self.call(cx, Wrap { width }, &[x])?;
            }
            26 => match self.s.range(0, 3) {
                0 => {
                    let by = self.s.range(0, 20);
                    self.call(cx, ShiftLeft { by }, &[x])?;
                }
                1 => {
                    let c = self.s.values(1, (-(1 << 40), 1 << 40))[0];
                    self.call(cx, SubtractFrom(c), &[x])?;
                }
                2 => {
                    let width = self.s.width();
                    let range = self.s.bounds(width);
                    let values = self.s.values(cx.len(x), range);
                    self.call(cx, Constant { values, width, range }, &[])?;
                }
                _ => {
                    let times = self.s.below(4);
                    self.call(cx, Repeat { times }, &[x])?;
                }
            },
            27 => {
                let x = self.unsigned(cx, x);
                match self.s.range(0, 2) {
                    0 => {
                        let width = self.parameter();
                        self.call(cx, Msnzb { width }, &[x])?;
                    }
                    1 => {
                        let bits = self.s.range(1, 66);
                        self.call(cx, OneHot { bits }, &[x])?;
                    }
                    _ => {
                        let (bits, width) = (self.s.range(1, 20), self.parameter());
                        self.call(cx, OneHotNumbers { bits, width }, &[x])?;
                    }
                }
            }
            28 => {
                let (reference, width) = (self.exp(), self.parameter());
                let trailing_zeros = self.s.range(0, 8);
                let x = self.negative(cx, x, &reference, trailing_zeros);
                self.call(cx, Exp { reference, trailing_zeros, width }, &[x])?;
            }
            29 | 30 => {
                let (w, s_in) = (self.s.range(2, 24), self.s.range(0, 16) as i32 - 1);
                let (s_out, trailing_zeros) = (self.s.range(1, 20), self.s.range(0, 8));
                let width = if self.s.one_in(4) { self.parameter() } else { s_out + 2 + self.s.range(0, 4) };
                let x =
                    if self.s.one_in(4) { x } else { self.brought(cx, x, w.saturating_sub(trailing_zeros).max(1))? };
                if self.s.range(0, 1) == 0 {
                    let reference = math::Sigmoid::new(w, s_in, s_out).ok()?;
                    self.call(cx, Sigmoid { reference, trailing_zeros, width }, &[x])?;
                } else {
                    let reference = math::Tanh::new(w, s_in, s_out).ok()?;
                    self.call(cx, Tanh { reference, trailing_zeros, width }, &[x])?;
                }
            }
            _ => {
                let (w, s_in, s_out) = (self.s.range(3, 24), self.s.range(0, 16) as i32, self.s.range(1, 16));
                let new = self.s.pick(&[math::Root::sqrt as fn(_, _, _) -> _, math::Root::rsqrt]);
                let reference = new(w, s_in, s_out).ok()?;
                let width = self.parameter();
                let x = if self.s.one_in(4) { x } else { self.digit(cx, x, w - 1)? };
                self.call(cx, Root { reference, width }, &[x])?;
            }
        }
        Some(())
    }

    /// Functions of networks' layers, and divisions.
    fn layer(&mut self, cx: &mut Cx, x: Reg) -> Option<()> {
        let width = self.parameter();
        let rounding = self.s.pick(&Rounding::ALL);
        let shifts: [u32; 3] = std::array::from_fn(|_| if self.s.range(0, 1) == 0 { 0 } else { self.s.range(0, 66) });
        match self.s.range(0, 11) {
            0 => {
                let shift = shifts[0];
                let limit = (self.s.range(0, 1) == 1).then(|| i128::from(self.s.range(0, 7)) << self.s.range(0, 63));
                self.call(cx, Relu { limit, shift, width }, &[x])?;
            }
            1 => {
                let conv = convolution(self.s);
                let images = self.s.range(0, 3) as usize;
                let (w, weights) = (self.int(), LinearOp::Conv(conv));
                if !conv.filters.is_multiple_of(conv.groups) {
                    self.call(cx, SharedConv { conv, width }, &[x, w])?;
                } else {
                    let (x, w) = (self.fitted(cx, x, images * row(weights))?, self.fitted(cx, w, weights.weights())?);
                    self.call(cx, SharedConv { conv, width }, &[x, w])?;
                }
            }
            2 | 3 => {
                let [rows, inner, outer] = std::array::from_fn(|_| self.s.range(0, 6) as usize);
                let y = self.int();
                let (x, y) = (self.fitted(cx, x, rows * inner)?, self.fitted(cx, y, inner * outer)?);
                self.call(cx, MatMul { inner, outer, width }, &[x, y])?;
            }
            4 => {
                let [first, second, last] = shifts;
                let (y, minus) = (self.alike(cx, x)?, self.s.range(0, 1) == 1);
                self.call(cx, AddScaled { first, second, last, minus, rounding, width }, &[x, y])?;
            }
            5 => {
                let [bias, weights] = self.norms.last().copied()?;
                let rows = self.s.range(0, 9) as usize;
                let x = self.fitted(cx, x, rows * cx.len(bias))?;
                let [input, bias_shift, product] = std::array::from_fn(|_| self.s.range(0, 24) as i32 - 8);
                let function = BatchNorm { input, bias: bias_shift, product, rounding, width };
                self.call(cx, function, &[x, bias, weights])?;
            }
            6 => {
                let (channels, items) = (self.s.range(1, 5) as usize, self.s.range(0, 9) as usize);
                let (bits, scale, cut) = (self.s.range(2, 16), self.s.range(2, 16), self.s.range(2, 10));
                let x = self.brought(cx, x, bits)?;
                let x = self.fitted(cx, x, channels * items)?;
                let function = L2Normalise::new(channels, bits, scale, cut, rounding, width).ok()?;
                self.call(cx, function, &[x])?;
            }
            7 | 8 => {
                let [height, across, channels, images] =
                    std::array::from_fn(|i| self.s.range(u32::from(i < 3), 4) as usize);
                let size = [self.s.range(0, 3) as usize, self.s.range(1, 3) as usize];
                let stride = [self.s.range(1, 3) as usize, self.s.range(0, 3) as usize];
                let padding = std::array::from_fn(|i| self.s.below(size[i / 2].max(1)));
                let window = Window { image: [height, across, channels], size, stride, padding };
                let x = self.fitted(cx, x, images * height * across * channels)?;
                if self.s.range(0, 1) == 0 {
                    self.call(cx, MaxPool(window), &[x])?;
                } else {
                    self.call(cx, AveragePool { window, rounding, width }, &[x])?;
                }
            }
            9 => {
                let most = 1 << self.s.range(0, 62);
                let divisor = self.s.values(1, (-1, most))[0];
                self.call(cx, DivideBy { divisor, rounding, width }, &[x])?;
            }
            10 => {
                let (terms, rows) = (self.s.range(0, 9) as usize, self.s.range(0, 9) as usize);
                let x = self.fitted(cx, x, rows * terms)?;
                if self.s.range(0, 1) == 0 {
                    self.call(cx, Sum { terms, width }, &[x])?;
                } else {
                    self.call(cx, Max { classes: terms }, &[x])?;
                }
            }
            _ => self.division(cx, x, width)?,
        }
        Some(())
    }

    fn division(&mut self, cx: &mut Cx, x: Reg, width: u32) -> Option<()> {
        let (s_num, den, s_out) = (self.s.range(0, 12), self.s.range(1, 24), self.s.range(1, 24));
        let y = self.alike(cx, x)?;
        if self.s.range(0, 1) == 0 {
            let s_den = self.s.range(0, den);
            let reference = math::DivGeneral::new(s_num, den, s_den, s_out).ok()?;
            let y = if self.s.one_in(8) { y } else { self.digit(cx, y, den)? };
            self.call(cx, DivideGeneral { reference, width }, &[x, y])?;
            return Some(());
        }
        // 2^den and den bits below it.
        let y = self.digit(cx, y, den)?;
        let y = self.call(cx, Shift::down(0, den + 2), &[y])?[0];
        let y = self.call(cx, SubtractFrom((2 << den) - 1), &[y])?[0];
        if self.s.range(0, 1) == 0 {
            let reference = math::Div::new(s_num, den, s_out).ok()?;
            self.call(cx, Divide { reference, width }, &[x, y])?;
        } else {
            let reference = math::Div::new(0, den, s_out).ok()?;
            self.call(cx, Reciprocal { reference, width }, &[y])?;
        }
        Some(())
    }

    /// A number that is not negative, if it can be made.
    fn unsigned(&mut self, cx: &mut Cx, x: Reg) -> Reg {
        if cx.ty(x).lo >= 0 || self.s.one_in(8) {
            return x;
        }
        let width = cx.width(x);
        self.digit(cx, x, width).unwrap_or(x)
    }

    fn exp(&mut self) -> math::Exp {
        let (width, s_in, s_out) = (self.s.range(1, 33), self.s.range(0, 20) as i32 - 1, self.s.range(1, 24));
        math::Exp::new(width, s_in, s_out).expect("scales that are supported")
    }

    /// A number that is not positive, for an exponential, if it can be made.
    fn negative(&mut self, cx: &mut Cx, x: Reg, exp: &math::Exp, trailing_zeros: u32) -> Reg {
        if cx.ty(x).hi <= 0 || self.s.one_in(8) {
            return x;
        }
        let total = exp.width.saturating_sub(trailing_zeros).max(1);
        let bits = total.saturating_sub(1).clamp(1, cx.width(x));
        self.digit(cx, x, bits)
            .and_then(|x| self.call(cx, Shift::down(0, total), &[x]))
            .and_then(|x| self.call(cx, SubtractFrom(0), &x))
            .map_or(x, |x| x[0])
    }

    /// Functions of private numbers.
    fn private(&mut self, cx: &mut Cx) -> Option<()> {
        let [a, b] = [0, 1].map(|p| self.own[p].last().copied());
        let (a, b) = (a?, b?);
        let width = cx.width(a);
        match self.s.range(0, 5) {
            0 => self.call(cx, Greater, &[a, b])?,
            1 => self.call(cx, Greater, &[b, a])?,
            2 => self.call(cx, Equal, &[a, b])?,
            3 => self.call(cx, Wraps { width }, &[a, b])?,
            4 => self.call(cx, WrapsAndOnes { width }, &[a, b])?,
            _ => {
                if width != cx.width(b) || cx.len(a) != cx.len(b) || [a, b].iter().any(|&r| cx.ty(r).lo < 0) {
                    return None;
                }
                let top = Join { width, bounds: signed(width) };
                let sum = self.call(cx, top, &[a, b])?;
                let sign = self.call(cx, Sign, &sum)?;
                self.call(cx, WrapsGivenSign { width }, &[a, b, sign[0]])?
            }
        };
        Some(())
    }

    /// A loop with state.
    fn scan(&mut self, cx: &mut Cx) -> Build<()> {
        let trips = self.s.range(1, 4) as usize;
        let mut state = Vec::new();
        for _ in 0..self.s.range(0, 2) {
            let width = self.s.width();
            let bounds = signed(width);
            let start = match self.s.range(0, 1) {
                0 => {
                    let values = self.s.values(self.len, bounds);
                    self.call(cx, Constant { values, width, range: bounds }, &[]).map(|r| r[0])
                }
                _ => {
                    let x = self.int();
                    self.brought(cx, x, width)
                }
            };
            state.extend(start.map(|x| (Int(x), bounds)));
        }
        let mut slices = Vec::new();
        for _ in 0..self.s.range(0, 2) {
            let x = self.int();
            let n = self.s.range(0, 20) as usize;
            slices.extend(self.fitted(cx, x, n * trips).map(Int));
        }
        let outside = (self.ints.len(), self.bits.len());
        show!("loop of {trips}");
        let (last, all) = cx.scan(trips, &state, &slices, |cx, state, xs| {
            self.ints.extend(state.iter().chain(xs).map(|x| x.0));
            for _ in 0..self.s.range(1, 4) {
                self.step(cx);
            }
            let mut next = Vec::new();
            for &old in state {
                // What is not the state's type stays as it was.
                let x = self.int();
                let x = self.fitted(cx, x, cx.len(old));
                let x = x.and_then(|x| self.brought(cx, x, cx.width(old)));
                let fits = |x: &Reg| cx.ty(*x).lo >= cx.ty(old).lo && cx.ty(*x).hi <= cx.ty(old).hi;
                next.push(x.filter(fits).map_or(old, Int));
            }
            let ys = (0..self.s.range(0, 2)).map(|_| Int(self.int())).collect();
            Ok((next, ys))
        })?;
        show!("end of loop");
        // Registers of a loop end with it.
        self.ints.truncate(outside.0);
        self.bits.truncate(outside.1);
        for x in last.into_iter().chain(all) {
            self.keep(cx, x.0);
        }
        Ok(())
    }

    /// Makes results of the last values.
    fn reveal(&mut self, cx: &mut Cx) {
        let ints: Vec<Reg> = self.ints.iter().rev().take(4).copied().collect();
        let bits: Vec<Reg> = self.bits.iter().rev().take(2).copied().collect();
        for (i, mut x) in ints.into_iter().chain(bits).enumerate() {
            if !cx.ty(x).exact() {
                let width = cx.width(x);
                x = cx.call(Wrap { width }, &[x]).expect("any number is wrapped to its own ring")[0];
            }
            let to = self.s.pick(&Party::BOTH);
            let own = cx.call(Reveal { to }, &[x]).expect("a number that its ring determines is revealed")[0];
            cx.output(&format!("o{i}"), Own(own));
        }
    }
}
