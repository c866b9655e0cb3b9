//! Arithmetic of polynomials modulo `X^n + 1` and a prime below 2^50: number-theoretic transform, products and linear
//! combinations.
//!
//! A polynomial is `n` residues in `0..p`. Its transform ([`Ntt::forward`]) is in an order of its own, the same at every
//! level: products are taken place by place, and [`Ntt::inverse`] undoes it.
//!
//! There is one algorithm (`arch::portable::ntt`) and two arithmetics. The portable one multiplies 64-bit integers by
//! Shoup's method. x86-64 has no vector product of 64-bit integers below AVX-512 IFMA, but a fused multiply-add of doubles
//! gives both halves of a product of 50-bit numbers exactly, which serves AVX2 and AVX-512 alike.

use crate::{
    arch::native,
    level::{Level, level},
};

/// Bits of the largest primes.
pub const MAX_PRIME_BITS: u32 = 50;
/// Bits of the absolute values that [`Ntt::combine`] takes.
pub const MAX_TERM_BITS: u32 = 51;

/// `a * b mod p`; not for secrets.
pub fn mul_mod(a: u64, b: u64, p: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(p)) as u64
}

/// `base^exponent mod p`; not for secrets.
pub fn pow_mod(mut base: u64, mut exponent: u64, p: u64) -> u64 {
    let mut power = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = mul_mod(power, base, p);
        }
        base = mul_mod(base, base, p);
        exponent >>= 1;
    }
    power
}

/// The inverse of `a` modulo a prime.
pub fn inverse_mod(a: u64, p: u64) -> u64 {
    pow_mod(a % p, p - 2, p)
}

/// Whether a number is a prime: Miller-Rabin with the bases that decide it for 64 bits.
pub fn is_prime(p: u64) -> bool {
    const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if p < 2 || BASES.iter().any(|&b| p != b && p.is_multiple_of(b)) {
        return false;
    }
    let twos = (p - 1).trailing_zeros();
    BASES.iter().filter(|&&b| b < p).all(|&b| {
        let mut x = pow_mod(b, (p - 1) >> twos, p);
        let mut passed = x == 1 || x == p - 1;
        for _ in 1..twos {
            x = mul_mod(x, x, p);
            passed |= x == p - 1;
        }
        passed
    })
}

/// The largest primes below `2^bits` that are 1 modulo `2n`, largest first.
pub fn primes(bits: u32, n: usize, count: usize) -> Vec<u64> {
    let candidates = (1..).map(|k| (1u64 << bits) - k * 2 * n as u64 + 1);
    candidates.filter(|&p| is_prime(p)).take(count).collect()
}

/// A prime with the tables of its transform.
#[derive(Debug)]
pub struct Ntt {
    pub(crate) level: Level,
    pub(crate) p: u64,
    pub(crate) n: usize,
    pub(crate) tables: native::ntt::Tables,
}

impl Ntt {
    /// For polynomials of degree `n`, a power of two from 4096 on, and a prime that is 1 modulo `2n`.
    pub fn new(p: u64, n: usize) -> Self {
        Self::new_at(level(), p, n)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, p: u64, n: usize) -> Self {
        assert!(n.is_power_of_two() && n >= 4096);
        assert!(p < 1 << MAX_PRIME_BITS && p % (2 * n as u64) == 1 && is_prime(p));
        // The smallest generator of a subgroup of order 2n, which is a fact of p and n.
        let root = (2..).map(|g| pow_mod(g, (p - 1) / (2 * n as u64), p)).find(|&r| pow_mod(r, n as u64, p) == p - 1);
        let tables = native::ntt::tables(level.checked(), p, n, root.expect("a prime field has roots of unity"));
        Self { level, p, n, tables }
    }

    /// The prime.
    pub fn prime(&self) -> u64 {
        self.p
    }

    /// Number of coefficients.
    pub fn degree(&self) -> usize {
        self.n
    }

    /// Coefficients to their transform, in place.
    pub fn forward(&self, x: &mut [u64]) {
        assert_eq!(x.len(), self.n);
        native::ntt::forward(self, x);
    }

    /// A transform to coefficients, times `scale` (a residue), in place.
    pub fn inverse(&self, scale: u64, x: &mut [u64]) {
        assert!(x.len() == self.n && scale < self.p);
        native::ntt::inverse(self, mul_mod(scale, inverse_mod(self.n as u64, self.p), self.p), x);
    }

    /// `x[i] = x[i] * y[i]`.
    pub fn multiply(&self, x: &mut [u64], y: &[u64]) {
        assert_eq!(x.len(), y.len());
        native::ntt::multiply(self, x, y);
    }

    /// `out[i] = constant + sum_t terms[t].0[i] * terms[t].1`: signed numbers below `2^51` times residues.
    pub fn combine(&self, terms: &[(&[i64], u64)], constant: u64, out: &mut [u64]) {
        assert!(constant < self.p && terms.iter().all(|(x, c)| x.len() == out.len() && *c < self.p));
        native::ntt::combine(self, terms, constant, out);
    }

