//! An axis in reverse order. The time axis of a request is reversed within each item's own length.

use super::check_axis;
use super::index_map::{IndexMap, Movement, entries_of_axis, moved, one_operand};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// The reversal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// The axis.
    pub axis: usize,
}

impl Movement for Reverse {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        check_axis(self.axis, &x.shape)?;
        // Reversed within each item's own length, the time axis is one still.
        Ok(vec![moved(x, x.shape.clone(), x.timed)])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let shape = &ins[0].shape;
        vec![entries_of_axis(shape, self.axis, (0..shape[self.axis]).rev().map(Some))]
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
        assert_eq!(arrange(Reverse { axis: 0 }, &[x])[0].data, [4, 5, 6, 1, 2, 3]);
        assert_eq!(arrange(Reverse { axis: 1 }, &[x])[0].data, [3, 2, 1, 6, 5, 4]);
        assert!(infer(Reverse { axis: 0 }, &[timed(&[2, 3], BYTE)], None)[0].timed);
        assert!(refused(Reverse { axis: 2 }, &[(&[2, 3], BYTE)], None).contains("no axis 2"));
    }
}
