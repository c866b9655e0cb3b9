//! For tests of operations: infer, evaluate, and check what holds for all of them.

use super::{Op, Place};
use crate::graph::{Number, Tensor, ValueType, Weights};

/// An operand: shape, format and elements.
pub(super) type Operand<'a> = (&'a [usize], Number, &'a [i64]);

/// Types of the results.
pub(super) fn infer(op: impl Into<Op>, ins: &[ValueType], out: Option<Number>) -> Vec<ValueType> {
    op.into().infer(Place { ins, out }).unwrap()
}

/// Why the operation is refused.
pub(super) fn refused(op: impl Into<Op>, ins: &[(&[usize], Number)], out: Option<Number>) -> String {
    let ins: Vec<ValueType> = ins.iter().map(|(shape, number)| plain(shape, *number)).collect();
    op.into().infer(Place { ins: &ins, out }).expect_err("refused")
}

/// A type whose first axis is the time axis.
pub(super) fn timed(shape: &[usize], number: Number) -> ValueType {
    ValueType { timed: true, ..plain(shape, number) }
}

fn plain(shape: &[usize], number: Number) -> ValueType {
    ValueType { shape: shape.to_vec(), number, timed: false }
}

/// The results. They have the inferred types; the operation survives the model file; where it only moves elements, its index map says
/// the same.
fn run(op: Op, ins: &[Operand<'_>], out: Option<Number>, weights: &[(&str, &[i64])]) -> Vec<Tensor> {
    assert_eq!(Op::from_fields(op.name(), op.to_fields().unwrap()).unwrap(), op);
    let types: Vec<ValueType> = ins.iter().map(|(shape, number, _)| plain(shape, *number)).collect();
    let place = Place { ins: &types, out };
    let results = op.infer(place).unwrap();
    let specs = op.parameters(place);
    assert_eq!(specs.len(), weights.len());
    let named = |spec: &super::ParameterSpec| {
        let (name, data) = weights.iter().find(|(name, _)| *name == spec.tensor).expect("a tensor");
        assert!(data.iter().all(|&x| spec.range.0 <= x.into() && i128::from(x) <= spec.range.1));
        (name.to_string(), Tensor::new(spec.shape.clone(), data.to_vec()))
    };
    let weights: Weights = specs.iter().map(named).collect();
    let tensors: Vec<Tensor> = ins.iter().map(|(shape, _, data)| Tensor::new(shape.to_vec(), data.to_vec())).collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let values = op.clear(place, &tensors, &weights);
    assert_eq!(values.len(), results.len());
    for (value, ty) in values.iter().zip(&results) {
        assert_eq!(value.shape, ty.shape);
        let (lo, hi) = ty.number.range();
        assert!(value.data.iter().all(|&x| lo <= x.into() && i128::from(x) <= hi), "{:?}", value.data);
    }
    if let Some(maps) = op.gather(place) {
        let all: Vec<i64> = ins.iter().flat_map(|(_, _, data)| *data).copied().collect();
        for (value, map) in values.iter().zip(maps) {
            assert!(value.data.iter().zip(map).all(|(&x, from)| x == from.map_or(0, |i| all[i as usize])));
        }
    }
    values
}

/// Elements of the one result of an operation that computes numbers.
pub(super) fn compute(op: impl Into<Op>, ins: &[Operand<'_>], out: Number) -> Vec<i64> {
    compute_with(op, ins, out, &[])
}

/// [`compute`] with tensors of the server.
pub(super) fn compute_with(op: impl Into<Op>, ins: &[Operand<'_>], out: Number, w: &[(&str, &[i64])]) -> Vec<i64> {
    run(op.into(), ins, Some(out), w).remove(0).data
}

/// Results of an operation that keeps its operand's format.
pub(super) fn arrange(op: impl Into<Op>, ins: &[Operand<'_>]) -> Vec<Tensor> {
    run(op.into(), ins, None, &[])
}
