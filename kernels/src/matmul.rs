//! Matrix product of ring words, wrapping in the word. Reduce with [`crate::ops::mask`] for narrower rings.

levels! {
    /// `out = x * w` with `x` `[rows, inner]`, `w` `[inner, outer]`, `out` `[rows, outer]`, all row-major.
    pub fn matmul, matmul_at<W>(x: &[W], w: &[W], out: &mut [W], rows: usize, inner: usize, outer: usize) {
        assert_eq!(x.len(), rows * inner);
        assert_eq!(w.len(), inner * outer);
        assert_eq!(out.len(), rows * outer);
        for r in 0..rows {
            let out = &mut out[r * outer..][..outer];
            out.fill(W::zero());
            for k in 0..inner {
                let x = x[r * inner + k];
                out.iter_mut().zip(&w[k * outer..][..outer]).for_each(|(o, w)| *o = o.wadd(x.wmul(*w)));
            }
        }
    }
}
