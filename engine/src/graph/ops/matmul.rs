//! `y = wrap(R(x W))`: rows times a matrix of the server.

use super::products::{Sum, add_row, fits_i64};
use super::{Operation, Parameter, ParameterSpec, Place, declared, exact_products, operands};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// Rows `x` of the last axis times `weights`, `[last axis, columns]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {
    /// The matrix.
    pub weights: Parameter,
    /// Its columns.
    pub columns: usize,
    /// Of the exact sum.
    #[serde(default)]
    pub rescale: Rescale,
}

impl MatMul {
    fn sums<S: Sum>(&self, x: &[i64], weights: &[i64], mut row: impl FnMut(&[S])) {
        let mut sums = vec![S::from(0); self.columns];
        for x in x.chunks_exact(weights.len() / self.columns) {
            sums.fill(S::from(0));
            add_row(&mut sums, x, weights, 1);
            row(&sums);
        }
    }
}

impl Operation for MatMul {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 1)?;
        let x = &place.ins[0];
        let Some((inner, rest)) = x.shape.split_last() else { return Err("a scalar has no rows".into()) };
        if *inner == 0 || self.columns == 0 {
            return Err(format!("a matrix of {inner} rows and {} columns", self.columns));
        }
        exact_products(x.number.range(), self.weights.range(), *inner)?;
        self.rescale.check(self.columns)?;
        let shape = rest.iter().copied().chain([self.columns]).collect();
        Ok(vec![ValueType { shape, number: declared(place)?, timed: x.timed && !rest.is_empty() }])
    }

    fn parameters(&self, place: Place<'_>) -> Vec<ParameterSpec> {
        let inner = *place.ins[0].shape.last().expect("a row");
        vec![self.weights.spec(vec![inner, self.columns])]
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor> {
        let (x, number) = (ins[0], place.out.expect("declared"));
        let weights = &weights[&self.weights.tensor].data;
        let shape: Vec<usize> = x.shape[..x.shape.len() - 1].iter().copied().chain([self.columns]).collect();
        let mut data = Vec::with_capacity(shape.iter().product());
        let inner = weights.len() / self.columns;
        let bound = exact_products(place.ins[0].number.range(), self.weights.range(), inner).expect("accepted");
        if fits_i64(bound) {
            self.sums(&x.data, weights, |row: &[i64]| self.rescale.row(row, number, &mut data));
        } else {
            self.sums(&x.data, weights, |row: &[i128]| self.rescale.row(row, number, &mut data));
        }
        vec![Tensor::new(shape, data)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute_with, infer, refused, timed};
    use crate::graph::rescale::Shifts;
    use crate::protocols::truncation::Rounding;

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    fn matmul(columns: usize, rescale: Rescale) -> MatMul {
        MatMul { weights: Parameter::new("w", 8), columns, rescale }
    }

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[1, 2, -3, 4]);
        let w: &[i64] = &[5, 6, -7, 8];
        let of = |rescale| compute_with(matmul(2, rescale), &[x], BYTE, &[("w", w)]);
        assert_eq!(of(Rescale::default()), [-9, 22, -43, 14]);
        assert_eq!(of(Rescale { left: 3, ..Rescale::default() }), [-72, -80, -88, 112]);
        let shift = Shifts::Channels(vec![1, 2]);
        assert_eq!(of(Rescale { shift, rounding: Rounding::TowardZero, ..Rescale::default() }), [-4, 5, -21, 3]);
        // First down, then toward zero.
        let two = Rescale { floor: 2, shift: Shifts::All(1), rounding: Rounding::TowardZero, left: 0 };
        assert_eq!(of(two), [-1, 2, -5, 1]);
        // A scale that is wider than 64 bits.
        let wide = Number::new(63, 0);
        let x: (&[usize], Number, &[i64]) = (&[1], wide, &[-(1 << 62)]);
        let down = Rescale { floor: 7, ..Rescale::default() };
        assert_eq!(compute_with(matmul(1, down), &[x], wide, &[("w", &[-128])]), [-(1 << 62)]);
    }

    #[test]
    fn time_axis() {
        assert!(infer(matmul(2, Rescale::default()), &[timed(&[4, 3], BYTE)], Some(BYTE))[0].timed);
        // Here the row is the time axis.
        assert!(!infer(matmul(2, Rescale::default()), &[timed(&[4], BYTE)], Some(BYTE))[0].timed);
    }

    #[test]
    fn refusals() {
        assert!(refused(matmul(1, Rescale::default()), &[(&[], BYTE)], Some(BYTE)).contains("no rows"));
        assert!(refused(matmul(0, Rescale::default()), &[(&[1], BYTE)], Some(BYTE)).contains("0 columns"));
        let far = Rescale { floor: 60, shift: Shifts::All(4), ..Rescale::default() };
        assert!(refused(matmul(1, far), &[(&[1], BYTE)], Some(BYTE)).contains("a shift by 64"));
    }
}
