//! The math functions on integers, bit for bit as in the authors' library, as small steps.
//!
//! Each function is a struct made from its public parameters. It holds its tables and gives
//!
//! * `eval`: the value;
//! * `steps`: the value and every intermediate on the way;
//! * `ranges`: the same record with a range in place of each number, computed by the same code on intervals (one per table
//!   entry). It holds for *every* input, so a protocol may rely on it.
//!
//! The free functions of the same names are `new` and `eval` in one; make the struct once where there are many inputs.
//! All shifts round down. No intermediate is wrapped, for none leaves its width; results are wrapped by the caller.
//!
//! Widths (bits, unsigned unless said otherwise) and scales, with `s` the output scale; debug builds check them on every
//! evaluation, and for intervals that is a proof:
//!
//! | step | bits | scale |
//! |---|---|---|
//! | **exp**: digit | 8 (last: the rest) | |
//! | leaf, product of two `>> s` | `s+2`, really `[0, 2^s]` | `s` |
//! | product of two | `2s+2`, really `[0, 2^2s]` | `2s` |
//! | **reciprocal** of a denominator of scale `t`: index | `m` | `m` |
//! | low part | `t-m` | `t` |
//! | slope | `m+4`, really `m+3` | `m+3` |
//! | intercept | `2m+3`, really `2m+2` | `2m+2` |
//! | slope * low | `t+4`, really `t+3` | `t+m+3` |
//! | line | `t+m+4`, really `t+m+3` | `t+m+3` |
//! | reciprocal | `s+1`, really `s` | `s` |
//! | **division**: numerator * reciprocal | numerator's + `s`, signed | numerator's + `s` |
//! | quotient | as the result | `s` |
//! | only `s > 18`: denominator * reciprocal | `s+t+2` | `s+t` |
//! | that `>> t`; 2 - that | `s+2` | `s` |
//! | quotient * that | result's + `s`, signed | `2s` |
//! | **sigmoid**: denominator, numerator, reciprocal | `s+2` | `s` |
//! | numerator * reciprocal | `2s+2` | `2s` |
//! | **tanh**: denominator, numerator, quotient | `s+2` | `s` |
//! | **sqrt, rsqrt** of `w` bits: normalised input | `w-1` | `w-2` |
//! | even-exponent input X | `w` | `w-2` |
//! | index, parity | `m`, 1 | `m` |
//! | guess Y | `m+3` | `m+2` |
//! | sqrt only: X * Y; `>> (w+m-s)` | `w+m+1`; `s+1` | `w+m`; `s` |
//! | residual b | `s+2` | `s` |
//! | Y * Y, first; later, before `>> s+2`; after | `2m+5`; `2s+3`; `s+1` | `2m+4`; `2s+2`; `s` |
//! | (Y * Y) * b, first; later | `2m+s+6`; `2s+2` | `2m+s+4`; `2s` |
//! | next b | `s+2` | `s` |
//! | factor Y = 3 - b | `s+2` | `s+1` |
//! | x * Y, first of rsqrt; else | `s+m+4`; `2s+2` | `s+m+3`; `2s+1` |
//! | next x | `s+1` | `s` |
//! | x * 2^exponent | `s+1+w/2` (see [`Root::exponent`]) | `s` + [`Root::restore`] |

use super::{
    Interval, Number, Unsupported, msnzb, require,
    steps::{
        DivGeneralSteps, DivSteps, ExpSteps, Hull, ReciprocalSteps, RefinementSteps, RootIteration, RootSteps,
        SigmoidSteps, TanhSteps,
    },
    tables,
};

/// Bits per digit of the exponential.
pub const DIGIT_BITS: u32 = 8;

/// `value`, which has at most that many bits.
#[inline]
#[track_caller]
fn within<N: Number>(bits: u32, value: N) -> N {
    debug_assert!(value.fits(bits), "[{}, {}] is not in {bits} bits", value.lo(), value.hi());
    value
}

/// The unsigned numbers of `bits` bits, in several parts where an iteration multiplies numbers that both depend on them:
/// the narrower the ranges of its operands, the closer is the range of a product.
fn low_parts(bits: u32, several: bool) -> impl Iterator<Item = Interval> {
    let log = if several { bits.min(5) } else { 0 };
    let part = Interval::unsigned(bits - log);
    (0..1 << log).map(move |i| part + Interval::from(i << (bits - log)))
}

// ------------------------------------------------------------------------------------------------- exp

/// One digit of the exponential's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Bits of the digit.
    pub bits: u32,
    /// [`tables::exp_digit`].
    pub table: Vec<u64>,
}

/// `exp(x)` for `x <= 0`: `width` bits with scale `s_in` to scale `s_out`; the result is in `[0, 2^s_out]`.
///
/// The input is negated, its digits are looked up, and the entries multiplied in a binary tree (paper, figure 3). For a
/// positive `x` the result is `exp` of `x - 2^width`, which is what the negation in the ring makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exp {
    /// Bits of the input.
    pub width: u32,
    /// Scale of the output.
    pub s_out: u32,
    /// Digits, least significant first.
    pub digits: Vec<Digit>,
}