    /// Signed numbers below `p` as residues.
    pub fn lift(&self, x: &[i64], out: &mut [u64]) {
        assert_eq!(x.len(), out.len());
        let p = self.p as i64;
        for (x, out) in x.iter().zip(out) {
            debug_assert!(x.abs() < p);
            *out = (x + (x >> 63 & p)) as u64;
        }
    }
}

/// Residues as terms of [`Ntt::combine`].
pub fn terms(residues: &[u64]) -> &[i64] {
    bytemuck::cast_slice(residues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn residues(seed: u128, p: u64, n: usize) -> Vec<u64> {
        let mut x = vec![0u64; n];
        Prg::new(seed).fill_words(64, &mut x);
        x.iter_mut().for_each(|x| *x %= p);
        x
    }

    fn sets() -> Vec<(u64, usize)> {
        let of = |bits, n, count| primes(bits, n, count).into_iter().map(move |p| (p, n));
        of(50, 4096, 2).chain(of(35, 4096, 3)).chain(of(50, 8192, 3)).collect()
    }

    #[test]
    fn primes_are_those_of_the_sets() {
        assert_eq!(primes(50, 4096, 2), [1_125_899_906_826_241, 1_125_899_906_629_633]);
        for (p, n) in sets() {
            assert!(p % (2 * n as u64) == 1 && p < 1 << 50);
        }
        assert!(is_prime(2) && is_prime(37) && !is_prime(1) && !is_prime(3_215_031_751) && is_prime((1 << 61) - 1));
    }

    /// Places of a product modulo `X^n + 1`, by definition.
    fn schoolbook(a: &[u64], b: &[u64], p: u64, at: usize) -> u64 {
        let n = a.len();
        (0..n).fold(0, |sum, i| {
            let j = (n + at - i) % n;
            let term = mul_mod(a[i], b[j], p);
            (sum + if i <= at { term } else { p - term }) % p
        })
    }

    #[test]
    fn transforms_multiply() {
        for (p, n) in sets() {
            let inputs = [residues(1, p, n), residues(2, p, n), vec![p - 1; n], vec![p / 2; n], vec![p / 2 + 1; n]];
            for level in available() {
                let ntt = Ntt::new_at(level, p, n);
                for (a, b) in [(0, 1), (2, 2), (3, 4), (2, 3), (0, 4)] {
                    let (mut x, mut y) = (inputs[a].clone(), inputs[b].clone());
                    ntt.forward(&mut x);
                    assert!(x.iter().all(|&x| x < p));
                    ntt.forward(&mut y);
                    ntt.multiply(&mut x, &y);
                    ntt.inverse(3, &mut x);
                    for at in [0, 1, 63, 64, 65, n / 2, n - 1] {
                        let want = mul_mod(3, schoolbook(&inputs[a], &inputs[b], p, at), p);
                        assert_eq!(x[at], want, "{level:?} p={p} n={n} inputs {a}, {b} at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn levels_agree() {
        for (p, n) in sets() {
            let oracle = Ntt::new_at(Level::Portable, p, n);
            let x = residues(7, p, n);
            let mut want = x.clone();
            oracle.forward(&mut want);
            for level in available() {
                let ntt = Ntt::new_at(level, p, n);
                let mut got = x.clone();
                ntt.forward(&mut got);
                assert!(got == want, "{level:?}");
                ntt.inverse(1, &mut got);
                assert!(got == x, "{level:?}");
            }
        }
    }

    #[test]
    fn combinations_are_exact() {
        for (p, n) in sets() {
            for level in available() {
                let ntt = Ntt::new_at(level, p, n);
                let largest = (1i64 << MAX_TERM_BITS) - 1;
                let signed = |seed: u128| -> Vec<i64> {
                    let mut x = vec![0u64; 200];
                    Prg::new(seed).fill_words(64, &mut x);
                    x.iter().map(|&x| x as i64 >> 12).collect()
                };
                for count in [0, 1, 2, 5, 11, 20] {
                    let mut all: Vec<Vec<i64>> = (0..count as u128).map(signed).collect();
                    for x in &mut all {
                        x[..4].copy_from_slice(&[largest, -largest, 0, 1]);
                    }
                    let factors = residues(99, p, count);
                    let constant = p - 1;
                    let terms: Vec<(&[i64], u64)> =
                        all.iter().zip(&factors).map(|(x, &c)| (&x[..], if c % 5 == 0 { p - 1 } else { c })).collect();
                    let mut out = vec![0; 200];
                    ntt.combine(&terms, constant, &mut out);
                    for i in 0..200 {
                        let sum: i128 = terms.iter().map(|(x, c)| i128::from(x[i]) * i128::from(*c)).sum();
                        let want = (sum + i128::from(constant)).rem_euclid(i128::from(p)) as u64;
                        assert_eq!(out[i], want, "{level:?} p={p} {count} terms, {i}");
                    }
                }
            }
        }
    }
}
