//! Parameter sets, and arithmetic modulo the product `q` of a set's primes.
//!
//! Security of a set is that of ring-LWE in dimension `n` modulo `q` with ternary secrets and errors of standard deviation
//! 3.24. The largest `log q` for 128 bits (classical) are 109 and 218 in the Homomorphic Encryption Standard (2018, n = 4096 and
//! 8192), 106 and 214 in the 2024 guidelines (Bossuat et al., eprint 2024/463). A test compares.

use sirnn_kernels::{
    aes::Prg,
    ntt::{Ntt, inverse_mod, mul_mod, primes, terms},
};
use std::sync::OnceLock;

/// A parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// n = 4096, two primes of 50 bits.
    N4096Q100,
    /// n = 4096, three primes of 35 bits.
    N4096Q105,
    /// n = 8192, three primes of 50 bits.
    N8192Q150,
}

impl Set {
    /// All, the cheapest first.
    pub const ALL: [Set; 3] = [Set::N4096Q100, Set::N4096Q105, Set::N8192Q150];

    /// Coefficients of a polynomial.
    pub const fn degree(self) -> usize {
        match self {
            Set::N4096Q100 | Set::N4096Q105 => 4096,
            Set::N8192Q150 => 8192,
        }
    }

    /// Bits of a prime, and how many there are.
    pub const fn primes(self) -> (u32, usize) {
        match self {
            Set::N4096Q100 => (50, 2),
            Set::N4096Q105 => (35, 3),
            Set::N8192Q150 => (50, 3),
        }
    }

    /// Bits of `q`.
    pub const fn log_q(self) -> u32 {
        let (bits, count) = self.primes();
        bits * count as u32
    }

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Set::N4096Q100 => "n = 4096, log q = 100",
            Set::N4096Q105 => "n = 4096, log q = 105",
            Set::N8192Q150 => "n = 8192, log q = 150",
        }
    }

    /// Most coefficients of a client's secret that are not zero: the rounding of the server's keys is exact only up to here.
    pub const fn most_nonzeros(self) -> usize {
        self.degree() / 4 * 3
    }

    /// Bits below the units that the server's keys are rounded to: the rounding, times [`Set::most_nonzeros`], is below 3/16 of a unit.
    pub const fn key_fraction(self) -> u32 {
        match self {
            Set::N4096Q100 | Set::N4096Q105 => 13,
            Set::N8192Q150 => 14,
        }
    }

    /// Its arithmetic.
    pub(super) fn ring(self) -> &'static Ring {
        static RINGS: [OnceLock<Ring>; 3] = [const { OnceLock::new() }; 3];
        RINGS[self as usize].get_or_init(|| Ring::new(self))
    }
}

/// Arithmetic of a set. A polynomial is one vector of residues for each prime, with a *transform* for products; an
/// integer modulo `q` is `v_0 + p_0 (v_1 + p_1 v_2)` with *digits* `v_i < p_i`.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) set: Set,
    pub(super) n: usize,
    pub(super) ntts: Vec<Ntt>,
    /// `p_0`, and `p_0 p_1` if there are three primes.
    radix: [u128; 2],
    /// `(q / p_i)^-1 mod p_i`: a residue times it is the numerator of its part of the fraction `x / q`.
    pub(super) cofactors: Vec<u64>,
    /// `2^(128 + bits) / p_i - 2^128`, rounded, where `p_i` has `bits` bits: high and low word.
    reciprocals: Vec<[u64; 2]>,
    /// `q^-1 mod 2^64`.
    q_inverse: u64,
}

/// A polynomial: residues by prime.
pub(super) type Poly = Vec<Vec<u64>>;

impl Ring {
    fn new(set: Set) -> Self {
        let (bits, count) = set.primes();
        let (n, primes) = (set.degree(), primes(bits, set.degree(), count));
        let product = |but: usize, p: u64| {
            let others = primes.iter().enumerate().filter(|(i, _)| *i != but);
            others.fold(1, |product, (_, &other)| mul_mod(product, other % p, p))
        };
        let cofactors = primes.iter().enumerate().map(|(i, &p)| inverse_mod(product(i, p), p)).collect();
        let reciprocal = |&p: &u64| {
            let p = u128::from(p);
            // 2^128 is u128::MAX + 1, and p does not divide it.
            let (whole, rest) = (u128::MAX / p, u128::MAX % p + 1);
            let r = (whole << bits).wrapping_add(((rest << bits) + p / 2) / p);
            [(r >> 64) as u64, r as u64]
        };
        let q = primes.iter().fold(1u64, |q, &p| q.wrapping_mul(p));
        // Newton: every step doubles the bits that are right.
        let q_inverse = (0..6).fold(q, |x, _| x.wrapping_mul(2u64.wrapping_sub(q.wrapping_mul(x))));
        let first = u128::from(primes[0]);
        Self {
            set,
            n,
            radix: [first, first * u128::from(primes[1])],
            cofactors,
            reciprocals: primes.iter().map(reciprocal).collect(),
            q_inverse,
            ntts: primes.iter().map(|&p| Ntt::new(p, n)).collect(),
        }
    }

