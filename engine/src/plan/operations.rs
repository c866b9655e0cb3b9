//! Single operations as programs: what `sirnn bench`, the cost table and the benchmarks measure.
//!
//! Operands are fresh sharings of random values; results stay shared. So a program's cost is the operation's own.

use crate::fixed::math;
use crate::fixed::nearest::{Format, NAMES};
use crate::plan::Plan;
use crate::program::{Bit, Build, Cx, Inputs, Int, Own, Profile, Program, Reg, refuse, signed};
use crate::protocols::nearest::NearestTable;
use crate::protocols::normalise::L2Normalise;
use crate::protocols::truncation::{Rounding, Shift};
use crate::protocols::{
    activation, carries, division, exp, linear, lookup, msnzb, pool, product, reciprocal, roots, select, sigmoid,
};
use sirnn_backends::inst::{Conv, LinearOp, Party};
use sirnn_kernels::aes::Prg;
use std::sync::Arc;

/// Parameters; every operation uses those that mean something to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Width of the operands.
    pub width: u32,
    /// Width of the result.
    pub out_width: u32,
    /// Scale of the operand.
    pub scale_in: u32,
    /// Scale of the result.
    pub scale_out: u32,
    /// Bits shifted out.
    pub shift: u32,
    /// Width of a digit, or of a look-up's index.
    pub digit: u32,
    /// Whether the operands leave the top bits of their rings free.
    pub slack: bool,
    /// Instances; rows for products of matrices.
    pub n: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { width: 16, out_width: 16, scale_in: 12, scale_out: 12, shift: 12, digit: 8, slack: false, n: 65_536 }
    }
}

/// An operation.
pub struct Operation {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, and which parameters it uses.
    pub about: &'static str,
    lower: fn(&mut Cx, &Params) -> Build<()>,
}

