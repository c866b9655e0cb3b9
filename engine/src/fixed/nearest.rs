//! Look-up tables of any function by name, every entry rounded to nearest: error at most half a unit in the last place.
//!
//! Both parties must hold the same tables, so that nothing here depends on the floating point of a platform. Algebraic functions are
//! computed exactly. Of the others, every entry is enclosed between two integers in units of `2^-fraction`, which is far
//! finer than the result's unit; both must round to the same integer. That the enclosure hits a tie is as unlikely as `2^-40` at usual
//! scales, and refused. Ties, which only algebraic functions and a few rational points have, go up.
//!
//! The transcendental functions come from
//!
//! * `e^-t` as a product of a factor for each bit of `t`, as the tables of [`super::tables`];
//! * `log n` from `log(n + 1) = log n + 2 artanh(1 / (2n + 1))`, `log(1 + e)` as `2 artanh(e / (2 + e))`;
//! * `erf` and the normal distribution by the Taylor series of `f'' = -m x f'` from each point of a grid to the next;
//! * `sin`, `cos` from the addition theorem, a factor for each bit.

use super::tables::{ONE, exp_minus_power, multiply};
use super::{Unsupported, require, wrap};

/// Format of a table's operand or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Width.
    pub bits: u32,
    /// `real = integer / 2^scale`.
    pub scale: i32,
    /// Whether the integers are in two's complement.
    pub signed: bool,
}

impl Format {
    /// Smallest and largest integer.
    fn range(&self) -> (i128, i128) {
        if self.signed { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) }
    }
}

/// Names of all functions: `log` is the natural logarithm, `gelu` `x Phi(x)` with the normal distribution `Phi`, `silu`
/// `x sigmoid(x)`, `softplus` `log(1 + e^x)`, `elu` `e^x - 1` for `x < 0` and `x` elsewhere.
pub const NAMES: &[&str] = &[
    "sigmoid",
    "tanh",
    "exp",
    "log",
    "gelu",
    "silu",
    "softplus",
    "elu",
    "erf",
    "sin",
    "cos",
    "reciprocal",
    "rsqrt",
    "sqrt",
    "square",
];

/// Most bits of an operand.
pub const MAX_BITS: u32 = 16;

/// The table of `function` from format `x` to format `y`: entry `i` is the result for the operand whose low bits are `i`. Results
/// beyond the width of `y` saturate; an operand outside of the function's domain counts as the nearest one of it (0 as 1 unit for
/// `log`, `reciprocal` and `rsqrt`).
///
/// # Errors
/// No function of that name; operands of more than [`MAX_BITS`] or results of more than 32 bits; scales outside of -16..=60; a result
/// that is too near a tie to be decided.
pub fn table(function: &str, x: Format, y: Format) -> Result<Vec<i64>, Unsupported> {
    const NAME: &str = "table";
    require(NAME, (1..=MAX_BITS).contains(&x.bits), || format!("operands of {} bits (1..={MAX_BITS})", x.bits))?;
    require(NAME, (1..=32).contains(&y.bits), || format!("results of {} bits (1..=32)", y.bits))?;
    for scale in [x.scale, y.scale] {
        require(NAME, (-16..=60).contains(&scale), || format!("scale {scale} (-16..=60)"))?;
    }
    let operands: Vec<i128> = (0..1 << x.bits).map(|i| wrap(i, x.bits, x.signed)).collect();
    let entries = if let Some(algebraic) = algebraic(function, x.scale, y.scale) {
        Some(operands.into_iter().map(algebraic).collect::<Vec<i128>>())
    } else {
        let grid = Grid::new(x, y);
        let Some(enclose) = grid.function(function) else {
            return Err(Unsupported { function: NAME, what: format!("'{function}'; there are {}", NAMES.join(", ")) });
        };
        operands.into_iter().map(|n| grid.round(enclose(n))).collect()
    };
    let undecided =
        || Unsupported { function: NAME, what: format!("'{function}' from scale {} to {}", x.scale, y.scale) };
    let (lo, hi) = y.range();
    Ok(entries.ok_or_else(undecided)?.into_iter().map(|value| value.clamp(lo, hi) as i64).collect())
}