    pub(super) fn zero(&self) -> Poly {
        vec![vec![0; self.n]; self.ntts.len()]
    }

    /// `2^k mod p_i`.
    pub(super) fn power(&self, i: usize, k: u32) -> u64 {
        sirnn_kernels::ntt::pow_mod(2, k.into(), self.ntts[i].prime())
    }

    /// A signed number modulo `p_i`.
    pub(super) fn residue(&self, i: usize, x: i128) -> u64 {
        x.rem_euclid(self.ntts[i].prime().into()) as u64
    }

    /// The transform of a polynomial with small coefficients, for the first `count` primes.
    pub(super) fn transform_small(&self, x: &[i64], count: usize) -> Poly {
        let transform = |ntt: &Ntt| {
            let mut y = vec![0; self.n];
            ntt.lift(x, &mut y);
            ntt.forward(&mut y);
            y
        };
        self.ntts[..count].iter().map(transform).collect()
    }

    /// The first `x.len()` digits of numbers from their residues, in place.
    pub(super) fn digits(&self, x: &mut [Vec<u64>]) {
        for i in 1..x.len() {
            let ntt = &self.ntts[i];
            let p = ntt.prime();
            let mut radix = 1;
            // The residues of p_0 .. p_(j-1), for j up to i.
            let mut factors = vec![1];
            for j in 0..i {
                radix = mul_mod(radix, self.ntts[j].prime() % p, p);
                factors.push(radix);
            }
            let inverse = inverse_mod(radix, p);
            let (known, rest) = x.split_at_mut(i);
            let mut terms_of: Vec<(&[i64], u64)> =
                known.iter().zip(&factors).map(|(v, &f)| (terms(v), mul_mod(p - f, inverse, p))).collect();
            let own = std::mem::take(&mut rest[0]);
            terms_of.push((terms(&own), inverse));
            let mut digits = vec![0; own.len()];
            ntt.combine(&terms_of, 0, &mut digits);
            rest[0] = digits;
        }
    }

    /// The number with digits `x[..][at]`: 192 bits, least significant word first.
    #[inline(always)]
    pub(super) fn number(&self, x: &[Vec<u64>], at: usize) -> [u64; 3] {
        let low = u128::from(x[0][at]) + self.radix[0] * u128::from(x[1][at]);
        if x.len() == 2 {
            return [low as u64, (low >> 64) as u64, 0];
        }
        // A factor of up to 100 bits times one of 50, in two steps.
        let digit = u128::from(x[2][at]);
        let (a, b) = (self.radix[1] as u64, (self.radix[1] >> 64) as u64);
        let part = u128::from(a) * digit;
        let sum = (low & u128::from(u64::MAX)) + (part & u128::from(u64::MAX));
        let middle = (low >> 64) + (part >> 64) + u128::from(b) * digit + (sum >> 64);
        [sum as u64, middle as u64, (middle >> 64) as u64]
    }

    /// The fraction `x / q` modulo 1 in units of `2^-128`, where residue `i` of `x` times cofactor `i` is `y[i][at]`; off by up to
    /// two to the [`Ring::FRACTION_ERROR`].
    #[inline(always)]
    pub(super) fn fraction(&self, y: &[Vec<u64>], at: usize) -> u128 {
        let (bits, _) = self.set.primes();
        let part = |(y, [high, low]): (&Vec<u64>, &[u64; 2])| {
            let y = u128::from(y[at]);
            (y << (128 - bits))
                .wrapping_add((y * u128::from(*high)) << (64 - bits))
                .wrapping_add((y * u128::from(*low)) >> bits)
        };
        y.iter().zip(&self.reciprocals).map(part).fold(0, u128::wrapping_add)
    }

    /// Largest error of [`Ring::fraction`], as a power of two: of each of up to three parts one unit is cut off, and its reciprocal is off
    /// by up to a half of what the part is multiplied with.
    pub(super) const FRACTION_ERROR: i32 = 3 - 128;

