//! Dense sections of `w`-bit values: the wire format. Little endian, padded with zeros to a multiple of 8 bytes.

#[cfg(target_arch = "x86_64")]
use crate::x86::pack as x86;
use crate::{
    level::{Level, level},
    ring::RingWord,
};

/// Bytes of a section of `n` values of `width` bits.
#[inline]
pub const fn packed_len(n: usize, width: u32) -> usize {
    (n * width as usize).div_ceil(64) * 8
}

/// Packs reduced words: value `i` takes bits `i * width..` of the section.
pub fn pack<W: RingWord>(width: u32, xs: &[W], out: &mut [u8]) {
    pack_at(level(), width, xs, out);
}

/// The inverse of [`pack`]; the values are reduced.
pub fn unpack<W: RingWord>(width: u32, bytes: &[u8], out: &mut [W]) {
    unpack_at(level(), width, bytes, out);
}

#[doc(hidden)]
pub fn pack_at<W: RingWord>(level: Level, width: u32, xs: &[W], out: &mut [u8]) {
    assert!(1 <= width && width <= W::BITS);
    assert_eq!(out.len(), packed_len(xs.len(), width));
    let level = level.checked();
    if width == <W as RingWord>::BITS && cfg!(target_endian = "little") {
        let (words, tail) = out.split_at_mut(size_of_val(xs));
        words.copy_from_slice(bytemuck::cast_slice(xs));
        tail.fill(0);
        return;
    }
    match level {
        Level::Portable => pack_portable(width, xs, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Aesni | Level::Vaes256 => unsafe { x86::pack_bmi2(width, xs, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { x86::pack(width, xs, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!(),
    }
}

#[doc(hidden)]
pub fn unpack_at<W: RingWord>(level: Level, width: u32, bytes: &[u8], out: &mut [W]) {
    assert!(1 <= width && width <= W::BITS);
    assert_eq!(bytes.len(), packed_len(out.len(), width));
    let level = level.checked();
    if width == <W as RingWord>::BITS && cfg!(target_endian = "little") {
        let n = size_of_val(out);
        bytemuck::cast_slice_mut(out).copy_from_slice(&bytes[..n]);
        return;
    }
    match level {
        Level::Portable => unpack_portable(width, bytes, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 if x86::can_unpack::<W>(width) => unsafe { x86::unpack(width, bytes, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        _ => unsafe { x86::unpack_bmi2(width, bytes, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!(),
    }
}

fn pack_portable<W: RingWord>(width: u32, xs: &[W], out: &mut [u8]) {
    let (words, _) = out.as_chunks_mut::<8>();
    let mut words = words.iter_mut();
    let (mut acc, mut fill) = (0u64, 0);
    for x in xs {
        let x = x.to_u64();
        acc |= x << fill;
        fill += width;
        if fill >= 64 {
            *words.next().expect("length checked") = acc.to_le_bytes();
            fill -= 64;
            // The bits that did not fit; a shift by 64 stands for none.
            acc = x.checked_shr(width - fill).unwrap_or(0);
        }
    }
    if fill > 0 {
        *words.next().expect("length checked") = acc.to_le_bytes();
    }
}

fn unpack_portable<W: RingWord>(width: u32, bytes: &[u8], out: &mut [W]) {
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter();
    let m = u64::MAX >> (64 - width);
    let (mut acc, mut left) = (0u64, 0);
    for x in out {
        let mut v = acc;
        if left < width {
            acc = u64::from_le_bytes(*words.next().expect("length checked"));
            v |= acc.checked_shl(left).unwrap_or(0);
            acc = acc.checked_shr(width - left).unwrap_or(0);
            left += 64 - width;
        } else {
            acc >>= width;
            left -= width;
        }
        *x = W::from_u64(v & m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn naive<W: RingWord>(width: u32, xs: &[W]) -> Vec<u8> {
        let mut out = vec![0; packed_len(xs.len(), width)];
        for (i, x) in xs.iter().enumerate() {
            for b in 0..width as usize {
                let at = i * width as usize + b;
                out[at / 8] |= ((x.to_u64() >> b & 1) as u8) << (at % 8);
            }
        }
        out
    }

    fn check<W: RingWord>() {
        for l in available() {
            for width in 1..=<W as RingWord>::BITS {
                for n in (0..70).chain([127, 128, 129, 191, 192, 193, 255, 256, 257, 1000]) {
                    let mut room = vec![W::zero(); n + 1];
                    Prg::new(n as u128).fill_words(width, &mut room);
                    let xs = &room[1..];
                    let want = naive(width, xs);
                    let mut bytes = vec![0xff; want.len() + 1];
                    pack_at(l, width, xs, &mut bytes[1..]);
                    assert!(bytes[1..] == want, "{l:?} pack u{} {width} {n}", W::BITS);
                    let mut back = vec![W::max_value(); n + 1];
                    unpack_at(l, width, &bytes[1..], &mut back[1..]);
                    assert!(back[1..] == *xs, "{l:?} unpack u{} {width} {n}", W::BITS);
                }
            }
        }
    }

    #[test]
    fn u8_words() {
        check::<u8>();
    }
    #[test]
    fn u16_words() {
        check::<u16>();
    }
    #[test]
    fn u32_words() {
        check::<u32>();
    }
    #[test]
    fn u64_words() {
        check::<u64>();
    }
}