/// All operations.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "compare",
        about: "millionaires': whether one party's number exceeds the other's (--width)",
        lower: |cx, p| tap(cx, p, carries::Want::Carry(p.width)),
    },
    Operation {
        name: "wrap",
        about: "whether the shares of a number wrap around (--width)",
        lower: |cx, p| tap(cx, p, carries::Want::Carry(p.width)),
    },
    Operation {
        name: "eq",
        about: "whether two private numbers are equal (--width)",
        lower: |cx, p| tap(cx, p, carries::Want::Zero { from: 0, to: p.width }),
    },
    Operation {
        name: "msb",
        about: "sign of a shared number (--width)",
        lower: |cx, p| {
            let x = operand(cx, "x", p, p.n);
            cx.top_bit(x).map(drop)
        },
    },
    Operation {
        name: "and",
        about: "AND of shared bits",
        lower: |cx, p| {
            let (a, b) = (shared_bit(cx, "a", p.n), shared_bit(cx, "b", p.n));
            cx.and(a, b);
            Ok(())
        },
    },
    Operation {
        name: "b2a",
        about: "shared bit to a number (--out-width)",
        lower: |cx, p| {
            let b = shared_bit(cx, "b", p.n);
            cx.b2a(b, p.out_width);
            Ok(())
        },
    },
    Operation {
        name: "mux",
        about: "shared bit times shared number (--width)",
        lower: |cx, p| {
            let (b, x) = (shared_bit(cx, "b", p.n), operand(cx, "x", p, p.n));
            cx.mux(b, x);
            Ok(())
        },
    },
    Operation {
        name: "zext",
        about: "zero extension (--width, --out-width, --slack)",
        lower: |cx, p| {
            let top = if p.slack { p.width - 1 } else { p.width };
            let x = shared(cx, "x", p.width, p.n, (0, (1 << top) - 1));
            cx.extend(x, p.out_width).map(drop)
        },
    },
    Operation {
        name: "sext",
        about: "sign extension (--width, --out-width, --slack)",
        lower: |cx, p| {
            let x = operand(cx, "x", p, p.n);
            cx.extend(x, p.out_width).map(drop)
        },
    },
    Operation {
        name: "tr",
        about: "truncate and reduce (--width, --shift)",
        lower: |cx, p| shift(cx, p, Rounding::Floor, p.width.saturating_sub(p.shift)),
    },
    Operation {
        name: "lrs",
        about: "logical right shift (--width, --shift)",
        lower: |cx, p| {
            let x = shared(cx, "x", p.width, p.n, (0, (1 << p.width) - 1));
            cx.call(Shift::down(p.shift, p.width), &[x.0]).map(drop)
        },
    },
    Operation {
        name: "ars",
        about: "arithmetic right shift (--width, --shift, --slack)",
        lower: |cx, p| shift(cx, p, Rounding::Floor, p.width),
    },
    Operation {
        name: "divpow2",
        about: "division by 2^shift toward zero (--width, --shift, --slack)",
        lower: |cx, p| shift(cx, p, Rounding::TowardZero, p.width),
    },
    Operation {
        name: "digdec",
        about: "digit decomposition (--width, --digit)",
        lower: |cx, p| {
            let x = shared(cx, "x", p.width, p.n, (0, (1 << p.width) - 1));
            let count = p.width.div_ceil(p.digit.max(1));
            let widths = (0..count).map(|i| p.digit.min(p.width - i * p.digit)).collect();
            cx.call(lookup::Digits { widths }, &[x.0]).map(drop)
        },
    },
    Operation {
        name: "lut",
        about: "look-up in a public table of 2^digit entries (--digit, --out-width)",
        lower: |cx, p| {
            if p.digit > lookup::MAX_INDEX {
                return refuse("lut", format!("--digit {} (at most {})", p.digit, lookup::MAX_INDEX));
            }
            let x = shared(cx, "x", p.digit, p.n, (0, (1 << p.digit) - 1));
            let entries = Arc::new((0..1i128 << p.digit).map(|i| i * i % (1i128 << p.out_width)).collect());
            cx.call(lookup::Lookup { columns: vec![lookup::Column { width: p.out_width, entries }] }, &[x.0]).map(drop)
        },
    },
    Operation {
        name: "mul",
        about: "product of two shared numbers (--width, --out-width, --slack)",
        lower: |cx, p| {
            let (x, y) = (operand(cx, "x", p, p.n), operand(cx, "y", p, p.n));
            cx.call(product::Product { width: p.out_width }, &[x.0, y.0]).map(drop)
        },
    },
    Operation {
        name: "matmul",
        about: "n rows of 100 numbers times the server's 100 x 35 matrix of 8-bit weights (--width, --out-width)",
        lower: |cx, p| {
            let op = LinearOp::MatMul { inner: 100, outer: 35 };
            let w = cx.input("w", Party::P0, 8, op.weights(), signed(8));
            let x = operand(cx, "x", p, p.n * 100);
            cx.call(linear::Linear { op, width: p.out_width }, &[w.0, x.0]).map(drop)
        },
    },
    Operation {
        name: "conv",
        about: "n images of 8 x 8 x 8 numbers, convolved with 8 filters of 3 x 3 of the server (--width, --out-width)",
        lower: |cx, p| {
            let conv = Conv { image: [8; 3], kernel: [3; 2], stride: [1; 2], padding: [1; 4], groups: 1, filters: 8 };
            let op = LinearOp::Conv(conv);
            let w = cx.input("w", Party::P0, 8, op.weights(), signed(8));
            let x = operand(cx, "x", p, p.n * 512);
            cx.call(linear::Linear { op, width: p.out_width }, &[w.0, x.0]).map(drop)
        },
    },
    Operation {
        name: "exp",
        about: "exponential of negative numbers (--width, --scale-in, --scale-out, --out-width)",
        lower: |cx, p| {
            let reference = supported("exp", math::Exp::new(p.width, p.scale_in as i32, p.scale_out))?;
            let x = shared(cx, "x", p.width, p.n, (-(1 << (p.width - 1)), 0));
            cx.call(exp::Exp { reference, trailing_zeros: 0, width: p.out_width }, &[x.0]).map(drop)
        },
    },
    Operation {
        name: "reciprocal",
        about: "1 / (1 + e) for e in [0, 1] (--scale-out)",
        lower: |cx, p| {
            let reference = supported("reciprocal", math::Div::new(0, p.scale_out, p.scale_out))?;
            let e = shared(cx, "x", p.scale_out + 2, p.n, (0, 1 << p.scale_out));
            let f = reciprocal::ReciprocalOfOnePlus { reference, width: p.scale_out + 2 };
            cx.call(reciprocal::OneOverOnePlus(f), &[e.0]).map(drop)
        },
    },
    Operation {
        name: "sigmoid",
        about: "1 / (1 + exp(-x)) (--width, --scale-in, --scale-out, --out-width)",
        lower: |cx, p| {
            let reference = supported("sigmoid", math::Sigmoid::new(p.width, p.scale_in as i32, p.scale_out))?;
            let x = operand(cx, "x", p, p.n);
            cx.call(sigmoid::Sigmoid { reference, trailing_zeros: 0, width: p.out_width }, &[x.0]).map(drop)
        },
    },
    Operation {
        name: "tanh",
        about: "hyperbolic tangent (--width, --scale-in, --scale-out, --out-width)",
        lower: |cx, p| {
            let reference = supported("tanh", math::Tanh::new(p.width, p.scale_in as i32, p.scale_out))?;
            let x = operand(cx, "x", p, p.n);
            cx.call(sigmoid::Tanh { reference, trailing_zeros: 0, width: p.out_width }, &[x.0]).map(drop)
        },
    },
    Operation {
        name: "rsqrt",
        about: "inverse square root of positive numbers (--width, --scale-in, --scale-out, --out-width)",
        lower: |cx, p| {
            let reference = supported("rsqrt", math::Root::rsqrt(p.width, p.scale_in as i32, p.scale_out))?;
            root(cx, p, reference)
        },
    },
    Operation {
        name: "sqrt",
        about: "square root of positive numbers (--width, --scale-in, --scale-out, --out-width)",
        lower: |cx, p| {
            let reference = supported("sqrt", math::Root::sqrt(p.width, p.scale_in as i32, p.scale_out))?;
            root(cx, p, reference)
        },
    },
    Operation {
        name: "div",
        about: "num / den, den in [1, 2) (--width of num, --scale-in of both, --scale-out, --out-width)",
        lower: |cx, p| {
            let reference = supported("div", math::Div::new(p.scale_in, p.scale_in, p.scale_out))?;
            let num = operand(cx, "x", p, p.n);
            let den = shared(cx, "y", p.scale_in + 2, p.n, (1 << p.scale_in, (2 << p.scale_in) - 1));
            cx.call(division::Divide { reference, width: p.out_width }, &[num.0, den.0]).map(drop)
        },
    },
    Operation {
        name: "msnzb",
        about: "most significant non-zero bit, one-hot (--width)",
        lower: |cx, p| {
            let x = shared(cx, "x", p.width, p.n, (0, (1 << p.width) - 1));
            cx.call(msnzb::OneHot { bits: p.width }, &[x.0]).map(drop)
        },
    },
    Operation { name: "relu", about: "max(x, 0) (--width, --slack)", lower: |cx, p| relu(cx, p, None, 0) },
    Operation {
        name: "relu6",
        about: "min(max(x, 0), 6 * 2^scale-in) >> shift (--width, --scale-in, --shift, --out-width)",
        lower: |cx, p| relu(cx, p, Some(6 << p.scale_in), p.shift),
    },
    Operation {
        name: "maxpool",
        about: "the largest of 2 x 2 numbers, n times (--width)",
        lower: |cx, p| {
            let x = operand(cx, "x", p, 4 * p.n);
            let window = pool::Window { image: [2, 2, 1], size: [2, 2], stride: [2, 2], padding: [0; 4] };
            cx.call(pool::MaxPool(window), &[x.0]).map(drop)
        },
    },
    Operation {
        name: "l2norm",
        about: "L2-normalise n rows of 64 numbers (--width, --scale-in, --out-width)",
        lower: |cx, p| {
            let shift = p.scale_in / 2 + 2;
            let f = L2Normalise::new(64, p.width, p.scale_in, shift, Rounding::Floor, p.out_width)?;
            let x = operand(cx, "x", p, p.n * 64);
            cx.call(f, &[x.0]).map(drop)
        },
    },
    Operation {
        name: "argmax",
        about: "index of the first largest of 30 numbers, n times (--width)",
        lower: |cx, p| {
            let x = operand(cx, "x", p, p.n * 30);
            cx.call(select::ArgMax { classes: 30 }, &[x.0]).map(drop)
        },
    },
];

