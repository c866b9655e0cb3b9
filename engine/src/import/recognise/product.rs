//! Matrix products, convolutions, pools, normalisations and reductions.

use super::{Emitted, Recogniser, Site};
use crate::import::float::pool;
use crate::import::float::{axes, axis};
use crate::import::network::{Conv, Function, Op, Sign, ValueId, Windows};
use crate::import::tensor::{Tensor, show};
use std::sync::Arc;

impl Recogniser<'_> {
    pub(super) fn product(&mut self, site: &Site) -> Emitted {
        let result = match site.op() {
            "MatMul" => self.matmul(site),
            "Gemm" => self.gemm(site),
            "Conv" => self.conv(site),
            "MaxPool" | "AveragePool" => self.pool(site),
            "GlobalMaxPool" | "GlobalAveragePool" => self.global_pool(site),
            "BatchNormalization" => self.batch_normalisation(site),
            "LayerNormalization" => self.layer_normalisation(site),
            "ReduceMean" | "ReduceSum" | "ReduceMax" => self.reduce(site),
            "Softmax" | "LogSoftmax" => self.softmax(site),
            "ArgMax" => self.argmax(site),
            _ => return None,
        };
        Some(result.map(|id| vec![id]))
    }

    fn matmul(&mut self, site: &Site) -> Result<ValueId, String> {
        let name = site.name();
        match (site.maybe_value(0), site.maybe_value(1)) {
            (Some(x), None) => self.times_matrix(name, x, site.call.input(1)?),
            (None, Some(x)) => {
                // A constant on the left: the transposed product.
                let left = site.call.input(0)?;
                let rank = self.builder.shape(x).len();
                if left.rank() != 2 || rank < 2 {
                    return Err("this product of a constant and a value is not computed; transpose it".into());
                }
                let mut order: Vec<usize> = (0..rank).collect();
                order.swap(rank - 2, rank - 1);
                let turned = self.builder.transpose(name, x, &order);
                let product = self.builder.matmul(name, turned, left.transposed(&[1, 0])?)?;
                Ok(self.builder.transpose(name, product, &order))
            }
            (Some(a), Some(b)) => self.shared(name, a, b),
            (None, None) => Err("it has no operand".into()),
        }
    }

    fn shared(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId, String> {
        let (left, right) = (self.builder.shape(a).to_vec(), self.builder.shape(b).to_vec());
        let rank = left.len();
        if rank < 2 || right.len() != rank || left[..rank - 2] != right[..rank - 2] || left[rank - 1] != right[rank - 2]
        {
            return Err(format!("a product of values of shapes {} and {} is not computed", show(&left), show(&right)));
        }
        let mut shape = left;
        shape[rank - 1] = right[rank - 1];
        Ok(self.builder.node(name, Op::MatMulShared, &[a, b], shape))
    }

    fn times_matrix(&mut self, name: &str, x: ValueId, weights: &Tensor) -> Result<ValueId, String> {
        let rank = weights.rank();
        if rank == 1 {
            let column = weights.reshaped(vec![weights.len(), 1])?;
            let product = self.builder.matmul(name, x, column)?;
            let mut shape = self.builder.shape(product).to_vec();
            shape.pop();
            return self.builder.reshape(name, product, shape);
        }
        let lead = rank - 2;
        if weights.shape()[..lead].iter().any(|&n| n != 1) || self.builder.shape(x).len() < rank {
            return Err("a product with several matrices at once is not computed".into());
        }
        self.builder.matmul(name, x, weights.reshaped(weights.shape()[lead..].to_vec())?)
    }

    fn gemm(&mut self, site: &Site) -> Result<ValueId, String> {
        let name = site.name();
        let turned = |cx: &mut Self, x: ValueId, flag: &str| -> Result<ValueId, String> {
            Ok(if site.call.flag(flag, false)? { cx.builder.transpose(name, x, &[1, 0]) } else { x })
        };
        let constant = |t: &Tensor, flag: &str, factor: f32| -> Result<Tensor, String> {
            let t = if site.call.flag(flag, false)? { t.transposed(&[1, 0])? } else { t.clone() };
            Tensor::floats(t.shape().to_vec(), t.as_floats()?.iter().map(|v| v * factor).collect())
        };
        let (alpha, beta) = (site.call.float("alpha", 1.0)?, site.call.float("beta", 1.0)?);
        let product = match (site.maybe_value(0), site.maybe_value(1)) {
            (Some(a), None) => {
                let a = turned(self, a, "transA")?;
                self.builder.matmul(name, a, constant(site.call.input(1)?, "transB", alpha)?)?
            }
            (None, Some(b)) => {
                // (a b)^T = b^T a^T
                let b = turned(self, b, "transB")?;
                let b = self.builder.transpose(name, b, &[1, 0]);
                let a = constant(site.call.input(0)?, "transA", alpha)?;
                let product = self.builder.matmul(name, b, a.transposed(&[1, 0])?)?;
                self.builder.transpose(name, product, &[1, 0])
            }
            _ => {
                let (a, b) = (turned(self, site.value(0)?, "transA")?, turned(self, site.value(1)?, "transB")?);
                let product = self.shared(name, a, b)?;
                if alpha == 1.0 { product } else { self.builder.times(name, product, alpha) }
            }
        };
        match site.maybe_value(2) {
            Some(c) => {
                let c = if beta == 1.0 { c } else { self.builder.times(name, c, beta) };
                self.builder.add(name, product, c, Sign::Plus)
            }
            None => match site.call.optional(2) {
                Some(c) => {
                    let c = Tensor::floats(c.shape().to_vec(), c.as_floats()?.iter().map(|v| v * beta).collect())?;
                    self.builder.bias(name, product, &c)
                }
                None => Ok(product),
            },
        }
    }

    /// An input `[items, channels, space..]` with channels last and without the axis of items. Several items of a series are
    /// the rows of an image.
    fn channels_last(&mut self, name: &str, x: ValueId) -> Result<(ValueId, bool), String> {
        let shape = self.builder.shape(x).to_vec();
        match shape[..] {
            [1, ..] if (3..=4).contains(&shape.len()) => {
                let one = self.builder.reshape(name, x, shape[1..].to_vec())?;
                let order: Vec<usize> = (1..shape.len() - 1).chain([0]).collect();
                Ok((self.builder.transpose(name, one, &order), false))
            }
            [_, _, _] => Ok((self.builder.transpose(name, x, &[0, 2, 1]), true)),
            _ => Err(format!("an input of shape {} is none of one image or several series", show(&shape))),
        }
    }

    /// Back to `[items, channels, space..]`.
    fn channels_first(&mut self, name: &str, x: ValueId, several: bool) -> Result<ValueId, String> {
        let rank = self.builder.shape(x).len();
        if several {
            return Ok(self.builder.transpose(name, x, &[0, 2, 1]));
        }
        let order: Vec<usize> = [rank - 1].into_iter().chain(0..rank - 1).collect();
        let turned = self.builder.transpose(name, x, &order);
        let mut shape = vec![1];
        shape.extend(self.builder.shape(turned));
        self.builder.reshape(name, turned, shape)
    }

    /// Places of the windows, and their number along each axis.
    fn windows(
        site: &Site,
        space: &[usize],
        kernel: Vec<usize>,
        several: bool,
    ) -> Result<(Windows, Vec<usize>), String> {
        let found = pool::Windows::new(&site.call, space, kernel)?;
        let padding = (0..space.len()).map(|i| {
            let reach = (found.kernel[i] - 1) * found.dilations[i] + 1;
            let needed = (found.out[i] - 1) * found.strides[i] + reach;
            [found.before[i], needed.saturating_sub(space[i] + found.before[i])]
        });
        let padding: Vec<[usize; 2]> = padding.collect();
        let mut out = found.out;
        let mut windows = Windows { kernel: found.kernel, stride: found.strides, dilation: found.dilations, padding };
        if several {
            for sizes in [&mut windows.kernel, &mut windows.stride, &mut windows.dilation] {
                sizes.insert(0, 1);
            }
            windows.padding.insert(0, [0, 0]);
            out.insert(0, 0);
        }
        Ok((windows, out))
    }

    fn conv(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let weights = site.constant(1, "the filters")?;
        let shape = self.builder.shape(x).to_vec();
        if weights.rank() != shape.len() || shape.len() < 3 {
            return Err(format!("filters of shape {} for an input of shape {}", show(weights.shape()), show(&shape)));
        }
        let groups = usize::try_from(site.call.int("group", 1)?).unwrap_or(0);
        let (filters, depth) = (weights.shape()[0], weights.shape()[1]);
        if groups == 0 || depth * groups != shape[1] || !filters.is_multiple_of(groups) {
            return Err(format!("filters of shape {} in {groups} groups", show(weights.shape())));
        }
        let kernel = weights.shape()[2..].to_vec();
        let (image, several) = self.channels_last(name, x)?;
        let (windows, mut out) = Self::windows(site, &shape[2..], kernel, several)?;
        // [filters, depth, kernel..] to [kernel.., depth, filters].
        let order: Vec<usize> = (2..weights.rank()).chain([1, 0]).collect();
        let mut weights = weights.transposed(&order)?;
        if several {
            out[0] = shape[0];
            let mut shape = vec![1];
            shape.extend(weights.shape());
            weights = weights.reshaped(shape)?;
        }
        out.push(filters);
        let conv = Conv { weights: Arc::new(weights), windows, groups };
        let mut result = self.builder.node(name, Op::Conv(conv), &[image], out);
        if let Some(bias) = site.maybe_constant(2, "the bias")? {
            result = self.builder.bias(name, result, bias)?;
        }
        self.channels_first(name, result, several)
    }

    fn pool(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let shape = self.builder.shape(x).to_vec();
        let rank = shape.len().saturating_sub(2);
        let kernel = site.call.ints("kernel_shape")?.unwrap_or(&[]);
        let kernel: Option<Vec<usize>> = kernel.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n > 0)).collect();
        let kernel = kernel.filter(|k| k.len() == rank).ok_or("its kernel_shape does not fit the input")?;
        let (image, several) = self.channels_last(name, x)?;
        let (windows, mut out) = Self::windows(site, &shape[2..], kernel, several)?;
        if windows.dilation.iter().any(|&d| d != 1) {
            return Err("a pool with dilation is not computed".into());
        }
        if several {
            out[0] = shape[0];
        }
        out.push(shape[1]);
        let padded = windows.padding.iter().any(|p| *p != [0, 0]);
        let op = if site.op() == "MaxPool" {
            Op::MaxPool(windows)
        } else {
            if padded && !site.call.flag("count_include_pad", false)? {
                return Err("a mean that leaves padding out is not computed; export it with count_include_pad".into());
            }
            Op::AvgPool(windows)
        };
        let result = self.builder.node(name, op, &[image], out);
        self.channels_first(name, result, several)
    }

    fn global_pool(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let mut shape = self.builder.shape(x).to_vec();
        if shape.len() < 3 {
            return Err(format!("an input of shape {} has no axes to pool", show(&shape)));
        }
        let gone: Vec<usize> = (2..shape.len()).collect();
        let result = if site.op() == "GlobalAveragePool" {
            self.over(name, Op::Mean(gone.clone()), x, &gone)
        } else {
            gone.iter().rev().fold(x, |x, &axis| self.over(name, Op::Max(axis), x, &[axis]))
        };
        shape[2..].fill(1);
        self.builder.reshape(name, result, shape)
    }

    /// An operation that makes axes vanish.
    fn over(&mut self, name: &str, op: Op, x: ValueId, gone: &[usize]) -> ValueId {
        let shape =
            self.builder.shape(x).iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, &n)| n).collect();
        self.builder.node(name, op, &[x], shape)
    }

    /// `(x - mean) / sqrt(variance + epsilon) * scale + shift`, all constants: one factor and one summand for a channel.
    fn batch_normalisation(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        if site.call.flag("training_mode", false)? {
            return Err("it is set to training; export the network for inference (net.eval())".into());
        }
        let channels = self.builder.shape(x).get(1).copied().ok_or("its input has no channels")?;
        let part = |i: usize| -> Result<&[f32], String> {
            let t = site.constant(i, "a parameter")?;
            if t.shape() == [channels] {
                t.as_floats()
            } else {
                Err(format!("its input {i} has shape {}", show(t.shape())))
            }
        };
        let (scale, shift, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        let epsilon = f64::from(site.call.float("epsilon", 1e-5)?);
        let factor: Vec<f64> =
            (0..channels).map(|c| f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt()).collect();
        let summand = (0..channels).map(|c| (f64::from(shift[c]) - f64::from(mean[c]) * factor[c]) as f32).collect();
        let factor = Tensor::floats(vec![channels], factor.iter().map(|&f| f as f32).collect())?;
        let summand = Tensor::floats(vec![channels], summand)?;
        let rank = self.builder.shape(x).len();
        if rank == 2 {
            let scaled = self.builder.scale(name, x, &factor)?;
            return self.builder.bias(name, scaled, &summand);
        }
        let (image, several) = self.channels_last(name, x)?;
        let scaled = self.builder.scale(name, image, &factor)?;
        let shifted = self.builder.bias(name, scaled, &summand)?;
        self.channels_first(name, shifted, several)
    }

    fn layer_normalisation(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let shape = self.builder.shape(x).to_vec();
        let first = axis(site.call.int("axis", -1)?, shape.len())?;
        let gone: Vec<usize> = (first..shape.len()).collect();
        let mut kept = shape.clone();
        kept[first..].fill(1);
        let mean = self.over(name, Op::Mean(gone.clone()), x, &gone);
        let mean = self.builder.reshape(name, mean, kept.clone())?;
        let centred = self.builder.add(name, x, mean, Sign::Minus)?;
        let square = self.builder.mul(name, centred, centred)?;
        let variance = self.over(name, Op::Mean(gone.clone()), square, &gone);
        let variance = self.builder.plus(name, variance, site.call.float("epsilon", 1e-5)?);
        let inverse = self.builder.function(name, Function::Rsqrt, variance);
        let inverse = self.builder.reshape(name, inverse, kept)?;
        let mut result = self.builder.mul(name, centred, inverse)?;
        result = self.builder.scale(name, result, site.constant(1, "the scale")?)?;
        if let Some(shift) = site.maybe_constant(2, "the shift")? {
            result = self.builder.bias(name, result, shift)?;
        }
        Ok(result)
    }

    fn reduce(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let mut shape = self.builder.shape(x).to_vec();
        site.maybe_constant(1, "the list of axes")?;
        let gone = match site.call.list(1, "axes")? {
            Some(given) if !given.is_empty() => axes(&given, shape.len())?,
            _ if site.call.flag("noop_with_empty_axes", false)? => return Ok(x),
            _ => (0..shape.len()).collect(),
        };
        let result = match site.op() {
            "ReduceMean" => self.over(name, Op::Mean(gone.clone()), x, &gone),
            "ReduceSum" => self.over(name, Op::Sum(gone.clone()), x, &gone),
            _ => gone.iter().rev().fold(x, |x, &axis| self.over(name, Op::Max(axis), x, &[axis])),
        };
        if site.call.flag("keepdims", true)? {
            gone.iter().for_each(|&axis| shape[axis] = 1);
            return self.builder.reshape(name, result, shape);
        }
        Ok(result)
    }

    fn softmax(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let shape = self.builder.shape(x).to_vec();
        let newest = site.call.opset >= 13;
        let along = axis(site.call.int("axis", if newest { -1 } else { 1 })?, shape.len())?;
        let op = || if site.op() == "Softmax" { Op::Softmax } else { Op::LogSoftmax };
        if !newest && along + 1 != shape.len() {
            // All axes from the given one on count as one.
            let outer = shape[..along].iter().product();
            let flat = self.builder.reshape(name, x, vec![outer, shape[along..].iter().product()])?;
            let flat_shape = self.builder.shape(flat).to_vec();
            let result = self.builder.node(name, op(), &[flat], flat_shape);
            return self.builder.reshape(name, result, shape);
        }
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.swap(along, shape.len() - 1);
        let turned = self.builder.transpose(name, x, &order);
        let turned_shape = self.builder.shape(turned).to_vec();
        let result = self.builder.node(name, op(), &[turned], turned_shape);
        Ok(self.builder.transpose(name, result, &order))
    }

    fn argmax(&mut self, site: &Site) -> Result<ValueId, String> {
        let (name, x) = (site.name(), site.value(0)?);
        let mut shape = self.builder.shape(x).to_vec();
        let along = axis(site.call.int("axis", 0)?, shape.len())?;
        if site.call.flag("select_last_index", false)? {
            return Err("the last of several largest elements is not computed; leave select_last_index out".into());
        }
        let result = self.over(name, Op::ArgMax(along), x, &[along]);
        if site.call.flag("keepdims", true)? {
            shape[along] = 1;
            return self.builder.reshape(name, result, shape);
        }
        Ok(result)
    }
}

impl Recogniser<'_> {
    /// A sum with a vector, if it is not zero.
    pub(super) fn plus_vector(&mut self, name: &str, x: ValueId, bias: Vec<f32>) -> Result<ValueId, String> {
        self.builder.bias(name, x, &Tensor::floats(vec![bias.len()], bias)?)
    }
}
