//! Small random numbers for ciphertexts: ternary, centred binomial, and the flood that hides small differences.

use crate::aes::Prg;
use zeroize::Zeroize;

/// Largest absolute value of [`binomial`].
pub const BINOMIAL_MAX: i64 = 21;

/// Uniform 64-bit words of the stream, wiped after their use.
fn with_words(prg: &mut Prg, n: usize, use_them: impl FnOnce(&[u64])) {
    let mut words = vec![0u64; n];
    prg.fill_words(64, &mut words);
    use_them(&words);
    words.zeroize();
}

/// -1, 0 and 1 with equal probability, up to 2^-62: the product of 64 random bits with 3.
pub fn ternary(prg: &mut Prg, out: &mut [i64]) {
    with_words(prg, out.len(), |words| ternary_from(words, out));
}

/// The difference of two binomials of 21 coins: variance 10.5.
pub fn binomial(prg: &mut Prg, out: &mut [i64]) {
    with_words(prg, out.len(), |words| binomial_from(words, out));
}

/// A smooth distribution on an interval: `2^fine_bits * coarse + fine` with `coarse` the sum of four uniform numbers in `0..range`
/// (up to 2^-32 each, which their sum smoothes away) and `fine` uniform in `0..2^fine_bits`, in parts of [`FINE_BITS`], least significant first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Values of each of the four numbers, below 2^32.
    pub range: u64,
    /// Bits below the sum.
    pub fine_bits: u32,
}

/// Bits of a part of a flood's fine bits.
pub const FINE_BITS: u32 = 48;

impl Flood {
    /// Number of parts of the fine bits.
    pub fn parts(self) -> usize {
        self.fine_bits.div_ceil(FINE_BITS) as usize
    }

    /// Draws `coarse` and the parts of `fine`.
    pub fn sample(self, prg: &mut Prg, coarse: &mut [i64], fine: &mut [Vec<i64>]) {
        assert!(self.range > 0 && self.range < 1 << 32 && fine.len() == self.parts());
        with_words(prg, 4 * coarse.len(), |words| coarse_from(words, self.range, coarse));
        for (k, part) in fine.iter_mut().enumerate() {
            let bits = (self.fine_bits - k as u32 * FINE_BITS).min(FINE_BITS);
            prg.fill_words(bits, bytemuck::cast_slice_mut::<i64, u64>(part));
        }
    }
}

/// `floor(x m / 2^64)` for `m < 2^32`, in products of 32 bits, which vector units have.
#[inline(always)]
fn scale(x: u64, m: u64) -> u64 {
    const LOW: u64 = u32::MAX as u64;
    ((x >> 32) * m + (((x & LOW) * m) >> 32)) >> 32
}

levels! {
    #[doc(hidden)]
    pub fn ternary_from, ternary_from_at(words: &[u64], out: &mut [i64]) {
        out.iter_mut().zip(words).for_each(|(out, &x)| *out = scale(x, 3) as i64 - 1);
    }

    #[doc(hidden)]
    pub fn binomial_from, binomial_from_at(words: &[u64], out: &mut [i64]) {
        const COINS: u64 = (1 << BINOMIAL_MAX) - 1;
        out.iter_mut().zip(words).for_each(|(out, &x)| {
            *out = i64::from((x & COINS).count_ones()) - i64::from((x >> 32 & COINS).count_ones());
        });
    }

    #[doc(hidden)]
    pub fn coarse_from, coarse_from_at(words: &[u64], range: u64, out: &mut [i64]) {
        let (words, _) = words.as_chunks::<4>();
        out.iter_mut().zip(words).for_each(|(out, x)| {
            *out = x.iter().map(|&x| scale(x, range)).sum::<u64>() as i64;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, available};

    #[test]
    fn levels_agree() {
        let mut words = vec![0u64; 4 * 333];
        Prg::new(1).fill_words(64, &mut words);
        words[..8].copy_from_slice(&[
            0,
            u64::MAX,
            1,
            u64::MAX / 3,
            u64::MAX / 3 + 1,
            u64::MAX / 3 * 2,
            1 << 32,
            !0 << 32,
        ]);
        for level in available() {
            for kind in 0..3 {
                let sample = |level: Level| {
                    let mut out = vec![0i64; 333];
                    match kind {
                        0 => ternary_from_at(level, &words, &mut out),
                        1 => binomial_from_at(level, &words, &mut out),
                        _ => coarse_from_at(level, &words, 3_000_000_001, &mut out),
                    }
                    out
                };
                assert_eq!(sample(level), sample(Level::Portable), "{level:?} {kind}");
            }
        }
    }

    #[test]
    fn products_are_exact() {
        for x in [0, 1, u64::MAX, u64::MAX / 3, u64::MAX / 3 + 1, 0x1234_5678_9abc_def0] {
            for m in [1, 3, 1000, u64::from(u32::MAX)] {
                assert_eq!(scale(x, m), ((u128::from(x) * u128::from(m)) >> 64) as u64);
            }
        }
    }

    /// Mean and variance are those of the definition, six standard deviations apart at most.
    #[test]
    fn moments() {
        const N: usize = 1 << 18;
        let check = |x: &[i64], mean: f64, variance: f64| {
            let n = x.len() as f64;
            let m = x.iter().map(|&x| x as f64).sum::<f64>() / n;
            let v = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
            assert!((m - mean).abs() < 6.0 * (variance / n).sqrt(), "mean {m}, not {mean}");
            assert!((v / variance - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "variance {v}, not {variance}");
        };
        let mut x = vec![0i64; N];
        ternary(&mut Prg::new(3), &mut x);
        check(&x, 0.0, 2.0 / 3.0);
        assert!(x.iter().all(|x| x.abs() <= 1));
        binomial(&mut Prg::new(4), &mut x);
        check(&x, 0.0, 10.5);
        assert!(x.iter().all(|x| x.abs() <= BINOMIAL_MAX));
        let flood = Flood { range: 1000, fine_bits: 60 };
        let mut fine = vec![vec![0i64; N]; 2];
        flood.sample(&mut Prg::new(5), &mut x, &mut fine);
        check(&x, 4.0 * 499.5, 4.0 * (1e6 - 1.0) / 12.0);
        assert!(x.iter().all(|x| (0..=4 * 999).contains(x)));
        for (part, bits) in fine.iter().zip([48, 12]) {
            let size = (1i64 << bits) as f64;
            assert!(part.iter().all(|x| x >> bits == 0));
            check(part, (size - 1.0) / 2.0, (size * size - 1.0) / 12.0);
        }
    }
}
