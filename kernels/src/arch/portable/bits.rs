//! Bit planes.

use crate::{level::Level, ring::RingWord};

/// See [`crate::bits::bit_plane`].
pub(crate) fn bit_plane<W: RingWord>(_: Level, xs: &[W], bit: u32, out: &mut [u64]) {
    for (o, xs) in out.iter_mut().zip(xs.chunks(64)) {
        *o = 0;
        for (k, xs) in xs.chunks(8).enumerate() {
            let mut lanes = [0u8; 8];
            lanes.iter_mut().zip(xs).for_each(|(l, x)| *l = (*x >> bit).to_u64() as u8 & 1);
            // The product brings bit 0 of byte i to bit 56 + i.
            let bits = u64::from_le_bytes(lanes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            *o |= bits << (8 * k);
        }
    }
}

/// Bits `8 k..` of a plane, as a word.
#[inline(always)]
fn byte<W: RingWord>(plane: &[u64], k: usize) -> W {
    W::from_u64(plane[k / 8] >> (k % 8 * 8) & 0xff)
}

/// All ones if bit `i` is set. Comparing, unlike shifting, has no lanes of its own for `i`: it vectorises in any word.
#[inline(always)]
fn lane_mask<W: RingWord>(bits: W, i: usize) -> W {
    W::splat(bits & (W::one() << i as u32) != W::zero())
}

/// See [`crate::bits::words_from_plane`].
pub(crate) fn words_from_plane<W: RingWord>(_: Level, plane: &[u64], out: &mut [W]) {
    for (k, out) in out.chunks_mut(8).enumerate() {
        let p = byte(plane, k);
        for (i, o) in out.iter_mut().enumerate() {
            *o = lane_mask::<W>(p, i) & W::one();
        }
    }
}

/// See [`crate::bits::select_words`].
pub(crate) fn select_words<W: RingWord>(_: Level, plane: &[u64], a: &[W], out: &mut [W]) {
    for (k, (a, out)) in a.chunks(8).zip(out.chunks_mut(8)).enumerate() {
        let p = byte(plane, k);
        for (i, (a, o)) in a.iter().zip(out).enumerate() {
            *o = *a & lane_mask(p, i);
        }
    }
}