impl Exp {
    /// `width` in 1..=64, `s_in` in -1..=62, `s_out` in 1..=62.
    pub fn new(width: u32, s_in: i32, s_out: u32) -> Result<Self, Unsupported> {
        require("exp", (1..=64).contains(&width), || format!("width {width} (1..=64)"))?;
        require("exp", (-1..=62).contains(&s_in), || format!("input scale {s_in} (-1..=62)"))?;
        require("exp", (1..=62).contains(&s_out), || format!("output scale {s_out} (1..=62)"))?;
        let digit = |index| {
            let bits = DIGIT_BITS.min(width - index * DIGIT_BITS);
            Digit { bits, table: tables::exp_digit(index, bits, s_in, s_out) }
        };
        Ok(Self { width, s_out, digits: (0..width.div_ceil(DIGIT_BITS)).map(digit).collect() })
    }

    /// `x` negated, as an unsigned integer of `width` bits.
    pub fn negated(&self, x: i128) -> i128 {
        super::wrap(-x, self.width, false)
    }

    /// Digits of a negated input.
    pub fn split(&self, negated: i128) -> impl Iterator<Item = usize> {
        let digits = self.digits.iter().enumerate();
        digits.map(move |(i, digit)| (negated >> (DIGIT_BITS * i as u32)) as usize & ((1 << digit.bits) - 1))
    }

    /// Multiplies the leaves in place, neighbours first; the result is left in the first.
    fn multiply<N: Number>(&self, leaves: &mut [N], mut record: impl FnMut(N)) -> N {
        let mut step = 1;
        while step < leaves.len() {
            for i in (0..leaves.len() - step).step_by(2 * step) {
                let product = within(2 * self.s_out + 2, leaves[i] * leaves[i + step]);
                record(product);
                leaves[i] = within(self.s_out + 2, product >> self.s_out);
            }
            step *= 2;
        }
        leaves[0]
    }

    /// The value.
    pub fn eval(&self, x: i128) -> i128 {
        let mut leaves = [0; 8];
        for (i, digit) in self.split(self.negated(x)).enumerate() {
            leaves[i] = i128::from(self.digits[i].table[digit]);
        }
        self.multiply(&mut leaves[..self.digits.len()], |_| ())
    }

    /// The value and its intermediates.
    pub fn steps(&self, x: i128) -> ExpSteps<i128> {
        let digits: Vec<i128> = self.split(self.negated(x)).map(|digit| digit as i128).collect();
        let leaves = self.digits.iter().zip(&digits).map(|(d, &v)| i128::from(d.table[v as usize])).collect();
        self.product(digits, leaves)
    }

    /// Ranges over all inputs.
    pub fn ranges(&self) -> ExpSteps<Interval> {
        let digits = self.digits.iter().map(|digit| Interval::unsigned(digit.bits)).collect();
        let range = |table: &[u64]| Hull::of(table.iter().map(|&entry| Interval::from(i128::from(entry))));
        self.product(digits, self.digits.iter().map(|digit| range(&digit.table)).collect())
    }

    fn product<N: Number>(&self, digits: Vec<N>, leaves: Vec<N>) -> ExpSteps<N> {
        let mut products = Vec::new();
        let result = self.multiply(&mut leaves.clone(), |product| products.push(product));
        ExpSteps { digits, leaves, products, result }
    }
}

// -------------------------------------------------------------------------------- reciprocal and division

/// Table bits `m` and iterations of a reciprocal with `s_out` fractional bits: a table of up to 8 bits is enough for scale
/// 18, and an iteration doubles the precision.
pub fn reciprocal_params(s_out: u32) -> (u32, u32) {
    let table_bits = |s: u32| s.saturating_sub(2).div_ceil(2);
    if s_out <= 18 { (table_bits(s_out), 0) } else { (table_bits(s_out.div_ceil(2)), 1) }
}

/// `num / den` for a denominator in `[1, 2)`: scales `s_num` and `s_den` to scale `s_out` (paper, figure 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Div {
    /// Scale of the numerator.
    pub s_num: u32,
    /// Scale of the denominator.
    pub s_den: u32,
    /// Scale of the quotient.
    pub s_out: u32,
    /// Bits of the table's index.
    pub m: u32,
    /// Goldschmidt steps: 0 or 1.
    pub iterations: u32,
    /// Table of slopes, `m + 3` bits, scale `m + 3`.
    pub slope: Vec<u64>,
    /// Table of intercepts, `2m + 2` bits, scale `2m + 2`.
    pub intercept: Vec<u64>,
}

impl Div {
    /// `s_out` in 1..=36 (the table has at most 2^8 entries) and at most `s_den`, which is at most 63.
    pub fn new(s_num: u32, s_den: u32, s_out: u32) -> Result<Self, Unsupported> {
        require("division", (1..=36).contains(&s_out), || format!("output scale {s_out} (1..=36)"))?;
        require("division", (s_out..=63).contains(&s_den), || {
            format!("denominator scale {s_den} ({s_out}, as the output's, ..=63)")
        })?;
        require("division", s_num <= 63, || format!("numerator scale {s_num} (..=63)"))?;
        let (m, iterations) = reciprocal_params(s_out);
        let (slope, intercept) = tables::reciprocal(m);
        Ok(Self { s_num, s_den, s_out, m, iterations, slope, intercept })
    }

