//! Products of limbs with weights by `vpmaddwd`, or with AVX-512 by `vpdpwssd`, which adds as well: tiles of outputs and registers
//! whose sums stay in registers.

use crate::{level::Level, limbs::Limbs};
use std::arch::x86_64::*;

pub(crate) fn multiply_accumulate(
    level: Level,
    x: &Limbs,
    starts: &[usize],
    weights: &[[i16; 2]],
    chunk: usize,
    shift: u32,
    slots: usize,
    out: &mut [i64],
) {
    match level.checked() {
        Level::Portable => {
            crate::arch::portable::limbs::multiply_accumulate(level, x, starts, weights, chunk, shift, slots, out);
        }
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 => unsafe { avx512::all(x, starts, weights, chunk, shift, slots, out) },
        // SAFETY: as above.
        _ => unsafe { avx2::all(x, starts, weights, chunk, shift, slots, out) },
    }
}

macro_rules! kernels {
    ($features:literal, $V:ident, $J:literal, $T:literal) => {
        use super::*;
        type V = $V;
        /// Slots of a register.
        const LANES: usize = size_of::<V>() / 4;
        /// Slots of a tile.
        const TILE: usize = $T * LANES;

        #[target_feature(enable = $features)]
        pub(super) fn all(
            x: &Limbs,
            starts: &[usize],
            weights: &[[i16; 2]],
            chunk: usize,
            shift: u32,
            slots: usize,
            out: &mut [i64],
        ) {
            let rows = x.limbs * slots;
            let outputs = weights.len() / starts.len();
            // Rows lie far apart: what a tile reads is brought together first, and stays in the cache for all outputs.
            let mut packed = vec![[0i16; 2 * TILE]; slots / TILE * starts.len()];
            for l in 0..x.limbs {
                for (g, start) in starts.iter().enumerate() {
                    let row = &x.data[l * x.stride() + start..][..2 * slots];
                    for (t, part) in row.as_chunks::<{ 2 * TILE }>().0.iter().enumerate() {
                        packed[t * starts.len() + g] = *part;
                    }
                }
                for (t, data) in packed.chunks_exact(starts.len()).enumerate() {
                    let mut from = 0;
                    for data in data.chunks(chunk) {
                        let mut j = 0;
                        macro_rules! step {
                            ($n:literal) => {
                                while outputs - j >= $n {
                                    let weights: [&[[i16; 2]]; $n] = std::array::from_fn(|k| {
                                        &weights[(j + k) * starts.len() + from..][..data.len()]
                                    });
                                    let out = &mut out[j * rows + l * slots + t * TILE..];
                                    tile::<$n>(data, weights, shift, rows, out);
                                    j += $n;
                                }
                            };
                        }
                        step!($J);
                        step!(1);
                        from += data.len();
                    }
                }
            }
        }

        /// `J` outputs, `T` registers of slots.
        #[target_feature(enable = $features)]
        #[inline]
        fn tile<const J: usize>(
            data: &[[i16; 2 * TILE]],
            weights: [&[[i16; 2]]; J],
            shift: u32,
            rows: usize,
            out: &mut [i64],
        ) {
            let mut sums = [[zero(); $T]; J];
            for (g, row) in data.iter().enumerate() {
                let x: [V; $T] = bytemuck::must_cast(*row);
                for j in 0..J {
                    let w = splat(bytemuck::must_cast(weights[j][g]));
                    for t in 0..$T {
                        sums[j][t] = accumulate(sums[j][t], x[t], w);
                    }
                }
            }
            for j in 0..J {
                for t in 0..$T {
                    let sums: [i32; LANES] = bytemuck::must_cast(sums[j][t]);
                    let out: &mut [i64; LANES] = out[j * rows + t * LANES..].first_chunk_mut().expect("a tile");
                    for i in 0..LANES {
                        out[i] += i64::from(sums[i]) << shift;
                    }
                }
            }
        }
    };
}

mod avx2 {
    kernels!("avx2", __m256i, 4, 2);

    #[target_feature(enable = "avx2")]
    #[inline]
    fn zero() -> V {
        _mm256_setzero_si256()
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn splat(w: i32) -> V {
        _mm256_set1_epi32(w)
    }

    /// Both products of every lane are added to its sum.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn accumulate(sums: V, x: V, y: V) -> V {
        _mm256_add_epi32(sums, _mm256_madd_epi16(x, y))
    }
}

mod avx512 {
    kernels!("avx512f,avx512bw,avx512vnni", __m512i, 8, 2);

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn zero() -> V {
        _mm512_setzero_si512()
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn splat(w: i32) -> V {
        _mm512_set1_epi32(w)
    }

    /// Both products of every lane are added to its sum.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn accumulate(sums: V, x: V, y: V) -> V {
        _mm512_dpwssd_epi32(sums, x, y)
    }
}
