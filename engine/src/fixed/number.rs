//! Integers and intervals under one set of operators.

use std::ops::{Add, Mul, Shl, Shr, Sub};

/// `x` modulo `2^width`, read as a signed (two's complement) or unsigned integer. `width` is 1..=64.
pub fn wrap(x: i128, width: u32, signed: bool) -> i128 {
    let low = x & ((1 << width) - 1);
    if signed && low >> (width - 1) != 0 { low - (1 << width) } else { low }
}

/// `floor(x / 2^shift)`: the arithmetic shift. Rounding inside all math functions, and of rescaling by default.
pub fn floor_shift(x: i128, shift: u32) -> i128 {
    x >> shift
}

/// `x / 2^shift` rounded toward zero, as division in C: the other mode of rescaling.
pub fn toward_zero_shift(x: i128, shift: u32) -> i128 {
    x / (1 << shift)
}

/// Position of the most significant non-zero bit of `x > 0`: `floor(log2 x)`.
pub fn msnzb(x: i128) -> u32 {
    debug_assert!(x > 0);
    x.ilog2()
}

/// What a formula of the math functions can be evaluated on: `i128` gives the value, [`Interval`] a range that holds
/// every value. `>>` is [`floor_shift`].
pub trait Number:
    Copy
    + From<i128>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// Smallest value.
    fn lo(self) -> i128;
    /// Largest value.
    fn hi(self) -> i128;
    /// Whether it is an unsigned integer of that many bits.
    fn fits(self, bits: u32) -> bool {
        self.lo() >= 0 && self.hi() >> bits == 0
    }
}

impl Number for i128 {
    fn lo(self) -> i128 {
        self
    }
    fn hi(self) -> i128 {
        self
    }
}

/// All integers from `lo` to `hi`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Smallest.
    pub lo: i128,
    /// Largest.
    pub hi: i128,
}

impl Interval {
    /// From `lo` to `hi`.
    pub fn new(lo: i128, hi: i128) -> Self {
        debug_assert!(lo <= hi);
        Self { lo, hi }
    }

    /// The unsigned integers of `bits` bits.
    pub fn unsigned(bits: u32) -> Self {
        Self { lo: 0, hi: (1 << bits) - 1 }
    }

    /// The signed integers of `bits` bits.
    pub fn signed(bits: u32) -> Self {
        Self { lo: -(1 << (bits - 1)), hi: (1 << (bits - 1)) - 1 }
    }

    /// The smallest interval with both in it.
    pub fn hull(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// Whether `x` is in it.
    pub fn contains(self, x: i128) -> bool {
        self.lo <= x && x <= self.hi
    }
}

impl Number for Interval {
    fn lo(self) -> i128 {
        self.lo
    }
    fn hi(self) -> i128 {
        self.hi
    }
}

impl From<i128> for Interval {
    fn from(x: i128) -> Self {
        Self { lo: x, hi: x }
    }
}

impl Add for Interval {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { lo: self.lo + other.lo, hi: self.hi + other.hi }
    }
}

impl Sub for Interval {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { lo: self.lo - other.hi, hi: self.hi - other.lo }
    }
}

impl Mul for Interval {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let corners = [self.lo * other.lo, self.lo * other.hi, self.hi * other.lo, self.hi * other.hi];
        let [first, rest @ ..] = corners.map(Self::from);
        rest.into_iter().fold(first, Self::hull)
    }
}

impl Shl<u32> for Interval {
    type Output = Self;
    fn shl(self, shift: u32) -> Self {
        Self { lo: self.lo << shift, hi: self.hi << shift }
    }
}

impl Shr<u32> for Interval {
    type Output = Self;
    fn shr(self, shift: u32) -> Self {
        Self { lo: self.lo >> shift, hi: self.hi >> shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_and_rounds() {
        assert_eq!([wrap(0x1_8000, 16, true), wrap(0x1_8000, 16, false)], [-0x8000, 0x8000]);
        assert_eq!([wrap(-1, 64, true), wrap(-1, 64, false)], [-1, (1 << 64) - 1]);
        assert_eq!([wrap(1, 1, true), wrap(-1, 1, false)], [-1, 1]);
        assert_eq!([floor_shift(-5, 1), toward_zero_shift(-5, 1)], [-3, -2]);
        assert_eq!([floor_shift(5, 1), toward_zero_shift(5, 1)], [2, 2]);
        assert_eq!([msnzb(1), msnzb(2), msnzb(3), msnzb(1 << 100)], [0, 1, 1, 100]);
    }

    /// Every operator on intervals holds every result of the operator on their members, and both ends are reached.
    #[test]
    fn intervals_are_tight() {
        let all = || (-5..=5).flat_map(|lo| (lo..=5).map(move |hi| Interval::new(lo, hi)));
        let members = |i: Interval| i.lo..=i.hi;
        for a in all() {
            for b in all() {
                let pairs = || members(a).flat_map(|x| members(b).map(move |y| (x, y)));
                let range = |f: &dyn Fn(i128, i128) -> i128| {
                    let of = || pairs().map(|(x, y)| f(x, y));
                    Interval::new(of().min().unwrap(), of().max().unwrap())
                };
                assert_eq!(a + b, range(&|x, y| x + y));
                assert_eq!(a - b, range(&|x, y| x - y));
                assert_eq!(a * b, range(&|x, y| x * y));
            }
            let ends = |f: &dyn Fn(i128) -> i128| Interval::new(f(a.lo), f(a.hi));
            assert_eq!([a << 2, a >> 1], [ends(&|x| x * 4), ends(&|x| x.div_euclid(2))]);
        }
    }
}
