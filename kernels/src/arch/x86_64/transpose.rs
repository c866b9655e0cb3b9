//! Bit-matrix transpose: bytes by interleaving, the 8 x 8 bits of every 8 bytes by GFNI or by swapping quadrants.
//!
//! A tile is 128 columns of one register each (2 or 4 blocks). First pass, 8 columns at a time: interleave bytes so
//! that 8 bytes of one row byte stand together, transpose the bits in each such word: now a byte belongs to one row
//! and 8 columns. Second pass, 16 of these registers at a time: interleave bytes again so that 16 bytes of one row
//! stand together. One interleaving in either pass is done with shifts and not with unpack instructions, which all
//! contend for one port.

use crate::{arch::portable, level::Level};
use std::arch::x86_64::*;

/// See [`crate::transpose::transpose128`].
pub(crate) fn transpose128(level: Level, cols: &[u128], m: usize, out: &mut [u128]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Aesni | Level::Vaes256 => unsafe { avx2::transpose(cols, m, out) },
        // SAFETY: as above.
        Level::Avx512 => unsafe { avx512::transpose(cols, m, out) },
        _ => portable::transpose::transpose128(level, cols, m, out),
    }
}

/// Where the byte that the second pass brings to register `t` comes from, in a lane: eight rows of row byte `y`, then
/// of `y + 2`. Its own inverse.
const fn position(t: usize) -> usize {
    (t & 1) | (t >> 3 & 1) << 1 | (t >> 2 & 1) << 2 | (t >> 1 & 1) << 3
}

