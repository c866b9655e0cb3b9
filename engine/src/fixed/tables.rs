//! Look-up tables of the math functions, from integer arithmetic alone.
//!
//! Both parties must hold the same tables, so nothing here depends on the `exp` or `sqrt` of a platform. Every entry is
//! the exact value rounded down. The reference library computes its entries in double precision; at all sizes used here
//! that gives the same integers.

/// One, with 127 fractional bits.
pub(super) const ONE: u128 = 1 << 127;

/// Bound on the error of [`exp_minus_sum`] in units of `2^-127`: a sum of at most 40 terms, each at most 2 off, stays
/// below 100; squaring a number below 1/2 adds at most one to that; a product adds the errors of its (at most 16)
/// factors and one per multiplication.
const ERROR: u128 = 1 << 11;

/// `floor(a * b / 2^127)` for `a, b <= 2^127`.
pub(super) fn multiply(a: u128, b: u128) -> u128 {
    let halves = |x: u128| (x >> 64, x & u128::from(u64::MAX));
    let ((a1, a0), (b1, b0)) = (halves(a), halves(b));
    let (cross_1, cross_2) = (a1 * b0, a0 * b1);
    let middle = ((a0 * b0) >> 64) + halves(cross_1).1 + halves(cross_2).1;
    let high = a1 * b1 + halves(cross_1).0 + halves(cross_2).0 + halves(middle).0;
    (high << 1) | (halves(middle).1 >> 63)
}

/// `exp(-2^power)` with 127 fractional bits.
pub(super) fn exp_minus_power(power: i32) -> u128 {
    let (mut sum, mut term) = (ONE, ONE);
    for n in 1.. {
        term = (term >> power.min(0).unsigned_abs()) / n;
        match n % 2 {
            _ if term == 0 => break,
            1 => sum -= term,
            _ => sum += term,
        }
    }
    // Squaring 7 times gives exp(-128) < 2^-127.
    (0..power.min(7)).fold(sum, |e, _| multiply(e, e))
}

/// `exp(-v * 2^power)` with 127 fractional bits, given `exp(-2^(power + i))` as `factors[i]`.
fn exp_minus_sum(v: usize, factors: &[u128]) -> u128 {
    (0..factors.len()).filter(|i| v >> i & 1 == 1).fold(ONE, |e, i| multiply(e, factors[i]))
}

/// Table of one digit of the exponential: entry `v` is `floor(exp(-v * 2^(8*digit - s_in)) * 2^s_out)`, for `v` of
/// `digit_bits` bits (1..=16; 8, except that the last digit of a number may be shorter).
///
/// The values of all digits, multiplied, give `exp(-n)` for the number `n` with scale `s_in`. Entries fall from `2^s_out`
/// at `v = 0`; `s_in` is -64..=64 and `s_out` at most 62.
pub fn exp_digit(digit: u32, digit_bits: u32, s_in: i32, s_out: u32) -> Vec<u64> {
    assert!(digit < 8 && (1..=16).contains(&digit_bits) && s_in.abs() <= 64 && s_out <= 62);
    let power = 8 * digit as i32 - s_in;
    let factors: Vec<u128> = (0..digit_bits as i32).map(|i| exp_minus_power(power + i)).collect();
    let round = |e: u128| (e >> (127 - s_out)) as u64;
    let entry = |v| {
        let e = exp_minus_sum(v, &factors);
        let entry = round(e.saturating_sub(ERROR));
        // exp of a rational other than 0 is irrational, so enough digits always decide.
        assert_eq!(entry, round(e + ERROR), "the precision does not decide how to round");
        entry
    };
    std::iter::once(1 << s_out).chain((1..1 << digit_bits).map(entry)).collect()
}

/// Tables of the linear approximation of `1/d` for `d` in `[1, 2)`, indexed by the `m` bits after the leading one.
///
/// With `p = 1 + i/2^m` and `z = p(p + 2^-m)`: the slope is `floor(2^(m+3) / z)` (at most `m+3` bits, scale `m+3`) and the
/// intercept `floor(2^(2m+2) * (2^-(m+1) + sqrt(z)) / z)` (at most `2m+2` bits, scale `2m+2`). Then
/// `1/d` is about `intercept - slope * (d - p)` (Ito, Takagi, Yajima 1997). `m` is at most 16.
pub fn reciprocal(m: u32) -> (Vec<u64>, Vec<u64>) {
    assert!(m <= 16);
    let k = 1u128 << m;
    (k..2 * k)
        .map(|p| {
            // In units of 1/k^2: z = n.
            let n = p * (p + 1);
            let slope = 8 * k.pow(3) / n;
            let intercept = (2 * k.pow(3) + (16 * k.pow(6) * n).isqrt()) / n;
            (slope as u64, intercept as u64)
        })
        .unzip()
}