// ------------------------------------------------------------------------------------------ exact functions

/// More than any result of 32 bits.
const SATURATED: i128 = 1 << 40;

/// `floor(a / b + 1/2)` for a positive `b`.
fn rounded(a: i128, b: i128) -> i128 {
    (2 * a + b).div_euclid(2 * b)
}

/// `floor(sqrt(n 2^e / d) + 1/2)` for positive `n` and `d` of at most 17 bits.
fn rounded_root(n: i128, e: i32, d: i128) -> i128 {
    // floor(r + 1/2) = floor((floor(2r) + 1) / 2), and 2r is the root of four times the number.
    let four_times = match e + 2 {
        e if e > 104 => return SATURATED,
        e if e >= 0 => (n << e) / d,
        e => n.checked_shr(e.unsigned_abs()).unwrap_or(0) / d,
    };
    (four_times.unsigned_abs().isqrt() as i128 + 1) >> 1
}

/// A function of the operand's integer that is computed exactly, from scale `s` to scale `t`.
fn algebraic(name: &str, s: i32, t: i32) -> Option<Box<dyn Fn(i128) -> i128>> {
    Some(match name {
        "square" => Box::new(move |n: i128| match t - 2 * s {
            up if up > 64 => (n * n).min(1) * SATURATED,
            up if up >= 0 => (n * n) << up,
            down => rounded(n * n, 1 << down.unsigned_abs().min(64)),
        }),
        "reciprocal" => Box::new(move |n: i128| {
            let n = if n == 0 { 1 } else { n };
            let (one, unit) = (1 << (s + t).max(0), 1 << (-s - t).max(0));
            rounded(n.signum() * one, n.abs() * unit)
        }),
        "sqrt" => Box::new(move |n: i128| if n <= 0 { 0 } else { rounded_root(n, 2 * t - s, 1) }),
        "rsqrt" => Box::new(move |n: i128| rounded_root(1, 2 * t + s, n.max(1))),
        _ => return None,
    })
}

// --------------------------------------------------------------------------------- transcendental functions

/// Bound on the errors of exponentials and of what is made from them by a few operations, in units of `2^-127`: see
/// [`super::tables`] for the factors, of which there are at most 40 here.
const ERROR: u128 = 1 << 14;

/// A number in `[0, 1]` with 127 fractional bits, and a bound on its error.
#[derive(Clone, Copy)]
struct Fraction {
    value: u128,
    error: u128,
}

/// Integers between which a result lies, both included, in units of `2^-fraction`.
type Enclosure = (i128, i128);

/// The function of the operand's integer.
type Enclose<'g> = Box<dyn Fn(i128) -> Enclosure + 'g>;

/// `floor(a 2^127 / b)` for `a <= b <= 2^127`.
fn divide(a: u128, b: u128) -> u128 {
    if a == b { ONE } else { divided(a, b, 127) }
}

/// `floor(a 2^bits / b)` for `a < b <= 2^127`.
fn divided(a: u128, b: u128, bits: u32) -> u128 {
    let (mut quotient, mut rest) = (0, a);
    for _ in 0..bits {
        rest <<= 1;
        quotient <<= 1;
        if rest >= b {
            rest -= b;
            quotient |= 1;
        }
    }
    quotient
}

/// `artanh(z)` for `z <= 1/3`, given how to multiply by `z^2`.
fn artanh(z: u128, by_square: impl Fn(u128) -> u128) -> u128 {
    let (mut sum, mut power) = (0, z);
    for k in (1..).step_by(2) {
        if power == 0 {
            break;
        }
        sum += power / k;
        power = by_square(power);
    }
    sum
}