    /// Index and low part of a denominator in `[2^s_den, 2^(s_den+1))`.
    pub fn split(&self, den: i128) -> (usize, i128) {
        debug_assert_eq!(den >> self.s_den, 1, "the denominator is in [1, 2)");
        let low_bits = self.s_den - self.m;
        ((den >> low_bits) as usize & ((1 << self.m) - 1), den & ((1 << low_bits) - 1))
    }

    /// The value.
    pub fn eval(&self, num: i128, den: i128) -> i128 {
        self.steps(num, den).result
    }

    /// The value and its intermediates.
    pub fn steps(&self, num: i128, den: i128) -> DivSteps<i128> {
        let (index, low) = self.split(den);
        self.at(index, low, num)
    }

    /// Ranges over all denominators and all numerators of `num`.
    pub fn ranges(&self, num: Interval) -> DivSteps<Interval> {
        self.hull(|_, index, low| self.at(index, low, num))
    }

    /// Hull of a record made from the denominators, the index and the low parts of each table entry.
    fn hull<R: Hull>(&self, record: impl Fn(Interval, usize, Interval) -> R) -> R {
        let indices = 0..1 << self.m;
        Hull::of(indices.flat_map(|index| {
            let parts = low_parts(self.s_den - self.m, self.iterations > 0);
            parts.map(|low| record(self.den(index, low), index, low)).collect::<Vec<_>>()
        }))
    }

    fn den<N: Number>(&self, index: usize, low: N) -> N {
        N::from(((1 << self.m) + index as i128) << (self.s_den - self.m)) + low
    }

    fn reciprocal_at<N: Number>(&self, index: usize, low: N) -> ReciprocalSteps<N> {
        let (m, t, s) = (self.m, self.s_den, self.s_out);
        let slope = within(m + 3, N::from(self.slope[index].into()));
        let intercept = within(2 * m + 2, N::from(self.intercept[index].into()));
        let product = within(t + 3, slope * low);
        let line = within(t + m + 3, (intercept << (t - m + 1)) - product);
        let result = within(s, line >> (t + m + 3 - s));
        ReciprocalSteps { index: N::from(index as i128), low, slope, intercept, product, line, result }
    }

    fn at<N: Number>(&self, index: usize, low: N, num: N) -> DivSteps<N> {
        let reciprocal = self.reciprocal_at(index, low);
        let product = num * reciprocal.result;
        let quotient = product >> self.s_num;
        let den = self.den(index, low);
        let (refinement, result) = self.refine(den, reciprocal.result, quotient);
        DivSteps { reciprocal, product, quotient, refinement, result }
    }

    fn refine<N: Number>(&self, den: N, reciprocal: N, quotient: N) -> (Option<RefinementSteps<N>>, N) {
        if self.iterations == 0 {
            return (None, quotient);
        }
        let (t, s) = (self.s_den, self.s_out);
        let den_product = within(s + t + 2, den * reciprocal);
        let near_one = within(s + 2, den_product >> t);
        let factor = within(s + 2, N::from(2 << s) - near_one);
        let product = quotient * factor;
        (Some(RefinementSteps { den_product, near_one, factor, product }), product >> s)
    }
}

/// `num / den` for any positive denominator of `width_den` bits, which is first brought into `[1, 2)`.
///
/// The denominator is multiplied by a power of 2, read off its most significant non-zero bit; so is the quotient. A
/// denominator of 0 counts as 1 unit. The quotient before the adjustment, `num` over the normalised denominator, must fit
/// where a protocol keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DivGeneral {
    /// Bits of the denominator.
    pub width_den: u32,
    /// Scale of the denominator.
    pub s_den: u32,
    /// Division by the normalised denominator, whose scale is `width_den - 1`.
    pub normalised: Div,
}

impl DivGeneral {
    /// As [`Div::new`] with `width_den - 1` for the denominator's scale; `s_den < width_den`.
    pub fn new(s_num: u32, width_den: u32, s_den: u32, s_out: u32) -> Result<Self, Unsupported> {
        require("division", (1..=64).contains(&width_den), || format!("denominator width {width_den} (1..=64)"))?;
        require("division", s_den < width_den, || format!("denominator scale {s_den} (..{width_den}, its width)"))?;
        Ok(Self { width_den, s_den, normalised: Div::new(s_num, width_den - 1, s_out)? })
    }

    /// The exponent of the power of 2 that normalises a denominator with most significant non-zero bit `k`.
    pub fn exponent(&self, k: u32) -> u32 {
        self.width_den - 1 - k
    }

    /// The value.
    pub fn eval(&self, num: i128, den: i128) -> i128 {
        self.steps(num, den).result
    }

    /// The value and its intermediates.
    pub fn steps(&self, num: i128, den: i128) -> DivGeneralSteps<i128> {
        let den = super::wrap(den, self.width_den, false).max(1);
        let adjust = 1 << self.exponent(msnzb(den));
        let (index, low) = self.normalised.split(den * adjust);
        self.at(index, low, num, adjust)
    }

