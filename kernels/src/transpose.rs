//! Bit-matrix transpose: from the 128 columns that OT extension generates to one 128-bit row per OT.

use crate::{
    arch::native,
    level::{Level, level},
};

/// `cols` holds 128 columns of `m` blocks, column `c` at `c * m`; bit `r` of a column is bit `r % 128` of its block
/// `r / 128`. `out` gets the `128 m` rows: bit `c` of row `r` is bit `r` of column `c`.
pub fn transpose128(cols: &[u128], m: usize, out: &mut [u128]) {
    transpose128_at(level(), cols, m, out);
}

#[doc(hidden)]
pub fn transpose128_at(level: Level, cols: &[u128], m: usize, out: &mut [u128]) {
    assert_eq!(cols.len(), 128 * m);
    assert_eq!(out.len(), 128 * m);
    native::transpose::transpose128(level, cols, m, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    #[test]
    fn is_the_transpose() {
        for l in available() {
            for (m, skip) in [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 64, 64, 64, 64].into_iter().zip((0..4).cycle())
            {
                let mut room = vec![0; 128 * m + skip];
                let cols = &mut room[skip..];
                Prg::new(m as u128).fill_blocks(cols);
                let mut rows = vec![0; 128 * m];
                transpose128_at(l, cols, m, &mut rows);
                for (r, row) in rows.iter().enumerate() {
                    let want = (0..128).fold(0, |w, c| w | (cols[c * m + r / 128] >> (r % 128) & 1) << c);
                    assert_eq!(*row, want, "{l:?} m={m} row {r}");
                }
            }
        }
    }
}
