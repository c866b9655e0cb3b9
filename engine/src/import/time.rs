//! A free time axis: one graph out of those for two numbers of steps.
//!
//! A file is taken over for known shapes. Where its time axis is free, it is taken over twice, for two lengths, and what
//! differs between the two graphs is time: sizes of inputs, sizes of reshapes, ends of slices. If that is all, the graph with
//! these left open is the network for any length; if anything else differs, tensors for instance, the network is for one length.

use crate::graph::ops::{reshape, slice};
use crate::graph::{Dim, Graph, Input, Node, Op, Typed, TypedNode};

/// The graph for any number of steps, out of those for the numbers `a` and `b`, which agree in everything that is not time.
///
/// # Errors
/// What depends on the number of steps.
pub fn free(a: &Graph, b: &Graph, steps: [usize; 2]) -> Result<Graph, String> {
    let [typed_a, typed_b] = [a, b].map(|graph| graph.infer(0).map_err(|e| e.to_string()));
    let (typed_a, typed_b) = (typed_a?, typed_b?);
    let inputs = a.inputs.iter().zip(&b.inputs).map(|(a, b)| input(a, b, steps)).collect::<Result<Vec<_>, _>>()?;
    if a.nodes.len() != b.nodes.len() || a.outputs != b.outputs {
        return Err("the number of its operations depends on the number of time steps".into());
    }
    let all = typed_a.nodes.iter().zip(&typed_b.nodes);
    let nodes = all.map(|(a, b)| node(&typed_a, a, &typed_b, b)).collect::<Result<Vec<_>, _>>()?;
    let graph = Graph { steps: steps[0].max(steps[1]), inputs, nodes, outputs: a.outputs.clone(), fits: Vec::new() };
    for (own, n) in [(&typed_a, steps[0]), (&typed_b, steps[1])] {
        let open = graph.infer(n).map_err(|e| e.to_string())?;
        let same = own.values.len() == open.values.len()
            && own.values.iter().zip(&open.values).all(|(x, y)| (&x.name, &x.ty.shape) == (&y.name, &y.ty.shape));
        if !same {
            return Err("its shapes depend on the number of time steps in another way than by one axis".into());
        }
    }
    Ok(graph)
}

fn input(a: &Input, b: &Input, [m, n]: [usize; 2]) -> Result<Input, String> {
    let differs = |what: &str| format!("input '{}': {what}", a.name);
    if (&a.name, a.number, a.shape.len()) != (&b.name, b.number, b.shape.len()) {
        return Err(differs("its format depends on the number of time steps"));
    }
    let dim = |(i, (a, b)): (usize, (&Dim, &Dim))| match (a, b) {
        _ if a == b => Ok(*a),
        (Dim::Size(x), Dim::Size(y)) if (*x, *y) == (m, n) && i == 0 => Ok(Dim::Steps),
        _ => Err(differs("time is not its first axis")),
    };
    let shape = a.shape.iter().zip(&b.shape).enumerate().map(dim).collect::<Result<_, _>>()?;
    Ok(Input { shape, ..a.clone() })
}

fn node(typed_a: &Typed<'_>, a: &TypedNode<'_>, typed_b: &Typed<'_>, b: &TypedNode<'_>) -> Result<Node, String> {
    let differs = || format!("node '{}' depends on the number of time steps", a.node.name);
    if (&a.node.name, &a.node.ins, a.node.out) != (&b.node.name, &b.node.ins, b.node.out) {
        return Err(differs());
    }
    let op = match (&a.node.op, &b.node.op) {
        (x, y) if x == y => x.clone(),
        (Op::Reshape(x), Op::Reshape(y)) => Op::Reshape(sizes(x, y).ok_or_else(differs)?),
        (Op::Slice(x), Op::Slice(y)) => {
            let size = |typed: &Typed<'_>, node: &TypedNode<'_>, axis: usize| typed.ty(node.ins[0]).shape[axis] as i64;
            if (x.axis, x.step) != (y.axis, y.step) {
                return Err(differs());
            }
            let lengths = [size(typed_a, a, x.axis), size(typed_b, b, y.axis)];
            let place = |i: i64, j: i64| {
                if i == j { Some(i) } else { (i - lengths[0] == j - lengths[1]).then_some(i - lengths[0]) }
            };
            let [ends_a, ends_b] = [(x.end, lengths[0]), (y.end, lengths[1])].map(|(end, n)| end.unwrap_or(n));
            let end = place(ends_a, ends_b).ok_or_else(differs)?;
            let end = if ends_a == lengths[0] && ends_b == lengths[1] { None } else { Some(end) };
            Op::Slice(slice::Slice { start: place(x.start, y.start).ok_or_else(differs)?, end, ..x.clone() })
        }
        _ => return Err(differs()),
    };
    Ok(Node { op, ..a.node.clone() })
}

/// Sizes of a reshape, one of them open if it differs.
fn sizes(a: &reshape::Reshape, b: &reshape::Reshape) -> Option<reshape::Reshape> {
    let different = a.shape.iter().zip(&b.shape).filter(|(x, y)| x != y).count();
    (a.shape.len() == b.shape.len() && different <= 1).then(|| {
        let size = |(&x, &y): (&i64, &i64)| if x == y { x } else { -1 };
        reshape::Reshape { shape: a.shape.iter().zip(&b.shape).map(size).collect() }
    })
}
