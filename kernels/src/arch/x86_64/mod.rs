//! Versions with x86-64 intrinsics.
//!
//! Each file begins with the functions that every architecture has, which choose by level; they establish the features
//! through [`Level::checked`]. The rest are `target_feature` functions: inside, intrinsics without pointers are safe.
//! Words are little endian, so a slice of words is its bytes.

pub(crate) mod aes;
pub(crate) mod bits;
pub(crate) mod limbs;
pub(crate) mod ntt;
pub(crate) mod onehot;
pub(crate) mod pack;
pub(crate) mod table;
pub(crate) mod transpose;

use crate::level::Level;
use std::arch::x86_64::*;

/// The highest level that this CPU has.
pub(crate) fn detect() -> Level {
    macro_rules! has {
        ($($f:tt),*) => { true $(&& std::arch::is_x86_feature_detected!($f))* };
    }
    if !has!("aes", "pclmulqdq", "sse4.2", "popcnt", "avx", "avx2", "bmi1", "bmi2", "lzcnt", "fma") {
        Level::Portable
    } else if !has!("vaes") {
        Level::Aesni
    } else if !has!("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2", "avx512vnni", "gfni") {
        Level::Vaes256
    } else {
        Level::Avx512
    }
}

/// The first 64 bytes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(bytes: &[u8]) -> __m512i {
    bytemuck::must_cast(*bytes.first_chunk::<64>().expect("64 bytes"))
}

/// The first 64 bytes, or as many as there are and zeros.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load_part(bytes: &[u8]) -> __m512i {
    // SAFETY: the mask has a bit for bytes that exist only.
    unsafe { _mm512_maskz_loadu_epi8(first(bytes.len()), bytes.as_ptr().cast()) }
}

/// To the first 64 bytes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store(bytes: &mut [u8], x: __m512i) {
    *bytes.first_chunk_mut::<64>().expect("64 bytes") = bytemuck::must_cast(x);
}

/// To the first 64 bytes, or to as many as there are.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store_part(bytes: &mut [u8], x: __m512i) {
    // SAFETY: the mask has a bit for bytes that exist only.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), first(bytes.len()), x) }
}

/// The first `n` bits, at most 64.
#[inline(always)]
fn first(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// A register from bytes `f(0), f(1) ..`, for constants.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn bytes(f: impl Fn(usize) -> u8) -> __m512i {
    bytemuck::must_cast::<[u8; 64], _>(std::array::from_fn(f))
}

/// A register from 64-bit words, for constants.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn words(f: impl Fn(usize) -> u64) -> __m512i {
    bytemuck::must_cast::<[u64; 8], _>(std::array::from_fn(f))
}
