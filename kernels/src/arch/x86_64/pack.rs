//! Dense sections: a register of words is `8 * width / size` bytes of section, always a whole number.

use super::*;
use crate::{arch::portable, level::Level, ring::RingWord};

/// See [`crate::pack::pack`]; `1 <= width < W::BITS`.
pub(crate) fn pack<W: RingWord>(level: Level, width: u32, xs: &[W], out: &mut [u8]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Aesni | Level::Vaes256 => unsafe { pack_bmi2(width, xs, out) },
        // SAFETY: as above.
        Level::Avx512 => unsafe { pack_avx512(width, xs, out) },
        _ => portable::pack::pack(level, width, xs, out),
    }
}

/// See [`crate::pack::unpack`]; `1 <= width < W::BITS`.
pub(crate) fn unpack<W: RingWord>(level: Level, width: u32, section: &[u8], out: &mut [W]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 if can_unpack::<W>(width) => unsafe { unpack_avx512(width, section, out) },
        // SAFETY: as above.
        Level::Aesni | Level::Vaes256 | Level::Avx512 => unsafe { unpack_bmi2(width, section, out) },
        _ => portable::pack::unpack(level, width, section, out),
    }
}

/// Packs; `1 <= width < W::BITS`.
///
/// First the words of each 64-bit lane move together, by halves; then the lanes do, every 64 bits of output taking what
/// they need of up to `terms` lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack_avx512<W: RingWord>(width: u32, xs: &[W], out: &mut [u8]) {
    let size = size_of::<W>();
    let (width, step) = (width as usize, 8 * width as usize / size);
    let q = step; // bits of a lane: eight lanes to a register
    let src: &[u8] = bytemuck::cast_slice(xs);

    // Halving: lanes of `bits` hold words of `have` bits in each half.
    let mut halvings = [(0u32, _mm512_setzero_si512()); 3];
    let (mut bits, mut have, mut n) = (16 * size, width, 0);
    while bits <= 64 {
        let keep = words(|_| (0..64 / bits).fold(0, |m, k| m | ((1 << have) - 1) << (k * bits)));
        halvings[n] = ((bits / 2 - have) as u32, keep);
        (bits, have, n) = (2 * bits, 2 * have, n + 1);
    }

    // The first lane that output lane `j` needs, and the shifts of that one and its followers.
    let lane = |j: usize| 64 * j / q;
    let index = words(|j| lane(j) as u64);
    let right = words(|j| (64 * j - lane(j) * q) as u64);
    let terms = 63usize.div_ceil(q) + 1;
    let mut left = [_mm512_setzero_si512(); 7];
    for t in 1..terms.min(8) {
        left[t - 1] = words(|j| if lane(j) + t < 8 { (t * q + lane(j) * q - 64 * j) as u64 } else { 64 });
    }
    let whole_bytes = q.is_multiple_of(8);
    let mut squeeze = [0; 64];
    if whole_bytes {
        for lane in 0..8 {
            for byte in 0..q / 8 {
                squeeze[lane * (q / 8) + byte] = (8 * lane + byte) as u8;
            }
        }
    }
    let squeeze = bytemuck::must_cast(squeeze);

    let one = |x: __m512i| {
        let mut x = x;
        let size_bits = 8 * size;
        for (k, (shift, keep)) in halvings[..n].iter().enumerate() {
            let count = _mm_cvtsi32_si128(*shift as i32);
            let high = match size_bits << (k + 1) {
                16 => _mm512_srl_epi16(x, count),
                32 => _mm512_srl_epi32(x, count),
                _ => _mm512_srl_epi64(x, count),
            };
            x = _mm512_ternarylogic_epi64::<0xca>(*keep, x, high);
        }
        if whole_bytes {
            return _mm512_permutexvar_epi8(squeeze, x);
        }
        let mut y = _mm512_srlv_epi64(_mm512_permutexvar_epi64(index, x), right);
        let mut index = index;
        for left in &left[..terms.min(8) - 1] {
            index = _mm512_add_epi64(index, _mm512_set1_epi64(1));
            y = _mm512_or_si512(y, _mm512_sllv_epi64(_mm512_permutexvar_epi64(index, x), *left));
        }
        y
    };

    let (full, tail) = src.as_chunks::<64>();
    let mut at = 0;
    for x in full {
        store_part(&mut out[at..at + step], one(load(x)));
        at += step;
    }
    if tail.is_empty() {
        out[at..].fill(0);
    } else {
        // What follows the last word comes out as zeros; `squeeze` repeats byte 0 behind `step`.
        let x = _mm512_maskz_mov_epi8(first(step), one(load_part(tail)));
        let end = out.len().min(at + 64);
        store_part(&mut out[at..end], x);
        out[end..].fill(0);
    }
}