    /// Ranges over all denominators and all numerators of `num`.
    pub fn ranges(&self, num: Interval) -> DivGeneralSteps<Interval> {
        let adjust = Interval::new(1, 1 << self.exponent(0));
        self.normalised.hull(|_, index, low| self.at(index, low, num, adjust))
    }

    fn at<N: Number>(&self, index: usize, low: N, num: N, adjust: N) -> DivGeneralSteps<N> {
        let DivSteps { reciprocal, product, quotient, .. } = self.normalised.at(index, low, num);
        let adjusted_product = quotient * adjust;
        let adjusted = adjusted_product >> self.exponent(self.s_den);
        let normalised = self.normalised.den(index, low);
        let (refinement, result) = self.normalised.refine(normalised, reciprocal.result, adjusted);
        DivGeneralSteps {
            adjust,
            normalised,
            reciprocal,
            product,
            quotient,
            adjusted_product,
            adjusted,
            refinement,
            result,
        }
    }
}

// ---------------------------------------------------------------------------------------- sigmoid and tanh

/// `1 + exp` in `[1, 2)`: one unit less where it is 2, which is only at `x = 0`.
fn one_plus(exp: i128, s_out: u32) -> i128 {
    let one = 1 << s_out;
    one + exp - i128::from(exp == one)
}

/// The values of `exp` for which [`one_plus`] is one of `den`.
fn less_one(den: Interval, s_out: u32) -> Interval {
    let one = 1 << s_out;
    Interval::new(den.lo - one, if den.hi == 2 * one - 1 { one } else { den.hi - one })
}

/// `1 / (1 + exp(-x))`: `width` bits with scale `s_in` to scale `s_out` (paper, figure 4); the result is in
/// `[0, 2^s_out)`, with an iteration of the division perhaps some units above.
///
/// With `e = exp(-|x|)`: `1 / (1 + e)` for `x >= 0`, otherwise `e` times that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigmoid {
    /// The exponential.
    pub exp: Exp,
    /// The reciprocal, as division of the integer 1 with scale 0.
    pub div: Div,
}

impl Sigmoid {
    /// `width` in 1..=64, `s_in` in 0..=62, `s_out` in 1..=36.
    pub fn new(width: u32, s_in: i32, s_out: u32) -> Result<Self, Unsupported> {
        require("sigmoid", s_in >= 0, || format!("input scale {s_in} (0..=62)"))?;
        Ok(Self { exp: Exp::new(width, s_in, s_out)?, div: Div::new(0, s_out, s_out)? })
    }

    /// The value.
    pub fn eval(&self, x: i128) -> i128 {
        self.steps(x).result
    }

    /// The value and its intermediates. Those of the exponential are [`Exp::steps`] of `-|x|`.
    pub fn steps(&self, x: i128) -> SigmoidSteps<i128> {
        let x = super::wrap(x, self.exp.width, true);
        let exp = self.exp.eval(-x.abs());
        let den = one_plus(exp, self.div.s_out);
        let numerator = if x >= 0 { 1 << self.div.s_out } else { exp };
        let (index, low) = self.div.split(den);
        self.at(exp, den, numerator, index, low)
    }

    /// Ranges over all inputs.
    pub fn ranges(&self) -> SigmoidSteps<Interval> {
        self.div.hull(|den, index, low| {
            let exp = less_one(den, self.div.s_out);
            let numerator = Interval::new(exp.lo, 1 << self.div.s_out);
            self.at(exp, den, numerator, index, low)
        })
    }

    fn at<N: Number>(&self, exp: N, den: N, numerator: N, index: usize, low: N) -> SigmoidSteps<N> {
        let s = self.div.s_out;
        let div = self.div.at(index, low, N::from(1));
        let product = within(2 * s + 2, numerator * div.result);
        let result = within(s + 2, product >> s);
        SigmoidSteps { exp, den, div, numerator, product, result }
    }
}

/// `tanh(x)`: `width` bits with scale `s_in` to scale `s_out`; the result is in `(-2^s_out, 2^s_out)`, with an iteration of the
/// division perhaps some units outside.
///
/// With `e = exp(-2|x|)`, which is `exp(-|x|)` at a scale one lower: `(1 - e) / (1 + e)`, and the sign of `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tanh {
    /// The exponential, its input scale one lower.
    pub exp: Exp,
    /// The division.
    pub div: Div,
}

impl Tanh {
    /// `width` in 1..=64, `s_in` in 0..=62, `s_out` in 1..=36.
    pub fn new(width: u32, s_in: i32, s_out: u32) -> Result<Self, Unsupported> {
        require("tanh", s_in >= 0, || format!("input scale {s_in} (0..=62)"))?;
        Ok(Self { exp: Exp::new(width, s_in - 1, s_out)?, div: Div::new(s_out, s_out, s_out)? })
    }

    /// The value.
    pub fn eval(&self, x: i128) -> i128 {
        self.steps(x).result
    }

