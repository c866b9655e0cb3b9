//! Entries of an axis by public index.

use super::check_axis;
use super::index_map::{IndexMap, Movement, entries_of_axis, moved, one_operand};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// Entry `i` of the result's axis is entry `indices[i]` of the operand's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
    /// The entries.
    pub indices: Vec<u32>,
}

impl Movement for Gather {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        check_axis(self.axis, &x.shape)?;
        let size = x.shape[self.axis];
        if let Some(index) = self.indices.iter().find(|&&i| i as usize >= size) {
            return Err(format!("entry {index} of an axis of {size}"));
        }
        let mut shape = x.shape.clone();
        shape[self.axis] = self.indices.len();
        Ok(vec![moved(x, shape, x.timed && self.axis > 0)])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        vec![entries_of_axis(&ins[0].shape, self.axis, self.indices.iter().map(|&i| Some(i as usize)))]
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
        assert_eq!(arrange(Gather { axis: 1, indices: vec![2, 0, 2, 2] }, &[x])[0].data, [3, 1, 3, 3, 6, 4, 6, 6]);
        assert_eq!(arrange(Gather { axis: 0, indices: vec![1] }, &[x])[0].data, [4, 5, 6]);
        let of = |axis| infer(Gather { axis, indices: vec![0, 1] }, &[timed(&[2, 3], BYTE)], None)[0].timed;
        assert!(!of(0) && of(1));
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 3], BYTE);
        assert!(refused(Gather { axis: 0, indices: vec![2] }, &[x], None).contains("entry 2 of an axis of 2"));
        assert!(refused(Gather { axis: 2, indices: vec![0] }, &[x], None).contains("no axis 2"));
        assert!(refused(Gather { axis: 0, indices: vec![0] }, &[x, x], None).contains("operands is 2, not 1"));
    }
}
