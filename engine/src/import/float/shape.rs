//! Operators that move elements and do not change them, and those that make shapes and constants.

use super::elementwise::{constant, one};
use super::{Call, Operator, axes, axis};
use crate::import::tensor::{Data, Tensor, broadcast, count, show, strides};

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "Constant" => constant,
        "ConstantOfShape" => constant_of_shape,
        "Shape" => shape,
        "Size" => |c| one(Tensor::scalar(c.input(0)?.len() as i64)),
        "Range" => range,
        "Gather" => gather,
        "Concat" => |c| {
            let parts = c.all();
            let first = parts.first().ok_or("it has no input")?;
            let axis = axis(c.int("axis", 0)?, first.rank())?;
            one(Tensor::concat(&parts, axis)?)
        },
        "Slice" => slice,
        "Split" => split,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Transpose" => transpose,
        "Expand" => expand,
        "Tile" => tile,
        "Pad" => pad,
        _ => return None,
    })
}

/// Lengths from integers.
fn lengths(values: &[i64]) -> Result<Vec<usize>, String> {
    let lengths: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    lengths.ok_or_else(|| "a length is negative".into())
}

fn constant_of_shape(c: &Call) -> Result<Vec<Tensor>, String> {
    let shape = lengths(c.input(0)?.as_ints()?)?;
    let zero = Tensor::floats(vec![1], vec![0.0])?;
    let value = match c.node.attributes.get("value") {
        Some(crate::import::onnx::Attribute::Tensor(t)) if t.len() == 1 => t,
        None => &zero,
        Some(_) => return Err("its value is not one number".into()),
    };
    let n = count(&shape)?;
    one(value.pick(shape, (0..n).map(|_| Some(0)))?)
}

fn shape(c: &Call) -> Result<Vec<Tensor>, String> {
    let shape: Vec<i64> = c.input(0)?.shape().iter().map(|&n| n as i64).collect();
    let rank = shape.len() as i64;
    let clamp = |i: i64| if i < 0 { i + rank } else { i }.clamp(0, rank) as usize;
    let (start, end) = (clamp(c.int("start", 0)?), clamp(c.int("end", rank)?));
    one(Tensor::vector(shape[start..end.max(start)].to_vec()))
}

fn range(c: &Call) -> Result<Vec<Tensor>, String> {
    let (start, limit, delta) = (c.input(0)?, c.input(1)?, c.input(2)?);
    match start.data() {
        Data::Int(_) => {
            let (start, limit, delta) = (start.as_int()?, limit.as_int()?, delta.as_int()?);
            if delta == 0 {
                return Err("its step is zero".into());
            }
            let n = (i128::from(limit) - i128::from(start) + i128::from(delta) - i128::from(delta.signum()))
                / i128::from(delta);
            let n = count(&[usize::try_from(n.max(0)).unwrap_or(usize::MAX)])?;
            one(Tensor::vector((0..n as i64).map(|i| start + i * delta).collect()))
        }
        _ => {
            let number = |t: &Tensor| match t.as_floats()? {
                [x] => Ok(*x),
                _ => Err("one number is expected".to_string()),
            };
            let (start, limit, delta) = (number(start)?, number(limit)?, number(delta)?);
            let n = count(&[((limit - start) / delta).ceil().max(0.0) as usize])?;
            Tensor::floats(vec![n], (0..n).map(|i| start + i as f32 * delta).collect()).map(|t| vec![t])
        }
    }
}

fn gather(c: &Call) -> Result<Vec<Tensor>, String> {
    let (data, index) = (c.input(0)?, c.input(1)?);
    let axis = axis(c.int("axis", 0)?, data.rank())?;
    let n = data.shape()[axis] as i64;
    let mut at = Vec::with_capacity(index.len());
    for &i in index.as_ints()? {
        if !(-n..n).contains(&i) {
            return Err(format!("index {i} into an axis of length {n}"));
        }
        at.push(if i < 0 { i + n } else { i } as usize);
    }
    let mut shape = data.shape()[..axis].to_vec();
    shape.extend(index.shape());
    shape.extend(&data.shape()[axis + 1..]);
    count(&shape)?;
    let outer: usize = data.shape()[..axis].iter().product();
    let inner: usize = data.shape()[axis + 1..].iter().product();
    let n = n as usize;
    let elements =
        (0..outer).flat_map(|o| at.iter().flat_map(move |&i| ((o * n + i) * inner..(o * n + i + 1) * inner).map(Some)));
    one(data.pick(shape, elements)?)
}