    /// The value and its intermediates. Those of the exponential are [`Exp::steps`] of `-|x|`.
    pub fn steps(&self, x: i128) -> TanhSteps<i128> {
        let x = super::wrap(x, self.exp.width, true);
        let exp = self.exp.eval(-x.abs());
        let den = one_plus(exp, self.div.s_out);
        let (index, low) = self.div.split(den);
        self.at(exp, den, index, low, |t| if x < 0 { -t } else { t })
    }

    /// Ranges over all inputs.
    pub fn ranges(&self) -> TanhSteps<Interval> {
        self.div.hull(|den, index, low| {
            self.at(less_one(den, self.div.s_out), den, index, low, |t| t.hull(Interval::from(0) - t))
        })
    }

    /// Whether no value has the other sign than its argument (0 counts as either).
    pub fn keeps_sign(&self) -> bool {
        let magnitude = self.div.hull(|den, index, low| self.at(less_one(den, self.div.s_out), den, index, low, |t| t));
        magnitude.result.lo >= 0
    }

    fn at<N: Number>(&self, exp: N, den: N, index: usize, low: N, sign: impl Fn(N) -> N) -> TanhSteps<N> {
        let s = self.div.s_out;
        let numerator = within(s + 1, N::from(1 << s) - exp);
        let div = self.div.at(index, low, numerator);
        let result = sign(within(s + 1, div.result));
        TanhSteps { exp, den, numerator, div, result }
    }
}

// ------------------------------------------------------------------------------------------ square roots

/// Table bits `m` and iterations of a square root or its inverse with `s_out` fractional bits.
pub fn rsqrt_params(s_out: u32) -> (u32, u32) {
    if s_out <= 14 { (s_out.div_ceil(2), 1) } else { (s_out.div_ceil(2).div_ceil(2), 2) }
}

/// `sqrt(x)` or `1 / sqrt(x)` for `x > 0`: `width` bits with scale `s_in` to scale `s_out` (paper, figure 6).
///
/// The input is normalised by its most significant non-zero bit, a table gives a first guess, Goldschmidt steps refine it,
/// and a power of 2 undoes the normalisation. Defined for all inputs: only the low `width - 1` bits count (the input is a
/// non-negative signed number), and 0 counts as 1 unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Whether it is `1 / sqrt(x)`.
    pub inverse: bool,
    /// Bits of the input.
    pub width: u32,
    /// Scale of the input.
    pub s_in: i32,
    /// Scale of the output.
    pub s_out: u32,
    /// Bits of the table's index.
    pub m: u32,
    /// Goldschmidt steps: 1 or 2.
    pub iterations: u32,
    /// [`tables::rsqrt`], indexed by `index + 2^m * parity`.
    pub table: Vec<u64>,
}

impl Root {
    /// `sqrt(x)`. `width` at most 64, `s_in` in `0..width`, `s_out` in 1..=32 and at most `width - 2`.
    pub fn sqrt(width: u32, s_in: i32, s_out: u32) -> Result<Self, Unsupported> {
        Self::new("sqrt", false, width, s_in, s_out)
    }

    /// `1 / sqrt(x)`. `width` at most 64, `s_in` in `0..width`, `s_out` in 1..=32 and at most `width - 2`.
    pub fn rsqrt(width: u32, s_in: i32, s_out: u32) -> Result<Self, Unsupported> {
        Self::new("rsqrt", true, width, s_in, s_out)
    }

    fn new(name: &'static str, inverse: bool, width: u32, s_in: i32, s_out: u32) -> Result<Self, Unsupported> {
        require(name, (3..=64).contains(&width), || format!("width {width} (3..=64)"))?;
        require(name, (0..width as i32).contains(&s_in), || format!("input scale {s_in} (0..{width}, its width)"))?;
        require(name, (1..=32.min(width - 2)).contains(&s_out), || {
            format!("output scale {s_out} (1..=32, at most the width {width} less 2)")
        })?;
        let (m, iterations) = rsqrt_params(s_out);
        Ok(Self { inverse, width, s_in, s_out, m, iterations, table: tables::rsqrt(m) })
    }

    /// The exponent of the power of 2 that normalises an input with most significant non-zero bit `k`.
    pub fn normaliser(&self, k: u32) -> u32 {
        self.width - 2 - k
    }

    /// Whether the exponent of an input with most significant non-zero bit `k` is odd.
    pub fn parity(&self, k: u32) -> bool {
        (k as i32 - self.s_in) & 1 == 1
    }

    /// The exponent of the power of 2 by which the result is multiplied, before it is shifted down by [`Root::restore`].
    ///
    /// At most `width/2 - 1`, except for rsqrt where `s_in` is odd and `k = 0`: there it is `width/2` (halves rounded down),
    /// so that the power needs one bit more than the `width/2` in which the reference protocol holds it.
    pub fn exponent(&self, k: u32) -> u32 {
        let (k, restore) = (k as i32, self.restore() as i32);
        let half = if self.inverse { (self.s_in - k + 1) >> 1 } else { (k - self.s_in) >> 1 };
        (half + restore) as u32
    }