/// Operands and units.
struct Grid {
    /// Scale of operands.
    s: i32,
    /// Scale of results.
    t: i32,
    /// Bits of operands.
    bits: u32,
    /// Fractional bits of enclosures.
    fraction: i32,
}

impl Grid {
    fn new(x: Format, y: Format) -> Self {
        // Operands of 17 bits are exact in these units, and stay below 2^126; so does what saturates a result.
        let fraction = (109 + x.scale).min(80 + y.scale).min(100);
        Self { s: x.scale, t: y.scale, bits: x.bits, fraction }
    }

    /// Bits by which enclosures are finer than results.
    fn guard_bits(&self) -> i32 {
        self.fraction - self.t
    }

    /// The nearest integer, if it is the same all over the enclosure.
    fn round(&self, (lo, hi): Enclosure) -> Option<i128> {
        let guard = self.guard_bits();
        let round = |v: i128| ((v >> (guard - 1)) + 1) >> 1;
        (round(lo) == round(hi)).then(|| round(lo))
    }

    /// `n 2^-s`.
    fn exact(&self, n: i128) -> i128 {
        n << (self.fraction - self.s)
    }

    /// The whole number `n`.
    fn whole(&self, n: i128) -> i128 {
        n << self.fraction
    }

    /// A number in `[0, 1]`.
    fn enclosed(&self, x: Fraction) -> Enclosure {
        let down = 127 - self.fraction;
        ((x.value.saturating_sub(x.error) >> down) as i128, ((x.value + x.error) >> down) as i128 + 1)
    }

    /// `n 2^-s` times a number in `[0, 1]`, for `n >= 0`.
    fn times(&self, n: i128, x: Fraction) -> Enclosure {
        // 17 bits of n and 110 of the fraction.
        let down = 110 + self.s - self.fraction;
        let [lo, hi] = [x.value.saturating_sub(x.error) >> 17, ((x.value + x.error) >> 17) + 1].map(|x| n * x as i128);
        (lo >> down, (hi >> down) + 1)
    }

    /// `e^-t` for each bit of the operand, `2^shift` times larger.
    fn powers(&self, shift: i32) -> Vec<u128> {
        (0..=self.bits as i32).map(|i| exp_minus_power(i - self.s + shift)).collect()
    }

