//! Bit planes: element `i` is bit `i % 64` of word `i / 64`; bits behind the last element are zero.

use crate::{
    arch::native,
    level::{Level, level},
    ring::RingWord,
};

/// Words of a plane of `n` bits.
#[inline]
pub const fn plane_len(n: usize) -> usize {
    n.div_ceil(64)
}

/// `out` bit `i` = bit `bit` of `xs[i]`.
pub fn bit_plane<W: RingWord>(xs: &[W], bit: u32, out: &mut [u64]) {
    bit_plane_at(level(), xs, bit, out);
}

#[doc(hidden)]
pub fn bit_plane_at<W: RingWord>(level: Level, xs: &[W], bit: u32, out: &mut [u64]) {
    assert!(bit < W::BITS);
    assert_eq!(out.len(), plane_len(xs.len()));
    native::bits::bit_plane(level, xs, bit, out);
}

/// `out[i]` = bit `i` of the plane, as 0 or 1; `n = out.len()`.
pub fn words_from_plane<W: RingWord>(plane: &[u64], n: usize, out: &mut [W]) {
    words_from_plane_at(level(), plane, n, out);
}

#[doc(hidden)]
pub fn words_from_plane_at<W: RingWord>(level: Level, plane: &[u64], n: usize, out: &mut [W]) {
    assert_eq!(out.len(), n);
    assert_eq!(plane.len(), plane_len(n));
    native::bits::words_from_plane(level, plane, out);
}

/// `out[i] = a[i]` where the plane's bit `i` is set, 0 elsewhere.
pub fn select_words<W: RingWord>(plane: &[u64], a: &[W], out: &mut [W]) {
    select_words_at(level(), plane, a, out);
}

#[doc(hidden)]
pub fn select_words_at<W: RingWord>(level: Level, plane: &[u64], a: &[W], out: &mut [W]) {
    assert_eq!(out.len(), a.len());
    assert_eq!(plane.len(), plane_len(a.len()));
    native::bits::select_words(level, plane, a, out);
}