    /// `-floor(2^w T / q) mod 2^w`, where `v` is the least significant word of `2^w T mod q`: for `h` the floor,
    /// `2^w T = q h + v`, hence `-h = v / q` modulo `2^w`. Exact, whatever `T` is.
    #[inline(always)]
    pub(super) fn mask(&self, v: u64) -> u64 {
        v.wrapping_mul(self.q_inverse)
    }

    /// A public uniform polynomial from a stream: residue after residue, with rejection.
    pub(super) fn uniform(&self, key: u128) -> Poly {
        let mut prg = Prg::new(key);
        let mut words = vec![0u64; self.n];
        let (bits, _) = self.set.primes();
        let of = |ntt: &Ntt| {
            let mut out = Vec::with_capacity(self.n);
            while out.len() < self.n {
                prg.fill_words(bits, &mut words);
                out.extend(words.iter().copied().filter(|&x| x < ntt.prime()).take(self.n - out.len()));
            }
            out
        };
        self.ntts.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By both sources that the module names.
    #[test]
    fn sets_have_128_bits() {
        for set in Set::ALL {
            let limit = match set.degree() {
                4096 => [109, 106],
                8192 => [218, 214],
                n => panic!("no estimate for n = {n}"),
            };
            assert!(limit.iter().all(|&l| set.log_q() <= l), "{}", set.name());
        }
        // The errors are those of the estimates, or larger.
        assert!(10.5f64.sqrt() >= 3.19);
    }

    #[test]
    fn floors_are_exact() {
        // T = 481219570714278577165763084288 with these primes is one where a reciprocal of 64 bits gives one too much; the
        // rest are the ends of intervals.
        let [p0, p1] = [1_125_899_905_867_777u128, 1_125_899_905_769_473];
        let w = 23;
        let check = |q: u128, t: u128, w: u32| {
            let q_inverse = (0..6).fold(q as u64, |x, _| x.wrapping_mul(2u64.wrapping_sub((q as u64).wrapping_mul(x))));
            let (floor, v) = ((t << w) / q, (t << w) % q);
            let mask = (1u64 << w) - 1;
            assert_eq!((v as u64).wrapping_mul(q_inverse) & mask, (floor as u64).wrapping_neg() & mask, "{q} {t}");
        };
        check(p0 * p1, 481_219_570_714_278_577_165_763_084_288, w);
        let ring = Set::N4096Q100.ring();
        let q: u128 = ring.ntts.iter().map(|n| u128::from(n.prime())).product();
        for h in [0, 1, 2, 12345, (1 << w) - 2, (1 << w) - 1] {
            let boundary = (q * h).div_ceil(1 << w);
            for t in [boundary, boundary + 1, boundary.saturating_sub(1), (boundary + (q >> (w + 1))) % q] {
                check(q, t, w);
            }
        }
    }

    #[test]
    fn digits_and_fractions_are_those_of_the_number() {
        for set in Set::ALL {
            let ring = set.ring();
            let x = ring.uniform(5);
            let mut digits = x.clone();
            ring.digits(&mut digits);
            let mut y = x.clone();
            for (i, y) in y.iter_mut().enumerate() {
                let own = std::mem::take(y);
                *y = vec![0; ring.n];
                ring.ntts[i].combine(&[(terms(&own), ring.cofactors[i])], 0, y);
            }
            for at in (0..ring.n).step_by(77) {
                let words = ring.number(&digits, at);
                for (i, ntt) in ring.ntts.iter().enumerate() {
                    let p = u128::from(ntt.prime());
                    let value = words.iter().rev().fold(0u128, |v, &w| ((v << 64) | u128::from(w)) % p);
                    assert_eq!(value, x[i][at].into());
                }
                // In doubles; the tests of products see the rest.
                let value = words.iter().rev().fold(0f64, |v, &w| v * 2f64.powi(64) + w as f64);
                let q = ring.ntts.iter().fold(1.0, |q, n| q * n.prime() as f64);
                let fraction = ring.fraction(&y, at) as f64 / 2f64.powi(128);
                assert!((value / q - fraction).abs() < 2f64.powi(-48), "{} {at}", set.name());
            }
        }
    }

    #[test]
    fn primes_fit_their_bits() {
        for set in Set::ALL {
            let (bits, _) = set.primes();
            for ntt in &set.ring().ntts {
                // q is below 2^(log q) by less than a part in 2^16.
                assert!(ntt.prime() < 1 << bits && ntt.prime() > (1 << bits) - (1 << (bits - 16)));
            }
        }
    }
}
