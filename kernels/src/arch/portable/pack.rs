//! Dense sections, a word of 64 bits after the other.

use crate::{level::Level, ring::RingWord};

/// See [`crate::pack::pack`].
pub(crate) fn pack<W: RingWord>(_: Level, width: u32, xs: &[W], out: &mut [u8]) {
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

/// See [`crate::pack::unpack`].
pub(crate) fn unpack<W: RingWord>(_: Level, width: u32, bytes: &[u8], out: &mut [W]) {
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
