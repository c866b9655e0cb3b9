//! Normalisations, and softmax.

use super::elementwise::{one, zip_floats};
use super::{Call, Operator, axis, wrong_shape};
use crate::import::tensor::Tensor;

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "BatchNormalization" => batch,
        "LayerNormalization" => layer,
        "InstanceNormalization" => |c| {
            let channels = c.input(0)?.shape().get(1).copied().unwrap_or(0);
            group(c, channels)
        },
        "GroupNormalization" => |c| {
            let groups = usize::try_from(c.int("num_groups", 0)?).map_err(|_| "its number of groups is negative")?;
            group(c, groups)
        },
        "LpNormalization" => lp,
        "Softmax" => |c| softmax(c, |x, largest, sum| (x - largest).exp() / sum),
        "LogSoftmax" => |c| softmax(c, |x, largest, sum| x - largest - sum.ln()),
        _ => return None,
    })
}

/// A vector with one number for each channel, in the shape that broadcasts over items and space.
fn per_channel(c: &Call, i: usize, channels: usize, rank: usize) -> Result<Tensor, String> {
    let t = c.input(i)?;
    if t.shape() != [channels] {
        return Err(wrong_shape(&format!("input {i}"), t, &format!("[{channels}]")));
    }
    let mut shape = vec![1; rank.saturating_sub(1)];
    if let Some(first) = shape.first_mut() {
        *first = channels;
    }
    t.reshaped(shape)
}

fn batch(c: &Call) -> Result<Vec<Tensor>, String> {
    if c.flag("training_mode", false)? {
        return Err("it is set to training; export the network for inference (net.eval())".into());
    }
    let x = c.input(0)?;
    let channels = *x.shape().get(1).ok_or("its input has no channels")?;
    let part = |i| per_channel(c, i, channels, x.rank());
    let (scale, shift, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
    let epsilon = c.float("epsilon", 1e-5)?;
    let factor = zip_floats(&scale, &variance, |s, v| s / (v + epsilon).sqrt())?;
    let centred = zip_floats(x, &mean, |x, m| x - m)?;
    let scaled = zip_floats(&centred, &factor, |x, f| x * f)?;
    one(zip_floats(&scaled, &shift, |x, b| x + b)?)
}

/// `(x - mean) / sqrt(variance + epsilon)` over runs of a length, with mean and variance in `f64`.
fn standardised(x: &Tensor, run: usize, epsilon: f32) -> Result<Tensor, String> {
    let mut out = x.as_floats()?.to_vec();
    for row in out.chunks_exact_mut(run.max(1)) {
        let n = row.len() as f64;
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
        row.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * factor) as f32);
    }
    Tensor::floats(x.shape().to_vec(), out)
}

fn layer(c: &Call) -> Result<Vec<Tensor>, String> {
    if c.wants(1) || c.wants(2) {
        return Err("its results for training are not computed".into());
    }
    let x = c.input(0)?;
    let axis = axis(c.int("axis", -1)?, x.rank())?;
    let normal = standardised(x, x.shape()[axis..].iter().product(), c.float("epsilon", 1e-5)?)?;
    let scaled = zip_floats(&normal, c.input(1)?, |x, s| x * s)?;
    one(match c.optional(2) {
        Some(shift) => zip_floats(&scaled, shift, |x, b| x + b)?,
        None => scaled,
    })
}

/// Every group of channels of every item is standardised by itself.
fn group(c: &Call, groups: usize) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    if x.rank() < 2 || groups == 0 || !x.shape()[1].is_multiple_of(groups) {
        return Err(wrong_shape("the input", x, &format!("channels that make {groups} groups")));
    }
    let channels = x.shape()[1];
    let space: usize = x.shape()[2..].iter().product();
    let normal = standardised(x, channels / groups * space, c.float("epsilon", 1e-5)?)?;
    // Older files give one scale for a group, newer ones for a channel.
    let part = |i: usize| -> Result<Tensor, String> {
        let t = c.input(i)?;
        if t.shape() == [groups] && groups != channels {
            let values = t.as_floats()?;
            let spread = (0..channels).map(|k| values[k / (channels / groups)]).collect();
            let mut shape = vec![1; x.rank() - 1];
            shape[0] = channels;
            Tensor::floats(shape, spread)
        } else {
            per_channel(c, i, channels, x.rank())
        }
    };
    let scaled = zip_floats(&normal, &part(1)?, |x, s| x * s)?;
    one(zip_floats(&scaled, &part(2)?, |x, b| x + b)?)
}

fn lp(c: &Call) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    let axis = axis(c.int("axis", -1)?, x.rank())?;
    let square = match c.int("p", 2)? {
        1 => false,
        2 => true,
        p => return Err(format!("the norm {p} is not computed")),
    };
    one(along(x, axis, |row| {
        let sum =
            if square { row.iter().map(|v| v * v).sum::<f32>().sqrt() } else { row.iter().map(|v| v.abs()).sum() };
        row.iter_mut().for_each(|v| *v /= sum);
    })?)
}

/// Changes every run of elements along an axis.
fn along(x: &Tensor, axis: usize, f: impl Fn(&mut [f32])) -> Result<Tensor, String> {
    let n = x.shape()[axis];
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let mut out = x.as_floats()?.to_vec();
    let mut row = vec![0f32; n];
    for block in out.chunks_exact_mut((n * inner).max(1)) {
        for i in 0..inner {
            row.iter_mut().enumerate().for_each(|(k, r)| *r = block[k * inner + i]);
            f(&mut row);
            row.iter().enumerate().for_each(|(k, &r)| block[k * inner + i] = r);
        }
    }
    Tensor::floats(x.shape().to_vec(), out)
}

fn softmax(c: &Call, f: fn(f32, f32, f32) -> f32) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    let fill = |row: &mut [f32]| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|v| (v - largest).exp()).sum();
        row.iter_mut().for_each(|v| *v = f(*v, largest, sum));
    };
    if c.opset >= 13 {
        return one(along(x, axis(c.int("axis", -1)?, x.rank())?, fill)?);
    }
    // Before version 13 all axes from the given one on count as one.
    let axis = axis(c.int("axis", 1)?, x.rank())?;
    let (outer, inner) = x.shape().split_at(axis);
    let flat = x.reshaped(vec![outer.iter().product(), inner.iter().product()])?;
    one(along(&flat, 1, fill)?.reshaped(x.shape().to_vec())?)
}