/// Whether [`unpack`] works: no 64-bit lane's bits span nine bytes.
fn can_unpack<W: RingWord>(width: u32) -> bool {
    let q = 8 * width as usize / size_of::<W>();
    width < <W as RingWord>::BITS && (0..8).all(|j| q * j % 8 + q <= 64)
}

/// Unpacks where [`can_unpack`]: bytes to their lanes, then eight bits at any offset to every byte.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn unpack_avx512<W: RingWord>(width: u32, section: &[u8], out: &mut [W]) {
    let size = size_of::<W>();
    let width = width as usize;
    let q = 8 * width / size;
    let step = q;
    let spread = bytes(|i| (q * (i / 8) / 8 + i % 8) as u8 & 63);
    let offset = bytes(|i| {
        let (lane, byte) = (i / 8, i % 8);
        (q * lane % 8 + byte / size * width + 8 * (byte % size)) as u8 & 63
    });
    let keep = words(|_| (0..8 / size).fold(0, |m, k| m | (u64::MAX >> (64 - width)) << (8 * k * size)));
    let one = |x| {
        let x = _mm512_multishift_epi64_epi8(offset, _mm512_permutexvar_epi8(spread, x));
        _mm512_and_si512(x, keep)
    };
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    let (full, tail) = out.as_chunks_mut::<64>();
    let mut at = 0;
    for o in full {
        let x = if section.len() - at >= 64 { load(&section[at..]) } else { load_part(&section[at..]) };
        store(o, one(x));
        at += step;
    }
    if !tail.is_empty() {
        store_part(tail, one(load_part(&section[at..])));
    }
}

/// Packs `1 <= width < W::BITS` with `pext`, a 64-bit lane of words at a time.
#[target_feature(enable = "bmi2")]
fn pack_bmi2<W: RingWord>(width: u32, xs: &[W], out: &mut [u8]) {
    let q = 8 * width / size_of::<W>() as u32;
    let keep = lane_mask::<W>(width);
    let (words, _) = out.as_chunks_mut::<8>();
    let mut words = words.iter_mut();
    let (mut acc, mut fill) = (0u64, 0);
    let (lanes, tail) = bytemuck::cast_slice::<W, u8>(xs).as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let last = (!tail.is_empty()).then_some(&last);
    for x in lanes.iter().chain(last) {
        let x = _pext_u64(u64::from_le_bytes(*x), keep);
        acc |= x << fill;
        fill += q;
        if fill >= 64 {
            // The tail's lane may be longer than what is left of the section: then it is zeros.
            if let Some(w) = words.next() {
                *w = acc.to_le_bytes();
            }
            fill -= 64;
            acc = x.checked_shr(q - fill).unwrap_or(0);
        }
    }
    if fill > 0
        && let Some(w) = words.next()
    {
        *w = acc.to_le_bytes();
    }
}

/// The inverse of [`pack_bmi2`].
#[target_feature(enable = "bmi2")]
fn unpack_bmi2<W: RingWord>(width: u32, section: &[u8], out: &mut [W]) {
    let q = 8 * width / size_of::<W>() as u32;
    let keep = lane_mask::<W>(width);
    let (words, _) = section.as_chunks::<8>();
    let mut words = words.iter();
    let (mut acc, mut left) = (0u64, 0);
    let mut next = || {
        let mut x = acc;
        if left < q {
            acc = words.next().map_or(0, |w| u64::from_le_bytes(*w));
            x |= acc.checked_shl(left).unwrap_or(0);
            acc = acc.checked_shr(q - left).unwrap_or(0);
            left += 64 - q;
        } else {
            acc >>= q;
            left -= q;
        }
        _pdep_u64(x, keep).to_le_bytes()
    };
    let (lanes, tail) = bytemuck::cast_slice_mut::<W, u8>(out).as_chunks_mut::<8>();
    for o in lanes {
        *o = next();
    }
    if !tail.is_empty() {
        tail.copy_from_slice(&next()[..tail.len()]);
    }
}

/// The low `width` bits of every word in 64 bits.
fn lane_mask<W: RingWord>(width: u32) -> u64 {
    (0..8 / size_of::<W>()).fold(0, |m, k| m | (u64::MAX >> (64 - width)) << (8 * k * size_of::<W>()))
}
