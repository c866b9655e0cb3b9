//! Pooling over windows of images `[H, W, C]`, and exact division by a public number.
//!
//! *Maxpool* is one tournament over the places of a window, for all windows, channels and images at once: every level is one comparison of
//! everything that is left. A place that falls into the padding is replaced by one of the same window that does not, which changes no maximum.
//!
//! *Average pool* adds up locally and divides by the number of places; padding counts as zeros. Division by `2^s` is a shift. Division of `n` in `[0, N]` by
//! another `c` is `floor(n M / 2^k)` with `M = ceil(2^k / c)`: exact if `N (M c - 2^k) < 2^k`, since then the error
//! stays below the distance `1/c` to the next multiple. Such a `k` always exists; the product with `M` is local and only needs a ring of
//! the bits of `N M`. Toward zero, a negative number gets `c - 1` first: one comparison more.
//!
//! Rounds: maxpool as [`select`](super::select); division extension 1 (with slack), shift; toward zero the sign's tree and 1.

use super::select::tournament;
use super::truncation::{Rounding, Shift};
use crate::program::{Build, Cx, Function, Int, Reg, Ty, bits_for, refuse};

/// Windows over images, row by row. The vector holds whole images `[height, width, channels]`; results are images `[rows, columns,
/// channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// Height and width of a window.
    pub size: [usize; 2],
    /// Distance of windows.
    pub stride: [usize; 2],
    /// Rows and columns of padding: above, below, left, right.
    pub padding: [usize; 4],
}

/// The largest value of each window, channel by channel.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool(pub Window);

/// The sum over each window divided by its number of places, in a ring of `width` bits. Padding counts as zeros.
#[derive(Clone, Copy, Debug)]
pub struct AveragePool {
    /// The windows.
    pub window: Window,
    /// How the quotient is rounded.
    pub rounding: Rounding,
    /// Width of the result.
    pub width: u32,
}

/// `x / divisor`, rounded, in a ring of `width` bits.
#[derive(Clone, Copy, Debug)]
pub struct DivideBy {
    /// The divisor, positive.
    pub divisor: i128,
    /// How the quotient is rounded.
    pub rounding: Rounding,
    /// Width of the result.
    pub width: u32,
}

/// Sums of `terms` consecutive values.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// Values of a row.
    pub terms: usize,
    /// Width of the result.
    pub width: u32,
}

impl Window {
    /// Rows and columns of the result.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|d| {
            let padded = self.image[d] + self.padding[2 * d] + self.padding[2 * d + 1];
            padded.checked_sub(self.size[d]).map_or(0, |rest| rest / self.stride[d] + 1)
        })
    }

    /// For each place of a window and each value of the result, the index of the operand's value there; none in the padding.
    fn places(&self, len: usize) -> Vec<Vec<Option<usize>>> {
        let [height, width, channels] = self.image;
        let [rows, columns] = self.output();
        let images = len / (height * width * channels);
        let coordinate = |d: usize, out: usize, at: usize| {
            (out * self.stride[d] + at).checked_sub(self.padding[2 * d]).filter(|&i| i < self.image[d])
        };
        let mut places = Vec::new();
        for i in 0..self.size[0] {
            for j in 0..self.size[1] {
                let mut place = Vec::with_capacity(images * rows * columns * channels);
                for image in 0..images {
                    for row in 0..rows {
                        for column in 0..columns {
                            let at = coordinate(0, row, i).zip(coordinate(1, column, j));
                            let first = at.map(|(y, x)| ((image * height + y) * width + x) * channels);
                            place.extend((0..channels).map(|c| first.map(|f| f + c)));
                        }
                    }
                }
                places.push(place);
            }
        }
        places
    }

    fn check(&self, name: &str, len: usize) -> Build<()> {
        let image: usize = self.image.iter().product();
        if self.size.contains(&0) || self.stride.contains(&0) || image == 0 || !len.is_multiple_of(image) {
            return refuse(name, format!("{len} values, windows {self:?}"));
        }
        if (0..2).any(|d| self.padding[2 * d] >= self.size[d] || self.padding[2 * d + 1] >= self.size[d]) {
            return refuse(name, format!("padding {:?} of windows of {:?}", self.padding, self.size));
        }
        if self.output().contains(&0) {
            return refuse(name, format!("windows of {:?} in images of {:?}", self.size, self.image));
        }
        Ok(())
    }
}

impl Function for MaxPool {
    fn name(&self) -> &'static str {
        "maxpool"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let places = self.0.places(ins[0].len());
        let count = places[0].len();
        let best = |i: usize| places.iter().filter_map(|p| p[i].map(|at| ins[0][at])).max().expect("a value");
        vec![(0..count).map(best).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        self.0.check(self.name(), ty.len)?;
        let places = self.0.places(ty.len);
        let items = places[0].len();
        let inside: Vec<usize> =
            (0..items).map(|i| places.iter().find_map(|p| p[i]).expect("padding is smaller than a window")).collect();
        let map = places.iter().flat_map(|p| p.iter().zip(&inside).map(|(at, &other)| at.unwrap_or(other) as u32));
        let values = cx.gather(x, map.collect());
        let best = tournament(cx, self.name(), values, places.len(), items, false)?.0;
        Ok(vec![cx.extend(best, ty.width())?.0])
    }
}

