//! The same elements, in the same order, under another shape.

use super::index_map::{IndexMap, Movement, moved, one_operand, steps};
use crate::graph::ValueType;
use serde::{Deserialize, Serialize};

/// The new shape. At most one size is -1: it follows from the others, so that a time axis may pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Sizes of the axes.
    pub shape: Vec<i64>,
}

impl Movement for Reshape {
    fn types(&self, ins: &[ValueType]) -> Result<Vec<ValueType>, String> {
        let x = one_operand(ins)?;
        let refused = || format!("the shape {:?} cannot become {:?}", x.shape, self.shape);
        let known = self.shape.iter().filter(|&&n| n != -1);
        let product = known.clone().try_fold(1u64, |product, &n| product.checked_mul(u64::try_from(n).ok()?));
        let (product, elements) = (product.ok_or_else(refused)?, x.len() as u64);
        let open = self.shape.len() - known.count();
        let fits = match open {
            0 => product == elements,
            1 => product != 0 && elements.is_multiple_of(product),
            _ => false,
        };
        if !fits {
            return Err(refused());
        }
        let size = |&n: &i64| if n == -1 { elements / product } else { n as u64 } as usize;
        let shape: Vec<usize> = self.shape.iter().map(size).collect();
        let timed = x.timed && shape.first() == x.shape.first();
        Ok(vec![moved(x, shape, timed)])
    }

    fn maps(&self, ins: &[ValueType]) -> Vec<IndexMap> {
        vec![steps(0..ins[0].len(), 1)]
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
        let y = arrange(Reshape { shape: vec![3, -1] }, &[x]).remove(0);
        assert_eq!((&y.shape[..], &y.data[..]), (&[3, 2][..], &[1, 2, 3, 4, 5, 6][..]));
        assert_eq!(arrange(Reshape { shape: vec![] }, &[(&[1, 1], BYTE, &[7])])[0].shape, [0usize; 0]);
        let of = |shape: &[i64]| infer(Reshape { shape: shape.to_vec() }, &[timed(&[2, 6], BYTE)], None)[0].timed;
        assert!(of(&[-1, 2, 3]) && of(&[2, 6]) && !of(&[12]) && !of(&[6, 2]));
    }

    #[test]
    fn refusals() {
        let of = |shape: &[i64]| refused(Reshape { shape: shape.to_vec() }, &[(&[2, 3], BYTE)], None);
        let overflow = [i64::MAX, i64::MAX, 4];
        for shape in [&[7][..], &[-1, -1], &[4, -1], &[-2, 3], &[0, -1], &[], &overflow] {
            assert!(of(shape).contains("cannot become"), "{shape:?}");
        }
    }
}
