//! Dense sections of `w`-bit values: the wire format. Little endian, padded with zeros to a multiple of 8 bytes.

use crate::{
    arch::native,
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
    if width == <W as RingWord>::BITS && cfg!(target_endian = "little") {
        let (words, tail) = out.split_at_mut(size_of_val(xs));
        words.copy_from_slice(bytemuck::cast_slice(xs));
        tail.fill(0);
        return;
    }
    native::pack::pack(level, width, xs, out);
}

#[doc(hidden)]
pub fn unpack_at<W: RingWord>(level: Level, width: u32, bytes: &[u8], out: &mut [W]) {
    assert!(1 <= width && width <= W::BITS);
    assert_eq!(bytes.len(), packed_len(out.len(), width));
    if width == <W as RingWord>::BITS && cfg!(target_endian = "little") {
        let n = size_of_val(out);
        bytemuck::cast_slice_mut(out).copy_from_slice(&bytes[..n]);
        return;
    }
    native::pack::unpack(level, width, bytes, out);
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
