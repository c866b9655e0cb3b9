//! From the nodes of a graph to exact operations on vectors.
//!
//! Every operation of [`crate::graph::ops`] is one arm of [`Expand::node`]. What only moves elements becomes one local gather; rescales
//! to nearest become a sum and a floor; shifts per channel become one shift per group of channels with the same; a loop's operands are
//! brought into the order of time, each item in its own length.

use super::Request;
use super::ir::{Def, Home, Ir, Item, Loop, Output, Rows, Shift, State, Unary, Val};
use super::server::Recipe;
use crate::graph::infer::{Typed, TypedBody, TypedNode, ValueId};
use crate::graph::ops::activation::{Exp, Reciprocal, Rsqrt, Sigmoid, Sqrt, Tanh};
use crate::graph::ops::scan::{Scan, Steps};
use crate::graph::ops::{self, Op, Place};
use crate::graph::rescale::Shifts;
use crate::graph::{Number, Rescale, Reveal, ValueType};
use crate::program::{Build, BuildError, refuse};
use crate::protocols::truncation::Rounding;
use sirnn_backends::inst::{self, LinearOp};
use std::collections::HashMap;
use std::sync::Arc;

/// Largest register, in elements.
const MAX_REGISTER: usize = 1 << 31;

/// The operations of a graph for a batch, with the values of `watch` as further outputs.
pub(super) fn expand(graph: &Typed<'_>, request: &Request, watch: &[String]) -> Build<Ir> {
    let lengths = match &request.lengths {
        Some(lengths) if lengths.iter().any(|&l| l != request.steps) => Some(lengths.as_slice()),
        _ => None,
    };
    let widest = graph.values.iter().map(|v| v.ty.len()).max().unwrap_or(0);
    if request.items == 0 || request.items.saturating_mul(widest) > MAX_REGISTER {
        return refuse("model", format!("a batch of {} items of {widest} values", request.items));
    }
    let mut expand = Expand {
        graph,
        items: request.items,
        lengths,
        ir: Ir::default(),
        vals: HashMap::new(),
        home: Home::Top,
        name: "".into(),
    };
    for (index, input) in graph.graph.inputs.iter().enumerate() {
        let id = ValueId(index as u32);
        expand.name = input.name.as_str().into();
        let v = expand.push(Def::Input { index, number: input.number }, vec![], expand.len(id));
        expand.vals.insert(id, v);
    }
    for node in &graph.nodes {
        expand.name = node.node.name.as_str().into();
        expand.node(node).map_err(|e| BuildError { what: format!("node '{}': {}", node.node.name, e.what), ..e })?;
    }
    expand.outputs(watch)?;
    Ok(expand.ir)
}

struct Expand<'r, 'g> {
    graph: &'r Typed<'g>,
    items: usize,
    /// Each item's own number of steps, where they differ.
    lengths: Option<&'r [usize]>,
    ir: Ir,
    vals: HashMap<ValueId, Val>,
    home: Home,
    /// Node that is expanded.
    name: Arc<str>,
}