    /// The shift that makes all powers of 2 integers.
    pub fn restore(&self) -> u32 {
        let w = self.width as i32;
        (if self.inverse { (w - 1 - self.s_in) >> 1 } else { (self.s_in + 1) >> 1 }) as u32
    }

    /// The value.
    pub fn eval(&self, x: i128) -> i128 {
        self.steps(x).result
    }

    /// The value and its intermediates.
    pub fn steps(&self, x: i128) -> RootSteps<i128> {
        let x = super::wrap(x, self.width - 1, false).max(1);
        let k = msnzb(x);
        let low_bits = self.width - 2 - self.m;
        let normalised = x << self.normaliser(k);
        let (index, low) =
            ((normalised >> low_bits) as usize & ((1 << self.m) - 1), normalised & ((1 << low_bits) - 1));
        let steps = self.at(index, low, self.parity(k), 1 << self.exponent(k));
        debug_assert!(self.x_fits(&steps));
        steps
    }

    /// Ranges over all inputs.
    pub fn ranges(&self) -> RootSteps<Interval> {
        Hull::of([false, true].into_iter().flat_map(|parity| {
            let ks = (0..self.width - 1).filter(move |&k| self.parity(k) == parity);
            let power = Hull::of(ks.map(|k| Interval::from(1 << self.exponent(k))));
            (0..1 << self.m).flat_map(move |index| {
                let parts = low_parts(self.width - 2 - self.m, self.iterations > 1);
                parts.map(move |low| self.split_ranges(index, low, parity, power))
            })
        }))
    }

    /// Ranges over the inputs of one table entry. x and the factor by which it is multiplied depend on each other, so for
    /// sqrt their ranges must be narrow to show that the product stays below `2^(2 s_out + 2)` for inputs close to 4.
    fn split_ranges(&self, index: usize, low: Interval, parity: bool, power: Interval) -> RootSteps<Interval> {
        let steps = self.at(index, low, parity, power);
        if self.x_fits(&steps) {
            return steps;
        }
        debug_assert!(low.lo < low.hi, "x needs more than s_out + 1 bits");
        let middle = (low.lo + low.hi) >> 1;
        let half = |lo, hi| self.split_ranges(index, Interval::new(lo, hi), parity, power);
        half(low.lo, middle).hull(half(middle + 1, low.hi))
    }

    /// Whether x is below 2 after every iteration.
    fn x_fits<N: Number>(&self, steps: &RootSteps<N>) -> bool {
        steps.iterations.iter().all(|step| step.x.fits(self.s_out + 1))
    }

    fn at<N: Number>(&self, index: usize, low: N, parity: bool, power: N) -> RootSteps<N> {
        let (w, s, m) = (self.width, self.s_out, self.m);
        let normalised = within(w - 1, N::from(((1 << m) + index as i128) << (w - 2 - m)) + low);
        let guess = within(m + 3, N::from(self.table[index + (usize::from(parity) << m)].into()));
        let even = within(w, normalised << u32::from(parity));
        let start_product = (!self.inverse).then(|| within(w + m + 1, even * guess));
        let start = start_product.map_or(guess, |product| within(s + 1, product >> (w + m - s)));
        let residual = within(s + 2, even >> (w - 2 - s));
        let mut iterations: Vec<RootIteration<N>> = Vec::with_capacity(2);
        for _ in 0..self.iterations {
            let last = iterations.last();
            iterations.push(match last {
                None => self.first(start, guess, residual),
                Some(last) => self.next(last),
            });
        }
        let product = iterations.last().map_or(start, |last| last.x) * power;
        RootSteps {
            normalised,
            index: N::from(index as i128),
            guess,
            even,
            start_product,
            start,
            residual,
            iterations,
            product,
            result: product >> self.restore(),
        }
    }

    /// The first iteration: Y is the guess, with `m + 2` fractional bits.
    fn first<N: Number>(&self, x: N, guess: N, residual: N) -> RootIteration<N> {
        let (s, m) = (self.s_out, self.m);
        let square = within(2 * m + 5, guess * guess);
        let residual_product = within(2 * m + s + 6, square * residual);
        let residual = within(s + 2, residual_product >> (2 * m + 4));
        let factor = within(s + 2, N::from(3 << s) - residual);
        let x_bits = if self.inverse { m + 2 } else { s };
        let product = x * factor;
        let x = product >> (x_bits + 1);
        RootIteration { square, square_kept: square, residual_product, residual, factor, product, x }
    }

    /// A later iteration: Y is the last factor, with `s_out + 1` fractional bits.
    fn next<N: Number>(&self, last: &RootIteration<N>) -> RootIteration<N> {
        let s = self.s_out;
        let square = within(2 * s + 3, last.factor * last.factor);
        let square_kept = within(s + 1, square >> (s + 2));
        let residual_product = within(2 * s + 2, square_kept * last.residual);
        let residual = within(s + 2, residual_product >> s);
        let factor = within(s + 2, N::from(3 << s) - residual);
        let product = last.x * factor;
        let x = product >> (s + 1);
        RootIteration { square, square_kept, residual_product, residual, factor, product, x }
    }
}

// ------------------------------------------------------------------------------------ functions of one call