/// The operation that rounds a function to the nearest.
pub fn nearest(name: &str) -> Option<Operation> {
    macro_rules! lowerings {
        ($($name:literal)*) => {
            match name {
                $($name => |cx, p| rounded(cx, p, $name),)*
                _ => return None,
            }
        };
    }
    let lower: fn(&mut Cx, &Params) -> Build<()> = lowerings!(
        "sigmoid" "tanh" "exp" "log" "gelu" "silu" "softplus" "elu" "erf" "sin" "cos" "reciprocal" "rsqrt" "sqrt" "square"
    );
    let name = NAMES.iter().find(|n| **n == name)?;
    let about = "rounded to the nearest (--width, --scale-in, --scale-out, --out-width)";
    Some(Operation { name, about, lower })
}

fn rounded(cx: &mut Cx, p: &Params, name: &str) -> Build<()> {
    let format = |bits, scale: u32| Format { bits, scale: scale as i32, signed: true };
    let made = NearestTable::new(name, format(p.width, p.scale_in), format(p.out_width, p.scale_out));
    let f = supported(name, made)?;
    let x = operand(cx, "x", p, p.n);
    cx.call(f, &[x.0]).map(drop)
}

/// The operation of that name.
pub fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|op| op.name == name)
}

impl Operation {
    /// Plans the operation.
    ///
    /// # Errors
    /// Parameters that make no sense, with the operation and the parameter.
    pub fn plan(&self, p: &Params, profile: Profile) -> Build<Plan> {
        self.build(p, profile, false)
    }

