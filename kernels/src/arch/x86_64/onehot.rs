//! Sums of table entries that a bit vector takes.

use super::*;
use crate::{arch::portable, ring::RingWord};

/// See [`crate::onehot::pick_add`].
pub(crate) fn pick_add<W: RingWord>(level: Level, vector: &[u64], table: &[W]) -> W {
    match level.checked() {
        _ if table.len() < 64 => portable::onehot::pick_add(level, vector, table),
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Aesni | Level::Vaes256 => unsafe { pick_add_avx2(vector, table) },
        // SAFETY: as above.
        Level::Avx512 => unsafe { pick_add_avx512(vector, table) },
        _ => portable::onehot::pick_add(level, vector, table),
    }
}

/// The table has a multiple of 64 entries.
#[target_feature(enable = "avx512f,avx512bw")]
fn pick_add_avx512<W: RingWord>(vector: &[u64], table: &[W]) -> W {
    let size = size_of::<W>();
    let per = 64 / size;
    let mut acc = [_mm512_setzero_si512(); 4];
    for (e, t) in vector.iter().zip(bytemuck::cast_slice::<W, u8>(table).chunks_exact(64 * size)) {
        for k in 0..size {
            let (a, x, e) = (&mut acc[k % 4], load(&t[64 * k..]), e >> (k * per));
            *a = match size {
                1 => _mm512_mask_add_epi8(*a, e, *a, x),
                2 => _mm512_mask_add_epi16(*a, e as u32, *a, x),
                4 => _mm512_mask_add_epi32(*a, e as u16, *a, x),
                _ => _mm512_mask_add_epi64(*a, e as u8, *a, x),
            };
        }
    }
    let acc: [u8; 256] = bytemuck::must_cast(acc);
    sum(&acc)
}

/// The same without masks: the bits of a lane's entry are compared with a constant.
#[target_feature(enable = "avx2")]
fn pick_add_avx2<W: RingWord>(vector: &[u64], table: &[W]) -> W {
    let size = size_of::<W>();
    let per = 32 / size;
    // The bits of a register's entries go to all lanes, except that byte lanes take theirs from the byte that has it.
    let bytes = bytemuck::must_cast::<[u8; 32], _>(std::array::from_fn(|i| (i / 8) as u8));
    let probe = {
        let mut probe = [0u8; 32];
        for i in 0..per {
            let bit = if size == 1 { i % 8 } else { i };
            probe[i * size + bit / 8] = 1 << (bit % 8);
        }
        bytemuck::must_cast::<[u8; 32], __m256i>(probe)
    };
    let mut acc = [_mm256_setzero_si256(); 4];
    for (e, t) in vector.iter().zip(bytemuck::cast_slice::<W, u8>(table).chunks_exact(64 * size)) {
        for k in 0..2 * size {
            let x: __m256i = bytemuck::must_cast(*t[32 * k..].first_chunk::<32>().expect("32 bytes"));
            let (a, e) = (&mut acc[k % 4], e >> (k * per));
            let masked = |taken| _mm256_and_si256(x, taken);
            *a = match size {
                1 => {
                    let e = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(e as i32), bytes), probe);
                    _mm256_add_epi8(*a, masked(_mm256_cmpeq_epi8(e, probe)))
                }
                2 => {
                    let e = _mm256_and_si256(_mm256_set1_epi16(e as i16), probe);
                    _mm256_add_epi16(*a, masked(_mm256_cmpeq_epi16(e, probe)))
                }
                4 => {
                    let e = _mm256_and_si256(_mm256_set1_epi32(e as i32), probe);
                    _mm256_add_epi32(*a, masked(_mm256_cmpeq_epi32(e, probe)))
                }
                _ => {
                    let e = _mm256_and_si256(_mm256_set1_epi64x(e as i64), probe);
                    _mm256_add_epi64(*a, masked(_mm256_cmpeq_epi64(e, probe)))
                }
            };
        }
    }
    let acc: [u8; 128] = bytemuck::must_cast(acc);
    sum(&acc)
}

fn sum<W: RingWord>(lanes: &[u8]) -> W {
    lanes.chunks_exact(size_of::<W>()).fold(W::zero(), |sum, x| sum.wadd(bytemuck::pod_read_unaligned(x)))
}
