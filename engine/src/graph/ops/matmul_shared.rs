//! `y = wrap(R(A B))` of two shared values: `[.., n, k]` times `[.., k, m]`, leading axes equal.

use super::products::{Sum, add_row, fits_i64};
use super::{Operation, Place, declared, exact_products, operands};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// The product of two matrices of shared values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMulShared {
    /// Of the exact sum.
    #[serde(default)]
    pub rescale: Rescale,
}

/// Sizes `n`, `k`, `m` of a product.
fn sizes(a: &[usize], b: &[usize]) -> Result<[usize; 3], String> {
    match (a, b) {
        ([left @ .., n, k], [right @ .., l, m]) if left == right && k == l => Ok([*n, *k, *m]),
        _ => Err(format!("matrices of shapes {a:?} and {b:?}: [.., n, k] and [.., k, m] are expected")),
    }
}

impl MatMulShared {
    fn sums<S: Sum>(a: &[i64], b: &[i64], [n, k, m]: [usize; 3], mut row: impl FnMut(&[S])) {
        let mut sums = vec![S::from(0); m];
        for (a, b) in a.chunks_exact(n * k).zip(b.chunks_exact(k * m)) {
            for a in a.chunks_exact(k) {
                sums.fill(S::from(0));
                add_row(&mut sums, a, b, 1);
                row(&sums);
            }
        }
    }
}

impl Operation for MatMulShared {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 2)?;
        let [a, b] = [0, 1].map(|i| &place.ins[i]);
        let [_, k, m] = sizes(&a.shape, &b.shape)?;
        exact_products(a.number.range(), b.number.range(), k)?;
        self.rescale.check(m)?;
        let rank = a.shape.len();
        let shape = a.shape[..rank - 1].iter().copied().chain([m]).collect();
        // Rows of a time axis may meet one matrix; a batch of matrices along it needs both.
        let timed = a.timed && (b.timed == (rank > 2));
        Ok(vec![ValueType { shape, number: declared(place)?, timed }])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let ([a, b], number) = ([ins[0], ins[1]], place.out.expect("declared"));
        let sizes = sizes(&a.shape, &b.shape).expect("accepted");
        let shape: Vec<usize> = a.shape[..a.shape.len() - 1].iter().copied().chain([sizes[2]]).collect();
        let mut data = Vec::with_capacity(shape.iter().product());
        let bound = exact_products(place.ins[0].number.range(), place.ins[1].number.range(), sizes[1]);
        if fits_i64(bound.expect("accepted")) {
            Self::sums(&a.data, &b.data, sizes, |row: &[i64]| self.rescale.row(row, number, &mut data));
        } else {
            Self::sums(&a.data, &b.data, sizes, |row: &[i128]| self.rescale.row(row, number, &mut data));
        }
        vec![Tensor::new(shape, data)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute, infer, refused, timed};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    #[test]
    fn values() {
        let a: (&[usize], Number, &[i64]) = (&[2, 1, 2], BYTE, &[1, 2, 3, 4]);
        let b: (&[usize], Number, &[i64]) = (&[2, 2, 1], BYTE, &[5, 6, 7, 8]);
        assert_eq!(compute(MatMulShared::default(), &[a, b], BYTE), [17, 53]);
        let half = MatMulShared { rescale: Rescale::by(1, Default::default()) };
        assert_eq!(compute(half, &[(&[2, 1], BYTE, &[-1, 3]), (&[1, 2], BYTE, &[1, 3])], BYTE), [-1, -2, 1, 4]);
        let wide = Number::new(63, 0);
        let x: (&[usize], Number, &[i64]) = (&[1, 1], wide, &[-(1 << 62)]);
        assert_eq!(compute(MatMulShared { rescale: Rescale::by(63, Default::default()) }, &[x, x], wide), [1 << 61]);
    }

    #[test]
    fn time_axis() {
        let of = |ins: &[ValueType]| infer(MatMulShared::default(), ins, Some(BYTE))[0].timed;
        let plain = |shape: &[usize]| ValueType { timed: false, ..timed(shape, BYTE) };
        assert!(of(&[timed(&[3, 2], BYTE), plain(&[2, 2])]));
        assert!(!of(&[plain(&[2, 3]), timed(&[3, 2], BYTE)]));
        assert!(of(&[timed(&[3, 2, 2], BYTE), timed(&[3, 2, 2], BYTE)]));
        assert!(!of(&[timed(&[3, 2, 2], BYTE), plain(&[3, 2, 2])]));
    }

    #[test]
    fn refusals() {
        let of = |a: &[usize], b: &[usize]| refused(MatMulShared::default(), &[(a, BYTE), (b, BYTE)], Some(BYTE));
        for (a, b) in [(&[2][..], &[2][..]), (&[2, 3], &[2, 3]), (&[2, 2, 2], &[2, 2]), (&[2, 1, 1], &[3, 1, 1])] {
            assert!(of(a, b).contains("are expected"));
        }
    }
}
