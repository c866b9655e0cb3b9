//! Largest value along an axis, and its index (the first, where several are largest).

use super::{Operation, Place, check_axis, operands, undeclared};
use crate::graph::{Number, Tensor, ValueType, Weights};
use crate::program::bits_for;
use serde::{Deserialize, Serialize};

/// The largest value; the axis vanishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Max {
    /// The axis.
    pub axis: usize,
}

/// The index of the largest value, unsigned with as few bits as hold every index and scale 0; the axis vanishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgMax {
    /// The axis.
    pub axis: usize,
}

/// The operand without an axis.
fn without_axis(place: Place<'_>, axis: usize) -> Result<ValueType, String> {
    operands(place, 1)?;
    undeclared(place)?;
    let x = &place.ins[0];
    check_axis(axis, &x.shape)?;
    let mut shape = x.shape.clone();
    shape.remove(axis);
    Ok(ValueType { shape, number: x.number, timed: x.timed && axis > 0 })
}

/// Index and value of the first largest entry along an axis.
fn largest(x: &Tensor, axis: usize) -> impl Iterator<Item = (usize, i64)> {
    let (size, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    x.data.chunks_exact(size * inner).flat_map(move |block| {
        (0..inner).map(move |i| {
            let entries = block[i..].iter().step_by(inner).copied().enumerate();
            entries.reduce(|best, next| if next.1 > best.1 { next } else { best }).expect("an entry")
        })
    })
}

impl Operation for Max {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        Ok(vec![without_axis(place, self.axis)?])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let shape = without_axis(place, self.axis).expect("accepted").shape;
        vec![Tensor::new(shape, largest(ins[0], self.axis).map(|(_, value)| value).collect())]
    }
}

impl Operation for ArgMax {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let ty = without_axis(place, self.axis)?;
        let bits = bits_for(place.ins[0].shape[self.axis] as i128 - 1).max(1);
        Ok(vec![ValueType { number: Number { bits, scale: 0, unsigned: true }, ..ty }])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let shape = without_axis(place, self.axis).expect("accepted").shape;
        vec![Tensor::new(shape, largest(ins[0], self.axis).map(|(index, _)| index as i64).collect())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ops::testing::{arrange, infer, refused, timed};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 3], BYTE, &[-5, 7, 7, 1, -2, 7]);
        assert_eq!(arrange(Max { axis: 1 }, &[x])[0].data, [7, 7]);
        assert_eq!(arrange(ArgMax { axis: 1 }, &[x])[0].data, [1, 2]);
        assert_eq!(arrange(Max { axis: 0 }, &[x])[0].data, [1, 7, 7]);
        assert_eq!(arrange(ArgMax { axis: 0 }, &[x])[0].data, [1, 0, 0]);
        let one: (&[usize], Number, &[i64]) = (&[1], BYTE, &[-128]);
        assert_eq!(arrange(ArgMax { axis: 0 }, &[one])[0].data, [0]);
    }

    #[test]
    fn types() {
        let bits = |n: usize| infer(ArgMax { axis: 1 }, &[timed(&[2, n], BYTE)], None).remove(0);
        assert_eq!([1, 2, 3, 4, 5].map(|n| bits(n).number.bits), [1, 1, 2, 2, 3]);
        assert!(bits(3).timed && bits(3).number.unsigned);
        assert!(!infer(Max { axis: 0 }, &[timed(&[2, 3], BYTE)], None)[0].timed);
        assert!(refused(Max { axis: 0 }, &[(&[], BYTE)], None).contains("no axis 0"));
        assert!(refused(ArgMax { axis: 0 }, &[(&[2], BYTE)], Some(BYTE)).contains("not expected"));
    }
}
