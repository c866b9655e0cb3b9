//! Values one after the other along an axis. They have one format.

use super::check_axis;
use super::index_map::{IndexMap, Movement, moved, steps};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// The concatenation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl Movement for Concat {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let first = &ins[0];
        check_axis(self.axis, &first.shape)?;
        let mut shape = first.shape.clone();
        shape[self.axis] = 0;
        for x in ins {
            let same = |(axis, (a, b)): (usize, (&usize, &usize))| axis == self.axis || a == b;
            if x.shape.len() != shape.len() || !x.shape.iter().zip(&first.shape).enumerate().all(same) {
                let axis = self.axis;
                return Err(format!("the shapes {:?} and {:?} differ outside of axis {axis}", first.shape, x.shape));
            }
            shape[self.axis] += x.shape[self.axis];
        }
        Ok(vec![moved(first, shape, self.axis > 0 && ins.iter().all(|x| x.timed))])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let outer: usize = ins[0].shape[..self.axis].iter().product();
        let mut start = 0;
        let parts: Vec<(usize, usize)> = ins
            .iter()
            .map(|x| {
                let part = (start, x.len() / outer);
                start += x.len();
                part
            })
            .collect();
        let row = |o: usize| parts.iter().flat_map(move |&(start, n)| steps(start + o * n..start + (o + 1) * n, 1));
        vec![(0..outer).flat_map(row).collect()]
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
        let x: (&[usize], Number, &[i64]) = (&[2, 1], BYTE, &[1, 2]);
        let y: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[3, 4, 5, 6]);
        assert_eq!(arrange(Concat { axis: 1 }, &[x, y, x])[0].data, [1, 3, 4, 1, 2, 5, 6, 2]);
        let z: (&[usize], Number, &[i64]) = (&[1, 2], BYTE, &[7, 8]);
        assert_eq!(arrange(Concat { axis: 0 }, &[z, y])[0].data, [7, 8, 3, 4, 5, 6]);
    }

    #[test]
    fn time_axis() {
        let x = timed(&[3, 2], BYTE);
        assert!(infer(Concat { axis: 1 }, &[x.clone(), x.clone()], None)[0].timed);
        assert!(!infer(Concat { axis: 0 }, &[x.clone(), x], None)[0].timed);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 2], BYTE);
        assert!(refused(Concat { axis: 2 }, &[x], None).contains("no axis 2"));
        assert!(refused(Concat { axis: 0 }, &[x, (&[2, 3], BYTE)], None).contains("differ outside of axis 0"));
        assert!(refused(Concat { axis: 0 }, &[x, (&[2], BYTE)], None).contains("differ outside"));
        assert!(refused(Concat { axis: 0 }, &[x, (&[2, 2], Number::new(9, 0))], None).contains("different formats"));
        assert!(refused(Concat { axis: 0 }, &[], None).contains("no operands"));
        assert!(refused(Concat { axis: 0 }, &[x], Some(BYTE)).contains("not expected"));
    }
}
