//! Matrix products and convolutions.

use super::elementwise::{one, zip_floats};
use super::pool::Windows;
use super::{Call, Operator, wrong_shape};
use crate::import::tensor::{Tensor, broadcast, count};

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "MatMul" => matmul,
        "Gemm" => gemm,
        "Conv" => conv,
        _ => return None,
    })
}

/// `out += a b` for row-major `a [m, k]` and `b [k, n]`.
pub(in crate::import) fn multiply_add(out: &mut [f32], a: &[f32], b: &[f32], k: usize, n: usize) {
    if k == 0 || n == 0 {
        return;
    }
    for (out, a) in out.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&x, b) in a.iter().zip(b.chunks_exact(n)) {
            for (o, &y) in out.iter_mut().zip(b) {
                *o += x * y;
            }
        }
    }
}

fn matmul(c: &Call) -> Result<Vec<Tensor>, String> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    if a.rank() == 0 || b.rank() == 0 {
        return Err("a number is no matrix".into());
    }
    // A vector is a row on the left and a column on the right; the axis that this adds vanishes again.
    let (mut left, mut right) = (a.shape().to_vec(), b.shape().to_vec());
    if a.rank() == 1 {
        left.insert(0, 1);
    }
    if b.rank() == 1 {
        right.push(1);
    }
    let (m, k) = (left[left.len() - 2], left[left.len() - 1]);
    let n = right[right.len() - 1];
    if right[right.len() - 2] != k {
        return Err(wrong_shape("the second factor", b, &format!("{k} rows")));
    }
    let many = broadcast(&left[..left.len() - 2], &right[..right.len() - 2])?;
    let full = |last: [usize; 2]| many.iter().copied().chain(last).collect::<Vec<_>>();
    let mut shape = full([m, n]);
    let elements = count(&shape)?;
    c.charge(&[elements, k])?;
    let a = a.reshaped(left)?.expanded(&full([m, k]))?;
    let b = b.reshaped(right)?.expanded(&full([k, n]))?;
    let mut out = vec![0f32; elements];
    if elements > 0 && k > 0 {
        let factors = a.as_floats()?.chunks_exact(m * k).zip(b.as_floats()?.chunks_exact(k * n));
        for (out, (a, b)) in out.chunks_exact_mut(m * n).zip(factors) {
            multiply_add(out, a, b, k, n);
        }
    }
    if c.input(0)?.rank() == 1 {
        shape.remove(shape.len() - 2);
    }
    if c.input(1)?.rank() == 1 {
        shape.pop();
    }
    one(Tensor::floats(shape, out)?)
}

fn gemm(c: &Call) -> Result<Vec<Tensor>, String> {
    let matrix = |i: usize, transposed: &str| -> Result<Tensor, String> {
        let t = c.input(i)?;
        if t.rank() != 2 {
            return Err(wrong_shape("a factor", t, "a matrix"));
        }
        if c.flag(transposed, false)? { t.transposed(&[1, 0]) } else { Ok(t.clone()) }
    };
    let (a, b) = (matrix(0, "transA")?, matrix(1, "transB")?);
    let (m, k, n) = (a.shape()[0], a.shape()[1], b.shape()[1]);
    if b.shape()[0] != k {
        return Err(wrong_shape("the second factor", &b, &format!("{k} rows")));
    }
    let elements = count(&[m, n])?;
    c.charge(&[elements, k])?;
    let mut out = vec![0f32; elements];
    multiply_add(&mut out, a.as_floats()?, b.as_floats()?, k, n);
    let (alpha, beta) = (c.float("alpha", 1.0)?, c.float("beta", 1.0)?);
    out.iter_mut().for_each(|x| *x *= alpha);
    let product = Tensor::floats(vec![m, n], out)?;
    match c.optional(2) {
        None => one(product),
        Some(bias) => {
            let sum = zip_floats(&product, bias, |x, y| x + beta * y)?;
            if sum.shape() != [m, n] {
                return Err(wrong_shape("the summand", bias, "one that broadcasts to the product"));
            }
            one(sum)
        }
    }
}

/// `x [items, channels, space..]`, weights `[out, channels / groups, kernel..]`: every window becomes a column of a
/// matrix, and the weights of a group multiply it.
fn conv(c: &Call) -> Result<Vec<Tensor>, String> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    if x.rank() < 3 || w.rank() != x.rank() {
        return Err(wrong_shape("the weights", w, "one axis for each of the input, which has at least three"));
    }
    let groups = usize::try_from(c.int("group", 1)?).ok().filter(|&g| g > 0).ok_or("its group is no number")?;
    let (items, channels) = (x.shape()[0], x.shape()[1]);
    let (outputs, depth) = (w.shape()[0], w.shape()[1]);
    if depth.checked_mul(groups) != Some(channels) || outputs % groups != 0 {
        return Err(wrong_shape("the weights", w, &format!("{channels} channels in {groups} groups")));
    }
    let kernel = w.shape()[2..].to_vec();
    if c.sizes("kernel_shape", 1, kernel.clone())? != kernel {
        return Err("its kernel_shape is not that of the weights".into());
    }
    let windows = Windows::new(c, &x.shape()[2..], kernel)?;
    let (places, taps) = (count(&windows.out)?, count(&windows.kernel)?);
    let mut shape = vec![items, outputs];
    shape.extend(&windows.out);
    let elements = count(&shape)?;
    c.charge(&[elements, depth, taps])?;

    let bias = match c.optional(2) {
        Some(b) if b.shape() == [outputs] => Some(b.as_floats()?),
        Some(b) => return Err(wrong_shape("the bias", b, &format!("[{outputs}]"))),
        None => None,
    };
    let space: usize = x.shape()[2..].iter().product();
    let (x, w) = (x.as_floats()?, w.as_floats()?);
    let rows = depth * taps;
    let mut columns = vec![0f32; count(&[depth.max(1), taps, places])?];
    let mut out = vec![0f32; elements];
    let per_group = outputs / groups;
    if elements == 0 || rows == 0 {
        return Err("it has nothing to multiply".into());
    }
    let positions = windows.positions();
    for (block, out) in out.chunks_exact_mut(per_group * places).enumerate() {
        let (item, group) = (block / groups, block % groups);
        for channel in 0..depth {
            let plane = &x[(item * channels + group * depth + channel) * space..][..space];
            let columns = &mut columns[channel * taps * places..][..taps * places];
            for (value, at) in columns.iter_mut().zip(&positions) {
                *value = at.map_or(0.0, |at| plane[at]);
            }
        }
        if let Some(bias) = bias {
            for (row, &b) in out.chunks_exact_mut(places).zip(&bias[group * per_group..]) {
                row.fill(b);
            }
        }
        multiply_add(out, &w[group * per_group * rows..][..per_group * rows], &columns, rows, places);
    }
    one(Tensor::floats(shape, out)?)
}