/// A sum of vectors of one type, in a ring of `width` bits, with its range.
fn total(cx: &mut Cx, parts: &[Int], width: u32) -> Int {
    let mut sum = parts[0];
    for &part in &parts[1..] {
        sum = cx.add(sum, part);
    }
    debug_assert_eq!(cx.width(sum), width);
    sum
}

/// The ring of a sum of `terms` values of type `ty`: at least the narrowest that holds it, with a slack bit.
fn sum_ring(ty: &Ty, terms: usize) -> u32 {
    bits_for((ty.hi.max(0) - ty.lo.min(0)) * terms as i128) + 1
}

impl Function for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].chunks(self.terms).map(|row| row.iter().sum()).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let len = cx.len(ins[0]);
        if self.terms == 0 || !len.is_multiple_of(self.terms) {
            return refuse(self.name(), format!("{len} values are no rows of {}", self.terms));
        }
        let x = cx.extend(Int(ins[0]), self.width)?;
        let part = |t: usize| cx.gather(x, (0..len / self.terms).map(|r| (r * self.terms + t) as u32).collect());
        let parts: Vec<Int> = (0..self.terms).map(part).collect();
        Ok(vec![total(cx, &parts, self.width).0])
    }
}

impl Function for AveragePool {
    fn name(&self) -> &'static str {
        "average pool"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let places = self.window.places(ins[0].len());
        let sum = |i: usize| places.iter().filter_map(|p| p[i].map(|at| ins[0][at])).sum();
        let division = DivideBy { divisor: places.len() as i128, rounding: self.rounding, width: self.width };
        vec![(0..places[0].len()).map(|i| division.of(sum(i))).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        self.window.check(self.name(), ty.len)?;
        let places = self.window.places(ty.len);
        let width = sum_ring(&ty, places.len());
        if width > 64 {
            return refuse(self.name(), format!("a sum of {width} bits, 64 are supported"));
        }
        let wide = cx.extend(x, width)?;
        let zero = cx.public(width, vec![0]);
        let padded = cx.concat(&[wide, zero]);
        let part = |p: &Vec<Option<usize>>| cx.gather(padded, p.iter().map(|at| at.unwrap_or(ty.len) as u32).collect());
        let parts: Vec<Int> = places.iter().map(part).collect();
        let sum = total(cx, &parts, width);
        let division = DivideBy { divisor: places.len() as i128, rounding: self.rounding, width: self.width };
        Ok(vec![cx.call_int(division, &[sum.0])?.0])
    }
}

impl DivideBy {
    fn of(&self, x: i128) -> i128 {
        self.rounding.divide(x, self.divisor)
    }

    /// `M` and `k` for numbers up to `most`, and the bits of the product.
    fn multiplier(&self, most: i128) -> Option<(i128, u32, u32)> {
        (0..64).find_map(|k| {
            let m = ((1i128 << k) + self.divisor - 1) / self.divisor;
            let error = m * self.divisor - (1 << k);
            let bits = bits_for(most) + bits_for(m);
            (bits < 127 && most * error < 1 << k).then(|| (m, k, bits_for(most * m)))
        })
    }
}

impl Function for DivideBy {
    fn name(&self) -> &'static str {
        "divide"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.of(x)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (name, c) = (self.name(), self.divisor);
        let mut x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        if c <= 0 || c >= 1 << 62 {
            return refuse(name, format!("a divisor of {c} (1..2^62)"));
        }
        if c & (c - 1) == 0 {
            let shift = Shift { floor: 0, shift: c.ilog2(), rounding: self.rounding, width: self.width };
            return Ok(vec![cx.call_int(shift, &[x.0])?.0]);
        }
        if !ty.exact() {
            return refuse(name, "the operand's range is wider than its ring");
        }
        let half = if self.rounding == Rounding::Nearest { c / 2 } else { 0 };
        let (lo, mut hi) = (ty.lo + half, ty.hi + half);
        // What makes it non-negative, a multiple of the divisor.
        let ring_for = |lo: i128, hi: i128| {
            let steps = -lo.div_euclid(c);
            let found = self.multiplier(hi + steps * c);
            found.filter(|f| f.2 < 64).map(|(m, k, bits)| (steps, m, k, bits + 1))
        };
        let toward_zero = self.rounding == Rounding::TowardZero && lo < 0;
        if toward_zero {
            hi = hi.max(c - 2);
        }
        let Some((steps, m, k, ring)) = ring_for(lo, hi) else {
            return refuse(name, format!("division of {lo}..={hi} by {c} needs a ring of more than 64 bits"));
        };
        if toward_zero {
            let negative = cx.negative(x)?;
            x = cx.extend(x, ring)?;
            let one = cx.b2a(negative, ring);
            let more = cx.scale(one, c - 1);
            x = cx.add(x, more);
        }
        let x = cx.extend(x, ring)?;
        let x = cx.offset(x, half);
        let x = cx.retype(x, lo, hi);
        let x = cx.offset(x, steps * c);
        let product = cx.scale(x, m);
        let y = cx.call_int(Shift::down(k, self.width), &[product.0])?;
        let y = cx.offset(y, -steps);
        Ok(vec![cx.retype(y, self.of(ty.lo), self.of(ty.hi)).0])
    }
}
