//! Two-dimensional convolutions: strided, padded, grouped, depthwise.
//!
//! With weights of the server a convolution is an [`Inst::Linear`](sirnn_backends::inst::Inst::Linear) of its own: `Linear` and `ScaledLinear` of
//! [`linear`](super::linear) with [`LinearOp::Conv`]. Online the client sends its masked images, once per element and not once per
//! patch: one message of the ring's width per element. Offline it is the product of the matrix of patches with the weights, whose bits' OTs serve all
//! places and images.
//!
//! With shared weights ([`SharedConv`]) the patches are gathered, which is local, and each group is a product of shared matrices
//! ([`matmul_shared`](super::matmul_shared)); padding is a public zero.

use super::linear::apply;
use super::matmul_shared::MatMul;
use crate::program::{Build, Cx, Function, Int, Reg, refuse};
use sirnn_backends::inst::{Conv, LinearOp};

/// A convolution of shared images with shared weights, in a ring of `width` bits. Operands: images, weights.
#[derive(Clone, Copy, Debug)]
pub struct SharedConv {
    /// Its shape.
    pub conv: Conv,
    /// Width of the result.
    pub width: u32,
}

/// Refuses shapes that make no sense.
pub(super) fn check(name: &str, conv: &Conv, len: usize) -> Build<()> {
    if let Some(problem) = conv.problem() {
        return refuse(name, format!("{problem}: {conv:?}"));
    }
    if !len.is_multiple_of(conv.image_len()) {
        return refuse(name, format!("{len} inputs are no images of {:?}", conv.image));
    }
    Ok(())
}

impl Function for SharedConv {
    fn name(&self) -> &'static str {
        "conv"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![apply(LinearOp::Conv(self.conv), ins[1], ins[0])]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let conv = &self.conv;
        let (x, w) = (Int(ins[0]), Int(ins[1]));
        let len = cx.len(x);
        check(self.name(), conv, len)?;
        let weights = LinearOp::Conv(*conv).weights();
        if cx.len(w) != weights {
            return refuse(self.name(), format!("{weights} weights expected, {} given", cx.len(w)));
        }
        let (patch, filters) = (conv.patch(), conv.filters as usize);
        let (groups, outer) = (conv.groups as usize, filters / conv.groups as usize);
        let rows = len / conv.image_len() * conv.places();
        let zero = cx.public(cx.width(x), vec![0]);
        let padded = cx.concat(&[x, zero]);
        let parts: Vec<Int> = (0..groups)
            .map(|group| {
                let source = |row: usize, k: usize| conv.source(row, group * patch + k).unwrap_or(len) as u32;
                let map = (0..rows).flat_map(|row| (0..patch).map(move |k| source(row, k))).collect();
                let patches = cx.gather(padded, map);
                let weights = cx.slice(w, group * patch * outer, patch * outer);
                cx.call_int(MatMul { inner: patch, outer, width: self.width }, &[patches.0, weights.0])
            })
            .collect::<Build<_>>()?;
        let all = cx.concat(&parts);
        let map =
            (0..rows).flat_map(|row| (0..filters).map(move |f| ((f / outer * rows + row) * outer + f % outer) as u32));
        let map = map.collect();
        Ok(vec![cx.gather(all, map).0])
    }
}
