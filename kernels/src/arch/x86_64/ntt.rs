//! The number-theoretic transform on doubles: a fused multiply-add gives the low half of a product of 50-bit numbers exactly.
//!
//! A residue is a double with an integer of less than `4p < 2^52` in absolute value. For `h = x w` rounded and `l = x w - h`,
//! both exact, and `q` the integer next to `x (w / p)`, `h - q p` is an integer below 2^52, hence exact, and so is the
//! result `(h - q p) + l`. The error of `x (w / p)` is at most `|x| 2^-53` (two roundings of a number below `|x| / 2`), so
//! that `|result| <= p / 2 + |x| p 2^-53 <= p (1/2 + |x| / 8p)`.
//!
//! Bounds, in multiples of `p`. Forwards an `x` that is tidied at every third level stays below 2.9. Backwards, from 1/2 on,
//! sums are tidied at every second level; products stay below 1, sums and differences below 4.

use super::super::portable::ntt::{self as generic, Arithmetic, Integer, Table};
use crate::{level::Level, ntt::Ntt};

/// See above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Float {
    p: f64,
    reciprocal: f64,
}

/// `1.5 * 2^52`: adding it rounds what is below 2^51 to an integer.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// `2^52`: the double with these bits and those of an integer below 2^52 is the sum of both.
const UNSIGNED: f64 = 4_503_599_627_370_496.0;

impl Float {
    #[inline(always)]
    fn round(x: f64) -> f64 {
        (x + ROUND) - ROUND
    }
}

impl Arithmetic for Float {
    type E = f64;
    const FORWARD: usize = 3;
    const INVERSE: usize = 2;
    const TERMS: usize = 3;

    #[inline(always)]
    fn load(self, x: u64) -> f64 {
        f64::from_bits(x | UNSIGNED.to_bits()) - UNSIGNED
    }

    #[inline(always)]
    fn load_signed(self, x: i64) -> f64 {
        f64::from_bits(ROUND.to_bits().wrapping_add(x as u64)) - ROUND
    }

    #[inline(always)]
    fn store(self, x: f64) -> u64 {
        let x = self.tidy(x);
        let x = x + if x < 0.0 { self.p } else { 0.0 };
        (x + UNSIGNED).to_bits() ^ UNSIGNED.to_bits()
    }

    #[inline(always)]
    fn tidy(self, x: f64) -> f64 {
        (-Self::round(x * self.reciprocal)).mul_add(self.p, x)
    }

    #[inline(always)]
    fn add(self, x: f64, y: f64) -> f64 {
        x + y
    }

    #[inline(always)]
    fn sub(self, x: f64, y: f64) -> f64 {
        x - y
    }

    #[inline(always)]
    fn factor(self, w: u64) -> (f64, f64) {
        // The representative of least absolute value.
        let w = self.tidy(self.load(w));
        (w, w / self.p)
    }

    #[inline(always)]
    fn mul(self, x: f64, (w, quotient): (f64, f64)) -> f64 {
        let multiple = -Self::round(x * quotient);
        let high = x * w;
        let low = x.mul_add(w, -high);
        multiple.mul_add(self.p, high) + low
    }

    #[inline(always)]
    fn mul_any(self, x: u64, y: u64) -> u64 {
        let (x, y) = (self.tidy(self.load(x)), self.tidy(self.load(y)));
        self.store(self.mul(x, (y, y * self.reciprocal)))
    }
}

/// What a level multiplies with.
#[derive(Debug)]
pub(crate) enum Tables {
    /// Below AVX2.
    Integer(Table<Integer>),
    /// From AVX2 on.
    Float(Table<Float>),
}

pub(crate) fn tables(level: Level, p: u64, n: usize, root: u64) -> Tables {
    match level {
        Level::Portable => Tables::Integer(generic::tables(level, p, n, root)),
        _ => Tables::Float(Table::new(Float { p: p as f64, reciprocal: 1.0 / p as f64 }, p, n, root)),
    }
}

/// The functions of all architectures, each from the generic one.
macro_rules! by_level {
    ($(pub(crate) fn $name:ident(ntt: &Ntt, $($a:ident: $t:ty),*) { $generic:ident, $table:ident => $of:expr })*) => {$(
        pub(crate) fn $name(ntt: &Ntt, $($a: $t),*) {
            #[target_feature(enable = "avx2,fma")]
            fn avx2($table: &Table<Float>, $($a: $t),*) {
                generic::$generic($of, $($a),*);
            }

            #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
            fn avx512($table: &Table<Float>, $($a: $t),*) {
                generic::$generic($of, $($a),*);
            }

            match &ntt.tables {
                Tables::Integer($table) => generic::$generic($of, $($a),*),
                // SAFETY: the tables were made for the level, whose features `checked` has made sure of.
                Tables::Float($table) if ntt.level == Level::Avx512 => unsafe { avx512($table, $($a),*) },
                // SAFETY: as above.
                Tables::Float($table) => unsafe { avx2($table, $($a),*) },
            }
        }
    )*};
}

by_level! {
    pub(crate) fn forward(ntt: &Ntt, x: &mut [u64]) { transform, table => table }
    pub(crate) fn inverse(ntt: &Ntt, scale: u64, x: &mut [u64]) { transform_back, table => table }
    pub(crate) fn multiply(ntt: &Ntt, x: &mut [u64], y: &[u64]) { product, table => table.arithmetic }
    pub(crate) fn combine(ntt: &Ntt, terms: &[(&[i64], u64)], constant: u64, out: &mut [u64]) {
        combination, table => table.arithmetic
    }
}