/// All registers in order of rows.
macro_rules! by_row {
    ($put:ident, $($arg:expr),*) => { by_row!($put, ($($arg),*), 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
    ($put:ident, $args:tt, $($p:literal)*) => { $($put::<{ position($p) }>$args;)* };
}

macro_rules! kernels {
    ($features:literal, $V:ident, $L:literal) => {
        /// Blocks per register.
        const L: usize = $L;
        type V = $V;

        /// `x[k]` and its partner become the interleaved low and high halves, by pairs `(k, k + step)`.
        macro_rules! stage {
            ($x:ident, $step:literal, $lo:ident, $hi:ident) => {
                for k in 0..$x.len() {
                    if k & $step == 0 {
                        let (a, b) = ($x[k], $x[k + $step]);
                        ($x[k], $x[k + $step]) = ($lo(a, b), $hi(a, b));
                    }
                }
            };
        }

        /// What the first pass leaves to the second.
        type Half = [V; 128];

        /// One tile: 128 columns at stride `m` blocks, rows of lane `l` to `out[128 * l..]`.
        ///
        /// # Safety
        /// `cols` points to `127 * m + L` blocks.
        #[target_feature(enable = $features)]
        unsafe fn tile(cols: *const u128, m: usize, half: &mut Half, out: &mut [u128; 128 * L]) {
            for g in 0..16 {
                let mut x = [zero(); 8];
                for k in 0..8 {
                    // SAFETY: the column is below 128, so its L blocks are inside by the caller's promise.
                    x[k] = unsafe { cols.add((8 * g + (k ^ FLIP)) * m).cast::<V>().read_unaligned() };
                }
                // Pairs of columns, then fours, then all eight. Which register ends where is worked out below.
                stage!(x, 1, even_bytes, odd_bytes);
                stage!(x, 2, lo16, hi16);
                stage!(x, 4, lo32, hi32);
                for k in 0..8 {
                    half[k * 16 + g] = bits(x[k]);
                }
            }
            for k in 0..8 {
                let mut x: [V; 16] = half[k * 16..][..16].try_into().expect("16 registers");
                stage!(x, 1, even_bytes, odd_bytes);
                stage!(x, 2, lo16, hi16);
                stage!(x, 4, lo32, hi32);
                stage!(x, 8, lo64, hi64);
                // Register bit 0 of the first pass is the lowest bit of the row byte, bit 1 the highest: the first
                // interleaving took even and odd bytes, the others halves.
                let y = (k & 1) | (k >> 2 & 1) << 2 | (k >> 1 & 1) << 3;
                let out: &mut [[u128; 128]; L] = bytemuck::must_cast_mut(out);
                for l in 0..L {
                    by_row!(put, out, y, &x, l);
                }
            }
        }

        /// Lane `l` of register `T` of the second pass to its row.
        #[target_feature(enable = $features)]
        #[inline]
        fn put<const T: usize>(out: &mut [[u128; 128]; L], y: usize, x: &[V; 16], l: usize) {
            let row = 8 * y + 16 * (position(T) >> 3) + (position(T) & 7);
            let to = std::ptr::from_mut(&mut out[l][row]).cast::<__m128i>();
            let lanes: [__m128i; L] = bytemuck::must_cast(x[T]);
            // SAFETY: a live element. Volatile keeps the compiler from merging neighbouring rows into wider stores:
            // that costs shuffles, of which there are too many already.
            unsafe { to.write_volatile(lanes[l]) };
        }

        /// Up to `L` blocks from block `from` on, by way of a copy.
        #[target_feature(enable = $features)]
        #[inline(never)]
        fn edge(cols: &[u128], m: usize, from: usize, out: &mut [u128]) {
            if out.is_empty() {
                return;
            }
            let (mut x, mut y, mut half) = ([0; 128 * L], [0; 128 * L], [zero(); 128]);
            let n = out.len() / 128;
            for c in 0..128 {
                x[c * L..][..n].copy_from_slice(&cols[c * m + from..][..n]);
            }
            // SAFETY: 128 columns of stride L.
            unsafe { tile(x.as_ptr(), L, &mut half, &mut y) };
            out.copy_from_slice(&y[..out.len()]);
        }

        #[target_feature(enable = $features)]
        pub(crate) fn transpose(cols: &[u128], m: usize, out: &mut [u128]) {
            assert!(cols.len() == 128 * m && out.len() == 128 * m);
            // A register that straddles cache lines takes both from L2, in two tiles: start where they do not, if that
            // is the same place in every column.
            let skip = cols.as_ptr().addr() / 16 % L;
            let head = if skip != 0 && m % L == 0 && m >= 16 * L { L - skip } else { 0 };
            let (head_out, out) = out.split_at_mut(128 * head);
            edge(cols, m, 0, head_out);
            let (tiles, tail) = out.as_chunks_mut::<{ 128 * L }>();
            let full = tiles.len();
            let mut half = [zero(); 128];
            for (b, out) in tiles.iter_mut().enumerate() {
                // SAFETY: head + b * L + L <= m.
                unsafe { tile(cols.as_ptr().add(head + b * L), m, &mut half, out) };
            }
            edge(cols, m, head + full * L, tail);
        }
    };
}

macro_rules! op2 {
    ($features:literal, $V:ident; $($name:ident = $intrinsic:ident),*) => {$(
        #[target_feature(enable = $features)]
        #[inline]
        fn $name(a: $V, b: $V) -> $V {
            $intrinsic(a, b)
        }
    )*};
}

mod avx2 {
    use super::*;
    op2!("avx2", __m256i; lo16 = _mm256_unpacklo_epi16, hi16 = _mm256_unpackhi_epi16, lo32 = _mm256_unpacklo_epi32,
        hi32 = _mm256_unpackhi_epi32, lo64 = _mm256_unpacklo_epi64, hi64 = _mm256_unpackhi_epi64);

    #[target_feature(enable = "avx2")]
    #[inline]
    fn zero() -> V {
        _mm256_setzero_si256()
    }
    #[target_feature(enable = "avx2")]
    #[inline]
    fn even_bytes(a: V, b: V) -> V {
        _mm256_blendv_epi8(_mm256_slli_epi16::<8>(b), a, _mm256_set1_epi16(0xff))
    }
    #[target_feature(enable = "avx2")]
    #[inline]
    fn odd_bytes(a: V, b: V) -> V {
        _mm256_blendv_epi8(b, _mm256_srli_epi16::<8>(a), _mm256_set1_epi16(0xff))
    }
    const FLIP: usize = 0;
    /// Transposes the bits of every 8 bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn bits(x: V) -> V {
        macro_rules! swap {
            ($x:expr, $s:literal, $m:literal) => {{
                let t = _mm256_and_si256(_mm256_xor_si256($x, _mm256_srli_epi64::<$s>($x)), _mm256_set1_epi64x($m));
                _mm256_xor_si256($x, _mm256_xor_si256(t, _mm256_slli_epi64::<$s>(t)))
            }};
        }
        let x = swap!(x, 7, 0x00aa_00aa_00aa_00aa);
        let x = swap!(x, 14, 0x0000_cccc_0000_cccc);
        swap!(x, 28, 0x0000_0000_f0f0_f0f0)
    }
    kernels!("avx2", __m256i, 2);
}

mod avx512 {
    use super::*;
    op2!("avx512f,avx512bw,gfni", __m512i; lo16 = _mm512_unpacklo_epi16, hi16 = _mm512_unpackhi_epi16,
        lo32 = _mm512_unpacklo_epi32, hi32 = _mm512_unpackhi_epi32, lo64 = _mm512_unpacklo_epi64,
        hi64 = _mm512_unpackhi_epi64);

    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    #[inline]
    fn zero() -> V {
        _mm512_setzero_si512()
    }
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    #[inline]
    fn even_bytes(a: V, b: V) -> V {
        // mask ? a : b
        _mm512_ternarylogic_epi64::<0xca>(_mm512_set1_epi16(0xff), a, _mm512_slli_epi16::<8>(b))
    }
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    #[inline]
    fn odd_bytes(a: V, b: V) -> V {
        _mm512_ternarylogic_epi64::<0xca>(_mm512_set1_epi16(0xff), _mm512_srli_epi16::<8>(a), b)
    }
    // GFNI counts the rows of a matrix from the other end.
    const FLIP: usize = 7;
    /// Transposes the bits of every 8 bytes: as a matrix, they map the unit vectors to their columns.
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    #[inline]
    fn bits(x: V) -> V {
        _mm512_gf2p8affine_epi64_epi8::<0>(_mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64), x)
    }
    kernels!("avx512f,avx512bw,gfni", __m512i, 4);
}