/// Table of the first guess of `1/sqrt(u)` for `u` in `[1, 4)`: entry `i + 2^m * parity` is `floor(2^(m+2) / sqrt(u))` with
/// `u = (1 + i/2^m) * 2^parity`; at most `m+3` bits (`2^(m+2)` at `u = 1`), scale `m+2`. `m` is at most 16.
pub fn rsqrt(m: u32) -> Vec<u64> {
    assert!(m <= 16);
    let k = 1u64 << m;
    let entry = |p: u64, parity: u32| (16 * k.pow(3) / (p << parity)).isqrt();
    (0..2).flat_map(|parity| (k..2 * k).map(move |p| entry(p, parity))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(tables: impl IntoIterator<Item = Vec<u64>>) -> String {
        let mut hasher = blake3::Hasher::new();
        for table in tables {
            hasher.update(&(table.len() as u64).to_le_bytes());
            table.iter().for_each(|entry| _ = hasher.update(&entry.to_le_bytes()));
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Both parties must hold the same tables: a change here is a change of protocol.
    #[test]
    fn tables_are_pinned() {
        // Scales 4..=24, the input scale also one lower for tanh; a shorter last digit is the start of a whole one.
        let exp = (3..=24)
            .flat_map(|s_in| (4..=24).flat_map(move |s_out| (0..4).map(move |digit| exp_digit(digit, 8, s_in, s_out))));
        assert_eq!(digest(exp), "edf3580b1879a95655ed5821d4144865788e31337502c542ae1c16d8d7614164");
        assert_eq!(
            digest((0..=8).map(|m| reciprocal(m).0)),
            "12afa67bf077108fc1a80bc7525f93432a53a6a8e84a0f962578ac5701721c88"
        );
        assert_eq!(
            digest((0..=8).map(|m| reciprocal(m).1)),
            "85829d1f387ecbe228840fe33d916b6d4cc6eb599321acc42c6cdf6e6e6aa2bc"
        );
        assert_eq!(digest((0..=8).map(rsqrt)), "9d33d02af3035471da187382af37ea26442f67160e4c75e520823183d9c060b8");
    }

    #[test]
    fn multiplies() {
        assert_eq!(multiply(ONE, ONE), ONE);
        assert_eq!(multiply(ONE / 2, ONE - 1), ONE / 2 - 1);
        assert_eq!(multiply(ONE - 1, ONE - 1), ONE - 2);
        assert_eq!(multiply(1 << 64, 1 << 62), 0);
        assert_eq!(multiply(1 << 64, 1 << 63), 1);
    }

    /// e^-1, e^-2 and e^-1/16 to 20 decimals.
    #[test]
    fn knows_e() {
        let digits = |e: u128| multiply(e, 100_000_000_000_000_000_000);
        assert_eq!(digits(exp_minus_power(0)), 36_787_944_117_144_232_159);
        assert_eq!(digits(exp_minus_power(1)), 13_533_528_323_661_269_189);
        assert_eq!(digits(exp_minus_power(-4)), 93_941_306_281_347_578_611);
        assert_eq!(exp_minus_power(7), 0);
    }

    #[test]
    fn digits_differ_in_weight_and_length_only() {
        assert_eq!(exp_digit(1, 5, 12, 12), exp_digit(1, 8, 12, 12)[..32]);
        assert_eq!(exp_digit(1, 8, 12, 12), exp_digit(0, 8, 4, 12));
    }

    #[test]
    fn entries_have_their_widths() {
        for m in 0..=8 {
            let (slope, intercept) = reciprocal(m);
            assert!(slope.iter().all(|&a| a >> (m + 3) == 0) && intercept.iter().all(|&a| a >> (2 * m + 2) == 0));
            let table = rsqrt(m);
            assert_eq!((table.len(), table[0]), (2 << m, 4 << m));
            assert!(table[1..].iter().all(|&a| a < 4 << m));
        }
    }
}
