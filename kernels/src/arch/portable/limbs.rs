//! Products of limbs with weights.

use crate::{level::Level, limbs::Limbs};

pub(crate) fn multiply_accumulate(
    _: Level,
    x: &Limbs,
    starts: &[usize],
    weights: &[[i16; 2]],
    _chunk: usize,
    shift: u32,
    slots: usize,
    out: &mut [i64],
) {
    for (weights, out) in weights.chunks_exact(starts.len()).zip(out.chunks_exact_mut(x.limbs * slots)) {
        for (l, out) in out.chunks_exact_mut(slots).enumerate() {
            for (start, [a, b]) in starts.iter().zip(weights) {
                let row = &x.data[start + l * x.stride()..][..2 * slots];
                for (out, [x, y]) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                    let sum = i64::from(*x) * i64::from(*a) + i64::from(*y) * i64::from(*b);
                    *out += sum << shift;
                }
            }
        }
    }
}
