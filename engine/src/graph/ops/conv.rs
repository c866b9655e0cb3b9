//! Convolution with filters of the server, channels last: `[height, width, channels]` or `[length, channels]`.

use super::products::{Sum, add_row, fits_i64};
use super::{Operation, Parameter, ParameterSpec, Place, Windows, declared, exact_products, operands};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// `y = wrap(R(sum of products))`. Weights are `[kernel.., channels / groups, filters]`; filter `f` belongs to group
/// `f / (filters / groups)`. Padding is zero (for the nearest element, put a `pad` before).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// The filters.
    pub weights: Parameter,
    /// Their number: channels of the result.
    pub filters: usize,
    /// Sizes of the kernel, one per spatial axis (1 or 2).
    pub kernel: Vec<usize>,
    /// Distance of places; by default 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Distance of a kernel's taps; by default 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dilation: Vec<usize>,
    /// Zeros before and after each spatial axis; by default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<[usize; 2]>,
    /// Parts of the channels that are mapped apart; as many as channels for a depthwise convolution.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Of the exact sum.
    #[serde(default)]
    pub rescale: Rescale,
}

impl Conv {
    /// The windows over a value of `shape`.
    ///
    /// # Errors
    /// Parameters that do not fit it.
    pub fn windows(&self, shape: &[usize]) -> Result<Windows, String> {
        Windows::new(shape, &self.kernel, &self.stride, &self.dilation, &self.padding)
    }

    /// Bound on the exact sums over an operand of type `x`.
    fn bound(&self, x: &ValueType, windows: &Windows) -> Result<i128, String> {
        let terms = windows.taps().saturating_mul(windows.channels / self.groups);
        exact_products(x.number.range(), self.weights.range(), terms)
    }

    fn sums<S: Sum>(&self, windows: &Windows, x: &[i64], weights: &[i64], mut row: impl FnMut(&[S])) {
        let mut sums = vec![S::from(0); self.filters];
        let per_tap = windows.channels / self.groups * self.filters;
        for places in windows.places() {
            sums.fill(S::from(0));
            for (at, weights) in places.zip(weights.chunks_exact(per_tap)) {
                if let Some(at) = at {
                    add_row(&mut sums, &x[at..at + windows.channels], weights, self.groups);
                }
            }
            row(&sums);
        }
    }
}

