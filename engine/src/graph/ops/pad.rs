//! A border around a tensor.

use super::index_map::{IndexMap, Movement, moved, one_operand, strides, sum_of_axes};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// What a border consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// Zeros.
    #[default]
    Zero,
    /// The nearest element.
    Edge,
}

/// The border.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Entries before and after, one pair per axis.
    pub padding: Vec<[usize; 2]>,
    /// What it consists of.
    #[serde(default)]
    pub border: Border,
}

impl Movement for Pad {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        if self.padding.len() != x.shape.len() {
            return Err(format!("padding {:?} for the shape {:?}: one pair per axis", self.padding, x.shape));
        }
        let padded = |(&n, p): (&usize, &[usize; 2])| n.checked_add(p[0])?.checked_add(p[1]);
        let shape: Option<Vec<usize>> = x.shape.iter().zip(&self.padding).map(padded).collect();
        let shape = shape.ok_or_else(|| format!("padding {:?} is too large", self.padding))?;
        Ok(vec![moved(x, shape, x.timed && self.padding[0] == [0, 0])])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let shape = &ins[0].shape;
        let strides = strides(shape);
        let axis = |axis: usize| {
            let ([before, after], size) = (self.padding[axis], shape[axis]);
            let entry = |i: usize| match self.border {
                Border::Edge => Some(i.saturating_sub(before).min(size - 1)),
                Border::Zero => i.checked_sub(before).filter(|&i| i < size),
            };
            (0..before + size + after).map(|i| entry(i).map(|i| (i * strides[axis]) as u32)).collect()
        };
        vec![sum_of_axes(&(0..shape.len()).map(axis).collect::<Vec<_>>())]
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
        let x: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[1, 2, 3, 4]);
        let pad = |border| arrange(Pad { padding: vec![[0, 1], [1, 2]], border }, &[x]).remove(0);
        assert_eq!(pad(Border::Zero).data, [0, 1, 2, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(pad(Border::Edge).data, [1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 3, 3, 4, 4, 4]);
        assert_eq!(pad(Border::Edge).shape, [3, 5]);
        let timed = |padding| infer(Pad { padding, border: Border::Zero }, &[timed(&[2, 2], BYTE)], None)[0].timed;
        assert!(timed(vec![[0, 0], [1, 1]]) && !timed(vec![[1, 0], [0, 0]]));
    }

    #[test]
    fn refusals() {
        let of = |padding| refused(Pad { padding, border: Border::Zero }, &[(&[2, 2], BYTE)], None);
        assert!(of(vec![[1, 1]]).contains("one pair per axis"));
        assert!(of(vec![[usize::MAX, 1], [0, 0]]).contains("too large"));
    }
}
