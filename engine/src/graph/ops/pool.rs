//! Windows of an image or a series, channels last: `[height, width, channels]` or `[length, channels]`.

use super::{Operation, Place, Windows, declared, exact_products, operands, undeclared};
use crate::graph::{Tensor, ValueType, Weights};
use crate::protocols::truncation::Rounding;
use serde::{Deserialize, Serialize};

/// Largest value of each window, channel by channel. Padding never wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Sizes of a window, one per spatial axis (1 or 2).
    pub size: Vec<usize>,
    /// Distance of windows; by default their size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Padding before and after each spatial axis; by default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<[usize; 2]>,
}

/// `wrap(round(sum of the window / its number of places))`; padding counts as zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Sizes of a window, one per spatial axis (1 or 2).
    pub size: Vec<usize>,
    /// Distance of windows; by default their size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Zeros before and after each spatial axis; by default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<[usize; 2]>,
    /// How the quotient is rounded.
    #[serde(default)]
    pub rounding: Rounding,
}

/// Windows of a pool over a value of `shape`. None lies in the padding alone.
fn windows(shape: &[usize], size: &[usize], stride: &[usize], padding: &[[usize; 2]]) -> Result<Windows, String> {
    let stride = if stride.is_empty() { size } else { stride };
    if size.iter().zip(padding).any(|(&size, pad)| pad.iter().any(|&p| p >= size)) {
        return Err(format!("padding {padding:?} of windows of {size:?}: less than a window is expected"));
    }
    Windows::new(shape, size, stride, &[], padding)
}

/// One value per window and channel, from the values there.
fn pooled(windows: &Windows, x: &[i64], of: impl Fn(&mut dyn Iterator<Item = i64>) -> i64) -> Vec<Tensor> {
    let mut data = Vec::new();
    for places in windows.places() {
        let inside: Vec<usize> = places.flatten().collect();
        data.extend((0..windows.channels).map(|c| of(&mut inside.iter().map(|at| x[at + c]))));
    }
    vec![Tensor::new(windows.shape(windows.channels), data)]
}

impl MaxPool {
    /// The windows over a value of `shape`.
    ///
    /// # Errors
    /// Parameters that do not fit it.
    pub fn windows(&self, shape: &[usize]) -> Result<Windows, String> {
        windows(shape, &self.size, &self.stride, &self.padding)
    }
}

impl AvgPool {
    /// The windows over a value of `shape`.
    ///
    /// # Errors
    /// Parameters that do not fit it.
    pub fn windows(&self, shape: &[usize]) -> Result<Windows, String> {
        windows(shape, &self.size, &self.stride, &self.padding)
    }
}

impl Operation for MaxPool {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 1)?;
        undeclared(place)?;
        let x = &place.ins[0];
        let windows = self.windows(&x.shape)?;
        let timed = x.timed && windows.keeps_first_axis();
        Ok(vec![ValueType { shape: windows.shape(windows.channels), number: x.number, timed }])
    }

    fn clear(&self, _: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let windows = self.windows(&ins[0].shape).expect("accepted");
        pooled(&windows, &ins[0].data, |values| values.max().expect("a value"))
    }
}

impl Operation for AvgPool {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 1)?;
        let x = &place.ins[0];
        let windows = self.windows(&x.shape)?;
        exact_products(x.number.range(), (1, 1), windows.taps())?;
        let timed = x.timed && windows.keeps_first_axis();
        Ok(vec![ValueType { shape: windows.shape(windows.channels), number: declared(place)?, timed }])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let windows = self.windows(&ins[0].shape).expect("accepted");
        let (taps, number) = (windows.taps() as i128, place.out.expect("declared"));
        pooled(&windows, &ins[0].data, |values| {
            number.wrap(self.rounding.divide(values.map(i128::from).sum(), taps)) as i64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{arrange, compute, infer, refused, timed};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    fn max(size: &[usize], stride: &[usize], padding: &[[usize; 2]]) -> MaxPool {
        MaxPool { size: size.to_vec(), stride: stride.to_vec(), padding: padding.to_vec() }
    }

    fn average(size: &[usize], padding: &[[usize; 2]], rounding: Rounding) -> AvgPool {
        AvgPool { size: size.to_vec(), stride: vec![], padding: padding.to_vec(), rounding }
    }

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 3, 1], BYTE, &[-1, -2, -3, -4, -5, -128]);
        assert_eq!(arrange(max(&[2, 2], &[1, 1], &[]), &[x])[0].data, [-1, -2]);
        // Padding never wins.
        assert_eq!(arrange(max(&[1, 2], &[], &[[0, 0], [1, 0]]), &[x])[0].data, [-1, -2, -4, -5]);
        let of = |rounding| compute(average(&[1, 3], &[], rounding), &[x], BYTE);
        assert_eq!(of(Rounding::Floor), [-2, -46]);
        assert_eq!(of(Rounding::TowardZero), [-2, -45]);
        assert_eq!(of(Rounding::Nearest), [-2, -46]);
        // Padding counts as zeros; ties go up.
        let series: (&[usize], Number, &[i64]) = (&[3, 1], BYTE, &[-3, 5, 6]);
        assert_eq!(compute(average(&[2], &[[1, 0]], Rounding::Nearest), &[series], BYTE), [-1, 6]);
        let two_channels: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[1, 20, 3, 10]);
        assert_eq!(arrange(max(&[2], &[], &[]), &[two_channels])[0].data, [3, 20]);
    }

    #[test]
    fn time_axis() {
        assert!(!infer(max(&[2], &[1], &[]), &[timed(&[4, 1], BYTE)], None)[0].timed);
        assert!(infer(max(&[1, 2], &[1, 2], &[]), &[timed(&[4, 2, 1], BYTE)], None)[0].timed);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 3, 1], BYTE);
        assert!(refused(max(&[2, 2], &[], &[[2, 0], [0, 0]]), &[x], None).contains("less than a window"));
        assert!(refused(max(&[3, 1], &[], &[]), &[x], None).contains("do not fit"));
        assert!(refused(max(&[1, 1], &[], &[]), &[x], Some(BYTE)).contains("not expected"));
        assert!(refused(average(&[1, 1], &[], Rounding::Floor), &[x], None).contains("format is missing"));
        assert!(refused(max(&[], &[], &[]), &[x], None).contains("is expected"));
    }
}