impl Operation for Conv {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 1)?;
        let x = &place.ins[0];
        let windows = self.windows(&x.shape)?;
        let (filters, groups) = (self.filters, self.groups);
        if groups == 0 || filters == 0 || !windows.channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return Err(format!("{} channels and {filters} filters in {groups} groups", windows.channels));
        }
        self.bound(x, &windows)?;
        self.rescale.check(filters)?;
        let timed = x.timed && windows.keeps_first_axis();
        Ok(vec![ValueType { shape: windows.shape(filters), number: declared(place)?, timed }])
    }

    fn parameters(&self, place: Place<'_>) -> Vec<ParameterSpec> {
        let channels = *place.ins[0].shape.last().expect("channels");
        let shape = self.kernel.iter().copied().chain([channels / self.groups, self.filters]);
        vec![self.weights.spec(shape.collect())]
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor> {
        let (x, number) = (ins[0], place.out.expect("declared"));
        let windows = self.windows(&x.shape).expect("accepted");
        let shape = windows.shape(self.filters);
        let mut data = Vec::with_capacity(shape.iter().product());
        let weights = &weights[&self.weights.tensor].data;
        if fits_i64(self.bound(&place.ins[0], &windows).expect("accepted")) {
            self.sums(&windows, &x.data, weights, |row: &[i64]| self.rescale.row(row, number, &mut data));
        } else {
            self.sums(&windows, &x.data, weights, |row: &[i128]| self.rescale.row(row, number, &mut data));
        }
        vec![Tensor::new(shape, data)]
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
    use crate::graph::ops::testing::{compute_with, infer, refused, timed};
    use crate::graph::rescale::Shifts;

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };
    const WIDE: Number = Number { bits: 24, scale: 0, unsigned: false };

    fn conv(kernel: &[usize], filters: usize) -> Conv {
        let none = Vec::new;
        Conv {
            weights: Parameter::new("w", 8),
            filters,
            kernel: kernel.to_vec(),
            stride: none(),
            dilation: none(),
            padding: Vec::new(),
            groups: 1,
            rescale: Rescale::default(),
        }
    }

    #[test]
    fn values() {
        let series: (&[usize], Number, &[i64]) = (&[4, 1], BYTE, &[1, 2, 3, 4]);
        assert_eq!(compute_with(conv(&[2], 1), &[series], WIDE, &[("w", &[10, 1])]), [12, 23, 34]);
        let dilated = Conv { dilation: vec![2], padding: vec![[1, 0]], stride: vec![2], ..conv(&[2], 1) };
        assert_eq!(compute_with(dilated, &[series], WIDE, &[("w", &[10, 1])]), [2, 24]);
        // Two channels, two filters, padding all around.
        let image: (&[usize], Number, &[i64]) = (&[1, 2, 2], BYTE, &[1, 2, 3, 4]);
        let padded = Conv { padding: vec![[0, 0], [1, 1]], ..conv(&[1, 2], 2) };
        let w: &[i64] = &[1, 0, 10, 0, 100, 1, 0, 5];
        assert_eq!(compute_with(padded.clone(), &[image], WIDE, &[("w", w)]), [100, 11, 321, 23, 43, 0]);
        let rescale = Rescale { shift: Shifts::Channels(vec![2, 0]), ..Rescale::default() };
        let per_channel = Conv { rescale, ..padded };
        assert_eq!(compute_with(per_channel, &[image], WIDE, &[("w", w)]), [25, 11, 80, 23, 10, 0]);
    }

    #[test]
    fn groups() {
        let image: (&[usize], Number, &[i64]) = (&[2, 1, 4], BYTE, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let depthwise = Conv { groups: 4, ..conv(&[2, 1], 4) };
        let w: &[i64] = &[1, 1, 1, 1, 10, 20, 30, 40];
        assert_eq!(compute_with(depthwise, &[image], WIDE, &[("w", w)]), [51, 122, 213, 324]);
        // Two groups of two channels each and one filter each.
        let halves = Conv { groups: 2, ..conv(&[1, 1], 2) };
        assert_eq!(compute_with(halves, &[image], WIDE, &[("w", &[1, 100, 10, 5])]), [21, 320, 65, 740]);
    }

    /// Sums beyond 64 bits.
    #[test]
    fn wide_numbers() {
        let wide = Number::new(63, 0);
        let most = (1i64 << 62) - 1;
        let x: (&[usize], Number, &[i64]) = (&[1, 2], wide, &[most, most]);
        let op = Conv { weights: Parameter::new("w", 8), rescale: Rescale::by(8, Default::default()), ..conv(&[1], 1) };
        let want = (i128::from(most) * 254) >> 8;
        assert_eq!(compute_with(op, &[x], wide, &[("w", &[127, 127])]), [want as i64]);
    }

    #[test]
    fn time_axis() {
        let x = timed(&[4, 6], BYTE);
        assert!(!infer(conv(&[2], 1), std::slice::from_ref(&x), Some(WIDE))[0].timed);
        assert!(infer(conv(&[1], 1), &[x], Some(WIDE))[0].timed);
        let rows = infer(conv(&[1, 3], 1), &[timed(&[4, 6, 2], BYTE)], Some(WIDE));
        assert_eq!((rows[0].timed, &rows[0].shape[..]), (true, &[4, 4, 1][..]));
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[4, 4, 2], BYTE);
        let refused = |op: Conv| refused(op, &[x], Some(WIDE));
        assert!(refused(conv(&[2], 1)).contains("is expected"));
        assert!(refused(conv(&[5, 1], 1)).contains("do not fit"));
        assert!(refused(conv(&[0, 1], 1)).contains("with a zero"));
        assert!(refused(conv(&[1, 1], 0)).contains("0 filters"));
        assert!(refused(Conv { groups: 3, ..conv(&[1, 1], 3) }).contains("in 3 groups"));
        assert!(refused(Conv { groups: 0, ..conv(&[1, 1], 3) }).contains("in 0 groups"));
        assert!(refused(Conv { stride: vec![1], ..conv(&[1, 1], 1) }).contains("for 2 spatial axes"));
        assert!(refused(Conv { padding: vec![[1, 1]], ..conv(&[1, 1], 1) }).contains("for 2 spatial axes"));
        let huge = Conv { padding: vec![[usize::MAX, 1], [0, 0]], ..conv(&[1, 1], 1) };
        assert!(refused(huge).contains("do not fit"));
        let huge = Conv { dilation: vec![usize::MAX, 1], ..conv(&[3, 1], 1) };
        assert!(refused(huge).contains("do not fit"));
        let shifts = Rescale { shift: Shifts::Channels(vec![1, 2, 3]), ..Rescale::default() };
        assert!(refused(Conv { rescale: shifts, ..conv(&[1, 1], 2) }).contains("3 shifts for 2 channels"));
    }
}
