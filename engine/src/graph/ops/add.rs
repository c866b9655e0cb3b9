//! `wrap(R(sum_i sign_i R_i(x_i) + constant))`: a sum of several values, each with a rescale of its own, then a joint one.

use super::{Operation, Place, broadcast_map, broadcast_type, channels, exact, exact_rescale, tensor};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// The sum. Operands have one shape, or are broadcast to it (numpy's rule).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// How each operand enters; by default as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<Term>,
    /// A public number that is added to every element.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub constant: i64,
    /// Of the exact sum.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

/// How an operand enters a sum. What is subtracted is negated *before* its rescale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Subtracted instead of added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub minus: bool,
    /// Of the operand, not wrapped.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

fn is_zero(x: &i64) -> bool {
    *x == 0
}

impl Add {
    /// How operand `i` enters.
    pub fn term(&self, i: usize) -> Term {
        self.terms.get(i).cloned().unwrap_or_default()
    }
}

impl Term {
    /// Of element `i` of the operand.
    pub fn of(&self, i: usize, x: i128) -> i128 {
        self.rescale.value(i, if self.minus { -x } else { x })
    }
}

impl Operation for Add {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        if place.ins.is_empty() {
            return Err("a sum without operands".into());
        }
        if !self.terms.is_empty() && self.terms.len() != place.ins.len() {
            return Err(format!("{} terms for {} operands", self.terms.len(), place.ins.len()));
        }
        let ty = broadcast_type(place)?;
        let (mut lo, mut hi) = (i128::from(self.constant), i128::from(self.constant));
        for (i, x) in place.ins.iter().enumerate() {
            let term = self.term(i);
            term.rescale.check(channels(&x.shape))?;
            let (x_lo, x_hi) = x.number.range();
            let range = exact_rescale(&term.rescale, if term.minus { (-x_hi, -x_lo) } else { (x_lo, x_hi) })?;
            (lo, hi) = (exact(lo.checked_add(range.0))?, exact(hi.checked_add(range.1))?);
        }
        self.rescale.check(channels(&ty.shape))?;
        Ok(vec![ty])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let ty = broadcast_type(place).expect("accepted");
        let mut sums = vec![i128::from(self.constant); ty.len()];
        for (i, x) in ins.iter().enumerate() {
            let term = self.term(i);
            if x.shape == ty.shape {
                sums.iter_mut().zip(&x.data).enumerate().for_each(|(j, (sum, &x))| *sum += term.of(j, x.into()));
            } else {
                let map = broadcast_map(&x.shape, &ty.shape);
                for (sum, j) in sums.iter_mut().zip(map) {
                    *sum += term.of(j as usize, x.data[j as usize].into());
                }
            }
        }
        tensor(&ty.shape, sums.into_iter().enumerate().map(|(i, sum)| self.rescale.of(i, sum, ty.number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ops::testing::{compute, infer, refused, timed};
    use crate::graph::rescale::Shifts;
    use crate::graph::{Number, Rescale};
    use crate::protocols::truncation::Rounding;

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[100, -7, 3, -128]);
        let y: (&[usize], Number, &[i64]) = (&[2], BYTE, &[100, -1]);
        // 200 wraps to -56, -129 to 127.
        assert_eq!(compute(Add::default(), &[x, y], BYTE), [-56, -8, 103, 127]);
        let half = Rescale::by(1, Rounding::TowardZero);
        let minus = Term { minus: true, rescale: half.clone() };
        // -(-1) / 2 toward zero is 0, -100 / 2 is -50.
        let sub = Add { terms: vec![Term::default(), minus], constant: 10, rescale: half };
        assert_eq!(compute(sub, &[x, y], BYTE), [30, 1, -18, -59]);
        let by_channel = Rescale { shift: Shifts::Channels(vec![0, 3]), ..Rescale::default() };
        assert_eq!(compute(Add { rescale: by_channel, ..Add::default() }, &[x], BYTE), [100, -1, 3, -16]);
    }

    #[test]
    fn time_axis() {
        let mut state = timed(&[3, 2], BYTE);
        assert!(infer(Add::default(), &[timed(&[3, 2], BYTE), state.clone()], Some(BYTE))[0].timed);
        state.timed = false;
        assert!(!infer(Add::default(), &[timed(&[3, 2], BYTE), state.clone()], Some(BYTE))[0].timed);
        state.shape = vec![2];
        assert!(infer(Add::default(), &[timed(&[3, 2], BYTE), state.clone()], Some(BYTE))[0].timed);
        state.shape = vec![5, 3, 2];
        assert!(!infer(Add::default(), &[timed(&[3, 2], BYTE), state], Some(BYTE))[0].timed);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 2], BYTE);
        assert!(refused(Add::default(), &[x, (&[3], BYTE)], Some(BYTE)).contains("cannot be broadcast"));
        assert!(refused(Add::default(), &[], Some(BYTE)).contains("without operands"));
        let terms = Add { terms: vec![Term::default()], ..Add::default() };
        assert!(refused(terms, &[x, x], Some(BYTE)).contains("1 terms for 2 operands"));
        let up = Term { rescale: Rescale { left: 63, ..Rescale::default() }, ..Term::default() };
        let wide = Number::new(63, 0);
        assert!(refused(Add { terms: vec![up], ..Add::default() }, &[(&[1], wide)], Some(BYTE)).contains("exact sums"));
    }
}