    /// The same with results revealed to P1, for tests.
    ///
    /// # Errors
    /// As [`Operation::plan`].
    pub fn plan_revealed(&self, p: &Params, profile: Profile) -> Build<Plan> {
        self.build(p, profile, true)
    }

    fn build(&self, p: &Params, profile: Profile, reveal: bool) -> Build<Plan> {
        for (name, width) in [("--width", p.width), ("--out-width", p.out_width)] {
            if !(1..=64).contains(&width) {
                return refuse(self.name, format!("{name} {width} (1 to 64)"));
            }
        }
        if p.scale_in > 63 || p.scale_out > 63 || p.shift >= 64 || !(1..=64).contains(&p.digit) {
            return refuse(self.name, "--scale-in, --scale-out and --shift are below 64, --digit is 1 to 64");
        }
        if p.slack && p.width < 2 {
            return refuse(self.name, "--slack needs a --width of at least 2");
        }
        let mut cx = Cx::new(profile);
        (self.lower)(&mut cx, p)?;
        if reveal {
            cx.reveal_unread();
        }
        Ok(Plan::new(cx.finish(), profile))
    }
}

fn supported<T>(name: &str, made: Result<T, crate::fixed::Unsupported>) -> Build<T> {
    made.or_else(|e| refuse(name, e.to_string()))
}

/// A fresh sharing of values in a range.
fn shared(cx: &mut Cx, name: &str, width: u32, len: usize, (lo, hi): (i128, i128)) -> Int {
    let parts = Party::BOTH.map(|p| {
        let own = cx.input(&format!("{name}{}", p.index()), p, width, len, (0, (1 << width) - 1));
        cx.share(own)
    });
    let sum = cx.add(parts[0], parts[1]);
    cx.retype(sum, lo, hi)
}

fn operand(cx: &mut Cx, name: &str, p: &Params, len: usize) -> Int {
    shared(cx, name, p.width, len, range(p))
}

fn range(p: &Params) -> (i128, i128) {
    signed(if p.slack { p.width - 1 } else { p.width })
}

fn shared_bit(cx: &mut Cx, name: &str, len: usize) -> Bit {
    let parts = Party::BOTH.map(|p| {
        let own = cx.input(&format!("{name}{}", p.index()), p, 1, len, (0, 1));
        let planes = cx.planes(own, 0, 1);
        cx.share_bits(planes)
    });
    cx.xor(parts[0], parts[1])
}

