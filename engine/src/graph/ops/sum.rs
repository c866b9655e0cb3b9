//! Sums and means over axes, which vanish from the shape.

use super::{Operation, Place, channels, declared, exact_products, operands, tensor};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use crate::protocols::truncation::Rounding;
use serde::{Deserialize, Serialize};

/// `y = wrap(R(sum over axes))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// Of the exact sum.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

/// `y = wrap(round(sum over axes / number of elements))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// How the quotient is rounded.
    #[serde(default)]
    pub rounding: Rounding,
}

/// The result's type, and the number of elements of a sum.
fn summed(place: Place<'_>, axes: &[usize]) -> Result<(ValueType, usize), String> {
    operands(place, 1)?;
    let x = &place.ins[0];
    if axes.is_empty() || !axes.is_sorted_by(|a, b| a < b) || axes.iter().any(|&axis| axis >= x.shape.len()) {
        return Err(format!("axes {axes:?} of the shape {:?}: some, in increasing order, are expected", x.shape));
    }
    let kept = |(axis, &n): (usize, &usize)| (!axes.contains(&axis)).then_some(n);
    let shape: Vec<usize> = x.shape.iter().enumerate().filter_map(kept).collect();
    let terms = axes.iter().map(|&axis| x.shape[axis]).product();
    exact_products(x.number.range(), (1, 1), terms)?;
    Ok((ValueType { shape, number: declared(place)?, timed: x.timed && axes[0] > 0 }, terms))
}

/// The exact sums.
fn sums(x: &Tensor, axes: &[usize], len: usize) -> Vec<i128> {
    let mut sums = vec![0; len];
    let mut place = vec![0; x.shape.len()];
    let mut strides = vec![0; x.shape.len()];
    let mut stride = 1;
    for axis in (0..x.shape.len()).rev().filter(|axis| !axes.contains(axis)) {
        strides[axis] = stride;
        stride *= x.shape[axis];
    }
    let mut at = 0;
    for &value in &x.data {
        sums[at] += i128::from(value);
        for axis in (0..place.len()).rev() {
            place[axis] += 1;
            at += strides[axis];
            if place[axis] < x.shape[axis] {
                break;
            }
            at -= strides[axis] * place[axis];
            place[axis] = 0;
        }
    }
    sums
}

impl Operation for Sum {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let (ty, _) = summed(place, &self.axes)?;
        self.rescale.check(channels(&ty.shape))?;
        Ok(vec![ty])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let (ty, _) = summed(place, &self.axes).expect("accepted");
        let sums = sums(ins[0], &self.axes, ty.len());
        tensor(&ty.shape, sums.into_iter().enumerate().map(|(i, sum)| self.rescale.of(i, sum, ty.number)))
    }
}

impl Operation for Mean {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        Ok(vec![summed(place, &self.axes)?.0])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let (ty, terms) = summed(place, &self.axes).expect("accepted");
        let sums = sums(ins[0], &self.axes, ty.len());
        tensor(&ty.shape, sums.into_iter().map(|sum| ty.number.wrap(self.rounding.divide(sum, terms as i128))))
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
        let x: (&[usize], Number, &[i64]) = (&[2, 1, 3], BYTE, &[1, 2, 3, -10, -20, -31]);
        let sum = |axes: &[usize], rescale| compute(Sum { axes: axes.to_vec(), rescale }, &[x], BYTE);
        assert_eq!(sum(&[0], Rescale::default()), [-9, -18, -28]);
        assert_eq!(sum(&[2], Rescale::default()), [6, -61]);
        assert_eq!(sum(&[0, 2], Rescale::default()), [-55]);
        assert_eq!(sum(&[0, 1, 2], Rescale::by(1, Rounding::TowardZero)), [-27]);
        let mean = |axes: &[usize], rounding| compute(Mean { axes: axes.to_vec(), rounding }, &[x], BYTE);
        assert_eq!(mean(&[2], Rounding::Floor), [2, -21]);
        assert_eq!(mean(&[2], Rounding::TowardZero), [2, -20]);
        assert_eq!(mean(&[2], Rounding::Nearest), [2, -20]);
        assert_eq!(mean(&[0], Rounding::Nearest), [-4, -9, -14]);
    }

    #[test]
    fn types() {
        let of = |axes: &[usize]| {
            let op = Mean { axes: axes.to_vec(), rounding: Rounding::Floor };
            infer(op, &[timed(&[2, 3], BYTE)], Some(BYTE)).remove(0)
        };
        assert!(of(&[1]).timed && !of(&[0]).timed && !of(&[0, 1]).timed);
        assert!(of(&[0, 1]).shape.is_empty());
        for axes in [&[][..], &[1, 0], &[0, 0], &[2]] {
            let op = Sum { axes: axes.to_vec(), rescale: Rescale::default() };
            assert!(refused(op, &[(&[2, 3], BYTE)], Some(BYTE)).contains("in increasing order"));
        }
    }
}
