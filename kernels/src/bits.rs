//! Bit planes: element `i` is bit `i % 64` of word `i / 64`; bits behind the last element are zero.

use crate::{
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
    let _ = level.checked();
    bit_plane_portable(xs, bit, out);
}

fn bit_plane_portable<W: RingWord>(xs: &[W], bit: u32, out: &mut [u64]) {
    for (o, xs) in out.iter_mut().zip(xs.chunks(64)) {
        *o = xs.iter().enumerate().fold(0, |o, (i, x)| o | (x.to_u64() >> bit & 1) << i);
    }
}

levels! {
    /// `out[i]` = bit `i` of the plane, as 0 or 1; `n = out.len()`.
    pub fn words_from_plane, words_from_plane_at<W>(plane: &[u64], n: usize, out: &mut [W]) {
        assert_eq!(out.len(), n);
        assert_eq!(plane.len(), plane_len(n));
        for (p, out) in plane.iter().zip(out.chunks_mut(64)) {
            for (i, o) in out.iter_mut().enumerate() {
                *o = W::from_u64(p >> i & 1);
            }
        }
    }

    /// `out[i] = a[i]` where the plane's bit `i` is set, 0 elsewhere.
    pub fn select_words, select_words_at<W>(plane: &[u64], a: &[W], out: &mut [W]) {
        assert_eq!(out.len(), a.len());
        assert_eq!(plane.len(), plane_len(a.len()));
        for ((p, a), out) in plane.iter().zip(a.chunks(64)).zip(out.chunks_mut(64)) {
            for (i, (a, o)) in a.iter().zip(out).enumerate() {
                *o = *a & W::splat(p >> i & 1 == 1);
            }
        }
    }

    /// `acc ^= x`.
    pub fn xor_into, xor_into_at(acc: &mut [u64], x: &[u64]) {
        assert_eq!(acc.len(), x.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a ^= x);
    }

    /// `acc &= x`.
    pub fn and_into, and_into_at(acc: &mut [u64], x: &[u64]) {
        assert_eq!(acc.len(), x.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a &= x);
    }

    /// `acc ^= x`, on 128-bit blocks.
    pub fn xor_blocks, xor_blocks_at(acc: &mut [u128], x: &[u128]) {
        assert_eq!(acc.len(), x.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a ^= x);
    }

    /// A party's local part of a product of shared bits by a triple `(a, b, c)`, with `d` and `e` the opened masked
    /// factors: `out = c ^ (d & b) ^ (e & a)`, and `^ (d & e)` for the `first` party.
    pub fn and_triple, and_triple_at(a: &[u64], b: &[u64], c: &[u64], d: &[u64], e: &[u64], first: bool, out: &mut [u64]) {
        let n = out.len();
        assert!([a.len(), b.len(), c.len(), d.len(), e.len()] == [n; 5]);
        let first = u64::from(first).wrapping_neg();
        for i in 0..n {
            out[i] = c[i] ^ (d[i] & b[i]) ^ (e[i] & (a[i] ^ (d[i] & first)));
        }
    }
}
