//! What a network computes, in floats.

use super::{Conv, Function, Init, Network, Node, Op, Scan, Sign, ValueId, Windows};
use crate::import::float::elementwise::{elu, map, relu, sigmoid, softplus, zip_floats};
use crate::import::float::product::multiply_add;
use crate::import::tensor::{Tensor, show, strides};
use std::collections::HashMap;

/// Called with every value as soon as it is known, those inside of loops in every step.
pub type Watch<'a> = dyn FnMut(ValueId, &Tensor) + 'a;

/// Computes the outputs for one item: `inputs` in the order of the network's.
///
/// # Errors
/// If an input has another shape than the network's, or a value is no number.
pub fn evaluate(network: &Network, inputs: &[Tensor], watch: &mut Watch) -> Result<Vec<Tensor>, String> {
    if inputs.len() != network.inputs.len() {
        return Err(format!("{} inputs, {} are expected", inputs.len(), network.inputs.len()));
    }
    let mut run = Run { network, values: HashMap::new(), watch };
    for (&id, input) in network.inputs.iter().zip(inputs) {
        if input.shape() != network.shape(id) {
            let (found, expected) = (show(input.shape()), show(network.shape(id)));
            return Err(format!("input '{}' has shape {found}, {expected} is expected", network.values[id.0].name));
        }
        run.set(id, input.clone());
    }
    run.nodes(&network.nodes)?;
    network.outputs.iter().map(|(_, id)| run.get(*id).cloned()).collect()
}

struct Run<'r, 'w> {
    network: &'r Network,
    values: HashMap<ValueId, Tensor>,
    watch: &'r mut Watch<'w>,
}

impl Run<'_, '_> {
    fn get(&self, id: ValueId) -> Result<&Tensor, String> {
        self.values.get(&id).ok_or_else(|| format!("value '{}' is not there", self.network.values[id.0].name))
    }

    fn set(&mut self, id: ValueId, value: Tensor) {
        (self.watch)(id, &value);
        self.values.insert(id, value);
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), String> {
        for node in nodes {
            if let Op::Scan(scan) = &node.op {
                self.scan(scan, node)?;
            } else {
                let out = node.outs[0];
                let value = self.node(node).map_err(|what| format!("node '{}': {what}", node.name))?;
                debug_assert_eq!(value.shape(), self.network.shape(out), "{}", node.name);
                self.set(out, value);
            }
        }
        Ok(())
    }