levels! {
    /// `acc ^= x`.
    pub fn xor_into, xor_into_at(acc: &mut [u64], x: &[u64]) {
        assert_eq!(acc.len(), x.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a ^= x);
    }

    /// `acc ^= x`, on 128-bit blocks.
    pub fn xor_blocks, xor_blocks_at(acc: &mut [u128], x: &[u128]) {
        assert_eq!(acc.len(), x.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a ^= x);
    }

    /// Columns of `m` blocks, each the sum of the columns that its picks name.
    pub fn sum_columns, sum_columns_at(columns: &[u128], m: usize, picks: &[[u8; 8]], out: &mut [u128]) {
        assert_eq!(out.len(), picks.len() * m);
        // In words, which vectorise.
        let (columns, out): (&[u64], &mut [u64]) = (bytemuck::cast_slice(columns), bytemuck::cast_slice_mut(out));
        let m = 2 * m;
        // So many words of a column at a time that those of 256 columns stay in the L1 cache.
        const STRIP: usize = 8;
        let strips = m / STRIP * STRIP;
        for from in (0..strips).step_by(STRIP) {
            for (out, picks) in out.chunks_exact_mut(m).zip(picks) {
                let out: &mut [u64; STRIP] = (&mut out[from..from + STRIP]).try_into().expect("a strip");
                let mut sum = [0; STRIP];
                for &i in picks {
                    let x = &columns[usize::from(i) * m + from..][..STRIP];
                    for i in 0..STRIP {
                        sum[i] ^= x[i];
                    }
                }
                *out = sum;
            }
        }
        for (out, picks) in out.chunks_exact_mut(m.max(1)).zip(picks) {
            for i in strips..m {
                out[i] = picks.iter().fold(0, |sum, &k| sum ^ columns[usize::from(k) * m + i]);
            }
        }
    }

    /// A party's local part of a product of shared bits by a triple `(a, b, c)`, with `d` and `e` the opened masked
    /// factors: `out = c ^ (d & b) ^ (e & a)`, and `^ (d & e)` for the `first` party.
    pub fn and_triple, and_triple_at(a: &[u64], b: &[u64], c: &[u64], d: &[u64], e: &[u64], first: bool, out: &mut [u64]) {
        let n = out.len();
        assert!([a.len(), b.len(), c.len(), d.len(), e.len()] == [n; 5]);
        let (a, b, c, d, e) = (&a[..n], &b[..n], &c[..n], &d[..n], &e[..n]);
        let first = u64::from(first).wrapping_neg();
        for i in 0..n {
            out[i] = c[i] ^ (d[i] & b[i]) ^ (e[i] & (a[i] ^ (d[i] & first)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn lengths() -> impl Iterator<Item = usize> {
        (0..200).chain([255, 256, 257, 1000])
    }

    fn check<W: RingWord>() {
        for l in available() {
            for n in lengths() {
                let mut room = vec![W::zero(); n + 1];
                Prg::new(n as u128).fill_words(<W as RingWord>::BITS, &mut room);
                let xs = &room[1..];
                for bit in [0, 1, 3, 7, <W as RingWord>::BITS - 1] {
                    let mut plane = vec![u64::MAX; plane_len(n)];
                    bit_plane_at(l, xs, bit, &mut plane);
                    let get = |i: usize| plane[i / 64] >> (i % 64) & 1;
                    assert!((0..n).all(|i| get(i) == xs[i].to_u64() >> bit & 1), "{l:?} {n} {bit}");
                    assert!((n..64 * plane.len()).all(|i| get(i) == 0), "{l:?} {n} tail");
                    let mut words = vec![W::max_value(); n + 1];
                    words_from_plane_at(l, &plane, n, &mut words[1..]);
                    assert!((0..n).all(|i| words[i + 1].to_u64() == get(i)), "{l:?} {n}");
                    select_words_at(l, &plane, xs, &mut words[1..]);
                    assert!((0..n).all(|i| words[i + 1].to_u64() == get(i) * xs[i].to_u64()), "{l:?} {n}");
                    assert_eq!(words[0], W::max_value());
                }
            }
        }
    }

    #[test]
    fn planes_of_words() {
        check::<u8>();
        check::<u16>();
        check::<u32>();
        check::<u64>();
    }

    #[test]
    fn sums_of_columns() {
        let picks = [[0, 1, 2, 3, 4, 5, 6, 7], [9, 3, 3, 8, 1, 0, 9, 4], [5; 8]];
        for l in available() {
            for m in (0..20).chain([64]) {
                let mut columns = vec![0; 10 * m];
                Prg::new(m as u128).fill_blocks(&mut columns);
                let mut out = vec![1; 3 * m];
                sum_columns_at(l, &columns, m, &picks, &mut out);
                for (k, out) in out.iter().enumerate() {
                    let sum = picks[k / m].iter().fold(0, |s, &i| s ^ columns[usize::from(i) * m + k % m]);
                    assert_eq!(*out, sum, "{l:?} {m}");
                }
            }
        }
    }

    #[test]
    fn plane_arithmetic() {
        for l in available() {
            for n in 0..40 {
                let v: Vec<Vec<u64>> = (0..5)
                    .map(|s| {
                        let mut v = vec![0; n];
                        Prg::new(s).fill_words(64, &mut v);
                        v
                    })
                    .collect();
                let mut x = v[0].clone();
                xor_into_at(l, &mut x, &v[1]);
                assert!((0..n).all(|i| x[i] == v[0][i] ^ v[1][i]));
                for first in [false, true] {
                    let [a, b, c, d, e] = [&v[0], &v[1], &v[2], &v[3], &v[4]];
                    and_triple_at(l, a, b, c, d, e, first, &mut x);
                    let f = if first { u64::MAX } else { 0 };
                    assert!((0..n).all(|i| x[i] == c[i] ^ d[i] & b[i] ^ e[i] & a[i] ^ d[i] & e[i] & f));
                }
            }
        }
    }
}