/// [`Exp`] of one input. Panics where [`Exp::new`] refuses, as do the functions below.
pub fn exp(x: i128, width: u32, s_in: i32, s_out: u32) -> i128 {
    one_call(Exp::new(width, s_in, s_out)).eval(x)
}

/// `1 / den` for `den` in `[1, 2)`: [`Div`] of the integer 1.
pub fn reciprocal(den: i128, s_den: u32, s_out: u32) -> i128 {
    div(1, 0, den, s_den, s_out)
}

/// [`Div`] of one pair, `den` in `[1, 2)`.
pub fn div(num: i128, s_num: u32, den: i128, s_den: u32, s_out: u32) -> i128 {
    one_call(Div::new(s_num, s_den, s_out)).eval(num, den)
}

/// [`DivGeneral`] of one pair.
pub fn div_general(num: i128, s_num: u32, den: i128, width_den: u32, s_den: u32, s_out: u32) -> i128 {
    one_call(DivGeneral::new(s_num, width_den, s_den, s_out)).eval(num, den)
}

/// [`Sigmoid`] of one input.
pub fn sigmoid(x: i128, width: u32, s_in: i32, s_out: u32) -> i128 {
    one_call(Sigmoid::new(width, s_in, s_out)).eval(x)
}

/// [`Tanh`] of one input.
pub fn tanh(x: i128, width: u32, s_in: i32, s_out: u32) -> i128 {
    one_call(Tanh::new(width, s_in, s_out)).eval(x)
}

/// [`Root::sqrt`] of one input.
pub fn sqrt(x: i128, width: u32, s_in: i32, s_out: u32) -> i128 {
    one_call(Root::sqrt(width, s_in, s_out)).eval(x)
}

/// [`Root::rsqrt`] of one input.
pub fn rsqrt(x: i128, width: u32, s_in: i32, s_out: u32) -> i128 {
    one_call(Root::rsqrt(width, s_in, s_out)).eval(x)
}

