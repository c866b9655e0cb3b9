//! Bit planes: AVX-512 masks are bit planes already.

use super::*;
use crate::{arch::portable, level::Level, ring::RingWord};

/// See [`crate::bits::bit_plane`].
pub(crate) fn bit_plane<W: RingWord>(level: Level, xs: &[W], bit: u32, out: &mut [u64]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Aesni | Level::Vaes256 => unsafe { bit_plane_avx2(xs, bit, out) },
        // SAFETY: as above.
        Level::Avx512 => unsafe { bit_plane_avx512(xs, bit, out) },
        _ => portable::bits::bit_plane(level, xs, bit, out),
    }
}

/// See [`crate::bits::words_from_plane`].
pub(crate) fn words_from_plane<W: RingWord>(level: Level, plane: &[u64], out: &mut [W]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 => unsafe { words_from_plane_avx512(plane, out) },
        _ => portable::bits::words_from_plane(level, plane, out),
    }
}

/// See [`crate::bits::select_words`].
pub(crate) fn select_words<W: RingWord>(level: Level, plane: &[u64], a: &[W], out: &mut [W]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 => unsafe { select_words_avx512(plane, a, out) },
        _ => portable::bits::select_words(level, plane, a, out),
    }
}

/// 64 words of `W` as registers: `size_of::<W>()` of them.
macro_rules! by_size {
    ($W:ident, $b:expr, $w:expr, $d:expr, $q:expr) => {
        match size_of::<$W>() {
            1 => $b,
            2 => $w,
            4 => $d,
            _ => $q,
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw")]
fn bit_plane_avx512<W: RingWord>(xs: &[W], bit: u32, out: &mut [u64]) {
    let size = size_of::<W>();
    let per = 64 / size;
    let probe = 1u64 << bit;
    let test = |x: __m512i| -> u64 {
        by_size!(
            W,
            _mm512_test_epi8_mask(x, _mm512_set1_epi8(probe as i8)),
            _mm512_test_epi16_mask(x, _mm512_set1_epi16(probe as i16)).into(),
            _mm512_test_epi32_mask(x, _mm512_set1_epi32(probe as i32)).into(),
            _mm512_test_epi64_mask(x, _mm512_set1_epi64(probe as i64)).into()
        )
    };
    let (full, tail) = bytemuck::cast_slice::<W, u8>(xs).split_at(xs.len() / 64 * 64 * size);
    for (o, xs) in out.iter_mut().zip(full.chunks_exact(64 * size)) {
        *o = (0..size).fold(0, |o, k| o | test(load(&xs[64 * k..])) << (k * per));
    }
    if !tail.is_empty() {
        let k = out.len() - 1;
        out[k] = tail.chunks(64).enumerate().fold(0, |o, (k, x)| o | test(load_part(x)) << (k * per));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn spread<W: RingWord>(plane: u64, x: __m512i) -> __m512i {
    by_size!(
        W,
        _mm512_maskz_mov_epi8(plane, x),
        _mm512_maskz_mov_epi16(plane as u32, x),
        _mm512_maskz_mov_epi32(plane as u16, x),
        _mm512_maskz_mov_epi64(plane as u8, x)
    )
}

#[target_feature(enable = "avx512f,avx512bw")]
fn words_from_plane_avx512<W: RingWord>(plane: &[u64], out: &mut [W]) {
    let per = 64 / size_of::<W>();
    let one = by_size!(W, _mm512_set1_epi8(1), _mm512_set1_epi16(1), _mm512_set1_epi32(1), _mm512_set1_epi64(1));
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    for (k, o) in out.chunks_mut(64).enumerate() {
        let bit = k * per;
        store_part(o, spread::<W>(plane[bit / 64] >> (bit % 64), one));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn select_words_avx512<W: RingWord>(plane: &[u64], a: &[W], out: &mut [W]) {
    let per = 64 / size_of::<W>();
    let (a, out): (&[u8], &mut [u8]) = (bytemuck::cast_slice(a), bytemuck::cast_slice_mut(out));
    for (k, (o, a)) in out.chunks_mut(64).zip(a.chunks(64)).enumerate() {
        let bit = k * per;
        store_part(o, spread::<W>(plane[bit / 64] >> (bit % 64), load_part(a)));
    }
}

/// Bit planes by `movemask`, 32 bytes at a time.
#[target_feature(enable = "avx2")]
fn bit_plane_avx2<W: RingWord>(xs: &[W], bit: u32, out: &mut [u64]) {
    let size = size_of::<W>();
    let up = _mm_cvtsi32_si128((8 * size as u32 - 1 - bit) as i32);
    let reg = |x: &[u8]| bytemuck::must_cast::<[u8; 32], __m256i>(*x.first_chunk::<32>().expect("32 bytes"));
    let word = |xs: &[u8]| -> u64 {
        let mut o = 0;
        for k in 0..2 * size {
            let x = &xs[32 * k..];
            let bits = match size {
                // The bit becomes its byte's top bit; bits from the byte below do not matter.
                1 => _mm256_movemask_epi8(_mm256_sll_epi16(reg(x), up)) as u32,
                2 => {
                    let x = _mm256_srai_epi16::<15>(_mm256_sll_epi16(reg(x), up));
                    let x = _mm256_packs_epi16(x, x);
                    let bits = _mm256_movemask_epi8(x) as u32;
                    bits & 0xff | bits >> 8 & 0xff00
                }
                4 => _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_sll_epi32(reg(x), up))) as u32,
                _ => _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_sll_epi64(reg(x), up))) as u32,
            };
            o |= u64::from(bits) << (k * 32 / size);
        }
        o
    };
    let (full, tail) = bytemuck::cast_slice::<W, u8>(xs).split_at(xs.len() / 64 * 64 * size);
    for (o, xs) in out.iter_mut().zip(full.chunks_exact(64 * size)) {
        *o = word(xs);
    }
    if !tail.is_empty() {
        let mut padded = [0; 512];
        padded[..tail.len()].copy_from_slice(tail);
        let k = out.len() - 1;
        out[k] = word(&padded);
    }
}
