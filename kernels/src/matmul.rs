//! Matrix product of ring words, wrapping in the word. Reduce with [`crate::ops::mask`] for narrower rings.

use crate::{
    level::{Level, level},
    ring::RingWord,
};
use rayon::prelude::*;

/// Products from which a thread is worth its start.
// LOCAL: measured, some 50 us.
const PARALLEL: usize = 1 << 20;

/// `out = x * w` with `x` `[rows, inner]`, `w` `[inner, outer]`, `out` `[rows, outer]`, all row-major. Rows are spread
/// over threads if there is enough to do.
pub fn matmul<W: RingWord>(x: &[W], w: &[W], out: &mut [W], rows: usize, inner: usize, outer: usize) {
    matmul_at(level(), x, w, out, rows, inner, outer);
}

#[doc(hidden)]
pub fn matmul_at<W: RingWord>(level: Level, x: &[W], w: &[W], out: &mut [W], rows: usize, inner: usize, outer: usize) {
    assert_eq!(x.len(), rows * inner);
    assert_eq!(w.len(), inner * outer);
    assert_eq!(out.len(), rows * outer);
    if rows * inner * outer < 2 * PARALLEL {
        return serial_at(level, x, w, out, rows, inner, outer);
    }
    // Whole tiles of rows.
    let some = PARALLEL.div_ceil(inner * outer).next_multiple_of(ROWS);
    out.par_chunks_mut(some * outer).zip(x.par_chunks(some * inner)).for_each(|(out, x)| {
        serial_at(level, x, w, out, x.len() / inner, inner, outer);
    });
}

/// Rows that share a load of `w`.
const ROWS: usize = 4;

/// `out[r][j..j + J] = sum_k x[r][k] w[k][j..j + J]` for `R` rows, summed up in `A`.
#[inline(always)]
fn tile<W: RingWord, A: RingWord, const R: usize, const J: usize>(
    x: &[W],
    w: &[W],
    out: &mut [W],
    inner: usize,
    outer: usize,
    j: usize,
) {
    let mut acc = [[A::zero(); J]; R];
    let x: [&[W]; R] = std::array::from_fn(|r| &x[r * inner..][..inner]);
    for k in 0..inner {
        let w: &[W; J] = w[k * outer + j..].first_chunk().expect("J columns");
        for r in 0..R {
            let x = A::from_u64(x[r][k].to_u64());
            for i in 0..J {
                acc[r][i] = acc[r][i].wadd(x.wmul(A::from_u64(w[i].to_u64())));
            }
        }
    }
    for r in 0..R {
        for i in 0..J {
            out[r * outer + j + i] = W::from_u64(acc[r][i].to_u64());
        }
    }
}

#[inline(always)]
fn columns<W: RingWord, A: RingWord, const R: usize>(x: &[W], w: &[W], out: &mut [W], inner: usize, outer: usize) {
    let mut j = 0;
    macro_rules! step {
        ($n:literal) => {
            while outer - j >= $n {
                tile::<W, A, R, $n>(x, w, out, inner, outer, j);
                j += $n;
            }
        };
    }
    match size_of::<A>() {
        2 => step!(64),
        4 => step!(32),
        _ => step!(16),
    }
    step!(8);
    step!(1);
}

#[inline(always)]
fn all<W: RingWord, A: RingWord>(x: &[W], w: &[W], out: &mut [W], rows: usize, inner: usize, outer: usize) {
    let full = rows / ROWS * ROWS;
    for r in (0..full).step_by(ROWS) {
        columns::<W, A, ROWS>(&x[r * inner..], w, &mut out[r * outer..], inner, outer);
    }
    for r in full..rows {
        columns::<W, A, 1>(&x[r * inner..], w, &mut out[r * outer..], inner, outer);
    }
}

levels! {
    #[doc(hidden)]
    pub fn serial, serial_at<W>(x: &[W], w: &[W], out: &mut [W], rows: usize, inner: usize, outer: usize) {
        // Vector units do not multiply bytes.
        if size_of::<W>() == 1 {
            all::<W, u16>(x, w, out, rows, inner, outer);
        } else {
            all::<W, W>(x, w, out, rows, inner, outer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn check<W: RingWord>() {
        let shapes =
            [(0, 3, 3), (1, 0, 5), (1, 1, 1), (3, 5, 7), (4, 9, 8), (5, 17, 65), (9, 33, 130), (130, 130, 131)];
        for l in available() {
            for (rows, inner, outer) in shapes {
                let mut x = vec![W::zero(); rows * inner];
                let mut w = vec![W::zero(); inner * outer];
                Prg::new(1).fill_words(<W as RingWord>::BITS, &mut x);
                Prg::new(2).fill_words(<W as RingWord>::BITS, &mut w);
                let mut out = vec![W::max_value(); rows * outer];
                matmul_at(l, &x, &w, &mut out, rows, inner, outer);
                for r in 0..rows {
                    for j in 0..outer {
                        let want = (0..inner).fold(W::zero(), |s, k| s.wadd(x[r * inner + k].wmul(w[k * outer + j])));
                        assert_eq!(out[r * outer + j], want, "{l:?} {rows} {inner} {outer}");
                    }
                }
            }
        }
    }

    #[test]
    fn is_the_product() {
        check::<u8>();
        check::<u16>();
        check::<u32>();
        check::<u64>();
    }
}