    fn node(&self, node: &Node) -> Result<Tensor, String> {
        let ins = node.ins.iter().map(|&id| self.get(id)).collect::<Result<Vec<_>, _>>()?;
        let x = *ins.first().ok_or("it has no operand")?;
        let shape = self.network.shape(node.outs[0]).to_vec();
        match &node.op {
            Op::MatMul(weights) => {
                let (k, n) = (weights.shape()[0], weights.shape()[1]);
                let mut out = vec![0.0; shape.iter().product()];
                multiply_add(&mut out, x.as_floats()?, weights.as_floats()?, k, n);
                Tensor::floats(shape, out)
            }
            Op::Conv(conv) => convolve(conv, x, shape),
            Op::Scale(factor) => zip_floats(x, factor, |a, b| a * b),
            Op::Bias(bias) => zip_floats(x, bias, |a, b| a + b),
            Op::MatMulShared => {
                let (k, n) = (x.shape()[x.rank() - 1], shape[shape.len() - 1]);
                let rows = shape[shape.len() - 2];
                let mut out = vec![0.0; shape.iter().product()];
                let factors = x.as_floats()?.chunks(rows * k).zip(ins[1].as_floats()?.chunks(k * n));
                for (out, (a, b)) in out.chunks_mut(rows * n).zip(factors) {
                    multiply_add(out, a, b, k, n);
                }
                Tensor::floats(shape, out)
            }
            Op::Mul => zip_floats(x, ins[1], |a, b| a * b),
            Op::Div => zip_floats(x, ins[1], |a, b| a / b),
            Op::Add(signs) => {
                let signed = |x: &Tensor, sign: Sign| map(x, |v| if sign == Sign::Minus { -v } else { v });
                let first = signed(x, signs[0])?;
                let mut rest = ins[1..].iter().zip(&signs[1..]);
                rest.try_fold(first, |sum, (x, &sign)| zip_floats(&sum, &signed(x, sign)?, |a, b| a + b))
            }
            Op::Function(function) => map(x, |v| function.of(v)),
            Op::Clip(low, high) => map(x, |v| if v < *low { *low } else { v.min(*high) }),
            Op::Sum(axes) => along(x, axes, shape, |v| v.iter().map(|&x| f64::from(x)).sum::<f64>() as f32),
            Op::Mean(axes) => {
                along(x, axes, shape, |v| (v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64) as f32)
            }
            Op::Max(axis) => along(x, &[*axis], shape, |v| v.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
            Op::ArgMax(axis) => along(x, &[*axis], shape, |v| {
                let best = (0..v.len()).fold(0, |best, i| if v[i] > v[best] { i } else { best });
                best as f32
            }),
            Op::MaxPool(windows) => pool(windows, x, shape, f32::NEG_INFINITY, f32::max, 1.0),
            Op::AvgPool(windows) => {
                let taps: usize = windows.kernel.iter().product();
                pool(windows, x, shape, 0.0, |a, b| a + b, 1.0 / taps as f32)
            }
            Op::Softmax => rows(x, |v, largest, sum| (v - largest).exp() / sum),
            Op::LogSoftmax => rows(x, |v, largest, sum| v - largest - sum.ln()),
            Op::Reshape => x.reshaped(shape),
            Op::Transpose(order) => x.transposed(order),
            Op::Slice { axis, start, step } => gathered(x, shape, |a, i| if a == *axis { start + i * step } else { i }),
            Op::Gather { axis, indices } => gathered(x, shape, |a, i| if a == *axis { indices[i] } else { i }),
            Op::Reverse(axis) => {
                let n = shape[*axis];
                gathered(x, shape, |a, i| if a == *axis { n - 1 - i } else { i })
            }
            Op::Concat(axis) => Tensor::concat(&ins, *axis),
            Op::Pad { padding, edge } => pad(x, shape, padding, *edge),
            Op::Scan(_) => Err("a loop is no function of its operands alone".into()),
        }
    }

    fn scan(&mut self, scan: &Scan, node: &Node) -> Result<(), String> {
        let trips = self.get(*node.ins.first().ok_or("a loop without operand")?)?.shape()[0];
        for state in &scan.states {
            let init = match &state.init {
                Init::Constant(t) => (**t).clone(),
                Init::Value(id) => self.get(*id)?.clone(),
            };
            self.set(state.now, init);
        }
        let mut kept: Vec<Vec<Tensor>> = vec![Vec::new(); scan.yields.len()];
        for step in 0..trips {
            let at = if scan.reverse { trips - 1 - step } else { step };
            for (&slice, &operand) in scan.slices.iter().zip(&node.ins) {
                let entry = self.get(operand)?.row(at)?;
                self.set(slice, entry);
            }
            self.nodes(&scan.body)?;
            for (kept, result) in kept.iter_mut().zip(&scan.yields) {
                if !result.every {
                    kept.clear();
                }
                kept.push(self.get(result.value)?.clone());
            }
            let next = scan.states.iter().map(|s| self.get(s.next).cloned()).collect::<Result<Vec<_>, _>>()?;
            for (state, next) in scan.states.iter().zip(next) {
                self.set(state.now, next);
            }
        }
        for ((mut kept, result), &out) in kept.into_iter().zip(&scan.yields).zip(&node.outs) {
            if scan.reverse {
                kept.reverse();
            }
            let value = if result.every {
                Tensor::stack(&kept.iter().collect::<Vec<_>>())?
            } else {
                kept.pop().ok_or("a loop without steps")?
            };
            self.set(out, value);
        }
        Ok(())
    }
}

impl Function {
    /// The function's value.
    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Relu => relu(x),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Rsqrt => 1.0 / x.sqrt(),
            Self::Reciprocal => 1.0 / x,
            Self::Silu => x * sigmoid(x),
            Self::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::Softplus => softplus(x),
            Self::Elu => elu(x, 1.0),
            Self::Erf => libm::erff(x),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
        }
    }
}

/// A function of all elements along axes.
fn along(x: &Tensor, axes: &[usize], shape: Vec<usize>, f: impl Fn(&[f32]) -> f32) -> Result<Tensor, String> {
    let mut order: Vec<usize> = (0..x.rank()).filter(|i| !axes.contains(i)).collect();
    order.extend(axes);
    let run: usize = axes.iter().map(|&i| x.shape()[i]).product();
    Tensor::floats(shape, x.transposed(&order)?.as_floats()?.chunks(run.max(1)).map(f).collect())
}

