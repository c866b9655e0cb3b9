//! Transpose of a bit matrix.

use crate::level::Level;

/// See [`crate::transpose::transpose128`]. Recursive halving: swap the off-diagonal quadrants of ever smaller squares.
pub(crate) fn transpose128(_: Level, cols: &[u128], m: usize, out: &mut [u128]) {
    for (b, rows) in out.chunks_exact_mut(128).enumerate() {
        for (c, row) in rows.iter_mut().enumerate() {
            *row = cols[c * m + b];
        }
        let (mut j, mut mask) = (64, u128::from(u64::MAX));
        while j != 0 {
            let mut k = 0;
            while k < 128 {
                let t = (rows[k] >> j ^ rows[k + j]) & mask;
                rows[k] ^= t << j;
                rows[k + j] ^= t;
                k = (k + j + 1) & !j;
            }
            j >>= 1;
            mask ^= mask << j;
        }
    }
}