    fn function(&self, name: &str) -> Option<Enclose<'_>> {
        let fraction = |value| Fraction { value, error: ERROR };
        Some(match name {
            "sigmoid" => {
                let powers = self.powers(0);
                Box::new(move |n| {
                    if n == 0 {
                        return exactly(self.whole(1) >> 1);
                    }
                    let e = exp_minus(n.abs(), &powers);
                    let numerator = if n < 0 { e } else { ONE };
                    let value = self.enclosed(fraction(divide(numerator / 2, (ONE + e) / 2)));
                    within(value, 0, self.whole(1))
                })
            }
            "tanh" => {
                let powers = self.powers(1);
                self.odd(move |n| {
                    let e = exp_minus(n, &powers);
                    let value = self.enclosed(fraction(divide((ONE - e) / 2, (ONE + e) / 2)));
                    within(value, 0, self.whole(1))
                })
            }
            "exp" => {
                let powers = self.powers(0);
                Box::new(move |n| match n {
                    0 => exactly(self.whole(1)),
                    n if n < 0 => within(self.enclosed(fraction(exp_minus(-n, &powers))), 0, self.whole(1)),
                    n => self.inverse(exp_minus(n, &powers)),
                })
            }
            "elu" => {
                let powers = self.powers(0);
                Box::new(move |n| match n {
                    n if n >= 0 => exactly(self.exact(n)),
                    n => within(minus(0, self.enclosed(fraction(ONE - exp_minus(-n, &powers)))), -self.whole(1), 0),
                })
            }
            "silu" => {
                let powers = self.powers(0);
                self.below_relu(move |n| {
                    let e = exp_minus(n, &powers);
                    fraction(divide(e / 2, (ONE + e) / 2))
                })
            }
            "gelu" => {
                let tail = self.tail(Density::Normal);
                self.below_relu(tail)
            }
            "erf" => {
                let tail = self.tail(Density::Error);
                self.odd(move |n| within(minus(self.whole(1), self.enclosed(tail(n))), 0, self.whole(1)))
            }
            "softplus" => {
                let powers = self.powers(0);
                Box::new(move |n| {
                    let e = exp_minus(n.abs(), &powers);
                    let z = divide(e / 4, ONE / 2 + e / 4);
                    let square = multiply(z, z);
                    let log = 2 * artanh(z, |power| multiply(power, square));
                    let (lo, hi) = self.enclosed(fraction(log));
                    let relu = self.exact(n.max(0));
                    within((relu + lo, relu + hi), relu, i128::MAX)
                })
            }
            "log" => {
                let logs = logarithms((1 << self.bits) + 1);
                Box::new(move |n| {
                    let n = n.max(1);
                    if n == 1 && self.s == 0 {
                        return exactly(0);
                    }
                    // In units of 2^-120; 2^24 bounds the error of all sums, `s` times log 2 included.
                    let log = logs[n as usize] as i128 - i128::from(self.s) * logs[2] as i128;
                    let down = 120 - self.fraction;
                    ((log - (1 << 24)) >> down, ((log + (1 << 24)) >> down) + 1)
                })
            }
            "sin" | "cos" => {
                let turns = Turns::new(self.bits, self.s);
                let cosine = name == "cos";
                let component = move |n: i128| {
                    let (cos, sin) = turns.by(n);
                    let (value, down) = (if cosine { cos } else { sin }, 126 - self.fraction);
                    let bounds = ((value - turns.error) >> down, ((value + turns.error) >> down) + 1);
                    within(bounds, -self.whole(1), self.whole(1))
                };
                if cosine {
                    Box::new(move |n| if n == 0 { exactly(self.whole(1)) } else { component(n.abs()) })
                } else {
                    self.odd(component)
                }
            }
            _ => return None,
        })
    }

    /// A function with `f(-x) = -f(x)`, given for `x > 0`.
    fn odd<'g>(&'g self, positive: impl Fn(i128) -> Enclosure + 'g) -> Enclose<'g> {
        Box::new(move |n| match n {
            0 => exactly(0),
            n if n < 0 => minus(0, positive(-n)),
            n => positive(n),
        })
    }

    /// `max(x, 0) - |x| c(|x|)` for `0 < c < 1`.
    fn below_relu<'g>(&'g self, c: impl Fn(i128) -> Fraction + 'g) -> Enclose<'g> {
        Box::new(move |n| {
            if n == 0 {
                return exactly(0);
            }
            let relu = self.exact(n.max(0));
            within(minus(relu, self.times(n.abs(), c(n.abs()))), i128::MIN, relu)
        })
    }

    /// `1 / e` for `0 <= e < 1`, as exact as `e` is.
    fn inverse(&self, e: u128) -> Enclosure {
        let saturated = SATURATED << self.guard_bits();
        if e >> (self.fraction + 2) == 0 {
            return exactly(saturated);
        }
        let quotient = divided_whole(ONE, e, self.fraction as u32);
        let error = quotient / (e / ERROR).max(1) + 2;
        ((quotient - error.min(quotient)) as i128, (quotient + error) as i128)
    }

    /// `1 - F(x)` of a distribution of the whole line's half: for `x >= 0` from 1/2 (normal) or 1 (erf) to 0.
    fn tail(&self, density: Density) -> impl Fn(i128) -> Fraction + use<> {
        // Steps of at most 1/32, up to 16, beyond which nothing is left in 127 bits.
        let fine = self.s.max(5);
        let (stride, last) = (1i128 << (fine - self.s), 16i128 << fine);
        let most = ((1i128 << self.bits) * stride).min(last) as usize;
        let sums = density.sums(most + 1, fine as u32);
        let whole = density.whole();
        move |n| {
            let at = n * stride;
            if at >= last {
                return Fraction { value: 0, error: 1 };
            }
            Fraction { value: whole.saturating_sub((sums[at as usize] as u128) << 11), error: 1 << 36 }
        }
    }
}

