//! One number for all elements along some axes.

use super::elementwise::one;
use super::{Call, Operator, axes, axis};
use crate::import::tensor::{Data, Tensor};

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "ReduceMean" => |c| reduce(c, |v| (v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64) as f32, None),
        "ReduceSum" => |c| reduce(c, |v| v.iter().map(|&x| f64::from(x)).sum::<f64>() as f32, Some(|v| v.iter().sum())),
        "ReduceMax" => |c| {
            reduce(
                c,
                |v| v.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Some(|v| v.iter().copied().max().unwrap_or(i64::MIN)),
            )
        },
        "ReduceMin" => |c| {
            reduce(
                c,
                |v| v.iter().copied().fold(f32::INFINITY, f32::min),
                Some(|v| v.iter().copied().min().unwrap_or(i64::MAX)),
            )
        },
        "ReduceProd" => |c| reduce(c, |v| v.iter().product(), Some(|v| v.iter().fold(1, |a, &b| a.wrapping_mul(b)))),
        "ReduceSumSquare" => |c| reduce(c, |v| v.iter().map(|x| x * x).sum(), None),
        "ReduceL1" => |c| reduce(c, |v| v.iter().map(|x| x.abs()).sum(), None),
        "ReduceL2" => |c| reduce(c, |v| v.iter().map(|x| x * x).sum::<f32>().sqrt(), None),
        "ArgMax" => |c| place(c, |new, old| new > old),
        "ArgMin" => |c| place(c, |new, old| new < old),
        _ => return None,
    })
}

/// The tensor with the given axes last, as runs of the elements that belong together, and the shape of the result.
fn runs(x: &Tensor, gone: &[usize], keep: bool) -> Result<(Tensor, usize, Vec<usize>), String> {
    let mut order: Vec<usize> = (0..x.rank()).filter(|i| !gone.contains(i)).collect();
    order.extend(gone);
    let run = gone.iter().map(|&i| x.shape()[i]).product();
    let shape = (0..x.rank()).filter(|i| keep || !gone.contains(i));
    let shape = shape.map(|i| if gone.contains(&i) { 1 } else { x.shape()[i] }).collect();
    Ok((x.transposed(&order)?, run, shape))
}

fn reduce(c: &Call, float: fn(&[f32]) -> f32, int: Option<fn(&[i64]) -> i64>) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    let gone = match c.list(1, "axes")? {
        Some(given) if !given.is_empty() => axes(&given, x.rank())?,
        _ if c.flag("noop_with_empty_axes", false)? => return one(x.clone()),
        _ => (0..x.rank()).collect(),
    };
    let (x, run, shape) = runs(x, &gone, c.flag("keepdims", true)?)?;
    if run == 0 {
        return Err("there is nothing to sum".into());
    }
    let data = match (x.data(), int) {
        (Data::Int(v), Some(f)) => Data::Int(v.chunks_exact(run).map(f).collect()),
        _ => Data::Float(x.as_floats()?.chunks_exact(run).map(float).collect()),
    };
    one(Tensor::new(shape, data)?)
}

fn place(c: &Call, better: fn(f32, f32) -> bool) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    let gone = axis(c.int("axis", 0)?, x.rank())?;
    let last = c.flag("select_last_index", false)?;
    let (x, run, shape) = runs(x, &[gone], c.flag("keepdims", true)?)?;
    if run == 0 {
        return Err("there is nothing to choose from".into());
    }
    let first_best = |row: &[f32]| {
        let best = row
            .iter()
            .enumerate()
            .fold(0, |best, (i, &v)| if better(v, row[best]) || (last && v == row[best]) { i } else { best });
        best as i64
    };
    one(Tensor::new(shape, Data::Int(x.as_floats()?.chunks_exact(run).map(first_best).collect()))?)
}