/// A function of an element, the largest of its row, and the row's sum of `e^(x - largest)`.
fn rows(x: &Tensor, f: fn(f32, f32, f32) -> f32) -> Result<Tensor, String> {
    let mut out = x.as_floats()?.to_vec();
    for row in out.chunks_mut(x.shape().last().copied().unwrap_or(1).max(1)) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|v| (v - largest).exp()).sum();
        row.iter_mut().for_each(|v| *v = f(*v, largest, sum));
    }
    Tensor::floats(x.shape().to_vec(), out)
}

/// The element at the index that `source` says axis by axis.
fn gathered(x: &Tensor, shape: Vec<usize>, source: impl Fn(usize, usize) -> usize) -> Result<Tensor, String> {
    let (own, steps) = (strides(x.shape()), strides(&shape));
    let n: usize = shape.iter().product();
    let at = |i: usize| (0..shape.len()).map(|a| source(a, i / steps[a] % shape[a]) * own[a]).sum();
    x.pick(shape.clone(), (0..n).map(|i| Some(at(i))))
}

fn pad(x: &Tensor, shape: Vec<usize>, padding: &[[usize; 2]], edge: bool) -> Result<Tensor, String> {
    let (own, steps) = (strides(x.shape()), strides(&shape));
    let n: usize = shape.iter().product();
    let at = |i: usize| {
        (0..shape.len()).try_fold(0, |sum, a| {
            let (i, n) = (i / steps[a] % shape[a], x.shape()[a]);
            let inside = i.checked_sub(padding[a][0]).filter(|&i| i < n);
            let nearest = i.saturating_sub(padding[a][0]).min(n - 1);
            Some(sum + own[a] * if edge { nearest } else { inside? })
        })
    };
    x.pick(shape.clone(), (0..n).map(at))
}

/// Calls with every place of the windows, every tap, and the place of the element, unless that is padding.
fn visit(windows: &Windows, space: &[usize], out: &[usize], mut f: impl FnMut(usize, usize, usize)) {
    let (own, out_steps, taps) = (strides(space), strides(out), strides(&windows.kernel));
    for place in 0..out.iter().product() {
        for tap in 0..windows.kernel.iter().product() {
            let at = (0..space.len()).try_fold(0, |sum, a| {
                let i = place / out_steps[a] % out[a] * windows.stride[a]
                    + tap / taps[a] % windows.kernel[a] * windows.dilation[a];
                let i = i.checked_sub(windows.padding[a][0]).filter(|&i| i < space[a])?;
                Some(sum + i * own[a])
            });
            if let Some(at) = at {
                f(place, tap, at);
            }
        }
    }
}

fn convolve(conv: &Conv, x: &Tensor, shape: Vec<usize>) -> Result<Tensor, String> {
    let (space, channels) = (&x.shape()[..x.rank() - 1], x.shape()[x.rank() - 1]);
    let (out_space, filters) = (&shape[..shape.len() - 1], shape[shape.len() - 1]);
    let (depth, per_group) = (channels / conv.groups, filters / conv.groups);
    let (x, w) = (x.as_floats()?, conv.weights.as_floats()?);
    let mut out = vec![0.0; shape.iter().product()];
    visit(&conv.windows, space, out_space, |place, tap, at| {
        let (x, out) = (&x[at * channels..][..channels], &mut out[place * filters..][..filters]);
        let w = &w[tap * depth * filters..][..depth * filters];
        for group in 0..conv.groups {
            let out = &mut out[group * per_group..][..per_group];
            for (&x, w) in x[group * depth..][..depth].iter().zip(w.chunks(filters)) {
                for (o, &w) in out.iter_mut().zip(&w[group * per_group..]) {
                    *o += x * w;
                }
            }
        }
    });
    Tensor::floats(shape, out)
}

fn pool(
    windows: &Windows,
    x: &Tensor,
    shape: Vec<usize>,
    start: f32,
    f: fn(f32, f32) -> f32,
    factor: f32,
) -> Result<Tensor, String> {
    let channels = x.shape()[x.rank() - 1];
    let mut out = vec![start; shape.iter().product()];
    let values = x.as_floats()?;
    visit(windows, &x.shape()[..x.rank() - 1], &shape[..shape.len() - 1], |place, _, at| {
        for (o, &v) in out[place * channels..][..channels].iter_mut().zip(&values[at * channels..]) {
            *o = f(*o, v);
        }
    });
    out.iter_mut().for_each(|v| *v *= factor);
    Tensor::floats(shape, out)
}
