//! Windows that move over an image or a series, and the largest or mean element of each.

use super::elementwise::one;
use super::{Call, Operator, wrong_shape};
use crate::import::tensor::{Tensor, count, strides};

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "MaxPool" => |c| {
            if c.wants(1) {
                return Err("its second result, the places of the largest elements, is not computed".into());
            }
            pool(c, |values, _| values.fold(f32::NEG_INFINITY, f32::max))
        },
        "AveragePool" => |c| {
            let padding = c.flag("count_include_pad", false)?;
            pool(c, move |values, taps| {
                let (sum, n) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
                sum / if padding { taps } else { n } as f32
            })
        },
        "GlobalMaxPool" => |c| global(c, |values| values.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
        "GlobalAveragePool" => |c| global(c, |values| values.iter().sum::<f32>() / values.len() as f32),
        _ => return None,
    })
}

/// Where windows lie on the axes that they move over.
pub(in crate::import) struct Windows {
    space: Vec<usize>,
    pub(in crate::import) kernel: Vec<usize>,
    pub(in crate::import) strides: Vec<usize>,
    pub(in crate::import) dilations: Vec<usize>,
    pub(in crate::import) before: Vec<usize>,
    /// Padding behind that the file asks for; a window that reaches further, by rounding up, does not count it.
    after: Vec<usize>,
    /// Number of windows along each axis.
    pub(in crate::import) out: Vec<usize>,
}

impl Windows {
    /// Reads strides, dilations and paddings of a node.
    pub(in crate::import) fn new(c: &Call, space: &[usize], kernel: Vec<usize>) -> Result<Self, String> {
        let rank = space.len();
        let strides = c.sizes("strides", 1, vec![1; rank])?;
        let dilations = c.sizes("dilations", 1, vec![1; rank])?;
        let pads = c.sizes("pads", 0, vec![0; 2 * rank])?;
        let (mut before, mut after) = (pads[..rank].to_vec(), pads[rank..].to_vec());
        let round_up = c.flag("ceil_mode", false)?;
        let automatic = c.string("auto_pad", "NOTSET")?;
        let mut out = Vec::with_capacity(rank);
        for i in 0..rank {
            let reach = (kernel[i].max(1) - 1)
                .checked_mul(dilations[i])
                .and_then(|r| r.checked_add(1))
                .ok_or("its windows are too large")?;
            let (n, stride) = (space[i], strides[i]);
            match automatic {
                "NOTSET" => {}
                "VALID" => (before[i], after[i]) = (0, 0),
                "SAME_UPPER" | "SAME_LOWER" => {
                    let missing = (n.div_ceil(stride).max(1) - 1) * stride + reach;
                    let missing = missing.saturating_sub(n);
                    let (less, more) = (missing / 2, missing - missing / 2);
                    (before[i], after[i]) = if automatic == "SAME_UPPER" { (less, more) } else { (more, less) };
                }
                other => return Err(format!("the padding '{other}' is not known")),
            }
            let padded = n + before[i] + after[i];
            let Some(room) = padded.checked_sub(reach) else {
                return Err(format!("a window of {reach} does not fit an axis of {padded}"));
            };
            let mut windows = room / stride + 1;
            // A window that rounding up adds has to begin inside of the input or of the padding before it.
            if round_up && !room.is_multiple_of(stride) && windows * stride < n + before[i] {
                windows += 1;
            }
            out.push(windows);
        }
        Ok(Self { space: space.to_vec(), kernel, strides, dilations, before, after, out })
    }

    /// For each tap of the window and each window, row-major: the element, or `None` in the padding.
    pub(super) fn positions(&self) -> Vec<Option<usize>> {
        let mut all = Vec::new();
        self.visit(|at, _| all.push(at));
        all
    }

    /// Calls with the element, and whether it is inside of the input and its padding.
    fn visit(&self, mut visit: impl FnMut(Option<usize>, bool)) {
        let rank = self.space.len();
        let (tap_steps, out_steps, steps) = (strides(&self.kernel), strides(&self.out), strides(&self.space));
        let taps: usize = self.kernel.iter().product();
        let places: usize = self.out.iter().product();
        for tap in 0..taps {
            for place in 0..places {
                let (mut at, mut real, mut counted) = (0, true, true);
                for i in 0..rank {
                    let window = place / out_steps[i] % self.out[i] * self.strides[i];
                    let padded = window + tap / tap_steps[i] % self.kernel[i] * self.dilations[i];
                    let inside = padded.wrapping_sub(self.before[i]);
                    counted &= padded < self.space[i] + self.before[i] + self.after[i];
                    if inside < self.space[i] {
                        at += inside * steps[i];
                    } else {
                        real = false;
                    }
                }
                visit(real.then_some(at), counted);
            }
        }
    }
}

/// A function of the elements of every window, and of the number of its taps that are not behind all padding.
fn pool(c: &Call, f: impl Fn(&mut dyn Iterator<Item = f32>, usize) -> f32) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    if x.rank() < 3 {
        return Err(wrong_shape("the input", x, "items, channels, and axes to move over"));
    }
    let rank = x.rank() - 2;
    let kernel = c.ints("kernel_shape")?.map(<[i64]>::len);
    if kernel != Some(rank) {
        return Err("its kernel_shape does not fit the input".into());
    }
    let windows = Windows::new(c, &x.shape()[2..], c.sizes("kernel_shape", 1, vec![1; rank])?)?;
    let (places, taps) = (count(&windows.out)?, count(&windows.kernel)?);
    let mut shape = x.shape()[..2].to_vec();
    shape.extend(&windows.out);
    let elements = count(&shape)?;
    count(&[places, taps])?;
    c.charge(&[elements, taps])?;
    let mut counted = vec![0usize; places];
    let mut visited = 0;
    let mut positions = Vec::with_capacity(places * taps);
    windows.visit(|at, inside| {
        counted[visited % places] += usize::from(inside);
        positions.push(at);
        visited += 1;
    });
    let space: usize = x.shape()[2..].iter().product();
    let mut out = Vec::with_capacity(elements);
    for plane in x.as_floats()?.chunks_exact(space.max(1)) {
        for place in 0..places {
            let mut values = (0..taps).filter_map(|tap| positions[tap * places + place]).map(|at| plane[at]);
            out.push(f(&mut values, counted[place]));
        }
    }
    one(Tensor::floats(shape, out)?)
}

/// One window over everything.
fn global(c: &Call, f: fn(&[f32]) -> f32) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    if x.rank() < 3 || x.is_empty() {
        return Err(wrong_shape("the input", x, "items, channels, and axes to move over"));
    }
    let mut shape = x.shape()[..2].to_vec();
    shape.resize(x.rank(), 1);
    let space: usize = x.shape()[2..].iter().product();
    one(Tensor::floats(shape, x.as_floats()?.chunks_exact(space).map(f).collect())?)
}
