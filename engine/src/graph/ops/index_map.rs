//! Operations that only move elements have one representation: an index map. The compiler turns each into one local gather, and
//! consecutive ones compose to one.

use super::{Operation, Place, undeclared};
use crate::graph::{Tensor, ValueType, Weights};

/// For each element of a result, its index in the operands (their elements one operand after the other); none is a zero.
pub type IndexMap = Vec<Option<u32>>;

/// An operation that only moves elements, or puts zeros. Its results have its operands' format.
pub(super) trait Movement {
    /// Types of the results.
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String>;

    /// Where the elements of each result come from.
    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap>;
}

impl<M: Movement> Operation for M {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        undeclared(place)?;
        let Some(first) = place.ins.first() else { return Err("no operands".into()) };
        if place.ins.iter().any(|x| x.number != first.number) {
            return Err("operands of different formats".into());
        }
        self.types(place.ins)
    }

    fn gather(&self, place: Place<'_>) -> Option<Vec<IndexMap>> {
        Some(self.maps(place.ins))
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let types = self.types(place.ins).expect("accepted");
        let joined: Vec<i64>;
        let all = match ins {
            [one] => &one.data,
            several => {
                joined = several.iter().flat_map(|x| &x.data).copied().collect();
                &joined
            }
        };
        let value = |from: &Option<u32>| from.map_or(0, |i| all[i as usize]);
        let result = |(ty, map): (ValueType, IndexMap)| Tensor::new(ty.shape, map.iter().map(value).collect());
        types.into_iter().zip(self.maps(place.ins)).map(result).collect()
    }
}

/// A value of the operand's format with another shape.
pub(super) fn moved(x: &ValueType, shape: Vec<usize>, timed: bool) -> ValueType {
    ValueType { shape, number: x.number, timed }
}

/// Refuses more or fewer operands than one.
pub(super) fn one_operand(ins: &[ValueType]) -> Result<&ValueType, String> {
    match ins {
        [x] => Ok(x),
        _ => Err(format!("the number of operands is {}, not 1", ins.len())),
    }
}

/// The map of a result whose element `[i, j, ..]` is element `axes[0][i] + axes[1][j] + ..`; a zero where one of these is
/// missing.
pub(super) fn sum_of_axes(axes: &[Vec<Option<u32>>]) -> IndexMap {
    let mut map = vec![Some(0)];
    for axis in axes {
        let below = |from: Option<u32>| axis.iter().map(move |i| Some(from? + (*i)?));
        map = map.into_iter().flat_map(below).collect();
    }
    map
}

/// Elements between neighbours of each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Multiples of `stride`.
pub(super) fn steps(entries: impl IntoIterator<Item = usize>, stride: usize) -> Vec<Option<u32>> {
    entries.into_iter().map(|i| Some((i * stride) as u32)).collect()
}

/// The map of the given entries of one axis.
pub(super) fn entries_of_axis(
    shape: &[usize],
    axis: usize,
    entries: impl IntoIterator<Item = Option<usize>>,
) -> IndexMap {
    let stride: usize = shape[axis + 1..].iter().product();
    let entries = entries.into_iter().map(|e| e.map(|e| (e * stride) as u32)).collect();
    sum_of_axes(&[steps(0..shape[..axis].iter().product(), shape[axis] * stride), entries, steps(0..stride, 1)])
}

/// For each element of `shape`, the index of the element of a tensor of shape `from` that is broadcast to it (numpy's
/// rule: aligned at the last axis, sizes equal or 1).
pub fn broadcast_map(from: &[usize], shape: &[usize]) -> Vec<u32> {
    let skip = shape.len() - from.len();
    let own = strides(from);
    let stride = |axis: usize| if axis < skip || from[axis - skip] == 1 { 0 } else { own[axis - skip] };
    let axes: Vec<_> = (0..shape.len()).map(|axis| steps(0..shape[axis], stride(axis))).collect();
    sum_of_axes(&axes).into_iter().map(|i| i.expect("every element has a source")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts() {
        assert_eq!(broadcast_map(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(broadcast_map(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(broadcast_map(&[], &[2]), [0, 0]);
        assert_eq!(broadcast_map(&[1, 2], &[2, 2, 2]), [0, 1, 0, 1, 0, 1, 0, 1]);
    }
}