/// `offset + sum index_i strides_i` for every index of `shape`, last axis fastest.
fn indices(shape: &[usize], strides: &[usize], offset: usize) -> Vec<u32> {
    let mut all = vec![offset as u32];
    for (&size, &stride) in shape.iter().zip(strides) {
        all = all.iter().flat_map(|&base| (0..size).map(move |i| base + (i * stride) as u32)).collect();
    }
    all
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The map that puts `axis` last.
fn axis_last(shape: &[usize], axis: usize) -> Vec<u32> {
    let order: Vec<usize> = (0..shape.len()).filter(|&a| a != axis).chain([axis]).collect();
    let all = strides(shape);
    let (sizes, strides): (Vec<_>, Vec<_>) = order.iter().map(|&a| (shape[a], all[a])).unzip();
    indices(&sizes, &strides, 0)
}

fn is_identity(map: &[u32], len: usize) -> bool {
    map.len() == len && map.iter().enumerate().all(|(i, &m)| i == m as usize)
}

impl<'r> Expand<'r, '_> {
    fn ty(&self, id: ValueId) -> &'r ValueType {
        self.graph.ty(id)
    }

    /// Elements of a value, over all items.
    fn len(&self, id: ValueId) -> usize {
        self.items * self.ty(id).len()
    }

    fn push(&mut self, def: Def, ins: Vec<Val>, len: usize) -> Val {
        let name = self.name.clone();
        self.ir.push(self.home, &name, def, ins, len)
    }

    fn size(&self, v: Val) -> usize {
        self.ir.value(v).len
    }

    /// The same map for every item.
    fn gather(&mut self, x: Val, map: &[u32]) -> Val {
        let n = self.size(x) / self.items;
        self.gather_items(x, |_| map.iter().copied(), is_identity(map, n))
    }

    /// A map for each item.
    fn gather_items<I: Iterator<Item = u32>>(&mut self, x: Val, map: impl Fn(usize) -> I, identity: bool) -> Val {
        if identity {
            return x;
        }
        let n = (self.size(x) / self.items) as u32;
        let all: Vec<u32> = (0..self.items).flat_map(|b| map(b).map(move |i| b as u32 * n + i)).collect();
        let len = all.len();
        self.push(Def::Gather(Arc::new(all)), vec![x], len)
    }

    /// The same map for every item, over the operands one after the other; nowhere a zero.
    fn gather_all(&mut self, xs: &[Val], map: &[Option<u32>]) -> Val {
        let sizes: Vec<usize> = xs.iter().map(|&x| self.size(x) / self.items).collect();
        let zeros = map.contains(&None);
        let mut parts = xs.to_vec();
        if zeros {
            parts.push(self.push(Def::Public(Arc::new(vec![0])), vec![], 1));
        }
        let total: usize = parts.iter().map(|&x| self.size(x)).sum();
        let joined = if parts.len() == 1 { parts[0] } else { self.push(Def::Concat, parts, total) };
        // Where an item's part of each operand starts.
        let starts: Vec<usize> = xs.iter().scan(0, |at, &x| Some(std::mem::replace(at, *at + self.size(x)))).collect();
        let place = |b: usize, at: u32| {
            let mut at = at as usize;
            for (start, size) in starts.iter().zip(&sizes) {
                if at < *size {
                    return (start + b * size + at) as u32;
                }
                at -= size;
            }
            unreachable!("an index within the operands")
        };
        let all: Vec<u32> = (0..self.items)
            .flat_map(|b| map.iter().map(move |m| m.map_or(total as u32 - 1, |at| place(b, at))))
            .collect();
        if is_identity(&all, total) {
            return joined;
        }
        let len = all.len();
        self.push(Def::Gather(Arc::new(all)), vec![joined], len)
    }

    /// An operand, broadcast to the shape of the result.
    fn operand(&mut self, node: &TypedNode<'_>, i: usize, shape: &[usize]) -> Val {
        let v = self.vals[&node.ins[i]];
        let own = &node.types[i].shape;
        if own == shape { v } else { self.gather(v, &ops::broadcast_map(own, shape)) }
    }

    /// A vector of the server as a shared value of `shape` per item.
    fn server(&mut self, recipe: Recipe, own: &[usize], shape: &[usize]) -> Val {
        let recipe = self.periodic(recipe, own, shape);
        let len = self.items * shape.iter().product::<usize>();
        self.push(Def::Server(Arc::new(recipe)), vec![], len)
    }

    /// The recipe laid out so that its repetition is the broadcast to `shape`.
    fn periodic(&self, recipe: Recipe, own: &[usize], shape: &[usize]) -> Recipe {
        let from = own.iter().position(|&d| d != 1).unwrap_or(own.len());
        // A vector of the last axes repeats by itself.
        if own[from..] == shape[shape.len() - (own.len() - from)..] {
            return recipe;
        }
        let map = ops::broadcast_map(own, shape).into_iter().map(Some).collect();
        Recipe { layout: Some(Arc::new(map)), ..recipe }
    }

    /// A sum.
    fn sum(&mut self, xs: Vec<(Val, bool, u32)>, constant: i128) -> Val {
        let len = self.size(xs[0].0);
        if let [(x, false, 0)] = xs[..]
            && constant == 0
        {
            return x;
        }
        let terms = xs.iter().map(|t| (t.1, t.2)).collect();
        self.push(Def::Sum { terms, constant }, xs.into_iter().map(|t| t.0).collect(), len)
    }

    /// `wrap(R(x))`, or without a wrap where no format is given. `fits` says that the value is known not to leave the format.
    fn rescaled(&mut self, x: Val, rescale: &Rescale, number: Option<Number>, fits: bool) -> Val {
        let Rescale { floor, left, rounding, .. } = *rescale;
        let groups: Vec<u32> = match &rescale.shift {
            Shifts::All(_) => Vec::new(),
            Shifts::Channels(shifts) => {
                let mut groups = shifts.clone();
                groups.sort_unstable();
                groups.dedup();
                groups
            }
        };
        if groups.len() < 2 {
            return self.shifted(x, (floor, rescale.shift.most(), left), rounding, number, fits);
        }
        let Shifts::Channels(shifts) = &rescale.shift else { unreachable!("groups of channels") };
        let n = self.size(x);
        let mut order = Vec::new();
        let mut parts = Vec::new();
        for shift in groups {
            let map: Vec<u32> = (0..n).filter(|i| shifts[i % shifts.len()] == shift).map(|i| i as u32).collect();
            order.extend_from_slice(&map);
            let len = map.len();
            let part = self.push(Def::Gather(Arc::new(map)), vec![x], len);
            parts.push(self.shifted(part, (floor, shift, left), rounding, number, fits));
        }
        let joined = self.push(Def::Concat, parts, n);
        let mut back = vec![0; n];
        for (at, &i) in order.iter().enumerate() {
            back[i as usize] = at as u32;
        }
        self.push(Def::Gather(Arc::new(back)), vec![joined], n)
    }

    fn shifted(
        &mut self,
        mut x: Val,
        (mut floor, mut shift, left): (u32, u32, u32),
        rounding: Rounding,
        number: Option<Number>,
        fits: bool,
    ) -> Val {
        let mut mode = rounding;
        if rounding == Rounding::Nearest {
            if shift > 0 {
                x = self.sum(vec![(x, false, 0)], (1 << (shift - 1)) << floor);
            }
            mode = Rounding::Floor;
        }
        if mode == Rounding::Floor {
            floor += std::mem::take(&mut shift);
        }
        if let Some(number) = number.filter(|n| n.unsigned) {
            return self.unsigned(x, (floor, shift, left), mode, number, fits);
        }
        let wrap = number.map(|n| n.bits);
        self.shift(x, Shift { floor, shift, left, wrap, fits, then: 0, rounding: mode })
    }

    /// Adds a shift that does something.
    fn shift(&mut self, x: Val, shift: Shift) -> Val {
        let (lo, hi) = (self.ir.value(x).lo, self.ir.value(x).hi);
        let possible = Shift { fits: false, ..shift }.may_wrap(lo, hi);
        let shift = if possible { shift } else { Shift { wrap: None, fits: false, ..shift } };
        if !shift.drops() && shift.left == 0 && shift.wrap.is_none() {
            return x;
        }
        let len = self.size(x);
        self.push(Def::Shift(shift), vec![x], len)
    }

    /// A wrap to unsigned numbers is one to signed numbers, moved by half of the range.
    fn unsigned(
        &mut self,
        x: Val,
        (floor, shift, left): (u32, u32, u32),
        rounding: Rounding,
        number: Number,
        fits: bool,
    ) -> Val {
        let moved = self.shift(x, Shift { floor, shift, left, wrap: None, fits: false, then: 0, rounding });
        let (lo, hi) = (self.ir.value(moved).lo, self.ir.value(moved).hi);
        if lo >= 0 && hi <= number.range().1 {
            return moved;
        }
        let half = 1i128 << (number.bits - 1);
        let centred = self.sum(vec![(moved, false, 0)], -half);
        let wrapped = self.shift(centred, Shift { fits, ..Shift::wrap(number.bits) });
        self.sum(vec![(wrapped, false, 0)], half)
    }

    fn unary(&mut self, x: Val, function: Unary) -> Val {
        let len = self.size(x);
        self.push(Def::Unary { function, zeros: 0 }, vec![x], len)
    }

    fn spec(&self, place: Place<'_>, op: &Op) -> ops::ParameterSpec {
        op.parameters(place).swap_remove(0)
    }

    fn node(&mut self, node: &TypedNode<'_>) -> Build<()> {
        self.check_lengths(node)?;
        if let (Op::Scan(scan), Some(body)) = (&node.node.op, &node.body) {
            return self.scan(node, scan, body);
        }
        let place = node.place();
        let out = node.outs[0];
        let shape = &self.ty(out).shape;
        let number = Some(self.ty(out).number);
        let fits = self.graph.fits.contains(&out);
        let first = self.vals[&node.ins[0]];
        let op = &node.node.op;
        let result = match op {
            Op::MatMul(m) => {
                let (x, inner) = (first, *node.types[0].shape.last().expect("a row"));
                let map = LinearOp::MatMul { inner: inner as u32, outer: m.columns as u32 };
                let sum = self.linear(x, map, Recipe::plain(self.spec(place, op)));
                self.rescaled(sum, &m.rescale, number, fits)
            }
            Op::Conv(c) => {
                let x = first;
                let sum = self.conv(x, c, &node.types[0].shape, self.spec(place, op))?;
                self.rescaled(sum, &c.rescale, number, fits)
            }
            Op::Scale(s) => {
                let spec = self.spec(place, op);
                let own = spec.shape.clone();
                let recipe = self.periodic(Recipe::plain(spec), &own, shape);
                let map = LinearOp::Scale { period: recipe.len() as u32 };
                let product = self.linear(first, map, recipe);
                self.rescaled(product, &s.rescale, number, fits)
            }
            Op::Bias(b) => {
                let spec = self.spec(place, op);
                let own = spec.shape.clone();
                let recipe = Recipe { rescale: b.rescale_bias.clone(), ..Recipe::plain(spec) };
                let vector = self.server(recipe, &own, shape);
                let x = self.rescaled(first, &b.operand, None, false);
                let sum = self.sum(vec![(x, false, 0), (vector, false, 0)], 0);
                self.rescaled(sum, &b.rescale, number, fits)
            }
            Op::Mul(m) => {
                let (a, b) = (self.operand(node, 0, shape), self.operand(node, 1, shape));
                let len = self.size(a);
                let product = self.push(Def::Mul, vec![a, b], len);
                self.rescaled(product, &m.rescale, number, fits)
            }
            Op::MatMulShared(m) => {
                let (a, b) = (&node.types[0].shape, &node.types[1].shape);
                let (inner, outer) = (a[a.len() - 1], b[b.len() - 1]);
                let pairs = self.items * a[..a.len() - 2].iter().product::<usize>();
                let ins = vec![self.vals[&node.ins[0]], self.vals[&node.ins[1]]];
                let len = self.len(out);
                let product = self.push(Def::Rows(Rows::MatMul { pairs, inner, outer }), ins, len);
                self.rescaled(product, &m.rescale, number, fits)
            }
            Op::Add(a) => {
                let mut terms = Vec::new();
                for (i, id) in node.ins.iter().enumerate() {
                    let ops::add::Term { minus, rescale } = a.term(i);
                    let mut x = self.vals[id];
                    let plain = rescale.floor + rescale.shift.most() == 0;
                    if !plain {
                        // What is subtracted is negated before its rescale.
                        if minus {
                            x = self.sum(vec![(x, true, 0)], 0);
                        }
                        x = self.rescaled(x, &rescale, None, false);
                    }
                    if node.types[i].shape != *shape {
                        x = self.gather(x, &ops::broadcast_map(&node.types[i].shape, shape));
                    }
                    terms.push((x, minus && plain, if plain { rescale.left } else { 0 }));
                }
                let sum = self.sum(terms, a.constant.into());
                self.rescaled(sum, &a.rescale, number, fits)
            }
            Op::Rescaling(r) => self.rescaled(first, &r.rescale, number, fits),
            Op::Sum(s) => {
                let sum = self.sum_axes(first, &node.types[0].shape, &s.axes);
                self.rescaled(sum, &s.rescale, number, fits)
            }
            Op::Mean(m) => {
                let n: usize = m.axes.iter().map(|&a| node.types[0].shape[a]).product();
                let sum = self.sum_axes(first, &node.types[0].shape, &m.axes);
                let mean = self.divided(sum, n, m.rounding);
                self.rescaled(mean, &Rescale::default(), number, fits)
            }
            Op::Sigmoid(_)
            | Op::Tanh(_)
            | Op::Exp(_)
            | Op::Reciprocal(_)
            | Op::Rsqrt(_)
            | Op::Sqrt(_)
            | Op::Table(_) => {
                let (function, domain) = function(op, node.types[0].number, self.ty(out).number)?;
                let mut x = self.clamped(first, domain);
                if matches!(function, Unary::Exp(_)) {
                    x = self.sum(vec![(x, true, 0)], 0);
                }
                let y = self.unary(x, function);
                self.rescaled(y, &Rescale::default(), number, fits)
            }
            Op::Relu(r) => {
                let y = self.clip(first, 0, None, &r.rescale);
                self.rescaled(y.0, &y.1, number, fits)
            }
            Op::Clip(c) => {
                let y = self.clip(first, c.low.into(), Some(c.high.into()), &c.rescale);
                self.rescaled(y.0, &y.1, number, fits)
            }
            Op::Div(_) => {
                let (a, b) = (self.operand(node, 0, shape), self.operand(node, 1, shape));
                let reference = ops::div::Div::function(place).or_else(|e| refuse("div", e))?;
                let b = self.clamped(b, Some((0, None)));
                let len = self.size(a);
                let y = self.push(Def::Rows(Rows::Divide { reference }), vec![a, b], len);
                self.rescaled(y, &Rescale::default(), number, fits)
            }
            Op::Softmax(_) => {
                let y = self.softmax(node)?;
                self.rescaled(y, &Rescale::default(), number, fits)
            }
            Op::L2Normalise(l) => {
                let ty = &node.types[0];
                let channels = *ty.shape.last().expect("a row");
                let root = l.inverse_root(ty.number, channels).or_else(|e| refuse("l2_normalise", e))?;
                let range = root.ranges().result;
                let rows = Rows::Normalise {
                    channels,
                    bits: ty.number.bits,
                    scale: ty.number.scale as u32,
                    shift: l.shift,
                    rounding: l.rounding,
                    inverse: (range.lo, range.hi),
                };
                let len = self.len(out);
                let y = self.push(Def::Rows(rows), vec![first], len);
                self.rescaled(y, &Rescale::default(), number, fits)
            }
            Op::MaxPool(p) => {
                let windows = p.windows(&node.types[0].shape).or_else(|e| refuse("max_pool", e))?;
                self.max_pool(first, &windows)?
            }
            Op::AvgPool(p) => {
                let windows = p.windows(&node.types[0].shape).or_else(|e| refuse("avg_pool", e))?;
                let y = self.avg_pool(first, &windows, p.rounding);
                self.rescaled(y, &Rescale::default(), number, fits)
            }
            Op::Max(m) => self.along(first, &node.types[0].shape, m.axis, |n| Rows::Max { n }),
            Op::ArgMax(m) => self.along(first, &node.types[0].shape, m.axis, |n| Rows::ArgMax { n }),
            Op::Reverse(r) if r.axis == 0 && node.types[0].timed && self.lengths.is_some() => {
                let (x, ty) = (first, &node.types[0]);
                let (steps, row) = (ty.shape[0], ty.len() / ty.shape[0]);
                let lengths = self.lengths.expect("different lengths");
                let map = move |b: usize| {
                    (0..steps).flat_map(move |t| {
                        let from = reversed(t, lengths[b]);
                        (0..row).map(move |i| (from * row + i) as u32)
                    })
                };
                self.gather_items(x, map, false)
            }
            Op::Split(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Concat(_)
            | Op::Pad(_)
            | Op::Gather(_)
            | Op::Reverse(_)
            | Op::Patches(_) => {
                let xs: Vec<Val> = node.ins.iter().map(|v| self.vals[v]).collect();
                let maps = op.gather(place).expect("an operation that moves elements");
                for (&out, map) in node.outs.iter().zip(maps) {
                    let v = self.gather_all(&xs, &map);
                    self.vals.insert(out, v);
                }
                return Ok(());
            }
            Op::Scan(_) => return refuse("scan", "a loop inside of a loop"),
        };
        self.vals.insert(out, result);
        Ok(())
    }

    /// Where items have different lengths, what lies behind an item's own must not enter a value that is not cut.
    fn check_lengths(&self, node: &TypedNode<'_>) -> Build<()> {
        let mixes = self.home == Home::Top
            && self.lengths.is_some()
            && node.body.is_none()
            && node.types.iter().any(|ty| ty.timed)
            && node.outs.iter().any(|&o| !self.ty(o).timed);
        if mixes {
            return refuse(
                node.node.op.name(),
                "it mixes time steps: items of different lengths cannot be in one batch",
            );
        }
        Ok(())
    }

    fn linear(&mut self, x: Val, op: LinearOp, recipe: Recipe) -> Val {
        let len = op.output_len(self.size(x));
        self.push(Def::Linear { op, weights: Arc::new(recipe) }, vec![x], len)
    }

    /// A convolution; taps at a distance are a larger kernel with zeros between, a series is an image of one row.
    fn conv(&mut self, x: Val, c: &ops::conv::Conv, shape: &[usize], spec: ops::ParameterSpec) -> Build<Val> {
        let axes = c.kernel.len();
        let pair = |values: &[usize], default: usize| -> [usize; 2] {
            let at = |i: usize| values.get(i).copied().unwrap_or(default);
            if axes == 1 { [default.min(1), at(0)] } else { [at(0), at(1)] }
        };
        let kernel = pair(&c.kernel, 1);
        let (stride, dilation) = (pair(&c.stride, 1), pair(&c.dilation, 1));
        let padding = |i: usize| c.padding.get(i).copied().unwrap_or([0, 0]);
        let padding = if axes == 1 { [[0, 0], padding(0)] } else { [padding(0), padding(1)] };
        let (mut height, mut width) = if axes == 1 { (1, shape[0]) } else { (shape[0], shape[1]) };
        let channels = shape[shape.len() - 1];
        let spread = [0, 1].map(|d| (kernel[d] - 1) * dilation[d] + 1);
        let depth = channels / c.groups * c.filters;
        let recipe = if spread == kernel {
            Recipe::plain(spec)
        } else {
            let tap = |y: usize, x: usize| {
                let inside = y.is_multiple_of(dilation[0]) && x.is_multiple_of(dilation[1]);
                inside.then(|| (y / dilation[0]) * kernel[1] + x / dilation[1])
            };
            let taps = (0..spread[0]).flat_map(|y| (0..spread[1]).map(move |x| (y, x)));
            let layout = taps.flat_map(|(y, x)| (0..depth).map(move |i| tap(y, x).map(|t| (t * depth + i) as u32)));
            Recipe { layout: Some(Arc::new(layout.collect())), ..Recipe::plain(spec) }
        };
        // A border as wide as the kernel is made of zeros instead.
        let mut x = x;
        let mut border = padding;
        if (0..2).any(|d| padding[d].iter().any(|&p| p >= spread[d])) {
            let pad = ops::pad::Pad { padding: [&padding[..], &[[0, 0]]].concat(), border: ops::pad::Border::Zero };
            let ty = ValueType { shape: vec![height, width, channels], number: Number::new(1, 0), timed: false };
            let op = Op::Pad(pad);
            let maps = op.gather(Place { ins: &[ty], out: None }).expect("padding moves elements");
            x = self.gather_all(&[x], &maps[0]);
            height += padding[0][0] + padding[0][1];
            width += padding[1][0] + padding[1][1];
            border = [[0, 0]; 2];
        }
        let conv = inst::Conv {
            image: [height, width, channels].map(|d| d as u32),
            kernel: spread.map(|d| d as u32),
            stride: stride.map(|d| d as u32),
            padding: [border[0][0], border[0][1], border[1][0], border[1][1]].map(|d| d as u32),
            groups: c.groups as u32,
            filters: c.filters as u32,
        };
        if let Some(what) = conv.problem() {
            return refuse("conv", what);
        }
        let pointwise = spread == [1, 1] && stride == [1, 1] && c.groups == 1;
        let op = match pointwise {
            true => LinearOp::MatMul { inner: channels as u32, outer: c.filters as u32 },
            false => LinearOp::Conv(conv),
        };
        Ok(self.linear(x, op, recipe))
    }

    /// `min(max(x, low), high)`, and the rescale that is left to be done.
    fn clip(&mut self, x: Val, low: i128, high: Option<i128>, rescale: &Rescale) -> (Val, Rescale) {
        let moved = self.sum(vec![(x, false, 0)], -low);
        let high = high.map(|h| h - low);
        // From 0 on rounding down is rounding toward zero, and the shift is part of the same comparison.
        let merged = low == 0 && rescale.rounding != Rounding::Nearest && matches!(rescale.shift, Shifts::All(_));
        let shift = if merged { rescale.floor + rescale.shift.most() } else { 0 };
        let clipped = self.unary(moved, Unary::Relu { high, shift });
        let clipped = self.sum(vec![(clipped, false, 0)], low);
        let rest = if merged { Rescale { left: rescale.left, ..Rescale::default() } } else { rescale.clone() };
        (clipped, rest)
    }

    /// Sums over axes: one term per combination of their indices.
    fn sum_axes(&mut self, x: Val, shape: &[usize], axes: &[usize]) -> Val {
        let all = strides(shape);
        let part = |kept: bool| -> (Vec<usize>, Vec<usize>) {
            (0..shape.len()).filter(|a| axes.contains(a) != kept).map(|a| (shape[a], all[a])).unzip()
        };
        let ((kept, kept_strides), (summed, summed_strides)) = (part(true), part(false));
        let terms = indices(&summed, &summed_strides, 0);
        let terms = terms.into_iter().map(|offset| {
            let map = indices(&kept, &kept_strides, offset as usize);
            (self.gather(x, &map), false, 0)
        });
        let terms = terms.collect();
        self.sum(terms, 0)
    }

    /// `x / n`, rounded; to nearest by half of it more.
    fn divided(&mut self, x: Val, n: usize, rounding: Rounding) -> Val {
        let (half, rounding) = match rounding {
            Rounding::Nearest => (n as i128 / 2, Rounding::Floor),
            rounding => (0, rounding),
        };
        let moved = self.sum(vec![(x, false, 0)], half);
        if n == 1 { moved } else { self.unary(moved, Unary::DivideBy { divisor: n as i128, rounding }) }
    }

    fn along(&mut self, x: Val, shape: &[usize], axis: usize, rows: impl Fn(usize) -> Rows) -> Val {
        let x = self.gather(x, &axis_last(shape, axis));
        let n = shape[axis];
        let len = self.size(x) / n;
        self.push(Def::Rows(rows(n)), vec![x], len)
    }

    /// The largest value of each window. Padding never wins: a window's missing places repeat one of its own.
    fn max_pool(&mut self, x: Val, windows: &ops::Windows) -> Build<Val> {
        let n = windows.taps();
        let mut map = Vec::new();
        for window in windows.places() {
            let window: Vec<Option<usize>> = window.collect();
            let Some(own) = window.iter().flatten().next().copied() else {
                return refuse("max_pool", "a window without elements");
            };
            for channel in 0..windows.channels {
                map.extend(window.iter().map(|place| (place.unwrap_or(own) + channel) as u32));
            }
        }
        let x = self.gather(x, &map);
        let len = self.size(x) / n;
        Ok(self.push(Def::Rows(Rows::Max { n }), vec![x], len))
    }

    /// The mean of each window; padding counts as zeros.
    fn avg_pool(&mut self, x: Val, windows: &ops::Windows, rounding: Rounding) -> Val {
        let places: Vec<Vec<Option<usize>>> = windows.places().map(Iterator::collect).collect();
        let channels = windows.channels;
        let term = |tap: usize| {
            let of = move |window: &Vec<Option<usize>>| window[tap];
            places
                .iter()
                .map(of)
                .flat_map(|place| (0..channels).map(move |c| place.map(|p| (p + c) as u32)))
                .collect::<Vec<_>>()
        };
        let terms = (0..windows.taps()).map(|tap| (self.gather_all(&[x], &term(tap)), false, 0)).collect();
        let sum = self.sum(terms, 0);
        self.divided(sum, windows.taps(), rounding)
    }

    /// An operand brought into a function's domain.
    fn clamped(&mut self, x: Val, domain: Option<(i128, Option<i128>)>) -> Val {
        let Some((low, high)) = domain else { return x };
        let (lo, hi) = (self.ir.value(x).lo, self.ir.value(x).hi);
        if lo >= low && high.is_none_or(|high| hi <= high) {
            return x;
        }
        self.clip(x, low, high, &Rescale::default()).0
    }

    /// `exp(x - max) / sum`, row by row.
    fn softmax(&mut self, node: &TypedNode<'_>) -> Build<Val> {
        let shape = &node.types[0].shape;
        let n = *shape.last().expect("a row");
        let functions = ops::softmax::Softmax::functions(node.types[0].number, n, node.node.out.expect("declared"));
        let (exp, div) = functions.or_else(|e| refuse("softmax", e.to_string()))?;
        let x = self.vals[&node.ins[0]];
        let rows = self.size(x) / n;
        let max = self.push(Def::Rows(Rows::Max { n }), vec![x], rows);
        let spread: Vec<u32> = (0..rows * n).map(|i| (i / n) as u32).collect();
        let spread = Arc::new(spread);
        let max = self.push(Def::Gather(spread.clone()), vec![max], rows * n);
        let below = self.sum(vec![(x, false, 0), (max, true, 0)], 0);
        // None is above the largest.
        let lo = self.ir.value(below).lo;
        let below = self.push(Def::Within { lo, hi: 0 }, vec![below], rows * n);
        let e = self.unary(below, Unary::Exp(exp));
        let terms = (0..n).map(|k| {
            let map = (0..rows).map(|r| (r * n + k) as u32).collect();
            (self.push(Def::Gather(Arc::new(map)), vec![e], rows), false, 0)
        });
        let terms = terms.collect();
        let total = self.sum(terms, 0);
        let total = self.push(Def::Gather(spread), vec![total], rows * n);
        Ok(self.push(Def::Rows(Rows::Divide { reference: div }), vec![e, total], rows * n))
    }

    fn scan(&mut self, node: &TypedNode<'_>, scan: &Scan, body: &TypedBody<'_>) -> Build<()> {
        let trips = body.trips;
        let timed = node.types[0].timed;
        let lengths = self.lengths.filter(|_| timed);
        // The step of an item that stands at step t of the loop, and the other way round: the same map.
        let source = move |b: usize, t: usize| match (scan.reverse, lengths) {
            (false, _) => t,
            (true, None) => trips - 1 - t,
            (true, Some(lengths)) => reversed(t, lengths[b]),
        };
        let items = self.items;
        let name: Arc<str> = self.name.clone();
        let index = self.ir.loops.len();
        let inside = Home::Loop(index);
        let mut l = Loop { name: node.node.name.clone(), trips, ..Loop::default() };
        // [items, steps, ..] to [steps, items, ..].
        for (&outer, &inner) in node.ins.iter().zip(&body.slices) {
            let n = self.ty(inner).len();
            let map = (0..trips).flat_map(|t| (0..items).map(move |b| (b * trips + source(b, t)) * n));
            let map: Vec<u32> = map.flat_map(|at| (at..at + n).map(|i| i as u32)).collect();
            let x = self.vals[&outer];
            let len = map.len();
            let ordered = match is_identity(&map, len) {
                true => x,
                false => self.push(Def::Gather(Arc::new(map)), vec![x], len),
            };
            let entry = self.ir.detached(inside, &name, Def::Slice, vec![], items * n);
            self.same_range(entry, ordered);
            l.slices.push((ordered, entry));
            self.vals.insert(inner, entry);
        }
        for s in &body.states {
            let ty = self.ty(s.param);
            let len = items * ty.len();
            let init = match s.from {
                Some(from) => self.vals[&from],
                None => self.push(Def::Public(Arc::new(vec![s.state.init.into()])), vec![], len),
            };
            let (lo, hi) = ty.number.range();
            let param = self.ir.detached(inside, &name, Def::Param { lo, hi }, vec![], len);
            self.vals.insert(s.param, param);
            l.states.push(State { init, param, next: param });
        }
        self.ir.loops.push(l);
        self.home = inside;
        for inner in &body.nodes {
            self.name = format!("{}/{}", node.node.name, inner.node.name).into();
            self.node(inner)?;
        }
        self.home = Home::Top;
        self.name = name.clone();
        for (k, s) in body.states.iter().enumerate() {
            self.ir.loops[index].states[k].next = self.vals[&s.next];
        }
        self.ir.top.push(Item::Loop(index));
        for (&out, &(value, steps)) in node.outs.iter().zip(&body.yields) {
            let inner = self.vals[&value];
            let n = self.ty(value).len();
            let last = steps == Steps::Last;
            let result = if last && lengths.is_none() {
                let v = self.ir.detached(Home::Top, &name, Def::Last, vec![], items * n);
                self.same_range(v, inner);
                self.ir.loops[index].lasts.push((inner, v));
                v
            } else {
                let v = self.ir.detached(Home::Top, &name, Def::Stack, vec![], trips * items * n);
                self.same_range(v, inner);
                self.ir.loops[index].stacks.push((inner, v));
                // The steps of each item that are handed out, as the loop numbers them.
                let steps = move |b: usize| match (last, lengths) {
                    (true, Some(lengths)) => lengths[b] - 1..lengths[b],
                    _ => 0..trips,
                };
                let at = move |b: usize, t: usize| if last { t } else { source(b, t) };
                let map = (0..items).flat_map(|b| steps(b).map(move |t| (at(b, t) * items + b) * n));
                let map: Vec<u32> = map.flat_map(|at| (at..at + n).map(|i| i as u32)).collect();
                let len = map.len();
                match is_identity(&map, self.size(v)) {
                    true => v,
                    false => self.push(Def::Gather(Arc::new(map)), vec![v], len),
                }
            };
            self.vals.insert(out, result);
        }
        Ok(())
    }

    fn same_range(&mut self, v: Val, source: Val) {
        let (lo, hi) = (self.ir.value(source).lo, self.ir.value(source).hi);
        let value = &mut self.ir.values[v.index()];
        (value.lo, value.hi) = (lo, hi);
    }

    fn outputs(&mut self, watch: &[String]) -> Build<()> {
        for (output, &id) in self.graph.graph.outputs.iter().zip(&self.graph.outputs) {
            self.name = output.name.as_str().into();
            let (value, ty) = (self.vals[&id], self.ty(id));
            if output.reveal != Reveal::Class {
                let cut = self.cut(value, ty.timed, ty.shape.first().copied());
                self.ir.outputs.push(Output { name: output.name.clone(), value: cut });
            }
            if output.reveal != Reveal::Values {
                let class = self.along(value, &ty.shape, ty.shape.len() - 1, |n| Rows::ArgMax { n });
                let cut = self.cut(class, ty.timed && ty.shape.len() > 1, ty.shape.first().copied());
                self.ir.outputs.push(Output { name: format!("{}.class", output.name), value: cut });
            }
        }
        for name in watch {
            let id = self.graph.values.iter().position(|v| v.name == *name);
            let Some(id) = id.map(|i| ValueId(i as u32)) else { return refuse("watch", format!("no value '{name}'")) };
            let (value, ty) = (self.vals[&id], self.ty(id));
            let cut = self.cut(value, ty.timed, ty.shape.first().copied());
            self.ir.outputs.push(Output { name: name.clone(), value: cut });
        }
        Ok(())
    }

    /// A timed value without what lies behind each item's own length.
    fn cut(&mut self, value: Val, timed: bool, steps: Option<usize>) -> Val {
        let (Some(lengths), true, Some(steps)) = (self.lengths, timed, steps) else { return value };
        let row = self.size(value) / self.items / steps;
        self.gather_items(value, |b| 0..(lengths[b] * row) as u32, false)
    }
}