fn slice(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let starts = c.list(1, "starts")?.ok_or("it has no starts")?;
    let ends = c.list(2, "ends")?.ok_or("it has no ends")?;
    let along = c.list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = c.list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || along.len() != starts.len() || steps.len() != starts.len() {
        return Err("starts, ends, axes and steps have different lengths".into());
    }
    axes(&along, data.rank())?;
    let mut shape = data.shape().to_vec();
    let mut moves: Vec<isize> = strides(data.shape()).into_iter().map(|s| s as isize).collect();
    let mut offset = 0;
    for (((&start, &end), &along), &step) in starts.iter().zip(&ends).zip(&along).zip(&steps) {
        let axis = axis(along, data.rank())?;
        let n = shape[axis] as i64;
        let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        let (start, len) = match step {
            1.. => {
                let (start, end) = (from_end(start).clamp(0, n), from_end(end).clamp(0, n));
                (start, (end - start).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
            }
            0 => return Err("a step is zero".into()),
            _ => {
                let (start, end) = (from_end(start).clamp(-1, n - 1), from_end(end).clamp(-1, n - 1));
                (start, (start - end).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
            }
        };
        shape[axis] = len as usize;
        if len > 0 {
            offset += start as usize * moves[axis] as usize;
            // The step matters only between two elements, so it is at most the axis.
            moves[axis] *= if len > 1 { step as isize } else { 0 };
        }
    }
    one(data.strided(shape, offset, &moves)?)
}

fn split(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let axis = axis(c.int("axis", 0)?, data.rank())?;
    let n = data.shape()[axis];
    let sizes = match c.list(1, "split")? {
        Some(sizes) => lengths(&sizes)?,
        None => {
            let parts = c.int("num_outputs", c.node.outputs.len() as i64)?;
            let parts = usize::try_from(parts).ok().filter(|&p| (1..=n.max(1)).contains(&p));
            let size = n.div_ceil(parts.ok_or("it has a wrong number of results")?).max(1);
            (0..n.div_ceil(size)).map(|i| size.min(n - i * size)).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |s, &x| s.checked_add(x)) != Some(n) {
        return Err(format!("its parts do not add up to the axis of length {n}"));
    }
    let moves: Vec<isize> = strides(data.shape()).into_iter().map(|s| s as isize).collect();
    let mut start = 0;
    let mut out = Vec::new();
    for size in sizes {
        let mut shape = data.shape().to_vec();
        shape[axis] = size;
        out.push(data.strided(shape, start * moves[axis] as usize, &moves)?);
        start += size;
    }
    Ok(out)
}

fn squeeze(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let gone = match c.list(1, "axes")? {
        Some(given) => axes(&given, data.rank())?,
        None => (0..data.rank()).filter(|&i| data.shape()[i] == 1).collect(),
    };
    if let Some(&axis) = gone.iter().find(|&&i| data.shape()[i] != 1) {
        return Err(format!("axis {axis} of shape {} has not length 1", show(data.shape())));
    }
    let shape = (0..data.rank()).filter(|i| !gone.contains(i)).map(|i| data.shape()[i]).collect();
    one(data.reshaped(shape)?)
}

fn unsqueeze(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let given = c.list(1, "axes")?.ok_or("it has no axes")?;
    let rank = data.rank() + given.len();
    let new = axes(&given, rank)?;
    let mut old = data.shape().iter();
    let shape = (0..rank).map(|i| if new.contains(&i) { 1 } else { *old.next().expect("the rest") }).collect();
    one(data.reshaped(shape)?)
}

fn reshape(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let wanted = c.list(1, "shape")?.ok_or("it has no shape")?;
    let keep_zero = c.flag("allowzero", false)?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &n) in wanted.iter().enumerate() {
        shape.push(match n {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if !keep_zero => *data.shape().get(i).ok_or("it copies the length of an axis that is not there")?,
            n => usize::try_from(n).map_err(|_| format!("{n} is no length"))?,
        });
    }
    if let Some(i) = open {
        let known = count(&shape)?;
        if known == 0 || !data.len().is_multiple_of(known) {
            return Err(format!("shape {} cannot become {wanted:?}", show(data.shape())));
        }
        shape[i] = data.len() / known;
    }
    one(data.reshaped(shape)?)
}

fn flatten(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    // Unlike elsewhere, the axis may be the rank itself.
    let given = c.int("axis", 1)?;
    let axis = if given == data.rank() as i64 { data.rank() } else { axis(given, data.rank())? };
    let (outer, inner) = data.shape().split_at(axis);
    one(data.reshaped(vec![outer.iter().product(), inner.iter().product()])?)
}

fn transpose(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let order = match c.ints("perm")? {
        Some(order) => order.iter().map(|&a| axis(a, data.rank())).collect::<Result<Vec<_>, _>>()?,
        None => (0..data.rank()).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..data.rank()) {
        return Err(format!("{order:?} is no order of {} axes", data.rank()));
    }
    one(data.transposed(&order)?)
}

fn expand(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let wanted = lengths(c.input(1)?.as_ints()?)?;
    one(data.expanded(&broadcast(data.shape(), &wanted)?)?)
}

fn tile(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let repeats = lengths(c.input(1)?.as_ints()?)?;
    if repeats.len() != data.rank() {
        return Err(format!("{} repeats for {} axes", repeats.len(), data.rank()));
    }
    let shape: Option<Vec<usize>> = data.shape().iter().zip(&repeats).map(|(&n, &r)| n.checked_mul(r)).collect();
    let shape = shape.ok_or("its result is too large")?;
    one(gathered(data, shape, |axis, i| Some(i % data.shape()[axis]))?)
}

fn pad(c: &Call) -> Result<Vec<Tensor>, String> {
    let data = c.input(0)?;
    let rank = data.rank();
    let pads = c.list(1, "pads")?.ok_or("it has no pads")?;
    let along = match c.list(3, "axes")? {
        Some(given) => given.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * along.len() {
        return Err(format!("{} pads for {} axes", pads.len(), along.len()));
    }
    let mut before = vec![0i64; rank];
    let mut shape = data.shape().to_vec();
    for (i, &axis) in along.iter().enumerate() {
        let (b, a) = (pads[i], pads[along.len() + i]);
        before[axis] = b;
        let n = (shape[axis] as i64).checked_add(b).and_then(|n| n.checked_add(a));
        let n = n.and_then(|n| usize::try_from(n).ok());
        shape[axis] = n.ok_or("a length becomes negative")?;
    }
    let mode = c.string("mode", "constant")?;
    if mode != "constant" && data.shape().contains(&0) {
        return Err("there is nothing to repeat".into());
    }
    let source = |axis: usize, i: usize| -> Option<usize> {
        let n = data.shape()[axis] as i64;
        let i = i as i64 - before[axis];
        let at = match mode {
            "constant" if !(0..n).contains(&i) => return None,
            "edge" => i.clamp(0, n - 1),
            "wrap" => i.rem_euclid(n),
            "reflect" if n > 1 => {
                let i = i.rem_euclid(2 * (n - 1));
                i.min(2 * (n - 1) - i)
            }
            "reflect" => 0,
            _ => i,
        };
        Some(at as usize)
    };
    if !["constant", "edge", "wrap", "reflect"].contains(&mode) {
        return Err(format!("the mode '{mode}' is not known"));
    }
    let padded = gathered(data, shape, source)?;
    let fill = match (mode, c.optional(2)) {
        ("constant", Some(t)) if t.len() == 1 => t.clone(),
        ("constant", None) => Tensor::floats(vec![1], vec![c.float("value", 0.0)?])?,
        _ => return one(padded),
    };
    // Elements that come from nowhere are zero so far.
    let inside = Tensor::new(data.shape().to_vec(), Data::Bool(vec![true; data.len()]))?;
    let inside = gathered(&inside, padded.shape().to_vec(), source)?;
    let inside = inside.as_bools()?;
    let data = match (padded.data(), fill.data()) {
        (Data::Float(v), Data::Float(f)) => {
            Data::Float(v.iter().zip(inside).map(|(&x, &i)| if i { x } else { f[0] }).collect())
        }
        (Data::Int(v), Data::Int(f)) => {
            Data::Int(v.iter().zip(inside).map(|(&x, &i)| if i { x } else { f[0] }).collect())
        }
        (other, _) => other.clone(),
    };
    one(Tensor::new(padded.shape().to_vec(), data)?)
}

/// A tensor whose element at an index comes from the index that `source` says axis by axis, or from nowhere.
fn gathered(
    data: &Tensor,
    shape: Vec<usize>,
    source: impl Fn(usize, usize) -> Option<usize>,
) -> Result<Tensor, String> {
    let n = count(&shape)?;
    let own = strides(data.shape());
    let tables: Vec<Vec<Option<usize>>> = shape
        .iter()
        .enumerate()
        .map(|(axis, &n)| (0..n).map(|i| source(axis, i).map(|s| s * own[axis])).collect())
        .collect();
    let steps = strides(&shape);
    let at = |i: usize| {
        tables.iter().zip(&steps).zip(&shape).try_fold(0, |sum, ((table, step), n)| Some(sum + table[i / step % n]?))
    };
    data.pick(shape.clone(), (0..n).map(at))
}
