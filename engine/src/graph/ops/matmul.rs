//! `y = wrap(R(x W))`: rows times a matrix of the server.

use super::{Operation, Parameter, ParameterSpec, Place, declared, operands};
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

impl Operation for MatMul {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 1)?;
        let x = &place.ins[0];
        let Some((inner, rest)) = x.shape.split_last() else { return Err("a scalar has no rows".into()) };
        if *inner == 0 || self.columns == 0 {
            return Err(format!("a matrix of {inner} rows and {} columns", self.columns));
        }
        self.rescale.check(self.columns)?;
        let shape = rest.iter().copied().chain([self.columns]).collect();
        Ok(vec![ValueType { shape, number: declared(place)?, timed: x.timed && !rest.is_empty() }])
    }

    fn parameters(&self, place: Place<'_>) -> Vec<ParameterSpec> {
        let inner = *place.ins[0].shape.last().expect("a row");
        vec![self.weights.spec(vec![inner, self.columns])]
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor> {
        let number = place.out.expect("declared");
        let (w, n) = (&weights[&self.weights.tensor].data, self.columns);
        let x = ins[0];
        let inner = *x.shape.last().expect("a row");
        let mut data = Vec::with_capacity(x.data.len() / inner * n);
        let mut sums = vec![0i128; n];
        for row in x.data.chunks(inner) {
            sums.fill(0);
            for (x, w) in row.iter().zip(w.chunks(n)) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum += i128::from(*x) * i128::from(*w);
                }
            }
            data.extend(sums.iter().enumerate().map(|(j, &sum)| self.rescale.of(j, sum, number) as i64));
        }
        let shape = x.shape[..x.shape.len() - 1].iter().copied().chain([n]).collect();
        vec![Tensor::new(shape, data)]
    }
}