/// The entry that stands at step `t` of a reversed sequence of `length` steps; behind it, itself.
fn reversed(t: usize, length: usize) -> usize {
    if t < length { length - 1 - t } else { t }
}

/// The function of one argument that a node is, and its domain where that is not everything.
fn function(op: &Op, x: Number, out: Number) -> Build<(Unary, Option<(i128, Option<i128>)>)> {
    let supported = |e: crate::fixed::Unsupported| BuildError { function: op.name().into(), what: e.to_string() };
    let positive = Some((0, None));
    Ok(match op {
        Op::Sigmoid(_) => (Unary::Sigmoid(Sigmoid::function(x, out).map_err(supported)?), None),
        Op::Tanh(_) => (Unary::Tanh(Tanh::function(x, out).map_err(supported)?), None),
        Op::Exp(_) => (Unary::Exp(Exp::function(x, out).map_err(supported)?), positive),
        Op::Reciprocal(_) => {
            let (function, low, high) = Reciprocal::function(x, out).map_err(supported)?;
            (Unary::Reciprocal(function), Some((low, Some(high))))
        }
        // 0 counts as 1 unit.
        Op::Rsqrt(_) => (Unary::Root(Rsqrt::function(x, out).map_err(supported)?), positive),
        Op::Sqrt(_) => (Unary::Root(Sqrt::function(x, out).map_err(supported)?), positive),
        Op::Table(t) => {
            let entries = t.entries(x, out).or_else(|e| refuse("table", e))?;
            (Unary::Table { entries: Arc::new(entries.into_iter().map(i128::from).collect()), operand: x }, None)
        }
        _ => unreachable!("not a function"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_maps() {
        assert_eq!(axis_last(&[2, 3], 0), [0, 3, 1, 4, 2, 5]);
        assert_eq!(axis_last(&[2, 3], 1), [0, 1, 2, 3, 4, 5]);
    }
}