/// `e^-n` in the units of the operand, given the powers for its bits.
fn exp_minus(n: i128, powers: &[u128]) -> u128 {
    powers.iter().enumerate().filter(|(i, _)| n >> i & 1 == 1).fold(ONE, |e, (_, &power)| multiply(e, power))
}

/// `floor(a 2^bits / b)` for `b < a`, where that fits 127 bits.
fn divided_whole(a: u128, b: u128, bits: u32) -> u128 {
    let (whole, rest) = (a / b, a % b);
    (whole << bits) + divided(rest, b, bits)
}

/// A result that is known.
fn exactly(value: i128) -> Enclosure {
    (value, value)
}

/// `a - x`.
fn minus(a: i128, (lo, hi): Enclosure) -> Enclosure {
    (a - hi, a - lo)
}

/// What is known of a result that lies strictly between `lo` and `hi`. No tie lies between neighbouring units.
fn within(value: Enclosure, lo: i128, hi: i128) -> Enclosure {
    (value.0.max(lo.saturating_add(1)), value.1.min(hi.saturating_sub(1)))
}

/// Logarithms of `1..count`, with 120 fractional bits; that of 0 is not used. Each step adds at most 100 units of error.
fn logarithms(count: usize) -> Vec<u128> {
    let mut logs = vec![0, 0];
    for n in 1..count as u128 {
        let odd = 2 * n + 1;
        let step = artanh((1 << 120) / odd, |power| power / (odd * odd));
        logs.push(logs[n as usize] + 2 * step);
    }
    logs
}

/// A density `f' = f'(0) e^(-m x^2 / 2)`.
#[derive(Clone, Copy)]
enum Density {
    /// Of erf: `m = 2`, `f'(0) = 2 / sqrt(pi)`.
    Error,
    /// Of the normal distribution: `m = 1`, `f'(0) = 1 / sqrt(2 pi)`.
    Normal,
}

impl Density {
    /// Half of the area: what sums approach, with 127 fractional bits.
    fn whole(self) -> u128 {
        match self {
            Density::Error => ONE,
            Density::Normal => ONE / 2,
        }
    }

    /// Integrals from 0 to `n 2^-s` for `n` below `count`, with 116 fractional bits. Each step adds at most 2^7 units of error.
    fn sums(self, count: usize, s: u32) -> Vec<i128> {
        // The Taylor series around x = n h with a_k = f^(k)(x) h^k / k!, from f'' = -m x f':
        // a_(k+2) = -m (x h (k+1) a_(k+1) + h^2 k a_k) / ((k+1) (k+2)).
        // f'(0) / 2 with 127 fractional bits.
        let (m, half) = match self {
            Density::Error => (2, 0x4837_5d41_0a6d_b446_b8ea_453f_b5ff_61a2),
            Density::Normal => (1, 0x3310_8a67_a86c_a11a_1f96_78a0_1757_1c5f / 2),
        };
        let base = m as i32 - 2 - 2 * s as i32;
        let bits = 2 * (usize::BITS - count.leading_zeros()) as i32;
        let powers: Vec<u128> = (0..bits).map(|i| exp_minus_power(base + i)).collect();
        let mut sums = Vec::with_capacity(count);
        let mut sum = 0i128;
        for n in 0..count as i128 {
            sums.push(sum);
            let slope = (multiply(half, exp_minus(n * n, &powers)) >> 10) as i128;
            let cut = |v: i128| if v < 0 { -(-v >> (2 * s)) } else { v >> (2 * s) };
            let mut now = slope >> s;
            let mut next = -m * cut(n * now) / 2;
            for k in 1.. {
                if now == 0 && next == 0 {
                    break;
                }
                sum += now;
                let after = cut(n * (k + 1) * next) + cut(k * now);
                (now, next) = (next, -m * after / ((k + 1) * (k + 2)));
            }
        }
        sums
    }
}

