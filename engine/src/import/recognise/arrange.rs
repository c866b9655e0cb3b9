//! What moves elements.

use super::{Emitted, Recogniser, Site};
use crate::import::float::axis;
use crate::import::network::{Op, ValueId};
use crate::import::tensor::{Data, Tensor, broadcast, count, show};

impl Recogniser<'_> {
    pub(super) fn arrange(&mut self, site: &Site) -> Emitted {
        let result = match site.op() {
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(site),
            "Transpose" => self.transpose(site),
            "Expand" => self.expand_to(site),
            "Slice" => self.slice(site),
            "Gather" => self.gather(site),
            "Concat" => self.concat(site),
            "Tile" => self.tile(site),
            "Pad" => self.pad(site),
            "Split" => return Some(self.split(site)),
            _ => return None,
        };
        Some(result.map(|id| vec![id]))
    }

    /// For every element of the operator's result, the position of the operand's element that it is: found by applying the
    /// operator to the positions themselves.
    fn positions(&self, site: &Site) -> Result<Vec<Tensor>, String> {
        let x = site.value(0)?;
        let shape = self.builder.shape(x).to_vec();
        let n = shape.iter().product::<usize>() as i64;
        let mut inputs = site.call.inputs.clone();
        inputs[0] = Some(std::sync::Arc::new(Tensor::new(shape, Data::Int((0..n).collect()))?));
        let call = super::Call { node: site.call.node, inputs, opset: site.call.opset, budget: site.call.budget };
        for i in 1..site.values.len() {
            site.maybe_constant(i, "what says where elements go")?;
        }
        call.compute()
    }

    fn reshape(&mut self, site: &Site) -> Result<ValueId, String> {
        let shape = self.positions(site)?.remove(0).shape().to_vec();
        self.builder.reshape(site.name(), site.value(0)?, shape)
    }

    fn transpose(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        let rank = self.builder.shape(x).len();
        let order = match site.call.ints("perm")? {
            Some(order) => order.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).rev().collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return Err(format!("{order:?} is no order of {rank} axes"));
        }
        Ok(self.builder.transpose(site.name(), x, &order))
    }

    /// The value in a shape that it broadcasts to.
    pub(super) fn expand(&mut self, name: &str, x: ValueId, shape: &[usize]) -> Result<ValueId, String> {
        count(shape)?;
        let mut full = vec![1; shape.len().saturating_sub(self.builder.shape(x).len())];
        full.extend(self.builder.shape(x));
        let mut x = if full == self.builder.shape(x) { x } else { self.builder.reshape(name, x, full.clone())? };
        for (axis, (&own, &wanted)) in full.iter().zip(shape).enumerate() {
            if own == 1 && wanted != 1 {
                x = self.builder.gather(name, x, axis, vec![0; wanted]);
            }
        }
        Ok(x)
    }

    fn expand_to(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        let wanted = site.constant(1, "the shape")?.as_ints()?;
        let wanted: Option<Vec<usize>> = wanted.iter().map(|&n| usize::try_from(n).ok()).collect();
        let shape = broadcast(self.builder.shape(x), &wanted.ok_or("a length is negative")?)?;
        self.expand(site.name(), x, &shape)
    }

    /// Entries of each axis by index, where what the operator does is of that kind.
    fn by_axis(&mut self, name: &str, mut x: ValueId, at: &Tensor) -> Result<ValueId, String> {
        let shape = self.builder.shape(x).to_vec();
        let own = crate::import::tensor::strides(&shape);
        let steps = crate::import::tensor::strides(at.shape());
        let values = at.as_ints()?;
        if values.is_empty() {
            return Err("its result is empty".into());
        }
        for axis in 0..shape.len() {
            let index = |i: usize| values[i * steps[axis]] as usize / own[axis] % shape[axis];
            let indices: Vec<usize> = (0..at.shape()[axis]).map(index).collect();
            let len = indices.len();
            let step = if len > 1 { indices[1].wrapping_sub(indices[0]) } else { 1 };
            let regular = indices.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step);
            x = if regular && (1..shape[axis].max(2)).contains(&step) {
                self.builder.slice(name, x, axis, indices[0], len, step)
            } else {
                self.builder.gather(name, x, axis, indices)
            };
        }
        Ok(x)
    }

    fn slice(&mut self, site: &Site) -> Result<ValueId, String> {
        let at = self.positions(site)?.remove(0);
        self.by_axis(site.name(), site.value(0)?, &at)
    }

    fn split(&mut self, site: &Site) -> Result<Vec<ValueId>, String> {
        let parts = self.positions(site)?;
        parts.iter().map(|at| self.by_axis(site.name(), site.value(0)?, at)).collect()
    }

    fn gather(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        let shape = self.builder.shape(x).to_vec();
        let axis = axis(site.call.int("axis", 0)?, shape.len())?;
        let index = site.constant(1, "the index")?;
        let n = shape[axis] as i64;
        let indices: Option<Vec<usize>> = index
            .as_ints()?
            .iter()
            .map(|&i| (-n..n).contains(&i).then_some(if i < 0 { i + n } else { i } as usize))
            .collect();
        let indices = indices.ok_or_else(|| format!("an index into an axis of length {n} is outside"))?;
        let entries = self.builder.gather(site.name(), x, axis, indices);
        let mut result = shape[..axis].to_vec();
        result.extend(index.shape());
        result.extend(&shape[axis + 1..]);
        self.builder.reshape(site.name(), entries, result)
    }

    fn concat(&mut self, site: &Site) -> Result<ValueId, String> {
        let known = site.values.iter().flatten().next().ok_or("it has no input")?;
        let rank = self.builder.shape(*known).len();
        let axis = axis(site.call.int("axis", 0)?, rank)?;
        // Zeros before and after are padding.
        let mut padding = vec![[0, 0]; rank];
        let mut parts = Vec::new();
        for (i, value) in site.values.iter().enumerate() {
            match (value, site.call.optional(i)) {
                (Some(id), _) if padding[axis][1] == 0 => parts.push(*id),
                (None, Some(t)) if t.as_floats()?.iter().all(|&v| v == 0.0) && t.rank() == rank => {
                    padding[axis][usize::from(!parts.is_empty())] += t.shape()[axis];
                }
                _ => return Err("constants other than zeros before or after do not become parts of a value".into()),
            }
        }
        let all = self.builder.concat(site.name(), &parts, axis)?;
        self.padded(site.name(), all, padding, false)
    }

    fn padded(&mut self, name: &str, x: ValueId, padding: Vec<[usize; 2]>, edge: bool) -> Result<ValueId, String> {
        if padding.iter().all(|p| *p == [0, 0]) {
            return Ok(x);
        }
        let shape = self.builder.shape(x).iter().zip(&padding);
        let shape: Vec<usize> = shape.map(|(n, p)| n.saturating_add(p[0]).saturating_add(p[1])).collect();
        count(&shape)?;
        Ok(self.builder.node(name, Op::Pad { padding, edge }, &[x], shape))
    }

    fn tile(&mut self, site: &Site) -> Result<ValueId, String> {
        let at = self.positions(site)?.remove(0);
        self.by_axis(site.name(), site.value(0)?, &at)
    }

    fn pad(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        let shape = self.builder.shape(x).to_vec();
        let mode = site.call.string("mode", "constant")?;
        let pads = site.call.list(1, "pads")?.ok_or("it has no pads")?;
        let along = match site.call.list(3, "axes")? {
            Some(given) => given.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?,
            None => (0..shape.len()).collect(),
        };
        if pads.len() != 2 * along.len() {
            return Err(format!("{} pads for a value of shape {}", pads.len(), show(&shape)));
        }
        if mode == "reflect" || mode == "wrap" || pads.iter().any(|&p| p < 0) {
            if mode == "constant" {
                return Err("negative padding is not computed; use a slice".into());
            }
            let at = self.positions(site)?.remove(0);
            return self.by_axis(site.name(), x, &at);
        }
        let fill = match site.maybe_constant(2, "the value around")? {
            Some(t) => t.as_floats()?.first().copied().unwrap_or(0.0),
            None => site.call.float("value", 0.0)?,
        };
        if mode == "constant" && fill != 0.0 {
            return Err("padding with another value than zero is not computed".into());
        }
        let mut padding = vec![[0, 0]; shape.len()];
        for (i, &axis) in along.iter().enumerate() {
            padding[axis] = [pads[i] as usize, pads[along.len() + i] as usize];
        }
        self.padded(site.name(), x, padding, mode == "edge")
    }
}