fn one_call<F>(function: Result<F, Unsupported>) -> F {
    function.unwrap_or_else(|unsupported| panic!("{unsupported}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::{steps::Record, wrap};

    /// All signed numbers of up to 16 bits; of more, all bit patterns of a walk through them.
    fn inputs(width: u32) -> Box<dyn Iterator<Item = i128>> {
        if width <= 16 {
            return Box::new((0..1 << width).map(move |x| wrap(x, width, true)));
        }
        let corners = (0..width).flat_map(|k| [(1 << k) - 1, 1 << k, -(1 << k)]);
        let walk = (0..20_000u64).map(|i| i128::from(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (i % 64)));
        Box::new(corners.chain(walk).map(move |x| wrap(x, width, true)))
    }

    /// Every intermediate of every input is in its range.
    fn check(what: &str, ranges: Vec<(String, Interval)>, steps: impl Iterator<Item = Vec<(String, i128)>>) {
        for steps in steps {
            assert_eq!(steps.len(), ranges.len());
            for ((name, value), (_, range)) in steps.iter().zip(&ranges) {
                assert!(range.contains(*value), "{what}: {name} = {value} is not in {range:?}");
            }
        }
    }

    #[test]
    fn intermediates_stay_in_their_ranges() {
        for (width, s_in, s_out) in [(16, 12, 12), (16, 8, 14), (16, 13, 7), (9, 4, 2), (32, 20, 22), (37, 12, 12)] {
            let what = |name| format!("{name} {width} {s_in} {s_out}");
            let exp = Exp::new(width, s_in, s_out).unwrap();
            check(&what("exp"), exp.ranges().list(), inputs(width).map(|x| exp.steps(x).list()));
            let sigmoid = Sigmoid::new(width, s_in, s_out).unwrap();
            check(&what("sigmoid"), sigmoid.ranges().list(), inputs(width).map(|x| sigmoid.steps(x).list()));
            let tanh = Tanh::new(width, s_in, s_out).unwrap();
            check(&what("tanh"), tanh.ranges().list(), inputs(width).map(|x| tanh.steps(x).list()));
            for root in [Root::sqrt(width, s_in, s_out), Root::rsqrt(width, s_in, s_out)].map(Result::unwrap) {
                let name = if root.inverse { "rsqrt" } else { "sqrt" };
                check(&what(name), root.ranges().list(), inputs(width).map(|x| root.steps(x).list()));
            }
            let div = DivGeneral::new(s_out, width, s_in as u32, s_out.min(width - 1)).unwrap();
            let num = Interval::signed(width);
            let steps = inputs(width).zip(inputs(width).skip(77)).map(|(num, den)| div.steps(num, den).list());
            check(&what("div"), div.ranges(num).list(), steps);
        }
    }

    /// The assertions in the steps hold on the ranges, that is for all inputs.
    #[test]
    fn widths_are_proven() {
        for s_out in 1..=36 {
            for s_den in s_out..=63 {
                Div::new(0, s_den, s_out).unwrap().ranges(Interval::from(1));
            }
            Sigmoid::new(16, 12, s_out).unwrap().ranges();
            Tanh::new(16, 12, s_out).unwrap().ranges();
        }
        for s_out in 1..=62 {
            Exp::new(64, 31, s_out).unwrap().ranges();
        }
        for width in [3, 4, 8, 15, 16, 17, 32, 33, 63, 64] {
            for s_in in [0, width / 2, width - 1] {
                for s_out in 1..=32.min(width - 2) {
                    for root in [Root::sqrt(width, s_in as i32, s_out), Root::rsqrt(width, s_in as i32, s_out)] {
                        let root = root.unwrap();
                        let ranges = root.ranges();
                        // One bit more than the reference: see `exponent`.
                        assert!(ranges.product.fits(s_out + 2 + width / 2) && ranges.result.lo >= 0);
                    }
                }
            }
        }
    }

    #[test]
    fn edges_are_defined() {
        let one = 1 << 12;
        assert_eq!([exp(0, 16, 12, 12), sigmoid(0, 16, 12, 12), tanh(0, 16, 12, 12)], [one, one / 2 - 1, 0]);
        // A positive input is what its negation in the ring makes of it.
        assert_eq!(exp(1, 16, 12, 12), exp(1 - (1 << 16), 16, 12, 12));
        assert_eq!(exp(1 << 15, 16, 12, 12), exp(-1 << 15, 16, 12, 12));
        // Only the low bits of a root's input count, and 0 is 1.
        assert_eq!([rsqrt(0, 16, 12, 11), rsqrt(-1 << 15, 16, 12, 11)], [rsqrt(1, 16, 12, 11); 2]);
        assert_eq!([sqrt(0, 16, 12, 11), sqrt(-1, 16, 12, 11)], [sqrt(1, 16, 12, 11), sqrt(0x7FFF, 16, 12, 11)]);
        // Without an input scale, tanh's exponential has scale -1.
        assert_eq!([tanh(1, 8, 0, 8), tanh(-1, 8, 0, 8), tanh(-128, 8, 0, 8)], [195, -195, -255]);
        assert_eq!(div_general(3, 0, 0, 8, 0, 7), div_general(3, 0, 1, 8, 0, 7));
        assert!(Exp::new(65, 0, 8).is_err() && Div::new(0, 12, 13).is_err() && Root::sqrt(16, 12, 15).is_err());
    }

    #[test]
    fn parameters_are_those_of_the_reference() {
        assert_eq!(
            [4, 12, 14, 18, 19, 24, 36].map(reciprocal_params),
            [(1, 0), (5, 0), (6, 0), (8, 0), (4, 1), (5, 1), (8, 1)]
        );
        assert_eq!([4, 11, 14, 15, 24, 32].map(rsqrt_params), [(2, 1), (6, 1), (7, 1), (4, 2), (6, 2), (8, 2)]);
        let bits = |width| Exp::new(width, 12, 12).unwrap().digits.iter().map(|digit| digit.bits).collect::<Vec<_>>();
        assert_eq!([bits(7), bits(16), bits(37)], [vec![7], vec![8, 8], vec![8, 8, 8, 8, 5]]);
    }

    /// With an iteration, and with any denominator, a quotient is near the exact one.
    #[test]
    fn quotients_are_near() {
        for s_out in [12, 18, 19, 24, 30] {
            let div = Div::new(s_out, 30, s_out).unwrap();
            for den in inputs(31).map(|den| den.abs() | 1 << 30).filter(|den| den >> 31 == 0) {
                for num in [1i128, -1, 1 << s_out, -(1 << s_out), 3 << (s_out - 2)] {
                    let error = div.eval(num, den) - ((num << 30) / den);
                    assert!(error.abs() <= 3, "{num} / {den} at {s_out}: {error}");
                }
            }
        }
        let div = DivGeneral::new(12, 24, 12, 12).unwrap();
        for den in 1i128..1 << 14 {
            // The error grows with the quotient where the denominator is below 1.
            let (value, exact) = (div.eval(1 << 12, den), (1 << 24) / den);
            assert!((value - exact).abs() <= 2 + (exact >> 10), "1 / {den}: {value} {exact}");
        }
    }

    #[test]
    fn roots_are_near() {
        for s_out in [4, 11, 14, 15, 20, 24] {
            for s_in in [11u32, 12] {
                let root = |new: fn(u32, i32, u32) -> Result<Root, Unsupported>| new(32, s_in as i32, s_out).unwrap();
                let (sqrt, rsqrt) = (root(Root::sqrt), root(Root::rsqrt));
                for x in inputs(32).filter(|&x| x > 0) {
                    let near = |value: i128, exact: i128| (value - exact).abs() <= 4 + (exact >> (s_out - 2));
                    let (value, exact) = (sqrt.eval(x), (x << (2 * s_out + 24 - s_in)).isqrt() >> 12);
                    assert!(near(value, exact), "sqrt {x} at {s_in} {s_out}: {value}, {exact}");
                    let exact = ((1 << (2 * s_out + s_in + 20)) / x).isqrt() >> 10;
                    let value = rsqrt.eval(x);
                    assert!(near(value, exact), "rsqrt {x} at {s_in} {s_out}: {value}, {exact}");
                }
            }
        }
    }
}
