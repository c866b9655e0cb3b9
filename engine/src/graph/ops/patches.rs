//! Overlapping windows of an image `[height, width, channels]`: `[places, rows of a window, columns of a window, channels]`, places row by row.

use super::Windows;
use super::index_map::{IndexMap, Movement, moved, one_operand, steps, sum_of_axes};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// The windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patches {
    /// Height and width of a window.
    pub size: [usize; 2],
    /// Distance of windows, down and across.
    pub stride: [usize; 2],
}

impl Patches {
    fn windows(&self, shape: &[usize]) -> Result<Windows, String> {
        Windows::new(shape, &self.size, &self.stride, &[], &[])
    }
}

impl Movement for Patches {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        let windows = self.windows(&x.shape)?;
        let [rows, columns] = windows.output;
        let shape = vec![rows * columns, self.size[0], self.size[1], windows.channels];
        // With windows of one row and one place across, the first axis passes.
        Ok(vec![moved(x, shape, x.timed && windows.keeps_first_axis() && columns == 1)])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let windows = self.windows(&ins[0].shape).expect("accepted");
        let (column, row) = (windows.channels, windows.channels * windows.image[1]);
        vec![sum_of_axes(&[
            steps(0..windows.output[0], self.stride[0] * row),
            steps(0..windows.output[1], self.stride[1] * column),
            steps(0..self.size[0], row),
            steps(0..self.size[1], column),
            steps(0..windows.channels, 1),
        ])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{arrange, infer, refused};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    #[test]
    fn values() {
        // A 3x4 image of one channel; windows of 2x2, side by side across, overlapping down.
        let data: Vec<i64> = (0..12).collect();
        let patches = arrange(Patches { size: [2, 2], stride: [1, 2] }, &[(&[3, 4, 1], BYTE, &data)]).remove(0);
        assert_eq!(patches.shape, [4, 2, 2, 1]);
        assert_eq!(patches.data, [0, 1, 4, 5, 2, 3, 6, 7, 4, 5, 8, 9, 6, 7, 10, 11]);
        // The last column is left over.
        let x = crate::graph::ValueType { shape: vec![2, 5, 3], number: BYTE, timed: false };
        assert_eq!(infer(Patches { size: [2, 2], stride: [2, 2] }, &[x], None)[0].shape, [2, 2, 2, 3]);
    }

    #[test]
    fn refusals() {
        let of = |size, stride, shape: &[usize]| refused(Patches { size, stride }, &[(shape, BYTE)], None);
        assert!(of([3, 1], [1, 1], &[2, 2, 1]).contains("do not fit"));
        assert!(of([1, 1], [0, 1], &[2, 2, 1]).contains("with a zero"));
        assert!(of([1, 1], [1, 1], &[2, 2]).contains("is expected"));
    }
}
