//! Words that store ring elements.

use num_traits::{Bounded, Unsigned, WrappingAdd, WrappingMul, WrappingNeg, WrappingShl, WrappingShr, WrappingSub};
use std::{
    fmt::Debug,
    hash::Hash,
    ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Not, Shl, Shr},
};

/// Bits of the narrowest word that holds `width` bits: 8, 16, 32 or 64.
#[inline]
pub const fn storage_bits(width: u32) -> u32 {
    match width {
        1..=8 => 8,
        9..=16 => 16,
        17..=32 => 32,
        33..=64 => 64,
        _ => panic!("ring widths are 1 to 64"),
    }
}

/// An unsigned word: storage of elements of `Z/2^w` for any `w` up to [`RingWord::BITS`]. A *reduced* word has zeros
/// above its width; kernels expect and return reduced words unless they say otherwise.
// Not `num_traits::PrimInt`: its `ToPrimitive::to_u64(&self)` would shadow ours on references.
pub trait RingWord:
    Unsigned
    + Bounded
    + Copy
    + Ord
    + Not<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + BitAndAssign
    + BitOrAssign
    + BitXorAssign
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
    + WrappingAdd
    + WrappingSub
    + WrappingMul
    + WrappingNeg
    + WrappingShl
    + WrappingShr
    + Default
    + Debug
    + Hash
    + Send
    + Sync
    + bytemuck::Pod
{
    /// Bits of the word.
    const BITS: u32;

    /// The low `width` bits set, `width <= BITS`.
    fn mask(width: u32) -> Self;
    /// The low bits of `x`.
    fn from_u64(x: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
    /// The low bits of `x`.
    fn from_u128(x: u128) -> Self;
    /// From a word whose bytes are in little-endian order.
    fn le_to_native(self) -> Self;
    /// All bits set if `b`, none otherwise; without a branch.
    fn splat(b: bool) -> Self;

    /// `self + y`, wrapping.
    fn wadd(self, y: Self) -> Self;
    /// `self - y`, wrapping.
    fn wsub(self, y: Self) -> Self;
    /// `self * y`, wrapping.
    fn wmul(self, y: Self) -> Self;
}

macro_rules! ring_word {
    ($($w:ty),*) => {$(
        impl RingWord for $w {
            const BITS: u32 = <$w>::BITS;

            #[inline(always)]
            fn mask(width: u32) -> Self {
                debug_assert!(width <= <$w>::BITS);
                if width == 0 { 0 } else { <$w>::MAX >> (<$w>::BITS - width) }
            }
            #[inline(always)]
            fn from_u64(x: u64) -> Self {
                x as $w
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn from_u128(x: u128) -> Self {
                x as $w
            }
            #[inline(always)]
            fn le_to_native(self) -> Self {
                <$w>::from_le(self)
            }
            #[inline(always)]
            fn splat(b: bool) -> Self {
                (b as $w).wrapping_neg()
            }
            #[inline(always)]
            fn wadd(self, y: Self) -> Self {
                self.wrapping_add(y)
            }
            #[inline(always)]
            fn wsub(self, y: Self) -> Self {
                self.wrapping_sub(y)
            }
            #[inline(always)]
            fn wmul(self, y: Self) -> Self {
                self.wrapping_mul(y)
            }
        }
    )*};
}
ring_word!(u8, u16, u32, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage() {
        assert_eq!([1, 8, 9, 16, 17, 32, 33, 64].map(storage_bits), [8, 8, 16, 16, 32, 32, 64, 64]);
    }

    #[test]
    fn masks() {
        assert_eq!(u8::mask(0), 0);
        assert_eq!(u8::mask(3), 7);
        assert_eq!(u64::mask(64), u64::MAX);
        assert_eq!(<u16 as RingWord>::from_u128(0x1_0002_0003), 3);
        assert_eq!((u32::splat(true), u32::splat(false)), (u32::MAX, 0));
    }
}