/// Rotations by the powers of 2.
struct Turns {
    /// Cosine and sine of `2^i` units of the operand, with 126 fractional bits.
    bits: Vec<(i128, i128)>,
    /// Bound on the error of a product of all.
    error: i128,
}

impl Turns {
    fn new(bits: u32, s: i32) -> Self {
        let turns: Vec<_> = (0..=bits as i32).map(|i| Self::power(i - s)).collect();
        // A doubling doubles the error, from 2^6 units of the series at 2^-4; those of a product add up.
        let doublings = (bits as i32 - s + 4).max(0) as u32;
        Self { bits: turns, error: 1 << (doublings + 9) }
    }

    /// Cosine and sine of `2^power`.
    fn power(power: i32) -> (i128, i128) {
        let start = power.min(-4);
        let (mut cos, mut sin, mut term) = (0, 0, 1i128 << 126);
        for k in 0.. {
            match k % 4 {
                0 => cos += term,
                1 => sin += term,
                2 => cos -= term,
                _ => sin -= term,
            }
            term = (term >> start.unsigned_abs()) / (k + 1);
            if term == 0 {
                break;
            }
        }
        (start..power).fold((cos, sin), |turn, _| Self::turned(turn, turn))
    }

    /// The sum of two angles.
    fn turned(a: (i128, i128), b: (i128, i128)) -> (i128, i128) {
        let product = |a: i128, b: i128| {
            let magnitude = multiply(a.unsigned_abs() << 1, b.unsigned_abs() << 1) >> 1;
            a.signum() * b.signum() * magnitude as i128
        };
        (product(a.0, b.0) - product(a.1, b.1), product(a.0, b.1) + product(a.1, b.0))
    }