fn tap(cx: &mut Cx, p: &Params, want: carries::Want) -> Build<()> {
    let x = shared(cx, "x", p.width, p.n, (0, (1 << p.width) - 1));
    let (a, b): (Own, Own) = (cx.view(x, Party::P0), cx.view(x, Party::P1));
    carries::carries(cx, a, b, &[want]).map(drop)
}

fn shift(cx: &mut Cx, p: &Params, rounding: Rounding, width: u32) -> Build<()> {
    let x = operand(cx, "x", p, p.n);
    let by = match rounding {
        Rounding::Floor => Shift::down(p.shift, width),
        _ => Shift { floor: 0, shift: p.shift, rounding, width },
    };
    cx.call(by, &[x.0]).map(drop)
}

fn root(cx: &mut Cx, p: &Params, reference: math::Root) -> Build<()> {
    let x = shared(cx, "x", p.width, p.n, (0, (1 << (p.width - 1)) - 1));
    cx.call(roots::Root { reference, width: p.out_width }, &[x.0]).map(drop)
}

fn relu(cx: &mut Cx, p: &Params, limit: Option<i128>, shift: u32) -> Build<()> {
    let x = operand(cx, "x", p, p.n);
    let width = if limit.is_some() { p.out_width } else { p.width };
    cx.call(activation::Relu { limit, shift, width }, &[x.0]).map(drop)
}

/// Random inputs for a program of this module: sharings of values in the operands' ranges.
pub fn inputs(program: &Program, seed: u128) -> Inputs {
    let mut prg = Prg::new(seed);
    let mut random = |n: usize, bits: u32| -> Vec<i128> {
        let mut words = vec![0u64; n];
        prg.fill_words(bits, &mut words);
        words.into_iter().map(i128::from).collect()
    };
    let mut out = Inputs::new();
    for input in &program.inputs {
        let ty = program.ty(input.reg);
        let (bits, n) = (ty.width(), ty.len);
        let values = match input.name.strip_suffix('1').and_then(|stem| out.get(&format!("{stem}0")).cloned()) {
            // The second share completes a value of the operand's range.
            Some(first) => {
                let (lo, hi) = sum_range(program, input.reg).unwrap_or((0, (1 << bits) - 1));
                let value = random(n, 63).into_iter().map(|v| lo + v % (hi - lo + 1));
                value.zip(first).map(|(v, a)| (v - a).rem_euclid(1 << bits)).collect()
            }
            None => random(n, bits).into_iter().map(|v| ty.lo + v).collect(),
        };
        out.insert(input.name.clone(), values);
    }
    out
}

/// The range of the operand that a share ends up in.
fn sum_range(program: &Program, share: Reg) -> Option<(i128, i128)> {
    let nodes = &program.blocks[0].nodes;
    let reader = |reg: Reg| nodes.iter().find(|n| n.ins.contains(&reg)).map(|n| n.outs[0]);
    let operand = reader(reader(reader(share)?)?)?;
    Some((program.ty(operand).lo, program.ty(operand).hi))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::pair;

    #[test]
    fn every_operation_runs_as_planned() {
        for op in OPERATIONS {
            for n in [0, 1, 3] {
                let params = Params { n, out_width: 32, ..Params::default() };
                let plan = op.plan(&params, Profile::default()).unwrap_or_else(|e| panic!("{}: {e}", op.name));
                let inputs = inputs(&plan.program, 7);
                let ran = pair::run(&plan, "iknp", &inputs);
                assert!(ran.is_ok(), "{} for {n}: {:?}", op.name, ran.err());
            }
        }
    }

    #[test]
    fn parameters_that_make_no_sense_are_refused() {
        let wrong = [
            ("sext", Params { width: 0, ..Params::default() }),
            ("sext", Params { out_width: 65, ..Params::default() }),
            ("lut", Params { digit: 17, ..Params::default() }),
            ("exp", Params { scale_out: 63, ..Params::default() }),
            ("rsqrt", Params { scale_in: 40, ..Params::default() }),
            ("zext", Params { width: 1, slack: true, ..Params::default() }),
            ("tr", Params { shift: 64, ..Params::default() }),
        ];
        for (name, params) in wrong {
            assert!(find(name).unwrap().plan(&params, Profile::default()).is_err(), "{name} {params:?}");
        }
    }
}
