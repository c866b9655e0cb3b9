//! Parts of an axis.

use super::check_axis;
use super::index_map::{IndexMap, Movement, entries_of_axis, moved, one_operand};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// Entries `start`, `start + step`, .. below `end` of an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// The first entry; counted from the end where negative.
    pub start: i64,
    /// The entry behind the last; counted from the end where negative, by default the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Distance of entries, positive.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub step: usize,
}

/// An axis cut into parts of the given sizes, called `name.0`, `name.1`, ...
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The axis.
    pub axis: usize,
    /// Sizes of the parts, two or more.
    pub sizes: Vec<usize>,
}

impl Slice {
    /// The entries of an axis of `size`: the first, the one behind the last.
    fn range(&self, size: usize) -> Option<(usize, usize)> {
        let at = |i: i64| usize::try_from(if i < 0 { i.checked_add(size as i64)? } else { i }).ok();
        let (start, end) = (at(self.start)?, self.end.map_or(Some(size), at)?);
        (start < end && end <= size && self.step > 0).then_some((start, end))
    }
}

impl Movement for Slice {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        check_axis(self.axis, &x.shape)?;
        let size = x.shape[self.axis];
        let Some((start, end)) = self.range(size) else {
            let end = self.end.map_or("the end".into(), |end| end.to_string());
            return Err(format!("entries {} to {end} in steps of {} of an axis of {size}", self.start, self.step));
        };
        let mut shape = x.shape.clone();
        shape[self.axis] = (end - start).div_ceil(self.step);
        Ok(vec![moved(x, shape, x.timed && self.axis > 0)])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let shape = &ins[0].shape;
        let (start, end) = self.range(shape[self.axis]).expect("accepted");
        vec![entries_of_axis(shape, self.axis, (start..end).step_by(self.step).map(Some))]
    }
}

impl Movement for Split {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        check_axis(self.axis, &x.shape)?;
        let size = x.shape[self.axis];
        let total = self.sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        if self.sizes.len() < 2 || self.sizes.contains(&0) || total != Some(size) {
            return Err(format!("parts of {:?} of an axis of {size}", self.sizes));
        }
        let part = |&n: &usize| {
            let mut shape = x.shape.clone();
            shape[self.axis] = n;
            moved(x, shape, x.timed && self.axis > 0)
        };
        Ok(self.sizes.iter().map(part).collect())
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        let mut start = 0;
        let mut part = |&n: &usize| {
            start += n;
            entries_of_axis(&ins[0].shape, self.axis, (start - n..start).map(Some))
        };
        self.sizes.iter().map(&mut part).collect()
    }
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{arrange, infer, refused, timed};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    fn slice(axis: usize, start: i64, end: Option<i64>, step: usize) -> Slice {
        Slice { axis, start, end, step }
    }

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 4], BYTE, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(arrange(slice(1, 1, Some(3), 1), &[x])[0].data, [1, 2, 5, 6]);
        assert_eq!(arrange(slice(1, 0, None, 3), &[x])[0].data, [0, 3, 4, 7]);
        assert_eq!(arrange(slice(1, -2, Some(-1), 1), &[x])[0].data, [2, 6]);
        assert_eq!(arrange(slice(0, -1, None, 1), &[x])[0].data, [4, 5, 6, 7]);
        let parts = arrange(Split { axis: 1, sizes: vec![1, 3] }, &[x]);
        assert_eq!((&parts[0].data[..], &parts[1].data[..]), (&[0, 4][..], &[1, 2, 3, 5, 6, 7][..]));
        assert_eq!(arrange(Split { axis: 0, sizes: vec![1, 1] }, &[x])[1].data, [4, 5, 6, 7]);
        assert!(infer(slice(1, 0, None, 1), &[timed(&[2, 4], BYTE)], None)[0].timed);
        assert!(!infer(slice(0, 0, None, 1), &[timed(&[2, 4], BYTE)], None)[0].timed);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 4], BYTE);
        for op in [
            slice(1, 3, Some(3), 1),
            slice(1, 0, Some(5), 1),
            slice(1, -5, None, 1),
            slice(1, 0, None, 0),
            slice(1, i64::MIN, Some(i64::MAX), 1),
        ] {
            assert!(refused(op.clone(), &[x], None).contains("of an axis of 4"), "{op:?}");
        }
        for sizes in [vec![4], vec![2, 3], vec![4, 0], vec![usize::MAX, 5]] {
            assert!(refused(Split { axis: 1, sizes }, &[x], None).contains("of an axis of 4"));
        }
    }
}