    /// Cosine and sine of `n` units.
    fn by(&self, n: i128) -> (i128, i128) {
        let bits = self.bits.iter().enumerate().filter(|(i, _)| n >> i & 1 == 1);
        bits.fold((1 << 126, 0), |turn, (_, &bit)| Self::turned(turn, bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bits: u32, scale: i32) -> Format {
        Format { bits, scale, signed: true }
    }

    /// The function in floating point; erf by its series, which is good enough up to 3, and as 1 beyond 6.
    fn float(name: &str, x: f64, unit: f64) -> f64 {
        let erf = |x: f64| {
            let (mut sum, mut term) = (0.0, x.abs());
            for k in 0..400 {
                sum += term;
                term *= 2.0 * x * x / f64::from(2 * k + 3);
            }
            let tail = std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
            if x.abs() > 6.0 { x.signum() } else { x.signum() * sum * tail }
        };
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        match name {
            "sigmoid" => sigmoid,
            "tanh" => x.tanh(),
            "exp" => x.exp(),
            "log" => x.max(unit).ln(),
            "gelu" => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            "silu" => x * sigmoid,
            "softplus" => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            "elu" => {
                if x < 0.0 {
                    x.exp_m1()
                } else {
                    x
                }
            }
            "erf" => erf(x),
            "sin" => x.sin(),
            "cos" => x.cos(),
            "reciprocal" => 1.0 / if x == 0.0 { unit } else { x },
            "rsqrt" => 1.0 / x.max(unit).sqrt(),
            "sqrt" => x.max(0.0).sqrt(),
            "square" => x * x,
            _ => unreachable!(),
        }
    }

    /// Every entry is at most half a unit off.
    #[test]
    fn entries_are_nearest() {
        for name in NAMES {
            for (x, y) in [
                (format(16, 12), format(16, 12)),
                (format(12, 8), format(16, 14)),
                (format(10, 3), format(8, 2)),
                (format(8, -2), format(8, -1)),
                (format(8, 20), format(24, 22)),
                (Format { signed: false, ..format(9, 6) }, Format { signed: false, ..format(8, 5) }),
            ] {
                let (lo, hi) = y.range();
                let entries = table(name, x, y).unwrap();
                assert_eq!(entries.len(), 1 << x.bits);
                for (i, &entry) in entries.iter().enumerate() {
                    let n = wrap(i as i128, x.bits, x.signed) as f64;
                    let (operand, unit) = (n * 2f64.powi(-x.scale), 2f64.powi(-x.scale));
                    let exact = float(name, operand, unit) * 2f64.powi(y.scale);
                    let exact = exact.clamp(lo as f64, hi as f64);
                    assert!((entry as f64 - exact).abs() <= 0.5 + 1e-6, "{name} {x:?} {y:?} at {n}: {entry}, {exact}");
                }
            }
        }
    }

    /// Both parties must hold the same tables: a change here is a change of protocol.
    #[test]
    fn tables_are_pinned() {
        let mut hasher = blake3::Hasher::new();
        for name in NAMES {
            for (s, t) in [(8, 14), (11, 11), (15, 15), (0, 10), (30, 31)] {
                let entries = table(name, format(12, s), format(20, t)).unwrap();
                entries.iter().for_each(|entry| _ = hasher.update(&entry.to_le_bytes()));
            }
        }
        assert_eq!(
            hasher.finalize().to_hex().to_string(),
            "ccd0bc25bf1c0e6f3a96d901504082fd53aa3efbd1586c43add3260106bdea12"
        );
    }

    /// The whole area is 1: a test of constants, series and error bound at once.
    #[test]
    fn distributions_are_complete() {
        for (density, s) in [(Density::Error, 5), (Density::Error, 12), (Density::Normal, 6), (Density::Normal, 11)] {
            let sums = density.sums((16 << s) + 1, s);
            let missing = (density.whole() >> 11).abs_diff(sums[16 << s] as u128);
            assert!(missing < (16 << s) << 7, "{missing}");
        }
    }

    #[test]
    fn ties_and_edges() {
        // 1/2 is a tie at scale 0; so are operands of one bit more than the result, which some functions approach from one side.
        assert_eq!(table("sigmoid", format(8, 0), format(8, 0)).unwrap()[0], 1);
        let entry = |name: &str, n: usize| table(name, format(16, 1), format(16, 0)).unwrap()[n];
        assert_eq!(
            [entry("silu", 2001), entry("gelu", 2001), entry("softplus", 2001), entry("elu", 2001)],
            [1000, 1000, 1001, 1001]
        );
        assert_eq!(table("exp", format(16, 0), format(32, 0)).unwrap()[21], 1_318_815_734);
        assert_eq!(table("exp", format(16, 0), format(32, 0)).unwrap()[22], i64::from(i32::MAX));
        for name in NAMES {
            for (s, t) in [(-16, 60), (60, -16), (30, 30), (-16, -16), (15, 31)] {
                assert_eq!(table(name, format(16, s), format(32, t)).map(|t| t.len()), Ok(1 << 16), "{name} {s} {t}");
            }
        }
    }

    #[test]
    fn refusals() {
        // sigmoid(x) = 1/2 + x/4 - x^3/48 is a tie but for the last term, which is below 2^-180.
        assert!(table("sigmoid", format(16, 60), format(32, 60)).is_err());
        let refused = |name, x, y| table(name, x, y).unwrap_err().to_string();
        assert!(refused("tan", format(8, 4), format(8, 4)).contains("there are sigmoid, tanh"));
        assert!(refused("sin", format(17, 4), format(8, 4)).contains("17 bits"));
        assert!(refused("sin", format(8, 4), format(33, 4)).contains("33 bits"));
        assert!(refused("sin", format(8, 61), format(8, 4)).contains("scale 61"));
        assert!(refused("square", format(8, 4), format(8, -17)).contains("scale -17"));
    }
}
