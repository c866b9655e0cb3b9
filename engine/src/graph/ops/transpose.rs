//! Axes in another order.

use super::index_map::{IndexMap, Movement, moved, one_operand, steps, strides, sum_of_axes};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// Axis `i` of the result is axis `axes[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// The permutation.
    pub axes: Vec<usize>,
}

impl Movement for Transpose {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.shape.len()) {
            return Err(format!("{:?} is no order of the axes of the shape {:?}", self.axes, x.shape));
        }
        let shape = self.axes.iter().map(|&axis| x.shape[axis]).collect();
        Ok(vec![moved(x, shape, x.timed && self.axes[0] == 0)])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let shape = &ins[0].shape;
        let strides = strides(shape);
        let axes: Vec<_> = self.axes.iter().map(|&axis| steps(0..shape[axis], strides[axis])).collect();
        vec![sum_of_axes(&axes)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{arrange, infer, refused, timed};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 3], BYTE, &[1, 2, 3, 4, 5, 6]);
        let y = arrange(Transpose { axes: vec![1, 0] }, &[x]).remove(0);
        assert_eq!((&y.shape[..], &y.data[..]), (&[3, 2][..], &[1, 4, 2, 5, 3, 6][..]));
        let x: (&[usize], Number, &[i64]) = (&[2, 1, 2], BYTE, &[1, 2, 3, 4]);
        assert_eq!(arrange(Transpose { axes: vec![2, 1, 0] }, &[x])[0].data, [1, 3, 2, 4]);
        let of = |axes: &[usize]| infer(Transpose { axes: axes.to_vec() }, &[timed(&[2, 1, 2], BYTE)], None)[0].timed;
        assert!(of(&[0, 2, 1]) && !of(&[1, 0, 2]));
        for axes in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
            assert!(refused(Transpose { axes: axes.to_vec() }, &[(&[2, 3], BYTE)], None).contains("no order"));
        }
    }
}
